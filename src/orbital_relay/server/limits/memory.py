"""Memory limit for large responses, with eviction of the slowest download under pressure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from orbital_relay.errors import Unavailable
from orbital_relay.ports import Clock

log = logging.getLogger("orbital.limits")

MADE_BYTES: Final = 24 * 1024 * 1024
"""What a page takes while it is made: its rows, its JSON and the encoder's buffer, 8 MiB each."""
STREAMED_BYTES: Final = 1024 * 1024
"""What a stream from the blobs takes: a piece of 256 KiB that is read, one that is sent, and the transport's buffer."""
EXPORT_BYTES: Final = 6 * 1024 * 1024
"""What an export takes: a page of 1 MiB and one entry, as rows and as JSON, and the transport's buffer."""
GRACE_S: Final = 5.0
"""How long an answer may be in flight before it can be cut: 8 MiB at 1.6 MB a second."""
WAIT_S: Final = 10.0
"""Longest wait for room; a client's own time-out is seldom shorter."""
_LOOK_S: Final = 0.5


class Reservation:
    """
    The share of one answer.

    Attributes:
        owner: Who asked for it.
        size_bytes: What it takes now.
        sent_bytes: What the transport took of it.
    """

    __slots__ = ("_scope", "_since_s", "cut", "owner", "sent_bytes", "size_bytes")

    def __init__(self, owner: str, size_bytes: int) -> None:
        self.owner = owner
        self.size_bytes = size_bytes
        self.sent_bytes = 0
        self.cut = False
        self._since_s: float | None = None
        self._scope: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def sending(self, now_s: float) -> AsyncIterator[None]:
        """
        Send the answer inside this block.

        Raises:
            TimeoutError: If the answer was cut because its client reads slowly.
        """
        self._since_s = now_s
        async with asyncio.timeout(None) as self._scope:
            yield

    def rate(self, now_s: float) -> float | None:
        """Return how many bytes a second the client took; None while the answer cannot be cut."""
        if self._since_s is None or self.cut or now_s - self._since_s < GRACE_S:
            return None
        return self.sent_bytes / (now_s - self._since_s)

    def abort(self) -> None:
        """Cut the answer: the block of `sending` ends with TimeoutError."""
        self.cut = True
        if self._scope is not None and self._scope.when() is None:
            self._scope.reschedule(asyncio.get_running_loop().time())


class AnswerMemory:
    """
    The memory that large answers of one process may take together.

    An answer takes its share before it is made and gives it back when it is sent, so that clients which do not read
    cannot make the process grow. When there is no room, the answer whose client reads most slowly is cut. One user
    gets half at most, so that another's answers are made meanwhile.

    Args:
        limit_bytes: All shares together.
        clock: The time.
    """

    def __init__(self, limit_bytes: int, *, clock: Clock) -> None:
        self._limit = limit_bytes
        self._clock = clock
        self._held: set[Reservation] = set()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def taken_bytes(self) -> int:
        """All shares together."""
        return sum(each.size_bytes for each in self._held)

    async def take(self, owner: str, size_bytes: int) -> Reservation:
        """
        Take a share; give it back with `release`.

        Raises:
            Unavailable: If there is no room within `WAIT_S`.
        """
        if not self._fits(owner, size_bytes):
            await self._wait(owner, size_bytes)
        held = Reservation(owner, size_bytes)
        self._held.add(held)
        return held

    def shrink(self, held: Reservation, size_bytes: int) -> None:
        """Keep only so much of a share: the answer is made, and its size known."""
        if size_bytes < held.size_bytes:
            held.size_bytes = size_bytes
            self._wake()

    def release(self, held: Reservation) -> None:
        """Give a share back."""
        self._held.discard(held)
        self._wake()

    def _fits(self, owner: str, size_bytes: int) -> bool:
        if not self._held:
            return True
        own = [each.size_bytes for each in self._held if each.owner == owner]
        if own and sum(own) + size_bytes > self._limit // 2:
            return False
        return self.taken_bytes + size_bytes <= self._limit

    async def _wait(self, owner: str, size_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        until_s = self._clock.steady_s() + WAIT_S
        while not self._fits(owner, size_bytes):
            now_s = self._clock.steady_s()
            if now_s >= until_s:
                raise Unavailable(
                    "Too many large answers are being sent at the moment. Try again in a few seconds.", retry_after_s=2
                )
            self._cut_slowest(owner, size_bytes, now_s)
            freed: asyncio.Future[None] = loop.create_future()
            self._waiting.add(freed)
            try:
                # Looked at again meanwhile: an answer that was too young to be cut no longer is.
                await asyncio.wait([freed], timeout=_LOOK_S)
            finally:
                self._waiting.discard(freed)

    def _cut_slowest(self, owner: str, size_bytes: int, now_s: float) -> None:
        """Cut the slowest answer: of the same owner when its own half is full, else of all."""
        candidates = [each for each in self._held if each.rate(now_s) is not None]
        if self.taken_bytes + size_bytes <= self._limit:
            candidates = [each for each in candidates if each.owner == owner]
        if candidates:
            slowest = min(candidates, key=_rate_at(now_s))
            log.warning(
                "an answer was cut: its client reads slowly, and others wait for room",
                extra={"sent_bytes": slowest.sent_bytes, "size_bytes": slowest.size_bytes},
            )
            slowest.abort()

    def _wake(self) -> None:
        for freed in self._waiting:
            if not freed.done():
                freed.set_result(None)


def _rate_at(now_s: float) -> Callable[[Reservation], float]:
    def rate(held: Reservation) -> float:
        return held.rate(now_s) or 0.0

    return rate
