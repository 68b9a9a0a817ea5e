"""Files appear whole or not at all, and errors say what to do."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from mssc.files import STALE, claim, explained, prove_writable, set_aside, undamaged, visible, walk, whole_file, write_whole
from mssc.structures import InputError


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole_file(path) as part:
        part.write_text("one")
        assert not path.exists() and part.parent == path.parent
    assert path.read_text() == "one" and os.listdir(path.parent) == ["a.txt"]
    write_whole(path, "zwei ü\r\n")
    assert path.read_bytes() == "zwei ü\r\n".encode()
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, error):
    (tmp_path / "old.txt").write_text("old")
    for path in (tmp_path / "old.txt", tmp_path / "new" / "folder" / "a.txt"):
        with pytest.raises(InputError if isinstance(error, OSError) else type(error)), whole_file(path) as part:
            part.write_text("half")
            raise error
    assert os.listdir(tmp_path) == ["old.txt"] and (tmp_path / "old.txt").read_text() == "old"


def test_a_real_limit_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"a\.bin cannot be written: the disk is full .*free some space"):
            write_whole(tmp_path / "new" / "a.bin", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (No space left on device); free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "there is no permission to write there (Permission denied); choose"),
        (OSError(errno.EROFS, "Read-only file system"), "there is no permission"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "Not a directory; choose another file or folder."),
        (KeyError("I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_errors_name_the_path_and_the_way_out(error, says):
    with pytest.raises(InputError) as caught, explained("some/where.json", KeyError):
        raise error
    assert str(caught.value).startswith("some/where.json cannot be written: ") and says in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(KeyError), explained("a"):
        raise KeyError("mine")


def test_places_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a", tmp_path / ("x" * 300), Path("/proc/nowhere/a")):
        with pytest.raises(InputError, match="cannot be written"), whole_file(path):
            pytest.fail("work would have started")
    assert os.listdir(tmp_path) == ["file"]


def test_what_killed_processes_left_goes_after_a_day(tmp_path):
    old, young, foreign = (tmp_path / name for name in (".mssc-0a.part", ".mssc-0b.part", ".mine.part"))
    for left in (old, young, foreign):
        left.touch()
        os.utime(left, (left.stat().st_mtime - STALE * (left is not young) - 1,) * 2)
    write_whole(tmp_path / "a", "")
    assert sorted(os.listdir(tmp_path)) == [".mine.part", ".mssc-0b.part", "a"]


def test_damaged_files_are_named_with_the_way_out(tmp_path):
    path = tmp_path / "last.pt"
    for error, says in (
        (RuntimeError("failed finding central directory"), "is cut off or damaged .RuntimeError: failed.*; copy it again"),
        (OSError("no number"), "is cut off or damaged"),
        (FileNotFoundError(2, "No such file"), "cannot be read .No such file.; copy it again"),
        (InputError("scores must lie in [0, 1]."), r"was refused: scores must lie in \[0, 1\]; copy it again"),
    ):
        with pytest.raises(InputError, match=f"last.pt {says}"), undamaged(path, "copy it again"):
            raise error
    with pytest.raises(KeyboardInterrupt), undamaged(path, "copy it again"):
        raise KeyboardInterrupt


def test_what_nobody_of_us_wrote_stays(tmp_path):
    claim(tmp_path / "new", "usable", "report.json", "boxes.png")
    (tmp_path / "boxes.png").write_text("mine")
    with pytest.raises(
        InputError, match="boxes.png is there already, and no earlier run wrote it, or not whole; name another place"
    ):
        claim(tmp_path, "usable", "report.json", "boxes.png")
    for content, ours in (('{"usable": true}', True), ('{"a": 1}', False), ('{"usab', False), ("[]", False), ("3", False)):
        (tmp_path / "report.json").write_text(content)
        with contextlib.nullcontext() if ours else pytest.raises(InputError, match="report.json is there already"):
            claim(tmp_path, "usable", "report.json", "boxes.png")
    assert set_aside(tmp_path / "gone.csv") is None
    assert [set_aside(write_again(tmp_path / "boxes.csv")).name for _ in range(2)] == ["boxes.csv.1", "boxes.csv.2"]


def write_again(path):
    write_whole(path, "a")
    return path


def test_hidden_files_are_not_seen(tmp_path):
    for name in ("._b.npz", "b.npz", "a.npz", "c.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in visible(tmp_path, "*.npz")] == ["a.npz", "b.npz"]


def test_links_are_followed_and_not_in_circles(tmp_path):
    for name in ("in/b/x.txt", "in/a.txt", "in/.hidden/y.txt", "in/.z.txt", "else/far.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for link, goal in (("in/c", "else"), ("in/b/up", "in"), ("else/back", "in/b"), ("in/dead.txt", "nowhere")):
        (tmp_path / link).symlink_to(tmp_path / goal)
    found = [file.relative_to(tmp_path).as_posix() for _, files in walk(tmp_path / "in") for file in files]
    assert found == ["in/a.txt", "in/dead.txt", "in/b/x.txt", "in/c/far.txt", "in/c/back/x.txt"]


def test_that_a_place_can_be_written_to_is_proved_and_nothing_left(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    prove_writable(tmp_path / "old.txt")
    prove_writable(tmp_path / "new" / "folder" / "a.txt")
    for path in (tmp_path, tmp_path / "old.txt" / "a", Path("/proc/nowhere/a")):
        with pytest.raises(InputError, match="cannot be written"):
            prove_writable(path)
    for below in ("a", "a/b/c"):
        with pytest.raises(InputError, match="old.txt is a file, not a folder; choose another folder"):
            prove_writable(tmp_path / "old.txt" / below)
    assert os.listdir(tmp_path) == ["old.txt"] and (tmp_path / "old.txt").read_text() == "old"
