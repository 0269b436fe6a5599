"""Push messages of several servers that share one database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from orbital_relay.server.push.pusher import CLAIM_MS
from tests.support.client import Person
from tests.support.postgres import Postgres
from tests.support.process import eventually
from tests.support.push import Device, PushService
from tests.support.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


async def _subscribe(who: Person, service: PushService, name: str) -> Device:
    device = Device()
    body = {"endpoint": service.endpoint(name), "keys": device.keys}
    await who.ask("PUT", "/api/push/subscriptions", expect=200, json=body)
    return device


async def _on(cluster: Postgres, url: str, sql: str) -> list[dict[str, Any]]:
    return await asyncio.to_thread(cluster.execute, sql, database=url.rpartition("/")[2])


async def test_two_servers_call_once(cluster_of: Callable[..., list[Server]]):
    """[PUSH9] With posts at two servers, each event sends one push message per device; both use the same key."""
    pair = await asyncio.to_thread(cluster_of, 2, ORBITAL_PUSH_NETWORKS="127.0.0.0/8")
    async with (
        PushService() as service,
        await Person.sign_up(pair[0].url) as ada,
        await Person.sign_up(pair[1].url) as ben,
        await Person.sign_up(pair[1].url) as cem,
    ):
        group = await ada.make_group()
        for other in (ben, cem):
            await other.join(group)
        devices = {name: await _subscribe(cem, service, name) for name in ("phone", "laptop")}
        assert await ada.get("/api/push/key") == await ben.get("/api/push/key")

        posted = await asyncio.gather(*((ada, ben)[index % 2].open_thread(group) for index in range(20)))

        threads = sorted(each["thread_id"] for each in posted)

        def called(name: str) -> list[Any]:
            found = (each for each in service.messages if each.path.endswith(f"/{name}"))
            return sorted(each.read(devices[name])["thread_id"] for each in found)

        for name in devices:
            await eventually(lambda name=name: len(called(name)) >= 20, what=f"{name} gets a message for each thread")
        # A last event, whose push message follows all others.
        await ada.open_thread(group)
        for name in devices:
            await eventually(lambda name=name: len(called(name)) > 20, what=f"{name} gets the last message")
            assert [each for each in called(name) if each in threads] == threads


async def test_another_server_takes_over(
    cluster_of: Callable[..., list[Server]], postgres_cluster: Postgres, postgres_url: str
):
    """[PUSH17] The call of a server that was killed while it called is made by another server when its claim ends."""
    first, second = await asyncio.to_thread(cluster_of, 2, ORBITAL_PUSH_NETWORKS="127.0.0.0/8")
    async with (
        PushService() as service,
        await Person.sign_up(first.url) as ada,
        await Person.sign_up(second.url) as ben,
    ):
        group = await ada.make_group()
        await ben.join(group)
        device = await _subscribe(ben, service, "ben")
        service.answer = lambda _path: (0, {})
        # The other server does not run while the call begins, so it is the first that claims the device.
        second.program.freeze()
        thread = await ada.open_thread(group)
        await eventually(lambda: service.asked, what="a server calls")

        first.kill()
        second.program.thaw()
        service.answer = lambda _path: (201, {})
        now_ms = time.time() * 1000
        claimed = await _on(postgres_cluster, postgres_url, "SELECT claimed_until_ms FROM push_subscriptions")
        assert [0 < row["claimed_until_ms"] - now_ms <= CLAIM_MS for row in claimed] == [True]
        # The clock of a claim is the database's row: two minutes pass for it at once.
        passed = f"UPDATE push_subscriptions SET claimed_until_ms = claimed_until_ms - {CLAIM_MS}"
        await _on(postgres_cluster, postgres_url, passed)

        (message,) = await service.arrived(1, deadline_s=60)
        assert message.read(device)["thread_id"] == thread["thread_id"]
