"""Weights for tests that a network's own, cautious initialisation would let pass: gates shut, branches near zero, norms that do nothing."""

from collections.abc import Callable

import torch
from torch import nn

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def randomise(module: nn.Module, run: Callable[[], object] | None = None, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, so that each one matters.

    Args:
        module: changed in place.
        run: calls it once, to give BatchNorm the statistics of that call: activations then keep a sane size through many layers.
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
    if run is not None:
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        module.train()
        with torch.no_grad():
            run()
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
    return module.eval()
