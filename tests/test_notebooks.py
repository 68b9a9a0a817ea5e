"""The notebooks as they are committed, and what they share. `make notebooks` runs them all."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import ipywidgets as widgets
import nbformat
import pytest
from matplotlib.figure import Figure

from mssc.plots import Plot, notebook
from mssc.structures import InputError

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLACES = re.compile(r"/(?:work|tmp|home|root|Users|mnt|var)/|[A-Z]:\\\\|site-packages")
MOST_BYTES = 400_000


def code(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def said(cell):
    """All text that a cell put out."""
    return "".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)


def test_there_is_one_notebook_a_question():
    assert [path.name[:2] for path in FILES] == ["00", "01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestCommitted:
    def test_it_begins_with_a_question_and_ends_with_a_number(self, path):
        cells = nbformat.read(path, 4).cells
        assert cells[0].cell_type == "markdown" and re.match(r"# \d\d · .+\?$", cells[0].source.splitlines()[0])
        assert cells[-2].source.startswith("**Answer.**") and re.search(r"\d", said(cells[-1]))

    def test_it_was_executed_in_order_without_errors(self, path):
        cells = code(path)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        kinds = {out.output_type for cell in cells for out in cell.outputs}
        assert kinds <= {"stream", "execute_result", "display_data"}
        assert not [out.text for cell in cells for out in cell.outputs if out.get("name") == "stderr"]

    def test_it_reads_anywhere(self, path):
        text = path.read_text()
        assert not PLACES.findall(text), "a path of the machine where it was executed"
        assert len(text) <= MOST_BYTES and "widget-view" not in text and '"execution": {' not in text
        pictures = [
            out for cell in code(path) for out in cell.outputs if {"image/png", "image/jpeg"} & out.get("data", {}).keys()
        ]
        assert pictures

    def test_no_score_becomes_a_mail_link(self, path):
        said = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
        said += [out["data"].get("text/markdown", "") for cell in code(path) for out in cell.outputs if "data" in out]
        assert not re.findall(r"[\w.-]+@[\w-]+\.[\w.-]*\w", re.sub(r"`[^`]*`", "", "\n".join(said))), "outside of code"

    def test_its_cells_are_short_and_define_nothing(self, path):
        for cell in code(path):
            tree = ast.parse(cell.source)
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            does = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
            assert sum((node.end_lineno or 0) - node.lineno + 1 for node in does) <= 16
            assert max(map(len, cell.source.splitlines())) <= 140

    def test_what_it_imports_is_there(self, path):
        nodes = [node for cell in code(path) for node in ast.parse(cell.source).body]
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), path.name, "exec"), {})


def draw(number):
    if number > 2:
        raise InputError(f"{number} is too much; use 2 at most.")
    figure = Figure(figsize=(1, 1))
    figure.text(0.1, 0.1, str(number))
    return Plot(figure, ("number",), [(number,)])


def test_a_panel_follows_its_controls():
    panel = notebook.Panel(draw, number=widgets.IntSlider(value=1, max=3))
    first = bytes(panel.picture.value)
    assert first.startswith(b"\x89PNG")
    panel.controls["number"].value = 2
    second = bytes(panel.picture.value)
    assert second != first and panel.note.value == ""
    panel.controls["number"].value = 3
    assert bytes(panel.picture.value) == second and "3 is too much" in panel.note.value
    panel.controls["number"].value = 1
    assert bytes(panel.picture.value) == first and panel.note.value == ""


def test_a_picture_stands_for_a_panel(monkeypatch):
    panel = notebook.Panel(draw, number=widgets.IntSlider(value=1, max=3))
    live = panel._repr_mimebundle_()
    monkeypatch.setenv(notebook.STATIC, "static")
    still = panel._repr_mimebundle_()
    assert set(live) - set(still) == {"application/vnd.jupyter.widget-view+json"}
    assert still["image/png"] == live["image/png"] and "number = 1" in still["text/plain"]


def test_material_is_generated_where_none_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv(notebook.DATA, raising=False)
    monkeypatch.setattr(notebook, "HOME", tmp_path)
    name, dataset = notebook.material(2)
    assert name == "toy" and len(dataset) == 2 and dataset.videos[0].path.is_relative_to(tmp_path / "data")
    assert json.loads((tmp_path / "data" / "notebooks" / "val-2" / "annotations.json").read_text())["recipe"]["part"] == "val"
    with pytest.raises(InputError, match="0 videos; ask for at least 1"):
        notebook.material(0)
    monkeypatch.setenv(notebook.DATA, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="nothing"):
        notebook.material(2)


def test_the_video_of_the_last_notebook_is_an_example_or_named(monkeypatch, toy_videos):
    monkeypatch.delenv(notebook.VIDEO, raising=False)
    assert notebook.own_video() == (notebook.EXAMPLE, ["toy"]) and notebook.EXAMPLE.is_file()
    monkeypatch.setenv(notebook.VIDEO, str(toy_videos.videos[0].path))
    assert notebook.own_video() == (toy_videos.videos[0].path, ["jhmdb", "jhmdb-plain"])
    monkeypatch.setenv(notebook.VIDEO, "nowhere.mp4")
    with pytest.raises(InputError, match="nowhere.mp4, which is no file"):
        notebook.own_video()


def test_scratch_folders_go_with_the_kernel():
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mssc.plots.notebook import scratch; a, b = scratch(), scratch(); (a / 'x').touch(); print(a); print(b)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(set(said)) == 2 and not any(Path(folder).exists() for folder in said)
