"""The nouns that cross rooms: ids, people, drafts, events, pages. No behaviour."""

from __future__ import annotations

from enum import Enum
from typing import NewType

import msgspec

UserId = NewType("UserId", str)
GroupId = NewType("GroupId", str)
ThreadId = NewType("ThreadId", str)
MediaId = NewType("MediaId", str)


class Access(Enum):
    """What a user may do with a group."""

    MEMBER = "member"
    STRANGER = "stranger"
    UNKNOWN = "unknown"


class Principal(msgspec.Struct, frozen=True):
    """
    Who a valid token speaks for.

    Attributes:
        key: The user's row number in the store; never leaves the server.
        user_id: The public id, 1-64 visible ASCII characters.
        username: The name the token carries.
        expires_at_s: When the token ends, seconds since the epoch.
        issued_at_s: When it was made; 0 when the token does not say.
        token_digest: SHA-256 of the token; revocation names tokens by it.
        generation: Number of the user's last revocation when this server made the token; None for a token of another
            service.
    """

    key: int
    user_id: UserId
    username: str
    expires_at_s: float
    issued_at_s: float = 0
    token_digest: bytes = b""
    generation: int | None = None


class Account(msgspec.Struct, frozen=True):
    """A user as the store keeps it. `password_hash` is None for users of an outside identity provider."""

    key: int
    user_id: UserId
    username: str
    public_key: msgspec.Raw
    password_hash: str | None


class IdempotencyKey(msgspec.Struct, frozen=True):
    """
    The promise to do a thing once: an idempotency key and what it was first used for.

    Attributes:
        key: 1-128 visible ASCII characters, chosen by the client; unique within its user.
        fingerprint: SHA-256 over the operation and its body as parsed JSON.
    """

    key: str
    fingerprint: bytes


# What a client asks to be appended. The store decides, inside the transaction that commits it, whether it may.


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """
    What every draft has.

    Attributes:
        actor: Who asks.
        at_ms: The wall clock when it was asked, milliseconds; `created_at` and its kin.
        once: The idempotency key, when the client gave one.
    """

    actor: Principal
    at_ms: int
    once: IdempotencyKey | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries: the part of a draft that clients may make long."""
        return 0


class PostMessage(Draft, frozen=True, kw_only=True):
    """A Signal Protocol envelope for a group."""

    group_id: GroupId
    message_id: str
    encrypted_envelope: str

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_envelope)


class PostThread(Draft, frozen=True, kw_only=True):
    """A new thread."""

    group_id: GroupId
    thread_id: ThreadId
    encrypted_title: str
    encrypted_body: str
    root_message_id: str | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_title) + len(self.encrypted_body)


class PostReply(Draft, frozen=True, kw_only=True):
    """A reply in a thread; the thread tells the group."""

    thread_id: ThreadId
    reply_id: str
    encrypted_body: str
    message_id: str | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_body)


class CreateGroup(Draft, frozen=True, kw_only=True):
    """A new group, whose first member is the actor."""

    group_id: GroupId
    encrypted_name: str
    encrypted_group_key: str
    invite_code: str
    invite_expires_ms: int

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_name) + len(self.encrypted_group_key)


class JoinGroup(Draft, frozen=True, kw_only=True):
    """The actor enters the group whose code it is when it commits."""

    invite_code: str
    encrypted_group_key: str

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_group_key)


class LeaveGroup(Draft, frozen=True, kw_only=True):
    """The actor leaves, or, as the group's creator, removes `user_id`."""

    group_id: GroupId
    user_id: UserId


class FinishMedia(Draft, frozen=True, kw_only=True):
    """
    A medium all of whose chunks are stored; it becomes whole, once.

    Attributes:
        media_id: The medium.
        expires_ms: When the server deletes its bytes, milliseconds since the epoch.
    """

    media_id: MediaId
    expires_ms: int


class ExpireMedia(Draft, frozen=True, kw_only=True):
    """
    A medium whose bytes the server forgets.

    Attributes:
        media_id: The medium.
        early: Whether `actor` deletes it before it expires. An expiry is requested by the server, in the name of the
            uploader.
    """

    media_id: MediaId
    early: bool = False


AnyDraft = PostMessage | PostThread | PostReply | CreateGroup | JoinGroup | LeaveGroup | FinishMedia | ExpireMedia


class Event(msgspec.Struct, frozen=True):
    """
    One numbered entry of a group's log.

    Attributes:
        group_id: The group.
        seq: Its number in the group, from 1, without holes.
        stamp_ms: Its `server_timestamp`.
        frame: The UTF-8 text that every subscriber gets, made once.
    """

    group_id: GroupId
    seq: int
    stamp_ms: int
    frame: bytes


