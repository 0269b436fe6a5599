"""What `ports.Blobs` promises, of a folder and of a bucket on a real S3-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orbital_relay.blobs import FolderBlobs, open_blobs
from orbital_relay.blobs import bucket as room
from orbital_relay.blobs.bucket import KEPT_AT_ONCE, PART_BYTES
from orbital_relay.blobs.draft import HELD_BYTES
from orbital_relay.blobs.folder import DRAFTS
from orbital_relay.errors import SettingsInvalid, Unavailable
from orbital_relay.ports import BlobMissing, Blobs
from orbital_relay.services.media_audit import check_blobs
from tests.support.s3 import BUCKET, S3, HeldCalls, s3_server

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """An S3 server with a bucket."""
    with s3_server() as opened:
        yield opened


@pytest.fixture(params=["folder", "bucket"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Blobs]:
    """An empty storage, of each kind."""
    if request.param == "folder":
        opened = open_blobs(None, folder=tmp_path / "media")
    else:
        for name, value in request.getfixturevalue("s3").environ.items():
            monkeypatch.setenv(name, value)
        opened = open_blobs(f"s3://{BUCKET}/{tmp_path.name}", folder=tmp_path)
    yield opened
    await opened.close()


async def put(blobs: Blobs, name: str, data: bytes, *, piece: int = 64 * 1024) -> bytes:
    """Store a blob as the server does, piece by piece; return its hash."""
    draft = blobs.draft()
    try:
        for start in range(0, len(data), piece):
            await draft.write(data[start : start + piece])
        assert draft.size_bytes == len(data)
        digest = await draft.digest()
        await blobs.keep(draft, name)
        return digest
    finally:
        await draft.discard()


async def get(blobs: Blobs, name: str, start: int, end: int) -> bytes:
    """Read some of a blob."""
    return b"".join([piece async for piece in blobs.stream(name, start=start, end=end)])


async def names(blobs: Blobs) -> dict[str, int]:
    """Return what is there, with sizes."""
    return {blob.name: blob.size_bytes async for blob in blobs.listing()}


@pytest.mark.parametrize("size", [1, HELD_BYTES, HELD_BYTES + 1, 5 * MIB, 2 * PART_BYTES + 3])
async def test_read_returns_what_was_written(blobs: Blobs, size: int):
    """[BLOB1] Bytes are returned as they were written, whole and in every range; the hash is that of the bytes."""
    data = os.urandom(size)

    digest = await put(blobs, "a/1", data)

    assert digest == hashlib.sha256(data).digest()
    assert await get(blobs, "a/1", 0, size) == data
    for start, end in ((0, 0), (0, 1), (size - 1, size), (size // 3, size // 2), (size, size)):
        assert await get(blobs, "a/1", start, end) == data[start:end]
    assert await names(blobs) == {"a/1": size}


async def test_large_chunks_go_to_a_bucket_in_parts(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[BLOB2] A blob over S3's smallest part is stored by a multipart upload, over real HTTP."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    bucket = open_blobs(f"s3://{BUCKET}/{tmp_path.name}", folder=tmp_path)
    said = len(s3.program.lines)

    await put(bucket, "film/1", bytes(2 * PART_BYTES + 1))

    s3.program.wait_for(rf"POST /{BUCKET}/{tmp_path.name}/film/1\?uploads= ", after=said)
    for number in (1, 2, 3):
        s3.program.wait_for(rf"PUT /{BUCKET}/{tmp_path.name}/film/1\?partNumber={number}&", after=said)
    assert await names(bucket) == {"film/1": 2 * PART_BYTES + 1}


@pytest.fixture
async def gated(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Blobs, HeldCalls]]:
    """An empty bucket behind a gate."""
    gate = HeldCalls(s3)
    for name, value in gate.environ.items():
        monkeypatch.setenv(name, value)
    bucket = open_blobs(f"s3://{BUCKET}/{tmp_path.name}", folder=tmp_path)
    yield bucket, gate
    await asyncio.to_thread(gate.close)
    await bucket.close()


@pytest.mark.parametrize("refused", ["partNumber=1&", "partNumber=2&", "partNumber=3&", r"POST .*\?uploadId"])
async def test_a_failed_multipart_upload_leaves_no_parts(
    s3: S3, gated: tuple[Blobs, HeldCalls], tmp_path: Path, refused: str
):
    """[BLOB14] Whichever request of a multipart upload fails, its parts are deleted."""
    bucket, gate = gated
    gate.refused = refused

    with pytest.raises(Unavailable):
        await put(bucket, "film/1", bytes(2 * PART_BYTES + 1))

    assert [name for name in s3.uploads() if name.startswith(tmp_path.name)] == []
    assert await names(bucket) == {}
    gate.refused = "no such request"
    await put(bucket, "film/1", bytes(2 * PART_BYTES + 1))
    assert await names(bucket) == {"film/1": 2 * PART_BYTES + 1}


@pytest.mark.parametrize("held", [r"\?uploads", "partNumber=1&"])
async def test_a_cancelled_multipart_upload_leaves_no_parts(
    s3: S3, gated: tuple[Blobs, HeldCalls], tmp_path: Path, held: str
):
    """
    [BLOB14] A multipart upload that is cancelled, as by a shutdown, is aborted before the storage closes.

    obstore dropped it at once, and its parts stayed in the bucket: invisible, but billed.
    """
    bucket, gate = gated
    gate.held = held
    keeping = asyncio.create_task(put(bucket, "film/1", bytes(4 * PART_BYTES)))
    await asyncio.to_thread(gate.wait_for_held)
    keeping.cancel()
    await asyncio.wait([keeping])
    closing = asyncio.create_task(bucket.close())
    gate.release()
    await closing

    assert keeping.cancelled()
    assert [name for name in s3.uploads() if name.startswith(tmp_path.name)] == []
    assert await names(bucket) == {}


async def test_uploads_to_a_bucket_are_limited(gated: tuple[Blobs, HeldCalls], monkeypatch: pytest.MonkeyPatch):
    """[BLOB15] However many blobs are uploaded at once, few are in memory at a time; waiting has a deadline."""
    bucket, gate = gated
    gate.held = "PUT"
    keeping = [asyncio.create_task(put(bucket, f"a/{index}", b"x")) for index in range(3 * KEPT_AT_ONCE)]
    await asyncio.to_thread(gate.wait_for_held, KEPT_AT_ONCE)
    gate.release()
    await asyncio.gather(*keeping)
    assert gate.most_held == KEPT_AT_ONCE

    gate.held = "PUT"
    keeping = [asyncio.create_task(put(bucket, f"b/{index}", b"x")) for index in range(KEPT_AT_ONCE)]
    await asyncio.to_thread(gate.wait_for_held, KEPT_AT_ONCE)
    monkeypatch.setattr(room, "TURN_WAIT_S", 0)
    with pytest.raises(Unavailable, match="too slow"):
        await put(bucket, "b/late", b"x")
    gate.release()
    await asyncio.gather(*keeping)
    assert len(await names(bucket)) == 4 * KEPT_AT_ONCE


async def test_a_truncated_blob(blobs: Blobs):
    """
    [BLOB16] Reading beyond the end of a blob returns the existing bytes, then reports the rest as missing.

    A bucket returned fewer bytes without an error; in a medium of several chunks the next chunk's bytes filled the gap.
    """
    await put(blobs, "a/1", b"0123456789")

    for start in (0, 5, 10, 15):
        pieces = blobs.stream("a/1", start=start, end=20)
        if start < 10:
            assert await anext(pieces) == b"0123456789"[start:]
        with pytest.raises(BlobMissing):
            await anext(pieces)


async def test_a_draft_is_invisible(blobs: Blobs):
    """[BLOB3] A draft is invisible until it is committed, and leaves nothing when discarded."""
    draft = blobs.draft()
    await draft.write(bytes(HELD_BYTES * 2))
    assert await names(blobs) == {}
    await draft.discard()
    await draft.discard()

    assert await names(blobs) == {}
    with pytest.raises(BlobMissing):
        await get(blobs, "a/1", 0, 1)


async def test_a_name_is_replaced_whole(blobs: Blobs):
    """[BLOB4] Writing a name again replaces its content entirely."""
    await put(blobs, "a/1", b"first, and longer")
    await put(blobs, "a/1", b"second")

    assert await get(blobs, "a/1", 0, 6) == b"second"
    assert await names(blobs) == {"a/1": 6}


async def test_deleting(blobs: Blobs):
    """[BLOB5] Blobs are deleted singly and by folder; missing ones are ignored; neighbours stay."""
    for name in ("a/1", "a/2", "ab/1", "b/1"):
        await put(blobs, name, b"x")

    await blobs.delete(["b/1", "b/2", "none/1"])
    await blobs.delete_folder("a")
    await blobs.delete_folder("none")

    assert await names(blobs) == {"ab/1": 1}


async def test_concurrent_writes_and_deletes(blobs: Blobs):
    """[BLOB6] Concurrent writes and deletes of blobs in one folder do not disturb each other."""

    async def come_and_go(index: int) -> None:
        await put(blobs, f"a/{index}", b"x" * (index + 1))
        if index % 2:
            await blobs.delete([f"a/{index}"])

    await asyncio.gather(*(come_and_go(index) for index in range(16)))

    assert await names(blobs) == {f"a/{index}": index + 1 for index in range(0, 16, 2)}


async def test_times_are_those_of_writing(blobs: Blobs):
    """[BLOB7] A blob's time is the time of its writing, to the second."""
    await put(blobs, "a/1", b"x")

    (blob,) = [blob async for blob in blobs.listing()]

    assert abs(blob.modified_ms / 1000 - Path("/proc/self").stat().st_mtime) < 86_400
    assert blob.modified_ms > 1_600_000_000_000


