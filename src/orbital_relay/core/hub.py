"""Who listens to what on this server, and the one way by which events reach them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from orbital_relay.core.chain import digest, fits
from orbital_relay.core.cursor import Cursor, Verdict
from orbital_relay.core.framing import text_frame
from orbital_relay.model import Event, GroupId, Head, UserId

TAIL_EVENTS: Final = 512
"""Events that a group keeps in memory while somebody is behind: the last stretch of catching up, without waiting."""
TAIL_BYTES: Final = 512 * 1024
"""The same in bytes, whichever is less."""

_MEMBER_LEFT: Final = b'{"type":"member_left"'
_MEMBER_JOINED: Final = b'{"type":"member_joined"'

Who = Callable[[bytes], tuple[UserId, str]]
"""Reads from the frame of a `member_…` event whom it is about, and why."""


class Listener(ABC):
    """
    One connection, as the hub knows it: its user, its subscriptions, and how to write to it.

    It is *current*: the hub writes events to it; or *behind*: it reads the log until it has caught up with all of its
    groups. It receives one stretch of the log in the order of stamps, so it is behind as a whole.
    """

    __slots__ = ("behind", "deflate", "gone", "is_paused", "last_stamp_ms", "subscriptions", "user", "user_id")

    def __init__(self, user: int, user_id: UserId) -> None:
        self.user = user
        self.user_id = user_id
        self.subscriptions: dict[GroupId, HubSubscription] = {}
        self.behind = False
        # The transport holds more than it should: nothing is written until it says otherwise.
        self.is_paused = False
        self.gone = False
        self.deflate = False
        # The stamp of the last frame that went out; while it is behind, other frames must not overtake events.
        self.last_stamp_ms = 0

    @abstractmethod
    def send(self, wire: bytes) -> None:
        """Write whole frames to the connection."""

    @abstractmethod
    def lost(self, group_id: GroupId, reason: str) -> None:
        """Called when a subscription ended, since the user left or was removed."""

    @abstractmethod
    def reset(self, group_id: GroupId, seq: int) -> None:
        """Called when events of a group could not be delivered; the subscription continues after number `seq`."""


class HubSubscription:
    """
    A listener's subscription to one group.

    Attributes:
        group: The group.
        start: The number after which everything was or will be sent.
        position: The number of the last event that was sent; kept up only while the listener is behind.
        until: The number of the `member_left` after which nothing is sent, once there is one.
        reason: Why: `left` or `removed`.
    """

    __slots__ = ("group", "position", "reason", "start", "until")

    def __init__(self, group: LiveGroup, start: int) -> None:
        self.group = group
        self.start = start
        self.position = start
        self.until: int | None = None
        self.reason = ""

    @property
    def goal(self) -> int:
        """The number that the listener has to reach."""
        return self.group.last if self.until is None else self.until


class Delivery:
    """An event made ready for sockets: its frame with its WebSocket header, plain and, once asked for, compressed."""

    __slots__ = ("_deflated", "event", "plain")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.plain = text_frame(event.frame)
        self._deflated: bytes | None = None

    def deflated(self, compress: Callable[[bytes], bytes]) -> bytes:
        """Return the compressed frame, made once for all."""
        if self._deflated is None:
            self._deflated = compress(self.event.frame)
        return self._deflated


class HeadSnapshot(NamedTuple):
    """What a group's listeners were given before a read of the store began: the number and hash of the last event."""

    epoch: int
    seq: int
    hash: str | None

    def went_back(self, head: Head) -> bool:
        """Return whether a head read afterwards proves that the log lost events that were delivered here."""
        return head.seq < self.seq or (head.seq == self.seq and self.hash is not None and head.hash != self.hash)


