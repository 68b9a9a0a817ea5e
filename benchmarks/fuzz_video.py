"""Damaged video files by the thousand: whatever is wrong with one, reading it must give frames or one sentence, never a traceback.

    python benchmarks/fuzz_video.py [--files 10000] [--seed 0] [--first 0] [--keep outputs/fuzz]

Small videos of many containers are made; then bytes are changed, cut out, doubled or cut off, and each result is probed, timed,
and read and written again with its sound, as for an annotated video. An exception that is no InputError, a crash, or more than a
minute for one file, even in a library that does not return, is a find: it is printed, and its file kept with as few changes as still
show it, or whole if it ended the process. File n is the same in every run of the same seed. Exit code 1 with finds.
"""

import argparse
import faulthandler
import logging
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mssc.structures import InputError
from mssc.video import Writer, probe, read, times

SIZE, FRAMES = (64, 48), 12
SOURCES = {
    "a.mp4": ("libx264", "yuv420p", "aac"),
    "b.mp4": ("libx265", "yuv420p10le", None),
    "c.mp4": ("mpeg4", "yuv420p", "libmp3lame"),
    "a.mov": ("mjpeg", "yuvj420p", "pcm_s16le"),
    "b.mov": ("qtrle", "rgb24", None),
    "a.mkv": ("libx264", "yuv420p", "flac"),
    "b.mkv": ("ffv1", "yuv420p", None),
    "a.webm": ("libvpx", "yuv420p", "libopus"),
    "b.webm": ("libvpx-vp9", "yuv420p", None),
    "a.avi": ("mpeg4", "yuv420p", "mp2"),
    "b.avi": ("rawvideo", "bgr24", None),
    "a.ts": ("mpeg2video", "yuv420p", "mp2"),
    "b.ts": ("libx264", "yuv420p", "aac"),
    "a.mpg": ("mpeg1video", "yuv420p", "mp2"),
    "a.flv": ("flv", "yuv420p", "libmp3lame"),
    "a.wmv": ("wmv2", "yuv420p", None),
    "a.gif": ("gif", "rgb8", None),
    "a.apng": ("apng", "rgb24", None),
    "a.ogv": ("libvpx", "yuv420p", "libopus"),
    "a.nut": ("libx264", "yuv420p", "aac"),
    "a.ivf": ("libvpx-vp9", "yuv420p", None),
    "d.mp4": ("libsvtav1", "yuv420p", None),
    "c.mov": ("prores_ks", "yuv422p10le", None),
    "a.h264": ("libx264", "yuv420p", None),
    "a.mxf": ("mpeg2video", "yuv420p", None),
    "e.mp4": ("libx264", "yuv420p", "aac"),
    "c.mkv": ("libx264", "yuv420p", "aac"),
    "a.asf": ("msmpeg4", "yuv420p", None),
    "a.vob": ("mpeg2video", "yuv420p", "mp2"),
    "a.dv": ("dvvideo", "yuv420p", None),
}
OPTIONS = {"e.mp4": {"movflags": "frag_keyframe+empty_moov"}, "c.mkv": {"live": "1"}}  # as streamed; without a duration
SECONDS = 60  # for one file
BATCH = 500  # files of one process

Change = Callable[[bytearray], None]


def make_sources(folder: Path) -> None:
    """The whole videos."""
    for name, (codec, pixels, sound) in SOURCES.items():
        with av.open(str(folder / name), "w", options=OPTIONS.get(name, {})) as out:
            stream = out.add_stream(codec, rate=25, options={"x265-params": "log-level=none"} if codec == "libx265" else {})
            width, height = (720, 576) if codec == "dvvideo" else SIZE
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            if name == "b.mp4":
                stream.codec_context.color_trc, stream.codec_context.color_primaries = 16, 9
            if name == "a.ts":
                stream.codec_context.options = {"flags": "+ildct+ilme"}
            track = out.add_stream(sound, rate=48000, layout="mono") if sound else None
            for index in range(FRAMES):
                image = np.zeros((height, width, 3), np.uint8)
                image[:, 4 * index : 4 * index + 8], image[: 4 * index + 4, :, 0] = 255, 120
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
            if track is not None:
                tone = av.AudioFrame.from_ndarray(np.sin(np.arange(24000) / 9).astype(np.float32)[None] / 2, "fltp", "mono")
                tone.sample_rate, tone.pts = 48000, 0
                out.mux(track.encode(tone))
                out.mux(track.encode(None))


