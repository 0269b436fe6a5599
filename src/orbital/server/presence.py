"""Who of a group is connected: on this server, and on all servers that share a Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from orbital import wire
from orbital.model import GroupId
from orbital.server.shared import ANSWER_S, AWAY, SharedRedis

log = logging.getLogger("orbital.presence")

BEAT_S: Final = 5.0
"""How often a server says that it lives."""

ALIVE_S: Final = 20
"""How long its word holds: a server that is killed is forgotten after that, within the protocol's 30 s."""

GATHER_S: Final = 0.1
"""Changes of so long are written together: a household that comes back at once is one write."""

GROUP_S: Final = 3600
"""How long a group's entry stays without a change; what is alive is written again before that."""

REWRITE_S: Final = 1200
"""How often everything is written again."""

GROUPS_AT_ONCE: Final = 500
"""Groups of one round trip."""


class Online(msgspec.Struct, frozen=True):
    """
    A user who hears a group.

    Attributes:
        user_id: The user.
        username: The name that the token carries.
        connections: How many connections.
        since: When the oldest of them began, RFC 3339.
    """

    user_id: str
    username: str
    connections: int
    since: str


class Connected(msgspec.Struct, frozen=True):
    """One connection that hears a group: whose, and since when, milliseconds since the epoch."""

    user_id: str
    username: str
    since_ms: int


Here = Callable[[GroupId], Iterable[Connected]]
"""Tells the connections of this server that hear a group."""


class Presence(Protocol):
    """Who is connected."""

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return who hears a group now, in the order of arrival."""
        ...


class LocalPresence:
    """
    Who is connected to this server, which is the only one.

    Args:
        here: Tells the connections of this server.
    """

    def __init__(self, here: Here) -> None:
        self._here = here

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return who hears a group now, in the order of arrival."""
        return _listed(_counted(self._here(group_id)))


class _Entry(msgspec.Struct, array_like=True):
    """What a server says of one user in one group."""

    username: str
    connections: int
    since_ms: int


