"""Accounts: signing up, logging in."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from orbital_relay import wire
from orbital_relay.errors import InvalidCredentials, ValidationFailed
from orbital_relay.model import UserId
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import new_id

USERNAME: Final = re.compile(r"[A-Za-z0-9_]{3,50}")
PASSWORD_MIN_CHARS: Final = 12
"""The protocol's shortest password."""
PASSWORD_MAX_CHARS: Final = 1024
"""Longest password; more than anybody types, and little to hash."""
# A JWK of RSA 4096 with its private half is 3.3 kB; a public key bundle of Signal's kind with 100 one-time keys 9 kB.
PUBLIC_KEY_BYTES: Final = 16 * 1024


class SignupBody(msgspec.Struct):
    """Who wants an account."""

    username: Annotated[
        str,
        msgspec.Meta(
            description="3-50 of A-Z, a-z, 0-9 and _; unique without regard to case.",
            examples=["ada"],
            extra_json_schema={"pattern": "^[A-Za-z0-9_]{3,50}$"},
        ),
    ]
    password: Annotated[
        str,
        msgspec.Meta(
            description="At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.",
            examples=["Correct-Horse-7"],
            extra_json_schema={"minLength": 12, "format": "password"},
        ),
    ]
    public_key: Annotated[
        msgspec.Raw,
        msgspec.Meta(
            description="Any JSON object, such as a JWK, of up to 16 KiB; members of the user's groups get it as is.",
            examples=[{"kty": "OKP", "crv": "X25519", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}],
            extra_json_schema={"type": "object"},
        ),
    ]


class LoginBody(msgspec.Struct):
    """Who claims to be whom."""

    username: Annotated[str, msgspec.Meta(examples=["ada"])]
    password: Annotated[str, msgspec.Meta(examples=["Correct-Horse-7"], extra_json_schema={"format": "password"})]


class SignedUp(msgspec.Struct):
    """The account is there."""

    user_id: str
    username: str
    token: str


class LoggedIn(msgspec.Struct):
    """The password holds."""

    user_id: str
    username: str
    public_key: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
    token: str


def check_signup(body: SignupBody) -> None:
    """
    Check the rules for names, passwords and keys.

    Raises:
        ValidationFailed: With the first field that breaks its rule.
    """
    if USERNAME.fullmatch(body.username) is None:
        raise ValidationFailed("A username is 3-50 of the characters A-Z, a-z, 0-9 and _.", field="username")
    _check_password(body.password)
    _check_public_key(bytes(body.public_key))


def _check_password(password: str) -> None:
    """Tell all that is missing at once, and never repeat the password."""
    missing = [
        name
        for name, found in (
            (f"{PASSWORD_MIN_CHARS} characters", len(password) >= PASSWORD_MIN_CHARS),
            ("an upper-case letter", any(letter.isupper() for letter in password)),
            ("a lower-case letter", any(letter.islower() for letter in password)),
            ("a digit", any(letter.isdecimal() for letter in password)),
        )
        if not found
    ]
    if missing:
        raise ValidationFailed(f"The password needs {' and '.join(missing)}.", field="password")
    if len(password) > PASSWORD_MAX_CHARS:
        raise ValidationFailed(f"The password has more than {PASSWORD_MAX_CHARS} characters.", field="password")


def _check_public_key(text: bytes) -> None:
    if len(text) > PUBLIC_KEY_BYTES:
        raise ValidationFailed(f"`public_key` is over {PUBLIC_KEY_BYTES} bytes.", field="public_key")
    # Finding the end of a value checks less than reading it; what is passed on to others must be read by all of them.
    try:
        key = msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:
        raise ValidationFailed(wire.explain(exc), field="public_key") from exc
    if not isinstance(key, dict):
        raise ValidationFailed("`public_key` is not a JSON object.", field="public_key")


async def sign_up(context: ServiceContext, body: SignupBody) -> SignedUp:
    """
    Add an account and make its first token.

    Raises:
        ValidationFailed: With the first field that breaks its rule.
        UsernameTaken: If somebody has the name, in whatever case.
    """
    check_signup(body)
    account = await context.store.add_account(
        user_id=UserId(new_id()),
        username=body.username,
        public_key=bytes(body.public_key),
        password_hash=await context.passwords.hash(body.password),
        at_ms=context.clock.wall_ms(),
    )
    token = await context.mint(account.user_id, account.username)
    return SignedUp(account.user_id, account.username, token)


async def log_in(context: ServiceContext, body: LoginBody) -> LoggedIn:
    """
    Make a token for whoever knows the password.

    Takes about the same time whether or not the name exists.

    Raises:
        InvalidCredentials: If the name does not exist, has no password, or another one.
    """
    # What cannot be a name is not asked for: PostgreSQL would stumble over U+0000.
    named = USERNAME.fullmatch(body.username) is not None
    account = await context.store.account(body.username) if named else None
    holds = await context.passwords.verify(None if account is None else account.password_hash, body.password)
    if account is None or not holds:
        raise InvalidCredentials("The username or the password is wrong.")
    token = await context.mint(account.user_id, account.username)
    return LoggedIn(account.user_id, account.username, account.public_key, token)
