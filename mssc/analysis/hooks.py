"""What named parts of a network compute, while it computes it."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..structures import InputError


class Captured(dict[str, Any]):
    """The last output of each named submodule, by name: a tensor, or a tuple of them as the submodule returns it.

    Attributes:
        inputs: the positional arguments of the last call, by name, for the names given as `inputs`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, tuple] = {}


@contextmanager
def capture(model: nn.Module, *names: str, inputs: Sequence[str] = (), detach: bool = True) -> Iterator[Captured]:
    """Record what submodules put out, and take in, while the block runs::

        with capture(model, "motion", "fusion.0.exchange") as seen:
            model(clip)
        corrected, moved = seen["fusion.0.exchange"]

    Args:
        model: not changed; the hooks are gone after the block.
        names: of submodules whose outputs to record, as in ``model.named_modules()``. Of several calls, the last one counts.
        inputs: names of submodules whose positional arguments to record.
        detach: copy tensors out of the graph. A copy, because later layers may work in place; without it the tensors themselves are
            kept, for gradients.

    Raises:
        InputError: for a compiled model, which runs past hooks; for a name that does not exist; after the block, for a submodule that
            did not run in it.
    """
    _refuse_compiled(model)
    modules = dict(model.named_modules())
    for name in (*names, *inputs):
        if name not in modules:
            near = difflib.get_close_matches(name, modules, 3) or [key for key, _ in model.named_children()][:8]
            raise InputError(f"the model has no submodule {name!r}; there are, for example, {', '.join(near)}.")
    seen = Captured()

    def recorder(name: str, into: dict[str, Any], which: int) -> Any:
        def record(_module: nn.Module, *values: Any) -> None:  # arguments, and output where there is one
            into[name] = _copy(values[which]) if detach else values[which]

        return record

    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(modules[name].register_forward_hook(recorder(name, seen, 1)))
        for name in inputs:
            hooks.enter_context(modules[name].register_forward_pre_hook(recorder(name, seen.inputs, 0)))
        yield seen
    silent = [name for name in names if name not in seen] + [name for name in inputs if name not in seen.inputs]
    if silent:
        raise InputError(f"the submodule {silent[0]!r} did not run ({len(silent)} in all); run the model inside the block.")


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        items = [_copy(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _refuse_compiled(model: nn.Module) -> None:
    # Hooks that come after compilation are left out of the compiled code, without a word.
    compiled = isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod")
    if compiled or any(getattr(part, "_compiled_call_impl", None) is not None for part in model.modules()):
        raise InputError(f"the {type(model).__name__} is compiled and would run past the hooks; capture before compiling it.")
