"""The store's methods that are one text for both databases: each names its query and hands it to the adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from sqlalchemy import Connection

from orbital_relay.api.groups import Groups, Members
from orbital_relay.api.media import MediaStored, MediumInfo, Quota, ThreadMedia
from orbital_relay.api.threads import Replies, Threads, ThreadWithMedia
from orbital_relay.errors import Busy, OrbitalError
from orbital_relay.model import (
    Access,
    Account,
    AnyDraft,
    Chunk,
    ChunkPlace,
    DueMedia,
    Event,
    GroupId,
    Head,
    IdempotencyKey,
    MediaFile,
    MediaId,
    MediaLimits,
    MediaState,
    MembershipAtHead,
    Page,
    PendingDeletion,
    ResumePoint,
    Revocation,
    ThreadId,
    Upload,
    UserId,
)
from orbital_relay.ports import Appended, Held
from orbital_relay.store import archive, marks, media, queries
from orbital_relay.store.integrity import integrity
from orbital_relay.store.verify import Report, group_ids, verify

T = TypeVar("T")


class SqlStore(ABC):
    """
    A `ports.Store` over SQLAlchemy Core.

    An adapter says how a query runs in one transaction, for reading or for writing, and how drafts are appended.
    """

    _stuck: bool
    """Whether the last commit failed."""

    @abstractmethod
    async def _read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `query(connection, …)` in a transaction that sees one moment."""

    @abstractmethod
    async def _write(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `query(connection, …)` in a transaction that is committed, durably, when it returns."""

    @abstractmethod
    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """Decide, number, seal and store drafts; see `ports.Store.append`."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of the database."""

    # Chapter: the log

    async def read(self, group_id: GroupId, *, after: int, limit: int) -> Page:
        """See `ports.Store.read`."""
        return await self._read(queries.read, group_id, after=after, limit=limit)

    async def heads(self, group_ids: Collection[GroupId]) -> dict[GroupId, Head]:
        """See `ports.Store.heads`."""
        return await self._read(queries.heads, group_ids)

    async def last_stamp_ms(self) -> int:
        """See `ports.Store.last_stamp_ms`."""
        return await self._read(queries.last_stamp_ms)

    async def settled_ms(self) -> int | None:
        """See `ports.Store.settled_ms`."""
        return None

    async def standings(self, user: int, group_ids: Collection[GroupId]) -> dict[GroupId, MembershipAtHead]:
        """See `ports.Store.standings`."""
        return await self._read(queries.standings, user, group_ids)

    async def resume_points(self, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
        """See `ports.Store.resume_points`."""
        return await self._read(queries.resume_points, positions)

    async def prune(self, *, before_ms: int, limit: int) -> int:
        """See `ports.Store.prune`."""
        return await self._write(queries.prune, before_ms=before_ms, limit=limit)

    async def prune_keys(self, *, before_ms: int, limit: int) -> int:
        """See `ports.Store.prune_keys`."""
        return await self._write(queries.prune_keys, before_ms=before_ms, limit=limit)

    # Chapter: accounts

    async def add_account(
        self,
        *,
        user_id: UserId,
        username: str,
        public_key: bytes,
        password_hash: str,
        at_ms: int,
        once: IdempotencyKey | None = None,
    ) -> Account:
        """See `ports.Store.add_account`."""
        return await self._write(
            queries.add_account,
            user_id=user_id,
            username=username,
            public_key=public_key,
            password_hash=password_hash,
            at_ms=at_ms,
            once=once,
        )

    async def signed_up(self, username: str, once: IdempotencyKey, *, now_ms: int) -> Account | None:
        """See `ports.Store.signed_up`."""
        return await self._read(queries.signed_up, username, once, now_ms=now_ms)

    async def account(self, username: str) -> Account | None:
        """See `ports.Store.account`."""
        return await self._read(queries.account, username)

    async def enter_user(self, *, user_id: UserId, username: str, at_ms: int) -> int:
        """See `ports.Store.enter_user`."""
        known = await self._read(queries.user_key, user_id)
        if known is not None:
            return known
        return await self._write(queries.enter_user, user_id=user_id, username=username, at_ms=at_ms)

    async def find_user(self, user_id: UserId) -> Account | None:
        """See `ports.Store.find_user`."""
        return await self._read(queries.find_user, user_id)

    async def revoke(self, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float) -> None:
        """See `ports.Store.revoke`."""
        await self._write(queries.revoke, token_digest=token_digest, user_id=user_id, at_s=at_s, until_s=until_s)

    async def revocations(self, *, after: int) -> list[Revocation]:
        """See `ports.Store.revocations`."""
        return await self._read(queries.revocations, after=after)

    # Chapter: groups, threads, messages

    async def groups_of(self, user: int, *, now_ms: int, limit: int, offset: int = 0) -> Groups:
        """See `ports.Store.groups_of`."""
        return await self._read(queries.groups_of, user, now_ms=now_ms, limit=limit, offset=offset)

    async def members(self, user: int, group_id: GroupId, *, limit: int, offset: int = 0) -> Members:
        """See `ports.Store.members`."""
        return await self._read(queries.members, user, group_id, limit=limit, offset=offset)

    async def access(self, user: int, group_id: GroupId) -> Access:
        """See `ports.Store.access`."""
        return await self._read(queries.access, user, group_id)

    async def replace_code(self, user: int, group_id: GroupId, *, invite_code: str, expires_ms: int) -> None:
        """See `ports.Store.replace_code`."""
        await self._write(queries.replace_code, user, group_id, invite_code=invite_code, expires_ms=expires_ms)

    async def thread_group(self, thread_id: ThreadId) -> GroupId | None:
        """See `ports.Store.thread_group`."""
        return await self._read(queries.thread_group, thread_id)

    async def threads(self, user: int, group_id: GroupId, *, limit: int, offset: int, newest_first: bool) -> Threads:
        """See `ports.Store.threads`."""
        return await self._read(queries.threads, user, group_id, limit=limit, offset=offset, newest_first=newest_first)

    async def thread(self, user: int, thread_id: ThreadId, *, now_ms: int) -> ThreadWithMedia:
        """See `ports.Store.thread`."""
        return await self._read(_thread_with_media, user, thread_id, now_ms=now_ms)

    async def replies(self, user: int, thread_id: ThreadId, *, limit: int, offset: int) -> Replies:
        """See `ports.Store.replies`."""
        return await self._read(queries.replies, user, thread_id, limit=limit, offset=offset)

    async def messages(
        self, user: int, *, since_ms: int, limit: int, group_id: GroupId | None
    ) -> tuple[list[Event], bool]:
        """See `ports.Store.messages`."""
        return await self._read(queries.messages, user, since_ms=since_ms, limit=limit, group_id=group_id)

    async def events(self, user: int, group_id: GroupId, *, after: int, limit: int) -> Page:
        """See `ports.Store.events`."""
        return await self._read(queries.events, user, group_id, after=after, limit=limit)

    # Chapter: media

    async def first_receipt(self, user: int, once: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
        """See `ports.MediaRows.first_receipt`."""
        return await self._read(media.first_receipt, user, once, now_ms=now_ms)

    async def place_chunk(
        self, user: int, chunk: Chunk, *, folder: str, limits: MediaLimits, now_ms: int
    ) -> ChunkPlace:
        """See `ports.MediaRows.place_chunk`."""
        # Of a hundred chunks one begins the upload: the others need no place in the writer's queue.
        place = await self._read(media.find_place, user, chunk, limits=limits)
        if place is not None:
            return place
        return await self._write(media.begin, user, chunk, folder=folder, limits=limits, now_ms=now_ms)

    async def add_chunk(self, chunk: Chunk, *, folder: str, blob: str, limits: MediaLimits, now_ms: int) -> ChunkPlace:
        """See `ports.MediaRows.add_chunk`."""
        return await self._write(media.add_chunk, chunk, folder=folder, blob=blob, limits=limits, now_ms=now_ms)

    async def withdraw(self, folder: str) -> None:
        """See `ports.MediaRows.withdraw`."""
        await self._write(media.withdraw, folder)

    async def upload(self, user: int, media_id: MediaId) -> Upload:
        """See `ports.MediaRows.upload`."""
        return await self._read(media.upload, user, media_id)

    async def give_up(self, user: int, media_id: MediaId) -> bool:
        """See `ports.MediaRows.give_up`."""
        return await self._write(media.give_up, user, media_id)

    async def media_file(self, user: int, media_id: MediaId, *, now_ms: int) -> MediaFile:
        """See `ports.MediaRows.media_file`."""
        return await self._read(media.media_file, user, media_id, now_ms=now_ms)

    async def media_info(self, user: int, media_id: MediaId, *, now_ms: int) -> MediumInfo:
        """See `ports.MediaRows.media_info`."""
        return await self._read(media.media_info, user, media_id, now_ms=now_ms)

    async def thread_media(
        self, user: int, thread_id: ThreadId, *, now_ms: int, limit: int, offset: int = 0
    ) -> ThreadMedia:
        """See `ports.MediaRows.thread_media`."""
        return await self._read(media.thread_media, user, thread_id, now_ms=now_ms, limit=limit, offset=offset)

    async def note_download(self, user: int, media_id: MediaId, *, now_ms: int) -> None:
        """See `ports.MediaRows.note_download`."""
        await self._write(media.note_download, user, media_id, now_ms=now_ms)

    async def quota(self, user: int, group_id: GroupId, *, limits: MediaLimits) -> Quota:
        """See `ports.MediaRows.quota`."""
        return await self._read(media.quota, user, group_id, limits=limits)

    async def due_media(self, *, now_ms: int, limit: int) -> list[DueMedia]:
        """See `ports.MediaRows.due_media`."""
        return await self._read(media.due_media, now_ms=now_ms, limit=limit)

    async def abandon(self, *, before_ms: int, limit: int) -> int:
        """See `ports.MediaRows.abandon`."""
        return await self._write(media.abandon, before_ms=before_ms, limit=limit)

    async def leavings(self, *, limit: int) -> list[PendingDeletion]:
        """See `ports.MediaRows.leavings`."""
        return await self._read(media.leavings, limit=limit)

    async def wiped(self, key: int) -> None:
        """See `ports.MediaRows.wiped`."""
        await self._write(media.wiped, key)

    async def known_chunks(self, folders: Collection[str]) -> dict[str, int]:
        """See `ports.MediaRows.known_chunks`."""
        return await self._read(media.known_chunks, folders)

    async def chunks_after(self, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
        """See `ports.MediaRows.chunks_after`."""
        return await self._read(media.chunks_after, key, limit=limit)

    async def held(self) -> dict[MediaState, Held]:
        """See `ports.MediaRows.held`."""
        return await self._read(media.held)

    # Chapter: backups

    async def backup(self, file: IO[bytes], *, made_at: str, told: archive.Told) -> int:
        """Write every row as of one moment to a file; return how many. Servers may go on meanwhile."""
        return await self._read(archive.write, file, made_at=made_at, told=told)

    async def rows(self) -> int:
        """Return how many rows a backup would have."""
        return await self._read(archive.count)

    async def restore(self, path: Path, *, told: archive.Told) -> int:
        """
        Fill the database, which must be empty, from a backup; return the number of rows.

        Raises:
            ArchiveDamaged: If the backup is not whole; nothing has changed.
            DatabaseRefused: If the database is not empty, or servers are using it.
        """
        return await self._write(archive.restore, path, told=told)

    # Chapter: marks

    async def clock_marks(self) -> marks.ClockMarks:
        """Return what the database knows of time."""
        return await self._read(marks.clock)

    async def beat(self, *, heartbeat_ms: int, lower: bool) -> None:
        """Note the trusted time; it is only ever raised, unless `lower`."""
        await self._write(marks.beat, heartbeat_ms=heartbeat_ms, lower=lower)

    async def accept_clock(self, *, wall_ms: int) -> None:
        """Note that an operator says that the clock is right."""
        await self._write(marks.accept_clock, wall_ms=wall_ms)

    async def note_rewind(self, *, at_ms: int) -> None:
        """Note that a group's log was found to have gone back."""
        await self._write(marks.note_rewind, at_ms=at_ms)

    async def rewinds(self) -> marks.Rewinds | None:
        """Return what was noted of logs that went back; None when none did."""
        return await self._read(marks.rewinds)

    # Chapter: running

    async def group_ids(self) -> list[str]:
        """Return every group's id."""
        return await self._read(group_ids)

    async def verify(self, group_id: str) -> Report:
        """Verify one group's log."""
        return await self._read(verify, group_id)

    async def integrity(self) -> list[str]:
        """Return a sentence for each thing that the database's own check finds wrong with its files and indexes."""
        return await self._read(integrity)

    async def ready(self) -> bool:
        """Return whether the database can be read, and written too if the last write failed."""
        try:
            await self._read(marks.rewinds)
            if self._stuck:
                await self._write(marks.probe)
        except Busy:
            # Others are being served: taking this server out of the balancer would move the load to the next one.
            return True
        except OrbitalError:
            return False
        return True


def _thread_with_media(conn: Connection, user: int, thread_id: str, *, now_ms: int) -> ThreadWithMedia:
    found = media.thread_media(conn, user, thread_id, now_ms=now_ms, limit=media.MOST_SHOWN, offset=0)
    thread = msgspec.structs.asdict(queries.thread(conn, user, thread_id))
    return ThreadWithMedia(**thread, media=found.media, media_has_more=found.has_more)
