"""The page over its API, on this machine, with the detection replaced by a stand-in that knows four answers."""

import inspect
import json
import re
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
from mssc import video
from mssc.config import ModelConfig
from mssc.structures import InputError, Tube

CLASSES = ("stand", "wave_hand")
FRAMES, RATE = 20, Fraction(10)


REAL = inspect.signature(app.detect.detect_video)


class Result:
    """What the page uses of a result."""

    def __init__(self, path: str, model: str, threshold: float) -> None:
        self.info = video.probe(path)
        self.classes, self.model, self.threshold = CLASSES, model, threshold
        box = np.tile([2, 2, 30, 40], (20, 1))
        tubes = [Tube(1, 0.4, 10, box[:5]), Tube(0, 0.8, 0, box), Tube(1, 0.6, 5, box[:10] + 30)]
        self.tubes = [tube for tube in tubes if tube.score >= threshold]
        self.times = [index / 10 for index in range(FRAMES)]
        self.timings = {"decode": 0.1, "network": 0.4}
        self.frames_per_second = 40.0

    def write_json(self, path: Path) -> None:
        Path(path).write_text(json.dumps({"tubes": len(self.tubes)}))


def stand_in(path, model="default", threshold=None, output=None, progress=None) -> Result:
    result = Result(path, model, threshold)  # probes the file, so bad files are refused as in earnest
    if "bug" in Path(path).name:
        raise RuntimeError(f"a secret of {path}")
    if "full" in Path(path).name:
        raise InputError(f"{output} cannot be written: the disk is full.")
    if "refused" in Path(path).name:
        raise InputError(f"{path}: has <b>no</b> frames; export it again.")
    with video.Writer(output, 64, 48, RATE) as writer:
        for index in range(FRAMES):
            writer.write(np.full((48, 64, 3), 10 * index, np.uint8), index / 10)
            progress(index + 1, None if index < 5 else 15, "Watching")  # the estimate may be missing, and wrong
    return result


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """The pipeline replaced, temporary files in a folder of the test's own, and no program (such as ffmpeg) to be found."""
    models = tmp_path_factory.mktemp("models")
    for name, classes in (("big", CLASSES), ("toy", ("spin",))):
        (models / name).mkdir()
        (models / name / "config.json").write_text(ModelConfig(classes=classes).to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.detect, "detect_video", stand_in)
        patch.setattr(app.detect, "available_models", lambda: {n: models / n for n in ("toy", "big")})
        patch.setattr(app.detect, "default_model", lambda: "big")
        patch.setattr(app.detect, "default_threshold", {"big": 0.25, "toy": 0.5}.__getitem__)
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        patch.setenv("PATH", "")
        patch.delenv("GRADIO_TEMP_DIR", raising=False)
        assert shutil.which("ffmpeg") is None
        yield Path(tempfile.gettempdir())


@pytest.fixture(scope="module")
def page(stub):
    blocks = app.build()
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    yield url
    blocks.close()
    assert not [path for path in stub.rglob("*") if path.is_file()]  # uploads and results are gone


