"""The application's side of one WebSocket connection."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from orbital_relay.server.edge.socket_writer import SocketWriter


class Peer(Protocol):
    """
    The application that serves one connection. The edge calls it on the event loop; no method may block.

    `opened` comes first, and if it came, `closed` comes last, once. An exception ends the connection with 1011.
    """

    def opened(self, writer: SocketWriter) -> None:
        """The handshake was answered with 101; what is written now is sent right after it."""

    def text(self, payload: bytes) -> None:
        """A complete text message was received: valid UTF-8, inflated, within the limit."""

    def control(self) -> None:
        """A ping, a pong or a non-final fragment was received: what a rate limit counts beside text messages."""

    def pong(self) -> None:
        """A WebSocket pong was received; `control` was called as well."""

    def paused(self) -> None:
        """The buffer exceeds the high watermark: stop writing. May be called from within `SocketWriter.write`."""

    def resumed(self) -> None:
        """The buffer is below the low watermark: write again."""

    def ending(self) -> Awaitable[None] | None:
        """
        The client will send no more: it sent a Close, violated the protocol, or closed its side of the socket.

        Pending output can be written now. If earlier frames still need a reply, the returned awaitable is awaited
        before the Close is sent; it has to finish by itself. None if no reply is pending.
        """

    def closed(self, code: int | None) -> None:
        """
        The connection is closed: nothing that is written from now on is sent.

        Args:
            code: The close code that was received or sent, whichever was first; 1005 if a Close had no code, None if
                the connection was aborted.
        """
