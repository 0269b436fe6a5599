"""Records of a group's roster, and envelopes with keys for its devices."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.events import KeyMessages
from orbital_relay.api.fields import Uuid
from orbital_relay.api.keys import KeyMessageBody, KeysPosted, RecordBody, RecordCreated, RosterRecords
from orbital_relay.errors import Conflict, EpochChanged, Forbidden, NotFound, PayloadTooLarge
from orbital_relay.model import GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.events import SEQ_MAX
from orbital_relay.server.http.routes.paging import PageQuery
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import records
from orbital_relay.services.forms import read_uuid

_TAG: Final = "Keys"


class KeyMessageQuery(msgspec.Struct):
    """Which key messages."""

    group_id: Uuid
    after_seq: Annotated[
        int, msgspec.Meta(ge=0, le=SEQ_MAX, description="Only events with a higher number. 0: from the first kept.")
    ] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=100, description="Most events; fewer when they fill 8 MiB.")] = 50


@endpoint(
    "POST",
    "/v1/key-messages",
    tag=_TAG,
    answers=[Answer(200, "The envelope is durable.", KeysPosted)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
)
async def post_keys(call: Call, body: KeyMessageBody) -> Reply:
    """
    Post an envelope with keys for devices of a group.

    Answered once it is durable. Emits `new_keys`.
    """
    idempotency_key = call.key_for("post_keys")
    appended = await records.post_keys(call.server.services, call.principal, body, idempotency_key=idempotency_key)
    return Reply.json(appended.receipt)


@endpoint(
    "GET",
    "/v1/key-messages",
    tag=_TAG,
    answers=[Answer(200, "A page of `new_keys` events.", KeyMessages)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_key_messages(call: Call, query: KeyMessageQuery) -> Reply:
    """
    Fetch a group's `new_keys` events, oldest first.

    They are retained for 30 days, even if the retention of other events is shorter.
    """
    group_id = GroupId(read_uuid("group_id", query.group_id))
    page = await records.key_messages(
        call.server.services, call.principal, group_id, after=query.after_seq, limit=query.limit
    )
    return Reply(200, page)


@endpoint(
    "POST",
    "/api/groups/{group_id}/records",
    tag=_TAG,
    answers=[Answer(201, "The record is durable.", RecordCreated)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
    limited=True,
)
async def post_record(call: Call, body: RecordBody) -> Reply:
    """
    Post a signed record of a group's roster.

    Emits `new_record`, whose number is the group's new epoch. A user may post 30 in an hour.
    """
    group_id = call.uuid("group_id", GroupId)
    idempotency_key = call.key_for("post_record", group_id)
    await call.server.limits.record(call.principal.user_id)
    appended = await records.post_record(
        call.server.services, call.principal, group_id, body, idempotency_key=idempotency_key
    )
    return Reply.json(appended.receipt, status=201)


@endpoint(
    "GET",
    "/api/groups/{group_id}/records",
    tag=_TAG,
    answers=[Answer(200, "A page of records.", RosterRecords)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_records(call: Call, query: PageQuery) -> Reply:
    """List the records of a group's roster, in the order of the log; they are never deleted."""
    group_id = call.uuid("group_id", GroupId)
    page = await records.records(call.server.services, call.principal, group_id, limit=query.limit, offset=query.offset)
    return Reply.json(page)


ENDPOINTS: Final = (post_keys, list_key_messages, post_record, list_records)
