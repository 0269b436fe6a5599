"""Lingering close: how long, and how many bytes, are read and discarded after the last response."""

from __future__ import annotations

import asyncio
from typing import Final

LINGER_S: Final = 30
"""How long what a client still sends is read and discarded behind the last answer, in seconds."""
LINGER_IDLE_S: Final = 5
"""How long a client that sends nothing meanwhile may take to close its side, in seconds."""
LINGER_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of a body whose request was answered that are discarded so: several times the longest that is taken."""
MALFORMED_BYTES: Final = 1024 * 1024
"""Most bytes that are discarded behind a request that is malformed."""


class Linger:
    """
    The end of a connection whose client may still be sending.

    RFC 9112 §9.6: closing a socket on which input is unread resets the connection, and the client may lose the answer
    that it has not read yet. So only our side is ended, and what comes is discarded within bounds; then all is aborted.
    """

    most_bytes = LINGER_BYTES
    until_s: float | None = None
    """The end of it in the loop's time, when that was decided before; None: `LINGER_S` from the last answer."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def discard(self, size_bytes: int) -> None:
        """Count bytes that belong to no request."""
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self.most_bytes:
            self._transport.abort()

    def begin(self) -> None:
        """End our side, and abort the connection when the client has closed, is quiet or takes too long."""
        self._transport.write_eof()
        if self.until_s is None:
            self.until_s = self._loop.time() + LINGER_S
        self._look(self.until_s, -1)

    def cancel(self) -> None:
        """Stop the timer: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, until_s: float, discarded_bytes: int) -> None:
        now_s = self._loop.time()
        if now_s >= until_s or self._discarded_bytes == discarded_bytes:
            self._transport.abort()
            return
        wait_s = min(LINGER_IDLE_S, until_s - now_s)
        self._timer = self._loop.call_later(wait_s, self._look, until_s, self._discarded_bytes)
