"""A primary that fails, and a lagging standby that takes over behind the same address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.support.client import Frame, Person
from tests.support.postgres import Postgres
from tests.support.process import eventually
from tests.support.redis import Redis
from tests.support.server import Server


@pytest.fixture
def standby(own_postgres: Postgres) -> Iterator[Postgres]:
    """A standby of `own_postgres` that follows it."""
    made = Postgres(standby_of=own_postgres)
    try:
        yield made.start()
    finally:
        made.close()


def _replayed(standby: Postgres) -> int:
    return int(standby.execute("SELECT coalesce(max(last_seq), 0) AS seq FROM groups")[0]["seq"])


async def test_a_standby_that_lagged_takes_over(serve, own_postgres: Postgres, standby: Postgres, redis_server: Redis):
    """[REWIND4] After a failover that lost events every listener receives its new position and all later posts."""
    env = {"DATABASE_URL": own_postgres.url(), "REDIS_URL": redis_server.url}
    servers: list[Server] = [await asyncio.to_thread(serve, env=env) for _ in range(2)]
    async with AsyncExitStack() as opened:
        ann, bob = [await opened.enter_async_context(await Person.sign_up(server.url)) for server in servers]
        group = await ann.make_group()
        await bob.join(group)
        sockets = [await opened.enter_async_context(await one.listen(group)) for one in (ann, bob)]
        for _ in range(10):
            await ann.say(group)
        await eventually(lambda: _replayed(standby) == 12, what="the standby has it all")
        # The standby is disconnected: later events are on the primary only.
        await asyncio.to_thread(standby.stop)
        for _ in range(10):
            await bob.say(group)
        for socket in sockets:
            await socket.until_seq(group, 22)
        late = await opened.enter_async_context(await Person.sign_up(servers[0].url))
        await late.join(group)
        late_socket = await opened.enter_async_context(await late.listen(group))

        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(standby.promote, port=own_postgres.port)
        await eventually(lambda: _posts(ann, group), what="a post is stored again")
        reported = [await socket.until(_reset) for socket in sockets]
        for _ in range(5):
            await ann.say(group)
            await bob.say(group)

        log = await ann.events(group)
        for socket, reset in zip(sockets, reported, strict=True):
            start = reset["data"]["groups"][group.id]["seq"]
            await socket.until_seq(group, log[-1]["seq"])
            after = socket.frames[socket.frames.index(reset) + 1 :]
            assert [frame for frame in after if frame.get("group_id") == group.id] == log[start:]
        # Its account was lost, and so is its membership.
        assert await late_socket.until_closed() == 1012
        metrics = (await ann.http.get("/metrics")).text
        assert "orbital_log_rewinds_total 1" in metrics


async def _posts(person: Person, group) -> bool:
    body = {"conversation_id": group.id, "encrypted_envelope": "AAAA", "timestamp": 1}
    return (await person.http.post("/v1/messages", json=body)).is_success


def _reset(frame: Frame) -> bool:
    return frame["type"] == "subscribed" and any(not state["recovered"] for state in frame["data"]["groups"].values())
