"""Video-mAP: are whole tubes right, in space and from start to end?"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..boxes import tube_ious
from ..structures import InputError, Tube
from .matching import Hits, check_iou, check_names, claim, count_by_video, mean_ap
from .protocols import PROTOCOLS, RANGE, Score, Truth


def video_map(
    tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Truth], classes: int, iou: float = 0.5, protocol: str = "act"
) -> Score:
    """Video-mAP: are whole tubes right, in space and from start to end?

    The overlap of two tubes is temporal IoU x mean spatial IoU over the frames in both, with inclusive boxes; each tube is
    compared with the best one not yet taken. No suppression happens here.

    Args:
        tubes: found tubes by video; a video that is missing here has none.
        truth: every video to score.
        classes: how many classes there are.
        iou: a tube is right from this overlap on.
        protocol: "act" for the area under the trapezoids of the raw curve, as ACT and MOC, or "yowo" for that under its
            envelope, as YOWO's evaluate_videoAP.

    Raises:
        InputError: for tubes of an unknown video or class, a threshold outside (0, 1], or another protocol.
    """
    return tube_hits(tubes, truth, classes, (iou,), protocol)[0].score()


def video_map_range(tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Truth], classes: int) -> Score:
    """Mean of `video_map` over the thresholds 0.5:0.05:0.95."""
    scores = [hits.score() for hits in tube_hits(tubes, truth, classes, RANGE)]
    per_class = np.mean([score.per_class for score in scores], axis=0)
    return Score(mean_ap(per_class), per_class, scores[0].positives, RANGE, "act")


def video_accuracy(tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Truth]) -> float:
    """Share of the videos with ground truth whose best-scored tube names one of their actions; no tube is a wrong answer.

    NaN if no video has ground truth.
    """
    check_names(tubes, truth)
    right = []
    for name, video in truth.items():
        if video.tubes:
            best = max(tubes.get(name, ()), key=lambda tube: tube.score, default=None)
            right.append(best is not None and best.label in {tube.label for tube in video.tubes})
    return float(np.mean(right)) if right else float("nan")


def tube_hits(
    tubes: Mapping[str, Sequence[Tube]],
    truth: Mapping[str, Truth],
    classes: int,
    ious: Sequence[float] = (0.5,),
    protocol: str = "act",
) -> list[Hits]:
    """Which tubes are right at each threshold. Arguments and errors as of `video_map`."""
    if protocol not in ("act", "yowo"):
        raise InputError(f"unknown protocol '{protocol}' of video-mAP; choose act or yowo.")
    check_names(tubes, truth)
    index = {name: place for place, name in enumerate(truth)}
    found = [(index[name], tube) for name, group in tubes.items() for tube in group]
    wanted = [(index[name], tube) for name, video in truth.items() for tube in video.tubes]
    for _, tube in found + wanted:
        if tube.label >= classes:
            raise InputError(f"a tube has label {tube.label}, but there are {classes} classes, counted from 0.")
    found.sort(key=lambda item: (item[1].label, -item[1].score))
    groups: dict[tuple[int, int], list[int]] = {}
    for column, (video, tube) in enumerate(wanted):
        groups.setdefault((video, tube.label), []).append(column)
    pairs = [(row, column) for row, (video, tube) in enumerate(found) for column in groups.get((video, tube.label), ())]
    row, column = np.array(pairs, np.int64).reshape(-1, 2).T
    both = np.stack([row, column + len(found)], axis=1)
    overlap = tube_ious([tube for _, tube in (*found, *wanted)], both, PROTOCOLS["act"].pixel)
    (videos, labels), (places, kinds) = (
        np.array([(video, tube.label) for video, tube in group], np.int64).reshape(-1, 2).T for group in (found, wanted)
    )
    positives = count_by_video(places, kinds, len(truth), classes)
    hits = []
    for iou in ious:
        check_iou(iou)
        near, right = overlap >= iou, np.zeros(len(found), bool)
        right[list(claim(row[near], column[near], overlap[near], retry=True))] = True
        hits.append(Hits(labels, right, videos, positives, iou, protocol))
    return hits
