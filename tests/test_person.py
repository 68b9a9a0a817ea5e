"""Everybody is seen: the detector of people, what teaches it, and what follows whom it finds. Nothing else changes by it."""

import json
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import randomise
from torch import nn

from mssc import load_model
from mssc.config import LOOK_EVERY, TrainConfig
from mssc.data.cache import FrameCache
from mssc.detection.detector import Detector
from mssc.detection.people import PeopleLinker, everybody, in_between
from mssc.detection.postprocess import LOWEST_PERSON, to_people
from mssc.detection.preprocess import prepare_large, shape_looked_at
from mssc.model.checkpoint import save_model
from mssc.model.convert import CocoDetector
from mssc.model.mssc import MSSC
from mssc.model.person import PersonDetector
from mssc.model.transfer import carry_over, people_from_coco, start_from_coco
from mssc.page.live import Camera
from mssc.structures import DetectionLog, Detections, InputError, Predictions, Tube
from mssc.training import loop
from mssc.training.people import People, PersonLearner, collate_people, frames_to_learn, lesson, spoilt

RUN = TrainConfig(phase="person", epochs=2, batch=3, workers=0, learning_rate=3e-3)
CELLS = (8 * 12 + 4 * 6 + 2 * 3, 64, 96)
"""Of a small frame, and its height and width."""


# --------------------------------------------------------------------------------------------------------------- the detector


def test_a_detector_of_people_changes_nothing_else(tiny_config):
    torch.manual_seed(0)
    clip = torch.randint(0, 256, (2, 3, 5, 64, 64), dtype=torch.uint8)
    plain = randomise(MSSC(tiny_config))
    config = replace(tiny_config, person="detector")
    model = MSSC(config)
    model.load_state_dict(carry_over(plain, config))  # type: ignore[arg-type]
    with torch.no_grad():
        before, after = plain(clip), model.eval()(clip)
    assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in Predictions._fields)
    with pytest.raises(ValueError, match="this network has no detector of people"):
        plain.people(clip[:, :, 0])


@pytest.mark.parametrize(
    ("height", "width", "most", "shape"),
    [
        (720, 1280, 640, (352, 640)),
        (1280, 720, 640, (640, 352)),
        (240, 320, 640, (320, 416)),  # enlarged
        (480, 600, 640, (480, 608)),
        (4, 4000, 640, (32, 640)),
        (480, 640, 96, (64, 96)),
    ],
)
def test_people_are_looked_for_in_frames_of_their_own_shape(height, width, most, shape):
    assert shape_looked_at(height, width, most) == shape
    assert prepare_large(np.zeros((height, width, 3), np.uint8), most).shape == (*shape, 3)


def test_frames_of_any_shape_give_boxes_in_their_pixels(tiny_config):
    model = MSSC(replace(tiny_config, person="detector")).eval()
    count, height, width = CELLS
    frames = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        boxes, logits = model.people(frames)
        one, _ = model.people(frames[1:])
    assert boxes.shape == (2, count, 4) == (*logits.shape, 4)
    torch.testing.assert_close(one, boxes[1:])
    assert model.person is not None
    for conv in model.person.boxes.reg_preds:
        nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    boxes, _ = model.people(frames)
    assert boxes[0, 13].tolist() == [4, 4, 12, 12] and boxes[0, -1].tolist() == [
        48,
        16,
        80,
        48,
    ]  # the cell's corner, one stride wide
    with pytest.raises(
        ValueError, match=r"frames have shape \(2, 3, 64, 60\); they must be \(B, 3, H, W\), sides multiples of 32"
    ):
        model.people(frames[..., :60])
    with pytest.raises(InputError, match="person_size is 100; use a multiple of 32"):
        replace(tiny_config, person_size=100)


def random_coco() -> CocoDetector:
    torch.manual_seed(3)
    coco = CocoDetector().eval()
    for conv in coco.reg_preds:
        nn.init.normal_(conv.weight, std=1e-3)  # type: ignore[arg-type]  # boxes about as large as a cell
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return coco


