"""Media: encrypted files, uploaded in chunks."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import Encrypted, HasMore, IfEpoch, ResponseBody, Uuid


class UploadForm(msgspec.Struct):
    """One chunk and the description of its medium, which every chunk repeats."""

    media_id: Annotated[Uuid, msgspec.Meta(description="A random UUID of the client; the same for every chunk.")]
    thread_id: Uuid
    chunk_index: Annotated[int, msgspec.Meta(ge=0, description="The chunk's place, from 0.")]
    total_chunks: Annotated[int, msgspec.Meta(ge=1, description="How many chunks the medium has.")]
    encrypted_metadata: Encrypted
    encryption_iv: Encrypted
    chunk: Annotated[str, msgspec.Meta(description="The bytes, 5 MiB at most.", extra_json_schema={"format": "binary"})]
    size_bytes: Annotated[
        int | None,
        msgspec.Meta(description="The size of the whole medium, if known: then exactly that much is reserved."),
    ] = None
    if_epoch: IfEpoch = None


class CompleteBody(msgspec.Struct):
    """The upload to complete."""

    media_id: Uuid
    if_epoch: IfEpoch = None


class ChunkTaken(ResponseBody, frozen=True, kw_only=True):
    """The chunk is durable; others are still missing."""

    media_id: str
    chunk_index: int
    chunks_received: Annotated[int, msgspec.Meta(description="Number of stored chunks, including this one.")]
    total_chunks: int


class MediaStored(ResponseBody, frozen=True, kw_only=True):
    """The chunk completed the medium."""

    media_id: str
    size_bytes: int
    uploaded_at: str = ""
    expires_at: str


class MediaCompleted(ResponseBody, frozen=True, kw_only=True):
    """The medium is complete."""

    media_id: str
    status: str = "complete"
    size_bytes: int
    expires_at: str


class UploadState(ResponseBody, frozen=True, kw_only=True):
    """The chunks of an upload that the server has."""

    chunks_received: Annotated[list[int], msgspec.Meta(description="Indexes of the stored chunks, ascending.")]
    total_chunks: int


class Medium(ResponseBody, frozen=True, kw_only=True):
    """A complete medium."""

    media_id: str
    # An older server names the author only in a medium's info.
    author_id: str = ""
    author_username: str = ""
    encrypted_metadata: str
    size_bytes: int
    uploaded_at: str
    expires_at: str
    # An older server does not say it.
    seq: Annotated[int, msgspec.Meta(description="The number of its event in the group.")] = 0


class ThreadMedia(ResponseBody, frozen=True, kw_only=True):
    """A page of the complete media of a thread, in the order of completion."""

    media: list[Medium]
    has_more: HasMore = False


class Fetched(ResponseBody, frozen=True, kw_only=True):
    """A member who has downloaded a medium."""

    user_id: str
    username: str
    downloaded_at: str


class MediumInfo(Medium, frozen=True, kw_only=True):
    """A medium that is or was complete, and who has downloaded it."""

    thread_id: str
    group_id: str
    encryption_iv: str
    status: Annotated[
        str,
        msgspec.Meta(
            description="`complete`, or `expired` once the server has deleted it.",
            extra_json_schema={"enum": ["complete", "expired"]},
        ),
    ]
    downloaded_by: Annotated[
        list[Fetched], msgspec.Meta(description="The first 500 members who reported a download, in that order.")
    ] = msgspec.field(default_factory=list)
    downloaded_count: Annotated[int, msgspec.Meta(description="How many members reported a download.")] = 0


class Quota(ResponseBody, frozen=True, kw_only=True):
    """How much of its quota for media a group uses; uploads in progress count with what they have reserved."""

    group_id: str
    total_bytes: int
    max_bytes: int
    media_count: int
    max_media_count: int
    usage_percent: Annotated[float, msgspec.Meta(description="Of the bytes.")]
    warning_threshold: Annotated[float, msgspec.Meta(description="In percent.")]
    is_warning: Annotated[bool, msgspec.Meta(description="Whether bytes or number of media reached the threshold.")]
    is_full: bool
