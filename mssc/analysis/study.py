"""One model on annotated videos: every quantity of the reconstruction's section 6, by video, and examples to draw."""

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.dataset import Dataset
from ..detection.detector import Detector
from ..model.fusion import context_entropy
from ..model.mssc import MSSC
from ..structures import InputError
from .bootstrap import Interval, interval, mean_interval, paired_interval
from .cells import ACTION, BACKGROUND, cell_kinds, centre_cells, coverage, enough
from .distances import channel_fisher, separability
from .exchange import Strength, cka_of, exchange_of, exchange_strength, moments_of
from .keyframes import KeyFrame, Level, Mode, collect
from .maps import attention_rows, class_activation, map_measures, mean_known, mean_measures, norm_map
from .msm import rank_correlation
from .probes import class_probe, probe_auroc, probe_change

PER_FRAME = 10  # cells of a set that a key frame gives to probe and embedding
STRIDES = (8, 16, 32)
STAGES = ("before", "after")  # stage 1 of SFM
PATHS = ("A", "M", "OUT")


@dataclass(eq=False)
class Cells:
    """Single cells of a tap, of many videos.

    Attributes:
        features: (N, D).
        action: (N,) bool; False is background.
        labels: (N,) class of the box that covers most of an action cell, -1 for background.
        videos: (N,) name of the video of each.
        frames: (N,) the frame.
        places: (N, 4) the cell itself, x1, y1, x2, y2 as shares of the frame.
    """

    features: np.ndarray
    action: np.ndarray
    labels: np.ndarray
    videos: np.ndarray
    frames: np.ndarray
    places: np.ndarray


@dataclass(eq=False)
class Example:
    """A key frame to draw.

    Attributes:
        video: its name.
        frame: its number.
        image: (S, S, 3) uint8.
        boxes: (N, 4) in its pixels.
        labels: (N,).
        maps: by kind, (h, w) responses that sum to 1, of the level with stride 8.
        aspect: of the video's frames, width over height; the image is square.
        contexts: by level, (2, heads, d, d), what SFM's first stage gives to the 2D and to the 3D path; none without channel contexts.
    """

    video: str
    frame: int
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    maps: dict[str, np.ndarray]
    aspect: float = 1.0
    contexts: tuple[np.ndarray, ...] = ()


Rows = dict[str, dict[str, list[float]]]
"""Values of key frames, by quantity and video."""


def _rows() -> Rows:
    return defaultdict(lambda: defaultdict(list))


