import dataclasses
import errno
import json
import logging
import multiprocessing
import os
import pickle
import shutil
from collections import namedtuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mssc.data import Dataset, Video
from mssc.data import cache as module
from mssc.data.cache import FrameCache
from mssc.structures import InputError
from mssc.video import Writer


def picture(number: int, frame: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Flat colours survive a codec: red tells the video, green the frame."""
    return np.full((height, width, 3), (40 * number, 10 * frame, 128), np.uint8)


def folder_video(root: Path, name: str, number: int, frames: int = 6, claimed: int | None = None, size=(64, 48)) -> Video:
    path = root / name
    path.mkdir(parents=True)
    for t in range(frames):
        Image.fromarray(picture(number, t, *size)).save(path / f"{t + 1:05d}.png")
    return Video(name, path, claimed or frames, *size, Fraction(25), ())


def dataset(root: Path, count: int = 3, **options) -> Dataset:
    return Dataset("d", ("x",), tuple(folder_video(root, f"v{i}", i, **options) for i in range(count)))


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of what was decoded, in any order."""
    seen, original = [], module.decode

    def counting(path: Path):
        seen.append(path.name)
        yield from original(path)

    monkeypatch.setattr(module, "decode", counting)
    return seen


def check(cache: FrameCache, count: int = 3, frames: int = 6) -> None:
    for i in range(count):
        assert cache.length(f"v{i}") == frames and cache.size(f"v{i}") == (48, 64)
        expected = np.stack([picture(i, t) for t in range(frames)])
        np.testing.assert_array_equal(cache.frames(f"v{i}", range(frames)), expected)


def test_frames_come_back_exactly(tmp_path):
    cache = FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    check(cache)
    got = cache.frames("v1", [5, 0, 0, -3, 99])
    assert got.dtype == np.uint8 and got.shape == (5, 48, 64, 3)
    assert got[:, 0, 0, 1].tolist() == [50, 0, 0, 0, 50]  # clamped at both ends
    got[:] = 0
    check(cache)  # a copy was handed out
    assert cache.frames("v1", []).shape == (0, 48, 64, 3)
    assert "v1" in cache and "v9" not in cache


def test_video_files_are_decoded(tmp_path):
    path = tmp_path / "a.mp4"
    with Writer(path, 64, 48, Fraction(25)) as writer:
        for t in range(6):
            writer.write(picture(2, t))
    data = Dataset("d", ("x",), (Video("a", path, 6, 64, 48, Fraction(25), ()),))
    cache = FrameCache.build(data, tmp_path / "out", progress=False)
    expected = np.stack([picture(2, t) for t in range(6)])
    assert np.abs(cache.frames("a", range(6)).astype(int) - expected).max() <= 4
    np.testing.assert_array_equal(cache.frames("a", range(6)), np.stack(list(module.decode(path))))


def test_large_frames_are_made_smaller(tmp_path):
    videos = folder_video(tmp_path, "wide", 1, size=(64, 30)), folder_video(tmp_path, "small", 2, size=(20, 32))
    data = Dataset("d", ("x",), videos)
    cache = FrameCache.build(data, tmp_path / "out", progress=False, max_side=32)
    assert cache.size("wide") == (15, 32) and cache.size("small") == (32, 20)
    np.testing.assert_array_equal(cache.frames("wide", [3])[0], picture(1, 3, 32, 15))
    lines = np.zeros((4, 64, 3), np.uint8)
    lines[:, ::4] = 200  # making it smaller averages pixels rather than dropping them
    assert np.abs(module.resize(lines, 1, 16)[0, 2:-2].astype(int) - 50).max() <= 2


def test_reuse_subset_and_addition(tmp_path, decoded):
    data = dataset(tmp_path / "in")
    first = data.subset(["v0", "v1"])
    FrameCache.build(first, tmp_path / "out", progress=False)
    assert sorted(decoded) == ["v0", "v1"]
    check(FrameCache.build(data.subset(["v1"]), tmp_path / "out", progress=False), 2)  # extra videos stay
    assert sorted(decoded) == ["v0", "v1"]
    check(FrameCache.build(data, tmp_path / "out", progress=False))  # the third is added
    assert sorted(decoded) == ["v0", "v1", "v2"]
    check(FrameCache(tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == 2  # the old file is gone


def test_what_changed_is_decoded_again(tmp_path, decoded):
    data = dataset(tmp_path / "in")
    FrameCache.build(data, tmp_path / "out", progress=False)
    decoded.clear()
    Image.fromarray(picture(5, 9)).save(tmp_path / "in" / "v1" / "00003.png")
    cache = FrameCache.build(data, tmp_path / "out", progress=False)
    assert decoded == ["v1"]
    np.testing.assert_array_equal(cache.frames("v1", [2])[0], picture(5, 9))
    np.testing.assert_array_equal(cache.frames("v2", [2])[0], picture(2, 2))
    decoded.clear()
    longer = dataclasses.replace(data.videos[0], frames=5)  # the annotations changed
    assert FrameCache.build(Dataset("d", ("x",), (longer,)), tmp_path / "out", progress=False).length("v0") == 5
    assert decoded == ["v0"]
    decoded.clear()
    FrameCache.build(data, tmp_path / "out", progress=False, max_side=24)
    assert sorted(decoded) == ["v0", "v1", "v2"]


@pytest.mark.parametrize("damage", ["index", "version", "frames", "gone"])
def test_a_damaged_cache_is_not_used(tmp_path, decoded, damage):
    data, out = dataset(tmp_path / "in"), tmp_path / "out"
    FrameCache.build(data, out, progress=False)
    decoded.clear()
    file = next(out.glob("frames-*.bin"))
    index = out / "index.json"
    if damage == "index":
        index.write_text(index.read_text()[:50])
    elif damage == "version":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 0}))
    elif damage == "frames":
        os.truncate(file, file.stat().st_size - 1)
    else:
        file.unlink()
    with pytest.raises(InputError, match="no complete frame cache"):
        FrameCache(out)
    check(FrameCache.build(data, out, progress=False))
    assert len(decoded) == 3


