"""Groups over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orbital_relay import wire
from tests.server.api import Api, opaque, opened
from tests.support.client import link

_NOWHERE = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(shared_api: Api) -> Api:
    """One node for all of these: opening one takes longer than most of them."""
    return shared_api


async def test_creating_a_group(api: Api):
    """[GRP1] The response has id, code and time; the creator's `member_joined` is number 1, chained to the group id."""
    ada = api.user()

    answer = await ada.post("/api/groups", {"encrypted_name": "AAAA", "encrypted_group_key": "BBBB"})

    made = answer.json()
    assert answer.status_code == 201
    assert wire.is_uuid(made["group_id"])
    assert re.fullmatch(r"[A-Z0-9]{8}", made["invite_code"])
    assert made["created_at"].endswith("Z")
    (event,) = (await ada.get("/v1/events", group_id=made["group_id"])).json()["events"]
    assert (event["type"], event["seq"], event["prev"]) == ("member_joined", 1, link(made["group_id"]))
    assert event["data"] == {
        "group_id": made["group_id"],
        "user_id": ada.id,
        "username": ada.username,
        "joined_at": made["created_at"],
    }


async def test_joining_a_group(api: Api):
    """[GRP2] The response has what a new member needs; both members see both, each with their own key."""
    ada, bob = api.user(), api.user()
    group = (await ada.post("/api/groups", {"encrypted_name": "TkFN", "encrypted_group_key": "QURB"})).json()

    answer = await bob.post("/api/groups/join", {"invite_code": group["invite_code"], "encrypted_group_key": "Qk9C"})

    joined = answer.json()
    assert answer.status_code == 200
    assert joined["joined_at"].endswith("Z")
    assert {**joined, "joined_at": ""} == {
        "group_id": group["group_id"],
        "encrypted_name": "TkFN",
        "member_count": 2,
        "joined_at": "",
    }
    for user, key in ((ada, "QURB"), (bob, "Qk9C")):
        (listed,) = (await user.get("/api/groups")).json()["groups"]
        assert (listed["group_id"], listed["encrypted_group_key"]) == (group["group_id"], key)
        assert (listed["member_count"], listed["invite_code"], listed["last_seq"]) == (2, group["invite_code"], 2)
        members = (await user.get(f"/api/groups/{group['group_id']}/members")).json()["members"]
        assert [member["user_id"] for member in members] == [ada.id, bob.id]


@pytest.mark.parametrize("typed", ["{code}", " {lower} ", "{head}-{tail}", "{head} {tail}", "-{lower}-"])
async def test_codes_are_accepted_in_any_spelling(api: Api, typed: str):
    """[JOIN1] Case, spaces and hyphens do not matter."""
    group, bob = await api.user().make_group(), api.user()
    code = group["invite_code"]

    answer = await bob.post(
        "/api/groups/join",
        {
            "invite_code": typed.format(code=code, lower=code.lower(), head=code[:4], tail=code[4:]),
            "encrypted_group_key": opaque(),
        },
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "code", ["AAAA0000", "", "short", "way too long for a code", "ÄÖÜÄÖÜÄÖ", "A" * 10_000, "\0" * 8]
)
async def test_unknown_codes_and_malformed_codes_get_one_response(api: Api, code: str):
    """[JOIN1] An unknown code and a malformed code get the same response, byte for byte."""
    bob = api.user()
    unknown = await bob.post("/api/groups/join", {"invite_code": "ZZZZ9999", "encrypted_group_key": "AAAA"})

    answer = await bob.post("/api/groups/join", {"invite_code": code, "encrypted_group_key": "AAAA"})

    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
    assert answer.content == unknown.content


async def test_a_code_expires(tmp_path: Path):
    """[JOIN3] An expired code is treated as unknown and is no longer returned."""
    async with opened(tmp_path, invite_days="0.0001") as api:
        ada, bob = api.user(), api.user()
        group = await ada.make_group()
        # 0.0001 days are 8.64 s: the wall clock is set ahead instead of waited for.
        now_ms = api.node.clock.wall_ms
        api.node.clock.wall_ms = lambda: now_ms() + 9_000  # type: ignore[method-assign]

        answer = await bob.join(group)
        (listed,) = (await ada.get("/api/groups")).json()["groups"]

        assert answer.status_code == 404
        assert listed["invite_code"] is None


