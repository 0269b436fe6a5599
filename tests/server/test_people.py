"""The operator's commands on accounts and groups, beside a running server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve
from tests.server.api import opened
from tests.support.client import PASSWORD, Person
from tests.support.server import Server
from tests.support.tokens import token

HOUR_MS = 3_600_000
NEW_PASSWORD = "Another-Horse-8"


async def orbital(server: Server, *args: str, given: str = "", status: int = 0) -> str:
    """Run a command on a server's data folder, and return what it printed; on failure what it complained of."""

    def work() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "orbital_relay", *args],
            capture_output=True,
            text=True,
            input=given,
            timeout=120,
            env={"ORBITAL_DATA_DIR": str(server.data_dir), "JWT_SECRET": server.env["JWT_SECRET"]},
        )

    done = await asyncio.to_thread(work)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


async def log_in(server: Server, username: str, password: str = PASSWORD) -> httpx.Response:
    """Log in."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        return await http.post("/api/login", json={"username": username, "password": password})


@pytest.fixture
async def server(serve: Serve) -> Server:
    """A server that writes who was last here twice a second."""
    return await asyncio.to_thread(serve, env={"ORBITAL_PRUNE_SECONDS": "0.5"})


async def test_a_disabled_account_is_out(server: Server):
    """[OPER1] `user disable` ends sessions, and refuses logins and tokens with the operator's reason until `enable`."""
    async with await Person.sign_up(server.url, "ada") as ada, await ada.connect() as socket:
        await orbital(server, "user", "disable", "ADA", "--reason", "lost phone.")

        assert await socket.until_closed() == 1008
        refused = await log_in(server, "ada")
        assert (refused.status_code, refused.json()["error"]) == (403, "ACCOUNT_DISABLED")
        assert refused.json()["message"] == (
            "This account is disabled: lost phone. Ask the person who runs this server."
        )
        assert refused.json()["details"] == {"reason": "lost phone."}
        # A wrong password learns nothing.
        assert (await log_in(server, "ada", "Wrong-Horse-99")).status_code == 401
        assert (await ada.http.get("/api/groups")).status_code == 401
        # The service that shares the secret does not know: its tokens are refused, too, also in a handshake.
        foreign = Person(server.url, user_id=ada.user_id, username="ada", token=token(ada.user_id, lives_s=7200))
        async with foreign:
            answers = {(await foreign.http.get("/api/groups")).status_code}
            with pytest.raises(InvalidStatus) as closed:
                await foreign.connect()
            answers.add(closed.value.response.status_code)
        assert answers <= {401, 403}
        assert json.loads(await orbital(server, "user", "show", "ada", "--json"))["state"] == "disabled"

        await orbital(server, "user", "enable", "ada")

        assert (await log_in(server, "ada")).status_code == 200
        # Sessions from before stay ended.
        assert (await ada.http.get("/api/groups")).status_code == 401


async def test_a_disabled_user_s_new_token_is_refused(tmp_path: Path):
    """[OPER2] A token that another service makes after the account was disabled is 403 ACCOUNT_DISABLED."""
    async with opened(tmp_path) as api:
        ada = api.user()
        assert (await ada.get("/api/groups")).status_code == 200
        (row,) = await api.node.store.users(named=ada.id)
        await api.node.store.disable(row.key, reason="", at_ms=1)
        ada = api.user(ada.username, user_id=ada.id)

        answer = await ada.get("/api/groups")

        assert (answer.status_code, answer.json()["error"]) == (403, "ACCOUNT_DISABLED")
        assert answer.json()["message"] == "This account is disabled. Ask the person who runs this server."
        await api.node.store.enable(row.key)
        assert (await ada.get("/api/groups")).status_code == 200


async def test_another_password(server: Server):
    """[OPER3] `user password` replaces the password and ends the sessions; it keeps the rules of a sign-up."""
    async with await Person.sign_up(server.url, "ada") as ada:
        await orbital(server, "user", "password", "ada", given=f"{NEW_PASSWORD}\n")

        statuses = [(await log_in(server, "ada", each)).status_code for each in (PASSWORD, NEW_PASSWORD)]
        assert statuses == [401, 200]
        # The server looks for revocations every two seconds, and always before it makes a token.
        assert (await ada.http.get("/api/groups")).status_code == 401
        complaint = await orbital(server, "user", "password", "ada", given="short\n", status=1)
        assert "The password needs 12 characters" in complaint
        assert (await log_in(server, "ada", NEW_PASSWORD)).status_code == 200


