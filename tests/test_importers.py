"""What annotation tools export, as their own documentation shows it: as a data set, and as seen by check-data."""

import json
import logging
from fractions import Fraction

import numpy as np
import pytest
from own_videos import write_video
from PIL import Image

from mssc.__main__ import main
from mssc.data import annotations
from mssc.data.annotations import shared
from mssc.data.catalogue import load_dataset
from mssc.data.media import Videos
from mssc.structures import InputError
from mssc.video import Writer


@pytest.fixture
def root(tmp_path):
    """A folder with two videos, 200x100, of 25 frames, 25 a second, and one of a folder of images."""
    for seed, name in enumerate(("a", "b")):
        write_video(tmp_path / "videos" / f"{name}.mp4", 25, (200, 100), seed, 25)
    return tmp_path


def images(folder, numbers, size=(200, 100)):
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", size, (number % 256, 0, 0)).save(folder / f"frame_{number}.png")


def dump(root, content, name="export.json"):
    (root / name).write_text(json.dumps(content), encoding="utf-8")


def tubes(root):
    """(video, action, first frame, frames, first box, last box) of a folder, which must satisfy check-data too."""
    data = load_dataset("custom", root, "trainval")
    found = [
        (video.name, data.classes[tube.label], tube.start, len(tube), *tube.boxes[[0, -1]].round(2).tolist())
        for video in data.videos
        for tube in video.tubes
    ]
    with pytest.raises(SystemExit) as stopped:  # two videos of different actions cannot be divided, the rest must be fine
        main(["check-data", "--dataset", "custom", "--data", str(root), "-o", str(root / ".report")])
    assert stopped.value.code == 2
    problems = json.loads((root / ".report" / "report.json").read_text())["problems"]
    assert problems and all(
        "divided" in sentence or "not a single" in sentence or "no video has" in sentence for sentence in problems
    )
    return found


# -------------------------------------------------------------------- COCO


def coco(images, annotations, **more):
    return {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "run"}], **more}


def test_coco_with_video_id_and_frame_id(root):
    # CocoVID of MMTracking: frame_id counts from 0, instance_id tells actors apart
    films = [{"id": 1, "name": "a"}, {"id": 2, "name": "b.mp4"}]
    pictures = [
        {"id": 10 * v + f, "video_id": v, "frame_id": f, "file_name": f"x/{f + 1:06d}.jpg"} for v in (1, 2) for f in range(5)
    ]
    boxes = [
        {"id": f, "image_id": 10 + f, "video_id": 1, "instance_id": 7, "category_id": 3, "bbox": [10 + f, 5, 20, 35]}
        for f in (1, 2)
    ]
    dump(root, coco(pictures, boxes, videos=films))
    assert tubes(root) == [("a.mp4", "run", 1, 2, [11, 5, 31, 40], [12, 5, 32, 40])]


@pytest.mark.parametrize(("first", "why"), [(0, "there is a frame 0"), (1, "as such files do"), (25, "a has 25 frames")])
def test_coco_counts_frames_once_for_the_whole_file(root, caplog, first, why):
    # `first` is the first listed frame of video a: 25 alone can only be the last of 25 that count from 1
    frames = {"a": range(first, first + 3) if first < 25 else [24, 25], "b": range(1, 4)}
    pictures = [{"id": f"{v}{f}", "file_name": f"{v}/{f:05d}.jpg"} for v, numbers in frames.items() for f in numbers]
    boxes = [{"image_id": "b2", "category_id": 3, "bbox": [0, 0, 9, 9]}]
    dump(root, coco(pictures, boxes))
    with caplog.at_level(logging.INFO):
        rows = annotations.read(root / "export.json", Videos(root / "videos"))
    assert rows.frame.tolist() == [2 if first == 0 else 1]
    assert f"frames are counted from {min(first, 1)}: {why}" in caplog.text


