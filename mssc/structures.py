"""The types that every part of MS-SC speaks.

Axis legend, used in every shape of the package:
    B batch, T frames, H and W rows and columns, C channels, N boxes or anchors, K kept boxes, A actions (classes).

Boxes are ``x1, y1, x2, y2`` in continuous pixels of the source frame, so a box's width is ``x2 - x1``. Frames are counted
from 0 in decoding order. Classes are counted from 0 and there is no background class. Scores are probabilities in [0, 1].
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import, and not everything that speaks these types needs it
    from torch import Tensor


class InputError(ValueError):
    """Something a user gave cannot be used. The message names the value and the way out.

    The command line prints it and exits with code 2; the app shows it. It is the only exception that either catches.
    """


def class_name(label: str) -> str:
    """A class's name as it is written everywhere: `shoot_ball` becomes "shoot ball", and é, which some write as two letters, one."""
    return unicodedata.normalize("NFC", " ".join(label.replace("_", " ").split()))


def counted(number: int, what: str) -> str:
    """How many there are, as people write it: "1 step", "3 boxes"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('x') else 's'}"


class Predictions(NamedTuple):
    """What the network says about B key frames. Boxes are in pixels of the network's square input.

    Attributes:
        anchor_boxes: (B, N, 4), one box per cell of every level: what the detection loss reads.
        anchor_objectness: (B, N), logits: is an actor whose action counts centred here?
        boxes: (B, K, 4), the K boxes whose actions were classified.
        objectness: (B, K), their logits.
        logits: (B, K, A), their action logits.
    """

    anchor_boxes: Tensor
    anchor_objectness: Tensor
    boxes: Tensor
    objectness: Tensor
    logits: Tensor


def _array(value, dtype: type, name: str, *shape: int) -> np.ndarray:
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # what does not fit becomes infinite or differs, and is refused below
            array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must be numbers: {error}.") from None
    if dtype is np.int64 and not np.array_equal(array, np.asarray(value)):
        raise InputError(f"{name} must be whole numbers, not {np.asarray(value).tolist()}.")
    if array.size == 0 and array.ndim < len(shape):
        array = array.reshape(tuple(0 if s < 0 else s for s in shape))
    if array.ndim != len(shape) or any(s >= 0 and s != n for s, n in zip(shape, array.shape, strict=True)):
        wanted = "(" + ", ".join("N" if s < 0 else str(s) for s in shape) + ")"
        raise InputError(f"{name} has shape {array.shape}; it must be {wanted}.")
    if not np.isfinite(array).all():
        raise InputError(f"{name} contains NaN or infinity; remove such rows.")
    return array


def _check_boxes(boxes: np.ndarray) -> None:
    bad = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"box {row} is {boxes[row].tolist()}: x2 < x1 or y2 < y1. Boxes are x1, y1, x2, y2.")


def _check_scores(scores: np.ndarray) -> None:
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise InputError(f"scores run from {scores.min():g} to {scores.max():g}; they must lie in [0, 1].")


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one frame: one row per (box, action), so an actor with two actions has two rows.

    It is read, cut and joined like `supervision.Detections`: ``len``, iteration, ``rows[mask]``, `merge`, `with_nms`.

    Args:
        boxes: (N, 4) float32.
        labels: (N,) int64, classes from 0.
        scores: (N,) float32.
        people: (M, 4) float32, boxes of everybody who is seen, whatever they do; none where the model does not say. They are of the
            frame, not of its rows: what cuts rows leaves them.
        person: (M,) float32, how surely each is somebody.

    Raises:
        InputError: for a wrong shape, NaN, an inverted box, a negative label or a score outside [0, 1].
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    people: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    person: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _array(self.boxes, np.float32, "boxes", -1, 4))
        object.__setattr__(self, "labels", _array(self.labels, np.int64, "labels", -1))
        object.__setattr__(self, "scores", _array(self.scores, np.float32, "scores", -1))
        if not len(self.boxes) == len(self.labels) == len(self.scores):
            raise InputError(
                f"{len(self.boxes)} boxes, {len(self.labels)} labels and {len(self.scores)} scores differ in number."
            )
        object.__setattr__(self, "people", _array(self.people, np.float32, "people", -1, 4))
        object.__setattr__(self, "person", _array(self.person, np.float32, "person", len(self.people)))
        for boxes, scores in ((self.boxes, self.scores), (self.people, self.person)):
            _check_boxes(boxes)
            _check_scores(scores)
        if self.labels.size and self.labels.min() < 0:
            raise InputError(f"label {self.labels.min()} is negative; classes are counted from 0.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[np.ndarray, int, float]]:
        """Box (4,), label and score of each row."""
        return zip(self.boxes, self.labels.tolist(), self.scores.tolist(), strict=True)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> Detections:
        """The rows of an index, a slice, indices or a mask (N,), as copies.

        Raises:
            IndexError: for a row that is not there, or a mask of another length.
        """
        chosen = np.arange(len(self))[rows].reshape(-1)
        return replace(self, boxes=self.boxes[chosen], labels=self.labels[chosen], scores=self.scores[chosen])

    def above(self, threshold: float) -> Detections:
        """The rows that score at least `threshold`."""
        return self[self.scores >= threshold]

    def with_nms(self, threshold: float = 0.5, class_agnostic: bool = False) -> Detections:
        """Non-maximum suppression: without the rows whose box overlaps that of a better one by more than `threshold`, best first.

        Args:
            threshold: IoU of continuous boxes.
            class_agnostic: rows of different labels suppress each other too.
        """
        import torch
        from torchvision.ops import batched_nms  # slow to import, and most that speak this type suppress nothing

        groups = np.zeros_like(self.labels) if class_agnostic else self.labels
        boxes, scores, groups = map(torch.from_numpy, (self.boxes, self.scores, groups))
        return self[batched_nms(boxes, scores, groups, threshold).numpy()]

    def to_rows(self, classes: Sequence[str] = ()) -> list[dict[str, object]]:
        """A dictionary per row, as tables take them (``pandas.DataFrame(rows.to_rows())``): x1, y1, x2, y2, label, score.

        Args:
            classes: names of the labels; with them each row has its "class" as well.
        """
        rows = []
        for box, label, score in self:
            named = {"class": classes[label]} if classes else {}
            rows.append(
                {**dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True)), "label": label, **named, "score": score}
            )
        return rows

    def to_supervision(self, classes: Sequence[str] = ()) -> Any:
        """As `supervision.Detections`.

        Args:
            classes: names of the labels, which supervision keeps as ``class_name``.

        Raises:
            InputError: if supervision is not there.
        """
        try:
            from supervision import Detections as Other  # pyright: ignore[reportMissingImports]  # not a dependency
        except ImportError as error:
            raise InputError(f"supervision cannot be imported ({error}); get it by 'pip install supervision'.") from None
        data = {"class_name": np.array([classes[label] for label in self.labels], dtype=str)} if classes else {}
        return Other(xyxy=self.boxes.copy(), confidence=self.scores.copy(), class_id=self.labels.copy(), data=data)

    @classmethod
    def from_supervision(cls, detections: Any) -> Detections:
        """From `supervision.Detections`, or whatever has ``xyxy``, ``class_id`` and ``confidence`` (None: 1 throughout).

        Raises:
            InputError: for rows without a class, and what `Detections` refuses.
        """
        if detections.class_id is None:
            raise InputError("the detections have no class_id; give each row one, counted from 0.")
        scores = np.ones(len(detections.xyxy)) if detections.confidence is None else detections.confidence
        return cls(detections.xyxy, detections.class_id, scores)

    @classmethod
    def merge(cls, parts: Iterable[Detections]) -> Detections:
        """The rows of several, one after the other, and the people likewise."""
        parts = [cls.empty(), *parts]
        return cls(*(np.concatenate([getattr(rows, item.name) for rows in parts]) for item in fields(cls)))

    @classmethod
    def empty(cls) -> Detections:
        """No detection at all."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


