"""The file stores: what was saved is there, whatever is cancelled or fails meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orbital.client import FileOutbox, FilePositions, Position, StoreDamaged
from orbital.client.stores import MemoryOutbox, Post
from tests.support.fake import GROUP


def waiting(key: str, *, content: str = "AAAA", tried_ms: int | None = None) -> Post:
    """Make a post that waits."""
    body = msgspec.Raw(msgspec.json.encode({"encrypted_envelope": content}))
    return Post(key=key, lane=GROUP, path="/v1/messages", body=body, created_ms=1, tried_ms=tried_ms)


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


async def test_a_cancelled_saving_is_whole(tmp_path: Path) -> None:
    """[POS7] Who is cancelled while a position is being saved has saved it, and a later saving knows."""
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


async def test_a_failed_saving_is_not_believed(tmp_path: Path) -> None:
    """[POS8] A position whose write failed is written when it is saved again."""
    path = tmp_path / "folder" / "positions.json"
    store = FilePositions(path)
    with pytest.raises(FileNotFoundError):
        await store.save(GROUP, Position(1))
    path.parent.mkdir()

    await store.save(GROUP, Position(1))
    assert await FilePositions(path).load(GROUP) == Position(1)


async def test_a_position_that_did_not_move_is_not_written(tmp_path: Path) -> None:
    """[POS6] Saving the same position again costs no write."""
    store = FilePositions(tmp_path / "positions.json")
    await store.save(GROUP, Position(1, "h"))
    (tmp_path / "positions.json").unlink()

    await store.save(GROUP, Position(1, "h"))
    assert not (tmp_path / "positions.json").exists()
    await store.save(GROUP, Position(2, "h"))
    assert await FilePositions(tmp_path / "positions.json").load(GROUP) == Position(2, "h")


async def test_files_keep_the_order(tmp_path: Path) -> None:
    """[STO1] Posts come back in the order of putting, also when one is put again; a removed one is gone."""
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
    """[STO2] A file that cannot be read is named; nothing is thrown away."""
    (tmp_path / "000000000000.json").write_text(content)

    with pytest.raises(StoreDamaged, match=r"000000000000\.json is not a waiting post"):
        await FileOutbox(tmp_path).load()

    assert (tmp_path / "000000000000.json").exists()


async def test_a_stranger_in_the_folder(tmp_path: Path) -> None:
    """[STO3] A half-written new file of a crash is no post."""
    store = FileOutbox(tmp_path)
    await store.put(waiting("a"))
    (tmp_path / "000000000001.json.new").write_text("half")

    assert [post.key for post in await FileOutbox(tmp_path).load()] == ["a"]


def test_types() -> None:
    """[STO4] The stores that come with the SDK are stores."""
    stores: list[Any] = [MemoryOutbox(), FileOutbox("unused")]

    assert all(callable(getattr(store, name)) for store in stores for name in ("load", "put", "remove"))


async def test_a_cancelled_putting_is_whole(tmp_path: Path) -> None:
    """[STO5] Who is cancelled while a post is being put has put it; a removal that follows comes after it."""
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
