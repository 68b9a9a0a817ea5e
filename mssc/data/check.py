"""Look at a data set before anyone trains on it: what is there, what is broken, what leaks, and a sheet of drawn boxes."""

import itertools
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..boxes import CONTINUOUS, box_iou
from ..files import whole_file, write_whole
from ..structures import Detections, InputError, Tube, counted
from ..video import fonts
from ..video.container import open_video
from ..video.drawing import draw
from .custom import source
from .dataset import Dataset, Video
from .decoding import decode, resize
from .media import first_few

log = logging.getLogger(__name__)

SAME_TUBE = 0.9  # mean overlap of two tubes of one class from which they annotate the same thing twice
HASH_SIDE = 16  # a first frame's hash compares neighbours in this many rows and columns: 512 bits
SAME_LENGTH = 0.02  # share of its frames by which a copy may be longer or shorter
SAME_FRAME = 0.06  # share of bits that may differ between two encodings of one picture
FLAT = 4.0  # grey levels of spread below which a frame is too plain to be compared (black, a title)
ALIKE = 0.75  # of two names, as difflib counts it, from which one may be the other misspelt,
RARE = 0.2  # if it has at most this share of the other's tubes
MUCH = 0.35  # share of the videos that is much for validation
SMALL = 0.01  # of the frame's area; smaller boxes are hard to learn from small inputs
SHEET_COLUMNS, SHEET_WIDTH, SHEET_MOST, SHEET_LETTERS = 4, 320, 24, 10


