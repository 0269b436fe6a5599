"""
One open WebSocket connection: picows cuts out the frames, the client's are judged, its peer is told the rest.

What a client may do is judged by core/framing.py; what the messages mean, by the peer. The edge never looks into one.
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
    Close,
    Fragment,
    Message,
    Ping,
    Pong,
    Reader,
    Violation,
    close_frame,
    frame,
)
from orbital_relay.server.edge.deflate import inflate

log = logging.getLogger("orbital.server")

LINGER_S: Final = 1.5
"""How long a line that has said Close, or a refusal, stays for the client to take it; then it is cut."""

_READ_BUFFER_BYTES: Final = 2048
_SERVICE_RESTART: Final = 1012
_INTERNAL_ERROR: Final = 1011


# What the edge talks with


class Peer(Protocol):
    """
    One connection's conversation. The edge calls it on the loop; nothing here waits.

    `opened` comes first, and if it came, `closed` comes last, once. An exception ends the connection with 1011.
    """

    def opened(self, line: SocketWriter) -> None:
        """The client has been answered 101; what is written now goes out right behind it."""

    def text(self, payload: bytes) -> None:
        """One whole text message came: valid UTF-8, inflated, within the limit."""

    def control(self) -> None:
        """A ping, a pong, or a fragment that does not end its message came: what a rate limit counts beside texts."""

    def pong(self) -> None:
        """A WebSocket pong came; `control` was called for it, too."""

    def paused(self) -> None:
        """More than high water is buffered: write no more for now. May be called from within `SocketWriter.write`."""

    def resumed(self) -> None:
        """Less than low water is buffered."""

    def ending(self) -> Awaitable[None] | None:
        """
        The client has said its last: a Close, something that breaks a rule, or the end of its side of the socket.

        What waits to be written can be written now. If frames before the end are still to be answered, what is returned
        is awaited before the Close is sent; it has to end by itself. None when nothing is owed.
        """

    def closed(self, code: int | None) -> None:
        """
        The conversation is over: nothing that is written from now on goes out.

        Args:
            code: The close code that was received or sent, whichever was first; 1005 when a Close had none, None when
                the line was cut.
        """


class BinaryPeer(Peer, Protocol):
    """A peer of an edge that takes binary messages."""

    def binary(self, payload: bytes) -> None:
        """One whole binary message came."""


class SocketWriter:
    """
    What a peer may do with its connection.

    A line never holds a message back and never drops one: while it is not `writable` the peer has to stop by itself.
    """

    __slots__ = ("_code", "_lingering", "_loop", "_lost", "_open", "_transport", "deflate", "writable")

    deflate: bool
    """Whether permessage-deflate was negotiated: compressed frames are understood."""
    writable: bool
    """False between `paused` and `resumed`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, deflate: bool) -> None:
        self._transport = transport
        self._loop = loop
        self._open = True  # No Close was sent or received: data may go out.
        self._lost = False  # The transport has gone.
        self._code: int | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.deflate = deflate
        self.writable = True

    @property
    def buffered_bytes(self) -> int:
        """What has been written and is not yet with the operating system."""
        return 0 if self._lost else self._transport.get_write_buffer_size()

    def write(self, wire: bytes) -> None:
        """
        Send the bytes of one or more whole frames; after a Close they go nowhere.

        Args:
            wire: Frames as core/framing.py and server/edge/deflate.py make them.
        """
        if self._open:
            # Not past uvloop to the socket: os.write and send cost the same within the noise (50 and 900 idle sockets,
            # 400 bytes to 30 kB), and the transport joins what one turn of the loop writes.
            self._transport.write(wire)

    def close(self, code: int, reason: str = "") -> None:
        """
        Send a Close frame, and end the line when the client has answered it or LINGER_S are over.

        Args:
            code: One that may stand in a frame.
            reason: Cut to 123 bytes of UTF-8.

        Raises:
            ValueError: If the code may not stand in a frame.
        """
        if not self._open:
            return
        wire = close_frame(code, reason)
        self._say_close(wire, code)
        # The client's own Close is yet to be read.
        self._transport.resume_reading()
        self._linger()

    def abort(self) -> None:
        """Cut the line at once; what is buffered is lost."""
        self._open = False
        if not self._lost:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Leave what the client sends with the operating system, so that it has to slow down; what is read is told."""
        if self._open:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._open:
            self._transport.resume_reading()

    # For the connection

    def _say_close(self, wire: bytes, code: int) -> None:
        """Send the one Close frame; nothing goes out after it (RFC 6455 §5.5.1)."""
        self._open = False
        self._code = code
        self._transport.write(wire)

    def _linger(self) -> None:
        """Cut the line in LINGER_S, if it has not ended by itself until then."""
        if self._lingering is None and not self._lost:
            self._lingering = self._loop.call_later(LINGER_S, self._transport.abort)

    def _lose(self) -> None:
        """Touch the transport no more."""
        self._open = False
        self._lost = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None


# What a connection is given


class ServerState(Protocol):
    """What the edge uses of uvicorn's ServerState."""

    connections: MutableSet[object]
    """On its stop uvicorn calls `shutdown` of each, and waits until it is empty."""
    default_headers: list[tuple[bytes, bytes]]
    """For every answer; the date."""


