"""Servers, Redis, PostgreSQL and the network fail while users post; all logs end complete."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay.client import Orbital
from orbital_relay.core.backoff import Backoff
from tests.cluster.balancer import Balancer
from tests.contracts.drafts import new_id
from tests.support.client import Person, opaque
from tests.support.postgres import Postgres
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.redis import Redis
from tests.support.server import SECRET, Server
from tests.support.tokens import token

GROUPS, PEOPLE, CLIENTS, SUBSCRIPTIONS = 20, 12, 60, 5
BACKOFF = Backoff(steps_ms=(100, 200, 400, 800), jitter_ms=300, attempts=1000, window_ms=1000)
STORM_S = 25
"""How long it lasts in `make test`; `make soak` has it for minutes."""

Received = dict[tuple[int, str], list[tuple[int, str]]]
"""What each client received of each group: numbers and `prev`s, in the order of arrival."""


class Storm:
    """The places of failure, and a seed that chooses among them."""

    def __init__(
        self, chance: random.Random, servers: list[Server], postgres: Postgres, redis: Redis, balancer: Balancer
    ) -> None:
        self._chance = chance
        self._servers = servers
        self._postgres = postgres
        self._redis = redis
        self._balancer = balancer
        self.done: Counter[str] = Counter()

    async def blow(self, until_s: float) -> None:
        """Do harm, one thing after the other and some at once, each kind at least once; everything runs at the end."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.kill_a_server,
            self.stop_a_server,
            self.restart_redis,
            self.freeze_redis,
            self.cut_redis,
            self.restart_postgres,
            self.move_clients,
        ]
        order = self._chance.sample(kinds, len(kinds))
        while order or time.monotonic() < until_s:
            kind = order.pop() if order else self._chance.choice(kinds)
            await asyncio.gather(kind(), *([self.move_clients()] if self._chance.random() < 0.3 else []))
            self.done[kind.__name__] += 1
            await asyncio.sleep(self._chance.uniform(0.1, 1))  # part of the disorder, not a wait

    async def kill_a_server(self) -> None:
        server = self._chance.choice(self._servers)
        server.kill()
        await asyncio.sleep(self._chance.uniform(0, 1))  # part of the disorder, not a wait
        await asyncio.to_thread(server.start)

    async def stop_a_server(self) -> None:
        server = self._chance.choice(self._servers)
        assert await asyncio.to_thread(server.terminate) == 0
        await asyncio.to_thread(server.start)

    async def restart_redis(self) -> None:
        self._redis.kill()
        await asyncio.sleep(self._chance.uniform(0, 2))  # part of the disorder, not a wait
        await asyncio.to_thread(self._redis.start)

    async def freeze_redis(self) -> None:
        self._redis.freeze()
        await asyncio.sleep(self._chance.uniform(0.5, 3))  # part of the disorder, not a wait
        self._redis.thaw()

    async def cut_redis(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._redis.port)
        for kind in ("normal", "pubsub"):
            writer.write(f"CLIENT KILL TYPE {kind}\r\n".encode())
            assert (await reader.readline()).startswith(b":")
        writer.close()
        await writer.wait_closed()

    async def restart_postgres(self) -> None:
        kill = self._chance.random() < 0.5
        await asyncio.to_thread(self._postgres.kill if kill else self._postgres.stop)
        await asyncio.sleep(self._chance.uniform(0, 1))  # part of the disorder, not a wait
        await asyncio.to_thread(self._postgres.start)

    async def move_clients(self) -> None:
        self._balancer.cut(self._chance.choice([0.1, 0.5, 1.0]))


class Talk:
    """People who post through whichever server, and retry with the same key until they have their answer."""

    def __init__(self, url: str, chance: random.Random, people: list[tuple[str, str]], groups: list[str]) -> None:
        self._url = url
        self._chance = chance
        self._people = people
        self._groups = groups
        self.over = False
        self.answered: list[tuple[str, str, dict[str, Any]]] = []
        self.retries = 0

    async def resume(self) -> None:
        """Post until it is over; each post is seen through to its answer."""
        while not self.over:
            _, bearer = self._chance.choice(self._people)
            group_id, envelope, key = self._chance.choice(self._groups), opaque(), new_id()
            headers = {"Authorization": f"Bearer {bearer}", "Idempotency-Key": key}
            body = {"conversation_id": group_id, "encrypted_envelope": envelope, "timestamp": 0}
            while True:
                try:
                    async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as http:
                        answer = await http.post("/v1/messages", json=body, headers=headers)
                except httpx.HTTPError:
                    answer = None
                if answer is not None and answer.is_success:
                    self.answered.append((group_id, envelope, answer.json()))
                    break
                assert answer is None or answer.status_code == 503, answer.text
                self.retries += 1
                await asyncio.sleep(self._chance.uniform(0.05, 0.3))  # part of the disorder, not a wait
            await asyncio.sleep(self._chance.uniform(0, 0.1))  # part of the disorder, not a wait


class Nodes:
    """The clients of the JavaScript SDK, in one process of Node."""

    def __init__(self, node: str, config: dict[str, Any]) -> None:
        self._program = Program([node, str(Path(__file__).with_name("listeners.js"))], stdin=True, cwd=CHECKOUT)
        self._program.say(json.dumps(config))

    def received(self) -> tuple[Received, list[Any]]:
        """Return what was received so far, and what must not be."""
        received: Received = {}
        wrong = []
        for line in list(self._program.lines):
            reported = json.loads(line) if line.startswith("{") else {"wrong": line}
            if "wrong" in reported:
                wrong.append(reported)
            else:
                received.setdefault((reported["client"], reported["group_id"]), []).append(
                    (reported["seq"], reported["prev"])
                )
        return received, wrong

    def close(self) -> None:
        """End it."""
        if self._program.alive:
            self._program.say("stop")
            assert self._program.wait() == 0


