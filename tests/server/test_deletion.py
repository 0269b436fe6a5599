"""Deletion of messages, threads and replies over HTTP."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.event import listen, remove

from orbital_relay.config.database import SqliteFile
from orbital_relay.errors import Unavailable
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services.media_cleanup import collect
from orbital_relay.store import tables as t
from orbital_relay.store.append import rows
from tests.server.api import EACH_DATABASE, Api, User, opaque, send_chunk

pytestmark = EACH_DATABASE

KINDS = ("message", "thread", "reply")
WHERE = {"message": "/v1/messages/", "thread": "/api/threads/", "reply": "/api/replies/"}


class Home:
    """Ann's group with Bob, an administrator Cid and a member Dan; what `post` makes is Bob's."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ann, self.bob, self.cid, self.dan = (api.user() for _ in range(4))
        self.group_id = ""

    async def make(self) -> Home:
        """Make it."""
        group = await self.ann.make_group()
        self.group_id = group["group_id"]
        for each in (self.bob, self.cid, self.dan):
            assert (await each.join(group)).status_code == 200
        role = f"/api/groups/{self.group_id}/members/{self.cid.id}/role"
        assert (await self.ann.ask("PUT", role, json={"role": "admin"})).status_code == 200
        return self

    async def post(self, kind: str, thread_id: str | None = None) -> str:
        """Post something of Bob's, and return its id."""
        if kind == "message":
            return str((await self.bob.say(self.group_id)).json()["message_id"])
        if kind == "thread":
            return str((await self.bob.open_thread(self.group_id))["thread_id"])
        where = thread_id or (await self.ann.open_thread(self.group_id))["thread_id"]
        answer = await self.bob.post(f"/api/threads/{where}/replies", {"encrypted_body": opaque()})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["reply_id"])

    async def delete(self, kind: str, target_id: str, who: User | None = None, **options: Any) -> httpx.Response:
        """Delete something, as Bob when no other user is given."""
        return await (who or self.bob).ask("DELETE", WHERE[kind] + target_id, **options)

    async def log(self) -> list[Any]:
        """Return the group's events."""
        found: list[Any] = (await self.ann.get("/v1/events", group_id=self.group_id, limit=1000)).json()["events"]
        return found

    async def deletions(self) -> list[Any]:
        """Return the data of the events `deleted`."""
        return [each["data"] for each in await self.log() if each["type"] == "deleted"]

    async def threads(self) -> Any:
        """Return the page of threads."""
        return (await self.ann.get(f"/api/groups/{self.group_id}/threads", sort="active_desc")).json()

    async def findings(self) -> list[str]:
        """Return what `orbital check` finds in the group."""
        findings: list[str] = (await self.api.node.store.verify(self.group_id)).findings
        return findings


@pytest.fixture
async def home(api: Api) -> Home:
    """A group of four."""
    return await Home(api).make()


async def reply(user: User, thread_id: str) -> str:
    """Reply, and return the id."""
    answer = await user.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["reply_id"])


async def photo(user: User, thread_id: str, content: bytes = b"photo") -> str:
    """Upload a medium of one chunk, and return its id."""
    media_id = str(uuid.uuid4())
    assert (await send_chunk(user, thread_id, media_id, 0, 1, content)).is_success
    assert (await user.post("/api/media/upload/complete", {"media_id": media_id})).status_code == 200
    return media_id


async def annotate(user: User, thread_id: str, target_id: str) -> str:
    """Annotate something in a thread, and return the annotation's id."""
    body = {"target_id": target_id, "encrypted_body": opaque()}
    answer = await user.post(f"/api/threads/{thread_id}/annotations", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["annotation_id"])


# Chapter: what is deleted


async def test_a_deleted_message(home: Home):
    """[DELETED1] A deleted message is in no list, and the event `deleted` names it, its kind and who deleted it."""
    kept, gone, last = [await home.post("message") for _ in range(3)]

    assert (await home.delete("message", gone.upper())).status_code == 204

    listed = (await home.ann.get("/v1/messages")).json()["messages"]
    assert [each["message_id"] for each in listed] == [kept, last]
    assert await home.deletions() == [{"target_id": gone, "kind": "message", "by": home.bob.id}]
    assert await home.findings() == []


