"""Media over HTTP: uploads of chunks in any order, range downloads, quota, expiry, and refusals."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.model import MediaState
from orbital_relay.ports import MediaUsage
from orbital_relay.services import media_cleanup, media_upload
from orbital_relay.services.forms import new_id
from orbital_relay.services.media_audit import examine
from tests.server.api import Api, User, opened, send_chunk

MIB = 1024 * 1024
DAY_MS = 24 * 3600 * 1000


class Family:
    """A group of two with a thread, somebody else, and a look at what is stored."""

    def __init__(self, api: Api, ada: User, bob: User, eve: User, group_id: str, thread_id: str) -> None:
        self.api, self.ada, self.bob, self.eve = api, ada, bob, eve
        self.group_id, self.thread_id = group_id, thread_id
        self.media_id = new_id()

    @classmethod
    async def of(cls, api: Api) -> Family:
        ada, bob, eve = api.user(), api.user(), api.user()
        group = await ada.make_group()
        await bob.join(group)
        thread = await ada.open_thread(group["group_id"])
        return cls(api, ada, bob, eve, group["group_id"], thread["thread_id"])

    async def send(self, index: Any, total: Any, chunk: bytes | None, **changes: Any) -> httpx.Response:
        """Send a chunk as ada."""
        return await send_chunk(self.ada, self.thread_id, self.media_id, index, total, chunk, **changes)

    async def whole(self, data: bytes = b"ciphertext", **changes: Any) -> str:
        """Upload a medium in one chunk and return its id."""
        self.media_id = new_id()
        answer = await self.send(0, 1, data, **changes)
        assert answer.status_code == 201, answer.text
        return self.media_id

    async def quota(self) -> Any:
        """Return the group's room."""
        return (await self.ada.get(f"/api/groups/{self.group_id}/quota")).json()

    async def used(self) -> tuple[int, int]:
        """Return bytes and number that count."""
        quota = await self.quota()
        return quota["total_bytes"], quota["media_count"]

    async def events(self, kind: str) -> list[Any]:
        """Return the data of the group's events of a kind."""
        page = (await self.ada.get("/v1/events", group_id=self.group_id)).json()
        return [event["data"] for event in page["events"] if event["type"] == kind]

    def files(self) -> list[Path]:
        """Return every file of the media folder."""
        return [path for path in (self.api.node.settings.data_dir / "media").rglob("*") if path.is_file()]


@pytest.fixture
async def family(api: Api) -> Family:
    """A family with a server of its own."""
    return await Family.of(api)


def ahead(family: Family, monkeypatch: pytest.MonkeyPatch, ms: int) -> None:
    """Set the server's wall clock ahead."""
    clock = family.api.node.clock
    now_ms = clock.wall_ms
    monkeypatch.setattr(clock, "wall_ms", lambda: now_ms() + ms)


# Chapter: up


async def test_a_medium_s_life(family: Family):
    """[MED1] Chunks arrive in any order and repeatedly; the one that completes the medium gets 201."""
    data = os.urandom(2 * MIB + 5)
    pieces = [data[:MIB], data[MIB : 2 * MIB], data[2 * MIB :]]

    first = await family.send(2, 3, pieces[2])
    second = await family.send(0, 3, pieces[0])
    again = await family.send(2, 3, pieces[2])
    owed = (await family.ada.get(f"/api/media/{family.media_id}/upload")).json()
    last = await family.send(1, 3, pieces[1])
    repeated = [await family.send(index, 3, pieces[index]) for index in (1, 0)]

    assert first.json() == {
        "media_id": family.media_id,
        "chunk_index": 2,
        "chunks_received": 1,
        "total_chunks": 3,
    }
    assert (again.status_code, again.json()) == (200, first.json())
    assert owed == {"chunks_received": [0, 2], "total_chunks": 3}
    stored = last.json()
    assert (last.status_code, stored["size_bytes"]) == (201, len(data))
    assert [(each.status_code, each.json()) for each in repeated] == [(201, stored), (200, second.json())]
    (event,) = await family.events("media_uploaded")
    item = {
        "media_id": family.media_id,
        "encrypted_metadata": "bWV0YQ==",
        "size_bytes": len(data),
        "expires_at": stored["expires_at"],
    }
    assert event == {**item, "thread_id": family.thread_id, "author_id": family.ada.id}
    shown = (await family.bob.get(f"/api/threads/{family.thread_id}")).json()
    assert shown["media_count"] == 1
    author = {"author_id": family.ada.id, "author_username": family.ada.id.removeprefix("id-of-")}
    log = (await family.bob.get("/v1/events", group_id=family.group_id, after_seq=0)).json()["events"]
    (seq,) = (one["seq"] for one in log if one["type"] == "media_uploaded")
    assert shown["media"] == [{**item, **author, "uploaded_at": stored["uploaded_at"], "seq": seq}]
    assert (await family.bob.get(f"/api/threads/{family.thread_id}/media")).json() == {
        "media": shown["media"],
        "has_more": False,
    }
    info = (await family.bob.get(f"/api/media/{family.media_id}/info")).json()
    assert (info["status"], info["encryption_iv"], info["downloaded_by"]) == ("complete", "aXY=", [])
    assert await family.used() == (len(data), 1)
    down = await family.bob.get(f"/api/media/{family.media_id}/download")
    assert down.content == data
    assert down.headers["content-disposition"] == 'attachment; filename="media.enc"'
    assert down.headers["x-encryption-iv"] == "aXY="
    assert down.headers["x-expires-at"] == stored["expires_at"]


