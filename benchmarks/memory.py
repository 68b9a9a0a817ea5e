"""Peak memory of detecting in a video, for two lengths of the same video: it must not grow with the length.

    python benchmarks/memory.py [--model jhmdb] [--minutes 1 10] [--size 1280 720]

Each length runs in a process of its own. Prints Markdown.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = 30


def make_video(path: Path, minutes: float, width: int, height: int) -> None:
    """Noise that drifts over a gradient: cheap to make, and every frame differs."""
    import numpy as np

    from mssc.video import Writer

    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (height // 8, 2 * width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with Writer(path, width, height, RATE) as writer:
        for index in range(round(minutes * 60 * RATE)):
            shift = 2 * index % width
            writer.write(np.ascontiguousarray(canvas[:height, shift : shift + width]), None)


def repeat(path: Path, minute: Path, minutes: float) -> None:
    """The packets of a one-minute video again and again: as good as a long video, and made in a second."""
    import av

    with av.open(str(minute)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        out = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        for index in range(round(minutes * len(packets))):
            packet = packets[index % len(packets)]
            lap = int(index // len(packets) * 60 / packet.time_base)
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts + lap, packet.dts + lap, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, out
            target.mux(copy)


def child(video: str, model: str) -> None:
    """Detect, then print peak megabytes and frames a second."""
    from mssc.detection.pipeline import detect_video

    began = time.perf_counter()
    result = detect_video(video, model, output=Path(video).with_suffix(".out.mp4"))
    frames = len(result.times)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, frames, frames / (time.perf_counter() - began))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720])
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        child(options.child, options.model)
        sys.exit()
    print("| minutes | frames | peak memory (MB) | frames a second |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        minute = Path(place, "minute.mp4")
        make_video(minute, 1, *options.size)
        for minutes in options.minutes:
            video = Path(place, f"{minutes:g}.mp4")
            repeat(video, minute, minutes)
            command = [sys.executable, __file__, "--model", options.model, "--child", str(video)]
            peak, frames, speed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            print(f"| {minutes:g} | {frames} | {float(peak):.0f} | {float(speed):.0f} |")
