"""The frames of a video wherever they are: in a file or as a folder of images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mssc import video as video_files
from mssc.data.dataset import Video
from mssc.structures import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")


def decode(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video file or of a folder of images, (H, W, 3) uint8 RGB, in order.

    Raises:
        InputError: if there is none or one cannot be read.
    """
    if not path.is_dir():
        yield from (frame.image for frame in video_files.read(path))
        return
    files = _images(path)
    if not files:
        raise InputError(f"the folder {path} holds no image ({', '.join(IMAGES)}).")
    for file in files:
        try:
            with Image.open(file) as image:
                yield np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{file} cannot be read as an image: {error}.") from None


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith("."))


def fingerprint(video: Video) -> tuple[int, ...]:
    """Sizes and times of the source, and how the data set describes it: what was decoded is good as long as these are equal.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        stats = [file.stat() for file in _images(video.path)] if video.path.is_dir() else [video.path.stat()]
    except OSError as error:
        raise InputError(f"{video.path} of the video {video.name!r} cannot be read: {error.strerror or error}.") from None
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return sum(stat.st_size for stat in stats), newest, video.frames, video.height, video.width


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) to (height, width, 3), uint8, bilinear with antialiasing: the one way to another size, for what is stored and for what
    networks are shown. May return the image itself."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    pixels = torch.from_numpy(np.require(image, None, ["C", "W"])).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()
