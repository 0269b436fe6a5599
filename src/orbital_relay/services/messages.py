"""Messages: opaque Signal Protocol envelopes. They have no table of their own; they are the log."""

from __future__ import annotations

import asyncio

from orbital_relay import wire
from orbital_relay.api.messages import MessageBody
from orbital_relay.model import GroupId, IdempotencyKey, PostMessage, Principal
from orbital_relay.ports import Appended
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid


def post(
    context: ServiceContext, principal: Principal, body: MessageBody, *, idempotency_key: IdempotencyKey | None = None
) -> asyncio.Future[Appended]:
    """
    Queue a message for its group; the future ends when it is durable.

    It is queued before this returns: messages posted one after the other are stored in that order.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If the envelope is over the limit.
    """
    group_id = GroupId(read_uuid("conversation_id", body.conversation_id))
    check_encrypted("encrypted_envelope", body.encrypted_envelope, limit_bytes=context.envelope_bytes)
    return context.append(
        PostMessage(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            group_id=group_id,
            message_id=new_id(),
            encrypted_envelope=body.encrypted_envelope,
            if_epoch=body.if_epoch,
        )
    )


async def page(
    context: ServiceContext, principal: Principal, *, since_ms: int, limit: int, group_id: GroupId | None
) -> bytes:
    """
    Answer `GET /v1/messages`; the envelopes are copied from the stored frames, not encoded again.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    events, has_more = await context.store.messages(principal.key, since_ms=since_ms, limit=limit, group_id=group_id)
    messages = [b'%b,"seq":%d}' % (bytes(wire.open_frame(event.frame).data)[:-1], event.seq) for event in events]
    return b'{"messages":[%b],"has_more":%b}' % (b",".join(messages), b"true" if has_more else b"false")
