"""Letters of every script in pictures: for each text a font of this machine that has them.

Plain English is drawn with the font that Pillow carries. For anything else, the fonts are searched that matplotlib brings and finds. What
no font has is written as code points, so that two names never look alike, and that is said.
"""

import logging
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:  # slow to import, and plain English needs none
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

USELESS = re.compile("lastresort|emoji|color", re.IGNORECASE)  # signs for missing letters; pictures in place of letters
UNUSUAL = re.compile("bold|italic|oblique|light|thin|black|mono|serif|condensed|narrow|math|display", re.IGNORECASE)

_said: set[str] = set()  # letters of which was said that no font has them

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=1)
def font_files() -> tuple[Path, ...]:
    """All fonts of this machine, plain ones first."""
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    others = sorted(map(Path, findSystemFonts()), key=lambda path: (bool(UNUSUAL.search(path.stem)), path.stem))
    return (own, *(path for path in others if not USELESS.search(path.stem)))


@lru_cache(maxsize=1024)
def _letters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError):  # pictures of letters, or no font at all
        return frozenset()


@lru_cache(maxsize=1024)
def runs(text: str) -> tuple[tuple[str, Path | None], ...]:
    """The text cut where its font changes, each piece with its font's file; None stands for the one that Pillow carries.

    One font for all of it, if there is any; else, letter for letter, the first that has it.
    """
    text = unicodedata.normalize("NFC", text)
    if text.isascii():
        return ((text, None),)
    shown = {ord(letter) for letter in text if unicodedata.category(letter) != "Cf" and not "\ufe00" <= letter <= "\ufe0f"}
    whole = next((path for path in font_files() if shown <= _letters(path)), None)
    if whole is not None:
        return ((text, whole),)
    pieces: list[tuple[str, Path | None]] = []
    for letter in text:
        path = next((path for path in font_files() if ord(letter) in _letters(path)), None)
        piece = letter if path is not None or letter.isascii() else f"[{ord(letter):04X}]"
        if pieces and pieces[-1][1] == path:
            piece = pieces.pop()[0] + piece
        pieces.append((piece, path))
    lost = {letter for letter in text if not letter.isascii() and not any(ord(letter) in _letters(f) for f in font_files())}
    if lost - _said:
        example = unicodedata.name(min(lost), "no known script")
        log.warning(
            "no font on this machine has the letters %s (%s); pictures show their code points. Install one, such as Noto.",
            *("".join(sorted(lost)), example),
        )
    _said.update(lost)
    return tuple(pieces)


@lru_cache(maxsize=64)
def _font(path: Path | None, size: int) -> Font:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


def width(text: str, size: int) -> int:
    """Of a line of text, in pixels."""
    return round(sum(_font(path, size).getlength(piece) for piece, path in runs(text)))


def write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str | tuple[int, int, int]) -> None:
    """Draw a line of text.

    Args:
        pen: draws on an image.
        place: x of its left end, and y of the middle of its small letters' line box.
        text: in any script.
        size: of its letters, in pixels.
        colour: Pillow's, by name or as RGB.
    """
    x, y = place
    for piece, path in runs(text):
        pen.text((x, y), piece, fill=colour, font=_font(path, size), anchor="lm")
        x += _font(path, size).getlength(piece)


def legible(text: str) -> str:
    """The text with code points in place of the letters that no font has."""
    return "".join(piece for piece, _ in runs(text))


@lru_cache(maxsize=64)
def _family(path: Path) -> str:
    """What matplotlib calls a font; it may not know it yet."""
    from matplotlib import font_manager

    font_manager.fontManager.addfont(path)
    return font_manager.FontProperties(fname=path).get_name()


def fit(figure: "Figure") -> "Figure":
    """Give every text of a matplotlib figure fonts that have its letters. Call it before the figure is laid out or saved."""
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        names = [label.get_text() for label in axis.get_ticklabels()]
        if isinstance(axis.get_major_locator(), FixedLocator) and not all(map(str.isascii, names)):
            axis.set_ticklabels([legible(name) for name in names])
    for text in figure.findobj(Text):
        own = _letters(Path(findfont(text.get_fontproperties())))
        if not all(ord(letter) in own for letter in text.get_text() if letter.isprintable()):
            names = [_family(path) for _, path in runs(text.get_text()) if path is not None]
            text.set_text(legible(text.get_text()))
            text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *names])))
    return figure
