"""Training, on accelerate: one CPU, one GPU, many GPUs and machines (``accelerate launch -m mssc train …``).

What a step does depends on the seed and the step's number alone: order, augmentation, dropout and mixing are seeded anew for each. So a run
that was killed and resumed gives the numbers of one that was not.
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..boxes import CONTINUOUS, box_iou
from ..config import ModelConfig, TrainConfig
from ..data.cache import FrameCache
from ..data.clips import Batch, BatchOrder, ClipDataset, collate
from ..data.dataset import Dataset, Video
from ..detection.detector import Detector, prepare
from ..evaluate import Truth, actor_ap, frame_map
from ..files import explained, whole_file, write_whole
from ..model.checkpoint import save_model
from ..model.convert import CocoDetector, coco_weights
from ..model.mssc import MSSC
from ..structures import Detections, InputError, Tube
from ..video import frames_per_look
from .losses import action_loss, box_losses, total

log = logging.getLogger(__name__)

ROIS_PER_BOX = 3  # jittered copies of a true box whose actions are judged: proposals are never exact
ROI_SHIFT, ROI_SCALE = 0.1, 0.2
DETECT_WHEN_MIXED = 0.35  # the fainter clip's actors are to be found from this share on
MOST_BAD_STEPS = 20  # in a row, with a loss that is not a number
CALIBRATION_IMAGES = 64


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
        tubes = (_at(tube, np.array(keys)) for tube in video.tubes)
        truth[video.name] = Truth(tuple(tube for tube in tubes if tube is not None), len(keys), video.rate)
        for detections, frame in zip(found[video.name], keys, strict=True):
            for box, label in zip(*video.boxes_at(frame), strict=True):
                boxes_in_all += 1
                right += _best_action(detections, box) == label
    score = frame_map(found, truth, len(dataset.classes))
    return {"frame_map": score.map, "actor_ap": actor_ap(found, truth), "box_accuracy": right / max(boxes_in_all, 1)}


def validate_motion(model: MSSC, dataset: Dataset, cache: FrameCache, step: int) -> dict[str, float]:
    """Like `validate`, of the motion stream by itself.

    Returns:
        ``box_accuracy``: the share of true boxes whose action motion alone tells.
    """
    device = next(model.parameters()).device
    right = count = 0
    for video in dataset.videos:
        scale = torch.tensor([model.config.key_size / video.width, model.config.key_size / video.height]).repeat(2)
        for clip, places, chosen in _stretches(model.config, video, cache, step):
            truth = zip(places.tolist(), map(video.boxes_at, chosen), strict=True)
            rows = [(place, *row) for place, boxes in truth for row in zip(*boxes, strict=True)]
            if rows:
                keys, boxes, labels = zip(*rows, strict=True)
                wanted = (torch.from_numpy(np.stack(boxes)) * scale)[:, None]
                with torch.inference_mode():
                    logits = model.movement_logits(*(x.to(device) for x in (clip, torch.tensor([keys]), wanted)))
                right += int((logits[:, 0].argmax(1).cpu() == torch.tensor(np.stack(labels))).sum())
                count += len(labels)
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


def _at(tube: Tube, keys: np.ndarray) -> Tube | None:
    """The tube in a video of which only the frames `keys`, ascending, are kept; None if it is in none of them."""
    inside = np.flatnonzero((keys >= tube.start) & (keys < tube.stop))
    return Tube(tube.label, 1.0, int(inside[0]), tube.boxes[keys[inside] - tube.start]) if len(inside) else None


def _best_action(detections: Detections, box) -> int | None:
    if not len(detections):
        return None
    rows = (box_iou(detections.boxes, box, CONTINUOUS) >= 0.5).nonzero()[0]
    return int(detections.labels[rows[detections.scores[rows].argmax()]]) if len(rows) else None


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak: a linear rise over the first `warmup` of all steps, then half a cosine to 1 % of it."""
    rise = max(round(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def parameter_groups(model: MSSC, started: list[nn.Parameter], train: TrainConfig) -> list[dict]:
    """Parameters by learning rate (initialised ones are gentler) and by weight decay (matrices only)."""
    known = {id(p) for p in started}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            rate = train.learning_rate * (train.initialised_rate if id(p) in known else 1)
            groups.setdefault((rate, train.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return [{"params": ps, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]


def freeze(model: MSSC, train: TrainConfig) -> None:
    """Keep stem and first stage as they are, if the run asks for it, their BatchNorm statistics too. Call after `model.train()`."""
    if train.frozen == "stem":
        for module in model.stem_modules():
            module.requires_grad_(False).eval()
    if train.learn == "motion":
        model.requires_grad_(False)
        for module in model.motion_modules():
            module.requires_grad_(True)


def mix(batch: Batch, share: float) -> Batch:
    """Blend the clips with one another (mixup), boxes and actions with them.

    Args:
        batch: one. Not modified.
        share: of the batches that are mixed.
    """
    if torch.rand(1).item() >= share or len(batch.clip) < 2:
        return batch
    weight = float(torch.distributions.Beta(1.0, 1.0).sample())
    weight = max(weight, 1 - weight)
    other = torch.roll(torch.arange(len(batch.clip)), 1)
    rows = torch.roll(torch.arange(len(batch.boxes)), len(batch.boxes) // len(batch.clip))
    clip = batch.clip.float().lerp(batch.clip[other].float(), 1 - weight)
    mine, theirs = batch.actions, batch.actions[rows]
    mean = [x.sum(1, keepdim=True) / (x.sum((1, 2), keepdim=True).clamp(min=1)) for x in (mine, theirs)]

    def blend(own: Tensor, own_weight: float, foreign: Tensor) -> Tensor:
        """A box's own actions, and what the other clip shows on average, in the shares of the mixture."""
        real = own.any(2, keepdim=True)
        return torch.where(real, own_weight * own + (1 - own_weight) * foreign, 0)

    actions = [blend(mine, weight, mean[1])]
    boxes = [batch.boxes]
    if 1 - weight >= DETECT_WHEN_MIXED:
        actions.append(blend(theirs, 1 - weight, mean[0]))
        boxes.append(batch.boxes[rows])
    return Batch(clip, batch.keys, torch.cat(boxes, 1), torch.cat(actions, 1))


def jitter(boxes: Tensor, size: int) -> Tensor:
    """(P, 4) to (P, R, 4): copies shifted and scaled a little, inside the frame, as proposals are."""
    copies = boxes[:, None].expand(-1, ROIS_PER_BOX, -1)
    centre, side = (copies[..., :2] + copies[..., 2:]) / 2, copies[..., 2:] - copies[..., :2]
    noise = torch.randn(*copies.shape[:-1], 4, device=boxes.device).clamp(-2, 2)
    centre = centre + side * noise[..., :2] * ROI_SHIFT / 2
    side = side * (noise[..., 2:] * ROI_SCALE / 2).exp()
    return torch.cat([centre - side / 2, centre + side / 2], -1).clamp(0, size)


def compute_losses(model: nn.Module, batch: Batch, config: ModelConfig, train: TrainConfig) -> dict[str, Tensor]:
    """One forward pass of a network, or of `MotionAlone`, and its losses, see `mssc.training.losses`."""
    real = batch.actions.any(2)
    rois = jitter(batch.boxes.flatten(0, 1), config.key_size).unflatten(0, real.shape).flatten(1, 2)
    out = model(batch.clip, batch.keys, rois)
    judged = real.repeat_interleave(ROIS_PER_BOX, 1)
    wanted = batch.actions.repeat_interleave(ROIS_PER_BOX, 1)
    if train.learn == "motion":
        return {"action": action_loss(out, wanted, judged, config, train.label_smoothing)}
    losses = box_losses(out, batch.boxes, real, config.key_size)
    return losses | {"action": action_loss(out.logits, wanted, judged, config, train.label_smoothing)}


class MotionAlone(nn.Module):
    """A network of which only the motion stream is computed.

    Args:
        network: has one.
    """

    def __init__(self, network: MSSC) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor, keys: Tensor, boxes: Tensor) -> Tensor:
        """See `MSSC.movement_logits`."""
        return self.network.movement_logits(clip, keys, boxes)


class Trainer:
    """A run and its folder: ``last.pt`` to go on from, ``model/`` with the best model so far, ``metrics.jsonl``, ``run.json``.

    Args:
        model_config: the network.
        config: the run.
        folder: of the run; made if missing. A ``last.pt`` in it is gone on from.
        training: videos to learn from.
        cache: their decoded frames.
        validation: videos to select by; None to keep the last model instead of the best.
        coco: a YOLOX-nano ONNX file to start from; None starts from nothing.
        start: weights of an earlier run (a model's folder) to start from instead.
        motion: weights of a motion stream that was trained by itself, see `mssc.model.transfer.motion_weights`.
        progress: show a bar.
        cpu: leave GPUs alone.

    Raises:
        InputError: if the folder holds another run, or the data set's classes are not the model's.
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
        motion: dict[str, Tensor] | None = None,
        progress: bool = True,
        cpu: bool = False,
    ) -> None:
        if tuple(training.classes) != model_config.classes:
            raise InputError(
                f"the data set has the classes {training.classes}, the model {model_config.classes}; they must agree."
            )
        if coco is None and start is None:
            config = dataclasses.replace(config, frozen="none")  # random weights are not worth keeping
        self.config, self.model_config, self.folder, self.validation, self.cache = config, model_config, folder, validation, cache
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
        self.progress = progress and self.accelerator.is_main_process
        torch.manual_seed(config.seed)
        model = MSSC(model_config)
        started = model.initialise_from(self._coco(coco, training)) if coco is not None else []
        if start is not None:
            model.load_state_dict(start)
        if motion is not None:
            model.load_state_dict(motion, strict=False)
            started += [p for module in model.motion_modules() for p in module.parameters()]
        model.train()
        freeze(model, config)
        optimizer = torch.optim.AdamW(parameter_groups(model, started, config))
        clips = ClipDataset(training, cache, model_config, config)
        self.order = BatchOrder(len(clips), config.batch, config.seed)
        loader = DataLoader(
            clips,
            batch_sampler=self.order,
            collate_fn=collate,
            num_workers=config.workers,
            persistent_workers=False,
            multiprocessing_context="fork" if config.workers else None,
        )
        self.ema = AveragedModel(model, avg_fn=self._average, use_buffers=True)
        learner = MotionAlone(model) if config.learn == "motion" else model
        self.network = model
        self.learner, self.optimizer, self.loader = self.accelerator.prepare(learner, optimizer, loader)
        self.ema.to(self.accelerator.device)
        per_epoch = math.ceil(len(self.order) / self.accelerator.num_processes)
        self.steps, self.per_epoch = per_epoch * config.epochs, per_epoch
        self.step, self.best, self.bad = 0, -1.0, 0
        self.wait = self.work = 0.0
        self._open_folder()

    def _coco(self, path: Path, training: Dataset) -> CocoDetector:
        """COCO's detector with BatchNorm statistics of this data: its convolutions came folded."""
        chosen = training.videos[:: max(len(training) // CALIBRATION_IMAGES, 1)][:CALIBRATION_IMAGES]
        first = [0 if video.labelled is None else video.labelled[0] for video in chosen]  # others may not be cached
        frames = [self.cache.frames(video.name, [frame])[0] for video, frame in zip(chosen, first, strict=True)]
        return coco_weights(path, prepare(frames, self.model_config.key_size).float())

    def _average(self, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Exponential average that trusts the first steps less: min(decay, (1 + n) / (10 + n))."""
        if not torch.is_floating_point(averaged):
            return current
        decay = min(self.config.ema, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - decay)

    # ---------------------------------------------------------------- the run's folder

    def _identity(self) -> dict:
        """What must not change between a run and its continuation."""
        return json.loads(json.dumps({"model": dataclasses.asdict(self.model_config), "train": dataclasses.asdict(self.config)}))

    def _open_folder(self) -> None:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        described, last = self.folder / "run.json", self.folder / "last.pt"
        if last.exists():
            if described.exists() and json.loads(described.read_text()) != self._identity():
                raise InputError(f"{self.folder} holds a run with other settings; choose another folder, or delete it.")
            saved = torch.load(last, map_location="cpu", weights_only=True)
            self.network.load_state_dict(saved["model"])
            self.ema.load_state_dict(saved["ema"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.best = saved["step"], saved["best"]
            self._drop_later_metrics()
        elif self.accelerator.is_main_process:
            write_whole(described, json.dumps(self._identity(), indent=2))
            write_whole(self.folder / "metrics.jsonl", "")

    def _drop_later_metrics(self) -> None:
        path = self.folder / "metrics.jsonl"
        lines = [line for line in path.read_text().splitlines() if line and json.loads(line)["step"] <= self.step]
        if self.accelerator.is_main_process:
            write_whole(path, "".join(line + "\n" for line in lines))

    def _save(self) -> None:
        """Write last.pt whole or not at all."""
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
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
            self.wait += time.perf_counter() - since
            yield batch
            since = time.perf_counter()
        self.order.skip = 0

    def _train_step(self, batch: Batch) -> dict[str, float]:
        torch.manual_seed(hash((self.config.seed, self.step, self.accelerator.process_index)) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate(self.step, self.steps, self.config.warmup)
        batch = mix(batch.to(self.accelerator.device), self.config.mixup)
        with self.accelerator.autocast():
            losses = compute_losses(self.learner, batch, self.model_config, self.config)
            loss = total(losses, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            self.bad = 0
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.learner.parameters(), self.config.clip_gradient)
            self.optimizer.step()
            self.ema.update_parameters(self.network)
        else:
            self.bad += 1
            log.warning("step %d: the loss is %s; the step is left out", self.step, loss.item())
            if self.bad >= MOST_BAD_STEPS:
                raise InputError(
                    f"the loss was not a number for {self.bad} steps in a row; lower --learning-rate "
                    f"(now {self.config.learning_rate}) or look for broken boxes with mssc check-data."
                )
        self.step += 1
        return {name: value.item() for name, value in losses.items()} | {"loss": loss.item()}

    def run(self, stop: Callable[[], bool] = lambda: False) -> MSSC:
        """Train to the end, or until `stop` says so (the state is then saved).

        Returns:
            The averaged model, in eval mode.
        """
        bar = tqdm(total=self.steps, initial=self.step, unit="step", disable=not self.progress, dynamic_ncols=True)
        saved = time.monotonic()
        while self.step < self.steps:
            sums: dict[str, float] = {}
            seen, began = 0, time.perf_counter()
            self.wait = 0.0
            for batch in self._batches():
                values = self._train_step(batch)
                sums = {k: sums.get(k, 0.0) + v for k, v in values.items()}
                seen += 1
                bar.update()
                best = {"best": f"{self.best:.3f}"} if self.best >= 0 else {}
                bar.set_postfix(loss=f"{sums['loss'] / seen:.3f}", **best, refresh=False)
                if stop():
                    self._save()
                    return self._averaged()
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self._save()
                    saved = time.monotonic()
            took = time.perf_counter() - began
            self._end_epoch({k: v / seen for k, v in sums.items()} | {"loader_share": self.wait / took, "seconds": took})
            saved = time.monotonic()
        bar.close()
        return self._averaged()

    def _averaged(self) -> MSSC:
        return self.ema.module.eval()  # type: ignore[return-value]

    def _end_epoch(self, entry: dict[str, float]) -> None:
        epoch = self.step // self.per_epoch
        entry = {"step": self.step, "epoch": epoch, **{k: round(float(v), 5) for k, v in entry.items()}}
        last = self.step >= self.steps
        if self.validation is not None and (last or epoch % self.config.validate_every == 0):
            judge = validate_motion if self.config.learn == "motion" else validate
            score = judge(self._averaged(), self.validation, self.cache, self.config.validation_step)
            entry |= {k: round(float(v), 5) for k, v in score.items()}
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
            save_model(self._averaged(), self.folder / "model", {"epoch": entry["epoch"], "training": entry})
