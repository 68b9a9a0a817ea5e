"""What a visitor takes along: the whole video with boxes, a short clip with its timeline as MP4 or GIF, or a figure for a paper."""

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ..detection.lanes import Lanes
from ..detection.people import Person
from ..detection.result import VideoResult
from ..files import whole_file
from ..structures import InputError, Tube
from ..video import Writer, drawing, fonts, read
from . import inside
from .detection import TELL_SECONDS

if TYPE_CHECKING:
    from ..plots.paper import Columns

CLIP_SECONDS = 8.0
GIF_RATE = 10.0  # frames a second
SIDES = {"whole": 1920, "clip": 960, "gif": 480}  # pixels of the longer side of each model's picture
SUFFIXES = {"whole": "-actions.mp4", "clip": "-clip.mp4", "gif": "-clip.gif", "column": "-figure.pdf", "page": "-figure-wide.pdf"}
COLUMNS: "dict[str, Columns]" = {"column": 1, "page": 2}  # of figures
PAPER, INK = (24, 28, 36), (235, 238, 242)


def make(
    kind: str, shown: Sequence[VideoResult], moment: float, target: Path, people: Sequence[Person] = ()
) -> Iterator[tuple[int, int]]:
    """Draw and write it, and say how it goes; closing the iterator ends the work and leaves nothing.

    Args:
        kind: a key of `SUFFIXES`.
        shown: what is shown of one video, by one or two models, whose pictures stand side by side.
        moment: seconds, in the middle of a clip, or of the figure.
        target: of the file; a figure's caption is a ``.tex`` beside it.
        people: everybody who was seen, also if they are not shown: whom a figure looks at where no action is.

    Yields:
        Frames done, and in all, every `TELL_SECONDS`.

    Raises:
        InputError: if the video cannot be read or the file not written, or nobody is there for a figure.
    """
    if kind in COLUMNS:
        yield from _figure(shown, moment, target, COLUMNS[kind], people)
        return
    seen = shown[0]
    first, last = seen.times[0], seen.times[-1]
    start, stop = first, last
    if kind != "whole" and last - first > CLIP_SECONDS:
        start = min(max(moment - CLIP_SECONDS / 2, first), last - CLIP_SECONDS)
        stop = start + CLIP_SECONDS
    chosen = [index for index, time in enumerate(seen.times) if start <= time <= stop]
    if not chosen:  # between two frames that are farther apart
        chosen = [bisect_right(seen.times, moment) - 1]
        start = seen.times[chosen[0]]
        stop = start + CLIP_SECONDS
    origin = 0.0 if start == first else start  # of the clock that the sound keeps
    if kind == "gif":  # the first frame of each tenth of a second
        ticks = [int((seen.times[index] - start) * GIF_RATE + 1e-6) for index in chosen]
        chosen = [index for index, tick, before in zip(chosen, ticks, [-1, *ticks], strict=False) if tick != before]
    nobody = "No sure action; people are switched off" if people and not seen.people else "Nobody was seen"
    pictures = _pictures(shown, chosen, SIDES[kind], None if kind == "whole" else (start, stop), nobody)
    told = 0.0
    with _writer(target, seen, start == first) as write:
        for done, (time, image) in enumerate(pictures):
            write(image, time - origin)
            if monotonic() - told > TELL_SECONDS:
                told = monotonic()
                yield done, len(chosen)


def _figure(
    shown: Sequence[VideoResult], moment: float, target: Path, columns: "Columns", people: Sequence[Person]
) -> Iterator[tuple[int, int]]:
    """The moment for a paper: what was found, and what the models do there."""
    from ..plots.moment import moment_plot  # needs torch, see `mssc.page.inside`

    told, found = 0.0, None
    names = [one.model for one in shown]
    for number, found in enumerate(inside.look(replace(shown[0], people=list(people)), names, moment)):
        if not isinstance(found, list) and monotonic() - told > TELL_SECONDS:
            told = monotonic()
            yield number, (found.total or 0) * len(names)
    assert isinstance(found, list)
    moment_plot(shown[0], found, columns).save(target.parent, target.stem)


@contextmanager
def _writer(target: Path, seen: VideoResult, sound: bool) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Takes pictures with their times; the file is there when the block ends. Its sound is the video's, if it begins with it."""
    if target.suffix == ".gif":
        pictures: list[Image.Image] = []
        times: list[float] = []

        def keep(image: np.ndarray, time: float) -> None:
            pictures.append(_few_colours(image, pictures))
            times.append(time)

        with whole_file(target) as part:
            yield keep
            # A GIF counts hundredths of a second.
            lasts = [max(10 * round(100 * (b - a)), 20) for a, b in itertools.pairwise(times)]
            lasts.append(lasts[-1] if lasts else round(1000 / GIF_RATE))
            pictures[0].save(part, "GIF", save_all=True, append_images=pictures[1:], duration=lasts, loop=0)
        return
    with ExitStack() as stack:
        writers: list[Writer] = []

        def write(image: np.ndarray, time: float) -> None:
            if not writers:  # whose size is known now
                size = (image.shape[1], image.shape[0])
                writer = Writer(target, *size, seen.info.rate, drawn=True, sound=seen.info.path if sound else None)
                writers.append(stack.enter_context(writer))
            writers[0].write(image, time)

        yield write


