"""What may stand in for a part of a trained network, and which parts a network has.

A part is never changed: another module takes its place, by its name, and is taken out again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..model.fusion import AttentionExchange, ChannelEmbedding, SemanticCorrectionFusion
from ..model.image import NoImage
from ..model.motion import MotionSense, NoBranch, NoMotionSense, VideoAverage
from ..model.mssc import MSSC
from ..model.video import NoVideo, WindowedVideoPath
from .exchange import exchange_of
from .hooks import Captured, capture

STRIDES = (8, 16, 32)
OTHER, ZERO, IDENTITY, UNIFORM = "another class", "zeros", "identity", "uniform"
"""Kinds of interventions: what a video of another class gives, nothing, the input as it is, all weights alike."""
MOTION_INPUT, IMAGE_INPUT = "motion into fusion", "image into fusion"
MSM, EXCHANGE = "MSM", "SFM stage 1"


class StandIn(nn.Module):
    """Computes something else than a module; whatever else it is asked (a convolution's kernel, a backbone's first state) the module says.

    Args:
        of: the module.
    """

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("of"), name)


class Replay(StandIn):
    """Gives the same, whatever it is given.

    Args:
        of: the module.
        value: what to give.
    """

    def __init__(self, of: nn.Module, value: Any) -> None:
        super().__init__(of)
        self.value = value

    def forward(self, *_: object) -> Any:
        """The value."""
        return self.value


class Given(StandIn):
    """A module some of whose positional arguments are others.

    Args:
        of: the module.
        values: by the argument's place.
    """

    def __init__(self, of: nn.Module, values: Mapping[int, Any]) -> None:
        super().__init__(of)
        self.values = dict(values)

    def forward(self, *arguments: Any) -> Any:
        """What the module makes of them."""
        return self.of(*(self.values.get(place, value) for place, value in enumerate(arguments)))


class Even(StandIn):
    """A module whose output (B, T, H, W, D) becomes the same in all places and channels of a frame: its mean."""

    def forward(self, *arguments: Any) -> Tensor:
        """Of the module's shape."""
        out = self.of(*arguments)
        return out.mean((2, 3, 4), keepdim=True).expand_as(out)


class Computed(nn.Module):
    """Gives a function of what it is given.

    Args:
        function: of the arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> Any:
        """What it gives."""
        return self.function(*arguments)


def even_context(keys: Tensor, values: Tensor) -> Tensor:
    """Of a `ChannelContext`, (B, heads, N, d) twice to (B, heads, d, d), that mixes all channels of a head alike: each is 1 / d."""
    return keys.new_full((*keys.shape[:2], keys.shape[3], values.shape[3]), 1 / keys.shape[3])


def even_weights(scores: Tensor) -> Tensor:
    """Of a softmax over places, (B, heads, N, M) to the same shape, by which all count alike: each is 1 / M."""
    return torch.full_like(scores, 1 / scores.shape[-1])


@contextmanager
def standing_in(model: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within the block, modules of a model are others, for everyone who uses it.

    Args:
        model: as it was, after the block.
        modules: by the name of whose place they take.
    """
    before = {name: model.get_submodule(name) for name in modules}
    try:
        for name, module in modules.items():
            model.set_submodule(name, module)
        yield
    finally:
        for name, module in before.items():
            model.set_submodule(name, module)


# -------------------------------------------------------------------- what takes a module's place

Change = Callable[[nn.Module, str, Captured, Captured], nn.Module]
"""From a module, its name, what was recorded of a clip, and of as many frames of another class's video, to its stand-in."""


