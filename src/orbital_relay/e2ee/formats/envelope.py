"""Envelopes and what travels in them: keys for devices, requests for keys, and the labels that bind them."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Final

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode
from orbital_relay.e2ee.formats.schemas import ENVELOPE, PAIRWISE, SIGNED
from orbital_relay.e2ee.texts import uuid_bytes, uuid_text

VERSION: Final = 2
"""First byte of an envelope: 0x01 is one AES key for a group, 0x03 is kept for MLS."""


class Suite(IntEnum):
    """How a key reaches a device."""

    PRE_KEY_SIGNAL = 1
    SIGNAL = 2
    HPKE = 16


class SuiteBits(IntFlag):
    """Bits of a device's `suites`."""

    LIBSIGNAL = 1
    HPKE = 2


class DeviceAddress(msgspec.Struct, frozen=True, order=True):
    """A device: its user's UUID and its number, 1 to 127."""

    user: str
    device: int

    @property
    def name(self) -> str:
        """The device as one text, for keys of tables."""
        return f"{self.user}/{self.device}"


class KeyDelivery(msgspec.Struct, frozen=True):
    """A pairwise message for one device, sealed by a suite."""

    user: str
    device: int
    suite: int
    sealed: bytes

    @property
    def to(self) -> DeviceAddress:
        """The device that can open it."""
        return DeviceAddress(self.user, self.device)


class Keys(msgspec.Struct, frozen=True):
    """Deliveries of one device, made for one epoch of the group."""

    device: int
    epoch: int
    deliveries: list[KeyDelivery]


class Request(msgspec.Struct, frozen=True):
    """A device's request for a distribution."""

    device: int
    distribution: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands behind the version byte; usually one of the three."""

    content: bytes | None = None
    keys: Keys | None = None
    request: Request | None = None


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A chain of another device, given from its beginning.

    Attributes:
        user: Of the chain's owner.
        device: Of the chain's owner.
        skdm: The chain.
        proof: The Signed by which the owner gave the chain to the device that shares it.
        proof_key_id: The pre-key id of that delivery.
    """

    user: str
    device: int
    skdm: bytes
    proof: bytes | None = None
    proof_key_id: int | None = None


class Pairwise(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A message of one device for another.

    Attributes:
        group: Its group.
        epoch: Of the group, when it was made.
        skdm: The sender's own chain.
        head_seq: The group's last event that the sender has processed.
        head_hash: The first 16 bytes of that frame's hash.
        history: Chains of others.
        secret: The invite secret with the number `secret_number`.
        secret_number: Its number.
        shareable: Whether the receiver may give this chain to later members.
    """

    group: str
    epoch: int
    skdm: bytes | None = None
    head_seq: int | None = None
    head_hash: bytes | None = None
    history: list[History] = []
    secret: bytes | None = None
    secret_number: int | None = None
    shareable: bool = False


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A pairwise message, signed by its sender's identity."""

    pairwise: bytes
    identity: bytes
    signature: bytes


def _with_bytes(struct: msgspec.Struct) -> dict[str, Any]:
    fields = msgspec.structs.asdict(struct)
    return {**fields, "user": uuid_bytes(fields["user"])}


def _with_text(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "user": uuid_text(fields["user"])}


def write_envelope(envelope: Envelope) -> bytes:
    """Write an envelope."""
    keys, request = envelope.keys, envelope.request
    fields = {
        "content": envelope.content,
        "keys": keys
        and {"device": keys.device, "epoch": keys.epoch, "deliveries": [_with_bytes(one) for one in keys.deliveries]},
        "request": request and msgspec.structs.asdict(request),
    }
    return bytes([VERSION]) + encode(ENVELOPE, fields)


def read_envelope(data: bytes) -> Envelope:
    """
    Parse an envelope.

    Raises:
        E2eeError: `unsupported` for another version, `malformed`.
    """
    if data[:1] != bytes([VERSION]):
        version = data[0] if data else None
        shown = "missing" if version is None else version
        raise E2eeError("unsupported", f"envelope version {shown} is not supported here", version=version)
    fields = decode(ENVELOPE, data[1:])
    keys, request = fields.get("keys"), fields.get("request")
    return Envelope(
        content=fields.get("content"),
        keys=keys and Keys(**{**keys, "deliveries": [KeyDelivery(**_with_text(one)) for one in keys["deliveries"]]}),
        request=request and Request(**request),
    )


def write_pairwise(pairwise: Pairwise) -> bytes:
    """Write a pairwise message."""
    fields = {
        **msgspec.structs.asdict(pairwise),
        "group": uuid_bytes(pairwise.group),
        "history": [_with_bytes(one) for one in pairwise.history],
        "shareable": 1 if pairwise.shareable else None,
    }
    return encode(PAIRWISE, fields)


def read_pairwise(data: bytes) -> Pairwise:
    """
    Parse a pairwise message.

    Raises:
        E2eeError: `malformed`.
    """
    fields = decode(PAIRWISE, data)
    return Pairwise(
        **{
            **fields,
            "group": uuid_text(fields["group"]),
            "history": [History(**_with_text(one)) for one in fields["history"]],
            "shareable": fields.get("shareable") == 1,
        }
    )


def write_signed(signed: Signed) -> bytes:
    """Write a signed pairwise message."""
    return encode(SIGNED, msgspec.structs.asdict(signed))


def read_signed(data: bytes) -> Signed:
    """
    Parse a signed pairwise message. Its signature is not verified here.

    Raises:
        E2eeError: `malformed`.
    """
    return Signed(**decode(SIGNED, data))


def delivery_info(group: str, sender: DeviceAddress, to: DeviceAddress) -> bytes:
    """Return the HPKE info of a delivery by suite 16: it opens for no other group, sender or receiver."""
    ends = b"".join(uuid_bytes(one.user) + bytes([one.device]) for one in (sender, to))
    return b"orbital/2 keys\0" + uuid_bytes(group) + ends


def signed_bytes(info: bytes, pre_key_id: int, pairwise: bytes) -> bytes:
    """Return the bytes that `Signed.signature` covers."""
    return info + pre_key_id.to_bytes(4) + pairwise
