"""Decoded pictures to RGB as a usual screen shows it: the right matrix, and high dynamic range brought into reach.

PQ and HLG video (SMPTE ST 2084, ARIB STD-B67; both in ITU-R BT.2100) is mapped by a table: to light, through the curve of
BT.2390 with a white of 203 nits (BT.2408), into BT.709's primaries, and back to numbers for a screen of BT.1886.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, ColorTrc, Interpolation, VideoReformatter

SIDE = 33  # of the table, a usual one; PQ and HLG steps are even to the eye, so between them a straight line will do
WHITE = 203.0  # nits of a white page in HDR
PEAK = 1000.0  # nits of the brightest that is told apart; HLG's screen, and what most PQ video is graded on
FROM_BT2020 = np.array([[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]])
LUMA_BT2020 = np.array([0.2627, 0.6780, 0.0593])


class ToRGB:
    """Converts the frames of one video to (H, W, 3) uint8 RGB."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._table: Graph | None = None
        self._made_for: tuple[int, int, int] | None = None

    def __call__(self, frame: VideoFrame, width: int, height: int) -> np.ndarray:
        """The frame in this size, contiguous, the caller's to change."""
        transfer = frame.color_trc
        high = transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
        # Without a tag, players take BT.709 for high definition; swscale would take BT.601.
        untagged = frame.colorspace in (0, 2) and (high or frame.height >= 720)
        matrix = (Colorspace.BT2020 if high else Colorspace.ITU709) if untagged else None
        # One thread: handing a small frame to several costs more than it saves.
        how = {"src_colorspace": matrix, "interpolation": Interpolation.BILINEAR, "threads": 1}
        try:
            converted = self._reformatter.reformat(frame, width, height, "gbrp10le" if high else "rgb24", **how)
        except OSError:  # tags of damaged frames, which stand for nothing
            frame.colorspace = frame.color_primaries = frame.color_trc = 2
            high, converted = False, self._reformatter.reformat(frame, width, height, "rgb24", **how)
        if high:
            converted = self._map(converted, int(transfer)).reformat(format="rgb24", threads=1)
        image = converted.to_ndarray()
        # A frame that was RGB already belongs to the decoder, which may draw the next one on top.
        return image.copy() if converted is frame else np.ascontiguousarray(image)

    def _map(self, frame: VideoFrame, transfer: int) -> VideoFrame:
        if self._table is None or self._made_for != (transfer, frame.width, frame.height):
            handle, path = tempfile.mkstemp(suffix=".cube")
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(_cube(transfer))
                self._table = _graph(frame, "lut3d", file=path, interp="tetrahedral")
            finally:
                os.unlink(path)
            self._made_for = (transfer, frame.width, frame.height)
        self._table.push(frame)
        return next(_ready(self._table))


def deinterlaced(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """The frames, one for one, without the combs of those that are flagged as two half pictures of different moments."""
    graph, layout = None, None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None or layout != (frame.width, frame.height, frame.format.name):
            yield from _last_of(graph)
            graph = _graph(frame, "bwdif", mode="send_frame", deint="interlaced")
            layout = (frame.width, frame.height, frame.format.name)
        graph.push(frame)
        yield from _ready(graph)
    yield from _last_of(graph)


def _graph(frame: VideoFrame, name: str, **options: str) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add(name, **options), graph.add("buffersink")).configure()
    return graph


def _ready(graph: Graph) -> Iterator[VideoFrame]:
    with contextlib.suppress(BlockingIOError, EOFError):
        while isinstance(frame := graph.pull(), VideoFrame):
            yield frame


def _last_of(graph: Graph | None) -> Iterator[VideoFrame]:
    if graph is not None:
        graph.push(None)
        yield from _ready(graph)


@functools.cache
def _cube(transfer: int) -> str:
    """The table, as a file of the format .cube: red runs fastest."""
    steps = np.linspace(0, 1, SIDE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    shown = to_screen(np.stack([red, green, blue], -1).reshape(-1, 3), transfer)
    return f"LUT_3D_SIZE {SIDE}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in shown.tolist()) + "\n"


def to_screen(coded: np.ndarray, transfer: int) -> np.ndarray:
    """(N, 3) RGB of BT.2100 from 0 to 1, PQ or HLG, to that of a usual screen."""
    light = _pq_to_nits(coded) if transfer == ColorTrc.SMPTE2084 else _hlg_to_nits(coded)
    strongest = light.max(1, keepdims=True).clip(1e-6)
    light = light * _compressed(strongest) / strongest / WHITE
    return (light @ FROM_BT2020.T).clip(0, 1) ** (1 / 2.4)


def _compressed(nits: np.ndarray) -> np.ndarray:
    """BT.2390's curve: as it is up to a knee, then gently up to `WHITE` for `PEAK`."""
    top = _nits_to_pq(np.array(PEAK))
    value, most = np.minimum(_nits_to_pq(nits) / top, 1), _nits_to_pq(np.array(WHITE)) / top
    knee = 1.5 * most - 0.5
    t = ((value - knee) / (1 - knee)).clip(0)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return _pq_to_nits(np.where(value > knee, bent, value) * top)


M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # of ST 2084


def _pq_to_nits(value: np.ndarray) -> np.ndarray:
    power = value ** (1 / M2)
    return 10_000 * ((power - C1).clip(0) / (C2 - C3 * power)) ** (1 / M1)


def _nits_to_pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000).clip(0) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def _hlg_to_nits(value: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return PEAK * (scene @ LUMA_BT2020)[:, None] ** 0.2 * scene
