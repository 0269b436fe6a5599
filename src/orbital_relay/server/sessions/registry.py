"""The registry of all open connections: one heartbeat timer, and draining at shutdown."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any, Final, Protocol

from orbital_relay import wire
from orbital_relay.core.framing import text_frame
from orbital_relay.core.wheel import Wheel
from orbital_relay.model import Principal
from orbital_relay.ports import Clock, Store
from orbital_relay.relay import Relay
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.sessions.low_keys import LowKeys
from orbital_relay.server.sessions.user_budget import UserBudgets

TURN_S: Final = 0.25
"""The longest that a ping may be early: heartbeats are spread over slots of about this length."""


class OpenSession(Protocol):
    """What the registry needs of a session."""

    @property
    def principal(self) -> Principal:
        """The user of its token."""
        ...

    def say(self, data: wire.ServerData) -> None:
        """Enqueue a frame that is no event."""
        ...

    def beat(self, shared: bytes, *, stamp_ms: int, now_ms: int) -> None:
        """Do what is due once an interval."""
        ...

    def revoked(self) -> None:
        """End it: its token was revoked."""
        ...

    def stop_reading(self) -> None:
        """Read nothing more from the client."""
        ...

    def posts_under_way(self) -> list[asyncio.Future[Any]]:
        """Return what its unanswered posts wait for."""
        ...

    def end(self, code: int, reason: str) -> None:
        """Close the connection."""
        ...


class Sessions:
    """
    The registry of this server's open sessions. It never decides who may connect.

    Attributes:
        open: The sessions.
        budgets: What each user may send over all of them.
        frames_in: Text frames that were received.
        cut: Connections that this server aborted, by cause.
    """

    def __init__(
        self, *, relay: Relay, auth: Auth, clock: Clock, heartbeat_s: float, frame_rate: float, low_keys: LowKeys
    ) -> None:
        """
        Args:
            relay: Gives the stamps of pings.
            auth: Reports revoked tokens.
            clock: The time.
            heartbeat_s: Time between two pings to one client, in seconds.
            frame_rate: Frames a second that one connection may send.
            low_keys: Reports low stocks of one-time keys to sessions.
        """
        self.open: set[OpenSession] = set()
        self.budgets = UserBudgets(frame_rate=frame_rate, clock=clock)
        self.frames_in = 0
        self.cut: Counter[str] = Counter()
        self._relay = relay
        self._auth = auth
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._slots = max(1, min(240, round(heartbeat_s / TURN_S)))
        self._turn_s = heartbeat_s / self._slots
        self._turns = 0
        self._wheel: Wheel[OpenSession] = Wheel(self._slots)
        self._turning: asyncio.TimerHandle | None = None
        self._next_s = 0.0
        self._low_keys = low_keys
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

        Nothing more is read from a connection whose turn it is: a client that keeps posting would never be done.

        Args:
            code: The close code.
            reason: The reason in the Close frame.
            pace: Connections a second; 0 closes all at once.
            patience_s: Longest wait for answers of the store, beyond the pace.
        """
        started_s = self._loop.time()
        leaving = list(self.open)
        if not pace:
            await self._end(leaving, code, reason, until_s=started_s + patience_s)
            return
        for number, session in enumerate(leaving):
            due_s = started_s + number / pace
            if (wait_s := due_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._end([session], code, reason, until_s=due_s + patience_s)

    async def _end(self, leaving: list[OpenSession], code: int, reason: str, *, until_s: float) -> None:
        for session in leaving:
            session.stop_reading()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while waiting := [future for session in leaving for future in session.posts_under_way()]:
                    await asyncio.wait(waiting)
                    # Let the answers be written.
                    await asyncio.sleep(0)
        for session in leaving:
            session.end(code, reason)

    def add(self, session: OpenSession) -> None:
        """Add a session whose connection was opened."""
        self.open.add(session)
        self._low_keys.opened(session)
        self._wheel.add(session)

    def discard(self, session: OpenSession) -> None:
        """Remove a session whose connection has ended."""
        self.open.discard(session)
        self._low_keys.closed(session)
        self._wheel.discard(session)

    def _turn(self) -> None:
        # Late turns are made up for: the interval between two pings of a client does not drift.
        self._next_s = max(self._next_s + self._turn_s, self._loop.time() - self._turn_s)
        self._turning = self._loop.call_at(self._next_s, self._turn)
        self._turns += 1
        if self._turns % self._slots == 0:
            self.budgets.tidy()
        due = self._wheel.turn()
        if not due:
            return
        now_ms = self._clock.wall_ms()
        stamp_ms = self._relay.ephemeral_ms()
        shared = text_frame(wire.frame(wire.Ping(now_ms), stamp_ms=stamp_ms))
        for session in due:
            session.beat(shared, stamp_ms=stamp_ms, now_ms=now_ms)

    async def recheck_users(self, store: Store) -> None:
        """
        End each connection whose user's row has changed: the database has gone back under the server.

        Raises:
            Unavailable: If the database cannot be reached; call it again.
        """
        for session in list(self.open):
            account = await store.find_user(session.principal.user_id)
            if account is None or account.key != session.principal.key:
                session.end(1012, "the database was restored")

    def _end_revoked(self) -> None:
        for session in list(self.open):
            if self._auth.revoked(session.principal):
                session.revoked()
