"""Multipart parser (RFC 7578), streaming: small fields into memory, one file into a blob."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.ports import BlobDraft
from orbital_relay.server.http.endpoint import BodyLate, ClientGone

PIECE_DEADLINE_S: Final = 30
"""How long a client may send nothing in the middle of a body, in seconds."""

BODY_DEADLINE_S: Final = 600
"""How long a whole chunk may take, in seconds: 5 MiB at 9 kB a second."""

MOST_PARTS: Final = 32
"""Parts of one body; the protocol's own are eight."""

_BOUNDARY: Final = re.compile(rb"[\x20-\x7e]{1,70}")


class _Parts:
    """What the parser calls, piece by piece; it notes the first thing that is wrong and takes nothing after it."""

    def __init__(self, limits: Mapping[str, int], *, file: str, file_limit: int) -> None:
        self._limits = limits
        self._file = file
        self._file_limit = file_limit
        self.fields: dict[str, bytearray] = {}
        self.pieces: list[bytes] = []
        self.seen_file = False
        self.ended = False
        self.refusal: ValidationFailed | PayloadTooLarge | None = None
        self._count = 0
        self._file_bytes = 0
        self._name: str | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""

    def callbacks(self) -> Any:  # noqa: ANN401 - a TypedDict of the parser's that has no public name
        """Return what the parser wants."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def _refuse(self, refusal: ValidationFailed | PayloadTooLarge) -> None:
        self.refusal = self.refusal or refusal

    def _part_begin(self) -> None:
        self._disposition, self._name = b"", None
        self._count += 1
        if self._count > MOST_PARTS:
            self._refuse(ValidationFailed(f"The body has more than {MOST_PARTS} parts."))

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            self._refuse(ValidationFailed("A part of the body has no `Content-Disposition: form-data` with a name."))
            return
        self._name = name.decode("utf-8", "replace")
        if self._name in self.fields or (self._name == self._file and self.seen_file):
            self._refuse(ValidationFailed(f"`{self._name[:50]}` is given twice.", field=self._name[:50]))
        elif self._name == self._file:
            self.seen_file = True
        elif self._name in self._limits:
            self.fields[self._name] = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self.refusal is not None or self._name is None:
            return
        if self._name == self._file:
            self._file_bytes += end - start
            if self._file_bytes > self._file_limit:
                self.pieces.clear()
                self._refuse(
                    PayloadTooLarge(
                        f"`{self._file}` is over {self._file_limit} bytes.",
                        field=self._file,
                        limit_bytes=self._file_limit,
                    )
                )
                return
            self.pieces.append(data[start:end])
            return
        known = self.fields.get(self._name)
        if known is not None:
            known += data[start:end]
            limit = self._limits[self._name]
            if len(known) > limit:
                self._refuse(
                    PayloadTooLarge(f"`{self._name}` is over {limit} bytes.", field=self._name, limit_bytes=limit)
                )

    def _end(self) -> None:
        self.ended = True


async def read_form(
    receive: Receive,
    *,
    content_type: str | None,
    declared: int | None,
    fields: Mapping[str, int],
    file: str,
    file_limit: int,
    draft: BlobDraft,
) -> dict[str, str]:
    """
    Read a multipart body, counting while reading; of the file no more is in memory than a draft holds.

    Args:
        receive: The ASGI way to the body.
        content_type: The request's header.
        declared: Its Content-Length, when there is one.
        fields: The fields that are wanted, with their most bytes; others are passed over.
        file: The name of the file's part.
        file_limit: Its most bytes.
        draft: Where its bytes go.

    Returns:
        The fields that were there.

    Raises:
        ValidationFailed: If it is no multipart body, something stands twice, or the file is missing.
        BodyLate: If it does not arrive in time.
        PayloadTooLarge: If a part is over its limit; by the declared length before a byte is read.
        ClientGone: If the client hangs up.
    """
    kind, options = parse_options_header(content_type or "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or _BOUNDARY.fullmatch(boundary) is None:
        raise ValidationFailed("Send multipart/form-data with a boundary.", field="Content-Type")
    # Names, boundaries and headers of each part, and whatever else a client adds.
    limit = file_limit + sum(fields.values()) + 64 * 1024
    if declared is not None and declared > limit:
        raise PayloadTooLarge(f"The body is over {limit} bytes.", limit_bytes=limit)
    parts = _Parts(fields, file=file, file_limit=file_limit)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async with asyncio.timeout(BODY_DEADLINE_S):
            await _feed(receive, parser, parts, draft, limit=limit)
    except TimeoutError as exc:
        raise BodyLate("The body did not arrive in time.") from exc
    except FormParserError as exc:
        raise ValidationFailed(f"The body is not well-formed multipart: {exc}.") from exc
    if not parts.ended:
        raise ValidationFailed("The body ends before its last boundary.")
    if not parts.seen_file:
        raise ValidationFailed(f"`{file}` is missing.", field=file)
    try:
        return {name: value.decode() for name, value in parts.fields.items()}
    except UnicodeDecodeError as exc:
        raise ValidationFailed("A field is not UTF-8.") from exc


async def _feed(receive: Receive, parser: MultipartParser, parts: _Parts, draft: BlobDraft, *, limit: int) -> None:
    size, more = 0, True
    while more:
        async with asyncio.timeout(PIECE_DEADLINE_S):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(body)
        if size > limit:
            raise PayloadTooLarge(f"The body is over {limit} bytes.", limit_bytes=limit)
        if body:
            parser.write(body)
        if parts.refusal is not None:
            raise parts.refusal
        for piece in parts.pieces:
            await draft.write(piece)
        parts.pieces.clear()
    parser.finalize()
