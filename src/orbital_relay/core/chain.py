"""
The hash chain: each durable frame carries the hash of the frame before it.

The server writes a durable frame once, as UTF-8 text with its members always in one order:

    {"type":…,"data":{…},"server_timestamp":N,"group_id":"…","seq":N,"prev":"<43 characters>"}

`prev` is the SHA-256 (FIPS 180-4), in base64url without padding (RFC 4648 §5), of the text of the frame with the number
before, or of the group's id for number 1. Who hashes what arrives can prove that nothing was dropped, changed or moved.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

HASH_LENGTH: Final = 43
"""Characters of a hash: 256 bits at 6 a character, without padding."""

_TAIL: Final = b',"prev":"'
_END: Final = b'"}'
_PREV_AT: Final = -(HASH_LENGTH + len(_END))
_TAIL_AT: Final = _PREV_AT - len(_TAIL)


def digest(frame: bytes) -> str:
    """
    Hash the UTF-8 text of a frame.

    Returns:
        43 characters of `[A-Za-z0-9_-]`.
    """
    return urlsafe_b64encode(sha256(frame).digest())[:HASH_LENGTH].decode("ascii")


def first_prev(group_id: str) -> str:
    """Give the `prev` of a group's event number 1: the hash of the group's id."""
    return digest(group_id.encode())


def prev_of(frame: bytes) -> str:
    """
    Read the `prev` at the end of a durable frame, without parsing the frame.

    Args:
        frame: The UTF-8 text of the frame, byte for byte.

    Raises:
        ValueError: If the frame does not end with `,"prev":"<43 characters>"}`.
    """
    if frame[_TAIL_AT:_PREV_AT] != _TAIL or not frame.endswith(_END):
        msg = "the frame does not end with its prev, so it is not the text of a durable frame"
        raise ValueError(msg)
    prev = frame[_PREV_AT : -len(_END)].decode("ascii", "replace")
    if not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in prev):
        msg = "the frame's prev is not base64url"
        raise ValueError(msg)
    return prev


def fits(frame: bytes, prev: str) -> bool:
    """Return whether a durable frame carries `prev`, the hash of the frame before it."""
    return frame.endswith(b'%b%b"}' % (_TAIL, prev.encode()))


class Chain:
    """
    A verifier of one group's frames, in the order of their numbers.

    Without a starting hash the first frame is taken on trust, and all later ones are checked against it.
    A chain never moves past a frame that does not fit.
    """

    __slots__ = ("prev",)

    prev: str | None
    """Hash of the last frame taken: what the next one must carry. None before anything is known."""

    def __init__(self, prev: str | None = None) -> None:
        """
        Start after the frame whose hash is `prev`.

        Args:
            prev: Hash of the frame before the next one; `first_prev(group_id)` before number 1; None to trust the next.
        """
        self.prev = prev

    def offer(self, frame: bytes) -> bool:
        """
        Check the next frame, and move past it when it fits.

        Args:
            frame: The UTF-8 text of the frame with the next number, byte for byte.

        Returns:
            True, and the chain stands after the frame; False, and it stands where it stood: something was dropped,
            changed or moved, here or in the frame before.
        """
        try:
            prev = prev_of(frame)
        except ValueError:
            return False
        if self.prev is not None and prev != self.prev:
            return False
        self.prev = digest(frame)
        return True
