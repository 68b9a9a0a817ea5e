"""What interventions find, shown: the picture, tables, cards, the sentence, and the command that makes them."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import run

from mssc import plots
from mssc.analysis import Interval, in_words, store, stored
from mssc.analysis.interventions import METRICS, NONE, Effect, Interventions
from mssc.analysis.stand_ins import EXCHANGE, IDENTITY, MOTION_INPUT, MSM, OTHER, UNIFORM
from mssc.analysis.vitals import Gain, Moved, Vitals
from mssc.config import ModelConfig
from mssc.model.checkpoint import save_model
from mssc.model.mssc import MSSC
from mssc.model.shipped import INTERVENTIONS
from mssc.plots.notebook import parts_worth
from mssc.structures import InputError

LOOK = ModelConfig(key_size=96, clip_size=96, width=16, hidden=16, window=4, kept=4)


def row(part, kind, change, low, high):
    changes = dict.fromkeys(METRICS, Interval(change, low, high, 134))
    return Effect(part, kind, dict.fromkeys(METRICS, Interval(0.6 + change, 0.5, 0.7, 134)), changes)


def found(model="known", *more):
    rows = (
        row(*NONE, 0.0, 0.0, 0.0),
        row("3D path", OTHER, -0.4, -0.5, -0.3),
        row(MSM, IDENTITY, -0.06, -0.09, -0.03),
        row(MOTION_INPUT, OTHER, -0.38, -0.43, -0.33),
        row(EXCHANGE, UNIFORM, 0.004, -0.004, 0.01),
    )
    return Interventions(model, "J-HMDB-21", 134, 1159, 1159, 4, 0, (*rows, *more))


def vitals():
    one = Interval(0.5, 0.4, 0.6, 134)
    return Vitals(
        Gain(1.7, 0.2, 1.1, 2.4),
        {"|gamma1|": (0.9, 1.0)},
        {"stride 8, spatial takes": one},
        {"d_euc": (one, one, Interval(0.0, -0.1, 0.1, 134))},
        {"SFM stage 1": Moved(0.55, 0.02)},
    )


@pytest.fixture(scope="module")
def folders(toy_videos, tmp_path_factory):
    """Two networks: MS-SC, and its control with neither MSM nor SFM."""
    root = tmp_path_factory.mktemp("models")
    for name, changes in (("full", {}), ("plain", {"motion": "none", "fusion": "concat"})):
        torch.manual_seed(0)
        save_model(MSSC(replace(LOOK, classes=toy_videos.classes, **changes)), root / name)
    return root


# -------------------------------------------------------------------- words


def test_the_sentence():
    assert in_words(found()) == (
        "In this model another class's motion costs 38 points of box accuracy [33, 43]; leaving MSM out 6 [3, 9]; "
        "a uniform exchange 0 [-1, 0]."
    )


def test_the_sentence_leaves_out_what_is_not_there():
    rows = found().rows
    assert in_words(replace(found(), rows=rows[:2])) == ""
    assert in_words(replace(found(), rows=(rows[0], rows[2]))) == (
        "In this model leaving MSM out costs 6 points of box accuracy [3, 9]."
    )
    alone = row(MOTION_INPUT, OTHER, -0.2, float("nan"), float("nan"))
    assert in_words(replace(found(), rows=(alone,))) == "In this model another class's motion costs 20 points of box accuracy."
    little = row(MOTION_INPUT, OTHER, -0.012, float("nan"), float("nan"))
    assert in_words(replace(found(), rows=(little,))).endswith("costs 1 point of box accuracy.")


# -------------------------------------------------------------------- picture and tables


def test_the_picture_shows_its_numbers():
    later = row("later", OTHER, -0.1, -0.2, 0.0), row(MSM, OTHER, -0.1, -0.2, 0.0)
    plot = plots.interventions_plot([found(), found("other", *later)])
    assert plot.figure.get_size_inches()[0] == 7.16 and len(plot.figure.axes) == 3
    labels = [text.get_text() for text in plot.figure.axes[0].get_yticklabels()]
    assert labels[:3] == ["3D path:  another class", "MSM:  identity", "another class"] and labels[-1] == "later:  another class"
    dots = next(line for line in plot.figure.axes[0].lines if line.get_label() == "other")
    assert dots.get_xdata()[0] == pytest.approx(-40) and len(dots.get_xdata()) == 6
    numbers = [dict(zip(plot.columns, one, strict=True)) for one in plot.rows]
    wanted = {"model": "other", "part": "later", "metric": "box accuracy", "quantity": "change"}
    (one,) = (n for n in numbers if all(n[key] == value for key, value in wanted.items()))
    assert (one["value"], one["low"], one["videos"]) == (-0.1, -0.2, 134) and "1159 key frames of 134 videos" in plot.caption
    assert len(plots.interventions_plot([found()], 1).figure.axes) == 1
    with pytest.raises(InputError, match="called 'known'"):
        plots.interventions_plot([found(), found()])


def test_tables_to_read():
    lines = plots.interventions_markdown(found()).splitlines()
    assert lines[2].startswith("| **nothing** |  | 60.0 [50.0, 70.0]")
    assert "| MSM | identity | -6.0 [-9.0, -3.0] |" in lines[4]
    table = plots.vitals_markdown(vitals())
    assert "| 1.700 | 0.200 | 1.100 | 2.400 |" in table and "| SFM stage 1 | 0.55 | 0.02 |" in table
    assert "| distance of the means | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 0.000 [-0.100, 0.100] |" in table
    assert plots.vitals_markdown(Vitals()) == "\n"


# -------------------------------------------------------------------- beside a model


def test_what_is_kept_comes_back_until_the_weights_change(folders, tmp_path, toy_videos):
    model = MSSC(replace(LOOK, classes=toy_videos.classes))
    save_model(model, tmp_path)
    assert stored(tmp_path) is None
    store(tmp_path, found(), vitals())
    again = stored(tmp_path)
    assert again is not None and again.record() == found().record()
    assert json.loads((tmp_path / INTERVENTIONS).read_text())["vitals"]["gain"]["std"] == 0.2
    save_model(MSSC(model.config), tmp_path)
    assert stored(tmp_path) is None, "it is of other weights"
    for damaged in ("{", "[]", '{"weights": "x"}', '{"weights": "x", "rows": [{"part": 1}]}'):
        (tmp_path / INTERVENTIONS).write_text(damaged)
        with pytest.raises(InputError, match=f"{INTERVENTIONS}.*measure again"):
            stored(tmp_path)


def test_a_card_keeps_what_else_it_says(tmp_path, toy_videos):
    save_model(MSSC(replace(LOOK, classes=toy_videos.classes)), tmp_path)
    plots.write_card(tmp_path, found())
    card = tmp_path / "README.md"
    assert card.read_text().startswith("# known\n\n<!-- by mssc") and "### Vitals" not in card.read_text()
    card.write_text("# mine\n\nbefore\n\n" + card.read_text().split("\n", 2)[2] + "\n## Limits\n\nafter\n")
    plots.write_card(tmp_path, replace(found(), videos=99), vitals(), "Of stage 6.")
    text = card.read_text()
    assert text.startswith("# mine\n\nbefore\n") and text.endswith("\n## Limits\n\nafter\n")
    assert text.count("## What each part is worth") == 1 and "on 99 videos" in text and "Of stage 6." in text and "Vitals" in text
    plots.write_card(tmp_path, replace(found(), videos=99), vitals(), "Of stage 6.")
    assert card.read_text() == text


def test_a_notebook_takes_what_is_kept_or_measures(folders, tmp_path, toy_videos):
    save_model(MSSC(replace(LOOK, classes=toy_videos.classes)), tmp_path / "mine")
    store(tmp_path / "mine", found())
    kept = Interventions.of(found().record())  # rounded
    assert parts_worth(str(tmp_path / "mine")).rows == plots.interventions_plot([kept]).rows
    few = toy_videos.subset([video.name for video in toy_videos.videos[:2]])
    anew = parts_worth(str(tmp_path / "mine"), dataset=few, parts=["MSM"])
    assert {row[1] for row in anew.rows} == {"nothing", "MSM"} and anew.rows[0][0] == "mine"


# -------------------------------------------------------------------- the command


def test_the_command_draws_and_writes_cards(folders, toy_data, tmp_path):
    out = tmp_path / "out"
    asked = ("figures", folders / "full", folders / "plain", "--interventions", "--card", "--dataset", "toy", "-o", out)
    assert run(*asked, "--videos", 3, "--step", 9, "--parts", "image path", "motion into fusion") == 0
    names = {file.name for file in out.iterdir()}
    assert {f"interventions.{kind}" for kind in ("pdf", "png", "csv")} | {"interventions-table.md", "about.json"} <= names
    assert json.loads((out / "about.json").read_text())["weights"].keys() == {"full", "plain"}
    for name in ("full", "plain"):
        kept = stored(folders / name)
        assert kept is not None and kept.model == name and kept.videos == 3
        assert [one.part for one in kept.rows] == ["nothing", *["image path"] * 2, *["motion into fusion"] * 2]
        assert "In this model another class's motion costs" in (folders / name / "README.md").read_text()
    table = (out / "interventions-table.md").read_text()
    assert table.count("## What each part is worth") == 2 and "| SFM's exchange |" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plain", "--interventions", "--parts", "MSM"], "there is no MSM in plain; it has image path"),
        (["full", "plain", "--interventions", "--parts", "SFM stage 1"], "there is no SFM stage 1 in plain"),
        (["full", "--interventions", "--videos", "1"], "there is 1 video with ground truth"),
        (["full", "--card"], "--card writes what --interventions finds"),
        (["full", "--interventions", "--step", "0"], "step is 0"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, said, folders, toy_data, tmp_path, capsys):
    arguments = [folders / a if a in ("full", "plain") else a for a in arguments]
    assert run("figures", *arguments, "--dataset", "toy", "-o", tmp_path / "out") == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_one_class_is_told_before_anything_is_computed(folders, toy_videos, monkeypatch, tmp_path, capsys):
    alike = [replace(v, tubes=tuple(replace(tube, label=0) for tube in v.tubes)) for v in toy_videos.videos]
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: replace(toy_videos, videos=tuple(alike)))
    assert run("figures", folders / "full", "--interventions", "--dataset", "toy", "-o", tmp_path / "out") == 2
    assert "two classes at least" in capsys.readouterr().err and not (tmp_path / "out").exists()