class LiveGroup:
    """
    A group that somebody here listens to.

    Until its head has been read it is not `open`: it only notes the highest number that passed by.
    """

    __slots__ = (
        "behind",
        "current",
        "cursor",
        "deflaters",
        "doubted",
        "epoch",
        "group_id",
        "hash",
        "highest_seen",
        "left",
        "pins",
        "stamp_ms",
        "tail",
        "tail_bytes",
        "tick",
        "unseen",
    )

    def __init__(self, group_id: GroupId) -> None:
        self.group_id = group_id
        self.cursor: Cursor | None = None
        # Hash and stamp of the event with the number `last`; None while they are unknown.
        self.hash: str | None = None
        self.stamp_ms: int | None = None
        # How often the log was found to have gone back: what was read before the last time proves nothing.
        self.epoch = 0
        # An event passed that does not continue what was delivered here: read the log, it may have gone back.
        self.doubted = False
        self.highest_seen = 0
        # The last number that did not pass through here, since the group was not open yet or it was no longer kept:
        # nobody saw who left up to it.
        self.unseen = 0
        self.current: set[Listener] = set()
        self.behind: set[Listener] = set()
        # How many of the current ones take compressed frames.
        self.deflaters = 0
        # Who left, and with which number, since the group came alive: a subscription that was checked before that
        # must not be subscribed after it.
        self.left: dict[UserId, int] = {}
        self.tick: list[Delivery] = []
        self.tail: deque[Delivery] = deque()
        self.tail_bytes = 0
        # Subscriptions under way: the group stays alive for them.
        self.pins = 0

    @property
    def last(self) -> int:
        """The number of the last event that was delivered here."""
        return 0 if self.cursor is None else self.cursor.last

    @property
    def idle(self) -> bool:
        """Whether nobody needs the group here."""
        return not (self.current or self.behind or self.pins)

    @property
    def standing(self) -> HeadSnapshot:
        """What was delivered here, to compare with a head that is read from the store afterwards."""
        return HeadSnapshot(self.epoch, self.last, self.hash)

    def open(self, head: Head) -> bool:
        """
        Take the head that was read from the store.

        Returns:
            Whether events beyond it have passed by already, so that the log has to be read.
        """
        if self.cursor is None:
            self.cursor = Cursor(head.seq)
            self.unseen, self.hash, self.stamp_ms = head.seq, head.hash, head.stamp_ms
        return max(self.highest_seen, head.seq) > self.cursor.last

    def continues(self, event: Event) -> bool:
        """Return whether an event belongs to the log that was delivered here, as far as memory shows."""
        last = self.last
        if event.seq == last + 1:
            return self.hash is None or fits(event.frame, self.hash)
        if event.seq == last:
            return self.hash is None or digest(event.frame) == self.hash
        # Stamps rise along a group's log, so an older number with a newer stamp is of another log.
        return event.seq > last or self.stamp_ms is None or event.stamp_ms < self.stamp_ms

    def remember(self, delivery: Delivery) -> None:
        """Keep an event for those who are behind."""
        self.tail.append(delivery)
        self.tail_bytes += len(delivery.plain)
        while len(self.tail) > TAIL_EVENTS or self.tail_bytes > TAIL_BYTES:
            self.tail_bytes -= len(self.tail.popleft().plain)

    def forget_tail(self) -> None:
        """Keep nothing: nobody is behind."""
        self.tail.clear()
        self.tail_bytes = 0

    def after(self, position: int) -> list[Delivery] | None:
        """Return the events after a position up to the last, or None when memory does not reach back so far."""
        missing = self.last - position
        if missing <= 0:
            return []
        if missing > len(self.tail):
            return None
        tail = self.tail
        return [tail[index] for index in range(len(tail) - missing, len(tail))]