def test_it_begins_as_cocos_detector_of_which_people_alone_count(tiny_config):
    """The probability is that of an object times that of COCO's first class; a box is decoded as YOLOX does it."""
    coco, (count, height, width) = random_coco(), CELLS
    model = MSSC(replace(tiny_config, person="detector")).eval()
    start_from_coco(model, coco)
    images = torch.randint(0, 256, (2, 3, height, width)).float()
    with torch.no_grad():
        rows, (boxes, logits) = coco(images), model.people(images)
    torch.testing.assert_close(logits.sigmoid(), rows[..., 4] * rows[..., 5], rtol=1e-4, atol=1e-6)
    for cell, x, y, stride in ((0, 0, 0, 8), (96 + 6 + 2, 2, 1, 16), (count - 1, 2, 1, 32)):
        centre, side = (rows[:, cell, :2] + torch.tensor([x, y])) * stride, rows[:, cell, 2:4].exp() * stride
        wanted = torch.cat([centre - side / 2, centre + side / 2], 1)
        torch.testing.assert_close(boxes[:, cell], wanted, rtol=1e-4, atol=1e-3)


def test_a_model_with_the_earlier_form_is_read_without_it(tiny_config, tmp_path, caplog):
    model = MSSC(replace(tiny_config, person="detector")).eval()
    save_model(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"person": "head"}))
    with caplog.at_level(logging.WARNING, "mssc"):
        found = load_model(tmp_path)
    assert found.config.person == "none" and found.person is None
    assert (
        "looks for people with an earlier form of that part, which is left out; mssc train --phase person adds one" in caplog.text
    )


# ---------------------------------------------------------------------------------------------------------------- detections


def test_people_of_predictions_worked_out_by_hand():
    faint = float(np.log(LOWEST_PERSON / (1 - LOWEST_PERSON))) - 0.01
    boxes = torch.tensor([[[0.0, 0, 32, 64], [40, 10, 80, 30], [40, 10, 60, 28], [0, 0, 9, 9]]])
    ((people, person),) = to_people(boxes, torch.tensor([[0.0, 1.0, 2.0, faint]]), (64, 64), [(32, 128)])
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
    alone = replace(PEOPLE, boxes=[[80, 0, 90, 20]])  # somebody whom the detector of people does not see
    boxes, which, sure = everybody(alone)
    assert boxes[2].tolist() == [80, 0, 90, 20] and which.tolist() == [2] and sure[2] == pytest.approx(0.4)
    certain = Detections([[0, 0, 10, 20]] * 2, [0, 1], [0.5, 0.45], people=[[1, 0, 10, 20]], person=[0.2])
    assert everybody(certain)[2].tolist() == pytest.approx([0.95])
    feet = replace(PEOPLE, scores=[0.9], people=[[2, 16, 8, 20]], person=[0.6])
    assert everybody(feet)[0].tolist() == PEOPLE.boxes.tolist(), "a part of the actor"
    around = replace(PEOPLE, boxes=[[40, 0, 64, 20]], scores=[0.5])
    boxes, which, sure = everybody(around)
    assert boxes.tolist() == PEOPLE.people.tolist() and which.tolist() == [1], "a box around a surer person is nobody more"
    assert len(everybody(replace(around, scores=[0.9]))[0]) == 2, "but the surer actor stays"
    boxes, _, sure = everybody(replace(around, scores=[0.9]), looked=True)
    assert boxes[:2].tolist() == PEOPLE.people.tolist() and sure.tolist() == pytest.approx([0.7, 0.6, 0]), "who was looked for"
    surer = replace(feet, scores=[0.5])
    assert len(everybody(surer)[0]) == 2


def test_who_does_nothing_is_followed_and_who_acts_has_the_likeliest_actions():
    linker, frames = PeopleLinker(25.0, 2, 6), []
    for step in range(20):
        moved = np.array([step, 0, step, 0])
        frames.append(replace(PEOPLE, boxes=PEOPLE.boxes + moved, people=PEOPLE.people + moved))
        linker.step(frames[-1])
    actor, bystander = linker.so_far(frames)
    assert len(actor.tube) == len(bystander.tube) == 20
    assert [label for label, _ in actor.likeliest] == [1] and bystander.likeliest == []
    np.testing.assert_allclose(bystander.tube.boxes[[3, 18, 19], 0], [53, 68, 68])  # the last look was at frame 18


def test_who_is_known_by_actions_alone_must_be_surer():
    def followed(every, people=()):
        linker, frames = PeopleLinker(25.0, 2, every), []
        for _ in range(20):
            frames.append(Detections([[0, 0, 10, 20]], [1], [0.3], [*people], np.full(len(people), 0.3)))
            linker.step(frames[-1])
        return linker.so_far(frames)

    assert not followed(None) and len(followed(6, [[0, 0, 10, 20]])) == 1
    assert not followed(6), "an actor whom the detector of people does not see is nobody"


