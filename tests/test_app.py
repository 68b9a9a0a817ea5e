"""The page over its API, on this machine, with tiny networks; its browser tests are in test_page_browser.py."""

import base64
import csv
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio.utils import diff
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import apply_diff
from page_server import eventually, save_models, serve
from PIL import Image

import app
from mssc import page, video
from mssc.detection import people, pipeline
from mssc.detection.lanes import Lanes
from mssc.detection.result import VideoResult
from mssc.model import shipped
from mssc.page import answers, detection, guard, layout, limits, offer, playable, share, visits
from mssc.structures import Detections, InputError, Tube
from mssc.video import drawing

ROOT = Path(app.__file__).parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def models(tiny_config, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), tiny_config)


@pytest.fixture(scope="module")
def address(place, models):
    with serve(place, models) as url:
        yield url
    assert not [path for path in place.rglob("*") if path.is_file()], "uploads and results are gone"


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def clip(toy_videos):
    return toy_videos.videos[0].path


def ask(client: Client, path, threshold: float = 0.05, model: str = "big"):
    return client.predict(path and handle_file(path), model, threshold, api_name="/detect")


def results(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file() and ("-actions" in path.name or path.suffix == ".part")]


# -------------------------------------------------------------------- what it answers


def test_a_video_gives_what_the_pipeline_finds(client, clip, models):
    found, drawn, table = ask(client, clip)
    wanted = pipeline.detect_video(clip, models["big"], 0.05).to_json()
    assert len(found["tubes"]) == len(wanted["tubes"]) > 0
    assert {key: found[key] for key in ("frames", "width", "height", "threshold", "model")} == {
        "frames": wanted["frames"],
        "width": 64,
        "height": 48,
        "threshold": 0.05,
        "model": "big",
    }
    for ours, theirs in zip(found["tubes"], wanted["tubes"], strict=True):
        assert (ours["action"], ours["start_frame"]) == (theirs["action"], theirs["start_frame"])
        np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=0.5)
    assert Path(drawn).name.endswith("-actions.mp4") and len(list(video.read(drawn))) == wanted["frames"]
    assert len(Path(table).read_text().splitlines()) == 1 + len(found["tubes"])


def test_no_action_gives_no_tube(client, clip):
    assert ask(client, clip, 0.99)[0]["tubes"] == []


def test_the_endpoints_have_names_and_say_what_they_take(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) >= {"/detect", "/models"}
    assert [p["parameter_name"] for p in named["/detect"]["parameters"]] == ["video", "model", "threshold"]
    assert [p.get("parameter_default") for p in named["/detect"]["parameters"]][1:] == ["big", 0.05]
    assert "who does what" in named["/detect"]["description"]
    answer = client.predict(api_name="/models")
    assert (
        [model["name"] for model in answer] == ["big", "plain"]
        and answer[0]["threshold"] == 0.05
        and len(answer[0]["actions"]) == 6
    )


# -------------------------------------------------------------------- bad input: always a sentence


def long_video(folder: Path, hours: float) -> Path:
    with video.Writer(folder / "long.mp4", 64, 48, Fraction(10)) as writer:
        for seconds in np.arange(2 * hours + 1) * 1800.0:
            writer.write(np.zeros((48, 64, 3), np.uint8), seconds)
    return folder / "long.mp4"


