"""The command line as a user meets it: results on disk, bad input as one sentence and exit code 2, nothing left behind."""

import json
import os
import re
import resource
import signal

import av
import numpy as np
import pytest
import torch
from conftest import run
from random_weights import finds_everywhere
from safetensors.torch import load_file, save_file

from mssc.detection import pipeline
from mssc.model.checkpoint import CONFIG, WEIGHTS, save_model


@pytest.fixture(scope="module")
def model_folder(tiny_config, tmp_path_factory):
    """A tiny network whose objectness is high everywhere, so that there is always something to find."""
    model = finds_everywhere(tiny_config)
    torch.nn.init.zeros_(model.head.classifier.branch.logits.weight)
    with torch.no_grad():
        model.head.classifier.branch.logits.bias.copy_(torch.tensor([8.0] + [0.0] * (len(tiny_config.classes) - 1)))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder, {"threshold": 0.2})
    return folder


def refused(capsys, *arguments) -> str:
    """Runs a command that must fail as documented; returns its sentence."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return re.sub(r"\s+", " ", said)


def test_detect_writes_video_json_and_csv(model_folder, toy_videos, tmp_path):
    video = toy_videos.videos[0]
    assert run("detect", video.path, "-o", tmp_path / "out", "--model", model_folder) == 0
    stem = video.path.stem
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{stem}.csv", f"{stem}.json", f"{stem}.mp4"]
    content = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
    assert content["frames"] == video.frames and (content["width"], content["height"]) == (video.width, video.height)
    assert content["tubes"], "a model that sees actors everywhere finds tubes"
    for tube in content["tubes"]:
        assert tube["action"] in toy_videos.classes
        assert len(tube["boxes"]) == tube["end_frame"] - tube["start_frame"] + 1
        assert 0 <= tube["start_seconds"] < tube["end_seconds"] <= video.frames / video.rate + 0.05
    assert len((tmp_path / "out" / f"{stem}.csv").read_text().splitlines()) == 1 + len(content["tubes"])
    with av.open(str(tmp_path / "out" / f"{stem}.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", video.width, video.height)
        assert sum(1 for _ in container.decode(stream)) == video.frames
        assert stream.average_rate == video.rate


def test_a_folder_of_videos_and_one_bad_file(model_folder, toy_videos, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"good {number}.mp4").write_bytes(toy_videos.videos[number].path.read_bytes())
    (folder / "bad.mp4").write_text("this is no video")
    said = refused(capsys, "detect", folder, "-o", tmp_path / "out", "--model", model_folder, "--no-draw")
    assert "1 of 3 videos failed" in said and "bad.mp4" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "good 1.csv", "good 1.json", "good 2.csv", "good 2.json"
    ]  # fmt: skip


def test_a_threshold_and_a_place_that_will_not_do_are_refused_before_any_video(model_folder, toy_videos, tmp_path, capsys):
    given = ("detect", toy_videos.videos[0].path, toy_videos.videos[1].path, "--model", model_folder)
    for value in ("2", "nan", "-0.1"):
        said = refused(capsys, *given, "-o", tmp_path / "out", f"--threshold={value}")
        assert said.count("it must lie in [0, 1]") == 1
    (tmp_path / "file").write_text("")
    assert "file is a file, and results cannot be written" in refused(capsys, *given, "-o", tmp_path / "file")


def test_what_is_not_drawn_again_goes(model_folder, toy_videos, tmp_path):
    """Older boxes beside newer results would belong to nothing."""
    given = ("detect", toy_videos.videos[0].path, "-o", tmp_path / "out", "--model", model_folder)
    assert run(*given) == 0 and run(*given, "--threshold", "0.9", "--no-draw") == 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".json"]


def test_what_camcorders_name_a_video_is_found_in_a_folder(model_folder, tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for name in ("00000.MTS", "clip.m2ts", "clip.r3d"):
        os.rename(video_file(tmp_path / "made.ts", 3), tmp_path / "in" / name)
    with caplog.at_level("INFO"):
        assert run("detect", tmp_path / "in", "-o", tmp_path / "out", "--model", model_folder, "--no-draw") == 0
    assert "left out: 1 file that no video is named like (.r3d)" in caplog.text and "clip.r3d" in caplog.text
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"00000.json", "clip.json"}


def test_two_videos_of_one_name_do_not_overwrite_each_other(model_folder, toy_videos, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "clip.mp4").write_bytes(toy_videos.videos[0].path.read_bytes())
    assert run("detect", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--model", model_folder, "--no-draw") == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_results_among_the_videos_and_an_error_of_the_program(model_folder, toy_videos, tmp_path, capsys, caplog, monkeypatch):
    for number in (1, 2, 3):
        (tmp_path / f"{number}.mp4").write_bytes(toy_videos.videos[number].path.read_bytes())
    for _ in range(2):  # the second run must not take the first one's videos for input, nor overwrite the sources
        assert run("detect", tmp_path, "-o", tmp_path, "--model", model_folder) == 0
    assert "left out: 3 annotated videos" in caplog.text
    names = [f"{number}-2.{suffix}" for number in (1, 2, 3) for suffix in ("csv", "json", "mp4")]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted([*names, "1.mp4", "2.mp4", "3.mp4"])
    real = pipeline.detect_steps

    def broken(file, *more):
        for step in real(file, *more):
            yield step
            if file.name == "2.mp4" and step.complete:
                raise IndexError("list index out of range")

    monkeypatch.setattr(pipeline, "detect_steps", broken)
    said = refused(capsys, "detect", tmp_path, "-o", tmp_path / "out", "--model", model_folder)
    assert "1 of 3 videos failed" in said and "2.mp4: an error of the program" in said and "list index" in said
    names = ["1.csv", "1.json", "1.mp4", "2.csv", "2.json", "3.csv", "3.json", "3.mp4"]  # what was found in 2 is kept
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_a_place_that_cannot_be_written_to_is_refused_before_work(model_folder, toy_videos, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(pipeline, "detect_steps", lambda *_: pytest.fail("work began"))
    said = refused(capsys, "detect", toy_videos.videos[0].path, "-o", tmp_path / "file", "--model", model_folder)
    assert "cannot be written" in said and (tmp_path / "file").read_text() == "mine"


def video_file(path, frames, size=(64, 48), pixel_format="yuv420p", codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        for index in range(frames):
            image = np.full((size[1], size[0], 3), 20 * index % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("frames", "size"), [(1, (64, 48)), (2, (4, 4)), (3, (16, 240))])
def test_short_and_tiny_videos_work(model_folder, tmp_path, frames, size):
    video = video_file(tmp_path / "small.mp4", frames, size)
    assert run("detect", video, "-o", tmp_path / "out", "--model", model_folder) == 0
    assert json.loads((tmp_path / "out" / "small.json").read_text())["frames"] == frames


def bad_files(folder):
    """Name, file and a word that the sentence must have."""
    (folder / "text.mp4").write_text("hello " * 100)
    (folder / "empty.mp4").write_bytes(b"")
    whole = video_file(folder / "whole.mp4", 20).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:10,\n/etc/hostname\n")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for _ in range(10):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return ["text.mp4", "empty.mp4", "cut.mp4", "playlist.mp4", "sound.mp4", "missing.mp4"]


def test_bad_videos_are_refused_by_name(model_folder, tmp_path, capsys):
    for name in bad_files(tmp_path):
        said = refused(capsys, "detect", tmp_path / name, "-o", tmp_path / "out", "--model", model_folder)
        assert name in said, said
        assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_no_video_at_all(tmp_path, capsys, model_folder):
    assert "no video" in refused(capsys, "detect", "--model", model_folder)
    (tmp_path / "notes.txt").write_text("x")
    assert "holds no video" in refused(capsys, "detect", tmp_path, "--model", model_folder)


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "nan"])
def test_a_threshold_out_of_range(threshold, model_folder, toy_videos, tmp_path, capsys):
    said = refused(capsys, "detect", toy_videos.videos[0].path, "-o", tmp_path, "--model", model_folder, "--threshold", threshold)
    assert "threshold" in said and threshold.lstrip("-") in said


def test_an_unknown_model_and_broken_ones(model_folder, toy_videos, tmp_path, capsys):
    video = toy_videos.videos[0].path
    assert "no-such-model" in refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", "no-such-model")
    broken = tmp_path / "broken"
    broken.mkdir()
    assert CONFIG in refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", broken)
    (broken / CONFIG).write_text((model_folder / CONFIG).read_text())
    assert WEIGHTS in refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", broken)
    (broken / WEIGHTS).write_bytes((model_folder / WEIGHTS).read_bytes()[:500])
    assert f"{WEIGHTS} is cut off" in refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", broken)
    assert not (tmp_path / "out").exists()


def _broken(tensors: dict, how: str) -> dict:
    name = "head.boxes.reg_preds.0.bias"
    changed = {
        "lacks": {k: v for k, v in tensors.items() if k != name},
        "unknown": tensors | {"head.more": torch.zeros(2)},
        "shape": tensors | {name: torch.zeros(5)},
        "NaN": tensors | {name: torch.full((4,), float("nan"))},
    }
    return changed[how]


@pytest.mark.parametrize("how", ["lacks", "unknown", "shape", "NaN", "version"])
def test_a_checkpoint_that_does_not_fit(how, model_folder, toy_videos, tmp_path, capsys):
    config, tensors = json.loads((model_folder / CONFIG).read_text()), load_file(model_folder / WEIGHTS)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / CONFIG).write_text(json.dumps(config | ({"version": 99} if how == "version" else {})))
    save_file(tensors if how == "version" else _broken(tensors, how), broken / WEIGHTS)
    said = refused(capsys, "detect", toy_videos.videos[0].path, "-o", tmp_path / "out", "--model", broken)
    assert how in said and ("99" if how == "version" else "head.") in said
    assert not (tmp_path / "out").exists()


def test_a_video_of_absurd_size(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mssc.video.container.MAX_SIDE", 60)  # a real one would fill the disk
    video = video_file(tmp_path / "wide.mp4", 2)
    assert "64x48" in refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", model_folder)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("what", ["input", "output"])
def test_no_permission(what, model_folder, tmp_path, capsys, monkeypatch):
    """Refused by a stand-in of the system call: the administrator, who runs tests in containers, may do everything."""
    video, allowed = video_file(tmp_path / "clip.mp4", 2), os.open

    def forbidden(path, *more: int, **named: object) -> int:
        if what == "input" and path != video:
            return allowed(path, *more, **named)
        raise PermissionError(13, "Permission denied")

    target = "mssc.video.container.os.open" if what == "input" else "mssc.files.Path.touch"
    monkeypatch.setattr(target, forbidden)
    said = refused(capsys, "detect", video, "-o", tmp_path / "out", "--model", model_folder)
    assert {"input": "clip.mp4", "output": "clip.json"}[what] in said and "no permission" in said
    assert not list(tmp_path.glob("out/*"))


def test_an_output_that_is_no_folder(model_folder, toy_videos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refused(capsys, "detect", toy_videos.videos[0].path, "-o", tmp_path / "file", "--model", model_folder)
    assert "file" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_full_disk_leaves_nothing(model_folder, toy_videos, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails as on a full disk
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
        said = refused(capsys, "detect", toy_videos.videos[0].path, "-o", tmp_path / "out", "--model", model_folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert f"{toy_videos.videos[0].path.stem}.mp4" in said
    assert not (tmp_path / "out").exists()


def test_evaluate_reports_every_protocol(model_folder, tmp_path, capsys, monkeypatch, toy_videos):
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
    assert run("evaluate", model_folder, "--dataset", "toy", "--data", tmp_path, "-o", tmp_path / "score.json") == 0
    result = json.loads((tmp_path / "score.json").read_text())
    for name in ("frame-mAP@0.5 (voc)", "frame-mAP@0.5 (act)", "frame-mAP@0.5 (yowo)", "video-mAP@0.5", "video-mAP@0.5:0.95"):
        assert 0 <= result[name] <= 1
    assert result["videos"] == 6 and result["command"].split()[0] == "mssc"


def test_training_without_data(tmp_path, capsys):
    assert "nowhere" in refused(capsys, "train", "--dataset", "jhmdb", "--data", tmp_path / "nowhere", "-o", tmp_path / "run")
