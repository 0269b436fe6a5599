"""The workers of one machine fetch each other's metrics, so that any of them can report those of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

ANSWER_S: Final = 1.0
"""Longest wait for another worker's metrics, and for a worker to read ours; a slower one is skipped."""

MAX_SNAPSHOT_BYTES: Final = 4 * 1024 * 1024
"""Largest snapshot that is accepted from a worker: a hundred times the usual size."""


class Siblings(msgspec.Struct, frozen=True):
    """
    The workers that share a port, each with a Unix socket in a folder that only their user can access.

    Attributes:
        folder: The folder of the sockets.
        number: This worker's number, from 1; a replacement has the same.
        count: The number of workers.
    """

    folder: Path
    number: int
    count: int

    @asynccontextmanager
    async def serve(self, snapshot: Callable[[], bytes]) -> AsyncIterator[None]:
        """Send what `snapshot` returns to any worker that connects."""

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(snapshot())
                with suppress(OSError):
                    async with asyncio.timeout(ANSWER_S):
                        await writer.drain()
                        writer.close()
                        await writer.wait_closed()
            finally:
                writer.transport.abort()

        async with await asyncio.start_unix_server(answer, self._path(self.number)):
            yield

    async def fetch(self) -> dict[int, bytes]:
        """Return the other workers' snapshots by worker number, without those that fail, time out or are too large."""
        others = [number for number in range(1, self.count + 1) if number != self.number]
        snapshots = await asyncio.gather(*map(self._fetch, others))
        return {number: found for number, found in zip(others, snapshots, strict=True) if found is not None}

    async def _fetch(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    await reader.readexactly(MAX_SNAPSHOT_BYTES)
                except asyncio.IncompleteReadError as whole:
                    return whole.partial
                finally:
                    writer.transport.abort()
        except OSError:
            return None
        return None

    def _path(self, number: int) -> str:
        return str(self.folder / str(number))
