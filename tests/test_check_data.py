"""check-data, and training on your own videos from a model that knows other actions."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import run
from own_videos import write_folder, write_video
from PIL import Image
from test_video_kinds import later, remux

from mssc.data import check, custom
from mssc.data.catalogue import NAMES, load_dataset
from mssc.model.checkpoint import load_model, save_model
from mssc.model.mssc import MSSC
from mssc.structures import InputError
from mssc.video import drawing


def report_of(root, *parts):
    return check.check("test", {part: custom.load(root, part) for part in parts or ("train", "val")})


def test_a_good_folder_is_counted_and_drawn(tmp_path, caplog):
    root = write_folder(tmp_path / "own")
    with caplog.at_level("INFO"):
        assert run("check-data", "--dataset", "custom", "--data", root, "-o", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["usable"] and report["problems"] == []
    assert report["parts"]["train"] == {"videos": 2, "frames": 24, "tubes": 2, "bare": 8}
    assert report["classes"]["run"]["val"] == {"tubes": 1, "frames": 8, "videos": 1}
    assert report["sizes"]["tube, seconds"] == [0.8] * 5
    assert report["sizes"]["box, shorter side in pixels"] == [20.0] * 5
    assert all(video["decoded frames"] == 12 for video in report["videos"].values())
    sheet = np.asarray(Image.open(tmp_path / "out" / "boxes.png"))
    assert sheet.shape == (240 + 18, 4 * 320, 3)
    colours = {tuple(c) for c in drawing.class_colours(("jump", "run"))}
    assert colours <= {tuple(pixel) for pixel in sheet.reshape(-1, 3).tolist()}
    for word in ("Fit to be trained on", "run_1", "32 boxes in 4 of 4 videos", "frames without action"):
        assert word in caplog.text


def test_the_drawn_boxes_lie_where_they_belong(tmp_path):
    root = write_folder(tmp_path, ["a,3,16,12,48,36,run,"], ("a",))
    sheet = report_of(root, "trainval").sheet
    blue = np.array(drawing.class_colours(("run",))[0])
    rows, columns = np.nonzero((np.abs(sheet[:240, :320].astype(int) - blue) < 3).all(2))
    assert (columns.min(), columns.max() + 1, rows.max() + 1) == (80, 240, 180)  # five times 16, 48 and 36


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "videos" / "run_1.mp4").write_text("x"), "run_1.mp4 is annotated or listed but cannot be used"),
        (lambda root: (root / "videos" / "run_1.mp4").unlink(), "8 rows of 1 video not in the folder"),
        (lambda root: add(root, "run_1.mp4,40,1,1,9,9,run,b"), "is of frame 40, but run_1.mp4 has 12 frames"),
        (lambda root: add(root, "run_1.mp4,4,70,1,90,9,run,b"), "mostly outside"),
        (lambda root: add(root, "run_1.mp4,4"), "line 34 has 2 columns"),
        (lambda root: (root / "boxes.csv").write_text("video,frame\n"), "lacks the columns"),
    ],
)
def test_a_folder_that_cannot_be_used_exits_with_2(tmp_path, capsys, caplog, damage, says):
    root = write_folder(tmp_path / "own")
    damage(root)
    with caplog.at_level("INFO"):
        assert run("check-data", "--dataset", "custom", "--data", root, "-o", tmp_path / "out") == 2
    said = caplog.text + capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_a_misspelt_action_and_too_much_validation_are_hinted_at(tmp_path):
    names = [f"take{letter}" for letter in "abcdef"]
    rows = [f"{name},{frame},1,1,20,20,{'wlak' if name == 'takea' else 'walk'},{name}" for name in names for frame in (0, 5)]
    root = write_folder(tmp_path, rows, names)
    (root / "splits.csv").write_text(
        "".join(f"{name},{'val' if name in ('takeb', 'takec', 'taked') else 'train'}\n" for name in names)
    )
    said = " ".join(report_of(root).warnings)
    assert (
        "is the action 'wlak' (1 tube) a misspelt 'walk' (5)?" in said
        and "3 of 6 videos are for validation, which is much" in said
    )


def add(root, row):
    with (root / "boxes.csv").open("a") as file:
        file.write(row + "\n")


def test_all_problems_are_told_at_once(tmp_path, caplog):
    root = write_folder(tmp_path)
    add(root, "gone.mp4,0,1,1,9,9,run,b")
    add(root, "run_1.mp4,40,1,1,9,9,run,b")
    (root / "videos" / "jump_3.mp4").write_text("x")
    with caplog.at_level("INFO"):
        assert run("check-data", "--dataset", "custom", "--data", root) == 2
    assert caplog.text.count("PROBLEM: ") == 3


def test_a_video_that_is_cut_off(tmp_path):
    root = write_folder(tmp_path)
    data = custom.load(root, "trainval")
    long = replace(data.videos[0], frames=40, tubes=(replace(data.videos[0].tubes[0], start=30),))
    report = check.check("test", {"train": replace(data, videos=(long, *data.videos[1:]))})
    assert any("decodes to 12 frames, its boxes go on to frame 37" in line for line in report.warnings)


def test_a_video_that_shows_fewer_frames_than_it_claims(tmp_path, capsys, caplog):
    """Cut by an edit list: boxes are counted on what is shown, so those of its last frames are beyond it."""
    root = write_folder(tmp_path)
    whole = write_video(tmp_path / "whole.mp4", frames=20)
    remux(whole, root / "videos" / "run_1.mp4", later(-0.8))
    report = report_of(root, "trainval")
    assert report.videos["run_1.mp4"]["decoded frames"] == 12 and not report.problems
    assert any(
        "1 videos show another number" in line and "run_1.mp4 (12, its header says 20)" in line for line in report.warnings
    )
    remux(whole, root / "videos" / "run_1.mp4", later(-1.2))
    assert run("check-data", "--dataset", "custom", "--data", root) == 2
    assert "run_1.mp4 has 8 frames" in caplog.text + capsys.readouterr().err


def test_duplicate_tubes(tmp_path):
    rows = [
        f"a,{frame},{5 + shift},5,30,40,run,{track}" for frame in range(9) for track, shift in (("1", 0), ("2", 0.4), ("3", 20))
    ]
    report = report_of(write_folder(tmp_path, rows, ("a",)), "trainval")
    assert [line for line in report.warnings if "same tube twice" in line] == [
        "a.mp4 has the same tube twice from frame 0 on; remove one."
    ]


def test_leaks_by_picture_and_by_name(tmp_path):
    root = write_folder(tmp_path, videos=("run_1", "run_2", "jump_3", "jump_4", "other_5"))
    write_video(root / "videos" / "jump_3.mp4", frames=14, seed=0)  # the same film as run_1, encoded anew
    (root / "splits.csv").write_text("run_1,train\nrun_2,val\njump_3,val\njump_4,val\nother_5,train\n")
    warnings = "\n".join(report_of(root).warnings)
    assert "1 sources are in several parts as far as names tell, such as run_1.mp4 (train) and run_2.mp4 (val)" in warnings
    assert (
        "1 pairs of videos in different parts begin with nearly the same picture" in warnings and "jump_3.mp4 (val)" in warnings
    )
    (root / "splits.csv").write_text("run_1,train\nrun_2,train\njump_3,train\njump_4,train\nother_5,val\n")
    assert "picture" not in "\n".join(report_of(root).warnings)


def test_copies_of_annotated_videos_are_no_background(tmp_path, caplog):
    """Small proxies that cameras write beside a film, and a film beside its frames."""
    root = write_folder(tmp_path)
    write_video(root / "videos" / "proxy.lrv.mp4", seed=0, frames=13)
    write_video(root / "videos" / "other_6.mp4", seed=6)
    write_video(root / "videos" / "run_2.mov", seed=7)
    warnings = "\n".join(report_of(root, "trainval").warnings)
    assert (
        "1 video without a box, but with the first picture and the length of one that has boxes: proxy.lrv.mp4 is like run_1.mp4"
        in warnings
    )
    assert "have the name of one that has boxes; remove copies, they are no background: run_2.mov beside run_2.mp4" in caplog.text


def test_the_hash_knows_a_picture_again_but_not_another(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [np.asarray(Image.fromarray(rng.integers(0, 255, (5, 6, 3), np.uint8)).resize((160, 120), 3)) for _ in range(2)]
    small = np.asarray(Image.fromarray(pictures[0]).resize((100, 80), 2)).astype(int)
    again = np.clip(small + rng.integers(-8, 9, small.shape), 0, 255).astype(np.uint8)
    one, other, same = check.frame_hash(pictures[0]), check.frame_hash(pictures[1]), check.frame_hash(again)
    assert (one != same).mean() <= check.SAME_FRAME < 0.3 < (one != other).mean()
    assert check.frame_hash(np.zeros((50, 50, 3), np.uint8)) is None  # black tells nothing


def test_every_name_of_the_catalogue_and_no_other(tmp_path):
    with pytest.raises(InputError, match="no data set 'kinetics'; use one of jhmdb"):
        load_dataset("kinetics", tmp_path)
    with pytest.raises(InputError, match="only jhmdb has several"):
        load_dataset("ava", tmp_path, split=2)
    for name in set(NAMES) - {"toy"}:
        with pytest.raises(InputError):
            load_dataset(name, tmp_path / "nowhere")


def test_training_on_own_videos_from_a_model_of_other_classes(tmp_path, tiny_config, caplog, capsys):
    root = write_folder(tmp_path / "own")
    save_model(MSSC(tiny_config).eval(), tmp_path / "start")
    train = ("--epochs", "1", "--batch", "2", "--clip-length", "4", "--keys", "2", "--workers", "0")
    run_it = ("train", "--dataset", "custom", "--data", root, "-o", tmp_path / "run", "--start", tmp_path / "start", *train)
    assert run(*run_it, "--model.motion", "none") == 0
    model = load_model(tmp_path / "run" / "model")
    assert model.config == replace(tiny_config, classes=("jump", "run"), motion="none")
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(metrics[-1]["loss"]) and 0 <= metrics[-1]["frame_map"] <= 1
    said = caplog.text + capsys.readouterr().err
    assert re.search(r"epoch 1: (\w+ [\d.e-]+, )+\w+ [\d.e-]+\n", said) and re.search(
        r"2 videos to learn from, 1 step, into", said
    )
    assert not re.search(r"np\.|best=-|\b1 \w+s\b|\b0(\.0)? .B", said)


def test_actors_with_several_actions_train_a_multilabel_model(tmp_path):
    rows = [f"{v},{f},5,5,30,40,{a},1" for v in ("run_1", "run_2", "jump_3", "jump_4") for f in range(4) for a in ("go", v[:3])]
    root = write_folder(tmp_path / "own", rows)
    small = ("--model.key-size", "64", "--model.clip-size", "32", "--model.width", "16", "--model.hidden", "16", "--mixup", "0")
    train = ("--epochs", "1", "--batch", "2", "--clip-length", "4", "--keys", "1", "--workers", "0")
    assert run("train", "--dataset", "custom", "--data", root, "-o", tmp_path / "run", *small, *train) == 0
    assert load_model(tmp_path / "run" / "model").config.actions == "multilabel"


def test_what_was_said_while_reading_is_in_the_report(tmp_path, caplog):
    root = write_folder(tmp_path / "own")
    (root / "videos" / "more").mkdir()
    (root / "videos" / "more" / "x.mp4").write_bytes((root / "videos" / "run_1.mp4").read_bytes())
    with caplog.at_level("INFO"):
        assert run("check-data", "--dataset", "custom", "--data", root, "-o", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["usable"] and any("learnt as background" in sentence for sentence in report["warnings"])
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(sentence in report["warnings"] for sentence in logged)
    assert f"Fit to be trained on, if what the lines above say ({len(report['warnings'])} warning" in caplog.text
