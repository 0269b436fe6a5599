"""Ids, users, tokens, and idempotency keys."""

from __future__ import annotations

from enum import Enum
from typing import NewType

import msgspec

UserId = NewType("UserId", str)
GroupId = NewType("GroupId", str)
ThreadId = NewType("ThreadId", str)
MediaId = NewType("MediaId", str)


class Access(Enum):
    """What a user may do with a group."""

    MEMBER = "member"
    STRANGER = "stranger"
    UNKNOWN = "unknown"


class Principal(msgspec.Struct, frozen=True):
    """
    Who a valid token speaks for.

    Attributes:
        key: The user's row number in the store; never leaves the server.
        user_id: The public id, 1-64 visible ASCII characters.
        username: The name the token carries.
        expires_at_s: When the token ends, seconds since the epoch.
        issued_at_s: When it was made; 0 when the token does not say.
        token_digest: SHA-256 of the token; revocation names tokens by it.
        generation: Number of the user's last revocation when this server made the token; None for a token of another
            service.
        login_id: The login that the token is of; empty for a token of another service, or one made without a login.
        login_digest: What a revocation names that login by; empty when there is none.
    """

    key: int
    user_id: UserId
    username: str
    expires_at_s: float
    issued_at_s: float = 0
    token_digest: bytes = b""
    generation: int | None = None
    login_id: str = ""
    login_digest: bytes = b""


class Account(msgspec.Struct, frozen=True):
    """
    A user as the store keeps it.

    Attributes:
        key: The row number.
        user_id: The public id.
        username: The name.
        public_key: JSON, as it was sent.
        password_hash: None for users of an outside identity provider.
        disabled: Why the account is disabled, perhaps empty; None while it is not.
        display_name: The name that the user chose to be shown under; None before the first.
    """

    key: int
    user_id: UserId
    username: str
    public_key: msgspec.Raw
    password_hash: str | None
    disabled: str | None = None
    display_name: str | None = None


class IdempotencyKey(msgspec.Struct, frozen=True):
    """
    The promise to do a thing once: an idempotency key and what it was first used for.

    Attributes:
        key: 1-128 visible ASCII characters, chosen by the client; unique within its user.
        fingerprint: SHA-256 over the operation and its body as parsed JSON.
    """

    key: str
    fingerprint: bytes


class SignedToken(msgspec.Struct, frozen=True):
    """A token that this server made, and the second since the epoch at which it ends."""

    token: str
    expires_at_s: int


class Login(msgspec.Struct, frozen=True):
    """
    A login of a user whose tokens may hold.

    Attributes:
        login_id: Its public id.
        name: What its client is called, as the client says.
        created_ms: When it was made.
        seen_ms: The hour in which it was last used.
        expires_ms: When its newest token ends.
    """

    login_id: str
    name: str
    created_ms: int
    seen_ms: int
    expires_ms: int


class Revocation(msgspec.Struct, frozen=True):
    """
    Tokens that no longer hold: one by its digest, or all of a user issued up to a moment.

    Attributes:
        number: Its place in the list of revocations, rising.
        token_digest: SHA-256 of the revoked token, or None.
        user_id: The user all of whose tokens end, or None.
        at_s: When it was stored, seconds since the epoch: tokens of `user_id` issued by then are void.
    """

    number: int
    token_digest: bytes | None
    user_id: UserId | None
    at_s: float
