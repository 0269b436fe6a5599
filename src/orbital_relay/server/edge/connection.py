"""
One open WebSocket connection: validates and reassembles the client's frames and passes messages to its peer.

core/framing.py enforces RFC 6455; the peer interprets the messages. The edge never parses a message's content.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, MutableSet
from contextlib import suppress
from typing import Final, Protocol, assert_never

import msgspec

from orbital_relay.core.framing import (
    CLOSE,
    NO_STATUS,
    PONG,
    TEXT,
    CloseFrame,
    DataMessage,
    Fragment,
    FrameReader,
    PingFrame,
    PongFrame,
    Violation,
    close_frame,
    frame,
)
from orbital_relay.server.edge.deflate import inflate
from orbital_relay.server.edge.frame_parser import DISCARD_BUFFER, FrameParser
from orbital_relay.server.edge.peer import Peer
from orbital_relay.server.edge.socket_writer import SocketWriter

log = logging.getLogger("orbital.server")

_WHOLE_TEXT: Final = 0x80 | TEXT
"""First byte of a whole, uncompressed text message: nearly every frame."""
_SERVICE_RESTART: Final = 1012
_INTERNAL_ERROR: Final = 1011


class ServerState(Protocol):
    """What the edge uses of uvicorn's ServerState."""

    connections: MutableSet[object]
    """When uvicorn stops, it calls `shutdown` of each, and waits until it is empty."""
    default_headers: list[tuple[bytes, bytes]]
    """Sent with every response; the date."""


class Terms(msgspec.Struct, frozen=True):
    """The limits of every connection of an edge; `upgrade.websocket_protocol` explains each."""

    max_message_bytes: int
    high_water_bytes: int
    low_water_bytes: int
    send_buffer_bytes: int | None
    registry: MutableSet[SocketWriter]


