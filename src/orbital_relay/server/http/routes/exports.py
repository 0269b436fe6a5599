"""The export of the caller's account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from orbital_relay import wire
from orbital_relay.api.exports import ExportLine
from orbital_relay.errors import NotFound
from orbital_relay.server.http.application import PIECE_BYTES
from orbital_relay.server.http.endpoint import Answer, Call, endpoint
from orbital_relay.server.http.streamed import StreamedResponse, after
from orbital_relay.server.limits.memory import EXPORT_BYTES
from orbital_relay.services.exports import Export

_NDJSON: Final = "application/x-ndjson"


@endpoint(
    "GET",
    "/api/account/export",
    tag="Accounts",
    answers=[
        Answer(
            200,
            "The export, an [ExportLine](#form-exportline) a line.",
            media_type=_NDJSON,
            lines=ExportLine,
            headers={"Content-Disposition": '`attachment; filename="orbital-….ndjson"`, with the date.'},
        )
    ],
    errors=[NotFound],
    limited=True,
    memory_bytes=EXPORT_BYTES,
)
async def export_account(call: Call) -> StreamedResponse:
    """
    Export everything that the caller can read, as the server has it: encrypted content stays encrypted.

    The account, its sessions, devices and push subscriptions without secrets; and each group that the caller is a
    member of, with its members, roster records, threads, replies, annotations, descriptions of media, and of the log
    the messages, key messages and changes of membership that it still keeps. Nothing of a group that the caller has
    left, nothing that was deleted. Each page is as of its own moment.

    The last line has the type `end` and counts the lines before it: an export without it was cut off. 5 exports an
    hour.
    """
    await call.server.limits.export(call.principal.user_id)
    pages = Export(call.server.services, call.principal).pages()
    # The first page is read before the status goes out: a refusal can still be answered with words.
    first = await anext(pages)
    day = wire.iso(call.server.clock.wall_ms())[:10]
    headers = [
        (b"content-type", _NDJSON.encode()),
        (b"content-disposition", b'attachment; filename="orbital-%b.ndjson"' % day.encode()),
    ]
    return StreamedResponse(200, headers, _pieces(after(first, pages)))


async def _pieces(pages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut pages into pieces as large as a transport takes before it asks the writer to wait."""
    async for page in pages:
        for start in range(0, len(page), PIECE_BYTES):
            yield page[start : start + PIECE_BYTES]


ENDPOINTS: Final = (export_account,)
