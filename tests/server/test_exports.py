"""The export of an account over HTTP."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, get_args

import httpx
import pytest
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.event import listen, remove

from orbital_relay.api.exports import ExportKind
from orbital_relay.config.database import SqliteFile
from orbital_relay.errors import Unavailable
from orbital_relay.model import Principal, UserId
from orbital_relay.server.http import build_app
from orbital_relay.server.limits.memory import EXPORT_BYTES
from orbital_relay.server.limits.policy import EXPORT_LIMIT, HOUR_S
from orbital_relay.services.exports import Export
from orbital_relay.store import exports as rows
from orbital_relay.store import tables as t
from tests.server.api import EACH_DATABASE, Api, User, opaque, send_chunk
from tests.server.test_own_account import PASSWORD, log_in, sign_up
from tests.support.devices import keys_body
from tests.support.push import Device

pytestmark = EACH_DATABASE

PATH = "/api/account/export"
_SOME = {"encrypted_body": "QQ=="}


async def export(user: User) -> list[Any]:
    """Export, and return the lines."""
    answer = await user.get(PATH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def of(lines: list[Any], kind: str) -> list[Any]:
    """Return the data of the lines of a type."""
    return [line["data"] for line in lines if line["type"] == kind]


async def principal(user: User) -> Principal:
    """Return who the user is to the server."""
    (row,) = await user.api.node.store.users(named=user.id)
    return Principal(row.key, UserId(user.id), user.username, 0)


async def post(user: User, path: str, body: Any, name: str) -> str:
    """Post something, and return its id."""
    answer = await user.post(path, body)
    assert answer.is_success, answer.text
    return str(answer.json()[name])


class Family:
    """Ada's group with Ben, and in it some of everything; two of all that an export must not have."""

    def __init__(self, ada: User, ben: User) -> None:
        self.ada, self.ben = ada, ben
        self.group: Any = None
        self.threads: list[str] = []
        self.gone: list[str] = []

    async def fill(self) -> Family:
        """Make it."""
        self.group = await self.ada.make_group()
        assert (await self.ben.join(self.group)).status_code == 200
        group_id = self.group["group_id"]
        for author in (self.ada, self.ben, self.ada):
            thread_id = (await author.open_thread(group_id))["thread_id"]
            self.threads.append(thread_id)
            for writer in (self.ben, self.ada):
                reply = await post(
                    writer, f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}, "reply_id"
                )
            note = {"target_id": reply, "encrypted_body": opaque()}
            await post(self.ben, f"/api/threads/{thread_id}/annotations", note, "annotation_id")
            media_id = str(uuid.uuid4())
            assert (await send_chunk(self.ben, thread_id, media_id, 0, 1, b"photo")).status_code == 201
            self.gone.append(str((await self.ben.say(group_id)).json()["message_id"]))
        # Of each kind one is deleted, and a medium.
        assert (await self.ada.ask("DELETE", f"/v1/messages/{self.gone[1]}")).status_code == 204
        assert (await self.ada.ask("DELETE", f"/api/threads/{self.threads[1]}")).status_code == 204
        replies = (await self.ada.get(f"/api/threads/{self.threads[0]}/replies")).json()["replies"]
        assert (await self.ada.ask("DELETE", f"/api/replies/{replies[0]['reply_id']}")).status_code == 204
        assert (await self.ada.ask("DELETE", f"/api/media/{media_id}")).status_code == 204
        state = await self.ada.ask("PUT", f"/api/groups/{group_id}/state", json={"encrypted_state": "c2VlbiA5"})
        assert state.status_code == 200
        return self

    async def listed(self) -> dict[str, list[Any]]:
        """Return what the lists of the API have of the group, for Ada."""
        group_id = self.group["group_id"]
        threads = (await self.ada.get(f"/api/groups/{group_id}/threads", sort="created_asc")).json()["threads"]
        found: dict[str, list[Any]] = {"thread": threads, "reply": [], "annotation": []}
        for thread in threads:
            where = f"/api/threads/{thread['thread_id']}"
            found["reply"] += (await self.ada.get(f"{where}/replies")).json()["replies"]
            found["annotation"] += (await self.ada.get(f"{where}/annotations")).json()["annotations"]
        members = (await self.ada.get(f"/api/groups/{group_id}/members")).json()["members"]
        found["member"] = [{**each, "group_id": group_id} for each in members]
        log = (await self.ada.get("/v1/events", group_id=group_id, limit=1000)).json()["events"]
        found["event"] = [
            each
            for each in log
            if each["type"] == "member_joined"
            or (each["type"] == "new_message" and each["data"]["message_id"] != self.gone[1])
        ]
        return found


