"""``python -m mssc evaluate``: run a model or read detections, score them, write the results."""

import json
import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from ..structures import InputError

log = logging.getLogger("mssc")
DATASETS = ("jhmdb", "ucf101-24", "ava", "toy", "custom")
PARTS = ("train", "val", "trainval", "test")
YOWO = {"jhmdb": "yowo-jhmdb", "ucf101-24": "yowo-ucf101-24"}
FOREIGN_THRESHOLD = 0.3


@dataclass(frozen=True)
class Evaluate:
    """Score a model, or saved detections, on a data set: frame-mAP under every protocol, video-mAP, errors, false alarms.

    Results are a JSON, a Markdown table and a page with pictures. A run that was stopped goes on when the same command is given
    again.
    """

    model: tyro.conf.Positional[str | None] = None
    """Name of a model that ships, or a model's folder. Not needed with --detections."""
    dataset_name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATASET")] = None
    """The same as --dataset."""
    dataset: str | None = None
    """What to score it on: jhmdb, ucf101-24, ava, toy or custom."""
    data: Path = Path("data")
    """Folder of the data set."""
    part: str = "val"
    """Which videos: train, val, trainval or test."""
    split: int = 1
    """Of J-HMDB: 1, 2 or 3."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for detections and results, or a .json file beside which that folder is made."""
    clip: bool = False
    """Compute the window of each frame anew instead of streaming."""
    detections: Path | None = None
    """Score these instead of running a model: a folder of this command, YOWO's text files, ACT's .npy or .pkl, AVA's csv.
    Tubes in it (.npz with idx and boxes, ACT's *_tubes.pkl) are scored as they are, and are the detections where there are no others."""
    first_frame: int | None = None
    """Number of a video's first frame in --detections; the layout's own, 1, if not given."""
    threshold: float | None = None
    """For counts of errors and false alarms, 0 to 1; the model's own if not given."""

    def run(self) -> None:
        """Detect what is missing, score, write."""
        from ..files import write_whole
        from ..scoring.report import markdown, page
        from ..scoring.run import versions

        model, dataset = self._names()
        folder, file = self._places(model, dataset)
        if self.detections is not None and dataset == "ava":
            results, facts = self._ava()
        elif self.detections is not None:
            results, facts = self._saved(dataset)
        else:
            results, facts = self._run(str(model), dataset, folder)
        record = {**results.record(), **facts, "protocols": PROTOCOL_NOTES, "versions": versions()}
        record["command"] = shlex.join(["python", "-m", "mssc", *sys.argv[1:]])
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

    def _names(self) -> tuple[str | None, str]:
        """Model and data set, however they were given."""
        model, dataset = self.model, self.dataset or self.dataset_name
        if self.detections is not None and dataset is None:
            model, dataset = None, model
        if self.dataset and self.dataset_name and self.dataset != self.dataset_name:
            raise InputError(f"two data sets are named, {self.dataset_name} and {self.dataset}; name one.")
        if dataset not in DATASETS:
            raise InputError(f"the data set is {dataset!r}; name one with --dataset: {', '.join(DATASETS)}.")
        if (model is None) == (self.detections is None):
            raise InputError("name either a model, or detections with --detections.")
        if self.part not in PARTS:
            raise InputError(f"the part is {self.part!r}; use one of {', '.join(PARTS)}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; it must lie in [0, 1].")
        return model, dataset

    def _places(self, model: str | None, dataset: str) -> tuple[Path, Path | None]:
        """The folder, and the JSON file if one was asked for."""
        if self.output is not None and self.output.suffix == ".json":
            return self.output.with_suffix(""), self.output
        what = Path(model).name if model else Path(self.detections or "").stem
        return self.output or Path("outputs") / "evaluate" / "-".join((what, dataset, self.part)), None

    def _run(self, model: str, dataset: str, folder: Path) -> tuple:
        """A model, over what its folder does not hold yet."""
        from ..data.catalogue import load_dataset
        from ..detection.pipeline import default_threshold, model_folder
        from ..scoring.run import identity, known_of, run_model, score
        from ..scoring.saved import Folder

        model_folder(model)  # an unknown model is refused before the data are read
        data = load_dataset(dataset, self.data, self.part, self.split)
        about = identity(model, data, self.part, self.split, "clip" if self.clip else "stream")
        kept = Folder(folder, about)
        there = sum(video.name in kept for video in data.videos)
        if there:
            log.info("%d of %d videos are done already, in %s", there, len(data), folder)
        with tqdm(total=len(data), unit="video", dynamic_ncols=True) as bar:
            own = run_model(
                model, data, kept, str(about["mode"]), lambda name: (bar.set_postfix_str(name, refresh=False), bar.update())
            )
        threshold = default_threshold(model) if self.threshold is None else self.threshold
        labelled = {v.name: frames for v in data.videos if (frames := getattr(v, "labelled", None)) is not None}
        results = score(own, known_of(data), threshold, True, YOWO.get(dataset, "yowo"), labelled)
        return results, about | {"frames": sum(video.frames for video in data.videos)}

    def _saved(self, dataset: str) -> tuple:
        """Detections that were saved, by this command or by another system."""
        from ..scoring.run import score
        from ..scoring.saved import read_detections, read_saved_tubes, read_truth
        from ..scoring.saved.folder import facts, is_folder

        assert self.detections is not None
        known = read_truth(dataset, self.data, self.part, self.split)
        found = read_detections(self.detections, known, self.first_frame)
        tubes = read_saved_tubes(self.detections, known, self.first_frame)
        ours = is_folder(self.detections)
        threshold = FOREIGN_THRESHOLD if self.threshold is None else self.threshold
        results = score(found, known, threshold, ours, YOWO.get(dataset, "yowo"), tubes=tubes)
        about = {"dataset": dataset, "part": self.part, "split": self.split, "videos": len(known.truth)}
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
        files = ava.annotation_files(root, self.part)
        rows, listed = files["rows"], files["classes"]
        assert rows is not None and listed is not None
        wanted = read_ava(rows, range(1, 81), scored=False)
        videos = sorted({frame.rsplit(",", 1)[0] for frame in wanted.frames.tolist()})
        found = read_ava(self.detections, range(1, 81), videos)
        if not set(found.frames.tolist()) & set(wanted.frames.tolist()):
            here, there = (table.frames[0].rsplit(",", 1) for table in (found, wanted))
            raise InputError(
                f"{self.detections} has no row of any annotated second: its first is second {here[1]} of {here[0]}, that of "
                f"{rows.name} second {there[1]} of {there[0]}; seconds count from the film's beginning, annotated are 902 to 1798."
            )
        excluded = ava.read_excluded(files["excluded"]) if files["excluded"] is not None else set()
        frames = {f"{video},{second}" for video, second in excluded}
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
