"""The largest response of every route: bounded in bytes, complete over its pages, and never fatal to the server."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select, update

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.services.forms import new_id
from orbital_relay.store import tables as t
from orbital_relay.store.paging import PAGE_BYTES
from tests.server.api import Api, User, opaque, opened
from tests.support.client import Person
from tests.support.process import until
from tests.support.server import Server

ENVELOPE = 256 * 1024
TEXT = "A" * (ENVELOPE // 3 * 4)
KEY = json.dumps({"k": "x" * (16 * 1024 - 20)})
# One entry fits on a page whatever its size; no listed entry is larger than a thread.
WORST_BYTES = PAGE_BYTES + 3 * ENVELOPE


class Crowd:
    """One user with as much of everything as the protocol allows, and more than fits a page of any list."""

    def __init__(self, api: Api, ann: User) -> None:
        self.api, self.ann = api, ann
        self.group_id = self.thread_id = self.media_id = ""

    async def fill(self) -> None:
        """Make one group, thread and medium over HTTP, and the rest as rows: they are what HTTP makes."""
        group = await self.ann.make_group()
        self.group_id = group["group_id"]
        self.thread_id = (await self.ann.open_thread(self.group_id))["thread_id"]
        for _ in range(26):
            body = {"conversation_id": self.group_id, "encrypted_envelope": TEXT, "timestamp": 1}
            assert (await self.ann.post("/v1/messages", body)).status_code == 200
            keys = {"group_id": self.group_id, "encrypted_envelope": TEXT}
            assert (await self.ann.post("/v1/key-messages", keys)).status_code == 200
        await self.api.node.store._write(self._rows)

    def _rows(self, conn: Connection) -> None:
        me = conn.execute(select(t.users.c.id).where(t.users.c.user_id == self.ann.id)).scalar_one()
        # The server's lists are shown to its administrators.
        conn.execute(update(t.users).where(t.users.c.id == me).values(admin_ms=1))
        group = conn.execute(select(t.groups.c.id).where(t.groups.c.group_id == self.group_id)).scalar_one()
        thread = conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == self.thread_id)).scalar_one()
        people = [
            {"user_id": f"p-{n}", "username": "\x01" * 200, "public_key": KEY, "created_ms": 1} for n in range(600)
        ]
        conn.execute(insert(t.users), people)
        ids = conn.execute(select(t.users.c.id).where(t.users.c.user_id.like("p-%"))).scalars().all()
        joined = {"encrypted_group_key": "QQ==", "joined_ms": 1}
        conn.execute(
            insert(t.members),
            [{"group": group, "user": user, "joined_seq": 100 + n, **joined} for n, user in enumerate(ids)],
        )
        device = {"suites": 3, "registration_id": 1, "seen_ms": 1}
        owned = [*((me, n) for n in range(1, 128)), *((user, 1) for user in ids)]
        conn.execute(
            insert(t.devices),
            [
                {"user": user, "device_id": n, "identity_key": b"\x05" + place.to_bytes(32), **device}
                for place, (user, n) in enumerate(owned)
            ],
        )
        record = {"group": group, "author": me, "record": "A" * (4 * 1024 // 3 * 4), "created_ms": 1}
        conn.execute(
            insert(t.records),
            [{"record_id": new_id(), "seq": 4000 + n, **record} for n in range(600)],
        )
        # Groups from before names were bounded: a name could be as large as an envelope.
        head = {"invite_expires_ms": 1, "created_ms": 1, "last_seq": 0, "last_stamp_ms": 0, "last_hash": ""}
        names = [new_id() for _ in range(40)]
        conn.execute(
            insert(t.groups),
            [
                {"group_id": name, "creator": me, "encrypted_name": TEXT, "invite_code": f"C{n}", **head}
                for n, name in enumerate(names)
            ],
        )
        old = conn.execute(select(t.groups.c.id).where(t.groups.c.group_id.in_(names))).scalars().all()
        conn.execute(
            insert(t.members),
            [{"group": each, "user": me, "encrypted_group_key": TEXT, "joined_ms": 2, "joined_seq": 1} for each in old],
        )
        texts = {"author": me, "author_username": "ann", "encrypted_body": TEXT, "created_ms": 1}
        conn.execute(
            insert(t.threads),
            [
                {"thread_id": new_id(), "group": group, "seq": 1000 + n, "encrypted_title": TEXT, **texts}
                for n in range(20)
            ],
        )
        conn.execute(
            insert(t.replies),
            [{"reply_id": new_id(), "thread": thread, "seq": 2000 + n, **texts} for n in range(40)],
        )
        conn.execute(
            insert(t.thread_annotations),
            [
                {"annotation_id": new_id(), "thread": thread, "target_id": "t", "seq": 5000 + n, **texts}
                for n in range(40)
            ],
        )
        medium = {
            "group": group,
            "thread": thread,
            "uploader": me,
            "state": "complete",
            "total_chunks": 1,
            "chunk_bytes": 1,
            "reserved_bytes": 1,
            "received_chunks": 1,
            "received_bytes": 1,
            "encrypted_metadata": TEXT,
            "encryption_iv": "QQ==",
            "touched_ms": 1,
            "uploaded_ms": 1,
            "expires_ms": 2**45,
            "has_bytes": 0,
        }
        conn.execute(
            insert(t.media),
            [{"media_id": new_id(), "folder": f"f{n}", "seq": 3000 + n, **medium} for n in range(60)],
        )
        self.media_id, number = conn.execute(select(t.media.c.media_id, t.media.c.id).limit(1)).one()
        conn.execute(insert(t.media_downloads), [{"media": number, "user": user, "at_ms": 1} for user in ids])
        conn.execute(
            update(t.threads).where(t.threads.c.id == thread).values(reply_count=40, media_count=60, active_seq=2039)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crowd]:
    """The crowd, made once."""
    async with opened(tmp_path_factory.mktemp("worst")) as api:
        made = Crowd(api, api.user("ann"))
        await made.fill()
        yield made


LISTS: dict[str, tuple[str, str, int]] = {
    "/api/groups": ("groups", "group_id", 41),
    "/api/groups/{group_id}/members": ("members", "user_id", 601),
    "/api/groups/{group_id}/threads": ("threads", "thread_id", 21),
    "/api/threads/{thread_id}/replies": ("replies", "reply_id", 40),
    "/api/threads/{thread_id}/media": ("media", "media_id", 60),
    "/api/groups/{group_id}/records": ("records", "record_id", 600),
    "/v1/keys/devices?group_id={group_id}": ("devices", "identity_key", 727),
}
"""Lists by `limit` and `offset`: where the entries stand, what names one, and how many there are."""
SMALL = {"/api/groups/{group_id}/members", "/v1/keys/devices?group_id={group_id}"}
"""Lists whose pages may end at the number of their entries."""

LOGS = (
    "/v1/events?group_id={group_id}&limit=1000",
    "/v1/messages?limit=500",
    "/v1/key-messages?group_id={group_id}&limit=100",
    "/api/threads/{thread_id}/annotations?limit=500",
)
ONES = (
    "/api/threads/{thread_id}",
    "/api/media/{media_id}/info",
    "/api/groups/{group_id}/quota",
    "/api/media/{media_id}/upload",
    "/api/groups/{group_id}/presence",
    "/api/groups/{group_id}/state",
    "/v1/keys/count",
    "/api/account",
    "/api/sessions",
    "/api/push/key",
    "/api/admin/users",
    "/api/admin/users/{user_id}",
    "/api/admin/groups",
    "/api/admin/groups/{group_id}",
    "/api/admin/invitations",
    "/api/admin/storage",
    "/api/admin/health",
)
# A download is a stream, measured with its non-readers, and so is an export (EXPORT7); a mailbox has one message of
# 64 KiB at most; the rest is the server's own and has no user's content.
OTHERS = {
    "/api/about",
    "/api/account/export",
    "/api/media/{media_id}/download",
    "/v1/provision/{mailbox}",
    "/health/live",
    "/health/ready",
    "/health/client",
    "/health/stream",
    "/metrics",
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
}
SOCKETS = {"/ws", "/v1/websocket"}


def test_every_route_is_measured():
    """[WORST1] Every route that answers a GET is measured here: a new list must be added."""
    measured = {path.partition("?")[0] for path in (*LISTS, *LOGS, *ONES, *OTHERS, *SOCKETS)}

    assert {each.path for each in ENDPOINTS if each.method == "GET"} - measured == set()


def _path(crowd: Crowd, path: str) -> str:
    ids = {"group_id": crowd.group_id, "thread_id": crowd.thread_id, "media_id": crowd.media_id}
    return path.format(**ids, user_id=crowd.ann.id)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", LISTS)
async def test_a_list_is_bounded_in_bytes_and_whole_over_its_pages(crowd: Crowd, path: str):
    """
    [WORST2] A page ends before 8 MiB with `has_more`, and all pages together contain each entry once.

    `GET /api/groups` answered 210 MB at once, threads 70 MB, replies 35 MB.
    """
    name, key, count = LISTS[path]
    found: list[str] = []
    while True:
        where = _path(crowd, path)
        answer = await crowd.ann.ask("GET", f"{where}{'&' if '?' in where else '?'}offset={len(found)}")
        page = answer.json()
        assert answer.status_code == 200
        assert len(answer.content) <= WORST_BYTES
        assert page[name]
        found += [entry[key] for entry in page[name]]
        if not page["has_more"]:
            break
        if path not in SMALL:
            assert len(answer.content) > PAGE_BYTES // 4, "a page ends early only when it is full"

    assert len(found) == len(set(found)) == count


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [*LOGS, *ONES])
async def test_a_response_is_bounded_in_bytes(crowd: Crowd, path: str):
    """[WORST3] Every other response ends before 8 MiB plus the maximum of one entry."""
    answer = (
        await crowd.ann.get(_path(crowd, path)) if "?" not in path else await crowd.ann.ask("GET", _path(crowd, path))
    )

    assert answer.status_code == 200, answer.text[:200]
    assert len(answer.content) <= WORST_BYTES


@pytest.mark.asyncio(loop_scope="module")
async def test_limits_of_a_list(crowd: Crowd):
    """[WORST4] A list's `limit` and `offset` out of range are 400 with the field; `limit` is respected."""
    for query, field in (({"limit": 0}, "limit"), ({"limit": 501}, "limit"), ({"offset": -1}, "offset")):
        refused = await crowd.ann.get("/api/groups", **query)
        assert (refused.status_code, refused.json()["details"]["field"]) == (400, field)

    page = (await crowd.ann.get("/api/groups", limit=2, offset=1)).json()

    assert (len(page["groups"]), page["has_more"]) == (2, True)


