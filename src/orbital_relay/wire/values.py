"""Wire encoding of values: timestamps, ids, base64."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final


def iso(at_ms: int) -> str:
    """Write a moment, milliseconds since the epoch, as RFC 3339 in UTC with `Z` and milliseconds."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(at_s: int) -> str:
    # A handshake writes two moments of the same second, and thousands of clients come back in one.
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}"


_ENCRYPTED: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}|[A-Za-z0-9_-]+={0,2}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID as the protocol writes them: lower case, with hyphens."""
    return _UUID.fullmatch(text) is not None


def read_uuid(text: str) -> str | None:
    """Return a UUID as the protocol writes it, from one in any case (RFC 9562 §4); None if it is not one."""
    if is_uuid(text):
        return text
    # No other letter than A to F has a lower case among a to f.
    lower = text.lower()
    return lower if is_uuid(lower) else None


def timed_uuid(uuid: str, at_ms: int) -> str:
    """
    Return a random UUID as one of version 7 (RFC 9562 §5.7), whose first 48 bits are a moment.

    Args:
        uuid: A UUID of version 4; 74 of its random bits remain.
        at_ms: The moment, milliseconds since the epoch.
    """
    time = f"{at_ms:012x}"
    return f"{time[:8]}-{time[8:]}-7{uuid[15:]}"


def uuid_time_ms(uuid: str) -> int | None:
    """Return the moment in a UUID of version 7, milliseconds since the epoch; None for another version."""
    return int(uuid[:8] + uuid[9:13], 16) if uuid[14] == "7" else None


def decoded_size(text: str) -> int:
    """Return how many bytes the base64 `text` stands for, without decoding it."""
    return len(text.rstrip("=")) * 3 // 4


def encode_bytes(data: bytes) -> str:
    """Write bytes as base64 with the standard alphabet and padding."""
    return b64encode(data).decode()


def is_base64(text: str) -> bool:
    """
    Return whether `text` is base64 of at least one byte.

    Standard or URL-safe alphabet, not both; padding may be left out, but not be wrong (RFC 4648 §3.2, §4, §5).
    """
    if _ENCRYPTED.fullmatch(text) is None:
        return False
    body = len(text.rstrip("="))
    padding = len(text) - body
    return body % 4 != 1 and (padding == 0 or (body + padding) % 4 == 0)
