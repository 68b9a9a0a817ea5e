"""The page, by part: see `app.py`, which serves it.

limits      what is taken, and the sentences for the rest
offer       the models
visits      whose files are whose
guard       uploads that are not even begun
detection   an upload becomes a result, step by step
player      boxes drawn over the video as it plays, timeline, thumbnails, table
layout      tabs, texts, and which button does what
"""

from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from .guard import UploadGuard
from .layout import CSS, THEME, build
from .limits import MAX_UPLOAD_MB
from .offer import EXAMPLES, add_model, ready

LAUNCH = {
    "theme": THEME,
    "css": CSS,
    "max_file_size": f"{MAX_UPLOAD_MB}mb",
    "share": False,
    "ssr_mode": False,
    "run_history": False,  # it would keep visitors' videos in the browser and point to files that are deleted here
    "footer_links": ["api", "settings"],
    "app_kwargs": {
        "middleware": [Middleware(UploadGuard)],
        "routes": [Mount("/examples", StaticFiles(directory=EXAMPLES, check_dir=False))],
        "docs_url": None,
        "redoc_url": None,
    },
}
"""How `build`'s page is launched."""

__all__ = ["LAUNCH", "add_model", "build", "ready"]
