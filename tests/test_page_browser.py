"""The page in a headless Chromium, as a visitor uses it: skipped where there is no browser."""

import csv
import io
import json
import os
import re
import shutil
import threading
import time
import urllib.request
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from page_server import eventually, save_models, serve
from PIL import Image

from mssc import detect_video, video
from mssc.page import detection, limits, live, offer, share
from mssc.page.offer import EXAMPLES
from mssc.structures import Tube

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


SIZES = {"wide": (1400, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def clip(toy_videos):
    return toy_videos.videos[0].path


@pytest.fixture(scope="module")
def camera_file(clip, tmp_path_factory):
    """The clip as the film that Chromium's pretended camera shows."""
    import av

    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in video.read(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(320, 240, "yuv420p")))
    return path


@pytest.fixture(scope="module")
def browser(camera_file):
    with playwright.sync_playwright() as engine:
        found = CHROMIUM or engine.chromium.executable_path
        if not os.path.exists(found):
            pytest.skip("no Chromium was found: install your system's chromium, or run: playwright install chromium")
        fake = [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={camera_file}",
        ]
        chromium = engine.chromium.launch(executable_path=found, args=["--no-sandbox", *fake])
        chromium.new_context()
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def saved(tiny_config, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), tiny_config)


@pytest.fixture(scope="module")
def address(place, saved):
    with serve(place, saved) as url:
        yield url


class Visitor:
    """Somebody at the page: in a tab of its own, or, `alone`, with all of a browser, which fetches and compiles the page's scripts anew."""

    def __init__(
        self, browser, address: str, size: str = "wide", scheme: Literal["light", "dark"] | None = None, alone=False
    ) -> None:
        self.tab = (browser.new_context() if alone else browser.contexts[0]).new_page()
        self.leaves = self.tab.context if alone else self.tab
        self.resize(size)
        self.tab.emulate_media(color_scheme=scheme)
        self.tab.set_default_timeout(120_000)
        self.foreign: list[str] = []
        self.broken: list[str] = []
        local = (address, "data:", "blob:")
        self.tab.on("request", lambda request: None if request.url.startswith(local) else self.foreign.append(request.url))
        self.tab.on("pageerror", lambda error: self.broken.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("#start")

    def resize(self, size: str) -> None:
        width, height = SIZES[size]
        self.tab.set_viewport_size({"width": width, "height": height})
        self.tab.wait_for_function(f"innerWidth == {width}")

    def upload(self, path: Path, said: str = "frames a second", where: str = "#status") -> str:
        self.tab.set_input_files("#upload input[type=file]", str(path))
        return self.until(said, where)

    def until(self, said: str, where: str = "#status") -> str:
        self.tab.wait_for_function(
            "([said, where]) => document.querySelector(where)?.innerText.includes(said)", arg=[said, where]
        )
        return self.tab.inner_text(where)

    def find(self) -> str:
        self.tab.click("#start")
        self.tab.wait_for_selector("#detect .files:visible")
        return self.tab.inner_text("#detect .found")

    def set_threshold(self, value: float) -> None:
        self.tab.evaluate(
            "(value) => { const one = document.querySelector('#threshold'); one.value = value; one.dispatchEvent(new Event('input')); }",
            value,
        )

    def count(self, what: str) -> int:
        return self.tab.locator(f"#detect {what}").count()

    def playing(self, what: str = "currentTime"):
        return self.tab.evaluate(f"document.querySelector('#detect .stage video').{what}")

    def go_to(self, seconds: float) -> None:
        """Show the moment, and wait until it is shown."""
        self.tab.evaluate(
            """(seconds) => new Promise((done) => {
                const video = document.querySelector('#detect video');
                video.pause();
                video.addEventListener('seeked', () => setTimeout(done, 100), { once: true });
                video.currentTime = seconds;
            })""",
            seconds,
        )

    def painted(self, stage: int = 0) -> bool:
        """Whether something is drawn over (or as) the picture."""
        script = """(stage) => { const one = document.querySelectorAll('#detect .stage canvas')[stage];
            return one.width > 0 && one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((value) => value); }"""
        return self.tab.evaluate(script, stage)

    def leave(self) -> None:
        assert not self.foreign and not self.broken and self.tab.locator(".toast-body").count() == 0
        self.leaves.close()


def files(place: Path, pattern: str) -> list[Path]:
    """Also while somebody else's folders go away."""
    while True:
        try:
            return [path for path in place.rglob(pattern) if path.is_file()]
        except FileNotFoundError:
            continue


@pytest.fixture
def visitor(browser, address):
    somebody = Visitor(browser, address)
    yield somebody
    somebody.leave()


@pytest.fixture(scope="module")
def finished(browser, address, clip):
    somebody = Visitor(browser, address)
    assert limits.LIMITS in somebody.tab.inner_text("#detect .drop"), "said before the upload"
    assert "64x48" in somebody.upload(clip)
    assert "Found" in somebody.find()
    yield somebody
    somebody.leave()


@pytest.fixture
def result(finished):
    """A finished result that several tests look at: each begins at the top of its first tab, paused, with everything shown."""
    finished.tab.get_by_role("tab", name="Your video").click()
    finished.tab.evaluate("window.scrollTo(0, 0); document.querySelector('#detect video').pause()")
    finished.tab.mouse.move(0, 0)
    finished.set_threshold(0.05)
    return finished


@pytest.fixture(scope="module")
def looked(finished):
    """Look inside, once, of the finished result."""
    finished.tab.get_by_role("tab", name="Look inside").click()
    finished.tab.click("#look")
    finished.tab.wait_for_selector("#inside section >> nth=1")


@pytest.fixture
def slowly(monkeypatch):
    """Detection that takes its time; the list is empty when nothing runs."""
    running, real = [], detection.detect_steps

    def steps(*arguments):
        running.append(True)
        try:
            for step in real(*arguments):
                yield step
                time.sleep(0.12)
        finally:
            running.pop()

    monkeypatch.setattr(detection, "detect_steps", steps)
    monkeypatch.setattr(detection, "SHOW_SECONDS", 0.1)
    monkeypatch.setattr(detection, "TELL_SECONDS", 0.1)
    monkeypatch.setattr("mssc.detection.detector.FRAMES_AT_ONCE", 2)
    return running


# -------------------------------------------------------------------- the first screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_has_everything_in_order(browser, address, size, scheme):
    somebody = Visitor(browser, address, size, scheme)
    parts = ["#intro h1", "#detect .drop", "#detect .examples", "#start", "#detect .knows"]
    boxes = [somebody.tab.locator(part).bounding_box() for part in parts]
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops) and tops[-1] + boxes[-1]["height"] <= SIZES[size][1], "and all of it is seen without scrolling"
    left, right = boxes[1]["x"], SIZES[size][0] - boxes[1]["x"] - boxes[1]["width"]
    assert abs(left - right) <= 16, "in the middle"
    assert somebody.count(".examples video") == 2
    accepted = somebody.tab.get_attribute("#upload input[type=file]", "accept").split(",")
    assert {"video/*", "image/gif", ".mov", ".mts", ".avi"} <= set(accepted), "the picker takes what the page takes"
    assert somebody.tab.locator("a[href*=openreview]").count() == 1 and "notebooks" in somebody.tab.inner_text(".hint >> nth=-1")
    menu = somebody.tab.locator("#model")
    menu.focus()
    somebody.tab.keyboard.press("Tab")
    assert menu.evaluate("(one) => one.tagName === 'SELECT' && one !== document.activeElement"), "Tab leaves a menu"
    somebody.leave()