class DetectionLog(Sequence[Detections]):
    """The detections of a video's frames in order, to be read like a list and appended to, kept in a few large arrays.

    A long video has a hundred thousand small ones. Made between a network's large arrays and kept for longer, they would break up
    the memory that those leave, so that it could not be used again.
    """

    _ROWS = 1 << 13  # of an array
    _ROW = np.dtype([("box", np.float32, 4), ("score", np.float32), ("label", np.int64)])

    def __init__(self) -> None:  # people are rows without a label
        self._blocks: list[np.ndarray] = []
        self._places = array("q")  # of each frame: its block, its first row there, the row after its last
        self._stop = 0  # rows used of the last block

    def append(self, detections: Detections) -> None:
        """Add the next frame's; they are copied."""
        count = len(detections) + len(detections.people)
        if not self._blocks or self._stop + count > len(self._blocks[-1]):
            self._blocks.append(np.zeros(max(self._ROWS, count), self._ROW))
            self._stop = 0
        start, self._stop = self._stop, self._stop + count
        rows = self._blocks[-1][start : self._stop]
        rows["label"] = -1
        rows["label"][: len(detections)] = detections.labels
        rows["box"] = np.concatenate([detections.boxes, detections.people])
        rows["score"] = np.concatenate([detections.scores, detections.person])
        self._places.extend((len(self._blocks) - 1, start, self._stop))

    def __len__(self) -> int:
        return len(self._places) // 3

    @overload
    def __getitem__(self, index: int) -> Detections: ...
    @overload
    def __getitem__(self, index: slice) -> list[Detections]: ...
    def __getitem__(self, index: int | slice) -> Detections | list[Detections]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # also checks it
        block, start, stop = self._places[3 * place : 3 * place + 3]
        rows = self._blocks[block][start:stop]
        acting = rows["label"] >= 0
        mine, people = rows[acting], rows[~acting]
        return Detections(*(part.copy() for part in (mine["box"], mine["label"], mine["score"], people["box"], people["score"])))


