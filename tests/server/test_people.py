"""The operator's commands on accounts and groups, beside a running server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve
from tests.server.api import EACH_DATABASE, Api, opened, send_chunk
from tests.support.client import PASSWORD, Person
from tests.support.server import Server
from tests.support.tokens import token

pytestmark = EACH_DATABASE

HOUR_MS = 3_600_000
ADA = {"username": "ada", "password": PASSWORD, "public_key": {}}
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
            env={name: server.env[name] for name in ("JWT_SECRET", "DATABASE_URL") if name in server.env}
            | {"ORBITAL_DATA_DIR": str(server.data_dir)},
        )

    done = await asyncio.to_thread(work)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


async def log_in(server: Server, username: str, password: str = PASSWORD) -> httpx.Response:
    """Log in."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        return await http.post("/api/login", json={"username": username, "password": password})


@pytest.fixture
async def server(serve: Serve, database_url: str | None) -> Server:
    """A server that writes who was last here twice a second."""
    database = {} if database_url is None else {"DATABASE_URL": database_url}
    return await asyncio.to_thread(serve, env={"ORBITAL_PRUNE_SECONDS": "0.5", **database})


async def test_a_disabled_account_is_refused(server: Server):
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
        # A wrong password reveals nothing.
        assert (await log_in(server, "ada", "Wrong-Horse-99")).status_code == 401
        assert (await ada.http.get("/api/groups")).status_code == 401
        # The service that shares the secret is not notified: its tokens are refused, also in a handshake.
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
        # Earlier sessions stay ended.
        assert (await ada.http.get("/api/groups")).status_code == 401


async def test_a_disabled_user_s_new_token_is_refused(tmp_path: Path, database_url: str | None):
    """[OPER2] A token that another service makes after the account was disabled is 403 ACCOUNT_DISABLED."""
    async with opened(tmp_path, database_url=database_url) as api:
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
    """[OPER3] `user password` replaces the password and ends the sessions; the rules of a sign-up apply."""
    async with await Person.sign_up(server.url, "ada") as ada:
        await orbital(server, "user", "password", "ada", given=f"{NEW_PASSWORD}\n")

        statuses = [(await log_in(server, "ada", each)).status_code for each in (PASSWORD, NEW_PASSWORD)]
        assert statuses == [401, 200]
        # The server polls revocations every two seconds, and always before it issues a token.
        assert (await ada.http.get("/api/groups")).status_code == 401
        complaint = await orbital(server, "user", "password", "ada", given="short\n", status=1)
        assert "The password needs 12 characters" in complaint
        assert (await log_in(server, "ada", NEW_PASSWORD)).status_code == 200


async def test_an_administrator_is_made_and_unmade(server: Server):
    """[OPER8] `user promote` and `user demote` take effect with the next request; the first account needs neither."""
    async with await Person.sign_up(server.url, "ada") as ada, await Person.sign_up(server.url, "bob") as bob:

        async def statuses() -> list[int]:
            return [(await each.http.get("/api/admin/health")).status_code for each in (ada, bob)]

        found = [await statuses()]
        await orbital(server, "user", "promote", "bob")
        await orbital(server, "user", "demote", "ada")
        found.append(await statuses())
        listed = json.loads(await orbital(server, "user", "list", "--json"))

    assert found == [[200, 403], [403, 200]]
    assert [(each["username"], each["admin"]) for each in listed] == [("ada", False), ("bob", True)]


async def test_a_one_time_code_of_the_operator(server: Server):
    """[OPER9] `user reset` prints a code that sets another password; `user show` lists the sessions."""
    async with await Person.sign_up(server.url, "ada") as ada:
        code = (await orbital(server, "user", "reset", "ada")).strip()
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            reset = await http.post("/api/password/reset", json={"code": code, "new_password": NEW_PASSWORD})
            login = {"username": "ada", "password": NEW_PASSWORD, "device_name": "Firefox on Linux"}
            assert (await http.post("/api/login", json=login)).status_code == 200

        shown = json.loads(await orbital(server, "user", "show", "ada", "--json"))
        said = await orbital(server, "user", "show", "ada")

        assert reset.status_code == 200
        assert (await ada.http.get("/api/groups")).status_code == 401
    assert (shown["sessions"], [each["name"] for each in shown["logins"]]) == (2, ["Firefox on Linux", ""])
    assert "session          Firefox on Linux, since" in said
    again = json.loads(await orbital(server, "user", "reset", "ada", "--json"))
    assert again["code"] != code


