"""Presence on this server: which users of a group are connected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from orbital_relay import wire
from orbital_relay.api.groups import Online
from orbital_relay.model import GroupId


class ConnectedUser(msgspec.Struct, frozen=True):
    """One connection that is subscribed to a group: its user, and since when, in milliseconds since the epoch."""

    user_id: str
    username: str
    since_ms: int


Here = Callable[[GroupId], Iterable[ConnectedUser]]
"""Returns the connections of this server that are subscribed to a group."""


class PresenceSource(Protocol):
    """The source of presence, of one server or of a cluster."""

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return the users who are subscribed to a group now, in the order of arrival."""
        ...


class Entry(msgspec.Struct, array_like=True):
    """One server's record of one user in one group."""

    username: str
    connections: int
    since_ms: int


class LocalPresence:
    """
    Presence on this server, which is the only one.

    Args:
        here: Returns the connections of this server.
    """

    def __init__(self, here: Here) -> None:
        self._here = here

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return the users who are subscribed to a group now, in the order of arrival."""
        return listed(counted(self._here(group_id)))


_local: type[PresenceSource] = LocalPresence


def counted(connections: Iterable[ConnectedUser]) -> dict[str, Entry]:
    """Group the connections by user."""
    found: dict[str, Entry] = {}
    for one in connections:
        entry = found.get(one.user_id)
        if entry is None:
            found[one.user_id] = Entry(one.username, 1, one.since_ms)
        else:
            entry.connections += 1
            entry.since_ms = min(entry.since_ms, one.since_ms)
    return found


def listed(found: dict[str, Entry]) -> list[Online]:
    """Return the users in the order of arrival, as the API shows them."""
    return [
        Online(
            user_id=user_id,
            username=entry.username,
            connections=entry.connections,
            since=wire.iso(entry.since_ms),
        )
        for user_id, entry in sorted(found.items(), key=lambda item: (item[1].since_ms, item[0]))
    ]