def zeros(value: Any) -> Any:
    """A tensor, or nested tuples of tensors, of zeros of the same shapes."""
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    items = [zeros(item) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def others_output(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
    """Gives what the module made of the other video."""
    return Replay(module, other[name])


def zero_output(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
    """Gives zeros."""
    return Replay(module, zeros(own[name]))


def others_input(*places: int) -> Change:
    """The module, given what it was given of the other video in these places of its arguments."""

    def change(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
        return Given(module, {place: other.inputs[name][place] for place in places})

    return change


def zero_input(place: int) -> Change:
    """The module, given zeros in this place of its arguments."""

    def change(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
        return Given(module, {place: zeros(own.inputs[name][place])})

    return change


def channels(kind: str, chosen: Callable[[int], slice]) -> Change:
    """A backbone some channels of whose map are the other video's, or zero.

    Args:
        kind: `OTHER` or `ZERO`.
        chosen: of how many channels, which ones.
    """

    def change(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
        maps, state = own[name]
        maps, part = maps.clone(), chosen(maps.shape[1])
        maps[:, part] = other[name][0][:, part] if kind == OTHER else 0
        return Replay(module, (maps, state))

    return change


def even(module: nn.Module, name: str, own: Captured, other: Captured) -> nn.Module:
    """The module with its weights made even."""
    return Even(module)


def always(make: Callable[[], nn.Module]) -> Change:
    """A module that depends on nothing."""
    return lambda module, name, own, other: make()


def computed(function: Callable[..., Any]) -> Change:
    """A function of what the module is given."""
    return always(lambda: Computed(function))


zeros_alike = computed(lambda x, *_: torch.zeros_like(x))
zero_skip = computed(lambda x: x.new_zeros(1))  # broadcasts to anything
both_as_they_are = computed(lambda spatial, motion: (spatial, motion))


# -------------------------------------------------------------------- what a network has


class Intervention(NamedTuple):
    """A part of a network, and what becomes of it.

    Attributes:
        part: as people call it.
        kind: `OTHER`, `ZERO`, `IDENTITY` or `UNIFORM`.
        changes: what takes whose place, by name.
    """

    part: str
    kind: str
    changes: Mapping[str, Change]

    def in_video_path(self, model: MSSC) -> bool:
        """Whether it changes what the video path remembers."""
        return any(name.startswith(f"{video_path_of(model)}.") for name in self.changes)

    def stand_ins(self, model: MSSC, own: Captured, other: Captured) -> dict[str, nn.Module]:
        """The modules, by the name of whose place they take. What comes before the part is not computed again."""
        known = ["image", f"{video_path_of(model)}.backbone" if self.in_video_path(model) else "video"]
        modules: dict[str, nn.Module] = {name: Replay(model.get_submodule(name), own[name]) for name in known}
        return modules | {name: change(model.get_submodule(name), name, own, other) for name, change in self.changes.items()}


def video_path_of(model: MSSC) -> str:
    """The name of what holds backbone and MSM."""
    return "video.path" if isinstance(model.video, WindowedVideoPath) else "video"


def recorded(model: MSSC) -> AbstractContextManager[Captured]:
    """A block in which everything is recorded that stand-ins are made of."""
    outputs, inputs = ["image", "video"], ["fusion"]
    if not isinstance(model.video, NoVideo):
        outputs.append(f"{video_path_of(model)}.backbone")
        if _video_average(model.video.motion):
            outputs.append(f"{video_path_of(model)}.motion.perceptual.average")
    for place, level in enumerate(model.fusion.levels):
        name = f"fusion.levels.{place}"
        inputs += [name] + ([f"{name}.merge"] if isinstance(level, SemanticCorrectionFusion) else [])
        inputs += [f"{name}.exchange.take.{path}" for path in range(2) if exchange_of(level) is not None]
    return capture(model, *outputs, inputs=inputs)


def _video_average(motion: nn.Module) -> bool:
    """Whether there is a video-level average that is the video's own."""
    return isinstance(getattr(getattr(motion, "perceptual", None), "average", None), VideoAverage)


def interventions_of(model: MSSC) -> list[Intervention]:
    """All that say something of a model, in the order of the network."""
    rows = []
    if not isinstance(model.image, NoImage):
        rows += [
            Intervention("image path", OTHER, {"image": others_output}),
            Intervention("image path", ZERO, {"image": zero_output}),
        ]
    if not isinstance(model.video, NoVideo):
        rows += _of_video_path(model) + _of_motion_sense(model)
    if model.config.paths == "both":
        for part, place in ((MOTION_INPUT, 1), (IMAGE_INPUT, 0)):
            rows += [Intervention(part, OTHER, {"fusion": others_input(place)})]
            rows += [Intervention(part, ZERO, {"fusion": zero_input(place)})]
        rows += _of_stages(model) + _of_levels(model)
    return rows


def _of_video_path(model: MSSC) -> list[Intervention]:
    """The 3D path as a whole, and its two streams, which are channels of one map."""
    flow, backbone = model.video.flow_dims, f"{video_path_of(model)}.backbone"
    parts: dict[str, Callable[[int], slice]] = {"3D path": lambda count: slice(None)}
    if model.video.backbone is not None and 0 < flow < model.video.backbone.dims:  # both, not one that is the whole 3D path
        parts |= {"RGB of the clip": lambda count: slice(count - flow), "flow stream": lambda count: slice(count - flow, None)}
    return [Intervention(part, kind, {backbone: channels(kind, of)}) for part, of in parts.items() for kind in (OTHER, ZERO)]


def _of_motion_sense(model: MSSC) -> list[Intervention]:
    """MSM, or what is in its slot, and MSM's branches."""
    slot, name = model.video.motion, f"{video_path_of(model)}.motion"
    if slot is None or isinstance(slot, NoMotionSense):
        return []
    label = MSM if isinstance(slot, MotionSense) else f"{model.config.motion} (MSM's slot)"
    width = slot.width
    rows = [Intervention(label, IDENTITY, {name: always(lambda: NoMotionSense(width))})]
    if not isinstance(slot, MotionSense):
        return rows
    if not isinstance(slot.perceptual, NoBranch):
        part, branch = "MSM perceptual branch", f"{name}.perceptual"
        rows.append(Intervention(part, ZERO, {branch: always(NoBranch)}))
        rows.append(Intervention(part, UNIFORM, {f"{branch}.gain": even}))
        if _video_average(slot):
            rows.append(Intervention(part, OTHER, {f"{branch}.average": others_output}))
    if not isinstance(slot.spacetime, NoBranch):
        part, branch = "MSM spacetime branch", f"{name}.spacetime"
        rows.append(Intervention(part, ZERO, {branch: always(NoBranch)}))
        if slot.spacetime.scale is not None:
            rows.append(Intervention(part, UNIFORM, {f"{branch}.scale": even}))
    return rows


def _uniform(name: str, level: nn.Module) -> dict[str, Change]:
    """An exchange that takes everything alike."""
    exchange, changes = exchange_of(level), {}
    for path, take in enumerate(exchange.take if exchange is not None else ()):
        by_place = isinstance(take, AttentionExchange)
        where = f"{name}.exchange.take.{path}.{'weights' if by_place else 'context'}"
        changes[where] = computed(even_weights if by_place else even_context)
    return changes


def _of_stages(model: MSSC) -> list[Intervention]:
    """SFM's stages, at all levels."""
    levels = {f"fusion.levels.{place}": level for place, level in enumerate(model.fusion.levels)}
    if not all(isinstance(level, SemanticCorrectionFusion) for level in levels.values()):
        return []
    takes = [f"{name}.exchange.take.{path}" for name in levels for path in range(2)]
    merges = [f"{name}.merge" for name in levels]
    uniform = {where: change for name, level in levels.items() for where, change in _uniform(name, level).items()}
    rows = [
        Intervention(EXCHANGE, OTHER, dict.fromkeys(takes, others_input(1, 2))),
        Intervention(EXCHANGE, ZERO, dict.fromkeys(takes, zeros_alike)),
        Intervention(EXCHANGE, UNIFORM, uniform),
        Intervention(EXCHANGE, IDENTITY, {f"{name}.exchange": both_as_they_are for name in levels}),
        Intervention("SFM stage 2, motion", OTHER, dict.fromkeys(merges, others_input(1))),
        Intervention("SFM stage 2, motion", ZERO, dict.fromkeys(merges, zero_input(1))),
    ]
    if all(isinstance(level.merge, ChannelEmbedding) and level.merge.skip is not None for level in levels.values()):
        rows.append(Intervention("SFM stage 2, skip", ZERO, {f"{name}.skip": zero_skip for name in merges}))
    if all(level.rectify is not None for level in levels.values()):
        rows.append(Intervention("rectification", IDENTITY, {f"{name}.rectify": both_as_they_are for name in levels}))
    return rows


def _of_levels(model: MSSC) -> list[Intervention]:
    """Each level by itself; where each task has levels of its own, those of one stride together."""
    rows = []
    for first, stride in enumerate(STRIDES):
        part = f"fusion at stride {stride}"
        names = [f"fusion.levels.{place}" for place in range(first, len(model.fusion.levels), len(STRIDES))]
        uniform = {k: v for name in names for k, v in _uniform(name, model.get_submodule(name)).items()}
        rows.append(Intervention(part, OTHER, dict.fromkeys(names, others_input(1))))
        rows.append(Intervention(part, ZERO, dict.fromkeys(names, zero_input(1))))
        if uniform:
            rows.append(Intervention(part, UNIFORM, uniform))
    return rows


def parts_of(rows: Sequence[Intervention]) -> list[str]:
    """The parts that rows are about, each once."""
    return list(dict.fromkeys(row.part for row in rows))
