"""
Encryption of files: each under a key of its own, in pieces of 1 MiB whose position and end are bound.

The key travels in the content of kind 5.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import BinaryIO, Final

import msgspec

from orbital_relay.e2ee.crypto.mac import gcm_open, gcm_seal
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode
from orbital_relay.e2ee.formats.schemas import MEDIA_INFO

PIECE_BYTES: Final = 1024 * 1024
"""Plain bytes of one piece."""
VERSION: Final = 2
"""First byte of a file that has a key of its own; files under a group's key begin with 0x01."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SEALED_PIECE_BYTES: Final = NONCE_BYTES + PIECE_BYTES + TAG_BYTES


class MediaInfo(msgspec.Struct, frozen=True, kw_only=True):
    """
    What opens a file.

    Attributes:
        key: 32 bytes.
        sha256: Of the sealed file.
        type: Its media type.
        name: Its name.
    """

    key: bytes
    sha256: bytes
    type: str
    name: str

    def __repr__(self) -> str:
        return f"MediaInfo({self.sha256.hex()})"


def write_media_info(info: MediaInfo) -> bytes:
    """Write the body of content of kind 5."""
    fields = {"key": info.key, "sha256": info.sha256, "type": info.type.encode(), "name": info.name.encode()}
    return encode(MEDIA_INFO, fields)


def read_media_info(data: bytes) -> MediaInfo:
    """
    Parse the body of content of kind 5.

    Raises:
        E2eeError: `malformed`.
    """
    fields = decode(MEDIA_INFO, data)
    try:
        texts = {"type": fields["type"].decode(), "name": fields["name"].decode()}
    except UnicodeDecodeError as exc:
        raise E2eeError("malformed", "a media info whose type or name is not UTF-8") from exc
    return MediaInfo(key=fields["key"], sha256=fields["sha256"], **texts)


def _bound(media_id: str, index: int, *, last: bool) -> bytes:
    return f"orbital/2\nmedia/{media_id}/{index}{'/last' if last else ''}".encode()


def seal_file(media_id: str, source: BinaryIO, sealed: BinaryIO) -> tuple[bytes, bytes]:
    """
    Seal a file, piece by piece: memory holds two pieces at a time.

    Args:
        media_id: The UUID under which it is uploaded.
        source: The file.
        sealed: Where the sealed file is written.

    Returns:
        The key, and the SHA-256 of the sealed file.
    """
    key = os.urandom(32)
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        sealed.write(data)

    write(bytes([VERSION]))
    piece, index = source.read(PIECE_BYTES), 0
    while True:
        following = source.read(PIECE_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        write(nonce + gcm_seal(key, nonce, piece, _bound(media_id, index, last=not following)))
        if not following:
            return key, digest.digest()
        piece, index = following, index + 1


def open_file(media_id: str, info: MediaInfo, sealed: BinaryIO, target: BinaryIO) -> None:
    """
    Open a sealed file. Nothing is written to `target` unless the file's hash is the one that the info names.

    Args:
        media_id: Its UUID.
        info: What opens it.
        sealed: The sealed file, which is read twice.
        target: Where the file is written.

    Raises:
        E2eeError: `unsupported`; `cannot_open` when it is not the file that the info names, or a piece was changed,
            moved or cut off.
    """
    begin = sealed.seek(0, os.SEEK_CUR)
    version = sealed.read(1)
    if version != bytes([VERSION]):
        raise E2eeError("unsupported", f"a file of version {version.hex() or 'missing'}, not {VERSION:02x}")
    digest = hashlib.sha256(version)
    while chunk := sealed.read(PIECE_BYTES):
        digest.update(chunk)
    if not hmac.compare_digest(digest.digest(), info.sha256):
        raise E2eeError("cannot_open", "the file is not the one that its info names")
    sealed.seek(begin + 1)
    piece, index = sealed.read(SEALED_PIECE_BYTES), 0
    if len(piece) < NONCE_BYTES + TAG_BYTES:
        raise E2eeError("cannot_open", "a file without a piece")
    while piece:
        following = sealed.read(SEALED_PIECE_BYTES)
        bound = _bound(media_id, index, last=not following)
        target.write(gcm_open(info.key, piece[:NONCE_BYTES], piece[NONCE_BYTES:], bound))
        piece, index = following, index + 1
