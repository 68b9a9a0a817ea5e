"""Pictures for papers: their numbers, their sizes and fonts, and the command that makes them all."""

import base64
import copy
import csv
import io
import json
import re
from dataclasses import replace
from fractions import Fraction

import matplotlib
import numpy as np
import pytest
import torch
from conftest import run
from matplotlib.axes import Axes
from PIL import Image

from mssc import plots
from mssc.analysis import (
    Interval,
    Robustness,
    collect,
    corrected,
    corruption,
    examine,
    look_at,
    project,
    swap_clip,
    turned,
    without_motion_sense,
)
from mssc.config import ModelConfig
from mssc.detection.detector import Detector
from mssc.detection.result import VideoResult
from mssc.evaluate.matching import Hits
from mssc.model.checkpoint import load_model, save_model
from mssc.model.features import Features
from mssc.model.mssc import MSSC
from mssc.plots import paper, words
from mssc.structures import InputError
from mssc.video import probe
from mssc.video.drawing import class_colours

LOOK = ModelConfig(key_size=96, clip_size=96, width=16, hidden=16, window=4, kept=4)


@pytest.fixture(scope="module")
def models(toy_videos, tmp_path_factory):
    """Two networks' folders: MS-SC, and its control with neither MSM nor SFM."""
    folder = tmp_path_factory.mktemp("models")
    for name, changes in (("full", {}), ("plain", {"motion": "none", "fusion": "concat"})):
        torch.manual_seed(0)
        save_model(MSSC(replace(LOOK, classes=toy_videos.classes, **changes)), folder / name)
    return folder


@pytest.fixture(scope="module")
def studies(models, toy_videos):
    few = toy_videos.subset([video.name for video in toy_videos.videos[:3]])
    return [examine(Detector(load_model(models / name)), few, name, step=8, examples=2) for name in ("full", "plain")]


def numbers(plot, **wanted):
    rows = [dict(zip(plot.columns, row, strict=True)) for row in plot.rows]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_separability_shows_and_lists_its_numbers(studies):
    plot = plots.separability_plot(studies)
    assert plot.figure.get_size_inches()[0] == 7.16
    row = numbers(plot, model="full", tap="MSM out", measure="d_euc")[0]
    assert row["value"] == studies[0].distance("MSM out", "d_euc").value and row["videos"] == 3
    axes = next(axes for axes in plot.figure.axes if "means $d" in axes.get_title() and axes.get_title().endswith("↑"))
    assert row["value"] in axes.lines[0].get_ydata()
    assert {text.get_text() for text in plot.figure.legends[0].get_texts()} == {"full", "plain"}


def test_cells_have_their_classes_colours(studies, toy_videos):
    shown = [project(study, tap, "pca") for study in studies for tap in ("MSM in", "MSM out")]
    plot = plots.projection_plot(shown, toy_videos.classes)
    action = shown[0].cells.action
    drawn = plot.figure.axes[0].collections[1].get_facecolors()[:, :3] * 255
    wanted = [class_colours(toy_videos.classes)[label] for label in shown[0].cells.labels[action]]
    np.testing.assert_allclose(drawn, wanted, atol=0.5)
    assert "AUROC" in plot.figure.axes[0].get_title() and "silhouette" in plot.figure.axes[0].get_title()
    assert len(plot.rows) == sum(len(one.points) for one in shown)
    assert plot.twin is not None and "frame" in plot.twin.figure.data[0].hovertext[0]


def left_title(plot):
    return plot.figure.axes[0].get_title()


def test_models_stand_side_by_side_at_one_tap(studies, toy_videos):
    one_tap = plots.projection_plot([project(study, "SFM in", "pca") for study in studies], toy_videos.classes)
    left, right = (axes.get_position(original=True) for axes in one_tap.figure.axes)
    assert left.y0 == right.y0 and left.x1 <= right.x0
    assert "before SFM" in left_title(one_tap)
    both = plots.projection_plot(
        [project(studies[0], "MSM out", "pca"), project(studies[0], "MSM in", "pca"), project(studies[1], "MSM in", "pca")],
        toy_videos.classes,
    )
    assert [[text.get_text() for text in axes.texts] for axes in both.figure.axes] == [[], [], [], ["no MSM here"]]
    assert [text.text.split(":")[0] for text in one_tap.twin.figure.layout.annotations] == ["full", "plain"]


