"""Media: upload in chunks, download as a stream."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from orbital_relay.api.media import (
    ChunkTaken,
    CompleteBody,
    MediaCompleted,
    MediaStored,
    MediumInfo,
    Quota,
    ThreadMedia,
    UploadForm,
    UploadState,
)
from orbital_relay.errors import (
    Conflict,
    EpochChanged,
    FileTooLarge,
    Forbidden,
    Gone,
    InvalidChunk,
    NotFound,
    OrbitalError,
    PayloadTooLarge,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    StorageFull,
    ValidationFailed,
)
from orbital_relay.model import GroupId, MediaId, ThreadId
from orbital_relay.ports import BlobMissing
from orbital_relay.server.http.download import Download
from orbital_relay.server.http.download import download as send_download
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.multipart import read_form
from orbital_relay.server.http.routes.paging import Offset
from orbital_relay.server.limits.memory import MADE_BYTES, STREAMED_BYTES
from orbital_relay.services import media, media_upload
from orbital_relay.services.forms import make_idempotency_key, read_uuid
from orbital_relay.services.media_upload import ChunkForm

_TAG: Final = "Media"


class MediaQuery(msgspec.Struct):
    """Which media of a thread."""

    limit: Annotated[
        int, msgspec.Meta(ge=1, le=100, description="Maximum number of entries; fewer when they fill 8 MiB.")
    ] = 100
    offset: Offset = 0


_UPLOAD: Final = "upload_media"
# A UUID has 36 characters and a number here at most 15; a longer value is refused with a sentence.
_SMALL: Final = 200
_VECTOR: Final = media_upload.VECTOR_BYTES * 4 // 3 + 4
_INTEGERS: Final = ("chunk_index", "total_chunks", "size_bytes", "if_epoch")
_DIGITS_MOST: Final = 15


def _chunk_form(found: dict[str, str]) -> ChunkForm:
    values: dict[str, Any] = dict(found)
    for name in _INTEGERS:
        text = found.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MOST):
            raise ValidationFailed(f"{name} must be a whole number.", field=name)
        values[name] = int(text)
    for name in ("media_id", "thread_id", "chunk_index", "total_chunks", "encrypted_metadata", "encryption_iv"):
        if name not in values:
            raise ValidationFailed(f"`{name}` is missing.", field=name)
    return ChunkForm(**values)


@endpoint(
    "POST",
    "/api/media/upload",
    tag=_TAG,
    answers=[
        Answer(200, "The chunk is durable; others are still missing.", ChunkTaken),
        Answer(201, "The chunk completed the medium.", MediaStored),
    ],
    errors=[
        *(InvalidChunk, Forbidden, NotFound, Conflict, EpochChanged, Gone),
        *(PayloadTooLarge, FileTooLarge, QuotaExceeded, StorageFull),
    ],
    idempotent=True,
    form=UploadForm,
)
async def upload_chunk(call: Call) -> Reply:
    """
    Upload a chunk of a medium.

    Chunks may be sent in any order, in parallel, and repeatedly: the same bytes get the same response, other bytes
    a 409. The chunk that completes the medium emits `media_uploaded`, once.
    """
    room = call.server.media
    encrypted = room.envelope_bytes * 4 // 3 + 4
    # Before the body: what is refused later has been on the disk already.
    call.server.disk.check_room(call.declared or 0)
    with media_upload.admitted(room, call.principal):
        draft = room.blobs.draft()
        try:
            found = await read_form(
                call.receive,
                content_type=call.header(b"content-type"),
                declared=call.declared,
                fields={
                    "media_id": _SMALL,
                    "thread_id": _SMALL,
                    "chunk_index": _SMALL,
                    "total_chunks": _SMALL,
                    "size_bytes": _SMALL,
                    "if_epoch": _SMALL,
                    "encrypted_metadata": encrypted,
                    "encryption_iv": _VECTOR,
                },
                file="chunk",
                file_limit=room.limits.chunk_bytes,
                draft=draft,
            )
            form = media_upload.check_form(_chunk_form(found), limit_bytes=room.envelope_bytes)
            body: dict[str, Any] = {**msgspec.structs.asdict(form), "chunk": (await draft.digest()).hex()}
            idempotency_key = make_idempotency_key(call.idempotency_key, _UPLOAD, body=body)
            stored = await media_upload.take_chunk(room, call.principal, form, draft, idempotency_key=idempotency_key)
            return Reply.json(stored, status=201 if isinstance(stored, MediaStored) else 200)
        finally:
            await draft.discard()


@endpoint(
    "POST",
    "/api/media/upload/complete",
    tag=_TAG,
    answers=[Answer(200, "The medium is complete.", MediaCompleted)],
    errors=[InvalidChunk, Forbidden, NotFound, Conflict, EpochChanged, Gone],
    idempotent=True,
)
async def complete_upload(call: Call, body: CompleteBody) -> Reply:
    """
    Complete an upload, or list its missing chunks.

    While chunks are missing, the response is `INVALID_CHUNK`, and `details.missing` lists them. A client whose
    last response was lost gets 200; an upload whose server crashed before it marked the medium complete is completed
    now.
    """
    media_id = MediaId(read_uuid("media_id", body.media_id))
    idempotency_key = call.key_for("complete_media")
    completed = await media_upload.complete(
        call.server.media, call.principal, media_id, if_epoch=body.if_epoch, idempotency_key=idempotency_key
    )
    return Reply.json(completed)


@endpoint(
    "GET",
    "/api/media/{media_id}/upload",
    tag=_TAG,
    answers=[Answer(200, "The chunks that the server has.", UploadState)],
    errors=[Forbidden, NotFound, Gone],
)
async def show_upload(call: Call) -> Reply:
    """Show which chunks of the caller's own upload are stored, to resume it."""
    return Reply.json(await media_upload.state(call.server.media, call.principal, call.uuid("media_id", MediaId)))


