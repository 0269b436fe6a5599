"""Accounts over HTTP: signing up, logging in and out, tokens, tickets, and the limits on all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orbital_relay import wire
from tests.server.api import Api, opened
from tests.support import tokens

_ADA = {"username": "Ada_99", "password": "Correct-Horse-7", "public_key": {"kty": "OKP", "x": "é"}}


async def test_signing_up_and_logging_in(api: Api):
    """[ACC3] A signup's token works at once; a login, in any case, returns the same user and key."""
    signed_up = await api.ask("POST", "/api/signup", json=_ADA)
    logged_in = await api.ask("POST", "/api/login", json={"username": "aDA_99", "password": _ADA["password"]})

    assert (signed_up.status_code, logged_in.status_code) == (201, 200)
    assert wire.is_uuid(signed_up.json()["user_id"])
    assert signed_up.json()["username"] == logged_in.json()["username"] == "Ada_99"
    assert logged_in.json()["user_id"] == signed_up.json()["user_id"]
    assert logged_in.json()["public_key"] == _ADA["public_key"]
    for answer in (signed_up, logged_in):
        groups = await api.ask("GET", "/api/groups", headers={"Authorization": f"Bearer {answer.json()['token']}"})
        assert groups.json() == {"groups": [], "has_more": False}


async def test_a_name_is_unique_in_every_case(api: Api):
    """[ACC5] A second signup of a name, in any case, is 409."""
    await api.ask("POST", "/api/signup", json=_ADA)

    again = await api.ask("POST", "/api/signup", json={**_ADA, "username": "ADA_99"})

    assert (again.status_code, again.json()["error"]) == (409, "USERNAME_TAKEN")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": "ab"}, "username"),
        ({"username": 7}, "username"),
        ({"username": None}, "username"),
        ({"password": "short"}, "password"),
        ({"password": ["Correct-Horse-7"]}, "password"),
        ({"public_key": "key"}, "public_key"),
        ({"public_key": []}, "public_key"),
        ({"public_key": {"x": "y" * 17_000}}, "public_key"),
    ],
)
async def test_a_bad_signup_names_the_field(api: Api, change: dict[str, Any], field: str):
    """[ACC1] Invalid input is 400 with the field, and no account is created."""
    answer = await api.ask("POST", "/api/signup", json={**_ADA, **change})

    assert (answer.status_code, answer.json()["error"], answer.json()["details"]["field"]) == (
        400,
        "VALIDATION_ERROR",
        field,
    )
    assert (await api.ask("POST", "/api/signup", json=_ADA)).status_code == 201


@pytest.mark.parametrize("missing", ["username", "password", "public_key"])
async def test_a_missing_field_is_named(api: Api, missing: str):
    """[ACC1] A missing field is 400 with its name."""
    answer = await api.ask("POST", "/api/signup", json={name: value for name, value in _ADA.items() if name != missing})

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, missing)


@pytest.mark.parametrize("text", ['{"x":"\\ud800"}', '{"x":1e999}', '{"x":' + "[" * 5000 + "]" * 5000 + "}"])
async def test_an_unreadable_key_is_refused(api: Api, text: str):
    """[ACC2] A public key that a member's JSON reader would fail on is refused."""
    body = json.dumps({**_ADA, "public_key": "PUT"}).replace('"PUT"', text)

    answer = await api.ask("POST", "/api/signup", content=body)

    assert answer.status_code == 400


async def test_a_key_is_returned_unchanged(api: Api):
    """[ACC2] Numbers, order and repeated members of a public key reach the other members byte for byte."""
    key = '{"n":123456789012345678901234567890,"b":1.50,"a":[],"a":"\\u0000 \\/"}'
    body = json.dumps({**_ADA, "public_key": "PUT"}).replace('"PUT"', key)
    token = (await api.ask("POST", "/api/signup", content=body)).json()["token"]

    # Not validated against the schema: Python's parser keeps only one of two members with the same name.
    login = await api.http.post("/api/login", json={"username": _ADA["username"], "password": _ADA["password"]})
    headers = {"Authorization": f"Bearer {token}"}
    body = {"encrypted_name": "AAAA", "encrypted_group_key": "AAAA"}
    group = (await api.ask("POST", "/api/groups", json=body, headers=headers)).json()["group_id"]
    members = await api.http.get(f"/api/groups/{group}/members", headers=headers)

    assert key in login.text
    assert key in members.text