@pytest.mark.parametrize("size", SIZES)
def test_a_click_on_an_example_finds_its_actions_in_sight(browser, address, size, slowly):
    somebody = Visitor(browser, address, size)
    somebody.tab.click("#detect .examples button >> nth=0")
    somebody.until("Looking for actions")
    for part in ("#detect .stage", "#start", "#cancel", "#status progress"):
        box = somebody.tab.locator(part).first.bounding_box()
        assert box["y"] + min(box["height"], 40) <= SIZES[size][1], f"{part} is on the screen while it runs"
    somebody.tab.click("#cancel")
    somebody.until("Cancelled")
    somebody.leave()


def test_a_link_to_the_page_shows_what_it_is(address):
    with urllib.request.urlopen(address) as answer:
        served = answer.read().decode()
    card = dict(re.findall(r'<meta (?:property|name)="((?:og|twitter):\w+)" content="(.*?)"', served))
    assert card["og:title"] == card["twitter:title"] == "Who does what, where and when?"
    assert "Gradio" not in str(card) and card["og:image"] == card["twitter:image"] == f"{address}picture.png"
    with urllib.request.urlopen(card["og:image"]) as answer:
        assert answer.headers["content-type"] == "image/png"
    with urllib.request.urlopen(f"{address}favicon.ico") as answer:
        assert answer.read() == (offer.ASSETS / "favicon.png").read_bytes()


# -------------------------------------------------------------------- the result


def test_the_visitors_own_file_plays_and_boxes_lie_over_it(result):
    assert result.playing("src").startswith("blob:") and result.playing("videoWidth") == 64
    result.tab.evaluate("document.querySelector('#detect video').pause()")
    result.tab.evaluate("document.querySelector('#detect video').currentTime = 0.1")
    eventually(result.painted)


def test_bars_rows_and_thumbnails_are_the_tubes_and_move_the_video(result):
    tab, count = result.tab, result.count("tbody tr")
    assert count == result.count(".bar") == min(result.count(".pictures canvas"), count) > 0
    eventually(
        lambda: tab.evaluate("[...document.querySelectorAll('#detect .pictures canvas')].every((one) => one.width == 224)")
    )
    tab.evaluate("document.querySelector('#detect video').pause()")
    starts = tab.eval_on_selector_all("#detect tbody tr", "rows => rows.map(row => parseFloat(row.cells[3].innerText))")
    index = starts.index(max(starts))
    tab.hover(f"#detect tbody tr >> nth={index}")
    assert result.count(".bar.lit") == 1, "what is pointed at is lit everywhere"
    tab.click(f"#detect tbody tr >> nth={index}")
    tab.wait_for_function(
        "start => Math.abs(document.querySelector('#detect video').currentTime - start) < 0.05", arg=starts[index]
    )
    assert tab.evaluate("document.querySelector('#detect .stages').getBoundingClientRect().top") >= 0, "the picture is in sight"


def test_the_rows_are_what_the_pipeline_finds(result, saved, clip):
    """What a page hears is put together from differences."""
    found = detect_video(clip, saved["big"], detection.LOWEST)
    wanted = sorted([found.classes[tube.label], f"{tube.score:.2f}", f"{found.seconds(tube)[1]:.2f} s"] for tube in found.tubes)
    shown = result.tab.eval_on_selector_all(
        "#detect tbody tr", "rows => rows.map(row => [1, 2, 4].map(cell => row.cells[cell].innerText))"
    )
    assert sorted(shown) == wanted


