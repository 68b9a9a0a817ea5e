"""Whom a model sees in videos without annotations: frames spread over them with everybody boxed, as pictures for somebody to count in.

    python benchmarks/people.py VIDEO... [--model jhmdb] [--frames 20] [-o people]

Writes people/01.png and so on, and prints how many boxes each has; who counts notes how many people a viewer would box, and how many of
the boxes are wrong.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mssc import Detector, detect_video
from mssc.video import drawing, read


def main() -> None:
    """Detect, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--model", default="jhmdb")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("people"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    detector, number = Detector.load(given.model), 0
    shares = np.diff(np.linspace(0, given.frames, len(given.videos) + 1).round().astype(int))
    print("| picture | video | second | people without a sure action | with one |\n|---|---|---|---|---|")
    for video, share in zip(given.videos, shares, strict=True):
        found = detect_video(video, detector)
        wanted = set(np.linspace(0, len(found.times) - 1, share + 2)[1:-1].round().astype(int).tolist())
        for frame in read(video):
            if frame.index not in wanted:
                continue
            rows, actors = found.shown_at(frame.index)
            (others, numbers), number = found.others_at(frame.index), number + 1
            picture = drawing.draw(frame.image, rows, found.classes, actors, others, numbers)
            Image.fromarray(picture).save(given.output / f"{number:02d}.png")
            print(f"| {number:02d}.png | {video.name} | {frame.time:.1f} | {len(others)} | {len(set(actors))} |")


if __name__ == "__main__":
    main()
