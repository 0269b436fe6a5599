"""Devices and the public keys that they offer; to the server they are bytes."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from orbital_relay.model.people import GroupId, UserId

OneTimeKind: TypeAlias = Literal["pre_keys", "kyber_pre_keys", "hpke_pre_keys"]
"""The stocks of keys of which each is given out once."""

FixedKind: TypeAlias = Literal["signed_pre_key", "kyber_pre_key", "hpke_pre_key"]
"""The keys that stay until they are replaced; the last two are the last resort when a stock is empty."""

KeyKind: TypeAlias = OneTimeKind | FixedKind

STOCKS: Final[dict[str, int]] = {"pre_keys": 100, "kyber_pre_keys": 50, "hpke_pre_keys": 50}
"""Most one-time keys that the server keeps for a device."""

KEY_KINDS: Final[tuple[KeyKind, ...]] = (*get_args(OneTimeKind), *get_args(FixedKind))

LOW_STOCK: Final = 10
"""A stock below this is reported to the user's connections."""

LIBSIGNAL: Final = 1
"""The bit of `suites` that stands for libsignal's sessions."""


class SignedKey(msgspec.Struct, frozen=True):
    """
    A public key that a device offers.

    Attributes:
        id: The device's number for it.
        key: The key.
        signature: By the identity key; empty for the one-time keys of libsignal, which are not signed.
    """

    id: int
    key: bytes
    signature: bytes = b""


class DeviceKeys(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a device publishes.

    Attributes:
        device_id: Its number within its user, 1 to 127; None asks for the one that it has, or the next free one.
        identity_key: Another one than before makes it a new device under an old number.
        suites: Bit mask of the ways in which it receives keys.
        registration_id: libsignal's; None leaves it as it is.
        keys: By kind. Fixed keys replace the one before, stocks grow.
    """

    device_id: int | None
    identity_key: bytes
    suites: int
    registration_id: int | None = None
    keys: dict[KeyKind, list[SignedKey]] = {}


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """
    A change of a device that has no event in one group yet.

    Attributes:
        number: Its row number.
        user: The row number of the device's user.
        user_id: The user.
        username: The user's name.
        group_id: The group.
        device_id: The device.
        change: `added`, `identity` or `removed`.
        identity_key: The key that the change is about.
    """

    number: int
    user: int
    user_id: UserId
    username: str
    group_id: GroupId
    device_id: int
    change: str
    identity_key: bytes


class Stock(msgspec.Struct, frozen=True):
    """How many one-time keys of each kind a device offers."""

    pre_keys: int = 0
    kyber_pre_keys: int = 0
    hpke_pre_keys: int = 0

    def is_low(self, suites: int) -> bool:
        """Return whether a stock that the device's suites need is below `LOW_STOCK`."""
        libsignal = suites & LIBSIGNAL and min(self.pre_keys, self.kyber_pre_keys) < LOW_STOCK
        return bool(libsignal) or self.hpke_pre_keys < LOW_STOCK


class PublishedDevice(msgspec.Struct, frozen=True):
    """
    What publishing came to.

    Attributes:
        device_id: The device.
        stock: What it offers now.
    """

    device_id: int
    stock: Stock


class OwnDevice(msgspec.Struct, frozen=True):
    """A device as its own user sees it."""

    device_id: int
    identity_key: bytes
    suites: int
    stock: Stock


class LowDevice(msgspec.Struct, frozen=True):
    """
    A device with a low stock.

    Attributes:
        user: The row number of its user.
        device_id: The device.
        stock: What it offers.
        since_ms: When a claim last took a key of it, milliseconds since the epoch; 0 when none did.
    """

    user: int
    device_id: int
    stock: Stock
    since_ms: int


class ClaimedDevice(msgspec.Struct, frozen=True):
    """
    A device that somebody wants to give keys to.

    Attributes:
        user_id: Its user.
        device_id: The device.
        suite: 1 for a session of libsignal, 16 for HPKE.
        one_time: Whether one-time keys may be used up; otherwise the last resort is given.
    """

    user_id: UserId
    device_id: int
    suite: int
    one_time: bool = True
