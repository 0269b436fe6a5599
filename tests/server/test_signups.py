"""Who may create an account: the policy, its default, invitations, and what the server reports about itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay import __version__
from orbital_relay.services.invitations import digest_of, new_invitation
from tests.conftest import Serve
from tests.server.api import EACH_DATABASE, Api, User, opened

ADA = {"username": "ada", "password": "Correct-Horse-7", "public_key": {}}


async def sign_up(api: Api, username: str, invitation: str | None = None, **options: Any) -> httpx.Response:
    """Sign up, perhaps with an invitation."""
    body: dict[str, Any] = {**ADA, "username": username}
    if invitation is not None:
        body["invitation"] = invitation
    return await api.ask("POST", "/api/signup", json=body, **options)


async def invite(api: Api, *, life_ms: int = 60_000) -> str:
    """Make an operator's invitation."""
    code, now_ms = new_invitation(), api.node.clock.wall_ms()
    await api.node.store.add_invitation(digest=digest_of(code), note="", at_ms=now_ms, expires_ms=now_ms + life_ms)
    return code


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the error's code."""
    return answer.status_code, answer.json().get("error", "")


@pytest.mark.parametrize(
    ("settings", "headers", "policy"),
    [
        ({}, {}, "open"),
        ({"host": "localhost"}, {}, "open"),
        ({"host": "::1"}, {}, "open"),
        ({"host": "127.0.0.2"}, {}, "open"),
        ({"host": "0.0.0.0"}, {}, "invited"),
        ({"host": "::"}, {}, "invited"),
        ({"host": "192.0.2.1"}, {}, "invited"),
        ({"host": "talk.example.org"}, {}, "invited"),
        ({"trusted_proxies": "127.0.0.1"}, {}, "invited"),
        ({}, {"X-Forwarded-For": "192.0.2.9"}, "invited"),
        ({}, {"Forwarded": "for=192.0.2.9"}, "invited"),
        ({}, {"Via": "1.1 proxy"}, "invited"),
        ({"host": "0.0.0.0", "signups": "open"}, {"X-Forwarded-For": "192.0.2.9"}, "open"),
        ({"signups": "closed"}, {}, "closed"),
    ],
)
async def test_the_default_follows_who_can_reach_the_server(
    tmp_path: Path, settings: dict[str, str], headers: dict[str, str], policy: str
):
    """[SGN1] By default sign-ups are open only to requests of this machine to a loopback address."""
    async with opened(tmp_path, **{"signups": "", **settings}) as api:
        about = await api.ask("GET", "/api/about", headers=headers)
        answer = await sign_up(api, "ada", headers=headers)

    assert about.json()["signups"] == policy
    assert outcome(answer) == ((201, "") if policy == "open" else (403, "SIGNUPS_CLOSED"))
    if policy != "open":
        assert answer.json()["details"]["signups"] == policy


@EACH_DATABASE
async def test_closed_is_closed(tmp_path: Path, database_url: str | None):
    """[SGN2] With `closed` no invitation is accepted; existing accounts still log in."""
    async with opened(tmp_path, database_url=database_url, signups="open") as api:
        assert (await sign_up(api, "ada")).status_code == 201
    async with opened(tmp_path, database_url=database_url, signups="closed") as api:
        answers = [await sign_up(api, "bob", each) for each in (None, await invite(api))]
        login = await api.ask("POST", "/api/login", json={"username": "ada", "password": ADA["password"]})

    assert [outcome(each) for each in answers] == [(403, "SIGNUPS_CLOSED")] * 2
    assert login.status_code == 200


@EACH_DATABASE
async def test_an_operator_s_invitation_is_valid_once(tmp_path: Path, database_url: str | None):
    """[SGN3] An operator's invitation makes one account, in any case and with or without hyphens, and only one."""
    async with opened(tmp_path, database_url=database_url, signups="invited") as api:
        code = await invite(api)
        taken = await sign_up(api, "ada", code)
        same_name = await invite(api)
        refused = await sign_up(api, "ADA", same_name)
        answers = [
            await sign_up(api, "bob", code),
            await sign_up(api, "bob", same_name.replace("-", " ").lower()),
            await sign_up(api, "carl", same_name),
        ]
        rows = await api.node.store.invitations()

    assert outcome(taken) == (201, "")
    # A sign-up with a taken name consumes no invitation.
    assert outcome(refused) == (409, "USERNAME_TAKEN")
    assert [outcome(each) for each in answers] == [(403, "SIGNUPS_CLOSED"), (201, ""), (403, "SIGNUPS_CLOSED")]
    assert [each.used_by for each in rows] == ["ada", "bob"]


