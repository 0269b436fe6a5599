"""The file stores: what was saved is there, whatever is cancelled or fails meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orbital_relay.client import FileOutbox, FilePositions, Position, StoreDamaged, StoreInUse
from orbital_relay.client.stores import MemoryOutbox, QueuedPost
from tests.support.fake import GROUP, FakeServer
from tests.support.sdk import client


def waiting(key: str, *, content: str = "AAAA", tried_ms: int | None = None) -> QueuedPost:
    """Make a post that waits."""
    body = msgspec.Raw(msgspec.json.encode({"encrypted_envelope": content}))
    return QueuedPost(key=key, lane=GROUP, path="/v1/messages", body=body, created_ms=1, tried_ms=tried_ms)


@contextmanager
def busy_threads() -> Iterator[None]:
    """Let the loop have one worker thread, which is held until the block ends: work waits in its queue."""
    free = threading.Event()
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(max_workers=1)
    loop.set_default_executor(executor)
    executor.submit(free.wait)
    try:
        yield
    finally:
        free.set()


async def test_a_cancelled_save_is_complete(tmp_path: Path) -> None:
    """[POS7] A cancelled save of a position still completes, and a later save takes it into account."""
    path = tmp_path / "positions.json"
    store = FilePositions(path)
    await store.save(GROUP, Position(1))
    with busy_threads():
        first = asyncio.create_task(store.save(GROUP, Position(2)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(store.save(GROUP, Position(2)))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await first
    await second

    assert await FilePositions(path).load(GROUP) == Position(2)


async def test_invalid_utf8(tmp_path: Path) -> None:
    """[POS10] A position file with bytes that are not UTF-8 is reported as damaged."""
    path = tmp_path / "positions.json"
    path.write_bytes(b'{"a\xff": {"seq": 1}}')

    with pytest.raises(StoreDamaged, match=r"positions\.json is not a file of positions"):
        await FilePositions(path).load(GROUP)


async def test_a_failed_save_does_not_count(tmp_path: Path) -> None:
    """[POS8] A position whose write failed is written by the next save."""
    path = tmp_path / "folder" / "positions.json"
    store = FilePositions(path)
    with pytest.raises(FileNotFoundError):
        await store.save(GROUP, Position(1))
    path.parent.mkdir()

    await store.save(GROUP, Position(1))
    assert await FilePositions(path).load(GROUP) == Position(1)


async def test_a_position_that_did_not_move_is_not_written(tmp_path: Path) -> None:
    """[POS6] Saving the same position again causes no write."""
    store = FilePositions(tmp_path / "positions.json")
    await store.save(GROUP, Position(1, "h"))
    (tmp_path / "positions.json").unlink()

    await store.save(GROUP, Position(1, "h"))
    assert not (tmp_path / "positions.json").exists()
    await store.save(GROUP, Position(2, "h"))
    assert await FilePositions(tmp_path / "positions.json").load(GROUP) == Position(2, "h")


async def test_files_keep_the_order(tmp_path: Path) -> None:
    """[STO1] Posts are loaded in the order in which they were first put; a removed post is deleted."""
    store = FileOutbox(tmp_path / "new" / "folder")
    for key in "cab":
        await store.put(waiting(key))
    await store.put(waiting("c", content="BBBB", tried_ms=5))
    await store.remove("a")
    await store.remove("nobody")

    again = FileOutbox(tmp_path / "new" / "folder")
    assert [(post.key, post.tried_ms) for post in await again.load()] == [("c", 5), ("b", None)]
    await again.put(waiting("d"))
    assert [post.key for post in await FileOutbox(tmp_path / "new" / "folder").load()] == ["c", "b", "d"]


@pytest.mark.parametrize("content", ["", "half a fi", "{}"])
async def test_a_damaged_folder(tmp_path: Path, content: str) -> None:
    """[STO2] An unreadable file is named in the error, and nothing is deleted."""
    (tmp_path / "000000000000.json").write_text(content)

    with pytest.raises(StoreDamaged, match=r"000000000000\.json is not a waiting post"):
        await FileOutbox(tmp_path).load()

    assert (tmp_path / "000000000000.json").exists()


async def test_an_unknown_file_in_the_folder(tmp_path: Path) -> None:
    """[STO3] A half-written new file that a crash left is not loaded as a post."""
    store = FileOutbox(tmp_path)
    await store.put(waiting("a"))
    (tmp_path / "000000000001.json.new").write_text("half")

    assert [post.key for post in await FileOutbox(tmp_path).load()] == ["a"]


def test_types() -> None:
    """[STO4] The stores in the SDK implement the store protocols."""
    stores: list[Any] = [MemoryOutbox(), FileOutbox("unused")]

    assert all(callable(getattr(store, name)) for store in stores for name in ("load", "put", "remove"))


async def test_a_cancelled_put_is_complete(tmp_path: Path) -> None:
    """[STO5] A cancelled put still completes; a later removal takes effect after it."""
    store = FileOutbox(tmp_path)
    await store.load()
    with busy_threads():
        putting = [asyncio.create_task(store.put(waiting(key))) for key in "ab"]
        await asyncio.sleep(0)
        removing = asyncio.create_task(store.remove("a"))
        await asyncio.sleep(0)
        for task in [*putting, removing]:
            task.cancel()
        await asyncio.sleep(0)
    assert [type(end) for end in await asyncio.gather(*putting, removing, return_exceptions=True)] == [
        asyncio.CancelledError
    ] * 3

    assert [post.key for post in await FileOutbox(tmp_path).load()] == ["b"]


# Chapter: one program at a time

OTHER_PROGRAM = """
import asyncio, sys
from orbital_relay.client import ClientError, FileOutbox, FilePositions, Position
async def main(kind, path, *then):
    store = FilePositions(path) if kind == "positions" else FileOutbox(path)
    try:
        await (store.load("g") if kind == "positions" else store.load())
    except ClientError as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("has it", flush=True)
        if then:
            sys.stdin.readline()
