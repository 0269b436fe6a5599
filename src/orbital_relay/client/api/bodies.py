"""The bodies, paths and keys of posts, for the requests and for the outbox."""

from __future__ import annotations

import base64
import re
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

_KEY: Final = re.compile(r"[!-~]{1,128}")


def checked_key(key: str) -> str:
    """
    Return an idempotency key unchanged.

    Raises:
        ValueError: If the protocol does not allow it.
    """
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"An idempotency key has 1 to 128 visible ASCII characters, not {key!r}.")
    return key


def key_or_new(key: str | None) -> str:
    """Return an idempotency key that was checked; a new one for None."""
    return str(uuid4()) if key is None else checked_key(key)


def segment(value: str) -> str:
    """Write an id into a path, whatever is in it."""
    return quote(value, safe="")


def encoded(encrypted: bytes | str) -> str:
    """Write ciphertext as base64; text is base64 already."""
    return base64.b64encode(encrypted).decode("ascii") if isinstance(encrypted, bytes) else encrypted


def thread_body(
    group_id: str, encrypted_title: str, encrypted_body: str, root_message_id: str | None
) -> dict[str, Any]:
    """Make the body of `POST /api/threads`."""
    body = {"group_id": group_id, "encrypted_title": encrypted_title, "encrypted_body": encrypted_body}
    return body if root_message_id is None else {**body, "root_message_id": root_message_id}


def reply_body(encrypted_body: str, message_id: str | None) -> dict[str, Any]:
    """Make the body of a reply's POST."""
    body = {"encrypted_body": encrypted_body}
    return body if message_id is None else {**body, "message_id": message_id}


def reply_path(thread_id: str) -> str:
    """Return the path to which a thread's replies are posted."""
    return f"/api/threads/{segment(thread_id)}/replies"
