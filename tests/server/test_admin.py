"""Administration over HTTP: what server administrators may do, and that nobody else may."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import msgspec
import pytest

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.server.http.routes import admin
from orbital_relay.services.forms import new_id
from tests.server.api import EACH_DATABASE, Api, User, opaque, send_chunk
from tests.server.test_own_account import ANOTHER, log_in, outcome, sign_up, status

pytestmark = EACH_DATABASE

ADMIN = [each for each in ENDPOINTS if each.path.startswith("/api/admin/")]
BODIES: dict[str, dict[str, Any]] = {
    "/api/admin/invitations": {"note": "", "days": 1},
    "/api/admin/users/{user_id}/disable": {"reason": "x"},
    "/api/admin/users/{user_id}/role": {"role": "admin"},
}


async def place(api: Api) -> tuple[User, User, dict[str, Any]]:
    """Return the place's first user, a second one, and a group of the second's."""
    ada, bob = await sign_up(api), await sign_up(api, "bob")
    return ada, bob, await bob.make_group()


async def everything(api: Api) -> list[Any]:
    """Return what the database holds of people, groups and invitations, but for when somebody was seen."""
    store = api.node.store
    users = [msgspec.structs.replace(each, seen_ms=None) for each in await store.users()]
    logins = [await store.logins(each.key, now_ms=0, limit=99) for each in users]
    return [users, await store.groups(), await store.invitations(), logins]


@pytest.mark.parametrize("endpoint", ADMIN, ids=lambda each: f"{each.method} {each.path}")
async def test_a_normal_user_is_refused(api: Api, endpoint: Any):
    """[PLACE1] Every route of the administration is 403 for a normal user, 401 without a token, and changes nothing."""
    _, bob, group = await place(api)
    cid = await sign_up(api, "cid")
    await api.node.store.add_invitation(digest=b"x", note="", at_ms=0, expires_ms=2_000_000_000_000)
    known = {"user_id": cid.id, "group_id": group["group_id"], "number": "1"}
    where = re.sub(r"{(\w+)}", lambda found: known[found[1]], endpoint.path)
    before = await everything(api)

    answers = [
        await bob.ask(endpoint.method, where, json=BODIES.get(endpoint.path)),
        # Before a body is read.
        await bob.ask(endpoint.method, where, content=b"{"),
    ]
    without = await api.ask(endpoint.method, where, json=BODIES.get(endpoint.path))

    assert endpoint.admin
    assert [outcome(each) for each in answers] == [(403, "FORBIDDEN")] * 2
    assert without.status_code == 401
    assert await everything(api) == before


async def test_the_first_account_is_the_administrator(api: Api):
    """[PLACE2] The first account is the administrator; the responses to sign-up and login are unchanged."""
    ada, bob, _ = await place(api)
    login = await api.ask("POST", "/api/login", json={"username": "ada", "password": "Correct-Horse-7"})

    assert [(await each.get("/api/admin/users")).status_code for each in (ada, bob)] == [200, 403]
    assert set(login.json()) == {"user_id", "username", "public_key", "token"}
    # A place whose first user came with a token of another service has no administrator until one is made.
    assert [(await each.get("/api/account")).json()["admin"] for each in (ada, bob)] == [True, False]


async def test_the_role_is_read_at_each_request(api: Api):
    """[PLACE3] A token opens the administration while its user is an administrator, and no longer."""
    ada, bob, _ = await place(api)
    (row,) = await api.node.store.users(named="bob")
    found = []
    for at_ms in (5, None):
        await api.node.store.set_admin(row.key, at_ms=at_ms)
        found.append((await bob.get("/api/admin/health")).status_code)
    await api.node.store.set_admin(row.key, at_ms=5)
    assert (await ada.post(f"/api/admin/users/{bob.id}/disable", {})).status_code == 204

    assert found == [200, 403]
    assert not await api.node.store.is_admin(row.key)


async def test_accounts_are_disabled_enabled_and_deleted(api: Api):
    """[PLACE4] An administrator disables, enables and deletes accounts as the command line does, never the own."""
    ada, bob, group = await place(api)

    disabled = await ada.post(f"/api/admin/users/{bob.id}/disable", {"reason": "lost phone"})
    login = await api.ask("POST", "/api/login", json={"username": "bob", "password": "Correct-Horse-7"})
    shown = (await ada.get("/api/admin/users/bob")).json()
    enabled = await ada.post(f"/api/admin/users/{bob.id}/enable")
    again = await log_in(api, "bob")

    assert [disabled.status_code, enabled.status_code] == [204, 204]
    assert (outcome(login), login.json()["details"]) == ((403, "ACCOUNT_DISABLED"), {"reason": "lost phone"})
    assert (shown["user"]["state"], shown["user"]["disabled_reason"], shown["sessions"]) == (
        "disabled",
        "lost phone",
        [],
    )
    assert [each["group_id"] for each in shown["groups"]] == [group["group_id"]]
    assert [await status(each) for each in (bob, again)] == [401, 200]
    own = [
        await ada.post(f"/api/admin/users/{ada.id}/disable", {}),
        await ada.ask("DELETE", f"/api/admin/users/{ada.id}"),
    ]
    assert [outcome(each) for each in own] == [(409, "CONFLICT")] * 2
    assert (await ada.ask("DELETE", f"/api/admin/users/{bob.id}")).status_code == 204
    assert await status(again) == 401
    assert outcome(await ada.post(f"/api/admin/users/{bob.id}/enable")) == (409, "CONFLICT")
    await api.node.erase()
    assert outcome(await ada.get(f"/api/admin/users/{bob.id}")) == (404, "NOT_FOUND")


async def test_a_password_is_reset_by_a_code(api: Api):
    """[PLACE5] The code of a password reset works once; a user of another service has no password here."""
    ada, bob, _ = await place(api)
    eve = api.user()
    await status(eve)

    code = (await ada.post(f"/api/admin/users/{bob.id}/password-reset")).json()
    reset = {"code": code["code"], "new_password": ANOTHER}
    done = [await api.ask("POST", "/api/password/reset", json=reset) for _ in range(2)]
    outside = await ada.post(f"/api/admin/users/{eve.id}/password-reset")

    assert [each.status_code for each in done] == [200, 403]
    assert await status(await log_in(api, "bob", ANOTHER)) == 200
    assert outcome(outside) == (409, "CONFLICT")


async def test_invitations(api: Api):
    """[PLACE6] An administrator makes, lists and revokes invitations; a code is shown once and makes an account."""
    ada, _, _ = await place(api)

    made = [(await ada.post("/api/admin/invitations", {"note": "grandma", "days": 1})).json() for _ in range(2)]
    gone = [(await ada.ask("DELETE", f"/api/admin/invitations/{each}")).status_code for each in (1, 1, "x", 9**18)]
    listed = (await ada.get("/api/admin/invitations")).json()["invitations"]

    assert gone == [204, 404, 404, 404]
    assert [(each["number"], each["note"], each["used_at"]) for each in listed] == [(2, "grandma", None)]
    assert made[1]["invitation"] not in json.dumps(listed)
    wrong = await ada.post("/api/admin/invitations", {"days": 366})
    assert (wrong.status_code, wrong.json()["details"]) == (400, {"field": "days"})


async def test_lists_are_paged_and_show_no_content(api: Api):
    """[PLACE7] Lists come in pages; no answer of the administration has a name, key or text of a group."""
    ada, bob, group = await place(api)
    secrets = [opaque(30) for _ in range(3)]
    made = await bob.post("/api/groups", {"encrypted_name": secrets[0], "encrypted_group_key": secrets[1]})
    await bob.say(made.json()["group_id"], secrets[2])
    thread = await bob.open_thread(group["group_id"])
    assert (await send_chunk(bob, thread["thread_id"], new_id(), 0, 1, b"x" * 500)).status_code == 201
    assert (await send_chunk(bob, thread["thread_id"], new_id(), 0, 2, b"x" * 300)).status_code == 200

    pages = [(await ada.get("/api/admin/users", limit=1, offset=each)).json() for each in (0, 1)]
    groups = [(await ada.get("/api/admin/groups", limit=1, offset=each)).json() for each in (0, 1)]
    one = (await ada.get(f"/api/admin/groups/{group['group_id'].upper()}")).json()
    storage, health = (await ada.get("/api/admin/storage")).json(), (await ada.get("/api/admin/health")).json()
    people = (await ada.get(f"/api/admin/users/{bob.id}")).json()

    assert [[each["username"] for each in page["users"]] for page in pages] == [["ada"], ["bob"]]
    assert [page["has_more"] for page in (*pages, *groups)] == [True, False, True, False]
    assert [each["username"] for each in one["members"]] == ["bob"]
    assert (one["group"]["creator"], one["group"]["media_bytes"], one["group"]["threads"]) == ("bob", 800, 1)
    assert (storage["media"], storage["media_bytes"], storage["unfinished"], storage["unfinished_bytes"]) == (
        1,
        500,
        1,
        300,
    )
    assert storage["disk_free_bytes"] > storage["disk_reserve_bytes"] > 0
    assert (health["status"], health["degraded"], health["connections"]) == ("ready", [], 0)
    assert people["user"]["media_bytes"] == 800
    assert (people["user"]["sessions"], len(people["sessions"])) == (1, 1)
    text = json.dumps([pages, groups, one, storage, health, people])
    assert not [each for each in (*secrets, "encrypted", "argon2", bob.token) if each in text]


async def test_a_group_is_deleted(api: Api):
    """[PLACE8] An administrator deletes a group, as `orbital group delete` does."""
    ada, bob, group = await place(api)
    where = f"/api/admin/groups/{group['group_id']}"

    gone = await ada.ask("DELETE", where)
    joined = await api.user().join(group)
    for _ in range(2):
        await api.node.erase()

    answers: list[httpx.Response] = [gone, joined, await ada.ask("DELETE", where), await ada.get(where)]
    assert [each.status_code for each in answers] == [204, 404, 404, 404]
    assert (await bob.get("/api/groups")).json()["groups"] == []


async def test_health_while_the_database_hangs(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[PLACE9] The health report is answered in time even if the database hangs, and names it."""
    ada, _, _ = await place(api)

    async def hang() -> bool:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(admin, "PROBE_S", 0.05)
    monkeypatch.setattr(api.node.store, "ready", hang)

    report = (await ada.get("/api/admin/health")).json()

    assert (report["status"], report["degraded"]) == ("degraded", ["database"])


