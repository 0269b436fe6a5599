"""Upkeep and rare answers: retention, erasure, checks and copies of media, an account that is gone."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.api.media import MediaCompleted, MediaStored
from orbital_relay.blobs import FolderBlobs
from orbital_relay.errors import NotFound, SettingsInvalid, Unavailable, UploadEnded, UploadLost
from orbital_relay.model import IdempotencyKey, MediaId, MediaLimits, MediaState, Upload, UserId
from orbital_relay.ports import Blob, BlobMissing
from orbital_relay.services import media_upload, own_account
from orbital_relay.services.erasure import MARGIN_MS, erase
from orbital_relay.services.media_audit import NAMES_AT_ONCE, check_blobs, examine, orphans
from orbital_relay.services.media_context import MediaContext
from orbital_relay.services.media_copy import Copied, copy_media
from orbital_relay.services.people import state
from orbital_relay.services.pruning import PRUNE_ROWS, prune
from tests.contracts.test_blobs import put
from tests.unit.services.desk import ADA, NOW_MS, Clock, Desk

# Chapter: retention and erasure


class _Full:
    """A store of which each kind of row has so many full batches to delete, and then a short one."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self.calls: Counter[str] = Counter()

    def _delete(self, kind: str) -> int:
        self.calls[kind] += 1
        return PRUNE_ROWS if self.calls[kind] <= self._batches else 3

    async def prune(self, *, before_ms: int, keys_before_ms: int, limit: int) -> int:
        assert (before_ms, limit) == (NOW_MS - 50, PRUNE_ROWS)
        assert keys_before_ms < NOW_MS
        return self._delete("events")

    async def prune_keys(self, *, before_ms: int, limit: int) -> int:
        assert (before_ms, limit) == (NOW_MS - 86_400_000, PRUNE_ROWS)
        return self._delete("keys")

    async def prune_logins(self, *, before_ms: int, limit: int) -> int:
        assert (before_ms, limit) == (NOW_MS, PRUNE_ROWS)
        return self._delete("logins")

    async def prune_mailboxes(self, *, before_ms: int) -> None:
        assert before_ms < NOW_MS
        self.calls["mailboxes"] += 1


@pytest.mark.parametrize("batches", [0, 2])
async def test_retention_deletes_until_a_batch_is_not_full(batches: int):
    """[UPKEEP1] Expired rows are deleted in batches until one is not full: a round leaves nothing that is due."""
    store: Any = _Full(batches)

    await prune(store, now_ms=NOW_MS, keep_ms=50)

    assert store.calls == {"events": batches + 1, "keys": batches + 1, "logins": batches + 1, "mailboxes": 1}


class _Erased:
    """A store without due accounts, in which erased users left content."""

    def __init__(self, *, left: bool) -> None:
        self._left = left
        self.before_ms = 0

    async def purge_thread(self, *, limit: int) -> bool:
        return limit == 0

    async def due_erasures(self) -> list[Any]:
        return []

    async def due_deletions(self) -> list[Any]:
        return []

    async def erase_content(self, *, before_ms: int) -> bool:
        self.before_ms = before_ms
        return self._left


@pytest.mark.parametrize("left", [True, False])
async def test_content_of_erased_accounts(left: bool, caplog: pytest.LogCaptureFixture):
    """[UPKEEP2] What an erased user wrote is deleted once no log keeps it, and the deletion is logged, if any."""
    store: Any = _Erased(left=left)

    with caplog.at_level("INFO", "orbital.accounts"):
        await erase(store, append=Desk().context.append, clock=Clock(), keep_ms=1000)

    assert store.before_ms == NOW_MS - 1000 - MARGIN_MS
    assert [record.message for record in caplog.records] == ["content of erased accounts deleted"] * left


# Chapter: checks of the media storage


class _Storage(FolderBlobs):
    """A folder that fails as a test asks."""

    def __init__(self, folder: Path, *, fails: OSError | None = None, returns: bytes | None = None) -> None:
        super().__init__(folder)
        self._fails, self._returns = fails, returns
        self.vanished: set[str] = set()

    async def keep(self, draft: Any, name: str) -> None:
        if self._fails is not None:
            raise Unavailable("The media storage cannot be used.") from self._fails
        await super().keep(draft, name)

    async def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        if name in self.vanished:
            raise BlobMissing(name)
        if self._returns is not None:
            yield self._returns
            return
        async for piece in super().stream(name, start=start, end=end):
            yield piece


async def test_a_full_disk_does_not_prevent_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """[UPKEEP3] At the start a full disk is a warning, since stored media can be read; another fault ends the start."""
    full = _Storage(tmp_path, fails=OSError(errno.ENOSPC, "No space left on device"))
    broken = _Storage(tmp_path, fails=OSError(errno.EIO, "Input/output error"))

    await check_blobs(full)
    assert [record.message for record in caplog.records] == [
        "the disk of the media storage is full; media cannot be stored"
    ]
    with pytest.raises(SettingsInvalid, match=r"cannot be used: .*Input/output error"):
        await check_blobs(broken)


async def test_a_storage_that_returns_other_bytes(tmp_path: Path):
    """[UPKEEP4] A storage that returns other bytes than were stored ends the start, and the test blob is deleted."""
    with pytest.raises(SettingsInvalid, match="returned other bytes"):
        await check_blobs(_Storage(tmp_path, returns=b"another"))

    assert [blob async for blob in FolderBlobs(tmp_path).listing()] == []


