"""
One open WebSocket connection: picows parses the frames, `FrameReader` validates them, the peer receives the messages.

core/framing.py enforces RFC 6455; the peer interprets the messages. The edge never parses a message's content.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, MutableSet
from contextlib import suppress
from typing import Final, Protocol, assert_never, cast

import msgspec
from picows import WSAutoPingStrategy, WSFrame, WSListener, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not public: the version is pinned, and tested

from orbital_relay.core.framing import (
    CLOSE,
    NO_STATUS,
    PONG,
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

log = logging.getLogger("orbital.server")

LINGER_S: Final = 1.5
"""How long a connection stays open after a Close or a refusal, so that the client can read it; then it is aborted."""

_READ_BUFFER_BYTES: Final = 2048
_SERVICE_RESTART: Final = 1012
_INTERNAL_ERROR: Final = 1011


# The application's side of a connection


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
        """A WebSocket pong was received; `control` was called for it, too."""

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


class BinaryPeer(Peer, Protocol):
    """A peer of an edge that accepts binary messages."""

    def binary(self, payload: bytes) -> None:
        """A complete binary message was received."""


class SocketWriter:
    """
    The sending side of a connection, for its peer.

    It never delays and never drops a message: while it is not `writable`, the peer has to stop by itself.
    """

    __slots__ = ("_code", "_lingering", "_loop", "_lost", "_open", "_transport", "deflate", "writable")

    deflate: bool
    """Whether permessage-deflate was negotiated, so that the client understands compressed frames."""
    writable: bool
    """False between `paused` and `resumed`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, deflate: bool) -> None:
        self._transport = transport
        self._loop = loop
        self._open = True  # No Close was sent or received: data may go out.
        self._lost = False  # The transport is closed.
        self._code: int | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.deflate = deflate
        self.writable = True

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were written and not yet passed to the operating system."""
        return 0 if self._lost else self._transport.get_write_buffer_size()

    def write(self, wire: bytes) -> None:
        """
        Send the bytes of one or more complete frames; after a Close they are discarded.

        Args:
            wire: Frames as core/framing.py and server/edge/deflate.py make them.
        """
        if self._open:
            # Not past uvloop to the socket: os.write and send cost the same within the noise (50 and 900 idle sockets,
            # 400 bytes to 30 kB), and the transport joins what one turn of the loop writes.
            self._transport.write(wire)

    def close(self, code: int, reason: str = "") -> None:
        """
        Send a Close frame, and close the socket when the client has answered it or after LINGER_S.

        Args:
            code: One that may stand in a frame.
            reason: Cut to 123 bytes of UTF-8.

        Raises:
            ValueError: If the code may not stand in a frame.
        """
        if not self._open:
            return
        wire = close_frame(code, reason)
        self._write_close(wire, code)
        # The client's own Close is yet to be read.
        self._transport.resume_reading()
        self._linger()

    def abort(self) -> None:
        """Abort the connection at once; what is buffered is lost."""
        self._open = False
        if not self._lost:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading from the socket, so that TCP slows the client down; what was read before is still delivered."""
        if self._open:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        if self._open:
            self._transport.resume_reading()

    # For the connection

    def _write_close(self, wire: bytes, code: int) -> None:
        """Send the one Close frame; nothing is sent after it (RFC 6455 §5.5.1)."""
        self._open = False
        self._code = code
        self._transport.write(wire)

    def _linger(self) -> None:
        """Abort the connection in LINGER_S, unless it is closed by then."""
        if self._lingering is None and not self._lost:
            self._lingering = self._loop.call_later(LINGER_S, self._transport.abort)

    def _lose(self) -> None:
        """Never use the transport again: it is closed."""
        self._open = False
        self._lost = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None


# What a connection is given


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
    binary: bool
    registry: MutableSet[SocketWriter]


# The connection


