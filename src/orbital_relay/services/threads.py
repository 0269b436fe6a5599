"""Threads and replies."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from orbital_relay.model import Appended, GroupId, IdempotencyKey, PostReply, PostThread, Principal, ThreadId
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import Encrypted, Uuid, check_encrypted, new_id, read_uuid


class ThreadBody(msgspec.Struct):
    """A new thread."""

    group_id: Uuid
    encrypted_title: Encrypted
    encrypted_body: Encrypted
    root_message_id: Annotated[Uuid, msgspec.Meta(description="The message that the thread hangs on.")] | None = None


class ReplyBody(msgspec.Struct):
    """A reply in a thread."""

    encrypted_body: Encrypted
    message_id: Annotated[Uuid, msgspec.Meta(description="The message that carried the reply's keys.")] | None = None


def post(
    context: ServiceContext, principal: Principal, body: ThreadBody, *, once: IdempotencyKey | None = None
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
            once=once,
            group_id=group_id,
            thread_id=ThreadId(new_id()),
            encrypted_title=body.encrypted_title,
            encrypted_body=body.encrypted_body,
            root_message_id=root,
        )
    )


def reply(
    context: ServiceContext,
    principal: Principal,
    thread_id: ThreadId,
    body: ReplyBody,
    *,
    once: IdempotencyKey | None = None,
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
            once=once,
            thread_id=thread_id,
            reply_id=new_id(),
            encrypted_body=body.encrypted_body,
            message_id=message_id,
        )
    )