async def test_another_name(server: Server):
    """[OPER4] `user rename` gives a free name of the allowed form; a login by the old name is 401."""
    async with await Person.sign_up(server.url, "ada") as ada, await Person.sign_up(server.url, "bob"):
        await orbital(server, "user", "rename", "ada", "Countess")

        logins = [await log_in(server, name) for name in ("ada", "countess")]
        assert [each.status_code for each in logins] == [401, 200]
        assert (logins[1].json()["username"], logins[1].json()["user_id"]) == ("Countess", ada.user_id)
        assert "is taken" in await orbital(server, "user", "rename", "countess", "BOB", status=1)
        assert "3-50 of the characters" in await orbital(server, "user", "rename", "bob", "b b", status=1)
        # The same name in another case is nobody else's.
        await orbital(server, "user", "rename", "countess", "COUNTESS")


async def test_users_of_another_service_have_no_password(server: Server):
    """[OPER5] Password and name of a user of another service are not ours to change; unknown users are named."""
    async with Person(server.url, user_id="outside|1", username="eve", token=token("outside|1", "eve")) as eve:
        await eve.get("/api/groups")

        assert "token of another service" in await orbital(server, "user", "rename", "outside|1", "eva", status=1)
        complaint = await orbital(server, "user", "password", "outside|1", given=f"{NEW_PASSWORD}\n", status=1)
        assert "token of another service" in complaint
        for command in ("show", "disable", "enable", "revoke"):
            assert "There is no user nobody here." in await orbital(server, "user", command, "nobody", status=1)


async def test_lists_show_people_and_what_they_store(server: Server):
    """[OPER6] Lists show last seen to the hour, groups and stored media, and no content."""
    async with await Person.sign_up(server.url, "ada") as ada, await Person.sign_up(server.url, "bob") as bob:
        group = await ada.make_group()
        await bob.join(group)
        thread = await ada.open_thread(group)
        chunk = {
            "media_id": "6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11",
            "thread_id": thread["thread_id"],
            "chunk_index": "0",
            "total_chunks": "1",
            "encrypted_metadata": "bWV0YQ==",
            "encryption_iv": "aXY=",
        }
        sent = await ada.http.post("/api/media/upload", data=chunk, files={"chunk": ("c", b"x" * 1500)})
        assert sent.status_code == 201

        users = await _until_seen(server, {"ada", "bob"})
        (found,) = json.loads(await orbital(server, "group", "list", "--json"))
        shown = json.loads(await orbital(server, "group", "show", group.id.upper(), "--json"))
        table = await orbital(server, "user", "list")
        person = await orbital(server, "user", "show", ada.user_id)
        groups = await orbital(server, "group", "list")
        one = await orbital(server, "group", "show", group.id)

    assert (users["ada"]["groups"], users["ada"]["media"], users["ada"]["media_bytes"]) == (1, 1, 1500)
    assert (users["bob"]["groups"], users["bob"]["media"], users["bob"]["state"]) == (1, 0, "active")
    # Last seen is a whole hour.
    assert users["ada"]["last_seen_at"].endswith(":00:00.000Z")
    assert (found["group_id"], found["creator"], found["members"], found["media_bytes"]) == (group.id, "ada", 2, 1500)
    assert found["threads"] == 1
    assert [each["username"] for each in shown["members"]] == ["ada", "bob"]
    assert table.splitlines()[0].split() == [
        "name",
        "state",
        "made",
        "last",
        "seen",
        "groups",
        "media",
        "size",
        "user",
        "id",
    ]
    assert "1.5 kB" in table
    assert group.id in person
    assert group.id in groups
    assert "member           bob, since" in one
    everything = table + person + groups + one + json.dumps([users, found, shown])
    assert "encrypted" not in everything
    assert "argon2" not in everything
    assert "There is no group x here." in await orbital(server, "group", "show", "x", status=1)


async def _until_seen(server: Server, names: set[str]) -> dict[str, dict[str, Any]]:
    """Return the users by name once those were seen."""
    async with asyncio.timeout(60):
        while True:
            users = {each["username"]: each for each in json.loads(await orbital(server, "user", "list", "--json"))}
            if all(users[name]["last_seen_at"] for name in names):
                return users


async def test_last_seen_is_written_once_an_hour(tmp_path: Path):
    """[OPER7] A user who is here is written once an hour, also by a token that is used again and again."""
    async with opened(tmp_path, prune_seconds="3600") as api:
        ada, bob = api.user(), api.user()
        written: list[tuple[list[int], int]] = []
        noting = api.node.store.note_seen

        async def note(users: Any, *, at_ms: int) -> None:
            written.append((list(users), at_ms))
            await noting(users, at_ms=at_ms)

        api.node.store.note_seen = note  # type: ignore[method-assign]
        for user in (ada, ada, bob):
            await user.get("/api/groups")
        await api.node.last_seen.write()
        await ada.get("/api/groups")
        await api.node.last_seen.write()
        (first, second) = await api.node.store.users()
        api.node.last_seen.forget()
        await ada.get("/api/groups")
        await api.node.last_seen.write()

    hour_ms = written[0][1]
    assert written == [([first.key, second.key], hour_ms), ([first.key], hour_ms)]
    assert hour_ms % HOUR_MS == 0
    assert first.seen_ms == second.seen_ms == hour_ms
