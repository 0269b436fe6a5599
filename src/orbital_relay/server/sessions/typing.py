"""Typing indicators: find the thread's group, check membership, notify the group."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Final

from orbital_relay import wire
from orbital_relay.core.refusals import check_member, no_thread
from orbital_relay.model import GroupId, Principal, ThreadId
from orbital_relay.ports import Store
from orbital_relay.relay import Relay

THREADS_REMEMBERED: Final = 50_000
"""Threads whose group is cached, about 10 MB; only typing asks for it."""


class TypingNotifier:
    """
    The typing indicators of all connections of a server. It stores nothing but a cache of threads.

    Args:
        relay: Delivers the indicator to the group's subscribers.
        store: Knows threads and members.
    """

    def __init__(self, *, relay: Relay, store: Store) -> None:
        self._relay = relay
        self._store = store
        self._groups: OrderedDict[str, GroupId] = OrderedDict()

    def known_group(self, thread_id: str) -> GroupId | None:
        """Return the group of a thread if it is cached; None means a cache miss, call `group_of_member`."""
        return self._groups.get(thread_id)

    async def group_of_member(self, principal: Principal, thread_id: str, *, subscribed: Container[GroupId]) -> GroupId:
        """
        Return the group of a thread in which the user may type.

        Args:
            principal: The user.
            thread_id: The thread.
            subscribed: Groups to which the connection is subscribed, and so a member of.

        Raises:
            NotFound: If there is no such thread.
            Forbidden: If the user is not a member of its group.
        """
        group_id = await self._group_of(thread_id)
        if group_id not in subscribed:
            check_member(await self._store.access(principal.key, group_id), thread_id=thread_id)
        return group_id

    def notify(self, group_id: GroupId, principal: Principal, thread_id: str, *, is_typing: bool) -> None:
        """Send an indicator to the group's other subscribers."""
        indicator = wire.TypingIndicator(thread_id, principal.user_id, principal.username, is_typing)
        self._relay.notify_typing(group_id, indicator)

    def forget(self) -> None:
        """Empty the cache: the database has gone back under the server."""
        self._groups.clear()

    async def _group_of(self, thread_id: str) -> GroupId:
        known = self._groups.get(thread_id)
        if known is None:
            known = await self._store.thread_group(ThreadId(thread_id))
            if known is None:
                raise no_thread(thread_id=thread_id)
            if len(self._groups) >= THREADS_REMEMBERED:
                self._groups.popitem(last=False)
            self._groups[thread_id] = known
        return known