@dataclass(eq=False)
class Study:
    """What was found out about a model.

    Attributes:
        model: its name.
        dataset: name of the videos' set.
        classes: their names.
        sense: whether the model has something in MSM's place; else both sides of it are one.
        videos: names of the videos, in order.
        frames: how many key frames were looked at.
        separability: by tap: values of key frames, by measure and video.
        cells: by tap.
        boxes: by path of `PATHS` and stride: (features (N, C) at box centres, labels (N,), videos (N,)).
        gain: (F, D) gains of key frames; (0, 0) where MSM has none.
        fisher: (F, D) Fisher scores of the channels that they scale.
        entropy: by stride, values of key frames by video; empty without channel contexts.
        moments: by (stride, stage of `STAGES`), by video, see `moments_of`.
        strength: by stride, one per video.
        maps: by kind, as `separability`.
        examples: some key frames.
        pictures: small JPEGs of the key frames that cells are from, square as the network sees them, by video and frame.
    """

    model: str
    dataset: str
    classes: tuple[str, ...]
    sense: bool = True
    videos: list[str] = field(default_factory=list)
    frames: int = 0
    separability: dict[str, Rows] = field(default_factory=lambda: defaultdict(_rows))
    cells: dict[str, Cells] = field(default_factory=dict)
    boxes: dict[tuple[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    gain: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    fisher: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    gain_videos: list[str] = field(default_factory=list)
    entropy: Rows = field(default_factory=_rows)
    moments: dict[tuple[int, str], dict[str, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))
    strength: dict[int, dict[str, Strength]] = field(default_factory=lambda: defaultdict(dict))
    maps: dict[str, Rows] = field(default_factory=lambda: defaultdict(_rows))
    examples: list[Example] = field(default_factory=list)
    pictures: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _known: dict[tuple, Interval] = field(default_factory=dict, repr=False)  # what takes long and is asked for again

    def _once(self, *what: object, compute: Callable[[], Interval]) -> Interval:
        if what not in self._known:
            self._known[what] = compute()
        return self._known[what]

    def per_video(self, rows: Rows, name: str) -> np.ndarray:
        """Mean over each video's key frames, (V,) in the order of `videos`, NaN where there are none."""
        return np.array(
            [mean_known(rows[name][video]) if name in rows and video in rows[name] else np.nan for video in self.videos]
        )

    def distance(self, tap: str, measure: str) -> Interval:
        """A measure of `MEASURES` at a tap, or the probe's "AUROC", action against background cells of other videos."""
        if measure != "AUROC":
            return mean_interval(self.per_video(self.separability[tap], measure))
        cells = self.cells[tap]
        return self._once("auroc", tap, compute=lambda: probe_auroc(cells.features, cells.action, cells.videos))

    def change(self, before: str, after: str, measure: str) -> Interval:
        """How much a measure, or the "AUROC", changes from one tap to another, paired by video.

        Raises:
            InputError: for an AUROC of taps that are not of the same cells.
        """
        if measure != "AUROC":
            first, second = (self.per_video(self.separability[tap], measure) for tap in (before, after))
            return paired_interval(first, second)
        first, second = self.cells[before], self.cells[after]
        if not np.array_equal(first.places, second.places) or not np.array_equal(first.frames, second.frames):
            raise InputError(f"{before} and {after} are maps of other cells; only the same cells can be paired.")
        return self._once(
            "auroc", before, after, compute=lambda: probe_change(first.features, second.features, second.action, second.videos)
        )

    def accuracy(self, path: str, stride: int) -> Interval:
        """How well the action is read from A, M or OUT at the boxes' centres."""
        return self._once("accuracy", path, stride, compute=lambda: class_probe(*self.boxes[path, stride]))

    def cka(self, stride: int, stage: str) -> Interval:
        """Linear CKA of both paths over all cells of the key frames, before or after stage 1."""
        parts = np.array(list(self.moments[stride, stage].values()))

        def statistic(chosen: np.ndarray) -> float:
            return cka_of(np.tensordot(np.bincount(chosen, minlength=len(parts)).astype(float), parts, 1))

        return self._once("cka", stride, stage, compute=lambda: interval(statistic, len(parts), 500))

    def exchange(self, stride: int, name: str) -> Interval:
        """A field of `Strength` at a level."""
        return mean_interval([getattr(one, name) for one in self.strength[stride].values()])

    def response(self, kind: str, measure: str) -> Interval:
        """A measure of `MAP_MEASURES` of a kind of map."""
        return mean_interval(self.per_video(self.maps[kind], measure))

    def gain_facts(self) -> dict[str, Interval]:
        """Share of channels whose gain exceeds 1, the mean gain, and the rank correlation of gain and Fisher score over channels."""
        videos = list(dict.fromkeys(self.gain_videos))
        place = {video: [i for i, v in enumerate(self.gain_videos) if v == video] for video in videos}
        gains = [self.gain[place[video]].mean(0) for video in videos]
        scores = [nanmean(self.fisher[place[video]]) for video in videos]

        def correlation(chosen: np.ndarray) -> float:
            return rank_correlation(np.mean([gains[i] for i in chosen], 0), nanmean(np.array([scores[i] for i in chosen])))

        return {
            "share above 1": mean_interval([float((self.gain[place[video]] > 1).mean()) for video in videos]),
            "mean gain": mean_interval([float(gain.mean()) for gain in gains]),
            "correlation with Fisher": self._once("gain", compute=lambda: interval(correlation, len(videos), 500)),
        }


def nanmean(rows: np.ndarray) -> np.ndarray:
    """Mean over the rows of (N, D) that leaves NaN out, and is NaN where all are."""
    known = np.isfinite(rows)
    return np.where(known.any(0), np.where(known, rows, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def examine(
    detector: Detector,
    dataset: Dataset,
    name: str = "model",
    step: int = 4,
    mode: Mode = "stream",
    examples: int = 3,
    tick: Callable[[str], object] = lambda video: None,
) -> Study:
    """Look into a model while it watches videos.

    Args:
        detector: of the model.
        dataset: of the model's classes.
        name: of the model, for tables and pictures.
        step: every n-th frame with ground truth is a key frame.
        mode: see `collect`.
        examples: how many key frames to keep for pictures, of different videos.
        tick: is called with each video's name when it has been seen.

    Raises:
        InputError: for another data set than the model's, and videos without any ground truth.
    """
    detector.check_classes(dataset)
    model = detector.model
    study, gather = Study(name, dataset.name, tuple(dataset.classes), model.config.motion != "none"), _Gather()
    first: tuple[str, list[tuple[Tensor, Tensor]]] | None = None
    last = first
    for number, video in enumerate(dataset.videos):
        study.videos.append(video.name)
        seen = list(collect(detector, video, step, mode))
        for key in seen:
            _distances(study, gather, key, number)
            _fusion(study, gather, key, model)
        if seen:
            middle = seen[len(seen) // 2]
            if len(study.examples) * len(dataset) <= number * examples:  # spread over the videos, and so over the classes
                study.examples.append(_example(model, middle))
            pairs = [(level.spatial, level.motion) for level in middle.levels]
            if last is not None:
                _strengths(study, model, video.name, pairs, last[1])
            first, last = first or (video.name, pairs), (video.name, pairs)
        tick(video.name)
    if first is None or last is None:
        raise InputError(f"none of the {len(dataset)} videos of {dataset.name} has ground truth; there is nothing to compare.")
    if first[0] != last[0]:
        _strengths(
            study, model, first[0], first[1], last[1]
        )  # a clip is compared with the one before it, the first with the last
    gather.finish(study)
    return study


class _Gather:
    """Lists that become arrays at the end."""

    def __init__(self) -> None:
        self.cells: dict[str, list] = defaultdict(list)
        self.boxes: dict[tuple[str, int], list] = defaultdict(list)
        self.gain: list[tuple[str, np.ndarray, np.ndarray]] = []

    def finish(self, study: Study) -> None:
        for tap, parts in self.cells.items():
            study.cells[tap] = Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for place, parts in self.boxes.items():
            features, labels, videos = (np.concatenate(column) for column in zip(*parts, strict=True))
            study.boxes[place] = (features, labels, videos)
        if self.gain:
            study.gain_videos = [video for video, _, _ in self.gain]
            study.gain = np.array([gain for _, gain, _ in self.gain])
            study.fisher = np.array([score for _, _, score in self.gain])


def cells_of(
    key: KeyFrame, tap: str, name: str, seed: int | list[int]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] | None:
    """All cells of a tap of a key frame, and some of them.

    Args:
        key: the frame.
        tap: one that it has.
        name: of the video.
        seed: of the choice: one that no model has a part in, so that maps of one size give the same cells.

    Returns:
        Features (N, D), which cells show an action (N,) and which the background (N,); and the columns of `Cells` of at most `PER_FRAME`
        of either kind. None if the frame has too few.
    """
    features, frame = key.taps[tap], (key.size, key.size)
    cells = features.shape[:2]
    kinds = cell_kinds(key.boxes, cells, frame)
    if not enough(kinds):
        return None
    x = features.reshape(-1, features.shape[2]).astype(float)
    action, background = (kinds == ACTION).ravel(), (kinds == BACKGROUND).ravel()
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(mask))[:PER_FRAME] for mask in (action, background)])
    owners = key.labels[coverage(key.boxes, cells, frame).argmax(0).ravel()]
    where = np.stack(np.unravel_index(chosen, cells)[::-1], 1)
    places = np.concatenate([where, where + 1], 1) / np.tile(cells[::-1], 2)
    labels, owner = np.where(action, owners, -1)[chosen], (np.repeat(name, len(chosen)), np.repeat(key.frame, len(chosen)))
    return (x, action, background), (x[chosen], action[chosen], labels, *owner, places)


def _distances(study: Study, gather: _Gather, key: KeyFrame, number: int) -> None:
    """Section 6.1 of one key frame."""
    study.frames += 1
    for tap in key.taps:
        found = cells_of(key, tap, key.video, [number, key.frame])
        if found is None:
            continue
        (x, a, b), some = found
        for measure, value in separability(x, a, b).items():
            study.separability[tap][measure][key.video].append(value)
        gather.cells[tap].append(some)
        if (key.video, key.frame) not in study.pictures:
            study.pictures[key.video, key.frame] = thumbnail(key.image)
        if tap == "MSM in" and key.gain is not None and key.normed is not None:
            z = key.normed.reshape(len(x), -1).astype(float)
            gather.gain.append((key.video, key.gain, channel_fisher(z, a, b)))


def thumbnail(image: np.ndarray, side: int = 96) -> bytes:
    """An (S, S, 3) uint8 image as a small JPEG, `side` pixels wide and high, of about two kilobytes."""
    out = io.BytesIO()
    Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS).save(out, "JPEG", quality=70)
    return out.getvalue()


def _fusion(study: Study, gather: _Gather, key: KeyFrame, model: MSSC) -> None:
    """Section 6.2 of one key frame."""
    frame = (key.size, key.size)
    activation = class_activation(model.head, key.features, key.boxes, key.labels)
    measured: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index, (level, stride) in enumerate(zip(key.levels, STRIDES, strict=True)):
        if level.context is not None:
            study.entropy[str(stride)][key.video].append(float(context_entropy(level.context).mean()))
        rows, columns = centre_cells(key.boxes, level.fused.shape[1:], frame)
        for path, x in zip(PATHS, (level.spatial[0], level.motion[0], level.fused), strict=True):
            at = x[:, rows, columns].T.float().cpu().numpy()
            gather.boxes[path, stride].append((at, key.labels, np.repeat(key.video, len(at))))
        for stage, pair in zip(STAGES, ((level.spatial[0], level.motion[0]), level.corrected), strict=True):
            if pair and model.config.paths == "both":
                found, sums = moments_of(*(x.flatten(1).T.cpu().numpy() for x in pair)), study.moments[stride, stage]
                sums[key.video] = sums[key.video] + found if key.video in sums else found
        for kind, response in _responses(level).items():
            measured[f"{kind} {stride}"].append(map_measures(response, key.boxes, frame))
        if level.attention is not None:
            measured[f"attention {stride}"] += _attention(level, key)
        for box, maps in zip(key.boxes, activation, strict=True):  # each logit's map is asked for its own box
            measured[f"Grad-CAM {stride}"].append(map_measures(maps[index], box[None], frame))
    for kind, found in measured.items():
        for name, value in mean_measures(found).items():
            study.maps[kind][name][key.video].append(value)


def _responses(level: Level) -> dict[str, np.ndarray]:
    """Norms of what the paths take, and of what comes out."""
    exchanged = {f"T {path}": norm_map(x) for path, x in zip(("spatial", "motion"), level.exchanged, strict=False)}
    return {**exchanged, "OUT": norm_map(level.fused)}


def _attention(level: Level, key: KeyFrame) -> list[dict[str, float]]:
    """Measures of the rows of the spatial path's action cells: where they look on the motion map."""
    assert level.attention is not None
    kinds = cell_kinds(key.boxes, level.fused.shape[1:], (key.size, key.size))
    rows = attention_rows(level.attention[0], kinds == ACTION)
    return [map_measures(row, key.boxes, (key.size, key.size)) for row in rows]


def _strengths(
    study: Study, model: MSSC, video: str, own: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]
) -> None:
    for stride, fusion, a, b in zip(STRIDES, model.fusion.levels, own, other, strict=False):
        if exchange_of(fusion) is not None:
            study.strength[stride][video] = exchange_strength(fusion, a, b)


def _example(model: MSSC, key: KeyFrame) -> Example:
    """The middle of a video, with the maps of its finest level."""
    level = key.levels[0]
    maps = _responses(level)
    if level.attention is not None:
        kinds = cell_kinds(key.boxes, level.fused.shape[1:], (key.size, key.size))
        rows = attention_rows(level.attention[0], kinds == ACTION)
        if len(rows):
            maps["attention"] = rows.mean(0)
    cams = class_activation(model.head, key.features, key.boxes, key.labels)
    maps["Grad-CAM"] = np.mean([levels[0] for levels in cams], 0)
    contexts = tuple(one.context.float().cpu().numpy() for one in key.levels if one.context is not None)
    return Example(key.video, key.frame, key.image, key.boxes, key.labels, maps, key.aspect, contexts)
