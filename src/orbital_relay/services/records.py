"""Records of a group's roster, and envelopes with keys for its devices."""

from __future__ import annotations

import asyncio
from typing import Final

from orbital_relay.api.keys import KeyMessageBody, RecordBody, RosterRecords
from orbital_relay.model import GroupId, IdempotencyKey, PostKeys, PostRecord, Principal
from orbital_relay.ports import Appended
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid

RECORD_BYTES: Final = 4 * 1024
"""Largest record after decoding; the longest that clients make today has 127 bytes."""

KEYS_KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""How long `new_keys` events are kept at least: as long as a device keeps the private parts of replaced keys."""


def post_keys(
    context: ServiceContext,
    principal: Principal,
    body: KeyMessageBody,
    *,
    idempotency_key: IdempotencyKey | None = None,
) -> asyncio.Future[Appended]:
    """
    Queue an envelope with keys, before this returns; the future ends when it is durable.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If the envelope is over the limit.
    """
    group_id = GroupId(read_uuid("group_id", body.group_id))
    check_encrypted("encrypted_envelope", body.encrypted_envelope, limit_bytes=context.envelope_bytes)
    return context.append(
        PostKeys(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            group_id=group_id,
            keys_id=new_id(),
            encrypted_envelope=body.encrypted_envelope,
            if_epoch=body.if_epoch,
        )
    )


def post_record(
    context: ServiceContext,
    principal: Principal,
    group_id: GroupId,
    body: RecordBody,
    *,
    idempotency_key: IdempotencyKey | None = None,
) -> asyncio.Future[Appended]:
    """
    Queue a record for a group, before this returns; the future ends when it is durable.

    Raises:
        ValidationFailed: If the record is not base64.
        PayloadTooLarge: If it is over the limit.
    """
    check_encrypted("record", body.record, limit_bytes=RECORD_BYTES)
    return context.append(
        PostRecord(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            group_id=group_id,
            record_id=new_id(),
            record=body.record,
            if_epoch=body.if_epoch,
        )
    )


async def records(
    context: ServiceContext, principal: Principal, group_id: GroupId, *, limit: int, offset: int
) -> RosterRecords:
    """
    Return a page of a group's records, in the order of the log.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await context.store.records(principal.key, group_id, limit=limit, offset=offset)


async def key_messages(
    context: ServiceContext, principal: Principal, group_id: GroupId, *, after: int, limit: int
) -> bytes:
    """
    Answer `GET /v1/key-messages` with the stored frames, byte for byte.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    events, has_more = await context.store.key_messages(principal.key, group_id, after=after, limit=limit)
    frames = b",".join(event.frame for event in events)
    return b'{"events":[%b],"has_more":%b}' % (frames, b"true" if has_more else b"false")
