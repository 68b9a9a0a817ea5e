"""Where results go, and what is input: nothing of anybody else's is ever overwritten."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from own_videos import write_video

from mssc.detection.naming import SUFFIXES, Source, find_sources, free_places
from mssc.detection.result import VideoResult
from mssc.structures import Detections, InputError
from mssc.video import VideoInfo, Writer, is_drawn, read


def write_results(base: Path, source: Path, draw: bool = True) -> None:
    """What `mssc detect` leaves about a video."""
    info = VideoInfo(source, 64, 48, Fraction(10), 1, 0.1)
    result = VideoResult(info, ("sit",), [], [Detections.empty()], [0.0], {}, "toy", 0.3)
    result.write_json(base.with_name(base.name + ".json"))
    result.write_csv(base.with_name(base.name + ".csv"))
    if draw:
        with Writer(base.with_name(base.name + ".mp4"), 64, 48, 10, drawn=True) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))


def detect(folder: Path, source: Source) -> str:
    """One run over one video; the name of its results."""
    base = free_places(folder, [source])[0]
    write_results(base, source.file)
    return base.relative_to(folder).as_posix()


def sources(*given: Path) -> list[tuple[str, str]]:
    found, _, _ = find_sources(given)
    return [(source.file.name, source.below.as_posix()) for source in found]


def test_a_source_and_what_we_did_not_write_are_never_in_the_way(tmp_path):
    clip = write_video(tmp_path / "clip.mp4")
    (tmp_path / "clip.json").write_text("mine")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert [detect(tmp_path, Source(clip, Path("clip.mp4"))) for _ in range(3)] == ["clip-2"] * 3
    assert {file: file.read_bytes() for file in before} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip-2.csv", "clip-2.json", "clip-2.mp4", "clip.json", "clip.mp4"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_strange_file_is_enough(tmp_path, suffix):
    source = Source(write_video(tmp_path / "in" / "clip.mp4"), Path("clip.mp4"))
    write_results(tmp_path / "out" / "clip", source.file, draw=False)
    (tmp_path / "out" / f"clip{suffix}").write_text("frame,remark\n")
    assert free_places(tmp_path / "out", [source]) == [tmp_path / "out" / "clip-2"]


def test_results_keep_the_folders_of_their_videos_and_are_of_one_video_each(tmp_path):
    for name in ("in/a/clip.mp4", "in/b/clip.mp4", "in/b/clip.mov", "else/clip.mp4"):
        write_video(tmp_path / "x.mp4").rename((tmp_path / name).parent.mkdir(parents=True, exist_ok=True) or tmp_path / name)
    found, _, _ = find_sources([tmp_path / "in", tmp_path / "else", tmp_path / "in" / "a" / "clip.mp4"])
    out = tmp_path / "out"
    names = ["a/clip", "b/clip", "b/clip-2", "clip"]
    assert [detect(out, source) for source in found] == names  # the file that was named twice comes once
    assert [detect(out, source) for source in found[::-1]] == names[::-1]  # a second run replaces its own
    assert {json.loads(file.read_text())["source"] for file in out.rglob("*.json")} == {
        "../../in/a/clip.mp4", "../../in/b/clip.mp4", "../../in/b/clip.mov", "../else/clip.mp4"
    }  # fmt: skip


def test_results_behind_a_link_are_known_again(tmp_path):
    clip = write_video(tmp_path / "in" / "clip.mp4")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere" / "deep")
    assert [detect(tmp_path / "out", Source(clip, Path("clip.mp4"))) for _ in range(2)] == ["clip"] * 2


def test_earlier_results_and_hidden_files_are_no_input(tmp_path):
    clip = write_video(tmp_path / "clip.mp4")
    for hidden in ("._clip.mp4", ".trash/clip.mp4"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(clip.read_bytes())
    write_results(tmp_path / "results" / "clip", clip)
    assert sources(tmp_path) == [("clip.mp4", "clip.mp4")]
    drawn = tmp_path / "results" / "clip.mp4"
    assert is_drawn(drawn) and not is_drawn(clip) and not is_drawn(tmp_path / "gone.mp4")
    assert sources(drawn) == [("clip.mp4", "clip.mp4")]  # whoever names it means it
    assert free_places(tmp_path / "results", [Source(drawn, Path("clip.mp4"))])[0].name == "clip-2"
    with pytest.raises(InputError, match="holds no video but 1 annotated by an earlier run"):
        sources(tmp_path / "results")
    with pytest.raises(InputError, match="no video was named"):
        sources()


def test_a_folder_of_frames_is_no_video_here(tmp_path):
    (tmp_path / "frame_0.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds images and no video; make a video file of them first"):
        find_sources([tmp_path])


@pytest.mark.parametrize("stem", ["字" * 83 + "ab", "é" * 130, "x" * 255])
def test_names_that_are_too_long_are_cut_between_letters_and_numbered(tmp_path, stem):
    places = [Source(write_video(tmp_path / f"{n}.mp4"), Path(f"{stem}{n}.mp4")) for n in range(2)]
    names = [detect(tmp_path / "out", place) for place in places]
    assert [detect(tmp_path / "out", place) for place in places] == names and len(set(names)) == 2
    for name, number in zip(names, (1, 2), strict=True):
        assert name.endswith(f"-{number}") and stem.startswith(name[:-2]) and 245 < len(name.encode()) <= 250


def test_videos_behind_links_are_found_and_what_is_gone_is_named(tmp_path):
    write_video(tmp_path / "store" / "far" / "x.mp4")
    write_video(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "same.mp4").symlink_to(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "dead.mp4").symlink_to(tmp_path / "gone.mp4")
    assert sources(tmp_path / "in") == [("a.mp4", "a.mp4"), ("dead.mp4", "dead.mp4"), ("x.mp4", "link/far/x.mp4")]
    with pytest.raises(InputError, match=r"dead\.mp4: is a link to .*gone\.mp4, which is not there"):
        next(read(tmp_path / "in" / "dead.mp4"))


def test_patterns_that_the_shell_left_stand_for_files(tmp_path):
    for name in ("a.mp4", "b.mp4", ".c.mp4", "d.txt"):
        (tmp_path / name).touch()
    assert sources(tmp_path / "*.mp4") == [("a.mp4", "a.mp4"), ("b.mp4", "b.mp4")]
    (tmp_path / "what?.mp4").touch()
    assert sources(tmp_path / "what?.mp4") == [("what?.mp4", "what?.mp4")], "a file of just that name"
    with pytest.raises(InputError, match=r"no file or folder has a name like .*\*\.mov; check the path"):
        find_sources([tmp_path / "*.mov"])
