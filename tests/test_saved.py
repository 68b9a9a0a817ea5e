"""Detections on disk: what is written is read, other systems' layouts are understood, and what does not fit is refused."""

import json
import os
import pickle
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mssc.data.dataset import Video
from mssc.evaluate import Truth, frame_map
from mssc.scoring import run as scoring
from mssc.scoring.saved import Folder, Known, read_ava, read_detections, read_saved_tubes, read_truth
from mssc.structures import Detections, InputError, Tube

BOX = [10.0, 20.0, 60.0, 90.0]
CLASSES = ("run", "sit", "wave")


def still(frames, label, start=0):
    return Tube(label, 1, start, np.tile(np.array(BOX), (frames, 1)))


@pytest.fixture
def known():
    truth = {"run/v_a_g01": Truth((still(4, 0),), 6, Fraction(25)), "sit/v_b_g02": Truth((still(8, 1),), 8, Fraction(25))}
    return Known(truth, CLASSES)


@pytest.fixture
def rows():
    """Video, frame from 1, class from 0, score, box: every annotated frame but one, and a false one."""
    table = [[0, f, 0, 0.9 - f / 100, *BOX] for f in range(1, 5)] + [[1, f, 1, 0.8 - f / 100, *BOX] for f in range(2, 9)]
    return np.array([*table, [1, 3, 2, 0.3, 100, 100, 130, 140]])


def as_npy(rows, folder):
    np.save(folder / "dets.npy", rows)
    return folder / "dets.npy"


def as_pickle(rows, folder):
    (folder / "dets.pkl").write_bytes(pickle.dumps(rows, protocol=2))
    return folder / "dets.pkl"


def as_dictionary(rows, folder):
    content = {}
    for v, f, c, s, *box in rows.tolist():
        at = content.setdefault(("run/v_a_g01", "sit/v_b_g02")[int(v)], {}).setdefault(int(f), {})
        at[int(c)] = np.concatenate([at.get(int(c), np.zeros((0, 5))), [[*box, s]]])
    (folder / "dets.pickle").write_bytes(pickle.dumps(content))
    return folder / "dets.pickle"


def as_text(rows, folder):
    place = folder / "texts"
    place.mkdir(exist_ok=True)
    (place / "run_v_a_g01_00006.txt").write_text("")  # a frame in which nothing was found
    for v, f, c, s, *box in rows.tolist():
        name = ("run_v_a_g01", "sit_v_b_g02")[int(v)]
        with open(place / f"{name}_{int(f):05d}.txt", "a") as file:
            file.write(" ".join(str(x) for x in (int(c) + 1, s, *box)) + "\n")
    return place


LAYOUTS = [as_npy, as_pickle, as_dictionary, as_text]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_scores(write, rows, known, tmp_path):
    found = read_detections(write(rows, tmp_path), known)
    assert sum(len(d) for frames in found.values() for d in frames.values()) == len(rows)
    assert found["run/v_a_g01"][0].boxes.tolist() == [BOX]  # frame 1 of the file is our frame 0
    assert found["sit/v_b_g02"][2].labels.tolist() == [1, 2]
    score = frame_map(found, known.truth, 3)
    assert score.per_class[:2] == pytest.approx([1, 7 / 8])


