"""The machine's clocks, and whether the wall clock is trusted."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orbital_relay.core.trusted_time import TrustedTime
from orbital_relay.errors import Unavailable
from orbital_relay.ports import Clock

if TYPE_CHECKING:
    from orbital_relay.store.sql import SqlStore

log = logging.getLogger("orbital.server")

SKEW_MS: Final = 60_000
"""How far this machine's clock may be from the database server's; beyond that the database's is used."""

HOUR_MS: Final = 3600 * 1000


class SystemClock:
    """The time as the operating system tells it."""

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start, never stepping back."""
        return time.monotonic()

    def running_ms(self) -> int:
        """Return milliseconds from an arbitrary start; where the system supports it, suspended time counts too."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        return time.monotonic_ns() // 1_000_000


class GuardedClock:
    """
    The clock of a server: the machine's, unless that is implausibly ahead of the heartbeat in the database.

    Everything that a server dates or ends goes by it: stamps, retention, media, tokens, invite codes, idempotency keys.
    """

    def __init__(self, machine: SystemClock, store: SqlStore, *, hold_hours: float) -> None:
        self._machine = machine
        self._store = store
        self._hold_ms = round(hold_hours * HOUR_MS)
        # Added to this machine's clock when that is not the database's.
        self._offset_ms = 0
        self._accepted_ms = 0
        self._time: TrustedTime | None = None
        self._held = False

    @classmethod
    async def open(cls, store: SqlStore, *, hold_hours: float, machine: SystemClock | None = None) -> GuardedClock:
        """
        Start from the heartbeat in the database.

        Args:
            store: Where the heartbeat is.
            hold_hours: How long an odd clock has to run evenly before it is trusted.
            machine: The machine's clocks.

        Raises:
            Unavailable: If the database cannot be read.
        """
        clock = cls(SystemClock() if machine is None else machine, store, hold_hours=hold_hours)
        try:
            await clock.beat()
        except Unavailable:
            # A full disk: the server starts all the same, and what it can read is served.
            if clock._time is None:
                raise
        return clock

    def wall_ms(self) -> int:
        """Return the trusted time, milliseconds since the epoch."""
        if self._time is None:
            raise AssertionError("open() looks before anybody asks")
        return self._time.now_ms(wall_ms=self._wall_ms(), steady_ms=self._machine.running_ms())

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start, never stepping back."""
        return self._machine.steady_s()

    def ahead_s(self) -> float:
        """Return by how many seconds the machine's clock is ahead of the trusted time; 0 while it is trusted."""
        if self._time is None:
            raise AssertionError("open() looks before anybody asks")
        return self._time.ahead_ms(wall_ms=self._wall_ms(), steady_ms=self._machine.running_ms()) / 1000

    def _wall_ms(self) -> int:
        return self._machine.wall_ms() + self._offset_ms

    async def beat(self) -> None:
        """
        Look at the clocks, and write the heartbeat.

        Raises:
            Unavailable: If the database cannot be reached; the clock continues as before.
        """
        lower = await self.look()
        if self._time is not None:
            heartbeat_ms = self._time.heartbeat_ms(steady_ms=self._machine.running_ms())
            await self._store.beat(heartbeat_ms=heartbeat_ms, lower=lower)

    async def look(self) -> bool:
        """Compare the clocks; return whether the heartbeat is to be set even if that lowers it."""
        marks = await self._store.clock_marks()
        self._compare(marks.database_ms)
        wall_ms, steady_ms = self._wall_ms(), self._machine.running_ms()
        accepted = False
        if self._time is None:
            self._time = TrustedTime(
                heartbeat_ms=marks.heartbeat_ms, wall_ms=wall_ms, steady_ms=steady_ms, hold_ms=self._hold_ms
            )
        elif marks.accepted_ms != self._accepted_ms:
            self._time.accept(wall_ms=wall_ms, steady_ms=steady_ms)
            log.warning("the clock was accepted by the operator", extra={"clock": _iso(wall_ms)})
        else:
            accepted = self._time.observe(wall_ms=wall_ms, steady_ms=steady_ms)
            if accepted:
                log.warning("the clock ran evenly for the hold and is trusted now", extra={"clock": _iso(wall_ms)})
        self._accepted_ms = marks.accepted_ms
        ahead_ms = self._time.ahead_ms(wall_ms=wall_ms, steady_ms=steady_ms)
        if ahead_ms and not self._held:
            log.warning(
                "the clock is implausibly far ahead, so nothing is deleted or expires by it; "
                "if it is right, run: orbital clock --accept",
                extra={"clock": _iso(wall_ms), "ahead_s": ahead_ms // 1000, "used": _iso(wall_ms - ahead_ms)},
            )
        elif self._held and not ahead_ms:
            log.warning("the clock is trusted again", extra={"clock": _iso(wall_ms)})
        self._held = bool(ahead_ms)
        return accepted

    def _compare(self, database_ms: int | None) -> None:
        """Use the database server's clock where this machine's is another: all servers of a cluster share it."""
        if database_ms is None:
            return
        off_ms = database_ms - self._machine.wall_ms()
        offset_ms = off_ms if abs(off_ms) > SKEW_MS else 0
        if offset_ms and not self._offset_ms:
            log.warning(
                "this machine's clock is not the database's; the database's is used", extra={"ahead_s": -off_ms // 1000}
            )
        self._offset_ms = offset_ms


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


_: type[Clock] = SystemClock
_guarded: type[Clock] = GuardedClock
