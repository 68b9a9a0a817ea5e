"""Our linker against the one of the YOWO family: time, and video-mAP of the same detections.

    python benchmarks/linking.py [--data DIR]

DIR holds UCF101-24 (`pyannot.pkl`, `videos/`); without it only time is measured. Detections are simulated over the true tubes of
the BasketballDunk training videos that are there, where about half of the frames carry no action: whoever acts is also seen
before and after, with a low score. So the numbers compare linkers; they are no results of a model. Prints Markdown.

The family's linker, after YOWO's published code: per class, and at most three times, the path through one box of every frame
that maximises the sum of IoU + s1 + s2 + s1 s2 / 2 over neighbouring frames, by Viterbi; its boxes are removed; frames without a
box borrow the nearest frame's. Tubes span the whole video and are never trimmed; of two that overlap by over 0.3 the better
stays; a tube scores its mean.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mssc.data import plain_pickle
from mssc.evaluate import Truth, video_map
from mssc.linking import link, tube_nms
from mssc.structures import Detections, Tube

LEVELS = {  # jitter as a share of the box, misses, false boxes a frame, log odds of acting over not acting
    "mild": (0.03, 0.03, 0.3, 5.0),
    "medium": (0.06, 0.10, 1.0, 4.0),
    "strong": (0.10, 0.20, 2.0, 3.0),
}
ACTION = 1  # BasketballDunk among the 24 classes


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes to (N, M)."""
    side = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = side.clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return inter / np.maximum(areas[0][:, None] + areas[1] - inter, 1e-9)


def family_link(frames: list[Detections], at_most: int = 3) -> list[Tube]:
    """The tubes of a video as the family links them."""
    tubes = []
    for label in np.unique(np.concatenate([d.labels for d in frames])).tolist():
        chosen = [d.labels == label for d in frames]
        boxes = [d.boxes[keep].astype(float) for d, keep in zip(frames, chosen, strict=True)]
        scores = [d.scores[keep].astype(float) for d, keep in zip(frames, chosen, strict=True)]
        full = np.flatnonzero([len(s) for s in scores])
        nearest = [int(full[np.abs(full - t).argmin()]) for t in range(len(frames))]
        boxes, scores = [boxes[t] for t in nearest], [scores[t] for t in nearest]
        found: list[Tube] = []
        while len(found) < at_most and all(len(s) for s in scores):
            path = best_path(boxes, scores)
            line = np.array([b[i] for b, i in zip(boxes, path, strict=True)])
            values = np.array([s[i] for s, i in zip(scores, path, strict=True)])
            found.append(Tube(label, float(values.mean()), 0, line, values))
            boxes = [np.delete(b, i, axis=0) for b, i in zip(boxes, path, strict=True)]
            scores = [np.delete(s, i) for s, i in zip(scores, path, strict=True)]
        tubes += tube_nms(found, 0.3)
    return tubes


def best_path(boxes: list[np.ndarray], scores: list[np.ndarray]) -> list[int]:
    """One box of each frame, by Viterbi from the last frame to the first."""
    ahead, following = np.zeros(len(scores[-1])), []
    for t in range(len(scores) - 2, -1, -1):
        s1, s2 = scores[t][:, None], scores[t + 1][None]
        edge = pairwise_iou(boxes[t], boxes[t + 1]) + s1 + s2 + 0.5 * s1 * s2 + ahead
        following.append(edge.argmax(axis=1))
        ahead = edge.max(axis=1)
    path = [int(ahead.argmax())]
    for step in reversed(following):
        path.append(int(step[path[-1]]))
    return path


def slow_noise(rng: np.random.Generator, count: int, deviation: float, memory: float = 0.85) -> np.ndarray:
    """Noise that changes slowly from frame to frame."""
    values = rng.normal(size=count) * deviation
    for t in range(1, count):
        values[t] = memory * values[t - 1] + np.sqrt(1 - memory**2) * values[t]
    return values


