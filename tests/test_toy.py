"""The toy set's promises: exact boxes, stretches without action, and classes that differ by motion and nothing else."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from mssc.data import toy, toy_figures
from mssc.data.decoding import decode
from mssc.structures import InputError

WIDTH, HEIGHT = 160, 120


def scene(number: int, frames: int = 30, seed: int = 0) -> toy.Scene:
    return toy.compose(np.random.default_rng([seed, number]), WIDTH, HEIGHT, frames, number % len(toy.CLASSES))


def distance(one, other) -> float:
    """Mean difference of two videos' pixels, of 255, over their common length."""
    pairs = zip(decode(one.path), decode(other.path), strict=False)
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs]))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("toy")
    return folder, toy.generate(folder, videos=6, size=(96, 64), frames=(16, 24))


def test_videos_are_what_the_annotations_say(small):
    folder, data = small
    assert data.classes == toy.CLASSES and len(data) == 6
    for number, video in enumerate(data.videos):
        images = list(decode(video.path))
        assert len(images) == video.frames and 16 <= video.frames <= 24
        assert images[0].shape == (64, 96, 3) == (video.height, video.width, 3)
        rng = np.random.default_rng([0, 0, number])
        made = toy.compose(rng, 96, 64, int(rng.integers(16, 25)), number)
        assert np.abs(images - made.render(64, 96).astype(float)).mean() < 6  # what H.264 costs
        assert [(t.label, t.start, t.stop) for t in made.tubes()] == [(t.label, t.start, t.stop) for t in video.tubes]
        for mine, read in zip(made.tubes(), video.tubes, strict=True):
            np.testing.assert_allclose(mine.boxes, read.boxes, atol=0.006)
        assert number in [tube.label for tube in video.tubes]


def test_deterministic_and_independent_of_the_number(small, tmp_path):
    folder, data = small
    options = {"size": (96, 64), "frames": (16, 24)}
    fewer = toy.generate(tmp_path / "fewer", videos=2, **options)
    for a, b in zip(data.videos, fewer.videos, strict=False):
        assert distance(a, b) < 3  # libx264 itself varies from run to run by up to 1.4 on some processors
    for other in ({"seed": 1}, {"part": "val"}):
        (video,) = toy.generate(tmp_path / f"{other}", videos=1, **options, **other).videos
        assert distance(video, data.videos[0]) > 10
    one, same = scene(0), scene(0)
    np.testing.assert_array_equal(one.render(HEIGHT, WIDTH), same.render(HEIGHT, WIDTH))
    for a, b in zip(one.tubes(), same.tubes(), strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_a_complete_folder_is_only_read(small):
    folder, data = small
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = toy.generate(folder, videos=6, size=(96, 64), frames=(16, 24))
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times
    assert [v.name for v in again.videos] == [v.name for v in data.videos] and again.name == "toy train"


def test_an_interrupted_run_is_done_again(tmp_path, monkeypatch):
    options = {"videos": 2, "size": (48, 48), "frames": (12, 12)}
    first = toy.generate(tmp_path, **options)
    first.videos[1].path.unlink()
    with pytest.raises(InputError, match="misses 1 toy videos, such as train-0001.mp4"):
        toy.load(tmp_path)
    assert len(toy.generate(tmp_path, **options)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(toy.Scene, "render", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            toy.generate(tmp_path, **options, seed=5)
    with pytest.raises(InputError, match="does not exist"):  # no annotations that are not of these videos
        toy.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"classes": ["a"], "rate": "0", "videos": [], "recipe": {"part": "train"}}', '{"rate": "x"}']
)
def test_damaged_annotations(tmp_path, text):
    (tmp_path / toy.ANNOTATIONS).write_text(text)
    with pytest.raises(InputError, match="annotations.json.*enerate it again"):
        toy.load(tmp_path)


def test_edited_annotations(tmp_path):
    toy.generate(tmp_path, videos=1, size=(48, 48), frames=(12, 12))
    file = tmp_path / toy.ANNOTATIONS
    content = json.loads(file.read_text())
    content["videos"][0]["tubes"][0]["label"] = 77
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="label 77"):
        toy.load(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"videos": 0},
        {"part": "dev"},
        {"seed": -1},
        {"size": (97, 64)},
        {"size": (96, 40)},
        {"frames": (4, 8)},
        {"frames": (20, 12)},
        {"others": (3, 1)},
    ],
)
def test_bad_arguments(tmp_path, options):
    with pytest.raises(InputError):
        toy.generate(tmp_path / "toy", **options)
    assert not (tmp_path / "toy").exists()


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "toy").touch()
    with pytest.raises(InputError, match="toy"):
        toy.generate(tmp_path / "toy", videos=1, size=(48, 48), frames=(12, 12))


