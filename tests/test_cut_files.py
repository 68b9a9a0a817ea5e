"""Files of our own that were cut off, as by a full disk, a power failure or a half-done copy: every kind that a command reads again."""

import json
import re
import shutil
from pathlib import Path

import pytest
from own_videos import write_folder

from mssc.__main__ import main
from mssc.data import catalogue
from mssc.model.shipped import MODELS
from mssc.training import recipes
from mssc.training.recipes import Recipe, Stage

SMALL = {"key_size": 64, "clip_size": 32, "width": 16, "hidden": 16, "window": 4, "kept": 4}
SHORT = {"epochs": 1, "batch": 2, "clip_length": 4, "keys": 2, "validation_step": 8}
OPTIONS = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SHORT.items())
OPTIONS += "".join(f" --model.{name.replace('_', '-')} {value}" for name, value in SMALL.items())

TRAIN = f"train --dataset custom --data data -o run --workers 0 {OPTIONS}"
START = f"train --dataset custom --data data -o run2 --workers 0 {OPTIONS} --start run/model"
DETECT = "detect data/videos/run_1.mp4 -o out --device cpu --model run/model"
GRAPHS = "detect data/videos/run_1.mp4 -o graphs --device cpu --no-draw --model toy-model"
EVALUATE = "evaluate run/model --dataset custom --data data -o scores --device cpu"
SAVED = "evaluate --detections scores --dataset custom --data data -o again"
ABLATE = f"ablate rows.json --dataset custom --data data --seeds 0 --device cpu -o ablation --workers 0 {OPTIONS}"
RECIPE = "train --recipe toy --data toys -o recipe --workers 0"
CHECK = "check-data --dataset custom --data data -o report"

AGAIN, ANEW = "copy the model's folder again", "copy it again, or delete it to begin the run anew"
REFUSED = [
    ("run/last.pt", TRAIN, ANEW),
    ("run/run.json", TRAIN, ANEW),
    ("run/model/model.safetensors", START, AGAIN),
    ("run/model/config.json", START, AGAIN),
    ("run/model/model.safetensors", DETECT, AGAIN),
    ("run/model/config.json", DETECT, AGAIN),
    ("run/model/about.json", DETECT, AGAIN),
    ("run/model/model.safetensors", EVALUATE, AGAIN),
    ("run/model/config.json", EVALUATE, AGAIN),
    ("run/model/model.safetensors", "export run/model", AGAIN),
    ("run/model/model.safetensors", "figures run/model --dataset custom --data data", AGAIN),
    ("scores/about.json", EVALUATE, "remove the folder and run the evaluation again"),
    ("scores/result.json", EVALUATE, "name another place with -o"),
    ("scores/about.json", SAVED, "remove the folder and run the evaluation again"),
    ("scores/detections/*.npz", SAVED, "remove it and run the evaluation again"),
    ("ablation/rows.json", ABLATE, "name another place with -o"),
    ("ablation/runs/*/seed-0/scores.json", ABLATE, "delete it, and the run is trained and scored again"),
    ("rows.json", ABLATE, "correct it, or write it again"),
    ("recipe/recipe.json", RECIPE, "choose another folder, or delete this one"),
    ("recipe/first/done.json", RECIPE, "delete it, and the stage is run again"),
    ("recipe/second/model/model.safetensors", RECIPE, AGAIN),
    ("report/report.json", CHECK, "name another place with -o"),
]
"""File, the command that reads it, and the way out that its sentence names."""

MENDED = [
    ("run/frames/index.json", TRAIN, "frames must be decoded again"),
    ("run/frames/frames-*.bin", TRAIN, "frames must be decoded again"),
    ("ablation/frames/index.json", ABLATE, "frames must be decoded again"),
    ("scores/detections/*.npz", EVALUATE, "they are made anew"),
    ("toys/train/annotations.json", RECIPE, "the toy set is generated again"),
    ("toy-model/step-1.onnx", GRAPHS, "make it again with mssc export. Until then torch computes the network"),
]
"""Caches: file, the command that reads it, and its warning."""

KEPT = [("out/run_1.json", DETECT, "out/run_1-2"), ("out/run_1.csv", DETECT, "out/run_1-2")]
"""Results that can no longer be told from other people's files: file, the command that would replace it, and where it writes instead."""

CUTS = {
    "nothing left": lambda size: 0,
    "one byte": lambda size: 1,
    "half": lambda size: size // 2,
    "all but one": lambda size: size - 1,
}