def test_a_point_shows_its_frame_and_cell(studies, toy_videos):
    one = project(studies[0], "SFM out 8", "pca")
    twin = plots.projection_plot([one], toy_videos.classes).twin
    for trace in twin.figure.data:
        for text, (number, x1, y1, x2, y2) in zip(trace.hovertext, trace.customdata, strict=True):
            video, frame = text.split("<br>")[1].split(", frame ")
            assert twin.pictures[int(number)] == studies[0].pictures[video, int(frame)]
            assert 0 <= x1 < x2 <= 1 and x2 - x1 == pytest.approx(1 / 12) and y2 - y1 == pytest.approx(1 / 12)
    used = set(zip(one.cells.videos.tolist(), one.cells.frames.tolist(), strict=True))
    assert len(twin.pictures) == len(used)  # each frame once
    page = twin.to_html(include_plotlyjs=False)
    assert base64.b64encode(twin.pictures[0]).decode() in page and "http" not in page.replace("http://www.w3.org", "")


def test_the_cell_of_a_point_lies_in_its_box(studies, toy_videos):
    cells = studies[0].cells["SFM out 8"]
    videos = {video.name: video for video in toy_videos.videos}
    for row in np.flatnonzero(cells.action)[:20]:
        video = videos[cells.videos[row]]
        boxes, _ = video.boxes_at(int(cells.frames[row]))
        x, y = cells.places[row].reshape(2, 2).mean(0) * (video.width, video.height)
        assert any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in boxes)


def test_what_rests_on_one_video_is_hollow():
    axes = paper.canvas(1, 2).add_subplot()
    paper.draw_intervals(axes, ["a", "b"], {"m": [Interval(0.5, 0.4, 0.6, 9), Interval(0.7, np.nan, np.nan, 1)]})
    filled, hollow = axes.lines
    assert list(filled.get_ydata()) == [0.5, 0.7] and list(hollow.get_ydata()) == [0.7]
    assert hollow.get_markerfacecolor() == "white"


def test_the_same_cells_are_drawn_for_every_model(studies):
    first, second = (project(study, "MSM in", "pca").cells for study in studies)
    assert first.videos.tolist() == second.videos.tolist() and first.frames.tolist() == second.frames.tolist()


def test_gains(studies):
    plot = plots.gain_plot(studies)  # the second has none and is left out
    assert len(plot.figure.axes) == 2
    np.testing.assert_allclose([row["gain"] for row in numbers(plot)[:-1]], studies[0].gain.mean(0))
    with pytest.raises(InputError, match="gain per channel"):
        plots.gain_plot(studies[1:])


def test_pictures_of_fusion(studies):
    responses = plots.response_plot(studies[0])
    assert len(responses.figure.axes) == 2 * 5 + 5, "a colour bar for each kind"
    assert len(plots.response_plot(studies[1], 1).figure.axes) == 2 * 3 + 3
    assert responses.figure.axes[0].get_aspect() == pytest.approx(48 / 64), "frames are as wide as they were"
    contexts = plots.context_plot(studies[0])
    matrix = np.array([row["weight"] for row in numbers(contexts, **{"to path": "2D", "stride": 8})])
    side = round(len(matrix) ** 0.5)
    np.testing.assert_allclose(matrix.reshape(side, side).sum(0), 1, atol=1e-4)
    with pytest.raises(InputError, match="no channel contexts"):
        plots.context_plot(studies[1])
    assert {row["kind"] for row in numbers(plots.pointing_plot(studies), model="plain")} == {"OUT", "Grad-CAM"}
    plot = plots.exchange_plot(studies)
    assert {row["model"] for row in numbers(plot)} == {"full"}
    entropy = numbers(plot, quantity="context entropy", level="8")[0]["value"]
    assert 0 <= entropy <= 1 and entropy == pytest.approx(np.mean(studies[0].per_video(studies[0].entropy, "8")))
    assert len(plots.probe_plot(studies).rows) == 2 * 9
    with pytest.raises(InputError, match="exchange"):
        plots.exchange_plot(studies[1:])


