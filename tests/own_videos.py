"""A folder as a user has it: a few tiny videos and a csv with their boxes, for several test files."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from mssc import video as video_files

HEADER = "video,frame,x1,y1,x2,y2,action,track"


def write_video(path: Path, frames: int = 12, size=(64, 48), seed: int = 0, rate: Fraction | int = 10) -> Path:
    """A video of smooth noise that drifts: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    picture = np.kron(small, np.ones((size[1] // 6 + 1, size[0] // 8 + 1, 1), np.uint8))
    with video_files.Writer(path, *size, rate) as writer:
        for index in range(frames):
            writer.write(np.ascontiguousarray(np.roll(picture, index, 1)[: size[1], : size[0]]))
    return path


def write_folder(root: Path, rows: list[str] | None = None, videos=("run_1", "run_2", "jump_3", "jump_4"), **kwargs) -> Path:
    """Videos ``videos/<name>.mp4`` and boxes.csv; without rows, every video has one track in frames 2 to 9."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(videos):
        write_video(root / "videos" / f"{name}.mp4", seed=seed, **kwargs)
    if rows is None:
        rows = [f"{name}.mp4,{f},{10 + f},5,{30 + f},40,{name.split('_')[0]},a" for name in videos for f in range(2, 10)]
    (root / "boxes.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root