class Hub:
    """
    Hands events on to everyone on this server who listens.

    All of it is synchronous: between a decision and its effect nothing else happens. It never reads the store.
    """

    def __init__(
        self,
        *,
        who: Who,
        compress: Callable[[bytes], bytes],
        dropped: Callable[[GroupId], None] = lambda _group_id: None,
        moved: Callable[[GroupId], None] = lambda _group_id: None,
    ) -> None:
        """
        Args:
            who: Reads whom a `member_…` frame is about.
            compress: Makes the compressed WebSocket frame of a text.
            dropped: Learns of each group that nobody here listens to any longer.
            moved: Called with each group that a listener subscribed to or unsubscribed from.
        """
        self._dropped = dropped
        self._moved = moved
        self._who = who
        self._compress = compress
        self.groups: dict[GroupId, LiveGroup] = {}
        self._active: list[LiveGroup] = []
        self._order: list[tuple[LiveGroup, Delivery]] = []
        self._flushing = False
        self._paused: list[Listener] = []
        self.deliveries = 0
        self.bytes_out = 0
        self.bytes_plain = 0
        self.subscriptions = 0
        self.behind: set[Listener] = set()

    # Chapter: groups

    def group(self, group_id: GroupId) -> LiveGroup:
        """Return a live group, brought to life if need be, and pin it: `release` must follow."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = LiveGroup(group_id)
        group.pins += 1
        return group

    def release(self, group: LiveGroup) -> None:
        """Remove a pin; a group without pins and subscribers is dropped."""
        group.pins -= 1
        self._drop_if_idle(group)

    def _drop_if_idle(self, group: LiveGroup) -> None:
        if group.idle and self.groups.get(group.group_id) is group:
            self.flush()
            del self.groups[group.group_id]
            self._dropped(group.group_id)

    # Chapter: events

    def offer(self, event: Event) -> Verdict | None:
        """
        Take an event that was stored, in whatever order it comes.

        Returns:
            NEXT: it will be written with the next `flush`. SEEN: it was. GAP: the log has to be read from the group's
            last number on. None: nobody here listens, or the group is not open yet. An event of another log than the
            one delivered here is never NEXT, and leaves the group `doubted`.
        """
        group = self.groups.get(event.group_id)
        if group is None:
            return None
        group.highest_seen = max(group.highest_seen, event.seq)
        if group.cursor is None:
            return None
        if not group.continues(event):
            group.doubted = True
            return Verdict.GAP
        verdict = group.cursor.offer(event.seq)
        if verdict is Verdict.NEXT:
            group.hash, group.stamp_ms = digest(event.frame), event.stamp_ms
            self._deliver(group, event)
        return verdict

    def _deliver(self, group: LiveGroup, event: Event) -> None:
        delivery = Delivery(event)
        if not group.tick:
            self._active.append(group)
        group.tick.append(delivery)
        self._order.append((group, delivery))
        if group.behind:
            group.remember(delivery)
        frame = event.frame
        if frame.startswith(_MEMBER_LEFT):
            user_id, reason = self._who(frame)
            group.left[user_id] = event.seq
            self._remove(group, user_id, event.seq, reason)
        elif frame.startswith(_MEMBER_JOINED):
            group.left.pop(self._who(frame)[0], None)

    def _remove(self, group: LiveGroup, user_id: UserId, seq: int, reason: str) -> None:
        """Deliver a group to a user's listeners up to the user's own `member_left`, and nothing after."""
        self.flush()
        for listener in [one for one in group.current if one.user_id == user_id]:
            self.leave(listener, group.group_id)
            listener.lost(group.group_id, reason)
        for listener in group.behind:
            if listener.user_id == user_id:
                subscription = listener.subscriptions[group.group_id]
                subscription.until, subscription.reason = seq, reason

    def skip(self, group: LiveGroup, seq: int) -> list[Listener]:
        """
        Go on after number `seq`: the events up to it are no longer kept, and nobody here saw what they were.

        Returns:
            The subscribers. They are subscribed no longer: a `member_left` may have been in the gap.
        """
        if group.cursor is None or seq <= group.cursor.last:
            return []
        return self._restart(group, seq, hash=None, stamp_ms=None)

    def rewind(self, group: LiveGroup, head: Head) -> list[Listener]:
        """
        Go on after the head of a log that lost events which were delivered here.

        What was remembered of the lost events, such as who left, is forgotten.

        Returns:
            The subscribers. They are subscribed no longer: the caller notifies them and reads their membership again.
        """
        listeners = self._restart(group, head.seq, hash=head.hash, stamp_ms=head.stamp_ms)
        group.highest_seen = head.seq
        group.epoch += 1
        group.doubted = False
        group.left.clear()
        return listeners

    def _restart(self, group: LiveGroup, seq: int, *, hash: str | None, stamp_ms: int | None) -> list[Listener]:
        """Take every listener out of a group, and go on after number `seq`."""
        if group.cursor is None:
            raise AssertionError("only a group that is open is restarted")
        group.pins += 1
        listeners = [*group.current, *group.behind]
        for listener in listeners:
            self.leave(listener, group.group_id)
        group.cursor.last = group.unseen = seq
        group.hash, group.stamp_ms = hash, stamp_ms
        group.forget_tail()
        self.release(group)
        return listeners

    @property
    def dirty(self) -> bool:
        """Whether events wait for `flush`."""
        return bool(self._order)

    def flush(self) -> None:
        """
        Write the events of this tick: to each current listener all of its events in one piece.

        A group's frames are joined once for all listeners with only that group in this tick, and the frames of each set
        of groups once for all listeners that share it.
        """
        if not self._order:
            return
        order, active = self._order, self._active
        self._order, self._active = [], []
        self._flushing = True
        try:
            if len(active) == 1:
                self._write_group(active[0])
            else:
                self._write_groups(active, order)
        finally:
            for group in active:
                group.tick.clear()
            self._flushing = False
        if self._paused:
            paused, self._paused = self._paused, []
            for listener in paused:
                self.mark_behind(listener)

    def _write_group(self, group: LiveGroup) -> None:
        tick = group.tick
        stamp_ms = tick[-1].event.stamp_ms
        plain = tick[0].plain if len(tick) == 1 else b"".join([d.plain for d in tick])
        deflated = self._join_deflated(tick) if group.deflaters else b""
        self._count(len(group.current), len(tick), len(plain), len(deflated), group.deflaters)
        for listener in group.current:
            listener.last_stamp_ms = stamp_ms
            listener.send(deflated if listener.deflate else plain)

    def _write_groups(self, active: list[LiveGroup], order: list[tuple[LiveGroup, Delivery]]) -> None:
        several: dict[Listener, tuple[int, ...]] = {}
        for index, group in enumerate(active):
            tick = group.tick
            stamp_ms = tick[-1].event.stamp_ms
            plain = tick[0].plain if len(tick) == 1 else b"".join([d.plain for d in tick])
            deflated = self._join_deflated(tick) if group.deflaters else b""
            alone = deflaters = 0
            for listener in group.current:
                # Most listen to one family only: no other groups of theirs have to be looked up in this tick.
                if len(listener.subscriptions) > 1:
                    several[listener] = (*several.get(listener, ()), index)
                    continue
                alone += 1
                listener.last_stamp_ms = stamp_ms
                if listener.deflate:
                    deflaters += 1
                    listener.send(deflated)
                else:
                    listener.send(plain)
            self._count(alone, len(tick), len(plain), len(deflated), deflaters)
        if several:
            self._write_several(several, active, order)

    def _write_several(
        self,
        several: dict[Listener, tuple[int, ...]],
        active: list[LiveGroup],
        order: list[tuple[LiveGroup, Delivery]],
    ) -> None:
        """Write to listeners of several groups: each set of groups that is shared is joined once."""
        joins: dict[tuple[int, ...], tuple[bytes, list[Delivery]]] = {}
        deflated_joins: dict[tuple[int, ...], bytes] = {}
        for listener, indexes in several.items():
            join = joins.get(indexes)
            if join is None:
                groups = {id(active[index]) for index in indexes}
                tick = [delivery for group, delivery in order if id(group) in groups]
                join = joins[indexes] = (b"".join([d.plain for d in tick]), tick)
            wire, tick = join
            listener.last_stamp_ms = tick[-1].event.stamp_ms
            self.deliveries += len(tick)
            self.bytes_plain += len(wire)
            if listener.deflate:
                deflated = deflated_joins.get(indexes)
                if deflated is None:
                    deflated = deflated_joins[indexes] = self._join_deflated(tick)
                wire = deflated
            self.bytes_out += len(wire)
            listener.send(wire)

    def _join_deflated(self, tick: Iterable[Delivery]) -> bytes:
        compress = self._compress
        return b"".join([delivery.deflated(compress) for delivery in tick])

    def _count(self, listeners: int, events: int, plain: int, deflated: int, deflaters: int) -> None:
        self.deliveries += listeners * events
        self.bytes_plain += listeners * plain
        self.bytes_out += (listeners - deflaters) * plain + deflaters * deflated

    # Chapter: listeners

    def subscribe(self, listener: Listener, group: LiveGroup, *, start: int) -> HubSubscription:
        """
        Subscribe a listener to an open group, from the event after `start`.

        If that is not the group's next event, or the listener is behind, it is behind until it has caught up.
        """
        if group.cursor is None:
            raise AssertionError("a group is open before anyone subscribes to it")
        # Frames of this tick are older than the subscription, and must not be written to it.
        self.flush()
        subscription = listener.subscriptions[group.group_id] = HubSubscription(group, start)
        self.subscriptions += 1
        self._moved(group.group_id)
        if not listener.behind and start != group.last:
            self.mark_behind(listener)
        elif listener.behind:
            group.behind.add(listener)
        else:
            self._add_listener(group, listener)
        return subscription

    def _add_listener(self, group: LiveGroup, listener: Listener) -> None:
        group.current.add(listener)
        if listener.deflate:
            group.deflaters += 1

    def _remove_listener(self, group: LiveGroup, listener: Listener) -> None:
        if listener in group.current:
            group.current.remove(listener)
            if listener.deflate:
                group.deflaters -= 1

    def leave(self, listener: Listener, group_id: GroupId) -> bool:
        """Unsubscribe a listener from a group; return whether it was subscribed."""
        if group_id not in listener.subscriptions:
            return False
        # What was stored before the leave is still written.
        self.flush()
        subscription = listener.subscriptions.pop(group_id)
        self.subscriptions -= 1
        self._moved(group_id)
        group = subscription.group
        self._remove_listener(group, listener)
        group.behind.discard(listener)
        if not group.behind:
            group.forget_tail()
        self._drop_if_idle(group)
        return True

    def drop(self, listener: Listener) -> None:
        """Forget a listener whose connection has ended."""
        listener.gone = True
        for group_id in list(listener.subscriptions):
            self.leave(listener, group_id)
        self.behind.discard(listener)

    def pause(self, listener: Listener) -> None:
        """Note that a listener's transport is full: it will be written to again after it has caught up."""
        listener.is_paused = True
        if self._flushing:
            # The sets that are being walked through must not change.
            self._paused.append(listener)
        else:
            self.mark_behind(listener)

    def mark_behind(self, listener: Listener) -> None:
        """Make a current listener one that is behind, from exactly where it stands."""
        if listener.behind or listener.gone:
            return
        self.flush()
        if listener.behind:
            return
        listener.behind = True
        self.behind.add(listener)
        for subscription in listener.subscriptions.values():
            group = subscription.group
            if listener in group.current:
                subscription.position = group.last
                self._remove_listener(group, listener)
            group.behind.add(listener)

    def mark_current(self, listener: Listener) -> bool:
        """
        Make a listener current again, in one step, if memory holds all that it misses; write that first.

        Returns:
            Whether it is current now. If not, it has to read the log from its positions.
        """
        self.flush()
        missed: list[Delivery] = []
        for subscription in listener.subscriptions.values():
            if subscription.until is not None:
                return False
            rest = subscription.group.after(subscription.position)
            if rest is None:
                return False
            missed += rest
        missed.sort(key=_by_stamp)
        if missed:
            self.write(listener, missed)
        listener.behind = False
        self.behind.discard(listener)
        for subscription in listener.subscriptions.values():
            group = subscription.group
            group.behind.discard(listener)
            if not group.behind:
                group.forget_tail()
            self._add_listener(group, listener)
        if listener.is_paused:
            # The last stretch filled the transport: all of it is written, so it stands at the end.
            self.mark_behind(listener)
            return False
        return True

    def write(self, listener: Listener, deliveries: list[Delivery]) -> None:
        """Write events to a listener that is behind, in one piece, and move its positions."""
        plain = b"".join([d.plain for d in deliveries])
        wire = self._join_deflated(deliveries) if listener.deflate else plain
        for delivery in deliveries:
            event = delivery.event
            listener.subscriptions[event.group_id].position = event.seq
        listener.last_stamp_ms = deliveries[-1].event.stamp_ms
        self.deliveries += len(deliveries)
        self.bytes_plain += len(plain)
        self.bytes_out += len(wire)
        listener.send(wire)

    def send_ephemeral(self, group: LiveGroup, wire: bytes, *, but: UserId, stamp_ms: int) -> None:
        """Write a frame that is no event to the current listeners of a group, but for one user's."""
        self.flush()
        self._flushing = True
        try:
            for listener in group.current:
                if listener.user_id != but:
                    listener.last_stamp_ms = stamp_ms
                    listener.send(wire)
        finally:
            self._flushing = False
        if self._paused:
            paused, self._paused = self._paused, []
            for listener in paused:
                self.mark_behind(listener)


def _by_stamp(delivery: Delivery) -> tuple[int, GroupId]:
    return delivery.event.stamp_ms, delivery.event.group_id