async def test_the_last_chunk_counts_once(family: Family):
    """[MED2] With all chunks sent twice at once, one of them completes the medium, and one event is emitted."""
    chunks = [os.urandom(1000) for _ in range(8)]

    answers = await asyncio.gather(*(family.send(index, 8, chunks[index]) for index in [*range(8), *range(8)]))

    stored = [answer.json() for answer in answers if answer.status_code == 201]
    # The completing chunk was sent twice, and both times got the same response.
    assert len(stored) == 2
    assert stored[0] == stored[1]
    assert all(answer.status_code in {200, 201} for answer in answers)
    assert len(await family.events("media_uploaded")) == 1
    assert max(answer.json()["chunks_received"] for answer in answers if answer.status_code == 200) == 7
    assert (await family.bob.get(f"/api/media/{family.media_id}/download")).content == b"".join(chunks)
    assert len(family.files()) == 8


async def test_complete_lists_what_is_missing(family: Family):
    """[MED3] `complete` answers 400 with the missing indexes until all are stored, then 200, always."""
    body = {"media_id": family.media_id}
    unknown = await family.ada.post("/api/media/upload/complete", body)
    await family.send(1, 4, b"b")
    early = await family.ada.post("/api/media/upload/complete", body)
    for index in (0, 2, 3):
        await family.send(index, 4, b"c")
    done = [await family.ada.post("/api/media/upload/complete", body, key="k") for _ in range(2)]
    other = await family.bob.post("/api/media/upload/complete", body)

    assert (unknown.status_code, unknown.json()["error"]) == (404, "NOT_FOUND")
    assert (early.status_code, early.json()["error"]) == (400, "INVALID_CHUNK")
    assert early.json()["details"] == {"missing": [0, 2, 3], "missing_count": 3, "total_chunks": 4}
    for answer in done:
        assert answer.status_code == 200
        assert answer.json()["status"] == "complete"
        assert answer.json()["size_bytes"] == 4
    assert other.status_code == 403
    assert len(await family.events("media_uploaded")) == 1


