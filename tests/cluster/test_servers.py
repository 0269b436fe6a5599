"""Servers that share one PostgreSQL and one Redis keep the promises of one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from orbital_relay.server.ops import intervals
from tests.cluster.conftest import Cluster
from tests.contracts.drafts import NOW_MS
from tests.support.client import Group, Person, Refused, Socket
from tests.support.process import eventually
from tests.support.redis import Redis
from tests.support.server import Server, with_constant

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

SELDOM_COMPARING = with_constant("orbital_relay.server.ops.intervals", "COMPARE_S", 3600.0)
"""A server that compares its groups with the database once an hour: what it learns before came by the bus."""


@pytest.fixture
async def pair(cluster_of: Callable[..., list[Server]]) -> list[Server]:
    """Two servers."""
    return await asyncio.to_thread(cluster_of, 2)


async def _ann_and_bob(pair: list[Server]):
    """Ann at the first server, Bob at the second, in one group."""
    ann, bob = await Person.sign_up(pair[0].url), await Person.sign_up(pair[1].url)
    group = await ann.make_group()
    await bob.join(group)
    return ann, bob, group


async def _reach(socket: Socket, group: Group, seq: int, *, deadline_s: float = 120):
    async with asyncio.timeout(deadline_s):
        while max(socket.seqs(group), default=0) < seq:
            await socket.receive()


async def test_events_reach_other_servers(cluster_of: Callable[..., list[Server]]):
    """[P2] An event posted at one server reaches the other, byte for byte, in order, without a comparison."""
    pair = await asyncio.to_thread(cluster_of, 2, command=SELDOM_COMPARING)
    ann, bob, group = await _ann_and_bob(pair)
    async with ann, bob, await ann.listen(group) as here, await bob.listen(group) as there:
        for index in range(30):
            await (ann, bob)[index % 2].say(group)
            frame = await (there, here)[index % 2].until_seq(group, index + 3)
            assert frame["seq"] == index + 3

        events = await ann.events(group)
        for socket in (here, there):
            await _reach(socket, group, 32)
            assert [frame for frame in socket.frames if "seq" in frame] == events[2:]


async def test_leaving_and_removal_reach_other_servers(pair: list[Server]):
    """[P1] A removed member's socket at another server gets its `member_left`, then nothing more of the group."""
    ann, bob, group = await _ann_and_bob(pair)
    async with ann, bob, await bob.listen(group) as there:
        await ann.say(group)
        await ann.remove(group, bob)
        for _ in range(5):
            await ann.say(group)
        gone = await there.until("unsubscribed")
        assert gone["data"] == {"group_ids": [group.id], "reason": "removed"}
        await there.send("subscribe", {"group_ids": [group.id]})
        await there.until("error")

        seqs = [frame["seq"] for frame in there.frames if "seq" in frame]
        assert seqs == [3, 4]
        with pytest.raises(Refused) as refused:
            await bob.say(group)
        assert refused.value.status == 403


async def test_a_logout_reaches_other_servers(pair: list[Server]):
    """[TOKENS7] A token that is revoked at one server closes its connections at the other."""
    ann, bob, _ = await _ann_and_bob(pair)
    async with ann, bob, await ann.connect(pair[1].url) as socket:
        await ann.ask("POST", "/api/logout")

        assert await socket.until_closed() == 1008


async def test_typing_reaches_other_servers(pair: list[Server]):
    """[CLUSTER10] Typing at one server is visible at the other, to the other members only."""
    ann, bob, group = await _ann_and_bob(pair)
    thread = await ann.open_thread(group)
    async with ann, bob, await ann.listen(group) as here, await bob.listen(group) as there:
        await here.send("typing_indicator", {"thread_id": thread["thread_id"], "is_typing": True})

        frame = await there.until("typing_indicator")
        assert frame["data"] == {
            "thread_id": thread["thread_id"],
            "user_id": ann.user_id,
            "username": ann.username,
            "is_typing": True,
        }
        assert "seq" not in frame
        assert not [frame for frame in here.frames if frame["type"] == "typing_indicator"]


async def test_a_ticket_from_another_server(pair: list[Server]):
    """[HANDSHAKE1] A ticket is valid at any server, for one handshake."""
    ann, bob, _ = await _ann_and_bob(pair)
    async with ann, bob:
        for giver, taker in (pair, pair[::-1]):
            async with httpx.AsyncClient(base_url=giver.url, headers={"Authorization": f"Bearer {ann.token}"}) as http:
                ticket = (await http.post("/api/ws-ticket")).json()["ticket"]
            async with await Socket.open(f"{taker.ws_url}?ticket={ticket}") as socket:
                assert socket.frames[0]["data"]["user_id"] == ann.user_id
            for server in pair:
                answer = httpx.get(
                    f"{server.url}/ws?ticket={ticket}",
                    headers=UPGRADE,
                )
                assert answer.status_code == 401


