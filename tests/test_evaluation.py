"""``mssc evaluate``: what it writes, that it goes on after a stop, and what it refuses."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from random_weights import finds_everywhere

from mssc.__main__ import main
from mssc.data.decoding import decode
from mssc.detection.detector import Detector
from mssc.model.checkpoint import save_model
from mssc.model.mssc import MSSC
from mssc.model.shipped import model_hash
from mssc.scoring import run as scoring


@pytest.fixture(scope="module")
def model_folder(tiny_config, tmp_path_factory):
    """A tiny network that finds something everywhere."""
    model = finds_everywhere(tiny_config)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder, {"threshold": 0.2})
    return folder


@pytest.fixture(autouse=True)
def small_data(monkeypatch, toy_videos):
    """Every data set is the six toy videos."""
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
    monkeypatch.setattr("mssc.scoring.saved.truth.load_dataset", lambda *_: toy_videos)


def run(*arguments) -> int:
    try:
        main(["evaluate", *[str(a) for a in arguments]])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def refused(capsys, *arguments) -> str:
    capsys.readouterr()
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return re.sub(r"\s+", " ", said)


@pytest.fixture(scope="module")
def streamed(model_folder, tmp_path_factory, toy_videos):
    """A finished run."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
        assert run(model_folder, "--dataset", "toy", "--data", folder, "-o", folder) == 0
    return folder


def test_everything_is_written_with_where_it_comes_from(streamed, model_folder, toy_videos):
    record = json.loads((streamed / "result.json").read_text())
    for name in ("frame-mAP@0.5 (voc)", "frame-mAP@0.5 (act)", "frame-mAP@0.5 (yowo)", "video-mAP@0.5:0.95", "actor AP@0.5"):
        assert 0 <= record[name] <= 1
    assert record["weights"] == model_hash(model_folder) and record["mode"] == "stream" and record["split"] == 1
    assert record["part"] == "val" and record["threshold"] == 0.2 and record["command"].split()[0] == "mssc"
    assert set(record["versions"]) >= {"python", "torch", "numpy"} and set(record["protocols"]) >= {"voc", "act", "yowo"}
    assert set(record["per class"]) == set(toy_videos.classes)
    assert record["errors"]["right"] == sum(row["right"] for row in record["per class"].values())
    table = (streamed / "result.md").read_text()
    assert f"{100 * record['frame-mAP@0.5 (voc)']:.2f}" in table and toy_videos.classes[0] in table


def test_scores_on_videos_that_the_model_learnt_from_say_so(streamed, model_folder, toy_videos, tmp_path, monkeypatch, caplog):
    model, out = shutil.copytree(model_folder, tmp_path / model_folder.name), shutil.copytree(streamed, tmp_path / "out")
    (model / "about.json").write_text(json.dumps({"threshold": 0.2, "learnt": sorted(toy_videos.marks)[:2]}))
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
    assert run(model, "--dataset", "toy", "-o", out) == 0
    said = f"learnt from 2 of these {len(toy_videos)} videos"
    assert said in caplog.text and json.loads((out / "result.json").read_text())["learnt"] == 2
    assert all(said in (out / name).read_text() for name in ("result.md", "report.html"))
    assert "learnt from" not in (streamed / "result.md").read_text()


def test_the_page_asks_nobody_for_anything(streamed):
    page = (streamed / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)


def test_a_stopped_run_goes_on(streamed, model_folder, monkeypatch, toy_videos):
    before = json.loads((streamed / "result.json").read_text())
    files = sorted((streamed / "detections").glob("*.npz"))
    assert len(files) == len(toy_videos)
    for file in files[2:4]:
        file.unlink()
    times = {file: file.stat().st_mtime_ns for file in files[:2] + files[4:]}
    asked = []
    real = scoring.detect_frames
    monkeypatch.setattr(scoring, "detect_frames", lambda m, video, mode: asked.append(video.name) or real(m, video, mode))
    assert run(model_folder, "--dataset", "toy", "-o", streamed) == 0
    assert len(asked) == 2 and {file: file.stat().st_mtime_ns for file in times} == times
    after = json.loads((streamed / "result.json").read_text())
    assert {k: v for k, v in after.items() if k != "command"} == {k: v for k, v in before.items() if k != "command"}


def test_a_folder_of_another_run_is_refused(streamed, model_folder, tiny_config, tmp_path, capsys):
    assert "mode 'stream', not 'clip'" in refused(capsys, model_folder, "--dataset", "toy", "-o", streamed, "--clip")
    assert "part 'val', not 'test'" in refused(capsys, model_folder, "--dataset", "toy", "-o", streamed, "--part", "test")
    other = tmp_path / "tiny"
    save_model(MSSC(tiny_config).eval(), other, {})
    assert "weights" in refused(capsys, other, "--dataset", "toy", "-o", streamed)


def test_a_model_of_other_classes_is_refused(tiny_config, tmp_path, capsys):
    save_model(MSSC(replace(tiny_config, classes=("fly", "swim"))).eval(), tmp_path / "m", {})
    assert "knows fly, swim" in refused(capsys, tmp_path / "m", "--dataset", "toy", "-o", tmp_path / "out")


