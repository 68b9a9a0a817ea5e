"""How detections become tubes: every number of the linker, with its source."""

from dataclasses import dataclass, replace

import numpy as np

from ..structures import InputError

REFERENCE_RATE = 25.0
"""Frames per second that the frame counts in `LinkConfig` are meant for; `LinkConfig.at` converts them."""


@dataclass(frozen=True)
class LinkConfig:
    """How detections become tubes. Values without another source were chosen on generated noisy videos (see the tests).

    Args:
        min_score: rows below it are not linked; they keep their score.
        iou: a row may continue a link if it overlaps the box expected there by this much. ROAD (Singh et al., ICCV 2017) and
            the YOWO family ask for 0.1 or nothing, which lets links jump between actors.
        momentum: weight of the newest displacement in a link's velocity (pixels per frame); 0 expects boxes to stand still.
        foresight: after a gap, boxes are expected to have gone on for so many frames, and then to stand still: with farther
            guesses occluded actors are lost more often.
        score_weight: what a row's score adds to its overlap when several rows want one link, and
        seniority: what a link's length adds when several links want one row, so that a second box around an actor does not
            take the link over. ROAD likewise lets better links choose first.
        mature: frames until a link has its full seniority.
        max_gap: frames that a link survives without a row; a link of n rows survives at most n. Gaps are filled by linear
            interpolation.
        horizon: time constant in frames of the exponential mean that `OnlineLinker.step` returns; 0 returns scores as they are.
            More suits videos that are one action throughout (J-HMDB: frame-mAP 57.8 at 0, 58.5 at 4, 58.7 at 8), less those in
            which actions start and end (the toy set, every frame: 81.7, 75.7, 69.8).
        warm: frames at the start of a video in which the network has seen little motion yet; the scores of the first count least, the n-th
            as n / warm.
        floor: the action is plausible from this score on, and
        idle: for so many frames after the last such score: as long, a link is recorded, and a tube may be cut from it.
        ratio: a frame speaks for the action if its score is above this share of the record's level, the mean of the better
            half of its scores. A share, because weakly recognised actions want to be trimmed as well.
        evidence: the most that one frame says for or against the action, in units of log odds.
        switch: what a change between action and no action costs, in the same units: the smoothing cost of the two-state
            labelling by which Saha et al. (BMVC 2016) and ROAD trim. They label absolute scores.
        contrast: a tube is trimmed once more, against its `peak` best frames instead of its better half, if what remains
            scores so many times what is left out: short strong actions of an actor who stays in view.
        peak: see `contrast`.
        min_length: frames of the shortest tube; a video that is shorter may give a tube of its length.
        presence: share of a tube's frames that have a row of their own, not interpolated.
        nms: of two tubes of one class that overlap by more than this in space and time, the better remains (0.3: ACT, ROAD).
    """

    min_score: float = 0.01
    iou: float = 0.3
    momentum: float = 0.2
    foresight: int = 5
    score_weight: float = 0.5
    seniority: float = 0.5
    mature: int = 10
    max_gap: int = 25
    horizon: float = 4.0
    warm: float = 8.0
    floor: float = 0.02
    idle: int = 25
    ratio: float = 0.25
    evidence: float = 2.0
    switch: float = 8.0
    contrast: float = 8.0
    peak: int = 25
    min_length: int = 10
    presence: float = 0.5
    nms: float = 0.3

    def __post_init__(self) -> None:
        for name in ("min_score", "iou", "momentum", "floor", "ratio", "presence", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        for name in (
            "score_weight",
            "seniority",
            "foresight",
            "max_gap",
            "horizon",
            "idle",
            "evidence",
            "switch",
            "contrast",
            "warm",
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if isinstance(self.warm, bool) or not self.warm < float("inf"):
            raise InputError(f"warm is {self.warm}; it must be a number of frames.")
        for name in ("mature", "peak", "min_length"):
            if not getattr(self, name) >= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def trust(self, frames: np.ndarray | int) -> np.ndarray:
        """How much the scores of frames count, counted from 0: (T,) in (0, 1]."""
        return np.minimum((np.asarray(frames) + 1) / max(self.warm, 1), 1)

    def at(self, rate: float) -> "LinkConfig":
        """The same durations for a video of `rate` frames per second."""
        if not 0 < rate < float("inf"):
            raise InputError(f"the frame rate is {rate}; it must be a positive number.")
        scale = float(rate) / REFERENCE_RATE
        counts = {name: max(1, round(getattr(self, name) * scale)) for name in COUNTS}
        scaled = {name: getattr(self, name) * scale for name in ("horizon", "switch", "warm")}
        return replace(self, **counts, **scaled, max_gap=round(self.max_gap * scale))


COUNTS = ("mature", "foresight", "idle", "peak", "min_length")
"""Settings that `LinkConfig.at` keeps at one frame or more."""
