"""What is each part of a network worth? It is given a video of another class, zeros, is passed by or weighs all alike, and the loss is
counted.

Every video is seen as the network is used, from its start, every n-th frame with ground truth is scored. Whatever comes before the part is
computed once for all rows.
"""

import copy
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Dataset, Video
from ..data.decoding import decode
from ..detection.detector import Detector
from ..detection.postprocess import to_detections
from ..evaluate import Truth, frame_hits
from ..model.features import Features
from ..model.head import fitting_anchors
from ..model.mssc import MSSC
from ..model.video import State
from ..structures import Detections, InputError, Predictions
from ..video import frames_per_look
from .bootstrap import Interval, of_draws, resamples, rounded, unrounded
from .hooks import Captured, capture
from .keyframes import key_frames, streamed, windowed
from .stand_ins import Intervention, interventions_of, parts_of, recorded, standing_in

ROUNDS = 400  # of the bootstrap: each scores all videos anew
AT_ONCE = 48  # frames of a video per call of the network
NONE = ("nothing", "")
METRICS = ("box accuracy", "frame-mAP@0.5", "actor AP@0.5")
"""Box accuracy: the share of true boxes whose action is named right, the boxes given. The other two are of the network's own detections,
unlinked (protocol voc)."""


class Effect(NamedTuple):
    """What an intervention costs.

    Attributes:
        part: of the network; `NONE` is no intervention.
        kind: what becomes of it, see `Intervention`.
        scores: by metric of `METRICS`, in [0, 1], with intervals over videos.
        changes: likewise, the score less that without intervention, paired by video.
    """

    part: str
    kind: str
    scores: Mapping[str, Interval]
    changes: Mapping[str, Interval]


@dataclass(frozen=True, eq=False)
class Interventions:
    """All rows of a model.

    Attributes:
        model: its name.
        dataset: name of the videos' set.
        videos: how many were scored.
        frames: key frames.
        boxes: true boxes in them.
        step: every n-th frame with ground truth is a key frame.
        seed: of the choice of other videos.
        rows: no intervention first.
    """

    model: str
    dataset: str
    videos: int
    frames: int
    boxes: int
    step: int
    seed: int
    rows: tuple[Effect, ...]

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        plain = {name: getattr(self, name) for name in ("model", "dataset", "videos", "frames", "boxes", "step", "seed")}
        rows = [
            {"part": row.part, "kind": row.kind, "scores": _plain(row.scores), "changes": _plain(row.changes)}
            for row in self.rows
        ]
        return plain | {"rows": rows}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Interventions":
        """What `record` gave.

        Raises:
            KeyError, TypeError, ValueError: for anything else.
        """
        plain, rows = dict(record), record["rows"]
        plain["rows"] = tuple(Effect(r["part"], r["kind"], _intervals(r["scores"]), _intervals(r["changes"])) for r in rows)
        return cls(**plain)


