"""Start from a model that knows other actions, or is built otherwise: all weights are kept that have a place."""

import logging

import torch
from torch import Tensor

from ..config import ModelConfig
from ..structures import InputError
from .mssc import MSSC

log = logging.getLogger(__name__)

MOTION_LOGITS = "head.pooled.movement.logits."
PER_CLASS = ("head.pooled.fused.logits.", MOTION_LOGITS, "head.anchor.cls_preds.")
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
        log.info("%d of %d classes are known to the model to start from; the others are new.", len(shared), len(config.classes))
    if new:
        log.info("%d of %d tensors have no place in the model to start from; they are new.", new, len(fresh))
    return weights


def motion_weights(start: MSSC, config: ModelConfig, weight: float = 1.0) -> dict[str, Tensor]:
    """The weights of a model's motion stream and of what judges by it, for a model of the same classes.

    Args:
        start: the model that has them. Not modified.
        config: the other model's.
        weight: what its logits are multiplied by. Trained by itself, the stream is surer than it should be beside others.

    Raises:
        InputError: if there are none, or the classes differ.
    """
    if start.config.classes != config.classes:
        raise InputError(
            f"the motion stream has learnt {start.config.classes}, the model {config.classes}; train it on this data set."
        )
    mine = {id(p) for module in start.motion_modules() for p in (*module.parameters(), *module.buffers())}
    found = {name: tensor.detach() for name, tensor in start.state_dict(keep_vars=True).items() if id(tensor) in mine}
    if not found:
        raise InputError("the model has no motion stream to start from; train one with --learn motion.")
    return {name: weight * tensor if name.startswith(MOTION_LOGITS) else tensor for name, tensor in found.items()}
