"""The port to the clock."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The time, in milliseconds since the epoch (wall) and in seconds that never step back (steady)."""

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds."""
        ...

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start."""
        ...
