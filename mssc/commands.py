"""The commands of ``python -m mssc``: what each takes is a dataclass, what it does is its `run`."""

import dataclasses
import json
import logging
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from .config import ModelConfig, TrainConfig
from .structures import InputError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"}
log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Detect:
    """Find the action tubes of videos: an annotated MP4, a JSON and a CSV for each."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, or folders of them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("outputs")
    """Folder for the results."""
    model: str = "default"
    """Name of a model that ships, or a model's folder."""
    threshold: float | None = None
    """Report tubes of at least this score, 0 to 1; the model's own if not given."""
    draw: bool = True
    """Write the annotated video."""

    def run(self) -> None:
        """Each video by itself: a bad one is named at the end and does not stop the others."""
        from .detect import detect_video, load_for_detection

        files = _video_files(self.videos)
        load_for_detection(self.model)
        names = Counter(file.stem for file in files)
        failed: list[str] = []
        for file in files:
            stem = file.stem if names[file.stem] == 1 else f"{file.parent.name}-{file.name}"
            target = self.output / stem
            with tqdm(desc=file.name, unit="frame", dynamic_ncols=True) as bar:
                try:
                    result = detect_video(
                        file,
                        self.model,
                        self.threshold,
                        target.with_name(f"{stem}.mp4") if self.draw else None,
                        lambda done, total, stage, bar=bar: _show(bar, done, total, stage),
                    )
                    result.write_json(target.with_name(f"{stem}.json"))
                    result.write_csv(target.with_name(f"{stem}.csv"))
                except InputError as error:
                    failed.append(str(error))
                    continue
            for row in result.to_json()["tubes"]:
                log.info(
                    "  actor %d: %s %.2f, %.2f to %.2f s",
                    row["actor"],
                    row["action"],
                    row["score"],
                    row["start_seconds"],
                    row["end_seconds"],
                )
            found = len(result.tubes)
            said = f"{found} action tube{'s' * (found != 1)}" if found else f"no action found at threshold {result.threshold:g}"
            log.info("%s: %s, %.0f frames a second, in %s.*", file, said, result.frames_per_second, target)
        if failed:
            raise InputError("\n".join([f"{len(failed)} of {len(files)} videos failed:", *failed] if len(files) > 1 else failed))


def _show(bar: tqdm, done: int, total: int | None, stage: str) -> None:
    if done < bar.n:  # the next stage begins
        bar.reset()
    bar.total = max(total, done) if total else None
    bar.set_postfix_str(stage, refresh=False)
    bar.update(done - bar.n)


def _video_files(given: tuple[Path, ...]) -> list[Path]:
    if not given:
        raise InputError("no video was named; give video files or folders of them.")
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            if not inside:
                raise InputError(
                    f"the folder {path} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))}); name the files themselves."
                )
            files += inside
        else:
            files.append(path)
    return files


def _datasets(name: str, data: Path, parts: tuple[str, ...]):
    """The named parts of a data set, read, or for the toy set made, below `data`."""
    from .data import jhmdb, toy

    if name == "toy":
        sizes = {"train": 240, "val": 60, "trainval": 300, "test": 60}
        return [toy.generate(data / part, sizes[part], part=part) for part in parts]
    root = data / "jhmdb" if (data / "jhmdb").is_dir() else data
    return [jhmdb.load(root, part=part) for part in parts]


@dataclass(frozen=True)
class Train:
    """Train a model. A run that was stopped goes on where it was when the same command is given again."""

    dataset: tyro.conf.Positional[Literal["jhmdb", "toy"]]
    """What to learn from. The toy set is generated, the others are read from --data."""
    data: Path
    """Folder of the data set."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run: checkpoints, metrics.jsonl, the model."""
    coco: Path | None = None
    """YOLOX-nano as ONNX, whose weights both paths start from."""
    start: Path | None = None
    """Folder of a model to start from instead."""
    all_videos: bool = False
    """Learn from the validation videos as well, and keep the last model instead of the best."""
    cache: Path | None = None
    """Folder for decoded frames; frames/ beside the run if not given."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """The run."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network; its classes are the data set's."""

    def run(self) -> None:
        """Read, decode what is not cached, train."""
        from .data.cache import FrameCache
        from .model.checkpoint import load_model
        from .train import Trainer

        parts = ("trainval",) if self.all_videos else ("train", "val")
        found = _datasets(self.dataset, self.data, parts)
        cache = self.cache or self.output / "frames"
        for dataset in found:
            frames = FrameCache.build(dataset, cache)
        model = dataclasses.replace(self.model, classes=found[0].classes)
        start = load_model(self.start) if self.start is not None else None
        if start is not None:
            model = start.config
        weights = start.state_dict() if start is not None else None
        validation = None if self.all_videos else found[1]
        trainer = Trainer(model, self.config, self.output, found[0], frames, validation, self.coco, weights)
        log.info("%d videos to learn from, %d steps, into %s", len(found[0]), trainer.steps, self.output)
        trainer.run()
        log.info("the model is in %s", self.output / "model")


@dataclass(frozen=True)
class Evaluate:
    """Score a model on a data set: frame-mAP and video-mAP, streaming, every frame."""

    model: tyro.conf.Positional[str]
    """Name of a model that ships, or a model's folder."""
    dataset: tyro.conf.Positional[Literal["jhmdb", "toy"]]
    """What to score it on."""
    data: Path
    """Folder of the data set."""
    part: Literal["val", "test", "train"] = "val"
    """Which videos."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A JSON file for the result, with protocol, model and command."""

    def run(self) -> None:
        """Stream every video through the model, then score."""
        from .scoring import score_dataset

        (dataset,) = _datasets(self.dataset, self.data, (self.part,))
        bar = tqdm(total=len(dataset), unit="video", dynamic_ncols=True)
        result = score_dataset(self.model, dataset, lambda: bar.update())
        bar.close()
        result |= {"dataset": dataset.name, "part": self.part, "command": shlex.join(["python", "-m", "mssc", *sys.argv[1:]])}
        for name, value in result.items():
            log.info("%s: %s", name, f"{value:.4f}" if isinstance(value, float) else value)
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.output.write_text(json.dumps(result, indent=1))