def test_the_camera_tells_of_somebody_without_an_action():
    told = Camera._boxes(None, PEOPLE, 100, 20)  # type: ignore[arg-type]
    assert [(one["label"], one["score"], one["person"]) for one in told] == [(1, 0.4, 0.7), (None, 0.0, 0.6)]
    assert told[1]["box"] == [0.5, 0, 0.6, 1]


# ------------------------------------------------------------------------------------------------------------------ learning


def mirror_image(boxes, values, height, width):
    """What cells say of an image, of its mirror image."""
    moved = torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1)
    parts, start = [], 0
    for stride in (8, 16, 32):
        rows, columns = height // stride, width // stride
        parts.append(torch.arange(start, start + rows * columns).reshape(rows, columns).flip(1).flatten())
        start += rows * columns
    order = torch.cat(parts)
    return moved[:, order], values[:, order]


def test_the_lesson_of_a_mirror_image_is_the_mirror_image_of_the_lesson():
    teacher, (count, height, width) = PersonDetector(), CELLS
    people_from_coco(teacher, random_coco())
    large = torch.randint(0, 256, (1, 3, 2 * height, 2 * width)).float()
    small = torch.nn.functional.avg_pool2d(large, 2)
    boxes, sure = lesson(teacher.eval(), small, large)
    assert boxes.shape == (1, count, 4) and ((sure >= 0) & (sure <= 1)).all()
    coarse = slice(8 * 12, None)  # levels that the image at twice its size has no say in
    found, other = lesson(teacher, small.flip(3), large.flip(3))
    wanted, value = mirror_image(boxes, sure, height, width)
    torch.testing.assert_close(other[:, coarse], value[:, coarse], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found[:, coarse], wanted[:, coarse], rtol=1e-3, atol=1e-2)


class SeesAtTwiceTheSize(nn.Module):
    """Somebody in one fine cell of the larger image, nobody in the smaller one."""

    def forward(self, images):
        height, width = images.shape[2:]
        count = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
        boxes, logits = torch.zeros(1, count, 4), torch.full((1, count), -9.0)
        if width == 192:
            boxes[0, 5 * 24 + 14], logits[0, 5 * 24 + 14] = torch.tensor([100.0, 30, 120, 60]), 2.0
        return boxes, logits


def test_who_is_seen_at_twice_the_size_is_learnt_in_the_finest_level():
    boxes, sure = lesson(SeesAtTwiceTheSize(), torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 128, 192))  # type: ignore[arg-type]
    assert (sure > 0.5).nonzero().tolist() == [[0, 2 * 12 + 7]]  # row 5 and column 14, halved
    assert boxes[0, 2 * 12 + 7].tolist() == [50, 15, 60, 30]


def test_spoilt_images_keep_their_shape_and_range():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 96)).float()
    found = [spoilt(images) for _ in range(12)]
    assert all(one.shape == images.shape and one.min() >= 0 and one.max() <= 255 for one in found)
    assert all(not torch.equal(one, other) for one, other in pairwise(found))
    softer = [(one.diff(dim=3).abs().mean() / one.std()).item() for one in found]
    assert min(softer) < 0.5 * max(softer), "some are blurred"


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


def test_images_of_a_batch_have_one_shape_and_show_one_frame_or_tiles(thinned, tiny_config):
    people = People(*thinned, replace(tiny_config, person_size=160), RUN)
    assert len(people) == 4 * len(thinned[0])
    shapes = {people.shape(batch) for batch in range(30)}
    assert (
        len(shapes) > 3
        and {max(shape) for shape in shapes} == {160}
        and all(side % 32 == 0 for shape in shapes for side in shape)
    )
    large = People(*thinned, replace(tiny_config, person_size=640), RUN)
    assert {max(large.shape(batch)) for batch in range(200)} == set(range(320, 641, 32))
    height, width = people.shape(7)
    images = [people[number, 11 + number, 7] for number in range(4)]
    assert all(image.shape == (3, 2 * height, 2 * width) and image.dtype == torch.uint8 for image in images)
    assert torch.equal(people[2, 13, 7], images[2])
    batch = collate_people(images, actions=6)
    assert batch.clip.shape == (4, 3, 1, 2 * height, 2 * width) and not batch.boxes.numel()


def _trainer(folder, thinned, config, monkeypatch, run=RUN):
    monkeypatch.setattr(loop, "coco_weights", lambda path: random_coco())
    torch.manual_seed(0)
    start = MSSC(replace(config, person="none"))
    weights = carry_over(start, config)
    dataset, cache = thinned
    few = dataset.subset([video.name for video in dataset.videos[:3]])  # four steps an epoch
    return start, loop.Trainer(config, run, folder, few, cache, coco=Path("teacher"), start=weights, progress=False, cpu=True)


