"""One's own account over HTTP: password, one-time code, logins, renewal, deletion."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay.services.invitations import digest_of, new_invitation
from tests.server.api import EACH_DATABASE, Api, User, opened
from tests.support import tokens

pytestmark = EACH_DATABASE

PASSWORD, ANOTHER = "Correct-Horse-7", "Another-Horse-8"
HOUR_MS = 3_600_000


async def sign_up(api: Api, name: str = "ada", **more: Any) -> User:
    """Sign up, and return the user with the token of that login."""
    body = {"username": name, "password": PASSWORD, "public_key": {}, **more}
    answer = await api.ask("POST", "/api/signup", json=body)
    assert answer.status_code == 201, answer.text
    return User(api, answer.json()["user_id"], name, answer.json()["token"])


async def log_in(api: Api, name: str = "ada", password: str = PASSWORD, **more: Any) -> User:
    """Log in, and return the user with the token of that login."""
    answer = await api.ask("POST", "/api/login", json={"username": name, "password": password, **more})
    assert answer.status_code == 200, answer.text
    return User(api, answer.json()["user_id"], name, answer.json()["token"])


async def status(user: User) -> int:
    """Return what a request with the user's token is answered."""
    return (await user.get("/api/groups")).status_code


def with_token(user: User, token: str) -> User:
    """Return the user with another token."""
    return User(user.api, user.id, user.username, token)


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the error's code."""
    return answer.status_code, answer.json().get("error", "")


async def test_the_password_is_changed(api: Api):
    """[OWN1] Changing the password ends all logins; the response's token is valid, and the old password is refused."""
    ada, phone = await sign_up(api), await log_in(api)

    answer = await ada.post("/api/password", {"old_password": PASSWORD, "new_password": ANOTHER})

    assert answer.status_code == 200
    assert [await status(each) for each in (ada, phone, with_token(ada, answer.json()["token"]))] == [401, 401, 200]
    assert answer.json()["expires_at"].endswith("Z")
    login = {"username": "ada", "password": PASSWORD}
    assert outcome(await api.ask("POST", "/api/login", json=login)) == (401, "INVALID_CREDENTIALS")
    assert await status(await log_in(api, password=ANOTHER)) == 200


async def test_a_wrong_old_password_changes_nothing(api: Api):
    """[OWN2] A wrong old password is 401 INVALID_CREDENTIALS, a weak new one 400; the token stays valid."""
    ada = await sign_up(api)

    wrong = await ada.post("/api/password", {"old_password": "Wrong-Horse-99", "new_password": ANOTHER})
    weak = await ada.post("/api/password", {"old_password": PASSWORD, "new_password": "short"})

    assert outcome(wrong) == (401, "INVALID_CREDENTIALS")
    assert (weak.status_code, weak.json()["details"]) == (400, {"field": "new_password"})
    assert await status(ada) == 200
    assert await status(await log_in(api)) == 200


async def test_a_user_of_another_service_has_no_password_here(api: Api):
    """[OWN3] A user of another service cannot change a password, delete the account with one, or renew a token."""
    eve = User(api, "outside|1", "eve", tokens.token("outside|1", "eve"))
    answers = [
        await eve.post("/api/password", {"old_password": PASSWORD, "new_password": ANOTHER}),
        await eve.ask("DELETE", "/api/account", json={"password": PASSWORD}),
        await eve.post("/api/session/renew"),
    ]

    assert [outcome(each) for each in answers] == [(409, "CONFLICT"), (409, "CONFLICT"), (403, "FORBIDDEN")]
    assert (await eve.get("/api/sessions")).json() == {"sessions": [], "has_more": False}


async def test_a_user_reads_the_own_account(api: Api):
    """[OWN13] `GET /api/account` says whether the user has a password here, and is an administrator."""
    eve, ada = User(api, "outside|1", "eve", tokens.token("outside|1", "eve")), await sign_up(api)
    found = [(await each.get("/api/account")).json() for each in (ada, eve)]

    assert found == [
        {"user_id": ada.id, "username": "ada", "admin": True, "has_password": True, "display_name": None},
        {"user_id": "outside|1", "username": "eve", "admin": False, "has_password": False, "display_name": None},
    ]


