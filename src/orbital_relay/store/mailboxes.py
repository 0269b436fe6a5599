"""Mailboxes for linking devices."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from orbital_relay.core.refusals import no_mailbox
from orbital_relay.errors import Conflict
from orbital_relay.store import tables as t


def open_mailbox(conn: Connection, mailbox: str, *, now_ms: int) -> None:
    """Make an empty mailbox."""
    conn.execute(insert(t.mailboxes).values(mailbox=mailbox, made_ms=now_ms))


def fill_mailbox(conn: Connection, mailbox: str, message: str, *, after_ms: int) -> None:
    """
    Put the one message into a mailbox.

    Raises:
        NotFound: If there is no such mailbox.
        Conflict: If another message is in it.
    """
    m = t.mailboxes.c
    there = (m.mailbox == mailbox) & (m.made_ms > after_ms)
    if conn.execute(update(t.mailboxes).where(there, m.message.is_(None)).values(message=message)).rowcount:
        return
    # The same again: an answer was lost.
    if mail(conn, mailbox, after_ms=after_ms) != message:
        raise Conflict("This mailbox already contains a message. Open another one.")


def mail(conn: Connection, mailbox: str, *, after_ms: int) -> str | None:
    """
    Return a mailbox's message, None while it is empty.

    Raises:
        NotFound: If there is no such mailbox.
    """
    m = t.mailboxes.c
    row = conn.execute(select(m.message).where(m.mailbox == mailbox, m.made_ms > after_ms)).one_or_none()
    if row is None:
        raise no_mailbox()
    return None if row.message is None else str(row.message)


def prune_mailboxes(conn: Connection, *, before_ms: int) -> int:
    """Drop the mailboxes that were made before a moment; return how many went."""
    return conn.execute(delete(t.mailboxes).where(t.mailboxes.c.made_ms < before_ms)).rowcount