def test_threshold_and_actions_filter_all_of_it_at_once(result):
    tab = result.tab
    result.set_threshold(0.05)
    before = result.count("tbody tr")
    scores = sorted(
        float(one) for one in tab.eval_on_selector_all("#detect tbody tr", "rows => rows.map(row => row.cells[2].innerText)")
    )
    result.set_threshold(scores[-1])
    kept = sum(score >= scores[-1] for score in scores)
    assert 0 < result.count("tbody tr") == result.count(".bar") == result.count(".pictures canvas") <= kept < before
    assert result.tab.inner_text("#detect .found").startswith(f"Found {result.count('.bar')} action")
    with tab.expect_download() as download:
        tab.click("#detect [data-do=json]")
    told = json.loads(Path(download.value.path()).read_text())
    assert len(told["tubes"]) == result.count(".bar") and told["threshold"] == scores[-1]
    result.set_threshold(0.05)
    action = tab.get_attribute("#detect .classes button >> nth=0", "data-action")
    tab.click("#detect .classes button >> nth=0")
    assert tab.get_attribute(f"#detect .classes [data-action='{action}']", "aria-pressed") == "false"
    assert result.count("tbody tr") < before and action not in tab.inner_text("#detect tbody")
    tab.click(f"#detect .classes [data-action='{action}']")
    assert result.count("tbody tr") == before


def test_what_is_left_out_is_not_called_likeliest(result):
    tab, chips = result.tab, "#detect .classes button[data-action]:not([data-action=''])"
    names = [chip.get_attribute("data-action") for chip in tab.locator(chips).all()]
    for place in range(len(names)):
        tab.click(f"{chips} >> nth={place}")
    heading, hint = tab.inner_text("#detect .found h3"), tab.inner_text("#detect .found p.hint >> nth=0")
    assert "no sure action among those chosen" in heading and hint.startswith(
        "No action among those chosen lasts with 0.05 or more."
    )
    assert not [name for name in names if name in heading]
    for place in range(len(names)):
        tab.click(f"{chips} >> nth={place}")
    assert "Found" in tab.inner_text("#detect .found")


def test_who_does_nothing_sure_is_seen_all_the_same(result):
    result.set_threshold(0.95)
    said = result.tab.inner_text("#detect .found")
    assert (
        re.search("no sure action; likeliest( at moments)?: ", said)
        and "recognises circle" in said
        and "person" in said
        or "people" in said
    )
    assert result.count(".bar") == 0 < result.count(".grey")
    title = result.tab.get_attribute("#detect .grey >> nth=0", "title")
    assert title.startswith("person") and title.split("likeliest: ")[1].count(", ") == 2, "the three likeliest"
    eventually(result.painted)
    result.tab.click("#detect .classes [data-action='']")
    eventually(lambda: not result.painted())
    result.tab.click("#detect .classes [data-action='']")
    result.set_threshold(0.05)


def test_pointing_at_somebody_on_the_picture_tells_what_they_may_be_doing(result):
    drawn = """() => { const one = document.querySelector('#detect .stage canvas');
        return one.getContext('2d').getImageData(0, 0, one.width, one.height).data.filter((value) => value).length; }"""
    result.set_threshold(0.95)
    result.go_to(0.1)
    eventually(result.painted)
    before = result.tab.evaluate(drawn)
    stage = result.tab.locator("#detect .stage").first.bounding_box()
    seen = set()
    for x, y in np.ndindex(12, 12):
        result.tab.mouse.move(stage["x"] + (x + 0.5) * stage["width"] / 12, stage["y"] + (y + 0.5) * stage["height"] / 12)
        seen.add(result.tab.evaluate(drawn))
    assert max(seen) > before, "three lines, and a brighter box"
    result.tab.mouse.move(0, 0)
    eventually(lambda: result.tab.evaluate(drawn) == before)


def test_pointing_at_the_grey_bar_of_somebody_who_acts_lights_them(result):
    """They have a box of their action alone."""
    result.set_threshold(0.05)
    result.go_to(0.1)
    bars = result.tab.locator("#detect .row:has(.bar) .grey")
    boxes = "document.querySelector('#detect .stage canvas').toDataURL()"
    before = result.tab.evaluate(boxes)
    bars.first.dispatch_event("pointerenter", {"pointerType": "mouse"})
    lit = result.tab.evaluate(boxes)
    bars.first.dispatch_event("pointerleave", {"pointerType": "mouse"})
    assert len({before, lit, result.tab.evaluate(boxes)}) == 2
    label = bars.first.get_attribute("title").partition("likeliest: ")[2]
    assert label, "what they may be doing"


MEETINGS = """() => {
  const shown = (one) => !one.hidden, meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
  const found = [];
  for (const lanes of document.querySelectorAll(".lanes")) {
    const bars = [...lanes.querySelectorAll("button.bar")];
    for (const bar of bars) for (const other of bars) if (bar !== other && shown(bar.firstChild))
      for (const one of [other, other.firstChild].filter(shown))
        if (meet(bar.firstChild.getBoundingClientRect(), one.getBoundingClientRect())) found.push(`${bar.title} | ${other.title}`);
  }
  return found;
}"""


