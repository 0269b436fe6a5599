"""The outgoing side of a connection: events from the hub, and control frames with timestamps."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orbital_relay import wire
from orbital_relay.core.live_group import Listener
from orbital_relay.core.refusals import bug
from orbital_relay.errors import OrbitalError
from orbital_relay.model import GroupId, Principal
from orbital_relay.ports import Appended, Clock
from orbital_relay.relay import Relay
from orbital_relay.server.edge.socket_writer import SocketWriter
from orbital_relay.server.sessions.outgoing import Outgoing, Route
from orbital_relay.server.sessions.posts import ReplyTo

log = logging.getLogger("orbital.server")


def _discard(_wire: bytes, /) -> None:
    """Write to no connection: there is none."""


class SocketListener(Listener):
    """
    The hub's side of a connection. Before `attach` and after `detach` it writes nothing.

    A frame that is no event carries a stamp below every event that this connection has not been sent yet.
    """

    __slots__ = ("_clock", "_frozen", "_outgoing", "_relay", "send")

    send: Route
    """Writes frames, behind the answers that wait: an attribute, since fan-out calls it for each event and listener."""

    def __init__(self, principal: Principal, *, relay: Relay, clock: Clock) -> None:
        """
        Args:
            principal: The user of the connection.
            relay: Gives the stamps.
            clock: The time of day in answers.
        """
        super().__init__(principal.key, principal.user_id)
        self._relay = relay
        self._clock = clock
        self._outgoing: Outgoing | None = None
        self.send = _discard
        # Until it has subscribed, the stamps stand still: a message posted before that must not look older than them.
        self._frozen = True

    def attach(self, writer: SocketWriter) -> Outgoing:
        """Write to an open connection from now on."""
        self._outgoing = outgoing = Outgoing(writer, self._route)
        self.send = writer.write
        self.deflate = writer.deflate
        self.last_stamp_ms = self._relay.ephemeral_ms()
        return outgoing

    def detach(self) -> None:
        """Write nothing more: the connection has ended."""
        self._outgoing = None
        self.send = _discard

    # Chapter: what the hub calls

    def lost(self, group_id: GroupId, reason: str) -> None:
        """Notify the client that it is unsubscribed from a group."""
        self.say(wire.Unsubscribed([group_id], reason))

    def reset(self, group_id: GroupId, seq: int) -> None:
        """Notify the client that a group continues after a number, and that events before it could not be sent."""
        self.say_subscribed({group_id: wire.GroupState(seq, recovered=False)})

    # Chapter: the server's own frames

    def say(self, data: wire.ServerData, reply_to: ReplyTo = None) -> None:
        """Enqueue a frame that is no event; it leaves with the others of this turn of the loop."""
        self._put(wire.frame(data, stamp_ms=self._stamp_ms(), reply_to=reply_to))

    def say_subscribed(self, groups: dict[str, wire.GroupState], reply_to: ReplyTo = None) -> None:
        """Enqueue a `subscribed`."""
        self.say(wire.Subscribed(list(groups), wire.iso(self._clock.wall_ms()), groups), reply_to)

    def complain(self, refusal: OrbitalError, *, reply_to: ReplyTo) -> None:
        """Enqueue an `error` frame."""
        details = {name: value for name, value in refusal.details.items() if name not in {"code", "message"}}
        self.complain_with(refusal.code, refusal.message, details, reply_to=reply_to)

    def complain_with(self, code: str, message: str, details: dict[str, Any], *, reply_to: ReplyTo) -> None:
        """Enqueue an `error` frame of these parts."""
        self._put(wire.error_frame(code, message, details, stamp_ms=self._stamp_ms(), reply_to=reply_to))

    def answer_post(self, future: asyncio.Future[Appended], reply_to: ReplyTo) -> None:
        """Enqueue the answer of a post that is done."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, OrbitalError):
            self.complain(error, reply_to=reply_to)
        elif error is not None or future.cancelled():
            log.error("a post failed", exc_info=error)
            self.complain(bug(), reply_to=reply_to)
        else:
            receipt = future.result().receipt
            self._put(wire.posted_frame(receipt, stamp_ms=self._stamp_ms(), reply_to=reply_to))

    def ping(self, shared: bytes, *, stamp_ms: int, now_ms: int) -> None:
        """
        Write a ping; a client that does not read gets none on top, and that it does not answer counts all the same.

        Args:
            shared: The frame as all current connections get it.
            stamp_ms: Its stamp.
            now_ms: Its time.
        """
        if self.is_paused:
            return
        if self._frozen or self.behind:
            self._put(wire.frame(wire.Ping(now_ms), stamp_ms=self.last_stamp_ms))
        else:
            self.last_stamp_ms = stamp_ms
            self.send(shared)

    def _stamp_ms(self) -> int:
        if not self._frozen and not self.behind:
            self.last_stamp_ms = self._relay.ephemeral_ms()
        return self.last_stamp_ms

    def _route(self, route: Route) -> None:
        if self._outgoing is not None:
            self.send = route

    def _put(self, frame: bytes) -> None:
        if self._outgoing is not None:
            self._outgoing.put(frame)
