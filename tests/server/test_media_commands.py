"""The commands for media, and a server whose media are in a bucket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orbital_relay.client import Api, ApiError
from orbital_relay.client.media import download, upload
from tests.conftest import Serve
from tests.contracts.drafts import new_id
from tests.support.client import Person, opaque
from tests.support.process import until
from tests.support.programs import CHECKOUT
from tests.support.s3 import BUCKET, S3, HeldCalls, s3_server
from tests.support.server import Server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """An S3 server with a bucket."""
    with s3_server() as opened:
        yield opened


def orbital(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a server's own data."""
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *words],
        env={**os.environ, **server.env, "ORBITAL_DATA_DIR": str(server.data_dir)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )


async def put(server: Server, anna: Person, data: bytes, *, chunk_bytes: int = 100_000) -> tuple[str, str]:
    """Make a thread in a new group, upload a medium there, and return the ids of medium and group."""
    group = await anna.make_group()
    thread = await anna.open_thread(group)
    async with Api(server.url, token=anna.token) as api:
        stored = await upload(
            api,
            thread["thread_id"],
            data,
            encrypted_metadata=opaque("meta"),
            encryption_iv=opaque("iv"),
            chunk_bytes=chunk_bytes,
        )
    return stored.media_id, group.id


async def test_gc_and_check(serve: Serve):
    """[MED21] `gc` waits until the server has stopped, then deletes expired media; `check` finds what is wrong."""
    server = serve()
    anna = await Person.sign_up(server.url)
    media_id, group_id = await put(server, anna, os.urandom(300_000))
    busy = orbital(server, "media", "gc")
    fine = orbital(server, "check")
    server.terminate()
    folder = server.data_dir / "media"
    orphan = folder / "somewhere" / "00000-orphan"
    orphan.parent.mkdir()
    orphan.write_bytes(b"left by a crash")
    os.utime(orphan, (0, 0))
    amiss = orbital(server, "check")
    _let_expire(server, media_id)
    collected = orbital(server, "media", "gc")
    again = orbital(server, "check")

    assert busy.returncode == 1
    assert "Another server is using" in busy.stderr
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert amiss.returncode == 3
    assert "somewhere/00000-orphan belong to no medium" in amiss.stdout
    assert collected.returncode == 0, collected.stderr
    assert "1 media expired" in collected.stdout
    assert "1 blobs without a row" in collected.stdout
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert again.returncode == 0, again.stdout
    server.start()
    async with Api(server.url, token=anna.token) as api:
        with pytest.raises(ApiError) as gone:
            await download(api, media_id)
        assert gone.value.status == 410
        events = await api.events(group_id)
        assert [event.type for event in events.events][-1] == "media_expired"
    await anna.close()


def _let_expire(server: Server, media_id: str) -> None:
    """Set a medium's end to long ago, where waiting would be the other way."""
    import sqlite3

    with sqlite3.connect(server.data_dir / "orbital.db") as database:
        database.execute("UPDATE media SET expires_ms = 1 WHERE media_id = ?", (media_id,))
    database.close()


async def test_a_server_with_a_bucket(serve: Serve, s3: S3):
    """[MED22] With ORBITAL_MEDIA_URL the bytes are in the bucket, and everything else is unchanged."""
    server = serve(env={**s3.environ, "ORBITAL_MEDIA_URL": f"s3://{BUCKET}/orbital"})
    anna = await Person.sign_up(server.url)
    data = os.urandom(1_000_000)
    media_id, _ = await put(server, anna, data, chunk_bytes=300_000)
    server.restart(kill=True)
    async with Api(server.url, token=anna.token) as api:
        got = await download(api, media_id)
        async with api.download(media_id, headers={"Range": "bytes=299990-300009"}) as response:
            part = await response.aread()
        listed = s3.ask("GET", f"/{BUCKET}?list-type=2&prefix=orbital/")[1].count(b"<Key>")
        checked = orbital(server, "check")
        await api.delete_media(media_id)
        after = s3.ask("GET", f"/{BUCKET}?list-type=2&prefix=orbital/")[1].count(b"<Key>")

    assert got.data == data
    assert (response.status_code, part) == (206, data[299_990:300_010])
    assert (listed, after) == (4, 0)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert list((server.data_dir / "media").glob("*")) == []
    await anna.close()


