"""A server of a cluster whose clock is wrong: libfaketime sets its time."""

from __future__ import annotations

import asyncio
import time

from tests.server.test_clock import moved_clock
from tests.support.client import Person
from tests.support.process import eventually
from tests.support.redis import Redis
from tests.support.server import Server


async def test_one_server_is_8_days_ahead(serve, postgres_url: str, redis_server: Redis):
    """[CLOCK9] A server whose clock is 8 days ahead deletes no other's data, and dates events as the others do."""
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, "ORBITAL_PRUNE_SECONDS": "0.1"}
    right: Server = await asyncio.to_thread(serve, env=env)
    async with await Person.sign_up(right.url) as ann:
        group = await ann.make_group()
        for _ in range(3):
            await ann.say(group)

        wrong: Server = await asyncio.to_thread(serve, env={**env, **moved_clock(FAKETIME="+8d")})
        assert any("the database's is used" in line for line in wrong.log)
        async with Person(wrong.url, user_id=ann.user_id, username=ann.username, token=ann.token) as there:
            posted = await there.say(group)
            assert abs(posted["server_timestamp"] / 1000 - time.time()) < 60
            # The first round of the periodic work would delete another server's expired key or event.
            started_s = time.monotonic()
            await eventually(lambda: time.monotonic() - started_s > 1, what="ten rounds of pruning")
            assert [event["seq"] for event in await there.events(group)] == [1, 2, 3, 4, 5]
            assert (await there.say(group))["server_timestamp"] > posted["server_timestamp"]
