"""State that servers share in Redis: tickets that are valid once, and presence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest

from orbital_relay.model import GroupId, Principal, UserId
from orbital_relay.server.cluster import presence as room
from orbital_relay.server.cluster.presence import SharedPresence
from orbital_relay.server.cluster.redis_client import UNREACHABLE, SharedRedis
from orbital_relay.server.cluster.tickets import SharedTickets
from orbital_relay.server.limits.shared_limiter import SharedLimiter
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.server.sessions.presence import ConnectedUser
from tests.cluster.conftest import Cluster
from tests.contracts.drafts import new_id
from tests.support.process import eventually
from tests.support.redis import Redis

ANN = ConnectedUser("ann", "ann", 1_000)
BOB = ConnectedUser("bob", "bob", 2_000)


class Desk(SharedPresence):
    """One server's presence, and the connections that it reports."""

    def __init__(self, redis: SharedRedis) -> None:
        self.people: dict[GroupId, set[ConnectedUser]] = {}
        super().__init__(redis, lambda group_id: self.people.get(group_id, ()), self._groups)

    def _groups(self) -> Iterable[GroupId]:
        return [group_id for group_id, people in self.people.items() if people]

    def set(self, group_id: GroupId, *people: ConnectedUser) -> None:
        """Let exactly these users subscribe to a group."""
        self.people[group_id] = set(people)
        self.moved(group_id)

    async def until(self, group_id: GroupId, *names: str) -> None:
        """Wait until these are online."""

        async def they_are() -> bool:
            return [one.username for one in await self.online(group_id)] == list(names)

        await eventually(they_are, what=f"online: {names}")


async def answers(ask: Callable[[], Awaitable[object]]) -> bool:
    """Return whether Redis answers."""
    try:
        await ask()
    except UNREACHABLE:
        return False
    return True


@pytest.fixture
async def redis(redis_server: Redis) -> AsyncIterator[SharedRedis]:
    """A client of the Redis."""
    made = SharedRedis(redis_server.url)
    yield made
    await made.close()


@pytest.fixture
async def desks(redis_server: Redis, redis: SharedRedis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Desk]]:
    """The presence of two servers."""
    monkeypatch.setattr(room, "BEAT_S", 0.1)
    other = SharedRedis(redis_server.url)
    made = [Desk(redis), Desk(other)]
    for desk in made:
        desk.start()
    yield made
    for desk in made:
        await desk.close()
    await other.close()


async def _fields(redis: SharedRedis, group_id: GroupId) -> dict[bytes, bytes]:
    client: Any = await redis.client()
    found: dict[bytes, bytes] = await client.hgetall(f"orbital:presence:{group_id}")
    return found


# Chapter: the client


async def test_concurrent_callers_time_out_together(redis_server: Redis):
    """
    [CLUSTER12] All callers that use a Redis that never answered get the error at the same time.

    They waited for each other's attempts: the twentieth for forty seconds.
    """
    shared = SharedRedis(redis_server.url)
    redis_server.freeze()
    async with asyncio.timeout(60):
        reported = await asyncio.gather(*(shared.client() for _ in range(60)), return_exceptions=True)
    assert all(isinstance(one, UNREACHABLE) for one in reported)

    redis_server.thaw()
    await eventually(lambda: answers(shared.client), what="Redis is back", deadline_s=60)
    await shared.close()


# Chapter: tickets


async def test_a_ticket_of_unknown_state_is_valid_once(redis_server: Redis, redis: SharedRedis):
    """
    [HANDSHAKE2] A ticket is valid for one handshake, also when Redis froze while it was being stored.

    The frozen Redis stored it later, while the server had also kept a copy of its own.
    """
    principal = Principal(
        key=1, user_id=UserId("u"), username="u", expires_at_s=4e9, issued_at_s=0.0, token_digest=b"digest"
    )
    tickets, elsewhere = SharedTickets(redis, SystemClock()), SharedTickets(redis, SystemClock())
    await tickets.put("warm", principal, life_s=30)
    assert await elsewhere.take("warm") is not None
    redis_server.freeze()
    given = await tickets.put("ticket", principal, life_s=30)
    redis_server.thaw()
    client: Any = await redis.client()
    # Commands sent before it froze are executed once it answers, if at all.
    await eventually(lambda: answers(client.ping), what="Redis is back")

    assert await tickets.take(given) == principal
    assert await tickets.take(given) is None
    assert await elsewhere.take(given) is None


# Chapter: limits


