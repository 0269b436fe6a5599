"""Media, stored or being uploaded, and deletion that waits for the storage."""

from __future__ import annotations

from enum import Enum

import msgspec

from orbital_relay.model.people import MediaId, Principal, ThreadId


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
        group_bytes: Most bytes of all media of a group, with what uploads in progress have reserved.
        group_files: Most media of a group, uploads in progress included.
        total_bytes: Most bytes of all media of all groups; None sets no bound.
        user_uploads: Most unfinished uploads of one user, in all groups together.
    """

    chunk_bytes: int
    file_bytes: int
    group_bytes: int
    group_files: int
    total_bytes: int | None = None
    user_uploads: int


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
    """A medium that has expired, and who uploaded it."""

    media_id: MediaId
    uploader: Principal


class PendingDeletion(msgspec.Struct, frozen=True):
    """Bytes that nobody may read any longer: the medium's row number, and the folder where they are."""

    key: int
    folder: str