@pytest.mark.parametrize(
    ("field", "size", "path"),
    [
        ("encrypted_name", 4 * 1024, "/api/groups"),
        ("encrypted_group_key", 8 * 1024, "/api/groups"),
        ("encrypted_group_key", 8 * 1024, "/api/groups/join"),
    ],
)
async def test_names_and_keys_in_lists_are_bounded(api: Api, field: str, size: int, path: str):
    """[WORST5] A group's name may have 4 KiB and its key 8 KiB after decoding; one byte more is 413."""
    ann, bob = api.user(), api.user()
    group = await ann.make_group()
    body = {"encrypted_name": "QQ==", "encrypted_group_key": "QQ==", "invite_code": group["invite_code"]}

    large = await bob.post(path, {**body, field: opaque(size + 1)})
    fits = await bob.post(path, {**body, field: opaque(size)})

    assert (large.status_code, large.json()["details"]) == (413, {"field": field, "limit_bytes": size})
    assert fits.status_code in {200, 201}


# Chapter: clients that do not read

# The program, its libraries and its threads' stacks take some 700 MiB of addresses before the first request.
ADDRESSES = 1536 * 1024 * 1024
_LIMITED = (
    "import resource, runpy, sys;"
    f"resource.setrlimit(resource.RLIMIT_AS, ({ADDRESSES}, {ADDRESSES}));"
    "sys.argv[0] = 'orbital'; runpy.run_module('orbital_relay', run_name='__main__')"
)


