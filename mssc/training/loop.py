"""Training, on accelerate: one CPU, one GPU, many GPUs and machines (``accelerate launch -m mssc train …``).

What a step does depends on the seed and the step's number alone: order, augmentation, dropout and mixing are seeded anew for each. So a run
that was killed and resumed gives the numbers of one that was not.
"""

import copy
import dataclasses
import functools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..boxes import CONTINUOUS, box_iou
from ..config import ModelConfig, TrainConfig
from ..data.cache import DeviceFrames, FrameCache
from ..data.clips import Batch, BatchOrder, ClipDataset, collate
from ..data.dataset import Dataset, Video
from ..data.media import first_few
from ..detection.detector import Detector, prepare
from ..evaluate import Truth, actor_ap, frame_map
from ..files import claim, explained, read_json, undamaged, whole_file, write_whole
from ..model.checkpoint import save_model
from ..model.convert import CocoDetector, coco_weights
from ..model.mssc import MSSC
from ..model.person import PersonDetector
from ..model.transfer import people_from_coco, start_from_coco
from ..structures import Detections, InputError
from ..video import frames_per_look
from .entropy import exchange_entropies
from .heads import TrainingHeads
from .losses import total
from .people import People, PersonLearner, collate_people
from .step import FusionLearner, Learner, WeightAverage, compute_losses, freeze, learning_rate, mix, parameter_groups

log = logging.getLogger(__name__)

CHECKED = 16  # steps between two looks at the losses: a GPU is not waited for in between
MOST_BAD_CHECKS = 3  # in a row, at which a loss was not a number
CALIBRATION_IMAGES = 64
NEEDED = {
    "person": "the phase 'person' adds a detector of people to a model, taught by COCO's; name both, with --start and --coco.",
    "fusion": "the phase 'fusion' gives a model another fusion, and learns from it; name it with --start.",
}
"""What is said where a phase lacks what it learns from."""


def validate(model: MSSC, dataset: Dataset, cache: FrameCache, step: int) -> dict[str, float]:
    """Score a model in eval mode on every `step`-th frame, each video seen from its start as a stream sees it.

    Of a video that is labelled in some frames only, every `step`-th of these counts, seen with the window before it.

    Returns:
        ``frame_map`` (voc, IoU 0.5, raw frame scores), ``actor_ap`` (boxes alone) and ``box_accuracy``: the share of true boxes whose best
        overlapping detection has the right action. All in [0, 1].
    """
    detector = Detector(model)
    found: dict[str, list[Detections]] = {}
    truth: dict[str, Truth] = {}
    right = boxes_in_all = 0
    for video in dataset.videos:
        keys: list[int] = []
        found[video.name] = []
        for clip, places, chosen in _stretches(model.config, video, cache, step):
            found[video.name] += detector.detect(clip, (video.height, video.width), places[None])
            keys += chosen
        tubes = (tube.among(np.array(keys)) for tube in video.tubes)
        truth[video.name] = Truth(tuple(tube for tube in tubes if tube is not None), len(keys), video.rate)
        for detections, frame in zip(found[video.name], keys, strict=True):
            for box, label in zip(*video.boxes_at(frame), strict=True):
                boxes_in_all += 1
                right += _best_action(detections, box) == label
    score = frame_map(found, truth, len(dataset.classes))
    return {"frame_map": score.map, "actor_ap": actor_ap(found, truth), "box_accuracy": right / max(boxes_in_all, 1)}


@torch.no_grad()
def validate_video(heads: TrainingHeads, model: MSSC, dataset: Dataset, cache: FrameCache, step: int) -> dict[str, float]:
    """Like `validate`, of the video path alone.

    Returns:
        ``box_accuracy``: the share of true boxes whose action the motion head tells.
    """
    right, count, device = 0, 0, next(model.parameters()).device
    heads.eval()
    for video in dataset.videos:
        scale = np.array([model.config.key_size / side for side in (video.width, video.height)] * 2, np.float32)
        for clip, places, chosen in _stretches(model.config, video, cache, step):
            found = zip(places.tolist(), map(video.boxes_at, chosen), strict=True)
            rows = [(place, box, label) for place, truth in found for box, label in zip(*truth, strict=True)]
            if rows:
                keys, boxes, labels = zip(*rows, strict=True)
                seen, _ = model.video(clip.to(device), model.initial_state(1), torch.tensor([keys], device=device))
                logits = heads.motion_logits(seen, torch.from_numpy(np.stack(boxes) * scale)[:, None].to(device))
                right += int((logits[:, 0].argmax(1).cpu() == torch.tensor(np.array(labels))).sum())
                count += len(labels)
    heads.train()
    return {"box_accuracy": right / max(count, 1)}


