"""
The WebSocket upgrade: takes the connection over from uvicorn; the handshake queue.

Who may connect is decided by admission; here handshakes queue for it, get its answer, and become a connection.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableSet
from http import HTTPStatus
from time import perf_counter
from typing import Final

import msgspec

from orbital_relay.errors import MethodNotAllowed, OrbitalError, Unavailable
from orbital_relay.server.edge.connection import Connection, ServerState, Terms
from orbital_relay.server.edge.deflate import negotiate
from orbital_relay.server.edge.handshake import (
    Admit,
    Handshake,
    HandshakeAdmission,
    Headers,
    Refuse,
    check_upgrade,
    parse_target,
    read_headers,
    refusal,
)
from orbital_relay.server.edge.request_head import request_id
from orbital_relay.server.edge.socket_writer import LINGER_S, SocketWriter

log = logging.getLogger("orbital.server")

DECISION_S: Final = 10.0
"""How long admission may take; then the handshake is refused with 503."""
TURN_S: Final = 0.005
"""How long handshakes may take of one turn of the loop; one takes about 0.5 ms. When ten thousand clients come back at
once, what the others are sent goes in between."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def websocket_protocol(
    admission: HandshakeAdmission,
    *,
    registry: MutableSet[SocketWriter],
    max_message_bytes: int = 65536,
    high_water_bytes: int = 65536,
    low_water_bytes: int = 16384,
    send_buffer_bytes: int | None = 65536,
    deflate: bool = True,
) -> type[asyncio.Protocol]:
    """
    Make what uvicorn takes as `ws=`.

    Args:
        admission: Decides about each handshake.
        registry: Holds the lines that are open, from before `Peer.opened` until the socket is closed.
        max_message_bytes: Most bytes of a client's message, inflated; more is 1009.
        high_water_bytes: Above this many unsent bytes a line is not writable.
        low_water_bytes: Below this it is again.
        send_buffer_bytes: The operating system's own buffer for each connection (it takes up to twice as much); None
            leaves it to the system, which lets it grow to megabytes for a client that does not read.
        deflate: Whether permessage-deflate is taken when offered.
    """
    terms = Terms(
        max_message_bytes=max_message_bytes,
        high_water_bytes=high_water_bytes,
        low_water_bytes=low_water_bytes,
        send_buffer_bytes=send_buffer_bytes,
        registry=registry,
    )
    edge = _Edge(admission=admission, deflate=deflate, terms=terms, handshakes=_HandshakeQueue())

    class WebSocketUpgrade(_UpgradeProtocol):
        """The protocol class of this edge, since uvicorn takes a class."""

        __slots__ = ()

        def __init__(self, config: object, server_state: ServerState, app_state: object) -> None:  # noqa: ARG002
            super().__init__(edge, server_state)

    return WebSocketUpgrade


class _Edge(msgspec.Struct, frozen=True):
    """What `websocket_protocol` was given."""

    admission: HandshakeAdmission
    deflate: bool
    terms: Terms
    handshakes: _HandshakeQueue


