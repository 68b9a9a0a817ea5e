"""What a step of training is made of: mixed clips, one forward pass and its losses, the learning rate, the average of the weights."""

import copy
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ModelConfig, TrainConfig
from ..data.clips import Batch
from ..model.features import Features, ImageFeatures
from ..model.mssc import MSSC
from ..model.transfer import first_stages
from ..structures import InputError, Predictions
from .heads import Asked, TrainingHeads
from .losses import action_loss, box_losses

ROIS_PER_BOX = 3  # jittered copies of a true box whose actions are judged: proposals are never exact
ROI_SHIFT, ROI_SCALE = 0.1, 0.2
DETECT_WHEN_MIXED = 0.35  # the fainter clip's actors are to be found from this share on


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak: a linear rise over the first `warmup` of all steps, then half a cosine to 1 % of it."""
    rise = max(round(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def parameter_groups(model: nn.Module, started: list[nn.Parameter], train: TrainConfig) -> list[dict]:
    """Parameters by learning rate (initialised ones are gentler) and by weight decay (matrices only)."""
    known = {id(p) for p in started}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            rate = train.learning_rate * (train.initialised_rate if id(p) in known else 1)
            groups.setdefault((rate, train.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return [{"params": ps, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]


def freeze(model: MSSC, train: TrainConfig) -> None:
    """Keep what the run does not train as it is, BatchNorm statistics too: what has no part in its phase, and stem and first stage, if it
    asks for that. The statistics of the detector of people are always kept. Call after `model.train()`."""
    for name, module in model.named_children():
        if name == "person" or train.phase not in ("all", name):
            module.requires_grad_(name == train.phase).eval()
    for module in first_stages(model) if train.frozen == "stem" else ():
        module.requires_grad_(False).eval()


def mix(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """Blend the clips with one another (mixup), boxes and actions with them.

    Args:
        batch: one. Not modified.
        share: of the batches that are mixed.
        rng: is drawn from.
    """
    if rng.random() >= share or len(batch.clip) < 2:
        return batch
    weight = rng.random()  # Beta(1, 1)
    weight = max(weight, 1 - weight)
    keys = len(batch.boxes) // len(batch.clip)
    clip = batch.clip.float().lerp(batch.clip.roll(1, 0).float(), 1 - weight)
    mine, theirs = batch.actions, batch.actions.roll(keys, 0)
    mean = [x.sum(1, keepdim=True) / (x.sum((1, 2), keepdim=True).clamp(min=1)) for x in (mine, theirs)]

    def blend(own: Tensor, own_weight: float, foreign: Tensor) -> Tensor:
        """A box's own actions, and what the other clip shows on average, in the shares of the mixture."""
        real = own.any(2, keepdim=True)
        return torch.where(real, own_weight * own + (1 - own_weight) * foreign, 0)

    actions = [blend(mine, weight, mean[1])]
    boxes = [batch.boxes]
    if 1 - weight >= DETECT_WHEN_MIXED:
        actions.append(blend(theirs, 1 - weight, mean[0]))
        boxes.append(batch.boxes.roll(keys, 0))
    return Batch(clip, batch.keys, torch.cat(boxes, 1), torch.cat(actions, 1))


def jitter(boxes: Tensor, size: int) -> Tensor:
    """(P, 4) to (P, R, 4): copies shifted and scaled a little, inside the frame, as proposals are."""
    copies = boxes[:, None].expand(-1, ROIS_PER_BOX, -1)
    centre, side = (copies[..., :2] + copies[..., 2:]) / 2, copies[..., 2:] - copies[..., :2]
    noise = torch.randn(*copies.shape[:-1], 4, device=boxes.device).clamp(-2, 2)
    centre = centre + side * noise[..., :2] * ROI_SHIFT / 2
    side = side * (noise[..., 2:] * ROI_SCALE / 2).exp()
    return torch.cat([centre - side / 2, centre + side / 2], -1).clamp(0, size)


