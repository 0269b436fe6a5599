"""The roster's records: signed statements in the group's log about the devices that may be given keys."""

from __future__ import annotations

import hmac
import os
from enum import IntEnum
from typing import Any, Final, Protocol

import msgspec

from orbital_relay.e2ee.crypto.curve import verify
from orbital_relay.e2ee.crypto.mac import gcm_open, gcm_seal, hkdf, hmac_sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode
from orbital_relay.e2ee.formats.schemas import MAC_BYTES, RECORD, RECORD_BODIES, SECRET_BYTES, SIGNATURE_BYTES
from orbital_relay.e2ee.texts import uuid_bytes, uuid_text

ROTATION_DAYS: Final = 7
"""Days after which a chain is replaced, when no policy says otherwise."""
ONCE: Final = bytes(12)
"""The one message under a secret's own key needs no random nonce."""


class HistoryPolicy(IntEnum):
    """History that later members may be given."""

    NONE = 0
    JOINED = 1
    """Since they joined."""
    ALL = 2


class Founding(msgspec.Struct, frozen=True, kw_only=True, tag="found", tag_field="kind"):
    """A group's first device; the SHA-256 of its identity is in every invite."""

    user: str
    device: int
    identity: bytes
    suites: int
    history: int = 0


class Knock(msgspec.Struct, frozen=True, kw_only=True, tag="knock", tag_field="kind"):
    """A person's first device, which has the invite secret."""

    user: str
    device: int
    identity: bytes
    suites: int
    secret_number: int = 0


class Link(msgspec.Struct, frozen=True, kw_only=True, tag="link", tag_field="kind"):
    """A person's further device, admitted by an older one."""

    user: str
    device: int
    identity: bytes
    suites: int
    by_device: int


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag="revoke", tag_field="kind"):
    """A device that is given nothing any more; device 0 is every device of the user."""

    user: str
    device: int = 0
    by_user: str
    by_device: int


class Secret(msgspec.Struct, frozen=True, kw_only=True, tag="secret", tag_field="kind"):
    """A new invite secret; `earlier` is the one before it, sealed under it."""

    number: int
    by_user: str
    by_device: int
    earlier: bytes


class Policy(msgspec.Struct, frozen=True, kw_only=True, tag="policy", tag_field="kind"):
    """What the founding user decides for the group."""

    history: int = 0
    rotation_days: int = ROTATION_DAYS
    by_device: int


RosterBody = Founding | Knock | Link | Revoke | Secret | Policy
BODIES: Final[dict[str, type[RosterBody]]] = {
    "found": Founding,
    "knock": Knock,
    "link": Link,
    "revoke": Revoke,
    "secret": Secret,
    "policy": Policy,
}


class GroupRecord(msgspec.Struct, frozen=True):
    """
    A parsed record.

    Attributes:
        body: What it states.
        signed: The bytes that the proof covers.
        proof: A signature, or the MAC of a knock.
    """

    body: RosterBody
    signed: bytes
    proof: bytes


class Signer(Protocol):
    """The identity of a device."""

    @property
    def public_key(self) -> bytes:
        """33 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Sign as XEdDSA does; 64 bytes."""


def kind_of(body: RosterBody) -> str:
    """Return the kind of a record's body, as the wire names it."""
    return str(body.__struct_config__.tag)


def _signed_part(group: str, kind: str, body: bytes) -> bytes:
    return f"orbital/2 {kind}\0".encode() + uuid_bytes(group) + body


def _write_body(body: RosterBody) -> bytes:
    """Write the fields; numbers that are 0 by default are left out."""
    fields = msgspec.structs.asdict(body)
    for name in ("user", "by_user"):
        if name in fields:
            fields[name] = uuid_bytes(fields[name])
    for name in ("history", "secret_number", *(["device"] if isinstance(body, Revoke) else [])):
        if fields.get(name) == 0:
            del fields[name]
    return encode(RECORD_BODIES[kind_of(body)], fields)


def _secret_key(secret: bytes, group: str, label: str) -> bytes:
    return hkdf(secret, uuid_bytes(group), f"orbital/2 {label}\0".encode(), 32)


def _knock_proof(secret: bytes, group: str, signed: bytes) -> bytes:
    return hmac_sha256(_secret_key(secret, group, "knock"), signed)


def write_record(group: str, body: RosterBody, proof: Signer | bytes) -> bytes:
    """
    Write a record and prove it.

    Args:
        group: Its group.
        body: What it states.
        proof: The signing identity; of a knock the invite secret.
    """
    kind, written = kind_of(body), _write_body(body)
    signed = _signed_part(group, kind, written)
    made = _knock_proof(proof, group, signed) if isinstance(proof, bytes) else proof.sign(signed)
    return encode(RECORD, {kind: written, "proof": made})


def read_record(group: str, data: bytes) -> GroupRecord:
    """
    Parse a record. Its proof is not verified here.

    Raises:
        E2eeError: `malformed`; `unsupported` for a kind that this client does not have.
    """
    record = decode(RECORD, data)
    proof: bytes = record.pop("proof")
    if not record:
        raise E2eeError("unsupported", "a record of a kind that is unknown here")
    if len(record) > 1:
        raise E2eeError("malformed", f"a record of {len(record)} kinds")
    [(kind, written)] = record.items()
    fields: dict[str, Any] = decode(RECORD_BODIES[kind], written)
    for name in ("user", "by_user"):
        if name in fields:
            fields[name] = uuid_text(fields[name])
    wanted = MAC_BYTES if kind == "knock" else SIGNATURE_BYTES
    if len(proof) != wanted:
        raise E2eeError("malformed", f"the proof of a {kind} has {len(proof)} bytes, not {wanted}")
    return GroupRecord(BODIES[kind](**fields), _signed_part(group, kind, written), proof)


def is_signed_by(record: GroupRecord, identity: bytes) -> bool:
    """Return whether this identity signed the record."""
    return verify(identity, record.signed, record.proof)


def is_knock_of(record: GroupRecord, group: str, secret: bytes) -> bool:
    """Return whether a knock was made with this secret."""
    return hmac.compare_digest(record.proof, _knock_proof(secret, group, record.signed))


def next_secret(group: str, present: bytes) -> tuple[bytes, bytes]:
    """
    Make the next invite secret, and seal the present one under it, so that later members can verify earlier knocks.

    Returns:
        The new secret, and the sealed one.
    """
    secret = os.urandom(SECRET_BYTES)
    return secret, gcm_seal(_secret_key(secret, group, "earlier"), ONCE, present)


def earlier_secret(group: str, secret: bytes, earlier: bytes) -> bytes | None:
    """Return the secret before this one; None when it does not open."""
    try:
        return gcm_open(_secret_key(secret, group, "earlier"), ONCE, earlier)
    except E2eeError:
        return None
