"""Timeout of a response whose client does not read it."""

from __future__ import annotations

import asyncio
from typing import Final

STALL_S: Final = 60
"""Time between two checks whether a client reads its response, in seconds."""
STALL_BYTES: Final = 16 * 1024
"""Fewest bytes that it has to read in that time; the slowest mobile networks carry ten times as many."""


class StallWatch:
    """
    Aborts a connection whose client reads fewer than STALL_BYTES of its response in STALL_S.

    The transport of a closed connection keeps what is unsent until all was read, so closing would not free it.
    A connection that has become a WebSocket is never aborted here: it has a watch of its own.
    """

    __slots__ = ("_loop", "_protocol", "_timer", "_transport", "_unsent_bytes")

    def __init__(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        """
        Begin the watch.

        Args:
            transport: The transport whose write buffer is full.
            protocol: The HTTP protocol of that transport.
            loop: The event loop of both.
        """
        self._transport = transport
        self._protocol = protocol
        self._loop = loop
        self._watch()

    def cancel(self) -> None:
        """End the watch: the client has read enough, or the connection is closed or upgraded."""
        self._timer.cancel()

    def check(self) -> None:
        """Abort the connection if its client read too little since the last check."""
        if self._transport.get_protocol() is not self._protocol:
            return
        if self._transport.get_write_buffer_size() > self._unsent_bytes - STALL_BYTES:
            self._transport.abort()
        else:
            self._watch()

    def _watch(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALL_S, self.check)
