"""Rate limits of one process: counters in its memory (adapter of the port Limiter)."""

from __future__ import annotations

from orbital_relay.core.window import Windows
from orbital_relay.ports import Clock, Limiter


class LocalLimiter:
    """
    Counts in this process' memory, and so can answer without waiting; the counting is `core/window.py`.

    It forgets everything when the process ends: a restart opens the doors once more.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, int, float], Windows] = {}

    def hit_now(self, name: str, key: str, *, limit: int, window_s: float) -> float | None:
        """Do as `Limiter.hit`, without waiting."""
        return self._named(name, limit, window_s).hit(key, self._clock.steady_s())

    def peek_now(self, name: str, key: str, *, limit: int, window_s: float) -> float | None:
        """Do as `Limiter.peek`, without waiting."""
        return self._named(name, limit, window_s).peek(key, self._clock.steady_s())

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; what is refused does not count."""
        return self.hit_now(name, key, limit=limit, window_s=window_s)

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Return what `hit` would return, without counting."""
        return self.peek_now(name, key, limit=limit, window_s=window_s)

    def _named(self, name: str, limit: int, window_s: float) -> Windows:
        # The names are few and ours, so this never grows.
        windows = self._windows.get((name, limit, window_s))
        if windows is None:
            windows = self._windows[name, limit, window_s] = Windows(limit=limit, window_s=window_s)
        return windows


_: type[Limiter] = LocalLimiter
