"""Bodies of `PUT /v1/keys`: keys of the right sizes that hold their numbers."""

from __future__ import annotations

import base64
from typing import Any

from orbital_relay.services import keys


def curve(mark: int = 1) -> str:
    """Return a key of Curve25519's size, in base64."""
    return base64.b64encode(b"\x05" + bytes([mark]) * 32).decode()


def signed(number: int, size: int = keys.XWING_BYTES, first: int = 9) -> dict[str, Any]:
    """Return a signed key that holds its number."""
    key = bytes([first]) + number.to_bytes(4, "big") + bytes(size - 5)
    return {"id": number, "key": base64.b64encode(key).decode(), "signature": base64.b64encode(bytes(64)).decode()}


def keys_body(
    mark: int = 1, *, one_time: int = 0, first_id: int = 1, suites: int = 2, **changes: Any
) -> dict[str, Any]:
    """
    Return what a device publishes.

    Args:
        mark: Which identity key.
        one_time: One-time keys of each kind that its suites have.
        first_id: The id of the first of them; the others follow.
        suites: Bit mask.
        changes: Members in place of these.
    """
    ids = range(first_id, first_id + one_time)
    found = {
        "identity_key": curve(mark),
        "suites": suites,
        "hpke_pre_key": signed(0),
        "hpke_pre_keys": [signed(number) for number in ids],
    }
    if suites & 1:
        found |= {
            "registration_id": 7,
            "signed_pre_key": signed(0, keys.CURVE_BYTES, keys.CURVE_TYPE),
            "kyber_pre_key": signed(0, keys.KYBER_BYTES, keys.KYBER_TYPE),
            "pre_keys": [{"id": number, "key": curve(number % 256)} for number in ids],
            "kyber_pre_keys": [signed(number, keys.KYBER_BYTES, keys.KYBER_TYPE) for number in ids],
        }
    return found | changes