def _under_way(server: Server, head: str, *, token: str, body: bytes = b"") -> socket.socket:
    """Open a line, and send the beginning of a request."""
    line = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    line.sendall(f"{head} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n".encode() + body)
    return line


def _rest(line: socket.socket) -> bytes:
    """Read a line to its end, and close it."""
    found = b""
    with line:
        while piece := line.recv(1024 * 1024):
            found += piece
    return found


def _chunk(thread_id: str, data: bytes) -> bytes:
    """Write the form of a medium of one chunk, from the request's headers on."""
    fields = {
        "media_id": new_id(),
        "thread_id": thread_id,
        "chunk_index": "0",
        "total_chunks": "1",
        "encrypted_metadata": opaque("meta"),
        "encryption_iv": opaque("iv"),
        "chunk": "",
    }
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    body = "\r\n".join(parts).encode() + data + b"\r\n--x--\r\n"
    return b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_transfers_that_a_shutdown_aborts(serve: Serve):
    """
    [MED26] A chunk and a download that exceed the drain deadline end with 503 and with a truncated body.

    Both logged a traceback, and the client got a 500 in plain text.
    """
    server = serve(env={"ORBITAL_DRAIN_SECONDS": "0.2"})
    anna = await Person.sign_up(server.url)
    media_id, group_id = await put(server, anna, bytes(20_000_000), chunk_bytes=5_000_000)
    thread_id = (await anna.get(f"/api/groups/{group_id}/threads"))["threads"][0]["thread_id"]
    down = _under_way(server, f"GET /api/media/{media_id}/download", token=anna.token, body=b"\r\n")
    begun = down.recv(1)
    up = _under_way(server, "POST /api/media/upload", token=anna.token, body=_chunk(thread_id, bytes(1_000_000))[:-10])
    drafts = server.data_dir / "media" / ".drafts"
    await asyncio.to_thread(until, lambda: any(drafts.iterdir()), what="a draft")

    status = await asyncio.to_thread(server.terminate)

    assert status == 0
    head, _, body = _rest(up).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["error"] == "UNAVAILABLE"
    assert len(begun + _rest(down)) < 20_000_000
    assert list(drafts.iterdir()) == []
    await anna.close()


async def test_a_shutdown_aborts_multipart_uploads(serve: Serve, s3: S3):
    """[BLOB14] A server that is stopped during a multipart upload leaves no parts in the bucket."""
    gate = HeldCalls(s3)
    env = {"ORBITAL_MEDIA_URL": f"s3://{BUCKET}/stopped", "ORBITAL_MEDIA_CHUNK_BYTES": "30000000"}
    server = serve(env={**gate.environ, **env, "ORBITAL_DRAIN_SECONDS": "0.2"})
    anna = await Person.sign_up(server.url)
    thread_id = (await anna.open_thread(await anna.make_group()))["thread_id"]
    gate.held = "partNumber="
    up = _under_way(server, "POST /api/media/upload", token=anna.token, body=_chunk(thread_id, bytes(20_000_000)))
    await asyncio.to_thread(gate.wait_for_held)

    stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
    await asyncio.to_thread(server.program.wait_for, "Cancel 1 running task")
    gate.release()

    assert await stopping == 0
    assert _rest(up).startswith(b"HTTP/1.1 503 ")
    assert s3.uploads() == []
    assert b"<Key>" not in s3.ask("GET", f"/{BUCKET}?list-type=2&prefix=stopped/")[1]
    await asyncio.to_thread(gate.close)
    await anna.close()


async def test_a_bucket_that_does_not_exist(serve: Serve, s3: S3, tmp_path: Path):
    """[MED23] A server whose bucket does not exist reports that and does not start."""
    server = serve(env={**s3.environ, "ORBITAL_MEDIA_URL": "s3://no-such-bucket-here"}, start=False)
    program = server.launch()

    assert program.wait() == 1
    assert "media storage cannot be used" in program.text
    assert "Traceback" not in program.text
