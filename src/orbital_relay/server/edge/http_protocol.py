"""
HTTP/1.1 on one connection: keep-alive, request timeout of slow clients, limits and strict framing.

What follows a request on its connection is read only where it is certain that it begins another request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr, is_ssl

from orbital_relay.errors import OrbitalError, Unavailable, ValidationFailed
from orbital_relay.server.edge.budget import ConnectionBudget
from orbital_relay.server.edge.linger import MALFORMED_BYTES, Linger
from orbital_relay.server.edge.refusal import closing_response
from orbital_relay.server.edge.request_cycle import BodyCycle, Cycle, CycleTransport
from orbital_relay.server.edge.request_head import RequestHead, decode_path, judge, write_head
from orbital_relay.server.edge.stall_watch import StallWatch

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

log = logging.getLogger("orbital.server")

HEAD_BYTES: Final = 64 * 1024
"""Most bytes that come before a head is whole, or behind a body in pieces; of a token 8 KiB are looked at."""
HEAD_DEADLINE_S: Final = 30
"""How long a connection may take until a head is whole, in seconds."""

_ABOUT: Final = "This is no HTTP/1.1 request, or its method is unknown."


class _Refused(Exception):
    """Stops the parser in its callback; nothing more is fed to it."""


class HttpConnection(HttpToolsProtocol):
    """
    One connection that uses HTTP/1.1.

    A silent client is disconnected, and what it can make this process keep is bounded. A request that could be read in
    two ways is refused and its connection closed. An upgrade that is not taken is ignored. A refusal reaches a client
    that is still sending. It never sends plain text to a client.
    """

    budget: ConnectionBudget | None = None
    """Where the connections of this server are counted; None counts nothing."""
    answering: RequestResponseCycle
    """The request whose answer is being sent, or was sent last."""
    ends = False
    """Whether the connection ends with the answer that is being sent."""
    _loose_bytes = 0
    """What has come since the last head, piece of a body or end of a request: the parser keeps it, or nobody does."""
    _late: asyncio.TimerHandle | None = None
    _stall_watch: StallWatch | None = None
    """Runs while the transport is full."""
    _ignores_input = False
    """Whether further input is ignored: it is no request."""
    _asks_upgrade = False
    """Whether the parser stops behind this head, because it asks for an upgrade."""
    _head: RequestHead
    _refusal: OrbitalError | None = None
    _handshake: bytearray | None = None
    """What came behind a handshake that waits for the answers before it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head. Unlike uvicorn's it does not ask for this end's address, which nobody uses."""
        self.connections.add(self)
        self.transport, self.flow = transport, FlowControl(transport)
        self.client, self.scheme = get_remote_addr(transport), "https" if is_ssl(transport) else "http"
        self._answers = CycleTransport(self, transport)
        self.linger = Linger(transport, self.loop)
        if self.budget is not None:
            address = self.client[0] if self.client is not None else ""
            room = self.budget.enter(self, address, connections=len(self.connections), now_s=self.loop.time())
            if not room:
                self._refuse(Unavailable("The server has no room for another connection. Try again in a moment."))
                return
        self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        if self.budget is not None:
            self.budget.leave(self)
        self._end_stall_watch()
        self.linger.cancel()
        super().connection_lost(exc)
        # Break the ring of references, so that the memory does not wait for the collector.
        self._answers.line = None

    # Chapter: what comes

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, unless further input is ignored."""
        if self._ignores_input:
            self.linger.discard(len(data))
            return
        if self._handshake is not None:
            self._keep_early(data)
            return
        self._unset_keepalive_if_required()
        self._loose_bytes += len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                self._feed_after_upgrade(memoryview(data)[stop.args[0] :])
        except httptools.HttpParserError:
            refusal, self._refusal = self._refusal, None
            if not self._ignores_input:
                self._refuse(refusal or ValidationFailed(_ABOUT))
            return
        if self._loose_bytes == 0:
            self._stop_waiting()
        elif self._loose_bytes > HEAD_BYTES:
            self._refuse(
                ValidationFailed(f"The head of the request, or what follows its body, is over {HEAD_BYTES} bytes.")
            )
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)

    def _feed_after_upgrade(self, rest: memoryview) -> None:
        """Continue where the parser stopped: after a head that asks for an upgrade."""
        while True:
            head = self._head
            taken = self.ws_protocol_class is not None and head.upgrade == b"websocket" and not head.has_body
            if taken and self.parser.get_http_version() == "1.1":
                self._handshake = bytearray(rest)
                self._upgrade_in_turn()
                return
            # RFC 9110 §7.8: an upgrade that is not taken is ignored. The parser would leave the body out.
            method, version = self.parser.get_method(), self.parser.get_http_version()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            fields = [field for field in self.headers if field[0] != b"upgrade"]
            self.parser.feed_data(write_head(method, self.url, version, fields))
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes always
        """Answer requests that were complete before the client ended its side (RFC 9112 §9.6); then close."""
        last = self._answering()
        if self._ignores_input or last is None or last.more_body:
            return False
        last.keep_alive = False
        self._ignores_input = True
        return True

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.url = b""
        self.headers = []
        self._asks_upgrade = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._loose_bytes = 0
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete and not before.keep_alive:
            # The connection ends with the answer before: RFC 9112 §9.6 has no request behind it.
            self._ignores_input = True
            raise _Refused
        parser, headers = self.parser, self.headers
        method, version = parser.get_method(), parser.get_http_version()
        try:
            self._head = head = judge(method, version, headers)
        except OrbitalError as refusal:
            self._refusal = refusal
            raise _Refused from refusal
        if parser.should_upgrade():
            self._asks_upgrade = True
            return
        # A field behind the body is no header (RFC 9110 §6.5.1).
        self.headers = []
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        path = raw_path.decode("ascii")
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": self.scheme or "http",
            "path": decode_path(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": target.query or b"",
            "root_path": self.root_path,
            "headers": headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }
        self.cycle = cycle = (BodyCycle if head.has_body else Cycle)(
            scope=scope,
            transport=cast("asyncio.Transport", self._answers),
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self.answering = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            # It waits for the answers before it.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Give a piece of the body to the request."""
        self._loose_bytes = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request."""
        self._loose_bytes = 0
        cycle = self.cycle
        if not self._asks_upgrade and not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut_if_late(self) -> None:
        self._late = None
        if self._answering() is not None:
            # What came before has still to be answered; a body that is awaited has its own deadline.
            self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)
        else:
            self.transport.close()

    # Chapter: the upgrade

    def _upgrade_in_turn(self) -> None:
        """Hand the connection over, once every request before the handshake is answered (RFC 9112 §9.3.2)."""
        if self._answering() is None:
            self.handle_websocket_upgrade()
        else:
            self.flow.pause_reading()

    def _keep_early(self, data: bytes) -> None:
        self._handshake = (self._handshake or bytearray()) + data
        if len(self._handshake) > HEAD_BYTES:
            # RFC 6455 §4.1: a client sends no frame before it has been answered.
            self.transport.abort()

    def handle_websocket_upgrade(self) -> None:
        """Let the edge replace this protocol; none of its timers runs on."""
        early, self._handshake = bytes(self._handshake or b""), None
        self._stop_waiting()
        self._unset_keepalive_if_required()
        self._end_stall_watch()
        self.flow.resume_reading()
        self.connections.discard(self)
        if self.budget is not None:
            self.budget.leave(self)
        made: Any = self.ws_protocol_class
        upgrade = made(config=self.config, server_state=self.server_state, app_state=self.app_state)
        upgrade.take_over(self.transport, self.parser.get_method(), self.url, self.headers, peer=self.client)
        if early:
            upgrade.data_received(early)

    # Chapter: what goes

    def on_response_complete(self) -> None:
        """Continue with the next request, hand the connection over, or end it."""
        self.server_state.total_requests += 1
        if self.ends:
            self._end()
            return
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.budget is not None:
            self.budget.touch(self)
        if self.pipeline:
            self.answering, app = self.pipeline.pop()
            self._start_asgi_task(self.answering, app)
        elif self._handshake is not None:
            self._upgrade_in_turn()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def pause_writing(self) -> None:
        """Begin to watch whether the client reads its response."""
        super().pause_writing()
        self._stall_watch = StallWatch(self.transport, self, self.loop)

    def resume_writing(self) -> None:
        """End the watch: the client has read enough."""
        super().resume_writing()
        self._end_stall_watch()

    def _end_stall_watch(self) -> None:
        if self._stall_watch is not None:
            self._stall_watch.cancel()
            self._stall_watch = None

    # Chapter: the end

    def shutdown(self) -> None:
        """Close once the request in progress is answered, and answer it without the rest of its body."""
        super().shutdown()
        if isinstance(self.cycle, BodyCycle):
            self.cycle.hurry()

    def from_proxy(self) -> bool:
        """Return whether the other end is a proxy that the operator trusts: its connection is other people's."""
        return self.budget is not None and self.budget.exempts("" if self.client is None else self.client[0])

    def waits(self) -> bool:
        """Return whether no request is in progress."""
        return self._answering() is None

    def is_slow(self) -> bool:
        """Return whether the request in progress waits for its client."""
        last = self._answering()
        return last is not None and (last.more_body or self.flow.write_paused)

    def make_room(self) -> None:
        """Close for the sake of another connection."""
        self.transport.abort()

    def _answering(self) -> RequestResponseCycle | None:
        """Return the request whose answer is not out yet, the last of several; None when all are answered."""
        last: RequestResponseCycle | None = self.cycle
        return None if last is None or last.response_complete else last

    def _refuse(self, refusal: OrbitalError) -> None:
        """Answer with an error and close: nobody knows where the next request would begin (RFC 9112 §2.2)."""
        if self.transport.is_closing():
            return
        log.debug("! a request was refused", extra={"status": refusal.status, "reason": refusal.message})
        self._ignores_input = True
        last = self._answering()
        if last is not None:
            if self.pipeline or last.response_started or not last.more_body:
                # What came before it is whole, and gets its answer: then the connection is closed.
                last.keep_alive = False
                self.flow.pause_reading()
                return
            # Its body cannot be read on, and here is its answer.
            last.disconnected = True
            last.message_event.set()
        self.transport.write(closing_response(refusal))
        self.linger.most_bytes = MALFORMED_BYTES
        self._linger()

    def _end(self) -> None:
        """Close the connection behind its last answer."""
        if self.transport.is_closing():
            return
        unread = self.cycle.more_body or self.pipeline or self.flow.read_paused
        self._ignores_input = True
        if unread:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """End only our side, and read on for a while."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.flow.resume_reading()
        self.linger.begin()
