"""`orbital backup` and `orbital restore`, beside real servers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.client import Person, Refused
from tests.support.postgres import Postgres
from tests.support.server import Server


def _orbital(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


async def test_restoring_an_older_backup(serve, tmp_path: Path, postgres_cluster: Postgres):
    """[BACKUP1] A running server is backed up; after a restore, clients that are ahead receive `recovered: false`."""
    data, file = tmp_path / "data", tmp_path / "orbital.backup"
    server: Server = await asyncio.to_thread(serve, data_dir=data)
    ann = await Person.sign_up(server.url)
    group = await ann.make_group()
    for _ in range(5):
        await ann.say(group)
    made = await asyncio.to_thread(_orbital, "backup", "--data-dir", data, file)
    assert made.returncode == 0, made.stderr
    kept = await ann.events(group)
    for _ in range(3):
        await ann.say(group)
    assert len(await ann.events(group)) == 9
    again = await asyncio.to_thread(_orbital, "backup", "--data-dir", data, file)
    assert (again.returncode, "already exists" in again.stderr) == (1, True)
    refused = await asyncio.to_thread(_orbital, "restore", "--data-dir", data, file)
    assert (refused.returncode, "Another server is using" in refused.stderr) == (1, True)
    assert await asyncio.to_thread(server.terminate) == 0

    url = postgres_cluster.create_database()
    restored = await asyncio.to_thread(_orbital, "restore", "--database-url", url, file)
    assert restored.returncode == 0, restored.stderr
    checked = await asyncio.to_thread(_orbital, "check", "--database-url", url)
    assert (checked.returncode, checked.stdout) == (0, "1 groups, 6 events: no findings.\n")
    other: Server = await asyncio.to_thread(serve, env={"DATABASE_URL": url})
    refused = await asyncio.to_thread(_orbital, "restore", "--database-url", url, file)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr

    async with ann, Person(other.url, user_id=ann.user_id, username=ann.username, token=ann.token) as back:
        assert await back.events(group) == kept
        for since, recovered in ((9, False), (4, True)):
            async with await back.connect() as socket:
                answer = await socket.subscribe(group.id, since={group.id: since})
                assert answer["data"]["groups"][group.id] == {"seq": 6, "recovered": recovered}
        # Its number 7 used to be another event: only the hash shows it.
        was = (await _hash_of(server, ann, group, data, serve))[7]
        posted = await back.say(group)
        assert posted["seq"] == 7
        async with await back.connect() as socket:
            answer = await socket.subscribe(group.id, since={group.id: {"seq": 7, "hash": was}})
            assert answer["data"]["groups"][group.id] == {"seq": 7, "recovered": False}
        async with httpx.AsyncClient(base_url=other.url) as http:
            signed_in = await http.post("/api/login", json={"username": ann.username, "password": ann.password})
        assert signed_in.json()["user_id"] == ann.user_id


async def _hash_of(server: Server, person: Person, group, data: Path, serve) -> dict[int, str]:
    """Return the hashes of the old server's frames by number: each is the next one's `prev`."""
    await asyncio.to_thread(server.start)
    events = await person.events(group)
    await asyncio.to_thread(server.terminate)
    return {event["seq"] - 1: event["prev"] for event in events}


def test_a_database_that_servers_use(serve, tmp_path: Path, postgres_cluster: Postgres):
    """[BACKUP2] A restore into an empty PostgreSQL that a server uses is refused, and a bad file is reported."""
    file = tmp_path / "orbital.backup"
    assert _orbital("migrate", "--data-dir", tmp_path / "fresh").returncode == 0
    assert _orbital("backup", "--data-dir", tmp_path / "fresh", file).returncode == 0
    url = postgres_cluster.create_database()
    serve(env={"DATABASE_URL": url})

    refused = _orbital("restore", "--database-url", url, file)
    assert refused.returncode == 1
    assert "Servers are using this database. Stop them first." in refused.stderr

    file.write_bytes(file.read_bytes()[:-20])
    damaged = _orbital("restore", "--data-dir", tmp_path / "other", file)
    assert damaged.returncode == 1
    assert "is damaged" in damaged.stderr
    assert "Nothing was restored." in damaged.stderr


@pytest.mark.parametrize("kinds", [("sqlite", "postgresql"), ("postgresql", "sqlite")], ids=" to ".join)
async def test_a_move_loses_no_post(serve, tmp_path: Path, postgres_cluster: Postgres, kinds: tuple[str, str]):
    """[MOVE1] A household that posts while it is moved to the other database finds every answered post there."""
    url, file = postgres_cluster.create_database(), tmp_path / "home.backup"
    places = [["--data-dir", tmp_path / "home"] if kind == "sqlite" else ["--database-url", url] for kind in kinds]
    old, new = (
        serve(data_dir=tmp_path / "home", env={} if kind == "sqlite" else {"DATABASE_URL": url}, start=False)
        for kind in kinds
    )
    await asyncio.to_thread(old.start)
    ann = await Person.sign_up(old.url)
    group = await ann.make_group()
    answered, posting = list[int](), asyncio.Event()

    async def post() -> None:
        while True:
            try:
                answered.append((await ann.say(group))["seq"])
            except (httpx.HTTPError, Refused):
                return
            if len(answered) == 5:
                posting.set()

    async with asyncio.timeout(300):
        poster = asyncio.create_task(post())
        await posting.wait()
        refused = await asyncio.to_thread(_orbital, "backup", *places[0], file, "--stopped")
        assert (refused.returncode, file.exists()) == (1, False)
        assert "using" in refused.stderr
        assert await asyncio.to_thread(old.terminate) == 0
        await poster
        for command in (["backup", *places[0], file, "--stopped"], ["restore", *places[1], file]):
            done = await asyncio.to_thread(_orbital, *command)
            assert done.returncode == 0, done.stderr
        checked = await asyncio.to_thread(_orbital, "check", *places[1])
        assert "no findings" in checked.stdout, checked.stderr
        await asyncio.to_thread(new.start)

    async with ann, Person(new.url, user_id=ann.user_id, username=ann.username, token=ann.token) as back:
        found = [event["seq"] for event in await back.events(group)]
        assert set(answered) <= set(found)
        assert found == list(range(1, len(found) + 1))
        assert (await back.say(group))["seq"] == len(found) + 1


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_help_has_examples(command: str):
    """[CLI1] The help of each command has examples."""
    reported = _orbital(command, "--help")

    assert reported.returncode == 0
    assert f"orbital {command} orbital-2026-11-23.backup" in reported.stdout