@pytest.mark.parametrize("write", LAYOUTS)
@pytest.mark.parametrize(
    "column, row, value, words",
    [
        (0, 0, 5, "v_a_g01|video 5"),  # an unknown video
        (1, 0, 9, "frame 9 of 'run/v_a_g01', whose 6 frames are 1 to 6"),
        (1, slice(None), "shift", "counted from 0.*--first-frame 0"),
        (2, 3, 3, "class 3, but there are 3, counted from 0"),
        (3, 2, 1.5, "score in row .* is 1.5"),
        (3, 2, float("nan"), "NaN"),
        (6, 1, 2.0, "x2 < x1"),
        (slice(4, 8), slice(None), "normalise", "seem to be normalised"),
        (slice(None), 1, "repeat", "duplicates|equal"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(write, column, row, value, words, rows, known, tmp_path):
    if value == "shift":
        rows[:, 1] -= 1
    elif value == "normalise":
        rows[:, 4:] /= 320
    elif value == "repeat":
        rows = np.concatenate([rows, rows[1:2]])
    elif column == 0 and write in (as_dictionary, as_text):
        pytest.skip("names videos, see below")
    else:
        rows[row, column] = value
    path = write(rows, tmp_path)
    with pytest.raises(InputError, match=words) as refused:
        read_detections(path, known)
    assert str(path) in str(refused.value)


def test_frames_from_0_are_read_when_told(rows, known, tmp_path):
    rows[:, 1] -= 1
    found = read_detections(as_npy(rows, tmp_path), known, 0)
    assert sorted(found["run/v_a_g01"]) == [0, 1, 2, 3]
    rows[:, 1] += 1
    rows[-1, 1] = 8
    with pytest.raises(InputError, match="counted from 1.*--first-frame 1"):
        read_detections(as_npy(rows, tmp_path), known, 0)


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_frames_that_are_off_by_one_are_told_by_the_boxes(off, first, tmp_path, caplog):
    # An actor who walks two pixels a frame, found in frames 3 to 26 of 30: every number is in range, whatever it is counted from.
    rng = np.random.default_rng(0)
    boxes = np.array([[10.0 + 2 * t, 20, 40 + 2 * t, 90] for t in range(30)])
    known = Known({"walk/a": Truth((Tube(0, 1, 0, boxes),), 30)}, CLASSES)
    rows = [[0, t + first + off, 0, 0.9 - t / 100, *(boxes[t] + rng.normal(size=4))] for t in range(3, 27)]
    with caplog.at_level("WARNING"):
        read_detections(as_npy(np.array(rows), tmp_path), known, first)
    told = {(1, -1): "--first-frame 0", (0, 1): "--first-frame 1"}.get((first, off), "correct their numbers")
    assert ("fit the truth of the frame" in caplog.text) == bool(off)
    assert not off or (told in caplog.text and f"frame {'after' if off < 0 else 'before'} theirs" in caplog.text)


def test_pickles_with_code_are_refused_and_nothing_runs(known, tmp_path):
    trap = tmp_path / "trap"

    class Code:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    for name, content in (("a.pkl", Code()), ("b.pkl", {"run/v_a_g01": Code()})):
        (tmp_path / name).write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="system"):
            read_detections(tmp_path / name, known)
    np.save(tmp_path / "c.npy", np.array([Code()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="c.npy"):
        read_detections(tmp_path / "c.npy", known)
    assert not trap.exists()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: p / "nothing.npy", "does not exist"),
        (lambda p: as_npy(np.zeros((0, 8)), p), "no detection"),
        (lambda p: as_npy(np.zeros((3, 7)), p), r"\(3, 7\); it must be \(N, 8\)"),
        (lambda p: as_npy(np.array(["a"]), p), "array of numbers"),
        (lambda p: as_pickle({"c/v_c": {1: {0: np.zeros((1, 5))}}}, p), "unknown videos, e.g. 'c/v_c'"),
        (lambda p: as_pickle({"run/v_a_g01": {1: {0: np.zeros((1, 4))}}}, p), r"\(1, 4\); it must be \(n, 5\)"),
        (lambda p: as_pickle({"run/v_a_g01": [1]}, p), "must be a dictionary"),
        (lambda p: text(p, "run_v_a_g01_00001.txt", "1 0.5 0 0 9"), "5 columns; it must have 6"),
        (lambda p: text(p, "run_v_a_g01_00001.txt", "run 0.5 0 0 9 9"), "must be numbers"),
        (lambda p: text(p, "run_v_a_g01_00001.txt", "0 0.5 0 0 9 9"), "counted from 1"),
        (lambda p: text(p, "run_v_a_g01_00001.txt", "\n"), "no detection"),
        (lambda p: text(p, "run_v_z_g01_00001.txt", "1 0.5 0 0 9 9"), "unknown video 'run_v_z_g01'"),
        (lambda p: text(p, "notes.txt", "hello"), "not named"),
        (lambda p: p, "no text file"),
        (lambda p: text(p, "dets.xml", "") / "dets.xml", "no layout"),
    ],
)
def test_other_files_are_refused(make, words, known, tmp_path):
    with pytest.raises(InputError, match=words):
        read_detections(make(tmp_path), known)


def text(folder, name, content):
    (folder / name).write_text(content)
    return folder


# ---------------------------------------------------------------------------------------------------------------- ours


def some(seed, frames):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(frames):
        low = rng.uniform(0, 100, (int(rng.integers(0, 4)), 2))
        out.append(Detections(np.c_[low, low + 30], rng.integers(3, size=len(low)), rng.random(len(low))))
    return out


def test_our_folder_keeps_every_bit(known, tmp_path):
    folder = Folder(tmp_path / "run", {"model": "m"})
    written = {name: some(i, video.frames) for i, (name, video) in enumerate(known.truth.items())}
    for name, frames in written.items():
        assert name not in folder
        folder.write(name, frames)
        assert name in folder
    for name, frames in written.items():
        for a, b in zip(frames, folder.read(name), strict=True):
            for left, right in ((a.boxes, b.boxes), (a.labels, b.labels), (a.scores, b.scores)):
                np.testing.assert_array_equal(left, right)
    found = read_detections(tmp_path / "run", known)
    np.testing.assert_array_equal(frame_map(found, known.truth, 3).per_class, frame_map(written, known.truth, 3).per_class)
    assert not [p for p in (tmp_path / "run").rglob("*") if p.name.endswith(".part")]


def test_our_folder_refuses_another_run_and_damage(known, tmp_path):
    folder = Folder(tmp_path, {"model": "m", "weights": "1"})
    Folder(tmp_path, {"model": "m", "weights": "1"})
    with pytest.raises(InputError, match="weights '1', not '2'"):
        Folder(tmp_path, {"model": "m", "weights": "2"})
    with pytest.raises(InputError, match="lacks 2 of 2"):
        read_detections(tmp_path, known)
    for name, video in known.truth.items():
        folder.write(name, some(0, video.frames))
    file = folder.file("run/v_a_g01")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged"):
        read_detections(tmp_path, known)
    file.unlink()
    folder.write("run/v_a_g01", some(0, 6))
    folder.write("else", some(0, 6))
    with pytest.raises(InputError, match="else.*not in the data set"):
        read_detections(tmp_path, known)
    (tmp_path / "about.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(InputError, match="not of this version"):
        read_detections(tmp_path, known)


def test_detections_of_a_video_that_has_changed_are_not_taken_for_its_own(tmp_path):
    folder, file = Folder(tmp_path / "run", {"model": "m"}), tmp_path / "a.mp4"
    file.write_bytes(b"film")
    video = Video("a", file, 6, 64, 48, Fraction(25), ())
    assert not folder.holds(video)
    folder.write("a", some(0, 6), file)
    assert folder.holds(video)
    taken = file.stat().st_mtime_ns
    file.write_bytes(b"another")
    os.utime(file, ns=(taken, taken - 10**9))  # older than the detections, as a copy that keeps its time
    assert "a" in folder and not folder.holds(video)
    folder.write("a", some(0, 6))
    assert not folder.holds(video), "of which nobody knows what they are of"


def test_long_names_and_hidden_files(known, tmp_path):
    folder = Folder(tmp_path, {"model": "m"})
    long = ["这是一个很长的视频标题" * 8 + end for end in ("甲.mp4", "乙.mp4")]
    for number, name in enumerate(long):
        folder.write(name, some(number, 6))
    files = {folder.file(name) for name in long}
    assert len(files) == 2 and all(len(file.name.encode()) < 256 for file in files)
    assert len(folder.read(long[0])[0]) == len(some(0, 6)[0])
    for file in files:
        file.unlink()
    for name, video in known.truth.items():
        folder.write(name, some(0, video.frames))
        file = folder.file(name)
        file.with_name("._" + file.name).write_bytes(b"AppleDouble")
    assert len(read_detections(tmp_path, known)) == len(known.truth)


def test_names_cannot_leave_the_folder(tmp_path):
    folder = Folder(tmp_path / "run", {})
    for name in ("../../x", "a/b", "/etc/x"):
        assert folder.file(name).parent == tmp_path / "run" / "detections"


# ---------------------------------------------------------------------------------------------------------------- AVA

ROW = "v1,0902,0.1,0.2,0.5,0.9"


def test_ava_columns(tmp_path):
    for lines, score in (
        ([f"{ROW},12", f"{ROW},14"], [1, 1]),
        ([f"{ROW},12,0.25", f"{ROW},14,1"], [0.25, 1]),
        ([f"{ROW},12,3,0.25", f"{ROW},14,4,0.5"], [0.25, 0.5]),  # person, score
        ([f"{ROW},12,3", f"{ROW},14,4"], [1, 1]),  # persons
    ):
        text(tmp_path, "a.csv", "\n".join(lines))
        table = read_ava(tmp_path / "a.csv", range(1, 81))
        assert table.scores.tolist() == score and table.labels.tolist() == [12, 14]
        assert table.frames.tolist() == ["v1,902"] * 2 and table.boxes[0].tolist() == [0.1, 0.2, 0.5, 0.9]


def test_ava_seconds_without_a_box_say_nothing(tmp_path):
    text(tmp_path, "a.csv", f"v1,0901,,,,,,\n{ROW},12,7\nv1,0903,,,,,,\n\n")
    assert read_ava(tmp_path / "a.csv", range(1, 81), scored=False).frames.tolist() == ["v1,902"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "no row"),
        ("v1,902,0.1,0.2,0.5,0.9", "6 columns"),
        (f"{ROW},12,0.5\n{ROW},13", "row 2 has 7 columns"),
        (f"{ROW},run,0.5", "the action is .run., which is no number"),
        (f"{ROW},99,0.5", "action 99"),
        (f"{ROW},1.5,0.5", "no whole number"),
        (f"{ROW},12,nan", "NaN"),
        (f"{ROW},12,1.5", "scores run|must lie"),
        (f"{ROW},12,0.5\n{ROW},13,0.5\n{ROW},12,0.5", "rows 1 and 3 are equal, 1 duplicates"),
        ("v1,902", "2 columns"),
        ("v1,902,10,20,50,90,12,0.5", "pixels"),
        ("v1,902,0.5,0.2,0.1,0.9,12,0.5", "x1, y1, x2, y2"),
        ("v9,902,0.1,0.2,0.5,0.9,12,0.5", "unknown videos, e.g. 'v9'"),
    ],
)
def test_bad_ava_rows_are_refused(content, words, tmp_path):
    text(tmp_path, "a.csv", content)
    with pytest.raises(InputError, match=words):
        read_ava(tmp_path / "a.csv", range(1, 81), {"v1"})