async def test_an_administrator_makes_others(api: Api):
    """[PLACE10] An administrator makes others administrators and normal users again; never ends the own role."""
    ada, bob, _ = await place(api)
    path = f"/api/admin/users/{bob.id}/role"

    answers, found = [], []
    for role in ("admin", "admin", "user"):
        answers.append(await ada.ask("PUT", path, json={"role": role}))
        found.append((await bob.get("/api/admin/health")).status_code)
    own = await ada.ask("PUT", f"/api/admin/users/{ada.id}/role", json={"role": "user"})
    await ada.ask("DELETE", f"/api/admin/users/{bob.id}")
    erased = await ada.ask("PUT", path, json={"role": "admin"})
    wrong = await ada.ask("PUT", path, json={"role": "founder"})

    assert [each.status_code for each in answers] == [204] * 3
    assert found == [200, 200, 403]
    assert [outcome(own), outcome(erased)] == [(409, "CONFLICT")] * 2
    assert (await ada.get("/api/account")).json()["admin"]
    assert (outcome(wrong), wrong.json()["details"]) == ((400, "VALIDATION_ERROR"), {"field": "role"})


async def test_users_are_searched(api: Api):
    """[PLACE11] `search` finds users by a part of the name in any case; wildcards of LIKE are matched literally."""
    ada, _, _ = await place(api)
    for name in ("Bobby_1", "Xbobx"):
        await sign_up(api, name)

    found = {}
    for part in ("BOB", "b_", "%", "y_1", "\0", "nobody"):
        page = (await ada.get("/api/admin/users", search=part, limit="2")).json()
        found[part] = ([each["username"] for each in page["users"]], page["has_more"])

    assert found == {
        "BOB": (["bob", "Bobby_1"], True),
        "b_": ([], False),
        "%": ([], False),
        "y_1": (["Bobby_1"], False),
        "\0": ([], False),
        "nobody": ([], False),
    }
