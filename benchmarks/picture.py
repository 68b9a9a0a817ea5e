"""Draws the README's picture: what a model finds in an example, as an animated WebP.

Usage::

    python benchmarks/picture.py [--video assets/examples/toy-two.mp4] [--model toy] [-o assets/tubes.webp]
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from mssc import detect_video
from mssc.video import read

EVERY = 2  # frames
FROM = 6  # the first frames show nobody who acts


def main() -> None:
    """Detect, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=Path("assets/examples/toy-two.mp4"))
    parser.add_argument("--model", default="toy")
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/tubes.webp"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.mp4"
        result = detect_video(given.video, given.model, output=drawn)
        frames = [Image.fromarray(frame.image.copy()) for frame in read(drawn)][FROM::EVERY]
    pause = round(1000 * EVERY / float(result.info.rate))
    frames[0].save(given.output, save_all=True, append_images=frames[1:], duration=pause, loop=0, quality=60, method=6)
    print(f"{len(frames)} pictures, {given.output.stat().st_size / 1000:.0f} kB: {given.output}")


if __name__ == "__main__":
    main()
