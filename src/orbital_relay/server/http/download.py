"""Media downloads: range requests, ETag, Content-Disposition, conditions (RFC 9110), at the rate of the connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from orbital_relay import wire
from orbital_relay.errors import PreconditionFailed, RangeNotSatisfiable
from orbital_relay.model import MediaFile
from orbital_relay.server.http.endpoint import Call
from orbital_relay.server.http.streamed import StreamedResponse, after
from orbital_relay.services.media import read
from orbital_relay.services.media_context import MediaContext, MediaCounters

_RANGE: Final = re.compile(r"bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*", re.IGNORECASE)


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """
    Return the bytes that a Range header asks for, from and up to but not, or None for all of them.

    A header that is not understood, and one with several ranges, is answered with the whole (RFC 9110 §14.2).

    Raises:
        RangeNotSatisfiable: If the medium has none of them.
    """
    found = None if header is None else _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        count = _number(suffix)
        if count == 0:
            raise RangeNotSatisfiable(size_bytes=size_bytes)
        return max(size_bytes - count, 0), size_bytes
    start = _number(first)
    if last and _number(last) < start:
        # RFC 9110 §14.1.1: the last before the first makes the header invalid, and it is passed over.
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiable(size_bytes=size_bytes)
    return start, min(_number(last) + 1, size_bytes) if last else size_bytes


def _number(digits: str) -> int:
    """Read a number of any length; beyond 20 digits it is beyond every medium, whatever they are."""
    return int(digits.lstrip("0")[:20] or "0")


def matches(header: str, etag: str, *, weakly: bool = True) -> bool:
    """
    Return whether a list of tags contains one.

    Args:
        header: An If-None-Match, or an If-Match.
        etag: The tag that is asked for.
        weakly: As If-None-Match compares (RFC 9110 §13.1.2); If-Match does it strongly (§13.1.1).
    """
    tags = {each.strip() for each in header.split(",")}
    return header.strip() == "*" or etag in tags or (weakly and f"W/{etag}" in tags)


class Download(StreamedResponse):
    """A medium's answer: 200, 206 or 304."""

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        pieces: AsyncIterator[bytes] | None,
        counters: MediaCounters,
    ) -> None:
        super().__init__(status, headers, pieces)
        self._counters = counters

    def _sent(self, size_bytes: int) -> None:
        self._counters.sent_bytes += size_bytes


async def download(call: Call, room: MediaContext, file: MediaFile) -> Download:
    """
    Answer a GET or HEAD of a medium.

    Raises:
        PreconditionFailed: If If-Match asks for another medium.
        RangeNotSatisfiable: If the medium has no bytes in the range.
        BlobMissing: If the first bytes are not there.
    """
    etag = f'"{file.digest.hex()[:32]}"'
    common = [
        (b"etag", etag.encode()),
        (b"accept-ranges", b"bytes"),
        # Kept by a cache of the reader's own alone, and only as long as the server says that the reader may.
        (b"cache-control", b"private, no-cache"),
        (b"x-encryption-iv", file.encryption_iv.encode()),
        (b"x-expires-at", wire.iso(file.expires_ms).encode()),
    ]
    if_match = call.header(b"if-match")
    if if_match is not None and not matches(if_match, etag, weakly=False):
        raise PreconditionFailed("No tag of If-Match matches the medium; its current tag is in ETag.")
    if_none_match = call.header(b"if-none-match")
    if if_none_match is not None and matches(if_none_match, etag):
        return Download(304, common, None, room.counters)
    if_range = call.header(b"if-range")
    wanted = None
    # RFC 9110 §14.2: Range is defined for GET. §13.1.5: another representation than the client's is sent complete.
    if call.scope["method"] == "GET" and (if_range is None or if_range.strip() == etag):
        wanted = parse_range(call.header(b"range"), file.size_bytes)
    start, end = wanted or (0, file.size_bytes)
    headers = [
        *common,
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % (end - start)),
        (b"content-disposition", b'attachment; filename="media.enc"'),
    ]
    if wanted is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, file.size_bytes)))
    status = 200 if wanted is None else 206
    if call.scope["method"] == "HEAD":
        return Download(status, headers, None, room.counters)
    # The first piece is read before the status goes out: what is not there can still be answered with words.
    pieces = read(room, file, start=start, end=end)
    first = await anext(pieces)
    return Download(status, headers, after(first, pieces), room.counters)
