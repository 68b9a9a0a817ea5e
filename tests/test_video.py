"""Reading and writing video files. Every file is made here, small, with PyAV."""

import gc
import io
import logging
import math
import os
import random
import stat
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mssc.files import STALE
from mssc.structures import InputError
from mssc.video import Writer, container, frames_per_look, probe, read, reader
from mssc.video.clock import clocked

NTSC = Fraction(30000, 1001)


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Red, green, blue and grey quarters, and a white bar that moves two pixels a frame."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = (220, 20, 20), (20, 220, 20)
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = (20, 20, 220), (146, 146, 146)
    at = 2 * index % width
    image[:, at : at + 4] = 255
    return image


def quarters(image: np.ndarray) -> str:
    """Colours of the four corners, in reading order."""
    names = []
    for y, x in ((5, 5), (5, -6), (-6, 5), (-6, -6)):
        colour = image[y, x].astype(int)
        names.append("k" if np.ptp(colour) < 60 else "RGB"[int(colour.argmax())])
    return "".join(names)


def make(
    path: Path | io.IOBase,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction = Fraction(25),
    times: Sequence[float] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
    turn: dict | None = None,
    **opening,
) -> Path | io.IOBase:
    """Write a test video with PyAV alone."""
    out = av.open(path if isinstance(path, io.IOBase) else str(path), "w", **opening)
    stream = out.add_stream(codec, rate=rate, options=options or {})
    stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
    if turn:
        stream.set_display_rotation(**turn)
    base = 1 / rate if times is None else Fraction(1, 1000)
    stream.codec_context.time_base = base
    audio = out.add_stream("aac", rate=8000) if sound else None
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24").reformat(format=pix_fmt)
        frame.pts, frame.time_base = index if times is None else round(times[index] * 1000), base
        out.mux(stream.encode(frame))
    if audio:
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        samples.rate = 8000
        out.mux(audio.encode(samples))
        out.mux(audio.encode(None))
    out.mux(stream.encode(None))
    out.close()
    return path


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2)))


# ---------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),  # the common case, with B-frames
        ("a.mkv", "libx264", "yuv420p10le"),  # 10 bits
        ("b.mp4", "libx265", "yuv420p10le"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),  # as in UCF101
        ("a.ts", "mpeg2video", "yuv420p"),  # starts at 1.4 s
        ("a.mov", "mjpeg", "yuvj420p"),  # full range
        ("b.mov", "rawvideo", "rgb24"),  # nothing to convert
        ("a.gif", "gif", "rgb8"),
        ("c.mkv", "ffv1", "bgra"),  # an alpha channel
        ("a.flv", "flv", "yuv420p"),
        ("a.h264", "libx264", "yuv420p"),  # no timestamps at all
    ],
)
def test_reads_containers_and_codecs(tmp_path, name, codec, pix_fmt):
    path = make(tmp_path / name, codec=codec, pix_fmt=pix_fmt)
    info, frames = probe(path), list(read(path))
    assert (info.width, info.height) == (64, 48)
    assert info.rate == 25
    assert [f.index for f in frames] == list(range(12))
    assert np.allclose([f.time for f in frames], np.arange(12) / 25, atol=0.002)
    for frame in frames:
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous and frame.image.flags.writeable
        # GIF's 3-3-2 bits have no neutral grey.
        assert quarters(frame.image)[:3] == quarters(picture(frame.index))[:3]
        # 4:2:0 colour costs much at the edges here; a frame out of order costs more.
        assert psnr(frame.image, picture(frame.index)) > (14 if codec == "gif" else 21)


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "qtrle"), ("a.mov", "rawvideo"), ("a.apng", "apng")])
def test_frames_belong_to_the_reader(tmp_path, name, codec):
    """These decode to RGB and may draw the next frame on top of the last, which we paint over."""
    path = make(tmp_path / name, codec=codec, pix_fmt="rgb24", frames=6)
    clean = [frame.image.copy() for frame in read(path)]
    for frame in read(path):
        assert np.array_equal(frame.image, clean[frame.index])
        frame.image[:] = 0


