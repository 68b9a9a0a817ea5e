"""How fast, as ratios within one run: streaming against recomputing a clip per key frame, and the pipeline stage by stage.

    python benchmarks/speed.py [--model jhmdb] [--video a.mp4] [--frames 240]

Prints Markdown. Without --video a toy video of 320x240 is made and looped. Use two threads of a quiet machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import mssc  # noqa: F401  (sets how threads wait, before torch is imported)

# isort: split
import numpy as np
import torch

from mssc.data import toy
from mssc.detection.detector import FRAMES_AT_ONCE, Detector
from mssc.detection.pipeline import detect_video
from mssc.video import Writer, read


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """The median time of `action`, after one run that is not counted."""
    action()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return median(times)


def make_video(folder: Path, frames: int) -> Path:
    """A video of 320x240 at 30 frames a second, made of toy videos one after another."""
    path, left = folder / "toy.mp4", frames
    dataset = toy.generate(folder / "toy", max(frames // 40, 1), part="test", size=(320, 240), frames=(40, 48))
    with Writer(path, 320, 240, 30) as writer:
        while left > 0:
            for video in dataset.videos:
                for frame in read(video.path):
                    if left > 0:
                        writer.write(frame.image, None)
                        left -= 1
    return path


def streaming(name: str) -> None:
    """Table 1: one new frame at a time."""
    detector = Detector.load(name, "cpu")
    window, size = detector.config.window, detector.config.key_size
    frames = np.random.default_rng(0).integers(0, 256, (3 * window, size, size, 3), np.uint8)
    stream = detector.stream()
    stream(frames[:window])

    def stream_singly() -> None:
        for frame in frames[:window]:
            stream(frame)

    def recompute() -> None:
        for index in range(window):
            detector.window(frames[index : index + window])

    by_clip = seconds(recompute, 3) / window
    singly = seconds(stream_singly) / window
    chunked = seconds(lambda: stream(frames[:FRAMES_AT_ONCE])) / FRAMES_AT_ONCE
    print("\n| way | ms a frame | frames a second | against recomputing |\n|---|---|---|---|")
    for label, each in (
        (f"recompute {window} frames per key frame", by_clip),
        ("stream, 1 frame a call", singly),
        (f"stream, {FRAMES_AT_ONCE} frames a call", chunked),
    ):
        print(f"| {label} | {1000 * each:.1f} | {1 / each:.0f} | {by_clip / each:.1f}x |")


def pipeline(name: str, video: Path, folder: Path) -> None:
    """Table 2: decode, detect, link, draw, encode."""
    detect_video(video, name, output=folder / "out.mp4")
    runs = [detect_video(video, name, output=folder / "out.mp4") for _ in range(3)]
    runs.sort(key=lambda run: run.frames_per_second)
    run = runs[1]
    count = len(run.times)
    print(
        f"\n{count} frames of {run.info.width}x{run.info.height}: **{run.frames_per_second:.0f} frames a second** (median of 3)\n"
    )
    print("| stage | ms a frame | share |\n|---|---|---|")
    whole = sum(run.timings.values())
    for stage, spent in sorted(run.timings.items(), key=lambda item: -item[1]):
        print(f"| {stage} | {1000 * spent / count:.2f} | {100 * spent / whole:.0f} % |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    streaming(options.model)
    with tempfile.TemporaryDirectory() as place:
        pipeline(options.model, options.video or make_video(Path(place), options.frames), Path(place))