async def test_joining_twice(api: Api):
    """[GRP2] A member that joins again gets ALREADY_MEMBER, and nothing is emitted."""
    ada = api.user()
    group = await ada.make_group()

    answer = await ada.join(group)

    assert (answer.status_code, answer.json()["error"]) == (409, "ALREADY_MEMBER")
    assert (await ada.get("/api/groups")).json()["groups"][0]["last_seq"] == 1


async def test_a_new_code_replaces_the_old(api: Api):
    """[JOIN4] The old code no longer opens the group, the new one does; only the creator may replace it."""
    ada, bob, eve = api.user(), api.user(), api.user()
    group = await ada.make_group()
    await bob.join(group)
    path = f"/api/groups/{group['group_id']}/invite-codes"

    answer = await ada.post(path)

    assert answer.status_code == 201
    assert answer.json()["expires_at"].endswith("Z")
    assert (await eve.join(group)).status_code == 404
    assert [(await user.post(path)).status_code for user in (bob, eve)] == [403, 403]
    assert (await eve.join(answer.json())).status_code == 200


async def test_leaving_and_being_removed(api: Api):
    """[GRP3] A member leaves, the creator removes; each emits `member_left` with its reason and ends access."""
    ada, bob, eve = api.user(), api.user(), api.user()
    group = await ada.make_group()
    for user in (bob, eve):
        await user.join(group)
    path = f"/api/groups/{group['group_id']}/members"

    not_hers = await bob.ask("DELETE", f"{path}/{eve.id}")
    left = await bob.ask("DELETE", f"{path}/{bob.id}")
    removed = await ada.ask("DELETE", f"{path}/{eve.id}")

    assert (not_hers.status_code, left.status_code, removed.status_code) == (403, 204, 204)
    events = (await ada.get("/v1/events", group_id=group["group_id"])).json()["events"]
    assert [(event["type"], event["data"]["user_id"], event["data"].get("reason")) for event in events[3:]] == [
        ("member_left", bob.id, "left"),
        ("member_left", eve.id, "removed"),
    ]
    assert {(await user.get(path)).status_code for user in (bob, eve)} == {403}
    assert (await bob.ask("DELETE", f"{path}/{bob.id}")).status_code == 403
    assert (await ada.ask("DELETE", f"{path}/{bob.id}")).status_code == 404


@pytest.mark.parametrize("user_id", ["a/b", "a%b", "a?b#c", "..", "a+b&c", "~!@$'()*,;:=\"<>[]\\^`{|}"])
async def test_outside_ids_can_be_removed(api: Api, user_id: str):
    """[GRP3] Any user id of an outside provider can be removed, percent-encoded."""
    from urllib.parse import quote

    ada, eve = api.user(), api.user(user_id=user_id)
    group = await ada.make_group()
    await eve.join(group)
    encoded = quote(user_id, safe="").replace(".", "%2E")

    answer = await ada.ask("DELETE", f"/api/groups/{group['group_id']}/members/{encoded}")

    assert answer.status_code == 204
    assert (await eve.get(f"/api/groups/{group['group_id']}/members")).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/groups/{}/members"),
        ("GET", "/api/groups/{}/threads"),
        ("DELETE", "/api/groups/{}/members/somebody"),
        ("POST", "/api/groups/{}/invite-codes"),
    ],
)
async def test_groups_of_others(api: Api, method: str, path: str):
    """[PERM1] 403 where the group exists, 404 where it does not or the id is invalid."""
    ada, eve = api.user(), api.user()
    group = await ada.make_group()

    statuses = [
        (await eve.ask(method, path.format(group_id))).status_code
        for group_id in (group["group_id"], _NOWHERE, "nope", f"{group['group_id']}x", "%00", "é")
    ]

    assert statuses == [403, 404, 404, 404, 404, 404]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/groups", {"encrypted_group_key": "AAAA"}, "encrypted_name"),
        ("/api/groups", {"encrypted_name": "AAAA"}, "encrypted_group_key"),
        ("/api/groups", {"encrypted_name": "Family", "encrypted_group_key": "AAAA "}, "encrypted_group_key"),
        ("/api/groups", {"encrypted_name": "our family", "encrypted_group_key": "AAAA"}, "encrypted_name"),
        ("/api/groups", {"encrypted_name": "", "encrypted_group_key": "AAAA"}, "encrypted_name"),
        ("/api/groups", {"encrypted_name": None, "encrypted_group_key": "AAAA"}, "encrypted_name"),
        ("/api/groups/join", {"encrypted_group_key": "AAAA"}, "invite_code"),
        ("/api/groups/join", {"invite_code": 12345678, "encrypted_group_key": "AAAA"}, "invite_code"),
        ("/api/groups/join", {"invite_code": "AAAA0000", "encrypted_group_key": "?"}, "encrypted_group_key"),
    ],
)
async def test_bad_bodies_name_the_field(api: Api, path: str, body: Any, field: str):
    """[FORM1] A field that is missing, of the wrong type or not base64 is 400 with its name."""
    answer = await api.user().post(path, body)

    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["details"]["field"] == field