class Terms(msgspec.Struct, frozen=True):
    """What holds for every connection of an edge; `gate.websocket_protocol` explains each."""

    max_message_bytes: int
    high_water_bytes: int
    low_water_bytes: int
    send_buffer_bytes: int | None
    binary: bool
    registry: MutableSet[SocketWriter]


# The connection


class _NullLogger:
    """
    A log for picows that costs nothing: with a logging.Logger it makes a child logger for each connection.

    Only what it does not understand itself is worth a line.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: ARG002, N802  # logging's signature
        return False

    def exception(self, message: str, *args: object) -> None:
        log.exception("picows failed: %s", message % args)  # noqa: LOG004  # picows calls it in its handlers

    def _nothing(self, *args: object) -> None:
        """A client that breaks a rule is told so by its Close frame."""

    debug = info = warning = error = log = _nothing


_SILENCE: Final = _NullLogger()
# What picows wants to see before it reads frames; the real request was judged and answered by the gate.
_HEAD: Final = (
    b"GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_WASTE: Final = memoryview(bytearray(65536))
"""Where all connections read what nobody will look at."""


class _Ear(WSListener):
    """
    What picows hears the world through: its listener, and its transport too.

    picows writes to a transport when it does not like a frame: a Close with code and reason. Here it is caught, not
    sent: picows reads one frame ahead, so the frame before the bad one is still to come, and it counts.
    """

    __slots__ = ("connection", "fault", "transport")

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self.connection: Connection | None = connection
        self.transport = transport
        self.fault: Violation | None = None

    # As the listener

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002  # picows' signature
        """Pass a frame on."""
        if self.connection is not None:
            self.connection.heard(frame)

    # As the transport

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Ask the real one."""
        return self.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Pretend to be busy, or picows would send to the socket past us."""
        return 1

    def write(self, data: bytes) -> None:
        """Catch a Close; the answer to the head that was made up goes nowhere."""
        if data[0] == 0x80 | CLOSE:
            # The length has one byte: a control frame has no other.
            self.fault = Violation(int.from_bytes(data[2:4], "big"), bytes(data[4:]).decode(errors="replace"))

    def close(self) -> None:
        """When the line ends is not picows' to decide."""