def test_corruption_curves():
    videos, positives = np.array([0, 1, 0, 1, 0, 1]), np.array([[2], [3]])  # two detections of each are right, or none

    def hits(right):
        return Hits(np.zeros(6, int), np.array(right), videos, positives, 0.5, "voc")

    found = Robustness("m", {("none", 0.0): hits([True] * 4 + [False] * 2), ("blur", 0.01): hits([False] * 6)})
    plot = plots.corruption_plot([found])
    curve = plot.figure.axes[0].lines[0]
    assert curve.get_xdata().tolist() == [0, 0.01] and curve.get_ydata().tolist() == pytest.approx([0.8, 0])  # 4 of 5 boxes found
    assert numbers(plot, quantity="loss")[0]["value"] == pytest.approx(0.8)


def test_what_msm_changes_is_drawn_with_its_interval(studies):
    plot = plots.change_plot(studies)  # the second has no MSM and is left out
    assert {row["model"] for row in numbers(plot)} == {"full"}
    row = numbers(plot, measure="Fisher J")[0]
    change = studies[0].change("MSM in", "MSM out", "Fisher J")
    assert (row["value"], row["low"], row["high"]) == change[:3]
    axes = plot.figure.axes[2]
    assert axes.get_title().startswith("Fisher criterion")
    assert list(axes.lines[1].get_xdata()) == [change.low, change.high] and list(axes.lines[2].get_xdata()) == [change.value]
    with pytest.raises(InputError, match="they need MSM"):
        plots.change_plot(studies[1:])


def test_auroc_changes_in_pairs(studies):
    study = studies[0]
    change = study.change("MSM in", "MSM out", "AUROC")
    assert change.value == pytest.approx(study.distance("MSM out", "AUROC").value - study.distance("MSM in", "AUROC").value)
    assert study.change("MSM in", "MSM in", "AUROC")[:3] == (0, 0, 0)
    with pytest.raises(InputError, match="only the same cells"):
        study.change("MSM in", "SFM out 16", "AUROC")


def test_many_classes_are_action_against_background(studies):
    one = project(studies[0], "MSM in", "pca")
    labels = np.where(one.cells.action, np.cumsum(one.cells.action) % 21, -1)
    plot = plots.projection_plot([replace(one, cells=replace(one.cells, labels=labels))], [f"class {i}" for i in range(21)])
    assert len(np.unique(plot.figure.axes[0].collections[1].get_facecolors(), axis=0)) == 1
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["background", "action, 21 classes"]


def test_captions_are_latex_and_say_of_what(studies, tmp_path):
    plot = plots.probe_plot(studies, 1)
    plot.save(tmp_path, "probe")
    text = (tmp_path / "probe.tex").read_text()
    assert text.startswith("\\begin{figure}[t]") and "\\includegraphics{probe.pdf}" in text and "95 \\%" in text
    assert "full, plain" in text and "3 videos" in text and "2D path $A$" in text
    assert "(probe.png)" in (tmp_path / "probe.md").read_text()
    assert paper.latex("a_b & 50 % of $x_1$ → {c}") == "a\\_b \\& 50 \\% of $x_1$ $\\rightarrow$ \\{c\\}"
    assert paper.latex(f"{words.literal('1$ #2.mp4')}: $x$") == r"1\$ \#2.mp4: $x$"
    assert "figure*" in paper.latex_figure("x", "y", 7.16)


def test_notebooks_keep_the_colours_of_photographs():
    rng = np.random.default_rng(0)
    figure = paper.canvas(1, 2)
    colours = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).resize((400, 400), Image.Resampling.BICUBIC)
    figure.add_subplot().imshow(colours)
    drawing = paper.canvas(1, 2)
    drawing.add_subplot().plot([0, 1])
    shown = [plots.Plot(one, (), [])._repr_mimebundle_() for one in (figure, drawing)]
    photo, few = (
        Image.open(io.BytesIO(base64.b64decode(one[kind]))) for one, kind in zip(shown, ("image/jpeg", "image/png"), strict=True)
    )
    assert photo.mode == "RGB" and few.mode == "P" and [len(one) for one in shown] == [2, 2]
    true = np.asarray(Image.open(io.BytesIO(plots.Plot(figure, (), []).png())).convert("RGB"), float)
    assert np.abs(np.asarray(photo, float) - true).mean() < 8, "colours stay"
    assert len(shown[0]["image/jpeg"]) < 0.7 * 4 / 3 * len(plots.Plot(figure, (), []).png()), "and bytes are saved"


