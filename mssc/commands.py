"""The commands of ``python -m mssc``: what each takes is a dataclass, what it does is its `run`."""

import dataclasses
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from .config import ModelConfig, TrainConfig
from .evaluation import Evaluate
from .structures import InputError

__all__ = ["Detect", "Evaluate", "Train"]
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


def _datasets(name: str, data: Path, parts: tuple[str, ...], split: int = 1) -> list:
    """The named parts of a data set, read, or for the toy set made, below `data`."""
    from .data.catalogue import load_dataset

    return [load_dataset(name, data, part, split) for part in parts]


@dataclass(frozen=True)
class Train:
    """Train a model. A run that was stopped goes on where it was when the same command is given again."""

    dataset: tyro.conf.Positional[Literal["jhmdb", "ucf101-24", "ava", "toy", "custom"]]
    """What to learn from. The toy set is generated, the others are read from --data; custom are your own videos."""
    data: Path
    """Folder of the data set."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run: checkpoints, metrics.jsonl, the model."""
    coco: Path | None = None
    """YOLOX-nano as ONNX, whose weights both paths start from."""
    start: str | None = None
    """Name or folder of a model to start from instead; it may know other actions."""
    split: int = 1
    """Of J-HMDB: 1, 2 or 3."""
    all_videos: bool = False
    """Learn from the validation videos as well, and keep the last model instead of the best (always so for ava)."""
    cache: Path | None = None
    """Folder for decoded frames; frames/ beside the run if not given."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """The run."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network; its classes are the data set's."""

    def run(self) -> None:
        """Read, decode what is not cached, train."""
        from .data.cache import FrameCache
        from .data.catalogue import several_at_once
        from .train import Trainer

        select = not self.all_videos and self.dataset != "ava"  # AVA's "val" is what everybody scores on
        parts = ("train", "val") if select else ("trainval",)
        found = _datasets(self.dataset, self.data, parts, self.split)
        cache = self.cache or self.output / "frames"
        for dataset in found:
            frames = FrameCache.build(dataset, cache)
        model, weights = self._start(found[0].classes, several_at_once(found[0]))
        validation = found[1] if select else None
        trainer = Trainer(model, self.config, self.output, found[0], frames, validation, self.coco, weights)
        log.info("%d videos to learn from, %d steps, into %s", len(found[0]), trainer.steps, self.output)
        trainer.run()
        log.info("the model is in %s", self.output / "model")

    def _start(self, classes: tuple[str, ...], several: bool) -> tuple:
        """The network, and the weights of the model to start from, if there is one; `several` actions may be done at once."""
        from .detect import model_folder
        from .model.checkpoint import load_model
        from .model.transfer import carry_over

        start = load_model(model_folder(self.start)) if self.start is not None else None
        base = start.config if start is not None else self.model
        config = dataclasses.replace(base, classes=classes, actions="multilabel" if several else base.actions)
        return config, None if start is None else carry_over(start, config, self.config.seed)
