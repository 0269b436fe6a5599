"""The state that a member's devices share about a group."""

from __future__ import annotations

import asyncio
import base64
import uuid
from typing import Any

import httpx

from tests.server.api import EACH_DATABASE, Api, User

pytestmark = EACH_DATABASE


async def put(user: User, group_id: str, content: bytes | str) -> httpx.Response:
    """Store a state."""
    text = content if isinstance(content, str) else base64.b64encode(content).decode()
    return await user.ask("PUT", f"/api/groups/{group_id}/state", json={"encrypted_state": text})


async def state(user: User, group_id: str) -> Any:
    """Read the state."""
    return (await user.get(f"/api/groups/{group_id}/state")).json()


async def test_the_state_of_each_member(api: Api):
    """[MSTATE1] Each member has one state in each group, which nobody else reads; it is null before the first."""
    ann, bob = api.user(), api.user()
    first, second = await ann.make_group(), await ann.make_group()
    assert (await bob.join(first)).status_code == 200
    group_id = first["group_id"]

    before = await state(ann, group_id)
    stored = await put(ann, group_id, b"one")
    replaced = await put(ann, group_id, b"two")
    others = await put(bob, group_id, b"bob's")

    assert before == {"group_id": group_id, "encrypted_state": None, "changed_at": None}
    assert [each.status_code for each in (stored, replaced, others)] == [200, 200, 200]
    assert await state(ann, group_id) == replaced.json()
    assert (await state(ann, group_id))["encrypted_state"] == base64.b64encode(b"two").decode()
    assert (await state(bob, group_id))["encrypted_state"] == base64.b64encode(b"bob's").decode()
    assert (await state(ann, second["group_id"]))["encrypted_state"] is None


async def test_what_is_refused(api: Api):
    """[MSTATE2] A state has up to 16 KiB after decoding and is base64; only a member stores or reads one."""
    ann, eve = api.user(), api.user()
    group_id = (await ann.make_group())["group_id"]

    largest = await put(ann, group_id, b"x" * 16 * 1024)
    refused = [
        await put(ann, group_id, b"x" * (16 * 1024 + 1)),
        await put(ann, group_id, "not base64!"),
        await put(ann, group_id, ""),
        await put(eve, group_id, b"x"),
        await eve.get(f"/api/groups/{group_id}/state"),
        await put(ann, str(uuid.uuid4()), b"x"),
        await ann.get(f"/api/groups/{uuid.uuid4()}/state"),
    ]

    assert largest.status_code == 200
    assert [each.status_code for each in refused] == [413, 400, 400, 403, 403, 404, 404]
    assert [each.json().get("details", {}).get("field") for each in refused[:3]] == ["encrypted_state"] * 3
    assert await state(ann, group_id) == largest.json()


async def test_it_ends_with_the_membership(api: Api):
    """[MSTATE3] Who leaves or is removed has no state after joining again."""
    ann, bob, cid = api.user(), api.user(), api.user()
    group = await ann.make_group()
    group_id = group["group_id"]
    for each in (bob, cid):
        await each.join(group)
        await put(each, group_id, b"read up to here")

    assert (await bob.ask("DELETE", f"/api/groups/{group_id}/members/{bob.id}")).status_code == 204
    assert (await ann.ask("DELETE", f"/api/groups/{group_id}/members/{cid.id}")).status_code == 204
    for each in (bob, cid):
        assert (await each.join(group)).status_code == 200
        assert (await state(each, group_id))["encrypted_state"] is None


async def test_two_devices_at_once(api: Api):
    """[MSTATE4] Of states that are stored at once, each gets an answer, and one of them is read afterwards."""
    ann = api.user()
    group_id = (await ann.make_group())["group_id"]

    answers = await asyncio.gather(*(put(ann, group_id, f"device {index}".encode()) for index in range(12)))

    assert [each.status_code for each in answers] == [200] * 12
    stored = await state(ann, group_id)
    assert stored["encrypted_state"] in {each.json()["encrypted_state"] for each in answers}
