"""The camera's side on the server: a stream of JPEGs in, boxes out."""

import base64
import io
import pickle

import numpy as np
import pytest
from page_server import save_models
from PIL import Image

from mssc.data.decoding import decode
from mssc.model import shipped
from mssc.page import live, offer
from mssc.structures import Detections


@pytest.fixture(scope="module")
def models(tiny_config, tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), tiny_config)


@pytest.fixture(autouse=True)
def offered(models, monkeypatch):
    monkeypatch.setattr(shipped, "available_models", lambda: {})
    monkeypatch.setattr(offer, "OWN", models)
    monkeypatch.setattr(live, "_cameras", {})


def jpeg(image: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    return base64.b64encode(out.getvalue()).decode()


def request(images, times, camera="camera-one", **changes):
    frames = [jpeg(image) if isinstance(image, np.ndarray) else image for image in images]
    return {"camera": camera, "model": "big", "frames": frames, "times": list(times)} | changes


GREY = np.full((48, 64, 3), 90, np.uint8)


def test_boxes_are_those_of_the_pipeline(toy_videos, models):
    images = list(decode(toy_videos.videos[0].path))[:8]
    as_sent = [np.array(Image.open(io.BytesIO(base64.b64decode(jpeg(image)))).convert("RGB")) for image in images]
    wanted = offer.ready("big").stream()(as_sent)[-1]
    for first in (0, 3, 4):  # three requests of 3, 1 and 4 frames
        last = {0: 3, 3: 4, 4: 8}[first]
        answer = live.live_step(request(images[first:last], [0.04 * n for n in range(first, last)]))
    boxes = np.array([one["box"] for one in answer["boxes"]]) * [64, 48, 64, 48]
    distinct = {box.tobytes() for box, score in zip(wanted.boxes, wanted.scores, strict=True) if score >= 0.01}
    assert 0 < len(boxes) <= len(distinct)
    for box in boxes:
        assert np.abs(wanted.boxes - box).max(1).min() < 0.5
    assert answer["took"] >= 0 and set(answer["boxes"][0]) == {"label", "score", "person", "box"}
    assert all(one["score"] <= one["person"] for one in answer["boxes"])
    assert len({tuple(one["box"]) for one in answer["boxes"]}) == len(boxes), "one label a box"


def test_cameras_do_not_see_each_other():
    answers = [live.live_step(request([GREY], [n / 15], "camera-one")) for n in range(30)]
    other = live.live_step(request([GREY], [0.0], "camera-two"))
    assert other["boxes"] == answers[0]["boxes"] != answers[-1]["boxes"] and len(live._cameras) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": []}, "Send 1 to 4 frames"),
        ({"frames": ["x"] * 5, "times": [0] * 5}, "Send 1 to 4 frames"),
        ({"frames": ["not base64!"]}, "must be a JPEG"),
        ({"frames": [base64.b64encode(b"GIF89a").decode()]}, "must be a JPEG"),
        ({"frames": ["A" * 300_000]}, "200 kB at most"),
        ({"frames": [7]}, "200 kB at most"),
        ({"times": ["soon"]}, "times of the frames"),
        ({"times": [float("nan")]}, "times of the frames"),
        ({"model": "../other"}, "reload the page"),
        ({"camera": 3}, "reload the page"),
    ],
)
def test_what_is_no_frame_is_answered_with_a_sentence(changes, said):
    assert said in live.live_step(request([GREY], [0.0]) | changes)["error"]


def test_a_frame_that_is_too_large_is_refused():
    assert "not 800x600" in live.live_step(request([np.zeros((600, 800, 3), np.uint8)], [0.0]))["error"]


def test_cameras_are_few_and_silent_ones_make_room(monkeypatch):
    for n in range(live.MAX_CAMERAS):
        assert "error" not in live.live_step(request([GREY], [0.0], f"camera-{n}"))
    for run in range(3):  # the same one, switched on again, takes no other place
        assert "error" not in live.live_step(request([GREY], [float(run)], "camera-0", run=run))
    assert "4 cameras are on already" in live.live_step(request([GREY], [0.0], "one-too-many"))["error"]
    monkeypatch.setattr(live, "IDLE_SECONDS", -1)
    assert "error" not in live.live_step(request([GREY], [0.0], "one-too-many"))


def test_minutes_of_camera_take_no_more_memory_than_one(models):
    camera = live.Camera(offer.ready("big"))
    rows = Detections(np.tile([5, 5, 40, 40], (6, 1)), np.arange(6), np.full(6, 0.5))
    sizes = []
    for n in range(5 * 60 * 4):  # four minutes at 5 frames a second, of linking alone
        camera._link(rows, n / 5)
        if n % 50 == 49:
            sizes.append(len(pickle.dumps(camera.linkers)))
            assert len(camera.linkers) <= 2
    assert max(sizes[6:]) <= 1.1 * max(sizes[:6])


def test_a_camera_whose_clock_stands_still_takes_no_more_memory(models, monkeypatch):
    monkeypatch.setattr(live, "REMEMBER_SECONDS", 0.5)
    camera = live.Camera(offer.ready("big"))
    rows = Detections(np.tile([5, 5, 40, 40], (6, 1)), np.arange(6), np.full(6, 0.5))
    for _ in range(200):
        camera._link(rows, 1.0)
    assert len(camera.linkers) <= 1 and all(memory.frames <= 31 for memory in camera.linkers)