class _NullLogger:
    """
    A null logger for picows, which makes a child logger for each connection if it has a logging.Logger.

    Only an exception that picows does not handle itself is logged.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: ARG002, N802  # logging's signature
        return False

    def exception(self, message: str, *args: object) -> None:
        log.exception("picows failed: %s", message % args)  # noqa: LOG004  # picows calls it in its handlers

    def _nothing(self, *args: object) -> None:
        """Log nothing: a client that violates the protocol gets the reason in its Close frame."""

    debug = info = warning = error = log = _nothing


_NULL_LOGGER: Final = _NullLogger()
# The request that picows expects before it parses frames; upgrade.py has validated and answered the real one.
_HEAD: Final = (
    b"GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_DISCARD_BUFFER: Final = memoryview(bytearray(65536))
"""The buffer into which all connections read what they discard."""


class _PicowsAdapter(WSListener):
    """
    The adapter between picows and a connection: it is picows' listener and its transport.

    When picows rejects a frame, it writes a Close with code and reason to its transport. The adapter keeps that Close
    and does not send it: picows reads one frame ahead, so the valid frame before the bad one has yet to be delivered.
    """

    __slots__ = ("connection", "fault", "transport")

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self.connection: Connection | None = connection
        self.transport = transport
        self.fault: Violation | None = None

    # As the listener

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002  # picows' signature
        """Pass a frame to the connection."""
        if self.connection is not None:
            self.connection.frame_received(frame)

    # As the transport

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the real transport returns."""
        return self.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return 1, so that picows does not write to the socket directly."""
        return 1

    def write(self, data: bytes) -> None:
        """Keep a Close; discard the response to the forged handshake."""
        if data[0] == 0x80 | CLOSE:
            # The length has one byte: a control frame has no other.
            self.fault = Violation(int.from_bytes(data[2:4], "big"), bytes(data[4:]).decode(errors="replace"))

    def close(self) -> None:
        """Do nothing: the connection decides when its socket is closed."""


class Connection(WSProtocol):  # type: ignore[misc]  # picows ships no types for it
    """
    The asyncio protocol of one open connection.

    picows parses the stream into frames; this class validates them, sends what RFC 6455 demands (Pong, Close), and
    passes the messages to the peer. After the end, input is read and discarded: closing a socket with unread input
    resets the connection, and the client may lose our Close.
    """

    __slots__ = ("_adapter", "_ended", "_peer", "_pending_pong", "_reader", "_replies", "_server", "_terms", "_writer")

    def __init__(self, terms: Terms, server_state: ServerState, writer: SocketWriter, peer: Peer) -> None:
        # A message that does not compress is a little longer compressed.
        slack_bytes = 256 + terms.max_message_bytes // 64 if writer.deflate else 0
        super().__init__(
            None,  # host_port, for clients
            None,  # ws_path, for clients
            False,  # is_client_side
            self._listener,
            _NULL_LOGGER,
            True,  # disconnect_on_exception
            None,  # websocket_handshake_timeout: the handshake is done
            False,  # enable_auto_ping: the heartbeat is the peer's
            None,  # auto_ping_idle_timeout
            None,  # auto_ping_reply_timeout
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong: ours is bounded
            terms.max_message_bytes + slack_bytes,
            None,  # extra_headers
            _READ_BUFFER_BYTES,
        )
        self._terms = terms
        self._server = server_state
        self._writer = writer
        self._peer: Peer | None = peer
        self._reader = FrameReader(
            limit_bytes=terms.max_message_bytes, inflate=inflate if writer.deflate else None, binary=terms.binary
        )
        self._adapter: _PicowsAdapter | None = None
        # The client's input has ended or is no longer valid: the rest is discarded.
        self._ended = False
        # The replies to frames before the end, while they are awaited.
        self._replies: asyncio.Future[None] | None = None
        # The payload of the last ping that is not answered yet because the client does not read.
        self._pending_pong: bytes | None = None

    # Called by upgrade.py, in this order

    def begin(self, transport: asyncio.Transport) -> None:
        """Feed picows the forged handshake, and set the transport's limits."""
        terms = self._terms
        self._adapter = _PicowsAdapter(self, transport)
        super().connection_made(self._adapter)
        self._feed(_HEAD)
        # picows keeps the headers for as long as the connection is open; 400 bytes that nobody reads.
        self.transport.request.headers = self.transport.response.headers = None
        if terms.send_buffer_bytes is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, terms.send_buffer_bytes)
        transport.set_write_buffer_limits(terms.high_water_bytes, terms.low_water_bytes)
        self._server.connections.add(self)
        terms.registry.add(self._writer)

    def greet(self) -> None:
        """Notify the peer that the connection is open."""
        self._notify(lambda peer: peer.opened(self._writer))

    def replay(self, early: bytes) -> None:
        """Process what the client sent before the handshake was answered."""
        self._feed(early)

    # Called by the event loop

    def get_buffer(self, size_hint: int) -> memoryview:
        """Return the buffer to read into."""
        if self._peer is None or self._ended:
            return _DISCARD_BUFFER
        free: memoryview = super().get_buffer(size_hint)
        # Never all of it: picows doubles its buffer when a read has filled nine tenths of it, whatever it contains, so
        # a flood of small frames would grow it to the size of the system's buffer. With a quarter kept free, only a
        # frame that takes more than half of the buffer makes it grow.
        return free[: len(free) * 3 // 4]

    def buffer_updated(self, nbytes: int) -> None:
        """Process what was read into the buffer."""
        adapter = self._adapter
        if self._peer is None or adapter is None or self._ended:
            return
        super().buffer_updated(nbytes)
        if adapter.fault is not None:
            self._fail(adapter.fault)

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

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._writer._lose()  # noqa: SLF001  # see eof_received
        super().connection_lost(exc)
        self._finish()
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            # Break the reference cycle, so that a connection's memory does not wait for the garbage collector.
            adapter.connection = None
        self._terms.registry.discard(self._writer)
        self._server.connections.discard(self)

    def shutdown(self) -> None:
        """Close with 1012 (server restart); uvicorn calls this when it stops, and waits for connection_lost."""
        self._writer.close(_SERVICE_RESTART, "the server restarts")

    # Called by picows

    def _listener(self, request: object) -> _PicowsAdapter | None:  # noqa: ARG002  # picows' signature
        return self._adapter

    def frame_received(self, received: WSFrame) -> None:
        """Validate a frame and act on it."""
        peer, writer = self._peer, self._writer
        if self._ended:
            return
        opcode = cast("int", received.msg_type)  # an IntEnum, whatever picows' stubs say
        if peer is None or not (writer._open or opcode == CLOSE):  # noqa: SLF001  # see eof_received
            # RFC 6455 §1.4: after our Close we only wait for the client's.
            return
        try:
            message = self._reader.receive(
                opcode,
                received.get_payload_as_bytes(),
                fin=bool(received.fin),
                rsv1=bool(received.rsv1),
                rsv2=bool(received.rsv2),
                rsv3=bool(received.rsv3),
            )
            match message:
                case DataMessage(payload, binary):
                    if binary:
                        cast("BinaryPeer", peer).binary(payload)
                    else:
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

    def _feed(self, data: bytes) -> None:
        """Pass bytes to picows as if they had just been read."""
        while data:
            buffer = self.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]
