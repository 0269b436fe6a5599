"""
Persistence of a client: stored positions (checkpoints) to resume from, and posts that the server does not have yet.

A store of your own needs only the methods of the protocol. All methods are called from the client's event loop, one at
a time for a group; one that is slow delays that group's reader, and nobody else.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

import msgspec

from orbital_relay.client.errors import StoreDamaged
from orbital_relay.client.events import Position
from orbital_relay.client.file_lock import FileLock, claim


class PositionStore(Protocol):
    """Remembers how far each group was read. What was saved last is what is loaded."""

    async def load(self, group_id: str) -> Position | None:
        """Give the group's position; None when there is none."""

    async def save(self, group_id: str, position: Position) -> None:
        """Keep the group's position, in place of the one before."""


class MemoryPositions:
    """Positions that live as long as the object, for one program that connects more than once."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}

    async def load(self, group_id: str) -> Position | None:
        """Give the group's position; None when there is none."""
        return self._positions.get(group_id)

    async def save(self, group_id: str, position: Position) -> None:
        """Keep the group's position."""
        self._positions[group_id] = position


class FilePositions:
    """
    Positions in one JSON file, replaced as a whole, so that a crash leaves the old one or the new one.

    One program at a time may use the file; a second one gets StoreInUse, until the first has closed its client
    or ended.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """
        Use this file; it need not exist yet.

        Args:
            path: The file. Its folder must exist.
        """
        self._path = Path(path)
        self._positions: dict[str, Position] | None = None
        self._claim: FileLock | None = None
        self._lock = asyncio.Lock()

    async def load(self, group_id: str) -> Position | None:
        """
        Give the group's position; None when there is none.

        Raises:
            StoreDamaged: If the file is there and cannot be read.
            StoreInUse: If another program uses it.
        """
        async with self._lock:
            return (await self._all()).get(group_id)

    async def save(self, group_id: str, position: Position) -> None:
        """Keep the group's position; it is in the file when this returns, and also when it is cancelled."""
        await _to_the_end(self._save(group_id, position))

    def release(self) -> None:
        """Let another program use the file; the next call locks and reads it again."""
        self._claim = self._positions = None

    async def _save(self, group_id: str, position: Position) -> None:
        async with self._lock:
            positions = await self._all()
            if positions.get(group_id) == position:
                return
            positions = {**positions, group_id: position}
            await asyncio.to_thread(replace_file, self._path, msgspec.json.format(msgspec.json.encode(positions)))
            self._positions = positions

    async def _all(self) -> dict[str, Position]:
        if self._positions is None:
            self._positions = await asyncio.to_thread(self._read)
        return self._positions

    def _read(self) -> dict[str, Position]:
        self._claim = claim(self._path.with_name(self._path.name + ".lock"), of=self._path)
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Position])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise StoreDamaged(
                f"{self._path} is not a file of positions ({exc}); move it away to begin without positions."
            ) from exc


class QueuedPost(msgspec.Struct, frozen=True, kw_only=True):
    """
    A post that waits for the server.

    Attributes:
        key: Its idempotency key, the same for every try.
        lane: Posts of one lane are sent one after the other: the group's id, or `thread:<id>` when that is unknown.
        path: Where it is sent.
        body: The JSON body.
        created_ms: The wall clock when it was accepted, milliseconds since the epoch.
        tried_ms: The wall clock at the first try; None before it.
    """

    key: str
    lane: str
    path: str
    body: msgspec.Raw
    created_ms: int
    tried_ms: int | None = None


class OutboxStore(Protocol):
    """Remembers posts until the server has them, in the order in which they were put."""

    async def load(self) -> list[QueuedPost]:
        """Give all posts, oldest first."""

    async def put(self, post: QueuedPost) -> None:
        """Keep a post; one with the same key is replaced and keeps its place."""

    async def remove(self, key: str) -> None:
        """Forget a post; nothing happens when it is not there."""


class MemoryOutbox:
    """Posts that live as long as the object."""

    def __init__(self) -> None:
        self._posts: OrderedDict[str, QueuedPost] = OrderedDict()

    async def load(self) -> list[QueuedPost]:
        """Give all posts, oldest first."""
        return list(self._posts.values())

    async def put(self, post: QueuedPost) -> None:
        """Keep a post."""
        self._posts[post.key] = post

    async def remove(self, key: str) -> None:
        """Forget a post."""
        self._posts.pop(key, None)


class FileOutbox:
    """
    Posts in a folder, one file each, whole or not at all.

    One program at a time may use the folder; a second one gets StoreInUse, until the first has closed its client or
    ended.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """
        Use this folder; it is made when it does not exist.

        Args:
            folder: A folder for nothing else.
        """
        self._folder = Path(folder)
        self._names: dict[str, str] = {}
        self._next = 0
        self._loaded = False
        self._claim: FileLock | None = None
        self._lock = asyncio.Lock()

    async def load(self) -> list[QueuedPost]:
        """
        Give all posts, oldest first.

        Raises:
            StoreDamaged: If a file in the folder cannot be read.
            StoreInUse: If another program uses the folder.
        """
        async with self._lock:
            return await asyncio.to_thread(self._read)

    async def put(self, post: QueuedPost) -> None:
        """Keep a post; its file is whole when this returns, and also when it is cancelled."""
        await _to_the_end(self._put(post))

    async def remove(self, key: str) -> None:
        """Forget a post."""
        await _to_the_end(self._remove(key))

    def release(self) -> None:
        """Let another program use the folder; the next call locks and reads it again."""
        self._claim, self._loaded = None, False

    async def _put(self, post: QueuedPost) -> None:
        async with self._lock:
            if not self._loaded:
                await asyncio.to_thread(self._read)
            name = self._names.get(post.key)
            if name is None:
                name = f"{self._next:012d}.json"
                self._next += 1
                self._names[post.key] = name
            await asyncio.to_thread(replace_file, self._folder / name, msgspec.json.encode(post))

    async def _remove(self, key: str) -> None:
        async with self._lock:
            name = self._names.pop(key, None)
            if name is not None:
                await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    def _read(self) -> list[QueuedPost]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claim = claim(self._folder / ".lock", of=self._folder)
        posts = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                post = msgspec.json.decode(path.read_bytes(), type=QueuedPost)
                number = int(path.stem)
            except (msgspec.DecodeError, ValueError) as exc:
                raise StoreDamaged(
                    f"{path} is not a waiting post ({exc}); move it away to continue without it."
                ) from exc
            posts.append(post)
            self._names[post.key] = path.name
            self._next = max(self._next, number + 1)
        self._loaded = True
        return posts


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """
    Complete work on a file, also when the caller is cancelled.

    A thread cannot be cancelled: if its caller continued, the next one would write at the same time, or assume that a
    write is done which was removed from the queue.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def replace_file(path: Path, content: bytes) -> None:
    """
    Write a file so that a crash leaves the old content or the new, never a part.

    Args:
        path: The file; its folder exists.
        content: All of it.
    """
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