def large_video(folder: Path) -> Path:
    with av.open(str(folder / "8k.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(7680, 4320, "yuvj420p")))
        container.mux(stream.encode(None))
    return folder / "8k.mkv"


def bad_file(folder: Path, kind: str) -> Path:
    if kind == "four hours":
        return long_video(folder, 4)
    if kind == "8K":
        return large_video(folder)
    contents = {
        "text": b"not a video at all",
        "picture": b"\xff\xd8\xff\xe0" + bytes(range(256)),
        "empty": b"",
        "renamed zip": b"PK\x03\x04" + bytes(range(256)) * 8,
        "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "list": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    }
    (folder / "video.mp4").write_bytes(contents[kind])
    return folder / "video.mp4"


SENTENCES = {
    "four hours": "^long.mp4: is 4 h 0 min long; the limit is 5 minutes",
    "8K": "^8k.mkv: is 7680x4320; the limit is 4096 pixels a side. Scale it down first.$",
    "text": "^video.mp4: is a text file, not a video",
    "picture": "^video.mp4: is a picture, not a video",
    "empty": "^video.mp4: is empty|^.*empty",
    "renamed zip": "^video.mp4: is not a video that can be read",
    "playlist": "^video.mp4: is an HLS playlist, not a video; give the video file itself.$",
    "list": "^video.mp4: is a list of files to join, not a video; give the video file itself.$",
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_bad_file_is_answered_with_a_sentence(client, tmp_path, place, kind):
    before = set(results(place))
    with pytest.raises((AppError, ValueError), match=SENTENCES[kind]) as answer:
        ask(client, bad_file(tmp_path, kind))
    assert str(place) not in str(answer.value) and "Traceback" not in str(answer.value)
    assert set(results(place)) == before


def test_a_video_that_hides_its_length_is_stopped_on_the_way(client, clip, monkeypatch, place):
    before = set(results(place))
    monkeypatch.setattr(limits, "MAX_FRAMES", 5)
    monkeypatch.setattr(detection, "check_upload", lambda path: None)
    with pytest.raises(AppError, match="frames long; the limit is 5 minutes .or 5 frames."):
        ask(client, clip)
    assert set(results(place)) == before


def test_unknown_models_and_no_video_are_refused(client, clip):
    for model in ("nonsense", "../../assets/models/jhmdb", "/etc", "big\0"):
        with pytest.raises(AppError, match="choices|no model"):
            ask(client, clip, model=model)
    with pytest.raises(AppError, match="^Choose or record a video first.$"):
        ask(client, None)


@pytest.mark.parametrize(
    "path", [__file__, "/etc/passwd", "../../../../etc/passwd", "http://127.0.0.1:9/video.mp4", "file:///etc/passwd"]
)
def test_files_of_the_server_and_addresses_are_refused(address, path):
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "big", 0.3]
    event = httpx.post(f"{address}gradio_api/call/detect", json={"data": data}).json()["event_id"]
    answer = httpx.get(f"{address}gradio_api/call/detect/{event}", timeout=20).text
    assert "event: error" in answer and "root:" not in answer and "event: complete" not in answer
    assert httpx.get(f"{address}gradio_api/file={path}").status_code in (400, 403, 404)


def test_a_bug_says_nothing_about_the_server_and_does_not_stop_it(client, clip, monkeypatch, place):
    def broken(path, *_):
        raise RuntimeError(f"a secret of {path}")

    before = set(results(place))
    with monkeypatch.context() as patch:
        patch.setattr(detection, "detect_steps", broken)
        with pytest.raises(AppError) as answer:
            ask(client, clip)
    assert "secret" not in str(answer.value) and "Traceback" not in str(answer.value)
    assert set(results(place)) == before
    assert ask(client, clip)[0]["tubes"]


def event(**data) -> gr.EventData:
    return gr.EventData(None, data)


ANNA = SimpleNamespace(session_hash="anna")


@pytest.mark.parametrize(
    "path", [__file__, "/etc/passwd", "../../etc/passwd", "http://127.0.0.1:9/video.mp4", 7, None, {"path": "x"}]
)
def test_the_pages_own_requests_reach_no_other_file(place, path):
    for answer in (answers.look(event(key="k", path=path), ANNA)["about"], answers.copy(event(key="k", path=path), ANNA)["copy"]):
        assert answer["key"] == "k" and ("not uploaded here" in answer["error"] or "Choose or record" in answer["error"])
    (told,) = answers.find(event(job="j", path=path, models=["big"]), ANNA)
    assert told["error"] and not told["runs"]
    assert "error" in next(answers.find(event(job="j", example="../models/toy/config.json", models=["big"]), ANNA))


def test_a_copy_that_browsers_play_has_the_same_frames_at_the_same_times(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(playable, "MAX_COPY_SIDE", 32)
    playable.make_playable(str(clip), tmp_path / "copy.mp4", lambda: True)
    frames, wanted = list(video.read(tmp_path / "copy.mp4")), list(video.read(clip))
    np.testing.assert_allclose([frame.time for frame in frames], [frame.time for frame in wanted], atol=1e-3)
    assert frames[0].image.shape == (24, 32, 3)
    with pytest.raises(InputError):
        playable.make_playable(str(clip), tmp_path / "other.mp4", lambda: False)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.mp4"]


# -------------------------------------------------------------------- a full disk, a crowd, and those who leave


def test_answers_to_clients_stay_for_an_hour_at_most(clip, models, place, monkeypatch):
    monkeypatch.setattr(offer, "OWN", models)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    upload = Path(visits.get_upload_folder(), "x", clip.name)
    upload.parent.mkdir(parents=True)
    shutil.copy(clip, upload)
    zoe = SimpleNamespace(session_hash="zoe-the-client")
    _, *files = answers.detect(str(upload), "big", 0.05, zoe)
    assert {path.name for path in Path(files[0]).parent.iterdir()} == {Path(file).name for file in files}, "and no JSON"
    before = set(results(place))
    answers.look_inside(str(upload), "big", 0.05, 0, None, zoe)
    assert set(results(place)) == before
    monkeypatch.setattr(visits, "KEEP_SECONDS", -1)
    visits.forget("zoe", visits.new_folder("zoe"))
    assert not Path(files[0]).parent.exists()
    shutil.rmtree(upload.parent)


def test_a_full_disk_is_said_before_the_upload_and_before_the_work(client, clip, address, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(guard, "FREE_MB", 10**12)
        answer = httpx.post(f"{address}gradio_api/upload", files={"files": ("a.mp4", clip.read_bytes())})
        assert answer.status_code == 507 and answer.text == limits.DISK_FULL
    monkeypatch.setattr(limits, "FREE_MB", 10**12)
    with pytest.raises(AppError, match="disk is full"):
        ask(client, clip)


def test_a_disk_that_fills_up_on_the_way_is_said_and_leaves_nothing(client, clip, monkeypatch, place):
    before = set(results(place))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video.Writer, "_to_yuv", lambda self, image: (_ for _ in ()).throw(InputError("the disk is full.")))
    with pytest.raises(AppError, match="disk is full"):
        ask(client, clip)
    assert set(results(place)) == before


def upload_by_hand(address: str, size: int) -> socket.socket:
    """A connection over which an upload of so many bytes has begun."""
    lines = ["POST /gradio_api/upload HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=b"]
    host, port = re.findall(r"//([\d.]+):(\d+)", address)[0]
    line = socket.create_connection((host, int(port)), 10)
    line.sendall("\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode())
    return line


def test_a_file_that_is_too_large_is_refused_before_it_is_read(address):
    with upload_by_hand(address, 600 * 2**20) as line:
        answer = b"".join(iter(lambda: line.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 413") and "500 MB" in answer


def test_an_upload_that_breaks_off_leaves_nothing(address, place, caplog):
    def large() -> list[Path]:
        return [path for path in place.rglob("*") if path.is_file() and path.stat().st_size > 2**19]  # some is in a buffer

    part = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    with upload_by_hand(address, 8 * 2**20) as line:
        line.sendall(part.encode() + bytes(2**20))
        eventually(large)
    eventually(lambda: not large())
    assert not caplog.records, "nothing for who reads the server's log"


@pytest.fixture
def gate(monkeypatch):
    """Work stops at its second step until the gate opens."""
    opened, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def slowly(*arguments):
        try:
            for step in pipeline.detect_steps(*arguments):
                yield step
                begun.set()
                opened.wait(0.05) if not opened.is_set() else None
        finally:
            ended.set()

    monkeypatch.setattr(detection, "detect_steps", slowly)
    monkeypatch.setattr(detection, "TELL_SECONDS", 0.0)
    yield opened, begun, ended
    opened.set()


def test_of_twenty_requests_at_once_those_beyond_the_queue_are_told_to_come_back(client, clip, gate):
    file = handle_file(clip)
    jobs = [client.submit(file, "big", 0.05, api_name="/detect") for _ in range(20)]
    time.sleep(1)
    gate[0].set()
    answers = []
    for job in jobs:
        try:
            answers.append(job.result(timeout=120)[0]["frames"])
        except Exception as error:
            answers.append(str(error))
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert all("ueue is full" in answer for answer in refused), refused
    assert limits.MAX_WAITING <= len(answers) - len(refused) < 20


def test_who_leaves_stops_the_work_and_takes_the_files_along(address, clip, gate, place, tmp_path):
    opened, begun, ended = gate
    before = set(results(place))
    leaver = Client(address, verbose=False, download_files=tmp_path)
    leaver.submit(handle_file(clip), "big", 0.05, api_name="/detect")
    assert begun.wait(20)
    visits.leave(leaver.session_hash)  # what the page's unload event does
    assert ended.wait(20), "the work ends"
    time.sleep(0.2)
    assert set(results(place)) == before


def test_what_is_written_while_a_visitor_leaves_goes_with_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(visits, "get_upload_folder", lambda: str(tmp_path))
    folder = visits.new_folder("somebody")
    visits.leave("somebody")
    assert not folder.exists()
    folder.mkdir()  # as if it was being written into while it was removed
    (folder / "a-actions.json").write_text("{}")
    visits.forget("somebody", folder)  # the end of the work
    assert not list(tmp_path.iterdir())


def test_files_are_removed_when_their_last_user_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    folder = visits.new_folder("anna")
    (folder / "result.json").write_text("{}")
    shared, outside = folder.parent / "upload.mp4", tmp_path / "outside.mp4"
    for path in (shared, outside):
        path.write_text("video")
    for session, path in (("anna", shared), ("ben", shared), ("anna", outside), (None, shared)):
        visits.note(session, path)
    visits.leave("anna")
    assert not folder.exists() and shared.exists() and outside.exists() and visits.has_left("anna")
    visits.note("anna", None)
    with pytest.raises(InputError, match="You left before the end"):  # what she asked for before comes late
        visits.new_folder("anna")
    late = folder.parent / "late.mp4"
    late.write_text("video")
    visits.note("anna", late)
    assert not late.exists()
    monkeypatch.setattr(visits, "BACK_SECONDS", -1.0)
    visits.note("anna", None)
    assert not visits.has_left("anna"), "a connection that comes back"
    visits.leave("ben")
    assert not shared.exists()


def test_a_lost_connection_costs_no_result_if_it_comes_back_soon(tmp_path, monkeypatch, seen):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(visits, "GRACE_SECONDS", 60.0)
    kept, lost = (visits.new_folder(name) / "result.json" for name in ("kim", "lea"))
    for file, name in ((kept, "kim"), (lost, "lea")):
        file.write_text("{}")
        visits.keep(name, "j", [seen])
        visits.leave(name)
    assert kept.exists() and lost.exists() and visits.has_left("kim") and visits.has_left("lea")
    visits.back(str(kept))  # the page asks for its file now and then
    assert not visits.has_left("kim") and visits.has_left("lea")
    visits._clear()
    assert kept.exists() and lost.exists() and visits.kept("kim", "j")
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    visits._clear()
    assert not lost.parent.exists() and not visits.kept("lea", "j")
    assert not kept.parent.exists() and not visits.kept("kim", "j") and visits.has_left("kim"), "who is silent has gone, unheard"


def test_a_file_that_was_given_twice_goes_with_its_visitor(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    upload = visits.new_folder("eva").parent / "twice.mp4"
    for _ in range(2):
        upload.write_bytes(b"film")
        os.utime(upload)
        visits.note("eva", upload)
        time.sleep(1.2)  # longer than what a clock may be off
    visits.leave("eva")
    assert not upload.exists()


def test_what_somebody_has_uploaded_again_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    upload = visits.new_folder("hugo").parent / "upload.mp4"
    upload.write_text("video")
    monkeypatch.setattr(visits.time, "time", lambda: upload.stat().st_ctime - 60)  # hugo's was a minute before
    visits.note("hugo", upload)
    visits.leave("hugo")
    assert upload.exists(), "a client in the queue, of whom nothing is known yet, still needs it"


# -------------------------------------------------------------------- what is shown


def result(tubes, people=(), frames=20) -> VideoResult:
    info = video.VideoInfo(Path("walk.mp4"), 64, 48, Fraction(10), frames, frames / 10)
    times = [index / 10 for index in range(frames)]
    spent = {"network": 0.4, "decode": 0.1}
    return VideoResult(info, ("stand", "wave_hand"), tubes, [], times, spent, "big", 0.3, people=list(people))


BOX = np.tile([2.04, 2, 30, 40], (20, 1))
TUBES = [Tube(0, 0.8, 0, BOX), Tube(1, 0.6, 5, BOX[:10] + 30, np.linspace(0, 1, 10))]


PEOPLE = [people.Person(Tube(2, 0.9, 0, BOX), [(1, 0.6), (0, 0.3)])]


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_page_is_told_boxes_times_and_people():
    told = detection.describe(result(TUBES, PEOPLE))
    assert told["size"] == [64, 48] and told["duration"] == 2.0
    np.testing.assert_allclose(numbers(told["times"], "<f4")[:3], [0, 0.1, 0.2])
    first, second = told["tubes"]
    assert (first["actor"], second["actor"], second["label"], second["first"], second["best"]) == (1, 2, 1, 5, 14)
    boxes = numbers(second["boxes"], "<u2").reshape(-1, 4) / 65535 * [64, 48, 64, 48]
    assert len(boxes) == 10 and np.abs(boxes[0] - [32.04, 32, 60, 48]).max() < 0.01, "cut to the frame"
    (person,) = told["people"]
    assert person["actor"] == 1 and person["likeliest"] == [[1, 0.6], [0, 0.3]], "who does the first action"
    json.dumps(told)


def test_an_actor_has_one_number_everywhere(clip, tmp_path, models, monkeypatch):
    """Somebody who does nothing sure is there from the beginning, an actor comes later."""
    monkeypatch.setattr(offer, "OWN", models)
    boxes, labels = np.array([[2, 2, 22, 40], [40, 2, 60, 40]]), np.array([0, 1])

    def first_pass(stream, info, times, linker, stopwatch):
        for frame in range(info.frames):
            times.append(frame / float(info.rate))
            here = slice(1 if frame < 4 else 2)
            yield linker.step(Detections(boxes[here], labels[here], np.array([0.45, 0.9])[here]))

    monkeypatch.setattr(pipeline, "_first_pass", first_pass)
    draw, labelled = video.drawing.draw, set()
    monkeypatch.setattr(
        video.drawing,
        "draw",
        lambda *drawn: labelled.update(zip(drawn[1].labels.tolist(), drawn[3], strict=True)) or draw(*drawn),
    )
    *_, last = detection.work(str(clip), "big", 0.5, str(tmp_path), drawn=True)
    file = Path(last.run["json"])
    written, told = json.loads(file.read_text()), last.run["found"]
    assert written == last.result and pipeline.detect_video(clip, models["big"], 0.5).to_json() == written
    for kinds in (written, told):
        assert ([row["actor"] for row in kinds["tubes"]], [row["actor"] for row in kinds["people"]]) == ([2], [1, 2])
    with file.with_suffix(".csv").open(newline="") as table:
        assert [row["actor"] for row in csv.DictReader(table)] == ["2"]
    assert labelled == {(1, 2)}
    labelled.clear()
    alone = last.seen.only(0.5, people=False)
    list(share.make("whole", [alone], 0, tmp_path / "shared.mp4"))
    assert labelled == {(1, 2)} and alone.numbers == ([2], []) and last.seen.only(0.95).numbers == ([], [1, 2])


def test_first_tubes_come_before_the_end(clip, tmp_path, models, monkeypatch):
    monkeypatch.setattr(offer, "OWN", models)
    monkeypatch.setattr(detection, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(detection, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr("mssc.detection.detector.FRAMES_AT_ONCE", 4)
    messages = list(detection.work(str(clip), "big", 0.05, str(tmp_path), drawn=True))
    early = [m.run["found"] for m in messages if m.run["phase"] == "looking" and m.run["found"]]
    assert any(found["tubes"] for found in early) and len(early[0]["times"]) < len(messages[-1].run["found"]["times"])
    versions = [m.run["version"] for m in messages]
    assert versions == sorted(versions) and len(set(versions)) > 2
    assert [m.result is not None for m in messages] == [False] * (len(messages) - 1) + [True]
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json", ".csv"}
    assert json.loads(next(tmp_path.glob("*.json")).read_text()) == messages[-1].result
    assert messages[-1].run["phase"] == "done" and messages[-1].seen.times == pipeline.detect_video(clip, models["big"]).times


def test_what_gradio_makes_of_messages_is_what_was_sent(monkeypatch):
    """It sends differences, which are wrong where lists in lists become shorter (6.31)."""
    many, few = ([{"score": n / 20, "boxes": "A" * n} for n in range(count)] for count in (18, 6))
    runs = [{"phase": phase, "found": {"tubes": tubes}} for phase, tubes in (("looking", many), ("done", few[::-1]))]
    monkeypatch.setattr(answers, "_work", lambda *args: (detection.Message(run) for run in runs))
    sent = list(answers.find(event(job="j", example="toy-two.mp4", models=["big"]), ANNA))
    heard = apply_diff([sent[0]], diff([sent[0]], [sent[1]]))
    assert json.loads(heard[0]["runs"][0]["found"])["tubes"] == few[::-1]


def test_who_cancels_between_two_models_keeps_the_first(monkeypatch, seen):
    def work(*_):
        yield detection.Message({"phase": "done"}, {}, seen)
        visits.cancel("between")

    monkeypatch.setattr(answers, "_work", work)
    visitor = SimpleNamespace(session_hash="between")
    *_, last = answers.find(event(job="between", example="toy-two.mp4", models=["big", "small"]), visitor)
    assert [run["phase"] for run in last["runs"]] == ["stopped"] and visits.kept("between", "between")


def test_what_the_page_is_told_is_above_a_threshold_where_the_result_is(seen):
    near = replace(seen, tubes=[replace(seen.tubes[0], score=0.2996)], people=[])
    assert detection.describe(near)["tubes"][0]["score"] < 0.3 and not near.only(0.3).tubes


def test_a_filter_shows_what_a_run_at_that_threshold_would_find(clip, tmp_path, models, monkeypatch):
    monkeypatch.setattr(offer, "OWN", models)
    *_, last = detection.work(str(clip), "big", detection.LOWEST, str(tmp_path))
    middle = float(np.median([tube.score for tube in last.seen.tubes]))
    found = pipeline.detect_video(clip, models["big"], middle).tubes
    shown = last.seen.only(middle).tubes
    assert 0 < len(shown) < len(last.seen.tubes)
    assert [(t.label, t.start, t.score) for t in shown] == [(t.label, t.start, t.score) for t in found]


def test_stopping_keeps_what_was_found_and_leaving_leaves_no_file(clip, tmp_path, models, monkeypatch):
    monkeypatch.setattr(offer, "OWN", models)
    monkeypatch.setattr(detection, "TELL_SECONDS", 0.0)
    monkeypatch.setattr("mssc.detection.detector.FRAMES_AT_ONCE", 2)
    work = detection.work(str(clip), "big", 0.05, str(tmp_path))
    for _ in range(10):
        next(work)
    (tmp_path / "stop").touch()
    *_, last = work
    frames = len(last.seen.times)
    assert last.run["phase"] == "stopped" and frames == last.run["done"] == last.result["frames"] < 14
    assert last.seen.people and Path(last.run["json"]).exists()
    (tmp_path / "other").mkdir()
    work = detection.work(str(clip), "big", 0.05, str(tmp_path / "other"), drawn=True)
    for _ in range(20):
        next(work)
    work.close()
    assert not list((tmp_path / "other").iterdir())


@pytest.fixture(scope="module")
def seen(clip, models, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offer, "OWN", models)
        *_, last = detection.work(str(clip), "big", detection.LOWEST, str(tmp_path_factory.mktemp("seen")))
    return last.seen


@pytest.mark.parametrize("kind", [kind for kind in share.SUFFIXES if kind not in share.COLUMNS])
def test_a_clip_to_share_shows_the_boxes_and_a_timeline(seen, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(share, "CLIP_SECONDS", 0.3)
    target = tmp_path / f"x{share.SUFFIXES[kind]}"
    one = seen.only(0.05, [seen.classes[seen.tubes[0].label]])
    assert 0 < len(one.tubes) < len(seen.tubes)
    list(share.make(kind, [one], 0.3, target))
    frames = list(video.read(target))
    assert video.is_drawn(target) == (kind != "gif") and frames[0].image.shape[1] == 64
    if kind == "whole":
        assert len(frames) == len(seen.times) and frames[0].image.shape[0] == 48
    else:
        assert frames[0].image.shape[0] > 48 and len(frames) <= (9 if kind == "clip" else 4), "a timeline below, 0.3 s"
    list(share.make("clip", [one, one], 0.3, tmp_path / "two.mp4"))
    assert video.probe(tmp_path / "two.mp4").width == 128, "two models side by side"


def test_a_gif_takes_as_long_as_its_frames(seen, tmp_path):
    with share._writer(tmp_path / "slow.gif", seen, False) as write:
        stripes = np.repeat(np.arange(0, 240, 30, np.uint8)[None, :, None], 8, 0).repeat(3, 2)
        for shift, moment in ((0, 3.0), (2, 3.5), (4, 3.75)):
            write(np.roll(stripes, shift, 1), moment)
    with Image.open(tmp_path / "slow.gif") as film:
        assert [film.seek(number) or film.info["duration"] for number in range(film.n_frames)] == [500, 250, 250]


def test_who_is_not_shown_is_not_shared(seen):
    somebody = replace(seen, people=[people.Person(seen.tubes[0], [])])
    assert somebody.only(0.05).people and not somebody.only(0.05, people=False).people


def test_a_clip_between_two_frames_shows_the_one_before(seen, clip, tmp_path):
    slow = [10.0 * index for index in range(len(seen.times))]
    info = replace(seen.info, rate=Fraction(1, 10))
    for kind in ("clip", "gif"):
        list(share.make(kind, [replace(seen, info=info, times=slow)], 15.0, tmp_path / f"x{share.SUFFIXES[kind]}"))
    with Image.open(tmp_path / "x-clip.gif") as film:
        assert getattr(film, "n_frames", 1) == 1


def test_a_tube_that_begins_where_the_clip_ends_is_drawn(seen):
    late = Tube(0, 0.9, len(seen.times) - 1, seen.tubes[0].boxes[:1])
    shown, span = replace(seen, tubes=[late], people=[]), (seen.times[0], seen.times[-1])
    lanes = Lanes.of(shown, *span)
    assert lanes.rows and share._strip(shown, 200, *span, lanes, lanes.count, "").width == 200


def test_sound_and_picture_begin_as_they_did(seen, clip, tmp_path, monkeypatch):
    frames = [frame.image for frame in video.read(clip)]
    with video.Writer(tmp_path / "late.mp4", 64, 48, 25) as writer:
        for index, image in enumerate(frames):
            writer.write(image, 1 + index / 25)
    late = replace(
        seen, info=video.probe(tmp_path / "late.mp4"), times=[frame.time for frame in video.read(tmp_path / "late.mp4")]
    )
    assert late.times[0] == pytest.approx(1)
    list(share.make("whole", [late], 0, tmp_path / "shared.mp4"))
    assert next(iter(video.read(tmp_path / "shared.mp4"))).time == pytest.approx(1)


def test_pixels_that_are_not_square_are_shared_as_they_are_shown(clip, seen, tmp_path):
    frames = [frame.image for frame in video.read(clip)]
    height, width = frames[0].shape[:2]
    with video.Writer(tmp_path / "wide.mp4", width, height, 25, Fraction(2)) as writer:
        for index, image in enumerate(frames):
            writer.write(image, index / 25)
    wide = replace(seen, info=video.probe(tmp_path / "wide.mp4"))
    for kind in ("whole", "gif"):
        list(share.make(kind, [wide], 0, tmp_path / f"shared{share.SUFFIXES[kind]}"))
    assert (info := video.probe(tmp_path / "shared-actions.mp4")).width == 2 * width and info.height == height
    with Image.open(tmp_path / "shared-clip.gif") as film:
        assert film.width == 2 * width


def test_figures_have_names_that_latex_takes():
    assert share.plain('<b>x & "y" #1 %41?é') == "b-x-y-1-41" and share.plain("日本") == "video"


def test_a_shared_timeline_hides_nothing_that_the_page_shows(seen):
    def tube(label, start, stop, score):
        return Tube(label, score, start, np.tile(seen.tubes[0].boxes[:1], (stop - start, 1)))

    both = [tube(0, 0, 10, 0.6), tube(1, 2, 12, 0.3), tube(0, 12, 14, 0.5)]
    alone = replace(seen, tubes=both, people=[people.Person(tube(len(seen.classes), 0, 14, 0.9), [])])
    timeline = Lanes.of(alone, 0, 9)
    assert [(number, [one.label for one in row]) for number, row in timeline.rows] == [
        (1, [0, 0]),
        (1, [1]),
    ] and not timeline.more
    strip = share._strip(alone, 200, seen.times[0], seen.times[-1], timeline, timeline.count, "")
    colours = {strip.getpixel((60, y)) for y in range(strip.height)}
    assert colours >= {tuple(colour) for colour in drawing.class_colours(seen.classes)[:2]} | {tuple(drawing.GREY)}
    off = Lanes.of(alone.only(0.05, list(seen.classes[:2]), people=False), 0, 9)
    assert (off.rows, off.count) == ([], 1)


def test_a_video_without_anybody_can_be_shared_and_a_tab_closed_meanwhile_leaves_nothing(seen, tmp_path):
    nobody = replace(seen, tubes=[], people=[])
    list(share.make("gif", [nobody], 0, tmp_path / "nobody.gif"))
    work = share.make("clip", [nobody], 0, tmp_path / "left.mp4")
    next(work)
    work.close()
    assert [path.name for path in tmp_path.iterdir()] == ["nobody.gif"]


def test_what_cannot_be_shared_is_said(seen, place, monkeypatch):
    zoe = SimpleNamespace(session_hash="zoe")

    def asked(**data):
        wanted = {"key": "k", "kind": "clip", "job": "j", "threshold": 0.3, "moment": 0, "off": []} | data
        return [answer["made"] for answer in answers.make(event(**wanted), zoe)][-1]

    assert "not here any more" in asked()["error"]
    visits.keep("zoe", "j", [seen])
    assert "not here any more" in asked(job="other")["error"] and "choose one of: whole, clip, gif" in asked(kind="exe")["error"]
    for wrong in ({"threshold": "0.3"}, {"moment": None}, {"off": "walk"}):
        assert "reload the page" in asked(**wrong)["error"]
    monkeypatch.setattr(visits, "GRACE_SECONDS", 0.0)
    visits.leave("zoe")
    assert "not here any more" in asked()["error"]


def test_the_page_is_told_no_folders():
    assert limits.without_folders(InputError("/a/b/c.mp4: is bad."), "/a/b/c.mp4") == "c.mp4: is bad."


@pytest.mark.parametrize(("seconds", "said"), [(7.4, "7 s"), (125, "2 min 5 s"), (14400, "4 h 0 min")])
def test_seconds_as_a_person_says_them(seconds, said):
    assert limits.clock(seconds) == said


# -------------------------------------------------------------------- the page as a whole


def test_the_page_asks_no_other_site(address):
    config = httpx.get(address + "config").json()
    assert httpx.get(address + "picture.png").headers["content-type"] == "image/png"
    assert 'property="og:title"' in httpx.get(address).text
    assert not config["analytics_enabled"] and not config["run_history"] and config["max_file_size"] == 500 * 2**20
    assert config["stylesheets"] == []  # where a theme's web fonts would be
    loads = r"""<(?:script|link|img)[^>]*(?:src|href)=["'](?:https?:)?//(?!127\.0\.0\.1)|@import|url\(["']?https?:"""
    for text in (httpx.get(address).text, httpx.get(address + "theme.css").text):
        assert not re.findall(loads, text)
    for file in (ROOT / "mssc" / "page").glob("*.[hcj]*s*"):
        assert not re.findall(r"https?://|@import", file.read_text()), file


def test_the_limits_are_on_the_page(address):
    assert limits.LIMITS in json.dumps(httpx.get(address + "config").json(), ensure_ascii=False)


def test_each_model_brings_its_threshold_and_says_what_it_knows(models, monkeypatch):
    monkeypatch.setattr(offer, "OWN", models)
    told = offer.painted("big")
    assert told["threshold"] == 0.05 and len(told["actions"]) == len(told["colours"]) == 6 and told["licence"] == ""
    (models["big"] / "README.md").write_text("| licence | MIT |\n")
    assert offer.offered("big")["licence"] == "MIT"
    monkeypatch.setattr(offer, "OWN", {folder.name: folder for folder in (ROOT / "assets" / "models").iterdir()})
    assert all(offer.offered(name)["licence"] for name in offer.OWN), "of those that ship"


def test_the_queue_is_bounded_and_one_video_is_worked_on_at_a_time():
    blocks = layout.build(shipped.default_model())
    assert blocks._queue.max_size == limits.MAX_WAITING
    for what in ("model", "inside"):
        assert {fn.concurrency_limit for fn in blocks.fns.values() if fn.concurrency_id == what} <= {1, "default"}


@pytest.fixture
def launched(monkeypatch):
    seen = {}

    def launch(blocks, server_port=None, **options):
        seen.update(options, port=server_port, folder=Path(tempfile.gettempdir()), cache=Path(blocks.GRADIO_CACHE))
        (seen["folder"] / "left").touch()

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(gr.Blocks, "block_thread", lambda blocks: seen.update(stayed=True))
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)  # put back afterwards
    monkeypatch.setattr(offer, "OWN", {})
    return seen


def test_main_keeps_its_files_in_one_folder_and_removes_it(launched):
    app.main(["--port", "7999"])
    assert launched["port"] == 7999 and launched["folder"].name.startswith("mssc-") and launched["share"] is False
    assert launched["cache"].is_relative_to(launched["folder"]) and not launched["folder"].exists()
    assert launched["mcp_server"] is False and launched["stayed"]


def test_main_ends_quietly_when_it_is_stopped_while_the_model_loads(launched, monkeypatch):
    def stopped(model):
        raise KeyboardInterrupt

    monkeypatch.setattr(app.page, "ready", stopped)
    app.main([])
    assert not launched["folder"].exists() and "stayed" not in launched


def test_main_offers_the_folders_that_are_named(launched, models):
    app.main(["--model", str(models["big"]), str(models["plain"])])
    assert offer.names()[:2] == ["big", "plain"]


def test_two_folders_of_one_name_are_told_apart(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(offer, "OWN", {})
    folders = [save_models(tmp_path / where, tiny_config)["big"] for where in ("a", "b")]
    assert [offer.add_model(folder) for folder in (*folders, folders[0])] == ["big", "big 2", "big"]


def test_mcp_without_its_package_is_said(launched, monkeypatch, capsys):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        app.main(["--mcp"])
    assert end.value.code == 2 and "pip install 'gradio[mcp]'" in capsys.readouterr().err
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: object())
    app.main(["--mcp"])
    assert launched["mcp_server"] is True


def test_main_without_a_model_ends_with_a_sentence(launched, monkeypatch, capsys):
    def nothing():
        raise InputError("there is no model in assets/models; train one with `mssc train`.")

    monkeypatch.setattr(app, "default_model", nothing)
    with pytest.raises(SystemExit) as end:
        app.main([])
    assert end.value.code == 2 and "there is no model" in capsys.readouterr().err


def test_a_lent_gpu_is_asked_for_before_torch_is_there(tmp_path):
    (tmp_path / "spaces.py").write_text("import sys; sys.exit(3 if 'torch' in sys.modules else 0)")
    run = subprocess.run([sys.executable, "-c", "import app"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert run.returncode == 0


def test_on_a_lent_gpu_the_work_is_wrapped_and_of_plain_values(clip, tmp_path, models, monkeypatch):
    asked = []

    class Spaces:
        @staticmethod
        def GPU(duration):
            asked.append(duration)
            return lambda function: function

    monkeypatch.setattr(offer, "spaces", Spaces)
    monkeypatch.setattr(offer, "OWN", models)
    assert offer.on_gpu(detection.work) is detection.work and asked == [offer.GPU_SECONDS]
    for message in detection.work(str(clip), "big", 0.05, str(tmp_path)):
        pickle.loads(pickle.dumps(message))  # it comes from another process


@pytest.mark.parametrize("name", layout.EXAMPLE_FILES)
def test_examples_are_there_and_within_the_limits(name):
    info = limits.check_upload(layout.EXAMPLES / name)
    assert info.duration < 10 and (layout.EXAMPLES / name).stat().st_size < 200_000


def test_the_front_matter_fits_what_is_installed():
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    front = (ROOT / "README.md").read_text().split("---")[1]
    matter = dict(re.findall(r'^(\w+): "?(.*?)"?$', front, re.M))
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "app_file", "license"} <= set(matter)
    assert matter["sdk"] == "gradio" and (ROOT / matter["app_file"]).samefile(app.__file__)
    needs = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line]
    wanted = next(need.specifier for need in needs if need.name == "gradio")
    assert gr.__version__ in wanted and matter.get("sdk_version", gr.__version__) in wanted
    python = re.findall(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())[0]
    assert matter["python_version"] in SpecifierSet(python)


def test_the_page_module_offers_what_app_needs():
    assert {"build", "add_model", "LAUNCH"} <= set(page.__all__)