async def test_limits_are_counted_together(cluster_of: Callable[..., list[Server]]):
    """[LIMITS1] Attempts at two servers share one counter."""
    pair = await asyncio.to_thread(cluster_of, 2, ORBITAL_LOGIN_LIMIT="4")
    statuses = []
    async with httpx.AsyncClient() as http:
        for index in range(6):
            answer = await http.post(
                f"{pair[index % 2].url}/api/login", json={"username": "nobody", "password": "Wrong-Horse-7-Battery"}
            )
            statuses.append(answer.status_code)

    assert statuses == [401] * 4 + [429] * 2
    assert 0 < int(answer.headers["Retry-After"]) <= 900


async def test_presence_over_servers(pair: list[Server]):
    """[PRESENCE1] A user subscribed at any server is online; a server that is killed is removed within 30 s."""
    ann, bob, group = await _ann_and_bob(pair)

    async def online(person: Person = ann) -> dict[str, int]:
        answer = await person.get(f"/api/groups/{group.id}/presence")
        return {one["user_id"]: one["connections"] for one in answer["online"]}

    async with ann, bob, await ann.listen(group) as here:
        assert await online() == {ann.user_id: 1}
        there, again = await bob.listen(group), await bob.listen(group)
        elsewhere = await ann.listen(group, url=pair[1].url)

        async def all_there() -> bool:
            return await online() == await online(bob) == {ann.user_id: 2, bob.user_id: 2}

        await eventually(all_there, what="all there")
        await again.close()

        async def one_less() -> bool:
            return await online() == {ann.user_id: 2, bob.user_id: 1}

        await eventually(one_less, what="one less")
        await here.send("unsubscribe", {"group_ids": [group.id]})

        async def not_here() -> bool:
            return await online() == {ann.user_id: 1, bob.user_id: 1}

        await eventually(not_here, what="not here")
        async with await Person.sign_up(pair[0].url) as stranger:
            with pytest.raises(Refused) as refused:
                await online(stranger)
        assert refused.value.status == 403

        pair[1].kill()
        await there.until_closed()
        await elsewhere.until_closed()
        await there.close()
        await elsewhere.close()

        async def forgotten() -> bool:
            return await online() == {}

        await eventually(forgotten, what="forgotten")


async def test_without_redis(cluster_of: Callable[..., list[Server]], redis_server: Redis):
    """[P3] Without Redis: own events at once, the others' within 10 s, in order, once; ready, but degraded."""
    # The first server's own events need no comparison; the second gets the others' by its next one, or the one after.
    pair = [*await asyncio.to_thread(cluster_of, 1, command=SELDOM_COMPARING), *await asyncio.to_thread(cluster_of, 1)]
    assert 2 * intervals.COMPARE_S <= 10
    ann, bob, group = await _ann_and_bob(pair)
    async with ann, bob, await ann.listen(group) as here, await bob.listen(group) as there:
        await ann.say(group)
        await there.until("new_message")
        redis_server.kill()

        async def degraded() -> bool:
            answers = [httpx.get(f"{server.url}/health/ready") for server in pair]
            assert [answer.status_code for answer in answers] == [200, 200]
            return all(answer.json() == {"status": "degraded", "degraded": ["redis"]} for answer in answers)

        await eventually(degraded, what="degraded")
        for _ in range(5):
            posted = await ann.say(group)
            await _reach(here, group, posted["seq"])
        await _reach(there, group, 8, deadline_s=60)

        # A new subscription while Redis is unreachable, and an earlier one, both work when it is reachable again.
        late = await bob.listen(group)
        redis_server.start()

        async def ready() -> bool:
            return [httpx.get(f"{server.url}/health/ready").json()["status"] for server in pair] == ["ready", "ready"]

        await eventually(ready, what="ready")
        for _ in range(5):
            posted = await ann.say(group)
        for socket in (here, there, late):
            await _reach(socket, group, posted["seq"])
        events = await bob.events(group)
        for socket, after in ((here, 2), (there, 2), (late, 8)):
            assert [frame for frame in socket.frames if "seq" in frame] == events[after:]
        await late.close()

        async def present() -> bool:
            answer = await ann.get(f"/api/groups/{group.id}/presence")
            return {one["user_id"]: one["connections"] for one in answer["online"]} == {ann.user_id: 1, bob.user_id: 1}

        await eventually(present, what="present")