def test_coco_annotations_that_name_their_own_frames_and_youtube_vis(root):
    own = [{"video_id": 1, "frame_id": f, "category_id": 3, "bbox": [0, 0, 9 + f, 9], "track_id": 1} for f in range(3)]
    dump(root, coco([], own, videos=[{"id": 1, "name": "a"}]))
    assert tubes(root) == [("a.mp4", "run", 0, 3, [0, 0, 9, 9], [0, 0, 11, 9])]
    films = [{"id": 4, "file_names": ["b/00000.jpg", "b/00005.jpg"], "width": 200, "height": 100, "length": 25}]
    boxes = [None, [10, 10, 20, 30], [12, 10, 20, 30], None]
    dump(root, coco([], [{"id": 9, "video_id": 4, "category_id": 3, "bboxes": boxes}], videos=films))
    assert tubes(root) == [("b.mp4", "run", 1, 2, [10, 10, 30, 40], [12, 10, 32, 40])]


def test_coco_with_a_frame_id_that_is_text(root):
    pictures = [{"id": 1, "file_name": "a/000009.jpg", "frame_id": "4"}, {"id": 2, "file_name": "a/000001.jpg", "frame_id": "0"}]
    dump(root, coco(pictures, [{"image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 35]}]))
    assert [row[2] for row in tubes(root)] == [4]


def test_youtube_vis_of_every_fifth_frame(root):
    films = [{"id": 1, "file_names": [f"a/{number:05d}.jpg" for number in (0, 5, 10)], "length": 3}]
    track = {"id": 9, "video_id": 1, "category_id": 3, "bboxes": [[10, 5, 20, 35], None, [20, 5, 20, 35]]}
    dump(root, coco([], [track], videos=films))
    assert tubes(root) == [("a.mp4", "run", 0, 11, [10, 5, 30, 40], [20, 5, 40, 40])]


def test_a_file_name_means_that_image(tmp_path):
    images(tmp_path / "videos" / "walks", [8, 9, 10, 11, 40])
    write_video(tmp_path / "videos" / "other.mp4")
    pictures = [{"id": f, "file_name": f"walks/frame_{f}.png", "frame_id": 99} for f in (9, 10, 40)]
    boxes = [{"image_id": f, "category_id": 3, "bbox": [0, 0, f, 9], "track_id": 1} for f in (9, 10, 40)]
    dump(tmp_path, coco(pictures, boxes))
    assert tubes(tmp_path) == [("walks", "run", 1, 4, [0, 0, 9, 9], [0, 0, 40, 9])]
    pictures = [{"id": f, "file_name": f"frame_{f}.jpg"} for f in (9, 10, 40)]  # of the only such folder, in another format
    dump(tmp_path, coco(pictures, boxes))
    assert tubes(tmp_path) == [("walks", "run", 1, 4, [0, 0, 9, 9], [0, 0, 40, 9])]


def test_an_image_elsewhere_is_told_and_one_that_is_not_there_refused(tmp_path, caplog):
    images(tmp_path / "videos" / "walks", [8, 9, 10])
    write_video(tmp_path / "videos" / "other.mp4")
    boxes = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9]}]
    for name in ("/home/ann/walks/frame_9.png", r"C:\ann\Walks\FRAME_9.PNG"):
        dump(tmp_path, coco([{"id": 1, "file_name": name}], boxes))
        assert tubes(tmp_path)[0][:4] == ("walks", "run", 1, 1) and "is not in" not in caplog.text
    dump(tmp_path, coco([{"id": 1, "file_name": "images/frame_9.png"}], boxes))
    assert tubes(tmp_path)[0][:4] == ("walks", "run", 1, 1)
    assert "images is not in" in caplog.text and "its images are taken for those of walks" in caplog.text
    dump(tmp_path, coco([{"id": 1, "file_name": "walks/frame_11.png"}], boxes))
    with pytest.raises(InputError, match="annotation 1 is frame_11.png, which is not among the images of walks"):
        load_dataset("custom", tmp_path)


def test_empty_boxes_cost_themselves_alone(root, caplog):
    frames = [{"id": f, "file_name": f"{f}.jpg", "video_id": 1, "frame_id": f} for f in (0, 1, 2, 3)]
    boxes = [[10, 10, 20, 30], [], [5, 5, 0, 0], [10, 10, 20, 30]]
    annotated = [{"id": f, "image_id": f, "category_id": 3, "bbox": box, "track_id": 7} for f, box in enumerate(boxes)]
    annotated.append({"id": 9, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 1, 5, 5]]})
    dump(root, coco(frames, annotated, videos=[{"id": 1, "name": "a"}]))
    assert tubes(root) == [("a.mp4", "run", 0, 4, [10, 10, 30, 40], [10, 10, 30, 40])]
    assert "annotation 1 has no box and is left out, like 1 more" in caplog.text and "1 boxes without area" in caplog.text
    dump(root, [task(region(keyframe(1, 10), keyframe(3, 10, enabled=False)), region(key="nothing"))])
    assert [row[:4] for row in tubes(root)] == [("a.mp4", "Man", 0, 3)]


