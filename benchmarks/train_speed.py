"""How fast training is: clips a second, the loader's share, and what a step asks of the device.

    nice python benchmarks/train_speed.py toy data/toy --steps 20
    python benchmarks/train_speed.py jhmdb DIR --batch 32 --precision bf16

Kernels are those of a GPU; on a CPU, calls of operators that compute something, which is about as many. A wait is a step's wait for a GPU:
a call that synchronises, or, on any device, an operator whose result is a number in Python or has a size that depends on the data.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mssc.config import ModelConfig, TrainConfig
from mssc.data.cache import FrameCache
from mssc.data.catalogue import load_dataset
from mssc.training.loop import Trainer

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}
WAITS |= {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
OPERATORS = ("aten::", "torchvision::")
VIEWS = "view reshape expand permute transpose slice select squeeze as_strided detach alias unbind empty split narrow"
VIEWS += " flatten unfold ::t resize_ result_type lift_fresh set_"


def counted(found: profile) -> tuple[Counter[str], Counter[str]]:
    """Kernels and waits by name."""
    kernels: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    for event in found.events():
        name, parent = event.name, event.cpu_parent
        inside = parent is not None and parent.name.startswith(OPERATORS)
        if name in WAITS and not (inside and parent.name.startswith(("aten::_f", "aten::item"))):  # foreach and fused, on a CPU
            waits[name] += 1
        computes = name.startswith(OPERATORS) and not inside and not any(view in name for view in VIEWS.split())
        if event.device_type == torch.autograd.DeviceType.CUDA or (computes and not torch.cuda.is_available()):
            kernels[name] += 1
    return kernels, waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="no")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.dataset, arguments.data, "train")
    with tempfile.TemporaryDirectory() as folder:
        cache = FrameCache.build(dataset, arguments.cache or Path(folder) / "frames")
        config = TrainConfig(batch=arguments.batch, precision=arguments.precision, workers=arguments.workers, mixup=0)
        trainer = Trainer(ModelConfig(classes=dataset.classes), config, Path(folder) / "run", dataset, cache, progress=False)
        batches = trainer._batches()
        for _ in range(3):
            trainer._train_step(next(batches))
        trainer._check()
        trainer.wait, began = 0.0, time.perf_counter()
        for _ in range(arguments.steps):
            trainer._train_step(next(batches))
        trainer._check()
        took, wait = time.perf_counter() - began, trainer.wait
        batch = next(batches)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        with profile(activities=activities) as found:
            trainer._train_step(batch)
    kernels, waits = counted(found)
    values = {
        "device": str(trainer.accelerator.device),
        "clips a second": round(arguments.steps * config.batch / took, 2),
        "share of the loader": round(wait / took, 4),
        "kernels a step": sum(kernels.values()),
        "waits a step": sum(waits.values()),
        "waits": dict(waits),
        "most frequent": dict(kernels.most_common(12)),
    }
    sys.stdout.write(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