async def test_everything_that_one_reads(api: Api):
    """[EXPORT1] The export is the account and each group, part by part, exactly as the lists of the API have them."""
    ada, ben = await sign_up(api), await sign_up(api, "ben")
    assert (await ada.ask("PUT", "/v1/keys", json=keys_body())).is_success
    family = await Family(ada, ben).fill()

    lines = await export(ada)

    listed, group_id = await family.listed(), family.group["group_id"]
    assert {kind: of(lines, kind) for kind in listed} == listed
    kinds = [line["type"] for line in lines]
    assert kinds == sorted(kinds, key=list(_order()).index), "the parts are in their order"
    (account,) = of(lines, "account")
    assert account.pop("created_at").endswith("Z")
    assert account == {**(await ada.get("/api/account")).json(), "public_key": {}}
    assert of(lines, "session") == (await ada.get("/api/sessions")).json()["sessions"]
    assert [each["device_id"] for each in of(lines, "device")] == [1]
    assert of(lines, "state") == [(await ada.get(f"/api/groups/{group_id}/state")).json()]
    (group,) = of(lines, "group")
    (shown,) = (await ada.get("/api/groups")).json()["groups"]
    same = ("group_id", "encrypted_name", "encrypted_group_key", "role", "joined_at", "last_seq")
    assert {name: group[name] for name in same} == {name: shown[name] for name in same}
    media = of(lines, "medium")
    assert [each["thread_id"] for each in media] == [family.threads[0], family.threads[2]]
    (medium,) = (await ada.get(f"/api/threads/{family.threads[0]}/media")).json()["media"]
    assert {name: media[0][name] for name in medium} == medium
    assert media[0]["download_path"] == f"/api/media/{media[0]['media_id']}/download"
    assert (await ada.get(media[0]["download_path"])).content == b"photo"
    assert media[1]["download_path"] is None
    counts = {kind: kinds.count(kind) for kind in kinds if kind != "end"}
    assert lines[-1] == {"type": "end", "data": {"counts": counts, "left_group_ids": []}}


def _order() -> tuple[str, ...]:
    """Return the kinds of lines in their order."""
    found: list[str] = []
    for each in get_args(ExportKind):
        found += get_args(each) or (each,)
    return tuple(found)


async def test_the_file(api: Api):
    """[EXPORT2] A browser saves the export under a name with its date; a HEAD has the same headers and no body."""
    ada = await sign_up(api)

    got, head = await ada.get(PATH), await ada.ask("HEAD", PATH)

    day = got.headers["content-disposition"].removeprefix('attachment; filename="orbital-').removesuffix('.ndjson"')
    begin = json.loads(got.text.splitlines()[0])
    assert begin["type"] == "begin"
    assert (begin["data"]["format"], begin["data"]["user_id"]) == (1, ada.id)
    assert begin["data"]["exported_at"].startswith(day)
    assert got.headers["cache-control"] == "no-store"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-disposition"] == got.headers["content-disposition"]


async def test_nothing_of_others(api: Api):
    """[EXPORT3] Nothing of a group that the caller is not in or has left, and nothing of a member's own."""
    ada, ben, eve = await sign_up(api), await sign_up(api, "ben"), await sign_up(api, "eve")
    family = await Family(ada, ben).fill()
    group_id = family.group["group_id"]
    assert (await ben.ask("PUT", f"/api/groups/{group_id}/state", json={"encrypted_state": "YmVucw=="})).is_success
    other = await Family(ben, eve).fill()
    member = await export(eve)
    assert (await ben.ask("DELETE", f"/api/groups/{other.group['group_id']}/members/{eve.id}")).status_code == 204

    mine, left = await export(ada), await export(eve)

    assert other.group["group_id"] in json.dumps(member)
    for text in (other.group["group_id"], *other.threads, "YmVucw=="):
        assert text not in json.dumps(mine)
    assert {line["type"] for line in left} == {"begin", "account", "session", "end"}