@pytest.fixture(scope="module")
def client(page, tmp_path_factory):
    return Client(page, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def clip(tmp_path):
    def make(name: str = "clip.mp4") -> Path:
        with video.Writer(tmp_path / name, 64, 48, RATE) as writer:
            for index in range(FRAMES):
                writer.write(np.full((48, 64, 3), 10 * index, np.uint8), index / 10)
        return tmp_path / name

    return make


def ask(client: Client, path: Path | None, threshold: float = 0.3, model: str = "big"):
    return client.predict(path and handle_file(path), model, threshold, api_name="/detect")


def test_the_stand_in_looks_like_the_pipeline(clip):
    assert list(inspect.signature(stand_in).parameters) == list(REAL.parameters)[:5]
    for name in vars(Result(str(clip()), "big", 0.3)):
        assert name in app.detect.VideoResult.__dataclass_fields__ or hasattr(app.detect.VideoResult, name)


def test_a_video_gives_summary_video_timeline_table_and_json(client, clip, stub):
    status, drawn, timeline, table, download = ask(client, clip())
    assert "Found 3 actions by 2 actors" in status and "**big**" in status and "threshold 0.30" in status
    assert "20 frames at **40 frames per second**" in status and "decode 0.10 s, network 0.40 s" in status
    path = Path(drawn["video"] if isinstance(drawn, dict) and "video" in drawn else drawn)
    assert path.name == "clip-actions.mp4" and len(list(video.read(path))) == FRAMES
    assert table["headers"] == app.COLUMNS
    assert table["data"] == [
        [1, "stand", 0.8, 0, 2.0, "0 to 19"],
        [2, "wave hand", 0.6, 0.5, 1.5, "5 to 14"],
        [1, "wave hand", 0.4, 1.0, 1.5, "10 to 14"],
    ]
    assert timeline["type"] == "plotly" and "1: wave hand" in timeline["plot"]
    assert Path(download).name == "clip-actions.json" and json.loads(Path(download).read_text()) == {"tubes": 3}
    assert not list(stub.glob("mssc-result-*"))


def test_no_action_is_said(client, clip):
    status, _, timeline, table, _ = ask(client, clip(), threshold=0.9)
    assert "No action found" in status and "Nothing scored 0.90 or more" in status and "Found" not in status
    assert table["data"] in ([], [[""] * 6]) and "No action found" in timeline["plot"]


def test_one_action_is_not_plural(client, clip):
    assert "Found 1 action by 1 actor\n" in ask(client, clip(), threshold=0.7)[0]


def test_bad_input_is_answered_with_its_sentence(client, clip, tmp_path, stub):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(InputError) as direct:
        video.probe(text)
    with pytest.raises(AppError) as answer:
        ask(client, text)
    assert str(answer.value) == str(direct.value).replace(f"{tmp_path}/", "")
    with pytest.raises(AppError) as answer:
        ask(client, clip("refused.mp4"))
    assert (
        str(answer.value) == "refused.mp4: has &lt;b&gt;no&lt;/b&gt; frames; export it again."
    )  # shown as HTML, without the folder
    with pytest.raises(AppError, match="^full-actions.mp4 cannot be written: the disk is full.$"):
        ask(client, clip("full.mp4"))
    with pytest.raises(AppError, match="^Upload or record a video first.$"):
        ask(client, None)
    assert not list(stub.glob("mssc-result-*"))


def test_a_bug_says_nothing_about_the_server_and_does_not_stop_it(client, clip, stub):
    with pytest.raises(AppError) as answer:
        ask(client, clip("bug.mp4"))
    assert "secret" not in str(answer.value) and "Traceback" not in str(answer.value)
    assert not list(stub.glob("mssc-result-*"))
    assert "Found 3" in ask(client, clip())[0]


def test_unknown_models_and_files_of_the_server_are_refused(client, clip):
    with pytest.raises(AppError, match="nonsense"):
        ask(client, clip(), model="nonsense")
    outside = {"path": __file__, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError):
        client.predict(outside, "big", 0.3, api_name="/detect")


def test_the_api_has_one_endpoint_with_named_parameters(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/detect"]
    assert [p["parameter_name"] for p in named["/detect"]["parameters"]] == ["video", "model", "threshold"]
    assert [p.get("parameter_default") for p in named["/detect"]["parameters"]][1:] == ["big", 0.25]


def test_the_page_asks_no_other_site(page):
    config = httpx.get(page + "config").json()
    assert not config["analytics_enabled"] and not config["run_history"] and config["max_file_size"] == 500 * 2**20
    assert config["stylesheets"] == []  # where a theme's web fonts would be
    loads = r"""<(?:script|link|img)[^>]*(?:src|href)=["'](?:https?:)?//(?!127\.0\.0\.1)|@import|url\(["']?https?:"""
    for text in (httpx.get(page).text, httpx.get(page + "theme.css").text):
        assert not re.findall(loads, text)


def test_each_model_brings_its_threshold_and_says_what_it_knows(stub):
    assert app.about("big") == (0.25, "Recognises 2 actions: stand, wave hand.")
    assert app.about("toy")[0] == 0.5


def test_the_queue_is_bounded(stub):
    queue = app.build()._queue
    assert queue.max_size == app.MAX_WAITING and queue.default_concurrency_limit == 1


def test_main_keeps_its_files_in_one_folder_and_removes_it(stub, monkeypatch):
    seen = {}

    def launch(page, server_port=None, **_):
        seen.update(port=server_port, folder=Path(tempfile.gettempdir()), cache=Path(page.GRADIO_CACHE))
        (seen["folder"] / "left").touch()

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)  # put back afterwards
    app.main(["--port", "7999"])
    assert seen["port"] == 7999 and seen["folder"].name.startswith("mssc-")
    assert seen["cache"].is_relative_to(seen["folder"]) and not seen["folder"].exists()


def test_main_without_a_model_ends_with_a_sentence(stub, monkeypatch, capsys):
    def nothing():
        raise InputError("there is no model in assets/models; train one with `python -m mssc train`.")

    monkeypatch.setattr(app.detect, "default_model", nothing)
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    with pytest.raises(SystemExit) as end:
        app.main([])
    assert end.value.code == 2 and "there is no model" in capsys.readouterr().err
