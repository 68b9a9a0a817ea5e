"""AVA's files as published, tiny; the real ones where MSSC_DATA names them."""

import logging
import os
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import test_video
import torch
from PIL import Image

from mssc import video as video_files
from mssc.config import TrainConfig
from mssc.data import Dataset, Video, ava
from mssc.data.cache import FrameCache
from mssc.data.catalogue import load_dataset, several_at_once
from mssc.data.clips import BatchOrder, ClipDataset, collate, reach
from mssc.model.mssc import MSSC
from mssc.structures import InputError, Tube
from mssc.training.loop import validate

ROW = "film,0902,0.250,0.100,0.500,0.900"
ROWS = [f"{ROW},12,1", f"{ROW},80,1", "film,0903,0.000,0.000,1.000,1.000,79,2", "other,0902,0.1,0.1,0.2,0.2,12,1"]
ITEMS = 'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\nitem {\n  name: "stand"\n  id: 12\n}\nitem { name: "talk to" id: 79 }\n'
LABELS = (
    'label {\n  name: "stand"\n  label_id: 12\n  label_type: PERSON_MOVEMENT\n}\nlabel {\n  name: "watch"\n  label_id: 80\n}\n'
)


def write(root: Path, rows=ROWS, part="train", version="v2.2") -> Path:
    place = root / "annotations"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"ava_{part}_{version}.csv").write_text("\n".join(rows))  # the real ones end without a line break
    (place / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(ITEMS)
    (place / "ava_action_list_v2.2.pbtxt").write_text(LABELS + 'label { name: "talk to" label_id: 79 }')
    (place / f"ava_{part}_excluded_timestamps_v2.2.csv").write_text("film,0903\nother,1000\n")
    return root


def frames(root: Path, name: str, count: int, size=(64, 48)) -> None:
    (root / "frames" / name).mkdir(parents=True)
    for index in range(1, count + 1):
        Image.new("RGB", size).save(root / "frames" / name / f"{name}_{index:06d}.jpg")


def test_rows_are_read_as_they_stand(tmp_path):
    write(tmp_path)
    rows = ava.read_rows(tmp_path / "annotations" / "ava_train_v2.2.csv")
    assert rows.videos == ("film", "other") and rows.video.tolist() == [0, 0, 0, 1]
    assert rows.second.tolist() == [902, 902, 903, 902] and rows.action.tolist() == [12, 80, 79, 12]
    assert rows.person.tolist() == [1, 1, 2, 1]
    np.testing.assert_array_equal(rows.boxes[0], [0.25, 0.1, 0.5, 0.9])


def test_both_dialects_of_class_lists(tmp_path):
    for text, wanted in (
        (ITEMS, {1: "bend/bow (at the waist)", 12: "stand", 79: "talk to"}),
        (LABELS, {12: "stand", 80: "watch"}),
    ):
        (tmp_path / "list.pbtxt").write_text(text)
        assert ava.read_classes(tmp_path / "list.pbtxt") == wanted
    for text, says in (("", "lists no action"), (LABELS + LABELS, "12 more than once"), ("item { id: 3 }", "entry 1 lacks")):
        (tmp_path / "list.pbtxt").write_text(text)
        with pytest.raises(InputError, match=says):
            ava.read_classes(tmp_path / "list.pbtxt")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no box"),
        ([ROW], "line 1 has 6 columns, 7 or 8"),
        ([f"{ROW},12", f"{ROW},12,1,7"], "line 2 has 9 columns"),
        ([f"{ROW},12", f"{ROW},x"], "line 2: the action is 'x', which is no number"),
        (["film,902,nan,0.1,0.5,0.9,12"], "NaN"),
        (["film,902,10,20,50,90,12"], "are they pixels"),
        (["film,902,0.5,0.1,0.25,0.9,12"], "x2 < x1"),
        (["film,902.5,0.1,0.1,0.25,0.9,12"], "no whole number"),
        (["film,902,0.1,0.1,0.25,0.9,0"], "action below 1"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, rows, says):
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match=f"rows.csv.*{says}"):
        ava.read_rows(tmp_path / "rows.csv")


def test_rows_that_repeat_others_or_are_empty_cost_themselves_alone(tmp_path, caplog):
    (tmp_path / "rows.csv").write_text("\n".join([f"{ROW},12", f"{ROW},13", f"{ROW},12", "film,0902,0.5,0.1,0.5,0.9,12"]))
    assert ava.read_rows(tmp_path / "rows.csv").action.tolist() == [12, 13]
    assert "2 rows without area or that repeat others are left out, the first in line 3" in caplog.text


def test_tabs_and_rows_without_boxes(tmp_path):
    (tmp_path / "rows.csv").write_text("film\t904\t0.1\t0.1\t0.5\t0.5\t11\n")
    assert ava.read_rows(tmp_path / "rows.csv").person.tolist() == [-1]
    (tmp_path / "rows.csv").write_text(f"film,901,,,,,\n{ROW},11\n")
    assert ava.read_rows(tmp_path / "rows.csv").second.tolist() == [902]


