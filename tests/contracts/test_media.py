"""What `ports.MediaRows` promises, of both databases: races, quota, and events that occur once."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.api.media import MediaStored
from orbital_relay.errors import Conflict, OrbitalError, TooManyRequests, UploadLost
from orbital_relay.model import (
    Chunk,
    ExpireMedia,
    FinishMedia,
    GroupId,
    MediaId,
    MediaLimits,
    MediaState,
    Principal,
    ThreadId,
)
from orbital_relay.ports import Appended, MediaUsage
from orbital_relay.store.uploads import MOST_UNFINISHED_OF_GROUP, MOST_UNFINISHED_OF_USER, RESTING_MS
from tests.contracts.drafts import NOW_MS, Stamps, enter, group_of, join, leave, new_id, put, put_one, retry_key, thread

LIMITS = MediaLimits(chunk_bytes=100, file_bytes=300, group_bytes=1000, group_files=5, user_uploads=30)
WEEK_MS = 7 * 24 * 3600 * 1000


class Home:
    """A group of two with a thread."""

    def __init__(self, store: Any) -> None:
        self.store, self.stamps = store, Stamps()
        self.ann: Principal
        self.bob: Principal
        self.group_id: GroupId
        self.thread_id: ThreadId

    async def make(self) -> Home:
        """Make it."""
        self.ann, self.bob = await enter(self.store, "ann"), await enter(self.store, "bob")
        made = group_of(self.ann)
        await put_one(self.store, self.stamps, made)
        await put_one(self.store, self.stamps, join(self.bob, made.invite_code))
        opened = thread(self.ann, made.group_id)
        await put_one(self.store, self.stamps, opened)
        self.group_id, self.thread_id = made.group_id, opened.thread_id
        return self

    def chunk(self, media_id: str, index: int = 0, total: int = 1, size: int = 50, **changes: Any) -> Chunk:
        """Make a chunk."""
        values: dict[str, Any] = {
            "sha256": hashlib.sha256(f"{index} {size}".encode()).digest(),
            "declared_bytes": None,
            "encrypted_metadata": "bQ",
            "encryption_iv": "aQ",
        }
        return Chunk(
            media_id=MediaId(media_id),
            thread_id=self.thread_id,
            index=index,
            total_chunks=total,
            size_bytes=size,
            **values | changes,
        )

    async def place(self, chunk: Chunk, *, who: Principal | None = None) -> Any:
        """Ask for a place."""
        user = (who or self.ann).key
        place = await self.store.find_place(user, chunk, limits=LIMITS)
        if place is None:
            place = await self.store.begin_upload(user, chunk, folder=new_id(), limits=LIMITS, now_ms=NOW_MS)
        return place

    async def add(self, chunk: Chunk, folder: str, *, blob: str | None = None) -> Any:
        """Note a chunk."""
        return await self.store.add_chunk(
            chunk, folder=folder, blob=blob or f"{folder}/{new_id()}", limits=LIMITS, now_ms=NOW_MS
        )

    async def store_whole(self, *, total: int = 1, size: int = 50) -> str:
        """Store every chunk of a medium, without finishing it."""
        media_id = new_id()
        for index in range(total):
            chunk = self.chunk(media_id, index, total, size)
            await self.add(chunk, (await self.place(chunk)).folder)
        return media_id

    def finish(self, media_id: str, **changes: Any) -> FinishMedia:
        """Draft the end of an upload."""
        values = {"actor": self.ann, "at_ms": NOW_MS, "expires_ms": NOW_MS + WEEK_MS}
        return FinishMedia(media_id=MediaId(media_id), **values | changes)

    def expire(self, media_id: str, **changes: Any) -> ExpireMedia:
        """Draft the end of a medium."""
        values = {"actor": self.ann, "at_ms": NOW_MS + WEEK_MS}
        return ExpireMedia(media_id=MediaId(media_id), **values | changes)

    async def used(self) -> tuple[int, int]:
        """Return the room that is taken."""
        quota = await self.store.quota(self.ann.key, self.group_id, limits=LIMITS)
        return quota.total_bytes, quota.media_count

    async def said(self) -> list[str]:
        """Return the kinds of the group's events about media."""
        page = await self.store.read(self.group_id, after=0, limit=1000)
        kinds = [wire.kind_of(event.frame) for event in page.events]
        return [kind for kind in kinds if kind.startswith("media")]