async def test_a_deleted_reply(home: Home):
    """[DELETED2] A deleted reply is neither listed nor counted, and the thread's activity is the one before it."""
    thread_id = await home.post("thread")
    first = await reply(home.ann, thread_id)
    before = (await home.threads())["threads"][0]
    gone = await home.post("reply", thread_id)
    staying = await annotate(home.ann, thread_id, first)
    await annotate(home.ann, thread_id, gone)

    assert (await home.delete("reply", gone)).status_code == 204

    replies = (await home.ann.get(f"/api/threads/{thread_id}/replies")).json()
    assert ([each["reply_id"] for each in replies["replies"]], replies["total_count"]) == ([first], 1)
    assert (await home.threads())["threads"][0] == before
    notes = (await home.ann.get(f"/api/threads/{thread_id}/annotations")).json()["annotations"]
    assert [each["annotation_id"] for each in notes] == [staying]
    lost = await home.ann.post(f"/api/threads/{thread_id}/annotations", {"target_id": gone, "encrypted_body": opaque()})
    assert lost.status_code == 404
    assert await home.deletions() == [{"target_id": gone, "kind": "reply", "by": home.bob.id}]
    assert await home.findings() == []


async def test_the_activity_of_a_thread_whose_last_reply_goes(home: Home):
    """[DELETED2] The activity before a deleted reply is the newest other reply or medium, or the thread itself."""
    thread_id = await home.post("thread")
    activity = [(await home.threads())["threads"][0]]
    medium = await photo(home.ann, thread_id)
    activity.append((await home.threads())["threads"][0])
    one, two = [await home.post("reply", thread_id) for _ in range(2)]

    assert (await home.delete("reply", one)).status_code == 204
    between = (await home.threads())["threads"][0]
    assert (await home.delete("reply", two)).status_code == 204
    after_medium = (await home.threads())["threads"][0]

    names = ("last_seq", "last_activity_at", "last_author_id", "last_encrypted_body", "reply_count")
    assert between["last_seq"] > activity[1]["last_seq"]
    assert [after_medium[name] for name in names] == [activity[1][name] for name in names]
    assert (await home.ann.ask("DELETE", f"/api/media/{medium}")).status_code == 204
    alone = await home.post("thread")
    opened = next(each for each in (await home.threads())["threads"] if each["thread_id"] == alone)
    only = await home.post("reply", alone)
    assert (await home.delete("reply", only)).status_code == 204
    assert next(each for each in (await home.threads())["threads"] if each["thread_id"] == alone) == opened
    assert await home.findings() == []


async def test_a_deleted_thread(api: Api, home: Home):
    """[DELETED3] A thread is deleted with all members' replies, annotations and media, and the quota is released."""
    kept, gone = await home.post("thread"), await home.post("thread")
    for thread_id in (kept, gone):
        target = await reply(home.dan, thread_id)
        await annotate(home.ann, thread_id, target)
        await annotate(home.ann, thread_id, await photo(home.dan, thread_id))
    medium = await photo(home.ann, gone, b"much" * 1000)
    assert (await home.dan.ask("POST", f"/api/media/{medium}/downloaded")).status_code == 204
    begun = str(uuid.uuid4())
    assert (await send_chunk(home.dan, gone, begun, 0, 2, b"half")).status_code == 200
    folders = await api.node.store.thread_folders(gone)

    assert (await home.delete("thread", gone)).status_code == 204

    page = await home.threads()
    assert ([each["thread_id"] for each in page["threads"]], page["total_count"]) == ([kept], 1)
    missing = [
        await home.ann.get(f"/api/threads/{gone}"),
        await home.ann.get(f"/api/threads/{gone}/replies"),
        await home.ann.get(f"/api/threads/{gone}/annotations"),
        await home.ann.get(f"/api/threads/{gone}/media"),
        await home.ann.get(f"/api/media/{medium}/info"),
        await home.ann.get(f"/api/media/{medium}/download"),
        await home.ann.post("/api/media/upload/complete", {"media_id": begun}),
        await home.dan.post(f"/api/threads/{gone}/replies", {"encrypted_body": opaque()}),
        await home.dan.post(f"/api/threads/{gone}/annotations", {"target_id": gone, "encrypted_body": opaque()}),
        await send_chunk(home.dan, gone, begun, 1, 2, b"half"),
    ]
    assert [each.status_code for each in missing] == [404] * len(missing)
    quota = (await home.ann.get(f"/api/groups/{home.group_id}/quota")).json()
    assert (quota["total_bytes"], quota["media_count"]) == (len(b"photo"), 1)
    assert len(folders) == 3
    left = {name.split("/")[0] async for name in _stored(api)}
    assert left.isdisjoint(folders)
    assert len(left) == 1
    assert await home.deletions() == [{"target_id": gone, "kind": "thread", "by": home.bob.id}]
    assert await home.findings() == []


