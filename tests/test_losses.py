"""Assignment against brute force, losses against numbers worked out by hand."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from mssc.config import ModelConfig, TrainConfig
from mssc.structures import Predictions
from mssc.training.losses import action_loss, anchor_centres, assign, box_losses, total

SIZE = 64
CENTRES, STRIDES = anchor_centres(SIZE, torch.device("cpu"))
EXCLUSIVE, MULTILABEL = ModelConfig(classes=("a", "b", "c")), ModelConfig(classes=("a", "b", "c"), actions="multilabel")


def _predicted(seed):
    """Boxes near their anchors, and objectness logits."""
    generator = torch.Generator().manual_seed(seed)
    n = len(CENTRES)
    middle = CENTRES + STRIDES[:, None] * torch.randn(n, 2, generator=generator)
    half = STRIDES[:, None] * torch.rand(n, 2, generator=generator) * 2 + 1
    return torch.cat([middle - half, middle + half], 1), 2 * torch.randn(n, generator=generator)


def _assigned(boxes, objectness, truth):
    """The assignment of one image: {anchor: box}."""
    found, which = assign(
        boxes[None], objectness[None], truth[None], torch.ones(1, len(truth), dtype=torch.bool), CENTRES, STRIDES
    )
    return {anchor: int(which[0, anchor]) for anchor in found[0].nonzero()[:, 0].tolist()}


def _truth(seed, count):
    generator = torch.Generator().manual_seed(100 + seed)
    corner = 40 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 4 + 20 * torch.rand(count, 2, generator=generator)], 1)


def _simota(boxes, objectness, truth):
    """SimOTA in plain loops: {anchor: box}."""
    n, m = len(boxes), len(truth)
    overlap = box_iou(boxes, truth)
    inside, near = [[False] * m for _ in range(n)], [[False] * m for _ in range(n)]
    for a in range(n):
        x, y = CENTRES[a].tolist()
        for t in range(m):
            x1, y1, x2, y2 = truth[t].tolist()
            inside[a][t] = x1 < x < x2 and y1 < y < y2
            near[a][t] = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 2.5 * STRIDES[a].item()
    candidates = [a for a in range(n) if any(inside[a]) or any(near[a])]

    def cost(a, t):
        found = math.log1p(math.exp(-objectness[a].item()))
        return found - 3 * math.log(overlap[a, t].item() + 1e-8) + (0 if inside[a][t] and near[a][t] else 1e5)

    wanted: dict[int, list[int]] = {}
    for t in range(m):
        best = sorted((overlap[a, t].item() for a in candidates), reverse=True)[:10]
        k = max(int(sum(best)), 1)
        for a in sorted(candidates, key=lambda a: cost(a, t))[:k]:
            wanted.setdefault(a, []).append(t)
    return {a: ts[0] if len(ts) == 1 else min(range(m), key=lambda t: cost(a, t)) for a, ts in wanted.items()}


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_assignment_is_simota(seed, count):
    (boxes, objectness), truth = _predicted(seed), _truth(seed, count)
    if seed % 2:  # a network that has learnt: several anchors per box
        near = (CENTRES[:, None] - (truth[:, :2] + truth[:, 2:]) / 2).abs().amax(2).argmin(1)
        boxes = torch.where(torch.arange(len(boxes))[:, None] % 3 > 0, truth[near], boxes)
        boxes = boxes + 0.1 * torch.randn(boxes.shape, generator=torch.Generator().manual_seed(seed))
    wanted = _simota(boxes, objectness, truth)
    assert _assigned(boxes, objectness, truth) == wanted
    assert len(wanted) > (count if seed % 2 else 0)


def test_images_of_a_batch_are_assigned_each_by_itself():
    images = [(*_predicted(seed), _truth(seed, seed)) for seed in range(5)]  # none to four boxes, the rest is padding
    truth, real = torch.zeros(5, 4, 4), torch.zeros(5, 4, dtype=torch.bool)
    for image, (_, _, boxes) in enumerate(images):
        rows = torch.arange(4 - len(boxes), 4) if image % 2 else torch.arange(len(boxes))  # padding before or after
        truth[image, rows], real[image, rows] = boxes, True
    found, which = assign(*(torch.stack(x) for x in list(zip(*images, strict=True))[:2]), truth, real, CENTRES, STRIDES)
    for image, one in enumerate(images):
        wanted = {anchor: one[2][box].tolist() for anchor, box in _simota(*one).items()} if image else {}
        assert {n: truth[image, which[image, n]].tolist() for n in found[image].nonzero()[:, 0].tolist()} == wanted


def test_a_tiny_box_between_the_centres_gets_an_anchor_near_it():
    truth = torch.tensor([[31.5, 31.5, 32.5, 32.5]])  # the four nearest centres are 4 pixels away: none is inside
    ((anchor, _),) = _assigned(*_predicted(1), truth).items()
    assert ((CENTRES[anchor] - 32).abs() < 2.5 * STRIDES[anchor]).all()


def test_a_box_no_anchor_is_near_gets_the_nearest():
    truth = torch.tensor([[-90.0, -90, -80, -80]])
    assert _assigned(*_predicted(1), truth) == {0: 0}  # the top left cell of the finest level


def test_two_boxes_that_want_one_anchor_do_not_share_it():
    truth = torch.tensor([[8.0, 8, 40, 40], [12, 12, 44, 44]])
    boxes = torch.cat([CENTRES - 1, CENTRES + 1], 1)
    middle = int((CENTRES - 28).abs().sum(1)[:64].argmin())  # a cell of the finest level inside both
    boxes[middle] = torch.tensor([11.0, 11, 43, 43])  # three pixels from the first box, one from the second
    assert _assigned(boxes, torch.zeros(len(boxes)), truth)[middle] == 1


def test_assignment_leaves_its_inputs_alone():
    real = torch.ones(1, 3, dtype=torch.bool)
    inputs = (*(x[None] for x in (*_predicted(2), _truth(2, 3))), real, CENTRES.clone(), STRIDES.clone())
    before = [x.clone() for x in inputs]
    assign(*inputs)
    assert all(map(torch.equal, inputs, before))


def test_anchor_centres_of_an_odd_size():
    centres, strides = anchor_centres(96, torch.device("cpu"))
    assert len(centres) == 144 + 36 + 9 and strides.unique().tolist() == [8, 16, 32]
    assert centres[13].tolist() == [12, 12] and centres[-1].tolist() == [80, 80]  # row 1, column 1; the last of the coarsest


# -------------------------------------------------------------------------------------------------------------------- boxes


def _predictions(boxes, objectness):
    nothing = torch.zeros(len(boxes), 0, 4)
    return Predictions(boxes, objectness, nothing, nothing[..., 0], nothing)


def test_box_losses_by_hand():
    # One box; only the anchor at (12, 12) predicts something that overlaps it: IoU 0.5, hence one positive.
    truth = torch.tensor([[[8.0, 8, 16, 16]]])
    boxes = torch.cat([CENTRES + 200, CENTRES + 208], 1)[None]
    anchor = int((CENTRES[:64] == 12).all(1).nonzero()[0])
    boxes[0, anchor] = torch.tensor([8.0, 8, 16, 12])
    objectness = torch.full((1, len(CENTRES)), -2.0)
    losses = box_losses(_predictions(boxes, objectness), truth, torch.ones(1, 1, dtype=torch.bool), SIZE)
    # The smallest box around both is the truth itself: GIoU = IoU = 32 / 64.
    assert losses["box"].item() == pytest.approx(0.5, abs=1e-5)
    wanted = (len(CENTRES) - 1) * math.log1p(math.exp(-2)) + math.log1p(math.exp(2))
    assert losses["objectness"].item() == pytest.approx(wanted, rel=1e-5)
    boxes[0, anchor] = torch.tensor([8.0, 16, 16, 24])  # beside it: IoU 0; 128 of the 128 around both are covered
    assert box_losses(_predictions(boxes, objectness), truth, torch.ones(1, 1, dtype=torch.bool), SIZE)["box"].item() > 0.99
    assert len(_assigned(boxes[0], objectness[0], truth[0])) == 1


def test_giou_of_boxes_apart_by_hand():
    truth, boxes = torch.tensor([[[8.0, 8, 16, 16]]]), torch.tensor([[0.0, 0, 4, 4]]).repeat(1, len(CENTRES), 1)
    losses = box_losses(_predictions(boxes, torch.zeros(1, len(CENTRES))), truth, torch.ones(1, 1, dtype=torch.bool), SIZE)
    # union 64 + 16 = 80, around both 16 x 16 = 256: GIoU = 0 - (256 - 80) / 256
    assert losses["box"].item() == pytest.approx(1 + 176 / 256, abs=1e-5)


def test_padding_is_no_box_and_a_batch_counts_together():
    boxes, objectness = (torch.stack(pair) for pair in zip(_predicted(0), _predicted(1), strict=True))
    truth = torch.zeros(2, 3, 4)
    truth[0], truth[1, :1] = _truth(0, 3), _truth(1, 1)
    real = torch.tensor([[True, True, True], [True, False, False]])
    both = box_losses(_predictions(boxes, objectness), truth, real, SIZE)
    parts, count = {"box": 0.0, "objectness": 0.0}, 0
    for image in range(2):
        here, alone = truth[image][real[image]], _predictions(boxes[image][None], objectness[image][None])
        one = box_losses(alone, here[None], torch.ones(1, len(here), dtype=torch.bool), SIZE)
        positives = len(_assigned(boxes[image], objectness[image], here))
        count += positives
        parts = {name: parts[name] + value.item() * positives for name, value in one.items()}
    assert {k: v.item() for k, v in both.items()} == pytest.approx({k: v / count for k, v in parts.items()}, rel=1e-5)


@pytest.mark.parametrize("rows", [0, 2])  # no row at all, or padding only
def test_a_frame_without_actors_teaches_objectness_only(rows):
    boxes, objectness = (x[None].clone().requires_grad_() for x in _predicted(0))
    losses = box_losses(_predictions(boxes, objectness), torch.zeros(1, rows, 4), torch.zeros(1, rows, dtype=torch.bool), SIZE)
    assert losses["box"].item() == 0
    assert losses["objectness"].item() == pytest.approx(torch.nn.functional.softplus(objectness).sum().item(), rel=1e-5)
    sum(losses.values()).backward()
    assert (objectness.grad > 0).all() and (boxes.grad is None or not boxes.grad.any())


def test_gradient_reaches_the_assigned_boxes_only():
    boxes, objectness = (x[None].clone().requires_grad_() for x in _predicted(3))
    truth = _truth(3, 2)
    wanted = sorted(_assigned(boxes[0].detach(), objectness[0].detach(), truth))
    box_losses(_predictions(boxes, objectness), truth[None], torch.ones(1, 2, dtype=torch.bool), SIZE)["box"].backward()
    assert boxes.grad[0].abs().sum(1).nonzero()[:, 0].tolist() == wanted


# ------------------------------------------------------------------------------------------------------------------ actions


def _action_loss(logits, actions, config, smoothing):
    return action_loss(logits, actions, torch.ones(len(logits), dtype=torch.bool), config, smoothing)


def test_exclusive_actions_by_hand():
    logits, actions = torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([[1.0, 0, 0]])  # probabilities 1/2, 1/4, 1/4
    assert _action_loss(logits, actions, EXCLUSIVE, 0.0).item() == pytest.approx(math.log(2))
    assert _action_loss(logits, actions, EXCLUSIVE, 0.3).item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4))
    mixed = torch.tensor([[0.75, 0.25, 0.0]])
    assert _action_loss(logits, mixed, EXCLUSIVE, 0.0).item() == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(4))
    assert _action_loss(logits, mixed / 2, EXCLUSIVE, 0.0).item() == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(4))


def test_multilabel_actions_by_hand():
    logits, actions = torch.tensor([[0.0, math.log(3), 0.0]]), torch.tensor([[1.0, 1, 0]])  # probabilities 1/2, 3/4, 1/2
    wanted = math.log(2) + math.log(4 / 3) + math.log(2)
    assert _action_loss(logits, actions, MULTILABEL, 0.0).item() == pytest.approx(wanted)
    smoothed = math.log(2) + 0.95 * math.log(4 / 3) + 0.05 * math.log(4) + math.log(2)
    assert _action_loss(logits, actions, MULTILABEL, 0.1).item() == pytest.approx(smoothed)


@pytest.mark.parametrize("config", [EXCLUSIVE, MULTILABEL])
def test_actions_are_a_mean_over_boxes(config):
    logits, actions = torch.randn(5, 3), torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    singles = [_action_loss(logits[i : i + 1], actions[i : i + 1], config, 0.1) for i in range(5)]
    assert torch.allclose(_action_loss(logits, actions, config, 0.1), torch.stack(singles).mean())
    real = torch.tensor([True, False, True, True, False])
    assert torch.allclose(action_loss(logits, actions, real, config, 0.1), torch.stack(singles)[real].mean())


@pytest.mark.parametrize("config", [EXCLUSIVE, MULTILABEL])
def test_no_box_costs_nothing_and_keeps_the_graph(config):
    layer = torch.nn.Linear(4, 3)
    loss = _action_loss(layer(torch.zeros(0, 4)), torch.zeros(0, 3), config, 0.1)
    assert loss.item() == 0
    loss.backward()
    assert not layer.weight.grad.any()


def test_total_is_the_weighted_sum():
    losses = {"objectness": torch.tensor(1.0), "box": torch.tensor(0.5), "action": torch.tensor(2.0)}
    assert total(losses, TrainConfig(box_weight=4.0, action_weight=3.0)).item() == pytest.approx(1 + 2 + 6)
