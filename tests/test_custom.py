"""Your own videos: what is understood, and what is refused with which words."""

import logging
import re
from contextlib import suppress

import numpy as np
import pytest
from own_videos import HEADER, write_folder, write_video
from PIL import Image

from mssc.data import custom
from mssc.data.annotations import table
from mssc.data.catalogue import load_dataset, several_at_once
from mssc.data.decoding import decode
from mssc.data.media import look
from mssc.structures import InputError


def load(root, part="trainval"):
    return load_dataset("custom", root, part)


def spans(video):
    return [(tube.label, tube.start, tube.stop) for tube in video.tubes]


def test_a_folder_of_videos_and_a_csv(tmp_path):
    data = load(write_folder(tmp_path))
    assert data.classes == ("jump", "run") and [v.name for v in data.videos] == [
        "jump_3.mp4",
        "jump_4.mp4",
        "run_1.mp4",
        "run_2.mp4",
    ]
    video = data.videos[0]
    assert (video.frames, video.width, video.height, video.rate) == (12, 64, 48, 10)
    assert spans(video) == [(0, 2, 10)] and video.labelled is None
    np.testing.assert_array_equal(video.tubes[0].boxes[[0, 7]], [[12, 5, 32, 40], [19, 5, 39, 40]])


def test_without_header_with_semicolons_and_a_byte_order_mark(tmp_path):
    root = write_folder(tmp_path, videos=("a",))
    (root / "boxes.csv").write_text("\ufeffa;3;1;2;11;12;run\na;4;1;2;11;12;run\n", encoding="utf-8")
    assert spans(load(root).videos[0]) == [(0, 3, 5)]


def test_columns_in_any_order_if_named(tmp_path):
    root = write_folder(tmp_path, videos=("a",))
    (root / "boxes.csv").write_text("action,video,y2,x2,y1,x1,frame\nrun,videos.mp4,9,9,1,2,0\n".replace("videos.mp4", "a.mp4"))
    np.testing.assert_array_equal(load(root).videos[0].tubes[0].boxes, [[2, 1, 9, 9]])


def test_tracks_are_interpolated_between_annotated_frames(tmp_path):
    rows = ["a,0,0,0,10,10,run,1", "a,4,8,0,18,10,run,1", "a,8,8,8,18,18,run,1"]
    video = load(write_folder(tmp_path, rows, ("a",))).videos[0]
    assert spans(video) == [(0, 0, 9)]
    np.testing.assert_allclose(
        video.tubes[0].boxes[[1, 2, 4, 6]], [[2, 0, 12, 10], [4, 0, 14, 10], [8, 0, 18, 10], [8, 4, 18, 14]]
    )


def test_a_gap_in_dense_annotation_ends_a_tube(tmp_path):
    rows = [f"a,{frame},0,0,10,10,run,1" for frame in (0, 1, 2, 4, 8, 9)]
    assert spans(load(write_folder(tmp_path, rows, ("a",))).videos[0]) == [(0, 0, 5), (0, 8, 10)]


def test_boxes_without_tracks_are_linked_by_overlap(tmp_path):
    # two people who pass each other in time, never near: the rows' order in a frame must not matter
    rows = []
    for frame in range(6):
        pair = [f"a,{frame},{frame},0,{frame + 12},20,run,", f"a,{frame},{40 - frame},20,{52 - frame},44,run,"]
        rows += pair if frame % 2 else pair[::-1]
    video = load(write_folder(tmp_path, rows, ("a",))).videos[0]
    assert spans(video) == [(0, 0, 6), (0, 0, 6)]
    assert sorted(tube.boxes[-1].tolist() for tube in video.tubes) == [[5, 0, 17, 20], [35, 20, 47, 44]]


def test_one_actor_with_two_actions(tmp_path):
    rows = [f"a,{frame},0,0,10,10,{action},1" for frame in range(3) for action in ("run", "wave")]
    data = load(write_folder(tmp_path, rows, ("a",)))
    assert spans(data.videos[0]) == [(0, 0, 3), (1, 0, 3)] and several_at_once(data)


