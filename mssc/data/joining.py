"""From boxes in single frames to tubes: interpolation along tracks, and linking of boxes that have no track."""

from collections.abc import Sequence

import numpy as np

from ..boxes import CONTINUOUS, box_iou
from ..structures import Tube
from .annotations.table import Rows
from .media import Media

DENSE_GAP = 3
"""Frames: where every frame is annotated, a longer gap means that the action stopped; a shorter one was forgotten."""
SPARSE_GAP = 10
"""Times the usual spacing: where only some frames are annotated, so much less often means that the action stopped."""
LINK_IOU = 0.3
"""Boxes without a track that overlap less are not one actor's."""


def tubes(rows: Rows, look: Media, classes: Sequence[str], cut: list[str]) -> tuple[Tube, ...]:
    """One video's rows as tubes.

    Args:
        rows: of one video; frames beyond its end are left out.
        look: its length and size.
        classes: names of the actions.
        cut: gets the video's name once for each box that reached outside the frame.
    """
    limits = [look.width, look.height, look.width, look.height]
    inside = np.clip(rows.boxes, 0, limits)
    good = (inside[:, 2:] > inside[:, :2]).all(1) & (rows.frame < look.frames)
    cut += [str(rows.video[0])] * int((inside != rows.boxes).any(1)[good].sum())
    groups: dict[tuple[str, str], list[int]] = {}
    for index in np.flatnonzero(good):
        groups.setdefault((rows.action[index], rows.track[index]), []).append(int(index))
    found = []
    for (action, track), members in groups.items():
        index = np.array(members)
        index = index[np.argsort(rows.frame[index], kind="stable")]
        frames = np.unique(rows.frame[index])
        usual = int(np.median(np.diff(frames))) if len(frames) > 1 else 1
        gap = DENSE_GAP if usual <= 1 else SPARSE_GAP * usual
        chains = [index] if track else _link(rows.frame[index], inside[index], index, gap)
        for chain in chains:
            for piece in np.split(chain, np.flatnonzero(np.diff(rows.frame[chain]) > gap) + 1):
                boxes = _interpolate(rows.frame[piece], inside[piece])
                found.append(Tube(classes.index(action), 1.0, int(rows.frame[piece[0]]), boxes))
    return tuple(sorted(found, key=lambda tube: (tube.start, tube.label)))


def _interpolate(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, 4) boxes of every frame from the first to the last."""
    every = np.arange(frames[0], frames[-1] + 1)
    return np.stack([np.interp(every, frames, boxes[:, side]) for side in range(4)], 1)


def _link(frames: np.ndarray, boxes: np.ndarray, index: np.ndarray, gap: int) -> list[np.ndarray]:
    """Chains of rows, sorted by frame, whose boxes overlap from one to the next; the best overlaps first."""
    chains: list[list[int]] = []
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        live = [number for number, chain in enumerate(chains) if frame - frames[chain[-1]] <= gap]
        pairs = [(box_iou(boxes[chains[number][-1]], boxes[row], CONTINUOUS), number, row) for number in live for row in rows]
        used_chains: set[int] = set()
        used_rows: set[int] = set()
        for overlap, number, row in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= LINK_IOU and number not in used_chains and row not in used_rows:
                chains[number].append(int(row))
                used_chains.add(number)
                used_rows.add(int(row))
        chains += [[int(row)] for row in rows if row not in used_rows]
    return [index[chain] for chain in chains]
