"""Threads and replies."""

from __future__ import annotations

import asyncio

from orbital_relay.api.threads import Replies, ReplyBody, Sort, ThreadBody, Threads, ThreadWithMedia
from orbital_relay.model import GroupId, IdempotencyKey, PostReply, PostThread, Principal, ThreadId
from orbital_relay.ports import Appended
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid


def post(
    context: ServiceContext, principal: Principal, body: ThreadBody, *, idempotency_key: IdempotencyKey | None = None
) -> asyncio.Future[Appended]:
    """
    Queue a new thread for its group, before this returns; the future ends when it is durable.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If title or body are over the limit.
    """
    group_id = GroupId(read_uuid("group_id", body.group_id))
    check_encrypted("encrypted_title", body.encrypted_title, limit_bytes=context.envelope_bytes)
    check_encrypted("encrypted_body", body.encrypted_body, limit_bytes=context.envelope_bytes)
    root = None if body.root_message_id is None else read_uuid("root_message_id", body.root_message_id)
    return context.append(
        PostThread(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            group_id=group_id,
            thread_id=ThreadId(new_id()),
            encrypted_title=body.encrypted_title,
            encrypted_body=body.encrypted_body,
            root_message_id=root,
            if_epoch=body.if_epoch,
        )
    )


def reply(
    context: ServiceContext,
    principal: Principal,
    thread_id: ThreadId,
    body: ReplyBody,
    *,
    idempotency_key: IdempotencyKey | None = None,
) -> asyncio.Future[Appended]:
    """
    Queue a reply in a thread, before this returns; the future ends when it is durable.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If the body is over the limit.
    """
    check_encrypted("encrypted_body", body.encrypted_body, limit_bytes=context.envelope_bytes)
    message_id = None if body.message_id is None else read_uuid("message_id", body.message_id)
    return context.append(
        PostReply(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            thread_id=thread_id,
            reply_id=new_id(),
            encrypted_body=body.encrypted_body,
            message_id=message_id,
            if_epoch=body.if_epoch,
        )
    )


async def page(
    context: ServiceContext, principal: Principal, group_id: GroupId, *, limit: int, offset: int, sort: Sort
) -> Threads:
    """
    Return a page of a group's threads, in the order that is asked for.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await context.store.threads(principal.key, group_id, limit=limit, offset=offset, sort=sort)


async def show(context: ServiceContext, principal: Principal, thread_id: ThreadId) -> ThreadWithMedia:
    """
    Return a thread with the first of its media.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the caller is not in its group.
    """
    return await context.store.thread(principal.key, thread_id, now_ms=context.clock.wall_ms())


async def replies(
    context: ServiceContext, principal: Principal, thread_id: ThreadId, *, limit: int, offset: int
) -> Replies:
    """
    Return a page of a thread's replies, oldest first.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the caller is not in its group.
    """
    return await context.store.replies(principal.key, thread_id, limit=limit, offset=offset)