async def _stored(api: Api) -> Any:
    async for each in api.node.media.blobs.listing():
        yield each.name


async def test_the_log_keeps_what_was_deleted_until_its_retention(api: Api, home: Home):
    """[DELETED4] The log keeps the frame of deleted content, chained, and forgets it and its deletion as any event."""
    targets = {kind: await home.post(kind) for kind in KINDS}
    before = await home.log()
    for kind, target_id in targets.items():
        assert (await home.delete(kind, target_id)).status_code == 204
    log = await home.log()
    assert log[: len(before)] == before
    assert [each["type"] for each in log[len(before) :]] == ["deleted"] * 3
    assert await api.node.store.deleted_among(list(targets.values())) == set(targets.values())

    while await api.node.store.prune(before_ms=log[-1]["server_timestamp"] + 1, limit=2):
        assert await home.findings() == []

    assert await api.node.store.deleted_among(list(targets.values())) == set()
    assert [(await home.delete(kind, each)).status_code for kind, each in targets.items()] == [404] * 3
    assert await home.findings() == []


# Chapter: who may, and what is refused


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_delete(api: Api, home: Home, kind: str):
    """[DELETED5] The author, the founder and the group's administrators delete content; for anyone else it is 403."""
    eve = api.user()
    await eve.make_group()
    kept = await home.post(kind)
    refused = [await home.delete(kind, kept, who) for who in (home.dan, eve)]

    allowed = [await home.delete(kind, await home.post(kind), who) for who in (home.bob, home.ann, home.cid)]

    assert [(each.status_code, each.json()["error"]) for each in refused] == [(403, "FORBIDDEN")] * 2
    assert "Only the author" in refused[0].json()["message"]
    assert "not a member" in refused[1].json()["message"]
    assert [each.status_code for each in allowed] == [204] * 3
    assert [each["by"] for each in await home.deletions()] == [home.bob.id, home.ann.id, home.cid.id]
    assert (await home.bob.ask("DELETE", f"/api/groups/{home.group_id}/members/{home.bob.id}")).status_code == 204
    assert (await home.delete(kind, kept)).status_code == 403
    assert await home.findings() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_does_not_exist(home: Home, kind: str):
    """[DELETED6] An unknown id, the id of content of another kind and what is no UUID are 404, and emit nothing."""
    others = [await home.post(each) for each in KINDS if each != kind]
    other = next(each for each in KINDS if each != kind)
    gone = await home.post(other)
    assert (await home.delete(other, gone)).status_code == 204
    emitted = len(await home.deletions())
    # A message's id holds a moment: one at which nothing was said, the moment of another message, and none at all.
    stamp = (await home.log())[-2]["server_timestamp"]
    timed = [f"{at:012x}" for at in (0, stamp, 2**48 - 1)]
    ids = [*others, gone, str(uuid.uuid4()), *(f"{at[:8]}-{at[8:]}-7abc-8abc-{'1' * 12}" for at in timed), "no id"]

    answers = [await home.delete(kind, each) for each in ids]

    assert [(each.status_code, each.json()["error"]) for each in answers] == [(404, "NOT_FOUND")] * len(ids)
    assert len(await home.deletions()) == emitted


# Chapter: again, and at once


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_request_again(home: Home, kind: str):
    """[DELETED7] A deletion that is repeated, by anyone in the group, is 204 and emits nothing; a key is ignored."""
    target_id = await home.post(kind)
    headers = {"Idempotency-Key": "the same"}

    answers = [await home.delete(kind, target_id, who, headers=headers) for who in (home.bob, home.bob, home.cid)]

    assert [each.status_code for each in answers] == [204] * 3
    assert await home.deletions() == [{"target_id": target_id, "kind": kind, "by": home.bob.id}]


@pytest.mark.parametrize("kind", KINDS)
async def test_deletions_at_once(home: Home, kind: str):
    """[DELETED8] Of deletions of one thing at once each is 204, and one event is emitted."""
    target_id = await home.post(kind)

    answers = await asyncio.gather(
        *(home.delete(kind, target_id, who) for who in (home.ann, home.bob, home.cid) for _ in range(3))
    )

    assert [each.status_code for each in answers] == [204] * 9
    assert len(await home.deletions()) == 1
    assert await home.findings() == []


