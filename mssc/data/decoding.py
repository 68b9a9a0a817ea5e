"""The frames of a video wherever they are: in a file or as a folder of images."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from mssc import video as video_files
from mssc.data.dataset import Video
from mssc.files import visible
from mssc.structures import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def decode(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video file or of a folder of images, (H, W, 3) uint8 RGB, upright, in order.

    Raises:
        InputError: if there is none, one cannot be read, or one has another size than the first.
    """
    if not path.is_dir():
        yield from (frame.image for frame in video_files.read(path))
        return
    size = None
    for file in image_files(path):
        image = open_image(file)
        size = size or image.size
        if image.size != size:
            seen = f"{image.width}x{image.height}"
            raise InputError(f"{file} is {seen}, the first image there {size[0]}x{size[1]}; a video's frames are of one size.")
        yield np.array(image)


def image_files(folder: Path) -> list[Path]:
    """The images of a folder as the frames that they are: frame_2 comes before frame_10.

    Raises:
        InputError: if there is none, or one is there under two suffixes.
    """
    files = [file for file in visible(folder, "*") if file.suffix.lower() in IMAGES]
    if not files:
        raise InputError(f"the folder {folder} holds no image ({', '.join(IMAGES)}).")
    first: dict[str, Path] = {}
    for file in files:
        if first.setdefault(file.stem, file) != file:
            names = " and ".join(sorted((first[file.stem].name, file.name)))
            raise InputError(f"the folder {folder} holds {names}; only one of them can be the frame: remove the other.")
    return sorted(
        files, key=lambda file: ([int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)], file.name)
    )


def open_image(file: Path) -> Image.Image:
    """An image as it is shown, in RGB: cameras note in the file how they were held.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # Pillow would cut 16 bits off at 255
                upright = Image.fromarray((np.asarray(upright).clip(0, 65535) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image: {error}.") from None


def fingerprint(video: Video) -> tuple[int, ...]:
    """Sizes and times of the source, and how the data set describes it: what was decoded is good as long as these are equal.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        files = image_files(video.path) if video.path.is_dir() else [video.path]
        stats = [file.stat() for file in files]
    except OSError as error:
        raise InputError(f"{video.path} of the video {video.name!r} cannot be read: {error.strerror or error}.") from None
    newest = max(stat.st_mtime_ns for stat in stats)
    order = [zlib.crc32("\n".join(file.name for file in files).encode())] if video.path.is_dir() else []
    return sum(stat.st_size for stat in stats), newest, video.frames, video.height, video.width, *order


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) to (height, width, 3), uint8, bilinear with antialiasing: the one way to another size, for what is stored and for what
    networks are shown. May return the image itself."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    pixels = torch.from_numpy(np.require(image, None, ["C", "W"])).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()
