"""Text forms of byte strings: base64, hexadecimal and UUIDs, each decoded strictly."""

from __future__ import annotations

import base64
import re
from typing import Final

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
STANDARD: Final = str.maketrans("-_", "+/")


def to_base64(data: bytes) -> str:
    """Write base64 in the standard alphabet, padded (RFC 4648 §4)."""
    return base64.b64encode(data).decode()


def to_base64url(data: bytes) -> str:
    """Write base64 in the URL-safe alphabet, without padding (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """
    Read base64 in either alphabet, padded or not.

    Raises:
        ValueError: If the text is not base64.
    """
    bare = text.rstrip("=")
    if BASE64.fullmatch(text) is None or len(bare) % 4 == 1:
        raise ValueError(f"not base64: {len(text)} characters")
    return base64.b64decode(bare.translate(STANDARD) + "=" * (-len(bare) % 4))


def uuid_bytes(text: str) -> bytes:
    """
    Return the 16 bytes of a lower-case UUID.

    Raises:
        ValueError: If the text is not a lower-case UUID.
    """
    if UUID.fullmatch(text) is None:
        raise ValueError(f"not a lower-case UUID: {text[:40]!r}")
    return bytes.fromhex(text.replace("-", ""))


def uuid_text(data: bytes) -> str:
    """Return 16 bytes as a lower-case UUID."""
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
