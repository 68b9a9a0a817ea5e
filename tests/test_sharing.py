"""Many videos, by several processes and machines: the same files as one process gives, whatever becomes of some of them."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import run
from odd_work import BAD, KILLED, WRONG, answer, no_load, odd_load, odd_work
from random_weights import finds_everywhere

from mssc.detection import workers
from mssc.detection.detector import Detector
from mssc.detection.naming import find_sources, free_places
from mssc.files import alone
from mssc.model.checkpoint import save_model
from mssc.scoring.saved import Folder
from mssc.structures import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    """A tiny network that finds something everywhere."""
    network = finds_everywhere(tiny_config)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(network, folder, {"threshold": 0.0})
    return folder


@pytest.fixture(scope="module")
def videos(toy_videos):
    """The folder of six toy videos."""
    return toy_videos.videos[0].path.parent


@pytest.fixture(scope="module")
def whole(videos, model, tmp_path_factory):
    """What one process writes about them."""
    return detected(tmp_path_factory.mktemp("whole"), videos, model, "--jobs", 1)


def detected(folder: Path, videos: Path, model: Path, *more) -> dict[str, bytes]:
    """What `detect` leaves. A result names its video as seen from its folder, so that both are always placed alike."""
    (folder / "in").unlink(missing_ok=True)
    (folder / "in").symlink_to(videos)
    assert run("detect", folder / "in", "-o", folder / "out", "--model", model, *more) == 0
    return contents(folder / "out")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments) -> str:
    """Runs a command that must fail as documented; returns its sentence."""
    capsys.readouterr()
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return re.sub(r"\s+", " ", said)


def program(*arguments) -> subprocess.Popen:
    """Python in a session of its own, as from a terminal: also where these tests are a job in the background, which ignores Ctrl-C."""
    start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); python = sys.executable; "
    start += "os.execv(python, [python, *sys.argv[1:]])"
    words = [sys.executable, "-c", start, *(str(word) for word in arguments)]
    places = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=places, stdout=-1, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def launch(*arguments) -> subprocess.Popen:
    """Two processes on this machine. Without a GPU, too, accelerate starts several by itself with --multi_gpu only."""
    how = ("--multi_gpu", "--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no")
    return program("-m", "accelerate.commands.launch", *how, "--main_process_port", 0, *arguments)


# -------------------------------------------------------------------- processes


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_becomes_of_one_video_costs_no_other(jobs):
    items = ["a", WRONG, *([KILLED] if jobs > 1 else []), BAD, "b", "c"]
    moved = {item: [] for item in items}
    ended = workers.each(odd_work, {item: item for item in items}, odd_load, jobs, lambda name, share: moved[name].append(share))
    found = {name: (answer, reason) for name, answer, reason in ended}
    assert {name: found[name] for name in "abc"} == {name: (f"the model saw {name} on 1 thread", None) for name in "abc"}
    assert found[BAD] == (None, "bad.mp4 is no video.")
    assert found[WRONG][1] == "wrong: an error of the program, not of the file: IndexError: list index out of range"
    assert jobs == 1 or "killed: its process was killed, perhaps for lack of memory" in found[KILLED][1]
    assert found.keys() == set(items) and all(shares == [0.5, 1] for name, shares in moved.items() if name != KILLED)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_model_that_cannot_be_loaded_is_refused_once(jobs):
    with pytest.raises(InputError, match="no such model"):
        list(workers.each(odd_work, {"a": "a", "b": "b"}, no_load, jobs))


def test_processes_are_as_many_as_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(workers, "free_memory", lambda: 5 * workers.MEMORY)
    assert workers.how_many(device="cpu") == 5 and workers.how_many(7, "cpu") == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert workers.how_many(device="cpu") == 2
    monkeypatch.setattr(workers, "free_memory", lambda: 0)
    assert workers.how_many(device="cpu") == 1
    with pytest.raises(InputError, match="--jobs is 0; it must be at least 1"):
        workers.how_many(0)


def test_a_place_is_written_by_one_at_a_time(tmp_path):
    once_more = pytest.raises(InputError, match="another run is writing .*a.* at this moment")
    with alone(tmp_path / "a"), alone(tmp_path / "b"), once_more, alone(tmp_path / "a"):
        pytest.fail("two at once")
    with alone(tmp_path / "a"):
        assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------- detect


def test_a_folder_by_two_processes_is_as_by_one(videos, whole, model, tmp_path):
    assert len(whole) == 18 and all(json.loads(whole[name])["tubes"] for name in whole if name.endswith(".json"))
    assert detected(tmp_path, videos, model, "--jobs", 2) == whole


def test_shards_write_what_the_whole_run_does(videos, whole, model, tmp_path):
    for number in (3, 1, 2, 4):
        found = detected(tmp_path, videos, model, "--shard", f"{number}/4")
        if number == 3:
            assert found == {name: whole[name] for name in whole if name.startswith("train-0002")}
    assert found == whole


def test_the_same_command_goes_on_where_it_was(videos, whole, model, tmp_path, monkeypatch, caplog):
    detected(tmp_path, videos, model)
    out = tmp_path / "out"
    (out / "train-0001.mp4").unlink()  # as where the process was killed while it drew
    (out / "train-0003.csv").unlink()
    os.utime(out / "train-0004.mp4", ns=(0, 0))  # that of an earlier run
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    with caplog.at_level("INFO"):
        assert detected(tmp_path, videos, model) == whole
    assert "3 of 6 videos are done already" in caplog.text
    changed = {path.name[:10] for path in out.iterdir() if times.get(path) != path.stat().st_mtime_ns}
    assert changed == {"train-0001", "train-0003", "train-0004"}

    def no_work(*_):
        raise InputError("work begins")

    monkeypatch.setattr(Detector, "load", no_work)
    assert detected(tmp_path, videos, model) == whole
    assert run("detect", tmp_path / "in", "-o", out, "--model", model, "--threshold", 0.5) == 2, "another threshold is other work"
    assert run("detect", tmp_path / "in", "-o", out, "--model", model, "--runtime", "openvino-bf16") == 2, "so is another runtime"
    before = (videos / "train-0005.mp4").stat()
    os.utime(videos / "train-0005.mp4", ns=(0, 0))  # older than the results, as a copy that keeps its time
    assert run("detect", tmp_path / "in", "-o", out, "--model", model) == 2, "another video is other work"
    os.utime(videos / "train-0005.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))


def test_names_do_not_depend_on_what_is_done(videos, model, tmp_path):
    for number, place in enumerate("abc"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "clip.mp4").write_bytes((videos / f"train-000{number}.mp4").read_bytes())
    given = [tmp_path / place for place in "bac"]
    sources, _, _ = find_sources(given)
    names = ["clip", "clip-2", "clip-3"]
    assert [base.name for base in free_places(tmp_path / "out", sources)] == names
    assert run("detect", *given, "-o", tmp_path / "out", "--model", model, "--no-draw", "--shard", "2/3") == 0
    assert sorted(contents(tmp_path / "out")) == ["clip-2.csv", "clip-2.json"]
    assert [base.name for base in free_places(tmp_path / "out", sources)] == names


@pytest.mark.parametrize("command", ["detect", "evaluate"])
@pytest.mark.parametrize("shard", ["0/3", "4/3", "x", "3", "1/0", "1/3/5", "7/7"])
def test_what_is_no_shard_is_refused(command, shard, videos, model, toy_data, tmp_path, capsys):
    what = (videos, "--model", model) if command == "detect" else (model, "--dataset", "toy")
    said = refused(capsys, command, *what, "-o", tmp_path / "out", "--shard", shard)
    assert (
        "there are 6 in all; cut them into 6 parts at most" if shard == "7/7" else f"--shard is '{shard}'; write it as 3/16"
    ) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_ends_all_its_processes_and_leaves_no_half_file(how, videos, tmp_path):
    """By graphs: three processes that import torch take longer than all else."""
    (tmp_path / "in").mkdir()
    for number in range(200):
        (tmp_path / "in" / f"{number}.mp4").write_bytes((videos / "train-0000.mp4").read_bytes())
    out = tmp_path / "out"
    one = program("-m", "mssc", "detect", tmp_path / "in", "-o", out, "--model", "toy", "--runtime", "onnx", "--jobs", 2)
    while one.poll() is None and not list(out.glob("*.mp4")):
        time.sleep(0.05)
    others = psutil.Process(one.pid).children(recursive=True)
    (os.killpg if how == signal.SIGINT else os.kill)(one.pid, how)  # Ctrl-C reaches all of them
    said, _ = one.communicate(timeout=60)
    assert not psutil.wait_procs(others, timeout=30)[1] and len(others) >= 2
    assert one.returncode == (-how if how == signal.SIGKILL else 2) and "Traceback" not in said
    found = contents(out)
    assert 0 < len(found) < 600 and not [name for name in found if name.startswith(".")]
    assert how == signal.SIGKILL or said.endswith("mssc: stopped.\n")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX only")
def test_an_interrupt_while_a_process_starts_is_not_lost(monkeypatch):
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's job in the background ignores it, and so do the tests
    start = multiprocessing.get_context("spawn").Process.start

    sent, others = [], set(multiprocessing.active_children())

    def slowly(self):
        start(self)
        if not sent:  # a second one could come while the processes are being ended
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", slowly)
    with pytest.raises(KeyboardInterrupt):
        list(workers.each(answer, {"a": 1, "b": 2}, dict, 2))
    signal.signal(signal.SIGINT, before)
    assert not set(multiprocessing.active_children()) - others


def test_a_launch_divides_the_videos_and_brings_the_failures_together(videos, whole, model, tmp_path):
    (tmp_path / "in").symlink_to(videos)
    (tmp_path / "bad.mp4").write_text("no video")  # the last of seven: the fourth of the first process
    what = ("detect", tmp_path / "in", tmp_path / "bad.mp4", "-o", tmp_path / "out", "--model", model)
    said, _ = launch("-m", "mssc", *what).communicate(timeout=120)
    assert contents(tmp_path / "out") == whole
    assert "mssc: 1 of 7 videos failed:" in said and said.count("bad.mp4 is") <= 1
    assert "4.0/4 videos" in said and "7 videos [" not in said, "each process had its share"


# -------------------------------------------------------------------- evaluate


@pytest.fixture
def no_page(monkeypatch):
    """The page's pictures take longer than all else."""
    monkeypatch.setattr("mssc.scoring.report.page", lambda *_: "page")