class SharedPresence:
    """
    Who is connected to any server: each writes what it knows into Redis, under a name that has to be kept alive.

    A group is a hash with a field for each server and user. What a dead server left there is skipped, and swept by
    whoever sees it. While Redis is away a server tells of its own connections, and writes all of them when it is back.

    Args:
        redis: The cluster's.
        here: Tells the connections of this server.
        live: Tells the groups that this server has listeners of.
    """

    def __init__(self, redis: SharedRedis, here: Here, live: Callable[[], Iterable[GroupId]]) -> None:
        self._redis = redis
        self._here = here
        self._live = live
        self._node = secrets.token_hex(6)
        self._dirty: set[GroupId] = set()
        self._written: dict[GroupId, dict[str, bytes]] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._away = False

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [
            asyncio.create_task(self._write_on(), name="presence"),
            asyncio.create_task(self._beat_on(), name="presence beat"),
        ]

    def moved(self, group_id: GroupId) -> None:
        """Note that somebody here began or ceased to hear a group."""
        self._dirty.add(group_id)
        self._wake.set()

    def rewrite(self) -> None:
        """Write everything again: Redis may have come back empty."""
        self._written.clear()
        self._dirty.update(self._live())
        self._wake.set()

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return who hears a group now, on any server, in the order of arrival; while Redis is away, on this one."""
        found = _counted(self._here(group_id))
        try:
            async with asyncio.timeout(2 * ANSWER_S):
                for user_id, entry in await self._elsewhere(group_id):
                    known = found.get(user_id)
                    if known is None:
                        found[user_id] = entry
                    else:
                        known.connections += entry.connections
                        known.since_ms = min(known.since_ms, entry.since_ms)
        except AWAY as exc:
            self._note_away(exc)
        return _listed(found)

    async def close(self) -> None:
        """Take everything of this server back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*AWAY):
            async with asyncio.timeout(ANSWER_S):
                client = await self._redis.client()
                await client.delete(_node_key(self._node))

    # Reading

    async def _elsewhere(self, group_id: GroupId) -> list[tuple[str, _Entry]]:
        client = await self._redis.client()
        fields: Mapping[Any, Any] = await client.hgetall(_group_key(group_id))
        others: dict[tuple[str, str], bytes] = {}
        for name, value in fields.items():
            node, _, user_id = name.decode().partition(":")
            if node != self._node:
                others[node, user_id] = value
        nodes = sorted({node for node, _ in others})
        if not nodes:
            return []
        pipe = client.pipeline(transaction=False)
        for node in nodes:
            pipe.exists(_node_key(node))
        alive = {node for node, there in zip(nodes, await pipe.execute(), strict=True) if there}
        dead = [f"{node}:{user_id}" for node, user_id in others if node not in alive]
        if dead:
            await client.hdel(_group_key(group_id), *dead)
        return [(user_id, _decode_entry(value)) for (node, user_id), value in others.items() if node in alive]

    # Writing

    async def _beat_on(self) -> None:
        beats = 0
        while True:
            try:
                client = await self._redis.client()
                # NX tells whether the name was gone: Redis was empty, or this server slept for too long.
                if await client.set(_node_key(self._node), b"1", ex=ALIVE_S, nx=True) or beats >= REWRITE_S / BEAT_S:
                    beats = 0
                    self.rewrite()
                else:
                    await client.expire(_node_key(self._node), ALIVE_S)
                beats += 1
            except AWAY as exc:
                self._note_away(exc)
            await asyncio.sleep(BEAT_S)

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            while self._dirty:
                some = [self._dirty.pop() for _ in range(min(len(self._dirty), GROUPS_AT_ONCE))]
                try:
                    await self._write(some)
                    self._came_back()
                except AWAY as exc:
                    self._dirty.update(some)
                    self._note_away(exc)
                    await asyncio.sleep(ANSWER_S)

    async def _write(self, groups: list[GroupId]) -> None:
        client = await self._redis.client()
        pipe = client.pipeline(transaction=False)
        written = {}
        for group_id in groups:
            now: dict[Any, Any] = {
                f"{self._node}:{user_id}": msgspec.json.encode(entry)
                for user_id, entry in _counted(self._here(group_id)).items()
            }
            before = self._written.get(group_id, {})
            key = _group_key(group_id)
            if changed := {name: value for name, value in now.items() if before.get(name) != value}:
                pipe.hset(key, mapping=changed)
            if gone := [name for name in before if name not in now]:
                pipe.hdel(key, *gone)
            if now:
                pipe.expire(key, GROUP_S)
            written[group_id] = now
        await pipe.execute()
        for group_id, now in written.items():
            if now:
                self._written[group_id] = now
            else:
                self._written.pop(group_id, None)

    def _note_away(self, exc: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("presence is this server's alone", extra={"error": str(exc) or type(exc).__name__})

    def _came_back(self) -> None:
        self._away = False


_local: type[Presence] = LocalPresence
_shared: type[Presence] = SharedPresence

_decode_entry = msgspec.json.Decoder(_Entry).decode


def _counted(connections: Iterable[Connected]) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for one in connections:
        entry = found.get(one.user_id)
        if entry is None:
            found[one.user_id] = _Entry(one.username, 1, one.since_ms)
        else:
            entry.connections += 1
            entry.since_ms = min(entry.since_ms, one.since_ms)
    return found


def _listed(found: dict[str, _Entry]) -> list[Online]:
    return [
        Online(user_id, entry.username, entry.connections, wire.iso(entry.since_ms))
        for user_id, entry in sorted(found.items(), key=lambda item: (item[1].since_ms, item[0]))
    ]


def _group_key(group_id: GroupId) -> str:
    return f"orbital:presence:{group_id}"


def _node_key(node: str) -> str:
    return f"orbital:server:{node}"