async def test_a_working_storage_passes_the_check(blobs: Blobs):
    """[BLOB8] The check at the start leaves no blob behind."""
    await check_blobs(blobs)

    assert await names(blobs) == {}


# Chapter: the folder


async def test_drafts_of_dead_servers_are_swept(tmp_path: Path):
    """[BLOB9] A draft that a dead server left behind is deleted when it is old enough, as is an empty folder."""
    blobs = FolderBlobs(tmp_path)
    draft = blobs.draft()
    await draft.write(bytes(HELD_BYTES))
    (tmp_path / "empty").mkdir()
    left = next((tmp_path / DRAFTS).iterdir())
    os.utime(left, (1000, 1000))
    os.utime(tmp_path / "empty", (1000, 1000))

    assert await blobs.sweep(before_ms=999_000) == 0
    assert await blobs.sweep(before_ms=1_001_000) == 1
    assert not left.exists()
    assert not (tmp_path / "empty").exists()
    await draft.discard()


async def test_bytes_are_synced_before_they_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[BLOB10] A file is written, synced and renamed, and its folder synced, in that order, for a power failure."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(f"sync {_kind(handle)}"), fsync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (steps.append("rename"), replace(path, to))[1])
    blobs = FolderBlobs(tmp_path)
    await put(blobs, "a/1", b"x")
    steps.clear()

    await put(blobs, "a/2", b"x")

    assert steps == ["sync file", "rename", "sync folder"]