def test_short_and_long_videos(tmp_path, caplog):
    videos = (folder_video(tmp_path, "short", 1, frames=5, claimed=6), folder_video(tmp_path, "long", 2, frames=7, claimed=6))
    with caplog.at_level(logging.INFO):
        cache = FrameCache.build(Dataset("d", ("x",), videos), tmp_path / "out", progress=False)
    assert cache.length("short") == 5 and cache.length("long") == 6
    assert cache.frames("short", [4, 5])[:, 0, 0, 1].tolist() == [40, 40]
    assert "short has 5 frames, but 6 are annotated" in caplog.text and "long goes on after its 6" in caplog.text


def bad_folder(root: Path, kind: str) -> Video:
    video = folder_video(root, "bad", 1)
    if kind == "missing":
        shutil.rmtree(video.path)
    elif kind == "empty":
        for file in video.path.iterdir():
            file.unlink()
    elif kind == "size":
        return dataclasses.replace(video, width=32)
    elif kind == "image":
        (video.path / "00002.png").write_text("no image")
    elif kind == "video":
        shutil.rmtree(video.path)
        video.path.with_suffix(".mp4").write_text("no video")
        return dataclasses.replace(video, path=video.path.with_suffix(".mp4"))
    return video


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "bad.*cannot be read"),
        ("empty", "bad holds no image"),
        ("size", "bad is 64x48, but its annotations are for 32x48"),
        ("image", "00002.png cannot be read"),
        ("video", "bad.mp4"),
    ],
)
def test_a_bad_source_does_not_cost_what_was_decoded(tmp_path, kind, says):
    data, out = dataset(tmp_path / "in"), tmp_path / "out"
    FrameCache.build(data, out, progress=False)
    bad = bad_folder(tmp_path / "in", kind)
    worse = Dataset("d", ("x",), (folder_video(tmp_path / "in", "first", 3), bad, *data.videos))
    with pytest.raises(InputError, match=says):
        FrameCache.build(worse, out, progress=False, workers=1)
    check(FrameCache(out))
    assert "bad" not in FrameCache(out) and len(list(out.iterdir())) == 2
    assert ("first" in FrameCache(out)) == (kind not in ("missing", "empty"))  # these are seen before any work
    before = sorted(out.iterdir())
    with pytest.raises(InputError, match=says):
        FrameCache.build(Dataset("d", ("x",), (bad,)), out, progress=False)
    assert sorted(out.iterdir()) == before


