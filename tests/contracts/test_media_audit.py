"""Comparing rows of media with the bytes in a bucket: memory use, and concurrent requests."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.blobs import open_blobs
from orbital_relay.ports import Blob
from orbital_relay.services.media_audit import EXAMINED_AT_ONCE, examine
from tests.contracts.test_blobs import put
from tests.support.s3 import BUCKET, S3, s3_server

CHUNK = 300_000
ALWAYS_MS = 2**53


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """An S3 server with a bucket."""
    with s3_server() as opened:
        yield opened


class Rows:
    """The rows of media: the medium `n` has the chunks that `chunks(n)` makes, names with sizes."""

    def __init__(self, count: int, chunks: Callable[[int], dict[str, int]]) -> None:
        self._count, self._chunks = count, chunks
        self.asked = 0

    async def chunks_after(self, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
        """See `ports.MediaRows.chunks_after`."""
        numbers = range(key + 1, min(key + limit, self._count) + 1)
        return [(number, f"medium-{number}", self._chunks(number)) for number in numbers]

    async def known_chunks(self, folders: Collection[str]) -> dict[str, int]:
        """See `ports.MediaRows.known_chunks`."""
        self.asked = max(self.asked, len(folders))
        return {name: size for folder in folders for name, size in self._chunks(int(folder[1:])).items()}


class Counting:
    """Blobs that count the requests in progress, and the bytes that came of them."""

    def __init__(self, blobs: Any) -> None:
        self._blobs = blobs
        self._now = 0
        self.most = 0
        self.read_bytes = 0

    async def _counted(self, found: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            async for each in found:
                yield each
        finally:
            self._now -= 1

    def listing(self, folder: str | None = None) -> AsyncIterator[Any]:
        """List all, or one folder."""
        return self._counted(self._blobs.listing(folder))

    async def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """Read."""
        async for piece in self._counted(self._blobs.stream(name, start=start, end=end)):
            self.read_bytes += len(piece)
            yield piece


async def test_requests_of_a_bucket(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[AUDIT1] For a bucket with forty media, half of them damaged, each finding is named, with 8 requests at once."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    bucket = open_blobs(f"s3://{BUCKET}/{tmp_path.name}", folder=tmp_path)
    media = {number: {f"f{number}/00000-x": CHUNK, f"f{number}/00001-x": 10} for number in range(1, 41)}
    data = os.urandom(CHUNK)
    for number, chunks in media.items():
        for name, size in chunks.items():
            if number % 4 == 0 and size == CHUNK:
                continue  # Missing.
            wrong = number % 4 == 1 and size == CHUNK
            await put(bucket, name, data[:size] + (data if wrong else b""))
    await put(bucket, "f3/00002-stray", b"stray")
    counting = Counting(bucket)
    rows: Any = Rows(40, media.__getitem__)
    blobs: Any = counting

    found = [text async for text in examine(rows, blobs, before_ms=ALWAYS_MS)]

    lacking = [
        f"the medium medium-{number} lacks 1 of its 2 chunks (300,000 bytes)" for number in media if number % 4 < 2
    ]
    assert found == [
        *lacking,
        "the bytes f3/00002-stray belong to no medium; `orbital media gc` deletes them",
    ]
    assert 1 < counting.most <= EXAMINED_AT_ONCE
    # Blobs that match their row are not read; of the others at most one byte too many is read.
    assert counting.read_bytes <= 10 * (CHUNK + 1)
    await bucket.close()


class Many:
    """A storage that makes its list as it is read."""

    async def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        """List all, or one folder."""
        for number in range(1, 10_001) if folder is None else [int(folder[1:])]:
            for name, size in _ten(number).items():
                yield Blob(name, size, 0)


def _ten(number: int) -> dict[str, int]:
    return {f"f{number}/{index:05}-{'x' * 64}": 10 for index in range(10)}


async def test_memory_of_an_audit():
    """[AUDIT2] Comparing a hundred thousand blobs with their rows takes less than 4 MiB; all names take 25 MiB."""
    rows: Any = Rows(10_000, _ten)
    blobs: Any = Many()
    tracemalloc.start()
    try:
        found = [text async for text in examine(rows, blobs, before_ms=ALWAYS_MS)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == []
    assert most < 4 * 1024 * 1024
    assert rows.asked <= 1000