async def test_complete_finishes_what_a_crash_left(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MED4] After a crash between the last chunk and its event, `complete`, or the chunk again, completes it."""

    async def dies(*_: Any, **__: Any) -> Any:
        raise Unavailable("The server died here.")

    for how in ("complete", "again"):
        family.media_id = new_id()
        with monkeypatch.context() as patched:
            patched.setattr(media_upload, "_finish", dies)
            assert (await family.send(0, 1, b"all of it")).status_code == 503
        assert (await family.ada.get(f"/api/media/{family.media_id}/info")).status_code == 404

        if how == "complete":
            answer = await family.ada.post("/api/media/upload/complete", {"media_id": family.media_id})
        else:
            answer = await family.send(0, 1, b"all of it")

        assert answer.is_success
        assert (await family.ada.get(f"/api/media/{family.media_id}/info")).json()["size_bytes"] == 9
    assert len(await family.events("media_uploaded")) == 2


async def test_complete_while_it_is_aborted(family: Family, monkeypatch: pytest.MonkeyPatch):
    """
    [MED24] An upload that is aborted while it is being completed is not reported as complete.

    The response was a 200 with an end in 1970: a caller without an event read the state of the upload, and
    took any end for a success.
    """
    rows = family.api.node.media.rows
    seen = rows.upload

    async def then_deleted(user: int, media_id: Any) -> Any:
        found = await seen(user, media_id)
        await rows.abort_upload(user, media_id)
        return found

    async def dies(*_: Any, **__: Any) -> Any:
        raise Unavailable("The server died here.")

    with monkeypatch.context() as patched:
        patched.setattr(media_upload, "_finish", dies)
        await family.send(0, 1, b"all of it")
    monkeypatch.setattr(rows, "upload", then_deleted)
    answer = await family.ada.post("/api/media/upload/complete", {"media_id": family.media_id})

    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
    assert await family.events("media_uploaded") == []


async def test_an_idempotency_key_binds_a_chunk(family: Family):
    """[RETRY1] A key and chunk get the first response again; the key with another chunk is 409; nothing is doubled."""
    first = await family.send(0, 1, b"bytes", key="once")
    again = await family.send(0, 1, b"bytes", key="once")
    media_id, family.media_id = family.media_id, new_id()
    other = await family.send(0, 1, b"bytes", key="once")

    assert (again.status_code, again.json()) == (201, first.json())
    assert (other.status_code, other.json()["error"]) == (409, "CONFLICT")
    assert (await family.ada.get(f"/api/media/{family.media_id}/upload")).status_code == 404
    assert [event["media_id"] for event in await family.events("media_uploaded")] == [media_id]


# Chapter: what is refused


@pytest.mark.parametrize(
    "code, changes",
    [
        ("400 INVALID_CHUNK chunk_index", {"index": 3}),
        ("400 INVALID_CHUNK chunk_index", {"index": 10**14}),
        ("400 VALIDATION_ERROR chunk_index", {"index": -1}),
        ("400 VALIDATION_ERROR chunk_index", {"index": "1.0"}),
        ("400 VALIDATION_ERROR chunk_index", {"index": "\u0661"}),
        ("400 VALIDATION_ERROR chunk_index", {"index": "9" * 30}),
        ("400 VALIDATION_ERROR total_chunks", {"total": ""}),
        ("400 INVALID_CHUNK chunk_index", {"total": 0}),
        ("400 INVALID_CHUNK total_chunks", {"total": 10_001}),
        ("400 INVALID_CHUNK chunk", {"chunk": b""}),
        ("413 PAYLOAD_TOO_LARGE chunk", {"chunk": bytes(5 * MIB + 1)}),
        ("413 PAYLOAD_TOO_LARGE chunk", {"chunk": bytes(5 * MIB + 100_000)}),
        ("400 VALIDATION_ERROR media_id", {"media_id": "../../etc/passwd"}),
        ("400 VALIDATION_ERROR media_id", {"media_id": "..%2f..%2f"}),
        ("400 VALIDATION_ERROR media_id", {"media_id": None}),
        ("413 PAYLOAD_TOO_LARGE media_id", {"media_id": "a" * 1000}),
        ("400 VALIDATION_ERROR thread_id", {"thread_id": "/"}),
        ("404 NOT_FOUND", {"thread_id": "00000000-0000-4000-8000-000000000000"}),
        ("400 VALIDATION_ERROR encrypted_metadata", {"encrypted_metadata": "holiday at the sea"}),
        ("400 VALIDATION_ERROR encrypted_metadata", {"encrypted_metadata": ""}),
        ("413 PAYLOAD_TOO_LARGE encrypted_metadata", {"encrypted_metadata": "A" * 400_000}),
        ("400 VALIDATION_ERROR encryption_iv", {"encryption_iv": None}),
        ("413 PAYLOAD_TOO_LARGE encryption_iv", {"encryption_iv": "A" * 1367}),
        ("413 PAYLOAD_TOO_LARGE encryption_iv", {"encryption_iv": "A" * 100_000}),
        ("413 FILE_TOO_LARGE", {"size_bytes": str(500 * MIB + 1)}),
        ("400 INVALID_CHUNK size_bytes", {"size_bytes": str(15 * MIB + 1)}),
        ("400 INVALID_CHUNK size_bytes", {"size_bytes": "2"}),
        ("400 VALIDATION_ERROR size_bytes", {"size_bytes": "a lot"}),
        ("400 VALIDATION_ERROR chunk", {"chunk": None}),
    ],
)
async def test_invalid_chunks(family: Family, code: str, changes: dict[str, Any]):
    """[MED5] Each invalid chunk is refused with its code and changes nothing: no file, no row, no quota."""
    given = {"index": 0, "total": 3, "chunk": b"bytes", **changes}
    status, *rest = code.split()
    if given["chunk"] is None:
        answer = await family.ada.ask(
            "POST", "/api/media/upload", files={"media_id": (None, family.media_id), "thread_id": (None, "x")}
        )
    else:
        index, total, chunk = given.pop("index"), given.pop("total"), given.pop("chunk")
        answer = await family.send(index, total, chunk, **given)

    body = answer.json()
    found = [str(answer.status_code), body["error"], *([body["details"]["field"]] if len(rest) > 1 else [])]
    assert found == [status, *rest], body
    assert family.files() == []
    assert await family.used() == (0, 0)
    assert (await family.ada.get(f"/api/media/{family.media_id}/upload")).status_code == 404


def _part(name: str, value: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=", b"--x--\r\n"),
        (f"multipart/form-data; boundary={'x' * 71}", b""),
        ("application/json", b"{}"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="chunk"\r\n\r\nno end'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\nno name\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: attachment; name=chunk\r\n\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\xff\xfe: \x00\r\n\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", _part("chunk", b"a") + _part("chunk", b"b") + b"--x--\r\n"),
        ("multipart/form-data; boundary=x", _part("media_id", b"\xff\xff") + _part("chunk", b"b") + b"--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="more"\r\n\r\na\r\n' * 40 + b"--x--\r\n",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nX: " + b"h" * 100_000 + b"\r\n\r\n\r\n--x--\r\n"),
    ],
)
async def test_wrong_multipart(family: Family, content_type: str, body: bytes):
    """[MED6] A malformed multipart body is 400 with a sentence, and nothing is written."""
    answer = await family.ada.ask("POST", "/api/media/upload", content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert family.files() == []


async def test_the_limit_holds_while_reading(family: Family):
    """[MED7] An endless body is refused when the chunk exceeds its size by one byte, not at the end."""
    sent = 0

    async def body() -> Any:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="chunk"; filename="c"\r\n\r\n'
        while sent < 100 * MIB:
            sent += 64 * 1024
            yield bytes(64 * 1024)

    answer = await family.ada.ask(
        "POST", "/api/media/upload", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    declared = await family.ada.ask(
        "POST",
        "/api/media/upload",
        content=b"",
        headers={"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(10 * MIB)},
    )

    assert (answer.status_code, answer.json()["error"]) == (413, "PAYLOAD_TOO_LARGE")
    assert declared.status_code == 413
    assert family.files() == []


async def test_concurrent_chunks_of_a_user_are_limited(family: Family):
    """[MED17] Chunks in flight are not in the quota yet, so a user may send 16 at once; the next one is refused."""
    started, resume = asyncio.Semaphore(0), asyncio.Event()

    async def body() -> Any:
        started.release()
        await resume.wait()
        yield b"no form"

    async def send(user: User) -> int:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return (await user.ask("POST", "/api/media/upload", content=body(), headers=headers)).status_code

    in_progress = [asyncio.create_task(send(family.ada)) for _ in range(16)]
    for _ in in_progress:
        await started.acquire()
    refused = await family.send(0, 1, b"x")
    other = await send_chunk(family.bob, family.thread_id, new_id(), 0, 1, b"x")
    resume.set()

    assert (refused.status_code, refused.json()["error"]) == (429, "TOO_MANY_REQUESTS")
    assert other.status_code == 201
    assert await asyncio.gather(*in_progress) == [400] * 16
    assert (await family.send(0, 1, b"x")).status_code == 201
    assert not family.api.node.media.in_progress


async def test_the_first_chunk_s_declaration_is_binding(family: Family):
    """[MED8] Total, thread, metadata, vector and size stay those of the first chunk; different bytes are 409."""
    other_thread = (await family.ada.open_thread(family.group_id))["thread_id"]
    assert (await family.send(0, 3, b"aa", size_bytes="6")).status_code == 200

    refused = {
        "total_chunks": await family.send(1, 4, b"bb", size_bytes="6"),
        "thread_id": await send_chunk(family.ada, other_thread, family.media_id, 1, 3, b"bb", size_bytes="6"),
        "encrypted_metadata": await family.send(1, 3, b"bb", size_bytes="6", encrypted_metadata="b3RoZXI="),
        "encryption_iv": await family.send(1, 3, b"bb", size_bytes="6", encryption_iv="b3RoZXI="),
        "size_bytes": await family.send(1, 3, b"bb", size_bytes="7"),
        "chunk": await family.send(1, 3, b"bbbb", size_bytes="6"),
    }
    conflict = await family.send(0, 3, b"zz", size_bytes="6")

    for field, answer in refused.items():
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_CHUNK"), field
        assert answer.json()["details"]["field"] == field
    assert (conflict.status_code, conflict.json()["error"]) == (409, "CONFLICT")
    assert len(family.files()) == 1
    assert await family.used() == (6, 1)
    assert (await family.send(1, 3, b"b", size_bytes="6")).status_code == 200
    assert (await family.send(2, 3, b"c", size_bytes="6")).json()["error"] == "INVALID_CHUNK"
    assert (await family.send(2, 3, b"ccc", size_bytes="6")).status_code == 201


async def test_members_only(family: Family):
    """[P1] Non-members get 403 everywhere; other members may read, but not upload, complete or delete."""
    await family.send(0, 2, b"a")
    unfinished = family.media_id
    whole = await family.whole()
    reads = [f"/api/media/{whole}/{what}" for what in ("download", "info")]
    reads += [f"/api/threads/{family.thread_id}/media", f"/api/groups/{family.group_id}/quota"]

    for path in reads:
        assert (await family.eve.get(path)).status_code == 403, path
        assert (await family.bob.get(path)).status_code == 200, path
    for user in (family.eve, family.bob):
        assert (await send_chunk(user, family.thread_id, unfinished, 1, 2, b"b")).status_code == 403
        assert (await user.get(f"/api/media/{unfinished}/upload")).status_code == 403
        assert (await user.post("/api/media/upload/complete", {"media_id": unfinished})).status_code == 403
        for media_id in (unfinished, whole):
            assert (await user.ask("DELETE", f"/api/media/{media_id}")).status_code == 403
    assert (await send_chunk(family.eve, family.thread_id, new_id(), 0, 1, b"b")).status_code == 403
    assert (await family.eve.post(f"/api/media/{whole}/downloaded")).status_code == 403
    for path in (f"/api/media/{unfinished}/info", f"/api/media/{unfinished}/download"):
        assert (await family.ada.get(path)).status_code == 404
    assert (await family.ada.get(f"/api/media/{new_id()}/download")).status_code == 404
    assert (await family.ada.get("/api/media/..%2f..%2fsecret/download")).status_code == 404
    assert len(family.files()) == 2


# Chapter: down

_DATA = bytes(range(256)) * 20


@pytest.mark.parametrize(
    "header, expected",
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 5120)),
        ("bytes=999-1000", (999, 1001)),
        ("bytes=1998-2002", (1998, 2003)),
        ("bytes=5119-", (5119, 5120)),
        ("bytes=100-999999", (100, 5120)),
        ("bytes=-1", (5119, 5120)),
        ("bytes=-2500", (2620, 5120)),
        ("bytes=-999999", (0, 5120)),
        ("Bytes = 0-1", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=5120-", 416),
        ("bytes=99999999999999999-", 416),
        (f"bytes={'9' * 5000}-", 416),
        (f"bytes=1-{'9' * 5000}", (1, 5120)),
        (f"bytes=-{'9' * 5000}", (0, 5120)),
        (f"bytes={'0' * 5000}1-1", (1, 2)),
        (f"bytes=-{'0' * 5000}", 416),
        ("bytes=-0", 416),
    ],
)
async def test_ranges(shared: Any, header: str, expected: Any):
    """[MED9] One range is 206, suffix ranges too; an unsupported range gets the whole; an unsatisfiable one is 416."""
    family, path = shared
    answer = await family.ada.ask("GET", path, headers={"Range": header})

    if expected == 416:
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */5120")
        return
    start, end = expected or (0, 5120)
    assert answer.status_code == (206 if expected else 200)
    assert answer.content == _DATA[start:end]
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers.get("content-range") == (f"bytes {start}-{end - 1}/5120" if expected else None)


@pytest.fixture
async def shared(family: Family) -> tuple[Family, str]:
    """A medium of five chunks of 1,000 bytes and one of 120."""
    for index in range(6):
        await family.send(index, 6, _DATA[index * 1000 : (index + 1) * 1000])
    return family, f"/api/media/{family.media_id}/download"


async def test_conditions(shared: Any):
    """[MED10] If-Range resumes a download of the same medium, If-None-Match saves it, If-Match requires it."""
    family, path = shared
    whole = await family.ada.get(path)
    etag = whole.headers["etag"]

    same = await family.ada.ask("GET", path, headers={"Range": "bytes=5000-", "If-Range": etag})
    other = await family.ada.ask("GET", path, headers={"Range": "bytes=5000-", "If-Range": '"other"'})
    weak = await family.ada.ask("GET", path, headers={"Range": "bytes=5000-", "If-Range": f"W/{etag}"})
    known = await family.ada.ask("GET", path, headers={"If-None-Match": f'"x", W/{etag}'})
    any_known = await family.ada.ask("GET", path, headers={"If-None-Match": "*", "Range": "bytes=0-1"})
    changed = await family.ada.ask("GET", path, headers={"If-None-Match": '"x"'})
    head = await family.ada.ask("HEAD", path, headers={"Range": "bytes=0-1"})
    meant = [await family.ada.ask("GET", path, headers={"If-Match": each}) for each in (etag, f'"x", {etag}', "*")]
    not_meant = [
        await family.ada.ask("GET", path, headers={"If-Match": '"other"', "If-None-Match": etag}),
        await family.ada.ask("GET", path, headers={"If-Match": f"W/{etag}", "Range": "bytes=0-1"}),
        await family.ada.ask("GET", path, headers={"If-Match": ""}),
    ]
    head_of_other = await family.ada.ask("HEAD", path, headers={"If-Match": '"other"'})

    assert [(each.status_code, each.content) for each in meant] == [(200, _DATA)] * 3
    assert [(each.status_code, each.json()["error"]) for each in not_meant] == [(412, "PRECONDITION_FAILED")] * 3
    assert (head_of_other.status_code, head_of_other.content) == (412, b"")
    assert (same.status_code, same.content) == (206, _DATA[5000:])
    assert [(each.status_code, each.content) for each in (other, weak, changed)] == [(200, _DATA)] * 3
    assert [(each.status_code, each.content) for each in (known, any_known)] == [(304, b"")] * 2
    assert known.headers["etag"] == etag
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "5120")
    for name in ("etag", "accept-ranges", "x-encryption-iv", "x-expires-at", "content-disposition"):
        assert head.headers[name] == whole.headers[name]


async def test_the_longest_vector_is_returned(family: Family):
    """
    [MED25] `encryption_iv` has 1 KiB at most, because it is returned in a header.

    One of 100 kB was accepted, and then no client could download the medium: the header exceeded their limits.
    """
    longest = base64.b64encode(bytes(1024)).decode()
    media_id = await family.whole(encryption_iv=longest)

    down = await family.bob.get(f"/api/media/{media_id}/download")

    assert (down.status_code, down.headers["x-encryption-iv"]) == (200, longest)


async def test_lost_bytes_are_reported(shared: Any):
    """[MED11] A medium whose bytes were deleted is 500 with a sentence before any status is sent; `check` names it."""
    family, path = shared
    room = family.api.node.media
    next(file for file in family.files() if "/00000-" in str(file)).unlink()

    answer = await family.api.http.get(path, headers=family.ada.headers)
    found = [text async for text in examine(room.rows, room.blobs, before_ms=room.clock.wall_ms())]

    assert (answer.status_code, answer.json()["error"]) == (500, "INTERNAL")
    assert "has lost bytes" in answer.json()["message"]
    assert len(found) == 1
    assert family.media_id in found[0]


async def test_downloads_are_recorded(family: Family):
    """[MED12] Each member reports a download once; the group can list them, also after the medium expired."""
    media_id = await family.whole()
    for user in (family.bob, family.ada, family.bob):
        assert (await user.post(f"/api/media/{media_id}/downloaded")).status_code == 204
    await family.ada.ask("DELETE", f"/api/media/{media_id}")

    info = (await family.bob.get(f"/api/media/{media_id}/info")).json()

    assert [each["user_id"] for each in info["downloaded_by"]] == [family.bob.id, family.ada.id]
    assert info["status"] == "expired"


# Chapter: room


async def test_quota_is_reserved_and_corrected(family: Family):
    """[QUO1] The first chunk reserves the maximum, each chunk corrects it, and the last one leaves the actual size."""
    await family.send(0, 3, bytes(1000))
    reserved = [await family.used()]
    await family.send(1, 3, bytes(1000))
    reserved.append(await family.used())
    await family.send(2, 3, bytes(500))
    reserved.append(await family.used())

    assert reserved == [(1000 + 10 * MIB, 1), (2000 + 5 * MIB, 1), (2500, 1)]
    family.media_id = new_id()
    await family.send(0, 3, b"x", size_bytes="100")
    assert await family.used() == (2600, 2)


async def test_one_of_two_gets_the_last_byte(tmp_path: Path):
    """[QUO2] Of uploads that race for the last bytes of a group's quota one wins; the others leave no trace."""
    async with opened(tmp_path, media_group_bytes="1000") as api:
        family = await Family.of(api)
        ids = [new_id() for _ in range(5)]

        answers = await asyncio.gather(
            *(send_chunk(family.ada, family.thread_id, each, 0, 1, bytes(600)) for each in ids)
        )

        assert sorted(answer.status_code for answer in answers) == [201, 413, 413, 413, 413]
        refused = next(answer.json() for answer in answers if answer.status_code == 413)
        assert refused["error"] == "QUOTA_EXCEEDED"
        assert refused["details"]["max_bytes"] == 1000
        assert len(family.files()) == 1
        assert await family.used() == (600, 1)
        await family.whole(bytes(400))
        quota = await family.quota()
        assert (quota["usage_percent"], quota["is_warning"], quota["is_full"]) == (100, True, True)


