"""Subscribe or resume: from the position without a gap between the answer and the first live event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from orbital_relay import wire
from orbital_relay.core.hub import Hub
from orbital_relay.core.live_group import HeadSnapshot, Listener, LiveGroup
from orbital_relay.errors import OrbitalError
from orbital_relay.model import Access, GroupId, MembershipAtHead, Resume
from orbital_relay.ports import Bus, Store
from orbital_relay.relay import repair
from orbital_relay.relay.catch_up import CatchUp
from orbital_relay.relay.repair import Repairs
from orbital_relay.relay.tasks import TaskSet


class Granted(msgspec.Struct, frozen=True):
    """
    The outcome of a request to subscribe.

    Attributes:
        groups: The state of each group that is subscribed now, in the order asked for.
        refused: The ids of groups that do not exist or of which the user is no member.
    """

    groups: dict[str, wire.GroupState]
    refused: list[str]


class Subscribing:
    """
    Subscribes listeners to groups, and subscribes them again after a gap.

    A listener receives nothing of a group before its answer, and misses nothing after it.
    """

    def __init__(
        self,
        *,
        store: Store,
        hub: Hub,
        tasks: TaskSet,
        repairs: Repairs,
        catch_up: CatchUp,
        delivered: Callable[[], Awaitable[None]],
    ) -> None:
        """
        Args:
            store: The log, and who is a member of which group.
            hub: The live groups.
            tasks: Owns the tasks that subscribe listeners again.
            repairs: Read what a group lacks that becomes live.
            catch_up: Replays events to the listeners that resume.
            delivered: Waits until the batch that is with the store has been delivered.
        """
        self._store = store
        self._hub = hub
        self._tasks = tasks
        self._repairs = repairs
        self._catch_up = catch_up
        self._delivered = delivered
        self.bus: Bus | None = None
        """The channels of the groups between the servers of a cluster; None on a single server."""
        # Listeners to notify that some of a group is gone, before they are subscribed again.
        self._gaps: set[tuple[Listener, GroupId]] = set()

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

        Membership is read from the store after the group was opened here, and checked once more in the step that adds
        the listener, so a `member_left` in between refuses it.

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
        groups = {group_id: self._hub.group(group_id) for group_id in known}
        try:
            if self.bus is not None:
                # Follow before reading the head: an event stored in between would be in neither.
                new = [group_id for group_id, group in groups.items() if group.cursor is None]
                await asyncio.gather(*(self.bus.follow(group_id) for group_id in new))
            while True:
                unseen = {group_id: group.unseen for group_id, group in groups.items()}
                before = {group_id: group.snapshot for group_id, group in groups.items() if group.cursor is not None}
                epochs = {group_id: group.epoch for group_id, group in groups.items()}
                memberships = await self._store.memberships(listener.user, known)
                await self._catch_up_groups(groups, memberships, before)
                found = await self._look_up(groups, memberships, since)
                # What passed unseen after the membership was read, before another opened the group or in a gap, may
                # have been this user's removal; and what was read of a log that has gone back since is not true.
                if not any(
                    groups[group_id].unseen > max(unseen[group_id], membership.head.seq)
                    for group_id, membership in memberships.items()
                ) and all(group.epoch == epochs[group_id] for group_id, group in groups.items()):
                    break
            if listener.gone or not wanted():
                return
            self._admit(listener, asked, groups, memberships, found, since, answer=answer)
        finally:
            for group in groups.values():
                self._hub.release(group)
        self._catch_up.catch_up(listener)

    def unsubscribe(self, listener: Listener, group_ids: Collection[str]) -> None:
        """Unsubscribe a listener from groups; groups that it is not subscribed to are ignored."""
        for group_id in group_ids:
            self._hub.leave(listener, GroupId(group_id))
            self._gaps.discard((listener, GroupId(group_id)))
        # Without the group that it was waiting for it may have caught up.
        self._catch_up.catch_up(listener)

    def begin_again(self, listeners: Collection[Listener], group_id: GroupId) -> None:
        """Subscribe listeners again after a gap, each after its membership was read again."""
        for listener in listeners:
            self._gaps.add((listener, group_id))
            self._tasks.spawn(self._subscribe_again(listener, group_id), "subscribe again")

    async def _subscribe_again(self, listener: Listener, group_id: GroupId) -> None:
        """
        Subscribe a listener again after a gap in its group.

        Its user may have been removed in the gap, so the membership is read again.
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
                    await asyncio.sleep(repair.RETRY_S)
        finally:
            self._gaps.discard(gap)

    async def _catch_up_groups(
        self,
        groups: Mapping[GroupId, LiveGroup],
        memberships: Mapping[GroupId, MembershipAtHead],
        before: Mapping[GroupId, HeadSnapshot],
    ) -> None:
        """Open the groups that are new here, and bring each to the head that was read after `before`."""
        behind, doubted = [], []
        for group_id, membership in memberships.items():
            group = groups[group_id]
            group.highest_seen = max(group.highest_seen, membership.head.seq)
            if group_id in before and before[group_id].went_back(membership.head):
                doubted.append(group)
            elif membership.access is Access.MEMBER and group.open(membership.head):
                behind.append(group)
        if behind and self.bus is None:
            # Without other servers only a batch that is stored and not yet delivered can be ahead: reading it from the
            # log would deliver it before older events of other groups.
            await self._delivered()
        repairs = [self._repairs.repair_soon(group.group_id) for group in behind if group.last < group.highest_seen]
        repairs += [self._repairs.repair_soon(group.group_id) for group in doubted]
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
            and (membership := memberships.get(group_id)) is not None
            and membership.access is Access.MEMBER
            and membership.head.floor <= resume.seq <= membership.head.seq
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
            membership = memberships.get(group_id)
            if membership is None or membership.access is not Access.MEMBER:
                refused.append(text)
                continue
            group = groups[group_id]
            if group.departed.get(listener.user_id, 0) > membership.head.seq:
                refused.append(text)
                continue
            resume = since.get(text)
            before = listener.subscriptions.get(group_id)
            if before is not None:
                # Each event once on a connection: it continues from where it is, and says whether that is enough.
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
        self._hub.flush()
        for group_id in starts:
            if (listener, group_id) in self._gaps:
                self._gaps.discard((listener, group_id))
                listener.reset(group_id, groups[group_id].last)
        replayed = [stamp for group_id in starts if (stamp := found.get(group_id)) is not None]
        if replayed:
            # What is said from now on must not bear a later stamp than the first event that is still to come.
            self._hub.mark_behind(listener)
            listener.last_stamp_ms = min(listener.last_stamp_ms, min(replayed) - 1)
        answer(Granted(states, refused))
        for group_id, start in starts.items():
            self._hub.subscribe(listener, groups[group_id], start=start)