async def test_no_secret(api: Api):
    """[EXPORT4] No token, password hash, invite code, or address or key of a push subscription is in an export."""
    ada, phone = await sign_up(api), Device()
    later = await log_in(api, device_name="Phone")
    family = await Family(ada, await sign_up(api, "ben")).fill()
    endpoint = "https://push.example.org/m/c2VjcmV0"
    mute = {"groups": [], "threads": [family.threads[0]], "quiet": None}
    stored = await ada.ask(
        "PUT", "/api/push/subscriptions", json={"endpoint": endpoint, "keys": phone.keys, "mute": mute}
    )
    assert stored.status_code == 200, stored.text
    account = await api.node.store.find_user(UserId(ada.id))
    assert account is not None

    lines = await export(ada)

    (subscription,) = of(lines, "push_subscription")
    assert subscription.pop("stored_at").endswith("Z")
    assert subscription == {
        "subscription_id": stored.json()["subscription_id"],
        "service": "https://push.example.org",
        "device_id": None,
        "mute": mute,
    }
    text = json.dumps(lines)
    secrets = (ada.token, later.token, account.password_hash, PASSWORD, family.group["invite_code"], endpoint)
    for secret in (*secrets, *phone.keys.values()):
        assert secret is not None
        assert secret not in text


async def test_pages(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[EXPORT5] Over pages of one, two or three entries each one is exported once, also while others are deleted."""
    ada = await sign_up(api)
    family = await Family(ada, await sign_up(api, "ben")).fill()
    whole = [line for line in await export(ada) if line["type"] != "begin"]

    for most in (1, 2, 3):
        monkeypatch.setattr(rows, "MOST", most)
        pages = [page async for page in Export(api.node.context.services, await principal(ada)).pages()]
        found = [json.loads(line) for page in pages for line in page.splitlines()]
        assert [each for each in found if each["type"] not in {"begin", "session"}] == [
            each for each in whole if each["type"] != "session"
        ]
    # A page that is full in bytes has one entry at least.
    monkeypatch.setattr(rows, "EXPORT_PAGE_BYTES", 1)
    monkeypatch.setattr(rows, "MOST", 500)
    assert of(await export(ada), "reply") == of(whole, "reply")

    monkeypatch.setattr(rows, "MOST", 1)
    kept = (await family.listed())["reply"]
    read: list[Any] = []
    async for page in Export(api.node.context.services, await principal(ada)).pages():
        read += [json.loads(line) for line in page.splitlines()]
        if len(of(read, "reply")) == 2:
            # What was read already goes: by offsets, the next one would be missing.
            for done in kept[:2]:
                assert (await ada.ask("DELETE", f"/api/replies/{done['reply_id']}")).status_code == 204

    assert [each["reply_id"] for each in of(read, "reply")] == [each["reply_id"] for each in kept]


async def test_a_member_who_is_removed_meanwhile(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[EXPORT6] Who is removed during an export gets nothing of the group after it; the last line names the group."""
    monkeypatch.setattr(rows, "MOST", 1)
    ada, ben = await sign_up(api), await sign_up(api, "ben")
    family = await Family(ada, ben).fill()
    group_id, other = family.group["group_id"], await ben.make_group()
    lines: list[Any] = []
    removed = False

    async for page in Export(api.node.context.services, await principal(ben)).pages():
        lines += [json.loads(line) for line in page.splitlines()]
        if not removed and of(lines, "thread"):
            path = f"/api/groups/{group_id}/members/{ben.id}"
            removed = (await ada.ask("DELETE", path)).status_code == 204

    assert removed
    kinds = [line["type"] for line in lines]
    assert kinds.count("thread") == 1
    assert not set(kinds[kinds.index("thread") + 1 : kinds.index("group", kinds.index("thread"))])
    assert [each["group_id"] for each in of(lines, "group")] == [group_id, other["group_id"]]
    assert lines[-1]["data"]["left_group_ids"] == [group_id]


async def _many(api: Api, ada: User, replies: int, text: str) -> None:
    """Fill two threads with replies, as rows."""
    group_id = (await ada.make_group())["group_id"]
    threads = [(await ada.open_thread(group_id))["thread_id"] for _ in range(2)]

    def fill(conn: Connection) -> None:
        me = conn.execute(select(t.users.c.id).where(t.users.c.user_id == ada.id)).scalar_one()
        seq = count(100)
        for thread_id in threads:
            thread = conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == thread_id)).scalar_one()
            one = {"thread": thread, "author": me, "author_username": "ada", "encrypted_body": text, "created_ms": 1}
            for _ in range(replies // 2 // 500):
                batch = [{"reply_id": str(uuid.uuid4()), "seq": next(seq), **one} for _ in range(500)]
                conn.execute(insert(t.replies), batch)
        conn.execute(update(t.groups).where(t.groups.c.group_id == group_id).values(last_seq=next(seq)))

    await api.node.store._write(fill)


async def test_bounded_memory(api: Api):
    """[EXPORT7] An export of 32 MB takes less memory than its share, and no more pages than its bytes fill."""
    ada = await sign_up(api)
    await _many(api, ada, 8_000, "QUFB" * 1024)
    tracemalloc.start()
    try:
        who = await principal(ada)
        before = tracemalloc.get_traced_memory()[0]
        sizes = [len(page) async for page in Export(api.node.context.services, who).pages()]
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert sum(sizes) > 32_000_000
    assert max(sizes) < rows.EXPORT_PAGE_BYTES + 64 * 1024
    assert peak < EXPORT_BYTES
    assert len(sizes) < 60


async def test_pages_are_read_by_indexes(api: Api):
    """[EXPORT8] No page sorts or reads what is on other pages: an export takes time in proportion to its size."""
    ada = await sign_up(api)
    await Family(ada, await sign_up(api, "ben")).fill()
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    listen(Engine, "before_cursor_execute", note)
    try:
        await export(ada)
    finally:
        remove(Engine, "before_cursor_execute", note)
    keys = {each for each in seen if each.startswith("SELECT") and "LIMIT" in each and "length(" in each}
    assert len(keys) >= 7
    if not isinstance(api.node.settings.database, SqliteFile):
        return  # The plans of PostgreSQL depend on how much is stored.
    plans = await api.node.store._read(
        lambda conn: {
            each: [str(row) for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + each, (1,) * each.count("?"))]
            for each in keys
        }
    )

    # A group has a bounded number of members and of media.
    few = ("FROM users JOIN members", "FROM media")
    for statement, plan in plans.items():
        bounded = any(each in statement.replace("\n", "") for each in few)
        assert bounded or not any("TEMP B-TREE" in step or "'SCAN" in step for step in plan), (statement, plan)


