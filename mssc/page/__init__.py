"""The page, by part: see `app.py`, which serves it.

limits      what is taken, and the sentences for the rest
offer       examples and models
visits      whose files are whose
guard       uploads that are not even begun
card        what other sites show of a link
detection   an upload becomes a result, step by step
playable    a copy of what browsers do not play
share       what a visitor takes along
inside      what MSM and SFM do at a moment
live        a camera's frames
answers     what scripts and clients may ask for
layout      tabs, texts, and which script asks for what

Each tab is a component of an HTML, a CSS and one or more JavaScript files, which do what needs no server: player, timeline,
filters, drawings.
"""

from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .card import LinkCard
from .guard import UploadGuard
from .layout import CSS, THEME, build
from .limits import MAX_UPLOAD_MB
from .offer import ASSETS, EXAMPLES, add_model, ready

FOOTER_STYLE = "<style>@media (max-width: 640px) {footer .divider {display: none !important}}</style>"
"""Gradio's `css` does not reach its footer, which keeps a dot for the link that it hides on phones."""
LAUNCH = {
    "theme": THEME,
    "css": CSS,
    "head": FOOTER_STYLE,
    "favicon_path": ASSETS / "favicon.png",
    "max_file_size": f"{MAX_UPLOAD_MB}mb",
    "share": False,
    "ssr_mode": False,
    "run_history": False,  # it would keep visitors' videos in the browser and point to files that are deleted here
    "footer_links": ["api", "settings"],
    "app_kwargs": {
        "middleware": [Middleware(UploadGuard), Middleware(LinkCard)],
        "routes": [
            Mount("/examples", StaticFiles(directory=EXAMPLES, check_dir=False)),
            Route("/picture.png", lambda request: FileResponse(ASSETS / "page.png")),
        ],
        "docs_url": None,
        "redoc_url": None,
    },
}
"""How `build`'s page is launched."""

__all__ = ["LAUNCH", "add_model", "build", "ready"]