def test_times_behind_the_end_are_not_the_last_frame(root):
    videos = Videos(root / "videos")
    assert [videos.frame_at("a", seconds) for seconds in (-1, 0, 0.5, 0.96, 1.0, 1.01)] == [0, 0, 12, 24, 24, 24]
    assert [videos.frame_at("a", seconds) for seconds in (1.2, 10.0)] == [29, 249]
    dump(root, via(([9.0], [2, 10, 20, 30, 40], {"2": "1"})))
    with pytest.raises(InputError, match="is of frame 224, but a.mp4 has 25 frames"):
        load_dataset("custom", root)


def test_images_are_in_the_order_of_their_numbers_and_upright(tmp_path):
    from mssc.data.decoding import decode
    from mssc.data.media import look

    images(tmp_path / "v", [10, 9, 100])
    picture = Image.new("RGB", (100, 200), (50, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: to be turned by a quarter
    picture.save(tmp_path / "v" / "frame_1.jpg", exif=exif)
    (tmp_path / "v" / "._frame_1.jpg").write_bytes(b"AppleDouble")
    shapes = [(image.shape, int(image[0, 0, 0])) for image in decode(tmp_path / "v")]
    assert shapes == [((100, 200, 3), 50), ((100, 200, 3), 9), ((100, 200, 3), 10), ((100, 200, 3), 100)]
    assert look(tmp_path / "v")[:3] == (4, 200, 100)


# -------------------------------------------------------------------- turned boxes and commas, in all importers alike


def test_turned_boxes():
    for degrees, wanted in ((0, [0, 0, 40, 20]), (90, [10, -10, 30, 30]), (180, [0, 0, 40, 20]), (-90, [10, -10, 30, 30])):
        np.testing.assert_allclose(shared.upright((0, 0, 40, 20), degrees), wanted, atol=1e-9)
    np.testing.assert_allclose(shared.upright((0, 0, 40, 20), 90, "corner"), [-20, 0, 0, 40], atol=1e-9)
    np.testing.assert_allclose(
        shared.upright((0, 0, 40, 20), 45), [20 - 30 / 2**0.5, 10 - 30 / 2**0.5, 20 + 30 / 2**0.5, 10 + 30 / 2**0.5]
    )
    keys = [shared.Key(0, (0, 0, 40, 20), 350, ("a",), True), shared.Key(2, (0, 0, 40, 20), 10, ("a",), True)]
    np.testing.assert_allclose(
        [row[1] for row in shared.between("x", "t", keys)][1], [0, 0, 40, 20], atol=1e-9
    )  # the short way, by 0


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("run, wave;sit", [], ["run", "wave", "sit"]),
        ("watch (e.g., TV)", [], ["watch (e.g., TV)"]),
        ("talk to (e.g., self, a person, a group), sit", [], ["talk to (e.g., self, a person, a group)", "sit"]),
        ("up, down", ["up, down", "up"], ["up, down"]),
        ("run,up, down , walking", ["up, down", "up", "walk"], ["run", "up, down", "walking"]),
        ("none, run, ", ["none"], ["run"]),
        ("open (a", [], ["open (a"]),
    ],
)
def test_names_with_commas(text, options, wanted):
    assert shared.split_actions(text, options) == wanted


def test_coco_of_cvat_with_rotation_and_an_action_that_is_a_category(root):
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [100, 30, 20, 40]}
    box["attributes"] = {"occluded": False, "rotation": 90.0, "track_id": 0, "keyframe": True, "action": "sit, down"}
    made = coco([{"id": 1, "file_name": "a/frame_000000.PNG"}], [box])
    dump(root, made | {"categories": [{"id": 3, "name": "person"}, {"id": 4, "name": "sit, down"}]})
    assert tubes(root) == [("a.mp4", "sit, down", 0, 1, [90, 40, 130, 60], [90, 40, 130, 60])]


