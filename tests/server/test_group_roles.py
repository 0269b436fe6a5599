"""Roles in a group, and invite codes for one person."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx

from tests.server.api import EACH_DATABASE, Api, User, send_chunk

pytestmark = EACH_DATABASE


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the error's code."""
    return answer.status_code, answer.json().get("error", "") if answer.content else ""


async def appoint(user: User, group_id: str, member: User, role: str = "admin") -> httpx.Response:
    """Set a member's role."""
    return await user.ask("PUT", f"/api/groups/{group_id}/members/{member.id}/role", json={"role": role})


async def remove(user: User, group_id: str, member: User) -> httpx.Response:
    """Remove a member."""
    return await user.ask("DELETE", f"/api/groups/{group_id}/members/{member.id}")


async def events(user: User, group_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the data of a group's events of a kind."""
    found = (await user.get("/v1/events", group_id=group_id)).json()["events"]
    return [each["data"] for each in found if each["type"] == kind]


async def roles(user: User, group_id: str) -> dict[str, str]:
    """Return the role of each member by id."""
    found = (await user.get(f"/api/groups/{group_id}/members")).json()["members"]
    return {each["user_id"]: each["role"] for each in found}


async def home(api: Api, *others: User) -> tuple[User, str]:
    """Return a founder and a group that the others have joined."""
    ann = api.user()
    group = await ann.make_group()
    for each in others:
        assert (await each.join(group)).status_code == 200
    return ann, group["group_id"]


async def test_the_founder_appoints_an_administrator(api: Api):
    """[ROLE1] The founder alone sets roles; every member learns of it by `role_changed`, once for each change."""
    bob, cid, eve = api.user(), api.user(), api.user()
    ann, group_id = await home(api, bob, cid)

    refused = [await appoint(bob, group_id, cid), await appoint(eve, group_id, bob), await appoint(ann, group_id, eve)]
    refused += [await appoint(ann, group_id, ann), await appoint(ann, str(uuid.uuid4()), bob)]
    wrong = await ann.ask("PUT", f"/api/groups/{group_id}/members/{bob.id}/role", json={"role": "founder"})
    none = await ann.ask("PUT", f"/api/groups/{group_id}/members/%00/role", json={"role": "admin"})
    done = [await appoint(ann, group_id, bob) for _ in range(2)]
    done.append(await appoint(ann, group_id, bob, "member"))

    assert [each.status_code for each in refused] == [403, 403, 404, 409, 404]
    assert (wrong.status_code, wrong.json()["details"]) == (400, {"field": "role"})
    assert none.status_code == 404
    assert [(each.status_code, each.json()["role"]) for each in done] == [
        (200, "admin"),
        (200, "admin"),
        (200, "member"),
    ]
    changes = await events(cid, group_id, "role_changed")
    assert [(each["user_id"], each["role"], each["by"]) for each in changes] == [
        (bob.id, "admin", ann.id),
        (bob.id, "member", ann.id),
    ]
    assert (await api.node.store.verify(group_id)).findings == []


async def test_what_an_administrator_may(api: Api):
    """[ROLE2] An administrator makes codes, removes plain members and deletes media, and cannot remove the others."""
    bob, cid, dan = api.user(), api.user(), api.user()
    ann, group_id = await home(api, bob, cid, dan)
    thread = await dan.open_thread(group_id)
    whole, begun = str(uuid.uuid4()), str(uuid.uuid4())
    assert (await send_chunk(dan, thread["thread_id"], whole, 0, 1, b"x")).status_code == 201
    assert (await send_chunk(dan, thread["thread_id"], begun, 0, 2, b"x")).status_code == 200

    async def tries() -> list[int]:
        answers = [
            await bob.post(f"/api/groups/{group_id}/invite-codes"),
            await bob.ask("DELETE", f"/api/media/{whole}"),
            await bob.ask("DELETE", f"/api/media/{begun}"),
            await remove(bob, group_id, dan),
        ]
        return [each.status_code for each in answers]

    before = await tries()
    for each in (bob, cid):
        await appoint(ann, group_id, each)
    protected = [await remove(bob, group_id, cid), await remove(bob, group_id, ann)]
    after = await tries()

    assert (before, after) == ([403] * 4, [201, 204, 204, 204])
    assert [outcome(each) for each in protected] == [(403, "FORBIDDEN")] * 2
    assert await roles(cid, group_id) == {ann.id: "founder", bob.id: "admin", cid.id: "admin"}
    assert (await remove(ann, group_id, cid)).status_code == 204
    # A member that comes back is a plain member.
    code = (await ann.post(f"/api/groups/{group_id}/invite-codes")).json()
    assert (await cid.join(code)).status_code == 200
    assert (await roles(ann, group_id))[cid.id] == "member"


async def test_an_administrator_succeeds_the_founder(api: Api):
    """[ROLE3] When the founder leaves, the administrator becomes the founder, before members who joined earlier."""
    bob, cid = api.user(), api.user()
    ann, group_id = await home(api, bob, cid)
    await appoint(ann, group_id, cid)

    await remove(ann, group_id, ann)

    assert await roles(bob, group_id) == {bob.id: "member", cid.id: "founder"}
    assert (await appoint(cid, group_id, bob)).status_code == 200


async def test_the_caller_reads_the_own_role(api: Api):
    """[ROLE4] The list of groups contains the caller's role, and the expiry of the invite code."""
    bob = api.user()
    ann, group_id = await home(api, bob)
    found = [(await each.get("/api/groups")).json()["groups"][0] for each in (ann, bob)]

    assert [each["role"] for each in found] == ["founder", "member"]
    assert {each["invite_single_use"] for each in found} == {False}
    code = (await ann.post(f"/api/groups/{group_id}/invite-codes")).json()
    (listed,) = (await bob.get("/api/groups")).json()["groups"]
    assert (listed["invite_code"], listed["invite_expires_at"]) == (code["invite_code"], code["expires_at"])
    made = await ann.make_group()
    (_, mine) = (await ann.get("/api/groups")).json()["groups"]
    assert mine["invite_expires_at"] == made["invite_expires_at"]


async def test_a_code_for_one_person(api: Api):
    """[ROLE5] Of concurrent joins with a single-use code one succeeds; it is listed as such, and can have an expiry."""
    ann, group_id = await home(api)
    path = f"/api/groups/{group_id}/invite-codes"

    code = (await ann.ask("POST", path, params={"single_use": "true", "hours": 2})).json()
    (listed,) = (await ann.get("/api/groups")).json()["groups"]
    joined = await asyncio.gather(*(api.user().join(code) for _ in range(4)))
    (after,) = (await ann.get("/api/groups")).json()["groups"]
    wrong = await ann.ask("POST", path, params={"single_use": "maybe"})
    again = (await ann.ask("POST", path, params={"hours": 8760})).json()

    assert code["single_use"]
    assert listed["invite_single_use"]
    assert sorted(each.status_code for each in joined) == [200, 404, 404, 404]
    assert (after["invite_code"], after["invite_expires_at"], after["invite_single_use"]) == (None, None, False)
    assert (wrong.status_code, wrong.json()["details"]) == (400, {"field": "single_use"})
    # A code for everybody, for as long as the server allows at most.
    assert not again["single_use"]
    usual = (await ann.post(path)).json()
    assert again["expires_at"][:15] == usual["expires_at"][:15]
    assert [(await api.user().join(usual)).status_code for _ in range(2)] == [200, 200]
