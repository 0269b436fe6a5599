"""
The WebSocket edge: joins uvicorn, which has the port and the request's head, with picows, which cuts out the frames.

What the client may do is judged by core/framing.py; who may connect, and what the messages mean, by the doorkeeper and
the peers that are given. The edge never looks into a message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableSet
from contextlib import suppress
from http import HTTPStatus
from time import perf_counter
from typing import Final, Protocol, assert_never, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from picows import WSAutoPingStrategy, WSFrame, WSListener, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not public: the version is pinned, and tested

from orbital.core.framing import (
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
from orbital.errors import MethodNotAllowed, OrbitalError, Unavailable, UpgradeRequired, ValidationFailed
from orbital.server.deflate import inflate, negotiate

log = logging.getLogger("orbital.server")

LINGER_S: Final = 1.5
"""How long a line that has said Close, or a refusal, stays for the client to take it; then it is cut."""
DECISION_S: Final = 10.0
"""How long a doorkeeper may take; then the handshake is refused with 503."""
TURN_S: Final = 0.005
"""How long handshakes may take of one turn of the loop; one takes about 0.5 ms. When ten thousand clients come back at
once, what the others are sent goes in between."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_READ_BUFFER_BYTES: Final = 2048
_SERVICE_RESTART: Final = 1012
_INTERNAL_ERROR: Final = 1011


# What the edge talks with


class Headers(Mapping[str, str]):
    """A request's headers by name, whatever its case; a repeated one is joined by commas."""

    __slots__ = ("_by_name",)

    def __init__(self, by_lower_name: dict[str, str]) -> None:
        self._by_name = by_lower_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        # A token may stand in a value, and whoever logs this would log the token.
        return f"Headers({sorted(self._by_name)})"