@pytest.mark.parametrize("same", ["user", "address"])
async def test_joining_is_limited_by_user_and_by_address(tmp_path: Path, same: str):
    """[LIM4] Code guesses stop at the limit, for one user from many addresses and for many users from one."""
    async with opened(tmp_path, join_limit="3", trusted_proxies="192.0.2.7") as api:
        ada = api.user()

        async def guess(number: int) -> int:
            user = ada if same == "user" else api.user()
            via = f"198.51.100.{number if same == 'user' else 1}"
            body = {"invite_code": f"GUESS00{number}", "encrypted_group_key": "AAAA"}
            answer = await user.ask("POST", "/api/groups/join", json=body, headers={"X-Forwarded-For": via})
            return answer.status_code

        assert [await guess(number) for number in range(5)] == [404, 404, 404, 429, 429]


async def test_a_malformed_guess_counts(tmp_path: Path):
    """[LIM4] A malformed code counts as an attempt, too."""
    async with opened(tmp_path, join_limit="2") as api:
        bob = api.user()

        statuses = [
            (await bob.post("/api/groups/join", {"invite_code": code, "encrypted_group_key": "AAAA"})).status_code
            for code in ("x", "y", "AAAA0000")
        ]

        assert statuses == [404, 404, 429]


async def test_a_repeated_create_is_one_group(api: Api):
    """[ONCE5] The same key and body create one group; another body is 409; another user's key is a different key."""
    ada, bob = api.user(), api.user()
    body = {"encrypted_name": "AAAA", "encrypted_group_key": "AAAA"}

    answers = [await ada.post("/api/groups", body, key="one") for _ in range(3)]
    other = await ada.post("/api/groups", {**body, "encrypted_name": "BBBB"}, key="one")
    his = await bob.post("/api/groups", body, key="one")

    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert len((await ada.get("/api/groups")).json()["groups"]) == 1
    assert (other.status_code, other.json()["error"]) == (409, "CONFLICT")
    assert his.json()["group_id"] != answers[0].json()["group_id"]


async def test_a_repeated_join_is_one_join(api: Api):
    """[ONCE5] Joining again with the key gets the first response, not ALREADY_MEMBER, also after leaving."""
    ada, bob = api.user(), api.user()
    group = await ada.make_group()
    body = {"invite_code": group["invite_code"], "encrypted_group_key": "AAAA"}

    first = await bob.post("/api/groups/join", body, key="k")
    again = await bob.post("/api/groups/join", body, key="k")
    await bob.ask("DELETE", f"/api/groups/{group['group_id']}/members/{bob.id}")
    after = await bob.post("/api/groups/join", body, key="k")

    assert first.status_code == 200
    assert first.content == again.content == after.content
    assert (await ada.get("/api/groups")).json()["groups"][0]["last_seq"] == 3
