"""Group commit: the queue in front of the log gathers drafts into batches, one transaction each."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

from orbital_relay.core.stamps import Stamps
from orbital_relay.errors import OrbitalError, Unavailable
from orbital_relay.model import AnyDraft, Event
from orbital_relay.ports import Appended, Clock, Store

log = logging.getLogger("orbital.relay")

BATCH_DRAFTS: Final = 512
"""Most drafts of one transaction. 512 events of 400 bytes are one write of 0.3 MB to the log: past that the others wait
longer for it than they save."""
BATCH_CHARS: Final = 4 * 1024 * 1024
"""Most ciphertext of one transaction, unless a single draft has more: twelve of the largest envelopes."""

QUEUE_DRAFTS: Final = 10_000
"""Most drafts that wait. Past that a POST is refused with 503: the database does not keep up."""
QUEUE_CHARS: Final = 64 * 1024 * 1024
"""Most ciphertext that waits, for the same reason: 10,000 of the largest envelopes would be 3.5 GB."""

GATHER: Final = 0.25
"""Share of a batch's time that the next may wait for those who were just answered to come back. Without it senders who
wait for their answers fall into two halves that take turns, and the disk is asked twice as often."""
GATHER_DRAFTS: Final = 16
"""Fewest drafts worth waiting for: of a few posts a second each is stored at once."""


class Appender:
    """
    Stores drafts in the order in which they come, and delivers each batch before the next.

    What it holds is lost with the process, and none of it was answered. It never decides about a draft: the
    store does.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        stamps: Stamps,
        spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]],
        deliver: Callable[[Sequence[Event]], None],
        publish: Callable[[Sequence[Event]], Awaitable[None]],
        on_batch: Callable[[int, float], None],
    ) -> None:
        """
        Args:
            store: The log.
            clock: The time.
            stamps: Where stamps are reserved.
            spawn: Starts a task, and owns it.
            deliver: Called with what was stored, in order, before those who wait have their answers.
            publish: Called after it, before the next batch.
            on_batch: Learns the size of each batch and the seconds that it took.
        """
        self._store = store
        self._clock = clock
        self._stamps = stamps
        self._spawn = spawn
        self._deliver = deliver
        self._publish = publish
        self._on_batch = on_batch
        self._queue: deque[tuple[AnyDraft, asyncio.Future[Appended]]] = deque()
        self._queued_chars = 0
        self._appending: asyncio.Task[None] | None = None
        # The next batch may wait to have so many drafts, until then; and what ends when it has.
        self._goal_drafts = 0
        self._gather_until_s = 0.0
        self._gathered: asyncio.Future[None] | None = None
        # Ends when the batch that is with the store has been delivered.
        self._handing_on: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def drain(self) -> None:
        """Wait until nothing is queued or in progress."""
        while self._appending is not None:
            await asyncio.wait([self._appending])

    async def delivered(self) -> None:
        """Wait until the batch that is with the store, if there is one, has been delivered."""
        if self._handing_on is not None:
            await asyncio.wait([self._handing_on])

    def append(self, draft: AnyDraft) -> asyncio.Future[Appended]:
        """
        Queue a draft; the order of calls is the order of the log.

        Returns:
            A future that ends when the draft is durable, or with the OrbitalError that refused it.
        """
        future: asyncio.Future[Appended] = self._loop.create_future()
        if len(self._queue) >= QUEUE_DRAFTS or self._queued_chars >= QUEUE_CHARS:
            future.set_exception(Unavailable("The server has more to store than it can right now. Try again."))
            return future
        self._queue.append((draft, future))
        self._queued_chars += draft.content_chars
        if self._gathered is not None and len(self._queue) >= self._goal_drafts:
            _end(self._gathered)
        if self._appending is None:
            self._appending = self._spawn(self._append_queued(), "append")
        return future

    async def _append_queued(self) -> None:
        try:
            while self._queue:
                await self._gather()
                # What came in while the last batch was written is the next batch: idle, one draft does not wait; busy,
                # a transaction carries many.
                batch = self._take()
                self._handing_on = self._loop.create_future()
                try:
                    await self._append_batch(batch)
                except Exception:
                    # An internal bug in a delivery: the drafts behind this batch must not wait for ever.
                    log.exception("a batch could not be delivered")
                finally:
                    self._handing_on.set_result(None)
                    self._handing_on = None
        finally:
            self._appending = None

    def _take(self) -> list[tuple[AnyDraft, asyncio.Future[Appended]]]:
        """Take the next batch out of the queue."""
        queue = self._queue
        batch: list[tuple[AnyDraft, asyncio.Future[Appended]]] = []
        chars = 0
        while queue and len(batch) < BATCH_DRAFTS:
            more = queue[0][0].content_chars
            if batch and chars + more > BATCH_CHARS:
                break
            chars += more
            batch.append(queue.popleft())
        self._queued_chars -= chars
        return batch

    async def _gather(self) -> None:
        """Wait a little, if the last batch ended just now and those whom it answered may have more to say."""
        wait_s = self._gather_until_s - self._clock.steady_s()
        if wait_s <= 0 or len(self._queue) >= self._goal_drafts:
            return
        self._gathered = self._loop.create_future()
        timer = self._loop.call_later(wait_s, _end, self._gathered)
        try:
            await self._gathered
        finally:
            timer.cancel()
            self._gathered = None

    async def _append_batch(self, batch: list[tuple[AnyDraft, asyncio.Future[Appended]]]) -> None:
        started_s = self._clock.steady_s()
        first_stamp_ms = self._stamps.reserve(len(batch), now_ms=self._clock.wall_ms())
        try:
            outcomes = await self._store.append([draft for draft, _ in batch], first_stamp_ms=first_stamp_ms)
        except OrbitalError as refusal:
            self._stamps.end_batch()
            _refuse(batch, refusal)
            return
        except BaseException:
            self._stamps.end_batch()
            _refuse(batch, Unavailable("The server could not store this. Try again."))
            raise
        events = [outcome.event for outcome in outcomes if isinstance(outcome, Appended) and outcome.event is not None]
        try:
            self._deliver(events)
        finally:
            self._stamps.end_batch(max((event.stamp_ms for event in events), default=0))
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Appended):
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)
        ended_s = self._clock.steady_s()
        self._goal_drafts = min(len(self._queue) + len(batch), BATCH_DRAFTS)
        if self._goal_drafts >= GATHER_DRAFTS:
            self._gather_until_s = ended_s + GATHER * (ended_s - started_s)
        self._on_batch(len(batch), ended_s - started_s)
        await self._publish(events)


def _refuse(batch: list[tuple[AnyDraft, asyncio.Future[Appended]]], refusal: OrbitalError) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(refusal)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