def test_tables(studies):
    text = plots.separability_markdown(studies)
    assert "## full" in text and "## plain" in text and "| distance of the means (d_euc) | up |" in text and "MSM's gain" in text
    auroc = next(line for line in text.splitlines() if line.startswith("| AUROC of a linear probe | up |"))
    assert studies[0].change("MSM in", "MSM out", "AUROC").text() in auroc
    assert "no MSM here" in text.split("## plain")[1] and "no MSM here" not in text.split("## plain")[0]
    rows = list(csv.DictReader(plots.separability_csv(studies).splitlines()))
    one = next(r for r in rows if (r["model"], r["measure"], r["where"]) == ("full", "Fisher J", "change"))
    assert float(one["value"]) == pytest.approx(studies[0].change("MSM in", "MSM out", "Fisher J").value)


@pytest.mark.parametrize(
    ("low", "high", "claim", "said"),
    [
        (0.1, 0.3, "up", "as claimed"),
        (0.1, 0.3, "down", "against"),
        (-0.3, -0.1, "down", "as claimed"),
        (-0.1, 0.1, "up", "unclear"),
        (0.1, 0.3, "", ""),
        (float("nan"), float("nan"), "up", ""),  # one video says nothing
    ],
)
def test_verdicts(low, high, claim, said):
    assert plots.verdict(Interval((low + high) / 2, low, high, 5), claim) == said


def test_models_must_be_told_apart(studies):
    with pytest.raises(InputError, match="'full'"):
        plots.separability_plot([studies[0], studies[0]])
    with pytest.raises(InputError, match="nothing to draw"):
        plots.pointing_plot([])
    with pytest.raises(InputError, match="3 columns"):
        plots.probe_plot(studies, 3)  # type: ignore[arg-type]


def test_files_embed_their_fonts(studies, tmp_path):
    before = dict(matplotlib.rcParams)
    plot = plots.probe_plot(studies, 1)
    files = plot.save(tmp_path, "probe")
    assert [file.name for file in files] == ["probe.pdf", "probe.png", "probe.csv", "probe.tex", "probe.md"]
    content = files[0].read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content, "TrueType, as IEEE wants it"
    width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1])  # type: ignore[index]
    assert width == pytest.approx(3.5 * 72)
    assert len(files[2].read_text().splitlines()) == 1 + len(plot.rows)
    assert plots.probe_plot(studies, 1).save(tmp_path, "again")[0].read_bytes() == content, "equal numbers, equal files"
    assert dict(matplotlib.rcParams) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        plot.save(tmp_path / "file", "probe")


# -------------------------------------------------------------------- the command


def test_figures_makes_the_whole_set(models, toy_data, tmp_path, monkeypatch):
    few = {name: replace(corruption.CORRUPTIONS[name], amounts=(0.5,)) for name in ("noise", "frozen")}
    monkeypatch.setattr(corruption, "CORRUPTIONS", few)
    out = tmp_path / "out"
    asked = ("figures", models / "full", models / "plain", "--dataset", "toy", "--data", tmp_path, "-o", out)
    assert run(*asked, "--videos", 2, "--step", 12, "--noise-step", 20) == 0
    names = {file.name for file in out.iterdir()}
    pictures = (
        "separability",
        "tsne",
        "pca",
        "gain",
        "exchange",
        "pointing",
        "probe",
        "responses-full",
        "responses-plain",
        "change",
        "contexts-full",
    )
    for name in (*pictures, "corruption"):
        assert {f"{name}.{kind}" for kind in ("pdf", "png", "csv", "tex", "md")} <= names
    assert {"tsne.html", "table.md", "table.csv", "about.json"} <= names
    about = json.loads((out / "about.json").read_text())
    assert len(about["videos"]) == 2 and set(about["weights"]) == {"full", "plain"}


@pytest.mark.parametrize("name", ["gain.csv", "responses-full.png", "about.json"])
def test_figures_overwrites_nothing_of_anybody_elses(name, models, toy_data, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert run("figures", models / "full", "--dataset", "toy", "-o", tmp_path) == 2
    assert f"{name} is there already" in capsys.readouterr().err and (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-model"], "no-such-model"),
        ([], "required"),
        (["full", "full"], "named twice"),
        (["full", "--videos", "0"], "videos is 0"),
    ],
)
def test_figures_says_what_is_wrong(arguments, said, models, toy_data, tmp_path, capsys):
    arguments = [models / a if a == "full" else a for a in arguments]
    assert run("figures", *arguments, "--dataset", "toy", "-o", tmp_path / "out") == 2
    heard = capsys.readouterr().err
    assert said in heard or "no model was named" in heard
    assert not (tmp_path / "out").exists()