def test_names_in_the_timeline_keep_out_of_each_others_way(browser, address, monkeypatch):
    """Short bars one after another, as a few seconds of a film have them."""
    real = detection.detect_steps

    def steps(*arguments):
        for step in real(*arguments):
            if step.complete:
                box = np.array([[4.0, 4, 30, 40]])
                step.result.tubes[:] = [
                    Tube(0, 0.9, 0, box.repeat(2, 0)),
                    Tube(0, 0.8, 3, box.repeat(2, 0)),
                    Tube(0, 0.7, 6, box.repeat(1, 0)),
                ]
            yield step

    monkeypatch.setattr(detection, "detect_steps", steps)
    somebody = Visitor(browser, address, "phone")
    somebody.upload(EXAMPLES / "toy.mp4")
    somebody.find()
    somebody.set_threshold(0.05)
    assert somebody.count("button.bar") == 3 and somebody.tab.evaluate(MEETINGS) == []
    somebody.leave()


def test_the_timeline_zooms_and_listens_to_the_keyboard(result):
    tab = result.tab
    width = "document.querySelector('#detect .bar').getBoundingClientRect().width"
    tab.click("#detect [data-do=all]")
    before = tab.evaluate(width)
    tab.click("#detect [data-do=in]")
    assert tab.evaluate(width) == pytest.approx(2 * before, rel=0.2)
    tab.focus("#detect .rows")
    tab.keyboard.press("0")
    assert tab.evaluate(width) == pytest.approx(before, rel=0.05)
    tab.keyboard.press("Home")
    tab.wait_for_function("document.querySelector('#detect .time').innerText.endsWith('frame 0')")
    tab.keyboard.press(".")
    tab.wait_for_function("document.querySelector('#detect .time').innerText.endsWith('frame 1')")


