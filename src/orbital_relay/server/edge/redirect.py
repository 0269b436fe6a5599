"""The redirect port: every plain HTTP request is redirected to HTTPS."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class Redirect:
    """
    Answers each request with 308 and its address on HTTPS; one whose host is unusable with 400.

    Args:
        port: The port of HTTPS.
        public_url: Where browsers reach the server; its host and port go before what the request names.
    """

    def __init__(self, *, port: int, public_url: str | None) -> None:
        self._suffix = "" if port == 443 else f":{port}"
        self._origin = None
        if public_url is not None and public_url.startswith("https://"):
            self._origin = f"https://{urlsplit(public_url).netloc}"

    def target(self, host: str, path: str, query: str) -> str | None:
        """Return the address on HTTPS, or None if nobody can tell it."""
        origin = self._origin
        if origin is None:
            named = _HOST.fullmatch(host)
            if named is None:
                return None
            origin = f"https://{named[1]}{self._suffix}"
        if not path.startswith("/"):
            return None
        return origin + path + (f"?{query}" if query else "")

    async def __call__(self, scope: dict[str, Any], _receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        target = self.target(host, scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"))
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        if target is not None:
            headers.append((b"location", target.encode("latin-1")))
        # RFC 9110 §15.4.9: 308 keeps the method, so that a POST is not repeated as a GET.
        await send({"type": "http.response.start", "status": 400 if target is None else 308, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