@pytest.fixture
async def home(store: Any) -> Home:
    """A group of ann's, with bob and a thread in it."""
    return await Home(store).make()


def codes(outcomes: list[Any]) -> list[str]:
    """Return the codes of what was refused, `ok` for the rest."""
    return sorted(outcome.code if isinstance(outcome, OrbitalError) else "ok" for outcome in outcomes)


async def test_one_of_many_gets_the_last_quota(home: Home):
    """[QUO2] Concurrent uploads never reserve more than the quota, in bytes and in number."""
    asked = [home.place(home.chunk(new_id(), 0, 3, 100)) for _ in range(6)]

    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert codes(outcomes) == ["QUOTA_EXCEEDED"] * 3 + ["ok"] * 3
    assert await home.used() == (900, 3)
    small = await asyncio.gather(
        *(home.place(home.chunk(new_id(), 0, 1, 10)) for _ in range(4)), return_exceptions=True
    )
    assert codes(small) == ["QUOTA_EXCEEDED"] * 2 + ["ok"] * 2
    assert await home.used() == (920, 5)


async def test_a_medium_is_activity(home: Home):
    """[ACT2] A medium moves its thread up too, under its uploader's name; its expiry or deletion does not."""
    media_id = await home.store_whole()
    first = await home.store.thread(home.ann.key, home.thread_id, now_ms=NOW_MS)
    await home.store.append([home.finish(media_id, at_ms=NOW_MS + 5)], first_stamp_ms=NOW_MS + 5)

    moved = await home.store.thread(home.ann.key, home.thread_id, now_ms=NOW_MS)
    assert first.last_encrypted_body is None
    assert moved.last_seq > first.last_seq
    assert moved.last_activity_at == moved.media[0].uploaded_at
    assert (moved.last_author_id, moved.last_encrypted_body) == (home.ann.user_id, None)
    await home.store.append([home.expire(media_id)], first_stamp_ms=NOW_MS + WEEK_MS)
    ended = await home.store.thread(home.ann.key, home.thread_id, now_ms=NOW_MS + WEEK_MS)
    assert (ended.last_seq, ended.last_activity_at) == (moved.last_seq, moved.last_activity_at)


async def test_concurrent_first_chunks_begin_one_upload(home: Home):
    """[MED1] Concurrent first chunks of one medium begin one upload, in one folder."""
    media_id = new_id()

    places = await asyncio.gather(*(home.place(home.chunk(media_id, index, 3)) for index in (0, 1, 2, 0, 1)))

    assert len({place.folder for place in places}) == 1
    assert (await home.used())[1] == 1


async def test_each_chunk_has_its_ordinal_once(home: Home):
    """[MED2] Concurrent chunks are counted one by one; a repeated one keeps its ordinal and its blob."""
    media_id = new_id()
    chunks = [home.chunk(media_id, index, 6, 10) for index in range(6)]
    folder = (await home.place(chunks[0])).folder

    added = await asyncio.gather(*(home.add(chunk, folder) for chunk in [*chunks, *chunks]))

    assert sorted(place.ordinal for place in added) == sorted([*range(1, 7)] * 2)
    assert added[:6] == added[6:]
    assert await home.used() == (60, 1)
    with pytest.raises(Conflict):
        await home.add(home.chunk(media_id, 0, 6, 11), folder)


async def test_a_medium_completes_once(home: Home):
    """[MED2] Of drafts that complete one medium, in one batch or concurrently, one creates an event."""
    media_id = await home.store_whole(total=3, size=40)
    batches = [put(home.store, home.stamps, home.finish(media_id), home.finish(media_id)) for _ in range(3)]

    outcomes = [outcome for batch in await asyncio.gather(*batches) for outcome in batch]

    assert codes(outcomes) == ["CONFLICT"] * 5 + ["ok"]
    assert await home.said() == ["media_uploaded"]
    assert await home.used() == (120, 1)
    upload = await home.store.upload(home.ann.key, MediaId(media_id))
    assert (upload.state, upload.size_bytes, upload.expires_ms) == (MediaState.COMPLETE, 120, NOW_MS + WEEK_MS)
    shown = await home.store.thread(home.bob.key, home.thread_id, now_ms=NOW_MS)
    assert shown.media_count == len(shown.media) == 1


