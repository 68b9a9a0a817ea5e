"""How fast, as ratios within one run: each runtime against a YOWOv2-Nano of the same layers and sizes, and the pipeline stage by stage.

    python benchmarks/speed.py [--model jhmdb] [--video a.mp4] [--frames 240] [--threads 2]

Prints Markdown. Without --video a toy video of 320x240 is made and looped. Use two threads of a quiet machine.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mssc  # noqa: F401  (sets how threads wait, before torch is imported)

# isort: split
import numpy as np
import openvino
import torch
from yowov2_nano import SIDE, WINDOW, YowoV2Nano, facts

from mssc.config import LOOK_EVERY
from mssc.data import toy
from mssc.detection.detector import FRAMES_AT_ONCE, Detector
from mssc.detection.pipeline import detect_video
from mssc.detection.preprocess import shape_looked_at
from mssc.detection.runtime import RUNTIMES
from mssc.model.shipped import model_folder
from mssc.structures import InputError
from mssc.video import Writer, read

ROUNDS = 8


class Task(NamedTuple):
    """Something to be timed: what it is, what does it, and how many frames that are."""

    label: str
    action: Callable[[], object]
    frames: int = 1


def seconds(tasks: Sequence[Task]) -> list[float]:
    """The shortest time of each task, per frame. They take turns, so that what others do on the machine slows none down alone."""
    shortest = [math.inf] * len(tasks)
    for turn in range(ROUNDS + 1):
        for place, task in enumerate(tasks):
            for _ in range(2):  # the first one finds the caches cold
                began = time.perf_counter()
                task.action()
                if turn:
                    shortest[place] = min(shortest[place], (time.perf_counter() - began) / task.frames)
    return shortest


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


def yowo() -> list[Task]:
    """A key frame of `YowoV2Nano`, in torch and in OpenVINO."""
    model, clip = YowoV2Nano().eval().requires_grad_(False), torch.rand(1, 3, WINDOW, SIDE, SIDE)
    parameters, work = facts(model, clip)
    print(f"\nThe stand-in of YOWOv2-Nano: {parameters:.1f} million parameters, {work:.2f} billion multiply-adds a key frame.")
    graph = openvino.convert_model(model, example_input=clip, input=list(clip.shape))
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def in_torch() -> None:
        with torch.inference_mode():
            model(clip)

    layers = "YOWOv2-Nano's layers, a key frame"
    return [Task(f"{layers}, torch", in_torch), Task(f"{layers}, openvino", lambda: request.infer([clip.numpy()]))]


def go_through(detector: Detector, images: np.ndarray, frames: int) -> None:
    """All images (T, S, S, 3), so many a call."""
    state = detector.initial_state()
    for start in range(0, len(images), frames):
        _, state = detector.go_on(images[start : start + frames], state)


def streaming(name: str) -> None:
    """Table 1: one new frame at a time, by each runtime."""
    tasks = yowo()
    for runtime in RUNTIMES:
        try:
            detector = Detector.load(model_folder(name), "cpu", runtime)
        except InputError as error:
            print(f"\n{error}")
            continue
        window, size = detector.config.window, detector.config.key_size
        images = np.random.default_rng(0).integers(0, 256, (FRAMES_AT_ONCE, size, size, 3), np.uint8)
        for frames in (1, FRAMES_AT_ONCE):
            label = f"{runtime}, {frames} frame{'s' * (frames > 1)} a call"
            tasks.append(Task(label, partial(go_through, detector, images, frames), len(images)))
        if detector.config.person != "none":
            for height, width in ((240, 320), (720, 1280)):
                shape = shape_looked_at(height, width, detector.config.person_size)
                frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
                label = f"{runtime}, a search for people, in every {LOOK_EVERY}th frame of {width}x{height}"
                tasks.append(Task(label, partial(detector.people, frame, (height, width))))
        if runtime == "torch":
            tasks.append(Task(f"torch, {window} frames anew for each key frame", partial(detector.window, images[:window])))
    took = seconds(tasks)
    print("\n| network | ms a frame | times as fast as theirs in torch | in OpenVINO |\n|---|---|---|---|")
    for task, each in zip(tasks, took, strict=True):
        print(f"| {task.label} | {1000 * each:.1f} | {took[0] / each:.1f} | {took[1] / each:.1f} |")


def pipeline(name: str, video: Path, folder: Path) -> None:
    """Table 2: decode, detect, link, draw, encode."""
    detector = Detector.load(model_folder(name), "cpu")
    runs = [detect_video(video, detector, output=folder / "out.mp4") for _ in range(4)][1:]
    runs.sort(key=lambda run: run.frames_per_second)
    run = runs[1]
    count, size = len(run.times), f"{run.info.width}x{run.info.height}"
    print(f"\n{count} frames of {size} by {detector.runtime}: **{run.frames_per_second:.0f} frames a second** (median of 3)\n")
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
