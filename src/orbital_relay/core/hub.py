"""The hub (publish/subscribe): subscribers by group, delivery, backpressure (a slow consumer is marked behind)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orbital_relay.core.chain import digest
from orbital_relay.core.cursor import Verdict
from orbital_relay.core.fan_out import FanOut
from orbital_relay.core.live_group import Delivery, HubSubscription, Listener, LiveGroup
from orbital_relay.model import Event, GroupId, Head, UserId

_MEMBER_LEFT: Final = b'{"type":"member_left"'
_MEMBER_JOINED: Final = b'{"type":"member_joined"'

Who = Callable[[bytes], tuple[UserId, str]]
"""Reads from the frame of a `member_…` event whom it is about, and why."""


class Hub(FanOut):
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
        super().__init__(compress=compress)
        self._dropped = dropped
        self._moved = moved
        self._who = who
        self.groups: dict[GroupId, LiveGroup] = {}
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
        self._enqueue(group, delivery)
        if group.behind:
            group.remember(delivery)
        frame = event.frame
        if frame.startswith(_MEMBER_LEFT):
            user_id, reason = self._who(frame)
            group.departed[user_id] = event.seq
            self._remove(group, user_id, event.seq, reason)
        elif frame.startswith(_MEMBER_JOINED):
            group.departed.pop(self._who(frame)[0], None)

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
        Continue after number `seq`: the events up to it are no longer kept, and nobody here saw what they were.

        Returns:
            The subscribers. They are subscribed no longer: a `member_left` may have been in the gap.
        """
        if group.cursor is None or seq <= group.cursor.last:
            return []
        return self._restart(group, seq, hash=None, stamp_ms=None)

    def rewind(self, group: LiveGroup, head: Head) -> list[Listener]:
        """
        Continue after the head of a log that lost events which were delivered here.

        What was remembered of the lost events, such as who left, is forgotten.

        Returns:
            The subscribers. They are subscribed no longer: the caller notifies them and reads their membership again.
        """
        listeners = self._restart(group, head.seq, hash=head.hash, stamp_ms=head.stamp_ms)
        group.highest_seen = head.seq
        group.epoch += 1
        group.doubted = False
        group.departed.clear()
        return listeners

    def _restart(self, group: LiveGroup, seq: int, *, hash: str | None, stamp_ms: int | None) -> list[Listener]:
        """Take every listener out of a group, and continue after number `seq`."""
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


def _by_stamp(delivery: Delivery) -> tuple[int, GroupId]:
    return delivery.event.stamp_ms, delivery.event.group_id