async def test_a_key_repeats_the_first_receipt(home: Home):
    """[RETRY1] The idempotency key of a completed upload returns the stored response, and refuses another use."""
    media_id = await home.store_whole()
    (first,) = await put(home.store, home.stamps, home.finish(media_id, idempotency_key=retry_key("k")))
    (again,) = await put(home.store, home.stamps, home.finish(media_id, idempotency_key=retry_key("k")))

    assert isinstance(first, Appended)
    assert isinstance(again, Appended)
    assert (again.receipt, again.event) == (first.receipt, None)
    assert await home.store.first_receipt(home.ann.key, retry_key("k"), now_ms=NOW_MS) == again.receipt
    assert await home.store.first_receipt(home.ann.key, retry_key("other"), now_ms=NOW_MS) is None
    with pytest.raises(Conflict):
        await home.store.first_receipt(home.ann.key, retry_key("k", b"other"), now_ms=NOW_MS)
    assert isinstance(first.receipt, MediaStored)
    assert first.receipt.size_bytes == 50


async def test_a_former_member_completes_nothing(home: Home):
    """[P1] An upload whose owner has left the group cannot be completed, by the owner or another member."""
    media_id = new_id()
    chunk = home.chunk(media_id)
    await home.add(chunk, (await home.place(chunk, who=home.bob)).folder)
    (others,) = await put(home.store, home.stamps, home.finish(media_id))
    await put_one(home.store, home.stamps, leave(home.bob, home.group_id))
    (left,) = await put(home.store, home.stamps, home.finish(media_id, actor=home.bob))

    assert codes([others, left]) == ["FORBIDDEN", "FORBIDDEN"]
    assert await home.said() == []


async def test_a_medium_expires_once(home: Home):
    """[MED13] A medium expires on time and once, however many callers expire it; its quota is freed, its row kept."""
    media_id = await home.store_whole()
    await put_one(home.store, home.stamps, home.finish(media_id))
    early = await put(home.store, home.stamps, home.expire(media_id, at_ms=NOW_MS + WEEK_MS - 1))
    due = await home.store.due_media(now_ms=NOW_MS + WEEK_MS, limit=10)
    late = await asyncio.gather(*(put(home.store, home.stamps, home.expire(media_id)) for _ in range(3)))

    assert codes(early) == ["CONFLICT"]
    assert [(one.media_id, one.uploader.user_id) for one in due] == [(media_id, home.ann.user_id)]
    assert codes([outcome for batch in late for outcome in batch]) == ["CONFLICT", "CONFLICT", "ok"]
    assert await home.said() == ["media_uploaded", "media_expired"]
    assert await home.used() == (0, 0)
    assert await home.store.due_media(now_ms=NOW_MS + WEEK_MS, limit=10) == []
    (leaving,) = await home.store.pending_deletions(limit=10)
    await home.store.note_deleted(leaving.key)
    assert await home.store.pending_deletions(limit=10) == []
    info = await home.store.media_info(home.bob.key, MediaId(media_id), now_ms=NOW_MS + WEEK_MS)
    assert (info.status, info.size_bytes) == ("expired", 50)
    assert (await home.store.verify(home.group_id)).findings == []


@pytest.mark.parametrize("by", ["ann", "bob"])
async def test_uploads_end_with_the_membership(home: Home, by: str):
    """
    [UPQ1] Whether a member leaves or is removed, the quota of the member's unfinished uploads is freed at once.

    A hundred one-byte chunks reserved a group's whole quota, and the creator got 413 for a day after the removal.
    """
    unfinished = home.chunk(new_id(), 0, 3, 100)
    folder = (await home.place(unfinished, who=home.bob)).folder
    await home.add(unfinished, folder)
    finished, own = home.chunk(new_id()), home.chunk(new_id())
    await home.add(finished, (await home.place(finished, who=home.bob)).folder)
    await put_one(home.store, home.stamps, home.finish(finished.media_id, actor=home.bob))
    await home.add(own, (await home.place(own)).folder)

    await put_one(home.store, home.stamps, leave(getattr(home, by), home.group_id, home.bob))

    assert await home.used() == (100, 2)
    assert [pending.folder for pending in await home.store.pending_deletions(limit=10)] == [folder]
    with pytest.raises(UploadLost):
        await home.add(home.chunk(unfinished.media_id, 1, 3, 100), folder)


