"""Tiny folders as published; the real ones where MSSC_DATA names them."""

import logging
import os
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mssc.data import ucf101_24
from mssc.data.catalogue import load_dataset
from mssc.structures import InputError

DUNK = "BasketballDunk/v_BasketballDunk_g{:02d}_c{:02d}"
SURF = "Surfing/v_Surfing_g{:02d}_c{:02d}"


def tube(label=1, start=2, frames=4, box=(10, 20, 30, 40)):
    boxes = np.array([box] * frames, np.uint8)
    return {"label": label, "sf": start, "ef": start + frames, "boxes": boxes}


def entry(label=1, frames=10, tubes=None):
    return {"numf": np.uint8(frames), "label": label, "annotations": [tube(label)] if tubes is None else tubes}


def content():
    """Groups 1 (test), 8 (val), 9 and 10 (train) of two classes."""
    names = {DUNK.format(group, 1): entry() for group in (1, 8, 9)}
    return names | {SURF.format(group, 1): entry(19) for group in (1, 8, 10)}


def video_file(path: Path, frames: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
        for index in range(frames):
            image.pts = index
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def frame_folder(path: Path, frames: int = 10) -> None:
    path.mkdir(parents=True)
    for index in range(1, frames + 1):
        Image.new("RGB", (320, 240)).save(path / f"{index:05d}.jpg")


def write(root: Path, data: dict, lists: bool = True) -> Path:
    root.mkdir(exist_ok=True)
    (root / "pyannot.pkl").write_bytes(pickle.dumps(data, 2))
    if lists:
        (root / "testlist01.txt").write_text("".join(f"{name}\n" for name in data if "_g01_" in name))
    for name in data:
        frame_folder(root / "rgb-images" / name)
    return root


def names(dataset):
    return {video.name for video in dataset.videos}


def test_reads_videos_with_background_and_several_tubes(tmp_path):
    data = content()
    data[DUNK.format(9, 1)] = entry(tubes=[tube(start=0, frames=3), tube(start=7, frames=3), tube(start=1, box=(100, 50, 9, 9))])
    loaded = ucf101_24.load(write(tmp_path, data))
    assert loaded.classes == ucf101_24.CLASSES and len(loaded.classes) == 24 and list(loaded.classes) == sorted(loaded.classes)
    video = loaded.videos[0]
    assert (video.name, video.frames, video.width, video.height, video.rate) == (DUNK.format(9, 1), 10, 320, 240, 25)
    assert [(t.label, t.start, t.stop) for t in video.tubes] == [(1, 0, 3), (1, 7, 10), (1, 1, 5)]
    np.testing.assert_array_equal(video.tubes[0].boxes[0], [10, 20, 40, 60])  # x, y, w, h to corners, beyond a byte's 255 too
    assert [len(video.boxes_at(frame)[0]) for frame in range(10)] == [1, 2, 2, 1, 1, 0, 0, 1, 1, 1]


def test_small_integers_do_not_wrap(tmp_path):
    data = content()
    data[DUNK.format(9, 1)] = entry(tubes=[tube(box=(200, 100, 100, 100))])  # uint8: 200 + 100 would be 44
    np.testing.assert_array_equal(ucf101_24.load(write(tmp_path, data)).videos[0].tubes[0].boxes[0], [200, 100, 300, 200])


@pytest.mark.parametrize("lists", [True, False])
def test_parts_are_disjoint_by_group(tmp_path, lists):
    root = write(tmp_path, content(), lists)
    parts = {part: names(ucf101_24.load(root, part)) for part in ucf101_24.PARTS}
    assert parts["test"] == {DUNK.format(1, 1), SURF.format(1, 1)}
    assert parts["val"] == {DUNK.format(8, 1), SURF.format(8, 1)}
    assert parts["train"] == {DUNK.format(9, 1), SURF.format(10, 1)}
    assert parts["trainval"] == parts["train"] | parts["val"]


def test_official_lists_may_have_suffixes_and_numbers(tmp_path):
    root = write(tmp_path, content())
    (root / "testlist01.txt").write_text(f"{DUNK.format(1, 1)}.avi 2\n\n")
    (root / "trainlist01.txt").write_text(f"{DUNK.format(9, 1)}.avi 2\n{SURF.format(10, 1)}.avi 20\n")
    assert names(ucf101_24.load(root, "test")) == {DUNK.format(1, 1)}
    assert names(ucf101_24.load(root, "trainval")) == {DUNK.format(9, 1), SURF.format(10, 1)}


def test_missing_videos_are_named_and_left_out(tmp_path, caplog):
    data = content()
    root = write(tmp_path, data)
    for image in (root / "rgb-images" / DUNK.format(9, 1)).iterdir():
        image.unlink()
    (root / "rgb-images" / DUNK.format(9, 1)).rmdir()
    with caplog.at_level(logging.WARNING):
        assert names(ucf101_24.load(root)) == {SURF.format(10, 1)}
    assert "1 of 2 annotated videos" in caplog.text and DUNK.format(9, 1) in caplog.text
    with pytest.raises(InputError, match="1 of 2 annotated videos.*g09"):
        ucf101_24.load(root, missing="error")
    (root / "rgb-images").rename(root / "elsewhere")
    with pytest.raises(InputError, match="2 of 2.*one video at least"):
        ucf101_24.load(root)


def test_a_video_file_one_frame_short_is_clamped(tmp_path, caplog):
    data = {DUNK.format(9, 1): entry(tubes=[tube(start=5, frames=5), tube(start=9, frames=1)]), DUNK.format(1, 1): entry()}
    root = write(tmp_path, data)
    video_file(root / "videos" / f"{DUNK.format(9, 1)}.mp4", 9)
    with caplog.at_level(logging.WARNING):
        (video,) = ucf101_24.load(root, "trainval").videos
    assert video.path.suffix == ".mp4" and video.rate == Fraction(30000, 1001)  # its own rate, where the file says
    assert video.frames == 9 and [(t.start, t.stop) for t in video.tubes] == [(5, 9)]
    assert "1 videos have fewer frames" in caplog.text and DUNK.format(9, 1) in caplog.text


def matlab(path: Path, data: dict) -> None:
    """finalAnnots.mat: num_imgs, name, tubes (ef, sf, class, boxes), counted from 1."""
    tube_type = [("ef", object), ("sf", object), ("class", object), ("boxes", object)]
    annot = np.zeros((1, len(data)), [("num_imgs", object), ("name", object), ("tubes", object)])
    for index, (name, item) in enumerate(data.items()):
        tubes = np.zeros((1, len(item["annotations"])), tube_type)
        for number, t in enumerate(item["annotations"]):
            tubes[0, number] = (t["ef"], t["sf"] + 1, t["label"] + 1, t["boxes"].astype(float))
        annot[0, index] = (int(item["numf"]), name, tubes)
    savemat(path, {"annot": annot})


def test_matlab_file_gives_the_same(tmp_path):
    data = content()
    data[DUNK.format(9, 1)] = entry(tubes=[tube(), tube(start=0, frames=1)])
    root = write(tmp_path, data)
    wanted = ucf101_24.load(root, "trainval")
    (root / "pyannot.pkl").unlink()
    matlab(root / "finalAnnots.mat", data)
    found = ucf101_24.load(root, "trainval")
    assert [(v.name, v.frames) for v in found.videos] == [(v.name, v.frames) for v in wanted.videos]
    for one, other in zip(found.videos, wanted.videos, strict=True):
        assert [(t.label, t.start) for t in one.tubes] == [(t.label, t.start) for t in other.tubes]
        for a, b in zip(one.tubes, other.tubes, strict=True):
            np.testing.assert_array_equal(a.boxes, b.boxes)
    (root / "finalAnnots.mat").write_bytes(b"nothing")
    with pytest.raises(InputError, match="must hold annot"):
        ucf101_24.load(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"numf": None}, "does not describe.*g09"),
        ({"annotations": [tube(label=24)]}, "label 24"),
        ({"annotations": [tube(start=-1)]}, "from frame -1"),
        ({"annotations": [{**tube(), "ef": 9}]}, "4 boxes for the frames 2 to 8"),
        ({"annotations": [tube(box=(10, 20, 0, 40))]}, "frame 2 .*no box inside 320x240"),
        ({"annotations": [{**tube(), "boxes": np.full((4, 4), np.nan)}]}, "no box inside"),
        ({"annotations": [{**tube(), "boxes": np.zeros((4, 3))}]}, r"shape \(4, 3\)"),
    ],
)
def test_damaged_annotations_are_refused_by_name(tmp_path, change, says):
    data = content()
    data[DUNK.format(9, 1)] = entry() | change
    with pytest.raises(InputError, match=says):
        ucf101_24.load(write(tmp_path, data))


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_in_it_runs_nothing(tmp_path):
    canary = tmp_path / "made"
    (tmp_path / "pyannot.pkl").write_bytes(pickle.dumps({"x": Attack(canary)}))
    with pytest.raises(InputError, match=r"pyannot.pkl was refused: .*mkdir"):
        ucf101_24.load(tmp_path)
    assert not canary.exists()


def test_bad_arguments_and_folders(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        ucf101_24.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither pyannot.pkl nor finalAnnots.mat"):
        ucf101_24.load(tmp_path)
    for call in ({"part": "all"}, {"split": 2}, {"missing": "no"}):
        with pytest.raises(InputError, match="use one of"):
            ucf101_24.load(tmp_path, **call)


@pytest.mark.data
def test_real_videos():
    root = Path(os.environ["MSSC_DATA"])
    whole = load_dataset("ucf101-24", root, "trainval")
    parts = [load_dataset("ucf101-24", root, part) for part in ("train", "val")]
    assert len(whole) == 144 and sum(map(len, parts)) == 144 and not names(parts[0]) & names(parts[1])
    groups = [{(v.name.split("/")[0], ucf101_24.group(v.name)) for v in part.videos} for part in parts]
    assert not groups[0] & groups[1]
    dunks = [video for video in whole.videos if video.name.startswith("BasketballDunk")]
    acting = sum(sum(len(video.boxes_at(frame)[0]) > 0 for frame in range(video.frames)) for video in dunks)
    assert len(dunks) == 93 and 0.3 < acting / sum(video.frames for video in dunks) < 0.7
