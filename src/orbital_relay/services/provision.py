"""Device linking by mailboxes: a new device opens one, and another device of the user puts a message in."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Final

from orbital_relay import wire
from orbital_relay.api.keys import Mail, MailBody, Mailbox
from orbital_relay.core.refusals import no_mailbox
from orbital_relay.errors import Busy
from orbital_relay.services.forms import check_encrypted
from orbital_relay.services.keys import KeysContext

MAILBOX_MS: Final = 10 * 60 * 1000
"""How long a mailbox is there."""
MAIL_BYTES: Final = 64 * 1024
"""Largest message after decoding."""
WAIT_S: Final = 25.0
"""How long a reader waits for the message: proxies cut a request that is silent for 30 seconds or more."""
LOOK_S: Final = 1.0
"""How often a reader looks, since the message may come by another server."""
MOST_WAITING: Final = 200
"""Readers that wait at one server: each asks the store once a second."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{22}")


async def open_mailbox(room: KeysContext) -> Mailbox:
    """Open a mailbox whose name cannot be guessed: 128 random bits."""
    mailbox, now_ms = secrets.token_urlsafe(16), room.clock.wall_ms()
    await room.store.open_mailbox(mailbox, now_ms=now_ms)
    return Mailbox(mailbox=mailbox, expires_at=wire.iso(now_ms + MAILBOX_MS))


async def fill(room: KeysContext, mailbox: str, body: MailBody) -> None:
    """
    Put the one message into a mailbox.

    Raises:
        ValidationFailed: If the message is not base64.
        PayloadTooLarge: If it is over the limit.
        NotFound: If there is no such mailbox.
        Conflict: If another message is in it.
    """
    check_encrypted("encrypted_message", body.encrypted_message, limit_bytes=MAIL_BYTES)
    after_ms = room.clock.wall_ms() - MAILBOX_MS
    await room.store.fill_mailbox(_name(mailbox), body.encrypted_message, after_ms=after_ms)


async def read(room: KeysContext, mailbox: str, *, wait_s: float) -> Mail | None:
    """
    Return the message of a mailbox, waiting for it; None when it did not come in time.

    Raises:
        NotFound: If there is no such mailbox, or it has expired.
        Busy: If too many readers wait at this server.
    """
    name, waiting = _name(mailbox), room.readers
    if len(waiting) >= MOST_WAITING:
        raise Busy("Too many devices are waiting for a message. Try again in a few seconds.", retry_after_s=2)
    turn = object()
    waiting.add(turn)
    try:
        until_s = room.clock.steady_s() + wait_s
        while True:
            found = await room.store.mail(name, after_ms=room.clock.wall_ms() - MAILBOX_MS)
            if found is not None:
                return Mail(encrypted_message=found)
            left_s = until_s - room.clock.steady_s()
            if left_s <= 0:
                return None
            await asyncio.sleep(min(LOOK_S, left_s))
    finally:
        waiting.discard(turn)


def _name(mailbox: str) -> str:
    if _NAME.fullmatch(mailbox) is None:
        raise no_mailbox()
    return mailbox