# ---------------------------------------------------------------------------------------------------------------- truth


def test_ground_truth_needs_no_videos(tmp_path):
    rows = np.array([[1, 5, 6, 50, 60], [2, 6, 6, 51, 60]], np.float32)
    content = {
        "labels": ["sit"],
        "gttubes": {"sit/b": {0: [rows]}, "sit/a": {0: [rows]}},
        "nframes": {"sit/b": 2, "sit/a": 2},
        "test_videos": [["sit/b", "sit/a"]],
        "train_videos": [[]],
    }
    (tmp_path / "JHMDB-GT.pkl").write_bytes(pickle.dumps(content))
    known = read_truth("jhmdb", tmp_path, "test")
    assert list(known.truth) == ["sit/b", "sit/a"]  # the order to which indices refer
    assert known.truth["sit/a"].tubes[0].boxes.tolist() == rows[:, 1:].tolist() and known.truth["sit/a"].tubes[0].start == 0
    with pytest.raises(InputError, match="split 2"):
        read_truth("jhmdb", tmp_path, "test", 2)
    entry = {
        "numf": np.uint8(7),
        "label": 1,
        "annotations": [{"label": 1, "sf": 2, "ef": 4, "boxes": np.array([[1, 2, 30, 40]] * 2)}],
    }
    (tmp_path / "pyannot.pkl").write_bytes(pickle.dumps({"Dunk/v": entry, "Dunk/w": entry}))
    (tmp_path / "testlist01.txt").write_text("Dunk/w.avi\n")
    known = read_truth("ucf101-24", tmp_path, "test")
    (video,) = known.truth.values()
    assert list(known.truth) == ["Dunk/w"] and video.frames == 7
    assert (video.tubes[0].start, video.tubes[0].stop, video.tubes[0].boxes[0].tolist()) == (2, 4, [1, 2, 31, 42])