def test_videos_without_a_row_are_background(tmp_path, caplog):
    root = write_folder(tmp_path)
    write_video(root / "videos" / "empty.mp4", seed=9)
    with caplog.at_level(logging.INFO):
        data = load(root)
    assert [v.name for v in data.videos if not v.tubes] == ["empty.mp4"]
    assert "1 of 5 trainval videos have no box" in caplog.text and "empty.mp4" in caplog.text


def test_frame_folders_subfolders_and_names_without_suffix(tmp_path):
    root = write_folder(tmp_path, ["deep/b,0,1,1,9,9,run,", "clip,2,1,1,9,9,run,"], ())
    (root / "videos" / "deep").mkdir()
    write_video(root / "videos" / "deep" / "b.mp4")
    (root / "videos" / "clip").mkdir()
    for index in range(1, 5):
        Image.new("RGB", (20, 10)).save(root / "videos" / "clip" / f"{index:05d}.jpg")
    data = load(root)
    assert [(v.name, v.frames) for v in data.videos] == [("clip", 4), ("deep/b.mp4", 12)]


def test_boxes_are_cut_at_the_frame_and_that_is_said(tmp_path, caplog):
    root = write_folder(tmp_path, ["a,0,-3,0,10,60,run,"], ("a",))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(load(root).videos[0].tubes[0].boxes, [[0, 0, 10, 48]])
    assert "cut at the frame's edge: 1 box in 1 video" in caplog.text


GOOD = "run_1.mp4,0,1,2,11,12,run,a"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no box"),
        ([GOOD, "run_1.mp4,1,1,2,11,12"], "line 3 has 6 columns, 8 are wanted"),
        ([GOOD, GOOD + ",x,y"], "line 3 has 10 columns"),
        ([GOOD, "run_1.mp4,1,nan,2,11,12,run,a"], "line 3 has NaN"),
        ([GOOD, "run_1.mp4,1,1,2,inf,12,run,a"], "line 3 has NaN or infinity"),
        ([GOOD, "run_1.mp4,1,one,2,11,12,run,a"], "line 3: x1 is 'one', which is no number"),
        ([GOOD, "run_1.mp4,0.5,1,2,11,12,run,a"], "line 3: the frame is '0.5'"),
        ([GOOD, "run_1.mp4,-1,1,2,11,12,run,a"], "line 3 has a negative frame"),
        ([GOOD, "run_1.mp4,1,11,2,1,12,run,a"], "line 3 has a box with x2 < x1"),
        ([GOOD, "run_1.mp4,1,1,2,11,12,,a"], "line 3 names no action"),
        ([GOOD, ",1,1,2,11,12,run,a"], "line 3 names no video"),
        ([GOOD, "run_1.mp4,0,1,2,11,13,run,a"], "line 3 gives the track 'a' a second box"),
        ([GOOD, "gone.mp4,0,1,2,11,12,run,a"], "1 row of 1 video not in the folder: gone.mp4"),
        ([GOOD, "run_1.mp4,13,1,2,11,12,run,a"], "line 3 is of frame 13, but run_1.mp4 has 12 frames, 0 to 11; correct"),
        (["run_1.mp4,12,1,2,11,12,run,a"], "frames seem to be counted from 1; .*--first-frame 1"),
        ([GOOD, "run_1.mp4,12,1,2,11,12,run,a"], "frame 12, but run_1.mp4 has 12 frames, 0 to 11; correct"),  # frame 0 is there
        (["run_1.mp4,0,0.1,0.2,0.9,1.0,run,a"], "look normalised, pixels are wanted; .*--boxes normalised"),
        ([GOOD, "run_1.mp4,1,60,2,160,12,run,a"], "line 3: the box lies mostly outside the 64x48 frame"),
    ],
)
def test_bad_rows_are_refused_with_their_line_and_the_way_out(tmp_path, rows, says):
    with pytest.raises(InputError, match=f"boxes.csv.*{says}"):
        load(write_folder(tmp_path, rows))


