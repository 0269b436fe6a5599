"""Catch-up: replay the events that a listener missed, in timestamp order, until it is current."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import Delivery, HubSubscription, Listener
from orbital_relay.errors import OrbitalError, PositionLost
from orbital_relay.model import GroupId, LogRange, Page
from orbital_relay.ports import Store
from orbital_relay.relay import repair
from orbital_relay.relay.counters import Counters
from orbital_relay.relay.repair import Repairs
from orbital_relay.relay.tasks import TaskSet

CHUNK_BYTES: Final = 128 * 1024
"""Most bytes written to a listener at once; between two chunks its transport may report that it is full."""

READS_AT_ONCE: Final = 8
"""Most reads of the log for listeners at once; more would only wait in the store, and delay other users of it."""


class CatchUp:
    """
    Replays missed events to the listeners that are behind, in one task for each listener.

    It stops where a transport is full, and never keeps what a listener did not take.
    """

    def __init__(self, *, store: Store, hub: Hub, tasks: TaskSet, counters: Counters, repairs: Repairs) -> None:
        """
        Args:
            store: The log.
            hub: Writes to the listeners.
            tasks: Owns the tasks of the listeners.
            counters: Counts reads, replayed events and lost positions.
            repairs: Repair a group whose log does not have what was delivered.
        """
        self._store = store
        self._hub = hub
        self._tasks = tasks
        self._counters = counters
        self._repairs = repairs
        self._catching_up: dict[Listener, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    def catch_up(self, listener: Listener) -> None:
        """Start to replay what a listener has missed, unless its transport is full or a replay already runs."""
        if not listener.behind or listener.is_paused or listener.gone or listener in self._catching_up:
            return
        if self._hub.mark_current(listener):
            return
        self._catching_up[listener] = self._tasks.spawn(self._catch_up(listener), "catch up")

    async def _catch_up(self, listener: Listener) -> None:
        try:
            while (
                listener.behind
                and not listener.is_paused
                and not listener.gone
                and not self._hub.mark_current(listener)
            ):
                async with self._reads:
                    missed, read_for = await self._read_missed(listener)
                self._replay(listener, missed, read_for)
        finally:
            # Here, not when the task is done: a wake-up in between must find the listener free.
            del self._catching_up[listener]

    async def _read_missed(self, listener: Listener) -> tuple[list[Delivery], dict[GroupId, HubSubscription]]:
        """
        Read what a listener misses, over all its groups, in the order of stamps; and for which subscriptions.

        The goals are noted before the first read. All events up to them are stored, so nothing that is read later can
        belong before them.
        """
        wanted = [
            (subscription, subscription.position, subscription.goal)
            for subscription in listener.subscriptions.values()
            if subscription.position < subscription.goal
        ]
        read_for = {subscription.group.group_id: subscription for subscription, _, _ in wanted}
        limit = max(repair.PAGE_EVENTS // max(len(wanted), 1), 20)
        pages = await self._read_together(
            {
                subscription.group.group_id: LogRange(position, min(limit, goal - position))
                for subscription, position, goal in wanted
                if subscription.group.after(position) is None
            }
        )
        found: list[Delivery] = []
        certain: int | None = None
        for subscription, position, goal in wanted:
            page = pages.get(subscription.group.group_id)
            if page is not None and page.events:
                events: list[Delivery] | None = [Delivery(event) for event in page.events]
            else:
                events = await self._read_group(listener, subscription, position, min(limit, goal - position))
            if events is None:
                # What this group has is not known, so nothing of the others can be said to come before it.
                return [], read_for
            found += events
            if events and events[-1].event.seq < goal:
                # More of this group follows: beyond it, the order over the groups is not known yet.
                stamp_ms = events[-1].event.stamp_ms
                certain = stamp_ms if certain is None else min(certain, stamp_ms)
        found.sort(key=lambda delivery: (delivery.event.stamp_ms, delivery.event.group_id))
        return [one for one in found if certain is None or one.event.stamp_ms <= certain], read_for

    async def _read_together(self, ranges: Mapping[GroupId, LogRange]) -> Mapping[GroupId, Page]:
        """
        Read a page of each group by one call; what it does not return is read group by group, with the reason.

        The bytes of one page are divided among the groups, so what a listener misses of 200 groups is no larger.
        """
        if len(ranges) < 2:
            return {}
        self._counters.reads += 1
        try:
            return await self._store.read_many(ranges)
        except OrbitalError:
            return {}

    async def _read_group(
        self, listener: Listener, subscription: HubSubscription, position: int, limit: int
    ) -> list[Delivery] | None:
        """Read some of what a listener misses of a group; None when that is not known now."""
        group = subscription.group
        remembered = group.after(position)
        if remembered is not None:
            return remembered[:limit]
        self._counters.reads += 1
        try:
            page = await self._store.read(group.group_id, after=position, limit=limit)
        except PositionLost:
            self._counters.lost += 1
            if listener.subscriptions.get(group.group_id) is subscription:
                subscription.position = subscription.start = subscription.goal
                # Who was removed in what is gone continues after no number.
                if subscription.until is None:
                    listener.reset(group.group_id, group.last)
            return []
        except OrbitalError:
            await asyncio.sleep(repair.RETRY_S)
            return None
        if not page.events:
            # Delivered here and not in the log: it went back, and the repair notifies every listener.
            await asyncio.wait([self._repairs.repair_soon(group.group_id)])
            return None
        return [Delivery(event) for event in page.events]

    def _replay(self, listener: Listener, missed: list[Delivery], read_for: Mapping[GroupId, HubSubscription]) -> None:
        """Write what was read, as far as the listener still wants it and its transport takes it."""
        chunk: list[Delivery] = []
        positions: dict[GroupId, int] = {}
        size = 0
        for delivery in missed:
            event = delivery.event
            subscription = listener.subscriptions.get(event.group_id)
            if subscription is not read_for[event.group_id] or event.seq > subscription.goal:
                # Left, or subscribed again after the log went back, while it was read.
                continue
            if event.seq != positions.get(event.group_id, subscription.position) + 1:
                # Left and subscribed again while the log was read: the next read knows better.
                continue
            positions[event.group_id] = event.seq
            chunk.append(delivery)
            size += len(delivery.plain)
            if size >= CHUNK_BYTES:
                self._hub.write(listener, chunk)
                self._counters.replayed += len(chunk)
                chunk, size = [], 0
                if listener.is_paused or listener.gone:
                    break
        if chunk and not listener.gone:
            self._hub.write(listener, chunk)
            self._counters.replayed += len(chunk)
        for group_id, subscription in list(listener.subscriptions.items()):
            if subscription.until is not None and subscription.position >= subscription.until:
                self._hub.leave(listener, group_id)
                listener.lost(group_id, subscription.reason)
