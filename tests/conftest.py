"""What several test files share: a tiny network and a tiny set of videos, generated once."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # two threads would keep both cores busy, and be no faster
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dataclasses import replace

import pytest
import torch

from mssc.__main__ import main
from mssc.config import ModelConfig
from mssc.data import toy
from mssc.data.cache import FrameCache

TINY = ModelConfig(
    key_size=64,
    clip_size=32,
    person_size=64,
    width=16,
    hidden=16,
    window=4,
    kept=4,
    dropout=0.1,
    backbone3d="causal_cspdarknet_nano",  # both streams, and one width: the network with the most parts
    fusion_position="stems",
)


THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads())
"""One where tests run side by side: they share a small machine."""
torch.set_num_threads(THREADS)  # for what several tests share, too


@pytest.fixture(autouse=True)
def few_threads(monkeypatch):
    """No more threads than that, and no processes beside."""
    monkeypatch.setattr("mssc.detection.workers.usable_cores", lambda: 1)
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def toy_videos(tmp_path_factory):
    """Six videos of 12 to 16 frames of 64x48."""
    return toy.generate(tmp_path_factory.mktemp("toy") / "train", 6, size=(64, 48), frames=(12, 16))


@pytest.fixture(scope="session")
def toy_cache(toy_videos, tmp_path_factory):
    """Their decoded frames."""
    return FrameCache.build(toy_videos, tmp_path_factory.mktemp("frames"), progress=False)


@pytest.fixture(scope="session")
def tiny_config(toy_videos):
    """A network of some hundred thousand weights for their classes."""
    return replace(TINY, classes=toy_videos.classes)


def run(*arguments) -> int:
    """The exit status of a command."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.fixture
def toy_data(monkeypatch, toy_videos):
    """Every data set that a command reads is the toy set."""
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
