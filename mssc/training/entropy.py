"""How even SFM's exchange is while a model is validated, for each epoch's record: one-hot or flat, it no longer learns."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..model.backbone2d import STRIDES
from ..model.fusion import AttentionExchange, ContextExchange, context_entropy
from ..model.mssc import MSSC


@contextmanager
def exchange_entropies(model: MSSC) -> Iterator[dict[str, float]]:
    """Record them while the block runs.

    Args:
        model: of whatever fusion; not changed.

    Yields:
        Filled after the block: by ``entropy_<stride>``, in [0, 1], the mean over all key frames and both paths of the normalised entropy of
        a level's contexts (of the rows of its attention, where it attends over places); empty where nothing is exchanged.
    """
    sums: dict[str, list[Tensor]] = defaultdict(list)
    found: dict[str, float] = {}

    def recorder(name: str, by_place: bool) -> Any:
        def record(_module: nn.Module, _inputs: tuple, weights: Tensor) -> None:
            columns = weights.detach().float().transpose(-2, -1) if by_place else weights.detach()
            sums[name].append(context_entropy(columns).flatten())

        return record

    with ExitStack() as hooks:
        for place, level in enumerate(model.fusion.levels):
            for part in level.modules():
                if isinstance(part, ContextExchange | AttentionExchange):
                    by_place = isinstance(part, AttentionExchange)
                    what = part.weights if isinstance(part, AttentionExchange) else part.context
                    name = f"entropy_{STRIDES[place % len(STRIDES)]}"
                    hooks.enter_context(what.register_forward_hook(recorder(name, by_place)))
        yield found
    for name, values in sums.items():
        found[name] = sum(float(one.sum()) for one in values) / sum(len(one) for one in values)
