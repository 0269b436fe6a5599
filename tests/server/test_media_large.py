"""A large medium through a real server that is killed three times: memory use, and every byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orbital_relay.client import Api
from orbital_relay.client.media import download, upload
from orbital_relay.core.backoff import Backoff
from tests.conftest import Serve
from tests.support.client import Person, opaque
from tests.support.server import Server

MIB = 1024 * 1024
GROWTH_BYTES = 64 * MIB
"""How much more memory a server may hold while it carries a medium than when it had just started."""

QUICK = Backoff(steps_ms=(50, 200, 1_000, 2_000, 4_000, 8_000), jitter_ms=50)


class Memory:
    """What the server's memory grew to, over all of its runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pid = 0
        self._began_bytes = 0
        self.grown_bytes = 0

    def look(self) -> None:
        """Look at the process that runs now; a new one starts from zero."""
        import psutil

        try:
            pid = self._server.pid
            resident = psutil.Process(pid).memory_info().rss
            if pid != self._pid:
                # The baseline is when it answers: before that it is still loading.
                if httpx.get(f"{self._server.url}/health/ready", timeout=60).status_code != 200:
                    return
                self._pid, self._began_bytes = pid, psutil.Process(pid).memory_info().rss
        except (psutil.NoSuchProcess, httpx.TransportError):
            return
        self.grown_bytes = max(self.grown_bytes, resident - self._began_bytes)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look all the time."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                self.look()

        self.look()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def make_file(path: Path, size_mib: int, seed: int) -> str:
    """Write a file of pseudo-random bytes and return its hash."""
    disorder, digest = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size_mib):
            block = disorder.randbytes(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


async def carry(serve: Serve, tmp_path: Path, seed: int, *, size_mib: int) -> None:
    """Send a file up while the server is killed three times, fetch it, and compare."""
    server = serve()
    anna = await Person.sign_up(server.url)
    group = await anna.make_group()
    thread_id = (await anna.open_thread(group))["thread_id"]
    sha256 = await asyncio.to_thread(make_file, tmp_path / "up", size_mib, seed)
    memory = Memory(server)
    kills = iter((0.2, 0.45, 0.7, 2))
    next_kill = next(kills)
    reached = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if done / total > next_kill:
            reached.set()

    with memory.watched():
        async with Api(server.url, token=anna.token, timeout_s=60) as api:
            started = time.monotonic()
            sending = asyncio.create_task(
                upload(
                    api,
                    thread_id,
                    tmp_path / "up",
                    encrypted_metadata=opaque("meta"),
                    encryption_iv=opaque("iv"),
                    progress=progress,
                    backoff=QUICK,
                )
            )
            for _ in range(3):
                waiting = asyncio.ensure_future(reached.wait())
                await asyncio.wait({waiting, sending}, return_when=asyncio.FIRST_COMPLETED)
                assert not sending.done(), sending.exception()
                await asyncio.to_thread(server.restart, kill=True)
                next_kill = next(kills)
                reached.clear()
            stored = await sending
            up_s = time.monotonic() - started
            grown_up = memory.grown_bytes
            started = time.monotonic()
            got = await download(api, stored.media_id, to=tmp_path / "down", backoff=QUICK)
            down_s = time.monotonic() - started
            quota = await api.quota(group.id)

    print(
        f"{size_mib} MiB: up {size_mib / up_s:.0f} MiB/s with three deaths, memory +{grown_up / MIB:.1f} MiB; "
        f"down {size_mib / down_s:.0f} MiB/s, memory +{memory.grown_bytes / MIB:.1f} MiB"
    )
    assert stored.size_bytes == got.size_bytes == size_mib * MIB == quota.total_bytes
    assert got.sha256 == sha256
    with (tmp_path / "down").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
    assert memory.grown_bytes < GROWTH_BYTES
    await anna.close()


async def test_a_large_medium_and_three_kills(serve: Serve, tmp_path: Path, seed: int):
    """[MED20] 100 MiB are uploaded over three kills of the server and downloaded, equal, with bounded memory."""
    await carry(serve, tmp_path, seed, size_mib=100)


@pytest.mark.soak
async def test_the_largest_medium_and_three_kills(serve: Serve, tmp_path: Path, seed: int):
    """[MED28] The same with 500 MiB, the maximum of a medium."""
    await carry(serve, tmp_path, seed, size_mib=500)
