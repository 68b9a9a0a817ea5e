"""Which cells of a feature map show an action, and which the background (reconstruction, section 6.1).

A map of h x w cells covers the whole frame, whatever the frame's shape, so cells are rectangles of the frame.
"""

from collections.abc import Sequence

import numpy as np

from ..structures import InputError

ACTION, BACKGROUND, IGNORED = 1, 0, -1
INSIDE = 0.5  # share of an action cell's area that lies in a box
LEAST_ACTION, LEAST_BACKGROUND = 2, 4  # cells; with fewer a frame says nothing about distances


def coverage(boxes: np.ndarray, cells: Sequence[int], frame: Sequence[float]) -> np.ndarray:
    """How much of each cell each box covers.

    Args:
        boxes: (N, 4), x1, y1, x2, y2; parts outside the frame count for nothing.
        cells: h and w of the map.
        frame: height and width of the frame, in the boxes' unit.

    Returns:
        (N, h, w) shares of the cells' areas, in [0, 1].

    Raises:
        InputError: for a map or a frame without extent.
    """
    if min(cells) < 1 or min(frame) <= 0:
        raise InputError(f"a map of {cells[0]}x{cells[1]} cells over {frame[0]:g}x{frame[1]:g} pixels; all must be positive.")
    boxes = np.asarray(boxes, float).reshape(-1, 4)

    def along(low: np.ndarray, high: np.ndarray, count: int, extent: float) -> np.ndarray:
        edges = np.linspace(0, extent, count + 1)
        common = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return common.clip(0) * count / extent

    x = along(boxes[:, 0], boxes[:, 2], cells[1], frame[1])
    y = along(boxes[:, 1], boxes[:, 3], cells[0], frame[0])
    return y[:, :, None] * x[:, None, :]


def cell_kinds(boxes: np.ndarray, cells: Sequence[int], frame: Sequence[float]) -> np.ndarray:
    """Kinds of the cells of a map.

    Args:
        boxes: (N, 4) ground truth of the frame.
        cells: h and w of the map.
        frame: height and width of the frame, in the boxes' unit.

    Returns:
        (h, w) int8: `ACTION` where one box covers at least half of the cell; `BACKGROUND` where no box, made larger by one cell on each
        side, touches it; `IGNORED` else.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    kinds = np.full(tuple(cells), BACKGROUND, np.int8)
    if not len(boxes):
        return kinds
    margin = np.array([frame[1] / cells[1], frame[0] / cells[0]])
    dilated = np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)
    # A box that ends on a cell's edge, dilated, must not reach the cell after the next by rounding.
    kinds[(coverage(dilated, cells, frame) > 1e-9).any(0)] = IGNORED
    kinds[(coverage(boxes, cells, frame) >= INSIDE - 1e-9).any(0)] = ACTION
    return kinds


def enough(kinds: np.ndarray) -> bool:
    """Whether a frame has at least 2 action and 4 background cells; others are skipped."""
    return int((kinds == ACTION).sum()) >= LEAST_ACTION and int((kinds == BACKGROUND).sum()) >= LEAST_BACKGROUND


def centre_cells(boxes: np.ndarray, cells: Sequence[int], frame: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (N,) of the cells in which boxes are centred; those of a centre outside the frame are the nearest."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    x, y = boxes[:, [0, 2]].mean(1) / frame[1] * cells[1], boxes[:, [1, 3]].mean(1) / frame[0] * cells[0]
    return np.clip(y.astype(int), 0, cells[0] - 1), np.clip(x.astype(int), 0, cells[1] - 1)
