"""All connections of one server, and what they share: one timer for the heartbeats, the way out, known threads."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orbital_relay import wire
from orbital_relay.config import Settings
from orbital_relay.core.framing import text_frame
from orbital_relay.core.wheel import Wheel
from orbital_relay.errors import NotFound
from orbital_relay.model import GroupId, ThreadId
from orbital_relay.relay import Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.services.context import ServiceContext

if TYPE_CHECKING:
    from orbital_relay.server.sessions.client_session import Conversation

THREADS_REMEMBERED: Final = 50_000
"""Threads whose group is known without asking the store, about 10 MB; only typing asks."""

TURN_S: Final = 0.25
"""The longest that a ping may be early: heartbeats are spread over slots of about this length."""


class Conversations:
    """
    All connections of this server, and what they share: the relay, the use cases, one timer for all heartbeats.

    It never decides who may connect; the doorkeeper does.
    """

    def __init__(self, *, relay: Relay, context: ServiceContext, auth: Auth, settings: Settings) -> None:
        """
        Args:
            relay: Hands on events.
            context: For posts that come as frames.
            auth: For newer tokens.
            settings: Heartbeat, rates, limits.
        """
        self.relay = relay
        self.context = context
        self.auth = auth
        self.settings = settings
        self.clock = context.clock
        self.open: set[Conversation] = set()
        self.frames_in = 0
        self.cut: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        slots = max(1, min(240, round(settings.heartbeat_s / TURN_S)))
        self._turn_s = settings.heartbeat_s / slots
        self._wheel: Wheel[Conversation] = Wheel(slots)
        self._turning: asyncio.TimerHandle | None = None
        self._next_s = 0.0
        self._thread_groups: OrderedDict[str, GroupId] = OrderedDict()
        auth.on_revoked(self._end_revoked)

    def start(self) -> None:
        """Start the heartbeats."""
        self._next_s = self._loop.time() + self._turn_s
        self._turning = self._loop.call_at(self._next_s, self._turn)

    def stop(self) -> None:
        """Stop the heartbeats."""
        if self._turning is not None:
            self._turning.cancel()

    async def end_all(self, code: int, reason: str, *, pace: float, patience_s: float) -> None:
        """
        Close every connection, after the answers that it waits for.

        Nothing more is read from a connection whose turn it is: or who posts all the time would never be done.

        Args:
            code: The close code.
            reason: What the client is told.
            pace: Connections a second; 0 closes all at once.
            patience_s: Longest wait for answers of the store, beyond the pace.
        """
        started_s = self._loop.time()
        leaving = list(self.open)
        if not pace:
            await self._let_go(leaving, code, reason, until_s=started_s + patience_s)
            return
        for number, conversation in enumerate(leaving):
            due_s = started_s + number / pace
            if (wait_s := due_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._let_go([conversation], code, reason, until_s=due_s + patience_s)

    async def _let_go(self, leaving: list[Conversation], code: int, reason: str, *, until_s: float) -> None:
        for conversation in leaving:
            conversation.hear_no_more()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while waiting := [future for conversation in leaving for future in conversation.posts_under_way()]:
                    await asyncio.wait(waiting)
                    # Let the answers be written.
                    await asyncio.sleep(0)
        for conversation in leaving:
            conversation.end(code, reason)

    def add(self, conversation: Conversation) -> None:
        """Take in a connection that was opened."""
        self.open.add(conversation)
        self._wheel.add(conversation)

    def discard(self, conversation: Conversation) -> None:
        """Let go of a connection that has ended."""
        self.open.discard(conversation)
        self._wheel.discard(conversation)

    def _turn(self) -> None:
        # Late turns are made up for: the interval between two pings of a client does not drift.
        self._next_s = max(self._next_s + self._turn_s, self._loop.time() - self._turn_s)
        self._turning = self._loop.call_at(self._next_s, self._turn)
        due = self._wheel.turn()
        if not due:
            return
        now_ms = self.clock.wall_ms()
        stamp_ms = self.relay.quiet_ms()
        shared = text_frame(wire.frame(wire.Ping(now_ms), stamp_ms=stamp_ms))
        for conversation in due:
            conversation.beat(shared, stamp_ms=stamp_ms, now_ms=now_ms)

    async def recheck_users(self) -> None:
        """
        End each connection whose user's row is no longer what it was: the database has gone back under the server.

        Raises:
            Unavailable: If the database is away; ask again.
        """
        self._thread_groups.clear()
        for conversation in list(self.open):
            principal = conversation.session.principal
            account = await self.context.store.find_user(principal.user_id)
            if account is None or account.key != principal.key:
                conversation.end(1012, "the database was restored")

    def _end_revoked(self) -> None:
        for conversation in list(self.open):
            if self.auth.revoked(conversation.session.principal):
                conversation.perform(conversation.session.revoked())

    def group_of(self, thread_id: str) -> GroupId | None:
        """Return the group of a thread that was asked for before."""
        return self._thread_groups.get(thread_id)

    async def find_group(self, thread_id: str) -> GroupId:
        """
        Return the group of a thread.

        Raises:
            NotFound: If there is no such thread.
        """
        known = self._thread_groups.get(thread_id)
        if known is None:
            known = await self.context.store.thread_group(ThreadId(thread_id))
            if known is None:
                raise NotFound("There is no such thread.", thread_id=thread_id)
            if len(self._thread_groups) >= THREADS_REMEMBERED:
                self._thread_groups.popitem(last=False)
            self._thread_groups[thread_id] = known
        return known
