"""Trusted time: a clock jump far ahead of the last stored time is not used."""

from __future__ import annotations

from typing import Final

START_LEAP_MS: Final = 24 * 3600 * 1000
"""How far the clock may be ahead of the last heartbeat when a server starts: it may have been off for a day."""

RUN_LEAP_MS: Final = 3600 * 1000
"""How far the clock may leap ahead while a server runs. A virtual machine that was paused for minutes is within it."""

BEHIND_MS: Final = 60 * 1000
"""A wall clock that stays further behind than this is taken as the new measure once it was held for long enough."""


class TrustedTime:
    """
    The time that stamps, expiry and retention go by: the wall clock, unless it leapt ahead.

    A clock that jumped ahead is held: time then continues by the monotonic clock from the last heartbeat until the wall
    clock is correct again, the operator accepts it, or it has run without a jump for the hold. A wall clock that is
    behind is trusted at once: nothing irreversible follows from it. It never reads a clock itself.
    """

    __slots__ = ("_anchor_ms", "_anchor_steady_ms", "_hold_ms", "_leap_ms", "_odd_by_ms", "_odd_since_ms")

    def __init__(self, *, heartbeat_ms: int | None, wall_ms: int, steady_ms: int, hold_ms: int) -> None:
        """
        Start from the last heartbeat.

        Args:
            heartbeat_ms: The trusted time when a server last ran on this database; None the first time.
            wall_ms: The wall clock, milliseconds since the epoch.
            steady_ms: A monotonic clock, milliseconds.
            hold_ms: How long an odd clock has to run evenly before it is trusted; 0 trusts any clock.
        """
        self._hold_ms = hold_ms
        self._anchor_ms = wall_ms if heartbeat_ms is None else heartbeat_ms
        self._anchor_steady_ms = steady_ms
        self._leap_ms = START_LEAP_MS
        self._odd_since_ms: int | None = None
        self._odd_by_ms = 0
        self.observe(wall_ms=wall_ms, steady_ms=steady_ms)

    def heartbeat_ms(self, *, steady_ms: int) -> int:
        """Return the time to persist: the anchor and what has passed since."""
        return self._anchor_ms + steady_ms - self._anchor_steady_ms

    def now_ms(self, *, wall_ms: int, steady_ms: int) -> int:
        """Return the wall clock, or the time by the steady clock while the wall clock is implausibly ahead."""
        expected_ms = self.heartbeat_ms(steady_ms=steady_ms)
        return wall_ms if wall_ms - expected_ms <= self._leap_ms else expected_ms

    def ahead_ms(self, *, wall_ms: int, steady_ms: int) -> int:
        """Return how far the wall clock is ahead of the trusted time; 0 while it is trusted."""
        return wall_ms - self.now_ms(wall_ms=wall_ms, steady_ms=steady_ms)

    def accept(self, *, wall_ms: int, steady_ms: int) -> None:
        """Trust the wall clock from now on: the operator says that it is right."""
        self._anchor_ms, self._anchor_steady_ms = wall_ms, steady_ms
        self._leap_ms = RUN_LEAP_MS
        self._odd_since_ms = None

    def observe(self, *, wall_ms: int, steady_ms: int) -> bool:
        """
        Look at the clocks, as a server does again and again while it runs.

        Returns:
            Whether an odd clock was accepted by this look, since it ran evenly for the hold.
        """
        odd_by_ms = wall_ms - self.heartbeat_ms(steady_ms=steady_ms)
        if -BEHIND_MS <= odd_by_ms <= self._leap_ms:
            self.accept(wall_ms=max(wall_ms, wall_ms - odd_by_ms), steady_ms=steady_ms)
            return False
        if self._odd_since_ms is None or abs(odd_by_ms - self._odd_by_ms) > BEHIND_MS:
            self._odd_since_ms, self._odd_by_ms = steady_ms, odd_by_ms
        if steady_ms - self._odd_since_ms < self._hold_ms:
            return False
        self.accept(wall_ms=wall_ms, steady_ms=steady_ms)
        return True