async def test_logins_are_listed_and_ended_one_by_one(api: Api):
    """[OWN4] `GET /api/sessions` lists the caller's logins with their names; `DELETE` ends one, and no other."""
    ada = await sign_up(api, device_name="Firefox\n on Linux" + "x" * 99)
    phone, bob = await log_in(api, device_name="Phone"), await sign_up(api, "bob")

    listed = (await ada.get("/api/sessions")).json()["sessions"]

    assert [(each["name"], each["current"]) for each in listed] == [
        ("Phone", False),
        (("Firefox on Linux" + "x" * 99)[:64], True),
    ]
    there = f"/api/sessions/{listed[0]['session_id']}"
    assert outcome(await bob.ask("DELETE", there)) == (404, "NOT_FOUND")
    assert outcome(await ada.ask("DELETE", "/api/sessions/none%00")) == (404, "NOT_FOUND")
    assert await status(phone) == 200
    assert (await ada.ask("DELETE", there)).status_code == 204
    assert [await status(each) for each in (phone, ada, bob)] == [401, 200, 200]
    assert [each["name"] for each in (await ada.get("/api/sessions")).json()["sessions"]] == [listed[1]["name"]]
    assert outcome(await ada.ask("DELETE", there)) == (404, "NOT_FOUND")
    page = (await ada.get("/api/sessions", limit=1, offset=1)).json()
    assert page == {"sessions": [], "has_more": False}


async def test_a_token_is_renewed_without_the_password(api: Api):
    """[OWN5] A renewed token belongs to the same login: both are valid, one login is listed, and both end with it."""
    ada = await sign_up(api)

    answer = await ada.post("/api/session/renew")

    newer = with_token(ada, answer.json()["token"])
    assert newer.token != ada.token
    assert [await status(each) for each in (ada, newer)] == [200, 200]
    (listed,) = (await newer.get("/api/sessions")).json()["sessions"]
    assert (listed["current"], listed["expires_at"]) == (True, answer.json()["expires_at"])
    # A logout with one of them ends the other.
    assert (await ada.post("/api/logout")).status_code == 204
    assert [await status(each) for each in (ada, newer)] == [401, 401]
    assert (await newer.post("/api/session/renew")).status_code == 401


async def test_a_token_without_a_login_is_renewed_into_one(api: Api):
    """[OWN6] A token that this server made without a login, as older servers did, is renewed into a login."""
    await sign_up(api)
    ada = await log_in(api)
    older = with_token(ada, api.node.auth.mint(ada.id, "ada")[0])

    answer = await older.post("/api/session/renew")

    assert await status(with_token(ada, answer.json()["token"])) == 200
    assert len((await ada.get("/api/sessions")).json()["sessions"]) == 3


async def test_a_login_that_ended_meanwhile_is_not_renewed(api: Api):
    """[OWN7] A login that another server ended is not renewed, before this server has read the revocation."""
    ada = await sign_up(api)
    (listed,) = (await ada.get("/api/sessions")).json()["sessions"]
    principal = await api.node.auth.verify(ada.token)
    ended = await api.node.store.end_login(
        principal.key, login_id=listed["session_id"], digest=b"another server's", at_s=1, until_s=2e9
    )

    answer = await ada.post("/api/session/renew")

    assert ended
    assert outcome(answer) == (401, "UNAUTHORIZED")


async def test_a_one_time_code_sets_a_password_once(api: Api):
    """[OWN8] A one-time code sets another password once, before it expires, and ends the other logins."""
    ada = await sign_up(api)
    (row,) = await api.node.store.users(named="ada")
    code, expired, now_ms = new_invitation(), new_invitation(), api.node.clock.wall_ms()

    async def reset(given: str, password: str = ANOTHER) -> httpx.Response:
        return await api.ask("POST", "/api/password/reset", json={"code": given, "new_password": password})

    await api.node.store.set_reset(row.key, digest=digest_of(expired), expires_ms=now_ms - 1)
    refused = [await reset(expired), await reset(code), await reset("no code")]
    await api.node.store.set_reset(row.key, digest=digest_of(code), expires_ms=now_ms + HOUR_MS)
    weak = await reset(code, "short")
    used = await asyncio.gather(*(reset(code.lower().replace("-", " ")) for _ in range(3)))

    assert [outcome(each) for each in refused] == [(403, "FORBIDDEN")] * 3
    assert weak.status_code == 400
    assert sorted(each.status_code for each in used) == [200, 403, 403]
    (done,) = (each.json() for each in used if each.status_code == 200)
    assert (done["username"], done["user_id"]) == ("ada", ada.id)
    assert [await status(each) for each in (ada, with_token(ada, done["token"]))] == [401, 200]
    assert await status(await log_in(api, password=ANOTHER)) == 200