def _ask_without_reading(server: Server, path: str, token: str) -> socket.socket:
    """Ask, and read nothing of the answer; the kernel's own buffer is small."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", server.port))
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return made


async def test_clients_that_do_not_read_do_not_end_the_server(tmp_path: Path, people: Callable[..., Any]):
    """
    [WORST6] In 1.5 GiB of address space, 120 requests for the largest pages, never read, abort each other.

    The server survives, uses no more memory than its setting plus what rendering needs, and a client that reads
    is served meanwhile. Without the bound thirty such requests took 3.9 GB.
    """
    server = Server(tmp_path, command=(sys.executable, "-c", _LIMITED, "serve")).start()
    ann: Person = await people(server.url)
    ben: Person = await people(server.url)
    group = (await ann.make_group()).id
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {ann.token}"}) as http:
        thread = None
        for _ in range(14):
            body = {"group_id": group, "encrypted_title": TEXT, "encrypted_body": TEXT}
            answer = await http.post("/api/threads", json=body)
            assert answer.status_code == 201
            thread = answer.json()["thread_id"]
        for _ in range(26):
            answer = await http.post(f"/api/threads/{thread}/replies", json={"encrypted_body": TEXT})
            assert answer.status_code == 201
        before = server.rss_bytes
        paths = [
            f"/api/groups/{group}/threads?limit=100",
            f"/api/threads/{thread}/replies?limit=100",
            f"/v1/events?group_id={group}&limit=1000",
        ]
        silent = [_ask_without_reading(server, paths[n % 3], ann.token) for n in range(120)]
        worst = before
        try:
            until(lambda: "an answer was cut" in "\n".join(server.log), what="a slow reader is cut", deadline_s=60)
            for _ in range(10):
                worst = max(worst, server.rss_bytes)
                async with httpx.AsyncClient(base_url=server.url) as other:
                    listed = await other.get(
                        "/api/groups", headers={"Authorization": f"Bearer {ben.token}"}, timeout=60
                    )
                assert listed.status_code == 200
                await asyncio.sleep(0.3)  # The readings of memory are spread over three seconds of the storm.
        finally:
            for each in silent:
                each.close()
        # After they have disconnected, the same pages are read whole.
        for path in paths:
            answer = await http.get(path, timeout=60)
            assert answer.status_code == 200
            assert len(answer.content) <= WORST_BYTES

    assert server.close() == 0
    assert server.complaints() == []
    assert worst - before < 450 * 1024 * 1024