@pytest.fixture(scope="module", autouse=True)
def short_recipe():
    with pytest.MonkeyPatch.context() as patch:
        stages = (
            Stage("first", SHORT | {"frozen": "none"}, start="nothing"),
            Stage("second", SHORT | {"frozen": "none"}, start="first"),
        )
        patch.setitem(recipes.RECIPES, "toy", Recipe("toy", recipes.TOY_CLASSES, stages, SMALL))
        patch.setattr(catalogue, "TOY_SIZES", {"train": 6, "val": 2, "trainval": 8, "test": 2})
        patch.setattr(
            "mssc.scoring.report.page", lambda *_: "page"
        )  # its pictures take longer than all else, and nobody reads it again
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which every command has done its work."""
    folder = tmp_path_factory.mktemp("whole")
    write_folder(folder / "data")
    shutil.copytree(MODELS / "toy", folder / "toy-model")
    (folder / "rows.json").write_text(json.dumps({"plain": {"fusion": "concat"}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (TRAIN, DETECT, EVALUATE, ABLATE, RECIPE, CHECK):
            assert run(command) == 0, command
    return folder


def run(command: str) -> int:
    try:
        main(command.split())
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def cut(folder: Path, pattern: str, how: str) -> tuple[Path, bytes]:
    """Cut a file off, before the white space at its end; its path from the folder on, and what it held."""
    file = sorted(folder.glob(pattern))[0]
    content = file.read_bytes()
    file.write_bytes(content[: CUTS[how](len(content.rstrip()))])
    return file.relative_to(folder), content


def tree(folder: Path) -> dict[str, int]:
    """What lies there, and when files were last written to."""
    return {str(path.relative_to(folder)): path.is_file() and path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize(("pattern", "command", "way_out"), REFUSED, ids=lambda value: value.split(" --")[0])
def test_a_sentence_names_the_file_and_the_way_out(whole, pattern, command, way_out, how, capsys, monkeypatch):
    monkeypatch.chdir(whole)
    file, content = cut(whole, pattern, how)
    before = tree(whole)
    try:
        assert run(command) == 2
    finally:
        after = tree(whole)
        (whole / file).write_bytes(content)
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    sentence = said[said.rindex("mssc: ") :]
    assert str(file) in sentence and way_out in sentence and "Traceback" not in said
    assert after == before


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize(("pattern", "command", "warning"), MENDED, ids=lambda value: value.split(" --")[0])
def test_caches_are_made_again_with_a_warning(whole, pattern, command, warning, how, tmp_path, caplog, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.chdir(folder)
    file, _ = cut(folder, pattern, how)
    assert run(command) == 0
    assert str(file) in caplog.text and warning in caplog.text
    caplog.clear()
    assert run(command) == 0
    assert warning not in caplog.text or file.suffix == ".onnx"


@pytest.mark.parametrize("how", list(CUTS)[:3])
@pytest.mark.parametrize(("pattern", "command", "instead"), KEPT, ids=lambda value: value.split(" --")[0])
def test_what_may_be_anybodys_stays(whole, pattern, command, instead, how, tmp_path, caplog, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.chdir(folder)
    file, _ = cut(folder, pattern, how)
    left = file.read_bytes()
    with caplog.at_level("INFO", "mssc"):
        assert run(command) == 0
    assert file.read_bytes() == left and f"in {instead}.*" in caplog.text


@pytest.mark.parametrize("how", ["nothing left", "half"])
@pytest.mark.parametrize(
    ("pattern", "command", "record"),
    [
        ("run/metrics.jsonl", TRAIN, None),
        ("recipe/first/seed-0/metrics.jsonl", RECIPE, "recipe/first/done.json"),
        ("ablation/runs/*/seed-0/metrics.jsonl", ABLATE, "ablation/runs/*/seed-0/scores.json"),
    ],
    ids=lambda value: str(value).split(" --")[0],
)
def test_a_run_goes_on_without_what_was_told_of_it(whole, pattern, command, record, how, tmp_path, caplog, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.chdir(folder)
    file, _ = cut(folder, pattern, how)
    if record is not None:  # as if it had been stopped before its end was written down
        sorted(folder.glob(record))[0].unlink()
    assert run(command) == 0
    lost = "line 1 is cut off or damaged; it is left out" in caplog.text
    assert lost == (how != "nothing left" and (file.parent / "last.pt").exists())
