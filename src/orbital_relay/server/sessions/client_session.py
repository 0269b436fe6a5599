"""The session of one connection, from the 101 to the close; a slow consumer is disconnected at its maximum lag."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress

from orbital_relay.config import Settings
from orbital_relay.core import session as says
from orbital_relay.core.refusals import token_ended
from orbital_relay.core.session import Session
from orbital_relay.model import Principal
from orbital_relay.ports import Clock
from orbital_relay.relay import Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.edge.socket_writer import SocketWriter
from orbital_relay.server.sessions.dispatch import Dispatcher, Enqueue
from orbital_relay.server.sessions.greeting import greeting
from orbital_relay.server.sessions.registry import Sessions
from orbital_relay.server.sessions.typing import TypingNotifier
from orbital_relay.services.forms import new_id

log = logging.getLogger("orbital.server")


class ClientSession(Dispatcher):
    """
    The life of one client's connection: greeting, backpressure, heartbeat, and the ways in which it ends.

    It never buffers more than the bounds in intake.py: a client that does not read is not read from.
    """

    __slots__ = ("_parting", "_paused_since_s", "_registry", "_settings", "connected_ms", "session_id")

    def __init__(
        self,
        principal: Principal,
        *,
        relay: Relay,
        clock: Clock,
        auth: Auth,
        typing: TypingNotifier,
        enqueue: Enqueue,
        registry: Sessions,
        settings: Settings,
    ) -> None:
        """
        Args:
            principal: The user of the handshake's token.
            relay: Subscribes, and catches up.
            clock: The time.
            auth: Verifies newer tokens.
            typing: Notifies groups.
            enqueue: Enqueues posts.
            registry: Holds this session while it is open.
            settings: Heartbeat, rates, deadlines.
        """
        session = Session(
            principal, frame_rate=settings.frame_rate, now_s=clock.steady_s(), heartbeat_s=settings.heartbeat_s
        )
        super().__init__(session, relay=relay, clock=clock, auth=auth, typing=typing, enqueue=enqueue)
        self._registry, self._settings = registry, settings
        self.session_id = new_id()
        self.connected_ms = 0
        self._paused_since_s = 0.0
        self._parting: asyncio.Future[None] | None = None

    # Chapter: what the edge calls

    def opened(self, writer: SocketWriter) -> None:
        """Send `auth_success`."""
        outgoing = self.attach(writer)
        self._open_queues(outgoing)
        self._registry.add(self)
        self.connected_ms = self._clock.wall_ms()
        heartbeat_s = self._settings.heartbeat_s
        self.say(greeting(self.principal, self.session_id, connected_ms=self.connected_ms, heartbeat_s=heartbeat_s))
        # Right behind the 101: also a client whose first frame is bad is greeted before its error.
        outgoing.flush()
        self._perform(self._session.opened(now_s=self._clock.steady_s(), wall_s=self.connected_ms / 1000))
        log.info("connection opened", extra={"session_id": self.session_id, "user_id": self.user_id})

    def text(self, payload: bytes) -> None:
        """Take a text message."""
        self._registry.frames_in += 1
        self._perform(self._session.receive(payload, now_s=self._charge(len(payload))), size_bytes=len(payload))

    def control(self) -> None:
        """Count a control frame or a fragment."""
        self._perform(self._session.control(now_s=self._charge(0)))

    def _charge(self, size_bytes: int) -> float:
        now_s = self._clock.steady_s()
        if self._queues is not None:
            self._registry.budgets.charge(self.user, self._queues.intake, size_bytes=size_bytes, now_s=now_s)
        return now_s

    def pong(self) -> None:
        """Take a WebSocket pong."""
        self._session.pong()

    def paused(self) -> None:
        """Write no more: the transport is above the high watermark."""
        self._paused_since_s = self._clock.steady_s()
        self._relay.hub.pause(self)

    def resumed(self) -> None:
        """Write again: the transport is below the low watermark."""
        self.is_paused = False
        if self._outgoing is not None and self._queues is not None:
            self._outgoing.flush()
            self._queues.intake.look()
        self._relay.catch_up(self)

    def ending(self) -> Awaitable[None] | None:
        """
        Write the answers that wait, and those of posts that are in progress.

        Returns:
            The wait for posts, at most as long as a stop of the server would wait; None when there are none.
        """
        if self._outgoing is not None and self._queues is not None:
            self._queues.intake.finish()
            self._outgoing.flush(anyway=True)
        return self._last_answers() if self.posts_under_way() else None

    async def _last_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                while waiting := self.posts_under_way():
                    await asyncio.wait(waiting)
                    # Let the answers be enqueued.
                    await asyncio.sleep(0)
        if self._outgoing is not None:
            self._outgoing.flush(anyway=True)

    def closed(self, code: int | None) -> None:
        """Release everything that belongs to the connection."""
        self._perform(self._session.closed())
        self._registry.discard(self)
        self._relay.hub.drop(self)
        if self._queues is not None:
            self._registry.budgets.forget(self.user, self._queues.intake)
        self.detach()
        self._close_queues()
        log.info("connection closed", extra={"session_id": self.session_id, "user_id": self.user_id, "code": code})

    # Chapter: what the registry calls

    def beat(self, shared: bytes, *, stamp_ms: int, now_ms: int) -> None:
        """
        Do what is due once an interval.

        Args:
            shared: The ping as all current connections get it.
            stamp_ms: Its stamp.
            now_ms: Its time.
        """
        now_s = self._clock.steady_s()
        effects = self._session.beat(now_s=now_s, wall_s=now_ms / 1000)
        if says.Beat() in effects:
            effects.remove(says.Beat())
            self.ping(shared, stamp_ms=stamp_ms, now_ms=now_ms)
            if self.is_paused and now_s - self._paused_since_s > self._settings.max_lag_s:
                self.cut("lag")
                return
        self._perform(effects)

    def revoked(self) -> None:
        """End the session: its token was revoked."""
        self._perform(self._session.revoked())

    def end(self, code: int, reason: str) -> None:
        """Close the connection, behind the answers that wait."""
        if self._outgoing is not None:
            self._outgoing.flush()
            self._outgoing.writer.close(code, reason)

    # Chapter: what the session says

    def _part(self, code: int, reason: str) -> None:
        self._relay.hub.drop(self)
        self.stop_reading()
        if self._queues is not None and not self._auth.holds(self.principal):
            for effect in self._queues.store.take_posts():
                self.complain(token_ended(), reply_to=effect.reply_to)
        owed = self.ending()
        if owed is None:
            self.end(code, reason)
        else:
            self._parting = asyncio.ensure_future(owed)
            self._parting.add_done_callback(lambda _: self.end(code, reason))

    def cut(self, cause: str) -> None:
        """Abort the connection."""
        self._registry.cut[cause] += 1
        if self._outgoing is not None:
            self._outgoing.writer.abort()