async def test_another_name(server: Server):
    """[OPER4] `user rename` sets a free, valid name; a login with the old name is 401."""
    async with await Person.sign_up(server.url, "ada") as ada, await Person.sign_up(server.url, "bob"):
        await orbital(server, "user", "rename", "ada", "Countess")

        logins = [await log_in(server, name) for name in ("ada", "countess")]
        assert [each.status_code for each in logins] == [401, 200]
        assert (logins[1].json()["username"], logins[1].json()["user_id"]) == ("Countess", ada.user_id)
        assert "is taken" in await orbital(server, "user", "rename", "countess", "BOB", status=1)
        assert "3-50 of the characters" in await orbital(server, "user", "rename", "bob", "b b", status=1)
        # The same name in another case is the same user's.
        await orbital(server, "user", "rename", "countess", "COUNTESS")


async def test_users_of_another_service_have_no_password(server: Server):
    """[OPER5] Password and name of another service's user cannot be changed here; unknown users are reported."""
    async with Person(server.url, user_id="outside|1", username="eve", token=token("outside|1", "eve")) as eve:
        await eve.get("/api/groups")

        assert "user of another service" in await orbital(server, "user", "rename", "outside|1", "eva", status=1)
        complaint = await orbital(server, "user", "password", "outside|1", given=f"{NEW_PASSWORD}\n", status=1)
        assert "user of another service" in complaint
        for command in ("show", "disable", "enable", "revoke"):
            assert "There is no user nobody here." in await orbital(server, "user", command, "nobody", status=1)


async def test_lists_show_people_and_what_they_store(server: Server):
    """[OPER6] Lists show last seen to the hour, groups and stored media, but no content."""
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


async def test_last_seen_is_written_once_an_hour(tmp_path: Path, database_url: str | None):
    """[OPER7] The last-seen time of a connected user is written once an hour, also when a token is used repeatedly."""
    async with opened(tmp_path, database_url=database_url, prune_seconds="3600") as api:
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


# Erasure


async def _media(api: Api, media_id: str) -> int:
    """Return the status of a download."""
    return (await api.user("reader", user_id="reader").get(f"/api/media/{media_id}/download")).status_code


async def test_an_erased_account_leaves_the_group_logs_intact(tmp_path: Path, database_url: str | None):
    """[ERASE1] Erasing deletes name, id, password, keys, memberships and media at once; the log stays intact."""
    async with opened(tmp_path, database_url=database_url, prune_seconds="3600") as api:
        signed = (await api.ask("POST", "/api/signup", json={**ADA, "public_key": {"kty": "ada-s-key"}})).json()
        ada, bob = api.user("ada", user_id=signed["user_id"]), api.user("bob")
        group = await ada.make_group()
        assert (await bob.join(group)).status_code == 200
        assert (await api.user("reader", user_id="reader").join(group)).status_code == 200
        thread = await ada.open_thread(group["group_id"])
        whole, begun = str(uuid.uuid4()), str(uuid.uuid4())
        assert (await send_chunk(ada, thread["thread_id"], whole, 0, 1, b"x" * 5000)).status_code == 201
        assert (await send_chunk(ada, thread["thread_id"], begun, 0, 2, b"y" * 5000)).status_code == 200
        await bob.post(f"/api/threads/{thread['thread_id']}/replies", {"encrypted_body": "AAAA"})
        (row,) = await api.node.store.users(named="ada")

        await api.node.store.request_erasure(row.key, at_ms=api.node.clock.wall_ms())
        await api.node.erase()
        await api.node.collect_media()

        assert await api.node.store.users(named="ada") == await api.node.store.users(named=ada.id) == []
        login = await api.ask("POST", "/api/login", json={"username": "ada", "password": ADA["password"]})
        assert login.status_code == 401
        members = (await bob.get(f"/api/groups/{group['group_id']}/members")).json()["members"]
        assert sorted(each["username"] for each in members) == ["bob", "reader"]
        # The longest-standing member is the creator now.
        assert (await bob.post(f"/api/groups/{group['group_id']}/invite-codes")).status_code == 201
        (shown,) = (await bob.get(f"/api/groups/{group['group_id']}/threads")).json()["threads"]
        assert (shown["author_username"], shown["reply_count"], shown["media_count"]) == ("deleted", 1, 0)
        assert shown["author_id"] != ada.id
        assert await _media(api, whole) == 410
        assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []
        assert (await api.node.store.verify(group["group_id"])).findings == []
        # The name is free, and the id of another service is a new user.
        assert (await api.ask("POST", "/api/signup", json=ADA)).status_code == 201
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("orbital.db*"))
    if database_url is not None:
        stored += await _rows(database_url)
    assert b"bob" in stored
    assert b"ada-s-key" not in stored