def simulate(truth: Truth, rng: np.random.Generator, level: tuple[float, float, float, float]) -> list[Detections]:
    """Detections of one video: actors in all frames, low but not zero where they do not act, misses, and false boxes."""
    jitter, miss, false, contrast = level
    rows: list[list[tuple]] = [[] for _ in range(truth.frames)]
    for tube in truth.tubes:
        inside = np.clip(np.arange(truth.frames) - tube.start, 0, len(tube) - 1)
        boxes, size = tube.boxes[inside], np.tile(tube.boxes[inside][:, 2:] - tube.boxes[inside][:, :2], 2)
        away = np.maximum(tube.start - np.arange(truth.frames), np.arange(truth.frames) - tube.stop + 1).clip(0)
        odds = -3.5 + contrast * np.exp(-away / 3) + rng.normal() * 0.7 + slow_noise(rng, truth.frames, 1.0)
        seen = boxes + rng.normal(size=boxes.shape) * size * jitter
        for t in np.flatnonzero(rng.random(truth.frames) > miss).tolist():
            rows[t].append((ACTION, 1 / (1 + np.exp(-odds[t])), seen[t]))
            rows[t].append((ACTION + 1, 1 / (1 + np.exp(4 - rng.normal())), seen[t]))
    for here in rows:
        for _ in range(rng.poisson(false)):
            low = rng.uniform(0, (250, 150))
            here.append((ACTION, rng.beta(1, 12), np.r_[low, low + rng.uniform(20, 90, 2)]))
    made = []
    for here in rows:
        box = np.sort(np.array([row[2] for row in here]).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        made.append(Detections(box, np.array([row[0] for row in here]), np.array([row[1] for row in here])))
    return made


def read(root: Path) -> dict[str, Truth]:
    """The true tubes of the BasketballDunk videos that are there."""
    root = root / "ucf101-24" if (root / "ucf101-24").is_dir() else root
    content, truth = plain_pickle.load(root / "pyannot.pkl"), {}
    for file in sorted((root / "videos" / "BasketballDunk").glob("*.*")):
        entry, tubes = content[f"BasketballDunk/{file.stem}"], []
        for tube in entry["annotations"]:
            boxes = np.asarray(tube["boxes"], float)
            tubes.append(Tube(int(tube["label"]), 1, int(tube["sf"]), np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))
        truth[file.stem] = Truth(tuple(tubes), max(int(entry["numf"]), *(tube.stop for tube in tubes)))
    return truth


def crowd(boxes: int = 40, classes: int = 24, frames: int = 180) -> list[Detections]:
    """A crowded video: every box has a score for every class."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 250, (boxes, 2)), rng.uniform(30, 80, (boxes, 2))
    chance, made = rng.beta(0.3, 4, (boxes, classes)), []
    for t in range(frames):
        low = corner + 0.2 * t + rng.normal(size=(boxes, 2))
        box = np.repeat(np.c_[low, low + size], classes, axis=0)
        score = np.clip(chance + rng.normal(size=chance.shape) * 0.05, 0, 1)
        made.append(Detections(box, np.tile(np.arange(classes), boxes), score.ravel()))
    return made


LINKERS: dict[str, Callable[[list[Detections]], list[Tube]]] = {"ours": link, "YOWO family's": family_link}


def speed() -> None:
    """Table 1."""
    video = crowd()
    print("180 frames, 40 boxes in 24 classes each, processor time, best of three\n\n| linker | seconds |\n|---|---|")
    for name, linker in LINKERS.items():
        times = []
        for _ in range(3):
            began = time.process_time()
            linker(video)
            times.append(time.process_time() - began)
        print(f"| {name} | {min(times):.2f} |")


def quality(root: Path, seeds: int = 3) -> None:
    """Table 2."""
    truth = read(root)
    busy = np.mean([sum(len(tube) for tube in v.tubes) / v.frames for v in truth.values()])
    print(
        f"\n{len(truth)} videos, {100 * busy:.0f} % of their frames with action; mean of {seeds} seeds (lowest to highest at 0.5)\n"
    )
    print("| noise | linker | video-mAP@0.2 | @0.5 | @0.75 |\n|---|---|---|---|---|")
    for level, values in LEVELS.items():
        scores: dict[str, list] = {name: [] for name in LINKERS}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            made = {name: simulate(video, rng, values) for name, video in truth.items()}
            for name, linker in LINKERS.items():
                tubes = {video: linker(frames) for video, frames in made.items()}
                scores[name].append([100 * video_map(tubes, truth, 24, iou).map for iou in (0.2, 0.5, 0.75)])
        for name, rows in scores.items():
            mean, low, high = np.mean(rows, axis=0), np.min(rows, axis=0), np.max(rows, axis=0)
            print(f"| {level} | {name} | {mean[0]:.1f} | {mean[1]:.1f} ({low[1]:.1f} to {high[1]:.1f}) | {mean[2]:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    speed()
    if options.data is not None:
        quality(options.data)
