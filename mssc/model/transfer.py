"""Start from a model that knows other actions, or is built otherwise: all weights are kept that have a place."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .backbone2d import CSPDarknet
from .backbone3d import CausalDarknet
from .convert import CocoDetector
from .image import ImagePath
from .mssc import MSSC
from .person import PersonDetector

log = logging.getLogger(__name__)

PER_CLASS = (
    "head.classifier.branch.logits.",
    "head.classifier.fused.logits.",
    "head.classifier.flow.logits.",
    "head.classifier.cls_preds.",
)
"""Beginnings of the names of tensors with a row per class."""


def carry_over(start: MSSC, config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights for a model from those of another one.

    Args:
        start: the model to start from. Not modified.
        config: the new model's. The rows of classes that `start` knows by the same name are kept, and every tensor that `start`
            has by the same name and shape; others are new.
        seed: of what is new.

    Returns:
        A complete state dict.
    """
    old = start.state_dict()
    if config == start.config:
        return old
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MSSC(config).state_dict()
    known = {name: row for row, name in enumerate(start.config.classes)}
    shared = [(row, known[name]) for row, name in enumerate(config.classes) if name in known]
    weights, new = {}, 0
    for name, tensor in fresh.items():
        weights[name] = tensor.clone()
        there = old.get(name)
        if there is not None and name.startswith(PER_CLASS) and there.shape[1:] == tensor.shape[1:]:
            for row, source in shared:
                weights[name][row] = there[source]
        elif there is not None and there.shape == tensor.shape:
            weights[name] = there
        else:
            new += 1
    if config.classes != start.config.classes:
        folded = {name.casefold(): name for name in known}
        strange = [name for name in config.classes if name not in known]
        strange = [f"{name} (it has {folded[name.casefold()]})" if name.casefold() in folded else name for name in strange]
        others = f"; new: {', '.join(strange)}" if strange else ""
        log.info("the model to start from knows %d of %d classes%s.", len(shared), len(config.classes), others)
    if new:
        log.info("%d of %d tensors have no place in the model to start from; they are new.", new, len(fresh))
    return weights


def flow_alone(start: MSSC, rgb: Tensor) -> MSSC:
    """The same network without the frames' half of its 3D path, as if that said what it says on average, wherever one looks.

    Args:
        start: its 3D path is ``causal_cspdarknet_nano``. Not modified.
        rgb: (C,) that average: of the map's channels which do not come from the flow stream. It goes into the bias of P3.
    """
    old, network = start.state_dict(), MSSC(replace(start.config, backbone3d="causal_flow", rgb_dropout=0.0))
    weights = {name: old[name] for name in network.state_dict()}
    seen = weights["video.before.weight"]
    weights["video.before.weight"] = seen[:, len(rgb) :]
    weights["video.before.bias"] = weights["video.before.bias"] + seen[:, : len(rgb)] @ rgb
    network.load_state_dict(weights)
    return network.eval()


def start_from_coco(model: MSSC, detector: CocoDetector) -> list[nn.Parameter]:
    """Give a network a COCO detector's weights, in both paths.

    Args:
        model: changed in place.
        detector: see `mssc.model.convert.coco_weights`.

    Returns:
        The parameters that were set, for a gentler learning rate.
    """
    pairs: list[tuple[nn.Module, nn.Module]] = []
    started: list[nn.Parameter] = []
    if isinstance(model.image, ImagePath) and isinstance(model.image.backbone, CSPDarknet):
        image = model.image
        pairs += [(image.backbone, detector.backbone), (image.neck, detector.neck), (image.stems, detector.tower.stems)]
    head, tower = model.head, detector.tower
    pairs += [(head.stems, tower.stems), (head.cls_convs, tower.cls_convs), (head.reg_convs, tower.reg_convs)]
    pairs += [(head.boxes.reg_preds, detector.reg_preds), (head.boxes.obj_preds, detector.obj_preds)]
    for ours, theirs in pairs:
        if not _same_shapes(ours, theirs):
            continue  # left out, or of another width
        ours.load_state_dict(theirs.state_dict())
        started += ours.parameters()
    if isinstance(model.video.backbone, CausalDarknet):
        model.video.backbone.inflate(detector.backbone)
        started += list(model.video.backbone.net.parameters())
    if model.person is not None:
        people_from_coco(model.person, detector)
    return started


def people_from_coco(person: PersonDetector, detector: CocoDetector) -> None:
    """Make of a detector of people the COCO detector, of whose classes the first is a person.

    Args:
        person: changed in place.
        detector: see `mssc.model.convert.coco_weights`.
    """
    pairs = ((person.backbone, detector.backbone), (person.neck, detector.neck), (person.tower, detector.tower))
    pairs += ((person.boxes.reg_preds, detector.reg_preds), (person.boxes.obj_preds, detector.obj_preds))
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    person.kinds.load_state_dict({name: tensor[:1] for name, tensor in detector.cls_preds.state_dict().items()})


def _same_shapes(ours: nn.Module, theirs: nn.Module) -> bool:
    one, other = ours.state_dict(), theirs.state_dict()
    return one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)


def first_stages(model: MSSC) -> Iterator[nn.Module]:
    """Stem and first stage of both darknets: training may keep them as COCO left them."""
    for backbone in (getattr(model.image, "backbone", None), model.video.backbone):
        net = getattr(backbone, "net", backbone)
        if isinstance(net, CSPDarknet):
            yield from (net.stem, net.dark2)
