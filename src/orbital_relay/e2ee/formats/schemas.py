"""The fields of every message of the wire format; docs/reference/encryption.md draws this table."""

from __future__ import annotations

from typing import Final

from orbital_relay.e2ee.formats.protobuf import MAX_SAFE, Field, Schema

ID_BYTES: Final = 16
"""Of a user, group, context, nonce or distribution id."""
KEY_BYTES: Final = 33
"""Of a serialized Curve25519 public key."""
CHAIN_KEY_BYTES: Final = 32
HASH_BYTES: Final = 16
"""Of a frame's or founder's hash, cut off."""
SIGNATURE_BYTES: Final = 64
SECRET_BYTES: Final = 16
"""Of an invite secret."""
MAC_BYTES: Final = 32
MAX_DEVICE: Final = 127
"""The largest device number."""


def _id(name: str) -> Field:
    return Field(name=name, type="bytes", length=ID_BYTES, required=True)


def _uint(name: str) -> Field:
    return Field(name=name, type="uint", required=True)


def _device(name: str) -> Field:
    return Field(name=name, type="uint", max=MAX_DEVICE, required=True)


def _bytes(name: str, length: int | None = None) -> Field:
    return Field(name=name, type="bytes", length=length, required=True)


SENDER_KEY_MESSAGE: Final[Schema] = {
    1: _id("distribution"),
    2: _uint("chain"),
    3: _uint("iteration"),
    4: _bytes("ciphertext"),
}
"""Behind the version byte of a SenderKeyMessage, before its signature."""

DISTRIBUTION_MESSAGE: Final[Schema] = {
    1: _id("distribution"),
    2: _uint("chain"),
    3: _uint("iteration"),
    4: _bytes("chain_key", CHAIN_KEY_BYTES),
    5: _bytes("signing_key", KEY_BYTES),
}
"""Behind the version byte of a sender key distribution message (SKDM)."""

DELIVERY: Final[Schema] = {1: _id("user"), 2: _device("device"), 3: _uint("suite"), 4: _bytes("sealed")}

KEYS: Final[Schema] = {
    1: _device("device"),
    2: Field(name="epoch", type="uint", max=MAX_SAFE, required=True),
    3: Field(name="deliveries", type="message", schema=DELIVERY, repeated=True),
}

REQUEST: Final[Schema] = {1: _device("device"), 2: _id("distribution")}

ENVELOPE: Final[Schema] = {
    1: Field(name="content", type="bytes"),
    2: Field(name="keys", type="message", schema=KEYS),
    3: Field(name="request", type="message", schema=REQUEST),
}
"""Behind the version byte 0x02."""

SIGNED: Final[Schema] = {
    1: _bytes("pairwise"),
    2: _bytes("identity", KEY_BYTES),
    3: _bytes("signature", SIGNATURE_BYTES),
}

HISTORY: Final[Schema] = {
    1: _id("user"),
    2: _device("device"),
    3: _bytes("skdm"),
    4: Field(name="proof", type="bytes"),
    5: Field(name="proof_key_id", type="uint"),
}

PAIRWISE: Final[Schema] = {
    1: _id("group"),
    2: Field(name="skdm", type="bytes"),
    3: Field(name="epoch", type="uint", max=MAX_SAFE, required=True),
    4: Field(name="head_seq", type="uint", max=MAX_SAFE),
    5: Field(name="head_hash", type="bytes", length=HASH_BYTES),
    6: Field(name="history", type="message", schema=HISTORY, repeated=True),
    7: Field(name="secret", type="bytes", length=SECRET_BYTES),
    8: Field(name="shareable", type="uint", max=1),
    9: Field(name="secret_number", type="uint"),
}

CONTENT: Final[Schema] = {
    1: _uint("kind"),
    2: _id("group"),
    3: _id("context"),
    4: Field(name="at", type="uint", max=MAX_SAFE, required=True),
    5: _bytes("body"),
    6: Field(name="head_seq", type="uint", max=MAX_SAFE),
    7: Field(name="head_hash", type="bytes", length=HASH_BYTES),
    8: _id("nonce"),
}
"""Before the padding."""

RECORD: Final[Schema] = {
    1: Field(name="found", type="bytes"),
    2: Field(name="knock", type="bytes"),
    3: Field(name="link", type="bytes"),
    4: Field(name="revoke", type="bytes"),
    5: Field(name="secret", type="bytes"),
    6: Field(name="policy", type="bytes"),
    15: _bytes("proof"),
}
"""The field's number is the record's kind; exactly one of 1 to 6 is there."""

_DEVICE: Final[Schema] = {
    1: _id("user"),
    2: _device("device"),
    3: _bytes("identity", KEY_BYTES),
    4: _uint("suites"),
}

RECORD_BODIES: Final[dict[str, Schema]] = {
    "found": {**_DEVICE, 5: Field(name="history", type="uint", max=2)},
    "knock": {**_DEVICE, 5: Field(name="secret_number", type="uint")},
    "link": {**_DEVICE, 5: _device("by_device")},
    "revoke": {
        1: _id("user"),
        2: Field(name="device", type="uint", max=MAX_DEVICE),
        3: _id("by_user"),
        4: _device("by_device"),
    },
    "secret": {1: _uint("number"), 2: _id("by_user"), 3: _device("by_device"), 4: _bytes("earlier", 32)},
    "policy": {
        1: Field(name="history", type="uint", max=2),
        2: Field(name="rotation_days", type="uint", max=30),
        3: _device("by_device"),
    },
}
"""The bodies of records, by kind."""

MEDIA_INFO: Final[Schema] = {1: _bytes("key", 32), 2: _bytes("sha256", 32), 3: _bytes("type"), 4: _bytes("name")}
"""The body of content of kind 5."""

_REMOVED: Final = Field(name="removed", type="uint", max=1)

ANNOTATION_BODIES: Final[dict[str, Schema]] = {
    "reaction": {1: _bytes("text"), 2: _REMOVED},
    "edit": {1: _bytes("body"), 2: Field(name="title", type="bytes")},
    "pin": {1: _REMOVED},
    "seen": {1: Field(name="seq", type="uint", max=MAX_SAFE, required=True)},
    "poll": {
        1: _id("id"),
        2: _bytes("question"),
        3: Field(name="options", type="bytes", repeated=True),
        4: Field(name="multiple", type="uint", max=1),
    },
    "vote": {1: _id("poll"), 2: _bytes("choices")},
}
"""The bodies of annotations, by kind."""

ANNOTATION: Final[Schema] = {
    number: Field(name=kind, type="message", schema=schema)
    for number, (kind, schema) in enumerate(ANNOTATION_BODIES.items(), 1)
}
"""The body of content of kind 7: one of the kinds."""

DRAWN: Final[dict[str, Schema]] = {
    "CONTENT": CONTENT,
    "DELIVERY": DELIVERY,
    "DISTRIBUTION_MESSAGE": DISTRIBUTION_MESSAGE,
    "ENVELOPE": ENVELOPE,
    "HISTORY": HISTORY,
    "KEYS": KEYS,
    "PAIRWISE": PAIRWISE,
    "RECORD": RECORD,
    "REQUEST": REQUEST,
    "SENDER_KEY_MESSAGE": SENDER_KEY_MESSAGE,
    "SIGNED": SIGNED,
    "MEDIA_INFO": MEDIA_INFO,
}
"""The messages in the order in which the documents draw them."""
