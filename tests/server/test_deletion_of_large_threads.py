"""Deletion of threads with more replies than one transaction deletes: gone at once for readers, and purged in steps."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.event import listen, remove

from orbital_relay.server import app
from orbital_relay.services import erasure
from orbital_relay.store import tables as t
from orbital_relay.store.append import deletion
from tests.conftest import Serve
from tests.server.api import EACH_DATABASE, Api, opaque, opened
from tests.server.test_deletion import Home, annotate, photo, reply
from tests.support.client import Person
from tests.support.process import until
from tests.support.server import Server, with_constant


@pytest.fixture
async def home(tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    """A group of four on a server that purges only when the test calls it."""
    monkeypatch.setattr(app, "ERASE_S", 3600.0)
    async with opened(tmp_path, database_url=database_url) as api:
        yield await Home(api).make()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a transaction delete two rows."""
    monkeypatch.setattr(deletion, "AT_ONCE", 2)
    monkeypatch.setattr(erasure, "EVENTS", 2)


async def left(api: Api) -> tuple[int, int, int]:
    """Return how many replies and annotations there are, and how many marked threads."""

    def count(conn: Connection) -> tuple[int, int, int]:
        replies = conn.execute(select(func.count()).select_from(t.replies)).scalar_one()
        notes = conn.execute(select(func.count()).select_from(t.thread_annotations)).scalar_one()
        return replies, notes, conn.execute(select(func.count()).where(~t.LIVE_THREADS)).scalar_one()

    return await api.node.store._read(count)


async def filled(home: Home, replies: int = 5) -> tuple[str, list[str]]:
    """Open a thread of Bob's with replies, annotations and a medium; return its id and those of the replies."""
    thread_id = await home.post("thread")
    made = [await reply(home.dan, thread_id) for _ in range(replies)]
    for each in made[:3]:
        await annotate(home.ann, thread_id, each)
    await photo(home.dan, thread_id)
    return thread_id, made


@EACH_DATABASE
@pytest.mark.usefixtures("small")
async def test_gone_at_once_for_readers(home: Home):
    """[DELETED20] A large thread is gone for every reader when the response comes, as a small one; the file follows."""
    kept, (gone, replies) = await home.post("thread"), await filled(home)
    staying = await reply(home.dan, kept)

    assert (await home.delete("thread", gone)).status_code == 204
    assert await left(home.api) == (4, 3, 1)

    page = await home.threads()
    assert ([each["thread_id"] for each in page["threads"]], page["total_count"]) == ([kept], 1)
    where = f"/api/threads/{gone}"
    reads = [await home.ann.get(where + part) for part in ("", "/replies", "/annotations", "/media")]
    posts = [
        await home.dan.post(f"{where}/replies", {"encrypted_body": opaque()}),
        await home.dan.post(f"{where}/annotations", {"target_id": gone, "encrypted_body": opaque()}),
        *[await home.delete("reply", each, home.ann) for each in replies],
    ]
    assert {each.status_code for each in (*reads, *posts)} == {404}
    assert (await home.delete("thread", gone)).status_code == 204
    exported = [json.loads(line) for line in (await home.ann.get("/api/account/export")).text.splitlines()]
    assert [each["data"]["thread_id"] for each in exported if each["type"] == "thread"] == [kept]
    assert [each["data"]["reply_id"] for each in exported if each["type"] == "reply"] == [staying]
    assert not [each for each in exported if each["type"] in {"annotation", "medium"}]
    (group,) = await home.api.node.store.groups(group_id=home.group_id)
    assert (group.threads, group.stored.media) == (1, 0)
    assert await home.deletions() == [{"target_id": gone, "kind": "thread", "by": home.bob.id}]
    assert await home.findings() == []

    await home.api.node.erase()

    assert await left(home.api) == (1, 0, 0)
    assert await home.findings() == []


@EACH_DATABASE
@pytest.mark.usefixtures("small")
async def test_steps(home: Home):
    """[DELETED21] Each step deletes a bounded number of rows, and any number of steps leaves what `check` accepts."""
    gone, _ = await filled(home)
    other, _ = await filled(home, replies=3)
    for thread_id in (gone, other):
        assert (await home.delete("thread", thread_id)).status_code == 204
    store, seen = home.api.node.store, [await left(home.api)]

    while await store.purge_thread(limit=2):
        seen.append(await left(home.api))
        assert await home.findings() == []

    assert seen == [(4, 6, 2), (2, 6, 2), (1, 5, 2), (1, 3, 1), (0, 2, 1), (0, 0, 0)]