BOX = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", coco([{"id": [], "file_name": "a/1.png"}], [])),
        ("a.json", coco([{"id": 1, "file_name": "a/1.png"}], [BOX | {"image_id": {}}])),
        ("a.json", coco([{"id": 1, "file_name": "a/1.png"}], [BOX | {"category_id": []}])),
        ("a.json", coco([{"id": 1, "file_name": "a/1.png", "width": "x", "height": 1}], [BOX])),
        ("a.json", coco([{"id": 1, "file_name": "a/1.png", "frame_id": 10**30}], [BOX])),
        ("a.txt", "1 1 0 0 9 9 1 1e999\n"),
    ],
)
def test_values_that_no_tool_writes(root, name, content):
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    (root / "classes.txt").write_text("run\n")
    with pytest.raises(InputError, match=name):
        annotations.read(root / name, Videos(root / "videos"))


# -------------------------------------------------------------------- VIA

VIA_ATTRIBUTES = {
    "1": {"aname": "activity", "anchor_id": "FILE1_Z2_XY0", "type": 1, "desc": "", "options": {}, "default_option_id": ""},
    "2": {
        "aname": "action", "anchor_id": "FILE1_Z1_XY1", "type": 2, "desc": "", "default_option_id": "",
        "options": {"1": "walk", "2": "watch (e.g., TV)", "3": "none"},
    },
    "3": {"aname": "person", "anchor_id": "FILE1_Z1_XY1", "type": 1, "desc": "", "options": {}, "default_option_id": ""},
}  # fmt: skip


def via(*regions, fname="a.mp4", **more):
    file = {"fid": 1, "fname": fname, "type": 4, "loc": 1, "src": ""} | more
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "Unnamed", "data_format_version": "3.1.1", "vid_list": ["1"]},
        "config": {},
        "attribute": VIA_ATTRIBUTES,
        "file": {"1": file},
        "view": {"1": {"fid_list": [1]}},
        "metadata": {f"1_{n}": {"vid": "1", "flg": 0, "z": z, "xy": xy, "av": av} for n, (z, xy, av) in enumerate(regions)},
    }


REGIONS = [
    ([0.08], [2, 10, 20, 30, 40], {"2": "1,2", "3": "ann"}),  # frame 2 begins at 0.08 s
    ([0.159], [2, 14, 20, 30, 40], {"2": "1,2", "3": "ann"}),  # 0.16 s, rounded down by the annotator: frame 4 after all
    ([0.5], [2, 0, 0, 5, 5], {"2": "3", "3": "ann"}),
    ([0.1, 0.9], [], {"1": "a stretch of time"}),
    ([0.2], [7, 1, 1, 5, 5, 9, 1], {"2": "1"}),  # a polygon
]


def test_a_project_of_via(root, caplog):
    dump(root, via(*REGIONS))
    box = [10, 20, 40, 60], [14, 20, 44, 60]
    assert tubes(root) == [("a.mp4", "walk", 2, 3, *box), ("a.mp4", "watch (e.g., TV)", 2, 3, *box)]
    assert "only rectangles are read; 2 entries of other kinds" in caplog.text and "without an action" not in caplog.text
    dump(root, via(*REGIONS, ([0.3], [2, 0, 0, 5, 5], {"3": "ann"})))
    assert len(tubes(root)) == 2 and "1 box without an action left out, the first: 6" in caplog.text
    with pytest.raises(InputError, match="name their folder with --videos"):
        annotations.read(root / "export.json", Videos(None))


@pytest.mark.parametrize(("aspect", "box"), [(2, [20, 20, 60, 60]), (Fraction(1, 2), [40, 10, 120, 30])])
def test_via_of_pixels_that_are_not_square(tmp_path, aspect, box):
    """Browsers make a video wider, or higher, and never smaller."""
    with Writer(tmp_path / "videos" / "a.mp4", 200, 100, 25, pixel_aspect=Fraction(aspect)) as writer:
        for _ in range(5):
            writer.write(np.zeros((100, 200, 3), np.uint8))
    dump(tmp_path, via(([0.08], [2, 40, 20, 80, 40], {"2": "1"})))
    assert tubes(tmp_path) == [("a.mp4", "walk", 2, 1, box, box)]


