"""Media: up in chunks, down as a stream, resumed and cancelled."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import io
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay.client import ApiError, MediumTooLarge, Unreachable, UploadInterrupted
from orbital_relay.client.media import download, upload
from orbital_relay.client.media.transfer import TRIES
from orbital_relay.core.backoff import Backoff
from tests.support.depot import DATA, KNOWN, Depot
from tests.support.fake import refusal

# The package's name `download` is the function.
downloads = importlib.import_module("orbital_relay.client.media.download")

FAST = Backoff(steps_ms=(1,), jitter_ms=1)


async def send(depot: Depot, source: Any, **options: Any) -> Any:
    """Upload with chunks of 300 bytes."""
    options = {"chunk_bytes": 300, "encrypted_metadata": "bWV0YQ==", "encryption_iv": "aXY=", **options}
    return await upload(depot.api, "thread", source, backoff=FAST, **options)


@pytest.mark.parametrize("kind", ["bytes", "path", "file"])
async def test_upload(kind: str, tmp_path: Path) -> None:
    """[PYMED1] Bytes, a path or an open file are uploaded in chunks with all fields, and progress reaches 100 %."""
    depot = Depot()
    (tmp_path / "blob").write_bytes(DATA)
    source: Any = {"bytes": DATA, "path": tmp_path / "blob", "file": io.BytesIO(DATA)}[kind]
    progress: list[tuple[int, int]] = []

    stored = await send(depot, source, progress=lambda done, total: progress.append((done, total)))

    assert depot.joined(stored.media_id) == DATA
    assert stored.size_bytes == len(DATA)
    assert progress[0] == (0, len(DATA))
    assert progress[-1] == (len(DATA), len(DATA))
    assert progress == sorted(progress)
    assert sorted(int(fields["chunk_index"]) for fields in depot.fields) == list(range(9))
    assert {fields["total_chunks"] for fields in depot.fields} == {"9"}
    assert {fields["encrypted_metadata"] for fields in depot.fields} == {"bWV0YQ=="}
    if kind == "file":
        assert not source.closed


async def test_upload_with_failures() -> None:
    """[PYMED2] A chunk is sent again after a connection loss or a server error."""
    depot = Depot()
    depot.troubles = [httpx.ReadError("cut"), refusal(503, "UNAVAILABLE"), refusal(429, "TOO_MANY_REQUESTS")]

    stored = await send(depot, DATA)

    assert depot.joined(stored.media_id) == DATA


async def test_upload_is_resumed() -> None:
    """[PYMED3] Chunks that the server already has are not sent again."""
    depot = Depot()
    depot.totals[KNOWN] = 9
    depot.chunks[KNOWN] = {index: DATA[index * 300 : index * 300 + 300] for index in (0, 1, 2, 5, 8)}

    progress: list[int] = []
    await send(depot, DATA, media_id=KNOWN, progress=lambda done, _: progress.append(done))

    assert depot.joined(KNOWN) == DATA
    assert sorted(int(fields["chunk_index"]) for fields in depot.fields) == [3, 4, 6, 7]
    assert progress[0] == 4 * 300 + len(DATA) % 300


async def test_upload_after_a_lost_last_response() -> None:
    """[PYMED4] If only the last response was lost, the client sends no chunk and returns the stored result."""
    depot = Depot()
    depot.totals[KNOWN] = 9
    depot.chunks[KNOWN] = {index: DATA[index * 300 : index * 300 + 300] for index in range(9)}

    stored = await send(depot, DATA, media_id=KNOWN)

    assert (stored.size_bytes, stored.uploaded_at) == (len(DATA), "then")
    assert depot.fields == []


async def test_upload_of_another_file() -> None:
    """[PYMED5] Resuming with a file of another length raises before anything is sent."""
    depot = Depot()
    depot.totals[KNOWN], depot.chunks[KNOWN] = 4, {}

    with pytest.raises(ValueError, match="begun with 4 chunks and now has 9"):
        await send(depot, DATA, media_id=KNOWN)
    with pytest.raises(ValueError, match="empty"):
        await send(depot, b"")
    with pytest.raises(ValueError, match="1 to 5242880 bytes"):
        await send(depot, DATA, chunk_bytes=6 * 1024 * 1024)


async def test_upload_is_refused() -> None:
    """[PYMED6] A refusal ends the upload with the server's error code."""
    depot = Depot()
    depot.troubles = [refusal(413, "QUOTA_EXCEEDED")] * 3

    with pytest.raises(ApiError) as caught:
        await send(depot, DATA)

    assert caught.value.code == "QUOTA_EXCEEDED"


async def test_upload_without_a_server() -> None:
    """[PYMED7] If the server stays unreachable, the error contains the media_id for resuming."""
    depot = Depot()
    depot.troubles = [httpx.ConnectError("refused")] * 100

    with pytest.raises(UploadInterrupted) as caught:
        await send(depot, DATA, parallel=1)
    assert isinstance(caught.value.__cause__, Unreachable)
    depot.troubles.clear()
    await send(depot, DATA, media_id=caught.value.media_id)

    assert depot.joined(caught.value.media_id) == DATA