@pytest.fixture
def deleted_rows() -> Iterator[list[int]]:
    """How many rows each statement deletes while the test runs."""
    seen: list[int] = []

    def note(_conn: object, cursor: Any, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE"):
            seen.append(cursor.rowcount)

    listen(Engine, "after_cursor_execute", note)
    yield seen
    remove(Engine, "after_cursor_execute", note)


def _many(conn: Connection, thread_id: str, count: int) -> None:
    thread = conn.execute(select(t.threads).where(t.threads.c.thread_id == thread_id)).one()
    one = {"thread": thread.id, "author": thread.author, "author_username": "x", "encrypted_body": "QQ=="}
    rows = [{"reply_id": str(uuid.uuid4()), "seq": 10**6 + n, "created_ms": 1, **one} for n in range(count)]
    for start in range(0, count, 500):
        conn.execute(insert(t.replies), rows[start : start + 500])
    conn.execute(update(t.threads).where(t.threads.c.id == thread.id).values(reply_count=count))


@EACH_DATABASE
async def test_transactions_are_bounded(home: Home, deleted_rows: list[int]):
    """[DELETED22] No transaction deletes more than 1,000 replies, of a thread or of a deleted group of 3,500."""
    for of in ("thread", "group"):
        thread_id = await home.post("thread")
        await home.api.node.store._write(_many, thread_id, 3_500)
        deleted_rows.clear()

        if of == "thread":
            assert (await home.delete("thread", thread_id)).status_code == 204
            assert await left(home.api) == (2_500, 0, 1)
        else:
            (group,) = await home.api.node.store.groups(group_id=home.group_id)
            await home.api.node.store.request_deletion(group.key, at_ms=0)
        for _ in range(5):
            await home.api.node.erase()

        assert await left(home.api) == (0, 0, 0)
        assert sorted(deleted_rows)[-4:] == [500, 1000, 1000, 1000]


@EACH_DATABASE
@pytest.mark.usefixtures("small")
async def test_replies_beside_the_deletion(home: Home):
    """[DELETED23] A reply beside the deletion of a large thread is stored before it or 404; nothing of it is left."""
    for _ in range(4):
        thread_id, _ = await filled(home)

        outcomes = await asyncio.gather(
            *(home.dan.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}) for _ in range(4)),
            home.delete("thread", thread_id),
            *(home.dan.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}) for _ in range(4)),
        )

        assert {each.status_code for each in outcomes} <= {201, 204, 404}
        assert (
            await home.dan.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()})
        ).status_code == 404
        await home.api.node.erase()
        assert await left(home.api) == (0, 0, 0)
        assert await home.findings() == []


@EACH_DATABASE
@pytest.mark.usefixtures("small")
async def test_a_false_mark(home: Home):
    """[DELETED24] `orbital check` finds a thread that is marked as deleted without a deletion in the log."""
    thread_id, _ = await filled(home)

    def damage(conn: Connection) -> None:
        conn.execute(update(t.threads).where(t.threads.c.thread_id == thread_id).values(deleted_seq=3))

    await home.api.node.store._write(damage)

    assert "a thread is marked as deleted with number 3, which is no deletion" in await home.findings()


async def test_a_server_that_is_killed(serve: Serve):
    """[DELETED25] A server is killed after the deletion of a large thread: `check` is content, the next one purges."""
    first = serve(command=with_constant("orbital_relay.services.erasure", "ERASE_S", 3600.0))
    async with await Person.sign_up(first.url) as ada:
        group = await ada.make_group()
        thread_id = (await ada.open_thread(group))["thread_id"]
        first.close()
        with closing(sqlite3.connect(first.data_dir / "orbital.db")) as file, file:
            thread, author = file.execute("SELECT id, author FROM threads").fetchone()
            file.executemany(
                "INSERT INTO replies (reply_id, thread, seq, author, author_username, encrypted_body, created_ms) "
                "VALUES (?, ?, ?, ?, 'ada', 'QQ==', 1)",
                [(str(uuid.uuid4()), thread, 1000 + n, author) for n in range(4_000)],
            )
            file.execute("UPDATE threads SET reply_count = 4000, active_seq = 4999")
        first.start()

        await ada.ask("DELETE", f"/api/threads/{thread_id}", expect=204)
        first.kill()

        assert _replies(first) == 3_000
        checked = subprocess.run(
            [sys.executable, "-m", "orbital_relay", "check", "--data-dir", str(first.data_dir)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        second = serve(data_dir=first.data_dir)
        await asyncio.to_thread(until, lambda: _replies(second) == 0, what="the rest of the thread is purged")

    with closing(sqlite3.connect(second.data_dir / "orbital.db")) as file:
        assert file.execute("SELECT count(*) FROM threads").fetchone() == (0,)


def _replies(server: Server) -> int:
    with closing(sqlite3.connect(server.data_dir / "orbital.db")) as file:
        return int(file.execute("SELECT count(*) FROM replies").fetchone()[0])