class _HandshakeQueue:
    """
    Runs handshakes in the order of arrival, a few in each iteration of the event loop.

    It never runs one in the call that enqueued it.
    """

    __slots__ = ("_turning", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def enter(self, begin: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Enqueue `begin`."""
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


class _UpgradeProtocol(asyncio.Protocol):
    """
    Stands for a connection from uvicorn's handing over until the decision.

    Reading continues meanwhile, so that a client that leaves is noticed; what it sends too early is kept.
    """

    __slots__ = (
        "_awaited",
        "_early",
        "_edge",
        "_headers",
        "_loop",
        "_method",
        "_peer",
        "_server",
        "_target",
        "_timer",
        "_transport",
    )

    def __init__(self, edge: _Edge, server_state: ServerState) -> None:
        self._edge = edge
        self._server = server_state
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._method = self._target = ""
        self._peer: tuple[str, int] | None = None
        self._headers: dict[str, str] = {}
        self._early = bytearray()
        self._awaited: asyncio.Future[Admit | Refuse] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What the HTTP protocol and the loop call

    def take_over(
        self,
        transport: asyncio.Transport,
        method: bytes,
        target: bytes,
        fields: Iterable[tuple[bytes, bytes]],
        *,
        peer: tuple[str, int] | None,
    ) -> None:
        """
        Become the protocol of a connection whose request asks for the upgrade, and enqueue the handshake.

        Args:
            transport: The connection.
            method: The request's.
            target: The request's, as it was sent.
            fields: Its headers, names in lower case.
            peer: Address and port of the other end; None for a Unix socket.
        """
        self._transport = transport
        self._method, self._target = method.decode("latin-1"), target.decode("latin-1")
        self._headers, self._peer = read_headers(fields), peer
        self._server.connections.add(self)
        transport.set_protocol(self)
        self._edge.handshakes.enter(self._begin, self._loop)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the answer."""
        self._early += data
        if len(self._early) > self._edge.terms.max_message_bytes and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """A client that stops sending now has left: let the transport close."""

    def pause_writing(self) -> None:
        """A refusal is short."""

    def resume_writing(self) -> None:
        """A refusal is short."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the loop's signature
        """Cancel the pending decision: the client has disconnected."""
        self._transport = None
        self._server.connections.discard(self)
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self) -> None:
        """Refuse what is not decided; uvicorn calls this when it stops."""
        self._forget()
        self._refuse(refusal(Unavailable("The server is shutting down; try again in a moment.")))

    # The decision

    def _begin(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            verdict = self._judge()
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets an answer
            verdict = _answer(error)
        if isinstance(verdict, Admit | Refuse):
            self._act(verdict)
            return
        self._awaited = asyncio.ensure_future(verdict)
        self._awaited.add_done_callback(self._decided)
        self._timer = self._loop.call_later(DECISION_S, self._late)

    def _judge(self) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """Check in the protocol's order: path, upgrade, and the rest by admission."""
        path, query = parse_target(self._target)
        if (refused := self._edge.admission.route(path)) is not None:
            return refused
        if self._method != "GET":
            no = refusal(MethodNotAllowed("A WebSocket is opened with GET."))
            # RFC 9110 §15.5.6: say what would be allowed.
            return Refuse(no.status, no.body, (*no.headers, ("allow", "GET")))
        check_upgrade(self._headers)
        handshake = Handshake(self._method, path, query, Headers(self._headers), self._peer)
        return self._edge.admission.decide(handshake)

    def _decided(self, awaited: asyncio.Future[Admit | Refuse]) -> None:
        if awaited is not self._awaited:
            # The decision was cancelled: the client was answered or has disconnected. Retrieve the exception, or
            # asyncio logs "Future exception was never retrieved".
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
        body = b"" if self._method == "HEAD" else refused.body
        transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        transport.close()
        # close() waits until all is sent, and a client may never read.
        self._timer = self._loop.call_later(LINGER_S, transport.abort)

    def _open(self, transport: asyncio.Transport, admit: Admit) -> None:
        """Answer 101, and replace this protocol by a connection."""
        headers = self._headers
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

        line = SocketWriter(transport, self._loop, deflate=taken is not None)
        connection = Connection(self._edge.terms, self._server, line, admit.peer)
        connection.begin(transport)
        self._server.connections.discard(self)
        self._transport = None
        transport.set_protocol(connection)
        connection.greet(b"\r\n".join(lines) + b"\r\n\r\n")
        connection.replay(bytes(self._early))
        transport.resume_reading()


def _answer(error: BaseException) -> Refuse:
    """Make an answer of whatever stopped a decision."""
    if isinstance(error, OrbitalError):
        return refusal(error)
    about = OrbitalError("The server has a bug. Its log has the details, under the id of this request.")
    new_id = request_id(None)
    log.error("a handshake could not be decided", exc_info=error, extra={"request_id": new_id})
    return refusal(about, given_id=new_id)