async def test_a_disabled_account_stays_closed_to_a_code(api: Api):
    """[OWN9] A one-time code of a disabled account is 403 ACCOUNT_DISABLED."""
    await sign_up(api)
    (row,) = await api.node.store.users(named="ada")
    code, now_ms = new_invitation(), api.node.clock.wall_ms()
    await api.node.store.set_reset(row.key, digest=digest_of(code), expires_ms=now_ms + HOUR_MS)
    await api.node.store.disable(row.key, reason="lost phone", at_ms=now_ms)

    answer = await api.ask("POST", "/api/password/reset", json={"code": code, "new_password": ANOTHER})

    assert outcome(answer) == (403, "ACCOUNT_DISABLED")


async def test_an_account_is_deleted_by_its_user(api: Api):
    """[OWN10] A deleted account refuses logins at once, leaves its groups, and is erased; the name is free."""
    ada, bob = await sign_up(api), await sign_up(api, "bob")
    group = await ada.make_group()
    assert (await bob.join(group)).status_code == 200
    wrong = await ada.ask("DELETE", "/api/account", json={"password": "Wrong-Horse-99"})
    assert outcome(wrong) == (401, "INVALID_CREDENTIALS")

    gone = await ada.ask("DELETE", "/api/account", json={"password": PASSWORD})

    assert gone.status_code == 204
    assert await status(ada) == 401
    assert await api.node.store.logins((await api.node.auth.verify(bob.token)).key - 1, now_ms=0, limit=9) == (
        [],
        False,
    )
    await api.node.erase()
    members = (await bob.get(f"/api/groups/{group['group_id']}/members")).json()["members"]
    assert [each["username"] for each in members] == ["bob"]
    assert await status(await sign_up(api)) == 200


@pytest.mark.parametrize("path", ["/api/password", "/api/account"])
async def test_a_stolen_token_does_not_guess_the_password(tmp_path: Path, database_url: str | None, path: str):
    """[OWN11] Passwords that are tried with a token count as logins: too many are 429."""
    body = {"old_password": "Wrong-Horse-99", "new_password": ANOTHER, "password": "Wrong-Horse-99"}
    method = "POST" if path == "/api/password" else "DELETE"
    async with opened(tmp_path, database_url=database_url, login_limit="3") as api:
        ada = await sign_up(api)

        answers = [await ada.ask(method, path, json=body) for _ in range(4)]

    assert [outcome(answer) for answer in answers] == [
        *[(401, "INVALID_CREDENTIALS")] * 3,
        (429, "TOO_MANY_REQUESTS"),
    ]


async def test_last_use_is_written_by_the_hour(api: Api):
    """[OWN12] The hour in which a login was last used is written, and an ended login's row is pruned."""
    ada = await sign_up(api)
    (login,), _ = await api.node.store.logins(1, now_ms=0, limit=9)
    hour_ms = api.node.clock.wall_ms() // HOUR_MS * HOUR_MS
    await api.node.store.note_logins([login.login_id], at_ms=hour_ms + HOUR_MS)
    later, _ = await api.node.store.logins(1, now_ms=0, limit=9)
    await status(ada)
    await api.node.last_seen.write()
    same, _ = await api.node.store.logins(1, now_ms=0, limit=9)

    pruned = [await api.node.store.prune_logins(before_ms=at, limit=9) for at in (1, login.expires_ms + 1)]

    assert later[0].seen_ms == hour_ms + HOUR_MS
    # An older hour never replaces a newer one.
    assert same == later
    assert pruned == [0, 1]
