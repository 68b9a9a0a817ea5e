"""How fast, as ratios within one run: each runtime against a YOWOv2-Nano of the same layers and sizes, and the pipeline stage by stage.

    python benchmarks/speed.py [--model jhmdb] [--video a.mp4] [--frames 240] [--threads 2]

Prints Markdown. Without --video a toy video of 320x240 is made and looped. Use two threads of a quiet machine: what others do there at the
same time slows the rows down one by one, and the ratios with them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def seconds(action: Callable[[], object], repeats: int = 12) -> float:
    """The shortest time of `action`, after one run that is not counted: what others do on the machine only adds to it."""
    action()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


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


def yowo() -> dict[str, float]:
    """Seconds of a key frame of `YowoV2Nano`, in torch and in OpenVINO."""
    model, clip = YowoV2Nano().eval().requires_grad_(False), torch.rand(1, 3, WINDOW, SIDE, SIDE)
    parameters, work = facts(model, clip)
    print(f"\nThe stand-in of YOWOv2-Nano: {parameters:.1f} million parameters, {work:.2f} billion multiply-adds a key frame.")
    with torch.inference_mode():
        found = {"torch": seconds(lambda: model(clip))}
    graph = openvino.convert_model(model, example_input=clip, input=list(clip.shape))
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    found["openvino"] = seconds(lambda: request.infer([clip.numpy()]))
    return found


def go_through(detector: Detector, images: np.ndarray, frames: int) -> None:
    """All images (T, S, S, 3), so many a call."""
    state = detector.initial_state()
    for start in range(0, len(images), frames):
        _, state = detector.go_on(images[start : start + frames], state)


def streaming(name: str) -> None:
    """Table 1: one new frame at a time, by each runtime."""
    theirs, rows = yowo(), []
    rows += [(f"YOWOv2-Nano's layers, a key frame, {runtime}", each) for runtime, each in theirs.items()]
    for runtime in RUNTIMES:
        try:
            detector = Detector.load(model_folder(name), "cpu", runtime)
        except InputError as error:
            print(f"\n{error}")
            continue
        window, size = detector.config.window, detector.config.key_size
        images = np.random.default_rng(0).integers(0, 256, (FRAMES_AT_ONCE, size, size, 3), np.uint8)
        for frames in (1, FRAMES_AT_ONCE):
            each = seconds(partial(go_through, detector, images, frames)) / len(images)
            rows.append((f"{runtime}, {frames} frame{'s' * (frames > 1)} a call", each))
        if detector.config.person != "none":
            for height, width in ((240, 320), (720, 1280)):
                shape = shape_looked_at(height, width, detector.config.person_size)
                frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
                each = seconds(partial(detector.people, frame, (height, width)))
                rows.append((f"{runtime}, a search for people, in every {LOOK_EVERY}th frame of {width}x{height}", each))
        if runtime == "torch":
            each = seconds(partial(detector.window, images[:window]), 3)
            rows.append((f"torch, {window} frames anew for each key frame", each))
    print("\n| network | ms a frame | times as fast as theirs in torch | in OpenVINO |\n|---|---|---|---|")
    for label, each in rows:
        print(f"| {label} | {1000 * each:.1f} | {theirs['torch'] / each:.1f} | {theirs['openvino'] / each:.1f} |")


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
