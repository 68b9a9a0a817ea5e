"""``mssc evaluate``: run a model or read detections, score them, write the results."""

import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from ..data.catalogue import Part
from ..structures import InputError, counted
from .options import FLAG, MODEL, OUTPUT, RARE, Device, OnData, Runtime, command_line, default
from .sharing import Jobs, Shard, Share, VideoBar

log = logging.getLogger("mssc")
YOWO = {"jhmdb": "yowo-jhmdb", "ucf101-24": "yowo-ucf101-24"}
FOREIGN_THRESHOLD = 0.3


@dataclass(frozen=True)
class _Rare:
    clip: Annotated[bool, FLAG] = False
    """Compute the window of each frame anew instead of streaming the frames."""
    first_frame: Annotated[int | None, default("the layout's own, 1")] = None
    """Number of a video's first frame in --detections."""
    runtime: Runtime = "auto"


@dataclass(frozen=True, kw_only=True)
class Evaluate(OnData):
    """Score a model, or saved detections, on a data set: frame-mAP under every protocol, video-mAP, errors, false alarms.

    Results are a JSON, a Markdown table and a page with pictures. A run that was stopped goes on when the same command is given
    again. Of shards in one folder, the last to end writes the results of all, or a later command without a shard.

    For example:
        mssc evaluate jhmdb --dataset jhmdb --data DIR --part test -o results
        mssc evaluate --detections theirs.pkl --dataset jhmdb --data DIR --part test
    """

    model: Annotated[tyro.conf.Positional[str | None], MODEL, default("none, with --detections")] = None
    """Name of a model that ships, or a model's folder."""
    part: Part = "val"
    """Which videos."""
    output: Annotated[Path | None, OUTPUT, default("outputs/evaluate/MODEL-DATASET-PART")] = None
    """Folder for detections and results, or a .json file beside which that folder is made."""
    detections: Annotated[Path | None, default("a model is run")] = None
    """Score these instead of running a model: a folder of this command, YOWO's text files, ACT's .npy or .pkl, AVA's csv.
    Tubes in it (.npz with idx and boxes, ACT's *_tubes.pkl) are scored as they are, and are the detections where there are no others."""
    threshold: Annotated[float | None, default("the model's own, 0.3 with --detections")] = None
    """For counts of errors and false alarms, 0 to 1."""
    device: Device = "auto"
    shard: Shard = None
    jobs: Jobs = None
    rare: Annotated[_Rare, *RARE] = _Rare()

    def run(self) -> None:
        """Detect what is missing, score, write."""
        from ..files import claim, write_whole
        from ..scoring.report import markdown, page
        from ..scoring.run import versions

        if (self.model is None) == (self.detections is None):
            raise InputError("name either a model, or detections with --detections.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; it must lie in [0, 1].")
        if self.detections is not None and self.shard is not None:
            raise InputError(f"--shard {self.shard} is of a model's work; saved detections are scored at once, without it.")
        folder, file = self._places()
        claim(folder, "protocols", "result.json", "result.md", "report.html")
        if file is not None:
            claim(file.parent, "protocols", file.name)
        share = Share(self.shard)
        if self.model is not None:
            found = self._run(self.model, folder, share)
        else:
            found = (self._ava() if self.dataset == "ava" else self._saved()) if share.first else None
        if found is None:
            return
        results, facts = found
        record = {**results.record(), **facts, "protocols": PROTOCOL_NOTES, "versions": versions()}
        record["command"] = command_line()
        for name, value in results.scores.items():
            log.info("%s: %.4f", name, value)
        text = json.dumps(record, indent=1)
        for path, content in (
            (folder / "result.json", text),
            (folder / "result.md", markdown(record)),
            (folder / "report.html", page(record, results)),
            *([(file, text)] if file is not None else []),
        ):
            write_whole(path, content)
        log.info("the report is %s", folder / "report.html")

    def _places(self) -> tuple[Path, Path | None]:
        """The folder, and the JSON file if one was asked for."""
        if self.output is not None and self.output.suffix == ".json":
            return self.output.with_suffix(""), self.output
        what = Path(self.model).name if self.model else Path(self.detections or "").stem
        return self.output or Path("outputs") / "evaluate" / "-".join((what, self.dataset, self.part)), None

    def _run(self, model: str, folder: Path, share: Share) -> tuple | None:
        """A model, over what its folder does not hold yet; None as long as others have not ended, or if they score."""
        from ..data.catalogue import load_dataset
        from ..detection.detector import Detector
        from ..detection.workers import how_many, one_thread, refuse
        from ..scoring.run import identity, known_of, run_model, score, seen_before
        from ..scoring.saved import Folder

        device = share.device(self.device)
        jobs = how_many(self.jobs, device)
        with one_thread():  # as those that share the work have: the same detections to the last bit
            detector = Detector.load(
                model, device, self.rare.runtime
            )  # what cannot be loaded is refused before the data are read
        data = load_dataset(self.dataset, self.data, self.part, self.split)
        detector.check_classes(data)
        part = share.part(data.videos)
        mine = share.mine(part)
        about = identity(model, data, self.part, self.split, "clip" if self.rare.clip else "stream")
        kept = Folder(folder, about)
        done = {video.name for video in part if kept.holds(video)}
        if changed := [kept.file(video.name) for video in part if video.name in kept and video.name not in done]:
            what = "%s (such as %s) of videos that have changed since, or that cannot be read; they are made anew"
            log.warning(what, counted(len(changed), "file"), changed[0])
        if done:
            log.info("%d of %d videos are done already, in %s", len(done), len(part), folder)
        load = partial(Detector.load, model, device, self.rare.runtime) if jobs > 1 else lambda: detector
        with VideoBar(len(mine), sum(video.name in done for video in mine), share.first) as bar:
            failed = run_model(load, mine, kept, str(about["mode"]), jobs, bar.moved)
        refuse(share.gather(failed), len(part))
        missing = sum(not kept.holds(video) for video in data.videos)
        if missing and share.first:
            log.info("%d of %d videos are left to other shards; the last one scores all, or a later command.", missing, len(data))
        if missing or not share.first:
            return None
        own = {video.name: kept.read(video.name) for video in data.videos}
        threshold = detector.threshold if self.threshold is None else self.threshold
        labelled = {v.name: frames for v in data.videos if (frames := getattr(v, "labelled", None)) is not None}
        results = score(own, known_of(data), threshold, True, YOWO.get(self.dataset, "yowo"), labelled)
        learnt = seen_before(model, data)
        return results, about | {"frames": sum(video.frames for video in data.videos)} | ({"learnt": learnt} if learnt else {})

    def _saved(self) -> tuple:
        """Detections that were saved, by this command or by another system."""
        from ..scoring.run import score
        from ..scoring.saved import read_detections, read_saved_tubes, read_truth
        from ..scoring.saved.folder import facts, is_folder

        assert self.detections is not None
        known = read_truth(self.dataset, self.data, self.part, self.split)
        found = read_detections(self.detections, known, self.rare.first_frame)
        tubes = read_saved_tubes(self.detections, known, self.rare.first_frame)
        ours = is_folder(self.detections)
        threshold = FOREIGN_THRESHOLD if self.threshold is None else self.threshold
        results = score(found, known, threshold, ours, YOWO.get(self.dataset, "yowo"), tubes=tubes)
        about = {"dataset": self.dataset, "part": self.part, "split": self.split, "videos": len(known.truth)}
        about["tubes"] = "linked from the detections" if tubes is None else "as saved, after suppression at an overlap of 0.3"
        about |= facts(self.detections) if ours else {}
        frames = sum(video.frames for video in known.truth.values())
        return results, about | {"frames": frames, "detections": self.detections.name}

    def _ava(self) -> tuple:
        """AVA's csv, by the official rules."""
        from ..data import ava
        from ..scoring.run import score_ava
        from ..scoring.saved import read_ava

        assert self.detections is not None
        root = self.data / "ava" if (self.data / "ava").is_dir() else self.data
        rows, listed, excluded = ava.annotation_files(root, self.part)
        wanted = read_ava(rows, range(1, 81), scored=False)
        videos = sorted({frame.rsplit(",", 1)[0] for frame in wanted.frames.tolist()})
        found = read_ava(self.detections, range(1, 81), videos)
        if not set(found.frames.tolist()) & set(wanted.frames.tolist()):
            here, there = (table.frames[0].rsplit(",", 1) for table in (found, wanted))
            raise InputError(
                f"{self.detections} has no row of any annotated second: its first is second {here[1]} of {here[0]}, that of "
                f"{rows.name} second {there[1]} of {there[0]}; seconds count from the film's beginning, annotated are 902 to 1798."
            )
        frames = {f"{video},{second}" for video, second in (ava.read_excluded(excluded) if excluded else ())}
        threshold = FOREIGN_THRESHOLD if self.threshold is None else self.threshold
        results = score_ava(found, wanted, ava.read_classes(listed), frames, threshold)
        facts = {"dataset": f"ava ({rows.name})", "part": self.part, "videos": len(videos), "detections": self.detections.name}
        return results, facts


PROTOCOL_NOTES = {
    "voc": "continuous boxes, each detection against the best box of its frame and class, area under the envelope, annotated frames",
    "act": "inclusive boxes, the best box not yet taken, trapezoids, every frame",
    "yowo": "inclusive boxes, as voc, without the last frame of each tube, over boxes as in YOWO's own annotation of the data set",
    "video-mAP": "temporal IoU x mean spatial IoU, inclusive boxes, matching and area as act; (yowo): area under the envelope",
    "ava": "as the official evaluator of the ActivityNet challenge",
}