def test_figures_refuses_other_classes(models, toy_videos, monkeypatch, tmp_path, capsys):
    other = replace(toy_videos, classes=tuple(f"c{i}" for i in range(6)))
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: other)
    assert run("figures", models / "full", "--dataset", "toy", "-o", tmp_path / "out") == 2
    assert "c0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def looked(models, toy_videos):
    """The full network, and a key frame of each of two videos."""
    model = load_model(models / "full").eval()
    return model, [list(collect(Detector(model), video, 4))[-1] for video in toy_videos.videos[:2]]


def test_another_clip_changes_what_the_clip_can_change(looked):
    model, (key, other) = looked
    same = swap_clip(model, key, key)
    assert all(np.abs(change).max() < 1e-5 for change in same.changes)
    np.testing.assert_allclose(same.fused, same.own, atol=1e-5)
    swap = swap_clip(model, key, other)
    level = key.levels[0]
    before, after = (corrected(model.fusion.levels[0], level.spatial, one.levels[0].motion) for one in (key, other))
    for path in range(2):
        wanted = (before[path] - after[path]).norm(dim=1) / before[path].norm(dim=1)
        np.testing.assert_allclose(swap.changes[0][path], wanted[0].numpy(), rtol=1e-4, atol=1e-6)
    assert swap.own.shape == swap.fused.shape == swap.all.shape == (len(key.boxes), len(model.config.classes))
    assert np.abs(swap.all - swap.own).max() > 1e-4
    boxes = torch.from_numpy(key.boxes)[None]
    with torch.no_grad():  # everything but the image is the other's
        fused = tuple(f(a.spatial, b.motion) for f, a, b in zip(model.fusion.levels, key.levels, other.levels, strict=True))
        logits = model.head(Features(key.features.image, other.features.video, fused), boxes).logits[0]
    np.testing.assert_allclose(swap.all, logits.softmax(-1).numpy(), atol=1e-5)


