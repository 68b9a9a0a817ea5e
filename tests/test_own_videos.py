"""docs/own-videos.md, run as written on generated videos."""

import json
import re
import shlex
import signal
import zipfile
from pathlib import Path

import gradio as gr
import pytest
from own_videos import write_video

import app
from mssc.__main__ import main
from mssc.page import offer

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "own-videos.md").read_text(), re.DOTALL)
VIDEOS = [f"{day}_{number}.mp4" for day in ("monday", "friday") for number in (1, 2)]


def export(path):
    """A CVAT project with a task for each video: a person who pours, or waves."""
    tasks, tracks = "", ""
    for number, name in enumerate(VIDEOS):
        size = "<original_size><width>64</width><height>48</height></original_size>"
        tasks += f"<task><id>{number}</id><source>{name}</source>{size}</task>"
        boxes = "".join(
            f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{10 + frame}" ytl="5" xbr="{30 + frame}" ybr="40">'
            f'<attribute name="action">{("pour", "wave")[number % 2]}</attribute></box>'
            for frame, outside in ((2, 0), (8, 0), (10, 1))
        )
        tracks += f'<track id="{number}" label="person" task_id="{number}">{boxes}</track>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "annotations.xml", f"<annotations><meta><project><tasks>{tasks}</tasks></project></meta>{tracks}</annotations>"
        )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as the text describes it, to be in."""
    for seed, name in enumerate(VIDEOS):
        write_video(tmp_path / "my-videos" / "videos" / name, 12, seed=seed)
    export(tmp_path / "export.zip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_text_has_the_commands_that_are_tried():
    assert [command.split()[:2][-1 if "app.py" in command else 0] for command in COMMANDS] == ["mssc"] * 4 + ["app.py"]
    assert "](docs/own-videos.md)" in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_commands_run_as_written(place, monkeypatch):
    words = [shlex.split(command) for command in COMMANDS]
    for command in words[:-1]:  # in this process: to start five others would take most of the time
        main(command[1:])
    report = json.loads((place / "my-videos-report" / "report.json").read_text())
    assert report["usable"] and sum(part["tubes"] for part in report["parts"].values()) == 4
    assert (place / "my-videos-report" / "boxes.png").stat().st_size > 1000
    assert json.loads((place / "runs" / "mine" / "model" / "config.json").read_text())["classes"] == ["pour", "wave"]
    assert len(list((place / "results").glob("*.json"))) == 4

    shown = []
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **options: shown.append(json.dumps(page.config, default=str)))
    monkeypatch.setattr(gr.Blocks, "block_thread", lambda page: None)
    monkeypatch.setattr(offer, "OWN", {})
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the page would take SIGTERM for itself
    assert words[-1][:2] == ["python", "app.py"]
    app.main(words[-1][2:])
    assert (
        "pour" in shown[0] and "wave" in shown[0] and '"mine"' in shown[0] and str(place) not in shown[0]
    )  # the model, without its folder


def test_a_model_that_is_none_does_not_open_the_page(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        app.main(["--model", str(tmp_path)])
    assert stopped.value.code == 2 and "holds no model: config.json is missing" in capsys.readouterr().err