async def test_warning_at_eighty_percent(tmp_path: Path):
    """[QUO3] `is_warning` is true from 80 % on, of bytes or of count; the hundred-and-first file is refused."""
    async with opened(tmp_path, media_group_bytes="1000", media_group_files="5") as api:
        family = await Family.of(api)
        await family.whole(bytes(799))
        before = await family.quota()
        await family.whole(bytes(1))
        after = await family.quota()
        other = await Family.of(api)
        for _ in range(4):
            await other.whole(b"x")
        many = await other.quota()
        await other.whole(b"x")
        other.media_id = new_id()
        full = await other.send(0, 1, b"x")

        assert (before["is_warning"], after["is_warning"], after["usage_percent"]) == (False, True, 80)
        assert (many["is_warning"], many["usage_percent"], many["is_full"]) == (True, 0.4, False)
        assert full.json()["error"] == "QUOTA_EXCEEDED"
        assert (await other.quota())["is_full"]


async def test_a_file_that_grows_too_large(tmp_path: Path):
    """[QUO4] Small chunks are refused once they add up to more than a file may have; stored chunks stay."""
    async with opened(tmp_path, media_file_bytes="1000", media_chunk_bytes="400") as api:
        family = await Family.of(api)
        sent = [await family.send(index, 4, bytes(400)) for index in range(3)]

        assert [answer.status_code for answer in sent] == [200, 200, 413]
        assert sent[2].json()["error"] == "FILE_TOO_LARGE"
        assert len(family.files()) == 2
        assert await family.used() == (1000, 1)
        assert (await family.send(2, 4, bytes(100))).status_code == 200
        assert (await family.send(3, 4, bytes(100))).status_code == 201


