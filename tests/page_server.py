"""The page on a port of this machine, with tiny networks of random weights instead of trained ones: everything else is real."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mssc import page
from mssc.model import shipped
from mssc.model.checkpoint import save_model
from mssc.model.mssc import MSSC
from mssc.page import layout, offer, texts, visits


def save_models(folder: Path, config) -> dict[str, Path]:
    """Two models that find an actor everywhere: "big" with MSM and SFM, "plain" without."""
    saved = {}
    for name, changes in (("big", {}), ("plain", {"motion": "none", "fusion": "concat"})):
        torch.manual_seed(1)
        model = MSSC(replace(config, **changes)).eval()
        for conv in model.head.boxes.obj_preds:
            torch.nn.init.constant_(conv.bias, 2.0)
        save_model(model, folder / name, {"threshold": 0.05})
        saved[name] = folder / name
    return saved


@contextmanager
def serve(folder: Path, models: dict[str, Path]) -> Iterator[str]:
    """The page's address; uploads and results lie in `folder`, and no program (such as ffmpeg) is to be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "available_models", lambda: dict(models))
        patch.setattr(offer, "OWN", {})
        patch.setattr(layout, "EXAMPLE_MODEL", "big")
        patch.setattr(texts, "PROMPTS", {"circle": "go round", "no such action": "fly"})
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.delenv("GRADIO_TEMP_DIR", raising=False)
        patch.setenv("PATH", "")
        patch.setattr(visits, "GRACE_SECONDS", 0.0)  # tests look at once for what is left behind
        blocks = page.build("big")
        _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **page.LAUNCH)
        try:
            yield url
        finally:
            blocks.close()


def eventually(what, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)
