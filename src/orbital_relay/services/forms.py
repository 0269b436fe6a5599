"""Validation of request fields: maximum length of encrypted fields (title, body), ids, idempotency keys."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import urlsafe_b64decode
from typing import Final, TypeVar

import msgspec

from orbital_relay import wire
from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.explain import explain, field_of
from orbital_relay.model import IdempotencyKey

T = TypeVar("T")

# Chapter: fields


def read(decoder: msgspec.json.Decoder[T], text: bytes | msgspec.Raw) -> T:
    """
    Read JSON of a declared form; fields that the form does not name are ignored.

    Raises:
        ValidationFailed: If it is not JSON, or not of that form; `details.field` names the place.
    """
    try:
        return decoder.decode(text)
    # UnicodeDecodeError is a ValueError, as is all that msgspec raises.
    except (ValueError, RecursionError) as exc:
        raise ValidationFailed(explain(exc), field=field_of(exc)) from exc


def check_encrypted(field: str, text: str, *, limit_bytes: int) -> None:
    """
    Check an encrypted field, its size before its alphabet, without decoding it.

    Args:
        field: Its name.
        text: What was sent.
        limit_bytes: Largest size after decoding.

    Raises:
        PayloadTooLarge: If it is larger.
        ValidationFailed: If it is not base64 of at least one byte.
    """
    if wire.decoded_size(text) > limit_bytes:
        raise PayloadTooLarge(
            f"`{field}` is {wire.decoded_size(text)} bytes after decoding; the limit is {limit_bytes}.",
            field=field,
            limit_bytes=limit_bytes,
        )
    if not wire.is_base64(text):
        raise ValidationFailed(
            f"`{field}` is not base64 of at least one byte. The server takes ciphertext only: encrypt it first, "
            "then encode it.",
            field=field,
        )


def read_bytes(field: str, text: str, *, size: int, first: int | None = None) -> bytes:
    """
    Return the bytes of a base64 field of a fixed size.

    Args:
        field: Its name.
        text: What was sent.
        size: How many bytes it has.
        first: The value of its first byte; None for any.

    Raises:
        ValidationFailed: If it is not base64, or of another size or first byte.
    """
    if wire.decoded_size(text) != size or not wire.is_base64(text):
        raise ValidationFailed(f"`{field}` must be base64 of {size} bytes.", field=field)
    found = urlsafe_b64decode(text.replace("+", "-").replace("/", "_").rstrip("=") + "=" * (-size % 3))
    if first is not None and found[0] != first:
        raise ValidationFailed(f"`{field}` must begin with the byte 0x{first:02x}, not 0x{found[0]:02x}.", field=field)
    return found


def read_uuid(field: str, text: str) -> str:
    """
    Return an id of a body as the protocol writes it, from one in any case: some systems write capitals.

    Raises:
        ValidationFailed: If it is not a UUID.
    """
    found = wire.read_uuid(text)
    if found is None:
        raise ValidationFailed(f"{field} must be a UUID with hyphens.", field=field)
    return found


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""For a random hexadecimal digit, one with the two bits of the variant set (RFC 9562 §4.1)."""


_RANDOM_IDS: Final = 64
"""Ids for which random bytes are read at once: the call of the system costs more than the rest of an id."""
_random: list[bytes] = []
if hasattr(os, "register_at_fork"):
    # A child must not use the bytes that its parent uses.
    os.register_at_fork(after_in_child=_random.clear)


def _random_bytes() -> bytes:
    try:
        return _random.pop()
    except IndexError:
        data = os.urandom(16 * _RANDOM_IDS)
        _random.extend(data[start : start + 16] for start in range(16, len(data), 16))
        return data[:16]


def new_id() -> str:
    """Make a random UUID (RFC 9562 §5.4), at a sixth of the price of `uuid.uuid4`; any thread may."""
    digits = _random_bytes().hex()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


# Chapter: once

_KEY: Final = re.compile(r"[!-~]{1,128}")
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def make_idempotency_key(key: str | None, operation: str, *ids: str, body: object) -> IdempotencyKey | None:
    """
    Bind an idempotency key to what it is used for; None stays None.

    Args:
        key: What the client gave.
        operation: The use case; a POST and the frame of its name share one.
        *ids: The ids that are in the POST's path.
        body: The parsed JSON, of which `if_epoch` does not count. Two bodies are the same when they are equal as JSON:
            the order of members, spaces, and `1` against `1.0` make no difference.

    Raises:
        ValidationFailed: If the key is not 1-128 visible ASCII characters.
    """
    if key is None:
        return None
    if isinstance(body, dict) and "if_epoch" in body:
        # A condition on the request, and no part of it: after a change that concerned nobody it is another number.
        body = {name: member for name, member in body.items() if name != "if_epoch"}
    if _KEY.fullmatch(key) is None:
        raise ValidationFailed("An idempotency key is 1-128 visible ASCII characters.", field="Idempotency-Key")
    try:
        text = _encode_sorted([operation, ids, _plain(body)])
    except RecursionError as exc:
        raise ValidationFailed(explain(exc)) from exc
    return IdempotencyKey(key, hashlib.sha256(text).digest())


def _plain(value: object) -> object:
    """Return parsed JSON in which equal numbers look alike."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
