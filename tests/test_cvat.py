"""CVAT for video 1.1 and COCO-style JSON, as exported; hostile files do nothing."""

import json
import zipfile

import numpy as np
import pytest
from own_videos import write_folder

from mssc.__main__ import main
from mssc.data import annotations
from mssc.data.annotations import cvat
from mssc.data.catalogue import load_dataset
from mssc.data.media import Videos
from mssc.structures import InputError

META = """<meta><task><id>7</id><name>kitchen</name><size>12</size><mode>interpolation</mode><start_frame>{start}</start_frame>
<stop_frame>11</stop_frame><frame_filter>{filter}</frame_filter><labels><label><name>person</name><attributes><attribute>
<name>action</name><mutable>True</mutable><input_type>select</input_type></attribute></attributes></label></labels>
<original_size><width>64</width><height>48</height></original_size><source>run_1.mp4</source></task><dumped>now</dumped></meta>"""


def box(frame, x=10.0, outside=0, occluded=0, keyframe=1, **attributes):
    inner = "".join(f'<attribute name="{name.replace("__", "/")}">{value}</attribute>' for name, value in attributes.items())
    corners = f'xtl="{x:.2f}" ytl="5.00" xbr="{x + 20:.2f}" ybr="40.00"'
    flags = f'outside="{outside}" occluded="{occluded}" keyframe="{keyframe}"'
    return f'<box frame="{frame}" {flags} {corners} z_order="0">{inner}</box>'


def track(*boxes, label="run", number=0, more=""):
    return f'<track id="{number}" label="{label}" source="manual"{more}>' + "".join(boxes) + "</track>"


def write(path, *tracks, meta=None, start=0, filter=""):
    meta = META.format(start=start, filter=filter) if meta is None else meta
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{"".join(tracks)}</annotations>'
    )
    return path


def frames(rows, action=None):
    return [int(f) for f, a in zip(rows.frame, rows.action, strict=True) if action in (None, a)]