@pytest.mark.parametrize("shape", toy_figures.SHAPES)
@pytest.mark.parametrize("texture", toy_figures.TEXTURES)
def test_boxes_are_exact(shape, texture):
    """The figure alone, at 24 poses: every pixel that it covers by half is in its box, and the box is no larger."""
    rng = np.random.default_rng(3)
    frames = 24
    look = toy_figures.Look(shape, texture, np.array([[1, 0.8, 0.6], [0.9, 1, 0.7]]), (1.7, 0.4))
    pose = toy_figures.Pose(*(rng.uniform(low, high, frames) for low, high in ((30, 50), (30, 50), (8, 20), (0, 7))))
    found = np.full((frames, 80, 80, 3), -1, np.float32)  # no colour has this one, so the difference shows the opacity
    toy_figures.draw(found, look, pose)
    other = np.full_like(found, 2)
    toy_figures.draw(other, look, pose)
    opacity = 1 - (other - found).mean(-1) / 3
    for alpha, box in zip(opacity, toy_figures.boxes(look, pose), strict=True):
        y, x = np.nonzero(alpha >= 0.5)
        assert np.abs(box - [x.min(), y.min(), x.max() + 1, y.max() + 1]).max() < 1
        y, x = np.nonzero(alpha > 0.02)  # the soft edge reaches half a pixel further
        assert np.all(box[:2] - 1.5 < [x.min(), y.min()]) and np.all(box[2:] + 1.5 > [x.max() + 1, y.max() + 1])


def test_figures_are_cut_at_the_frame():
    look = toy_figures.Look.random(np.random.default_rng(0))
    around = np.array([-100.0, -5, 20, 45, 300])
    pose = toy_figures.Pose(around, around, np.full(5, 10.0), np.zeros(5))
    frames = np.zeros((5, 40, 40, 3), np.float32)
    toy_figures.draw(frames, look, pose)
    assert [bool(frame.any()) for frame in frames] == [False, True, True, True, False]


def test_outlines_leave_room_for_the_eyes():
    for shape in toy_figures.SHAPES:
        radius = toy_figures.outline(shape, toy_figures.ANGLES)
        assert radius.min() > 0.65 and radius.max() <= 1 + 1e-9


@pytest.mark.parametrize("size", [(160, 120), (48, 48), (64, 128), (320, 240)])
def test_boxes_stay_inside_the_frame(size):
    for number in range(30):
        made = toy.compose(np.random.default_rng(number), *size, 24, number % 6)
        for tube in made.tubes():
            assert tube.boxes.min() >= 0 and (tube.boxes[:, 2:] <= size).all()
    assert made.render(size[1], size[0]).shape == (24, size[1], size[0], 3)


@pytest.mark.parametrize("frames", [12, 20, 30, 48])
def test_actions_have_stretches_without_action_around_them(frames):
    before = after = actors = other = 0
    labels = Counter()
    for number in range(60):
        made = scene(number, frames)
        acting = [actor for actor in made.actors if actor.actions]
        actors, other = actors + len(acting), other + len(made.actors) - len(acting)
        assert 1 <= len(acting) <= 2 and len(made.actors) - len(acting) in (1, 2)
        for actor in acting:
            spans = actor.actions
            assert sum(stop - start for _, start, stop in spans) < frames  # never the whole video
            assert all(stop - start >= toy.LEAST_ACTION for _, start, stop in spans)
            assert all(a[2] <= b[1] and a[0] != b[0] for a, b in zip(spans, spans[1:], strict=False))
            before, after = before + (spans[0][1] > 0), after + (spans[-1][2] < frames)
            labels.update(label for label, *_ in spans)
    assert before > actors / 2 and after > actors / 2 and other >= 60
    assert set(labels) == set(range(len(toy.CLASSES)))