def test_the_csv_of_via(root):
    def cell(value):
        return '"' + json.dumps(value).replace('"', '""') + '"'

    lines = ["# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)", "# Notes:"]
    lines += [f"# ATTRIBUTE = {json.dumps(VIA_ATTRIBUTES)}", "# CSV_HEADER = metadata_id,file_list,flags,…"]
    lines += [f'"1_{n}",{cell(["a.mp4"])},0,{cell(z)},{cell(xy)},{cell(av)}' for n, (z, xy, av) in enumerate(REGIONS)]
    (root / "via.csv").write_text("\n".join(lines), encoding="utf-8")
    assert [row[:4] for row in tubes(root)] == [("a.mp4", "walk", 2, 3), ("a.mp4", "watch (e.g., TV)", 2, 3)]


def test_images_in_via(tmp_path):
    images(tmp_path / "videos" / "walks", [8, 9, 10])
    write_video(tmp_path / "videos" / "other.mp4")
    dump(
        tmp_path,
        via(([], [2, 10, 20, 30, 40], {"2": "1"}), fname="frame_10.png", src="file:///home/ann/walks/frame_10.png", type=2),
    )
    assert tubes(tmp_path) == [("walks", "walk", 2, 1, [10, 20, 40, 60], [10, 20, 40, 60])]


@pytest.mark.parametrize("kind", ["project", "annotations", "csv"])
def test_images_in_via_2(tmp_path, kind, caplog):
    images(tmp_path / "videos" / "walks", [9, 10])
    write_video(tmp_path / "videos" / "other.mp4")
    shapes = [{"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}, {"name": "circle", "cx": 9, "cy": 9, "r": 4}]
    said = {"action": {"walk": True, "watch (e.g., TV)": True, "run": False}, "person": "ann"}
    regions = [{"shape_attributes": shape, "region_attributes": said} for shape in shapes]
    told = {
        f"frame_{n}.png123": {
            "filename": f"frame_{n}.png",
            "size": 123,
            "regions": regions if n == 10 else [],
            "file_attributes": {},
        }
        for n in (9, 10)
    }
    options = dict.fromkeys(["walk", "watch (e.g., TV)", "run"], "")
    described = {"region": {"action": {"type": "checkbox", "options": options}, "person": {"type": "text"}}, "file": {}}
    if kind == "csv":
        lines = [via_line("frame_9.png", 0, {}, {}), *(via_line("frame_10.png", 2, shape, said) for shape in shapes)]
        (tmp_path / "via.csv").write_text("\n".join([VIA_2_HEADER, *lines]), encoding="utf-8")
    else:
        dump(
            tmp_path,
            {"_via_settings": {}, "_via_img_metadata": told, "_via_attributes": described} if kind == "project" else told,
        )
    box = [10, 20, 40, 60]
    assert tubes(tmp_path) == [("walks", action, 1, 1, box, box) for action in ("walk", "watch (e.g., TV)")]
    assert "only rectangles are read; 1 entries of other kinds" in caplog.text


VIA_2_HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def via_line(name, count, *cells):
    shape, values = (json.dumps(cell).replace('"', '""') for cell in cells)
    return f'{name},123,"{{}}",{count},0,"{shape}","{values}"'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attribute": {"1": {"aname": "colour"}, "2": {"aname": "size"}}}, "There are: colour, size; call one 'action'"),
        (
            {"metadata": {"1_a": {"vid": "1", "z": [0], "xy": [2, 0, 0, 9, 9], "av": {"2": "7"}}}},
            "option '7' of the attribute 'action'",
        ),
        (
            {"metadata": {"1_a": {"vid": "4", "z": [0], "xy": [2, 0, 0, 9, 9], "av": {}}}},
            "holds what no tool writes there.*export it again",
        ),
        (
            {"metadata": {"1_a": {"vid": "1", "z": [0], "xy": [2, 0], "av": {}}}},
            "holds what no tool writes there.*export it again",
        ),
        ({"metadata": {}}, "holds no box"),
    ],
)
def test_damaged_projects_of_via(root, change, says):
    dump(root, via() | change)
    with pytest.raises(InputError, match=f"export.json.*{says}"):
        annotations.read(root / "export.json", Videos(root / "videos"))


