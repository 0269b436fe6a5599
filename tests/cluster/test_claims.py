"""Concurrent claims of one-time keys at two servers, one of which is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.client import Group, Person, Refused
from tests.support.devices import keys_body
from tests.support.process import eventually
from tests.support.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

DEVICES, KEYS, CLAIMERS, CLAIMS = 3, 50, 4, 12


async def _claim(who: Person, group: Group, target: Person, device: int, servers: list[Server], key: str) -> Any:
    """Claim a key of a device; where a server does not answer, ask the other one with the same idempotency key."""
    body = {"group_id": group.id, "devices": [{"user_id": target.user_id, "device_id": device, "suite": 16}]}
    for attempt in range(200):
        url = servers[(attempt + int(key[-1])) % 2].url
        try:
            headers = {**who.http.headers, "Idempotency-Key": key}
            answer = await who.http.post(f"{url}/v1/keys/claims", json=body, headers=headers)
        except httpx.TransportError:
            continue
        if answer.status_code < 500:
            assert answer.status_code == 200, answer.text
            return answer.json()["bundles"][0]
    raise AssertionError("no server answered")


async def test_a_storm_of_key_claims(cluster_of: Callable[..., list[Server]]):
    """[CLAIM14] Concurrent claims at two servers, one killed midway, never return the same one-time key."""
    servers = await asyncio.to_thread(cluster_of, 2)
    ann = await Person.sign_up(servers[0].url)
    group = await ann.make_group()
    for mark in range(1, DEVICES + 1):
        await ann.ask("PUT", "/v1/keys", json=keys_body(mark, one_time=KEYS))
    claimers = [await Person.sign_up(servers[0].url) for _ in range(CLAIMERS)]
    for who in claimers:
        await who.join(group)
    given: dict[int, list[int]] = {device: [] for device in range(1, DEVICES + 1)}

    async def claim_all(number: int, who: Person) -> None:
        for turn in range(CLAIMS):
            for device, ids in given.items():
                key = f"{number}-{device}-{turn}"
                bundle = await _claim(who, group, ann, device, servers, key)
                # A repeated claim is the same claim at any server.
                assert await _claim(who, group, ann, device, servers, key) == bundle
                if not bundle["last_resort"]:
                    ids.append(bundle["hpke_pre_key"]["id"])

    async def kill() -> None:
        await eventually(
            lambda: sum(map(len, given.values())) >= CLAIMERS * CLAIMS,
            what="half of the keys are given",
            deadline_s=300,
        )
        await asyncio.to_thread(servers[1].kill)

    async with asyncio.timeout(300):
        await asyncio.gather(kill(), *(claim_all(number, who) for number, who in enumerate(claimers)))

    for device, ids in given.items():
        assert len(ids) == len(set(ids)), f"a key of device {device} was given out twice"
        assert len(ids) == CLAIMERS * CLAIMS
    with pytest.raises(Refused):
        await ann.ask("DELETE", "/v1/keys/9")
    for who in (ann, *claimers):
        await who.close()


async def test_low_stocks_at_every_server(cluster_of: Callable[..., list[Server]]):
    """[KEYS20] A claim at one server that leaves a stock low is reported to connections at every server, once."""
    servers = await asyncio.to_thread(cluster_of, 2)
    ann, bob = await Person.sign_up(servers[0].url), await Person.sign_up(servers[0].url)
    group = await ann.make_group()
    await bob.join(group)
    await ann.ask("PUT", "/v1/keys", json=keys_body(one_time=10))
    sockets = [await ann.connect(server.ws_url) for server in servers]
    other = await bob.connect(servers[1].ws_url)

    await _claim(bob, group, ann, 1, servers, "claim-1")
    low = [await socket.until("keys_low") for socket in sockets]
    await _claim(bob, group, ann, 1, servers, "claim-2")
    for socket in (*sockets, other):
        await socket.wait_idle()

    assert [frame["data"]["hpke_pre_keys"] for frame in low] == [9, 9]
    assert [sum(frame["type"] == "keys_low" for frame in socket.frames) for socket in (*sockets, other)] == [1, 1, 0]
    for socket in (*sockets, other):
        await socket.close()
    for who in (ann, bob):
        await who.close()
