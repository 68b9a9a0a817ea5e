"""Every number of the network and of a training run, in two frozen dataclasses.

The provenance of a setting stands beside it: *paper* is the ICASSP 2024 poster or abstract, *TriDet* and *CMX* are the works whose
blocks its descriptions match, *ours* is what no public source decides.
"""

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .structures import InputError

CONFIG_VERSION = 3
LATER: Mapping[str, Any] = {"person": "none", "person_size": 640, "fusion_residual": "part"}
"""Fields that version 3 has got since, and what a config without them means."""

LOOK_EVERY = 6
"""People are looked for in every 6th frame of a stream, unless it is slow: nobody moves far in a fifth of a second."""


def _check_choices(config: "ModelConfig | TrainConfig") -> None:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if typing.get_origin(item.type) is Literal and value not in typing.get_args(item.type):
            choices = ", ".join(map(str, typing.get_args(item.type)))
            raise InputError(f"{item.name} is {value!r}; choose one of {choices}.")


def _check_version(version: object) -> None:
    if version != CONFIG_VERSION:
        raise InputError(
            f"the config is of version {version}, this package reads version {CONFIG_VERSION}; "
            "use the mssc release that made it, or train again."
        )


@dataclass(frozen=True)
class ModelConfig:
    """What the network is made of. Flat and of plain words and numbers, so that it survives JSON.

    Raises:
        InputError: for a word that is not among the choices, or sizes that do not fit each other.
    """

    classes: tuple[str, ...] = ("action",)
    actions: Literal["exclusive", "multilabel"] = "exclusive"  # whether they exclude each other, or go together as in AVA (ours)
    paths: Literal["both", "key", "clip"] = "both"  # 2D and 3D path, or one alone, as in table T-A's controls

    key_size: int = 224  # side of a key frame in pixels (YOWO family)
    clip_size: int = 112  # side of a clip's frames in pixels; divides that of key frames (ours: motion needs less detail)
    window: int = 16  # frames of the causal window means (paper family: clips of 16)
    width: int = 64  # channels C = D at every level
    backbone2d: str = "cspdarknet_nano"  # of the 2D path: this, or timm/NAME
    backbone3d: str = (
        "causal_flow"  # of the 3D path: this, causal_cspdarknet_nano[_rgb] (frames too, frames alone), torchvision/NAME
    )

    motion: Literal["msm", "none", "se", "simam", "dwconv"] = "msm"  # MSM, or what stands in its place
    motion_branches: Literal["both", "perceptual", "spacetime", "none"] = "both"  # of MSM's two branches, those that there are
    motion_average: Literal["thw", "t", "hw", "none"] = "thw"  # axes of MSM's video-level average
    motion_perceptual: Literal["distance", "product", "centred"] = "distance"  # ours, TriDet's product, or that, centred
    motion_fc: Literal["depthwise", "full"] = "depthwise"  # FC of the product: as in TriDet's code, or in its wording
    motion_memory: Literal["window", "video"] = "window"  # MSM's average is that of the last frames, or of all that was seen
    motion_wide: int = 7  # side of the spacetime branch's wide kernel; 0 for none
    motion_scale: Literal["conv", "one"] = "conv"  # psi, the dynamic scale gate, or none
    motion_dims: Literal["3d", "2d", "1d"] = "3d"  # kernels of the spacetime branch: over space and time, space, or time
    motion_reach: Literal["short", "wide"] = "wide"  # of the wide kernel in time: 3 frames, or as many as its side, separable
    motion_gate: Literal["sigmoid", "linear"] = "sigmoid"  # of psi: ours, or TriDet's
    motion_residual: float = 1.0  # LayerScale of both residuals at the start; TriDet's blocks begin lower
    motion_ffn_ratio: float = 1.0  # width of MSM's FFN over that of its features; 0 for no FFN
    motion_position: Literal["projected", "native"] = "projected"  # MSM after P3, or before it
    collapse: Literal["mixed", "mean", "current"] = "mixed"  # how time is left before fusion: learnt, mean, current frame

    fusion: Literal["sfm", "add", "concat", "cfam", "sfm1", "sfm2", "frm+sfm", "sfm_attention"] = "sfm"  # what merges the paths
    fusion_branch: Literal["shared", "task"] = "shared"  # one SFM per level, or one per level and task
    fusion_position: Literal["levels", "stems"] = "levels"  # SFM on the neck's maps, or behind the stems, in one width (ours)
    fusion_head_width: int = 64  # channels of an attention head, d (CMX)
    fusion_reduction: int = 2  # how many times narrower SFM is inside, rho (CMX has 1)
    fusion_context: Literal["centred", "correlation", "mean", "none"] = (
        "centred"  # the attention's context: cosines of deviations from the mean, or of values (ours); the sum over N, or the sum (CMX)
    )
    fusion_residual: Literal["none", "part"] = (
        "none"  # SFM corrects a path by what it takes from the other alone, or by a part of its own as well (CMX)
    )
    fusion_norm: Literal["layer", "none"] = (
        "none"  # behind the exchange: CMX's, or none, so that what moves more keeps its larger norm (ours)
    )
    fusion_skip: Literal["dwconv", "none"] = "dwconv"  # CMX's depthwise skip in stage 2, or none

    classifier: Literal["fused", "loose", "two-stream", "anchor"] = "fused"  # SFM alone names actions, or more does
    hidden: int = 192  # width of the pooled classifier
    dropout: float = 0.5  # share of the pooled classifier's features that training drops
    image_dropout: float = 0.25  # share of key frames whose image fusion does not see in training (ours)
    motion_dropout: float = 0.1  # likewise, whose motion fusion does not see
    rgb_dropout: float = 0.5  # share of clips of which the video path sees the flow stream alone in training (ours)
    kept: int = 32  # boxes per frame whose actions are classified
    person: Literal["none", "detector"] = "none"  # what finds everybody, whatever they do (ours)
    person_size: int = 640  # longer side of the frames that it looks at, at most: people in a crowd are smaller than actors
    version: int = CONFIG_VERSION

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not all(isinstance(name, str) for name in self.classes):
            raise InputError(f"classes are {self.classes!r}; give a list of names.")
        object.__setattr__(self, "classes", tuple(self.classes))
        _check_choices(self)
        _check_version(self.version)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise InputError(f"classes are {self.classes!r}; name at least one, each once.")
        for name in ("key_size", "person_size"):
            if getattr(self, name) < 32 or getattr(self, name) % 32:
                raise InputError(f"{name} is {getattr(self, name)}; use a multiple of 32, at least 32.")
        if self.clip_size < 32:
            raise InputError(f"clip_size is {self.clip_size}; use at least 32.")
        if self.key_size % self.clip_size:
            fitting = self.key_size // 2 if self.key_size >= 64 else self.key_size
            raise InputError(f"clip_size {self.clip_size} does not divide key_size {self.key_size}; use {fitting}.")
        for name in ("window", "width", "hidden", "kept", "fusion_reduction", "fusion_head_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.motion_wide < 0 or (self.motion_wide and self.motion_wide % 2 == 0):
            raise InputError(f"motion_wide is {self.motion_wide}; it must be odd, or 0 for no wide kernel.")
        if not 0 <= self.motion_ffn_ratio < math.inf:
            raise InputError(f"motion_ffn_ratio is {self.motion_ffn_ratio}; it must be 0 (no FFN) or more.")
        for name in ("dropout", "image_dropout", "motion_dropout", "rgb_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if self.image_dropout + self.motion_dropout > 1:
            raise InputError(
                f"image_dropout {self.image_dropout} and motion_dropout {self.motion_dropout} make more than 1; lower one."
            )

    def to_json(self) -> str:
        """The config as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build from parsed JSON, strictly.

        Raises:
            InputError: naming fields that this version does not know, or that are missing or of another type.
        """
        known = {item.name: item for item in dataclasses.fields(cls)}
        _check_version(values.get("version"))
        extra, missing = sorted(set(values) - set(known)), sorted(set(known) - set(values) - {*LATER})
        if extra or missing:
            raise InputError(
                f"the config has unknown fields {extra} and lacks {missing}; it was not written by this version of mssc."
            )
        for name, value in values.items():
            default = known[name].default
            wanted = (
                (list, tuple) if isinstance(default, tuple) else (int, float) if isinstance(default, float) else type(default)
            )
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise InputError(f"the config's {name} is {value!r}; {type(default).__name__} is wanted.")
        return cls(**{**LATER, **values})


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Lengths in frames, learning rates per step, shares in [0, 1]."""

    epochs: int = 24  # in one, every video gives a clip; where only some frames are labelled (AVA), each of those gives one
    batch: int = 8  # clips in a step
    clip_length: int = 16  # frames a clip spans, from a true start: the network's state begins empty there
    keys: int = 3  # key frames per clip
    stride_jitter: tuple[float, float] = (0.7, 1.6)  # stride of a clip's frames over the usual one, least and most
    learning_rate: float = 1e-3  # its peak
    initialised_rate: float = 1 / 3  # share of it on layers that start from COCO weights
    gentle: tuple[str, ...] = ()  # beginnings of the names of other parameters that learn at that rate, having learnt before
    weight_decay: float = 0.05  # of AdamW
    warmup: float = 0.05  # share of all steps in which the learning rate rises
    clip_gradient: float = 5.0  # largest norm of the gradient
    ema: float = 0.998  # decay of the averaged weights that are validated and saved
    box_weight: float = 5.0  # of the box loss: YOWOv2's 5 x (1 - GIoU)
    action_weight: float = 1.0  # of the action loss
    heads: tuple[Literal["image", "motion", "distance"], ...] = ("motion", "distance")  # parts asked in training alone (ours)
    image_head_weight: float = 0.3  # of the image path's training head
    motion_head_weight: float = 0.5  # of the video path's training head
    distance_head_weight: float = 0.3  # of the training head that asks MSM for distance
    phase: Literal["all", "video", "fusion", "person"] = (
        "all"  # or one part alone: the video path, to start from; fusion, as that of the model to start from; the detector of people
    )
    label_smoothing: float = 0.1  # of the action loss
    mixup: float = 0.4  # share of batches whose clips are mixed
    smallest_crop: float = 0.4  # least share of the frame's area that a crop keeps
    background: float = 0.25  # share of clips drawn from frames without action, where there are any
    frozen: Literal["none", "stem"] = "stem"  # stem and first stage of both paths keep COCO's weights
    precision: Literal["no", "fp16", "bf16"] = "no"  # mixed precision, for GPUs
    workers: int = 1  # processes that prepare clips
    seed: int = 0  # of order, augmentation and initial weights
    validate_every: int = 1  # epochs from one validation to the next
    validation_step: int = 4  # every n-th frame of the validation videos is scored during training
    checkpoint_minutes: float = 2.0  # minutes from one checkpoint to the next, beside those after each epoch

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride_jitter", tuple(self.stride_jitter))
        object.__setattr__(self, "heads", tuple(self.heads))
        object.__setattr__(self, "gentle", tuple(self.gentle))
        _check_choices(self)
        unknown = [name for name in self.heads if name not in ("image", "motion", "distance")]
        if unknown:
            raise InputError(f"heads has {unknown[0]!r}; choose among image, motion, distance.")
        if self.phase == "video" and "motion" not in self.heads:
            raise InputError(f"phase 'video' learns by the motion head, and heads are {list(self.heads)}; add motion.")
        for name in ("epochs", "batch", "clip_length", "keys", "validate_every", "validation_step"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("warmup", "ema", "label_smoothing", "mixup", "smallest_crop", "background"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}; it must be 0, which prepares clips in the run itself, or more.")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0.")