def test_full_disk_is_seen_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, module.MARGIN))
    with pytest.raises(InputError, match=r"need 0\.0 GB and .* has 0\.1 GB free; make room"):
        FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_full_disk_on_the_way(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_decode_one", full)
    with pytest.raises(InputError, match="cannot be written: .*No space left"):
        FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_full_disk_for_the_index(tmp_path, monkeypatch):
    data, out = dataset(tmp_path / "in"), tmp_path / "out"
    FrameCache.build(data.subset(["v0"]), out, progress=False)
    before = sorted(out.iterdir())

    def full(self, *_, **__):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left"):
            FrameCache.build(data, out, progress=False)
    assert sorted(out.iterdir()) == before and FrameCache(out).length("v0") == 6


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    original = module.decode

    def interrupted(path: Path):
        if path.name == "v1":
            raise KeyboardInterrupt
        yield from original(path)

    monkeypatch.setattr(module, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_unusable_folder_and_arguments(tmp_path):
    data = dataset(tmp_path / "in", 1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file.* cannot be written"):
        FrameCache.build(data, tmp_path / "file", progress=False)
    with pytest.raises(InputError, match="at least 1 pixel"):
        FrameCache.build(data, tmp_path / "out", progress=False, max_side=0)
    with pytest.raises(InputError, match="no complete frame cache"):
        FrameCache(tmp_path / "nowhere")
    cache = FrameCache.build(data, tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="does not hold the video 'v9'"):
        cache.frames("v9", [0])


def test_killed_builds_are_cleaned_up_after_a_while(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    old, young = out / "frames-11111111.bin", out / "frames-22222222.bin"
    for file, age in ((old, 7200), (young, 60)):
        file.touch()
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - age))
    FrameCache.build(dataset(tmp_path / "in"), out, progress=False)
    assert not old.exists() and young.exists()  # another process may be writing the young one


def _sums(cache: FrameCache) -> list[int]:
    return [int(cache.frames(f"v{i}", range(6)).sum()) for i in range(3)]


def test_spawned_workers_get_the_place_not_the_frames(tmp_path):
    cache = FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    expected = _sums(cache)
    travelling = pickle.dumps(cache)
    assert len(travelling) < 2000
    assert _sums(pickle.loads(travelling)) == expected


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_workers_open_the_file_themselves(tmp_path):
    cache = FrameCache.build(dataset(tmp_path / "in"), tmp_path / "out", progress=False)
    expected = _sums(cache)  # the file is open before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=lambda: queue.put((_sums(cache), cache._owner == os.getpid())))
    worker.start()
    assert queue.get(timeout=60) == (expected, True)
    worker.join()


def test_a_cache_that_was_rebuilt_elsewhere(tmp_path):
    data = dataset(tmp_path / "in")
    stale = FrameCache.build(data.subset(["v0"]), tmp_path / "out", progress=False)
    FrameCache.build(data, tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="open the frame cache again"):
        stale.frames("v0", [0])


@pytest.mark.data
def test_real_short_video(tmp_path, caplog):
    """One clip of J-HMDB-21 has a frame less than its annotations."""
    from mssc.data import jhmdb

    if not os.environ.get("MSSC_DATA"):
        pytest.skip("MSSC_DATA names no folder")
    name = "stand/BIG_FISH_stand_u_nm_np1_fr_med_27"
    data = jhmdb.load(Path(os.environ["MSSC_DATA"]) / "jhmdb", part="trainval").subset([name])
    cache = FrameCache.build(data, tmp_path, progress=False)
    assert cache.length(name) == 35 and data.videos[0].frames == 36 and name in caplog.text


def sparse(root: Path, labelled: tuple[int, ...], frames: int = 24, claimed: int | None = None, rate: int = 25) -> Dataset:
    video = dataclasses.replace(folder_video(root, "film", 1, frames, claimed), labelled=labelled, rate=Fraction(rate))
    return Dataset("d", ("x",), (video,))


def test_only_what_lies_near_labelled_frames_is_kept(tmp_path):
    data = sparse(tmp_path / "in", (4, 6, 15))
    cache = FrameCache.build(data, tmp_path / "out", progress=False, reach=2)  # 2 to 8 and 13 to 17
    (file,) = (tmp_path / "out").glob("frames-*.bin")
    assert file.stat().st_size == (7 + 5) * 48 * 64 * 3
    for opened in (cache, FrameCache(tmp_path / "out")):
        assert opened.length("film") == 18
        near = [2, 5, 8, 13, 17, 16]
        np.testing.assert_array_equal(opened.frames("film", near), np.stack([picture(1, t) for t in near]))
        np.testing.assert_array_equal(opened.frames("film", [0, 99]), np.stack([picture(1, 2), picture(1, 17)]))
        with pytest.raises(InputError, match="frame 9 of 'film' is not cached"):
            opened.frames("film", [8, 9])


def test_another_reach_or_other_labels_are_decoded_again(tmp_path, decoded):
    folder = tmp_path / "out"
    data = sparse(tmp_path / "in", (4, 15))
    for again, reach, labelled in (
        (True, 2, (4, 15)),
        (False, 2, (4, 15)),
        (True, 3, (4, 15)),
        (True, 3, (5,)),
        (True, None, (5,)),
    ):
        decoded.clear()
        video = dataclasses.replace(data.videos[0], labelled=labelled)
        cache = FrameCache.build(dataclasses.replace(data, videos=(video,)), folder, progress=False, reach=reach)
        assert bool(decoded) == again, (reach, labelled)
        np.testing.assert_array_equal(cache.frames("film", [5])[0], picture(1, 5))
    assert cache.length("film") == 24


def test_fast_films_reach_as_many_looks(tmp_path):
    cache = FrameCache.build(sparse(tmp_path / "in", (10,), rate=60), tmp_path / "out", progress=False, reach=2)
    assert cache.length("film") == 15  # every second of 60 frames is looked at: 6 to 14
    np.testing.assert_array_equal(cache.frames("film", [6, 14]), np.stack([picture(1, 6), picture(1, 14)]))


def test_a_film_that_ends_early_keeps_what_there_is(tmp_path, caplog):
    data = sparse(tmp_path / "in", (4, 15, 40), frames=16, claimed=60)
    with caplog.at_level(logging.WARNING):
        cache = FrameCache.build(data, tmp_path / "out", progress=False, reach=2)
    assert cache.length("film") == 16 and "has 8 frames" in caplog.text
    np.testing.assert_array_equal(cache.frames("film", [15])[0], picture(1, 15))


def test_labelled_videos_beside_others(tmp_path):
    data = sparse(tmp_path / "in", (4,))
    both = dataclasses.replace(data, videos=(*dataset(tmp_path / "in").videos, *data.videos))
    cache = FrameCache.build(both, tmp_path / "out", progress=False, reach=1)
    check(cache)
    np.testing.assert_array_equal(cache.frames("film", [3, 4, 5]), np.stack([picture(1, t) for t in (3, 4, 5)]))