@endpoint(
    "DELETE",
    "/api/media/{media_id}",
    tag=_TAG,
    answers=[Answer(204, "Its bytes are deleted, and no longer count against the limits.")],
    errors=[Forbidden, NotFound],
)
async def delete_medium(call: Call) -> Reply:
    """
    Delete a medium before it expires; for its uploader and the group's creator.

    Deleting a complete medium emits `media_expired`; an incomplete upload is aborted, and its id can be reused.
    """
    await media.delete_medium(call.server.media, call.principal, call.uuid("media_id", MediaId))
    return Reply(204)


_HEADERS: Final = {
    "X-Encryption-IV": "The uploader's `encryption_iv`.",
    "X-Expires-At": "When the server deletes the medium, RFC 3339.",
    "ETag": "For If-Range, If-Match and If-None-Match; a medium never changes.",
    "Accept-Ranges": "`bytes`.",
    "Content-Disposition": '`attachment; filename="media.enc"`.',
}


@endpoint(
    "GET",
    "/api/media/{media_id}/download",
    tag=_TAG,
    answers=[
        Answer(200, "The whole medium.", media_type="application/octet-stream", headers=_HEADERS),
        Answer(206, "The range that was asked for.", media_type="application/octet-stream", headers=_HEADERS),
        Answer(304, "The client's copy is current."),
    ],
    errors=[Forbidden, NotFound, Gone, PreconditionFailed, RangeNotSatisfiable],
    memory_bytes=STREAMED_BYTES,
)
async def download_medium(call: Call) -> Download:
    """
    Fetch a medium.

    One range is supported, also from the end (`bytes=-100`); a request for several gets the whole medium.
    """
    room, media_id = call.server.media, call.uuid("media_id", MediaId)
    for last_try in (False, True):
        file = await media.find(room, call.principal, media_id)
        try:
            return await send_download(call, room, file)
        except BlobMissing as exc:
            # It may have been deleted between the two reads; then the second read reports that.
            if last_try:
                raise OrbitalError(
                    "The server has lost bytes of this medium; a member who downloaded it has them."
                ) from exc
    raise AssertionError("the last try returns or raises")


@endpoint(
    "GET",
    "/api/media/{media_id}/info",
    tag=_TAG,
    answers=[Answer(200, "What is known of it.", MediumInfo)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def show_medium(call: Call) -> Reply:
    """
    Show a medium's metadata, and who has downloaded it.

    This also works for an expired medium: a member who has not downloaded it can ask one of those who have.
    """
    return Reply.json(await media.show(call.server.media, call.principal, call.uuid("media_id", MediaId)))


@endpoint(
    "POST",
    "/api/media/{media_id}/downloaded",
    tag=_TAG,
    answers=[Answer(204, "It is noted.")],
    errors=[Forbidden, NotFound],
)
async def note_download(call: Call) -> Reply:
    """
    Report that the caller has downloaded a medium.

    The group sees it in the medium's info; members' copies outlive the server's.
    """
    await media.note_download(call.server.media, call.principal, call.uuid("media_id", MediaId))
    return Reply(204)


@endpoint(
    "GET",
    "/api/threads/{thread_id}/media",
    tag=_TAG,
    answers=[Answer(200, "A page of the media that are there.", ThreadMedia)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_media(call: Call, query: MediaQuery) -> Reply:
    """List a thread's media."""
    thread_id = call.uuid("thread_id", ThreadId)
    page = await media.page(call.server.media, call.principal, thread_id, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "GET",
    "/api/groups/{group_id}/quota",
    tag=_TAG,
    answers=[Answer(200, "How much room there is.", Quota)],
    errors=[Forbidden, NotFound],
)
async def show_quota(call: Call) -> Reply:
    """Show how much of its media quota a group uses."""
    return Reply.json(await media.quota(call.server.media, call.principal, call.uuid("group_id", GroupId)))


ENDPOINTS: Final = (
    upload_chunk,
    complete_upload,
    show_upload,
    delete_medium,
    download_medium,
    show_medium,
    note_download,
    list_media,
    show_quota,
)