class Wire:
    """A request at the application, without a client that hides how its answer ends."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.sent: list[Any] = []

    async def get(self) -> bytes:
        """Ask; return the body as far as it came."""
        authorization = (b"authorization", self.user.headers["Authorization"].encode())
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": PATH, "query_string": b""}
        scope |= {"headers": [authorization], "client": ("192.0.2.7", 1), "http_version": "1.1", "scheme": "http"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await build_app(self.user.api.node.context)(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]  # a client that waits
        return b"".join(each.get("body", b"") for each in self.sent)


async def test_a_database_that_fails_meanwhile(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[EXPORT9] When the database fails in the middle, the response ends short and the line `end` is missing."""
    ada = await sign_up(api)
    await Family(ada, await sign_up(api, "ben")).fill()

    async def fails(*_args: object, **_more: object) -> None:
        raise Unavailable("The database cannot be used right now.")

    with monkeypatch.context() as patch:
        patch.setattr(api.node.store, "export_page", fails, raising=False)
        wire = Wire(ada)
        body = await wire.get()
    whole = Wire(ada)

    assert [json.loads(line)["type"] for line in body.splitlines()][-2:] == ["group", "state"]
    assert wire.sent[0]["status"] == 200
    assert wire.sent[-1]["more_body"]
    assert json.loads((await whole.get()).splitlines()[-1])["type"] == "end"
    assert not whole.sent[-1].get("more_body")


async def test_the_limit(api: Api):
    """[EXPORT10] After five exports in an hour the next is 429 with `Retry-After`; another user's is not."""
    ada, ben = await sign_up(api), await sign_up(api, "ben")
    for _ in range(EXPORT_LIMIT):
        await export(ada)

    refused: httpx.Response = await ada.get(PATH)

    assert (refused.status_code, refused.json()["error"]) == (429, "TOO_MANY_REQUESTS")
    assert HOUR_S - 60 <= int(refused.headers["retry-after"]) <= HOUR_S
    await export(ben)


async def test_without_an_account(api: Api):
    """[EXPORT11] A user of another service exports too; an erased account, and no token, are refused."""
    eve, ada = api.user(), await sign_up(api)
    assert [line["type"] for line in await export(eve)] == ["begin", "account", "end"]
    stopped: AsyncIterator[bytes] = Export(
        api.node.context.services, Principal(10**9, UserId(ada.id), "ada", 0)
    ).pages()

    with pytest.raises(Exception, match="no account"):
        await anext(stopped)
    assert (await api.ask("GET", PATH)).status_code == 401