asyncio.run(main(*sys.argv[1:]))
"""


async def other_program(kind: str, path: Path, *then: str) -> asyncio.subprocess.Process:
    """Start another program that uses a store; with `hold` it does not end by itself."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER_PROGRAM, kind, str(path), *then, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def first_line(program: asyncio.subprocess.Process) -> str:
    """Give what another program prints first."""
    assert program.stdout is not None
    async with asyncio.timeout(60):
        return (await program.stdout.readline()).decode().strip()


@pytest.mark.parametrize("kind", ["positions", "outbox"])
async def test_one_program_at_a_time(kind: str, tmp_path: Path) -> None:
    """[STO6] A second program that opens the same file gets StoreInUse until the first one closes it."""
    path = tmp_path / "store"
    store = FilePositions(path) if kind == "positions" else FileOutbox(path)
    if isinstance(store, FilePositions):
        await store.save(GROUP, Position(1))
    else:
        await store.put(waiting("a"))

    refused = await other_program(kind, path)
    assert await first_line(refused) == (
        f"StoreInUse {path} is used by another program; stop that one, or give this one another place."
    )
    await refused.wait()
    store.release()
    admitted = await other_program(kind, path)

    assert await first_line(admitted) == "has it"
    await admitted.wait()
    if isinstance(store, FilePositions):
        assert await store.load(GROUP) == Position(1)
    else:
        assert [post.key for post in await store.load()] == ["a"]


@pytest.mark.parametrize("kind", ["positions", "outbox"])
async def test_a_killed_program_releases_its_lock(kind: str, tmp_path: Path) -> None:
    """[STO7] A killed program leaves no lock that has to be removed by hand."""
    path = tmp_path / "store"
    killed = await other_program(kind, path, "hold")
    assert await first_line(killed) == "has it"
    store = FilePositions(path) if kind == "positions" else FileOutbox(path)
    with pytest.raises(StoreInUse):
        await (store.load(GROUP) if isinstance(store, FilePositions) else store.load())

    killed.kill()
    await killed.wait()

    assert not await (store.load(GROUP) if isinstance(store, FilePositions) else store.load())


async def test_one_program_may_have_many_stores(tmp_path: Path) -> None:
    """[STO8] One program may open several stores on a file, in sequence or concurrently, from any thread."""
    first, second = FilePositions(tmp_path / "store"), FilePositions(tmp_path / "store")

    await asyncio.gather(first.save(GROUP, Position(1)), second.load(GROUP))
    del first
    assert await FilePositions(tmp_path / "store").load(GROUP) == Position(1)
    refused = await other_program("positions", tmp_path / "store")

    assert (await first_line(refused)).startswith("StoreInUse")
    await refused.wait()


async def test_a_closed_client_releases_its_lock(server: FakeServer, tmp_path: Path) -> None:
    """[STO9] Closing a client releases its stores for other programs, though the process continues."""
    stores = {"store": FilePositions(tmp_path / "positions"), "outbox": FileOutbox(tmp_path / "outbox")}
    server.log(events=1)
    async with client(server, **stores) as orbital, orbital.subscribe(GROUP, since=0) as subscription:
        await anext(subscription)
        refused = [await other_program(kind, tmp_path / kind) for kind in ("positions", "outbox")]
        assert all([(await first_line(program)).startswith("StoreInUse") for program in refused])
        for program in refused:
            await program.wait()

    admitted = [await other_program(kind, tmp_path / kind) for kind in ("positions", "outbox")]
    assert [await first_line(program) for program in admitted] == ["has it"] * 2
    for program in admitted:
        await program.wait()
