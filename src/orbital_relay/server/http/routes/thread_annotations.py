"""Annotations of threads, replies and media."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from orbital_relay.api.fields import JsonSafeInt
from orbital_relay.api.thread_annotations import AnnotationBody, AnnotationCreated, Annotations
from orbital_relay.errors import Conflict, EpochChanged, Forbidden, NotFound, PayloadTooLarge
from orbital_relay.model import ThreadId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import thread_annotations
from orbital_relay.services.posting import POST_ANNOTATION

_TAG: Final = "Threads"


class AnnotationQuery(msgspec.Struct):
    """Which annotations."""

    after_seq: Annotated[JsonSafeInt, msgspec.Meta(description="Only those with a higher number.")] = 0
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=500, description="Maximum number of entries; fewer when they fill 8 MiB.")
    ] = 100


@endpoint(
    "POST",
    "/api/threads/{thread_id}/annotations",
    tag=_TAG,
    answers=[Answer(201, "The annotation is durable.", AnnotationCreated)],
    errors=[Forbidden, NotFound, Conflict, EpochChanged, PayloadTooLarge],
    idempotent=True,
)
async def post_annotation(call: Call, body: AnnotationBody) -> Reply:
    """
    Annotate a thread, or a reply or medium in it: a reaction, an edit, a pin, as the clients agree.

    It counts as no reply and no activity, and calls no device. Emits `new_annotation`.
    """
    thread_id = call.uuid("thread_id", ThreadId)
    appended = await thread_annotations.post(
        call.server.services,
        call.principal,
        thread_id,
        body,
        idempotency_key=call.key_for(POST_ANNOTATION, thread_id),
    )
    return Reply.json(appended.receipt, status=201)


@endpoint(
    "GET",
    "/api/threads/{thread_id}/annotations",
    tag=_TAG,
    answers=[Answer(200, "A page of annotations.", Annotations)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_annotations(call: Call, query: AnnotationQuery) -> Reply:
    """List the annotations of a thread, oldest first."""
    thread_id = call.uuid("thread_id", ThreadId)
    return Reply.json(
        await thread_annotations.page(
            call.server.services, call.principal, thread_id, after=query.after_seq, limit=query.limit
        )
    )


ENDPOINTS: Final = (post_annotation, list_annotations)