async def test_a_full_disk_releases_the_quota(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[QUO5] When the storage fails the response is 503, no quota is used, and the same chunk succeeds later."""

    async def fails(*_: Any) -> None:
        raise Unavailable("No space is left.")

    with monkeypatch.context() as patched:
        patched.setattr(family.api.node.media.blobs, "keep", fails)
        refused = await family.send(0, 2, b"bytes")

    assert (refused.status_code, refused.json()["error"]) == (503, "UNAVAILABLE")
    assert await family.used() == (0, 0)
    assert family.files() == []
    assert (await family.send(0, 2, b"bytes")).status_code == 200


# Chapter: the end


async def test_expiry(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MED13] After 7 days: 410 at once, then one durable `media_expired`, no bytes, quota freed, the row kept."""
    media_id = await family.whole()
    family.media_id = new_id()
    assert (await family.send(0, 2, b"not whole")).status_code == 200
    ahead(family, monkeypatch, 7 * DAY_MS + 1000)

    gone = await family.bob.get(f"/api/media/{media_id}/download")
    owner = [
        await family.ada.get(f"/api/media/{media_id}/upload"),
        await family.ada.post("/api/media/upload/complete", {"media_id": media_id}),
        await send_chunk(family.ada, family.thread_id, media_id, 0, 1, b"ciphertext"),
    ]
    listed = (await family.bob.get(f"/api/threads/{family.thread_id}")).json()
    rounds = await asyncio.gather(*(family.api.node.collect_media() for _ in range(3)))

    assert [(each.status_code, each.json()["error"]) for each in (gone, *owner)] == [(410, "GONE")] * 4
    assert listed["media"] == []
    assert sum(each.expired for each in rounds) == 1
    (event,) = await family.events("media_expired")
    assert {"media_id": media_id, "thread_id": family.thread_id}.items() <= event.items()
    assert event["expired_at"].endswith("Z")
    assert family.files() == []
    assert await family.used() == (0, 0)
    shown = (await family.bob.get(f"/api/threads/{family.thread_id}")).json()
    assert (shown["media_count"], shown["media"]) == (0, [])
    assert (await family.bob.get(f"/api/media/{media_id}/info")).json()["status"] == "expired"
    assert (await family.bob.get(f"/api/media/{media_id}/download")).status_code == 410
    assert (await family.ada.get(f"/api/media/{media_id}/upload")).status_code == 410
    family.media_id = media_id
    assert (await family.send(0, 1, b"ciphertext")).status_code == 410


async def test_media_are_counted(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MED27] Bytes count when they are stored and when they are sent; what a clean-up deletes counts once."""
    counters = family.api.node.media.counters
    media_id = await family.whole(bytes(5000))
    again = await send_chunk(family.ada, family.thread_id, media_id, 0, 1, bytes(5000))
    await family.bob.ask("GET", f"/api/media/{media_id}/download", headers={"Range": "bytes=-1000"})
    await family.bob.ask("HEAD", f"/api/media/{media_id}/download")
    await family.bob.get(f"/api/media/{media_id}/download")
    family.media_id = new_id()
    await family.send(0, 2, bytes(70))
    await family.send(1, 2, b"")
    before = counters.held
    await family.api.node.collect_media()

    assert (again.status_code, before) == (201, {})
    assert (counters.received_bytes, counters.sent_bytes) == (5070, 6000)
    assert counters.held == {MediaState.COMPLETE: MediaUsage(1, 5000), MediaState.UPLOADING: MediaUsage(1, 70)}
    assert counters.collected == {"expired": 0, "abandoned": 0, "swept": 0}
    ahead(family, monkeypatch, 8 * DAY_MS)
    await family.api.node.collect_media()
    assert counters.collected == {"expired": 1, "abandoned": 1, "swept": 0}
    assert counters.held == {MediaState.COMPLETE: MediaUsage(0, 0), MediaState.UPLOADING: MediaUsage(0, 0)}
    metrics, _ = family.api.node.metrics.render()
    assert b'orbital_media_collected_total{what="expired"} 1.0' in metrics


async def test_abandonment(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MED14] An upload idle for 24 hours is aborted: bytes and quota are released, and its id is free again."""
    await family.send(0, 2, b"bytes")
    ahead(family, monkeypatch, DAY_MS - 60_000)
    kept = await family.api.node.collect_media()
    await family.send(0, 2, b"bytes")
    ahead(family, monkeypatch, 120_000)

    found = await family.api.node.collect_media()

    assert kept.abandoned == 0
    assert (found.abandoned, found.deleted) == (1, 1)
    assert family.files() == []
    assert await family.used() == (0, 0)
    assert (await family.ada.get(f"/api/media/{family.media_id}/upload")).status_code == 404
    assert (await family.send(1, 2, b"other bytes")).json()["chunks_received"] == 1
    assert await family.events("media_expired") == []


async def test_deleting(family: Family):
    """[MED15] DELETE aborts an upload without an event, a complete medium with `media_expired`; it is idempotent."""
    await family.send(0, 2, b"bytes")
    statuses = [(await family.ada.ask("DELETE", f"/api/media/{family.media_id}")).status_code]
    silent = await family.events("media_expired")
    whole = await family.whole()
    statuses += [(await family.ada.ask("DELETE", f"/api/media/{whole}")).status_code for _ in range(2)]
    of_bob = new_id()
    await send_chunk(family.bob, family.thread_id, of_bob, 0, 1, b"x")
    statuses.append((await family.ada.ask("DELETE", f"/api/media/{of_bob}")).status_code)

    assert statuses == [204, 204, 204, 204]
    assert silent == []
    assert [event["media_id"] for event in await family.events("media_expired")] == [whole, of_bob]
    assert family.files() == []
    assert await family.used() == (0, 0)
    assert (await family.ada.get(f"/api/media/{whole}/download")).status_code == 410


async def test_the_group_s_log_and_media_are_consistent(family: Family):
    """[CHK1] After all operations `check` finds nothing; after each corruption it finds that one."""
    whole = await family.whole(os.urandom(5000))
    gone = await family.whole(b"gone")
    await family.ada.ask("DELETE", f"/api/media/{gone}")
    family.media_id = new_id()
    await family.send(0, 2, b"unfinished")
    node, room = family.api.node, family.api.node.media

    async def findings() -> list[str]:
        report = await node.store.verify(family.group_id)
        return report.findings + [
            text async for text in examine(room.rows, room.blobs, before_ms=room.clock.wall_ms() + 1000)
        ]

    assert await findings() == []
    wrong = {
        "UPDATE media SET received_bytes = 7 WHERE state = 'complete'": "counts other chunks",
        "UPDATE media SET reserved_bytes = 7 WHERE state = 'expired'": "reserves 7 bytes",
        "UPDATE media SET encrypted_metadata = 'eA' WHERE state = 'complete'": "differs",
        "UPDATE threads SET media_count = 9": "counts other media",
        "UPDATE media SET state = 'complete' WHERE state = 'uploading'": "is called whole and is not",
        "UPDATE media_chunks SET size_bytes = 1 WHERE size_bytes > 1000": f"{whole} lacks 1 of its 1 chunks",
        "UPDATE media_chunks SET blob = 'elsewhere/00000'": "belong to no medium",
    }
    for statement, finding in wrong.items():
        await node.store._write(lambda conn, statement=statement: conn.exec_driver_sql(statement))
        assert any(finding in text for text in await findings()), finding


async def test_crashes_leave_no_orphans(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MED16] After a crash at any step, the next clean-up leaves no bytes without a row, and no row without bytes."""
    room = family.api.node.media

    async def dies(*_: Any, **__: Any) -> Any:
        raise Unavailable("The server died here.")

    with monkeypatch.context() as patched:
        # After the bytes, before their row.
        patched.setattr(room.rows, "add_chunk", dies)
        assert (await family.send(0, 2, b"bytes")).status_code == 503
    orphans = family.files()
    # In the middle of a body.
    draft = room.blobs.draft()
    await draft.write(bytes(300_000))
    whole = await family.whole(b"whole")
    with monkeypatch.context() as patched:
        # After `media_expired`, before the bytes.
        patched.setattr(room.blobs, "delete_folder", dies)
        assert (await family.ada.ask("DELETE", f"/api/media/{whole}")).status_code == 503
    with monkeypatch.context() as patched:
        # After the bytes, before the row is updated.
        patched.setattr(room.rows, "note_deleted", dies)
        with pytest.raises(Unavailable):
            await family.api.node.collect_media()
    assert len(orphans) == 1
    assert len(family.files()) == 2

    # Bytes newer than this server may not have their row yet: the next server's first round deletes them.
    for path in family.files():
        os.utime(path, (0, 0))
    found = await media_cleanup.collect(room, sweep=True)

    assert (found.deleted, found.swept) == (1, 2)
    assert family.files() == []
    checked = [text async for text in examine(room.rows, room.blobs, before_ms=room.clock.wall_ms())]
    assert checked == []
    await draft.discard()