async def test_unfinished_uploads_have_a_bound(home: Home):
    """
    [UPQ2] A user may have ten unfinished uploads, a group fifty; the next is refused until one ends or is idle.

    An upload that is idle for ten minutes makes room, the longest idle one first.
    """
    limits = MediaLimits(chunk_bytes=100, file_bytes=300, group_bytes=10**6, group_files=100, user_uploads=30)
    late_ms = NOW_MS + RESTING_MS

    async def begin(who: Principal, *, now_ms: int = NOW_MS) -> Chunk:
        chunk = home.chunk(new_id(), 0, 3, 1)
        await home.store.begin_upload(who.key, chunk, folder=new_id(), limits=limits, now_ms=now_ms)
        return chunk

    first = await begin(home.ann, now_ms=NOW_MS - 1)
    for _ in range(MOST_UNFINISHED_OF_USER - 1):
        await begin(home.ann)
    with pytest.raises(TooManyRequests, match=r"10 uploads of yours .* not finished") as refused:
        await begin(home.ann)
    assert refused.value.retry_after_s == 10

    await begin(home.ann, now_ms=late_ms - 1)
    with pytest.raises(UploadLost):
        await home.place(first)

    others = [await enter(home.store, f"user{number}") for number in range(5)]
    page = await home.store.groups_of(home.ann.key, now_ms=NOW_MS, limit=1)
    for other in others:
        await put_one(home.store, home.stamps, join(other, page.groups[0].invite_code))
    for number in range(MOST_UNFINISHED_OF_GROUP - MOST_UNFINISHED_OF_USER):
        await begin(others[number % 5])
    with pytest.raises(TooManyRequests, match="50 uploads of this group"):
        await begin(home.bob)
    await begin(home.bob, now_ms=late_ms)


async def test_unfinished_uploads_of_all_groups(home: Home):
    """
    [UPB1] A user's unfinished uploads in all groups together have a bound, also when they begin at once.

    The upload that was idle longest makes room, in whatever group it is, and other users are not affected.
    """
    limits = MediaLimits(chunk_bytes=100, file_bytes=300, group_bytes=10**6, group_files=100, user_uploads=4)
    threads = [home.thread_id]
    for _ in range(3):
        made = group_of(home.ann)
        opened = thread(home.ann, made.group_id)
        await put(home.store, home.stamps, made, opened)
        threads.append(opened.thread_id)

    async def begin(thread_id: ThreadId, *, who: Principal = home.ann, now_ms: int = NOW_MS) -> Chunk | OrbitalError:
        chunk = msgspec.structs.replace(home.chunk(new_id(), 0, 3, 1), thread_id=thread_id)
        try:
            await home.store.begin_upload(who.key, chunk, folder=new_id(), limits=limits, now_ms=now_ms)
        except OrbitalError as refusal:
            return refusal
        return chunk

    first = await begin(threads[0], now_ms=NOW_MS - 1)
    results = await asyncio.gather(*(begin(threads[number % 4]) for number in range(8)))

    refused = [each for each in results if isinstance(each, TooManyRequests)]
    assert [isinstance(each, Chunk) for each in results].count(True) == 3
    assert {str(each) for each in refused} == {
        "4 uploads of yours are not finished. Finish or delete one of them, or try again later."
    }
    assert (len(refused), {each.retry_after_s for each in refused}) == (5, {10})
    assert isinstance(await begin(threads[0], who=home.bob), Chunk)
    # Ten minutes after the first, one place is free, and it is that of the first: in another group.
    assert isinstance(await begin(threads[3], now_ms=NOW_MS - 1 + RESTING_MS), Chunk)
    assert isinstance(await begin(threads[3], now_ms=NOW_MS - 1 + RESTING_MS), TooManyRequests)
    assert isinstance(first, Chunk)
    with pytest.raises(UploadLost):
        await home.place(first)


