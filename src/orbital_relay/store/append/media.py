"""The rows of media in the append transaction: facts for the decision, and a medium that is whole or has expired."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, case, select, update

from orbital_relay.core.refusals import no_media
from orbital_relay.model import ExpireMedia, FinishMedia, MediaState
from orbital_relay.model.facts import MediumFacts
from orbital_relay.store import tables as t


def _medium_row(conn: Connection, media_id: str) -> Row[Any]:
    """Return a medium under its lock: an upload is abandoned without the group's."""
    row = conn.execute(
        select(t.media, t.threads.c.thread_id)
        .join(t.threads, t.threads.c.id == t.media.c.thread)
        .where(t.media.c.media_id == media_id)
        .with_for_update(of=t.media)
    ).one_or_none()
    if row is None:
        raise no_media()
    return row


def medium_facts(conn: Connection, media_id: str, *, admin: bool) -> MediumFacts:
    """
    Read the facts that decide what happens to a medium; `admin` says whether an administrator of the group asks.

    Raises:
        NotFound: If there is no such medium.
    """
    row = _medium_row(conn, media_id)
    return MediumFacts(
        thread_id=row.thread_id,
        uploader=row.uploader,
        state=MediaState(row.state),
        total_chunks=row.total_chunks,
        received_chunks=row.received_chunks,
        received_bytes=int(row.received_bytes),
        encrypted_metadata=row.encrypted_metadata,
        expires_ms=row.expires_ms or 0,
        by_admin=admin,
    )


def finish_medium(conn: Connection, draft: FinishMedia, *, seq: int) -> None:
    """Let a medium be whole, from the event with that number on."""
    row = conn.execute(
        update(t.media)
        .where(t.media.c.media_id == draft.media_id)
        .values(
            state=MediaState.COMPLETE.value,
            # From here on it counts as what it is; until now it may have been reserved generously.
            reserved_bytes=t.media.c.received_bytes,
            seq=seq,
            uploaded_ms=draft.at_ms,
            expires_ms=draft.expires_ms,
        )
        .returning(t.media.c.thread)
    ).one()
    _count_medium(conn, row.thread, 1)
    conn.execute(update(t.threads).where(t.threads.c.id == row.thread).values(active_seq=seq, active_ms=draft.at_ms))


def expire_medium(conn: Connection, draft: ExpireMedia) -> None:
    """Let a medium be expired; its bytes are deleted later."""
    # The bytes go after this is committed: a crash in between leaves them to the next round, which finds `has_bytes`.
    sooner = case((t.media.c.expires_ms > draft.at_ms, draft.at_ms), else_=t.media.c.expires_ms)
    row = conn.execute(
        update(t.media)
        .where(t.media.c.media_id == draft.media_id)
        .values(state=MediaState.EXPIRED.value, reserved_bytes=0, expires_ms=sooner)
        .returning(t.media.c.thread)
    ).one()
    _count_medium(conn, row.thread, -1)


def _count_medium(conn: Connection, thread: int, change: int) -> None:
    conn.execute(update(t.threads).where(t.threads.c.id == thread).values(media_count=t.threads.c.media_count + change))
