"""The bus on a Redis that is unreachable, freezes, restarts empty, or is a Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orbital_relay.bus import redis as adapter
from orbital_relay.bus import redis_session
from orbital_relay.bus.redis import RedisBus
from orbital_relay.model import GroupId
from tests.cluster.conftest import Cluster, ask
from tests.contracts.drafts import new_id
from tests.contracts.test_bus import Received
from tests.support.process import eventually
from tests.support.proxy import Proxy
from tests.support.redis import Redis


class Ear(RedisBus):
    """A bus that records what it received, and how often it reconnected."""

    def __init__(self, url: str) -> None:
        self.inbox = Received()
        self.back = asyncio.Event()
        self.came_back = 0
        super().__init__(url, receive=self.inbox, on_reconnected=self._note)

    def _note(self) -> None:
        self.came_back += 1
        self.back.set()

    async def return_of(self, count: int) -> None:
        """Wait until it has come back so often."""
        async with asyncio.timeout(60):
            while self.came_back < count:
                self.back.clear()
                await self.back.wait()


@pytest.fixture
async def ears(redis_server: Redis) -> AsyncIterator[Callable[..., object]]:
    """Make started buses, closed at the end."""
    made: list[Ear] = []

    async def make(url: str = "") -> Ear:
        made.append(Ear(url or redis_server.url))
        await made[-1].start()
        return made[-1]

    yield make
    for ear in made:
        await ear.close()


async def test_redis_restarts_empty(redis_server: Redis, ears):
    """[CLUSTER1] When Redis is back, empty, all groups are subscribed again before `on_reconnected` is called."""
    one, two = await ears(), await ears()
    groups = [GroupId(new_id()) for _ in range(2_500)]
    await asyncio.gather(*(two.follow(group_id) for group_id in groups))

    for count in (1, 2):
        redis_server.kill()
        await eventually(lambda: one._session is None and two._session is None, what="Redis is unreachable")
        assert (one.connected, two.connected) == (False, False)
        late = GroupId(new_id())
        # Nobody waits for a Redis that is away: a wait would take ten minutes.
        with pytest.MonkeyPatch.context() as patch:
            for name in ("CONNECT_S", "FOLLOW_S"):
                patch.setattr(adapter, name, 600.0)
            async with asyncio.timeout(60):
                await one.publish(groups[0], b"lost")
                await two.follow(late)
        redis_server.start()
        await asyncio.gather(one.return_of(count), two.return_of(count))
        two.inbox.messages.clear()
        for group_id in (groups[0], groups[-1], late):
            await one.publish(group_id, b"again")
        assert await two.inbox.until(3) == [(groups[0], b"again"), (groups[-1], b"again"), (late, b"again")]

    assert one.dropped == 2


async def test_redis_is_unreachable_at_the_start(redis_server: Redis, ears):
    """[CLUSTER2] A server starts without Redis, and receives from the others once Redis is reachable."""
    redis_server.kill()
    one, two = await ears(), await ears()
    group_id = GroupId(new_id())
    await two.follow(group_id)
    assert two.connected is False

    redis_server.start()
    await asyncio.gather(one.return_of(1), two.return_of(1))

    await one.publish(group_id, b"payload")
    assert await two.inbox.until(1) == [(group_id, b"payload")]


async def test_redis_is_frozen(redis_server: Redis, ears, monkeypatch):
    """[CLUSTER3] A frozen Redis is detected, blocks no request for long, and its backlog does no harm."""
    monkeypatch.setattr(redis_session, "PING_S", 0.3)
    one, two = await ears(), await ears()
    group_id = GroupId(new_id())
    await two.follow(group_id)

    redis_server.freeze()
    async with asyncio.timeout(60):
        await two.follow(GroupId(new_id()))
    await eventually(lambda: one._session is None and two._session is None, what="Redis is unreachable")
    redis_server.thaw()
    await asyncio.gather(one.return_of(1), two.return_of(1))

    two.inbox.messages.clear()
    await one.publish(group_id, b"payload")
    assert (await two.inbox.until(1))[-1] == (group_id, b"payload")


async def test_the_buffer_for_redis_is_bounded(redis_server: Redis, ears):
    """[CLUSTER4] For a Redis that does not read, a few megabytes of messages are buffered; further ones are dropped."""
    one = await ears()
    group_id = GroupId(new_id())
    session = one._session

    redis_server.freeze()
    for _ in range(200):
        await one.publish(group_id, bytes(100_000))
        await asyncio.sleep(0)

    assert one._session is session, "it is not yet known to be away"
    # 4 MiB are buffered in the server, and the rest in the kernel.
    assert one.dropped > 50
    redis_server.thaw()


async def test_an_exception_in_the_server(redis_server: Redis, ears, caplog: pytest.LogCaptureFixture):
    """
    [CLUSTER5] A message that raises an exception in the server is dropped, with an error in the log.

    It stopped the bus: the server received and sent nothing until it was restarted.
    """
    one, two = await ears(), await ears()
    group_id = GroupId(new_id())
    await two.follow(group_id)
    received = two.inbox.__call__
    failed = []

    def fail(group: GroupId, payload: bytes) -> None:
        if payload == b"bad":
            failed.append(payload)
            raise LookupError("a mistake")
        received(group, payload)

    two._receive = fail
    await one.publish(group_id, b"bad")
    await one.publish(group_id, b"good")

    assert await two.inbox.until(1) == [(group_id, b"good")]
    assert (failed, two.came_back) == ([b"bad"], 0)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_a_redis_with_invalid_responses(ears):
    """[CLUSTER6] Invalid responses from Redis cause a retry, as a timeout does; the bus keeps retrying."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"HELLO")
        asked += 1
        writer.write(b"$2\r\nOK\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        one = await ears(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await eventually(lambda: asked > 2, what="three tries")
        assert one.connected is False
        await one.close()


async def test_connections_are_cut(redis_server: Redis, ears, seed: int):
    """[CLUSTER7] After a connection was cut at any point it is opened again, and all groups are subscribed again."""
    async with await Proxy.open(redis_server.port, seed=seed) as proxy:
        one, two = await ears(), await ears(f"redis://127.0.0.1:{proxy.port}")
        group_id = GroupId(new_id())
        await two.follow(group_id)
        for count in range(1, 6):
            await proxy.set(slice="some")
            await (proxy.cut() if count % 2 else proxy.reset())
            await two.return_of(count)
            two.inbox.messages.clear()
            await one.publish(group_id, b"%d" % count)
            assert await two.inbox.until(1) == [(group_id, b"%d" % count)]


async def test_an_unknown_payload_on_the_channel(redis_server: Redis, ears):
    """[CLUSTER8] A payload that no server of ours wrote is passed to the relay and causes no failure."""
    two = await ears()
    group_id = GroupId(new_id())
    await two.follow(group_id)
    one = await ears()
    one._node_id = b""

    for payload in (b"", b"x", b"12345678", b"12345678payload"):
        await one.publish(group_id, payload)

    assert [payload for _, payload in await two.inbox.until(4)] == [b"", b"", b"", b"payload"]


async def test_a_password(tmp_path: Path, ears):
    """[STARTUP4] User and password of the URL are used; a wrong password logs a warning, and the server continues."""
    redis = Redis()
    try:
        redis.start()
        admin = await ears(redis.url)
        await admin._session._links[0].ask(b"CONFIG", b"SET", b"requirepass", b"s3cret")
        right = await ears(redis.url.replace("redis://", "redis://:s3cret@"))
        wrong = await ears(redis.url.replace("redis://", "redis://:wrong@"))
        assert (right.connected, wrong.connected) == (True, False)
    finally:
        redis.close()


# Chapter: a Cluster


@pytest.mark.redis
async def test_sharded_on_a_cluster(redis_cluster: Cluster):
    """[CLUSTER9] On a Cluster each group's channel is on the master of its slot; a migrated slot is followed."""
    url = f"redis://127.0.0.1:{redis_cluster.ports[0]}"
    one, two = Ear(url), Ear(url)
    await one.start()
    await two.start()
    try:
        groups = [GroupId(new_id()) for _ in range(40)]
        await asyncio.gather(*(two.follow(group_id) for group_id in groups))
        for group_id in groups:
            await one.publish(group_id, b"payload")
        assert sorted(await two.inbox.until(40)) == sorted((group_id, b"payload") for group_id in groups)
        assert len({id(two._session._of(adapter._channel(group_id))) for group_id in groups}) == 2

        # The first group's slot moves to the other master.
        from redis.crc import key_slot

        slot = key_slot(adapter._channel(groups[0]))
        taker = redis_cluster.ports[1] if slot < 8192 else redis_cluster.ports[0]
        taker_id = (await ask(taker, "CLUSTER", "MYID")).decode()
        for port in (taker, *redis_cluster.ports):
            assert await ask(port, "CLUSTER", "SETSLOT", str(slot), "NODE", taker_id) == b"+OK"
        await two.return_of(1)
        two.inbox.messages.clear()

        async def received() -> bool:
            # The first publish detects that the slot has moved, and is lost.
            await one.publish(groups[0], b"moved")
            return bool(two.inbox.messages)

        await eventually(received, what="a message from where the slot is now")
        assert two.inbox.messages[0] == (groups[0], b"moved")
    finally:
        await one.close()
        await two.close()
