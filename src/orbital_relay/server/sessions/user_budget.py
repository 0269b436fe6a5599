"""Fairness between users: the budget of frames and time for one user's connections."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from orbital_relay.ports import Clock

USER_RATE_TIMES: Final = 4
"""A user may send as many frames a second as this many connections; the bucket holds twice that."""

FRAME_BYTES: Final = 4096
"""A frame costs 1, and 1 more for each such part: the longest take a hundred times as long to decode as a short one."""


STAGGER_S: Final = 0.01
"""Shortest time between two releases: the first connection has been read and charged before the second, in seconds."""


class Pausable(Protocol):
    """A connection that can be read more slowly."""

    def hold(self) -> None:
        """Read nothing more for now."""

    def release(self) -> None:
        """Read from the socket again."""


class _User:
    """One user's token bucket, which may be in debt, and the connections that wait for it to fill."""

    __slots__ = ("at_s", "level", "timer", "waiting")

    def __init__(self, level: float, at_s: float) -> None:
        self.level = level
        self.at_s = at_s
        self.waiting: deque[Pausable] = deque()
        self.timer: asyncio.TimerHandle | None = None


class UserBudgets:
    """
    A token bucket for each user who sends frames. Frames over the budget are delayed, never refused or dropped.

    A frame that has been read is always accepted, so a bucket goes into debt by at most one frame of each connection;
    these are then held, and released one at a time, in their order, as the bucket fills.
    """

    def __init__(self, *, frame_rate: float, clock: Clock) -> None:
        """
        Args:
            frame_rate: Frames a second that one connection may send.
            clock: Steady time.
        """
        self._rate = USER_RATE_TIMES * frame_rate
        self._capacity = 2 * self._rate
        self._clock = clock
        self._users: dict[int, _User] = {}

    def __len__(self) -> int:
        return len(self._users)

    def charge(self, user: int, connection: Pausable, *, size_bytes: int, now_s: float) -> None:
        """Charge a frame to its user, and hold the connection if the bucket is empty."""
        one = self._users.get(user)
        if one is None:
            one = self._users[user] = _User(self._capacity, now_s)
        self._fill(one, now_s)
        one.level -= 1 + size_bytes // FRAME_BYTES
        if one.level < 0 and connection not in one.waiting:
            one.waiting.append(connection)
            connection.hold()
            self._release_later(user, one)

    def forget(self, user: int, connection: Pausable) -> None:
        """Forget a connection that has ended; and its user once the bucket is full."""
        one = self._users.get(user)
        if one is not None:
            if connection in one.waiting:
                one.waiting.remove(connection)
            self._tidy(user, one)

    def tidy(self) -> None:
        """Forget the users whose buckets have filled; called once in a while."""
        for user, one in list(self._users.items()):
            self._tidy(user, one)

    def _tidy(self, user: int, one: _User) -> None:
        self._fill(one, self._clock.steady_s())
        if not one.waiting and one.level >= self._capacity:
            del self._users[user]

    def _fill(self, one: _User, now_s: float) -> None:
        if now_s > one.at_s:
            one.level = min(self._capacity, one.level + (now_s - one.at_s) * self._rate)
            one.at_s = now_s

    def _release_later(self, user: int, one: _User) -> None:
        if one.timer is None:
            wait_s = max(STAGGER_S, -one.level / self._rate)
            one.timer = asyncio.get_running_loop().call_later(wait_s, self._release, user, one)

    def _release(self, user: int, one: _User) -> None:
        one.timer = None
        self._fill(one, self._clock.steady_s())
        if one.waiting and one.level >= 0:
            one.waiting.popleft().release()
        if one.waiting:
            self._release_later(user, one)