def _few_colours(image: np.ndarray, before: Sequence[Image.Image]) -> Image.Image:
    """With the colours of the first picture: a palette for each would cost far more time."""
    picture = Image.fromarray(image)
    return picture.quantize(palette=before[0], dither=Image.Dither.NONE) if before else picture.quantize(240)


def _pictures(
    shown: Sequence[VideoResult], chosen: Sequence[int], side: int, span: tuple[float, float] | None, nobody: str
) -> Iterator[tuple[float, np.ndarray]]:
    info = shown[0].info
    width, height = info.width * float(info.pixel_aspect), info.height
    scale = min(1.0, side / max(width, height))
    size = (max(2, round(width * scale)) // 2 * 2, max(2, round(height * scale)) // 2 * 2)
    strips: list[tuple[Image.Image, bool]] = []
    if span is not None:
        timelines = [Lanes.of(one, *span) for one in shown]
        count = max(timeline.count for timeline in timelines)
        for one, timeline in zip(shown, timelines, strict=True):
            strips.append((_strip(one, size[0], *span, timeline, count, nobody), bool(timeline.rows)))
    wanted = set(chosen)
    for frame in read(info.path):
        if frame.index > chosen[-1]:
            break
        if frame.index not in wanted:
            continue
        small = np.asarray(Image.fromarray(frame.image).resize(size, Image.Resampling.BILINEAR))
        columns = [_drawn(one, small, frame.index, len(shown) > 1) for one in shown]
        if span is not None:
            share = (frame.time - span[0]) / max(span[1] - span[0], 1e-9)
            below = [_with_head(strip, share) if bars else np.asarray(strip) for strip, bars in strips]
            columns = [np.vstack(pair) for pair in zip(columns, below, strict=True)]
        yield frame.time, np.hstack(columns)


def _drawn(shown: VideoResult, image: np.ndarray, index: int, named: bool) -> np.ndarray:
    """A frame with the boxes of one model."""
    height, width = image.shape[:2]
    scale = np.tile([width / shown.info.width, height / shown.info.height], 2)
    rows, actors = shown.shown_at(index)
    rows = replace(rows, boxes=rows.boxes * scale)
    others, numbers = shown.others_at(index)
    picture = Image.fromarray(drawing.draw(image, rows, shown.classes, actors, others * scale, numbers))
    if named:
        _text(ImageDraw.Draw(picture), (width - 6, 4), shown.model)
    return np.array(picture)


def _text(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int = 16) -> None:
    """White on black, its upper right corner given."""
    left = corner[0] - fonts.width(text, size)
    pen.rectangle((left - 5, corner[1] - 2, corner[0] + 4, corner[1] + size + 5), fill=(0, 0, 0))
    fonts.write(pen, (left, corner[1] + size / 2 + 1), text, size, "white")


# -------------------------------------------------------------------- the timeline below


def _strip(shown: VideoResult, width: int, start: float, stop: float, timeline: Lanes, count: int, nobody: str) -> Image.Image:
    """A picture of the timeline, with room for so many rows, and what is said where there are none."""
    size = max(10, round(width / 48))
    high, left = round(1.6 * size), round(2.2 * size)
    strip = Image.new("RGB", (width, (count * high + size) // 2 * 2), PAPER)
    pen, colours, rows = ImageDraw.Draw(strip), drawing.class_colours(shown.classes), timeline.rows

    def across(tube: Tube) -> tuple[float, float]:
        places = [left + (width - left) * (time - start) / max(stop - start, 1e-9) for time in shown.seconds(tube)]
        return min(max(places[0], left), width - 1), min(places[1], width - 1)

    tops = {}
    for row, (actor, tubes) in enumerate(rows):
        top = tops[actor] = row * high + size // 2
        if row == 0 or rows[row - 1][0] != actor:
            fonts.write(pen, (size / 2, top + high / 2), str(actor), size, INK)
        for tube in tubes:
            x1, x2 = across(tube)
            colour, text = colours[tube.label], shown.classes[tube.label]
            pen.rectangle((x1, top + 1, x2, top + high - size // 3 - 2), fill=colour)
            if fonts.width(text, size) + 6 < x2 - x1:
                fonts.write(pen, (x1 + 4, top + (high - size // 3) / 2), text, size, drawing.ink(colour))
    for (tube, _), number in zip(shown.people, shown.numbers[1], strict=True):
        x1, x2 = across(tube)
        if number in tops and x1 < x2:  # below their actions
            pen.rectangle((x1, tops[number] + high - size // 3, x2, tops[number] + high - 2), fill=drawing.GREY)
    if not rows or timeline.more:
        said = f"and {timeline.more} more" if rows else nobody
        fonts.write(pen, (left, (len(rows) + 0.5) * high + size // 2), said, size, INK)
    return strip


def _with_head(strip: Image.Image, share: float) -> np.ndarray:
    copy = strip.copy()
    left = round(2.2 * max(10, round(copy.width / 48)))
    x = left + (copy.width - left - 2) * share
    ImageDraw.Draw(copy).rectangle((x - 1, 0, x + 1, copy.height), fill=(255, 255, 255))
    return np.asarray(copy)


def plain(stem: str) -> str:
    """A name of letters and digits that LaTeX takes a picture by."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "video"


def check_kind(kind: object) -> str:
    """Refuse what cannot be made.

    Raises:
        InputError: naming what can.
    """
    if not isinstance(kind, str) or kind not in SUFFIXES:
        raise InputError(f"there is no {str(kind)[:40]!r} to make; choose one of: {', '.join(SUFFIXES)}.")
    return kind