@EACH_DATABASE
async def test_one_invitation_for_concurrent_signups(tmp_path: Path, database_url: str | None):
    """[SGN3] Of concurrent sign-ups with one invitation, one succeeds."""
    async with opened(tmp_path, database_url=database_url, signups="invited") as api:
        code = await invite(api)

        answers = await asyncio.gather(*(sign_up(api, f"user_{index}", code) for index in range(6)))

    assert sorted(outcome(each) for each in answers) == [(201, "")] + [(403, "SIGNUPS_CLOSED")] * 5


@pytest.mark.parametrize(
    "bad", [None, "", "x", "AAAAAAAA", "AAAAA-AAAAA-AAAAA-AAAAA", "é" * 20, "\x00" * 8, "A" * 30_000]
)
async def test_an_invalid_invitation_is_refused(tmp_path: Path, bad: str | None):
    """[SGN4] A missing, unknown or malformed invitation is 403, before any password is hashed."""
    async with opened(tmp_path, signups="invited") as api:
        hashed = api.node.passwords.hash
        api.node.passwords.hash = None  # type: ignore[assignment,method-assign] - a hash would be a 500
        answer = await sign_up(api, "ada", bad)
        api.node.passwords.hash = hashed  # type: ignore[method-assign]

    assert outcome(answer) == (403, "SIGNUPS_CLOSED")
    assert answer.json()["details"] == {"field": "invitation", "signups": "invited"}


@EACH_DATABASE
async def test_an_expired_and_a_revoked_invitation_are_refused(tmp_path: Path, database_url: str | None):
    """[SGN4] An invitation ends at its date or when the operator revokes it; a used one stays in the list."""
    async with opened(tmp_path, database_url=database_url, signups="invited") as api:
        expired, revoked, used = await invite(api, life_ms=0), await invite(api), await invite(api)
        (_, second, third) = await api.node.store.invitations()
        assert (await sign_up(api, "ada", used)).status_code == 201

        assert await api.node.store.revoke_invitation(second.number)
        assert not await api.node.store.revoke_invitation(second.number)
        assert not await api.node.store.revoke_invitation(third.number)
        answers = [await sign_up(api, "bob", each) for each in (expired, revoked)]

    assert [outcome(each) for each in answers] == [(403, "SIGNUPS_CLOSED")] * 2


@EACH_DATABASE
async def test_a_groups_code_is_an_invitation(tmp_path: Path, database_url: str | None):
    """[SGN5] A group's valid invite code lets any number of people sign up; a replaced code is refused."""
    async with opened(tmp_path, database_url=database_url, signups="invited") as api:
        host = api.user()
        group = await host.make_group()
        code = str(group["invite_code"])
        first = [await sign_up(api, "ada", code), await sign_up(api, "bob", f"{code[:4]}-{code[4:].lower()}")]
        new = (await host.post(f"/api/groups/{group['group_id']}/invite-codes")).json()["invite_code"]
        after = [await sign_up(api, "carl", code), await sign_up(api, "dora", new)]
        ada = User(api, first[0].json()["user_id"], "ada", first[0].json()["token"])
        joined = await ada.join({"invite_code": new})

    assert [outcome(each) for each in first] == [(201, "")] * 2
    assert [outcome(each) for each in after] == [(403, "SIGNUPS_CLOSED"), (201, "")]
    # The code is not used up by a sign-up, nor does signing up join.
    assert joined.json()["member_count"] == 2


async def test_guessing_an_invitation_is_limited(tmp_path: Path):
    """[SGN6] A refused sign-up counts: codes cannot be guessed faster than accounts can be created."""
    async with opened(tmp_path, signups="invited", signup_limit="3") as api:
        statuses = [(await sign_up(api, "ada", "AAAAAAA" + letter)).status_code for letter in "ABCD"]

    assert statuses == [403, 403, 403, 429]


