"""How fast this tree is beside an earlier commit, both in one run, taking turns: ratios hold on a busy machine, times do not.

    python benchmarks/against.py [--commit 8dd67b0] [--rounds 7] [--frames 240]

Prints Markdown. Each tree runs in a process of its own, with its own code and its own copy of the model. What is compared: a video through
`detect_video`, the network in torch on a clip of 16 frames, all of them key frames, and a training step of 8 clips, of each tree's usual
network.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
WORKER = """
import sys, time
from pathlib import Path
import mssc
import torch
from mssc.config import ModelConfig, TrainConfig
from mssc.data import toy
from mssc.data.cache import FrameCache
try:
    from mssc.training.loop import Trainer
except ImportError:  # where it was before
    from mssc.train import Trainer
root, video, work = map(Path, sys.argv[1:])
assert Path(mssc.__file__).resolve().is_relative_to(root.resolve()), mssc.__file__
folder = root / "assets" / "models" / "jhmdb"
model = mssc.load_model(folder)
size = model.config.key_size
clip, keys = torch.randint(0, 256, (1, 3, 16, size, size), dtype=torch.uint8), torch.arange(16)[None]

def network():
    with torch.inference_mode():
        model(clip, keys)

dataset = toy.generate(work / "toy", 64)
cache = FrameCache.build(dataset, work / "frames")
config = TrainConfig(batch=8, workers=1, mixup=0)
trainer = Trainer(ModelConfig(classes=dataset.classes), config, work / "run", dataset, cache, progress=False)
clips = []

def training():
    if not clips:
        clips.extend(trainer._batches())  # of an epoch
    trainer._train_step(clips.pop())

tasks = {"pipeline": lambda: mssc.detect_video(video, folder), "network": network, "training step": training}
for task in tasks.values():
    task()
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    tasks[line.strip()]()
    print(time.perf_counter() - began, flush=True)
"""


def start(root: Path, video: Path, work: Path) -> subprocess.Popen:
    """A tree's process, warm."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", WORKER, *map(str, (root, video, work))]
    process = subprocess.Popen(command, env=environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n", f"{root} cannot be run"
    return process


def seconds(process: subprocess.Popen, task: str) -> float:
    """What one round of a task takes there."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(task + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="8dd67b0")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=240)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from speed import make_video

        video, old = make_video(Path(folder), options.frames), Path(folder) / "tree"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", old, options.commit], check=True)
        try:
            before, now = (start(root, video, Path(folder) / name) for name, root in (("before", old), ("now", ROOT)))
            print(f"| against {options.commit} | times as fast: median | least | most |\n|---|---|---|---|")
            for task in ("pipeline", "network", "training step"):
                ratios = [seconds(before, task) / seconds(now, task) for _ in range(options.rounds)]
                print(f"| {task} | {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |", flush=True)
            before.kill()
            now.kill()
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", old], check=True)


if __name__ == "__main__":
    main()