def test_saved_detections_score_the_same_without_the_model(streamed, tmp_path, monkeypatch):
    monkeypatch.setattr(Detector, "load", lambda *_: pytest.fail("no model is needed"))
    assert run("--detections", streamed, "--dataset", "toy", "-o", tmp_path / "again.json", "--threshold", 0.2) == 0
    first, again = (json.loads(path.read_text()) for path in (streamed / "result.json", tmp_path / "again.json"))
    assert (tmp_path / "again" / "report.html").exists()
    for name in first:
        if "mAP" in name or name in ("errors", "per class", "weights", "false alarms"):
            assert first[name] == again[name], name


def test_another_systems_array_is_scored_by_its_own_scores(tmp_path, toy_videos):
    rows = [
        [v, f + 1, tube.label, 0.5 + 0.4 / (1 + v + f), *tube.boxes[f - tube.start]]
        for v, video in enumerate(toy_videos.videos)
        for tube in video.tubes
        for f in range(tube.start, tube.stop)
    ]
    np.save(tmp_path / "d.npy", np.unique(np.array(rows), axis=0))
    assert run("--detections", tmp_path / "d.npy", "--dataset", "toy", "-o", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["frame-mAP@0.5 (voc)"] == record["frame-mAP@0.5 (act)"] == 1 and "model" not in record
    assert record["errors"]["right"] == len(rows) and record["false alarms"]["per minute"] == 0


def test_clip_mode_sees_each_window_alone(model_folder, toy_videos, tmp_path):
    assert run(model_folder, "--dataset", "toy", "-o", tmp_path / "out", "--clip") == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["mode"] == "clip"
    detector, video = Detector.load(model_folder), toy_videos.videos[0]
    images = list(decode(video.path))
    found = scoring.detect_frames(detector, video, "clip")
    assert len(found) == video.frames
    for last in (0, 2, 7, len(images) - 1):
        window = detector.prepare(images[max(0, last + 1 - detector.config.window) : last + 1]).transpose(0, 1)[None]
        (alone,) = detector.detect(window, (video.height, video.width))
        np.testing.assert_allclose(found[last].scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(found[last].boxes, alone.boxes, atol=1e-2)


def test_what_is_not_named_right(model_folder, tmp_path, capsys):
    np.save(tmp_path / "d.npy", np.zeros((1, 7)))
    assert "Missing from mssc evaluate: --dataset" in refused(capsys, model_folder)
    assert "invalid choice 'kinetics'" in refused(capsys, model_folder, "--dataset", "kinetics")
    assert "either a model, or detections" in refused(
        capsys, model_folder, "--dataset", "toy", "--detections", tmp_path / "d.npy"
    )
    assert "invalid choice 'all'" in refused(capsys, model_folder, "--dataset", "toy", "--part", "all")
    assert "threshold is 3" in refused(capsys, model_folder, "--dataset", "toy", "--threshold", 3)
    assert "no model 'nobody'" in refused(capsys, "nobody", "--dataset", "toy")
    assert "(1, 7)" in refused(capsys, "--detections", tmp_path / "d.npy", "--dataset", "toy", "-o", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_ava_by_its_own_files(tmp_path):
    rows = ["v1,902,0.1,0.2,0.5,0.9,1,0", "v1,902,0.5,0.2,0.9,0.9,2,1", "v1,903,0.1,0.2,0.5,0.9,2,0"]
    (tmp_path / "ava_val_v2.2.csv").write_text("\n".join(rows))
    items = [f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in ((1, "bend"), (2, "stand"))]
    (tmp_path / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text("".join(items))
    (tmp_path / "ava_val_excluded_timestamps_v2.2.csv").write_text("v1,0903\n")
    (tmp_path / "found.csv").write_text("v1,902,0.1,0.2,0.5,0.9,1,0.9\nv1,902,0.1,0.2,0.5,0.9,2,0.8\nv1,903,0,0,0.1,0.1,2,0.9\n")
    assert run("--detections", tmp_path / "found.csv", "--dataset", "ava", "--data", tmp_path, "-o", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["mAP@0.5 (ava)"] == pytest.approx(0.5) and record["per class"]["bend"]["frame-AP@0.5"] == 1
    assert "<img" in (tmp_path / "out" / "report.html").read_text()


def test_ava_seconds_that_count_from_elsewhere_are_refused(tmp_path, capsys):
    (tmp_path / "ava_val_v2.2.csv").write_text("v1,0902,0.1,0.2,0.5,0.9,1,0\nv1,0903,0.1,0.2,0.5,0.9,1,0")
    (tmp_path / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text('item { name: "bend" id: 1 }')
    (tmp_path / "found.csv").write_text("v1,0002,0.1,0.2,0.5,0.9,1,0.9\nv1,0003,0.1,0.2,0.5,0.9,1,0.9")
    says = refused(capsys, "--detections", tmp_path / "found.csv", "--dataset", "ava", "--data", tmp_path, "-o", tmp_path / "out")
    assert "no row of any annotated second" in says and "second 2 of v1" in says and "second 902 of v1" in says
    assert not (tmp_path / "out").exists()