@EACH_DATABASE
async def test_a_lost_response_costs_no_second_invitation(tmp_path: Path, database_url: str | None):
    """[SGN7] A sign-up repeated with its idempotency key gets its account, though the invitation is used."""
    async with opened(tmp_path, database_url=database_url, signups="invited") as api:
        code, headers = await invite(api), {"Idempotency-Key": "once"}
        first = await sign_up(api, "ada", code, headers=headers)
        again = await sign_up(api, "ada", code, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["user_id"] == again.json()["user_id"]


async def test_a_server_describes_itself(tmp_path: Path):
    """[SGN8] `GET /api/about` returns place, version, address, policy and limits, without a token."""
    async with opened(
        tmp_path, name="The Lovelaces", public_url="https://talk.example.org/", signups="invited", media_file_bytes="5"
    ) as api:
        about = (await api.ask("GET", "/api/about")).json()

    assert about["name"] == "The Lovelaces"
    assert about["version"] == __version__
    assert about["public_url"] == "https://talk.example.org"
    assert about["signups"] == "invited"
    assert about["limits"]["media_file_bytes"] == 5
    assert about["limits"]["envelope_bytes"] == 262_144


def orbital(folder: Path, *args: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command on a data folder."""
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *args, "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        input=given,
        timeout=60,
    )


async def test_an_invitation_from_the_command_line(serve: Serve):
    """[SGN9] `orbital user invite` beside a running server prints a link whose code allows one sign-up."""
    server = serve(env={"ORBITAL_SIGNUPS": "invited"})
    made = await asyncio.to_thread(
        orbital, server.data_dir, "user", "invite", "--note", "grandma", "--public-url", "https://talk.example.org/"
    )
    as_json = await asyncio.to_thread(orbital, server.data_dir, "user", "invite", "--json", "--days", "0.5")
    link = made.stdout.strip()
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        answers = [
            await http.post("/api/signup", json={**ADA, "username": name, "invitation": link.rpartition("=")[2]})
            for name in ("ada", "bob")
        ]
    listed = await asyncio.to_thread(orbital, server.data_dir, "user", "invitations", "--json")
    revoked = await asyncio.to_thread(orbital, server.data_dir, "user", "invitations", "--revoke", "2")
    missing = await asyncio.to_thread(orbital, server.data_dir, "user", "invitations", "--revoke", "1")

    assert link.startswith("https://talk.example.org/#invitation=")
    assert [each.status_code for each in answers] == [201, 403]
    assert json.loads(as_json.stdout)["link"].startswith("http://localhost:3000/#invitation=")
    assert "ORBITAL_PUBLIC_URL is not set" in as_json.stderr
    first, second = json.loads(listed.stdout)
    assert (first["note"], first["used_by"], second["used_by"]) == ("grandma", "ada", None)
    assert revoked.stdout == "   1  used by ada                               grandma\n"
    assert (missing.returncode, "There is no unused invitation 1." in missing.stderr) == (1, True)
    stored = (server.data_dir / "orbital.db").read_bytes() + (server.data_dir / "orbital.db-wal").read_bytes()
    assert link.rpartition("=")[2].encode() not in stored


@pytest.mark.parametrize(
    ("env", "said", "unsaid"),
    [
        ({"ORBITAL_SIGNUPS": ""}, "curl", "Note: ORBITAL_SIGNUPS"),
        ({"ORBITAL_SIGNUPS": "", "ORBITAL_HOST": "0.0.0.0"}, "orbital user invite", "curl"),
        ({"ORBITAL_SIGNUPS": "closed"}, "orbital user add", "curl"),
        ({"ORBITAL_HOST": "0.0.0.0"}, "Note: ORBITAL_SIGNUPS is open on an address that others reach (0.0.0.0)", ""),
        ({"ORBITAL_TRUSTED_PROXIES": "127.0.0.1"}, "anybody can make accounts and groups here", ""),
    ],
)
def test_the_log_says_at_start_how_to_sign_up(serve: Serve, env: dict[str, str], said: str, unsaid: str):
    """[SGN10] At start the log explains how to create the first account, and warns if others can sign up."""
    server = serve(env={"ORBITAL_LOG_FORMAT": "text", **env})

    assert any(said in line for line in server.log)
    assert not unsaid or not any(unsaid in line for line in server.log)


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_stranger_could_be_the_administrator(serve: Serve, format: str):
    """
    [STRA1] A new server with open sign-ups on a public address warns that the first account is the administrator's.

    It says what to do; once somebody has an account, it does not warn again.
    """
    env = {"ORBITAL_HOST": "0.0.0.0", "ORBITAL_SIGNUPS": "open", "ORBITAL_LOG_FORMAT": format}
    server = serve(env=env)
    warned = [line for line in server.log if "the first to sign up becomes the administrator" in line]
    server.terminate()
    added = orbital(server.data_dir, "user", "add", "ada", given="Correct-Horse-7\n")
    shown = json.loads(orbital(server.data_dir, "user", "show", "ada", "--json").stdout)
    again = serve(env=env, data_dir=server.data_dir)

    assert len(warned) == 1
    assert "ORBITAL_SIGNUPS is open on 0.0.0.0, and nobody has an account here." in warned[0]
    assert "orbital user add NAME" in warned[0]
    assert (added.returncode, shown["admin"]) == (0, True)
    assert not any("becomes the administrator" in line for line in again.log)


@pytest.mark.parametrize("env", [{"ORBITAL_SIGNUPS": "open"}, {"ORBITAL_HOST": "0.0.0.0", "ORBITAL_SIGNUPS": ""}])
def test_no_stranger_can_be_the_administrator(serve: Serve, env: dict[str, str]):
    """[STRA2] A new server that only this machine reaches, or that requires invitations, logs no such warning."""
    assert not any("becomes the administrator" in line for line in serve(env=env).log)
