"""The queue of one connection's frames that need the store, handled in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orbital_relay.core import session as says
from orbital_relay.core.session import StoreEffect


class StoreQueue:
    """
    Frames that wait for the one before them, so that a client which subscribes and then posts receives its own event.

    Args:
        act: Does what a frame asks for, given the length of the frame in bytes; it handles its own errors.
        done: Called with the length of each frame that is done, in bytes.
    """

    __slots__ = ("_act", "_done", "_waiting", "_worker")

    def __init__(self, *, act: Callable[[StoreEffect, int], Awaitable[None]], done: Callable[[int], None]) -> None:
        self._act = act
        self._done = done
        self._waiting: list[tuple[StoreEffect, int]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a frame is in progress, so that later ones have to wait."""
        return self._worker is not None

    def add(self, effect: StoreEffect, size_bytes: int) -> None:
        """Enqueue a frame."""
        self._waiting.append((effect, size_bytes))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work(), name="frames that need the store")

    def in_progress(self) -> list[asyncio.Future[None]]:
        """Return what a post that waits here waits for; empty when none does."""
        posts = any(isinstance(effect, says.StorePost) for effect, _ in self._waiting)
        return [self._worker] if posts and self._worker is not None else []

    def take_posts(self) -> list[says.StorePost]:
        """Remove all frames that wait, and return the posts among them."""
        waiting, self._waiting = self._waiting, []
        for _, size_bytes in waiting:
            self._done(size_bytes)
        return [effect for effect, _ in waiting if isinstance(effect, says.StorePost)]

    def cancel(self) -> None:
        """Cancel the frame that is in progress: the client has gone."""
        if self._worker is not None:
            self._worker.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                effect, size_bytes = self._waiting.pop(0)
                await self._act(effect, size_bytes)
                self._done(size_bytes)
        finally:
            self._worker = None
