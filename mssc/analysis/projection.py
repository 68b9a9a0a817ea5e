"""Cells of many videos in two dimensions, with the separability that must stand beside such a picture."""

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from .bootstrap import Interval
from .embedding import embed
from .study import Cells, Study

PER_VIDEO = 10  # cells of a set
VIDEOS = 200


@dataclass(eq=False)
class Projection:
    """What is drawn of a tap.

    Attributes:
        model: its name.
        tap: where the features are from.
        method: "tsne" or "pca".
        points: (N, 2).
        cells: the N cells.
        auroc: of the linear probe over all cells of the tap, not only those drawn.
        silhouette: mean over videos.
        pictures: see `Study`.
    """

    model: str
    tap: str
    method: str
    points: np.ndarray
    cells: Cells
    auroc: Interval
    silhouette: Interval
    pictures: dict[tuple[str, int], bytes] = field(default_factory=dict)


def few_cells(cells: Cells, per_video: int = PER_VIDEO, videos: int = VIDEOS, seed: int = 0) -> Cells:
    """At most `per_video` cells of either set of at most `videos` videos, drawn by `seed`: the same ones for every model of equal maps."""
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(cells.videos.tolist()))
    names = [names[i] for i in sorted(rng.permutation(len(names))[:videos])]
    chosen = []
    for name in names:
        for action in (True, False):
            rows = np.flatnonzero((cells.videos == name) & (cells.action == action))
            chosen.append(np.sort(rng.permutation(rows)[:per_video]))
    index = np.concatenate(chosen) if chosen else np.zeros(0, int)
    return Cells(*(getattr(cells, item.name)[index] for item in fields(Cells)))


def project(study: Study, tap: str, method: Literal["tsne", "pca"] = "tsne") -> Projection:
    """Embed a tap's cells; settings and seed are the same for all models.

    Raises:
        InputError: for fewer than 4 cells, see `embed`.
    """
    cells = few_cells(study.cells[tap])
    points = embed(cells.features, method)
    auroc, silhouette = (study.distance(tap, measure) for measure in ("AUROC", "silhouette"))
    return Projection(study.model, tap, method, points, cells, auroc, silhouette, study.pictures)
