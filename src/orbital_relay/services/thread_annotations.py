"""Annotations: reactions, edits and the like on threads, replies and media."""

from __future__ import annotations

import asyncio

from orbital_relay.api.thread_annotations import AnnotationBody, Annotations
from orbital_relay.model import IdempotencyKey, PostAnnotation, Principal, ThreadId
from orbital_relay.ports import Appended
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid


def post(
    context: ServiceContext,
    principal: Principal,
    thread_id: ThreadId,
    body: AnnotationBody,
    *,
    idempotency_key: IdempotencyKey | None = None,
) -> asyncio.Future[Appended]:
    """
    Queue an annotation, before this returns; the future ends when it is durable.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If the body is over the limit.
    """
    target_id = read_uuid("target_id", body.target_id)
    check_encrypted("encrypted_body", body.encrypted_body, limit_bytes=context.envelope_bytes)
    return context.append(
        PostAnnotation(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            thread_id=thread_id,
            target_id=target_id,
            annotation_id=new_id(),
            encrypted_body=body.encrypted_body,
            if_epoch=body.if_epoch,
        )
    )


async def page(
    context: ServiceContext, principal: Principal, thread_id: ThreadId, *, after: int, limit: int
) -> Annotations:
    """
    Return annotations of a thread after a number of the log, oldest first.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the caller is not in its group.
    """
    return await context.store.thread_annotations(principal.key, thread_id, after=after, limit=limit)
