"""Devices and epochs on the socket of a real server."""

from __future__ import annotations

import pytest

from tests.support.client import opaque
from tests.support.devices import curve, keys_body


@pytest.fixture
def server(shared_server):
    """Share one server among the tests that neither set nor stop it."""
    return shared_server


async def _ann_and_bob(server, people):
    ann, bob = await people(server.url), await people(server.url)
    group = await ann.make_group()
    await bob.join(group)
    return ann, bob, group


async def _claim(who, whose, group):
    device = {"user_id": whose.user_id, "device_id": 1, "suite": 16}
    return await who.post("/v1/keys/claims", {"group_id": group.id, "devices": [device]})


async def test_the_events(server, people):
    """[KEYS18] `identity_changed`, `new_keys` and `new_record` reach subscribers in the group's order, chained."""
    ann, bob, group = await _ann_and_bob(server, people)

    async with await bob.listen(group) as socket:
        await ann.ask("PUT", "/v1/keys", json=keys_body())
        await ann.post("/v1/key-messages", {"group_id": group.id, "encrypted_envelope": opaque()})
        await ann.post(f"/api/groups/{group.id}/records", {"record": opaque()})
        await ann.ask("DELETE", "/v1/keys/1")
        await socket.until_seq(group, 6)

    kinds = [frame["type"] for frame in socket.events(group)]
    assert kinds == ["identity_changed", "new_keys", "new_record", "identity_changed"]
    socket.assert_chain(group, after=2)
    assert socket.events(group)[0]["data"]["identity_key"] == curve()


async def test_posts_by_frames(server, people):
    """[EPOCH7] A post frame accepts `if_epoch` like its POST; the `error` has the epoch."""
    ann, _, group = await _ann_and_bob(server, people)
    message = {"conversation_id": group.id, "encrypted_envelope": opaque(), "timestamp": 1}
    thread = {"group_id": group.id, "encrypted_title": opaque(), "encrypted_body": opaque()}
    opened = await ann.open_thread(group)
    reply = {"thread_id": opened["thread_id"], "encrypted_body": opaque()}

    async with await ann.connect() as socket:
        for type_, data in (("post_message", message), ("post_thread", thread), ("post_reply", reply)):
            await socket.send(type_, {**data, "if_epoch": 1}, id="late")
            refused = await socket.until("error")
            assert (refused["data"]["code"], refused["data"]["epoch"]) == ("EPOCH_CHANGED", 2)
            await socket.send(type_, {**data, "if_epoch": 2}, id="now")
            assert (await socket.until("posted"))["reply_to"] == "now"


async def test_low_stocks_after_the_greeting(server, people):
    """[KEYS19] After `auth_success` comes a `keys_low` for each of the user's devices with a low stock."""
    ann, bob, _ = await _ann_and_bob(server, people)
    await ann.ask("PUT", "/v1/keys", json=keys_body(1, one_time=3))
    await ann.ask("PUT", "/v1/keys", json=keys_body(2, one_time=10))
    await bob.ask("PUT", "/v1/keys", json=keys_body(3, one_time=10))

    async with await ann.connect() as socket, await bob.connect() as full:
        low = await socket.until("keys_low")
        await socket.wait_idle()
        await full.wait_idle()

    assert [frame["type"] for frame in socket.frames[:2]] == ["auth_success", "keys_low"]
    assert low["data"] == {"device_id": 1, "pre_keys": 0, "kyber_pre_keys": 0, "hpke_pre_keys": 3}
    assert sum(frame["type"] == "keys_low" for frame in (*socket.frames, *full.frames)) == 1


async def test_a_stock_becomes_low(server, people):
    """[KEYS20] When a claim leaves fewer than ten keys, each of the user's connections receives `keys_low`, once."""
    ann, bob, group = await _ann_and_bob(server, people)
    await ann.ask("PUT", "/v1/keys", json=keys_body(one_time=10))

    async with await ann.connect() as first, await ann.connect() as second, await bob.connect() as other:
        await _claim(bob, ann, group)
        assert [(await socket.until("keys_low"))["data"]["hpke_pre_keys"] for socket in (first, second)] == [9, 9]
        await _claim(bob, ann, group)
        await ann.ask("PUT", "/v1/keys", json=keys_body(one_time=2, first_id=20))
        await _claim(bob, ann, group)
        again = await first.until("keys_low")
        await other.wait_idle()

    assert again["data"]["hpke_pre_keys"] == 9
    assert sum(frame["type"] == "keys_low" for frame in first.frames) == 2
    assert all(frame["type"] != "keys_low" for frame in other.frames)
