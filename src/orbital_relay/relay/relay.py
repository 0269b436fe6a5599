"""Keeps every listener of this server in step with the log: deliver, subscribe, repair, catch up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from orbital_relay import wire
from orbital_relay.core.chain import first_prev, fits
from orbital_relay.core.cursor import Verdict
from orbital_relay.core.framing import text_frame
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import Delivery, HeadSnapshot, HubSubscription, Listener, LiveGroup
from orbital_relay.core.stamps import Stamps
from orbital_relay.errors import NotFound, OrbitalError, PositionLost
from orbital_relay.model import (
    Access,
    AnyDraft,
    Event,
    GroupId,
    Head,
    MembershipAtHead,
    Page,
    Resume,
    UserId,
)
from orbital_relay.ports import Appended, Bus, Clock, Store
from orbital_relay.relay.appender import Appender
from orbital_relay.relay.bus_messages import decode_message, encode_event, encode_typing
from orbital_relay.relay.counters import Counters

log = logging.getLogger("orbital.relay")

PAGE_EVENTS: Final = 500
"""Most events of one read of the log."""

CHUNK_BYTES: Final = 128 * 1024
"""Most bytes written to a catching-up connection at once; it is asked in between whether it still takes them."""

READS_AT_ONCE: Final = 8
"""Reads of the log by those who catch up; more would only wait in the store, and keep others from it."""

COMPARED_AT_ONCE: Final = 500
"""Heads of one read."""

REPAIR_RETRY_S: Final = 1.0
"""How long until a group whose log could not be read is tried again."""


class Granted(msgspec.Struct, frozen=True):
    """
    What a request to subscribe came to.

    Attributes:
        groups: The state of each group that is subscribed now, in the order asked for.
        refused: The ids that the user is not in, or that are no group's.
    """

    groups: dict[str, wire.GroupState]
    refused: list[str]


def whom(frame: bytes) -> tuple[UserId, str]:
    """Read whom a `member_…` frame is about, and its reason if it has one."""
    data = wire.event_data(frame)
    if isinstance(data, wire.MemberLeft):
        return UserId(data.user_id), data.reason
    if isinstance(data, wire.MemberJoined):
        return UserId(data.user_id), ""
    raise AssertionError("only member_joined and member_left are about a member")


class Relay:
    """
    Appends drafts, and keeps every listener of this server in step with the log.

    Order and durability are the store's. What the relay holds in memory can be lost at any moment, and nothing is lost.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        compress: Callable[[bytes], bytes],
        on_batch: Callable[[int, float], None] = lambda _drafts, _seconds: None,
        on_moved: Callable[[GroupId], None] = lambda _group_id: None,
        on_restored: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            store: The log.
            clock: The time.
            compress: Makes the compressed WebSocket frame of a text.
            on_batch: Learns the size of each append batch and the seconds that it took.
            on_moved: Called with each group that a listener subscribed to or unsubscribed from.
            on_restored: Called when a group's log has gone back: what else was remembered of the database may be wrong.
        """
        self._store = store
        self._on_restored = on_restored
        self._bus: Bus | None = None
        self._clock = clock
        self.hub = Hub(who=whom, compress=compress, dropped=self._dropped, moved=on_moved)
        self.stamps = Stamps()
        self.counters = Counters()
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairing: dict[GroupId, asyncio.Task[None]] = {}
        # Listeners to notify that some of a group is gone, before they are subscribed again.
        self._gaps: set[tuple[Listener, GroupId]] = set()
        self._catching_up: dict[Listener, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._flush_due = False
        self._comparing: asyncio.Task[None] | None = None
        # With other servers about: a stamp below every event that may still have to be delivered here.
        self._low_watermark_ms: int | None = None
        self._loop = asyncio.get_running_loop()
        self._appender = Appender(
            store=store,
            clock=clock,
            stamps=self.stamps,
            spawn=self._spawn,
            deliver=self._deliver,
            publish=self._publish,
            on_batch=on_batch,
        )

    async def start(self, bus: Bus | None = None) -> None:
        """Take up the clock where the log left it; `bus` tells the other servers, if there are any."""
        self._bus = bus
        self._low_watermark_ms = await self._store.low_watermark_ms()
        # Nothing is on its way yet.
        self.stamps.settle(await self._store.last_stamp_ms())

    async def close(self) -> None:
        """Append what is queued, then end every task."""
        await self._appender.drain()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the relay failed", exc_info=error, extra={"task": task.get_name()})

    # Chapter: appending

    def append(self, draft: AnyDraft) -> asyncio.Future[Appended]:
        """
        Queue a draft; the order of calls is the order of the log.

        Returns:
            A future that ends when the draft is durable, or with the OrbitalError that refused it.
        """
        return self._appender.append(draft)

    def _deliver(self, events: Sequence[Event]) -> None:
        """Take what was stored here."""
        counts = self.counters.events
        for event in events:
            kind = wire.kind_of(event.frame)
            counts[kind] = counts.get(kind, 0) + 1
            self.stamps.advance(event.stamp_ms)
            self._ingest(event)
        self.hub.flush()

    async def _publish(self, events: Sequence[Event]) -> None:
        if self._bus is not None:
            for event in events:
                await self._bus.publish(event.group_id, encode_event(event))

    # Chapter: events from anywhere

    def receive(self, group_id: GroupId, payload: bytes) -> None:
        """Take what another server published; bad or late, it does no harm."""
        message = decode_message(group_id, payload)
        if isinstance(message, Event):
            self._ingest(message)
            self._flush_soon()
        elif message is not None:
            self._notify_here(group_id, message)

    def _flush_soon(self) -> None:
        if not self._flush_due and self.hub.dirty:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.hub.flush()

    def _ingest(self, event: Event) -> None:
        if self.hub.offer(event) is Verdict.GAP:
            self.counters.gaps += 1
            self._repair_soon(event.group_id)

    def _repair_soon(self, group_id: GroupId) -> asyncio.Task[None]:
        task = self._repairing.get(group_id)
        if task is None:
            task = self._repairing[group_id] = self._spawn(self._repair(group_id), "repair")
        return task

    async def _repair(self, group_id: GroupId) -> None:
        """Read the log of a live group until all events that are known to exist have been delivered."""
        try:
            await self._read_to_the_head(group_id)
        finally:
            # Here, not when the task is done: a gap that shows in between must begin a repair of its own.
            del self._repairing[group_id]

    async def _read_to_the_head(self, group_id: GroupId) -> None:
        while (group := self.hub.groups.get(group_id)) is not None and group.cursor is not None:
            before = group.standing
            try:
                page = await self._store.read(group_id, after=before.seq, limit=PAGE_EVENTS)
            except PositionLost as lost:
                # Pruned while this server was cut off from the log: what is gone cannot be delivered.
                self._begin_again(self.hub.skip(group, int(lost.details["oldest_seq"]) - 1), group_id)
                continue
            except NotFound:
                # The group itself was lost with what the log lost.
                self._restore(group, before, Head(0, 0, 0, first_prev(group_id)))
                return
            except OrbitalError:
                await asyncio.sleep(REPAIR_RETRY_S)
                continue
            if self._went_back(before, page):
                self._restore(group, before, page.head)
                continue
            group.doubted = False
            for event in page.events:
                self.hub.offer(event)
            self.hub.flush()
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
        Go on from the head of a log that went back: after a failover to a replica that lagged, or a restored backup.

        Every listener is notified: it continues from there, and what it has beyond is no longer in the log.
        """
        if group.epoch != before.epoch:
            # Another read found it meanwhile.
            return
        self.counters.restored += 1
        log.warning(
            "the log of a group went back to an older state; its subscribers continue from the new head",
            extra={"group_id": group.group_id, "had_seq": before.seq, "has_seq": head.seq},
        )
        self._begin_again(self.hub.rewind(group, head), group.group_id)
        self._on_restored()

    def _begin_again(self, listeners: Collection[Listener], group_id: GroupId) -> None:
        """Let listeners go on after a gap, each once its membership was read again."""
        for listener in listeners:
            self._gaps.add((listener, group_id))
            self._spawn(self._subscribe_again(listener, group_id), "subscribe again")

    async def _subscribe_again(self, listener: Listener, group_id: GroupId) -> None:
        """
        Let a listener go on after a gap in its group.

        Its user may have been removed in the gap, where nobody saw it: so it is asked for again.
        """
        gap = listener, group_id

        def wanted() -> bool:
            # Not when it subscribed by itself in between: it was notified of the gap then, or has left the group.
            return gap in self._gaps

        def answer(granted: Granted) -> None:
            if group_id not in granted.groups:
                listener.lost(group_id, "removed")

        try:
            while wanted() and not listener.gone:
                try:
                    await self.subscribe(listener, [group_id], {}, answer=answer, wanted=wanted)
                    return
                except OrbitalError:
                    await asyncio.sleep(REPAIR_RETRY_S)
        finally:
            self._gaps.discard(gap)

    async def compare(self) -> None:
        """
        Compare the heads of live groups with the store's, and read what is missing.

        With this a last message that the bus lost arrives, too; and up to what was settled before, nothing is missing.

        Raises:
            Unavailable: If the store is unreachable.
        """
        low_watermark_ms = await self._store.low_watermark_ms()
        live = list(self.hub.groups)
        repairs = []
        for start in range(0, len(live), COMPARED_AT_ONCE):
            some = {
                group_id: group.standing
                for group_id in live[start : start + COMPARED_AT_ONCE]
                if (group := self.hub.groups.get(group_id)) is not None and group.cursor is not None
            }
            heads = await self._store.heads(list(some))
            for group_id, before in some.items():
                repair = self._note_head(group_id, before, heads.get(group_id))
                if repair is not None:
                    repairs.append(repair)
        if repairs:
            await asyncio.wait(repairs)
        self._low_watermark_ms = low_watermark_ms

    def compare_soon(self) -> None:
        """Compare heads now: the bus was unreachable, and messages were lost."""
        if self._comparing is None or self._comparing.done():
            self._comparing = self._spawn(self._compare_again(), "compare")

    async def _compare_again(self) -> None:
        # If the store is unreachable too, the periodic comparison comes after.
        with suppress(OrbitalError):
            await self.compare()

    def _note_head(self, group_id: GroupId, before: HeadSnapshot, head: Head | None) -> asyncio.Task[None] | None:
        """Repair a group if its head, read after `before`, is not where this server stands; None is no such group."""
        group = self.hub.groups.get(group_id)
        if group is None or group.cursor is None:
            return None
        if head is None or before.went_back(head):
            return self._repair_soon(group_id) if group.epoch == before.epoch else None
        group.highest_seen = max(group.highest_seen, head.seq)
        return self._repair_soon(group_id) if group.doubted or group.last < head.seq else None

    # Chapter: subscribing

    async def subscribe(
        self,
        listener: Listener,
        group_ids: Collection[str],
        since: Mapping[str, Resume],
        *,
        answer: Callable[[Granted], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        Subscribe a listener to groups, each from now on or from the position that it gives.

        Membership is read from the store after the group came alive here, and looked at once more in the step that lets
        the listener: a `member_left` in between is seen.

        Args:
            listener: The connection.
            group_ids: What it asks for.
            since: Where it stands, for those groups that it wants replayed.
            answer: Called in the step that subscribes the listener, before any event reaches it.
            wanted: Asked in that step whether it is still to be done.

        Raises:
            Unavailable: If the store is unreachable; nothing has changed.
        """
        asked = list(dict.fromkeys(group_ids))
        known = [GroupId(group_id) for group_id in asked if wire.is_uuid(group_id)]
        groups = {group_id: self.hub.group(group_id) for group_id in known}
        try:
            if self._bus is not None:
                # Follow before reading the head: an event stored in between would be in neither.
                new = [group_id for group_id, group in groups.items() if group.cursor is None]
                await asyncio.gather(*(self._bus.follow(group_id) for group_id in new))
            while True:
                unseen = {group_id: group.unseen for group_id, group in groups.items()}
                before = {group_id: group.standing for group_id, group in groups.items() if group.cursor is not None}
                epochs = {group_id: group.epoch for group_id, group in groups.items()}
                memberships = await self._store.memberships(listener.user, known)
                await self._catch_up_groups(groups, memberships, before)
                found = await self._look_up(groups, memberships, since)
                # What passed unseen after the standing was read, before another opened the group or in a gap, may have
                # been this user's removal; and what was read of a log that has gone back since is not true.
                if not any(
                    groups[group_id].unseen > max(unseen[group_id], standing.head.seq)
                    for group_id, standing in memberships.items()
                ) and all(group.epoch == epochs[group_id] for group_id, group in groups.items()):
                    break
            if listener.gone or not wanted():
                return
            self._admit(listener, asked, groups, memberships, found, since, answer=answer)
        finally:
            for group in groups.values():
                self.hub.release(group)
        self.catch_up(listener)

    async def _catch_up_groups(
        self,
        groups: Mapping[GroupId, LiveGroup],
        memberships: Mapping[GroupId, MembershipAtHead],
        before: Mapping[GroupId, HeadSnapshot],
    ) -> None:
        """Open the groups that are new here, and bring each to the head that was read after `before`."""
        behind, doubted = [], []
        for group_id, standing in memberships.items():
            group = groups[group_id]
            group.highest_seen = max(group.highest_seen, standing.head.seq)
            if group_id in before and before[group_id].went_back(standing.head):
                doubted.append(group)
            elif standing.access is Access.MEMBER and group.open(standing.head):
                behind.append(group)
        if behind and self._bus is None:
            # Without other servers only a batch that is stored and not yet delivered can be ahead: reading it from the
            # log would deliver it before older events of other groups.
            await self._appender.delivered()
        repairs = [self._repair_soon(group.group_id) for group in behind if group.last < group.highest_seen]
        repairs += [self._repair_soon(group.group_id) for group in doubted]
        if repairs:
            await asyncio.wait(repairs)

    async def _look_up(
        self,
        groups: Mapping[GroupId, LiveGroup],
        memberships: Mapping[GroupId, MembershipAtHead],
        since: Mapping[str, Resume],
    ) -> dict[GroupId, int | None]:
        """Return, for each replay that is possible, the stamp of its first event, or None when nothing is missing."""
        resumes = {
            group_id: resume
            for group_id in groups
            if (resume := since.get(group_id)) is not None
            and (standing := memberships.get(group_id)) is not None
            and standing.access is Access.MEMBER
            and standing.head.floor <= resume.seq <= standing.head.seq
        }
        if not resumes:
            return {}
        points = await self._store.resume_points({group_id: resume.seq for group_id, resume in resumes.items()})
        return {
            group_id: point.next_stamp_ms
            for group_id, point in points.items()
            if resumes[group_id].hash in {None, point.hash}
        }

    def _admit(
        self,
        listener: Listener,
        asked: list[str],
        groups: Mapping[GroupId, LiveGroup],
        memberships: Mapping[GroupId, MembershipAtHead],
        found: Mapping[GroupId, int | None],
        since: Mapping[str, Resume],
        *,
        answer: Callable[[Granted], None],
    ) -> None:
        """Answer and subscribe the listener in one step: nothing is delivered in between."""
        states: dict[str, wire.GroupState] = {}
        refused: list[str] = []
        starts: dict[GroupId, int] = {}
        for text in asked:
            group_id = GroupId(text)
            standing = memberships.get(group_id)
            if standing is None or standing.access is not Access.MEMBER:
                refused.append(text)
                continue
            group = groups[group_id]
            if group.left.get(listener.user_id, 0) > standing.head.seq:
                refused.append(text)
                continue
            resume = since.get(text)
            before = listener.subscriptions.get(group_id)
            if before is not None:
                # Each event once on a connection: it goes on from where it is, and says whether that is enough.
                before.until = None
                enough = msgspec.UNSET if resume is None else before.start <= resume.seq <= group.last
                states[group_id] = wire.GroupState(group.last, enough)
                continue
            if resume is None:
                starts[group_id] = group.last
                states[group_id] = wire.GroupState(group.last)
            else:
                recovered = group_id in found
                starts[group_id] = resume.seq if recovered else group.last
                states[group_id] = wire.GroupState(group.last, recovered)
        self.hub.flush()
        for group_id in starts:
            if (listener, group_id) in self._gaps:
                self._gaps.discard((listener, group_id))
                listener.reset(group_id, groups[group_id].last)
        replayed = [stamp for group_id in starts if (stamp := found.get(group_id)) is not None]
        if replayed:
            # What is said from now on must not bear a later stamp than the first event that is still to come.
            self.hub.mark_behind(listener)
            listener.last_stamp_ms = min(listener.last_stamp_ms, min(replayed) - 1)
        answer(Granted(states, refused))
        for group_id, start in starts.items():
            self.hub.subscribe(listener, groups[group_id], start=start)

    def unsubscribe(self, listener: Listener, group_ids: Collection[str]) -> None:
        """Unsubscribe a listener from groups; groups that it is not subscribed to are ignored."""
        for group_id in group_ids:
            self.hub.leave(listener, GroupId(group_id))
            self._gaps.discard((listener, GroupId(group_id)))
        # Without the group that it was waiting for it may have caught up.
        self.catch_up(listener)

    def _dropped(self, group_id: GroupId) -> None:
        """Follow a group no longer that nobody here listens to."""
        if self._bus is not None:
            self._spawn(self._unfollow(self._bus, group_id), "unfollow")

    async def _unfollow(self, bus: Bus, group_id: GroupId) -> None:
        if group_id not in self.hub.groups:
            await bus.unfollow(group_id)

    # Chapter: catching up

    def catch_up(self, listener: Listener) -> None:
        """Bring a listener that is behind back, unless its transport is full or it is on its way already."""
        if not listener.behind or listener.is_paused or listener.gone or listener in self._catching_up:
            return
        if self.hub.mark_current(listener):
            return
        self._catching_up[listener] = self._spawn(self._catch_up(listener), "catch up")

    async def _catch_up(self, listener: Listener) -> None:
        try:
            while (
                listener.behind and not listener.is_paused and not listener.gone and not self.hub.mark_current(listener)
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
        limit = max(PAGE_EVENTS // max(len(wanted), 1), 20)
        found: list[Delivery] = []
        certain: int | None = None
        for subscription, position, goal in wanted:
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

    async def _read_group(
        self, listener: Listener, subscription: HubSubscription, position: int, limit: int
    ) -> list[Delivery] | None:
        """Read some of what a listener misses of a group; None when that is not known now."""
        group = subscription.group
        remembered = group.after(position)
        if remembered is not None:
            return remembered[:limit]
        self.counters.reads += 1
        try:
            page = await self._store.read(group.group_id, after=position, limit=limit)
        except PositionLost:
            self.counters.lost += 1
            if listener.subscriptions.get(group.group_id) is subscription:
                subscription.position = subscription.start = subscription.goal
                # Who was removed in what is gone goes on after no number.
                if subscription.until is None:
                    listener.reset(group.group_id, group.last)
            return []
        except OrbitalError:
            await asyncio.sleep(REPAIR_RETRY_S)
            return None
        if not page.events:
            # Delivered here and not in the log: it went back, and the repair notifies every listener.
            await asyncio.wait([self._repair_soon(group.group_id)])
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
                self.hub.write(listener, chunk)
                self.counters.replayed += len(chunk)
                chunk, size = [], 0
                if listener.is_paused or listener.gone:
                    break
        if chunk and not listener.gone:
            self.hub.write(listener, chunk)
            self.counters.replayed += len(chunk)
        for group_id, subscription in list(listener.subscriptions.items()):
            if subscription.until is not None and subscription.position >= subscription.until:
                self.hub.leave(listener, group_id)
                listener.lost(group_id, subscription.reason)

    # Chapter: what is not stored

    def notify_typing(self, group_id: GroupId, data: wire.TypingIndicator) -> None:
        """Tell a group's other members who is typing: those here now, those elsewhere by the bus, nobody later."""
        self._notify_here(group_id, data)
        if self._bus is not None:
            self._spawn(self._bus.publish(group_id, encode_typing(data)), "typing")

    def _notify_here(self, group_id: GroupId, data: wire.TypingIndicator) -> None:
        group = self.hub.groups.get(group_id)
        if group is not None:
            stamp_ms = self.ephemeral_ms()
            frame = text_frame(wire.frame(data, stamp_ms=stamp_ms))
            self.hub.send_ephemeral(group, frame, but=UserId(data.user_id), stamp_ms=stamp_ms)

    def ephemeral_ms(self) -> int:
        """Return the stamp for a frame that is no event, to a listener that is current."""
        self.hub.flush()
        ephemeral_ms = self.stamps.quiet(now_ms=self._clock.wall_ms())
        return ephemeral_ms if self._low_watermark_ms is None else min(ephemeral_ms, self._low_watermark_ms)