def test_the_detector_of_people_learns_and_everything_else_stays(thinned, tiny_config, tmp_path, monkeypatch):
    config = replace(tiny_config, person="detector")
    start, trainer = _trainer(tmp_path / "a", thinned, config, monkeypatch)
    first = [p.detach().clone() for p in trainer.network.person.parameters()]
    trainer.run()
    after = load_model(tmp_path / "a" / "model")
    found = after.state_dict()
    for name, tensor in start.state_dict().items():  # BatchNorm's statistics too
        assert torch.equal(tensor, found[name]), name
    assert sum(not torch.equal(a, b) for a, b in zip(first, trainer.network.person.parameters(), strict=True)) > 0.9 * len(first)
    assert all(torch.equal(a, b) for a, b in zip(first, trainer.learner.teacher.parameters(), strict=True))
    _, cut = _trainer(tmp_path / "b", thinned, config, monkeypatch)
    cut.run(stop=lambda: cut.step == 3)
    _, resumed = _trainer(tmp_path / "b", thinned, config, monkeypatch)
    assert resumed.step == 3
    for one, other in zip(resumed.run().parameters(), after.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_detector_that_was_changed_comes_back_to_its_teacher(tiny_config, monkeypatch):
    monkeypatch.setattr("mssc.training.people.spoilt", lambda images: images)
    network, teacher = MSSC(replace(tiny_config, person="detector")).eval(), PersonDetector()
    assert network.person is not None
    for person in (teacher, network.person):
        people_from_coco(person, random_coco())
    learner = PersonLearner(network, teacher)
    images = torch.randint(0, 256, (1, 3, 128, 192))
    for conv in (*network.person.kinds, *network.person.boxes.obj_preds):
        nn.init.constant_(conv.bias, 3.0)  # type: ignore[arg-type]  # a person everywhere
    optimizer = torch.optim.Adam(network.person.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.stack(list(learner(images).values())).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_what_the_phase_needs_is_said(thinned, tiny_config, tmp_path):
    with pytest.raises(InputError, match="adds a detector of people to a model, taught by COCO's; name both"):
        loop.Trainer(tiny_config, RUN, tmp_path, *thinned, coco=Path("teacher"), start={}, progress=False, cpu=True)


# ------------------------------------------------------------------------------------------------------------------ streams


def _sees_people(config):
    torch.manual_seed(0)
    model = MSSC(replace(config, person="detector")).eval()
    for conv in (*model.person.boxes.obj_preds, *model.person.kinds):
        torch.nn.init.zeros_(conv.bias)  # else an untrained network sees nobody
    return model


def test_people_are_looked_for_now_and_then_and_stay_in_between(tiny_config):
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
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = Detector(_sees_people(tiny_config)).stream(6.0)(images)
    assert all(not np.array_equal(one.people, other.people) for one, other in pairwise(found))
    assert Detector(_sees_people(tiny_config)).stream(6.0).people_every == 1
    assert Detector(_sees_people(tiny_config)).stream(60.0).people_every == 12, "of which the network is shown every second"
    assert Detector(MSSC(tiny_config).eval()).stream(60.0).people_every is None, "where actions alone tell who is there"


def test_feet_are_no_person_of_their_own():
    boxes = torch.tensor([[[10.0, 10, 30, 60], [14, 50, 26, 60], [11, 12, 29, 38], [60, 50, 72, 60]]])
    for strong, left in ((3.0, 2), (-1.0, 4)):
        ((people, person),) = to_people(boxes, torch.tensor([[strong, 1.0, 0.5, 0.2]]), (64, 64), [(64, 64)])
        assert len(people) == len(person) == left, strong


def test_boxes_between_two_looks_lie_on_a_line():
    looks = Tube(3, 0.8, 2, [[0, 0, 10, 10], [8, 0, 18, 10]], [0.7, 0.9])
    tube = in_between(looks, 4, 100)
    assert (tube.label, tube.score, tube.start, tube.stop) == (3, 0.8, 8, 14)
    assert tube.boxes[:, 0].tolist() == [0, 2, 4, 6, 8, 8]
    np.testing.assert_allclose(tube.scores, [0.7, 0.75, 0.8, 0.85, 0.9, 0.9], rtol=1e-6)
    assert in_between(looks, 4, 13).stop == 13 and in_between(looks, 4, 16).stop == 16, "the video ends"
    assert in_between(looks, 1, 100).boxes.tolist() == looks.boxes.tolist()