@dataclass
class Report:
    """What `check` found.

    Attributes:
        name: of the data set.
        problems: reasons why it cannot be used as it is, a sentence each.
        warnings: what deserves a look.
        parts: by part, numbers of videos, frames, tubes and frames without action.
        classes: by class and part, numbers of tubes, frames and videos.
        sizes: of boxes and tubes, as quantiles.
        videos: by name, what decoding it gave.
        sheet: the contact sheet, (H, W, 3) uint8 RGB, or None without a box.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    sizes: dict[str, list[float]] = field(default_factory=dict)
    videos: dict[str, dict[str, object]] = field(default_factory=dict)
    sheet: np.ndarray | None = None

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        rows = [["part", "videos", "frames", "tubes", "frames without action"]]
        rows += [[part, *map(str, numbers.values())] for part, numbers in self.parts.items()]
        lines = [self.name, "", *_table(rows), ""]
        parts = list(self.parts)
        rows = [["class", *(f"{part}: tubes / frames / videos" for part in parts)]]
        for name, by_part in self.classes.items():
            rows.append([name, *(" / ".join(map(str, by_part[part].values())) for part in parts)])
        lines += [*_table(rows), ""]
        if self.sizes:
            rows = [["", "least", "a quarter", "half", "three quarters", "most"]]
            rows += [[what, *(f"{value:.3g}" for value in values)] for what, values in self.sizes.items()]
            lines += [*_table(rows), ""]
        lines += [f"look: {sentence}" for sentence in self.warnings]
        lines += [f"PROBLEM: {sentence}" for sentence in self.problems]
        verdict = "Fit to be trained on."
        if self.problems:
            verdict = f"Problems to mend before training: {len(self.problems)}."
        elif self.warnings:
            verdict = f"Fit to be trained on, if what the lines above say ({counted(len(self.warnings), 'warning')}) is meant so."
        return [*lines, verdict]

    def write(self, folder: Path) -> None:
        """report.json and, where there is a box, boxes.png.

        Raises:
            InputError: if they cannot be written.
        """
        content = {name: value for name, value in vars(self).items() if name != "sheet"}
        write_whole(folder / "report.json", json.dumps(content | {"usable": not self.problems}, indent=1))
        if self.sheet is not None:
            with whole_file(folder / "boxes.png") as part:
                Image.fromarray(self.sheet).save(part, "PNG")


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def check(
    name: str,
    parts: Mapping[str, Dataset],
    problems: Iterable[str] = (),
    progress: Callable[[Sequence[Video]], Iterable[Video]] = lambda videos: videos,
) -> Report:
    """Decode every video of the parts and report.

    Args:
        name: for the report.
        parts: data sets that share their classes, by part; a video may be in one of them only.
        problems: what is known already.
        progress: wraps the list of videos while they are decoded, for a bar.
    """
    report = Report(name, list(problems))
    videos = {video.name: (part, video) for part, dataset in parts.items() for video in dataset.videos}
    _count(report, parts)
    hashes: dict[str, np.ndarray | None] = {}
    pictures: list[tuple[Video, int, np.ndarray]] = []
    chosen = _for_sheet(parts)
    for video in progress([video for _, video in videos.values()]):
        hashes[video.name] = _decode(report, video, chosen.get(video.name, ()), pictures)
        report.warnings += _duplicates(video)
    differ = [
        f"{name} ({entry['decoded frames']}, its header says {entry['frames by its header']})"
        for name, entry in report.videos.items()
        if entry.get("frames by its header") != entry.get("decoded frames") and "frames by its header" in entry
    ]
    if differ:
        advice = "frames are numbered as they are shown; see that your annotations are"
        report.warnings.append(
            f"{len(differ)} videos show another number of frames than they claim: {first_few(differ)}; {advice}."
        )
    _copies(report, [video for _, video in videos.values()], hashes)
    _leaks(report, {video: part for video, (part, _) in videos.items()}, hashes)
    _classes(report, parts)
    if pictures:
        report.sheet = contact_sheet(pictures, next(iter(parts.values())).classes)
    return report


def _count(report: Report, parts: Mapping[str, Dataset]) -> None:
    """Fill parts, classes and sizes."""
    shares, sides, lengths = [], [], []
    for part, dataset in parts.items():
        bare = 0
        counts = {name: {"tubes": 0, "frames": 0, "videos": 0} for name in dataset.classes}
        for video in dataset.videos:
            acting = np.zeros(video.frames, bool)
            for tube in video.tubes:
                acting[tube.start : tube.stop] = True
                row = counts[dataset.classes[tube.label]]
                row["tubes"] += 1
                row["frames"] += len(tube)
                size = tube.boxes[:, 2:] - tube.boxes[:, :2]
                shares.append(size.prod(1) / (video.width * video.height))
                sides.append(size.min(1))
                lengths.append(len(tube) / float(video.rate))
            for label in {tube.label for tube in video.tubes}:
                counts[dataset.classes[label]]["videos"] += 1
            bare += int((~acting).sum()) if video.labelled is None else int((~acting[list(video.labelled)]).sum())
        report.parts[part] = {
            "videos": len(dataset),
            "frames": sum(video.frames for video in dataset.videos),
            "tubes": sum(len(video.tubes) for video in dataset.videos),
            "bare": bare,
        }
        for name, row in counts.items():
            report.classes.setdefault(name, {})[part] = row
    if lengths:
        share = np.concatenate(shares)
        for what, values in (
            ("box, share of the frame", share),
            ("box, shorter side in pixels", np.concatenate(sides)),
            ("tube, seconds", np.array(lengths)),
        ):
            report.sizes[what] = [round(float(value), 5) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
        small = float((share < SMALL).mean())
        if small > 0.1:
            report.warnings.append(f"{small:.0%} of the boxes cover less than {SMALL:.0%} of the frame; these are hard to learn.")


def _decode(report: Report, video: Video, wanted: Sequence[int], pictures: list) -> np.ndarray | None:
    """Decode a video, note what is wrong with it, keep the wanted frames; the hash of its first frame."""
    count, first, size = 0, None, None
    entry: dict[str, object] = {"path": str(video.path), "annotated frames": video.frames}
    report.videos[video.name] = entry
    try:
        for count, image in enumerate(decode(video.path), 1):
            if first is None:
                first, size = frame_hash(image), image.shape[:2]
            if count - 1 in wanted:
                pictures.append((video, count - 1, image))
    except InputError as error:
        entry["error"] = str(error)
        report.problems.append(f"{video.name} cannot be decoded: {error}")
        return None
    entry["decoded frames"] = count
    if video.path.is_file():
        with open_video(video.path) as (_, stream):
            entry["frames by its header"] = stream.frames or count
    if size is not None and size != (video.height, video.width):
        report.problems.append(f"{video.name} is {size[1]}x{size[0]}, its boxes are for {video.width}x{video.height}.")
    last = max((tube.stop for tube in video.tubes), default=0)
    if count < last:
        report.warnings.append(
            f"{video.name} decodes to {count} frames, its boxes go on to frame {last - 1}; the video is damaged or was cut."
        )
    return first


def _duplicates(video: Video) -> list[str]:
    """Tubes of one class that lie on one another."""
    found = []
    for index, one in enumerate(video.tubes):
        for other in video.tubes[index + 1 :]:
            if one.label == other.label and _overlap(one, other) >= SAME_TUBE:
                found.append(f"{video.name} has the same tube twice from frame {max(one.start, other.start)} on; remove one.")
    return found[:1] + ([f"{video.name} has {len(found) - 1} more such pairs."] if len(found) > 1 else [])


def _overlap(one: Tube, other: Tube) -> float:
    """Mean overlap of boxes over the frames of the shorter tube."""
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    if stop <= start:
        return 0.0
    a, b = (tube.boxes[start - tube.start : stop - tube.start] for tube in (one, other))
    return float(box_iou(a, b, CONTINUOUS).sum() / min(len(one), len(other)))


def frame_hash(image: np.ndarray) -> np.ndarray | None:
    """Bits that change little when a picture is encoded or scaled anew: is each cell brighter than its neighbour?

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (2 * HASH_SIDE ** 2,) bool, or None if the picture is too plain to be told from others.
    """
    small = resize(image, HASH_SIDE + 1, HASH_SIDE + 1).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    if small.std() < FLAT:
        return None
    across = small[:-1, 1:] > small[:-1, :-1]
    down = small[1:, :-1] > small[:-1, :-1]
    return np.concatenate([across.ravel(), down.ravel()])


def _copies(report: Report, videos: Sequence[Video], hashes: Mapping[str, np.ndarray | None]) -> None:
    """Videos without boxes that seem to show what others with boxes do: proxies of cameras, films beside their frames."""
    seen = [video for video in videos if hashes[video.name] is not None]
    bits = np.array([hashes[video.name] for video in seen])
    found = []
    for index, bare in enumerate(seen):
        if bare.tubes:
            continue
        alike = (bits != bits[index]).mean(1) <= SAME_FRAME
        for other in (seen[number] for number in np.flatnonzero(alike)):
            if other.tubes and abs(other.frames - bare.frames) <= max(1, SAME_LENGTH * other.frames):
                found.append(f"{bare.name} is like {other.name}")
                break
    if found:
        report.warnings.append(
            f"{counted(len(found), 'video')} without a box, but with the first picture and the length of one that has boxes: "
            f"{first_few(found)}; remove copies, or their actions are learnt as background."
        )


def _leaks(report: Report, part_of: Mapping[str, str], hashes: Mapping[str, np.ndarray | None]) -> None:
    """Videos of different parts that seem to have one source."""
    by_source: defaultdict[str, list[str]] = defaultdict(list)
    for name in part_of:
        if re.search(r"\d\W*$", Path(name).with_suffix("").name):  # a number at the end: one of several of a name
            by_source[source(name)].append(name)
    mixed = [names for names in by_source.values() if len({part_of[name] for name in names}) > 1]
    if mixed and len(by_source) > 1:
        pairs = [f"{names[0]} ({part_of[names[0]]}) and {_other(names, part_of)}" for names in mixed]
        report.warnings.append(
            f"{len(mixed)} sources are in several parts as far as names tell, such as {first_few(pairs)}; a score would be too good."
        )
    names = [name for name, bits in hashes.items() if bits is not None]
    if len(names) < 2:
        return
    bits = np.array([hashes[name] for name in names]).astype(np.float32)
    differ = (bits @ (1 - bits).T + (1 - bits) @ bits.T) / bits.shape[1]
    rows, columns = np.nonzero(np.triu(differ <= SAME_FRAME, 1))
    same = [(names[a], names[b]) for a, b in zip(rows, columns, strict=True) if part_of[names[a]] != part_of[names[b]]]
    if same:
        pairs = [f"{a} ({part_of[a]}) and {b} ({part_of[b]})" for a, b in same]
        report.warnings.append(
            f"{len(same)} pairs of videos in different parts begin with nearly the same picture: {first_few(pairs)}; "
            "put them into one part, or a score would be too good."
        )


def _other(names: Sequence[str], part_of: Mapping[str, str]) -> str:
    other = next(name for name in names if part_of[name] != part_of[names[0]])
    return f"{other} ({part_of[other]})"


def _classes(report: Report, parts: Mapping[str, Dataset]) -> None:
    """Classes that cannot be learnt or scored."""
    for part in parts:
        absent = [name for name, row in report.classes.items() if not row[part]["tubes"]]
        if absent and part != "test" and len(absent) < len(report.classes):
            report.warnings.append(f"{part} has no tube of {first_few(absent)}.")
    tubes = {name: sum(row["tubes"] for row in by_part.values()) for name, by_part in report.classes.items()}
    for one, other in itertools.combinations(sorted(tubes, key=lambda name: tubes[name]), 2):
        alike = SequenceMatcher(None, one.casefold(), other.casefold()).ratio()
        if alike == 1 or alike >= ALIKE and tubes[one] <= RARE * tubes[other]:
            few = counted(tubes[one], "tube")
            report.warnings.append(f"is the action {one!r} ({few}) a misspelt {other!r} ({tubes[other]})? Then correct it.")
    held = {part: numbers["videos"] for part, numbers in report.parts.items() if part in ("train", "val")}
    if len(held) == 2 and held["val"] > MUCH * sum(held.values()):
        report.warnings.append(
            f"{held['val']} of {sum(held.values())} videos are for validation, which is much; more videos, or splits.csv, change that."
        )
    if not any(numbers["tubes"] for numbers in report.parts.values()) and not report.problems:
        report.problems.append("no video has a single tube; annotate some, or check the names of the videos.")


def _for_sheet(parts: Mapping[str, Dataset]) -> dict[str, list[int]]:
    """Frames to draw, by video: the middle of a tube of each class, then further tubes, spread over the videos."""
    wanted: dict[str, list[int]] = {}
    used: Counter = Counter()
    tubes = [(tube.label, video.name, tube) for dataset in parts.values() for video in dataset.videos for tube in video.tubes]
    queue = []
    for label, name, tube in tubes:
        queue.append((used[label], label, len(queue), name, (tube.start + tube.stop - 1) // 2))
        used[label] += 1
    for _, _, _, name, frame in sorted(queue):
        if sum(map(len, wanted.values())) >= SHEET_MOST:
            break
        frames = wanted.setdefault(name, [])
        if frame not in frames:
            frames.append(frame)
    return wanted


def contact_sheet(pictures: Sequence[tuple[Video, int, np.ndarray]], classes: Sequence[str]) -> np.ndarray:
    """Frames with their true boxes, in a grid, each with its video and frame written below: (H, W, 3) uint8 RGB."""
    cells = []
    for video, frame, image in pictures:
        boxes, labels = video.boxes_at(frame)
        scale = SHEET_WIDTH / image.shape[1]
        small = resize(image, max(1, round(image.shape[0] * scale)), SHEET_WIDTH)
        truth = Detections(boxes * scale, labels, np.ones(len(labels)))
        text = f"{video.name}, frame {frame}"
        while fonts.width(text, SHEET_LETTERS) > SHEET_WIDTH - 8:
            text = text[1:]
        cells.append((draw(small, truth, classes), text))
    height = max(cell.shape[0] for cell, _ in cells) + 18
    rows = -(-len(cells) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (min(len(cells), SHEET_COLUMNS) * SHEET_WIDTH, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (cell, text) in enumerate(cells):
        x, y = index % SHEET_COLUMNS * SHEET_WIDTH, index // SHEET_COLUMNS * height
        sheet.paste(Image.fromarray(cell), (x, y))
        fonts.write(pen, (x + 4, y + cell.shape[0] + 9), text, SHEET_LETTERS, "black")
    return np.asarray(sheet)
