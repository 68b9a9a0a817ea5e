"""What other sites show of a link to the page: they read the page as it is served, before any script."""

import re
from typing import Any

from .texts import CARD

GRADIOS = re.compile(rb"""<meta\s[^>]*(?:property="og:|name="twitter:)[^>]*>\s*""")


class LinkCard:
    """Middleware (ASGI) that puts our title, description and picture in the place of Gradio's own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Hand the request on; the page itself is changed on its way back."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in ("", "/"):
            await self.app(scope, receive, send)
            return
        start, body = None, b""

        async def changed(message: dict) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body") or start is None:
                return
            headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            if any(name == b"content-type" and b"text/html" in value for name, value in headers):
                card = CARD.format(address=_address(scope)).encode()
                body = GRADIOS.sub(b"", body).replace(b"<head>", b"<head>\n" + card, 1)
            headers.append((b"content-length", str(len(body)).encode()))
            await send(start | {"headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, changed)


def _address(scope: dict) -> str:
    """Of the page, as the visitor's browser knows it: also behind a proxy that says so."""
    told = dict(scope["headers"])
    host = told.get(b"x-forwarded-host", told.get(b"host", b"")).decode("latin-1")
    scheme = told.get(b"x-forwarded-proto", scope["scheme"].encode()).decode("latin-1").split(",")[0]
    safe = re.fullmatch(r"[\w.:\[\]-]+", host) and scheme in ("http", "https")
    return f"{scheme}://{host}{scope.get('root_path', '')}" if safe else ""
