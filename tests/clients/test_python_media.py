"""Media by the Python SDK and its commands, against a real server and through a bad network."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from pathlib import Path

import pytest

from orbital_relay.client import Api, ApiError, MediaUploaded, connect
from orbital_relay.client.media import download, upload
from orbital_relay.core.backoff import Backoff
from tests.clients.test_python_commands import run
from tests.conftest import Serve
from tests.support.client import Person, opaque
from tests.support.proxy import Proxy
from tests.support.server import Server

QUICK = Backoff(steps_ms=(20, 100, 500, 2_000, 4_000, 8_000), jitter_ms=60)
"""Quick at first; the last ones outlast the start of a server on a busy machine."""
MIB = 1024 * 1024


async def thread_of(server: Server) -> tuple[Person, str, str]:
    """Make a person, a group and a thread."""
    anna = await Person.sign_up(server.url)
    group = await anna.make_group()
    thread = await anna.open_thread(group)
    return anna, group.id, thread["thread_id"]


async def test_up_and_down(shared: Server, tmp_path: Path) -> None:
    """[PYMED20] A downloaded medium equals the upload, is one event, counts for the quota and is listed."""
    anna, group_id, thread_id = await thread_of(shared)
    data = secrets.token_bytes(2 * MIB + 17)
    async with connect(shared.url, token=anna.token, verify=True) as orbital:
        stored = await orbital.upload(thread_id, data, encrypted_metadata=b"meta", encryption_iv=b"iv")
        got = await orbital.download(stored.media_id, to=tmp_path / "down")
        events = [event async for event in take(orbital.subscribe(group_id, since=2), 1)]
        quota = await orbital.api.quota(group_id)
        info = await orbital.api.media_info(stored.media_id)
        (listed,) = await orbital.api.thread_media(thread_id)

    assert (tmp_path / "down").read_bytes() == data
    assert got.sha256 == hashlib.sha256(data).hexdigest()
    assert (got.size_bytes, got.encryption_iv) == (len(data), "aXY=")
    assert isinstance(events[0], MediaUploaded)
    assert (events[0].data.media_id, events[0].data.size_bytes) == (stored.media_id, len(data))
    assert (quota.total_bytes, quota.media_count, quota.is_full) == (len(data), 1, False)
    assert info.media_id == listed.media_id == stored.media_id
    assert listed.encrypted_metadata == "bWV0YQ=="
    await anna.close()


async def take(subscription, count: int):
    """Yield so many items."""
    async with subscription, asyncio.timeout(60):
        for _ in range(count):
            yield await anext(subscription)


async def test_over_a_bad_network_and_a_killed_server(serve: Serve, seed: int, tmp_path: Path) -> None:
    """[PYMED21] Despite connection losses at seeded bytes and a killed server the file is complete on both sides."""
    server = serve()
    anna, _, thread_id = await thread_of(server)
    data = random.Random(seed).randbytes(3 * MIB)
    path = tmp_path / "up"
    path.write_bytes(data)
    async with (
        await Proxy.open(server.port, seed=seed) as proxy,
        Api(f"http://127.0.0.1:{proxy.port}", token=anna.token, timeout_s=5) as api,
    ):
        await proxy.set("up", lifetime_bytes=[100_000, 1_500_000])
        half = asyncio.Event()
        sending = asyncio.create_task(
            upload(
                api,
                thread_id,
                path,
                encrypted_metadata=opaque("meta"),
                encryption_iv=opaque("iv"),
                chunk_bytes=128 * 1024,
                progress=lambda done, total: half.set() if done > total / 2 else None,
                backoff=QUICK,
            )
        )
        await half.wait()
        await asyncio.to_thread(server.restart, kill=True)
        async with asyncio.timeout(60):
            stored = await sending
        await proxy.calm()
        await proxy.set("down", lifetime_bytes=[200_000, 1_500_000])
        async with asyncio.timeout(60):
            got = await download(api, stored.media_id, to=tmp_path / "down", backoff=QUICK)

    assert stored.size_bytes == len(data)
    assert got.sha256 == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "down").read_bytes() == data
    await anna.close()


async def test_cancelled_and_resumed(shared: Server) -> None:
    """[PYMED22] A cancelled upload resumes with its media_id, and sends only the missing chunks."""
    anna, _, thread_id = await thread_of(shared)
    data = secrets.token_bytes(10 * 64 * 1024)
    media_id = "11111111-2222-4333-8444-" + secrets.token_hex(6)
    options = {"encrypted_metadata": opaque("meta"), "encryption_iv": opaque("iv"), "chunk_bytes": 64 * 1024}
    async with Api(shared.url, token=anna.token) as api:
        begun = asyncio.Event()

        def progress(done: int, _: int) -> None:
            if done >= 3 * 64 * 1024:
                begun.set()

        sending = asyncio.create_task(
            upload(api, thread_id, data, media_id=media_id, parallel=1, progress=progress, **options)
        )
        await begun.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        seen: list[int] = []
        stored = await upload(
            api, thread_id, data, media_id=media_id, progress=lambda done, _: seen.append(done), **options
        )
        assert seen[0] >= 3 * 64 * 1024
        assert (await download(api, media_id)).data == data
        assert stored.size_bytes == len(data)
        await api.delete_media(media_id)
        with pytest.raises(ApiError) as gone:
            await download(api, media_id)
        assert gone.value.status in {404, 410}
    await anna.close()


async def test_commands(shared: Server, tmp_path: Path) -> None:
    """[PYMED23] `orbital media put` and `get` transfer a file, and the group is notified of the download."""
    anna, _, thread_id = await thread_of(shared)
    (tmp_path / "up").write_bytes(b"\x00\xff" * 1000)

    put = await run(
        shared.url, anna.token, "media", "put", thread_id, str(tmp_path / "up"), "--metadata", "bQ==", "--iv", "aXY="
    )
    assert put.returncode == 0, put.stderr
    media_id = put.stdout.split()[0]
    got = await run(shared.url, anna.token, "media", "get", media_id, str(tmp_path / "down"))

    assert got.returncode == 0, got.stderr
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    async with Api(shared.url, token=anna.token) as api:
        assert [one.user_id for one in (await api.media_info(media_id)).downloaded_by] == [anna.user_id]
    await anna.close()