async def test_an_upload_ends_once(home: Home):
    """
    [MED24] An upload is either completed or aborted; the other is then refused.

    With PostgreSQL both succeeded concurrently: the medium was announced and listed, and its bytes were deleted.
    """
    for rested in [False, True] * 15:
        media_id = MediaId(await home.store_whole())
        if rested:
            ending = home.store.abort_resting(before_ms=NOW_MS + 1, limit=1)
        else:
            ending = home.store.abort_upload(home.ann.key, media_id)

        given_up, (finished,) = await asyncio.gather(ending, put(home.store, home.stamps, home.finish(media_id)))

        assert codes([finished]) == ["CONFLICT" if given_up else "ok"]
        state = (await home.store.upload(home.ann.key, media_id)).state
        assert state is (MediaState.ABANDONED if given_up else MediaState.COMPLETE)
        await put(home.store, home.stamps, home.expire(media_id))
        for leaving in await home.store.pending_deletions(limit=10):
            await home.store.note_deleted(leaving.key)
    assert await home.used() == (0, 0)
    assert (await home.store.verify(home.group_id)).findings == []


async def test_a_restarted_upload_is_not_completed(home: Home):
    """[MED24] A caller that read an upload as complete does not complete it if it was restarted since."""
    media_id = await home.store_whole()
    assert await home.store.abort_upload(home.ann.key, MediaId(media_id))
    (leaving,) = await home.store.pending_deletions(limit=10)
    await home.store.note_deleted(leaving.key)
    await home.place(home.chunk(media_id, 0, 2))

    (late,) = await put(home.store, home.stamps, home.finish(media_id))

    assert codes([late]) == ["CONFLICT"]
    assert await home.said() == []


async def test_stored_media_are_counted(home: Home):
    """[QUO7] Media of all groups are counted by state, with the received bytes; ended ones are not counted."""
    none = {MediaState.UPLOADING: MediaUsage(0, 0), MediaState.COMPLETE: MediaUsage(0, 0)}
    assert await home.store.held() == none
    whole, given_up = await home.store_whole(size=40), await home.store_whole()
    await put_one(home.store, home.stamps, home.finish(whole))
    await home.store.abort_upload(home.ann.key, MediaId(given_up))
    chunk = home.chunk(new_id(), 0, 3, 70)
    await home.add(chunk, (await home.place(chunk)).folder)

    assert await home.store.held() == {MediaState.UPLOADING: MediaUsage(1, 70), MediaState.COMPLETE: MediaUsage(1, 40)}
    await put_one(home.store, home.stamps, home.expire(whole))
    assert await home.store.held() == none | {MediaState.UPLOADING: MediaUsage(1, 70)}


async def test_a_late_chunk_of_an_aborted_upload(home: Home):
    """[MED14] A chunk whose upload was aborted meanwhile is refused: its bytes belong to no upload."""
    media_id = new_id()
    chunk = home.chunk(media_id, 0, 2)
    folder = (await home.place(chunk)).folder
    await home.add(chunk, folder)
    assert await home.store.abort_resting(before_ms=NOW_MS, limit=10) == 0
    assert await home.store.abort_resting(before_ms=NOW_MS + 1, limit=10) == 1

    with pytest.raises(UploadLost):
        await home.add(home.chunk(media_id, 1, 2), folder)
    with pytest.raises(UploadLost):
        await home.place(chunk)
    (leaving,) = await home.store.pending_deletions(limit=10)
    await home.store.note_deleted(leaving.key)
    with pytest.raises(UploadLost):
        await home.add(home.chunk(media_id, 1, 2), folder)
    again = await home.place(chunk)
    assert again.folder != folder
    assert again.ordinal is None


async def test_aborting_spares_what_is_stored(home: Home):
    """[QUO5] The quota of a failed first chunk is released; an upload that has a chunk keeps its own."""
    failed, kept = home.chunk(new_id(), 0, 2), home.chunk(new_id(), 0, 2)
    folders = [(await home.place(chunk)).folder for chunk in (failed, kept)]
    await home.add(kept, folders[1])

    for folder in folders:
        await home.store.release_upload(folder)

    assert await home.used() == (150, 1)
    assert (await home.store.upload(home.ann.key, kept.media_id)).received == [0]