async def _receive(client: Orbital, number: int, group_id: str, received: Received, wrong: list[Any]) -> None:
    try:
        async for event in client.subscribe(group_id, since=0):
            if hasattr(event, "prev"):
                received.setdefault((number, group_id), []).append((event.seq, event.prev))
            else:
                wrong.append(event)
    except Exception as exc:
        wrong.append(exc)


async def storm(
    cluster_of: Callable[..., list[Server]], postgres: Postgres, redis: Redis, node: str, seed: int, *, lasts_s: float
) -> None:
    """Let it blow, then compare every list with the log."""
    chance = random.Random(seed)
    servers = await asyncio.to_thread(cluster_of, 3, DATABASE_URL=postgres.create_database(), REDIS_URL=redis.url)
    people = [(f"user-{number}", token(f"user-{number}", f"person_{number}")) for number in range(PEOPLE)]
    folks = [Person(servers[0].url, user_id=user_id, username="", token=bearer) for user_id, bearer in people]
    groups = [await chance.choice(folks).make_group() for _ in range(GROUPS)]
    for group in groups:
        for one in folks:
            answer = await one.http.post(
                "/api/groups/join", json={"invite_code": group.invite_code, "encrypted_group_key": "a2V5"}
            )
            assert answer.status_code in {200, 409}, answer.text
    ids = [group.id for group in groups]
    wants = [(chance.choice(people)[1], chance.sample(ids, SUBSCRIPTIONS)) for _ in range(CLIENTS)]

    received: Received = {}
    wrong: list[Any] = []
    async with Balancer([server.port for server in servers], chance) as balancer:
        half = CLIENTS // 2
        nodes = Nodes(
            node,
            {"url": balancer.url, "clients": [{"token": bearer, "groups": some} for bearer, some in wants[half:]]},
        )
        clients = [Orbital(balancer.url, token=bearer, verify=True, backoff=BACKOFF) for bearer, _ in wants[:half]]
        await asyncio.gather(*(client.__aenter__() for client in clients))
        receiving = [
            asyncio.create_task(_receive(client, number, group_id, received, wrong))
            for number, (client, (_, some)) in enumerate(zip(clients, wants[:half], strict=True))
            for group_id in some
        ]
        talk = Talk(balancer.url, chance, people, ids)
        talking = [asyncio.create_task(talk.resume()) for _ in range(12)]
        weather = Storm(chance, servers, postgres, redis, balancer)
        try:
            await weather.blow(time.monotonic() + lasts_s)
            talk.over = True
            await asyncio.gather(*talking)

            logs = {group.id: await folks[0].events(group) for group in groups}
            expected = {group_id: [(event["seq"], event["prev"]) for event in log] for group_id, log in logs.items()}

            def missing() -> list[str]:
                there, bad = nodes.received()
                every = received | {
                    (half + client, group_id): reported for (client, group_id), reported in there.items()
                }
                assert not bad + wrong, (bad + wrong)[:3]
                return [
                    f"client {number}, {group_id}: {len(every.get((number, group_id), []))}/{len(expected[group_id])}"
                    for number, (_, some) in enumerate(wants)
                    for group_id in some
                    if every.get((number, group_id)) != expected[group_id]
                ]

            await eventually(lambda: not missing(), what="all is received, in order", deadline_s=180, every_s=0.2)
        finally:
            for task in (*talking, *receiving):
                task.cancel()
            await asyncio.gather(*talking, *receiving, return_exceptions=True)
            await asyncio.gather(*(client.close() for client in clients))
            await asyncio.to_thread(nodes.close)
            for one in folks:
                await one.close()
    print(f"storm: {dict(weather.done)}, {len(talk.answered)} posts, {talk.retries} retries")

    # Every 2xx is in the log, once, at the number in the response.
    posted = Counter((group_id, envelope) for group_id, envelope, _ in talk.answered)
    stored = Counter(
        (group_id, event["data"]["encrypted_envelope"])
        for group_id, log in logs.items()
        for event in log
        if event["type"] == "new_message"
    )
    assert stored == posted
    assert set(posted.values()) == {1}
    for group_id, envelope, answer in talk.answered:
        event = logs[group_id][answer["seq"] - 1]
        assert (event["seq"], event["data"]["message_id"]) == (answer["seq"], answer["message_id"])
        assert event["data"]["encrypted_envelope"] == envelope
    for log in logs.values():
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    checked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "orbital_relay", "check", "--database-url", servers[0].env["DATABASE_URL"]],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    assert SECRET not in checked.stdout


@pytest.mark.postgres
@pytest.mark.redis
async def test_storm(cluster_of, own_postgres: Postgres, redis_server: Redis, node: str, seed: int):
    """[P3] Under any failure every client of both SDKs receives each log, whole and in order; every 2xx was stored."""
    await storm(cluster_of, own_postgres, redis_server, node, seed, lasts_s=STORM_S)


@pytest.mark.soak
@pytest.mark.postgres
@pytest.mark.redis
async def test_long_storm(cluster_of, own_postgres: Postgres, redis_server: Redis, node: str, seed: int):
    """[P3] The same for five minutes."""
    await storm(cluster_of, own_postgres, redis_server, node, seed, lasts_s=300)