def _stretches(config: ModelConfig, video: Video, cache: FrameCache, step: int) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """What the network is shown of a video: clips (1, 3, T, S, S), where in each its key frames are (K,), and which frames these are."""
    frames, every = min(cache.length(video.name), video.frames), frames_per_look(float(video.rate))
    stretches = [(range(0, frames, every), list(range(0, frames, step)))]
    if video.labelled is not None:
        before, known = every * (config.window - 1), [frame for frame in video.labelled if frame < frames]
        stretches = [(range(max(key - before, key % every), key + 1, every), [key]) for key in known[::step]]
    for looks, keys in stretches:
        clip = prepare(cache.frames(video.name, looks), config.key_size).transpose(0, 1)[None]
        yield clip, (torch.tensor(keys) - looks.start) // every, keys


def _best_action(detections: Detections, box) -> int | None:
    if not len(detections):
        return None
    rows = (box_iou(detections.boxes, box, CONTINUOUS) >= 0.5).nonzero()[0]
    return int(detections.labels[rows[detections.scores[rows].argmax()]]) if len(rows) else None


class Trainer:
    """A run and its folder: ``last.pt`` to go on from, ``model/`` with the best model so far, ``metrics.jsonl``, ``run.json``.

    Args:
        model_config: the network.
        config: the run.
        folder: of the run; made if missing. A ``last.pt`` in it is gone on from.
        training: videos to learn from.
        cache: their decoded frames.
        validation: videos to select by; None to keep the last model instead of the best.
        coco: a YOLOX-nano ONNX file to start from; None starts from nothing. In the phase "person" it is the teacher instead.
        start: weights of an earlier run (a model's folder) to start from instead.
        teacher: in the phase "fusion", the model that `start` comes from.
        progress: show a bar.
        cpu: leave GPUs alone.
        share: how many processes train on this process's GPU.

    Raises:
        InputError: if the folder holds another run, the data set's classes are not the model's, the phase "person" has no teacher or
            nothing to teach, or several processes were started that cannot work together.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainConfig,
        folder: Path,
        training: Dataset,
        cache: FrameCache,
        validation: Dataset | None = None,
        coco: Path | None = None,
        start: dict[str, Tensor] | None = None,
        progress: bool = True,
        cpu: bool = False,
        share: int = 1,
        teacher: MSSC | None = None,
        learnt: Iterable[str] = (),
    ) -> None:
        if tuple(training.classes) != model_config.classes:
            raise InputError(
                f"the data set has the classes {training.classes}, the model {model_config.classes}; they must agree."
            )
        people = config.phase == "person"
        if people and (coco is None or start is None or model_config.person == "none"):
            raise InputError(NEEDED["person"])
        if config.phase == "fusion" and (teacher is None or start is None):
            raise InputError(NEEDED["fusion"])
        if coco is None and start is None:
            config = dataclasses.replace(config, frozen="none")  # random weights are not worth keeping
        self.config, self.model_config, self.folder, self.validation, self.cache = config, model_config, folder, validation, cache
        self.learnt = sorted(training.marks.union(learnt))
        self.annotations = {"training": training.digest, "validation": "none" if validation is None else validation.digest}
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
        if int(os.environ.get("WORLD_SIZE", 1)) > self.accelerator.num_processes:
            raise InputError(
                "several processes were started, but without a GPU for each they would all do the same; start mssc train by itself."
            )
        self.progress = progress and self.accelerator.is_main_process
        if self.accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: what bf16 has in digits and float32 in range
        torch.manual_seed(config.seed)
        model = MSSC(model_config)
        started = start_from_coco(model, self._coco(coco, training)) if coco is not None and not people else []
        if start is not None:
            model.load_state_dict(start)
        if config.gentle:
            started += [p for name, p in model.named_parameters() if name.startswith(config.gentle)]
        model.train()
        freeze(model, config)
        heads = config.heads if config.phase in ("all", "video") else ()
        self.heads = TrainingHeads(model_config, heads, model.image.widths).to(self.accelerator.device)
        learner: torch.nn.Module = Learner(model, self.heads, config.phase)
        if people:
            learner = self._person_learner(model, coco)
        elif config.phase == "fusion":
            assert teacher is not None
            learner = FusionLearner(model, copy.deepcopy(teacher))
        optimizer = torch.optim.AdamW(parameter_groups(learner, started, config), fused=True)
        device = self.accelerator.device
        if people:
            clips = People(training, cache, model_config, config)
            joined: Callable = functools.partial(collate_people, actions=len(model_config.classes))
        else:
            clips = ClipDataset(training, cache, model_config, config)
            joined = functools.partial(collate, frames=cache, size=model_config.key_size)
        self.order = BatchOrder(len(clips), config.batch, config.seed)
        names = [video.name for video in training.videos]
        self.frames = DeviceFrames(cache, names, device, share) if device.type == "cuda" and not people else None
        workers = 0 if self.frames else config.workers
        loader = DataLoader(
            clips,
            batch_sampler=self.order,
            collate_fn=list if self.frames else joined,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        self.ema = WeightAverage(model.to(device), config.ema)
        self.network = model
        self.learner, self.optimizer, self.loader = self.accelerator.prepare(learner, optimizer, loader)
        per_epoch = math.ceil(len(self.order) / self.accelerator.num_processes)
        self.steps, self.per_epoch = per_epoch * config.epochs, per_epoch
        self.step, self.best, self.bad, self.wait = 0, -1.0, 0, 0.0
        self.losses: dict[str, Tensor] = {}  # summed up since the last check
        self.kept: list[Tensor] = []
        self._open_folder()
        self._keep_state()

    def _person_learner(self, model: MSSC, coco: Path | None) -> PersonLearner:
        """The network with a teacher, as which its detector of people begins."""
        assert model.person is not None and coco is not None  # refused before
        teacher, detector = PersonDetector(), coco_weights(coco)
        for person in (teacher, model.person):
            people_from_coco(person, detector)
        return PersonLearner(model, teacher)

    def _coco(self, path: Path, training: Dataset) -> CocoDetector:
        """COCO's detector with BatchNorm statistics of this data: its convolutions came folded."""
        chosen = training.videos[:: max(len(training) // CALIBRATION_IMAGES, 1)][:CALIBRATION_IMAGES]
        first = [0 if video.labelled is None else video.labelled[0] for video in chosen]  # others may not be cached
        frames = [self.cache.frames(video.name, [frame])[0] for video, frame in zip(chosen, first, strict=True)]
        return coco_weights(path, prepare(frames, self.model_config.key_size).float())

    # ---------------------------------------------------------------- the run's folder

    def _identity(self) -> dict:
        """What must not change between a run and its continuation."""
        settings = {"model": dataclasses.asdict(self.model_config), "train": dataclasses.asdict(self.config)}
        return json.loads(json.dumps(settings | {"annotations of": self.annotations}))

    def _open_folder(self) -> None:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        described, last = self.folder / "run.json", self.folder / "last.pt"
        if last.exists():
            anew = "copy it again, or delete it to begin the run anew (first keep model/, the best so far, if you want it)"
            before, now = read_json(described, anew) if described.exists() else self._identity(), self._identity()
            if isinstance(before, dict):  # runs noted no annotations once
                before = {"annotations of": now["annotations of"], **before}
            if before != now:
                differ = _different(before, now)
                raise InputError(
                    f"{self.folder} holds a run with other settings ({first_few(differ)}); choose another folder, or delete it."
                )
            with undamaged(last, anew):
                saved = torch.load(last, map_location="cpu", weights_only=True)
                self.network.load_state_dict(saved["model"])
                self.heads.load_state_dict(saved["heads"])
                self.ema.module.load_state_dict(saved["ema"])
                self.ema.count = saved["averaged"]
                self.optimizer.load_state_dict(saved["optimizer"])
                self.step, self.best = saved["step"], saved["best"]
            self._drop_later_metrics()
        elif self.accelerator.is_main_process:
            claim(self.folder, "train", "run.json", "metrics.jsonl", "model")
            write_whole(described, json.dumps(self._identity(), indent=2))
            write_whole(self.folder / "metrics.jsonl", "")

    def _drop_later_metrics(self) -> None:
        entries = [entry for entry in self.metrics() if entry["step"] <= self.step]
        if self.accelerator.is_main_process:
            write_whole(self.folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))

    def metrics(self) -> list[dict]:
        """What was told of each epoch: losses, scores, seconds. Lines that are cut off are left out, with a warning."""
        path, entries = self.folder / "metrics.jsonl", []
        for number, line in enumerate(path.read_text(errors="replace").splitlines() if path.exists() else (), 1):
            try:
                entry = json.loads(line)
                entries += [entry] if entry["step"] >= 0 and entry["seconds"] >= 0 else []
            except (ValueError, KeyError, TypeError):
                log.warning("%s, line %d is cut off or damaged; it is left out.", path, number)
        return entries

    def _save(self) -> None:
        """Write last.pt whole or not at all."""
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.network.state_dict(),
            "heads": self.heads.state_dict(),
            "ema": self.ema.module.state_dict(),
            "averaged": self.ema.count,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        with whole_file(self.folder / "last.pt", RuntimeError) as part:  # torch has no other word for a full disk
            torch.save(state, part)

    def _record(self, entry: dict) -> None:
        if self.accelerator.is_main_process:
            path = self.folder / "metrics.jsonl"
            with explained(path), path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # ---------------------------------------------------------------- the loop

    def _batches(self) -> Iterator[Batch]:
        """The rest of the current epoch, timing how long the loader lets us wait."""
        self.order.epoch, skip = divmod(self.step, self.per_epoch)
        self.order.skip = skip * self.accelerator.num_processes
        since = time.perf_counter()
        for batch in self.loader:
            if self.frames:
                batch = collate(batch, self.frames, self.model_config.key_size)
            self.wait += time.perf_counter() - since
            yield batch
            since = time.perf_counter()
        self.order.skip = 0

    def _train_step(self, batch: Batch) -> None:
        """One step; nothing in it waits for a GPU. See `_check`."""
        seeds = (self.config.seed, self.step, self.accelerator.process_index)
        torch.manual_seed(hash(seeds) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate(self.step, self.steps, self.config.warmup)
        batch = batch.to(self.accelerator.device)
        if self.config.phase != "person":
            batch = mix(batch, self.config.mixup, np.random.default_rng(seeds))
        with self.accelerator.autocast():
            losses = compute_losses(self.learner, batch, self.model_config, self.config)
            losses["loss"] = total(losses, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.learner.parameters(), self.config.clip_gradient)
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        values = {name: value.detach() for name, value in losses.items()}
        self.losses = {name: self.losses[name] + value for name, value in values.items()} if self.losses else values

    def _state(self) -> list[Tensor]:
        """Every tensor that a step changes, those of the optimizer last: there are none before its first."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [
            *self.network.state_dict().values(),
            *self.heads.state_dict().values(),
            *self.ema.module.state_dict().values(),
            *moments,
        ]

    def _keep_state(self) -> None:
        now = self._state()
        if len(now) == len(self.kept):
            torch._foreach_copy_(self.kept, now)
        else:
            self.kept = [tensor.clone() for tensor in now]

    def _check(self) -> dict[str, float]:
        """What the losses were since the last check, summed up. If one was not a number, the steps since then are undone and left out.

        Raises:
            InputError: if that happens again and again.
        """
        names, self.losses, sums = list(self.losses), {}, list(self.losses.values())
        values = torch.stack([value.float() for value in sums]).tolist() if sums else []
        if all(map(math.isfinite, values)):
            self.bad = 0 if values else self.bad
            self._keep_state()
            return dict(zip(names, values, strict=True))
        self.bad += 1
        now = self._state()
        if len(now) > len(self.kept):
            self.optimizer.state.clear()
        torch._foreach_copy_(now[: len(self.kept)], self.kept)
        log.warning("a loss before step %d is not a number; up to %d steps are left out", self.step, CHECKED)
        if self.bad >= MOST_BAD_CHECKS:
            raise InputError(
                f"the loss was not a number again and again, last before step {self.step}; lower --learning-rate "
                f"(now {self.config.learning_rate}) or look for broken boxes with mssc check-data."
            )
        return {}

    def run(self, stop: Callable[[], bool] = lambda: False) -> MSSC:
        """Train to the end, or until `stop` says so (the state is then saved).

        Returns:
            The averaged model, in eval mode.
        """
        bar = tqdm(total=self.steps, initial=self.step, unit="step", disable=not self.progress, dynamic_ncols=True)
        saved = time.monotonic()
        while self.step < self.steps:
            sums: dict[str, float] = {}
            since, began, seen = self.step, time.perf_counter(), 0
            self.wait = 0.0
            for batch in self._batches():
                self._train_step(batch)
                bar.update()
                leave, late = stop(), time.monotonic() - saved > 60 * self.config.checkpoint_minutes
                if leave or late or self.step % CHECKED == 0 or self.step % self.per_epoch == 0:
                    found = self._check()
                    sums = {name: sums.get(name, 0.0) + value for name, value in found.items()} or sums
                    seen, since = seen + (self.step - since if found else 0), self.step
                    best = {"best": f"{self.best:.3f}"} if self.best >= 0 else {}
                    bar.set_postfix({"loss": f"{sums.get('loss', 0.0) / max(seen, 1):.3f}", **best}, refresh=False)
                if leave or late:
                    self._save()
                    saved = time.monotonic()
                if leave:
                    return self._averaged()
            took = time.perf_counter() - began
            means = {name: value / seen for name, value in sums.items()}
            self._end_epoch(means | {"loader_share": self.wait / took, "seconds": took})
            saved = time.monotonic()
        bar.close()
        return self._averaged()

    def _averaged(self) -> MSSC:
        return self.ema.module.eval()

    def _end_epoch(self, entry: dict[str, float]) -> None:
        epoch = self.step // self.per_epoch
        entry = {"step": self.step, "epoch": epoch, **{k: round(float(v), 5) for k, v in entry.items()}}
        last = self.step >= self.steps
        if self.validation is not None and (last or epoch % self.config.validate_every == 0):
            seen = (self._averaged(), self.validation, self.cache, self.config.validation_step)
            with exchange_entropies(seen[0]) as entropies:
                score = validate_video(self.heads, *seen) if self.config.phase == "video" else validate(*seen)
            entry |= {k: round(float(v), 5) for k, v in (score | entropies).items()}
            if (value := next(iter(score.values()))) > self.best:  # the first is what a model is selected by
                self.best = value
                self._keep(entry)
        elif self.validation is None and last:
            self._keep(entry)
        self._record(entry)
        log.info("epoch %d: %s", epoch, ", ".join(f"{k} {v:.4g}" for k, v in entry.items() if k not in ("step", "epoch")))
        self._save()

    def _keep(self, entry: dict) -> None:
        if self.accelerator.is_main_process:
            save_model(
                self._averaged(), self.folder / "model", {"epoch": entry["epoch"], "training": entry, "learnt": self.learnt}
            )


def _different(before: object, now: dict) -> list[str]:
    """What differs between two runs' settings, with both values where they are short."""
    found = []
    for group, new in now.items():
        old = before.get(group) if isinstance(before, dict) else None
        old = old if isinstance(old, dict) else {}
        for name in dict.fromkeys([*old, *new]):
            if name not in old or name not in new or old[name] != new[name]:
                values = f"{old.get(name)}, now {new.get(name)}"
                found.append(f"{name} {values}" if len(values) < 60 else name)
    return found or ["others than these"]