def test_turning_by_hand():
    x = torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    y = torch.tensor([[[0.0, 3.0, 1.0]], [[2.0, 3.0, 0.0]]])
    np.testing.assert_allclose(turned(x, y), [[1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(turned(x[:, :, :1], -x[:, :, :1]), [[2]], atol=1e-6)


def test_without_motion_sense_everything_else_stays(looked):
    model, _ = looked
    plain = without_motion_sense(model)
    assert plain.config == replace(model.config, motion="none") and not plain.training
    assert not [name for name in plain.state_dict() if name.startswith("video.motion.")]
    assert [name for name in model.state_dict() if name.startswith("video.motion.")]
    found = model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in plain.state_dict().items())
    model = copy.deepcopy(model)
    with torch.no_grad():  # the residual closed, MSM is the identity
        model.video.motion.gamma1.zero_()
        model.video.motion.gamma2.zero_()
        clip = torch.randint(0, 256, (1, 3, 5, 96, 96), dtype=torch.uint8)
        torch.testing.assert_close(model(clip).logits, plain(clip).logits)


def test_stages_of_a_key_frame(looked, toy_videos):
    model, (key, other) = looked
    plot = plots.stage_plot(key, 0, toy_videos.classes, swap_clip(model, key, other))
    assert {row[2] for row in plot.rows} == {
        "in: |A|, key frame",
        "in: |M|, clip",
        "stage 1 turns A",
        "stage 1 turns M",
        "another clip changes A'",
        "another clip changes M'",
        "stage 2 out: |OUT|",
    }
    assert len(plot.rows) == 7 * 12 * 12
    assert sum(row[-1] for row in numbers_of(plot, "stage 2 out: |OUT|")) == pytest.approx(1)
    assert len(plots.stage_plot(key, 2, toy_videos.classes).rows) == 5 * 3 * 3
    with pytest.raises(InputError, match="level 3"):
        plots.stage_plot(key, 3, toy_videos.classes)


def numbers_of(plot, name):
    return [row for row in plot.rows if row[2] == name]


def test_a_tap_of_a_key_frame(looked, studies, toy_videos):
    _, (key, _) = looked
    shown = project(studies[0], "MSM out", "pca")
    plot = plots.tap_plot(key, "MSM out", shown, toy_videos.classes, label=0)
    features = key.taps["MSM out"].reshape(-1, 16)
    distances = np.linalg.norm(features - features.mean(0), axis=1)
    np.testing.assert_allclose([row[-1] for row in plot.rows], distances, rtol=1e-4)
    with pytest.raises(InputError, match="'MSM in' is not both"):
        plots.tap_plot(key, "MSM in", shown, toy_videos.classes)


def test_tubes_on_paper(toy_videos):
    video = toy_videos.videos[0]
    tube = replace(video.tubes[0], score=0.5)
    times = [index / 25 for index in range(video.frames)]
    result = VideoResult(probe(video.path), toy_videos.classes, [tube], [], times, {}, "none", 0.3)
    plot = plots.tube_plot(result, video.tubes, frames=3)
    assert [row[0] for row in plot.rows] == ["found"] + ["true"] * len(video.tubes)
    assert plot.rows[0][1:5] == (toy_videos.classes[tube.label], 0.5, tube.start, tube.stop - 1)
    assert plot.rows[0][5:] == pytest.approx((tube.start / 25, tube.stop / 25))
    assert sum(bool(axes.images) for axes in plot.figure.axes) == 3
    assert plot.png().startswith(b"\x89PNG") and "rows of kind" in repr(plot)
    nothing = plots.tube_plot(replace(result, tubes=[]))
    assert not nothing.rows and any("No action" in text.get_text() for text in nothing.figure.axes[-1].texts)


def test_pixels_that_are_not_square_are_not_square_on_paper_either(toy_videos, models):
    video = toy_videos.videos[0]
    info = replace(probe(video.path), pixel_aspect=Fraction(4, 3))
    times = [index / 25 for index in range(video.frames)]
    result = VideoResult(info, toy_videos.classes, list(video.tubes), [], times, {}, "full", 0.3)
    plot = plots.moment_plot(result, look_at(result, [models / "full"], 0.2))
    assert plot.figure.axes[0].get_aspect() == 3 / 4 and plot.figure.axes[2].get_aspect() == pytest.approx(48 / 64 * 3 / 4)
    assert plots.tube_plot(result).figure.axes[0].get_aspect() == 3 / 4


def test_a_moment_for_a_paper(toy_videos, models, tmp_path):
    video = toy_videos.videos[0]
    times = [index / 25 for index in range(video.frames)]
    result = VideoResult(probe(video.path), toy_videos.classes, list(video.tubes), [], times, {}, "full", 0.3)
    looked = look_at(result, [models / "full", models / "plain"], 0.2)
    for columns, width in ((1, 3.5), (2, 7.16)):
        plot = plots.moment_plot(result, looked, columns)  # type: ignore[arg-type]
        assert plot.figure.get_size_inches().tolist() == [width, pytest.approx(5, abs=3.5)]
        texts = [text.get_text() for axes in plot.figure.findobj(Axes) for text in (*axes.texts, axes.title)]
        assert {f"1: {toy_videos.classes[result.tubes[0].label]} 1.00", "no MSM here", "no SFM here"} <= set(texts)
        assert [label.get_text() for label in plot.figure.axes[1].get_yticklabels()] == [
            str(one) for one in sorted(set(result.actors))
        ]
        assert any(text.startswith("after minus before") for text in texts)
        assert any(text.startswith("t-SNE after MSM\nAUROC") for text in texts)
    frame = looked[0].key.frame
    assert video.path.name in plot.caption and f"frame {frame} " in plot.caption and "full: " in plot.caption
    for model, one in zip(("full", "plain"), looked, strict=True):
        row = numbers(plot, model=model, quantity="distance of the means", where="before MSM")[0]
        assert row["value"] == one.distances["MSM in"]["d_euc"]
    assert not numbers(plot, model="plain", where="after MSM"), "no MSM, no after"
    plot.save(tmp_path, "moment")
    assert r"\begin{figure*}" in (tmp_path / "moment.tex").read_text()
    with pytest.raises(InputError, match="nobody was found"):
        look_at(replace(result, tubes=[]), [models / "full"], 0.2)
    with pytest.raises(InputError, match="'full'"):
        plots.moment_plot(result, [looked[0], looked[0]])


@pytest.mark.parametrize(
    "video, wanted", [("short", "short\nframe 3"), ("a" * 20 + "b" * 20, "a" * 13 + "…" + "b" * 12 + "\nframe 3")]
)
def test_long_names_lose_their_middle(video, wanted):
    assert paper.frame_name(video, 3) == wanted and max(map(len, wanted.splitlines())) <= 26
