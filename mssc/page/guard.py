"""Refuses an upload before its first byte is written, where it is too large or the disk is full; has what came of one that broke off
deleted; and notices who asks for a file."""

import shutil
import tempfile
from typing import Any

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse

from . import visits
from .limits import DISK_FULL, FREE_MB, MAX_UPLOAD_MB

TOO_LARGE = f"The file is larger than {MAX_UPLOAD_MB} MB, which is the limit here. Cut it or scale it down first."


class UploadGuard:
    """Middleware (ASGI). Gradio checks the size while it writes, and meets a full disk with half a file and no sentence."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer the request, or hand it on."""
        if scope["type"] == "http" and "/file=" in scope["path"]:
            visits.back(scope["path"].partition("/file=")[2])
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            length = Headers(scope=scope).get("content-length", "")
            size = int(length) / 2**20 if length.isdecimal() else 0
            free = shutil.disk_usage(tempfile.gettempdir()).free / 2**20
            status, text = (
                (413, TOO_LARGE) if size > MAX_UPLOAD_MB + 1 else (507, DISK_FULL) if free < FREE_MB + 3 * size else (0, "")
            )
            if status:
                await PlainTextResponse(text, status, {"connection": "close"})(scope, receive, send)
                return
            receive = _until_it_breaks_off(receive)
        await self.app(scope, receive, send)


def _until_it_breaks_off(receive: Any) -> Any:
    """What comes, and an error that Gradio (6.31) cleans up after where nothing more will: of a visitor who left it keeps the half file."""

    async def wrapped() -> dict:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MultiPartException("the upload broke off.")
        return message

    return wrapped
