"""Gap repair of live groups: compare with the store, read missing events, detect a log that was rewound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from orbital_relay.core.chain import first_prev, fits
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import HeadSnapshot, Listener, LiveGroup
from orbital_relay.errors import NotFound, OrbitalError, PositionLost
from orbital_relay.model import GroupId, Head, Page
from orbital_relay.ports import Store
from orbital_relay.relay.counters import Counters
from orbital_relay.relay.tasks import TaskSet

log = logging.getLogger("orbital.relay")

PAGE_EVENTS: Final = 500
"""Most events of one read of the log."""

COMPARED_AT_ONCE: Final = 500
"""Heads of one read."""

RETRY_S: Final = 1.0
"""Time until a group whose log could not be read is read again, in seconds."""


class Repairs:
    """
    Reads what live groups lack, in one task for each group; what it reads is delivered through the hub.

    The log is authoritative: where it went back, the group continues from its head. A repair never writes to the log.
    """

    def __init__(
        self,
        *,
        store: Store,
        hub: Hub,
        tasks: TaskSet,
        counters: Counters,
        begin_again: Callable[[Collection[Listener], GroupId], None],
        on_restored: Callable[[], None],
    ) -> None:
        """
        Args:
            store: The log.
            hub: The live groups.
            tasks: Owns the repairs.
            counters: Counts the logs that went back.
            begin_again: Called with the listeners that have to be subscribed to a group again, after a gap.
            on_restored: Called when a group's log has gone back.
        """
        self._store = store
        self._hub = hub
        self._tasks = tasks
        self._counters = counters
        self._begin_again = begin_again
        self._on_restored = on_restored
        self._repairing: dict[GroupId, asyncio.Task[None]] = {}
        self._comparing: asyncio.Task[None] | None = None
        self.low_watermark_ms: int | None = None
        """In a cluster: a stamp below every event that may still have to be delivered here."""

    async def start(self) -> None:
        """Read the low watermark."""
        self.low_watermark_ms = await self._store.low_watermark_ms()

    def repair_soon(self, group_id: GroupId) -> asyncio.Task[None]:
        """Return the task that repairs a group; start it if none runs."""
        task = self._repairing.get(group_id)
        if task is None:
            task = self._repairing[group_id] = self._tasks.spawn(self._repair(group_id), "repair")
        return task

    async def compare(self) -> None:
        """
        Compare the heads of live groups with the store's, and read what is missing.

        An event whose bus message was lost arrives this way, too. Then the low watermark moves forward.

        Raises:
            Unavailable: If the store is unreachable.
        """
        low_watermark_ms = await self._store.low_watermark_ms()
        live = list(self._hub.groups)
        repairs = []
        for start in range(0, len(live), COMPARED_AT_ONCE):
            some = {
                group_id: group.snapshot
                for group_id in live[start : start + COMPARED_AT_ONCE]
                if (group := self._hub.groups.get(group_id)) is not None and group.cursor is not None
            }
            heads = await self._store.heads(list(some))
            for group_id, before in some.items():
                repair = self._note_head(group_id, before, heads.get(group_id))
                if repair is not None:
                    repairs.append(repair)
        if repairs:
            await asyncio.wait(repairs)
        self.low_watermark_ms = low_watermark_ms

    def compare_soon(self) -> None:
        """Compare heads now: the bus was unreachable, and messages were lost."""
        if self._comparing is None or self._comparing.done():
            self._comparing = self._tasks.spawn(self._compare_again(), "compare")

    async def _repair(self, group_id: GroupId) -> None:
        """Read the log of a live group until all events that are known to exist have been delivered."""
        try:
            await self._read_to_the_head(group_id)
        finally:
            # Here, not when the task is done: a gap that shows in between must begin a repair of its own.
            del self._repairing[group_id]

    async def _read_to_the_head(self, group_id: GroupId) -> None:
        while (group := self._hub.groups.get(group_id)) is not None and group.cursor is not None:
            before = group.snapshot
            try:
                page = await self._store.read(group_id, after=before.seq, limit=PAGE_EVENTS)
            except PositionLost as lost:
                # Pruned while this server was cut off from the log: what is gone cannot be delivered.
                self._begin_again(self._hub.skip(group, int(lost.details["oldest_seq"]) - 1), group_id)
                continue
            except NotFound:
                # The group itself was lost with what the log lost.
                self._restore(group, before, Head(0, 0, 0, first_prev(group_id)))
                return
            except OrbitalError:
                await asyncio.sleep(RETRY_S)
                continue
            if self._went_back(before, page):
                self._restore(group, before, page.head)
                continue
            group.doubted = False
            for event in page.events:
                self._hub.offer(event)
            self._hub.flush()
            if group.last >= max(page.head.seq, group.highest_seen):
                return
            if not page.events:
                # A number that the log does not have: a bus message from before it went back. The log is authoritative.
                group.highest_seen = group.last
                return

    @staticmethod
    def _went_back(before: HeadSnapshot, page: Page) -> bool:
        """Return whether a page read after `before` is of a log that lost events which were delivered here."""
        if page.events:
            return before.hash is not None and not fits(page.events[0].frame, before.hash)
        return before.went_back(page.head)

    def _restore(self, group: LiveGroup, before: HeadSnapshot, head: Head) -> None:
        """
        Continue from the head of a rewound log: after a failover to a replica that lagged, or a restored backup.

        Every listener is notified: it continues from there, and what it has beyond is no longer in the log.
        """
        self._counters.restored += 1
        log.warning(
            "the log of a group went back to an older state; its subscribers continue from the new head",
            extra={"group_id": group.group_id, "had_seq": before.seq, "has_seq": head.seq},
        )
        self._begin_again(self._hub.rewind(group, head), group.group_id)
        self._on_restored()

    async def _compare_again(self) -> None:
        # If the store is unreachable too, the periodic comparison comes after.
        with suppress(OrbitalError):
            await self.compare()

    def _note_head(self, group_id: GroupId, before: HeadSnapshot, head: Head | None) -> asyncio.Task[None] | None:
        """Repair a group if its head, read after `before`, is not where this server stands; None is no such group."""
        group = self._hub.groups.get(group_id)
        if group is None or group.cursor is None:
            return None
        if head is None or before.went_back(head):
            return self.repair_soon(group_id) if group.epoch == before.epoch else None
        group.highest_seen = max(group.highest_seen, head.seq)
        return self.repair_soon(group_id) if group.doubted or group.last < head.seq else None