# ------------------------------------------------------------------------------------------------------------- tubes


def tube_arrays(folder, score=0.7, **changes):
    """Both annotated tubes of `known`, and a second, worse one over the first."""
    tubes = [(0, 0, score, 1, 4), (1, 1, 0.6, 1, 8), (0, 0, 0.2, 2, 3)]
    boxes = [[f, *(np.array(BOX) + (n == 2))] for n, (*_, start, count) in enumerate(tubes) for f in range(start, start + count)]
    arrays = {"idx": np.array([[v, c, s, n] for v, c, s, _, n in tubes]), "boxes": np.array(boxes), **changes}
    np.savez(folder / "tubes.npz", **arrays)
    return folder / "tubes.npz"


def tube_pickles(folder):
    for name, label, frames, score in (("run/v_a_g01", 0, 4, 0.7), ("sit/v_b_g02", 1, 8, 0.6)):
        rows = np.array([[f, *BOX, score] for f in range(1, frames + 1)], np.float32)
        content = {c: [(rows, np.float32(score))] if c == label else [] for c in range(3)}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_tubes.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return folder


def test_tubes_are_read_in_both_layouts(known, tmp_path):
    (tmp_path / "pickles").mkdir()
    arrays, pickles = (read_saved_tubes(p, known) for p in (tube_arrays(tmp_path), tube_pickles(tmp_path / "pickles")))
    assert [len(group) for group in arrays.values()] == [2, 1] and [len(group) for group in pickles.values()] == [1, 1]
    for tubes in (arrays, pickles):
        tube = tubes["run/v_a_g01"][0]
        assert (tube.label, tube.start, len(tube)) == (0, 0, 4) and tube.score == pytest.approx(0.7)
        assert tube.boxes.tolist() == [BOX] * 4
    assert arrays["run/v_a_g01"][1].start == 1
    boxes = read_detections(tmp_path / "tubes.npz", known)  # where there are no detections, their boxes are
    assert {frame: len(rows) for frame, rows in boxes["run/v_a_g01"].items()} == {0: 1, 1: 2, 2: 2, 3: 2}