# -------------------------------------------------------------------- Label Studio


def keyframe(frame, x, enabled=True, rotation=0):
    return {
        "frame": frame,
        "enabled": enabled,
        "rotation": rotation,
        "x": x,
        "y": 10,
        "width": 20,
        "height": 40,
        "time": frame / 25,
    }


def region(*sequence, labels=("Man",), key="d1111333b6", count=25, duration=1.0):
    value = {"framesCount": count, "duration": duration, "sequence": list(sequence), "labels": list(labels)}
    return {"id": key, "type": "videorectangle", "value": value, "origin": "manual", "to_name": "video", "from_name": "box"}


def task(*results, video="/data/upload/3/0a1b2c3d-a.mp4", **more):
    return {
        "id": 1,
        "data": {"video": video},
        "annotations": [{"id": 5, "result": list(results), "was_cancelled": False}],
        **more,
    }


def test_label_studio_key_frames(root):
    gone = region(keyframe(3, 10), keyframe(5, 14), keyframe(7, 14, enabled=False), key="x")
    back = region(keyframe(21, 0, enabled=False), keyframe(24, 30), labels=("Woman", "Other"), key="y")
    dump(root, [task(gone, back), task(video="s3://bucket/b.mp4")])
    assert tubes(root) == [  # percent of 200x100; frames from 1; a disabled key frame is the last of its stretch
        ("a.mp4", "Man", 2, 5, [20, 10, 60, 50], [28, 10, 68, 50]),
        ("a.mp4", "Other", 20, 1, [0, 10, 40, 50], [0, 10, 40, 50]),
        ("a.mp4", "Woman", 20, 1, [0, 10, 40, 50], [0, 10, 40, 50]),
        ("a.mp4", "Other", 23, 2, [60, 10, 100, 50], [60, 10, 100, 50]),  # an enabled last one holds to the end
        ("a.mp4", "Woman", 23, 2, [60, 10, 100, 50], [60, 10, 100, 50]),
    ]


def test_label_studio_turned_boxes_choices_and_the_short_export(root):
    turned = region(keyframe(1, 50, rotation=90), keyframe(2, 50, enabled=False, rotation=90))
    choice = {
        "id": turned["id"],
        "type": "choices",
        "from_name": "action",
        "to_name": "video",
        "value": {"choices": ["sit, down"]},
    }
    dump(root, [task(turned, choice)])
    assert tubes(root) == [("a.mp4", "sit, down", 0, 2, [60, 10, 100, 50], [60, 10, 100, 50])]  # about the first corner, 100, 10
    dump(root, [{"id": 1, "video": "/data/local-files/?d=films%2Fa.mp4", "box": [turned["value"]], "annotator": 1}])
    assert tubes(root) == [("a.mp4", "Man", 0, 2, [60, 10, 100, 50], [60, 10, 100, 50])]


def test_label_studio_with_another_frame_rate_and_from_0(root, caplog):
    dump(root, [task(region(keyframe(13, 10), keyframe(25, 10, enabled=False), count=50))])  # 50 a second: frame 13 is at 0.24 s
    assert [row[1:4] for row in tubes(root)] == [("Man", 6, 7)] and "found by their seconds" in caplog.text
    dump(root, [task(region(keyframe(0, 10), keyframe(4, 10, enabled=False)))])
    assert [row[1:4] for row in tubes(root)] == [("Man", 0, 5)] and "counted from 0: there is a frame 0" in caplog.text


def test_label_studio_of_a_video_with_variable_frame_rate(tmp_path, caplog):
    """As many frames as the annotator counts, and yet others: it seeks by seconds, at an even rate."""
    with Writer(tmp_path / "videos" / "a.mp4", 200, 100, 25) as writer:
        for index in range(30):
            writer.write(np.zeros((100, 200, 3), np.uint8), index / 10 if index < 10 else 0.8 + index / 50)
    dump(tmp_path, [task(region(keyframe(5, 10), keyframe(16, 10, enabled=False), count=30, duration=1.5))])
    assert [row[1:4] for row in tubes(tmp_path)] == [("Man", 2, 6)], "0.2 to 0.75 s" and "evenly" in caplog.text