async def test_replies_that_are_posted_while_their_thread_is_deleted(home: Home):
    """[DELETED9] A reply beside the deletion of its thread is stored before it or 404; nothing of it is left."""
    statuses: set[int] = set()
    for _ in range(8):
        thread_id = await home.post("thread")
        await reply(home.dan, thread_id)
        posts = [
            home.dan.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}),
            home.ann.post(f"/api/threads/{thread_id}/annotations", {"target_id": thread_id, "encrypted_body": "QQ=="}),
            home.delete("thread", thread_id),
            home.dan.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}),
            home.ann.post(f"/api/threads/{thread_id}/annotations", {"target_id": thread_id, "encrypted_body": "QQ=="}),
            home.dan.say(home.group_id),
        ]
        answers = await asyncio.gather(*posts)
        assert answers[2].status_code == 204
        assert answers[-1].status_code == 200
        statuses |= {each.status_code for each in (*answers[:2], *answers[3:5])}
        events = await home.log()
        gone = next(
            index
            for index, each in enumerate(events)
            if each["data"].get("target_id") == thread_id and each["type"] == "deleted"
        )
        assert all(each["data"].get("thread_id") != thread_id for each in events[gone:])

    assert statuses <= {201, 404}
    assert (await home.threads())["total_count"] == 0
    assert await home.findings() == []


async def test_a_retried_post_of_what_was_deleted(home: Home):
    """[DELETED10] A post that is retried under its key after its deletion gets the first answer, and stores nothing."""
    first = await home.bob.say(home.group_id, "QQ==", key="say")
    thread = await home.post("thread")
    where, body = f"/api/threads/{thread}/replies", {"encrypted_body": "QQ=="}
    answered = await home.bob.post(where, body, key="answer")
    assert (await home.delete("message", first.json()["message_id"])).status_code == 204
    assert (await home.delete("thread", thread)).status_code == 204
    count = len(await home.log())

    again = [await home.bob.say(home.group_id, "QQ==", key="say"), await home.bob.post(where, body, key="answer")]

    assert [each.json() for each in again] == [first.json(), answered.json()]
    assert len(await home.log()) == count


# Chapter: faults


class _Later(SystemClock):
    """A clock that is an hour ahead."""

    def wall_ms(self) -> int:
        """Return the wall clock."""
        return super().wall_ms() + 3_600_000


async def test_bytes_that_cannot_be_deleted_now(api: Api, home: Home, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    """[DELETED11] A thread is deleted although its media's storage fails; the clean-up deletes the bytes later."""
    thread_id = await home.post("thread")
    await photo(home.dan, thread_id)
    room = api.node.media

    async def fails(_self: object, _folder: str) -> None:
        raise Unavailable("the storage is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(type(room.blobs), "delete_folder", fails)
        answer = await home.delete("thread", thread_id)
    left = [name async for name in _stored(api)]
    # As after the next start: what was stored before it, and has no row, belongs to no upload.
    later = msgspec.structs.replace(room, alone=True, started_ms=room.clock.wall_ms() + 60_000, clock=_Later())
    found = await collect(later, sweep=True)

    assert answer.status_code == 204
    assert "the storage is unreachable" in json.dumps([each.__dict__.get("reason") for each in caplog.records])
    assert len(left) == 1
    assert found.swept == 1
    assert [name async for name in _stored(api)] == []


async def test_check_finds_half_a_deletion(api: Api, home: Home):
    """[DELETED12] `orbital check` finds deletions whose note is missing or whose content is there, and false notes."""
    targets = {kind: await home.post(kind) for kind in KINDS}
    for kind, target_id in targets.items():
        assert (await home.delete(kind, target_id)).status_code == 204
    thread_id = await home.post("thread")
    clean = await home.findings()

    def damage(conn: Any) -> None:
        gone = t.deleted_content.c
        conn.execute(delete(t.deleted_content).where(gone.target_id == targets["thread"]))
        note = {"target_id": thread_id, "kind": "thread", "seq": 10**6}
        group = conn.execute(select(t.groups.c.id).where(t.groups.c.group_id == home.group_id)).scalar_one()
        conn.execute(insert(t.deleted_content).values(group=group, **note))
        conn.execute(update(t.events).where(t.events.c.message == 0, t.events.c.group == group).values(message=1))
        thread = conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == thread_id)).scalar_one()
        texts = {"author": 1, "author_username": "x", "encrypted_body": "QQ==", "created_ms": 1}
        conn.execute(insert(t.replies).values(reply_id=targets["reply"], thread=thread, seq=1, **texts))

    await api.node.store._write(damage)
    found = "\n".join(await home.findings())

    assert clean == []
    assert f"the thread {targets['thread']} is missing or differs" in found
    assert f"the note that the thread {targets['thread']} was deleted is missing or differs" in found
    assert f"the reply {targets['reply']} was deleted, and is still there" in found
    assert f"the message {targets['message']} was deleted, and is still there" in found
    assert f"{thread_id} was deleted with number 1000000, which is not a deletion in the log" in found


