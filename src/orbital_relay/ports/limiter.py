"""The port to rate limits."""

from __future__ import annotations

from typing import Protocol


class Limiter(Protocol):
    """Counts attempts in moving windows; over several servers, together."""

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; return None when it is within the limit, else the seconds until one would be."""
        ...

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Return what `hit` would, without counting."""
        ...
