"""Weights for tests that a network's own, cautious initialisation would let pass: gates shut, branches near zero, norms that do nothing."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from mssc.config import ModelConfig
from mssc.model.mssc import MSSC

BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


def settle(module: nn.Module, run: Callable[[], object]) -> nn.Module:
    """Give BatchNorm the statistics of one call, so that activations keep a sane size through many layers.

    Args:
        module: changed in place.
        run: calls it.

    Returns:
        The module, in eval mode.
    """
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    with torch.no_grad():
        run()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.clamp_(min=0.3 * norm.running_var.mean())  # a channel that hardly varies would amplify rounding
    return module.eval()


def randomise(module: nn.Module, run: Callable[[], object] | None = None, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, so that each one matters. A whole network then amplifies rounding: compare in double precision.

    Args:
        module: changed in place.
        run: calls it once, see `settle`.
        seed: of the draw.

    Returns:
        The module, in eval mode.
    """
    torch.manual_seed(seed)
    for part in module.modules():
        for name, p in part.named_parameters(recurse=False):
            if isinstance(part, NORMS) and name == "weight":
                nn.init.uniform_(p, 0.5, 1.5)
            elif p.ndim > 2 or isinstance(part, nn.Linear):
                nn.init.normal_(p, std=1.5 / p[0].numel() ** 0.5)
            else:
                nn.init.normal_(p, std=0.3)
    return settle(module, run) if run is not None else module.eval()


def random_network(config: ModelConfig, classes: tuple[str, ...], seed: int = 0, **changes) -> MSSC:
    """A network with such weights, to be looked into.

    Args:
        config: its settings.
        classes: its actions.
        seed: of the weights.
        changes: to the settings.
    """
    torch.manual_seed(seed)
    model = MSSC(replace(config, classes=classes, **changes))
    clip = torch.rand(1, 3, 4, config.key_size, config.key_size) * 255
    return randomise(model, lambda: model(clip), seed).requires_grad_(False)


def finds_everywhere(config: ModelConfig) -> MSSC:
    """An untrained network, in eval mode, whose objectness is high everywhere, so that there is always something to find: two boxes."""
    torch.manual_seed(0)
    model = MSSC(replace(config, kept=2)).eval()
    for conv in model.head.boxes.obj_preds:
        nn.init.constant_(conv.bias, 4.0)
    return model
