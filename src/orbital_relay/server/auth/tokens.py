"""JWT claims: decoding and validation, expiry, clock skew (leeway); the header that selects the key."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

import jwt
import msgspec

from orbital_relay.errors import Unauthorized
from orbital_relay.explain import explain

EARLY_S: Final = 5
"""How far another machine's clock may be ahead of ours before its `nbf` keeps a token out."""

GENERATION: Final = "orbital_generation"
"""The claim of the server's own tokens that holds the number of the user's last revocation; see `Revocations`."""

LOGIN: Final = "orbital_login"
"""The claim of the server's own tokens that holds the id of their login; see `Logins`."""

_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,64}")


class Claims(msgspec.Struct):
    """The claims that count; others are another service's business."""

    exp: float
    user_id: str = msgspec.field(name="userId")
    username: str | None = None
    iat: float = 0
    nbf: float = 0
    generation: int | None = msgspec.field(name=GENERATION, default=None)
    login: str | None = msgspec.field(name=LOGIN, default=None)
    iss: msgspec.Raw = msgspec.Raw(b"null")
    aud: msgspec.Raw = msgspec.Raw(b"null")


class _Header(msgspec.Struct):
    """What of a token's header chooses the key."""

    alg: str
    kid: str | None = None


_decode_claims = msgspec.json.Decoder(Claims).decode
_decode_header = msgspec.json.Decoder(_Header).decode


def read_claims(payload: bytes, *, now_s: float) -> Claims:
    """
    Read the claims of a token whose signature holds.

    Raises:
        Unauthorized: If one is missing, wrong, or puts the token outside its validity.
    """
    try:
        claims = _decode_claims(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        # The sentence names the claim, and never shows its value.
        raise Unauthorized(f"The token's claims cannot be used: {explain(exc)}") from None
    if now_s >= claims.exp:
        raise Unauthorized("The token has expired; log in again.")
    if now_s < claims.nbf - EARLY_S:
        raise Unauthorized("The token is not valid yet (nbf).")
    if _VISIBLE.fullmatch(claims.user_id) is None:
        raise Unauthorized("The token's userId is not 1 to 64 visible ASCII characters.")
    # PostgreSQL keeps no U+0000; lone surrogates do not pass the decoder.
    if claims.username is not None and "\0" in claims.username:
        raise Unauthorized("The token's username contains a character that cannot be stored.")
    return claims


def read_header(token: str) -> tuple[str, str | None]:
    """
    Return `alg` and `kid` of a token whose signature nobody has checked yet.

    Raises:
        Unauthorized: If it is no JWT.
    """
    head, dot, _ = token.partition(".")
    try:
        if not dot or not token.isascii():
            raise ValueError
        header = _decode_header(jwt.utils.base64url_decode(head))
    except (ValueError, RecursionError):
        raise Unauthorized("The token is not a JWT.") from None
    return header.alg, header.kid


def login_digest_of(login_id: str) -> bytes:
    """Return what a revocation names a login by: the SHA-256 of a text that is no token."""
    return digest_of(f"login:{login_id}")


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token: what is kept and compared in its place."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
