"""Video files as people have them: late starts, joins, edit lists, several streams, HDR, half pictures. All made here, small."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from test_video import make, picture, psnr

from mssc.video import Writer, container, probe, read, times
from mssc.video.colour import to_screen
from mssc.video.sound import heard


def remux(source: Path, target: Path, change: Callable[[int, av.Packet], None], **options) -> Path:
    """Copy the packets of a video's first stream, each changed before it is written."""
    with av.open(str(source)) as old, av.open(str(target), "w", **options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for index, packet in enumerate(p for p in old.demux(video=0) if p.size):
            packet.stream = stream
            change(index, packet)
            new.mux(packet)
    return target


def later(by: float) -> Callable[[int, av.Packet], None]:
    """Moves every packet."""

    def change(_: int, packet: av.Packet) -> None:
        packet.pts, packet.dts = packet.pts + round(by / packet.time_base), packet.dts + round(by / packet.time_base)

    return change


def seconds(path: Path) -> list[float]:
    """When frames are shown; `times` knows it without pictures, and every frame is the one that belongs there."""
    shown = [frame.time for frame in read(path)]
    assert times(path) == pytest.approx(shown, abs=1e-9) and (np.diff(shown) > 0).all()
    return shown


# ------------------------------------------------------------------------------------------------------------ how many frames


def test_frames_cut_off_by_an_edit_list_are_none(tmp_path):
    """As `ffmpeg -ss 0.4 -c copy` cuts: ten frames stay in the file, to decode what follows, and are never shown."""
    source = make(tmp_path / "a.mp4", frames=35, options={"g": "35", "bf": "0"})

    path = remux(source, tmp_path / "b.mp4", later(-0.4))
    with av.open(str(path)) as plain:
        assert plain.streams.video[0].frames == 35
    assert seconds(path) == pytest.approx(np.arange(25) / 25, abs=1e-3) and (probe(path).rate, probe(path).frames) == (25, 25)
    assert psnr(next(read(path)).image, picture(10)) > 21


def test_reference_frames_that_are_never_shown_do_not_count(tmp_path):
    """VP8 keeps such frames in packets of their own; a bit of the first byte tells."""
    source = make(tmp_path / "source.mkv", frames=20, codec="libvpx")

    def hidden(index, packet):
        if index % 5 == 3:
            packet.update(bytes([bytes(packet)[0] & ~0x10]) + bytes(packet)[1:])

    path = remux(source, tmp_path / "a.webm", hidden)
    assert seconds(path) == pytest.approx([index / 25 for index in range(20) if index % 5 != 3], abs=2e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_what_comes_before_the_first_whole_picture_does_not_count(tmp_path, name):
    """A recording that was cut between two key frames."""
    source = make(tmp_path / "source.mkv", frames=40, options={"g": "10"})
    with av.open(str(source)) as old, av.open(str(tmp_path / name), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in list(old.demux(video=0))[5:]:
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    shown = seconds(tmp_path / name)
    assert 25 <= len(shown) < 40


# ----------------------------------------------------------------------------------------------------- when a frame is shown


def with_sound(path: Path, late: float, **opening) -> Path:
    """Sound from the start on, the first of twelve pictures later."""
    with av.open(str(path), "w", **opening) as out:
        film, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=16000, layout="mono")
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        film.codec_context.time_base = Fraction(1, 1000)
        tone = (0.3 * np.sin(np.arange(16000) / 6)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        for index in range(12):
            image = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            image.pts, image.time_base = round(1000 * (late + index / 25)), Fraction(1, 1000)
            out.mux(film.encode(image))
        out.mux(film.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_a_first_picture_later_than_the_sound_is_shown_late(tmp_path, name):
    shown = seconds(with_sound(tmp_path / name, 0.5))
    assert shown == pytest.approx(0.5 + np.arange(12) / 25, abs=0.07 if name == "a.ts" else 2e-3)  # AAC begins before its sound
    assert np.diff(shown) == pytest.approx(0.04, abs=2e-3)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_a_clock_that_does_not_begin_at_zero(tmp_path, name):
    path = remux(make(tmp_path / "source.mp4", options={"bf": "0"}), tmp_path / name, later(50))
    first = 0 if name == "a.ts" else 50  # where Chromium shows it
    assert seconds(path) == pytest.approx(first + np.arange(12) / 25, abs=2e-3)


def test_one_bad_time_stamp_is_interpolated(tmp_path):
    source = make(tmp_path / "a.mkv", frames=12, options={"bf": "0"})

    def wrong(index, packet):
        packet.pts += 40_000 if index == 6 else 0

    path = remux(source, tmp_path / "b.mkv", wrong)
    with av.open(str(path)) as plain:
        assert max(packet.pts or 0 for packet in plain.demux(video=0)) > 30_000, "the file is not what the test needs"
    assert seconds(path) == pytest.approx(np.arange(12) / 25, abs=2e-3)
    assert probe(path).duration == pytest.approx(0.48, abs=0.01), "the header's 40 s are the bad stamp's"


@pytest.mark.parametrize("shift", [50_000, 0])
def test_joined_recordings_go_on_in_time(tmp_path, caplog, shift):
    """Pieces of MPEG-TS that were put one behind another; the clock of the second jumps on, or back."""
    source = make(tmp_path / "source.mp4", frames=25)
    second = remux(source, tmp_path / "2.ts", later(shift), options={"avoid_negative_ts": "disabled"})
    path = tmp_path / "a.ts"
    path.write_bytes(remux(source, tmp_path / "1.ts", later(0)).read_bytes() + second.read_bytes())
    shown = seconds(path)
    assert len(shown) >= 48 and shown[0] == pytest.approx(0, abs=0.01) and shown[-1] == pytest.approx(len(shown) / 25, abs=0.1)
    assert "clock jumps" in caplog.text
    assert probe(path).duration == pytest.approx(2, abs=0.1)
    with Writer(tmp_path / "b.mp4", 64, 48, 25) as writer:
        for frame in read(path):
            writer.write(frame.image, frame.time)
    assert seconds(tmp_path / "b.mp4") == pytest.approx(shown, abs=1e-3)


def test_mp4s_that_were_joined_as_files_are_told(tmp_path, caplog):
    """`cat a.mp4 b.mp4` gives a file of which nobody sees the second half."""
    once = make(tmp_path / "once.mp4", frames=5).read_bytes()
    pieces = {"movflags": "frag_keyframe+empty_moov"}
    piece = make(tmp_path / "piece.mp4", frames=5, container_options=pieces).read_bytes()
    (tmp_path / "twice.mp4").write_bytes(once + once)
    (tmp_path / "stream.mp4").write_bytes(piece)
    assert [len(list(read(tmp_path / name))) for name in ("once.mp4", "stream.mp4")] == [5, 5] and not caplog.text
    assert len(list(read(tmp_path / "twice.mp4"))) == 5
    assert "twice.mp4: 1 more video behind the first, which no player shows" in caplog.text


def test_flvs_that_were_joined_as_files_are_told(tmp_path, caplog):
    one = make(tmp_path / "one.flv", frames=10, codec="flv")
    assert len(list(read(one))) == 10 and not caplog.records
    (tmp_path / "twice.flv").write_bytes(2 * one.read_bytes())
    assert len(list(read(tmp_path / "twice.flv"))) == 10
    assert "twice.flv: 1 more video behind the first, which no player shows" in caplog.text


def test_a_bare_stream_begins_at_zero(tmp_path):
    assert seconds(make(tmp_path / "a.m2v", codec="mpeg2video", frames=8)) == pytest.approx(np.arange(8) / 25, abs=1e-6)


def test_frames_of_an_avi_are_evenly_spaced_also_with_b_frames(tmp_path):
    """The container has no time stamps; what FFmpeg makes up for reordered frames jumps to and fro."""
    path = make(tmp_path / "a.avi", codec="mpeg4", frames=20, options={"bf": "2"})
    with av.open(str(path)) as plain:
        assert any(np.diff([packet.pts for packet in plain.demux(video=0) if packet.size]) < 0), "the file has no B-frames"
    assert seconds(path) == pytest.approx(np.arange(20) / 25, abs=1e-6)
    path = make(tmp_path / "b.avi")
    assert probe(path).rate == 25 and seconds(path) == pytest.approx(np.arange(12) / 25, abs=1e-6)


def test_the_rate_is_that_of_the_first_frames_where_no_header_tells(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mkv", frames=20, times=[*np.arange(10) / 50, *(1 + np.arange(10) / 50)])
    monkeypatch.setattr("mssc.video.reader._rate", lambda stream: None)
    assert probe(path).rate == 50


@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.hevc", "libx265")])
def test_a_bare_stream_has_the_rate_that_it_tells(tmp_path, name, codec):
    """Its demuxer says 25, whatever is in it."""
    path = make(tmp_path / name, codec=codec, frames=12, rate=Fraction(50), options={"bf": "2"} if codec == "libx264" else {})
    assert probe(path).rate == 50 and seconds(path) == pytest.approx(np.arange(12) / 50, abs=1e-6)


def test_a_clock_that_stands_still(tmp_path, caplog):
    """As recorders write that have no clock."""

    def still(_, packet):
        packet.pts = packet.dts = 0

    path = remux(make(tmp_path / "a.mp4", frames=20, options={"bf": "0"}), tmp_path / "a.mkv", still)
    assert np.diff(seconds(path))[1:] == pytest.approx(np.full(18, 1 / 25), abs=1e-6)
    assert "its clock stands still at 0.00 s; time goes on at 25 frames a second, right or wrong" in caplog.text


def test_an_mp4_whose_frames_are_all_at_one_time_is_not_taken_for_a_fast_one(tmp_path, caplog):
    """Its number of frames over its length would be hundreds a second; ARID's videos are such."""
    path = make(tmp_path / "a.mp4", frames=20, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    place = content.index(b"stts") + 8  # the number of entries: (frames, ticks of each)
    entries = int.from_bytes(content[place : place + 4], "big")
    for entry in range(entries):
        content[place + 8 + 8 * entry : place + 12 + 8 * entry] = bytes(4)
    path.write_bytes(content)
    assert probe(path).rate == 25 and seconds(path)[-1] == pytest.approx(18 / 25, abs=0.05)
    assert "its clock stands still at 0.00 s; time goes on at 25 frames a second, right or wrong" in caplog.text


def test_slow_videos_have_no_jumps(tmp_path, caplog):
    """With B-frames, packets begin two pictures before time does."""
    path = make(tmp_path / "a.mp4", frames=8, rate=Fraction(1, 10))
    assert probe(path).duration == pytest.approx(80) and not caplog.text


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_rate_that_was_only_meant(tmp_path, name):
    """Screen recorders write 60 and record what they can."""
    source = make(tmp_path / "source.mkv", frames=45, rate=Fraction(60), options={"bf": "0"})

    def slower(_, packet):
        packet.pts, packet.dts = packet.pts * 4, packet.dts * 4

    path = remux(source, tmp_path / name, slower)
    with av.open(str(path)) as plain:
        assert plain.streams.video[0].average_rate == 60
    assert float(probe(path).rate) == pytest.approx(15, rel=0.01) and probe(path).frames == pytest.approx(45, abs=2)
    assert seconds(path) == pytest.approx(np.arange(45) / 15, abs=2e-3)


def test_the_rate_of_what_an_edit_list_shows(tmp_path):
    """The second half alone, in a file that claims twice its length."""
    data = bytearray(make(tmp_path / "source.mp4", frames=40, options={"g": "10", "bf": "0"}).read_bytes())
    at = data.index(b"elst")
    struct.pack_into(">IiHH", data, at + 12, 400, 20 * 512, 1, 0)
    (tmp_path / "a.mp4").write_bytes(data)
    assert probe(tmp_path / "a.mp4").rate == 25 and probe(tmp_path / "a.mp4").frames == len(seconds(tmp_path / "a.mp4")) == 10


def test_high_speed_cameras_are_believed(tmp_path):
    path = make(tmp_path / "a.mov", codec="mpeg4", frames=12, rate=Fraction(2000))
    assert probe(path).rate == 2000 and seconds(path) == pytest.approx(np.arange(12) / 2000, abs=1e-6)


# -------------------------------------------------------------------------------------------------------------- which stream


def streams(path: Path, *parts: tuple[int, tuple[int, int], int]) -> Path:
    """A file of several video streams: frames, size and disposition of each; the first picture of stream n is that of number 5n."""
    with av.open(str(path), "w") as out:
        made = []
        for _, size, disposition in parts:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        for number, (stream, (frames, size, _)) in enumerate(zip(made, parts, strict=True)):
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(index + 5 * number, *size), "rgb24")
                frame.pts = index
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


DEFAULT = int(Disposition.default.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(
    ("parts", "film"),
    [
        ([(1, (320, 240), 0), (20, (64, 48), 0)], 1),  # one large picture: a cover, whatever it is called
        ([(1, (320, 240), DEFAULT), (20, (64, 48), 0)], 1),
        ([(20, (64, 48), 0), (5, (128, 96), 0)], 0),  # the longest
        ([(20, (64, 48), DEFAULT), (20, (128, 96), DEFAULT)], 1),  # of the same length: the largest
    ],
)
def test_the_film_is_shown(tmp_path, name, parts, film):
    path = streams(tmp_path / name, *parts)
    frames = list(read(path))
    assert len(frames) == parts[film][0] == len(times(path))
    assert frames[0].image.shape == (*parts[film][1][::-1], 3) and (probe(path).width, probe(path).height) == parts[film][1]


def test_the_default_stream_is_the_film(tmp_path, caplog):
    path = streams(tmp_path / "a.mkv", (30, (128, 96), 0), (20, (64, 48), DEFAULT))
    with av.open(str(path)) as plain:
        assert [bool(stream.disposition & Disposition.default) for stream in plain.streams] == [False, True]
    assert {frame.image.shape for frame in read(path)} == {(48, 64, 3)}
    assert "holds 2 video streams, as of two cameras; the one of 64x48 is looked at" in caplog.text


# -------------------------------------------------------------------------------------------------------------------- colour


def high_range(path: Path, transfer: int, colours: np.ndarray, codec: str = "ffv1") -> Path:
    """A 10-bit video of BT.2020 whose vertical stripes have these coded colours, (N, 3) from 0 to 1."""
    image = np.repeat(np.round(colours * 65535).astype(np.uint16)[None], 48, 0).repeat(16, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb48le").reformat(
        format="yuv422p10le", dst_colorspace=9, dst_color_range=1
    )
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv422p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, transfer
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 9, 1, 9, transfer
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


PQ, HLG = 16, 18
# Coded values of ST 2084, from the table in BT.2408: 0, 26 (18 % grey), 100 and 203 nits, 1,000 nits.
PQ_GREYS = np.array([0, 0.38, 0.5081, 0.5807, 0.7518])


@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
def test_high_dynamic_range_is_brought_into_reach(tmp_path, name):
    """26 nits of 203 are 12.8 % of the light, for a screen of gamma 2.4 the number 108: below the knee nothing changes."""
    path = high_range(tmp_path / name, PQ, PQ_GREYS[:, None].repeat(3, 1), "ffv1" if name == "a.mkv" else "prores_ks")
    stripes = next(read(path)).image[24, 8::16].astype(int)
    assert np.ptp(stripes, axis=1).max() <= 3, "grey stays grey"
    levels = stripes.mean(1)
    assert levels[[0, 1]] == pytest.approx([0, 255 * (26 / 203) ** (1 / 2.4)], abs=4)
    assert levels[2] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=6)
    assert 220 < levels[3] < 240 and levels[4] > 250, "white stays below what shines, and that is told apart"


def test_high_dynamic_range_keeps_colours(tmp_path):
    """BT.709's red, green and blue at 60 nits, coded in BT.2020, come back as such."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = 60 * (to_2020 @ np.eye(3)).T / 10_000
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    coded = ((c1 + c2 * light**m1) / (1 + c3 * light**m1)) ** m2
    stripes = next(read(high_range(tmp_path / "a.mkv", PQ, coded))).image[24, 8::16].astype(int)
    assert np.abs(stripes - np.eye(3) * 255 * (60 / 203) ** (1 / 2.4)).max() <= 30
    assert (stripes.argmax(1) == [0, 1, 2]).all() and np.sort(stripes, 1)[:, 1].max() <= 30


def test_hybrid_log_gamma(tmp_path):
    """BT.2408: 75 % HLG is white at 203 nits, as is 58 % PQ; both look the same."""
    pq, hlg = (to_screen(np.full((1, 3), value), transfer)[0, 0] for value, transfer in ((0.5807, PQ), (0.75, HLG)))
    assert pq == pytest.approx(hlg, abs=0.005)
    ramp = to_screen(np.linspace(0, 1, 65)[:, None].repeat(3, 1), HLG)[:, 0]
    assert (np.diff(ramp) > 0).all() and ramp[0] == 0 and ramp[-1] == pytest.approx(1, abs=1e-3)
    image = next(read(high_range(tmp_path / "a.mkv", HLG, np.array([[0, 0, 0], [0.75] * 3, [1.0] * 3])))).image
    assert image[24, 8::16, 1] == pytest.approx(255 * np.array([0, hlg, 1]), abs=3)


@pytest.mark.parametrize("tags", [(9, 9, 16, 1), (6, 1, 1, 2)])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_tags_of_colour_that_only_the_container_has(tmp_path, name, tags):
    """As tools mend them, such as mkvpropedit; HEVC's decoder then says that it knows nothing."""
    path = make(tmp_path / "plain.mkv", codec="libx265", frames=4, options={"x265-params": "log-level=none:bframes=0"})
    with av.open(str(path)) as old, av.open(str(tmp_path / name), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    plain, tagged = (next(read(file)).image.astype(int) for file in (path, tmp_path / name))
    assert np.abs(plain - tagged).max() > 10


def test_colours_that_are_known_to_be_wrong_are_told(tmp_path, caplog):
    """Dolby Vision's profile 5, by the name of its track, and a matrix that swscale does not have."""
    path = make(tmp_path / "a.mp4", codec="libx265", frames=4, options={"x265-params": "log-level=none:bframes=0"})
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvh1"))
    next(read(path))
    assert "a.mp4: is Dolby Vision that only its own players show rightly" in caplog.text
    path = make(tmp_path / "b.mp4", frames=2, options={"x264-params": "colormatrix=YCgCo"})
    next(read(path))
    assert "b.mp4: its colours are coded as YCgCo, which is taken for another" in caplog.text
    caplog.clear()
    next(read(make(tmp_path / "c.mp4", frames=2)))
    assert not caplog.text


def test_half_pictures_are_made_whole(tmp_path):
    """A bar that moves 8 pixels from one half picture to the next: woven together it would have teeth."""

    def at(moment: int) -> np.ndarray:
        image = np.full((96, 128, 3), 40, np.uint8)
        image[:, 8 * moment % 112 : 8 * moment % 112 + 16] = 220
        return image

    with av.open(str(tmp_path / "a.ts"), "w") as out:
        stream = out.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "b": "4M", "top": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(8):
            image = at(2 * index)
            image[1::2] = at(2 * index + 1)[1::2]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.ts")) as plain:
        woven = list(plain.decode(video=0))
    assert all(frame.interlaced_frame for frame in woven)
    assert len(seconds(tmp_path / "a.ts")) == len(woven) == 8
    for frame in list(read(tmp_path / "a.ts"))[1:-1]:
        flat = woven[frame.index].to_ndarray(format="rgb24")
        teeth, before = (np.abs(np.diff(image[..., 1].astype(int), axis=0)).mean() for image in (frame.image, flat))
        assert teeth < before / 4
        halves = [psnr(frame.image[half::2], at(2 * frame.index + half)[half::2]) for half in (0, 1)]
        assert max(halves) > 20, "one of the two moments"


def test_sizes_are_checked_in_every_stream(tmp_path, monkeypatch):
    path = streams(tmp_path / "a.mkv", (20, (64, 48), 0), (20, (128, 96), 0))
    monkeypatch.setattr(container, "MAX_SIDE", 100)
    with pytest.raises(container.InputError, match="128x96"):
        probe(path)


# --------------------------------------------------------------------------------------------------------------------- sound


def beep(path: Path, codec: str = "aac", late: float = 0.0, frames: int = 50) -> Path:
    """Two seconds of pictures; sound that is silent but for 0.2 s from second 1 on."""
    rate = 24000
    samples = np.zeros((1, 3 * rate), np.float32)
    samples[:, rate : rate + rate // 5] = np.sin(np.arange(rate // 5) / 5) / 2
    with av.open(str(path), "w") as out:
        film, sound = out.add_stream("libx264", rate=25), out.add_stream(codec, rate=rate, layout="mono")
        film.width, film.height, film.pix_fmt, film.codec_context.time_base = 64, 48, "yuv420p", Fraction(1, 1000)
        for index in range(frames):
            image = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            image.pts, image.time_base = round(1000 * (late + index / 25)), Fraction(1, 1000)
            out.mux(film.encode(image))
        out.mux(film.encode(None))
        tone = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        tone.sample_rate, tone.pts = rate, 0
        out.mux(sound.encode(tone))
        out.mux(sound.encode(None))
    return path


def loud(path: Path) -> tuple[float, float]:
    """From when to when there is sound to be heard, in seconds on the clock of the pictures."""
    times = []
    for time, frame in heard(path):
        samples = frame.to_ndarray().astype(float).max(0) / (2**15 if frame.format.name.startswith("s16") else 1)
        times += (time + np.flatnonzero(samples > 0.2) / frame.sample_rate).tolist()
    return min(times), max(times)


def copied(source: Path, target: Path) -> Path:
    info = probe(source)
    with Writer(target, info.width, info.height, info.rate, sound=source) as writer:
        for frame in read(source):
            writer.write(frame.image, frame.time)
    return target


@pytest.mark.parametrize(
    ("name", "codec", "late"),
    [
        ("a.mp4", "aac", 0.0),
        ("a.mkv", "libopus", 0.5),
        ("a.mov", "pcm_s16le", 0.5),
        ("a.avi", "libmp3lame", 0.0),
        ("a.ts", "mp2", 0.5),
    ],
)
def test_sound_goes_with_the_pictures(tmp_path, name, codec, late):
    source = beep(tmp_path / name, codec, late)
    path = copied(source, tmp_path / "b.mp4")
    with av.open(str(path)) as plain:
        assert [stream.codec_context.name for stream in plain.streams] == ["h264", "aac"]
        assert plain.duration / 1e6 == pytest.approx(2 + late, abs=0.1), "what is heard after the last picture is left out"
    assert loud(path) == pytest.approx(loud(source), abs=0.03) and loud(path)[0] == pytest.approx(1, abs=0.06)
    assert seconds(path) == pytest.approx(seconds(source), abs=0.06)
    before = path.read_bytes()
    assert copied(source, path).read_bytes() == before


def test_no_sound_where_the_source_has_none(tmp_path):
    path = copied(make(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    with av.open(str(path)) as plain:
        assert [stream.type for stream in plain.streams] == ["video"]


def test_damaged_sound_costs_no_picture(tmp_path):
    source = beep(tmp_path / "a.mkv")
    data = bytearray(source.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 2, len(data), 300):
        data[place] = rng.integers(256)
    source.write_bytes(data)
    pictures = len(list(read(source)))
    assert len(seconds(copied(source, tmp_path / "b.mp4"))) == pictures > 20


# ---------------------------------------------------------------------------------------- found by benchmarks/fuzz_video.py


def test_an_absurd_rate_in_the_header(tmp_path):
    """24 frames in 2,061,584,303 seconds; as a rate to write with, it would be refused as no user's doing."""
    path = make(tmp_path / "a.ivf", codec="libvpx-vp9", frames=6)
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, 16, 24, 2_061_584_303)
    path.write_bytes(data)
    assert 0.001 <= probe(path).rate < 1000
    assert len(list(read(copied(path, tmp_path / "b.mp4")))) == 6


def test_streams_that_appear_in_mid_file(tmp_path):
    """PyAV then ends a file with an IndexError, if the memory that it looks at happens not to be zero."""
    path = make(tmp_path / "a.ts", codec="mpeg2video")

    class Appearing:
        def __init__(self, container):
            self.container, self.format = container, container.format

        def demux(self, *streams):
            yield from (packet for packet in self.container.demux(*streams) if packet.size)
            raise IndexError("list index out of range")

    with container.open_video(path) as (real, stream):
        assert sum(1 for _ in container.decode(path, Appearing(real), stream)) == 12


def test_tags_of_colour_that_mean_nothing(tmp_path):
    path = make(tmp_path / "a.mov", codec="prores_ks", pix_fmt="yuv422p10le", frames=3)
    data, clean = bytearray(path.read_bytes()), [frame.image for frame in read(path)]
    place = data.find(b"icpf", data.find(b"icpf") + 4) + 20
    data[place] = 127  # the matrix of the second frame
    path.write_bytes(data)
    with av.open(str(path)) as plain:
        assert [frame.colorspace for frame in plain.decode(video=0)][1] == 127, "the file is not what the test needs"
    assert [psnr(frame.image, whole) > 40 for frame, whole in zip(read(path), clean, strict=True)] == [True] * 3


def test_sound_whose_time_stamps_overlap(tmp_path, monkeypatch):
    source = beep(tmp_path / "a.mkv")
    pieces = [(time - 0.03 * (number % 3 == 2), frame) for number, (time, frame) in enumerate(heard(source))]
    monkeypatch.setattr("mssc.video.sound.heard", lambda path: (piece for piece in pieces))
    path = copied(source, tmp_path / "b.mp4")
    monkeypatch.undo()
    assert loud(path) == pytest.approx(loud(source), abs=0.03)


def test_places_that_are_none_are_not_raised_into_the_demuxer(tmp_path):
    """It would print a traceback and go on."""
    (tmp_path / "a").write_bytes(b"0123456789")
    with container._open_file(tmp_path / "a") as file:
        assert file.seek(4) == 4 and file.read(2) == b"45"
        assert [file.seek(place) for place in (-1, -(2**62), 2**80)] == [-1] * 3
        assert file.read(2) == b"67"
