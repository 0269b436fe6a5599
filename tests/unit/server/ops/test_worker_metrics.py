"""Workers that ask each other for their numbers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from orbital_relay.server.ops import worker_metrics as room
from orbital_relay.server.ops.worker_metrics import Siblings


async def _upload_lost(asking: socket.socket) -> bool:
    await asyncio.sleep(0.02)  # a pause between looks
    try:
        asking.send(b"?")
    except BrokenPipeError:
        return True
    return False


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nobody for long."""
    monkeypatch.setattr(room, "ANSWER_S", 0.2)


async def test_all_workers_are_queried(tmp_path: Path):
    """[MET13] A worker fetches the snapshots of all other workers, and not its own."""
    async with AsyncExitStack() as reports:
        for number in (1, 2, 3):
            await reports.enter_async_context(Siblings(tmp_path, number, 3).serve(lambda number=number: b"%d" % number))

        assert await Siblings(tmp_path, 2, 3).fetch() == {1: b"1", 3: b"3"}


async def test_a_replacement_worker_binds_the_socket(tmp_path: Path):
    """[MET14] The socket of a killed worker does not prevent the next worker from starting."""
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(tmp_path / "1"))
    gone.close()
    assert await Siblings(tmp_path, 2, 2).fetch() == {}

    async with Siblings(tmp_path, 1, 2).serve(lambda: b"new"):
        assert await Siblings(tmp_path, 2, 2).fetch() == {1: b"new"}


async def test_a_report_in_many_pieces(tmp_path: Path):
    """[MET18] A report is read completely, in any number of pieces."""
    large = bytes(range(256)) * 4096

    async with Siblings(tmp_path, 1, 2).serve(lambda: large):
        assert await Siblings(tmp_path, 2, 2).fetch() == {1: large}


@pytest.mark.usefixtures("soon")
async def test_an_unresponsive_worker_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[MET16] A worker that is gone, silent or sends without end is skipped and delays no one."""
    monkeypatch.setattr(room, "MAX_SNAPSHOT_BYTES", 1000)
    closed = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.close()

    async with (
        await asyncio.start_unix_server(silent, str(tmp_path / "2")),
        Siblings(tmp_path, 3, 5).serve(lambda: bytes(1001)),
        Siblings(tmp_path, 4, 5).serve(lambda: b"well"),
    ):
        async with asyncio.timeout(60):
            assert await Siblings(tmp_path, 1, 5).fetch() == {4: b"well"}
        closed.set()


@pytest.mark.usefixtures("soon")
async def test_a_client_that_does_not_read_is_disconnected(tmp_path: Path):
    """[MET17] A client that requests a report and does not read it is disconnected."""
    async with Siblings(tmp_path, 1, 2).serve(lambda: bytes(4_000_000)):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(tmp_path / "1"))
            async with asyncio.timeout(60):
                while not await _upload_lost(asking):
                    pass
