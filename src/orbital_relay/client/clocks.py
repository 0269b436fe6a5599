"""Clocks in milliseconds: wall time, and the monotonic clock."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Tell the wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def tick_ms() -> int:
    """Tell a clock that does not step back, milliseconds."""
    return time.monotonic_ns() // 1_000_000