def test_shards_of_an_evaluation_score_as_one_run(model, toy_data, no_page, tmp_path, monkeypatch, caplog):
    def evaluated(folder: str, *more: str) -> dict[str, bytes]:
        words = ["evaluate", model, "--dataset", "toy", "-o", "out", *more]
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr("sys.argv", ["mssc", *map(str, words)])
        assert run(*words) == 0
        return contents(tmp_path / folder)

    one = evaluated("one")
    assert len(one) == 6 + 4 and json.loads(one["out/result.json"])["videos"] == 6
    with caplog.at_level("INFO"):
        assert len(evaluated("shards", "--shard", "2/2")) == 3 + 1
    assert "3 of 6 videos are left to other shards" in caplog.text
    assert evaluated("shards", "--shard=1/2") == one
    for name in ("result.json", "result.md", "report.html"):
        (tmp_path / "shards" / "out" / name).unlink()
    assert evaluated("shards") == one, "a later command brings them together, too"
    assert evaluated("two", "--jobs", "2").keys() == one.keys()
    found = contents(tmp_path / "two")
    assert [name for name in one if found[name] != one[name] and "detections" in name] == []


def test_saved_detections_have_no_shards(tmp_path, capsys):
    said = refused(capsys, "evaluate", "--detections", tmp_path, "--dataset", "toy", "--shard", "1/2")
    assert "--shard 1/2 is of a model's work" in said