class Connection(asyncio.BufferedProtocol):
    """
    The asyncio protocol of one open connection.

    `FrameParser` splits the stream into frames and `FrameReader` validates them; this class sends what RFC 6455 demands
    (Pong, Close), and passes the messages to the peer. After the end, input is read and discarded: closing a socket
    with unread input resets the connection, and the client may lose our Close.
    """

    __slots__ = ("_ended", "_parser", "_peer", "_pending_pong", "_reader", "_replies", "_server", "_terms", "_writer")

    def __init__(self, terms: Terms, server_state: ServerState, writer: SocketWriter, peer: Peer) -> None:
        # A message that does not compress is a little longer compressed.
        slack_bytes = 256 + terms.max_message_bytes // 64 if writer.deflate else 0
        self._terms = terms
        self._server = server_state
        self._writer = writer
        self._peer: Peer | None = peer
        self._parser = FrameParser(limit_bytes=terms.max_message_bytes + slack_bytes)
        self._reader = FrameReader(limit_bytes=terms.max_message_bytes, inflate=inflate if writer.deflate else None)
        # The client's input has ended or is no longer valid: the rest is discarded.
        self._ended = False
        # The replies to frames before the end, while they are awaited.
        self._replies: asyncio.Future[None] | None = None
        # The payload of the last ping that is not answered yet because the client does not read.
        self._pending_pong: bytes | None = None

    # Called by upgrade.py, in this order

    def begin(self, transport: asyncio.Transport) -> None:
        """Set the transport's limits, and register the connection."""
        terms = self._terms
        if terms.send_buffer_bytes is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, terms.send_buffer_bytes)
        transport.set_write_buffer_limits(terms.high_water_bytes, terms.low_water_bytes)
        self._server.connections.add(self)
        terms.registry.add(self._writer)

    def greet(self, head: bytes) -> None:
        """Send the answer to the handshake, and behind it what the peer writes when it learns of the connection."""
        writer = self._writer
        # uvloop sends each write at once while nothing waits: two of them would be two packets.
        writer._hold(head)  # noqa: SLF001  # see eof_received
        try:
            if self._peer is not None:
                self._peer.opened(writer)
        except Exception:
            log.exception("a peer raised")
            writer._release()  # noqa: SLF001
            self._fail(Violation(_INTERNAL_ERROR, ""))
        else:
            writer._release()  # noqa: SLF001

    def replay(self, early: bytes) -> None:
        """Process what the client sent before the handshake was answered."""
        if early:
            self._process(self._parser.feed(early))

    # Called by the event loop

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return the buffer to read into."""
        return DISCARD_BUFFER if self._ended or self._peer is None else self._parser.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Process what was read into the buffer."""
        if not self._ended and self._peer is not None:
            self._process(self._parser.buffer_updated(nbytes))

    def eof_received(self) -> bool:
        """Close the socket once the client's frames are answered, at the latest after LINGER_S."""
        if not self._ended and self._peer is not None:
            self._end_after_replies(self._close_socket)
        if self._replies is not None:
            # The transport stays open for the answers.
            return True
        self._writer._linger()  # noqa: SLF001  # the writer is the connection's sending side
        return False

    def pause_writing(self) -> None:
        """The buffer exceeds the high watermark."""
        self._writer.writable = False
        self._notify(lambda peer: peer.paused())

    def resume_writing(self) -> None:
        """The buffer is below the low watermark again."""
        self._writer.writable = True
        pending, self._pending_pong = self._pending_pong, None
        if pending is not None:
            self._writer.write(frame(PONG, pending))
        self._notify(lambda peer: peer.resumed())

    def connection_lost(self, _exc: Exception | None) -> None:
        """The socket is closed."""
        self._writer._lose()  # noqa: SLF001  # see eof_received
        self._finish()
        self._terms.registry.discard(self._writer)
        self._server.connections.discard(self)

    def shutdown(self) -> None:
        """Close with 1012 (server restart); uvicorn calls this when it stops, and waits for connection_lost."""
        self._writer.close(_SERVICE_RESTART, "the server restarts")

    # Receiving

    def _process(self, frames: list[tuple[int, bytes]]) -> None:
        """Act on the frames that were parsed, then on the rule that the client broke after them, if any."""
        for first, payload in frames:
            self._receive(first, payload)
        violation = self._parser.violation
        if violation is not None:
            self._fail(violation)

    def _receive(self, first: int, payload: bytes) -> None:
        """Validate a frame and act on it."""
        peer, writer = self._peer, self._writer
        if self._ended:
            return
        opcode = first & 0x0F
        if peer is None or not (writer._open or opcode == CLOSE):  # noqa: SLF001  # see eof_received
            # RFC 6455 §1.4: after our Close we only wait for the client's.
            return
        try:
            if first == _WHOLE_TEXT:
                self._reader.receive_text(payload)
                peer.text(payload)
                return
            message = self._reader.receive(
                opcode,
                payload,
                fin=first >= 0x80,
                rsv1=bool(first & 0x40),
                rsv2=bool(first & 0x20),
                rsv3=bool(first & 0x10),
            )
            match message:
                case DataMessage(payload):
                    peer.text(payload)
                case Fragment():
                    peer.control()
                case PingFrame(payload):
                    peer.control()
                    self._pong(payload)
                case PongFrame():
                    peer.control()
                    peer.pong()
                case CloseFrame(code):
                    self._close_received(code)
                case _:
                    assert_never(message)
        except Violation as violation:
            self._fail(violation)
        except Exception:
            log.exception("a peer raised")
            self._fail(Violation(_INTERNAL_ERROR, ""))

    # Closing

    def _pong(self, payload: bytes) -> None:
        if self._writer.writable:
            self._writer.write(frame(PONG, payload))
        else:
            # RFC 6455 §5.5.3: of several pings only the last must be answered, so one pending payload is enough.
            self._pending_pong = payload

    def _close_received(self, code: int | None) -> None:
        """Answer the client's Close unless ours was first, and close the socket (RFC 6455 §7.1.1)."""

        def end() -> None:
            writer = self._writer
            if writer._open:  # noqa: SLF001  # see eof_received
                writer._write_close(close_frame(code), NO_STATUS if code is None else code)  # noqa: SLF001
            self._close_socket()

        self._end_after_replies(end)

    def _close_socket(self) -> None:
        writer = self._writer
        self._finish()
        writer._transport.close()  # noqa: SLF001  # see eof_received
        writer._linger()  # noqa: SLF001

    def _fail(self, violation: Violation) -> None:
        """Fail the connection (RFC 6455 §7.1.7): send a Close with the reason, and discard further input."""

        def end() -> None:
            writer = self._writer
            if writer._open:  # noqa: SLF001  # see eof_received
                writer._write_close(close_frame(violation.code, violation.reason), violation.code)  # noqa: SLF001
            self._finish()
            transport = writer._transport  # noqa: SLF001
            transport.resume_reading()
            # Closing a socket with unread input resets it, and the client may lose the Close: close only our side.
            if transport.can_write_eof():
                with suppress(OSError):
                    transport.write_eof()
            else:
                transport.close()
            writer._linger()  # noqa: SLF001

        if self._peer is not None and not self._ended:
            self._end_after_replies(end)

    def _end_after_replies(self, end: Callable[[], None]) -> None:
        """Let the peer reply to earlier frames, then end the connection."""
        self._ended = True
        replies: Awaitable[None] | None = None
        if self._peer is not None and self._writer._open:  # noqa: SLF001  # see eof_received
            try:
                replies = self._peer.ending()
            except Exception:
                log.exception("a peer raised while its connection was closing")
        if replies is None:
            end()
            return
        self._replies = asyncio.ensure_future(replies)

        def replied(done: asyncio.Future[None]) -> None:
            self._replies = None
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("a peer raised while its connection was closing", exc_info=error)
            if not self._writer._lost:  # noqa: SLF001  # see eof_received
                end()

        self._replies.add_done_callback(replied)

    def _finish(self) -> None:
        """Notify the peer that the connection is closed."""
        peer, self._peer = self._peer, None
        self._pending_pong = None
        if peer is not None:
            try:
                peer.closed(self._writer._code)  # noqa: SLF001  # see eof_received
            except Exception:
                log.exception("a peer raised while its connection was closing")

    def _notify(self, call: Callable[[Peer], None]) -> None:
        if self._peer is None:
            return
        try:
            call(self._peer)
        except Exception:
            log.exception("a peer raised")
            self._fail(Violation(_INTERNAL_ERROR, ""))
