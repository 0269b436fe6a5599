"""The relay: appends drafts, delivers events, and starts subscriptions, repair and catch-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from orbital_relay import wire
from orbital_relay.core.cursor import Verdict
from orbital_relay.core.framing import text_frame
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import Listener
from orbital_relay.core.stamps import Stamps
from orbital_relay.model import Event, GroupId, Resume, UserId
from orbital_relay.ports import Bus, Clock, Store
from orbital_relay.relay.appender import Appender
from orbital_relay.relay.bus_messages import StateNotice, decode_message, encode_event, encode_state, encode_typing
from orbital_relay.relay.catch_up import CatchUp
from orbital_relay.relay.counters import Counters
from orbital_relay.relay.repair import Repairs
from orbital_relay.relay.subscribing import Granted, Subscribing
from orbital_relay.relay.tasks import TaskSet


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
        around_delivery: Callable[[Callable[[Sequence[Event]], None]], Callable[[Sequence[Event]], None]] | None = None,
        on_batch: Callable[[int, float], None] = lambda _drafts, _seconds: None,
        on_moved: Callable[[GroupId], None] = lambda _group_id: None,
        on_restored: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            store: The log.
            clock: The time.
            compress: Makes the compressed WebSocket frame of a text.
            around_delivery: Wraps the delivery of each stored batch, to measure it.
            on_batch: Learns the size of each append batch and the seconds that it took.
            on_moved: Called with each group that a listener subscribed to or unsubscribed from.
            on_restored: Called when a group's log has gone back: what else was remembered of the database may be wrong.
        """
        self._store = store
        self._bus: Bus | None = None
        self._clock = clock
        self.hub = Hub(who=whom, compress=compress, dropped=self._dropped, moved=on_moved)
        self.stamps = Stamps()
        self.counters = Counters()
        self._tasks = TaskSet()
        self._flush_due = False
        self._loop = asyncio.get_running_loop()
        self.appender = Appender(
            store=store,
            clock=clock,
            stamps=self.stamps,
            spawn=self._tasks.spawn,
            deliver=self._deliver if around_delivery is None else around_delivery(self._deliver),
            publish=self._publish,
            on_batch=on_batch,
        )
        self._repairs = Repairs(
            store=store,
            hub=self.hub,
            tasks=self._tasks,
            counters=self.counters,
            begin_again=self._begin_again,
            on_restored=on_restored,
        )
        self._catch_up = CatchUp(
            store=store, hub=self.hub, tasks=self._tasks, counters=self.counters, repairs=self._repairs
        )
        self._subscribing = Subscribing(
            store=store,
            hub=self.hub,
            tasks=self._tasks,
            repairs=self._repairs,
            catch_up=self._catch_up,
            delivered=self.appender.delivered,
        )

    async def start(self, bus: Bus | None = None) -> None:
        """Continue the timestamps of the log; `bus` connects the servers of a cluster, None means a single server."""
        self._bus = self._subscribing.bus = bus
        await self._repairs.start()
        # No event is in flight yet.
        self.stamps.end_batch(await self._store.last_stamp_ms())

    async def close(self) -> None:
        """Append the drafts that are queued, then cancel the remaining tasks."""
        await self.appender.drain()
        await self._tasks.close()

    # Chapter: what was appended here

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
        """Take what another server published; a malformed message is ignored, and a late one is a duplicate."""
        message = decode_message(group_id, payload)
        if isinstance(message, Event):
            self._ingest(message)
            self._flush_soon()
        elif isinstance(message, StateNotice):
            self._state_here(group_id, message)
        elif message is not None:
            self._typing_here(group_id, message)

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
            self._repairs.repair_soon(event.group_id)

    # Chapter: repairs

    async def compare(self) -> None:
        """
        Compare the heads of live groups with the store's, and read what is missing.

        An event whose bus message was lost arrives this way, too.

        Raises:
            Unavailable: If the store is unreachable.
        """
        await self._repairs.compare()

    def compare_soon(self) -> None:
        """Compare heads now: the bus was unreachable, and messages were lost."""
        self._repairs.compare_soon()

    def _begin_again(self, listeners: Collection[Listener], group_id: GroupId) -> None:
        self._subscribing.begin_again(listeners, group_id)

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

        Args:
            listener: The connection.
            group_ids: What it asks for.
            since: Where it stands, for those groups that it wants replayed.
            answer: Called in the step that subscribes the listener, before any event reaches it.
            wanted: Asked in that step whether it is still to be done.

        Raises:
            Unavailable: If the store is unreachable; nothing has changed.
        """
        await self._subscribing.subscribe(listener, group_ids, since, answer=answer, wanted=wanted)

    def unsubscribe(self, listener: Listener, group_ids: Collection[str]) -> None:
        """Unsubscribe a listener from groups; groups that it is not subscribed to are ignored."""
        self._subscribing.unsubscribe(listener, group_ids)

    def catch_up(self, listener: Listener) -> None:
        """Start to replay what a listener has missed, unless its transport is full or a replay already runs."""
        self._catch_up.catch_up(listener)

    def _dropped(self, group_id: GroupId) -> None:
        """Unfollow a group that has no listener here any more."""
        if self._bus is not None:
            self._tasks.spawn(self._unfollow(self._bus, group_id), "unfollow")

    async def _unfollow(self, bus: Bus, group_id: GroupId) -> None:
        if group_id not in self.hub.groups:
            await bus.unfollow(group_id)

    # Chapter: what is not stored

    def notify_typing(self, group_id: GroupId, data: wire.TypingIndicator) -> None:
        """Notify a group's other members who is typing, on this server and over the bus; it is not stored."""
        self._typing_here(group_id, data)
        if self._bus is not None:
            self._tasks.spawn(self._bus.publish(group_id, encode_typing(data)), "typing")

    def notify_state(self, group_id: GroupId, user_id: UserId) -> None:
        """Notify the connections of a member, on every server, that its devices share a new state; it is not stored."""
        notice = StateNotice(user_id)
        self._state_here(group_id, notice)
        if self._bus is not None:
            self._tasks.spawn(self._bus.publish(group_id, encode_state(notice)), "state")

    def _typing_here(self, group_id: GroupId, data: wire.TypingIndicator) -> None:
        self._send_here(group_id, data, but=UserId(data.user_id))

    def _state_here(self, group_id: GroupId, notice: StateNotice) -> None:
        self._send_here(group_id, wire.StateChanged(group_id), only=notice.user_id)

    def _send_here(
        self, group_id: GroupId, data: wire.ServerData, *, but: UserId | None = None, only: UserId | None = None
    ) -> None:
        group = self.hub.groups.get(group_id)
        if group is not None:
            stamp_ms = self.ephemeral_ms()
            self.hub.send_ephemeral(
                group, text_frame(wire.frame(data, stamp_ms=stamp_ms)), but=but, only=only, stamp_ms=stamp_ms
            )

    def ephemeral_ms(self) -> int:
        """Return the stamp for a frame that is no event, to a listener that is current."""
        self.hub.flush()
        ephemeral_ms = self.stamps.ephemeral(now_ms=self._clock.wall_ms())
        low_watermark_ms = self._repairs.low_watermark_ms
        return ephemeral_ms if low_watermark_ms is None else min(ephemeral_ms, low_watermark_ms)