def test_equal_boxes_and_empty_ones_cost_themselves_alone(tmp_path, caplog):
    rows = [
        GOOD,
        GOOD,
        GOOD.replace(",a", ","),
        GOOD.replace(",a", ","),
        "run_1.mp4,1,5,5,5,40,run,a",
        "run_1.mp4,2,1,2,11,12,run,a",
    ]
    kept = table.read_csv(write_folder(tmp_path, rows) / "boxes.csv")
    assert kept.line.tolist() == [2, 4, 7]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "line 6: 1 boxes without area" in said[0] and "line 3 (and 1 more): 2 boxes that repeat" in said[1]
    with pytest.raises(InputError, match="holds no box with an area"):
        table.read_csv(write_folder(tmp_path, rows[4:5]) / "boxes.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (HEADER + "\n", "only the names of its columns"),
        ("video,frame,xmin,ymin,xmax,ymax,action\n", r"lacks the columns \['x1'.*unknown ones \['xmin'"),
        ("video,frame,x1,x1,y1,x2,y2,action\n", "twice"),
        ("a,0,1,2,11\n", "line 1 has 5 columns, 7 are wanted"),
        ('a,0,1,2,11,12,"run\n', "no csv file"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, says):
    root = write_folder(tmp_path, videos=("a",))
    (root / "boxes.csv").write_text(text)
    with pytest.raises(InputError, match=f"boxes.csv.*{says}"):
        load(root)


def test_binary_files_and_missing_ones(tmp_path):
    root = write_folder(tmp_path, videos=("a",))
    (root / "boxes.csv").write_bytes(b"\xff\xfe\x00video")
    with pytest.raises(InputError, match="cannot be read as text"):
        load(root)
    (root / "boxes.csv").unlink()
    with pytest.raises(InputError, match="must hold one file of annotations.*it holds only videos"):
        load(root)
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "nowhere")
    (root / "boxes.csv").write_text(f"{HEADER}\n{GOOD}\n")
    (root / "videos" / "a.mp4").unlink()
    with pytest.raises(InputError, match="holds no video"):
        load(root)


def test_names_of_classes_are_written_with_spaces(tmp_path):
    rows = [f"a,{frame},0,0,10,10,{action}," for frame, action in enumerate(("shoot_ball", "shoot ball", "run"))]
    root = write_folder(tmp_path, rows, ("a",))
    assert load(root).classes == ("run", "shoot ball")
    (root / "classes.txt").write_text("shoot_ball\nrun\n")
    assert load(root).classes == ("shoot ball", "run")


def test_names_of_classes_that_look_alike(tmp_path, caplog):
    """Tools compose letters in two ways, which nobody sees; whether Run is run, only the user knows."""
    rows = [f"a,{frame},0,0,10,10,{action}," for frame, action in enumerate(("pe\u0301daler", "p\u00e9daler", "run", "Run"))]
    root = write_folder(tmp_path, rows, ("a",))
    assert load(root).classes == ("Run", "p\u00e9daler", "run")
    assert (
        "'Run' and 'run' are two actions; if they are one, write it in one way" in caplog.text
        and caplog.text.count("two actions") == 1
    )
    (root / "classes.txt").write_text("Run\nrun\npe\u0301daler\n", encoding="utf-8")
    assert load(root).classes == ("Run", "run", "p\u00e9daler")


def test_a_list_of_classes_fixes_their_order_and_refuses_others(tmp_path):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text("run\nwalk\njump\n")
    assert load(root).classes == ("run", "walk", "jump")
    (root / "classes.txt").write_text("run\nwalk\nrun \njump\n")
    with pytest.raises(InputError, match=r"classes.txt lists 'run' more than once"):
        load(root)
    (root / "classes.txt").write_text("run\n")
    with pytest.raises(InputError, match=r"boxes.csv, line \d+.*'jump' is not in classes.txt, which lists run"):
        load(root)


def test_a_broken_video_is_named(tmp_path):
    root = write_folder(tmp_path)
    (root / "videos" / "run_1.mp4").write_text("no video")
    with pytest.raises(InputError, match="run_1.mp4 is annotated or listed but cannot be used"):
        load(root)


def test_a_link_that_leads_nowhere_is_named_and_links_to_folders_are_followed(tmp_path):
    root = write_folder(tmp_path / "data", videos=("run_1", "run_2"))
    (root / "videos").rename(tmp_path / "store")
    (root / "videos").mkdir()
    (root / "videos" / "far").symlink_to(tmp_path / "store")
    assert [len(video.tubes) for video in load(root).videos] == [1, 1]
    (root / "videos" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match=r"gone.mp4: is a link to .*nowhere.mp4, which is not there"):
        load(root)