class _Rows:
    """The rows of media that know no blob."""

    async def known_chunks(self, folders: Collection[str]) -> dict[str, int]:
        return {}

    async def chunks_after(self, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
        return [(1, "medium-1", {"a/1": 3}), (2, "medium-2", {"b/1": 3})] if key == 0 else []


class _Many:
    """A storage with more blobs than are looked up at a time."""

    async def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        for number in range(NAMES_AT_ONCE + 2):
            yield Blob(f"f{number}/1", 1, 0)


async def test_more_orphans_than_one_lookup():
    """[UPKEEP5] Blobs without a row are found in each batch of names, each once."""
    rows: Any = _Rows()
    blobs: Any = _Many()

    found = [blob.name async for blob in orphans(rows, blobs)]

    assert found == [f"f{number}/1" for number in range(NAMES_AT_ONCE + 2)]


class _Unreachable:
    """A storage that cannot be reached."""

    async def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        for reached in (False, True):
            if not reached:
                raise Unavailable("The media storage cannot be reached.")
            yield Blob("a/1", 3, 0)


async def test_an_unreachable_storage_is_not_a_missing_chunk():
    """[UPKEEP6] A check of a storage that cannot be reached raises the reason; no medium is reported as damaged."""
    rows: Any = _Rows()
    blobs: Any = _Unreachable()

    with pytest.raises(Unavailable, match="cannot be reached"):
        _ = [text async for text in examine(rows, blobs, before_ms=NOW_MS)]


async def test_a_blob_that_vanishes_during_a_copy(tmp_path: Path):
    """[UPKEEP7] A blob that the server deletes while media are copied is left out, and the copy continues."""
    source, target = _Storage(tmp_path / "source"), FolderBlobs(tmp_path / "target")
    await put(source, "a/1", b"one")
    await put(source, "b/1", b"two")
    source.vanished.add("a/1")

    copied = await copy_media(source, target)

    assert copied == Copied(1, 3, 0, 0)
    assert [blob.name async for blob in target.listing()] == ["b/1"]


# Chapter: the end of an upload


class _Uploads:
    """Rows of one upload, and the receipt of an earlier request."""

    def __init__(self, state: MediaState, receipt: MediaStored | None = None) -> None:
        self._state, self._receipt = state, receipt

    async def upload(self, user: int, media_id: MediaId) -> Upload:
        return Upload(
            state=self._state, total_chunks=1, received=[0], size_bytes=9, uploaded_ms=NOW_MS, expires_ms=NOW_MS + 1
        )

    async def first_receipt(self, user: int, key: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
        return self._receipt


def _room(rows: Any, desk: Desk) -> MediaContext:
    unused: Any = None
    return MediaContext(
        rows=rows,
        blobs=unused,
        append=desk.context.append,
        clock=Clock(),
        limits=MediaLimits(chunk_bytes=9, file_bytes=9, group_bytes=9, group_files=1, user_uploads=1),
        limiter=unused,
        uploads_an_hour=1,
        envelope_bytes=30,
        keep_ms=1000,
        abandon_ms=1000,
        started_ms=NOW_MS,
        alone=True,
    )


async def test_an_upload_that_was_begun_again_meanwhile():
    """[UPKEEP8] Completing an upload that was abandoned and begun again asks the client to send the chunks again."""
    desk = Desk(lambda _draft: UploadEnded("ended"))
    room = _room(_Uploads(MediaState.UPLOADING), desk)

    with pytest.raises(UploadLost, match="Send its chunks again") as refused:
        await media_upload.complete(room, ADA, MediaId("m"), if_epoch=None, idempotency_key=None)

    assert refused.value.retry_after_s == 1


async def test_a_repeated_completion():
    """[UPKEEP9] A completion that is repeated with its key gets the first answer, and appends nothing."""
    desk = Desk()
    first = MediaStored(media_id="m", size_bytes=9, uploaded_at="then", expires_at="later")
    room = _room(_Uploads(MediaState.UPLOADING, first), desk)

    answer = await media_upload.complete(
        room, ADA, MediaId("m"), if_epoch=None, idempotency_key=IdempotencyKey("key", b"")
    )

    assert answer == MediaCompleted(media_id="m", size_bytes=9, expires_at="later")
    assert desk.drafts == []


# Chapter: accounts


async def test_a_token_without_an_account():
    """[UPKEEP10] A valid token of a user who has no row, such as one who never made a request, gets 404."""

    class Nobody:
        async def find_user(self, user_id: UserId) -> None:
            assert user_id == ADA.user_id

    with pytest.raises(NotFound, match="no account for this token"):
        await own_account.own_account(Desk(store=Nobody()).context, ADA)


@pytest.mark.parametrize(
    ("erase_ms", "disabled_ms", "word"),
    [(None, None, "active"), (None, 5, "disabled"), (5, None, "being erased"), (5, 5, "being erased")],
)
def test_the_state_of_an_account(erase_ms: int | None, disabled_ms: int | None, word: str):
    """[UPKEEP11] An account that is being erased is shown as such, also when it was disabled before."""
    user: Any = type("User", (), {"erase_ms": erase_ms, "disabled_ms": disabled_ms})()

    assert state(user) == word
