"""What the inner rooms need from the world, as Protocols with their guarantees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from orbital_relay.api.groups import Groups, Members
from orbital_relay.api.media import MediaStored, MediumInfo, Quota, ThreadMedia
from orbital_relay.api.receipts import Receipt
from orbital_relay.api.threads import Replies, Threads, ThreadWithMedia
from orbital_relay.errors import OrbitalError
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


class Clock(Protocol):
    """The time, in milliseconds since the epoch (wall) and in seconds that never step back (steady)."""

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds."""
        ...

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start."""
        ...


class Appended(msgspec.Struct, frozen=True):
    """
    What a draft came to.

    Attributes:
        receipt: The body that answers it; None for a draft whose answer has no body.
        event: The event that it became; None when its idempotency key was used before, for the same draft.
    """

    receipt: Receipt | None
    event: Event | None


class Store(Protocol):
    """
    The log and the rows that go with it.

    What a method that writes has returned is durable. Reads see all that was committed before they began.
    Every read for a user checks, in its own transaction, that the user may: NotFound, or Forbidden.
    """

    # Chapter: the log

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """
        Decide, number, seal and store drafts, in order, in one transaction.

        One outcome a draft, in the same order. A refused draft changes nothing and does not disturb the others. The
        draft with index i gets the stamp `first_stamp_ms + i`, or one more than its group's last if that is higher; a
        store that several servers share may begin later, at its own clock.

        Raises:
            Unavailable: If the database is away. Nothing was stored, or, where a commit's answer was lost, all of it.
        """
        ...

    async def read(self, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read the events that follow `after`, oldest first, whoever asks.

        The page is gapless, and ends early when it is full of large ones; it is empty only when there are none.

        Raises:
            PositionLost: If `after` is below the floor of the group.
            NotFound: If there is no such group.
        """
        ...

    async def heads(self, group_ids: Collection[GroupId]) -> dict[GroupId, Head]:
        """Return the heads of those groups that exist."""
        ...

    async def last_stamp_ms(self) -> int:
        """Return the highest `server_timestamp` ever given, 0 when none was."""
        ...

    async def settled_ms(self) -> int | None:
        """Return a stamp below that of every event committed from now on; None when this server alone appends."""
        ...

    async def standings(self, user: int, group_ids: Collection[GroupId]) -> dict[GroupId, MembershipAtHead]:
        """Return access and head, as of one moment, for those groups that exist."""
        ...

    async def resume_points(self, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
        """
        Return what the log holds at a position of each group, all as of one moment.

        Groups that do not exist, and positions below the floor or beyond the head, are left out. The number of
        statements does not depend on the number of groups.
        """
        ...

    async def prune(self, *, before_ms: int, limit: int) -> int:
        """Drop up to `limit` events with stamps below `before_ms`, oldest first; return how many went."""
        ...

    async def prune_keys(self, *, before_ms: int, limit: int) -> int:
        """Drop up to `limit` idempotency keys first used before `before_ms`; return how many went."""
        ...

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
        """
        Add a user who signs up, and in the same transaction the idempotency key that did it.

        Raises:
            UsernameTaken: If another sign-up has the name, in whatever case.
        """
        ...

    async def signed_up(self, username: str, once: IdempotencyKey, *, now_ms: int) -> Account | None:
        """
        Return the account of that name if a sign-up with this key made it in the last 24 hours.

        Raises:
            Conflict: If the key was used for another body.
        """
        ...

    async def account(self, username: str) -> Account | None:
        """Return the user who signed up with that name, in whatever case."""
        ...

    async def enter_user(self, *, user_id: UserId, username: str, at_ms: int) -> int:
        """Return the row number of a token's user; one not known yet is entered with that name."""
        ...

    async def find_user(self, user_id: UserId) -> Account | None:
        """Return a user by the public id."""
        ...

    async def revoke(self, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float) -> None:
        """Note a revocation; it may be forgotten after `until_s`."""
        ...

    async def revocations(self, *, after: int) -> list[Revocation]:
        """Return the revocations with a number above `after`, in order."""
        ...

    # Chapter: groups, threads, messages: each returns the protocol's own answer

    # A page of a list ends at `limit`, or early when its entries fill 8 MiB; `has_more` says whether entries follow.

    async def groups_of(self, user: int, *, now_ms: int, limit: int, offset: int = 0) -> Groups:
        """Answer `GET /api/groups`."""
        ...

    async def members(self, user: int, group_id: GroupId, *, limit: int, offset: int = 0) -> Members:
        """Answer `GET /api/groups/{group_id}/members`."""
        ...

    async def access(self, user: int, group_id: GroupId) -> Access:
        """Tell what a user may do with a group."""
        ...

    async def replace_code(self, user: int, group_id: GroupId, *, invite_code: str, expires_ms: int) -> None:
        """
        Give a group a new invite code.

        Raises:
            Forbidden: If the user did not create the group.
            Conflict: If another group has that code.
        """
        ...

    async def thread_group(self, thread_id: ThreadId) -> GroupId | None:
        """Return the group that a thread is in."""
        ...

    async def threads(self, user: int, group_id: GroupId, *, limit: int, offset: int, newest_first: bool) -> Threads:
        """Answer `GET /api/groups/{group_id}/threads`."""
        ...

    async def thread(self, user: int, thread_id: ThreadId, *, now_ms: int) -> ThreadWithMedia:
        """Answer `GET /api/threads/{thread_id}`."""
        ...

    async def replies(self, user: int, thread_id: ThreadId, *, limit: int, offset: int) -> Replies:
        """Answer `GET /api/threads/{thread_id}/replies`."""
        ...

    async def messages(
        self, user: int, *, since_ms: int, limit: int, group_id: GroupId | None
    ) -> tuple[list[Event], bool]:
        """
        Return messages of a user's groups with stamps above `since_ms`, oldest first, and whether more follow.

        There are up to `limit`: more where one stamp is several messages', fewer when large ones fill the page.
        """
        ...

    async def events(self, user: int, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read a group's events for one of its members, as `read` does.

        Raises:
            PositionLost: If `after` is below the floor of the group.
        """
        ...

    # Chapter: running

    async def ready(self) -> bool:
        """Tell whether the database answers."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        ...


class Bus(Protocol):
    """
    Rumours between servers: what it carries may be lost, repeated or reordered, and nothing is lost by that.

    A server follows a group while somebody there listens to it.
    """

    async def publish(self, group_id: GroupId, payload: bytes) -> None:
        """Send to every other server that follows the group; returns without waiting for them."""
        ...

    async def follow(self, group_id: GroupId) -> None:
        """Hear a group; returns when what is published from now on will be heard."""
        ...

    async def unfollow(self, group_id: GroupId) -> None:
        """Hear it no longer."""
        ...

    async def tell_revoked(self) -> None:
        """Hint to every other server that a revocation was stored; it names none, and returns without waiting."""
        ...

    @property
    def connected(self) -> bool:
        """Whether hints reach other servers now; without them events of others arrive seconds later."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


BusReceiver = Callable[[GroupId, bytes], None]
"""Called on the loop with what another server published."""


class Limiter(Protocol):
    """Counts attempts in moving windows; over several servers, together."""

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; return None when it is within the limit, else the seconds until one would be."""
        ...

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Tell what `hit` would, without counting."""
        ...


class Held(msgspec.Struct, frozen=True):
    """How many media there are, and how many bytes of them are stored."""

    media: int = 0
    size_bytes: int = 0


class MediaRows(Protocol):
    """
    What the store knows of media; the bytes are elsewhere, and a row says of a chunk only what is durable there.

    What makes an event, becoming whole and expiring, is a draft and goes through `Store.append`.
    """

    async def first_receipt(self, user: int, once: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
        """
        Return what a medium came to that was completed under an idempotency key, None for a new key.

        Raises:
            Conflict: If it was used with another request.
        """
        ...

    async def place_chunk(
        self, user: int, chunk: Chunk, *, folder: str, limits: MediaLimits, now_ms: int
    ) -> ChunkPlace:
        """
        Decide whether a chunk may be stored, and reserve room if it is the first of its medium.

        Args:
            user: Who sends it.
            chunk: The chunk.
            folder: Where the bytes go, if this begins the upload.
            limits: How much room there is.
            now_ms: The wall clock.

        Raises:
            NotFound: If there is no such thread.
            Forbidden: If the user is not in its group, or the upload is somebody else's.
            InvalidChunk: If it does not fit what was said of the medium before.
            Conflict: If the chunk is there already with other bytes.
            Gone: If the medium has expired.
            UploadLost: If the upload was given up, and its bytes are being taken away.
            FileTooLarge: If the medium is over the limit for one.
            QuotaExceeded: If the group has no room for it.
        """
        ...

    async def add_chunk(self, chunk: Chunk, *, folder: str, blob: str, limits: MediaLimits, now_ms: int) -> ChunkPlace:
        """
        Note a chunk whose bytes are durable under the name `blob`; one that is noted already stays as it is.

        Raises:
            Conflict: If it is there with other bytes.
            UploadLost: If the upload is no longer under way: the bytes belong to nobody.
            InvalidChunk: If the medium would not have the size that was declared.
            FileTooLarge: If the medium is over the limit for one.
            QuotaExceeded: If the group has no room for it.
        """
        ...

    async def withdraw(self, folder: str) -> None:
        """Give the room of an upload back of which nothing was stored; if something was, nothing happens."""
        ...

    async def upload(self, user: int, media_id: MediaId) -> Upload:
        """
        Tell how far an upload is, to who began it.

        Raises:
            NotFound: If there is no such medium.
            Forbidden: If it is somebody else's, or the user has left the group.
        """
        ...

    async def give_up(self, user: int, media_id: MediaId) -> bool:
        """
        Give up an upload that is not whole; False when it is, or was given up before.

        Raises:
            NotFound: If there is no such medium.
            Forbidden: If the user neither began it nor is the creator of its group.
        """
        ...

    async def media_file(self, user: int, media_id: MediaId, *, now_ms: int) -> MediaFile:
        """
        Return what a reader needs of a medium.

        Raises:
            NotFound: If there is no such medium, or it is not whole yet.
            Forbidden: If the user is not in its group.
            Gone: If its time is over.
        """
        ...

    async def media_info(self, user: int, media_id: MediaId, *, now_ms: int) -> MediumInfo:
        """Answer `GET /api/media/{media_id}/info`; an expired medium has one, too."""
        ...

    async def thread_media(
        self, user: int, thread_id: ThreadId, *, now_ms: int, limit: int, offset: int = 0
    ) -> ThreadMedia:
        """Answer `GET /api/threads/{thread_id}/media`, a page as `Store.groups_of` makes them."""
        ...

    async def note_download(self, user: int, media_id: MediaId, *, now_ms: int) -> None:
        """Note that a user has a medium; saying so again changes nothing."""
        ...

    async def quota(self, user: int, group_id: GroupId, *, limits: MediaLimits) -> Quota:
        """Answer `GET /api/groups/{group_id}/quota`."""
        ...

    # Chapter: what comes round

    async def due_media(self, *, now_ms: int, limit: int) -> list[DueMedia]:
        """Return media whose time is over and that are not expired yet."""
        ...

    async def abandon(self, *, before_ms: int, limit: int) -> int:
        """Give up uploads of which nothing came since `before_ms`; return how many."""
        ...

    async def leavings(self, *, limit: int) -> list[PendingDeletion]:
        """Return media that may no longer be read, and whose bytes may still be there."""
        ...

    async def wiped(self, key: int) -> None:
        """Note that a medium's bytes are gone; of one that never was whole nothing remains."""
        ...

    async def known_chunks(self, folders: Collection[str]) -> dict[str, int]:
        """Return blobs that belong into those folders, with their sizes; a folder whose bytes must go has none."""
        ...

    async def chunks_after(self, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
        """Return media that have bytes, after a row number: number, id, and blobs with their sizes."""
        ...

    async def held(self) -> dict[MediaState, Held]:
        """Return what there is of all groups together, whole and under way."""
        ...


class Blob(msgspec.Struct, frozen=True):
    """A blob that is there: name, size in bytes, and when it was written, milliseconds since the epoch."""

    name: str
    size_bytes: int
    modified_ms: int


class BlobDraft(Protocol):
    """Bytes on their way in, whose name is not known yet. Nobody sees them before they are kept."""

    @property
    def size_bytes(self) -> int:
        """How many were written."""
        ...

    async def write(self, data: bytes | bytearray) -> None:
        """Take more bytes."""
        ...

    async def digest(self) -> bytes:
        """Return the SHA-256 of what was written."""
        ...

    async def discard(self) -> None:
        """Forget the bytes; after `keep` it does nothing."""
        ...


class BlobMissing(Exception):
    """There is no blob of that name."""


class Blobs(Protocol):
    """
    Bytes by name; names are made by this program alone.

    Every method raises `Unavailable` when the bytes cannot be reached or there is no room for them.
    """

    def draft(self) -> BlobDraft:
        """Begin to take bytes in."""
        ...

    async def keep(self, draft: BlobDraft, name: str) -> None:
        """Give a draft its name, replacing what had it; durable and whole when this returns, or not there at all."""
        ...

    def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """
        Read the bytes from `start` up to but not `end`, in pieces.

        Raises:
            BlobMissing: If there is no such blob; after its last byte if it ends before `end`.
        """
        ...

    async def delete(self, names: Collection[str]) -> None:
        """Remove blobs; those that are not there do not matter."""
        ...

    async def delete_folder(self, folder: str) -> None:
        """Remove every blob whose name begins with `folder/`."""
        ...

    def every(self) -> AsyncIterator[Blob]:
        """Return every blob, in no order."""
        ...

    async def sweep(self, *, before_ms: int) -> int:
        """Remove drafts that a server left behind before that moment; return how many."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...
