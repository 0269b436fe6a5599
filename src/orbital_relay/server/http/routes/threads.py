"""Threads and replies."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.threads import (
    Replies,
    ReplyBody,
    ReplyCreated,
    Sort,
    ThreadBody,
    ThreadCreated,
    Threads,
    ThreadWithMedia,
)
from orbital_relay.errors import Conflict, EpochChanged, Forbidden, NotFound, PayloadTooLarge
from orbital_relay.model import DeletableKind, GroupId, ThreadId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import Offset
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import deletion, threads
from orbital_relay.services.posting import POST_REPLY, POST_THREAD

_TAG: Final = "Threads"

Limit = Annotated[int, msgspec.Meta(ge=1, le=100, description="Maximum number of entries; fewer when they fill 8 MiB.")]


class ThreadQuery(msgspec.Struct):
    """Which threads, in which order."""

    limit: Limit = 50
    offset: Offset = 0
    sort: Annotated[
        Sort, msgspec.Meta(description="Newest first, oldest first, or the last active first: replies and media count.")
    ] = "created_desc"


class ReplyQuery(msgspec.Struct):
    """Which replies."""

    limit: Limit = 50
    offset: Offset = 0


@endpoint(
    "POST",
    "/api/threads",
    tag=_TAG,
    answers=[Answer(201, "The thread is durable.", ThreadCreated)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
)
async def create_thread(call: Call, body: ThreadBody) -> Reply:
    """
    Open a thread in a group.

    Emits `new_thread`.
    """
    idempotency_key = call.key_for(POST_THREAD)
    appended = await threads.post(call.server.services, call.principal, body, idempotency_key=idempotency_key)
    return Reply.json(appended.receipt, status=201)


@endpoint(
    "GET",
    "/api/groups/{group_id}/threads",
    tag=_TAG,
    answers=[Answer(200, "A page of threads.", Threads)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_threads(call: Call, query: ThreadQuery) -> Reply:
    """List a group's threads."""
    page = await threads.page(
        call.server.services,
        call.principal,
        call.uuid("group_id", GroupId),
        limit=query.limit,
        offset=query.offset,
        sort=query.sort,
    )
    return Reply.json(page)


@endpoint(
    "GET",
    "/api/threads/{thread_id}",
    tag=_TAG,
    answers=[Answer(200, "The thread.", ThreadWithMedia)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def show_thread(call: Call) -> Reply:
    """Show a thread with its media."""
    thread_id = call.uuid("thread_id", ThreadId)
    return Reply.json(await threads.show(call.server.services, call.principal, thread_id))


@endpoint(
    "GET",
    "/api/threads/{thread_id}/replies",
    tag=_TAG,
    answers=[Answer(200, "A page of replies.", Replies)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_replies(call: Call, query: ReplyQuery) -> Reply:
    """List a thread's replies, oldest first."""
    thread_id = call.uuid("thread_id", ThreadId)
    page = await threads.replies(
        call.server.services, call.principal, thread_id, limit=query.limit, offset=query.offset
    )
    return Reply.json(page)


@endpoint(
    "POST",
    "/api/threads/{thread_id}/replies",
    tag=_TAG,
    answers=[Answer(201, "The reply is durable.", ReplyCreated)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
)
async def post_reply(call: Call, body: ReplyBody) -> Reply:
    """
    Reply in a thread.

    Emits `new_reply`.
    """
    thread_id = call.uuid("thread_id", ThreadId)
    idempotency_key = call.key_for(POST_REPLY, thread_id)
    appended = await threads.reply(
        call.server.services, call.principal, thread_id, body, idempotency_key=idempotency_key
    )
    return Reply.json(appended.receipt, status=201)


@endpoint(
    "DELETE",
    "/api/threads/{thread_id}",
    tag=_TAG,
    answers=[Answer(204, "The thread is deleted, or was before.")],
    errors=[Forbidden, NotFound],
)
async def delete_thread(call: Call) -> Reply:
    """
    Delete a thread with its replies, annotations and media; for its author, the group's founder and administrators.

    It is in no list any more. Emits `deleted`, once; a repeated request gets the same response. The log keeps what it
    holds of the thread until its retention ends.
    """
    await deletion.delete_thread(
        call.server.services, call.server.media, call.principal, call.uuid("thread_id", ThreadId)
    )
    return Reply(204)


@endpoint(
    "DELETE",
    "/api/replies/{reply_id}",
    tag=_TAG,
    answers=[Answer(204, "The reply is deleted, or was before.")],
    errors=[Forbidden, NotFound],
)
async def delete_reply(call: Call) -> Reply:
    """
    Delete a reply with its annotations; for its author, the group's founder and administrators.

    The thread counts it no longer. Emits `deleted`, once; a repeated request gets the same response. The log keeps the
    reply until its retention ends.
    """
    await deletion.delete(call.server.services, call.principal, DeletableKind.REPLY, call.uuid("reply_id", str))
    return Reply(204)


ENDPOINTS: Final = (
    create_thread,
    list_threads,
    show_thread,
    list_replies,
    post_reply,
    delete_thread,
    delete_reply,
)
