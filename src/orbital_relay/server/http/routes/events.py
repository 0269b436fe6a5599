"""Replay of a group's log over HTTP, for clients that were offline."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.events import Events
from orbital_relay.api.fields import Uuid
from orbital_relay.errors import Forbidden, Gone, NotFound
from orbital_relay.model import GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import events
from orbital_relay.services.forms import read_uuid

_NDJSON: Final = "application/x-ndjson"
# A trillion events: what the numbers of one group are made for.
SEQ_MAX: Final = 10**12


class EventQuery(msgspec.Struct):
    """Which events."""

    group_id: Uuid
    after_seq: Annotated[
        int, msgspec.Meta(ge=0, le=SEQ_MAX, description="Only events with a higher number. 0: from the first.")
    ] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="Most events; fewer when they fill 8 MiB.")] = 100


@endpoint(
    "GET",
    "/v1/events",
    tag="Recovery",
    answers=[
        Answer(200, "A page of events.", Events),
        Answer(
            200,
            "With `Accept: application/x-ndjson`: the stored frames alone, one a line, byte for byte.",
            media_type=_NDJSON,
            headers={
                "X-Last-Seq": "The number of the group's last event, even if the page ends before it.",
                "X-Has-More": "`true` or `false`: whether events after the page's last are there.",
            },
        ),
    ],
    errors=[Forbidden, NotFound, Gone],
    memory_bytes=MADE_BYTES,
)
async def list_events(call: Call, query: EventQuery) -> Reply:
    """
    Fetch the events of a group after a sequence number (replay).

    410 when events after `after_seq` are no longer retained; `details.oldest_seq` is the first that is.
    """
    group_id = GroupId(read_uuid("group_id", query.group_id))
    page = await events.page(call.server.services, call.principal, group_id, after=query.after_seq, limit=query.limit)
    if not prefers_ndjson(call.header(b"accept")):
        return Reply(200, page.json(), headers=[(b"vary", b"Accept")])
    return Reply(
        200,
        page.lines(),
        content_type=_NDJSON.encode(),
        headers=[
            (b"vary", b"Accept"),
            (b"x-last-seq", b"%d" % page.last_seq),
            (b"x-has-more", b"true" if page.has_more else b"false"),
        ],
    )


def prefers_ndjson(accept: str | None) -> bool:
    """Return whether an Accept header prefers ndjson to JSON, or ranks both equally (RFC 9110 §12.5.1)."""
    quality = {_NDJSON: 0.0, "application/json": 0.0}
    for part in (accept or "").split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        if name not in quality:
            continue
        given = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            quality[name] = float(given)
        except ValueError:
            quality[name] = 0.0
    return 0.0 < quality[_NDJSON] >= quality["application/json"]


ENDPOINTS: Final = (list_events,)