def test_tubes_beside_detections_are_scored_as_they_are(known, rows, tmp_path):
    as_npy(rows, tmp_path)
    tube_arrays(tmp_path)
    found, tubes = read_detections(tmp_path, known), read_saved_tubes(tmp_path, known)
    results = scoring.score(found, known, 0.5, False, tubes=tubes)
    assert results.scores["frame-mAP@0.5 (voc)"] == frame_map(found, known.truth, 3).map < 1
    assert results.scores["video-mAP@0.5"] == results.scores["video-mAP@0.5:0.95"] == 1  # the worse tube is suppressed
    far = {"run/v_a_g01": [Tube(0, 0.9, 0, np.tile([100.0, 100, 130, 140], (4, 1)))]}
    assert scoring.score(found, known, 0.5, False, tubes=far).scores["video-mAP@0.2"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": 1.5}, "tube 1 scores 1.5"),
        ({"score": np.nan}, "NaN"),
        ({"idx": np.zeros((3, 3))}, "must be (M, 4) and (N, 5)"),
        ({"idx": np.array([[0, 0, 0.5, 4.0]])}, "idx counts 4 boxes"),
        ({"idx": np.array([[0, 0, 0.5, 15.0]])}, "from frame 4 to 1 in row 5"),
        ({"idx": np.array([[0, 5, 0.5, 4.0], [1, 1, 0.5, 8], [0, 0, 0.2, 3]])}, "class 5"),
        ({"idx": np.array([[7, 0, 0.5, 4.0], [1, 1, 0.5, 8], [0, 0, 0.2, 3]])}, "video 7"),
        ({"idx": np.array([[0, 0, 0.5, 4.0], [0, 1, 0.5, 8], [0, 0, 0.2, 3]])}, "frame 7 of 'run/v_a_g01', whose 6 frames"),
        ({"idx": np.zeros((0, 4)), "boxes": np.zeros((0, 5))}, "no tube at all"),
    ],
)
def test_bad_tubes_are_refused_by_name(changes, words, known, tmp_path):
    path = tube_arrays(tmp_path, **changes)
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        read_saved_tubes(path, known)
    assert "tubes.npz" in str(refused.value)


