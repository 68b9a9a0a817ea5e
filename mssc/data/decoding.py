"""The frames of a video wherever they are: in a file or as a folder of images."""

import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from .. import video as video_files
from ..files import IMAGES, visible
from ..structures import InputError
from .dataset import Video

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

COPY = re.compile(r" ?\(\d+\)$")  # as Windows, browsers and macOS name another file of the same name
SCALING = 0x2 | 0x2000 | 0x4000 | 0x40000 | 0x80000
"""Of FFmpeg's swscale: bilinear, whose filter is as wide as pixels shrink; colours as fine as brightness; exact rounding; the same on all
processors."""
SMALLEST_SCALED, LARGEST_SCALED = 4, 16384
"""Pixels of a side that swscale interpolates well; Pillow takes the others."""
MOST_SCALERS = 16
STACKS = ("TIFF", "WEBP", "PNG")  # may hold many pictures of equal rank; a JPEG's second one is its depth or a preview


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
        InputError: if there is none, or two that claim to be the same frame: under two suffixes (2.png, 2.jpg), numbered alike (2.png,
            02.png; img_2.png, flow_x_2.png), or as copies (2.png, 2 (1).png); or one without a number among numbered ones (cover.png).
    """
    files = [file for file in visible(folder, "*") if file.suffix.lower() in IMAGES]
    if not files:
        raise InputError(f"the folder {folder} holds no image ({', '.join(IMAGES)}).")
    plain = [file for file in files if not frame_numbers(file)]
    if plain and len(plain) < len(files):
        raise InputError(
            f"the folder {folder} holds {plain[0].name}, which has no number, among numbered images; remove or number it."
        )
    stems = {file.stem: file for file in files}
    first: dict[str | tuple[int, ...], Path] = {}
    for file in files:
        original = COPY.sub("", file.stem)
        for claim in (file.stem, original if original in stems else file.stem, frame_numbers(file) or file.stem):
            if (other := first.setdefault(claim, file)) != file:
                names = " and ".join(sorted((other.name, file.name)))
                raise InputError(f"the folder {folder} holds {names}; only one of them can be the frame: remove the other.")
    return sorted(
        files, key=lambda file: ([int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)], file.name)
    )


def frame_numbers(file: Path) -> tuple[int, ...]:
    """All numbers in an image's name, from the left."""
    return tuple(int(part) for part in re.findall(r"\d+", file.stem))


def counting(files: Sequence[Path]) -> list[int] | None:
    """The one number that counts images, of each; None where names differ in more than that, so that none of their numbers need be it."""
    if len({re.sub(r"\d+", "0", file.stem) for file in files}) != 1:
        return None
    columns = [list(column) for column in zip(*map(frame_numbers, files), strict=True)]
    changing = [column for column in columns if len(files) == 1 or len(set(column)) > 1]
    return changing[0] if len(changing) == 1 else None


def open_image(file: Path) -> Image.Image:
    """An image as it is shown, in RGB: cameras note in the file how they were held.

    Raises:
        InputError: if it cannot be read, or holds several pictures of one size, as stacks of microscopes and animations do.
    """
    try:
        with Image.open(file) as image:
            if image.format in STACKS and (count := _pictures(image)) > 1:
                raise InputError(f"{file} holds {count} pictures, a frame is one; write each into a file of its own.")
            if image.mode == "F":
                raise InputError(f"{file} has floating-point numbers, which say nothing of black and white; write 8 or 16 bits.")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # Pillow would cut 16 bits off at 255
                upright = Image.fromarray((np.asarray(upright).clip(0, 65535) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} cannot be read as an image: {error}.") from None


def is_dim(file: Path) -> bool:
    """Whether an image of 16 bits uses the lowest 12 alone, as cameras of 12 bits write them: 16 of 256 levels would be left."""
    with Image.open(file) as image:
        return image.mode.startswith("I") and 0 < int(np.asarray(image).max()) < 4096


def _pictures(image: Image.Image) -> int:
    """How many pictures a file holds, without smaller ones that preview the first."""
    count, size = getattr(image, "n_frames", 1), image.size
    if count > 1:
        image.seek(1)
        count = count if image.size == size else 1
        image.seek(0)
    return count


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
    if min(image.shape[:2]) < SMALLEST_SCALED or max(*image.shape[:2], height, width) > LARGEST_SCALED:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR))
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(np.require(image, None, ["C", "W"]), "rgb24")
    scaled = _scaler(height, width).reformat(frame, width, height, "rgb24", interpolation=SCALING)
    return np.ascontiguousarray(scaled.to_ndarray())


_SCALERS = threading.local()


def _scaler(height: int, width: int) -> "VideoReformatter":
    """The thread's own for this size: it remembers how to get there from the size that it was given last."""
    from av.video.reformatter import VideoReformatter

    known = vars(_SCALERS)
    if len(known) > MOST_SCALERS:
        known.clear()
    return known.setdefault(f"{height}x{width}", VideoReformatter())