@pytest.mark.parametrize("size", [(63, 47), (1, 1), (4, 4), (2, 90), (66, 48)])
def test_reads_odd_and_tiny_sizes(tmp_path, size):
    path = make(tmp_path / "a.mkv", size=size, codec="ffv1", pix_fmt="yuv444p", frames=2)
    frames = list(read(path))
    assert [f.image.shape for f in frames] == [(size[1], size[0], 3)] * 2
    assert (probe(path).width, probe(path).height) == size
    assert np.abs(frames[0].image.astype(int) - picture(0, *size)).max() <= 6


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirror", [False, True])
def test_frames_are_upright(tmp_path, degrees, mirror):
    path = make(tmp_path / "a.mp4", frames=2, turn={"degrees": degrees, "hflip": mirror})
    image = next(read(path)).image
    with av.open(str(path)) as plain:
        stored = next(plain.decode(video=0))
        flat = stored.to_ndarray(format="rgb24")
        expected = np.rot90(flat, degrees // 90)
        if not mirror:
            assert np.array_equal(expected, np.rot90(flat, stored.rotation // 90))
    assert np.array_equal(image, expected[:, ::-1] if mirror else expected)
    assert (probe(path).height, probe(path).width) == image.shape[:2]


def test_colours_follow_the_tag(tmp_path):
    """The same YUV numbers are another colour in BT.601 and BT.709."""
    images = []
    for name, tag in (("a.mkv", 5), ("b.mkv", 1)):
        with av.open(str(tmp_path / name), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
            stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
            planes = np.empty((3, 16, 16), np.uint8)
            planes[:] = np.array([81, 90, 240], np.uint8)[:, None, None]  # pure red in BT.601
            frame = av.VideoFrame.from_ndarray(planes, "yuv444p")
            frame.colorspace, frame.color_range = tag, 1
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        images.append(next(read(tmp_path / name)).image[8, 8].astype(int))
    assert np.abs(images[0] - (254, 0, 0)).max() <= 2
    # By hand: R = 1.164 (81-16) + 1.793 (240-128) = 276, G = 1.164*65 - 0.533*112 + 0.213*38 = 24, B = 75.7 - 2.112*38 = -5
    assert np.abs(images[1] - (255, 24, 0)).max() <= 2


def test_variable_frame_rate(tmp_path):
    times = [0.5, 0.54, 0.6, 1.5, 1.511, 2.0]
    path = make(tmp_path / "a.mp4", frames=6, times=times)
    assert np.allclose([f.time for f in read(path)], times, atol=1e-3)


def test_non_square_pixels(tmp_path):
    for turn, expected in (({"degrees": 0}, Fraction(4, 3)), ({"degrees": 90}, Fraction(3, 4))):
        with av.open(str(tmp_path / "a.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
            stream.set_display_rotation(**turn)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24").reformat(format="yuv420p")))
            out.mux(stream.encode(None))
        assert probe(tmp_path / "a.mp4").pixel_aspect == expected
    assert probe(make(tmp_path / "b.mp4")).pixel_aspect == 1


def test_webcam_recording(tmp_path):
    """Browsers stream WebM: no duration, no count, variable times."""
    times = [0, 0.031, 0.07, 0.4, 0.433, 0.466]
    path = tmp_path / "webcam.webm"
    memory = io.BytesIO()
    pipe = type("Pipe", (io.RawIOBase,), {"writable": lambda self: True, "write": lambda self, data: memory.write(data)})()
    make(pipe, frames=6, times=times, codec="libvpx", format="webm", container_options={"live": "1"})
    path.write_bytes(memory.getvalue())
    info = probe(path)
    assert (info.frames, info.duration) == (None, None)
    assert 1 < info.rate < 100
    assert np.allclose([f.time for f in read(path)], times, atol=2e-3)


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_videos(tmp_path, frames):
    path = make(tmp_path / "a.mp4", frames=frames)
    assert len(list(read(path))) == probe(path).frames == frames


def test_probe_counts_and_times(tmp_path):
    info = probe(str(make(tmp_path / "a.mp4", frames=15, rate=NTSC, sound=True)))
    assert (info.path, info.rate, info.frames) == (tmp_path / "a.mp4", NTSC, 15)
    assert info.duration == pytest.approx(15 / float(NTSC), abs=1e-3)
    # Matroska stores no count: it is estimated.
    info = probe(make(tmp_path / "a.mkv", frames=15, rate=NTSC))
    assert info.frames == 15 and info.duration == pytest.approx(15 / float(NTSC), abs=0.01)


def test_sound_that_goes_on_tells_nothing_of_the_pictures(tmp_path):
    """Matroska says how long all of it is."""
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        film, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=8000)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts = index
            out.mux(film.encode(frame))
        out.mux(film.encode(None))
        for index in range(40):
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            noise.sample_rate, noise.pts = 8000, 1024 * index
            out.mux(sound.encode(noise))
        out.mux(sound.encode(None))
    info = probe(tmp_path / "a.mkv")
    assert info.frames == 10 and info.duration == pytest.approx(0.4, abs=0.05)


def test_cover_pictures_are_not_the_video(tmp_path):
    cover = make(tmp_path / "cover.png", frames=1, size=(320, 240), codec="png", pix_fmt="rgb24", options={}, format="image2")
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.add_attachment("cover.png", "image/png", cover.read_bytes())
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mkv")) as plain:
        assert len(plain.streams.video) == 2, "the file is not what the test needs"
    assert [f.image.shape for f in read(tmp_path / "a.mkv")] == [(48, 64, 3)] * 5


def test_change_of_size_in_midstream(tmp_path, caplog):
    parts = [make(tmp_path / f"{w}.ts", frames=10, size=(w, h), codec="mpeg2video") for w, h in ((64, 48), (128, 96))]
    path = tmp_path / "a.ts"
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    frames = list(read(path))
    assert len(frames) in (19, 20), "the decoder may lose the one that it held back"
    assert {f.image.shape for f in frames} == {(48, 64, 3)}
    assert quarters(frames[-1].image) == "RGBk"
    assert caplog.text.count("on its pictures are 128x96, not 64x48; they are scaled to that, boxes too") == 1
    # The second part's timestamps start over.
    steps = np.diff([f.time for f in frames])
    assert (steps > 0).all() and frames[-1].time < 1.5


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.5, 6.0], [0, 0.5, 1.0]),  # the container's start is zero
        ([5.7, 6.2, 6.7], [0.7, 1.2, 1.7]),  # its first picture is late
        ([None, None, None], [0, 0.5, 1.0]),  # no stamp at all: the rate's
        ([5, None, 6.0], [0, 0.5, 1.0]),  # one missing
        ([5, 5.5, 5.5, 6.5], [0, 0.5, 1.0, 1.5]),  # one doubled
        ([5, 5.5, 5.4, 6.5], [0, 0.5, 1.0, 1.5]),  # one out of order
        ([5, 5.5, 95.0, 6.5, 7], [0, 0.5, 1.0, 1.5, 2.0]),  # one far ahead
        ([5, 5.5, -40.0, 6.5, 7], [0, 0.5, 1.0, 1.5, 2.0]),  # one far behind
        ([65, 5.5, 6], [0, 0.5, 1.0]),  # the first one
        ([5, 5.5, 5.5, 5.5, 6.5], [0, 0.5, 0.55, 1.025, 1.5]),  # two doubled: the others stay right
        ([5, 5.5, 0, 0.5, 1.0], [0, 0.5, 1.0, 1.5, 2.0]),  # set back: a join
        ([5, 5.5, 905, 905.5, 906], [0, 0.5, 900, 900.5, 901]),  # a long still picture
        ([5, 5.5, 5005, 5005.5], [0, 0.5, 1.0, 1.5]),  # nobody shows one for more than an hour: a join
    ],
)
def test_clock(stamps, expected):
    shown = list(clocked(((stamp, name) for name, stamp in enumerate(stamps)), "a.mkv", 5.0, 0.5, resets=False))
    assert [seconds for seconds, _ in shown] == pytest.approx(expected)
    assert [name for _, name in shown] == list(range(len(stamps)))


def test_clock_of_formats_that_may_be_joined(caplog):
    stamps = [0, 0.5, 200, 200.5, 900, 201.5, 1.0, 1.5]
    with caplog.at_level(logging.WARNING):
        shown = [seconds for seconds, _ in clocked(((stamp, None) for stamp in stamps), "a.ts", 0.0, 0.5, resets=True)]
    assert shown == pytest.approx([0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])
    assert caplog.text.count("a.ts: its clock jumps") == 2 and "at 0.50 s" in caplog.text


def test_the_file_is_closed_early_and_late(tmp_path):
    path = make(tmp_path / "a.mp4")
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(8):
        frames = read(path)
        next(frames)
        frames.close()
        list(read(path))
        probe(path)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_does_not_grow_with_length(tmp_path):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    path = make(tmp_path / "a.mp4", frames=150, size=(640, 360), options={"preset": "ultrafast"})
    resident = []
    for frame in read(path):
        if frame.index in (30, 149):
            resident.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    # Keeping the frames would take 80 MB.
    assert resident[1] - resident[0] < 20e6


# ----------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damage_in_the_middle_costs_little(tmp_path, name):
    codec = {"a.ts": "mpeg2video", "a.avi": "mpeg4"}.get(name, "libx264")
    short = {"container_options": {"cluster_time_limit": "200"}} if name == "a.mkv" else {}
    path = make(tmp_path / name, frames=100, size=(160, 120), codec=codec, options={"g": "10"}, **short)
    data = bytearray(path.read_bytes())
    random.seed(0)
    middle = len(data) // 2
    data[middle : middle + 700] = random.randbytes(700)
    path.write_bytes(data)
    frames = list(read(path))
    assert 70 <= len(frames) <= 100
    assert (np.diff([f.time for f in frames]) > 0).all()
    # AVI has no timestamps: lost frames make it shorter.
    assert frames[-1].time == pytest.approx(len(frames) / 25 - 0.04 if name == "a.avi" else 3.96, abs=0.1)
    assert quarters(frames[0].image) == "RGBk" and psnr(frames[-1].image, picture(99, 160, 120)) > 21


def test_damage_is_logged(tmp_path, caplog):
    path = make(tmp_path / "a.mkv", frames=40, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        frames = list(read(path))
    assert 25 < len(frames) < 40
    assert "a.mkv: damaged" in caplog.text and len(caplog.records) <= 3


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "fast.mp4"])
def test_truncated_files_give_what_is_there(tmp_path, name):
    codec = {"a.ts": "mpeg2video", "a.avi": "mpeg4"}.get(name, "libx264")
    opening = {"container_options": {"movflags": "faststart"}} if name == "fast.mp4" else {}
    path = make(tmp_path / name, frames=100, codec=codec, options={"g": "10"}, **opening)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    frames = list(read(path))
    assert 35 < len(frames) < 70
    assert probe(path).width == 64