async def test_a_cluster_that_is_reachable_late(redis_cluster: Cluster):
    """
    [LIMITS2] Servers that started while a Redis Cluster was unreachable share its counters once it answers.

    They treated it as a single Redis, whose other slots refuse, and each server counted separately.
    """
    url = f"redis://127.0.0.1:{redis_cluster.ports[0]}"
    for program in redis_cluster.programs:
        program.freeze()
    clients = [SharedRedis(url) for _ in range(2)]
    one, two = (SharedLimiter.of(url, clock=SystemClock(), clustered=client.clustered) for client in clients)
    for limiter in (one, two):
        async with asyncio.timeout(60):
            assert await limiter.hit("connect", "early", limit=1, window_s=3600) is None
        # From now on no response is late, and every command waits for one.
        limiter._away_until_s, limiter._answer_s = 0, 30
    for program in redis_cluster.programs:
        program.thaw()
    for client in clients:
        async with asyncio.timeout(60):
            while True:
                try:
                    await (await client.client()).ping()
                    break
                except UNREACHABLE:
                    await asyncio.sleep(0.02)

    for number in range(20):
        assert await one.hit("connect", f"address {number}", limit=1, window_s=3600) is None
        assert await two.peek("connect", f"address {number}", limit=1, window_s=3600) is not None
    for closing in (one, two, *clients):
        await closing.close()


async def test_a_clock_jump_moves_no_window(redis_server: Redis):
    """
    [LMW1] A jump of the wall clock, accepted or not, neither ends nor extends a window.

    The library read the system clock itself: a jump of 20 minutes discarded every login of the last 15.
    """

    class Leaping(SystemClock):
        leap_ms = 0

        def wall_ms(self) -> int:
            return super().wall_ms() + self.leap_ms

    clock = Leaping()
    limiter = SharedLimiter.of(redis_server.url, clock=clock)
    assert await limiter.hit("login", new_id(), limit=1, window_s=900) is None
    key = new_id()
    assert await limiter.hit("login", key, limit=1, window_s=900) is None

    for clock.leap_ms in (20 * 60_000, -20 * 60_000):
        for ask in (limiter.hit, limiter.peek):
            wait_s = await ask("login", key, limit=1, window_s=900)
            assert wait_s is not None
            assert 600 < wait_s <= 900
    await limiter.close()


# Chapter: presence


async def test_leaving_during_a_rewrite_is_kept(desks: list[Desk], redis: SharedRedis):
    """
    [PRESENCE2] A user who leaves while presence is being rewritten is offline.

    The written entry was forgotten, so that no server deleted it: the user stayed online for as long as the group
    was in use.
    """
    one, two = desks
    group_id = GroupId(new_id())
    one.set(group_id, ANN, BOB)
    await two.until(group_id, "ann", "bob")

    one.set(group_id, BOB)
    one.rewrite()
    await two.until(group_id, "bob")
    one.set(group_id)
    one.rewrite()
    await two.until(group_id)

    assert await _fields(redis, group_id) == {}


async def test_an_unconfirmed_entry_is_deleted(redis_server: Redis, desks: list[Desk], redis: SharedRedis):
    """[PRESENCE3] An entry that Redis stored without answering is deleted when it is no longer true."""
    one, two = desks
    group_id, last = GroupId(new_id()), GroupId(new_id())
    one.set(last, BOB)
    await two.until(last, "bob")

    redis_server.freeze()
    one.set(group_id, ANN)
    await eventually(lambda: group_id not in one._dirty, what="the change is claimed", every_s=0.01)
    await eventually(lambda: group_id in one._dirty, what="it is returned unanswered", every_s=0.01)
    one.set(group_id)
    one.set(last, ANN)
    redis_server.thaw()
    await two.until(last, "ann")

    assert await _fields(redis, group_id) == {}


async def test_a_late_sweep_deletes_nothing_alive(desks: list[Desk], redis: SharedRedis):
    """
    [PRESENCE4] A server that was considered dead, and swept late by another server, stays registered.

    It registered again under its old name, and the sweep deleted its new entries, for twenty minutes.
    """
    one, two = desks
    group_id = GroupId(new_id())
    one.set(group_id, ANN)
    await two.until(group_id, "ann")
    client: Any = await redis.client()

    seen = await _fields(redis, group_id)
    await client.delete(f"orbital:server:{one._node}")

    async def registered() -> bool:
        return bool(await client.exists(f"orbital:server:{one._node}") and await _fields(redis, group_id))

    await eventually(registered, what="the server has registered again")
    await two.until(group_id, "ann")
    await client.hdel(f"orbital:presence:{group_id}", *seen)

    assert [each.username for each in await two.online(group_id)] == ["ann"]


async def test_redis_lost_everything(desks: list[Desk], redis: SharedRedis):
    """[PRESENCE5] After Redis lost everything without an error, the servers write presence again."""
    one, two = desks
    group_id = GroupId(new_id())
    one.set(group_id, ANN)
    two.set(group_id, BOB)
    await two.until(group_id, "ann", "bob")

    client: Any = await redis.client()
    await client.flushall()

    await two.until(group_id, "ann", "bob")
    await one.until(group_id, "ann", "bob")
