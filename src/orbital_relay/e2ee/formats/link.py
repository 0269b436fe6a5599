"""The code that a new device shows, and the message that it gets: layouts, and the keys that seal the message."""

from __future__ import annotations

import os
import re
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from orbital_relay.e2ee.crypto.curve import check_public_key, verify
from orbital_relay.e2ee.crypto.mac import gcm_open, gcm_seal, hkdf, sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import Field, Schema, decode, encode
from orbital_relay.e2ee.formats.records import Signer
from orbital_relay.e2ee.formats.schemas import (
    HASH_BYTES,
    ID_BYTES,
    KEY_BYTES,
    MAX_DEVICE,
    SECRET_BYTES,
    SIGNATURE_BYTES,
)
from orbital_relay.e2ee.texts import from_base64, to_base64url, uuid_bytes, uuid_text

VERSION: Final = 1
MAILBOX_BYTES: Final = 16
POINT_BYTES: Final = 32
CHECK_BYTES: Final = 4
TAG_BYTES: Final = 16
CODE_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{160}")
MAX_LINK_GROUPS: Final = 500
"""Groups that one message carries: with their fields they stay below the mailbox's 64 KiB."""

LINK_GROUP: Final[Schema] = {
    1: Field(name="group", type="bytes", length=ID_BYTES, required=True),
    2: Field(name="founder", type="bytes", length=HASH_BYTES, required=True),
    3: Field(name="secret", type="bytes", length=SECRET_BYTES, required=True),
    4: Field(name="secret_number", type="uint"),
}
LINK_BODY: Final[Schema] = {
    1: Field(name="user", type="bytes", length=ID_BYTES, required=True),
    2: Field(name="device", type="uint", max=MAX_DEVICE, required=True),
    3: Field(name="identity", type="bytes", length=KEY_BYTES, required=True),
    4: Field(name="groups", type="message", schema=LINK_GROUP, repeated=True),
    5: Field(name="verified", type="bytes", length=ID_BYTES, repeated=True),
}
LINK_MESSAGE: Final[Schema] = {
    1: Field(name="body", type="bytes", required=True),
    2: Field(name="signature", type="bytes", length=SIGNATURE_BYTES, required=True),
}