@dataclass(frozen=True, eq=False)
class Tube:
    """An action tube: one actor does one action from one frame to another, without a gap.

    Args:
        label: class from 0.
        score: of the whole tube, in [0, 1].
        start: its first frame.
        boxes: (T, 4) float32, one per frame from `start` on.
        scores: (T,) float32, the action's score in each frame (ground truth: all 1, the default).

    Raises:
        InputError: for a wrong shape, no frame, NaN, an inverted box, a negative label or start, a score outside [0, 1].
    """

    label: int
    score: float
    start: int
    boxes: np.ndarray
    scores: np.ndarray = field(default=None)  # type: ignore[assignment]  # None stands for ones, see below

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _array(self.boxes, np.float32, "boxes", -1, 4))
        if len(self.boxes) == 0:
            raise InputError("a tube needs at least one box.")
        scores = np.ones(len(self.boxes)) if self.scores is None else self.scores
        object.__setattr__(self, "scores", _array(scores, np.float32, "scores", len(self.boxes)))
        object.__setattr__(self, "label", int(_array(self.label, np.int64, "label")))
        object.__setattr__(self, "start", int(_array(self.start, np.int64, "start")))
        object.__setattr__(self, "score", float(_array(self.score, np.float64, "score")))
        if self.label < 0 or self.start < 0:
            raise InputError(f"label {self.label} and start {self.start} must not be negative.")
        _check_boxes(self.boxes)
        _check_scores(np.asarray([self.score], np.float32))
        _check_scores(self.scores)

    @property
    def stop(self) -> int:
        """The frame after the last one."""
        return self.start + len(self.boxes)

    def among(self, frames: np.ndarray) -> Tube | None:
        """The tube in a video of which only these frames, ascending, are kept; None if it is in none of them."""
        inside = np.flatnonzero((frames >= self.start) & (frames < self.stop))
        if not len(inside):
            return None
        rows = frames[inside] - self.start
        return Tube(self.label, self.score, int(inside[0]), self.boxes[rows], self.scores[rows])

    def __len__(self) -> int:
        return len(self.boxes)