def test_label_studio_links_signed_or_beside_other_texts_and_regions_without_a_label(root, caplog):
    box = region(keyframe(1, 50), keyframe(2, 50, enabled=False))
    bare = region(keyframe(1, 10), labels=(), key="bare")
    signed = task(box, bare, video="https://bucket.s3.example.org/videos/a.mp4?X-Amz-Signature=0a#t=1")
    signed["data"] = {"note": "see protocol.v2"} | signed["data"]
    dump(root, [signed])
    assert tubes(root) == [("a.mp4", "Man", 0, 2, [100, 10, 140, 50], [100, 10, 140, 50])]
    assert "1 box without an action left out, the first: bare" in caplog.text


def test_label_studio_annotated_twice_or_damaged(root, caplog):
    one, other = ({"id": n, "result": [region(keyframe(1, n))], "was_cancelled": False} for n in (1, 2))
    dump(root, [task() | {"annotations": [{"id": 0, "result": [], "was_cancelled": True}, one, other | {"ground_truth": True}]}])
    assert tubes(root)[0][4][0] == 4 and "annotation 2 is read" in caplog.text
    dump(root, [task({"id": 1, "type": "videorectangle", "value": {"sequence": [{"frame": 1}], "labels": ["a"]}})])
    with pytest.raises(InputError, match="export.json holds what no tool writes there.*export it again"):
        annotations.read(root / "export.json", Videos(root / "videos"))
    dump(root, [task(video="")])
    with pytest.raises(InputError, match="name it with --video"):
        annotations.read(root / "export.json", Videos(root / "videos"))


# -------------------------------------------------------------------- tracking text


def test_tracking_text_of_yolo(root):
    # as BoxMOT writes it: frame from 1, id, x, y, w, h, score, class from 0, and columns that say nothing
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("run\njump\n")
    (root / "labels" / "a.txt").write_text("".join(f"{f} 1 {9 + f} 20 30 40 0.9 0 -1 -1\n" for f in (1, 2, 3)))
    (root / "labels" / "b.txt").write_text("5 2 0 0 10 10 0.8 1 -1 -1\n")
    assert tubes(root) == [
        ("a.mp4", "run", 0, 3, [10, 20, 40, 60], [12, 20, 42, 60]),
        ("b.mp4", "jump", 4, 1, [0, 0, 10, 10], [0, 0, 10, 10]),
    ]


def test_tracking_text_with_shares_of_the_frame_and_one_class(root):
    (root / "tracks").mkdir()
    (root / "tracks" / "classes.txt").write_text("run\n")
    (root / "tracks" / "a.txt").write_text("0 1 0.5 0.5 0.25 0.5\n1 1 0.5 0.5 0.25 0.5\n")
    assert tubes(root) == [("a.mp4", "run", 0, 2, [75, 25, 125, 75], [75, 25, 125, 75])]


def test_motchallenge_as_cvat_exports_it(tmp_path):
    images(tmp_path / "street" / "img1", range(4))
    images(tmp_path / "square" / "img1", range(4))
    (tmp_path / "street" / "gt").mkdir()
    (tmp_path / "street" / "gt" / "labels.txt").write_text("cat\ndog\nperson\n")
    lines = ["1,1,136,56,10,24,1,3,0.86014", "2,1,137,56,10,24,1,3,0.86", "2,2,0,0,9,9,0,1,1"]  # the last one does not count
    (tmp_path / "street" / "gt" / "gt.txt").write_text("\n".join(lines))
    assert tubes(tmp_path) == [("street/img1", "person", 0, 2, [136, 56, 146, 80], [137, 56, 147, 80])]