class Head(msgspec.Struct, frozen=True):
    """
    Where a group's log stands.

    Attributes:
        seq: Number of the last event; 0 is possible for no group that exists.
        floor: Number of the last event that is no longer kept; 0 when all are.
        stamp_ms: `server_timestamp` of the last event.
        hash: SHA-256 of the last frame as the chain writes it: base64url, 43 characters.
    """

    seq: int
    floor: int
    stamp_ms: int
    hash: str


class MembershipAtHead(msgspec.Struct, frozen=True):
    """A user's access to a group together with the group's head, both read in one transaction."""

    access: Access
    head: Head


class Page(msgspec.Struct, frozen=True):
    """
    Some of a group's events, oldest first and gapless.

    Attributes:
        events: Starts at the number after the one asked for, or is empty.
        head: The group's head when the page was read.
    """

    events: list[Event]
    head: Head


class Resume(msgspec.Struct, frozen=True):
    """Where a client says it stands: the last number it has, and the hash of that frame if it checks the chain."""

    seq: int
    hash: str | None = None


class ResumePoint(msgspec.Struct, frozen=True):
    """
    What the log holds at a position that a client resumes from.

    Attributes:
        hash: The hash of the frame with that number; of number 0 the group's own.
        next_stamp_ms: `server_timestamp` of the event that follows, None at the head.
    """

    hash: str
    next_stamp_ms: int | None


class Revocation(msgspec.Struct, frozen=True):
    """
    Tokens that no longer hold: one by its digest, or all of a user issued up to a moment.

    Attributes:
        number: Its place in the list of revocations, rising.
        token_digest: SHA-256 of the revoked token, or None.
        user_id: The user all of whose tokens end, or None.
        at_s: When it was stored, seconds since the epoch: tokens of `user_id` issued by then are void.
    """

    number: int
    token_digest: bytes | None
    user_id: UserId | None
    at_s: float


# Media that are on their way, or there.


class MediaState(Enum):
    """What has become of a medium."""

    UPLOADING = "uploading"
    COMPLETE = "complete"
    EXPIRED = "expired"
    ABANDONED = "abandoned"


class MediaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """
    How much room media have.

    Attributes:
        chunk_bytes: Most bytes of one chunk.
        file_bytes: Most bytes of one medium.
        group_bytes: Most bytes of all media of a group, with what uploads under way have reserved.
        group_files: Most media of a group, uploads under way counted.
    """

    chunk_bytes: int
    file_bytes: int
    group_bytes: int
    group_files: int


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """
    One chunk as a client sends it, and what it says of its medium.

    Attributes:
        media_id: The medium, chosen by the client.
        thread_id: The thread that it is for.
        index: The chunk's place, from 0.
        total_chunks: How many chunks the medium has.
        size_bytes: The chunk's size.
        sha256: The hash of its bytes.
        declared_bytes: The medium's size, when the client tells it.
        encrypted_metadata: What members learn of the medium.
        encryption_iv: What they need to decrypt it.
    """

    media_id: MediaId
    thread_id: ThreadId
    index: int
    total_chunks: int
    size_bytes: int
    sha256: bytes
    declared_bytes: int | None
    encrypted_metadata: str
    encryption_iv: str


class ChunkPlace(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a chunk stands.

    Attributes:
        folder: Where the medium's bytes are; never a client's word.
        ordinal: Its place in the order of arrival, from 1; None while it is not stored.
        total_chunks: How many there will be.
        state: The medium's.
        blob: The name of its bytes; empty while it is not stored.
    """

    folder: str
    ordinal: int | None
    blob: str = ""
    total_chunks: int
    state: MediaState


class StoredChunk(msgspec.Struct, frozen=True):
    """A chunk that is there: its blob's name and size in bytes."""

    blob: str
    size_bytes: int


class MediaFile(msgspec.Struct, frozen=True, kw_only=True):
    """
    A medium that may be read.

    Attributes:
        media_id: The medium.
        size_bytes: Its size.
        encryption_iv: What a reader needs to decrypt it.
        expires_ms: When the server forgets it.
        digest: SHA-256 over the hashes of its chunks: another medium has another.
        chunks: Its bytes, in order.
    """

    media_id: MediaId
    size_bytes: int
    encryption_iv: str
    expires_ms: int
    digest: bytes
    chunks: list[StoredChunk]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far an upload is.

    Attributes:
        state: The medium's.
        total_chunks: How many chunks it has.
        received: The indexes of those that are there, rising.
        size_bytes: Bytes that are there.
        uploaded_ms: When it became whole; 0 before.
        expires_ms: When the server forgets it; 0 before it is whole.
    """

    state: MediaState
    total_chunks: int
    received: list[int]
    size_bytes: int
    uploaded_ms: int
    expires_ms: int


class DueMedia(msgspec.Struct, frozen=True):
    """A medium whose time is over, and who uploaded it."""

    media_id: MediaId
    uploader: Principal


class PendingDeletion(msgspec.Struct, frozen=True):
    """Bytes that nobody may read any longer: the medium's row number, and the folder where they are."""

    key: int
    folder: str