def test_names_may_be_composed_and_written_in_another_way(tmp_path):
    """macOS writes é as two letters, and Windows does not tell A from a."""
    rows = [f"{name},0,1,1,9,9,run,{track}" for name, track in (("Cafe\u0301.MP4", "x"), ("caf\u00e9.mp4", "y"), ("B", "z"))]
    root = write_folder(tmp_path, rows, ("caf\u00e9", "b"))
    assert [(video.name, len(video.tubes)) for video in load(root).videos] == [("b.mp4", 1), ("caf\u00e9.mp4", 2)]
    write_video(root / "videos" / "B.mp4")
    assert [(video.name, len(video.tubes)) for video in load(root).videos][:2] == [("B.mp4", 1), ("b.mp4", 0)]


def test_names_from_the_folder_above_and_from_the_root(tmp_path):
    rows = [
        f"{name},0,1,1,9,9,run," for name in ("videos/a.mp4", "./videos\\b.mp4", f"{tmp_path}/videos/c.mp4", "elsewhere/d.mp4")
    ]
    root = write_folder(tmp_path, rows, ("a", "b", "c", "d"))
    assert custom.survey(root).unknown == {"elsewhere/d.mp4": 1}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3.png", r"3.png is 40x30, the first image there 64x48; a video's frames are of one size"),
        ("2.webp", r"holds 2.png and 2.webp; only one of them can be the frame"),
        ("02.png", r"holds 02.png and 2.png; only one of them can be the frame"),
        ("flow_x_2.png", r"holds 2.png and flow_x_2.png; only one of them can be the frame"),
        ("2 - Copy.png", r"holds 2 - Copy.png and 2.png; only one of them can be the frame"),
        ("2 (1).png", r"holds 2 \(1\).png and 2.png; only one of them can be the frame"),
        ("4.png", r"4.png cannot be read as an image"),
        ("cover.png", r"holds cover.png, which has no number, among numbered images; remove or number it"),
    ],
)
def test_images_that_cannot_be_frames_of_one_video(tmp_path, name, says):
    folder = tmp_path / "videos" / "a"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 48)).save(folder / f"{number}.png")
    assert len(list(decode(folder))) == 3
    if name == "4.png":
        (folder / name).write_bytes(b"")
    else:
        Image.new("RGB", (40, 30)).save(folder / name)
    with pytest.raises(InputError, match=says):
        list(decode(folder))


def test_several_pictures_in_one_image_are_no_frame_and_a_preview_does_no_harm(tmp_path):
    pictures = [Image.new("RGB", (64, 48), (value, 0, 0)) for value in (10, 20, 30)]
    for name, more in (
        ("stack.tif", pictures[1:]),
        ("animation.webp", pictures[1:]),
        ("preview.tif", [pictures[1].resize((16, 12))]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        pictures[0].save(folder / name, save_all=True, append_images=more)
        if name == "preview.tif":
            assert next(decode(folder))[..., 0].mean() == 10
        else:
            with pytest.raises(InputError, match=f"{name} holds 3 pictures, a frame is one"):
                list(decode(folder))


@pytest.mark.parametrize(
    ("numbers", "frames", "says"),
    [
        (range(8), range(2, 6), None),
        ([0, 1, 2, 4, 5], [0, 1, 2], None),  # what is missing comes later
        (
            [0, 1, 2, 4, 5],
            [1, 4],
            "numbers are missing among the images of 1 video: frame 3 of a is f_4.png, for it comes behind f_2.png",
        ),
        ([0, 5, 10, 15], [0, 3], "frame 1 of a is f_5.png"),
        (range(1, 9), range(2, 6), "the images of 1 video from a later number: frame 2 of a is f_3.png; .*--first-frame 1"),
        (range(1, 9), range(6), None),  # a frame 0 tells
        (["1_1080p", "2_1080p", "3_1080p"], [1, 2], "frame 1 of a is f_2_1080p.png"),
        (["a7", "b2", "c9"], [1, 2], None),  # no number there counts
    ],
)
def test_numbers_of_images_that_are_not_those_of_frames_are_told(tmp_path, caplog, numbers, frames, says):
    root = write_folder(tmp_path, [f"a,{frame},1,1,9,9,run,x" for frame in frames], ())
    (root / "videos" / "a").mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (64, 48)).save(root / "videos" / "a" / f"f_{number}.png")
    load(root)
    if says is None:
        assert "image" not in caplog.text
    else:
        assert re.search(says, caplog.text)


def test_images_of_every_kind_are_seen_as_viewers_show_them(tmp_path):
    Image.fromarray(np.full((4, 6), 100 << 8, np.uint16)).save(tmp_path / "0.png")  # thermal and depth cameras: 16 bits
    Image.new("L", (6, 4), 100).save(tmp_path / "1.tif")
    Image.new("1", (6, 4), 1).save(tmp_path / "2.bmp")
    Image.new("RGBA", (6, 4), (100, 100, 100, 0)).save(tmp_path / "3.webp", lossless=True, exact=True)
    found = list(decode(tmp_path))
    assert [image.shape for image in found] == [(4, 6, 3)] * 4
    assert [int(image.mean()) for image in found] == [100, 100, 255, 100]


def test_images_that_would_be_black_are_told_or_refused(tmp_path, caplog):
    for name, value in (("dim", 3000), ("bright", 30000)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 6), value, np.uint16)).save(tmp_path / name / "0.png")
        assert look(tmp_path / name).frames == 1
    assert "dim/0.png has 16 bits and uses the lowest 12 of them" in caplog.text and "bright" not in caplog.text
    (tmp_path / "float").mkdir()
    Image.fromarray(np.full((4, 6), 0.5, np.float32)).save(tmp_path / "float" / "0.tif")
    with pytest.raises(InputError, match="0.tif has floating-point numbers"):
        look(tmp_path / "float")