def test_the_newest_rows_are_found_with_their_actions_and_exclusions(tmp_path):
    write(tmp_path, version="v2.1")
    place = tmp_path / "annotations"
    excluded = place / "ava_train_excluded_timestamps_v2.2.csv"
    listed = place / "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
    assert ava.annotation_files(tmp_path, "train") == (place / "ava_train_v2.1.csv", listed, excluded)
    write(tmp_path)
    excluded.unlink()
    assert ava.annotation_files(tmp_path, "train") == (place / "ava_train_v2.2.csv", listed, None)
    listed.unlink()
    with pytest.raises(InputError, match="the list of 60 actions; put it beside ava_train_v2.2.csv"):
        ava.annotation_files(tmp_path, "train")
    with pytest.raises(InputError, match="ava_val_v2.2.csv"):
        ava.annotation_files(tmp_path, "val")
    with pytest.raises(InputError, match="train, val, test"):
        ava.annotation_files(tmp_path, "trainval")


def test_frames_of_the_quarter_of_an_hour(tmp_path, caplog):
    write(tmp_path)
    frames(tmp_path, "film", 70)
    with caplog.at_level(logging.WARNING):
        data = load_dataset("ava", tmp_path, "train")
    assert "1 of 2 annotated videos" in caplog.text and "other" in caplog.text
    (video,) = data.videos
    assert data.classes == ("bend/bow (at the waist)", "stand", "talk to")
    assert video.labelled == (60,) and video.rate == 30 and (video.width, video.height) == (64, 48)
    ((tube,),) = [video.tubes]
    assert (tube.label, tube.start, len(tube)) == (1, 60, 1)
    np.testing.assert_allclose(tube.boxes[0], [16, 4.8, 32, 43.2], rtol=1e-6)
    write(tmp_path, [*ROWS, f"{ROW},79,1"])
    assert not several_at_once(data) and several_at_once(ava.load(tmp_path, "train"))
    with pytest.raises(InputError, match="1 of 2.*other"):
        ava.load(tmp_path, missing="error")


def test_key_frames_come_at_the_true_rate(tmp_path):
    rate = Fraction(24000, 1001)
    write(tmp_path, [f"film,{second},0.1,0.1,0.5,0.5,12,1" for second in (901, 902, 904, 950)])
    (tmp_path / "videos").mkdir()
    with video_files.Writer(tmp_path / "videos" / "film.mp4", 64, 48, rate) as writer:
        for _ in range(110):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    (video,) = ava.load(tmp_path).videos
    assert video.rate == rate and video.labelled == (24, 48, 96)  # round(s * 23.976); 950 s is beyond the end


def test_key_frames_of_a_variable_rate_are_those_shown_then(tmp_path):
    """Ten frames a second for two seconds, then fifty; one picture that stands from 3.5 s to 4.3 s."""
    times = [*np.arange(20) / 10, *(2 + np.arange(76) / 50), 4.3, 4.32]
    write(tmp_path, [f"film,{second},0.1,0.1,0.5,0.5,12,1" for second in (900, 901, 902, 904)])
    (tmp_path / "videos").mkdir()
    test_video.make(tmp_path / "videos" / "film.mp4", frames=len(times), times=times)
    (video,) = ava.load(tmp_path).videos
    assert video.frames == len(times) and video.labelled == (0, 10, 20, 95)


def test_a_clip_whose_seconds_count_from_0(tmp_path):
    write(tmp_path, [f"film,{second},0.1,0.1,0.5,0.5,12,1" for second in (0, 1, 3)])
    (tmp_path / "videos").mkdir()
    test_video.make(tmp_path / "videos" / "film.mp4", frames=40, rate=Fraction(10))
    assert ava.load(tmp_path).videos[0].labelled == (0, 10, 30)


@pytest.mark.parametrize("number", [1, 5])
def test_images_that_are_missing_would_shift_all_others(tmp_path, number):
    write(tmp_path)
    frames(tmp_path, "film", 70)
    for lost in (number, 2):
        (tmp_path / "frames" / "film" / f"film_{lost:06d}.jpg").unlink()
    with pytest.raises(InputError, match="lacks images before film_000003.jpg; key frames are found by counting"):
        ava.load(tmp_path, "train")


def test_two_files_of_one_name(tmp_path, caplog):
    write(tmp_path)
    (tmp_path / "videos").mkdir()
    for suffix in ("mkv", "mp4"):
        test_video.make(tmp_path / "videos" / f"film.{suffix}", frames=70)
    (tmp_path / "videos" / "._film.mp4").write_bytes(b"")
    (video,) = ava.load(tmp_path, "train").videos
    assert video.path.name == "film.mp4" and "film.mkv and film.mp4 have one name; the second is taken" in caplog.text


def test_a_film_too_short_for_its_key_frames(tmp_path):
    frames(write(tmp_path), "film", 20)
    with pytest.raises(InputError, match="lasts 1 s, but its key frames are at 902"):
        ava.load(tmp_path)