def test_keyframes_are_interpolated_and_outside_ends(tmp_path):
    rows = cvat.read(write(tmp_path / "a.xml", track(box(2, 10), box(6, 18), box(8, 22, outside=1))))
    assert set(rows.video) == {"run_1.mp4"} and set(rows.action) == {"run"} and frames(rows) == [2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(rows.boxes[:, 0], [10, 12, 14, 16, 18, 20])
    assert rows.sizes == {"run_1.mp4": (64, 48)}


def test_coming_back_is_a_new_tube_of_the_same_person(tmp_path):
    rows = cvat.read(write(tmp_path / "a.xml", track(box(0), box(1, outside=1), box(3), box(4), number=5)))
    assert frames(rows) == [0, 3, 4] and rows.track.tolist() == ["5", "5-2", "5-2"]


def test_every_frame_written_gives_the_same(tmp_path):
    sparse = cvat.read(write(tmp_path / "a.xml", track(box(2, 10), box(6, 18), box(7, 18, outside=1))))
    every = [box(frame, 10 + 2 * (frame - 2), keyframe=int(frame in (2, 6))) for frame in range(2, 7)]
    dense = cvat.read(write(tmp_path / "b.xml", track(*every, box(7, 18, outside=1))))
    assert frames(sparse) == frames(dense)
    np.testing.assert_allclose(sparse.boxes, dense.boxes)


def test_a_frame_filter_keeps_the_source_videos_numbers(tmp_path):
    # CVAT writes frames of the source, start frame and step included
    tracks = track(box(3, 10), box(6, 16), box(9, 16, outside=1))
    rows = cvat.read(write(tmp_path / "a.xml", tracks, start=3, filter="step=3"))
    assert frames(rows) == [3, 4, 5, 6, 7, 8] and rows.boxes[1, 0] == pytest.approx(12)


def test_occluded_boxes(tmp_path):
    path = write(tmp_path / "a.xml", track(box(0), box(1, occluded=1), box(2)))
    assert frames(cvat.read(path)) == [0, 1, 2]
    dropped = cvat.read(path, occluded="drop")
    assert frames(dropped) == [0, 2] and len(set(dropped.track)) == 2


def test_attributes_are_actions(tmp_path):
    changing = [
        box(0, action="walk"),
        box(2, action="walk, wave"),
        box(4, action="none"),
        box(6, action="sit"),
        box(7, outside=1),
    ]
    flags = [box(0, action__run="true", action__wave="false"), box(1, action__run="true", action__wave="true")]
    other = [box(0, gender="f", age="9")]
    rows = cvat.read(
        write(
            tmp_path / "a.xml", track(*changing, label="person"), track(*flags, label="person", number=1), track(*other, number=2)
        )
    )
    first = rows.take(rows.track == "0")
    assert frames(first, "walk") == [0, 1, 2, 3] and frames(first, "wave") == [2, 3] and frames(first, "sit") == [6]
    second = rows.take(rows.track == "1")
    assert frames(second, "run") == [0, 1] and frames(second, "wave") == [1]
    assert rows.take(rows.track == "2").action.tolist() == ["run"]  # no attribute is about actions: the label is


def test_tracks_of_which_nobody_chose_the_action_are_told(tmp_path, caplog):
    tracks = [
        track(box(1, action=action), box(2, outside=1, action=action), number=n) for n, action in enumerate(("jump", "", "none"))
    ]
    rows = cvat.read(write(tmp_path / "a.xml", *tracks))
    assert set(rows.action) == {"jump"} and "1 box without an action left out, the first: track 1" in caplog.text


def test_turned_boxes_count_as_the_upright_ones_around_them(tmp_path):
    turned = [box(t).replace("z_order", f'rotation="{degrees}" z_order') for t, degrees in enumerate((90, 180, 45, 0))]
    rows = cvat.read(write(tmp_path / "a.xml", track(*turned)))  # 10, 5, 30, 40: 20 by 35 around 20, 22.5
    np.testing.assert_allclose(rows.boxes[0], [2.5, 12.5, 37.5, 32.5])
    np.testing.assert_allclose(rows.boxes[[1, 3]], [[10, 5, 30, 40]] * 2)
    half = 55 / 2**1.5
    np.testing.assert_allclose(rows.boxes[2], [20 - half, 22.5 - half, 20 + half, 22.5 + half])


TASK = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <{kind}>
      <id>{id}</id>
      <name>shift 2, camera 1</name>
      <size>40</size>
      <mode>interpolation</mode>
      <overlap>5</overlap>
      <bugtracker></bugtracker>
      <created>2024-03-04 09:12:41.305512+00:00</created>
      <updated>2024-03-05 17:20:08.119226+00:00</updated>
      <subset>default</subset>
      <start_frame>10</start_frame>
      <stop_frame>88</stop_frame>
      <frame_filter>step=2</frame_filter>
      <segments>
        <segment><id>51</id><start>0</start><stop>19</stop><url>http://localhost:8080/api/jobs/51</url></segment>
        <segment><id>52</id><start>15</start><stop>39</stop><url>http://localhost:8080/api/jobs/52</url></segment>
      </segments>
      <owner><username>ann</username><email>ann@example.org</email></owner>
      <assignee></assignee>
      <labels>
        <label><name>person</name><color>#ff6037</color><type>any</type><attributes>
          <attribute><name>action</name><mutable>True</mutable><input_type>select</input_type>
            <default_value>none</default_value><values>none
walk
pick up</values></attribute>
          <attribute><name>age</name><mutable>False</mutable><input_type>number</input_type>
            <default_value>0</default_value><values>0;99;1</values></attribute>
        </attributes></label>
        <label><name>ball</name><color>#33ddff</color><type>polygon</type><attributes></attributes></label>
        <label><name>skeleton</name><type>skeleton</type><attributes></attributes><svg>&lt;line x1="3" /&gt;</svg></label>
      </labels>
      <original_size><width>64</width><height>48</height></original_size>
    </{kind}>
    <dumped>2024-03-06 08:01:55.722145+00:00</dumped>
    <source>run_1.mp4</source>
  </meta>
{tracks}
</annotations>"""


def written(number, label, shapes, more=""):
    """A track as CVAT writes it: each frame that was looked at, interpolated ones too, and an outside one behind."""
    return f'  <track id="{number}" label="{label}" source="manual"{more}>\n' + "\n".join(shapes) + "\n  </track>"


@pytest.mark.parametrize("kind", ["task", "job"])
def test_an_export_with_all_that_cvat_writes(tmp_path, caplog, kind):
    def at(frame, action, **flags):
        return box(frame, 10 + frame / 4, **flags, action=action, age="31")

    person = [
        at(20, "walk"),
        at(22, "walk", keyframe=0),
        at(24, "walk", keyframe=0, occluded=1),
        at(26, "pick up"),
        at(28, "none"),
    ]
    person += [at(30, "none", outside=1), at(50, "walk"), at(52, "walk", keyframe=0), at(54, "walk", outside=1)]
    shape = [at(86, "walk")]  # a single shape in the last frame but one: CVAT writes no outside box behind it
    ball = [
        '<polygon frame="20" keyframe="1" outside="0" occluded="0" points="1.00,2.00;3.00,4.00;5.00,1.00" z_order="0"></polygon>'
    ]
    bones = ['<skeleton frame="20" keyframe="1" z_order="0"><points label="1" keyframe="1" points="1,2"></points></skeleton>']
    tracks = [written(0, "person", person), written(1, "ball", ball), written(2, "skeleton", bones), written(3, "person", shape)]
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", TASK.format(kind=kind, id=7, tracks="\n".join(tracks)))
        archive.writestr("images/frame_000010.PNG", b"no picture")
    rows = cvat.read(tmp_path / "task.zip")
    assert set(rows.video) == {"run_1.mp4"} and rows.sizes == {"run_1.mp4": (64, 48)}
    assert set(rows.action) == {"walk", "pick up"}
    assert frames(rows, "walk") == [20, 21, 22, 23, 24, 25, 50, 51, 52, 53, 86] and frames(rows, "pick up") == [26, 27]
    np.testing.assert_allclose(rows.boxes[:, 0], 10 + rows.frame / 4)
    assert rows.track.tolist() == ["0"] * 8 + ["0-2"] * 4 + ["3"]
    assert "1 polygon" in caplog.text and "1 skeleton" in caplog.text
    assert 24 not in frames(cvat.read(tmp_path / "task.zip", occluded="drop"))


def test_a_project_of_several_tasks(tmp_path):
    one = "<task><id>{}</id><name>{}</name><subset>{}</subset><stop_frame>39</stop_frame><original_size><width>64</width>"
    one += "<height>48</height></original_size></task>"
    tasks = one.format(4, "run_1.mp4", "Train") + one.format(9, "run_2", "Validation")
    meta = f"<meta><project><id>2</id><name>gym</name><tasks>{tasks}</tasks><subsets>Train\nValidation</subsets></project></meta>"
    tracks = [track(box(0), box(2), number=n, more=f' task_id="{task}" subset="x"') for n, task in enumerate((9, 4, 9))]
    rows = cvat.read(write(tmp_path / "a.xml", *tracks, meta=meta))
    assert rows.video.tolist() == ["run_2"] * 3 + ["run_1.mp4"] * 3 + ["run_2"] * 3
    assert sorted(set(rows.track)) == ["4:1", "9:0", "9:2"]


def test_projects_name_the_task_of_a_track(tmp_path):
    task = "<task><id>{}</id><source>{}</source><original_size><width>64</width><height>48</height></original_size></task>"
    meta = f"<meta><project><tasks>{task.format(1, 'a.mp4')}{task.format(2, 'b.mp4')}</tasks></project></meta>"
    rows = cvat.read(write(tmp_path / "a.xml", track(box(0), more=' task_id="2"'), track(box(0), more=' task_id="1"'), meta=meta))
    assert rows.video.tolist() == ["b.mp4", "a.mp4"] and len(set(rows.track)) == 2


def test_a_folder_with_an_export_is_a_data_set(tmp_path):
    root = write_folder(tmp_path)
    (root / "boxes.csv").unlink()
    with zipfile.ZipFile(root / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", write(tmp_path / "x.xml", track(box(2), box(5))).read_text())
    (tmp_path / "x.xml").unlink()
    data = load_dataset("custom", root, "trainval")
    video = next(v for v in data.videos if v.tubes)
    assert video.name == "run_1.mp4" and data.classes == ("run",) and [(t.start, t.stop) for t in video.tubes] == [(2, 6)]


def test_videos_of_another_size_than_annotated(tmp_path):
    root = write_folder(tmp_path)
    (root / "boxes.csv").unlink()
    write(root / "a.xml", track(box(2)), meta=META.format(start=0, filter="").replace("<width>64", "<width>128"))
    with pytest.raises(InputError, match="annotated at 128x48, but run_1.mp4 is 64x48"):
        load_dataset("custom", root, "trainval")


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["bomb", "external", "parameter", "lower case"])
def test_entities_are_refused_and_nothing_is_read(tmp_path, encoding, kind):
    canary = tmp_path / "canary.txt"
    canary.write_text("the canary sings")
    outside = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{canary}">]><annotations><track label="&x;"/></annotations>'
    text = {
        "bomb": BOMB,
        "external": outside,
        "parameter": f'<!DOCTYPE a [<!ENTITY % p SYSTEM "file://{canary}"> %p;]><annotations/>',
        "lower case": outside.replace("DOCTYPE", "doctype"),
    }[kind]
    path = tmp_path / "evil.xml"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError) as refused:
        cvat.read(path)
    assert "evil.xml declares a document type or entities" in str(refused.value) and "sings" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no whole XML file"),
        ("<annotations><track id='0' label='run'><box frame=", "no whole XML file"),
        ("<html/>", "begins with <html>"),
        ("<annotations><image id='0'/></annotations>", "is 'CVAT for images'"),
        ("<annotations/>", "holds no box"),
        ("<a>" * 100, "more than 32 deep"),
        ("<annotations>&undefined;</annotations>", "no whole XML file"),
        (f"<annotations>{track(box(0))}</annotations>", "does not say which video.*--video"),
        (f"<annotations>{META.format(start=0, filter='')}{track(box(0), box(0, 11))}</annotations>", "two boxes in frame 0"),
        (
            f"<annotations>{META.format(start=0, filter='')}{track(box(0).replace('frame=', 'f='))}</annotations>",
            "lacks a number",
        ),
        (f"<annotations>{META.format(start=0, filter='')}{track(box(0, float('nan')))}</annotations>", "no number"),
        (f"<annotations>{META.format(start=0, filter='')}{track(box(0), box(10**9))}</annotations>", "no video does"),
        (f"<annotations>{META.format(start=0, filter='')}{track(box(0), label='')}</annotations>", "neither a label"),
    ],
)
def test_damaged_exports_are_refused(tmp_path, text, says):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=f"a.xml.*{says}"):
        cvat.read(tmp_path / "a.xml")


def test_archives_that_are_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "x")
    with pytest.raises(InputError, match="0 files annotations.xml"):
        cvat.read(tmp_path / "a.zip")
    with pytest.raises(InputError, match="gone.xml"):
        cvat.read(tmp_path / "gone.xml")


def content(**change):
    images = [{"id": 10 + f, "file_name": f"run_1/{f:06d}.jpg", "width": 64, "height": 48, "frame_id": f} for f in range(3)]
    boxes = [{"id": f, "image_id": 10 + f, "bbox": [10, 5, 20, 35], "category_id": 3, "track_id": 4} for f in range(3)]
    return {"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "run"}]} | change


def test_coco_style_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content()))
    rows = annotations.read(tmp_path / "a.json", Videos(None))
    assert rows.video.tolist() == ["run_1"] * 3 and frames(rows) == [0, 1, 2] and rows.track.tolist() == ["4"] * 3
    np.testing.assert_array_equal(rows.boxes[0], [10, 5, 30, 40])


def test_coco_with_videos_and_attributes(tmp_path):
    images = [{"id": 1, "video_id": 2, "file_name": "frame_000001.jpg"}]
    boxes = [{"image_id": 1, "bbox": [0, 0, 5, 5], "attributes": {"action": "run,wave", "track_id": 9}}]
    made = {"images": images, "annotations": boxes, "videos": [{"id": 2, "name": "run_1.mp4"}]}
    (tmp_path / "a.json").write_text(json.dumps(made))
    rows = annotations.read(tmp_path / "a.json", Videos(None), first_frame=1)
    assert rows.video.tolist() == ["run_1.mp4"] * 2 and frames(rows) == [0, 0]
    assert rows.action.tolist() == ["run", "wave"] and rows.track.tolist() == ["9", "9"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ([], "of an unknown kind; give the plain csv"),
        ({"images": []}, "of an unknown kind"),
        (content(images=[3]), "must be a list of objects"),
        (content(annotations=[]), "no action"),
        (content(categories=[]), "category 3 has no name"),
        (content(annotations=[{"image_id": 99, "bbox": [0, 0, 1, 1]}]), "image 99, which is not there"),
        (content(annotations=[{"image_id": 10, "category_id": 3, "bbox": [0, 0, 1]}]), "must be x, y, width, height"),
        (content(annotations=[{"image_id": 10, "category_id": 3, "bbox": [0, 0, 1, -4]}]), "x2 < x1"),
        (content(images=[{"id": 10, "file_name": "a.jpg"}]), "which video it is of"),
        (content(images=[{"id": 10, "file_name": "v/a.jpg"}]), "which frame it is"),
        (content(images=[{"id": 10, "file_name": "v/1.jpg"}] * 2), "there twice"),
    ],
)
def test_bad_json_is_refused(tmp_path, made, says):
    (tmp_path / "a.json").write_text(json.dumps(made))
    with pytest.raises(InputError, match=f"a.json.*{says}"):
        annotations.read(tmp_path / "a.json", Videos(None))
    (tmp_path / "a.json").write_text(json.dumps(made)[:-1])
    with pytest.raises(InputError, match="cut off or damaged.*export it again"):
        annotations.read(tmp_path / "a.json", Videos(None))


def run(*arguments):
    try:
        main([str(a) for a in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_imported_boxes_are_those_of_the_export(tmp_path):
    root = write_folder(tmp_path / "own")
    path = write(tmp_path / "export.xml", track(box(0, 10), box(4, 20), box(5, outside=1), box(8), box(9), label="jump"))
    assert run("import-annotations", path, "-o", root / "boxes.csv") == 0
    from_csv = load_dataset("custom", root, "trainval")
    (root / "boxes.csv").unlink()
    path.rename(root / "export.xml")
    direct = load_dataset("custom", root, "trainval")
    one, other = ([t for v in data.videos for t in v.tubes] for data in (from_csv, direct))
    assert [(t.start, t.stop) for t in one] == [(t.start, t.stop) for t in other] == [(0, 5), (8, 10)]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.01)


def test_frames_from_1_and_shares_of_the_frame_are_converted(tmp_path, capsys):
    root = write_folder(tmp_path, ["run_1,1,0.25,0.25,0.5,0.75,run,", "run_1,12,0.25,0.25,0.5,0.75,run,"])
    assert run("import-annotations", root / "boxes.csv", "-o", root / "boxes.csv", "--first-frame", "1") == 2
    assert "look normalised" in capsys.readouterr().err
    more = ("--first-frame", "1", "--boxes", "normalised", "--videos", root / "videos")
    assert run("import-annotations", root / "boxes.csv", "-o", root / "boxes.csv", *more) == 0
    video = next(v for v in load_dataset("custom", root, "trainval").videos if v.tubes)
    assert [(t.start, t.stop) for t in video.tubes] == [(0, 12)]
    np.testing.assert_allclose(video.tubes[0].boxes[0], [16, 12, 32, 36])
    assert run("import-annotations", root / "boxes.csv", "-o", root / "boxes.csv", *more) == 2
    assert "do not count from 1" in capsys.readouterr().err