def test_files_that_are_no_tubes_are_refused(known, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="KeyError: 'idx"):
        read_saved_tubes(tmp_path / "other.npz", known)
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="other.npz is cut off or damaged"):
        read_saved_tubes(tmp_path / "other.npz", known)
    (tmp_path / "other.npz").unlink()
    (tmp_path / "x").mkdir()
    for name, content, words in (("stranger", {}, "unknown video 'x/stranger'"), ("v_a_g01", [1], "is a list")):
        file = tmp_path / "x" / f"{name}_tubes.pkl"
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="unknown video"):
            read_saved_tubes(tmp_path, known)
        (tmp_path / "run").mkdir(exist_ok=True)
        file.replace(tmp_path / "run" / file.name)
        with pytest.raises(InputError, match="unknown video" if name == "stranger" else words):
            read_saved_tubes(tmp_path, known)
        (tmp_path / "run" / file.name).unlink()
    for tube in ((np.zeros((2, 5)), 0.5), (np.zeros((0, 6)), 0.5), "x", (np.zeros((2, 6)), "high")):
        (tmp_path / "run" / "v_a_g01_tubes.pkl").write_bytes(pickle.dumps({0: [tube]}))
        with pytest.raises(InputError, match="no pair of"):
            read_saved_tubes(tmp_path, known)
    as_npy(np.zeros((1, 8)), tmp_path)
    np.save(tmp_path / "more.npy", np.zeros((1, 8)))
    with pytest.raises(InputError, match="2 arrays, dets.npy and more.npy"):
        read_detections(tmp_path, known)


@pytest.mark.data
def test_known_scores_from_the_folder():
    root = Path(os.environ["MSSC_DATA"])
    known = read_truth("jhmdb", root, "test")
    found, tubes = read_detections(root / "evaluation", known), read_saved_tubes(root / "evaluation", known)
    results = scoring.score(found, known, 0.3, False, "yowo-jhmdb", tubes=tubes).scores
    wanted = {"frame-mAP@0.5 (voc)": 49.744148, "frame-mAP@0.5 (act)": 48.566074, "frame-mAP@0.75 (act)": 7.543193}
    wanted |= {
        "video-mAP@0.2": 62.403553,
        "video-mAP@0.5": 59.256561,
        "video-mAP@0.75": 48.541641,
        "video-mAP@0.5:0.95": 39.039103,
    }
    assert {name: 100 * results[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
