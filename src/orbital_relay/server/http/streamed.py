"""Answers whose body is made while it is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orbital_relay.errors import OrbitalError
from orbital_relay.ports import BlobMissing

log = logging.getLogger("orbital.server")


class StreamedResponse(Response):
    """
    An answer whose body comes in pieces. One piece is made ahead of the line, and the body is never held whole.

    Args:
        status: The status.
        headers: The headers; without a length the body is chunked (RFC 9112 §7.1).
        pieces: The body; None for an answer without one.
    """

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], pieces: AsyncIterator[bytes] | None) -> None:
        self.status_code = status
        self.raw_headers = headers
        self.background = None
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that hangs up ends the reading."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._pieces is None or scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.create_task(_hangs_up(receive))
        try:
            async for piece in self._pieces:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sent(len(piece))
            await send({"type": "http.response.body", "body": b""})
        except (BlobMissing, OrbitalError) as exc:
            # The status is out: a body that ends short is the only way left to say so.
            log.warning("a streamed response was aborted", extra={"error": str(exc)})
        finally:
            gone.cancel()

    def _sent(self, size_bytes: int) -> None:
        """Count what was sent."""


async def _hangs_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a piece that was read before the status went out, and those that follow."""
    yield first
    async for piece in pieces:
        yield piece
