"""What the shipped models give on the example video: a reference that restructuring must not change.

All of it is computed in double precision, in which the order of sums, and with it the processor and its threads, changes nothing that
counts: in single precision these networks' own boxes are off by up to 1.4e-3 pixels.

``python tests/reference.py NAME`` writes a model's part anew; do so when other weights ship, and never to make a test pass.
All parts were written anew when SFM's context came to be computed in double precision too, where single precision had let
the processor's rounding in (boxes moved by up to 1e-5 pixels), and frames to be resized by swscale instead of torch: with
torch's, the new code gave the detections and tubes of the former reference to 3e-5 pixels and 6e-8 of a score. Tubes were
written once more when a video's first frames came to count less. For jhmdb-plain and toy the reference was of commit
8dd67b0, before the package was restructured.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from mssc import Detector, detect_video, load_model
from mssc.model.mssc import MSSC
from mssc.video import read

ROOT = Path(__file__).resolve().parent.parent
VIDEO = ROOT / "assets" / "examples" / "toy.mp4"
FILE = Path(__file__).with_name("reference.npz")
MODELS = ("jhmdb", "jhmdb-plain", "toy")
FRAMES, KEYS, EVERY_ANCHOR = 20, (6, 19), 7


def double(name: str) -> MSSC:
    """A shipped model in double precision."""
    return load_model(ROOT / "assets" / "models" / name).double()


def clip_of(size: int) -> torch.Tensor:
    """The first frames of the example, (1, 3, T, S, S) uint8."""
    frames = [torch.from_numpy(frame.image.copy()) for frame, _ in zip(read(VIDEO), range(FRAMES), strict=False)]
    images = torch.stack(frames).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.transpose(0, 1)[None]


def predictions(model: MSSC) -> dict[str, np.ndarray]:
    """Of the key frames: some anchors' boxes and objectness, and boxes, objectness and logits of the classified ones."""
    with torch.inference_mode():
        found = model(clip_of(model.config.key_size), torch.tensor([KEYS]))
    return _plain(found._asdict() | people(model))


def people(model: MSSC) -> dict[str, torch.Tensor]:
    """Some cells' box and logit of a person in the key frames, where the model looks for people."""
    if model.person is None:
        return {}
    with torch.inference_mode():
        boxes, logits = model.people(clip_of(model.config.person_size)[0, :, KEYS].transpose(0, 1))
    return {"people": boxes[:, ::EVERY_ANCHOR], "person": logits[:, ::EVERY_ANCHOR]}


def streamed(model: MSSC) -> dict[str, np.ndarray]:
    """The same, of a model that gets the frames one by one."""
    state, rows = model.initial_state(1), []
    with torch.inference_mode():
        for number, frame in enumerate(clip_of(model.config.key_size).unbind(2)):
            found, state = model.step(frame[:, :, None], state)
            rows += [found] if number in KEYS else []
    return _plain({key: torch.cat([getattr(row, key) for row in rows]) for key in rows[0]._fields} | people(model))


def _plain(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    every = {key: EVERY_ANCHOR if key.startswith("anchor") else 1 for key in found}
    return {key: value[:, :: every[key]].double().numpy() for key, value in found.items() if value.numel()}


def video(model: MSSC) -> dict[str, np.ndarray]:
    """What `detect_video` gives: rows of frame, label, score and box, and of the tubes label, score, start, stop and their middle box."""
    result = detect_video(VIDEO, Detector(model), threshold=0.0)
    rows = [[frame, label, score, *box] for frame, found in enumerate(result.detections) for box, label, score in found]
    tubes = [[tube.label, tube.score, tube.start, tube.stop, *tube.boxes[len(tube) // 2]] for tube in result.tubes]
    return {"detections": np.array(rows, np.float64).reshape(-1, 7), "tubes": np.array(tubes, np.float64).reshape(-1, 8)}


def write(names: list[str]) -> None:
    """The parts of these models anew; the others stay."""
    with np.load(FILE) as file:
        kept = {key: value for key, value in file.items() if key.partition("/")[0] not in names}
    for name in names:
        model = double(name)
        kept |= {f"{name}/{key}": value for key, value in (predictions(model) | video(model)).items()}
    np.savez_compressed(FILE, **kept)


if __name__ == "__main__":
    write(sys.argv[1:])
