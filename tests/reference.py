"""What the shipped models give on the example video: a reference that restructuring must not change.

``python tests/reference.py`` writes it anew; do so when other models ship, and never to make a test pass.
"""

import json
from pathlib import Path

import numpy as np
import torch

from mssc import detect_video, load_model
from mssc.video import read

ROOT = Path(__file__).resolve().parent.parent
VIDEO = ROOT / "assets" / "examples" / "toy.mp4"
FILE = Path(__file__).with_name("reference.npz")
MODELS = ("jhmdb", "jhmdb-plain", "toy")
FRAMES, KEYS, EVERY_ANCHOR = 20, (6, 19), 7


def clip_of(size: int) -> torch.Tensor:
    """The first frames of the example, (1, 3, T, S, S) uint8."""
    frames = [torch.from_numpy(frame.image.copy()) for frame, _ in zip(read(VIDEO), range(FRAMES), strict=False)]
    images = torch.stack(frames).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.transpose(0, 1)[None]


def predictions(name: str) -> dict[str, np.ndarray]:
    """Of the key frames: some anchors' boxes and objectness, and boxes, objectness and logits of the classified ones."""
    model = load_model(ROOT / "assets" / "models" / name)
    with torch.inference_mode():
        found = model(clip_of(model.config.key_size), torch.tensor([KEYS]))
    values = {key: value.float().numpy() for key, value in found._asdict().items()}
    values["anchor_boxes"] = values["anchor_boxes"][:, ::EVERY_ANCHOR]
    values["anchor_objectness"] = values["anchor_objectness"][:, ::EVERY_ANCHOR]
    return values


def tubes(name: str) -> tuple[dict[str, np.ndarray], list]:
    """Detections of the key frames and all tubes of `detect_video`."""
    result = detect_video(VIDEO, model=name, threshold=0.05)
    rows = {}
    for key in KEYS:
        found = result.detections[key]
        rows[f"detections{key}"] = np.concatenate([found.boxes, found.scores[:, None], found.labels[:, None]], 1)
    lines = [[t.label, round(t.score, 5), t.start, t.stop, *t.boxes[len(t) // 2].round(2).tolist()] for t in result.tubes]
    return rows, lines


def make() -> dict[str, np.ndarray]:
    """The whole reference."""
    values: dict[str, np.ndarray] = {}
    for name in MODELS:
        rows, lines = tubes(name)
        values |= {f"{name}/{key}": value for key, value in (predictions(name) | rows).items()}
        values[f"{name}/tubes"] = np.array(json.dumps(lines))
    return values


if __name__ == "__main__":
    np.savez_compressed(FILE, **make())