LAUNCHED = """
import sys, mssc.data.catalogue, mssc.scoring.report
from mssc.data import toy
from mssc.__main__ import main
if __name__ == "__main__":  # not in the processes that this one starts
    data = toy.generate(sys.argv.pop(1), 6, size=(64, 48), frames=(12, 16))
    mssc.data.catalogue.load_dataset = lambda *_: data
    mssc.scoring.report.page = lambda *_: "page"
    main()
"""


def test_a_launch_evaluates_as_one_process_does(videos, model, toy_data, no_page, tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text(LAUNCHED)
    words = ["evaluate", str(model), "--dataset", "toy", "-o", str(tmp_path / "out")]
    said, _ = launch(tmp_path / "one.py", videos, *words).communicate(timeout=120)
    together = contents(tmp_path / "out")
    assert "3.0/3 videos" in said and len(together) == 6 + 4, said
    (tmp_path / "out").rename(tmp_path / "launched")
    monkeypatch.setattr("sys.argv", ["mssc", *words])
    assert run(*words) == 0 and contents(tmp_path / "out") == together


def test_a_folder_that_another_run_takes_meanwhile_is_not_written_to(tmp_path):
    ours = Folder(tmp_path, {"weights": "ours"})
    ours.write("a", [])
    (tmp_path / "about.json").unlink()  # as if two runs had found it empty
    Folder(tmp_path, {"weights": "theirs"})
    with pytest.raises(InputError, match="weights 'theirs', not 'ours'; name another output folder"):
        ours.write("b", [])
    assert "b" not in ours
