"""The outgoing queue: control frames that wait for the end of the tick, or for a client to read again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orbital_relay.core.framing import text_frame
from orbital_relay.server.edge.socket_writer import SocketWriter

Route = Callable[[bytes], None]
"""Writes whole frames to a connection."""


class Outgoing:
    """
    The outgoing buffer of one connection: answers, errors and notices. Events pass through it only behind them.

    What is put here in one turn of the loop leaves in one write. While the transport is full it waits; its session
    reads nothing more from a client for which too much waits.
    """

    __slots__ = ("_due", "_frames", "_set_route", "size_bytes", "writer")

    def __init__(self, writer: SocketWriter, set_route: Callable[[Route], None]) -> None:
        """
        Args:
            writer: The connection's.
            set_route: Called with what writes whole frames from now on, each time when that changes: the writer itself
                while nothing waits here, so that fan-out calls it without a call in between, else `send`.
        """
        self.writer = writer
        self._set_route = set_route
        self.size_bytes = 0
        self._frames: list[bytes] = []
        self._due = False

    def put(self, frame: bytes) -> None:
        """Enqueue the text of a frame."""
        if not self._frames:
            self._set_route(self.send)
        self._frames.append(text_frame(frame))
        self.size_bytes += len(frame)
        if self.writer.writable and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    def send(self, wire_bytes: bytes) -> None:
        """Write whole frames now, behind what waits."""
        self._frames.append(wire_bytes)
        self.flush(anyway=True)

    def flush(self, *, anyway: bool = False) -> None:
        """Write what waits if the transport is not full, or `anyway`."""
        if self._frames and (anyway or self.writer.writable):
            wire_bytes = b"".join(self._frames)
            self.discard()
            self.writer.write(wire_bytes)

    def discard(self) -> None:
        """Forget what waits."""
        if self._frames:
            self._frames.clear()
            self.size_bytes = 0
            self._set_route(self.writer.write)

    def _flush_later(self) -> None:
        self._due = False
        self.flush()
