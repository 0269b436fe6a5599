"""A group's events as an asynchronous iterator, with the bounded buffer in front (backpressure)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from orbital_relay.client.events import CaughtUp, Event, Position, Reset, StreamItem
from orbital_relay.client.progress import Progress


class Subscription:
    """
    One group's events, each once, in order, from a position on.

    An asynchronous iterator, which continues over connection losses. It yields events, and a Reset where some are
    permanently lost. It ends when the user is no longer a member, and raises when it cannot continue.

    An event counts as handled when the next one is asked for, when `commit` is called, or when the `async with` block
    of the subscription or of the client ends without an error in the task that reads; with a callback, when that has
    returned. The position in the store moves then, and not before.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        marks: bool,
        taken: Callable[[Subscription], None],
        leave: Callable[[Subscription], None],
    ) -> None:
        """
        Begin empty; the client puts in what comes.

        Args:
            progress: How far the group was read, and where that is kept.
            marks: Yield a CaughtUp too.
            taken: Called for each item that leaves the buffer.
            leave: Called when the program stops listening.
        """
        self.group_id = progress.group_id
        self._progress = progress
        self._marks = marks
        self._taken = taken
        self._leave = leave
        self._items: deque[StreamItem] = deque()
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._finished = asyncio.Event()
        self._head: int | None = None
        self._asked = False
        """Whether somebody waits for the next item."""
        self._over = False
        self._error: BaseException | None = None
        self._reason: str | None = None

    # Public

    @property
    def position(self) -> Position | None:
        """The position after the last event that was handled; None before the first."""
        return self._progress.handled

    @property
    def ended(self) -> str | None:
        """Why the stream is over: `left`, `removed`, `closed`, `refused`, `chain`; None while it is not."""
        return self._reason

    @property
    def error(self) -> BaseException | None:
        """What the iterator raises at its end; None when it just ends."""
        return self._error

    async def ready(self) -> int | None:
        """
        Wait until the server has confirmed the subscription.

        Returns:
            Number of the group's last event at that moment; None when the server did not say.

        Raises:
            NotAMember: If the user is not in the group.
            Refused: If the connection ended permanently.
        """
        await self._ready.wait()
        if self._error is not None:
            raise self._error
        return self._head

    async def finished(self) -> None:
        """
        Wait until the stream is over and all of it was read; for a subscription with a callback.

        Raises:
            NotAMember, ChainBroken, Refused: What ended it, if that was an error.
        """
        await self._finished.wait()
        if self._error is not None:
            raise self._error

    async def commit(self) -> None:
        """Count the event that was yielded last as handled, and save the position."""
        self._progress.acknowledge()
        await self._progress.save()

    async def close(self) -> None:
        """Stop listening; the position is saved."""
        self._leave(self)
        self._finished.set()
        await self._progress.save()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Reset | CaughtUp:
        if self._asked:
            raise RuntimeError(f"One task at a time reads the group {self.group_id}; another one waits for its events.")
        self._asked = True
        try:
            self._progress.ask(asyncio.current_task())
            return await self._next()
        finally:
            self._asked = False

    async def __aenter__(self) -> Self:
        await self.ready()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self._progress.acknowledge_for(asyncio.current_task())
        await self.close()

    async def _next(self) -> Event | Reset | CaughtUp:
        progress = self._progress
        while True:
            if progress.is_due:
                await progress.save()
            while self._items:
                item = self._items.popleft()
                self._taken(self)
                progress.hand(item)
                if not isinstance(item, CaughtUp) or self._marks:
                    return item
                progress.acknowledge()
            # What could not be saved would be tried without end here, by a reader that continues.
            await progress.save(insist=False)
            if self._items:
                continue
            if self._over:
                self._finished.set()
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()

    # For the client

    def put(self, item: StreamItem) -> None:
        """Let the program have this after what waits already."""
        self._items.append(item)
        self._arrived.set()

    def confirm(self, seq: int | None) -> None:
        """Note that the server listens for us; `seq` is the log's end then."""
        self._head = seq
        self._ready.set()

    def end(self, error: BaseException | None, reason: str) -> None:
        """Let the stream be over once what waits is read; what ended it first counts."""
        if not self._over:
            self._over = True
            self._error = error
            self._reason = reason
        self._ready.set()
        self._arrived.set()

    def finish(self) -> None:
        """Let nobody wait for the end any more: what was not read will not be."""
        self._finished.set()