async def _rows(database_url: str) -> bytes:
    """Return every row of a PostgreSQL database as text."""
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [await connection.fetch(f'SELECT t::text FROM "{each[0]}" t') for each in tables]
        return "\n".join(row[0] for found in rows for row in found).encode()
    finally:
        await connection.close()


async def test_content_is_deleted_with_the_retention(tmp_path: Path, database_url: str | None):
    """[ERASE2] After the retention an erased user's threads and replies go; if others replied, only the text."""
    async with opened(tmp_path, database_url=database_url, prune_seconds="3600") as api:
        ada, bob = api.user(), api.user()
        group = await ada.make_group()
        await bob.join(group)
        alone = await ada.open_thread(group["group_id"])
        annotated = await ada.open_thread(group["group_id"])
        answered, bobs = await ada.open_thread(group["group_id"]), await bob.open_thread(group["group_id"])
        for user, thread in ((bob, answered), (ada, bobs), (bob, bobs)):
            body = {"encrypted_body": "AAAA"}
            assert (await user.post(f"/api/threads/{thread['thread_id']}/replies", body)).status_code == 201
        for user in (ada, bob):
            for thread in (answered, annotated, bobs):
                path = f"/api/threads/{thread['thread_id']}/annotations"
                marked = await user.post(path, {"target_id": thread["thread_id"], "encrypted_body": "AAAA"})
                assert marked.status_code == 201
        (row,) = await api.node.store.users(named=ada.id)
        now_ms = api.node.clock.wall_ms()
        await api.node.store.request_erasure(row.key, at_ms=now_ms)
        await api.node.erase()

        assert await api.node.store.prune(before_ms=now_ms + 3_600_000, limit=1000) > 0
        early = await api.node.store.erase_content(before_ms=now_ms)
        finished = [await api.node.store.erase_content(before_ms=now_ms + 3_600_000) for _ in range(2)]

        assert (early, finished) == (0, [1, 0])
        threads = (await bob.get(f"/api/groups/{group['group_id']}/threads", sort="created_asc")).json()["threads"]
        assert [(each["thread_id"], each["reply_count"]) for each in threads] == [
            (annotated["thread_id"], 0),
            (answered["thread_id"], 1),
            (bobs["thread_id"], 1),
        ]
        assert [each["encrypted_body"] == "AA==" for each in threads] == [True, True, False]
        for thread in (annotated, answered, bobs):
            left = (await bob.get(f"/api/threads/{thread['thread_id']}/annotations")).json()["annotations"]
            assert [each["author_id"] for each in left] == [bob.id]
        assert (await bob.get(f"/api/threads/{alone['thread_id']}")).status_code == 404
        assert (await api.node.store.verify(group["group_id"])).findings == []