def _kind(handle: int) -> str:
    return "folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file"


@pytest.mark.skipif(os.name != "posix", reason="/dev/full is POSIX")
async def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """[BLOB11] A full disk raises Unavailable with a sentence, and no file has the name."""
    blobs = FolderBlobs(tmp_path)
    monkeypatch.setattr(blobs, "_open_draft", lambda: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
    draft = blobs.draft()
    with pytest.raises(Unavailable):
        await draft.write(bytes(HELD_BYTES))

    assert await names(blobs) == {}
    draft.file.close()


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size; as on a disk that gets full, what fits is still written."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize("size", [HELD_BYTES, HELD_BYTES + 1, 2 * HELD_BYTES - 1])
async def test_a_disk_that_fills_up_within_a_write(blobs: Blobs, size: int):
    """
    [BLOB17] If only a part of the last bytes can be written, the whole write is refused.

    The system reports a short write, and an error only at the next write: the rest was missing from a chunk
    that was answered 200.
    """
    with files_end_at(size - 1), pytest.raises(Unavailable):
        await put(blobs, "a/1", os.urandom(size))

    assert await names(blobs) == {}


async def test_a_draft_that_was_deleted(tmp_path: Path):
    """[BLOB18] A draft whose file was deleted, as by a cleaner of temporary files, is refused and not retried."""
    blobs = FolderBlobs(tmp_path)
    draft = blobs.draft()
    await draft.write(bytes(HELD_BYTES))
    next((tmp_path / DRAFTS).iterdir()).unlink()

    with pytest.raises(Unavailable):
        await blobs.keep(draft, "a/1")

    await draft.discard()
    assert await names(blobs) == {}


# Chapter: opening


@pytest.mark.parametrize(
    "url, words",
    [("s3://", "cannot be used"), ("s3://no-such-bucket-here/x", "cannot be used"), ("ftp://host/x", "cannot be used")],
)
async def test_an_invalid_address_is_refused(
    s3: S3, url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """[BLOB12] An invalid address or a missing bucket prevents the start, with a sentence."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid, match=words):
        await check_blobs(open_blobs(url, folder=tmp_path))


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    """[BLOB13] A file in place of the folder prevents the start, with a sentence."""
    (tmp_path / "media").write_text("in the way")

    with pytest.raises(SettingsInvalid, match="cannot be used"):
        await check_blobs(open_blobs(None, folder=tmp_path / "media"))
