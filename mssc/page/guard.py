"""Refuses an upload before its first byte is written, where it is too large or the disk is full; and notices who asks for a file."""

import shutil
import tempfile
from typing import Any

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
            size = _size(scope) / 2**20
            free = shutil.disk_usage(tempfile.gettempdir()).free / 2**20
            status, text = (
                (413, TOO_LARGE) if size > MAX_UPLOAD_MB + 1 else (507, DISK_FULL) if free < FREE_MB + 3 * size else (0, "")
            )
            if status:
                await _refuse(send, status, text)
                return
        await self.app(scope, receive, send)


def _size(scope: dict) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Any, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