async def test_upload_is_cancelled() -> None:
    """[PYMED8] Cancelling the task stops the upload, and resuming completes it."""
    depot = Depot()
    begun = asyncio.Event()
    sending = asyncio.create_task(send(depot, DATA, media_id=KNOWN, progress=lambda done, _: done and begun.set()))
    await begun.wait()

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await send(depot, DATA, media_id=KNOWN)

    assert depot.joined(KNOWN) == DATA


async def test_a_file_that_shrinks(tmp_path: Path) -> None:
    """[PYMED9] A file that shrinks during the upload is detected."""
    depot = Depot()
    path = tmp_path / "blob"
    path.write_bytes(DATA)

    with pytest.raises(ValueError, match="became shorter"):
        await send(depot, path, progress=lambda done, _: done == 0 and path.write_bytes(b"x"))


async def test_download() -> None:
    """[PYMED10] A medium is downloaded into memory with the values that decryption needs."""
    progress: list[tuple[int, int]] = []
    got = await download(Depot().api, KNOWN, progress=lambda done, total: progress.append((done, total)))

    assert got.data == DATA
    assert (got.path, got.size_bytes, got.encryption_iv, got.expires_at) == (None, len(DATA), "aXY=", "soon")
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()
    assert progress[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("into", ["memory", "file"])
async def test_download_with_connection_losses(into: str, tmp_path: Path) -> None:
    """[PYMED11] After a connection loss only the missing bytes are downloaded."""
    depot = Depot()
    depot.troubles = [1000, 500, 0]

    got = await download(depot.api, KNOWN, to=tmp_path / "blob" if into == "file" else None, backoff=FAST)

    assert (got.data if into == "memory" else (tmp_path / "blob").read_bytes()) == DATA
    assert depot.ranges == [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()
    assert list(tmp_path.iterdir()) == ([tmp_path / "blob"] if into == "file" else [])


async def test_download_is_resumed_by_another_run(tmp_path: Path) -> None:
    """[PYMED12] A partial download of an earlier run is resumed; one that does not match is discarded."""
    depot = Depot()
    part = tmp_path / f"blob.{KNOWN}.part"
    part.write_bytes(DATA[:2000])
    got = await download(depot.api, KNOWN, to=tmp_path / "blob")
    assert depot.ranges == ["bytes=2000-"]
    assert (tmp_path / "blob").read_bytes() == DATA
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()

    part.write_bytes(DATA + b"too long")
    await download(depot.api, KNOWN, to=tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


async def test_download_does_not_resume_another_medium(tmp_path: Path) -> None:
    """[PYMED19] The partial download of one medium is not used for another medium with the same target file.

    It was: the file had the bytes of both, which only its hash showed.
    """
    depot, other = Depot(), KNOWN.replace("1", "9")
    depot.troubles = [1000, *[0] * 100]
    with pytest.raises(Unreachable):
        await download(depot.api, other, to=tmp_path / "blob", backoff=FAST)
    depot.troubles, depot.ranges = [], []

    await download(depot.api, KNOWN, to=tmp_path / "blob")

    assert depot.ranges == [None]
    assert (tmp_path / "blob").read_bytes() == DATA


async def test_download_is_refused() -> None:
    """[PYMED13] An expired medium is reported as such; an unreachable server is retried only up to the timeout."""
    depot = Depot()
    depot.troubles = [refusal(410, "GONE")]
    with pytest.raises(ApiError) as caught:
        await download(depot.api, KNOWN)
    assert caught.value.status == 410
    depot.troubles = [refusal(503, "UNAVAILABLE")] * 100
    with pytest.raises(ApiError):
        await download(depot.api, KNOWN, backoff=FAST)
    depot.troubles = [0] * 100
    with pytest.raises(Unreachable):
        await download(depot.api, KNOWN, backoff=FAST)


async def test_a_server_that_ignores_ranges(tmp_path: Path) -> None:
    """[PYMED14] A 200 response to a range request is read as the whole medium."""
    depot = Depot()
    (tmp_path / "blob.part").write_bytes(b"x" * 100)

    async def body() -> Any:
        yield DATA

    headers = {"Content-Length": str(len(DATA)), "X-Encryption-IV": "aXY="}
    depot.troubles = [httpx.Response(200, headers=headers, content=body())]

    got = await download(depot.api, KNOWN, to=tmp_path / "blob")

    assert (tmp_path / "blob").read_bytes() == DATA
    assert got.size_bytes == len(DATA)


async def test_memory_of_a_download_is_bounded(tmp_path: Path) -> None:
    """[DOWN1] A medium above the memory limit is refused before any byte is read; a file has no such limit."""
    depot = Depot()

    with pytest.raises(MediumTooLarge) as caught:
        await download(depot.api, KNOWN, memory_bytes=len(DATA) - 1, backoff=FAST)
    fits = await download(depot.api, KNOWN, memory_bytes=len(DATA), backoff=FAST)
    into_file = await download(depot.api, KNOWN, memory_bytes=1, to=tmp_path / "file", backoff=FAST)

    assert (caught.value.size_bytes, caught.value.memory_bytes) == (len(DATA), len(DATA) - 1)
    assert fits.data == DATA
    assert into_file.size_bytes == len(DATA)
    assert depot.ranges == [None, None, None]


async def test_a_body_longer_than_its_content_length() -> None:
    """[DOWN2] A body longer than its Content-Length is rejected, and the rest is not read."""
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield DATA

    headers = {"Content-Length": str(len(DATA)), "X-Encryption-IV": "aXY="}
    depot = Depot()
    depot.troubles = [httpx.Response(200, headers=headers, content=endless()) for _ in range(TRIES)]

    with pytest.raises(Unreachable, match="has more than"):
        await download(depot.api, KNOWN, backoff=FAST)

    assert sent == 2 * TRIES


async def _dripped(depot: Depot, *, rest: bool) -> tuple[Any, int]:
    """Download from a server that sends one byte per turn of the loop, and whose tries end without progress."""
    open_ = 0

    async def drip() -> Any:
        nonlocal open_
        open_ += 1
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.002)  # The drip itself: nothing waits for it.
        finally:
            open_ -= 1

    headers = {"Content-Length": str(1_000_000), "X-Encryption-IV": "aXY="}
    depot.troubles = [httpx.Response(200, headers=headers, content=drip()) for _ in range(1 if rest else TRIES)]
    try:
        return await download(depot.api, KNOWN, backoff=FAST), open_
    except Unreachable as exc:
        return exc, open_


async def test_a_trickling_download_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """[DOWN3] A download below the minimum rate is resumed on a new connection, and the old one is closed."""
    monkeypatch.setattr(downloads, "PROGRESS_S", 0.05)
    depot = Depot()
    depot.whole = b"x" * 200_000

    got, still_open = await _dripped(depot, rest=True)

    assert got.data == depot.whole
    assert still_open == 0
    assert depot.ranges[0] is not None


async def test_an_endless_trickle_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """[DOWN4] A trickle of bytes is not progress: the download fails after as many retries as with a silent server."""
    monkeypatch.setattr(downloads, "PROGRESS_S", 0.02)

    failed, still_open = await _dripped(Depot(), rest=False)

    assert isinstance(failed, Unreachable)
    assert "too slow" in str(failed)
    assert still_open == 0


async def _answered(*answers: dict[str, str]) -> tuple[Depot, str]:
    """Download from a server whose answers have such headers and half of the medium; return what was raised."""

    async def half() -> Any:
        yield DATA[: len(DATA) // 2]

    depot = Depot()
    depot.troubles = [
        httpx.Response(206 if "Content-Range" in head else 200, headers=head, content=half()) for head in answers
    ]
    with pytest.raises(Unreachable) as caught:
        await download(depot.api, KNOWN, backoff=FAST)
    return depot, str(caught.value)


async def test_a_download_without_a_length() -> None:
    """[DOWN5] A download that names no length fails: whether it is whole could not be seen."""
    _, raised = await _answered(*[{"X-Encryption-IV": "aXY="}] * TRIES)

    assert raised == "The response does not contain the length of the medium."


async def test_a_download_that_ends_early() -> None:
    """[DOWN6] A body that ends before its Content-Length is asked for again; if each does so, the download fails."""
    depot, raised = await _answered(*[{"Content-Length": str(len(DATA)), "X-Encryption-IV": "aXY="}] * 2 * TRIES)

    assert raised == f"The download ended after {len(DATA) // 2} of {len(DATA)} bytes."
    assert len(depot.troubles) == TRIES


async def test_a_download_of_another_range() -> None:
    """[DOWN7] A response that starts at another byte than the one requested is not joined to what is there."""
    first = {"Content-Length": str(len(DATA)), "X-Encryption-IV": "aXY="}
    other = {"Content-Length": "9", "X-Encryption-IV": "aXY=", "Content-Range": f"bytes 7-15/{len(DATA)}"}
    _, raised = await _answered(first, *[other] * TRIES)

    assert raised == "The response has another range than the one requested."


async def test_resuming_an_upload_of_another_user() -> None:
    """[PYMED29] A refusal of the state of an upload is raised; only an unknown upload is begun again."""
    depot = Depot()
    depot.troubles = [refusal(403, "FORBIDDEN")]

    with pytest.raises(ApiError) as caught:
        await send(depot, DATA, media_id=KNOWN)

    assert caught.value.status == 403
    assert depot.fields == []
