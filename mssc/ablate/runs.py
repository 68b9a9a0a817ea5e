"""Runs of an ablation: each trained from its row's settings and a seed, scored, and kept; several at a time, each in a process of its own.

A folder holds ``<table>.json`` and ``runs/<changes>/seed-<n>/`` with the run's model and ``scores.json``. A finished run is not run again;
one that was stopped goes on from its last checkpoint. Rows of several tables that are the same network are run once.
"""

import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event as EventType
from pathlib import Path
from urllib.parse import quote

import torch
from tqdm import tqdm

from ..config import ModelConfig, TrainConfig
from ..data.cache import FrameCache
from ..data.dataset import Dataset
from ..detection.detector import Detector
from ..detection.resources import tune_malloc
from ..files import read_json, undamaged, write_whole
from ..model.shipped import model_hash
from ..scoring.run import versions
from ..structures import InputError, counted
from ..training.loop import Trainer
from ..training.recipes import Stage, begin_from
from .results import FORMAT, AblationResults, load_results
from .scores import ROUNDS, check_annotated, score_model
from .sharing import side_by_side
from .studies import score_noise, score_paths
from .tables import ABLATIONS

log = logging.getLogger(__name__)
RECORD = "scores.json"


@dataclass(frozen=True)
class Plan:
    """What all runs of an ablation share.

    Attributes:
        folder: of the ablation.
        base: settings of the network that rows change; its classes are the data set's.
        train: settings of a run; the seed is the run's own.
        training: videos to learn from.
        validation: videos to score on. The last weights are scored, so that nothing is selected by them.
        cache: frames of both.
        coco: initial weights; None starts from nothing.
        studies: "paths", "noise", beside the scores.
        noise_step: every n-th frame with ground truth is scored in spoilt videos.
        rounds: of the bootstrap.
        device: where runs are trained and scored; "auto" takes a GPU where there is one.
        stages: training runs that follow each other, each with changes to `train` and `base`; without any, a run is one training run.
            A stage for a path or a fusion that a row has not is left out, and a stage with several seeds has the run's own alone.
    """

    folder: Path
    base: ModelConfig
    train: TrainConfig
    training: Dataset
    validation: Dataset
    cache: FrameCache
    coco: Path | None = None
    studies: tuple[str, ...] = ()
    noise_step: int = 8
    rounds: int = ROUNDS
    device: str = "auto"
    stages: tuple[Stage, ...] = ()

    def place(self, changes: Mapping, seed: int) -> Path:
        """The folder of a run with these changes."""
        name = ",".join(f"{key}={changes[key]}" for key in sorted(changes)) or "unchanged"
        return self.folder / "runs" / quote(name, safe="=,") / f"seed-{seed}"

    def detector(self, run: Path) -> Detector:
        """That of a run's folder."""
        return Detector.load(run / "model", self.device, "torch")  # whose modules a study can tap

    def settings(self) -> dict[str, object]:
        """What must be the same for runs that are compared, as plain values."""
        train = {name: value for name, value in dataclasses.asdict(self.train).items() if name not in ("seed", *_HARMLESS)}
        classes = list(self.base.classes)
        boxes = [sum(len(tube) for tube in video.tubes) for video in self.validation.videos]
        dataset = {
            "training": {"name": self.training.name, "videos": len(self.training)},
            "name": self.validation.name,
            "classes": classes,
            "videos": [video.name for video in self.validation.videos],
            "frames": sum(video.frames for video in self.validation.videos),
            "boxes": boxes,
        }
        coco = None
        if self.coco is not None:
            with undamaged(self.coco, "give YOLOX-nano's ONNX export"):
                coco = hashlib.sha256(self.coco.read_bytes()).hexdigest()[:12]
        shared = {"dataset": dataset, "train": train, "model": dataclasses.asdict(self.base), "coco": coco, "rounds": self.rounds}
        stages = {"stages": [dataclasses.asdict(stage) for stage in self.stages]} if self.stages else {}
        return json.loads(json.dumps(shared | stages))

    def digest(self) -> str:
        """Of the settings."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:12]


_HARMLESS = ("workers", "checkpoint_minutes", "validate_every", "validation_step")  # change nothing in a run without validation


# -------------------------------------------------------------------- one run


def finish(plan: Plan, changes: Mapping, seed: int, stop: Callable[[], bool] = lambda: False, share: int = 1) -> dict | None:
    """Train a run, or what is left of it, and score it.

    Args:
        plan: of the ablation.
        changes: to `plan.base`.
        seed: of the run.
        stop: says when to leave; the state is then saved.
        share: how many runs use this process's GPU.

    Returns:
        Its record; None if it was stopped.

    Raises:
        InputError: if the folder holds such a run of other settings.
    """
    folder, record = plan.place(changes, seed), read_record(plan, changes, seed)
    if record is None:
        facts = _train(plan, changes, seed, stop, share)
        if facts is None:
            return None
        facts |= {"settings": plan.digest(), "seed": seed, "weights": model_hash(folder / "model")}
        scored = score_model(plan.detector(folder), plan.validation, plan.cache, plan.rounds)
        record = facts | scored.record() | {"right": scored.right}
        _write(folder / RECORD, record)
        for state in (folder / "last.pt", *(folder / stage.name / "last.pt" for stage in plan.stages)):
            state.unlink(missing_ok=True)
    for study in plan.studies:
        done = study in record and (study != "noise" or record["noise_step"] == plan.noise_step)
        if not done and not stop():
            record[study] = _study(study, plan, plan.detector(folder))
            record |= {"noise_step": plan.noise_step} if study == "noise" else {}
            _write(folder / RECORD, record)
    return record


def _train(plan: Plan, changes: Mapping, seed: int, stop: Callable[[], bool], share: int) -> dict | None:
    """Train a run, stage by stage: its number of parameters, steps, seconds and last losses; None if it was stopped."""
    folder, network, model, steps, seconds = plan.place(changes, seed), plan.base, None, 0, 0.0
    config = dataclasses.replace(network, **changes)
    lacking = {"video": config.paths == "key", "fusion": config.paths != "both" or "sfm" not in config.fusion}
    todo = [stage for stage in plan.stages if not lacking.get(stage.train.get("phase", "all"))] or [Stage("")]
    told: list[dict] = []
    for stage in todo:
        network = dataclasses.replace(network, **stage.model)
        config = dataclasses.replace(network, **changes)
        start = None if model is None else begin_from(model, config, plan.training, plan.cache, seed)
        trainer = Trainer(
            config,
            dataclasses.replace(plan.train, **stage.train, seed=seed),
            folder if stage is todo[-1] else folder / stage.name,
            plan.training,
            plan.cache,
            coco=plan.coco if start is None else None,
            start=start,
            progress=False,
            cpu=plan.device == "cpu",
            share=share,
            teacher=model,
        )
        model = trainer.run(stop)
        if trainer.step < trainer.steps:
            return None
        model, told, steps = model.cpu(), trainer.metrics(), steps + trainer.steps
        seconds += sum(entry["seconds"] for entry in told)
    losses = {name: told[-1].get(name) if told else None for name in ("objectness", "box", "action", "loss")}
    parameters = sum(p.numel() for p in trainer.network.parameters())
    return {"parameters": parameters, "steps": steps, "seconds": round(seconds, 1), "loss": losses}


def read_record(plan: Plan, changes: Mapping, seed: int) -> dict | None:
    """A finished run's record; None if there is none.

    Raises:
        InputError: for a damaged one, or one of other settings.
    """
    file = plan.place(changes, seed) / RECORD
    if not file.exists():
        return None
    record = read_json(file, "delete it, and the run is trained and scored again")
    if record["settings"] != plan.digest():
        raise InputError(f"{file.parent} holds a run of an ablation with other settings; name another folder, or delete it.")
    return record


def _study(name: str, plan: Plan, detector: Detector) -> dict:
    if name == "noise":
        return score_noise(detector, plan.validation, plan.noise_step, plan.rounds)
    found = score_paths(detector, plan.validation, plan.cache, plan.rounds)
    return {condition: scored.record() for condition, scored in found.items()}


def _write(path: Path, record: object) -> None:
    write_whole(path, json.dumps(record) + "\n")


# -------------------------------------------------------------------- all of them


def ablate(
    plan: Plan,
    rows: Mapping[str, Mapping],
    seeds: Sequence[int],
    table: str,
    reference: str | None = None,
    jobs: int | None = None,
    command: str = "",
    progress: bool = True,
) -> AblationResults:
    """Train and score every row with every seed, as far as that is not done, and write ``<table>.json`` after each.

    Args:
        plan: what they share.
        rows: changes to the shared settings, by name.
        seeds: the same seed shows the same clips, augmented in the same way, to every row.
        table: its name.
        reference: the row that others are compared with; the first if None.
        jobs: runs at a time. None for one per GPU, or one by one where there is none.
        command: that this is run by; the results file lists all.
        progress: show a bar.

    Raises:
        InputError: for a folder of another ablation, settings that do not fit, a name that is no row, or, when all others are done, runs
            that failed.
    """
    _check(plan, rows, seeds)
    devices = 0 if plan.device == "cpu" else torch.cuda.device_count()
    jobs = max(1, devices) if jobs is None else jobs
    if jobs < 1:
        raise InputError(f"{jobs} runs at a time; at least 1.")
    head = {"format": FORMAT, "table": table, "reference": reference or next(iter(rows))}
    head |= {"commands": [command] if command else [], "versions": versions()}
    book = _Book(plan, rows, head)
    work = {(row, seed): (rows[row], seed) for seed in seeds for row in rows}
    failed: dict[str, InputError] = {}
    runs = _one_by_one(plan, work) if jobs == 1 else _at_once(plan, work, jobs, devices)
    with tqdm(total=len(work), unit="run", dynamic_ncols=True, disable=not progress) as bar:
        for (row, seed), error in runs:
            if error is not None:
                failed[f"{row}, seed {seed}"] = error
                log.warning("%s, seed %d failed: %s", row, seed, error)
            bar.set_postfix_str(f"{row}, seed {seed}", refresh=False)
            bar.update()
            book.write()
    if failed:
        name, error = next(iter(failed.items()))
        raise InputError(f"{counted(len(failed), 'run')} of {len(work)} failed, the others are done. The first, {name}: {error}")
    return load_results(book.file)


def _check(plan: Plan, rows: Mapping[str, Mapping], seeds: Sequence[int]) -> None:
    if not rows or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"{len(rows)} rows and the seeds {list(seeds)}; name at least one row, and each seed once.")
    check_annotated(plan.validation)
    networks: dict[ModelConfig, str] = {}
    for row, changes in rows.items():
        same = networks.setdefault(dataclasses.replace(plan.base, **changes), row)
        if same != row:
            raise InputError(f"the rows {same!r} and {row!r} are the same network; leave one out.")


class _Book:
    """The results file: rows and runs that an earlier command left are kept.

    Raises:
        InputError: if the folder holds an ablation with other settings, or a row of that name that was another one.
    """

    def __init__(self, plan: Plan, rows: Mapping[str, Mapping], head: dict) -> None:
        self.plan, self.file = plan, plan.folder / f"{head['table']}.json"
        self.head: dict = head | plan.settings()
        self.rows: dict[str, dict] = {}
        if self.file.exists():
            self._go_on()
        for name, changes in rows.items():
            before = self.rows.setdefault(name, {"changes": dict(changes)})["changes"]
            if before != dict(changes):
                raise InputError(
                    f"{plan.folder} holds a row {name!r} with changes {before}, not {dict(changes)}; name another folder."
                )
        order = [*ABLATIONS.get(str(head["table"]), {}), *self.rows]
        self.rows = dict(sorted(self.rows.items(), key=lambda row: order.index(row[0])))
        self.write()

    def _go_on(self) -> None:
        load_results(self.file)  # a damaged one is refused
        before = json.loads(self.file.read_text(encoding="utf-8"))
        for name in self.plan.settings():
            if before.get(name) != self.head[name]:
                raise InputError(f"{self.plan.folder} holds an ablation with another {name}; name another folder, or delete it.")
        self.rows = before["rows"]
        self.head["commands"] = list(dict.fromkeys([*before["commands"], *self.head["commands"]]))

    def write(self) -> None:
        """All runs that are finished by now."""
        runs = []
        for name, row in self.rows.items():
            places = self.plan.place(row["changes"], 0).parent.glob("seed-*")
            for seed in sorted(int(place.name.removeprefix("seed-")) for place in places):
                if (record := read_record(self.plan, row["changes"], seed)) is None:
                    continue
                row["parameters"] = record.pop("parameters")
                record.pop("settings")
                runs.append({"row": name, **record})
        body = ",\n".join(json.dumps(run) for run in runs)
        head = json.dumps(self.head | {"rows": self.rows}, indent=1)
        write_whole(self.file, f'{head[:-2]},\n "runs": [\n{body}\n]\n}}\n')


Work = Mapping[tuple[str, int], tuple[Mapping, int]]
"""By row and seed: changes and seed."""


Done = tuple[tuple[str, int], InputError | None]
"""Row and seed of a run that came to its end, and why it failed."""


def _one_by_one(plan: Plan, work: Work) -> Iterator[Done]:
    for job, what in work.items():
        try:
            finish(plan, *what)
        except InputError as error:
            yield job, error
        else:
            yield job, None


def _at_once(plan: Plan, work: Work, jobs: int, devices: int) -> Iterator[Done]:
    """Several processes; they leave, with their state saved, when this one is interrupted or gone."""
    context = multiprocessing.get_context("spawn")
    leave, places = context.Event(), context.Queue()
    for number in range(jobs):
        places.put(number)
    arguments = (leave, os.getpid(), places, devices, max(1, (os.cpu_count() or 1) // jobs))
    share = -(-jobs // devices) if devices else 1
    with side_by_side(share), ProcessPoolExecutor(jobs, context, _settle, arguments) as pool:
        waiting = {pool.submit(_work, plan, *what, share): job for job, what in work.items()}
        try:
            for one in as_completed(waiting):
                error = one.exception()
                if isinstance(error, BrokenProcessPool):
                    raise InputError(
                        "a run's process was killed, perhaps for lack of memory; run fewer at a time with --jobs."
                    ) from None
                if error is not None and not isinstance(error, InputError | torch.OutOfMemoryError):
                    raise error
                if isinstance(error, torch.OutOfMemoryError):
                    error = InputError("the GPU's memory is full; run fewer at a time with --jobs, or use a smaller --batch.")
                if error is not None or one.result():
                    yield waiting[one], error
        finally:
            leave.set()
            pool.shutdown(cancel_futures=True)


_stop: Callable[[], bool] = lambda: False  # noqa: E731


def _settle(leave: EventType, parent: int, places: "multiprocessing.Queue[int]", devices: int, threads: int) -> None:
    """Make a new process ready: its device, its share of the cores, and when it is to leave."""
    global _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when
    logging.getLogger("mssc").setLevel(logging.WARNING)
    place = places.get()
    if devices:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else None
        os.environ["CUDA_VISIBLE_DEVICES"] = str(seen[place % len(seen)] if seen else place % devices)
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    tune_malloc()

    def gone() -> bool:
        return leave.is_set() or os.getppid() != parent

    _stop = gone


def _work(plan: Plan, changes: Mapping, seed: int, share: int) -> bool:
    return not _stop() and finish(plan, changes, seed, _stop, share) is not None