def test_the_table_can_be_downloaded(result):
    with result.tab.expect_download() as download:
        result.tab.click("#detect [data-do=csv]")
    assert download.value.suggested_filename.endswith("-actions.csv")
    with open(download.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.count("tbody tr") and set(rows[0]) >= {"actor", "action", "score", "start_seconds"}


def shared(somebody, kind: str) -> Path:
    with somebody.tab.expect_download() as download:
        somebody.tab.click(f"#detect [data-make={kind}]")
    somebody.until("is ready", "#detect .making")
    assert download.value.suggested_filename.endswith(share.SUFFIXES[kind])
    return Path(download.value.path())


def test_the_moment_is_shared_as_a_clip_and_as_a_figure(result):
    with Image.open(shared(result, "gif")) as film:
        assert film.format == "GIF" and film.size[1] > 48, "the timeline lies below the picture"
    frames = list(video.read(shared(result, "clip")))
    assert frames[0].image.shape[0] > 48 and not result.tab.is_visible("#detect .caption")
    assert shared(result, "page").read_bytes().startswith(b"%PDF")
    caption = result.tab.inner_text("#detect .caption pre")
    assert caption.startswith("\\begin{figure*}") and "tubes of big (score at least" in caption


def test_a_figure_can_be_made_where_no_action_is_sure(result):
    result.set_threshold(0.95)
    assert result.count(".bar") == 0
    assert shared(result, "column").read_bytes().startswith(b"%PDF")
    assert result.tab.inner_text("#detect .caption pre").startswith("\\begin{figure}")
    result.set_threshold(0.05)


def test_the_page_can_be_used_without_a_mouse_and_names_what_it_shows(result):
    unnamed = """() => [...document.querySelectorAll('#detect button, #detect select, #detect input, #live button')].filter(
        (one) => !(one.innerText || one.getAttribute('aria-label') || (one.closest('label') || {}).innerText)).length"""
    assert result.tab.evaluate(unnamed) == 0
    assert result.tab.evaluate("() => [...document.querySelectorAll('#detect canvas[role=img]')].every((one) => one.ariaLabel)")
    result.tab.focus("#detect .bar >> nth=0")
    result.tab.keyboard.press("Enter")
    assert result.count(".bar.lit") == 1


def test_real_length_rate_and_frames_are_told(result, clip):
    times = [frame.time for frame in video.read(clip)]
    rate = (len(times) - 1) / times[-1]
    assert f"{rate:.4g} frames a second, {len(times)} frames" in result.tab.inner_text("#detect .about")


# -------------------------------------------------------------------- while it runs


def test_while_it_runs_what_is_not_seen_yet_is_shaded_and_the_picture_waits(visitor, clip, slowly):
    visitor.upload(clip)
    visitor.tab.click("#start")
    visitor.tab.wait_for_function("document.querySelector('#detect .bar, #detect .grey')")
    shares = visitor.tab.evaluate("""() => { const over = document.querySelector('#detect .over').getBoundingClientRect();
        const bars = [...document.querySelectorAll('#detect .lanes button')].map((one) => one.getBoundingClientRect().right);
        return [document.querySelector('#detect .unseen').getBoundingClientRect().left, Math.max(...bars), over.right]; }""")
    assert shares[1] <= shares[0] + 2 < shares[2], "bars end where the unseen part begins"
    seen = """() => parseFloat(document.querySelector('#detect .unseen').style.left) / 100"""
    for _ in range(8):
        length = visitor.playing("duration")
        assert visitor.playing() <= visitor.tab.evaluate(seen) * length + 0.2, "boxes never lag the picture"
        time.sleep(0.1)
    visitor.set_threshold(0.95)
    assert visitor.count(".bar") == 0, "filters work while it runs"
    visitor.tab.wait_for_selector("#detect .files:visible")
    assert visitor.tab.locator("#detect .unseen").is_hidden() and visitor.count(".bar") == 0
    visitor.set_threshold(0.05)
    assert visitor.count(".bar") > 0


@pytest.mark.parametrize("seconds", [0, 0.2, 0.6, 1.2])
def test_cancel_keeps_what_was_found_and_says_so(visitor, clip, slowly, seconds):
    visitor.upload(clip)
    visitor.tab.click("#start")
    time.sleep(seconds)
    visitor.tab.click("#cancel")
    said = visitor.until("Cancelled")
    eventually(lambda: not slowly), "the work has ended on the server too"
    if "is kept" in said:
        assert visitor.tab.locator("#detect .unseen").is_visible() and visitor.tab.is_visible("#detect .files")
        assert visitor.count(".lanes button") > 0 or "Nobody" in visitor.tab.inner_text("#detect .found")
    assert visitor.tab.is_enabled("#start") and visitor.tab.is_hidden("#cancel")
    assert "Found" in visitor.find(), "and it can be begun again"


def test_a_new_video_clears_the_old_result_also_while_it_runs(visitor, toy_videos, slowly):
    first, second = (one.path for one in toy_videos.videos[1:3])
    visitor.upload(first)
    visitor.tab.click("#start")
    visitor.tab.wait_for_function("document.querySelector('#detect .bar, #detect .grey')")
    visitor.upload(second)
    assert visitor.tab.inner_text("#detect .name") == second.name
    assert visitor.tab.is_hidden("#detect .result") and not visitor.painted() and visitor.tab.is_hidden("#cancel")
    eventually(lambda: not slowly)
    time.sleep(0.3)
    assert visitor.tab.is_hidden("#detect .result"), "no late answer about the old one"


def test_what_was_seen_inside_goes_with_its_video(visitor, toy_videos):
    first, second = (one.path for one in toy_videos.videos[1:3])
    visitor.upload(first)
    visitor.find()
    visitor.tab.get_by_role("tab", name="Look inside").click()
    visitor.tab.click("#look")
    visitor.tab.wait_for_selector("#inside section")
    visitor.tab.get_by_role("tab", name="Your video").click()
    visitor.upload(second)
    visitor.tab.get_by_role("tab", name="Look inside").click()
    visitor.tab.wait_for_selector("#inside .shown", state="hidden")
    assert visitor.tab.is_disabled("#look") and "Find actions on the first tab" in visitor.tab.inner_text("#inside .first-find")
    visitor.tab.get_by_role("tab", name="Your video").click()
    visitor.find()
    visitor.tab.get_by_role("tab", name="Look inside").click()
    assert visitor.tab.is_enabled("#look") and visitor.tab.is_hidden("#inside .first-find")


def test_an_upload_that_is_cancelled_or_fails_is_sent_again_by_finding(visitor, clip):
    ways = [lambda route: None, lambda route: route.abort(), lambda route: route.fulfill(status=502, body="")]
    visitor.tab.route("**/upload", lambda route: ways.pop(0)(route) if ways else route.continue_())
    visitor.tab.set_input_files("#upload input[type=file]", str(clip))
    visitor.until("Uploading")
    visitor.tab.click("#cancel")
    visitor.until("Upload cancelled")
    assert visitor.tab.is_hidden("#cancel") and visitor.tab.is_enabled("#start")
    for said in ("the server does not answer", "(502)"):
        visitor.tab.click("#start")
        visitor.until(said, "#status .failed")
        assert visitor.tab.is_hidden("#cancel")
    assert "Found" in visitor.find()
    assert visitor.tab.is_hidden("#status .failed")


def test_a_video_that_is_too_long_is_refused_before_it_is_sent(visitor, clip):
    visitor.tab.route("**/upload", lambda route: None)
    visitor.tab.evaluate("Object.defineProperty(document.querySelector('#detect .stage video'), 'duration', { value: 601 })")
    visitor.tab.set_input_files("#upload input[type=file]", str(clip))
    said = visitor.until("the limit is 5 minutes", "#status .failed")
    assert f"{clip.name}: is 10 min 1 s long" in said
    assert visitor.tab.is_hidden("#cancel")
    visitor.tab.click("#start")
    visitor.until("the limit is 5 minutes", "#status .failed")


def test_a_video_of_one_frame_has_its_boxes(visitor, tmp_path, clip):
    one = tmp_path / "one.mp4"
    with video.Writer(one, 64, 48, 25) as writer:
        writer.write(next(iter(video.read(clip))).image, 0.0)
    visitor.upload(one, "64x48 pixels")
    visitor.find()
    eventually(visitor.painted)


def test_what_the_server_has_lost_is_uploaded_again(visitor, toy_videos, place):
    clip = toy_videos.videos[5].path
    visitor.upload(clip)
    visitor.find()
    for path in files(place, f"{clip.stem}*"):
        path.unlink()  # as after a connection that was lost for long
    visitor.tab.click("[data-do=json]")
    visitor.until("The result is no longer on the server", "#detect .failed")
    visitor.find()
    assert visitor.count(".bar") and visitor.tab.is_hidden("#detect .failed")


def test_a_page_that_was_loaded_anew_while_it_worked_says_so(visitor, clip, slowly):
    visitor.upload(clip)
    visitor.tab.click("#start")
    visitor.until("Looking for actions", "#status")
    visitor.tab.reload()
    visitor.until(f"loaded anew while it worked on {clip.name}", "#status")
    visitor.upload(clip)
    visitor.find()
    visitor.tab.reload()
    visitor.tab.wait_for_selector("#start")
    assert "loaded anew" not in visitor.tab.inner_text("#status")


def test_what_fails_without_a_sentence_leaves_nobody_waiting(browser, address, clip, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault of the program")

    somebody = Visitor(browser, address)
    somebody.upload(clip)
    somebody.find()
    monkeypatch.setattr(share, "make", broken)
    somebody.tab.click("#detect [data-make=clip]")
    somebody.until("The message in the corner", "#detect .making")
    somebody.leaves.close()


def test_a_page_that_was_loaded_anew_while_it_drew_says_so(visitor, clip, monkeypatch):
    def slowly(*_):
        for done in range(100):
            time.sleep(0.1)
            yield done, 100

    monkeypatch.setattr(share, "make", slowly)
    visitor.upload(clip)
    visitor.find()
    visitor.tab.click("#detect [data-make=gif]")
    visitor.until("of 100 frames", "#detect .making")
    visitor.tab.reload()
    visitor.until(f"loaded anew while it worked on {clip.name}", "#status")


def test_a_file_that_is_dropped_while_recording_stays(visitor, clip):
    visitor.tab.click("#detect [data-do=record]")
    visitor.until("Stop recording (1 s)", "#detect .loaded")
    assert visitor.tab.is_disabled("#start")
    visitor.upload(clip)
    visitor.until("Another video", "#detect .loaded")
    time.sleep(0.5)
    assert visitor.tab.inner_text("#detect .name") == clip.name and visitor.tab.is_enabled("#start")
    assert visitor.tab.evaluate("document.querySelector('#detect video').srcObject") is None, "the camera is off"


def test_an_example_brings_its_model_for_itself_alone(visitor, clip):
    own = visitor.tab.input_value("#model")
    visitor.tab.click("#detect .examples button >> nth=0")
    visitor.tab.wait_for_selector("#detect .files:visible")
    visitor.upload(clip)
    assert visitor.tab.input_value("#model") == own


# -------------------------------------------------------------------- bad input, other people


@pytest.mark.parametrize(
    ("name", "codec"), [("old.avi", "mp2"), ("phone.mp4", "libmp3lame")]
)  # of the latter it plays the sound alone
def test_what_a_browser_cannot_play_is_played_from_a_clean_copy(visitor, clip, tmp_path, name, codec):
    import av

    with av.open(str(tmp_path / name), "w") as container:  # MPEG-4 part 2, which Chromium does not play
        stream, sound = container.add_stream("mpeg4", rate=10), container.add_stream(codec, rate=48000, layout="mono")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in video.read(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        silence = np.zeros((1, 24000), np.int16)
        heard = av.AudioFrame.from_ndarray(silence, format="s16" if codec == "mp2" else "s16p", layout="mono")
        heard.sample_rate = 48000
        container.mux([*stream.encode(None), *sound.encode(heard), *sound.encode(None)])
    visitor.upload(tmp_path / name)
    visitor.tab.wait_for_function(f"document.querySelector('#detect video').src.endsWith('/{name[:-4]}.mp4')")
    visitor.tab.wait_for_function("document.querySelector('#detect video').videoWidth == 64")
    assert "Found" in visitor.find() and visitor.tab.is_hidden("#detect .note")
    eventually(visitor.painted)
    with urllib.request.urlopen(visitor.playing("src")) as copy, av.open(io.BytesIO(copy.read())) as container:
        assert len(container.streams.audio) == 1, "the sound is kept"


@pytest.mark.parametrize("name", ["clip.gif", "IMG_0042.MOV", "00000.MTS"])
def test_other_kinds_of_files_are_taken_as_advertised(visitor, clip, tmp_path, name):
    import av

    path, codec, kind = tmp_path / name, "gif" if name == "clip.gif" else "libx264", "mpegts" if name.endswith("MTS") else None
    with av.open(str(path), "w", format=kind or name[-3:].lower()) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
        for frame in video.read(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    said = visitor.upload(path)
    assert "64x48 pixels, 10 frames a second" in said and visitor.tab.is_hidden("#detect .failed")
    visitor.tab.wait_for_function("document.querySelector('#detect video').videoWidth == 64")  # a clean copy, if need be


def test_bad_files_are_named_at_once(visitor, tmp_path):
    (tmp_path / "notes.mp4").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9)
    said = visitor.upload(tmp_path / "notes.mp4", "That did not work", "#status")
    assert "notes.mp4: is not a video that can be read" in said
    visitor.tab.click("#start")
    assert "notes.mp4: is not a video" in visitor.until("That did not work")


def test_pressing_start_without_a_video_is_answered(visitor):
    visitor.tab.click("#start")
    assert "Choose or record a video first." in visitor.until("That did not work")


def test_two_visitors_get_their_own_results_and_their_files_go_with_them(browser, address, toy_videos, place):
    visitors = [Visitor(browser, address, alone=True) for _ in range(2)]
    for somebody, shown in zip(visitors, toy_videos.videos[3:5], strict=True):
        somebody.upload(shown.path)
        somebody.tab.click("#start")
    for somebody, shown in zip(visitors, toy_videos.videos[3:5], strict=True):
        somebody.tab.wait_for_selector("#detect .files:visible")
        assert shown.path.name == somebody.tab.inner_text("#detect .name")
    first = toy_videos.videos[3].path.stem
    assert files(place, f"{first}*")
    visitors[0].leave()
    eventually(lambda: not files(place, f"{first}*"))
    assert files(place, f"{toy_videos.videos[4].path.stem}-actions.json"), "the other one's stay"
    visitors[1].leave()


def test_who_waits_is_told_among_how_many(browser, address, clip, monkeypatch):
    go_on, real = threading.Event(), detection.detect_steps

    def steps(*arguments):
        assert go_on.wait(120)
        yield from real(*arguments)

    monkeypatch.setattr(detection, "detect_steps", steps)
    visitors = [Visitor(browser, address, alone=True) for _ in range(3)]  # one browser has six connections, two a tab
    for somebody, said in zip(visitors, ["Waking the model", "Waiting for its turn", "(one of 2 that wait)"], strict=True):
        somebody.upload(clip)
        somebody.tab.click("#start")
        somebody.until(said)
    go_on.set()
    for somebody in visitors:
        somebody.tab.wait_for_selector("#detect .files:visible")
        somebody.leave()


def test_a_tab_closed_in_the_middle_of_a_share_leaves_nothing_and_a_second_tab_everything(
    browser, address, toy_videos, place, monkeypatch
):
    path = toy_videos.videos[5].path
    leaver, stayer = (Visitor(browser, address, alone=True) for _ in range(2))
    for somebody in (leaver, stayer):
        somebody.upload(path)
    leaver.find()
    running, real = [], share._pictures

    def pictures(*arguments):
        running.append(True)
        try:
            for picture in real(*arguments):
                yield picture
                time.sleep(0.2)
        finally:
            running.pop()

    monkeypatch.setattr(share, "_pictures", pictures)
    monkeypatch.setattr(share, "TELL_SECONDS", 0.1)
    leaver.tab.click("#detect [data-make=whole]")
    leaver.until("Drawing", "#detect .making")
    leaver.leave()
    eventually(lambda: not running)
    eventually(lambda: not files(place, f"{path.stem}-actions*"))
    assert "Found" in stayer.find(), "the same upload is still there"
    stayer.leave()


def test_that_a_file_is_cut_off_is_said_beside_what_was_found(visitor, clip, tmp_path):
    cut = tmp_path / "cut.mp4"
    data = clip.read_bytes()
    index, media = data.find(b"moov") - 4, data.find(b"mdat") - 4
    assert index < media, "the index comes first, as the writer puts it"
    cut.write_bytes(data[: media + (len(data) - media) // 2])
    visitor.upload(cut)
    visitor.find()
    assert "About this file: " in visitor.tab.inner_text("#detect .found")
    assert "can be decoded; it may have been cut off." in visitor.tab.inner_text("#detect .found")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_of_it_fits_and_can_be_read_in_either_light(browser, address, clip, scheme):
    def read(size: str, names: list[str]) -> None:
        assert somebody.tab.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], (
            "nothing reaches beyond the screen"
        )
        for ink, paper, what in somebody.tab.evaluate(READ, names):
            assert contrast(ink, paper) >= 4.5, (what, ink, paper)

    somebody = Visitor(browser, address, "phone", scheme)
    somebody.upload(clip)
    somebody.find()
    somebody.tab.mouse.move(0, 0)
    read("phone", LIGHTS)
    somebody.resize("wide")
    read("wide", LIGHTS)
    somebody.tab.get_by_role("tab", name="Look inside").click()
    somebody.tab.click("#look")
    somebody.tab.wait_for_selector("#inside section >> nth=1")
    read("wide", INSIDE)
    somebody.resize("phone")
    read("phone", INSIDE)
    somebody.leave()


INSIDE = ["#inside .verdict", "#inside th", "#inside td", "#inside h5", "#inside .module", "#inside .node", "#inside .boxes-are"]
INSIDE += ["#inside small", "#inside .off", "#inside .scale", "#inside figcaption", "#look"]
LIGHTS = [
    "#detect td",
    "#detect .about",
    "#status .said",
    ".hint p",
    "#detect .who",
    "#detect .axis span",
    "#detect .classes button",
]
LIGHTS += [
    "#detect select",
    "#detect .files button",
    "#start",
    ".hint a",
    "[role=tab][aria-selected=true]",
    "[role=tab][aria-selected=false]",
]
READ = """(names) => names.map((one) => {
    const element = document.querySelector(one);
    let behind = element;
    while (behind && /, 0\\)$|transparent/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    return [getComputedStyle(element).color, behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)', one];
})"""


def contrast(first: str, second: str) -> float:
    """Of two colours as CSS gives them (WCAG 2)."""

    def luminance(colour: str) -> float:
        numbers = [float(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# -------------------------------------------------------------------- two models, looking inside, the camera


@pytest.mark.parametrize("size", SIZES)
def test_two_models_watch_the_same_video_side_by_side(browser, address, clip, size):
    visitor = Visitor(browser, address, size)
    visitor.upload(clip)
    visitor.tab.select_option("#beside", "plain")
    said = visitor.find()
    assert "big: " in said and "plain: " in said and visitor.count(".timeline .rows") == 2
    boxes = [visitor.tab.locator("#detect .stage").nth(place).bounding_box() for place in range(2)]
    below = boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    assert abs(boxes[0]["width"] - boxes[1]["width"]) < 2 and below == (size == "phone"), "beside each other where both fit"
    eventually(lambda: visitor.painted(0) and visitor.painted(1))
    assert {"big", "plain"} == set(
        visitor.tab.eval_on_selector_all("#detect tbody tr", "rows => rows.map(row => row.cells[0].innerText)")
    )
    visitor.leave()


def test_looking_inside_shows_two_models_side_by_side(looked, result):
    result.tab.get_by_role("tab", name="Look inside").click()
    text = result.tab.inner_text("#inside")
    assert "with MSM, with SFM" in text and "without MSM, without SFM" in text and "Nobody labelled your video" in text
    assert "no MSM here" in text and "no SFM here" in text and "gain 1 + aφ" in text
    named = result.tab.evaluate("[...document.querySelectorAll('#inside .scales .hint')].map((one) => one.innerText)")
    assert named[:2] == ["distance from the video's average", "after minus before MSM"]
    assert result.tab.evaluate(
        "[...document.querySelectorAll('#inside tbody th')].length > 5 && "
        "[...document.querySelectorAll('#inside tbody th')].every((one) => one.title)"
    ), "a sentence on pointing at a number's name"


def test_another_moment_than_was_asked_for_is_said(looked, result):
    tab = result.tab
    tab.get_by_role("tab", name="Look inside").click()
    assert "Nobody has a box" not in tab.inner_text("#inside .boxes-are")
    tab.evaluate(
        """() => { const slider = document.querySelector('#inside [data-do=moment]');
        slider.max = 60; slider.value = 60; slider.dispatchEvent(new Event('input'));
        document.querySelector('#look').click(); }"""  # at once: the slider follows the player
    )
    tab.wait_for_function("document.querySelector('#inside .boxes-are').innerText.includes('Nobody has a box at 60.00 s')")
    shown = float(tab.inner_text("#inside .boxes-are").split(", at ")[1].split(" s.")[0])
    slider = float(tab.evaluate("document.querySelector('#inside [data-do=moment]').value"))
    assert shown < 1 and abs(slider - shown) < 0.011


def test_a_map_follows_the_video_and_can_be_chosen(looked, result):
    tab = result.tab
    colours = """() => { const over = document.querySelectorAll('#inside .over')[0]; if (!over || !over.width) return '';
        return String(over.getContext('2d').getImageData(0, 0, over.width, over.height).data); }"""
    tab.get_by_role("tab", name="Look inside").click()
    eventually(lambda: tab.evaluate(colours))
    seen = {}
    for name in ("before", "change", "spatial takes"):
        tab.select_option("#inside .films select", name)
        seen[name] = tab.evaluate(colours)
        assert tab.locator("#inside .films .scale").count() == 1
    assert len(set(seen.values())) == 3
    assert tab.inner_text("#inside .film >> nth=1").endswith("no SFM here")
    tab.evaluate("document.querySelector('#inside .films video').currentTime = 0.3")
    eventually(lambda: tab.evaluate(colours) != seen["spatial takes"])
    tab.select_option("#inside .films select", "")
    assert not set(tab.evaluate(colours).split(",")) - {"0"} and tab.locator("#inside .films .scale").count() == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_to_try_is_said_before_the_camera_and_can_be_read(browser, address, size, scheme):
    somebody = Visitor(browser, address, size, scheme)
    somebody.tab.get_by_role("tab", name="Live").click()
    assert somebody.tab.inner_text("#live .prompts").split() == ["Try:", "go", "round"], "what the model knows, and no more"
    box = somebody.tab.locator("#live .go").bounding_box()
    assert box["y"] + box["height"] <= SIZES[size][1]
    for ink, paper, what in somebody.tab.evaluate(READ, ["#live .prompts", "#live .prompts span", "#live .go", "#live select"]):
        assert contrast(ink, paper) >= 4.5, (what, ink, paper)
    somebody.leave()


def test_an_empty_scene_says_so(visitor, monkeypatch):
    monkeypatch.setattr(live.Camera, "_boxes", lambda *_: [])
    visitor.tab.get_by_role("tab", name="Live").click()
    visitor.tab.click("#live .go")
    visitor.until("I see nobody", "#live .now")
    visitor.tab.click("#live .go")


def test_the_camera_is_watched_live(visitor):
    visitor.tab.get_by_role("tab", name="Live").click()
    visitor.tab.click("#live .go")
    visitor.tab.wait_for_function("document.querySelector('#live .speed').innerText.includes('ms from camera to box')")
    visitor.tab.wait_for_function("document.querySelectorAll('#live .bar').length > 0")
    visitor.tab.wait_for_selector("#live .now.sure span")
    large = "parseFloat(getComputedStyle(document.querySelector('#live .now')).fontSize)"
    assert visitor.tab.evaluate(large) >= 28, "what runs is read from afar"
    assert "frames a second looked at, the others dropped" in visitor.tab.inner_text("#live .speed")
    visitor.tab.click("#live .go")
    assert visitor.tab.inner_text("#live .go") == "Start the camera"


def test_a_camera_that_is_asked_for_twice_is_opened_once(visitor):
    visitor.tab.evaluate("""() => { const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
        window.given = [];
        media.getUserMedia = async (wanted) => {
            await new Promise((done) => setTimeout(done, 500));
            window.given.push(await real(wanted));
            return window.given.at(-1);
        }; }""")
    visitor.tab.get_by_role("tab", name="Live").click()
    for _ in range(2):
        visitor.tab.click("#live .go")
    visitor.until("Stop the camera", "#live .go")
    visitor.tab.click("#live .go")
    states = "window.given.flatMap((one) => one.getTracks()).map((track) => track.readyState)"
    assert visitor.tab.evaluate(states) == ["ended"]


def test_a_recording_of_the_camera_is_a_video_like_any_other(visitor):
    visitor.tab.click("#detect [data-do=record]")
    visitor.until("Stop recording (1 s)", "#detect .loaded")
    visitor.tab.click("#detect [data-do=another]")
    visitor.until("recording.webm", "#detect .name")
    assert "Found" in visitor.find()
