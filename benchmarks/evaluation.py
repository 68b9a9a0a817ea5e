"""How long frame-mAP takes, and how much memory: a million detections over a thousand videos.

    python benchmarks/evaluation.py [--detections 1000000] [--videos 1000]

Each size runs in a process of its own. Prints Markdown.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from mssc.evaluate import Truth, error_types, frame_map
from mssc.structures import Detections, Tube

FRAMES, CLASSES = 100, 24


def make(count: int, videos: int) -> tuple[dict, dict]:
    """Random boxes around one true tube a video."""
    rng = np.random.default_rng(0)
    found, truth, each = {}, {}, count // (videos * FRAMES)
    for v in range(videos):
        label, low = int(rng.integers(CLASSES)), rng.uniform(0, 150, 2)
        box = np.r_[low, low + rng.uniform(40, 90, 2)]
        truth[str(v)] = Truth((Tube(label, 1, 0, np.tile(box, (FRAMES, 1))),), FRAMES)
        boxes = box + rng.normal(size=(FRAMES, each, 4)) * 8
        boxes = np.concatenate([np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])], axis=-1)
        labels = np.where(rng.random((FRAMES, each)) < 0.5, label, rng.integers(CLASSES, size=(FRAMES, each)))
        scores = rng.random((FRAMES, each))
        found[str(v)] = [Detections(boxes[t], labels[t], scores[t]) for t in range(FRAMES)]
    return found, truth


def child(count: int, videos: int) -> None:
    """Score, then print seconds and peak megabytes."""
    found, truth = make(count, videos)
    times = []
    for protocol in ("voc", "act"):
        began = time.perf_counter()
        frame_map(found, truth, CLASSES, protocol=protocol)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    error_types(found, truth, CLASSES, 0.3)
    print(*times, time.perf_counter() - began, peak)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options.detections, options.videos)
        sys.exit()
    print(
        "| detections | videos | frame-mAP voc (s) | act (s) | kinds of errors (s) | peak memory (MB) |\n|---|---|---|---|---|---|"
    )
    for share in (10, 1):
        count, videos = options.detections // share, max(1, options.videos // share)
        command = [sys.executable, __file__, "--child", "--detections", str(count), "--videos", str(videos)]
        voc, act, errors, peak = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        print(f"| {count:,} | {videos:,} | {voc:.1f} | {act:.1f} | {errors:.1f} | {peak:.0f} |")
