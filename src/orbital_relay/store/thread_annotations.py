"""Annotations of threads, replies and media."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, Select, exists, func, insert, or_, select

from orbital_relay import wire
from orbital_relay.api.thread_annotations import Annotation, Annotations
from orbital_relay.model import MediaState, PostAnnotation
from orbital_relay.store import tables as t
from orbital_relay.store.paging import NAME_FACTOR, first_fitting
from orbital_relay.store.threads import require_thread

_a = t.thread_annotations.c


def has_target(conn: Connection, draft: PostAnnotation) -> bool:
    """Return whether what a draft annotates is its thread, or a reply or a medium that is or was stored in it."""
    here = t.threads.c.thread_id == draft.thread_id
    if draft.target_id == draft.thread_id:
        return True
    reply = exists().where(t.replies.c.reply_id == draft.target_id, t.replies.c.thread == t.threads.c.id)
    stored = t.media.c.state.in_((MediaState.COMPLETE.value, MediaState.EXPIRED.value))
    medium = exists().where(t.media.c.media_id == draft.target_id, t.media.c.thread == t.threads.c.id, stored)
    return conn.execute(select(t.threads.c.id).where(here, or_(reply, medium))).one_or_none() is not None


def add_annotation(conn: Connection, draft: PostAnnotation, *, seq: int) -> None:
    """Write the row of an annotation."""
    thread = conn.execute(select(t.threads.c.id).where(t.threads.c.thread_id == draft.thread_id)).scalar_one()
    conn.execute(
        insert(t.thread_annotations).values(
            annotation_id=draft.annotation_id,
            thread=thread,
            target_id=draft.target_id,
            seq=seq,
            author=draft.actor.key,
            author_username=draft.actor.username,
            encrypted_body=draft.encrypted_body,
            created_ms=draft.at_ms,
        )
    )


def thread_annotations(conn: Connection, user: int, thread_id: str, *, after: int, limit: int) -> Annotations:
    """Answer `GET /api/threads/{thread_id}/annotations`, in the order of the log."""
    thread = require_thread(conn, user, thread_id)
    keys = select(_a.id, LENGTH).where(_a.thread == thread, _a.seq > after).order_by(_a.seq)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=0)
    rows = conn.execute(annotation_rows().where(_a.id.in_(numbers)).order_by(_a.seq))
    return Annotations(annotations=[annotation_of(row) for row in rows], has_more=has_more)


LENGTH: Final = func.length(_a.encrypted_body) + func.length(_a.author_username) * NAME_FACTOR


def annotation_rows() -> Select[Any]:
    """Select what `annotation_of` reads."""
    return (
        select(t.thread_annotations, t.users.c.user_id, t.threads.c.thread_id)
        .join(t.users, t.users.c.id == _a.author)
        .join(t.threads, t.threads.c.id == _a.thread)
    )


def annotation_of(row: Row[*tuple[Any, ...]]) -> Annotation:
    """Return an annotation as lists have it."""
    return Annotation(
        annotation_id=row.annotation_id,
        thread_id=row.thread_id,
        target_id=row.target_id,
        author_id=row.user_id,
        author_username=row.author_username,
        encrypted_body=row.encrypted_body,
        created_at=wire.iso(row.created_ms),
        seq=row.seq,
    )