def test_two_videos_of_one_name(tmp_path):
    root = write_folder(tmp_path, ["a,0,1,1,9,9,run,"], ("a",))
    (root / "videos" / "other").mkdir()
    write_video(root / "videos" / "other" / "a.mp4")
    assert [len(v.tubes) for v in load(root).videos] == [1, 0]  # the one without a folder is meant: an exact name
    (root / "boxes.csv").write_text(f"{HEADER}\na.mp4,0,1,1,9,9,run,\n")
    (root / "videos" / "a.mp4").rename(root / "videos" / "other" / "b.mp4")
    (root / "videos" / "third").mkdir()
    write_video(root / "videos" / "third" / "a.mp4")
    with pytest.raises(InputError, match="may be other/a.mp4 or third/a.mp4"):
        load(root)


def parts(root):
    return {part: [v.name for v in load(root, part).videos] for part in ("train", "val")}


def test_the_division_without_lists_keeps_sources_together(tmp_path):
    names = [f"{action}{film}_{clip}" for action in ("run", "jump") for film in "abcd" for clip in (1, 2)]
    rows = [f"{name},0,1,1,9,9,{name.rstrip('abcd_12')}," for name in names]
    root = write_folder(tmp_path, rows, names, frames=2)
    found = parts(root)
    assert found == parts(root) and sorted(found["train"] + found["val"]) == sorted(f"{name}.mp4" for name in names)
    assert len(found["val"]) == 4 and not {custom.source(n) for n in found["train"]} & {custom.source(n) for n in found["val"]}
    with pytest.raises(InputError, match="no test part"):
        load(root, "test")


def test_names_that_tell_no_sources_apart(tmp_path, caplog):
    names = [f"video_{index:03d}" for index in range(8)]
    rows = [f"{name},0,1,1,9,9,{'run' if index % 2 else 'jump'}," for index, name in enumerate(names)]
    with caplog.at_level(logging.WARNING):
        found = parts(write_folder(tmp_path, rows, names, frames=2))
    assert (
        len(found["val"]) == 2
        and "all videos come from one source (video), as far as names tell: each video counts" in caplog.text
    )


