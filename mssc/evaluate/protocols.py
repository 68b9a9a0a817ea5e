"""What is scored, and by which rules: ground truth, the named conventions, scores.

The same detections score up to seven points apart under different conventions, so every score carries its protocol:

    =====  ============  ==================================  ==========  ==============================================
    name   box width     a detection is compared with        AP          frames
    =====  ============  ==================================  ==========  ==============================================
    voc    x2 - x1       the best box of its frame and class  envelope    annotated (those with any action), or every
    act    x2 - x1 + 1   the best box not yet taken           trapezoids  every
    yowo   x2 - x1 + 1   as voc                               envelope    annotated; the last of each tube is left out
    =====  ============  ==================================  ==========  ==============================================

YOWO scores against annotation files of its own, whose boxes lie beside everybody else's: on J-HMDB-21 corners are counted from
1 and x2 = x1 + width, where ACT's pickle counts from 0 and ends with the last column; on UCF101-24 both corners of the corrected
annotations are moved by -1 (seen in its published `groundtruths_jhmdb` and `groundtruths_ucf`, file by file). ``yowo-jhmdb``
and ``yowo-ucf101-24`` are ``yowo`` with those boxes, for scores that are to be compared with its papers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..boxes import CONTINUOUS, INCLUSIVE
from ..structures import Detections, InputError, Tube


class Truth(NamedTuple):
    """The ground truth of one video.

    Attributes:
        tubes: its action tubes.
        frames: how many frames it has.
        rate: frames per second; only false alarms per minute need it.
    """

    tubes: tuple[Tube, ...]
    frames: int
    rate: Fraction = Fraction(30)


class Convention(NamedTuple):
    """One way to count, a row of the table above.

    Attributes:
        pixel: `CONTINUOUS` or `INCLUSIVE`, see `mssc.boxes`.
        retry: a detection whose best box is taken may take the next best one.
        envelope: AP is the area under the envelope of precision over recall, else under the trapezoids of the raw curve.
        frames: "annotated" or "every".
        drop_last: the last frame of each ground-truth tube is left out.
        offset: what is added to a ground-truth box's x1, y1, x2, y2 before it is compared, then
        limit: the largest x and y it may have; None for no such limit.
    """

    pixel: float
    retry: bool
    envelope: bool
    frames: str
    drop_last: bool = False
    offset: tuple[int, int, int, int] = (0, 0, 0, 0)
    limit: tuple[int, int] | None = None


_YOWO = Convention(pixel=INCLUSIVE, retry=False, envelope=True, frames="annotated", drop_last=True)
PROTOCOLS = {
    "voc": Convention(pixel=CONTINUOUS, retry=False, envelope=True, frames="annotated"),
    "act": Convention(pixel=INCLUSIVE, retry=True, envelope=False, frames="every"),
    "yowo": _YOWO,
    "yowo-jhmdb": _YOWO._replace(offset=(1, 1, 2, 2), limit=(320, 240)),
    "yowo-ucf101-24": _YOWO._replace(offset=(-1, -1, -1, -1)),
}
RANGE = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""The thresholds 0.5:0.05:0.95 over which a video-mAP is averaged."""

FrameDetections = Sequence[Detections] | Mapping[int, Detections]
"""The detections of a video: one entry per frame from 0 on, or only some frames, by number."""


@dataclass(frozen=True, eq=False)
class Score:
    """A mean average precision with what it was computed by.

    Attributes:
        map: mean of `per_class` over the classes with ground truth; NaN if there is none.
        per_class: (A,) average precision, NaN for a class without ground truth.
        positives: (A,) how many ground-truth boxes (or tubes) were to be found.
        iou: the threshold, or several if `map` is their mean.
        protocol: its name.
    """

    map: float
    per_class: np.ndarray
    positives: np.ndarray
    iou: float | tuple[float, ...]
    protocol: str


def convention_of(protocol: str, frames: str | None) -> Convention:
    """The convention of a name, with another choice of frames if one is given.

    Raises:
        InputError: for an unknown name or choice.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol '{protocol}'; choose one of {', '.join(PROTOCOLS)}.")
    convention = PROTOCOLS[protocol]
    if frames not in (None, "annotated", "every"):
        raise InputError(f"frames is '{frames}'; it must be 'annotated' or 'every'.")
    if convention.drop_last and frames == "every":
        raise InputError(f"protocol '{protocol}' knows annotated frames only; score every frame by 'voc' or 'act'.")
    return convention._replace(frames=frames or convention.frames)