async def test_accounts_and_groups_that_end_after_a_deletion(api: Api, home: Home):
    """[DELETED13] An author is erased and a group deleted as ever after deletions in it."""
    for kind in KINDS:
        assert (await home.delete(kind, await home.post(kind), home.ann)).status_code == 204
    await home.post("reply")
    (bob,) = await api.node.store.users(named=home.bob.id)
    await api.node.store.request_erasure(bob.key, at_ms=0)
    await api.node.erase()
    await api.node.store.erase_content(before_ms=api.node.clock.wall_ms() + 1000)
    erased = [each for each in await home.findings() if "the reply" not in each]
    (group,) = await api.node.store.groups(group_id=home.group_id)

    await api.node.store.request_deletion(group.key, at_ms=0)
    await api.node.erase()

    assert erased == []
    assert await api.node.store.groups(group_id=home.group_id) == []


# Chapter: what it costs


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy runs while the test does."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    listen(Engine, "before_cursor_execute", note)
    yield seen
    remove(Engine, "before_cursor_execute", note)


async def test_a_deletion_of_a_message_reads_one_frame(api: Api, home: Home, statements: list[str]):
    """[DELETED14] A message is found by an index, however long the log is: the statements are as many, and indexed."""

    def reads() -> list[str]:
        # The server's periodic tasks run beside it.
        return [each for each in statements if "events.frame" in each and each.startswith("SELECT")]

    first = await home.post("message")
    statements.clear()
    await home.delete("message", first)
    few = reads()
    gone = [await home.post("message") for _ in range(60)][30]
    statements.clear()

    await home.delete("message", gone)

    assert reads() == few
    if isinstance(api.node.settings.database, SqliteFile):
        plans = await api.node.store._read(
            lambda conn: [
                str(row)
                for each in set(few)
                for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + each, (1,) * each.count("?"))
            ]
        )
        found = [each for each in plans if "events" in each]
        indexed = "SEARCH events USING INDEX messages_by_stamp (group=? AND stamp_ms=?)"
        assert found, plans
        assert all(indexed in each for each in found), plans


async def test_a_deletion_from_outside(api: Api, home: Home, statements: list[str]):
    """[DELETED26] A user outside the group of a message is refused in as many statements, however many groups exist."""
    stranger, counts = api.user(), []
    assert (await stranger.make_group())["group_id"]
    for more in (0, 20):
        for _ in range(more):
            group = await home.dan.make_group()
            assert (await home.dan.say(group["group_id"])).status_code == 200
        message_id = await home.post("message")
        statements.clear()

        assert (await home.delete("message", message_id, stranger)).status_code == 403
        assert (await home.delete("message", str(uuid.uuid4()), stranger)).status_code == 404

        # The server's periodic tasks run beside it.
        counts.append(len([each for each in statements if "events" in each and each.startswith("SELECT")]))

    assert counts[0] == counts[1] > 0


async def test_a_database_that_fails_in_the_middle(home: Home, monkeypatch: pytest.MonkeyPatch):
    """[DELETED15] A deletion that the database fails to commit changes nothing, and succeeds when it is repeated."""
    thread_id = await home.post("thread")
    await reply(home.dan, thread_id)
    before = await home.threads()

    def fails(conn: Any, draft: Any, group: Any, *, seq: int) -> None:
        real(conn, draft, group, seq=seq)
        raise OSError("no space left on device")

    real = rows.delete_content
    with monkeypatch.context() as patch:
        patch.setattr(rows, "delete_content", fails)
        failed = await home.delete("thread", thread_id)

    assert failed.status_code in {500, 503}
    assert await home.threads() == before
    assert await home.deletions() == []
    assert await home.findings() == []
    assert (await home.delete("thread", thread_id)).status_code == 204
    assert await home.findings() == []
