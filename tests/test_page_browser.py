"""The page in a headless Chromium, as a visitor uses it: skipped where there is no browser."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from page_server import save_models, serve

from mssc import video
from mssc.page import detection, limits

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(place, tiny_config, tmp_path_factory):
    with serve(place, save_models(tmp_path_factory.mktemp("models"), tiny_config)) as url:
        yield url


class Visitor:
    """Somebody at the page; a width below 600 is a phone's."""

    def __init__(self, browser, address: str, width: int = 1200, **options) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(60_000)
        self.foreign: list[str] = []
        self.broken: list[str] = []
        local = (address, "data:", "blob:")
        self.tab.on("request", lambda request: None if request.url.startswith(local) else self.foreign.append(request.url))
        self.tab.on("pageerror", lambda error: self.broken.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("#start")

    def upload(self, path: Path, said: str = "frames a second") -> str:
        self.tab.set_input_files("#upload input[type=file]", str(path))
        return self.until(said)

    def until(self, said: str) -> str:
        self.tab.wait_for_function("said => document.querySelector('#status').innerText.includes(said)", arg=said)
        return self.tab.inner_text("#status")

    def find(self) -> str:
        self.tab.click("#start")
        self.tab.wait_for_selector("#status details")
        return self.tab.inner_text("#status")

    def playing(self, what: str = "currentTime"):
        return self.tab.evaluate(f"document.querySelector('#player video').{what}")

    def leave(self) -> None:
        self.context.close()


@pytest.fixture
def visitor(browser, address):
    somebody = Visitor(browser, address)
    yield somebody
    assert not somebody.foreign and not somebody.broken
    somebody.leave()


@pytest.fixture(scope="module")
def result(browser, address, clip):
    """A finished result that several tests look at."""
    somebody = Visitor(browser, address, accept_downloads=True)
    assert "64x48" in somebody.upload(clip)
    assert limits.LIMITS in somebody.tab.inner_text("body"), "said before the upload"
    said = somebody.find()
    assert "Found" in said and "frames a second" in said
    yield somebody
    assert not somebody.foreign and not somebody.broken
    somebody.leave()


def test_the_visitors_own_file_plays_and_boxes_lie_over_it(result, clip):
    assert result.playing("src").endswith(clip.name) and result.playing("videoWidth") == 64
    result.tab.evaluate("document.querySelector('#player video').pause()")
    result.tab.evaluate("document.querySelector('#player video').currentTime = 0.1")
    painted = "() => document.querySelector('#player canvas').getContext('2d').getImageData(0, 0, 9999, 9999).data.some((v) => v)"
    result.tab.wait_for_function(painted)
    result.tab.uncheck("#player [data-do=boxes]")
    result.tab.wait_for_function(painted.replace("=> document", "=> !document"))
    result.tab.check("#player [data-do=boxes]")


def test_bars_rows_and_thumbnails_are_the_tubes_and_move_the_video(result):
    tab = result.tab
    count = tab.locator("#player tbody tr").count()
    assert count == tab.locator("#player .bar").count() == min(tab.locator("#player .pictures img").count(), count) > 0
    result.tab.evaluate("document.querySelector('#player video').pause()")
    starts = tab.eval_on_selector_all("#player tbody tr", "rows => rows.map(row => parseFloat(row.cells[3].innerText))")
    index = int(np.argmax(starts))
    tab.click(f"#player .bar[data-tube='{index}']", force=True)
    tab.wait_for_function(
        "start => Math.abs(document.querySelector('#player video').currentTime - start) < 0.05", arg=starts[index]
    )
    assert tab.locator(f"#player tr.lit[data-tube='{index}']").count() == 1, "what is pointed at is highlighted everywhere"


def test_the_timeline_zooms_and_listens_to_the_keyboard(result):
    tab = result.tab
    width = "document.querySelector('#player .bar').getBoundingClientRect().width"
    tab.click("#player [data-do=all]")
    before = tab.evaluate(width)
    tab.click("#player [data-do=in]")
    assert tab.evaluate(width) == pytest.approx(2 * before, rel=0.2) or before > 400
    tab.focus("#player .rows")
    tab.keyboard.press("0")
    assert tab.evaluate(width) == pytest.approx(before, rel=0.05)
    tab.keyboard.press("Home")
    tab.wait_for_function("document.querySelector('#player .time').innerText.endsWith('frame 0')")
    tab.keyboard.press(".")
    tab.wait_for_function("document.querySelector('#player .time').innerText.endsWith('frame 1')")


def test_video_boxes_and_table_can_be_downloaded(result):
    for kind in ("mp4", "json", "csv"):
        with result.tab.expect_download() as download:
            result.tab.click(f"#player [data-kind={kind}]")
        assert download.value.suggested_filename.endswith(f"-actions.{kind}")
        path = Path(download.value.path())
        if kind == "mp4":
            assert len(list(video.read(path))) > 10
        elif kind == "json":
            assert json.loads(path.read_text())["tubes"]


def test_the_page_can_be_used_without_a_mouse_and_names_what_it_shows(result):
    unnamed = """() => [...document.querySelectorAll('#player button, #player select, #player input, #player a, #live button')].filter(
        (one) => !(one.innerText || one.getAttribute('aria-label') || (one.closest('label') || {}).innerText)).length"""
    assert result.tab.evaluate(unnamed) == 0
    assert result.tab.evaluate("() => [...document.querySelectorAll('#player img')].every((image) => image.alt)")
    result.tab.focus("#player .bar >> nth=0")
    result.tab.keyboard.press("Enter")
    assert result.tab.locator("#player .bar.lit").count() == 1


def test_what_a_browser_cannot_play_is_played_from_the_copy(visitor, clip, tmp_path):
    import av

    with av.open(str(tmp_path / "old.avi"), "w") as container:  # MPEG-4 part 2, which Chromium does not play
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in video.read(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        container.mux(stream.encode(None))
    visitor.upload(tmp_path / "old.avi")
    visitor.find()
    visitor.tab.wait_for_function("document.querySelector('#player video').src.endsWith('old-actions.mp4')")
    visitor.tab.wait_for_function("document.querySelector('#player video').videoWidth == 64")


def test_no_action_is_said(visitor, clip):
    visitor.upload(clip)
    visitor.tab.fill("input[type=number] >> nth=0", "0.99")
    visitor.tab.keyboard.press("Tab")
    said = visitor.find()
    assert "No action found" in said and "0.99" in said
    assert "No action found" in visitor.tab.inner_text("#player .rows")


def test_bad_files_are_named_at_once(visitor, tmp_path):
    (tmp_path / "notes.mp4").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9)
    said = visitor.upload(tmp_path / "notes.mp4", "That did not work")
    assert "notes.mp4: is not a video that can be read" in said
    visitor.tab.click("#start")
    time.sleep(1)
    assert "notes.mp4: is not a video" in visitor.until("That did not work")


def test_pressing_start_without_a_video_is_answered(visitor):
    visitor.tab.click("#start")
    assert "Upload or record a video first." in visitor.until("That did not work")


def test_cancel_stops_the_work_and_the_next_video_is_worked_on(visitor, clip, monkeypatch, place):
    running, real = [], detection.detect_steps

    def slowly(*arguments):
        running.append(True)
        try:
            for step in real(*arguments):
                yield step
                time.sleep(0.3)
        finally:
            running.pop()

    before = {path for path in place.rglob("*-actions*")}
    visitor.upload(clip)
    with monkeypatch.context() as patch:
        patch.setattr(detection, "detect_steps", slowly)
        visitor.tab.click("#start")
        visitor.tab.wait_for_selector("#cancel:visible")
        while not running:
            time.sleep(0.05)
        visitor.tab.click("#cancel")
        visitor.until("Cancelled")
        for _ in range(100):
            time.sleep(0.1)
            if not running:
                break
        assert not running, "the work has ended on the server too"
    assert {path for path in place.rglob("*-actions*")} == before
    assert "Found" in visitor.find()


def test_two_visitors_get_their_own_results_and_their_files_go_with_them(browser, address, toy_videos, place):
    visitors = [Visitor(browser, address) for _ in range(2)]
    for somebody, shown in zip(visitors, toy_videos.videos[1:3], strict=True):
        somebody.upload(shown.path)
        somebody.tab.click("#start")
    for somebody, shown in zip(visitors, toy_videos.videos[1:3], strict=True):
        somebody.tab.wait_for_selector("#status details")
        assert somebody.playing("src").endswith(shown.path.name)
    first = toy_videos.videos[1].path.stem
    assert list(place.rglob(f"{first}*"))
    visitors[0].leave()
    for _ in range(100):
        time.sleep(0.1)
        if not [path for path in place.rglob(f"{first}*") if path.is_file()]:
            break
    else:
        raise AssertionError("the files of a visitor who left are still there")
    assert list(place.rglob(f"{toy_videos.videos[2].path.stem}-actions.mp4")), "the other one's stay"
    visitors[1].leave()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_either_light(browser, address, clip, scheme):
    somebody = Visitor(browser, address, 375, color_scheme=scheme)
    somebody.upload(clip)
    somebody.find()
    wide = somebody.tab.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375, "nothing reaches beyond the screen"
    lights = """() => ['#player td', '#status p', '.hint p'].map((one) => {
        const element = document.querySelector(one);
        let behind = element;
        while (behind && /, 0\\)$|transparent/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
        return [getComputedStyle(element).color, behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)'];
    })"""
    for ink, paper in somebody.tab.evaluate(lights):
        assert contrast(ink, paper) >= 4.5, (ink, paper)
    somebody.leave()


def contrast(first: str, second: str) -> float:
    """Of two colours as CSS gives them (WCAG 2)."""

    def luminance(colour: str) -> float:
        numbers = [float(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_looking_inside_shows_two_models_side_by_side(result):
    result.tab.get_by_role("tab", name="Look inside").click()
    result.tab.click("#look")
    result.tab.wait_for_selector("#inside section >> nth=1")
    text = result.tab.inner_text("#inside")
    assert "with MSM, with SFM" in text and "without MSM, without SFM" in text and "Nobody labelled your video" in text
    result.tab.get_by_role("tab", name="Detect").click()


def test_the_camera_is_watched_live(visitor):
    visitor.tab.get_by_role("tab", name="Live").click()
    visitor.tab.click("#live .go")
    visitor.tab.wait_for_function("document.querySelector('#live .speed').innerText.includes('ms from camera to box')")
    visitor.tab.wait_for_function("document.querySelectorAll('#live .bar').length > 0")
    visitor.tab.click("#live .go")
    assert visitor.tab.inner_text("#live .go") == "Start the camera"
