"""Several processes on one GPU."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"


@contextmanager
def side_by_side(share: int) -> Iterator[None]:
    """Within the block, processes that are started compute on a GPU at the same time, by NVIDIA's MPS daemon, and do not take turns.

    A daemon that runs already (`CUDA_MPS_PIPE_DIRECTORY` is set) is used; else one is started for the block, if it is installed.

    Args:
        share: how many processes use one GPU; nothing is done for fewer than two.
    """
    if share < 2 or PIPES in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mps") as folder:
        before = dict(os.environ)
        os.environ |= {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        runs = shutil.which(CONTROL) is not None and subprocess.run([CONTROL, "-d"], capture_output=True).returncode == 0
        if not runs:
            os.environ.pop(PIPES)
            log.warning("%d runs share a GPU and take turns: NVIDIA's %s cannot be started.", share, CONTROL)
        try:
            yield
        finally:
            if runs:
                subprocess.run([CONTROL], input="quit\n", text=True, capture_output=True)
            for name in (PIPES, "CUDA_MPS_LOG_DIRECTORY"):
                os.environ.pop(name, None)
                os.environ |= {name: before[name]} if name in before else {}