def make(labelled, count=60, frames_in_all=80):
    tubes = tuple(Tube(0, 1.0, frame, [[4.0, 4, 20, 30]]) for frame in labelled)
    return tuple(Video(f"v{i}", Path(f"v{i}"), frames_in_all, 64, 48, Fraction(25), tubes, tuple(labelled)) for i in range(count))


class Pictures(FrameCache):
    """Frames whose colour is their number."""

    def __init__(self, count):
        self.count = count

    def length(self, name):
        return self.count

    def size(self, name):
        return 48, 64

    def clip(self, name, indices, crop):
        return torch.tensor(indices.astype(np.uint8))[:, None, None, None].expand(-1, *crop[2:], 3).contiguous()


@pytest.mark.parametrize("labelled", [(40,), (0,), (79,), (3, 30, 76)])
def test_key_frames_of_clips_are_labelled_ones(tiny_config, labelled):
    data = Dataset("sparse", tiny_config.classes, make(labelled))
    clips = ClipDataset(data, Pictures(80), tiny_config, TrainConfig(clip_length=16, keys=3, batch=10, background=1.0))
    seen: Counter[int] = Counter()
    for items in BatchOrder(len(clips), 10, 0):
        samples = [clips[item] for item in items]
        batch = collate([replace(one, view=replace(one.view, colour=None)) for one in samples], clips.cache, 64)
        assert batch.keys.shape == (10, 1) and batch.actions.any(2).any(1).all()  # every key frame has its boxes
        values = batch.clip[:, 0, :, 0, 0]
        assert (values.diff(dim=1).int() >= 0).all()
        seen.update(values.gather(1, batch.keys).flatten().tolist())
    assert seen == dict.fromkeys(labelled, len(data))  # each once an epoch


def test_other_data_sets_give_the_clips_they_gave(toy_videos, toy_cache, tiny_config):
    # labelled in every frame is not the same as unlabelled: only the latter is dense, and unchanged by the other way
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, TrainConfig(clip_length=8, keys=2))
    assert clips[(0, 7, 3)].keys.shape == (2,)
    marked = replace(toy_videos.videos[0], labelled=(1,))
    sparse = ClipDataset(Dataset("s", toy_videos.classes, (marked,)), toy_cache, tiny_config, TrainConfig(clip_length=8, keys=2))
    assert sparse[(0, 7, 3)].keys.shape == (1,) and (sparse[(0, 7, 3)].frames == sparse[(0, 7, 3)].frames).all()


def test_training_finds_all_it_asks_for_in_the_cut_cache(tmp_path, tiny_config):
    # a film of a minute of which three seconds are labelled, at AVA's own rate of frames
    write(tmp_path, [f"film,{second},0.1,0.1,0.9,0.9,12,1" for second in (905, 906, 950)])
    (tmp_path / "videos").mkdir()
    with video_files.Writer(tmp_path / "videos" / "film.mp4", 64, 48, Fraction(30)) as writer:
        for number in range(1800):
            writer.write(np.full((48, 64, 3), number % 250, np.uint8))
    data = replace(ava.load(tmp_path), classes=tiny_config.classes)
    train = TrainConfig(clip_length=16, keys=3, batch=1)
    cache = FrameCache.build(data, tmp_path / "cache", progress=False, reach=reach(tiny_config, train))
    (file,) = (tmp_path / "cache").glob("frames-*.bin")
    assert file.stat().st_size == ((24 + 30 + 25) + 49) * 48 * 64 * 3  # of 1800 frames
    clips = ClipDataset(data, cache, tiny_config, train)
    for seed in range(60):
        sample = clips[(seed % len(clips), seed, seed)]
        assert len(sample.keys) == 1 and [len(boxes) for boxes, _ in sample.targets] == [1]
        cache.clip(sample.video, sample.frames, sample.view.crop)
    torch.manual_seed(0)
    score = validate(MSSC(tiny_config).eval(), data, cache, 1)
    assert 0 <= score["frame_map"] <= 1


@pytest.mark.parametrize("labelled", [(), (80,), (-1,)])
def test_labelled_frames_must_exist(labelled):
    with pytest.raises(InputError, match="80 frames, of which"):
        replace(make((40,))[0], labelled=labelled)


@pytest.mark.data
def test_real_rows():
    root = Path(os.environ["MSSC_DATA"]) / "ava"
    start = time.monotonic()
    rows = ava.read_rows(root / "AVA-II_ava_val_v2.1.csv")
    assert len(rows) in (93_399, 93_400) and len(rows.videos) == 64 and time.monotonic() - start < 10  # the last line has no end
    assert rows.action.min() == 1 and rows.action.max() == 14 and set(np.unique(rows.person)) == {-1}
    assert len(ava.read_rows(root / "ava_val_v2.2_first75rows_sample.csv")) == 75
    assert len(ava.read_rows(root / "ava_test_v1.0.csv")) == 41_425
    for file in sorted(root.glob("*.pbtxt*")):
        names = ava.read_classes(file)
        assert len(names) == (60 if "activitynet" in file.name else 80) and max(names) == 80
    _, listed, excluded = ava.annotation_files(root, "val")
    assert len(ava.read_classes(listed)) == 60 and excluded is not None and len(ava.read_excluded(excluded)) == 37