async def test_a_deleted_group_is_gone(tmp_path: Path, database_url: str | None):
    """[ERASE3] Deleting a group removes its members, then its log, threads and media; other groups stay intact."""
    async with opened(tmp_path, database_url=database_url, prune_seconds="3600") as api:
        ada, bob = api.user(), api.user()
        group, other = await ada.make_group(), await ada.make_group()
        for each in (group, other):
            await bob.join(each)
            await ada.say(each["group_id"])
        thread = await bob.open_thread(group["group_id"])
        assert (await send_chunk(bob, thread["thread_id"], str(uuid.uuid4()), 0, 1, b"x" * 5000)).status_code == 201
        (found,) = await api.node.store.groups(group_id=group["group_id"])

        await api.node.store.request_deletion(found.key, at_ms=api.node.clock.wall_ms())
        refused = await api.user().join(group)
        for _ in range(2):
            await api.node.erase()
            await api.node.collect_media()
        await api.node.erase()

        assert refused.status_code == 404
        assert (await ada.get(f"/api/groups/{group['group_id']}/members")).status_code == 404
        listed = (await ada.get("/api/groups")).json()["groups"]
        assert [each["group_id"] for each in listed] == [other["group_id"]]
        assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []
        assert await api.node.store.group_ids() == [other["group_id"]]
        assert (await api.node.store.verify(other["group_id"])).findings == []
        # A group that is created now does not have the old one's events.
        new = await ada.make_group()
        assert (await api.node.store.verify(new["group_id"])).findings == []


async def test_deletion_from_the_command_line(server: Server):
    """[ERASE4] `user delete` and `group delete` use the running server, or do the work themselves without one."""
    async with (
        await Person.sign_up(server.url, "ada") as ada,
        await Person.sign_up(server.url, "bob") as bob,
        await Person.sign_up(server.url, "carl"),
    ):
        group, other = await ada.make_group(), await bob.make_group()
        await bob.join(group)
        async with await bob.listen(group) as socket:
            said = await orbital(server, "user", "delete", "ada", "--yes")
            left = await socket.until("member_left")
            assert (left["data"]["username"], left["data"]["reason"]) == ("ada", "left")
            assert said == "ada is erased.\n"
            assert (await log_in(server, "ada")).status_code == 401

            await orbital(server, "group", "delete", group.id, "--yes")
            assert (await socket.until(lambda frame: frame["type"] == "unsubscribed"))["data"]["group_ids"] == [
                group.id
            ]
        assert (await bob.http.get(f"/api/groups/{group.id}/members")).status_code == 404

        await asyncio.to_thread(server.terminate)
        await orbital(server, "user", "delete", "carl", "--yes")
        await orbital(server, "group", "delete", other.id, "--yes")
        assert [each["username"] for each in json.loads(await orbital(server, "user", "list", "--json"))] == ["bob"]
        assert json.loads(await orbital(server, "group", "list", "--json")) == []
        assert "no findings" in await orbital(server, "check")


async def test_each_change_as_json(server: Server):
    """[OUTCOME1] With `--json` each command that changes a user or a group prints one object with the change."""

    async def change(*args: str, given: str = "") -> dict[str, str]:
        printed: dict[str, str] = json.loads(await orbital(server, *args, "--json", given=given))
        return printed

    async with await Person.sign_up(server.url, "ben") as ben:
        group = await ben.make_group()
    made = await change("user", "add", "ada", given=f"{PASSWORD}\n")
    of_ada = {"user_id": made["user_id"], "username": "ada"}
    changes = [
        await change("user", "password", "ada", given=f"{NEW_PASSWORD}\n"),
        await change("user", "disable", "ADA"),
        await change("user", "enable", "ada"),
        await change("user", "promote", "ada"),
        await change("user", "demote", "ada"),
        await change("user", "revoke", "ada"),
        await change("user", "rename", "ada", "eve"),
        await change("user", "delete", "eve", "--yes"),
    ]
    deleted = await change("group", "delete", group.id, "--yes")

    assert made == {"done": "added", **of_ada}
    done = ("password_set", "disabled", "enabled", "promoted", "demoted", "revoked")
    assert changes[:6] == [{"done": each, **of_ada} for each in done]
    assert changes[6:] == [{"done": each, **of_ada, "username": "eve"} for each in ("renamed", "erased")]
    assert deleted == {"done": "deleted", "group_id": group.id}