def changes(data: bytes, rng: random.Random) -> list[Change]:
    """What is done to a file, each by itself; headers and indices, at both ends, are hit more often."""

    def place() -> int:
        near = rng.choice((64, 1024, len(data), len(data)))
        offset = rng.randrange(min(near, len(data)))
        return offset if rng.random() < 0.7 else len(data) - 1 - offset

    def byte(at: int, value: int) -> Change:
        return lambda d: d.__setitem__(at, value) if at < len(d) else None

    def bit(at: int, number: int) -> Change:
        return lambda d: d.__setitem__(at, d[at] ^ 1 << number) if at < len(d) else None

    def span(at: int, length: int, by: bytes) -> Change:
        return lambda d: d.__setitem__(slice(at, at + length), by)

    kind, found = rng.random(), []
    if kind < 0.8:
        for _ in range(rng.choice((1, 2, 4, 16, 64))):
            value = rng.choice((0, 255, 127, 128, rng.randrange(256)))
            found.append(byte(place(), value) if rng.random() < 0.6 else bit(place(), rng.randrange(8)))
    if 0.6 < kind < 0.9:
        at, length = place(), rng.choice((1, 4, 64, 512))
        found.append(span(at, length, rng.choice((b"", bytes(length), data[at : at + length] * 2, rng.randbytes(length)))))
    if kind > 0.85:
        found.append(span(rng.randrange(8, len(data)), len(data), b""))
    return found


def build(data: bytes, steps: list[Change]) -> bytes:
    """The file after these changes."""
    changed = bytearray(data)
    for step in steps:
        step(changed)
    return bytes(changed)


def attempt(path: Path) -> tuple[str, str]:
    """How it went: "read", "refused" or an exception's name, and for that its traceback."""
    outcome = "read"
    faulthandler.dump_traceback_later(4 * SECONDS, exit=True)  # an alarm is heard between two lines of Python only
    for work in (probe, times, copy):
        signal.alarm(SECONDS)
        try:
            work(path)
        except InputError as error:
            outcome = "refused"
            if str(path) not in str(error):
                return "a sentence without the file's name", str(error)
        except Exception as error:
            return type(error).__name__, traceback.format_exc()
        finally:
            signal.alarm(0)
    return outcome, ""


def copy(path: Path) -> None:
    """Writes the video again, with its sound."""
    info = probe(path)
    with Writer(path.with_suffix(".copy.mp4"), info.width, info.height, info.rate, info.pixel_aspect, sound=path) as writer:
        for frame in read(path):
            writer.write(frame.image, frame.time)


def too_long(*_: object) -> None:
    """A file that takes too long is a find as well."""
    raise TimeoutError(f"more than {SECONDS} s")


def smallest(data: bytes, steps: list[Change], path: Path, found: str) -> bytes:
    """The file with as few of the changes as still show the find; `path` is written to on the way."""
    for step in list(steps):
        fewer = [other for other in steps if other is not step]
        path.write_bytes(build(data, fewer))
        if fewer and attempt(path)[0] == found:
            steps = fewer
    return build(data, steps)


def work(folder: Path, keep: Path, seed: int, first: int, last: int) -> None:
    """Files `first` to `last`, in this process: the number of each before it is tried, how it went after it."""
    signal.signal(signal.SIGALRM, too_long)
    logging.disable(logging.CRITICAL)
    names = list(SOURCES)
    for number in range(first, last):
        rng = random.Random(f"{seed}-{number}")
        name = names[number % len(names)]
        data = (folder / name).read_bytes()
        steps = changes(data, rng)
        path = folder / f"changed{Path(name).suffix}"
        path.write_bytes(build(data, steps))
        print("try", number, flush=True)
        outcome, trace = attempt(path)
        if trace:
            content = smallest(data, steps, path, outcome)
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{number}-{name}").write_bytes(content)
            print(trace, file=sys.stderr)
        print("done", outcome, flush=True)


def main() -> None:
    """Batches in processes of their own, so that a crash costs one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("outputs/fuzz"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        work(arguments.child, arguments.keep, arguments.seed, arguments.first, arguments.first + arguments.files)
        return
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        make_sources(Path(folder))
        number, end = arguments.first, arguments.first + arguments.files
        while number < end:
            options = ["--first", number, "--files", min(BATCH, end - number), "--seed", arguments.seed, "--keep", arguments.keep]
            command = [sys.executable, __file__, "--child", folder, *map(str, options)]
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            lines = child.stdout.splitlines()
            outcomes.update(line.removeprefix("done ") for line in lines if line.startswith("done"))
            tried = [int(line.split()[1]) for line in lines if line.startswith("try")]
            if lines and lines[-1].startswith("try"):
                how, name = "hang" if child.returncode == 1 else "crash", list(SOURCES)[tried[-1] % len(SOURCES)]
                arguments.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / f"changed{Path(name).suffix}", arguments.keep / f"{tried[-1]}-{name}")
                print(f"file {tried[-1]} ended the process: a {how}", flush=True)
                outcomes[how] += 1
            number = tried[-1] + 1 if tried else end
            print(f"{number - arguments.first} files:", dict(outcomes), flush=True)
    sys.exit(int(any(name not in ("read", "refused") for name in outcomes)))


if __name__ == "__main__":
    main()