def test_figures_hold_still_or_drift_on_outside_their_actions():
    for number in range(40):
        made = scene(number, 40)
        for actor in made.actors:
            x = actor.pose.x + made.camera[0]  # in the world
            steps = np.stack([np.diff(x), np.diff(actor.pose.y + made.camera[1])], 1)
            turning = np.abs(np.diff(actor.pose.angle)) + np.abs(np.diff(actor.pose.radius))
            idle = np.ones(39, bool)
            for _, start, stop in actor.actions:
                idle[start : stop - 1] = False
            assert np.ptp(steps[idle], axis=0).max() < 1e-9 and turning[idle].max() < 1e-9
            for label, start, stop in actor.actions:
                moved = np.ptp(steps[start : stop - 1], axis=0).max() > 0.3
                assert moved == (toy.CLASSES[label] in ("circle", "bounce", "sway"))
                assert (turning[start : stop - 1].max() > 0.05) == (toy.CLASSES[label] in ("spin", "rock", "pulse"))


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and labels over 900 scenes: of one frame of an action, of its motion, and of any frame of any figure."""
    rng = np.random.default_rng(0)
    still, motion, label, anyone, acts = [], [], [], [], []
    for number in range(900):
        made = scene(number, seed=1)
        for actor in made.actors:
            boxes = toy_figures.boxes(actor.look, actor.pose)
            centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            look = [*actor.look.colours.ravel(), toy_figures.SHAPES.index(actor.look.shape)]

            def frame(t, centre=centre, size=size, look=look, angle=actor.pose.angle):
                return [*centre[t], *size[t], *look, np.cos(angle[t]), np.sin(angle[t])]

            time = int(rng.integers(30))
            anyone.append(frame(time))
            acts.append(any(start <= time < stop for _, start, stop in actor.actions))
            for action, start, stop in actor.actions[:1]:
                still.append(frame(int(rng.integers(start, stop))))
                path = centre[start:stop] + np.stack(made.camera, 1)[start:stop]
                steps = np.abs(np.diff(np.concatenate([path, size[start:stop]], 1), axis=0))
                motion.append([*steps.mean(0), np.abs(np.diff(np.log(size[start:stop].prod(1)))).mean()])
                label.append(action)
    return {
        "still": (np.array(still), np.array(label)),
        "motion": (np.array(motion), np.array(label)),
        "acting": (np.array(anyone), np.array(acts)),
    }


def accuracy(data: tuple[np.ndarray, np.ndarray]) -> float:
    return float(cross_val_score(RandomForestClassifier(60, random_state=0), *data, cv=4, scoring="balanced_accuracy").mean())


def test_one_frame_does_not_tell_the_class(measured):
    assert abs(accuracy(measured["still"]) - 1 / 6) < 0.05


def test_one_frame_does_not_tell_who_acts(measured):
    assert abs(accuracy(measured["acting"]) - 1 / 2) < 0.05


def test_motion_tells_the_class(measured):
    assert accuracy(measured["motion"]) > 0.75


@pytest.mark.parametrize("kind", ["still", "acting"])
def test_positions_sizes_and_colours_have_the_same_distribution(measured, kind):
    features, labels = measured[kind]
    for label in np.unique(labels):
        chosen = features[labels == label]
        for measure in (lambda f: f, lambda f: (f - features.mean(0)) ** 2):  # mean and spread
            every, some = measure(features), measure(chosen)
            away = np.abs(some.mean(0) - every.mean(0)) / (every.std(0) / np.sqrt(len(some)))
            assert away.max() < 4, (label, away)


def test_motion_alone_does_not_tell_who_acts():
    """Every figure moves on the screen, idle ones often drift further than actors go, and both drift as often."""
    idle = [a.pose for n in range(60) for a in scene(n).actors if not a.actions]
    travel = [np.hypot(np.ptp(pose.x), np.ptp(pose.y)) for pose in idle]
    assert min(travel) > 0.3 and np.mean(np.array(travel) > 6) > 0.4
    drifts = {acts: [] for acts in (False, True)}
    for made in (scene(n) for n in range(400)):
        for actor in made.actors:
            if not any(toy.CLASSES[label] in ("circle", "bounce", "sway") for label, *_ in actor.actions):
                steps = np.hypot(np.diff(actor.pose.x + made.camera[0]), np.diff(actor.pose.y + made.camera[1]))
                drifts[bool(actor.actions)].append(steps.mean() > 1e-6)
    assert abs(np.mean(drifts[True]) - np.mean(drifts[False])) < 0.12