class Learner(nn.Module):
    """A network and its training heads as one module: what is wrapped where several GPUs learn.

    Args:
        network: the network.
        heads: its training heads.
        phase: "all", or "video" for the video path and its heads alone.
    """

    def __init__(self, network: MSSC, heads: TrainingHeads, phase: str = "all") -> None:
        super().__init__()
        self.network, self.heads, self.phase = network, heads, phase

    def forward(self, clip: Tensor, keys: Tensor, asked: Asked) -> tuple[Predictions | None, dict[str, Tensor]]:
        """What the network predicts for boxes to classify, and the losses of the heads. In the phase "video" there are no predictions."""
        state = self.network.initial_state(len(clip))
        if self.phase == "video":
            video, _ = self.network.video(clip, state, keys)
            return None, self.heads(Features(ImageFeatures((), ()), video, ()), keys, asked)
        features, _ = self.network.features(clip, state, keys)
        return self.network.head(features, asked.rois), self.heads(features, keys, asked)


def compute_losses(learner: nn.Module, batch: Batch, config: ModelConfig, train: TrainConfig) -> dict[str, Tensor]:
    """One forward pass of a `Learner` and its losses, see `mssc.training.losses` and `mssc.training.heads`; in the phase "person" of a
    `PersonLearner`, in the phase "fusion" of a `FusionLearner`."""
    if train.phase == "person":
        return learner(batch.clip[:, :, 0])
    if train.phase == "fusion":
        return learner(batch.clip, batch.keys)
    real = batch.actions.any(2)
    rois = jitter(batch.boxes.flatten(0, 1), config.key_size).unflatten(0, real.shape).flatten(1, 2)
    judged = real.repeat_interleave(ROIS_PER_BOX, 1)
    wanted = batch.actions.repeat_interleave(ROIS_PER_BOX, 1)
    out, losses = learner(batch.clip, batch.keys, Asked(rois, wanted, judged, batch.boxes, real, train.label_smoothing))
    if out is None:
        return losses
    losses |= box_losses(out, batch.boxes, real, config.key_size)
    return losses | {"action": action_loss(out.logits, wanted, judged, config, train.label_smoothing)}


class FusionLearner(nn.Module):
    """A network whose fusion learns to say what another one's says of the same maps, which both paths give as they are ("distillation",
    Hinton et al., 2015; of maps, Romero et al., "FitNets", 2015).

    Args:
        network: of which nothing else learns.
        teacher: the same network with another fusion.

    Raises:
        InputError: if they differ in more than that.
    """

    def __init__(self, network: MSSC, teacher: MSSC) -> None:
        super().__init__()
        place = ("fusion_position", "fusion_branch")  # which decide what goes in and out
        other = {name: value for name, value in vars(network.config).items() if name.startswith("fusion") and name not in place}
        if dataclasses.replace(teacher.config, **other) != network.config:
            raise InputError(
                "the phase 'fusion' gives a model another fusion; change nothing but --model.fusion-... of the one to start from, and "
                "neither its position nor its branch."
            )
        self.network, self.teacher = network, teacher.eval().requires_grad_(False)
        network.fusion.drop.eval()

    def forward(self, clip: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """The loss: what the teacher's maps vary by, channel by channel, and the network's do not tell, summed over levels."""
        with torch.no_grad():
            wanted, _ = self.teacher.features(clip, self.teacher.initial_state(len(clip)), keys)
        found = self.network.fusion(wanted.image, wanted.video)
        parts = []
        for one, other in zip(found, wanted.fused, strict=True):
            spread = other.float().var((0, 2, 3), keepdim=True).clamp(min=1e-6)
            parts.append(((one.float() - other.float()).square() / spread).mean())
        return {"fusion": torch.stack(parts).sum()}


class WeightAverage:
    """An exponential average of a network's parameters and buffers that trusts the first steps less: min(decay, (1 + n) / (10 + n)).

    Args:
        network: is copied, and looked at in every update; it stays on its device.
        decay: of the average, in [0, 1].
    """

    def __init__(self, network: MSSC, decay: float) -> None:
        self.module, self.decay, self.count = copy.deepcopy(network), decay, 0
        pairs = list(zip(self.module.state_dict().values(), network.state_dict().values(), strict=True))
        self.weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self.numbers = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights in as they are now."""
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        averages, weights = map(list, zip(*self.weights, strict=True))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        if self.numbers:
            copies, numbers = map(list, zip(*self.numbers, strict=True))
            torch._foreach_copy_(copies, numbers)
        self.count += 1