def test_splits_from_a_column_a_csv_and_lists(tmp_path, caplog):
    root = write_folder(tmp_path)
    rows = ["run_1,0,1,1,9,9,run,,train", "run_2,0,1,1,9,9,run,,valid", "jump_3,0,1,1,9,9,jump,,test"]
    (root / "boxes.csv").write_text("\n".join([HEADER + ",split", *rows]))
    with caplog.at_level(logging.INFO):
        assert parts(root) == {"train": ["jump_4.mp4", "run_1.mp4"], "val": ["run_2.mp4"]}
    assert "1 video in no list" in caplog.text
    assert [v.name for v in load(root, "test").videos] == ["jump_3.mp4"]
    assert len(load(root, "trainval")) == 3
    write_folder(root)
    (root / "splits.csv").write_text("video,split\nrun_1.mp4,train\njump_3,train\nrun_2,val\njump_4,val\n")
    assert parts(root) == {"train": ["jump_3.mp4", "run_1.mp4"], "val": ["jump_4.mp4", "run_2.mp4"]}
    (root / "train.txt").write_text("run_2\n")
    with pytest.raises(InputError, match="train.txt puts run_2 into train, but it is in val"):
        load(root)
    (root / "splits.csv").write_text("run_1,never\n")
    with pytest.raises(InputError, match="splits.csv, line 1 is 'run_1,never'"):
        load(root)
    (root / "splits.csv").write_text("gone.mp4,val\n")
    with pytest.raises(InputError, match="splits.csv, line 1 lists 'gone.mp4'"):
        load(root)


def test_a_video_in_two_splits(tmp_path):
    root = write_folder(tmp_path)
    (root / "boxes.csv").write_text("\n".join([HEADER + ",split", "run_1,0,1,1,9,9,run,,train", "run_1,1,1,1,9,9,run,,val"]))
    with pytest.raises(InputError, match="line 3: run_1 is in val and in train"):
        load(root)


def test_names_with_an_action_in_them_are_divided(tmp_path, caplog):
    """J-HMDB's names say before the action which film they are of; others' do not."""
    names = [f"cam_{action}_{number:02}" for action in ("walk", "run") for number in range(1, 6)]
    root = write_folder(tmp_path, [f"{name},0,1,1,9,9,{name.split('_')[1]}," for name in names], names)
    assert len(load(root, "val")) == 2 and len(load(root, "train")) == 8


def test_annotations_of_no_video_that_is_there_are_told(tmp_path):
    root = write_folder(
        tmp_path, [r"C:\x\videos\golf_5.mp4,0,1,1,9,9,golf,", r"C:\x\videos\golf_6.mp4,0,1,1,9,9,golf,"], ("golf_5", "golf_6")
    )
    with pytest.raises(InputError, match="not in the folder|no video"):
        load(root, "train")


def test_a_video_whose_boxes_lie_beyond_its_end_is_no_copy_of_itself(tmp_path, caplog):
    root = write_folder(tmp_path, ["a,0,1,1,9,9,run,", "b,999,1,1,9,9,run,"], ("a", "b"))
    with suppress(InputError), caplog.at_level(logging.WARNING):
        load(root, "trainval")
    assert "remove copies" not in caplog.text


def test_one_video_cannot_be_divided(tmp_path):
    root = write_folder(tmp_path, ["a,0,1,1,9,9,run,"], ("a",))
    with pytest.raises(InputError, match="1 video cannot be divided.*--all-videos"):
        load(root, "train")
    assert len(load(root, "trainval")) == 1


def test_writing_and_reading_again(tmp_path):
    root = write_folder(tmp_path)
    rows = table.read_csv(root / "boxes.csv")
    table.write_csv(rows, tmp_path / "new" / "again.csv")
    again = table.read_csv(tmp_path / "new" / "again.csv")
    np.testing.assert_array_equal(rows.boxes, again.boxes)
    assert rows.video.tolist() == again.video.tolist() and rows.track.tolist() == again.track.tolist()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["again.csv"]
    with pytest.raises(InputError, match="cannot be written"):
        table.write_csv(rows, root / "boxes.csv" / "inside.csv")


def test_a_hundred_thousand_rows_take_seconds(tmp_path):
    import time

    text = "\n".join([HEADER, *(f"v{n % 50},{n // 50},{n % 40},1,{n % 40 + 20},40,run,{n % 50}" for n in range(100_000))])
    (tmp_path / "boxes.csv").write_text(text)
    start = time.process_time()  # of this process alone: others may be at work
    assert len(table.read_csv(tmp_path / "boxes.csv")) == 100_000
    assert time.process_time() - start < 10
