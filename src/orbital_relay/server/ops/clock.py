"""The machine's clocks."""

from __future__ import annotations

import time

from orbital_relay.ports import Clock


class SystemClock:
    """The time as the operating system tells it."""

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start, never stepping back."""
        return time.monotonic()


_: type[Clock] = SystemClock