class Handshake(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """
    A request that asks for an upgrade, before anything is decided.

    Attributes:
        method: GET, unless it was refused.
        path: Percent-decoded, without the query.
        query: The first value of each name, percent-decoded.
        headers: By name, whatever its case.
        peer: The address and port at the other end of the socket; None for a Unix socket.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    peer: tuple[str, int] | None

    def __repr__(self) -> str:
        # Query and headers may carry a token.
        return f"Handshake({self.method} {self.path} from {self.peer})"


class Refuse(msgspec.Struct, frozen=True):
    """
    No: a plain HTTP answer, after which the line is closed.

    Attributes:
        status: 400 or above.
        body: The JSON error body.
        headers: More of them; `content-type`, `content-length` and `connection` are the edge's.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Peer(Protocol):
    """
    One connection's conversation. The edge calls it on the loop; nothing here waits.

    `opened` comes first, and if it came, `closed` comes last, once. An exception ends the connection with 1011.
    """

    def opened(self, line: Line) -> None:
        """The client has been answered 101; what is written now goes out right behind it."""

    def text(self, payload: bytes) -> None:
        """One whole text message came: valid UTF-8, inflated, within the limit."""

    def control(self) -> None:
        """A ping, a pong, or a fragment that does not end its message came: what a rate limit counts beside texts."""

    def pong(self) -> None:
        """A WebSocket pong came; `control` was called for it, too."""

    def paused(self) -> None:
        """More than high water is buffered: write no more for now. May be called from within `Line.write`."""

    def resumed(self) -> None:
        """Less than low water is buffered."""

    def ending(self) -> None:
        """A Close is about to be sent because of what came: what waits to be written can be written now."""

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


class Admit(msgspec.Struct, frozen=True):
    """
    Yes.

    Attributes:
        peer: The conversation to open. If the client has gone meanwhile, it is never opened.
        subprotocol: What to answer as `Sec-WebSocket-Protocol`; must be one that was offered.
    """

    peer: Peer
    subprotocol: str | None = None


class Doorkeeper(Protocol):
    """Decides who gets in. Asked twice: first for the path, and when the upgrade is a good one, for the rest."""

    def route(self, path: str) -> Refuse | None:
        """Refuse a path that does not exist; None lets it pass."""

    def decide(self, handshake: Handshake) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """
        Decide about a handshake.

        What is awaited is cancelled when the client goes away, or when it takes more than DECISION_S.
        """


def refusal(error: OrbitalError) -> Refuse:
    """Say no with an error of the table."""
    return Refuse(error.status, error.body(), tuple(error.headers.items()))


class Line:
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
            wire: Frames as core/framing.py and server/deflate.py make them.
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


# The request


class _ServerState(Protocol):
    """What the edge uses of uvicorn's ServerState."""

    connections: MutableSet[object]
    """On its stop uvicorn calls `shutdown` of each, and waits until it is empty."""
    default_headers: list[tuple[bytes, bytes]]
    """For every answer; the date."""


class _Turnstile:
    """
    Lets handshakes pass in the order in which they came, a few in each turn of the loop.

    It never lets one pass in the call that brought it.
    """

    __slots__ = ("_turning", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def enter(self, begin: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Call `begin` when its turn has come."""
        self._waiting.append(begin)
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not loop.time(): uvloop's stands still within a turn.
        until = perf_counter() + TURN_S
        while self._waiting:
            begin = self._waiting.popleft()
            try:
                begin()
            except Exception:
                log.exception("a handshake failed")
            if perf_counter() >= until:
                loop.call_soon(self._turn, loop)
                return
        self._turning = False


class _Edge(msgspec.Struct, frozen=True):
    """What `websocket_protocol` was given."""

    doorkeeper: Doorkeeper
    max_message_bytes: int
    high_water_bytes: int
    low_water_bytes: int
    send_buffer_bytes: int | None
    deflate: bool
    binary: bool
    registry: MutableSet[Line]
    turnstile: _Turnstile


def websocket_protocol(
    doorkeeper: Doorkeeper,
    *,
    registry: MutableSet[Line],
    max_message_bytes: int = 65536,
    high_water_bytes: int = 65536,
    low_water_bytes: int = 16384,
    send_buffer_bytes: int | None = 65536,
    deflate: bool = True,
    binary: bool = False,
) -> type[asyncio.Protocol]:
    """
    Make what uvicorn takes as `ws=`.

    Args:
        doorkeeper: Decides about each handshake.
        registry: Holds the lines that are open, from before `Peer.opened` until the socket is closed.
        max_message_bytes: Most bytes of a client's message, inflated; more is 1009.
        high_water_bytes: Above this many unsent bytes a line is not writable.
        low_water_bytes: Below this it is again.
        send_buffer_bytes: The operating system's own buffer for each connection (it takes up to twice as much); None
            leaves it to the system, which lets it grow to megabytes for a client that does not read.
        deflate: Whether permessage-deflate is taken when offered.
        binary: Whether binary messages are taken, by peers that are a BinaryPeer; else they are refused with 1003.
    """
    edge = _Edge(
        doorkeeper=doorkeeper,
        max_message_bytes=max_message_bytes,
        high_water_bytes=high_water_bytes,
        low_water_bytes=low_water_bytes,
        send_buffer_bytes=send_buffer_bytes,
        deflate=deflate,
        binary=binary,
        registry=registry,
        turnstile=_Turnstile(),
    )

    class Gate(_Gate):
        """The gate of this edge; uvicorn wants a class."""

        __slots__ = ()

        def __init__(self, config: object, server_state: _ServerState, app_state: object) -> None:  # noqa: ARG002
            super().__init__(edge, server_state)

    return Gate


class _Gate(asyncio.Protocol):
    """
    Stands for a connection from uvicorn's handing over until the decision.

    Reading goes on meanwhile, so that a client that leaves is noticed; what it sends too early is kept. What comes in
    one piece with the request is lost in uvicorn: RFC 6455 §4.1 lets no client send before it has been answered.
    """

    __slots__ = ("_awaited", "_early", "_edge", "_head", "_loop", "_server", "_timer", "_transport")

    def __init__(self, edge: _Edge, server_state: _ServerState) -> None:
        self._edge = edge
        self._server = server_state
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._early = bytearray()
        self._awaited: asyncio.Future[Admit | Refuse] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What uvicorn and the loop call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport."""
        # uvicorn hands over stream transports only; uvloop's inherit from no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take the head, which uvicorn puts together again and hands over in one piece; keep what comes after it."""
        if not self._head:
            self._head = data
            # uvicorn sets the gate as the transport's protocol right after this call: nothing else may be set before.
            self._edge.turnstile.enter(self._begin, self._loop)
            return
        self._early += data
        if len(self._early) > self._edge.max_message_bytes and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """A client that stops sending now has left: let the transport close."""

    def pause_writing(self) -> None:
        """A refusal is short."""

    def resume_writing(self) -> None:
        """A refusal is short."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the loop's signature
        """Give up the decision: there is nobody to tell."""
        self._transport = None
        self._server.connections.discard(self)
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self) -> None:
        """Refuse what is not decided; uvicorn calls this when it stops."""
        self._forget()
        self._refuse(refusal(Unavailable("The server is going down; try again in a moment.")))

    # The decision

    def _begin(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            verdict = self._judge(self._transport)
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            verdict = _answer(error)
        if isinstance(verdict, Admit | Refuse):
            self._act(verdict)
            return
        self._awaited = asyncio.ensure_future(verdict)
        self._awaited.add_done_callback(self._decided)
        self._timer = self._loop.call_later(DECISION_S, self._late)

    def _judge(self, transport: asyncio.Transport) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """Check in the protocol's order: path, upgrade, and the rest by the doorkeeper."""
        method, target, headers = _parse_head(self._head)
        path, query = _parse_target(target)
        if (refused := self._edge.doorkeeper.route(path)) is not None:
            return refused
        if method != "GET":
            no = refusal(MethodNotAllowed("A WebSocket is opened with GET."))
            # RFC 9110 §15.5.6: say what would be allowed.
            return Refuse(no.status, no.body, (*no.headers, ("allow", "GET")))
        _check_upgrade(headers)
        address = transport.get_extra_info("peername")
        peer = (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
        return self._edge.doorkeeper.decide(Handshake(method, path, query, Headers(headers), peer))

    def _decided(self, awaited: asyncio.Future[Admit | Refuse]) -> None:
        if awaited is not self._awaited:
            # It was given up: the client has its answer, or has gone. What it still came to is of no interest.
            if not awaited.cancelled():
                awaited.exception()
            return
        self._awaited = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = asyncio.CancelledError() if awaited.cancelled() else awaited.exception()
        self._act(awaited.result() if error is None else _answer(error))

    def _late(self) -> None:
        self._timer = None
        self._forget()
        self._refuse(refusal(Unavailable("The server is too busy; try again in a moment.")))

    def _forget(self) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.cancel()

    def _act(self, verdict: Admit | Refuse) -> None:
        transport = self._transport
        if isinstance(verdict, Refuse):
            self._refuse(verdict)
        elif transport is not None and not transport.is_closing():
            try:
                self._open(transport, verdict)
            except Exception:
                # Half of it may have happened, so no answer can be trusted to be the first.
                log.exception("a connection could not be opened")
                transport.abort()

    def _refuse(self, refused: Refuse) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        lines = [f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}".encode()]
        lines += [b"%b: %b" % header for header in self._server.default_headers]
        lines += [
            f"{name}: {value}".encode("latin-1")
            for name, value in refused.headers
            if name.lower() not in {"connection", "content-length", "content-type"}
        ]
        # RFC 9110 §7.8: who sends Upgrade, as a 426 does, names it here.
        upgrade = any(name.lower() == "upgrade" for name, _ in refused.headers)
        lines.append(b"connection: close, upgrade" if upgrade else b"connection: close")
        lines += [b"content-type: application/json", b"content-length: %d" % len(refused.body)]
        body = b"" if self._head.startswith(b"HEAD ") else refused.body
        transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        transport.close()
        # close() waits until all is sent, and a client may never read.
        self._timer = self._loop.call_later(LINGER_S, transport.abort)

    def _open(self, transport: asyncio.Transport, admit: Admit) -> None:
        """Answer 101, and let a connection stand in this gate's place."""
        _, _, headers = _parse_head(self._head)
        key = headers["sec-websocket-key"].encode("latin-1")
        # RFC 6455 §4.2.2.
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        lines = [b"HTTP/1.1 101 Switching Protocols"]
        lines += [b"%b: %b" % header for header in self._server.default_headers]
        lines += [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept]
        if admit.subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + admit.subprotocol.encode("ascii"))
        extensions = headers.get("sec-websocket-extensions")
        taken = negotiate(extensions) if self._edge.deflate and extensions is not None else None
        if taken is not None:
            lines.append(b"Sec-WebSocket-Extensions: " + taken.encode("ascii"))

        line = Line(transport, self._loop, deflate=taken is not None)
        connection = _Connection(self._edge, self._server, line, admit.peer)
        connection.begin(transport)
        self._server.connections.discard(self)
        self._transport = None
        # By the transport, which holds it until the end of the loop's turn: what the peer writes first joins it.
        transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
        transport.set_protocol(connection)
        connection.greet()
        connection.replay(bytes(self._early))
        transport.resume_reading()


def _answer(error: BaseException) -> Refuse:
    """Make an answer of whatever stopped a decision."""
    if isinstance(error, OrbitalError):
        return refusal(error)
    log.error("a handshake could not be decided", exc_info=error)
    return refusal(OrbitalError("Something went wrong on the server's side."))


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Read the head as uvicorn wrote it: method, target, and headers by lower-case name."""
    request, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, _, rest = request.partition(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        # RFC 9110 §5.3: repeated headers are one list.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return method, rest.removesuffix(" HTTP/1.1"), headers


def _parse_target(target: str) -> tuple[str, dict[str, str]]:
    """Read path and query of a request target, in origin or absolute form (RFC 9112 §3.2)."""
    if target.startswith("/"):
        raw_path, _, raw_query = target.partition("?")
    else:
        try:
            parts = urlsplit(target)
        except ValueError:
            raise ValidationFailed("The address of the request cannot be read.", field="path") from None
        raw_path, raw_query = parts.path or "/", parts.query
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query.setdefault(name, value)
    return unquote(raw_path), query


def _check_upgrade(headers: dict[str, str]) -> None:
    """
    Check what RFC 6455 §4.2.1 asks of the client's headers; uvicorn has seen `Upgrade` and `Connection`.

    Raises:
        UpgradeRequired: If the version is another than 13.
        ValidationFailed: If the key or the extensions do not have their form.
    """
    if headers.get("sec-websocket-version") != "13":
        raise UpgradeRequired("Only version 13 of the WebSocket protocol is spoken here (Sec-WebSocket-Version: 13).")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:
        raise ValidationFailed("Sec-WebSocket-Key must be 16 bytes in base64, once.", field="sec-websocket-key")
    try:
        negotiate(headers.get("sec-websocket-extensions", ""))
    except ValueError as error:
        raise ValidationFailed(f"{error}.", field="sec-websocket-extensions") from None


# The connection


class _Silence:
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


_SILENCE: Final = _Silence()
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

    def __init__(self, connection: _Connection, transport: asyncio.Transport) -> None:
        self.connection: _Connection | None = connection
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


class _Connection(WSProtocol):  # type: ignore[misc]  # picows ships no types for it
    """
    One open connection, as the loop sees it.

    picows cuts the stream into frames; here they are judged, RFC 6455 gets its answers, and the peer is told the rest.
    Once the conversation is over, what still comes is read into the waste, so that the client's system does not answer
    our Close with a reset that swallows it.
    """

    __slots__ = ("_ear", "_edge", "_line", "_owed", "_peer", "_reader", "_server")

    def __init__(self, edge: _Edge, server_state: _ServerState, line: Line, peer: Peer) -> None:
        # A message that does not compress is a little longer compressed.
        slack_bytes = 256 + edge.max_message_bytes // 64 if line.deflate else 0
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
            edge.max_message_bytes + slack_bytes,
            None,  # extra_headers
            _READ_BUFFER_BYTES,
        )
        self._edge = edge
        self._server = server_state
        self._line = line
        self._peer: Peer | None = peer
        self._reader = Reader(
            limit_bytes=edge.max_message_bytes, inflate=inflate if line.deflate else None, binary=edge.binary
        )
        self._ear: _Ear | None = None
        # The payload of the last ping that is not answered yet because the client does not read.
        self._owed: bytes | None = None

    # What the gate calls, in this order

    def begin(self, transport: asyncio.Transport) -> None:
        """Let picows believe in a handshake, and set the transport's limits."""
        edge = self._edge
        self._ear = _Ear(self, transport)
        super().connection_made(self._ear)
        self._feed(_HEAD)
        # picows keeps the headers for as long as the connection lives; 400 bytes that nobody reads.
        self.transport.request.headers = self.transport.response.headers = None
        if edge.send_buffer_bytes is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, edge.send_buffer_bytes)
        transport.set_write_buffer_limits(edge.high_water_bytes, edge.low_water_bytes)
        self._server.connections.add(self)
        edge.registry.add(self._line)

    def greet(self) -> None:
        """Open the conversation."""
        self._tell(lambda peer: peer.opened(self._line))

    def replay(self, early: bytes) -> None:
        """Hear what came before the answer."""
        self._feed(early)

    # What the loop calls

    def get_buffer(self, size_hint: int) -> memoryview:
        """Say where to read to."""
        if self._peer is None:
            return _WASTE
        free: memoryview = super().get_buffer(size_hint)
        # Never all of it: picows doubles its buffer when a read has filled nine tenths, whatever is in it, so a flood
        # of small frames would make it grow to what the system buffers. With a quarter kept free, only a frame that
        # takes more than half of the buffer does.
        return free[: len(free) * 3 // 4]

    def buffer_updated(self, nbytes: int) -> None:
        """Hear what was read."""
        ear = self._ear
        if self._peer is None or ear is None:
            return
        super().buffer_updated(nbytes)
        if ear.fault is not None:
            self._fail(ear.fault)

    def eof_received(self) -> bool:
        """The client will say nothing more: end the line, but not without an end to waiting for it to read."""
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
        self._edge.registry.discard(self._line)
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
        opcode = cast("int", came.msg_type)  # an IntEnum, whatever picows' stubs say
        if peer is None or not (line._open or opcode == CLOSE):  # noqa: SLF001  # see eof_received
            # RFC 6455 §1.4: after our Close we only wait for theirs.
            return
        try:
            said = self._reader.hear(
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
        line = self._line
        self._last_words()
        if line._open:  # noqa: SLF001  # see eof_received
            line._say_close(close_frame(code), NO_STATUS if code is None else code)  # noqa: SLF001
        self._finish()
        line._transport.close()  # noqa: SLF001
        line._linger()  # noqa: SLF001

    def _fail(self, violation: Violation) -> None:
        """Fail the connection (RFC 6455 §7.1.7): say why, and hear nothing more."""
        line = self._line
        if self._peer is None:
            return
        self._last_words()
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

    def _last_words(self) -> None:
        """Let the peer write the answers to the frames before the last one."""
        if self._peer is not None and self._line._open:  # noqa: SLF001  # see eof_received
            try:
                self._peer.ending()
            except Exception:
                log.exception("a peer failed at its end")

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
