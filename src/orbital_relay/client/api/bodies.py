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


def given(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body without the fields that were left out (None)."""
    return {name: value for name, value in body.items() if value is not None}


def message_body(
    conversation_id: str, encrypted_envelope: str, timestamp: int, if_epoch: int | None = None
) -> dict[str, Any]:
    """Make the body of `POST /v1/messages`."""
    body = {"conversation_id": conversation_id, "encrypted_envelope": encrypted_envelope, "timestamp": timestamp}
    return given({**body, "if_epoch": if_epoch})


def thread_body(
    group_id: str,
    encrypted_title: str,
    encrypted_body: str,
    root_message_id: str | None,
    if_epoch: int | None = None,
) -> dict[str, Any]:
    """Make the body of `POST /api/threads`."""
    body = {"group_id": group_id, "encrypted_title": encrypted_title, "encrypted_body": encrypted_body}
    return given({**body, "root_message_id": root_message_id, "if_epoch": if_epoch})


def reply_body(encrypted_body: str, message_id: str | None, if_epoch: int | None = None) -> dict[str, Any]:
    """Make the body of a reply's POST."""
    return given({"encrypted_body": encrypted_body, "message_id": message_id, "if_epoch": if_epoch})


def reply_path(thread_id: str) -> str:
    """Return the path to which a thread's replies are posted."""
    return f"/api/threads/{segment(thread_id)}/replies"


def annotations_path(thread_id: str) -> str:
    """Return the path of a thread's annotations."""
    return f"/api/threads/{segment(thread_id)}/annotations"
