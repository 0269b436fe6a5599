"""Requests about media."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import httpx
import msgspec

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import given, segment
from orbital_relay.client.errors import BadAnswer
from orbital_relay.client.http import Http, decode

PIECE_BYTES: Final = 64 * 1024
"""Bytes of a chunk that are in memory at a time."""

CHUNK_DEADLINE_S: Final = 1_800.0
"""How long one chunk of 5 MiB may take: a line of 3 KB/s carries it."""


class ChunkSource(msgspec.Struct, frozen=True):
    """
    A chunk that is read while it is sent.

    Attributes:
        size_bytes: Its length.
        pieces: Starts to read it from its beginning; called again for another try.
    """

    size_bytes: int
    pieces: Callable[[], AsyncIterator[bytes]]


class MediaRequests(Http):
    """Chunks up, bytes down, and what is known of a medium."""

    async def upload_state(self, media_id: str) -> responses.UploadState:
        """Read which chunks of an upload the server has."""
        return await self._call("GET", f"/api/media/{segment(media_id)}/upload", responses.UploadState)

    async def upload_chunk(
        self,
        *,
        media_id: str,
        thread_id: str,
        chunk_index: int,
        total_chunks: int,
        chunk: bytes | ChunkSource,
        encrypted_metadata: str,
        encryption_iv: str,
        if_epoch: int | None = None,
    ) -> responses.ChunkStored | responses.MediaStored:
        """
        Send one chunk, of at most 5 MiB; MediaStored when it was the one that completes the medium.

        Raises:
            ApiError: With code `EPOCH_CHANGED` when the chunk completes the medium and the group's epoch is above
                `if_epoch`: every chunk is stored, and `complete_upload` with the newer epoch completes the medium.
        """
        fields = {
            "media_id": media_id,
            "thread_id": thread_id,
            "chunk_index": str(chunk_index),
            "total_chunks": str(total_chunks),
            "encrypted_metadata": encrypted_metadata,
            "encryption_iv": encryption_iv,
        }
        if if_epoch is not None:
            fields["if_epoch"] = str(if_epoch)
        source = _source_of(chunk) if isinstance(chunk, bytes) else chunk
        boundary = uuid4().hex
        head, tail = _around(fields, boundary)

        async def body() -> AsyncIterator[bytes]:
            yield head
            async for piece in source.pieces():
                yield piece
            yield tail

        answer = await self._request(
            "POST",
            "/api/media/upload",
            content=body,
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(head) + source.size_bytes + len(tail)),
            },
            deadline_s=CHUNK_DEADLINE_S,
        )
        if answer.status == 201:
            return decode(answer.content, responses.MediaStored)
        return decode(answer.content, responses.ChunkStored)

    async def complete_upload(self, media_id: str, *, if_epoch: int | None = None) -> responses.MediaCompleted:
        """Complete a medium, or ask whether it is complete; ApiError names the chunks that are missing."""
        body = given({"media_id": media_id, "if_epoch": if_epoch})
        return await self._call("POST", "/api/media/upload/complete", responses.MediaCompleted, body=body)

    async def media_info(self, media_id: str) -> responses.MediaInfo:
        """Read what is known of a medium."""
        return await self._call("GET", f"/api/media/{segment(media_id)}/info", responses.MediaInfo)

    async def media_downloaded(self, media_id: str) -> None:
        """Report to the group that the caller has a medium; its info lists who has."""
        await self._act("POST", f"/api/media/{segment(media_id)}/downloaded")

    async def delete_media(self, media_id: str) -> None:
        """Delete a medium before its time, or abort an upload."""
        await self._act("DELETE", f"/api/media/{segment(media_id)}")

    async def thread_media(self, thread_id: str) -> list[responses.MediaItem]:
        """List a thread's media."""
        path = f"/api/threads/{segment(thread_id)}/media"
        pages = self._pages(path, responses.MediaList, lambda page: len(page.media))
        return [medium async for page in pages for medium in page.media]

    @asynccontextmanager
    async def download(
        self, media_id: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """
        Open a medium for reading; the body is streamed.

        Args:
            media_id: The medium.
            headers: `Range` and `If-Range`, to continue after an interruption.

        Raises:
            BadAnswer: If what answers is not a medium of the server's, such as a portal's page.
        """
        path = f"/api/media/{segment(media_id)}/download"
        # Ciphertext does not compress, and a range is one of the bytes themselves.
        async with self._stream("GET", path, {"Accept-Encoding": "identity", **(headers or {})}) as response:
            if "X-Encryption-IV" not in response.headers:
                raise BadAnswer("The response is not a medium: it has no X-Encryption-IV.")
            yield response


def _source_of(chunk: bytes) -> ChunkSource:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]

    return ChunkSource(len(chunk), pieces)


def _around(fields: Mapping[str, str], boundary: str) -> tuple[bytes, bytes]:
    """Write what stands before and behind the chunk in a multipart body (RFC 7578 §4)."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