@pytest.mark.parametrize(
    "body",
    [
        {"username": "Ada_99", "password": "wrong"},
        {"username": "nobody", "password": "Correct-Horse-7"},
        {"username": "no\0body", "password": "x"},
        {"username": "", "password": ""},
        {"username": "x" * 10_000, "password": "y" * 10_000},
    ],
)
async def test_wrong_credentials_get_one_response(api: Api, body: dict[str, str]):
    """[ACC4] A wrong password and an unknown name get the same response, byte for byte."""
    await api.ask("POST", "/api/signup", json=_ADA)
    known = await api.ask("POST", "/api/login", json={"username": "Ada_99", "password": "other"})

    answer = await api.ask("POST", "/api/login", json=body)

    assert (answer.status_code, answer.json()["error"]) == (401, "INVALID_CREDENTIALS")
    assert answer.content == known.content


# Limits


async def test_logins_are_limited_by_address(tmp_path: Path):
    """[LIM1] After the last allowed login, right or wrong, 429 says when to retry; invalid forms do not count."""
    async with opened(tmp_path, login_limit="3") as api:
        await api.ask("POST", "/api/signup", json=_ADA)
        right = {"username": "Ada_99", "password": _ADA["password"]}
        wrong = {**right, "password": "wrong"}
        for body in ({}, {"username": 1}, {"username": "Ada_99"}):
            assert (await api.ask("POST", "/api/login", json=body)).status_code == 400

        statuses = [
            (await api.ask("POST", "/api/login", json=body)).status_code for body in (wrong, right, wrong, right)
        ]
        refused = await api.ask("POST", "/api/login", json=right)

        assert statuses == [401, 200, 401, 429]
        assert refused.json()["error"] == "TOO_MANY_REQUESTS"
        assert 800 < refused.json()["details"]["retry_after"] <= 900
        assert refused.headers["retry-after"] == str(refused.json()["details"]["retry_after"])


async def test_signups_are_limited_by_address(tmp_path: Path):
    """[LIM1] The same for signups; an invalid signup does not count."""
    async with opened(tmp_path, signup_limit="2") as api:
        for body in ({**_ADA, "password": "short"}, {**_ADA, "username": "!"}, {}):
            assert (await api.ask("POST", "/api/signup", json=body)).status_code == 400

        names = [{**_ADA, "username": name} for name in ("one", "two", "three")]
        statuses = [(await api.ask("POST", "/api/signup", json=body)).status_code for body in names]

        assert statuses == [201, 201, 429]


async def test_clients_of_a_proxy_are_distinguished(tmp_path: Path):
    """[LIM2] Behind a trusted proxy the right-most untrusted address counts; those left of it are ignored."""
    async with opened(tmp_path, login_limit="1", trusted_proxies="192.0.2.0/24") as api:
        body = {"username": "nobody", "password": "x"}

        statuses = [
            (await api.ask("POST", "/api/login", json=body, headers={"X-Forwarded-For": via})).status_code
            for via in ("198.51.100.1", "198.51.100.2", "203.0.113.9, 198.51.100.1", "198.51.100.1, 192.0.2.9")
        ]

        assert statuses == [401, 401, 429, 429]


async def test_without_a_proxy_the_header_is_ignored(tmp_path: Path):
    """[LIM2] A client that names another address is counted under the peer address."""
    async with opened(tmp_path, login_limit="1") as api:
        body = {"username": "nobody", "password": "x"}

        statuses = [
            (await api.ask("POST", "/api/login", json=body, headers={"X-Forwarded-For": via})).status_code
            for via in ("198.51.100.1", "198.51.100.2")
        ]

        assert statuses == [401, 429]


async def test_requests_are_limited_by_user(tmp_path: Path):
    """[LIM3] Over a user's limit per minute, 429 on every path with a token; other users are unaffected."""
    async with opened(tmp_path, request_limit="5") as api:
        ada, bob = api.user(), api.user()
        paths = ["/api/groups", "/v1/messages", "/api/groups", "/v1/messages", "/v1/events", "/api/groups"]

        statuses = [(await ada.get(path)).status_code for path in paths]
        refused = await ada.post("/api/ws-ticket")

        assert statuses == [200, 200, 200, 200, 400, 429]
        assert (refused.status_code, refused.json()["error"]) == (429, "TOO_MANY_REQUESTS")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await bob.get("/api/groups")).status_code == 200