def _plain(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    return {name: [rounded(x) for x in one[:3]] + [one.videos] for name, one in intervals.items()}


def _intervals(plain: Mapping[str, Sequence[float | None]]) -> dict[str, Interval]:
    found = {}
    for name, (value, low, high, videos) in plain.items():
        found[name] = Interval(unrounded(value), unrounded(low), unrounded(high), int(videos or 0))
    return found


# -------------------------------------------------------------------- which videos


def partners(videos: Sequence[Video], seed: int = 0) -> dict[str, Video]:
    """For each video another one that shares no action with it: drawn among those that are at least as long, or else the longest.

    Args:
        videos: with ground truth.
        seed: of the draw, which depends on nothing else than the video and what there is to draw from.

    Raises:
        InputError: for a video that has none.
    """
    if len(videos) < 2:
        raise InputError(
            f"there is {len(videos)} video with ground truth; interventions take features from another one: give two at least."
        )
    labels = {video.name: {tube.label for tube in video.tubes} for video in videos}
    found = {}
    for video in videos:
        others = [one for one in videos if not labels[one.name] & labels[video.name]]
        if not others:
            raise InputError(
                f"no video shows another class than {video.name}; interventions take features from videos of other classes: "
                "give videos of two classes at least."
            )
        most = max(one.frames / one.rate for one in others)
        wanted = min(video.frames / video.rate, most)
        long = [one for one in others if one.frames / one.rate >= wanted]
        found[video.name] = long[np.random.default_rng([seed, zlib.crc32(video.name.encode())]).integers(len(long))]
    return found


class Chunk(NamedTuple):
    """Some frames of a video, as a network is shown them.

    Attributes:
        clip: (1, 3, T, S, S) uint8.
        places: of its key frames among the T.
        frames: their numbers in the video.
        first: whether the network's state begins here.
    """

    clip: Tensor
    places: list[int]
    frames: list[int]
    first: bool


def chunks(detector: Detector, video: Video, step: int) -> Iterator[Chunk]:
    """A video from its start to its last key frame; of one that is labelled in some frames only, each key frame with its window."""
    keys = key_frames(video, step)
    if video.labelled is not None:
        yield from (Chunk(*one, True) for one in windowed(detector, video, keys))
        return
    for count, some in enumerate(streamed(detector, video, keys, at_once=AT_ONCE)):
        yield Chunk(*some, count == 0)


def back_and_forth(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Frames, then the same backwards and forwards without end."""
    seen = []
    for frame in frames:
        seen.append(frame)
        yield frame
    turn = seen[-2::-1] + seen[1:] or seen
    while turn:
        yield from turn


def _frames_of(detector: Detector, video: Video, number: int) -> Iterator[Tensor]:
    """(3, S, S) frames of a video without end, from its start; of one that is labelled in some frames only, from a window's."""
    if video.labelled is None:
        every = frames_per_look(float(video.rate))
        frames: Iterable[Tensor] = (detector.prepare([one])[0] for one in islice(decode(video.path), 0, None, every))
    else:
        key = video.labelled[number % len(video.labelled)]
        ((clips, _),) = detector.windows(decode(video.path), float(video.rate), [key])
        frames = clips[0].unbind(1)
    return back_and_forth(frames)


# -------------------------------------------------------------------- what is found


class _Tally:
    """What is found under each row."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, list[Detections]]] = defaultdict(lambda: defaultdict(list))
        self.right: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.boxes: dict[str, int] = defaultdict(int)
        self.truth: dict[str, Truth] = {}

    def effects(self, classes: int, rounds: int) -> Iterator[Effect]:
        """Rows as they were added, the first is what others are compared with."""
        videos = list(self.truth)
        times, boxes = resamples(len(videos), rounds), np.array([self.boxes[name] for name in videos])
        whole = np.concatenate([np.ones((1, len(videos)), int), times])
        plain: dict[str, np.ndarray] = {}
        for key, found in self.found.items():
            right = np.array([self.right[key][name] for name in videos])
            draws = {
                METRICS[0]: (whole @ right) / np.maximum(whole @ boxes, 1),
                METRICS[1]: frame_hits(found, self.truth, classes).draws(whole),
                METRICS[2]: frame_hits(found, self.truth, None).draws(whole),
            }
            plain = plain or draws
            intervals = [
                {name: of_draws(float(values[0]), values[1:], len(videos)) for name, values in some.items()}
                for some in (draws, {name: values - plain[name] for name, values in draws.items()})
            ]
            yield Effect(*key, *intervals)


def classified(model: MSSC) -> AbstractContextManager[Captured]:
    """A block after which `named_right` can ask."""
    return capture(model, "head", inputs=("head.classifier",), detach=False)


def named_right(model: MSSC, seen: Captured, video: Video, frames: Sequence[int]) -> tuple[int, int]:
    """How many true boxes of key frames a network gives the right action, the boxes given, and how many there are.

    Args:
        model: that has looked at them.
        seen: what its "head" gave meanwhile, and the inputs of "head.classifier".
        video: that they are of.
        frames: their numbers in it.
    """
    truth = [video.boxes_at(frame) for frame in frames]
    most = max((len(labels) for _, labels in truth), default=0)
    if not most:
        return 0, 0
    padded = np.zeros((len(frames), most, 4), np.float32)
    for row, (own, _) in enumerate(truth):
        padded[row, : len(own)] = own
    maps, features, regions = seen.inputs["head.classifier"]
    found: Predictions = seen["head"]
    scale = model.config.key_size / np.array([video.width, video.height] * 2, np.float32)
    boxes = torch.from_numpy(padded * scale).to(found.boxes)
    with torch.no_grad():
        logits = model.head.classifier(
            maps, features, regions._replace(boxes=boxes, anchors=fitting_anchors(boxes, found.anchor_boxes))
        )
    best = logits.argmax(2).cpu().numpy()
    right = sum(int((best[row, : len(labels)] == labels).sum()) for row, (_, labels) in enumerate(truth))
    return right, sum(len(labels) for _, labels in truth)


class _Streams:
    """Where a network is in a video, by row; rows that leave the video path alone are where the network itself is.

    Args:
        model: to begin with.
        rows: those that do not.
    """

    def __init__(self, model: MSSC, rows: Sequence[Intervention]) -> None:
        start = model.initial_state(1)
        self.own, self.other = start, start
        self.rows: dict[int, State] = {number: start for number, row in enumerate(rows) if row.in_video_path(model)}


def intervene(
    detector: Detector,
    dataset: Dataset,
    name: str = "model",
    step: int = 4,
    parts: Sequence[str] | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
    tick: Callable[[str], object] = lambda video: None,
) -> Interventions:
    """Take each part of a network in turn, and score what is left.

    Args:
        detector: of the network, which stays as it is, on its device.
        dataset: of the network's classes; videos without ground truth are left out.
        name: of the model, for tables and pictures.
        step: every n-th frame with ground truth is scored.
        parts: of the network; None for all that it has.
        seed: of the choice of videos of another class.
        rounds: of the bootstrap.
        tick: is called with each video's name when it has been seen.

    Raises:
        InputError: for another data set than the network's, fewer than two videos or classes, a part that the network lacks, and a network
            that gives NaN.
    """
    detector.check_classes(dataset)
    own = Detector(copy.deepcopy(detector.model), name)  # nobody else shall meet the stand-ins
    rows = chosen_rows(own.model, parts, name)
    videos = [video for video in dataset.videos if key_frames(video, step)]
    other, tally = partners(videos, seed), _Tally()
    for video in videos:
        frames: Iterator[Tensor] = iter(())
        scored, streams, stretch = [], _Streams(own.model, rows), 0
        for chunk in chunks(own, video, step):
            if chunk.first:
                frames, streams, stretch = _frames_of(own, other[video.name], stretch), _Streams(own.model, rows), stretch + 1
            theirs = torch.stack(list(islice(frames, chunk.clip.shape[2])), 1)[None]
            _look(own.model, rows, streams, video, chunk, theirs, tally)
            scored += chunk.frames
        tubes = (tube.among(np.array(scored)) for tube in video.tubes)
        tally.truth[video.name] = Truth(tuple(tube for tube in tubes if tube is not None), len(scored), video.rate)
        tick(video.name)
    frames_in_all, boxes = sum(truth.frames for truth in tally.truth.values()), sum(tally.boxes.values())
    effects = tuple(tally.effects(len(dataset.classes), rounds))
    return Interventions(name, dataset.name, len(videos), frames_in_all, boxes, step, seed, effects)


def chosen_rows(model: MSSC, parts: Sequence[str] | None, name: str = "model") -> list[Intervention]:
    """The rows about some parts of a network.

    Raises:
        InputError: for a part that it lacks, naming those that it has.
    """
    rows = interventions_of(model)
    for part in parts or ():
        if part not in parts_of(rows):
            raise InputError(f"there is no {part} in {name}; it has {', '.join(parts_of(rows))}.")
    return [row for row in rows if parts is None or row.part in parts]


@torch.no_grad()
def _look(
    model: MSSC, rows: Sequence[Intervention], streams: _Streams, video: Video, chunk: Chunk, theirs: Tensor, tally: _Tally
) -> None:
    """Go on through a video, and as many frames of the other one, under every row."""
    device = next(model.parameters()).device
    clip, theirs = chunk.clip.to(device), theirs.to(device)
    keys = torch.tensor([chunk.places or [clip.shape[2] - 1]], device=device)  # the state must go on in any case
    before = streams.own
    with recorded(model) as other:
        _, streams.other = model.features(theirs, streams.other, keys)
    with recorded(model) as own:
        features, streams.own = model.features(clip, before, keys)
    _finite(streams.own, f"the state behind frame {chunk.frames[-1] if chunk.frames else 0} of {video.name}")
    if chunk.places:
        tally.boxes[video.name] += _score(model, features, video, chunk, NONE, tally)
    for number, row in enumerate(rows):
        inside = number in streams.rows
        if not inside and not chunk.places:
            continue
        with standing_in(model, row.stand_ins(model, own, other)):
            features, after = model.features(clip, streams.rows.get(number, before), keys)
        if inside:
            streams.rows[number] = after
        if chunk.places:
            _score(model, features, video, chunk, (row.part, row.kind), tally)


def _score(model: MSSC, features: Features, video: Video, chunk: Chunk, row: tuple[str, str], tally: _Tally) -> int:
    """Count what the head makes of features of a chunk's key frames; how many true boxes there are."""
    with classified(model) as seen:
        predictions = model.head(features)
    _finite((predictions.logits, predictions.boxes), f"what the network gives for {video.name} ({': '.join(row).rstrip(': ')})")
    found = to_detections(predictions, model.config, [(video.height, video.width)] * len(chunk.frames))
    right, boxes = named_right(model, seen, video, chunk.frames)
    tally.found[row][video.name] += found
    tally.right[row][video.name] += right
    return boxes


def _finite(value: Any, what: str) -> None:
    """Refuse NaN in tensors, however nested."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{what} holds NaN or infinity; look for broken weights, or train again with a lower learning rate.")
        return
    for item in value:
        _finite(item, what)