def test_motchallenge_of_one_video_as_its_archive_is_unpacked(tmp_path):
    images(tmp_path / "img1", range(4))
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "labels.txt").write_text("walk\n")
    (tmp_path / "gt" / "gt.txt").write_text("1,1,5,10,20,30,1,1,1.0\n2,1,5,10,20,30,1,1,1.0\n")
    assert tubes(tmp_path) == [("img1", "walk", 0, 2, [5, 10, 25, 40], [5, 10, 25, 40])]


def test_motchallenge_counts_classes_from_1_where_both_fit(tmp_path):
    images(tmp_path / "videos" / "street", range(4))
    (tmp_path / "gt" / "street" / "gt").mkdir(parents=True)
    (tmp_path / "gt" / "labels.txt").write_text("walk\nrun\n")
    (tmp_path / "gt" / "street" / "gt" / "gt.txt").write_text("1,1,5,10,20,30,1,1,1.0\n")
    assert [row[1] for row in tubes(tmp_path)] == ["walk"]
    (tmp_path / "gt" / "street" / "gt" / "gt.txt").write_text("1,1,5,10,20,30,1,1,1.0\n1,2,5,10,20,30,1,0,1.0\n")
    assert {row[1] for row in tubes(tmp_path)} == {"walk", "run"}


@pytest.mark.parametrize(
    ("text", "names", "says"),
    [
        ("0 0.4 0.5 0.2 0.3 1\n", "run", "has 0.4 for an id, .* looks like YOLO's text of a single frame"),
        ("0 1.5 200 30 20 30\n", "run", "has 1.5 for an id, its second number; it must be a whole one.$"),
        ("1 1 0 0 9 9\n1 1 0 0 x 9\n", "run", "line 2 is '1 1 0 0 x 9'; it must be numbers"),
        ("1 1 0 0 9 9\n", "", "no class in its eighth column, and there is no classes.txt"),
        ("1 1 0 0 9 9\n", "run\nwalk", "no class in its eighth column, and .*has 2 names"),
        ("1 1 0 0 9 9 1 4\n", "run\nwalk", "classes from 4 to 4, but .*classes.txt has 2 names"),
        ("1.5 1 0 0 9 9\n", "run", "line 1: the frame is '1.5'"),
        ("1 1 0 0 9 9 0 0\n", "run", "the score of all is 0"),
        ("1 1 0 0 -9 9 1 0\n", "run", "x2 < x1"),
    ],
)
def test_bad_tracking_text(root, text, names, says):
    (root / "a.txt").write_text(text)
    if names:
        (root / "classes.txt").write_text(names)
    with pytest.raises(InputError, match=says):
        annotations.read(root / "a.txt", Videos(root / "videos"))


# -------------------------------------------------------------------- as a command


def test_import_annotations_finds_the_videos_by_itself_and_keeps_what_was_there(root, caplog):
    (root / "boxes.csv").write_text("mine\n")
    dump(root, via(*REGIONS[:2]))
    with caplog.at_level(logging.INFO):
        main(["import-annotations", str(root / "export.json"), "-o", str(root / "boxes.csv")])
    assert (root / "boxes.csv.1").read_text() == "mine\n" and "what was in" in caplog.text
    assert (root / "boxes.csv").read_text().splitlines() == [
        "video,frame,x1,y1,x2,y2,action,track",
        "a.mp4,2,10,20,40,60,walk,ann",
        'a.mp4,2,10,20,40,60,"watch (e.g., TV)",ann',
        "a.mp4,4,14,20,44,60,walk,ann",
        'a.mp4,4,14,20,44,60,"watch (e.g., TV)",ann',
    ]


def test_one_file_of_annotations_and_no_more(root):
    dump(root, via(*REGIONS))
    dump(root, via(*REGIONS), "copy.json")
    with pytest.raises(InputError, match="must hold one file of annotations.*it holds copy.json, export.json"):
        annotations.find(root)
    (root / "copy.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="copy.json is of an unknown kind; give the plain csv"):
        annotations.read(root / "copy.json", Videos(None))
    with pytest.raises(InputError, match="gone.json is not there"):
        annotations.read(root / "gone.json", Videos(None))
    (root / "copy.json").write_text((root / "export.json").read_text()[:-9])
    with pytest.raises(InputError, match="copy.json is cut off or damaged.*export it again"):
        annotations.read(root / "copy.json", Videos(None))
