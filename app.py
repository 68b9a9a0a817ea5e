"""The page: give it a video, see who does what, where, and from when to when.

python app.py [--port 7860] [--model runs/mine/model ...] [--mcp]
"""

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported: the page reports to nobody

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  # type: ignore[import-not-found]  # lends a GPU on Hugging Face Spaces (ZeroGPU); before torch

from mssc import page
from mssc.model.shipped import default_model
from mssc.structures import InputError


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until it is stopped; every file made meanwhile lies in one folder and goes with it."""
    parser = argparse.ArgumentParser(description="Find action tubes in videos, in the browser.")
    parser.add_argument("--port", type=int, help="of the page; the first free one from 7860 on if not given")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        default=[],
        help="folders of models to offer, such as runs/mine/model; the first one first",
    )
    parser.add_argument("--mcp", action="store_true", help="offer the endpoints to language models as well, as an MCP server")
    options = parser.parse_args(arguments)
    if options.mcp and importlib.util.find_spec("mcp") is None:
        parser.error("--mcp needs a package that is not installed; run: pip install 'gradio[mcp]'")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leave through the `with` below
    with tempfile.TemporaryDirectory(prefix="mssc-") as folder:
        tempfile.tempdir = folder  # Gradio's uploads and cache as well
        try:
            own = [page.add_model(path) for path in options.model]
            model = own[0] if own else default_model()
            blocks = page.build(model)
            blocks.launch(server_port=options.port, mcp_server=options.mcp, prevent_thread_lock=True, **page.LAUNCH)
            page.ready(model)  # while the first visitor looks around
            blocks.block_thread()
        except (InputError, OSError) as error:  # no model, no free port
            parser.error(str(error))
        except KeyboardInterrupt:  # before the page stays, which takes it for itself
            return
        finally:
            tempfile.tempdir = None


if __name__ == "__main__":
    main()
