"""Class names of every script are legible in every picture, or the picture says which letters no font has."""

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from mssc.scoring.report import class_chart, png
from mssc.structures import Detections
from mssc.video import drawing, fonts
from mssc.video.drawing import draw

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def write_font(path: Path, letters: str) -> Path:
    """A font of filled squares, each letter's of its own width."""
    names = [f"letter{ord(letter)}" for letter in letters]
    builder, glyphs = FontBuilder(1000), {}
    for number, name in enumerate([".notdef", *names]):
        pen = TTGlyphPen(None)
        pen.moveTo((50, 0))
        for corner in ((50, 700), (300 + 100 * number, 700), (300 + 100 * number, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap(dict(zip(map(ord, letters), names, strict=True)))
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (400 + 100 * number, 50) for number, name in enumerate(glyphs)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose only fonts are those in a folder, and matplotlib's."""
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path) for path in sorted(tmp_path.glob("*.ttf"))])

    def forget():
        for cached in (fonts.font_files, fonts.runs, drawing._label):
            cached.cache_clear()
        fonts._said.clear()

    forget()
    yield tmp_path
    forget()


def label(name: str) -> np.ndarray:
    image = np.full((120, 160, 3), 90, np.uint8)
    return draw(image, Detections(np.array([[20.0, 40, 120, 100]]), np.array([0]), np.array([0.9])), (name,))


def test_each_text_gets_a_font_that_has_its_letters(machine):
    square = write_font(machine / "Square.ttf", "跳跑 jump")
    write_font(machine / "LastResort.ttf", "跳跑鹿")  # would hide that a letter is missing
    (machine / "broken.ttf").write_bytes(b"no font")
    assert fonts.runs("jump 0.93") == (("jump 0.93", None),)
    assert fonts.runs("сон é") == (("сон é", DEJAVU),)
    assert fonts.runs("e\u0301") == (("é", DEJAVU),)  # however it was typed
    assert fonts.runs("跳 jump") == (("跳 jump", square),)
    assert fonts.runs("1: 跳é跑") == (("1: ", DEJAVU), ("跳", square), ("é", DEJAVU), ("跑", square))
    assert fonts.width("跳", 20) == 10 and fonts.width("跳跑", 20) == 22  # 500 and 600 of 1000 units


@pytest.mark.parametrize("pair", [("跳", "跑"), ("сон", "бег"), ("é", "ñ"), ("🏃", "🕺")])
@pytest.mark.parametrize("known", [True, False])
def test_no_two_names_look_alike(machine, pair, known, caplog):
    if known:
        write_font(machine / "Square.ttf", "跳跑🏃🕺")
    with caplog.at_level(logging.WARNING):
        one, other, again = label(pair[0]), label(pair[1]), label(pair[0])
    assert (one != other).any() and (one == again).all()
    said = [record.getMessage() for record in caplog.records]
    if known or pair[0] in "сон é":
        assert not said
    else:
        assert len(said) == 2 and f"no font on this machine has the letters {pair[0]} (" in said[0] and "Install" in said[0]
        assert fonts.runs(pair[0]) == ((f"[{ord(pair[0]):04X}]", None),)


def test_figures_get_the_same_fonts(machine, recwarn):
    write_font(machine / "Square.ttf", "跳 ()12")
    picture = class_chart([0.5, 0.2, 0.1], [1, 2, 2], ["跳", "jump", "跑"])
    assert png(picture)
    names = {text.get_text(): text.get_fontfamily() for text in picture.axes[0].get_yticklabels()}
    assert "Square" in names["跳 (1)"] and "Square" not in names["jump (2)"] and "[8DD1] (2)" in names
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
