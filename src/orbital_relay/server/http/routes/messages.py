"""Messages: opaque Signal Protocol envelopes."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.fields import JsonSafeInt, Uuid
from orbital_relay.api.messages import MessageBody, MessagePosted, Messages
from orbital_relay.errors import Conflict, EpochChanged, Forbidden, NotFound, PayloadTooLarge
from orbital_relay.model import DeletableKind, GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import deletion, messages
from orbital_relay.services.forms import read_uuid
from orbital_relay.services.posting import POST_MESSAGE

_TAG: Final = "Messages"


class MessageQuery(msgspec.Struct):
    """Which messages."""

    since: Annotated[
        JsonSafeInt,
        msgspec.Meta(description="Only messages with a later `server_timestamp`. 0: from the oldest that is kept."),
    ] = 0
    limit: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=500,
            description="Most messages; more only to keep equal stamps together, fewer when they fill 8 MiB.",
        ),
    ] = 100
    conversation_id: Annotated[Uuid, msgspec.Meta(description="Only this group's.")] | msgspec.UnsetType = msgspec.UNSET


@endpoint(
    "POST",
    "/v1/messages",
    tag=_TAG,
    answers=[Answer(200, "The message is durable.", MessagePosted)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
)
async def post_message(call: Call, body: MessageBody) -> Reply:
    """
    Post a message to a group.

    Answered once the message is durable. Emits `new_message`.
    """
    idempotency_key = call.key_for(POST_MESSAGE)
    appended = await messages.post(call.server.services, call.principal, body, idempotency_key=idempotency_key)
    return Reply.json(appended.receipt)


@endpoint(
    "GET",
    "/v1/messages",
    tag=_TAG,
    answers=[Answer(200, "A page of messages.", Messages)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_messages(call: Call, query: MessageQuery) -> Reply:
    """
    Fetch the messages of the caller's groups that are newer than a timestamp.

    For the next page, repeat the request with the `server_timestamp` of the last message; no message is skipped.
    """
    group_id: GroupId | None = None
    if query.conversation_id is not msgspec.UNSET:
        group_id = GroupId(read_uuid("conversation_id", query.conversation_id))
    page = await messages.page(
        call.server.services, call.principal, since_ms=query.since, limit=query.limit, group_id=group_id
    )
    return Reply(200, page)


@endpoint(
    "DELETE",
    "/v1/messages/{message_id}",
    tag=_TAG,
    answers=[Answer(204, "The message is deleted, or was before.")],
    errors=[Forbidden, NotFound],
)
async def delete_message(call: Call) -> Reply:
    """
    Delete a message; for its sender, the group's founder and administrators.

    It is not listed any more. Emits `deleted`, once; a repeated request gets the same response. The log keeps the
    message until its retention ends; from then on the response is 404.
    """
    await deletion.delete(call.server.services, call.principal, DeletableKind.MESSAGE, call.uuid("message_id", str))
    return Reply(204)


ENDPOINTS: Final = (post_message, list_messages, delete_message)