def test_empty_packets_are_no_damage(tmp_path, caplog):
    path = make(tmp_path / "a.mp4", frames=20, codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.find(b"stsz") + 12
    (count,) = struct.unpack_from(">I", data, at)
    sizes = list(struct.unpack_from(f">{count}I", data, at + 4))
    sizes[6], sizes[7] = sizes[6] + sizes[7], 0
    struct.pack_into(f">{count}I", data, at + 4, *sizes)
    path.write_bytes(data)
    with av.open(str(path)) as plain:
        assert [packet.size for packet in plain.demux(video=0)].index(0) == 7, "the file is not what the test needs"
    with caplog.at_level(logging.WARNING):
        assert len(list(read(path))) == 19
    assert not caplog.records


# --------------------------------------------------------------------------------------------------------------- refusals


def refused(path: Path | str, *words: str) -> None:
    """`probe` and `read` both say why, with the path, in one sentence or two."""
    for attempt in (probe, lambda p: list(read(p))):
        with pytest.raises(InputError) as caught:
            attempt(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and message.endswith(".") and "Errno" not in message, message
        for word in words:
            assert word in message, message


TEXTS = {
    "text.mp4": ("This is not a video.\n" * 100, "text file"),
    "umlaut.mp4": ("Ärger über Öl\n", "text file"),
    "hls.mp4": ("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n", "HLS playlist"),
    "hls.m3u8": ("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n", "HLS playlist"),
    "concat.mp4": ("ffconcat version 1.0\nfile '{target}'\n", "files to join"),
    "bom.ffconcat": ("\ufeffffconcat version 1.0\nfile '{target}'\n", "files to join"),
    "dash.mpd": ("<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'></MPD>", "XML file"),
    "session.sdp": ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", "SDP"),
    "rtsp.mp4": ("[playlist]\nFile1=rtsp://127.0.0.1/x\n", "playlist"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_and_playlists_are_refused(tmp_path, name):
    text, word = TEXTS[name]
    target = make(tmp_path / "target.mp4")
    path = tmp_path / name
    path.write_text(text.format(target=target))
    refused(path, word, "give")


def test_only_listed_formats_are_opened(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4")
    probe(path)
    monkeypatch.setattr(container, "FORMATS", "matroska,avi")
    refused(path)
    monkeypatch.undo()
    assert not {"hls", "dash", "concat", "sdp", "rtsp", "image2", "lavfi", "imf", "fbdev"} & set(container.FORMATS.split(","))
    assert set(container.FORMATS.split(",")) <= {name for known in av.formats_available for name in known.split(",")}


def test_missing_empty_and_special_files(tmp_path):
    refused(tmp_path / "missing.mp4", "no such file")
    refused(tmp_path, "folder")
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", "empty")
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", "no regular file")
    refused("nul\0.mp4", "cannot be opened")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    refused(tmp_path / "loop.mp4", "cannot be opened")
    refused(tmp_path / "missing.mp4" / "a.mp4", "no such file")


@pytest.mark.parametrize(
    "address", ["http://example.org/a.mp4", "rtsp://camera/1", "concat:/etc/passwd|/etc/group", "s3://b/a.mp4"]
)
def test_addresses_are_refused(address):
    refused(address, "download")
    with pytest.raises(InputError, match="download"):
        probe(Path(address))


def test_unreadable_files(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        refused(path, "no permission")


@pytest.mark.parametrize("start", [b"", b"\xff\xd8\xff\xe0", b"\0\0\0\x18ftypmp42", b"\x1a\x45\xdf\xa3", b"RIFF\0\1\0\0AVI LIST"])
def test_noise_is_refused(tmp_path, start):
    random.seed(1)
    (tmp_path / "a.mp4").write_bytes(start + random.randbytes(20000))
    refused(tmp_path / "a.mp4")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9])
def test_recording_without_its_index(tmp_path, share):
    path = make(tmp_path / "a.mp4", frames=50)
    data = path.read_bytes()
    path.write_bytes(data[: max(8, int(len(data) * share))])
    refused(path)
    if share >= 0.05:
        refused(path, "cut short", "complete file")


def test_audio_only(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        samples.rate = 8000
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    refused(tmp_path / "a.mp4", "has no video, only audio")


def test_audio_with_a_cover_picture(tmp_path):
    cover = make(tmp_path / "cover.png", frames=1, codec="png", pix_fmt="rgb24", format="image2").read_bytes()
    with av.open(str(tmp_path / "a.mp3"), "w") as out:
        stream = out.add_stream("mp3", rate=16000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        samples.rate = 16000
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    body = b"\0image/png\0\x03\0" + cover
    tag = b"APIC" + struct.pack(">IH", len(body), 0) + body
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "b.mp3").write_bytes(b"ID3\x03\0\0" + size + tag + (tmp_path / "a.mp3").read_bytes())
    refused(tmp_path / "b.mp3", "cover picture", "audio")


def test_a_picture_is_no_video(tmp_path):
    refused(make(tmp_path / "a.png", frames=1, codec="png", pix_fmt="rgb24", format="image2"), "not a video")


def test_no_frames(tmp_path):
    out = av.open(str(tmp_path / "a.mp4"), "w")
    stream = out.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    out.start_encoding()
    out.close()
    refused(tmp_path / "a.mp4")
    # All of the pictures are damaged.
    path = make(tmp_path / "b.avi", codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    start, stop = data.find(b"movi") + 4, data.rfind(b"idx1")
    while start < stop and data[start : start + 4] == b"00dc":
        size = struct.unpack("<I", data[start + 4 : start + 8])[0]
        data[start + 8 : start + 8 + size] = bytes(size)
        start += 8 + size + size % 2
    path.write_bytes(data)
    refused(path, "not one frame")


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (9000, 16), (16, 9000), (8192, 8192)])
def test_absurd_sizes(tmp_path, monkeypatch, width, height):
    path = make(tmp_path / "a.avi", codec="rawvideo", pix_fmt="bgr24", frames=1, size=(16, 16))
    data = bytearray(path.read_bytes())
    at = data.find(b"strf") + 8
    assert struct.unpack_from("<Iii", data, at) == (40, 16, -16)
    struct.pack_into("<ii", data, at + 4, width, height)
    path.write_bytes(data)
    if width * height < container.MAX_PIXELS:
        # Beyond it the codec itself refuses.
        monkeypatch.setattr(reader, "decode", lambda *_: pytest.fail("a frame would have been decoded"))
    refused(path, "8192")
    gif = tmp_path / "a.gif"
    gif.write_bytes(b"GIF89a" + struct.pack("<HHBBB", min(width, 65535), min(height, 65535), 0, 0, 0) + b"," + bytes(50))
    refused(gif)


def test_a_size_beyond_the_limit_is_named(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4")
    monkeypatch.setattr(container, "MAX_SIDE", 60)
    refused(path, "64x48", "60")


NAMES = ["with space.mp4", "Übung 動画 🎬.mp4", "100%03d %s.mp4", "-i.mp4", "a:b.mp4", "quote'\".mp4", "noextension"]


@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with Writer(name, 64, 48, 25) as writer:
        for index in range(3):
            writer.write(picture(index))
    assert os.listdir() == [name]
    assert len(list(read(name))) == len(list(read(tmp_path / name))) == 3
    # A wrong extension does not matter.
    os.rename(name, "a.jpg")
    assert len(list(read("a.jpg"))) == 3


# ---------------------------------------------------------------------------------------------------------------- writing


def boxes(path: Path) -> list[str]:
    """Names of an MP4's top-level boxes, in order."""
    names, data, at = [], path.read_bytes(), 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.append(name.decode())
        at += size
    return names


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (64, 47), (63, 48), (320, 240), (4, 4), (1, 1), (2, 100)])
@pytest.mark.parametrize("rate", [Fraction(25), NTSC])
def test_written_videos_play_in_browsers(tmp_path, size, rate):
    path = tmp_path / "a.mp4"
    width, height = size
    images = [picture(index, *size) for index in range(10)]
    with Writer(path, *size, rate) as writer:
        for image in images:
            writer.write(image)
    with av.open(str(path)) as plain:
        (stream,) = plain.streams
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == rate and stream.frames == 10
        assert (stream.width, stream.height) == (width + width % 2, height + height % 2)
        frames = list(plain.decode(stream))
        assert [f.pts * stream.time_base for f in frames] == [index / rate for index in range(10)]
        assert plain.duration == pytest.approx(10e6 / float(rate), abs=2)
    order = boxes(path)
    assert order.index("moov") < order.index("mdat")
    for frame in read(path):
        padded = np.pad(images[frame.index], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        assert frame.image.shape == padded.shape
        # Even the 4:2:0 colour of sharp edges is in this; a wrong matrix or swapped channels gives less than 20.
        assert psnr(frame.image, padded) > (20 if width > 10 else 9)


def test_written_colours_are_exact(tmp_path):
    """Flat saturated colours come back within the step of 8-bit YUV, in small and in high definition."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 128, 128), (0, 0, 0), (255, 255, 255), (200, 120, 40)]
    for size in ((64, 48), (1280, 720)):
        with Writer(tmp_path / "a.mp4", *size, 25) as writer:
            for colour in colours:
                writer.write(np.full((size[1], size[0], 3), colour, np.uint8))
        for colour, frame in zip(colours, read(tmp_path / "a.mp4"), strict=True):
            assert np.abs(frame.image[20:40, 20:40].astype(int) - colour).max() <= 4, (size, colour)
    with av.open(str(tmp_path / "a.mp4")) as plain:
        context = next(plain.decode(video=0))
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)


def test_smooth_pictures_keep_their_quality(tmp_path):
    y, x = np.mgrid[:120, :160]
    images = [np.stack([x + 20 + i, y + 60 + i, 180 - x], -1).clip(0, 255).astype(np.uint8) for i in range(12)]
    with Writer(tmp_path / "a.mp4", 160, 120, 25) as writer:
        for image in images:
            writer.write(image)
    assert min(psnr(f.image, images[f.index]) for f in read(tmp_path / "a.mp4")) > 38


@pytest.mark.parametrize(
    ("rate", "times", "expected"),
    [
        (Fraction(25), [0, 0.04, 0.1, 1.0, 1.011, 5.0], [0, 0.04, 0.1, 1.0, 1.011, 5.0]),
        (NTSC, [3.0, 3.5, 4.0], [3.0, 3.5, 4.0]),
        (Fraction(10), [None, None, 0.7, None], [0, 0.1, 0.7, 0.8]),
        (Fraction(10), [0, 0.5, None], [0, 0.5, 0.6]),
    ],
)
def test_written_times(tmp_path, rate, times, expected):
    with Writer(tmp_path / "a.mp4", 64, 48, rate) as writer:
        for index, time in enumerate(times):
            writer.write(picture(index), time)
    frames = list(read(tmp_path / "a.mp4"))
    assert [f.time for f in frames] == pytest.approx(expected, abs=2e-5)
    assert all(quarters(f.image) == quarters(picture(f.index)) for f in frames)


def test_written_times_always_increase(tmp_path):
    with Writer(tmp_path / "a.mp4", 64, 48, 25) as writer:
        for index, time in enumerate([0.0, 0.04, 0.04, 0.02, 0.08, 0.12]):
            writer.write(picture(index), time)
    times = [f.time for f in read(tmp_path / "a.mp4")]
    assert len(times) == 6 and (np.diff(times) > 0).all() and times[4:] == pytest.approx([0.08, 0.12])


RATES = [Fraction(24000, 1001), Fraction(2997, 125), Fraction(1, 2), Fraction(1325000, 50431), 29.97, 240]


@pytest.mark.parametrize("rate", RATES)
def test_rates_survive(tmp_path, rate):
    with Writer(tmp_path / "a.mp4", 64, 48, rate) as writer:
        for index in range(8):
            writer.write(picture(index))
    expected = Fraction(rate).limit_denominator(100_000)
    assert float(probe(tmp_path / "a.mp4").rate) == pytest.approx(float(expected), rel=1e-6)


def test_a_video_goes_through_unchanged(tmp_path):
    """Read and write again: count, times, size and pictures stay."""
    times = [0, 0.033, 0.07, 0.3, 0.31, 0.4, 0.44]
    source = make(tmp_path / "a.mkv", frames=7, times=times, turn={"degrees": 90}, sound=True)
    info = probe(source)
    with Writer(tmp_path / "b.mp4", info.width, info.height, info.rate, info.pixel_aspect) as writer:
        for frame in read(source):
            writer.write(frame.image, frame.time)
    before, after = list(read(source)), list(read(tmp_path / "b.mp4"))
    assert [f.time for f in after] == pytest.approx([f.time for f in before], abs=2e-5)
    assert all(psnr(a.image, b.image) > 25 for a, b in zip(before, after, strict=True))


def test_pixel_aspect_is_written(tmp_path):
    with Writer(tmp_path / "a.mp4", 64, 48, 25, Fraction(64, 51)) as writer:
        writer.write(picture(0))
    assert probe(tmp_path / "a.mp4").pixel_aspect == Fraction(64, 51)


def test_the_image_is_not_modified_and_may_be_a_view(tmp_path):
    image = picture(0, 128, 48)[:, ::2]
    before = image.copy()
    with Writer(tmp_path / "a.mp4", 64, 48, 25) as writer:
        writer.write(image)
    assert np.array_equal(image, before)
    assert quarters(next(read(tmp_path / "a.mp4")).image) == quarters(before)


def test_wrong_images_and_times(tmp_path):
    with Writer(tmp_path / "a.mp4", 64, 48, 25) as writer:
        writer.write(picture(0))
        for image in (picture(0, 48, 64), picture(0)[..., 0], picture(0).astype(np.float32), picture(0)[..., [0, 0, 1, 2]]):
            with pytest.raises(ValueError, match="this writer takes"):
                writer.write(image)
        for time in (math.nan, math.inf):
            with pytest.raises(ValueError, match="finite"):
                writer.write(picture(0), time)
        writer.write(picture(1))
    assert len(list(read(tmp_path / "a.mp4"))) == 2
    with pytest.raises(ValueError, match="with"):
        writer.write(picture(0))


@pytest.mark.parametrize(
    ("width", "height", "rate"), [(0, 48, 25), (64, -1, 25), (64, 48, 0), (64, 48, -1), (64, 48, math.nan), (99999, 4, 25)]
)
def test_wrong_sizes_and_rates(tmp_path, width, height, rate):
    with pytest.raises(ValueError):
        Writer(tmp_path / "a.mp4", width, height, rate)
    assert not os.listdir(tmp_path)


def test_the_file_appears_when_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.mp4"
    with Writer(path, 64, 48, 25) as writer:
        writer.write(picture(0))
        assert not path.exists()
        (part,) = path.parent.iterdir()
        assert part.name.startswith(".")
    assert os.listdir(path.parent) == ["a.mp4"]
    # Readable by others as any new file is, not private as temporary ones are.
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


ERRORS = [RuntimeError("model failed"), KeyboardInterrupt(), InputError("bad"), OSError(5, "Input/output error")]


@pytest.mark.parametrize("error", ERRORS)
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught, Writer(path, 64, 48, 25) as writer:
        writer.write(picture(0))
        raise error
    assert caught.value is error
    assert os.listdir(tmp_path) == ["a.mp4"] and path.read_bytes() == b"old"


def test_no_frame_no_file(tmp_path):
    with pytest.raises(InputError, match="not one frame"), Writer(tmp_path / "a.mp4", 64, 48, 25):
        pass
    assert not os.listdir(tmp_path)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a.mp4").symlink_to(tmp_path / "there" / "b.mp4")
    with Writer(tmp_path / "a.mp4", 64, 48, 25) as writer:
        writer.write(picture(0))
    assert (tmp_path / "a.mp4").is_symlink() and os.listdir(tmp_path / "there") == ["b.mp4"]


def unwritable(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught, Writer(path, 64, 48, 25):
        pytest.fail("work would have started")
    for word in (str(path), "choose", *words):
        assert word in str(caught.value)


def test_places_that_cannot_be_written_to(tmp_path, monkeypatch):
    unwritable(tmp_path, "folder")
    (tmp_path / "file").touch()
    unwritable(tmp_path / "file" / "a.mp4")
    unwritable(tmp_path / ("x" * 300 + ".mp4"))
    unwritable(Path("/proc/nowhere/a.mp4")) if Path("/proc").is_dir() else None

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    unwritable(tmp_path / "a.mp4", "no permission")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("room", [0, 1000, 30_000, 0.5, 0.999])
def test_full_disk(tmp_path, room):
    """The system refuses to let the file grow: at its start, in the middle, while the last frames and the index are written."""
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)

    def write() -> None:
        with Writer(tmp_path / "a.mp4", 128, 96, 25) as writer:
            for image in noise:
                writer.write(image)

    write()
    whole = (tmp_path / "a.mp4").stat().st_size
    assert whole > 60_000
    (tmp_path / "a.mp4").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room * whole) if isinstance(room, float) else room, hard))
    try:
        with pytest.raises(InputError) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path / "a.mp4") in str(caught.value) and "disk is full" in str(caught.value)
    assert not os.listdir(tmp_path)


def test_full_disk_says_so_for_every_code(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    reason = r"disk is full \(No space left on device\); free some space"
    with pytest.raises(InputError, match=reason), Writer(tmp_path / "a.mp4", 64, 48, 25) as writer:
        writer.write(picture(0))
    assert not os.listdir(tmp_path)


# -------------------------------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_real_clips():
    """As many frames as PyAV's plain loop gives, and at most as many as there are packets."""
    clips = sorted((Path(os.environ["MSSC_DATA"]) / "clips").iterdir())
    assert clips
    for path in clips:
        info = probe(path)
        count, last = 0, -1.0
        for frame in read(path):
            assert frame.image.shape == (info.height, info.width, 3) and frame.time > last
            count, last = count + 1, frame.time
        with av.open(str(path)) as plain:
            shown = sum(packet.size > 0 and not packet.is_discard for packet in plain.demux(video=0))
        assert count == shown, path


def test_videos_are_looked_at_about_thirty_times_a_second():
    rates = {12: 1, 25: 1, 29.97: 1, 44: 1, 50: 2, 60: 2, 90: 3, 120: 4, 240: 8, 1000: 1}
    assert {rate: frames_per_look(rate) for rate in rates} == rates


WRITE = """
import sys
from mssc.video import Writer, probe, read
info = probe(sys.argv[1])
with Writer(sys.argv[2], info.width, info.height, info.rate) as writer:
    for frame in read(sys.argv[1]):
        writer.write(frame.image, frame.time)
"""


def test_the_same_frames_give_the_same_bytes(tmp_path):
    """Also in another process, whose fresh memory holds something else."""
    source, written = Path(__file__).parents[1] / "assets" / "examples" / "toy.mp4", []
    for filling in ("0", "1", "170"):
        target = tmp_path / f"{filling}.mp4"
        environment = os.environ | {"MALLOC_PERTURB_": filling}  # glibc's; elsewhere chance fills it
        subprocess.run([sys.executable, "-c", WRITE, source, target], check=True, env=environment)
        written.append(target.read_bytes())
    assert written[0] == written[1] == written[2]


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path):
    script = "import os, sys; from mssc.video import Writer; Writer(sys.argv[1], 64, 48, 25).__enter__(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "a.mp4"]).returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / ".mine.part").touch()
    os.utime(tmp_path / ".mine.part", (0, 0))
    with Writer(tmp_path / "b.mp4", 64, 48, 25) as writer:  # it may still be written to: it stays
        writer.write(picture(0))
    assert {p.name for p in tmp_path.iterdir()} == {left.name, ".mine.part", "b.mp4"}
    old = left.stat().st_mtime - STALE
    os.utime(left, (old, old))
    with Writer(tmp_path / "b.mp4", 64, 48, 25) as writer:
        writer.write(picture(0))
    assert {p.name for p in tmp_path.iterdir()} == {".mine.part", "b.mp4"}
