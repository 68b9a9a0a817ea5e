"""Everybody is seen: the person head, what teaches it, and what follows whom it finds. Nothing else changes by it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import randomise
from torch import nn

from mssc import load_model
from mssc.config import LOOK_EVERY, ModelConfig, TrainConfig
from mssc.data.cache import FrameCache
from mssc.detection.people import PeopleLinker, everybody, in_between
from mssc.detection.postprocess import LOWEST_PERSON, to_people
from mssc.model.checkpoint import save_model
from mssc.model.export import export_model
from mssc.model.mssc import MSSC
from mssc.model.person import PERSON_STRIDES
from mssc.model.transfer import carry_over
from mssc.page.live import Camera
from mssc.structures import DetectionLog, Detections, InputError, Predictions, Tube
from mssc.training import loop
from mssc.training.people import SMALLEST, People, collate_people, frames_to_learn, teach

RUN = TrainConfig(phase="person", epochs=2, batch=3, workers=0, learning_rate=3e-3)


class Teacher(nn.Module):
    """Says of every image that somebody stands in its right half, seen in one cell of the coarsest level, and a dog in the left one."""

    def __init__(self, score=0.9):
        super().__init__()
        self.score = score

    def forward(self, images):
        height, width = images.shape[2:]
        rows = torch.zeros(len(images), sum((height // s) * (width // s) for s in (8, 16, 32)), 85)
        for row, left, kind in ((-1, 0.5, 0), (-2, 0.0, 16)):  # the last two cells, of the bottom row
            x, y = width // 32 - 1 + (row + 1), height // 32 - 1
            rows[:, row, 0] = (left + 0.25) * width / 32 - x
            rows[:, row, 1] = 0.5 * height / 32 - y
            rows[:, row, 2:4] = torch.tensor([0.4 * width / 32, 0.8 * height / 32]).log()
            rows[:, row, 4], rows[:, row, 5 + kind] = 1.0, self.score
        return rows


# ------------------------------------------------------------------------------------------------------------------- the head


def test_a_person_head_changes_nothing_else(tiny_config):
    torch.manual_seed(0)
    clip = torch.randint(0, 256, (2, 3, 5, 64, 64), dtype=torch.uint8)
    plain = randomise(MSSC(tiny_config))
    config = replace(tiny_config, person="head")
    model = MSSC(config)
    model.load_state_dict(carry_over(plain, config))  # type: ignore[arg-type]
    with torch.no_grad():
        before, after = plain(clip), model.eval()(clip)
    assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in Predictions._fields)
    with pytest.raises(ValueError, match="this network has no person head"):
        plain.people(clip[:, :, 0])


def test_people_are_looked_for_in_frames_of_their_own_size(tiny_config):
    model = MSSC(replace(tiny_config, person="head", person_size=96)).eval()
    frames = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    boxes, logits = model.people(frames)
    assert boxes.shape == (2, sum((96 // stride) ** 2 for stride in PERSON_STRIDES), 4) == (*logits.shape, 4)
    one, _ = model.people(frames[1:])
    torch.testing.assert_close(one, boxes[1:])
    with pytest.raises(ValueError, match=r"frames have shape \(2, 3, 64, 64\); they must be \(B, 3, 96, 96\)"):
        model.people(frames[..., :64, :64])
    with pytest.raises(InputError, match="person_size is 100; use a multiple of 32"):
        replace(tiny_config, person_size=100)


def test_people_are_found_at_every_stride(tiny_config):
    model = MSSC(replace(tiny_config, person="head")).eval()
    assert model.person is not None
    image = model.image(torch.zeros(1, 3, 64, 64))
    boxes, logits = model.person(image)
    assert boxes.shape == (1, sum((64 // stride) ** 2 for stride in PERSON_STRIDES), 4) == (*logits.shape, 4)
    one = model.person.boxes
    for conv in one.reg_preds:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    boxes, _ = model.person(image)
    assert boxes[0, 17].tolist() == [2, 2, 6, 6] and boxes[0, -1].tolist() == [
        16,
        16,
        48,
        48,
    ]  # the cell's corner, one stride wide


@pytest.mark.parametrize("changes", [{"paths": "clip"}, {"backbone2d": "timm/resnet18"}])
def test_a_person_head_needs_the_image_path_that_it_reads(changes):
    with pytest.raises(InputError, match="person is 'head', which reads maps of the backbone cspdarknet_nano in the 2D path"):
        ModelConfig(person="head", **changes)


# ---------------------------------------------------------------------------------------------------------------- detections


def test_people_of_predictions_worked_out_by_hand():
    faint = float(np.log(LOWEST_PERSON / (1 - LOWEST_PERSON))) - 0.01
    boxes = torch.tensor([[[0.0, 0, 32, 64], [40, 10, 80, 30], [40, 10, 60, 28], [0, 0, 9, 9]]])
    ((people, person),) = to_people(boxes, torch.tensor([[0.0, 1.0, 2.0, faint]]), 64, [(32, 128)])
    # the second overlaps the third by half or less once it is cut at the edge: 20 x 18 of 24 x 20
    np.testing.assert_allclose(people, [[80, 5, 120, 14], [0, 0, 64, 32]])
    np.testing.assert_allclose(person, [1 / (1 + np.exp(-2.0)), 0.5], rtol=1e-5)


PEOPLE = Detections([[0, 0, 10, 20]], [1], [0.4], people=[[1, 0, 10, 20], [50, 0, 60, 20]], person=[0.7, 0.6])


def test_people_belong_to_the_frame_and_not_to_its_rows():
    assert len(PEOPLE.above(0.9)) == 0 and PEOPLE.above(0.9).person.tolist() == PEOPLE.person.tolist()
    both = Detections.merge([PEOPLE, PEOPLE])
    assert len(both) == 2 and len(both.people) == 4
    log = DetectionLog()
    for rows in (PEOPLE, Detections.empty(), PEOPLE[[]]):
        log.append(rows)
    for kept, rows in zip(log, (PEOPLE, Detections.empty(), PEOPLE[[]]), strict=True):
        for name in ("boxes", "labels", "scores", "people", "person"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(rows, name))
    with pytest.raises(InputError, match="person has shape"):
        replace(PEOPLE, person=[0.7])


def test_an_actor_is_the_person_whose_box_fits():
    boxes, which, sure = everybody(PEOPLE)
    assert boxes.tolist() == [[1, 0, 10, 20], [50, 0, 60, 20]] and which.tolist() == [0]
    np.testing.assert_allclose(sure, [0.7, 0.6], rtol=1e-6)
    alone = replace(PEOPLE, boxes=[[80, 0, 90, 20]])  # somebody whom the person head does not see
    boxes, which, sure = everybody(alone)
    assert boxes[2].tolist() == [80, 0, 90, 20] and which.tolist() == [2] and sure[2] == pytest.approx(0.4)
    certain = Detections([[0, 0, 10, 20]] * 2, [0, 1], [0.5, 0.45], people=[[1, 0, 10, 20]], person=[0.2])
    assert everybody(certain)[2].tolist() == pytest.approx([0.95])
    feet = replace(PEOPLE, scores=[0.9], people=[[2, 16, 8, 20]], person=[0.6])
    assert everybody(feet)[0].tolist() == PEOPLE.boxes.tolist(), "a part of the actor"
    surer = replace(feet, scores=[0.5])
    assert len(everybody(surer)[0]) == 2


def test_who_does_nothing_is_followed_and_who_acts_has_the_likeliest_actions():
    linker, frames = PeopleLinker(25.0, 2), []
    for step in range(20):
        moved = np.array([step, 0, step, 0])
        frames.append(replace(PEOPLE, boxes=PEOPLE.boxes + moved, people=PEOPLE.people + moved))
        linker.step(frames[-1])
    actor, bystander = linker.so_far(frames)
    assert len(actor.tube) == len(bystander.tube) == 20
    assert [label for label, _ in actor.likeliest] == [1] and bystander.likeliest == []
    np.testing.assert_allclose(bystander.tube.boxes[[3, 18, 19], 0], [53, 68, 68])  # the last look was at frame 18


def test_the_camera_tells_of_somebody_without_an_action():
    told = Camera._boxes(None, PEOPLE, 100, 20)  # type: ignore[arg-type]
    assert [(one["label"], one["score"], one["person"]) for one in told] == [(1, 0.4, 0.7), (None, 0.0, 0.6)]
    assert told[1]["box"] == [0.5, 0, 0.6, 1]


# ------------------------------------------------------------------------------------------------------------------ learning


def test_the_teacher_is_read_in_pixels_of_the_frame_and_only_people_count():
    for boxes in teach(Teacher(), np.zeros((2, 48, 64, 3), np.uint8)):  # type: ignore[arg-type]
        np.testing.assert_allclose(boxes, [[35.2, 4.8, 60.8, 43.2]], atol=1e-3)  # centre (0.75, 0.5), 0.4 x 0.8 of the frame
    assert not len(teach(Teacher(0.2), np.zeros((1, 48, 64, 3), np.uint8))[0])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def thinned(toy_videos, tmp_path_factory):
    dataset = frames_to_learn(toy_videos)
    return dataset, FrameCache.build(dataset, tmp_path_factory.mktemp("few"), progress=False, reach=0)


def test_a_few_frames_of_each_video_and_of_more_videos_are_learnt_from(toy_videos, tmp_path):
    (tmp_path / "more").mkdir()
    other = toy_videos.videos[0]
    (tmp_path / "more" / "street.mp4").write_bytes(Path(other.path).read_bytes())
    (tmp_path / "more" / "broken.mp4").write_bytes(b"no video")
    found = frames_to_learn(toy_videos, [tmp_path / "more"])
    assert [len(video.labelled) for video in found.videos] == [4] * 7
    assert found.videos[-1].name == "more0/street.mp4" and not found.videos[-1].tubes
    assert found.videos[-1].frames == other.frames and 0 < min(found.videos[-1].labelled) < other.frames - 1
    for folder in (tmp_path / "nowhere", tmp_path / "more" / "broken.mp4"):
        with pytest.raises(InputError, match="holds no video that can be read"):
            frames_to_learn(toy_videos, [folder])


def test_actors_and_whom_the_teacher_sees_are_people(thinned, tiny_config):
    dataset, cache = thinned
    people = People(dataset, cache, Teacher(), tiny_config, RUN)  # type: ignore[arg-type]
    named = {video.name: video for video in dataset.videos}
    assert len(people) == 4 * len(dataset)
    for name, frame, boxes in people.samples:
        actors, _ = named[name].boxes_at(frame)
        assert np.isin(actors, boxes).all() and len(boxes) - len(actors) in (0, 1)
    assert any(len(boxes) > len(named[name].boxes_at(frame)[0]) for name, frame, boxes in people.samples)
    blind = People(dataset, cache, Teacher(0.0), tiny_config, RUN)  # type: ignore[arg-type]
    assert sum(len(boxes) for *_, boxes in blind.samples) == sum(
        len(video.boxes_at(frame)[0]) for video in dataset.videos for frame in video.labelled
    )


def test_boxes_move_with_the_pixels_of_tiles(thinned, tiny_config, monkeypatch):
    """Everybody is painted white on black; whatever is done to the image, a box is white inside and no white is outside."""
    dataset, cache = thinned
    people = People(dataset, cache, Teacher(), tiny_config, replace(RUN, smallest_crop=0.8))  # type: ignore[arg-type]

    def painted(sample):
        image = np.zeros((48, 64, 3), np.uint8)
        for x1, y1, x2, y2 in sample[2].round().astype(int):
            image[y1:y2, x1:x2] = 255
        return image

    monkeypatch.setattr(people, "_frame", painted)
    monkeypatch.setattr("mssc.training.people.MOST_TILES", 2)
    several = 0
    for seed in range(40):
        image, boxes = people[seed % len(people), seed, 0]
        assert image.shape == (3, 64, 64)
        several += len(boxes) > 2
        outside = image[0].numpy().astype(float)
        for x1, y1, x2, y2 in boxes:
            assert min(x2 - x1, y2 - y1) >= SMALLEST
            inside = image[0, int(y1) + 1 : int(y2), int(x1) + 1 : int(x2)]
            if inside.numel() > 20:
                assert inside.float().mean() > 60
            outside[max(int(y1) - 2, 0) : int(np.ceil(y2)) + 2, max(int(x1) - 2, 0) : int(np.ceil(x2)) + 2] = 0
        assert (outside > 200).mean() < 0.06  # who is hardly in the crop is no box
    assert several > 5
    batch = collate_people([people[0, 1, 0], people[1, 2, 0]], actions=6)
    assert batch.clip.shape == (2, 3, 1, 64, 64) and batch.keys.tolist() == [[0], [0]]
    assert batch.actions.any(2).sum().item() == sum(len(people[n, n + 1, 0][1]) for n in range(2))


def _trainer(folder, thinned, config, monkeypatch, run=RUN, teacher=None):
    monkeypatch.setattr(loop, "coco_weights", lambda path: teacher or Teacher())
    torch.manual_seed(0)
    start = MSSC(replace(config, person="none"))
    weights = carry_over(start, config)
    return start, loop.Trainer(config, run, folder, *thinned, coco=Path("teacher"), start=weights, progress=False, cpu=True)


def test_the_person_head_learns_and_everything_else_stays(thinned, tiny_config, tmp_path, monkeypatch):
    config = replace(tiny_config, person="head")
    start, trainer = _trainer(tmp_path / "a", thinned, config, monkeypatch, replace(RUN, epochs=12))
    head = [p.detach().clone() for p in trainer.network.person.parameters()]
    trainer.run()
    after = load_model(tmp_path / "a" / "model")
    for name, tensor in start.state_dict().items():  # BatchNorm's statistics too
        assert torch.equal(tensor, after.state_dict()[name]), name
    assert all(not torch.equal(a, b) for a, b in zip(head, trainer.network.person.parameters(), strict=True))
    import json

    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    _, cut = _trainer(tmp_path / "b", thinned, config, monkeypatch)
    cut.run(stop=lambda: cut.step == 3)
    _, resumed = _trainer(tmp_path / "b", thinned, config, monkeypatch)
    assert resumed.step == 3
    _, whole = _trainer(tmp_path / "c", thinned, config, monkeypatch)
    for one, other in zip(resumed.run().parameters(), whole.run().parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_the_phase_needs_is_said(thinned, tiny_config, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="adds a person head to a model, taught by a COCO detector; name both"):
        loop.Trainer(tiny_config, RUN, tmp_path, *thinned, coco=Path("teacher"), start={}, progress=False, cpu=True)
    empty = tuple(replace(video, tubes=()) for video in thinned[0].videos)
    nobody = (replace(thinned[0], videos=empty), thinned[1])
    with pytest.raises(InputError, match="nobody was found in any frame"):
        _trainer(tmp_path, nobody, replace(tiny_config, person="head"), monkeypatch, teacher=Teacher(0.0))


# -------------------------------------------------------------------------------------------------------------------- export


@pytest.mark.slow
def test_a_graph_gives_everybody_too(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("mssc.model.export.FRAMES", ())  # the others are tested elsewhere, and take their time
    from mssc.detection.detector import Detector

    torch.manual_seed(0)
    save_model(MSSC(replace(tiny_config, person="head")).eval(), tmp_path)
    deviations = export_model(tmp_path, tmp_path)
    assert deviations.keys() == {"people.onnx"} and deviations["people.onnx"] < 1e-4
    assert "`people` (1, P, 4), boxes in pixels" in (tmp_path / "step.md").read_text()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    detectors = {runtime: Detector.load(tmp_path, "cpu", runtime) for runtime in ("torch", "onnx", "openvino")}
    wanted = detectors["torch"].model.people(image)
    for runtime in ("onnx", "openvino"):
        graphs = detectors[runtime].graphs
        assert graphs is not None
        for ours, theirs in zip(graphs.people(image), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)


def _sees_people(config):
    torch.manual_seed(0)
    model = MSSC(replace(config, person="head")).eval()
    for conv in model.person.boxes.obj_preds:
        torch.nn.init.zeros_(conv.bias)  # else an untrained network sees nobody
    return model


def test_people_are_looked_for_now_and_then_and_stay_in_between(tiny_config):
    from mssc.detection.detector import Detector

    images = np.random.default_rng(0).integers(0, 256, (11, 64, 64, 3), np.uint8)
    model = _sees_people(tiny_config)
    found = Detector(model).stream()(images)
    assert all(len(rows.people) for rows in found)
    for number, rows in enumerate(found):
        np.testing.assert_array_equal(rows.people, found[number - number % LOOK_EVERY].people)
    singly = Detector(model).stream()
    for image, rows in zip(images, found, strict=True):
        assert len(singly(image)[0].people) == len(rows.people)


def test_in_a_slow_video_people_are_looked_for_in_every_frame(tiny_config):
    from mssc.detection.detector import Detector

    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = Detector(_sees_people(tiny_config)).stream(6.0)(images)
    assert all(not np.array_equal(one.people, other.people) for one, other in pairwise(found))
    linker = PeopleLinker(6.0, 2)
    assert linker._hold == 1


def test_feet_are_no_person_of_their_own():
    boxes = torch.tensor([[[10.0, 10, 30, 60], [14, 50, 26, 60], [11, 12, 29, 38], [60, 50, 72, 60]]])
    for strong, left in ((3.0, 2), (-1.0, 4)):
        ((people, person),) = to_people(boxes, torch.tensor([[strong, 1.0, 0.5, 0.2]]), 64, [(64, 64)])
        assert len(people) == len(person) == left, strong


def test_boxes_between_two_looks_lie_on_a_line():
    looks = Tube(3, 0.8, 2, [[0, 0, 10, 10], [8, 0, 18, 10]], [0.7, 0.9])
    tube = in_between(looks, 4, 100)
    assert (tube.label, tube.score, tube.start, tube.stop) == (3, 0.8, 8, 16)
    assert tube.boxes[:, 0].tolist() == [0, 2, 4, 6, 8, 8, 8, 8]
    np.testing.assert_allclose(tube.scores, [0.7, 0.75, 0.8, 0.85, 0.9, 0.9, 0.9, 0.9], rtol=1e-6)
    assert in_between(looks, 4, 13).stop == 13, "the video ends"
    assert in_between(looks, 1, 100).boxes.tolist() == looks.boxes.tolist()