class Connection(WSProtocol):  # type: ignore[misc]  # picows ships no types for it
    """
    One open connection, as the loop sees it.

    picows cuts the stream into frames; here they are judged, RFC 6455 gets its answers, and the peer is told the rest.
    Once the conversation is over, what still comes is read into the waste, so that the client's system does not answer
    our Close with a reset that swallows it.
    """

    __slots__ = ("_deaf", "_ear", "_line", "_owed", "_parting", "_peer", "_reader", "_server", "_terms")

    def __init__(self, terms: Terms, server_state: ServerState, line: SocketWriter, peer: Peer) -> None:
        # A message that does not compress is a little longer compressed.
        slack_bytes = 256 + terms.max_message_bytes // 64 if line.deflate else 0
        super().__init__(
            None,  # host_port, for clients
            None,  # ws_path, for clients
            False,  # is_client_side
            self._listener,
            _SILENCE,
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
        self._line = line
        self._peer: Peer | None = peer
        self._reader = Reader(
            limit_bytes=terms.max_message_bytes, inflate=inflate if line.deflate else None, binary=terms.binary
        )
        self._ear: _Ear | None = None
        # The client has said its last: nothing more is heard.
        self._deaf = False
        # The answers to frames before the end, while they are awaited.
        self._parting: asyncio.Future[None] | None = None
        # The payload of the last ping that is not answered yet because the client does not read.
        self._owed: bytes | None = None

    # What the gate calls, in this order

    def begin(self, transport: asyncio.Transport) -> None:
        """Let picows believe in a handshake, and set the transport's limits."""
        terms = self._terms
        self._ear = _Ear(self, transport)
        super().connection_made(self._ear)
        self._feed(_HEAD)
        # picows keeps the headers for as long as the connection lives; 400 bytes that nobody reads.
        self.transport.request.headers = self.transport.response.headers = None
        if terms.send_buffer_bytes is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, terms.send_buffer_bytes)
        transport.set_write_buffer_limits(terms.high_water_bytes, terms.low_water_bytes)
        self._server.connections.add(self)
        terms.registry.add(self._line)

    def greet(self) -> None:
        """Open the conversation."""
        self._tell(lambda peer: peer.opened(self._line))

    def replay(self, early: bytes) -> None:
        """Hear what came before the answer."""
        self._feed(early)

    # What the loop calls

    def get_buffer(self, size_hint: int) -> memoryview:
        """Say where to read to."""
        if self._peer is None or self._deaf:
            return _WASTE
        free: memoryview = super().get_buffer(size_hint)
        # Never all of it: picows doubles its buffer when a read has filled nine tenths, whatever is in it, so a flood
        # of small frames would make it grow to what the system buffers. With a quarter kept free, only a frame that
        # takes more than half of the buffer does.
        return free[: len(free) * 3 // 4]

    def buffer_updated(self, nbytes: int) -> None:
        """Hear what was read."""
        ear = self._ear
        if self._peer is None or ear is None or self._deaf:
            return
        super().buffer_updated(nbytes)
        if ear.fault is not None:
            self._fail(ear.fault)

    def eof_received(self) -> bool:
        """End the line once what the client said is answered, and not later than it takes to find that it reads."""
        if not self._deaf and self._peer is not None:
            self._part(self._hang_up)
        if self._parting is not None:
            # The transport stays open for the answers.
            return True
        self._line._linger()  # noqa: SLF001  # a line and its connection are one thing with two faces
        return False

    def pause_writing(self) -> None:
        """The buffer has passed high water."""
        self._line.writable = False
        self._tell(lambda peer: peer.paused())

    def resume_writing(self) -> None:
        """The buffer is below low water again."""
        self._line.writable = True
        owed, self._owed = self._owed, None
        if owed is not None:
            self._line.write(frame(PONG, owed))
        self._tell(lambda peer: peer.resumed())

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._line._lose()  # noqa: SLF001  # see eof_received
        super().connection_lost(exc)
        self._finish()
        ear, self._ear = self._ear, None
        if ear is not None:
            # Undo the ring of references, so that a connection's memory does not wait for the collector.
            ear.connection = None
        self._terms.registry.discard(self._line)
        self._server.connections.discard(self)

    def shutdown(self) -> None:
        """Say that the server restarts; uvicorn calls this when it stops, and waits for connection_lost."""
        self._line.close(_SERVICE_RESTART, "the server restarts")

    # What picows calls

    def _listener(self, request: object) -> _Ear | None:  # noqa: ARG002  # picows' signature
        return self._ear

    def heard(self, came: WSFrame) -> None:
        """Judge a frame and act on it."""
        peer, line = self._peer, self._line
        if self._deaf:
            return
        opcode = cast("int", came.msg_type)  # an IntEnum, whatever picows' stubs say
        if peer is None or not (line._open or opcode == CLOSE):  # noqa: SLF001  # see eof_received
            # RFC 6455 §1.4: after our Close we only wait for theirs.
            return
        try:
            said = self._reader.receive(
                opcode,
                came.get_payload_as_bytes(),
                fin=bool(came.fin),
                rsv1=bool(came.rsv1),
                rsv2=bool(came.rsv2),
                rsv3=bool(came.rsv3),
            )
            match said:
                case Message(payload, binary):
                    if binary:
                        cast("BinaryPeer", peer).binary(payload)
                    else:
                        peer.text(payload)
                case Fragment():
                    peer.control()
                case Ping(payload):
                    peer.control()
                    self._pong(payload)
                case Pong():
                    peer.control()
                    peer.pong()
                case Close(code):
                    self._farewell(code)
                case _:
                    assert_never(said)
        except Violation as violation:
            self._fail(violation)
        except Exception:
            log.exception("a peer failed")
            self._fail(Violation(_INTERNAL_ERROR, ""))

    # The rules of ending

    def _pong(self, payload: bytes) -> None:
        if self._line.writable:
            self._line.write(frame(PONG, payload))
        else:
            # RFC 6455 §5.5.3: of several pings only the last must be answered; so one waits, however many come.
            self._owed = payload

    def _farewell(self, code: int | None) -> None:
        """The client said Close: answer it if we have not said so first, and close the socket (RFC 6455 §7.1.1)."""

        def end() -> None:
            line = self._line
            if line._open:  # noqa: SLF001  # see eof_received
                line._say_close(close_frame(code), NO_STATUS if code is None else code)  # noqa: SLF001
            self._hang_up()

        self._part(end)

    def _hang_up(self) -> None:
        line = self._line
        self._finish()
        line._transport.close()  # noqa: SLF001  # see eof_received
        line._linger()  # noqa: SLF001

    def _fail(self, violation: Violation) -> None:
        """Fail the connection (RFC 6455 §7.1.7): say why, and hear nothing more."""

        def end() -> None:
            line = self._line
            if line._open:  # noqa: SLF001  # see eof_received
                line._say_close(close_frame(violation.code, violation.reason), violation.code)  # noqa: SLF001
            self._finish()
            transport = line._transport  # noqa: SLF001
            transport.resume_reading()
            # Closing a socket with unread input resets it, and the client may never see the Close: end only our half.
            if transport.can_write_eof():
                with suppress(OSError):
                    transport.write_eof()
            else:
                transport.close()
            line._linger()  # noqa: SLF001

        if self._peer is not None and not self._deaf:
            self._part(end)

    def _part(self, end: Callable[[], None]) -> None:
        """Let the peer answer the frames before the last one, then end the connection."""
        self._deaf = True
        owed: Awaitable[None] | None = None
        if self._peer is not None and self._line._open:  # noqa: SLF001  # see eof_received
            try:
                owed = self._peer.ending()
            except Exception:
                log.exception("a peer failed at its end")
        if owed is None:
            end()
            return
        self._parting = asyncio.ensure_future(owed)

        def parted(done: asyncio.Future[None]) -> None:
            self._parting = None
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("a peer failed at its end", exc_info=error)
            if not self._line._lost:  # noqa: SLF001  # see eof_received
                end()

        self._parting.add_done_callback(parted)

    def _finish(self) -> None:
        """Tell the peer that it is over."""
        peer, self._peer = self._peer, None
        self._owed = None
        if peer is not None:
            try:
                peer.closed(self._line._code)  # noqa: SLF001  # see eof_received
            except Exception:
                log.exception("a peer failed at its end")

    def _tell(self, what: Callable[[Peer], None]) -> None:
        if self._peer is None:
            return
        try:
            what(self._peer)
        except Exception:
            log.exception("a peer failed")
            self._fail(Violation(_INTERNAL_ERROR, ""))

    def _feed(self, data: bytes) -> None:
        """Give picows bytes as if they had been read just now."""
        while data:
            buffer = self.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]