# Tokens


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": "Bearer é".encode("latin-1")},
        {"Authorization": f"Bearer {tokens.token('eve', secret='another secret that is long enough')}"},
        {"Authorization": f"Bearer {tokens.token('eve', lives_s=-10)}"},
        {"Authorization": f"Bearer {tokens.sign({'userId': 'eve', 'username': 'eve'})}"},
        {"Authorization": f"Bearer {'x' * 20_000}"},
    ],
)
async def test_without_a_valid_token_nothing_is_revealed(api: Api, headers: Any):
    """[AUTH1] A missing or invalid token or another scheme is 401 with the way to log in, also on unknown ids."""
    answers = [
        await api.ask(method, path, headers=headers)
        for method, path in (
            ("GET", "/api/groups"),
            ("POST", "/v1/messages"),
            ("GET", "/v1/events"),
            ("GET", "/api/threads/nope"),
            ("POST", "/api/ws-ticket"),
            ("POST", "/api/logout"),
        )
    ]

    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(401, "UNAUTHORIZED")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_two_authorization_headers_are_refused(api: Api):
    """[AUTH1] Two Authorization headers are ambiguous and are refused."""
    ada, bob = api.user(), api.user()

    answer = await api.ask(
        "GET", "/api/groups", headers=[("Authorization", f"Bearer {each.token}") for each in (ada, bob)]
    )

    assert answer.status_code == 401


async def test_the_scheme_s_case_does_not_matter(api: Api):
    """[AUTH1] RFC 9110 §11.1: `bearer` is accepted like `Bearer`."""
    answer = await api.ask("GET", "/api/groups", headers={"Authorization": f"bEARER {api.user().token}"})

    assert answer.status_code == 200


async def test_another_service_s_token_creates_its_user(api: Api):
    """[AUTH2] A token signed with the secret by another service is accepted, and its user has the name in the token."""
    eve = {"Authorization": f"Bearer {tokens.token('user/9 ~'.replace(' ', ''), 'Eve Ω')}"}
    body = {"encrypted_name": "AAAA", "encrypted_group_key": "AAAA"}

    made = await api.ask("POST", "/api/groups", json=body, headers=eve)
    members = await api.ask("GET", f"/api/groups/{made.json()['group_id']}/members", headers=eve)

    (member,) = members.json()["members"]
    assert (member["user_id"], member["username"], member["public_key"]) == ("user/9~", "Eve Ω", {})


async def test_logging_out_ends_that_token(api: Api):
    """[AUTH3] After a logout the token is revoked; the user's other tokens stay valid."""
    one, other = api.user("ada"), api.user("ada2", user_id="id-of-ada")
    for each in (one, other):
        assert (await each.get("/api/groups")).status_code == 200

    answer = await one.post("/api/logout")

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await one.get("/api/groups")).status_code == 401
    assert (await one.post("/api/logout")).status_code == 401
    assert (await other.get("/api/groups")).status_code == 200


# Tickets


async def test_a_ticket_is_made_for_its_user_once(api: Api):
    """[TICK1] A ticket is valid for 30 s, for one use, and for its user alone."""
    ada = api.user()

    answer = await ada.post("/api/ws-ticket")

    ticket = answer.json()["ticket"]
    assert answer.json()["expires_in"] == 30
    assert ada.token not in ticket
    principal = await api.node.auth.redeem(ticket)
    assert principal is not None
    assert principal.user_id == ada.id
    assert await api.node.auth.redeem(ticket) is None


async def test_requesting_tickets_takes_no_attempt(tmp_path: Path):
    """[TICK2] Requesting tickets uses no attempts; with none left, a request is 429 with the time to wait."""
    async with opened(tmp_path, connect_limit="2") as api:
        ada = api.user()
        before = [(await ada.post("/api/ws-ticket")).status_code for _ in range(5)]

        attempts = [await api.node.admission.policy.admit("192.0.2.7", ada.id) for _ in range(2)]
        refused = await ada.post("/api/ws-ticket")

        assert before == [200] * 5
        assert attempts == [None, None]
        assert (refused.status_code, refused.json()["error"]) == (429, "TOO_MANY_REQUESTS")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
