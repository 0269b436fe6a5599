"""Redis users whose ACL omits commands, and passwords that a URL must encode."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis as Client

from tests.support.client import Person, Socket
from tests.support.redis import Redis
from tests.support.server import Server


@pytest.mark.parametrize("rules", ["+@all -@dangerous", "+@all -@dangerous -cluster"])
async def test_a_user_without_info(serve, postgres_url: str, redis_server: Redis, rules: str):
    """[ACL1] Two servers share tickets and events with a Redis user without INFO and with an encoded password."""
    async with Client.from_url(redis_server.url) as admin:
        command = ["ACL", "SETUSER", "orbital", "on", ">p@ss/w:rd%", "~orbital:*", "&orbital:*", *rules.split()]
        await admin.execute_command(*command)
    place = redis_server.url.partition("://")[2]
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": f"redis://orbital:p%40ss%2Fw%3Ard%25@{place}"}
    one, two = [await asyncio.to_thread(serve, env=env) for _ in range(2)]
    assert isinstance(one, Server)

    async with await Person.sign_up(one.url) as ann:
        ready = (await ann.http.get("/health/ready")).json()
        ticket = (await ann.post("/api/ws-ticket", {}))["ticket"]
        group = await ann.make_group()
        async with await Socket.open(f"{two.ws_url}?ticket={ticket}") as socket:
            await socket.subscribe(group.id)
            await ann.say(group)
            await socket.until_seq(group, 2)

    assert ready["status"] == "ready"