async def test_no_ephemeral_stamp_overtakes_an_event(cluster_of: Callable[..., list[Server]]):
    """[FRAMES2] In a cluster every non-event frame has a stamp below all later events of its groups."""
    pair = await asyncio.to_thread(cluster_of, 2, ORBITAL_HEARTBEAT_SECONDS="1")
    ann, bob, group = await _ann_and_bob(pair)
    async with ann, bob, await bob.listen(group) as there:

        async def four_pings() -> None:
            # Pings are answered while it reads.
            while sum(frame["type"] == "ping" for frame in there.frames) < 4:
                await there.receive(pings=True)

        reading = asyncio.create_task(four_pings())
        posted = await ann.say(group)
        while not reading.done():
            posted = await ann.say(group)
            await asyncio.sleep(0.02)
        await reading
        await _reach(there, group, posted["seq"])

    highest = 0
    for frame in there.frames:
        if "seq" in frame:
            assert frame["server_timestamp"] > highest
        highest = max(highest, frame["server_timestamp"])
    pings = [frame["server_timestamp"] for frame in there.frames if frame["type"] == "ping"]
    assert max(pings) > time.time() * 1000 - 30_000, "the stamp of what is no event follows the clock"
    assert highest < NOW_MS


async def test_a_redis_cluster(serve, postgres_url: str, redis_cluster: Cluster):
    """[CLUSTER11] With a Redis Cluster everything works as with one Redis: events, presence, tickets, limits."""
    env = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": f"redis://127.0.0.1:{redis_cluster.ports[0]}",
        "ORBITAL_SIGNUP_LIMIT": "3",
    }
    pair = [await asyncio.to_thread(serve, env=env, command=SELDOM_COMPARING) for _ in range(2)]
    ann, bob, _ = await _ann_and_bob(pair)
    groups = [await ann.make_group() for _ in range(10)]
    for group in groups:
        await bob.join(group)
    async with ann, bob, await ann.listen(*groups), await bob.listen(*groups) as there:
        for group in groups:
            await ann.say(group)
            await _reach(there, group, 3)

        async def present() -> bool:
            answers = [await bob.get(f"/api/groups/{group.id}/presence") for group in groups]
            return all({one["user_id"] for one in answer["online"]} == {ann.user_id, bob.user_id} for answer in answers)

        await eventually(present, what="present")
        ticket = (await ann.post("/api/ws-ticket", {}))["ticket"]
        async with await Socket.open(f"{pair[1].ws_url}?ticket={ticket}"):
            pass
        await (await Person.sign_up(pair[1].url)).close()
        with pytest.raises(Refused) as refused:
            await Person.sign_up(pair[0].url)
        assert refused.value.status == 429


async def test_an_unreachable_database(serve, own_postgres, redis_server: Redis):
    """[P3] Without PostgreSQL requests and readiness are 503, sockets stay; afterwards everything continues."""
    env = {"DATABASE_URL": own_postgres.create_database(), "REDIS_URL": redis_server.url}
    server: Server = await asyncio.to_thread(serve, env=env)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        async with await ann.listen(group) as socket:
            await asyncio.to_thread(own_postgres.stop)

            async def not_ready() -> bool:
                return httpx.get(f"{server.url}/health/ready").status_code == 503

            await eventually(not_ready, what="not ready")
            answer = await ann.http.post(
                "/v1/messages", json={"conversation_id": group.id, "encrypted_envelope": "aGk=", "timestamp": 0}
            )
            assert (answer.status_code, answer.json()["error"]) == (503, "UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) >= 1
            await socket.send("subscribe", {"group_ids": [group.id]}, id=7)
            error = await socket.until("error")
            assert (error["data"]["code"], error["reply_to"]) == ("UNAVAILABLE", 7)
            assert error["data"]["group_ids"] == [group.id]
            answer = await socket.until("subscribed")
            assert (answer["data"]["group_ids"], answer["reply_to"]) == ([], 7)

            await asyncio.to_thread(own_postgres.start)

            async def ready() -> bool:
                return httpx.get(f"{server.url}/health/ready").status_code == 200

            await eventually(ready, what="ready")
            posted = await ann.say(group)
            await _reach(socket, group, posted["seq"])
