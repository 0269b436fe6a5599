"""Presence in a cluster: entries with a timeout (presence TTL) in one Redis; never the only copy."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.asyncio import Redis, RedisCluster

from orbital_relay.api.groups import Online
from orbital_relay.model import GroupId
from orbital_relay.server.cluster.redis_client import ANSWER_S, UNREACHABLE, SharedRedis
from orbital_relay.server.sessions.presence import Entry, Here, PresenceSource, counted, listed

log = logging.getLogger("orbital.shared")

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

WRITE_S: Final = 5.0
"""Longest wait for such a round trip."""

_decode_entry = msgspec.json.Decoder(Entry).decode


class SharedPresence:
    """
    Who is connected to any server: each writes what it knows into Redis, under a name that has to be kept alive.

    A group is a hash with a field for each server and user. What a dead server left there is skipped, and swept by
    every server that sees it. A name that was gone is not taken again: somebody may be sweeping it right now.
    While Redis is unreachable a server reports its own connections, and writes all of them when it is back.

    Args:
        redis: The cluster's.
        here: Returns the connections of this server.
        live: Tells the groups that this server has listeners of.
    """

    def __init__(self, redis: SharedRedis, here: Here, live: Callable[[], Iterable[GroupId]]) -> None:
        self._redis = redis
        self._here = here
        self._live = live
        self._node = secrets.token_hex(6)
        self._named = False
        self._dirty: set[GroupId] = set()
        # The fields that may be there, each with what is known to be in it, if anything.
        self._written: dict[GroupId, dict[str, bytes | None]] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._away = False

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [
            asyncio.create_task(self._write_on(), name="presence"),
            asyncio.create_task(self._beat_on(), name="presence beat"),
        ]
        for task in self._tasks:
            task.add_done_callback(_report)

    def moved(self, group_id: GroupId) -> None:
        """Note that a user subscribed to a group here, or unsubscribed."""
        self._dirty.add(group_id)
        self._wake.set()

    def rewrite(self) -> None:
        """Write everything again: Redis may have come back empty, or with all that was there before."""
        for fields in self._written.values():
            fields.update(dict.fromkeys(fields))
        self._dirty.update(self._live(), self._written)
        self._wake.set()

    async def online(self, group_id: GroupId) -> list[Online]:
        """Return a group's subscribers on all servers (of this one while Redis is unreachable), by arrival."""
        found = counted(self._here(group_id))
        try:
            elsewhere = await self._elsewhere(group_id)
        except UNREACHABLE as exc:
            self._note_unreachable(exc)
            elsewhere = []
        for user_id, entry in elsewhere:
            known = found.get(user_id)
            if known is None:
                found[user_id] = entry
            else:
                known.connections += entry.connections
                known.since_ms = min(known.since_ms, entry.since_ms)
        return listed(found)

    async def close(self) -> None:
        """Take everything of this server back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*UNREACHABLE):
            async with self._redis.answering() as client:
                await client.delete(_node_key(self._node))

    # Reading

    async def _elsewhere(self, group_id: GroupId) -> list[tuple[str, Entry]]:
        async with self._redis.answering(2 * ANSWER_S) as client:
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
                async with self._redis.answering() as client:
                    await self._keep_name(client)
                beats += 1
                if beats >= REWRITE_S / BEAT_S:
                    beats = 0
                    self.rewrite()
            except UNREACHABLE as exc:
                self._note_unreachable(exc)
            await asyncio.sleep(BEAT_S)

    async def _keep_name(self, client: Redis | RedisCluster) -> None:
        """Keep the name alive; take another if it is gone, since Redis was emptied or this server slept too long."""
        if self._named and await client.expire(_node_key(self._node), ALIVE_S):
            return
        node = secrets.token_hex(6)
        await client.set(_node_key(node), b"1", ex=ALIVE_S)
        self._node, self._named = node, True
        self.rewrite()

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
                except UNREACHABLE as exc:
                    self._dirty.update(some)
                    self._note_unreachable(exc)
                    await asyncio.sleep(ANSWER_S)

    async def _write(self, groups: list[GroupId]) -> None:
        async with self._redis.answering(WRITE_S) as client:
            # The name first: what stands under one that is not there is swept.
            await self._keep_name(client)
            pipe = client.pipeline(transaction=False)
            written: dict[GroupId, dict[Any, Any]] = {}
            for group_id in groups:
                now = written[group_id] = {
                    f"{self._node}:{user_id}": msgspec.json.encode(entry)
                    for user_id, entry in counted(self._here(group_id)).items()
                }
                before = self._written.setdefault(group_id, {})
                key = _group_key(group_id)
                if changed := {name: value for name, value in now.items() if before.get(name) != value}:
                    pipe.hset(key, mapping=changed)
                if gone := [name for name in before if name not in now]:
                    pipe.hdel(key, *gone)
                if now:
                    pipe.expire(key, GROUP_S)
                # Until Redis answers it may have taken all of this, or nothing.
                before.update(dict.fromkeys((*changed, *gone)))
            await pipe.execute()
        for group_id, now in written.items():
            if now:
                self._written[group_id] = now
            else:
                self._written.pop(group_id, None)

    def _note_unreachable(self, exc: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning(
                "Redis cannot be reached; presence covers this server alone",
                extra={"error": str(exc) or type(exc).__name__},
            )

    def _came_back(self) -> None:
        self._away = False


_presence: type[PresenceSource] = SharedPresence


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("presence failed", exc_info=error)


def _group_key(group_id: GroupId) -> str:
    return f"orbital:presence:{group_id}"


def _node_key(node: str) -> str:
    return f"orbital:server:{node}"