class LinkCode(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a new device shows.

    Attributes:
        mailbox: Its name, 16 bytes.
        user: The person.
        device: Its number.
        suites: A bit mask of SuiteBits.
        identity: 33 bytes.
        point: An X25519 public key, for this code alone.
        secret: 16 bytes, for this code alone.
    """

    mailbox: bytes
    user: str
    device: int
    suites: int
    identity: bytes
    point: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"LinkCode(device={self.device})"

    @property
    def encoded(self) -> bytes:
        """Its 120 bytes, with the checksum."""
        numbers = bytes([self.device, self.suites])
        bare = bytes([VERSION]) + self.mailbox + uuid_bytes(self.user) + numbers + self.identity
        bare += self.point + self.secret
        return bare + sha256(bare)[:CHECK_BYTES]

    @property
    def text(self) -> str:
        """Its 160 letters, for a QR code or a line of text."""
        return to_base64url(self.encoded)

    @property
    def mailbox_name(self) -> str:
        """The mailbox's name at the server."""
        return to_base64url(self.mailbox)


class LinkGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group that is handed over: its founder and its present invite secret."""

    group: str
    founder: bytes
    secret: bytes
    secret_number: int = 0

    def __repr__(self) -> str:
        return f"LinkGroup({self.group})"


class LinkBody(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an older device hands over.

    Attributes:
        user: The person.
        device: The older device's number.
        identity: The older device's identity key.
        groups: The groups.
        verified: Users whose safety number was compared.
    """

    user: str
    device: int
    identity: bytes
    groups: list[LinkGroup]
    verified: list[str] = []


def read_link_code(text: str) -> LinkCode:
    """
    Read a code; white space is skipped.

    Raises:
        E2eeError: `malformed` for a letter that is wrong or missing, `unsupported` for another version, `bad_key`.
    """
    bare = "".join(text.split())
    if CODE_TEXT.fullmatch(bare) is None:
        raise E2eeError(
            "malformed", f"a code has 160 letters, and this one has {len(bare)}: copy the whole code, or scan it again"
        )
    data = from_base64(bare)
    if sha256(data[:-CHECK_BYTES])[:CHECK_BYTES] != data[-CHECK_BYTES:]:
        raise E2eeError("malformed", "a letter of the code is wrong: copy it, or scan it again")
    if data[0] != VERSION:
        raise E2eeError("unsupported", f"a code of version {data[0]}: this program reads version {VERSION}")
    device, suites, identity = data[33], data[34], data[35:68]
    if not 1 <= device <= MAX_DEVICE:
        raise E2eeError("malformed", f"a code of device {device}: devices have 1 to {MAX_DEVICE}")
    check_public_key(identity)
    return LinkCode(
        mailbox=data[1:17],
        user=uuid_text(data[17:33]),
        device=device,
        suites=suites,
        identity=identity,
        point=data[68:100],
        secret=data[100:116],
    )


def link_point(scalar: bytes) -> bytes:
    """Return the X25519 public key of a code's scalar."""
    return X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()


def _agree(scalar: bytes, point: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError as exc:
        # RFC 7748 §6.1: a result of all zeros.
        raise E2eeError("bad_key", "X25519 refused the public key") from exc


def _keys(code: LinkCode, shared: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    """Return the key and the nonce of a code's one message."""
    made = hkdf(shared + code.secret, sha256(code.encoded + ephemeral), b"orbital/2 link\0", 44)
    return made[:32], made[32:]


def _signed_part(code: LinkCode, body: bytes) -> bytes:
    return b"orbital/2 link\0" + sha256(code.encoded) + body


def seal_link(code: LinkCode, content: LinkBody, signer: Signer, scalar: bytes | None = None) -> bytes:
    """
    Seal the message for a code.

    Args:
        code: The code.
        content: What is handed over.
        signer: The older device's identity.
        scalar: 32 bytes, for test vectors only.

    Raises:
        E2eeError: `bad_key` when the code's public key is of low order.
    """
    fields: dict[str, Any] = {
        "user": uuid_bytes(content.user),
        "device": content.device,
        "identity": content.identity,
        "groups": [
            {
                "group": uuid_bytes(one.group),
                "founder": one.founder,
                "secret": one.secret,
                "secret_number": one.secret_number or None,
            }
            for one in content.groups
        ],
        "verified": [uuid_bytes(user) for user in content.verified],
    }
    body = encode(LINK_BODY, fields)
    plain = encode(LINK_MESSAGE, {"body": body, "signature": signer.sign(_signed_part(code, body))})
    private = os.urandom(32) if scalar is None else scalar
    ephemeral = link_point(private)
    key, nonce = _keys(code, _agree(private, code.point), ephemeral)
    return bytes([VERSION]) + ephemeral + gcm_seal(key, nonce, plain)


def open_link(code: LinkCode, scalar: bytes, sealed: bytes) -> LinkBody:
    """
    Open the message of a code.

    Args:
        code: The code.
        scalar: The private half of its X25519 key.
        sealed: The message.

    Raises:
        E2eeError: `cannot_open` for a message of another code, or a changed one; `malformed`, `unsupported`,
            `bad_signature`, `bad_key`.
    """
    if sealed[:1] != bytes([VERSION]):
        raise E2eeError("unsupported", f"a message of another version for a code of version {VERSION}")
    if len(sealed) < 1 + POINT_BYTES + TAG_BYTES:
        raise E2eeError("malformed", f"a message of {len(sealed)} bytes")
    ephemeral = sealed[1 : 1 + POINT_BYTES]
    key, nonce = _keys(code, _agree(scalar, ephemeral), ephemeral)
    message = decode(LINK_MESSAGE, gcm_open(key, nonce, sealed[1 + POINT_BYTES :]))
    body = message["body"]
    fields = decode(LINK_BODY, body)
    check_public_key(fields["identity"])
    if not verify(fields["identity"], _signed_part(code, body), message["signature"]):
        raise E2eeError("bad_signature", "the message is not signed by the device that it names")
    groups = [LinkGroup(**{**one, "group": uuid_text(one["group"])}) for one in fields["groups"]]
    return LinkBody(
        user=uuid_text(fields["user"]),
        device=fields["device"],
        identity=fields["identity"],
        groups=groups,
        verified=[uuid_text(user) for user in fields["verified"]],
    )


def link_number(code: LinkCode, sealed: bytes) -> str:
    """Return the six digits that both devices show."""
    digest = sha256(b"orbital/2 link number\0" + code.encoded + sha256(sealed))
    return f"{int.from_bytes(digest[:8]) % 1_000_000:06d}"
