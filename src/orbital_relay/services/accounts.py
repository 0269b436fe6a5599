"""Accounts: sign-up, login, password policy."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from orbital_relay.api.about import SignupPolicy
from orbital_relay.api.accounts import LoggedIn, LoginBody, SignedUp, SignupBody
from orbital_relay.api.fields import as_sent
from orbital_relay.core.refusals import key_reused
from orbital_relay.errors import AccountDisabled, InvalidCredentials, UsernameTaken, ValidationFailed
from orbital_relay.explain import explain
from orbital_relay.model import Account, IdempotencyKey, UserId
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import make_idempotency_key, new_id
from orbital_relay.services.invitations import admit

USERNAME: Final = re.compile(r"[A-Za-z0-9_]{3,50}")
PASSWORD_MIN_CHARS: Final = 12
"""The protocol's shortest password."""
PASSWORD_MAX_CHARS: Final = 1024
"""Longest password; more than anybody types, and little to hash."""
LOGIN_NAME_CHARS: Final = 64
"""Longest name of a login that is kept."""
# A JWK of RSA 4096 with its private half is 3.3 kB; a public key bundle of Signal's kind with 100 one-time keys 9 kB.
PUBLIC_KEY_BYTES: Final = 16 * 1024
PUBLIC_KEY_LEVELS: Final = 100
"""How deep a public key may be nested: parsers have limits of their own, and each version of Python another one."""


def read_name(text: str) -> str:
    """Return a username as it was meant: a phone's keyboard adds a space after a word that it completes."""
    return text.strip(" ")


def name_key(text: str) -> str:
    """Return the key under which login attempts for a name are counted; names that no account can have share one."""
    name = read_name(text)
    return name.lower() if USERNAME.fullmatch(name) else "?"


def check_username(name: str) -> None:
    """
    Check the rule for the name of an account.

    Raises:
        ValidationFailed: If the name breaks it.
    """
    if USERNAME.fullmatch(name) is None:
        raise ValidationFailed("A username is 3-50 of the characters A-Z, a-z, 0-9 and _.", field="username")


def check_signup(body: SignupBody) -> None:
    """
    Check the rules for names, passwords and keys.

    Raises:
        ValidationFailed: With the first field that breaks its rule.
    """
    check_username(read_name(body.username))
    check_password(body.password)
    _check_public_key(bytes(body.public_key))


def login_name(text: str) -> str:
    """Return a login's name as it is stored: one line of printable characters, cut to its length."""
    return "".join(letter for letter in text if letter.isprintable()).strip()[:LOGIN_NAME_CHARS]


def check_password(password: str, *, field: str = "password") -> None:
    """Check the rules for a password. Report everything that is missing at once, and never repeat the password."""
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
        raise ValidationFailed(f"The password needs {' and '.join(missing)}.", field=field)
    if len(password) > PASSWORD_MAX_CHARS:
        raise ValidationFailed(f"The password has more than {PASSWORD_MAX_CHARS} characters.", field=field)


def _check_public_key(text: bytes) -> None:
    if len(text) > PUBLIC_KEY_BYTES:
        raise ValidationFailed(f"public_key must be at most {PUBLIC_KEY_BYTES} bytes.", field="public_key")
    # Finding the end of a value checks less than reading it; what is passed on to others must be read by all of them.
    try:
        key = msgspec.json.decode(text)
    except (ValueError, RecursionError) as exc:
        raise ValidationFailed(explain(exc), field="public_key") from exc
    if not isinstance(key, dict):
        raise ValidationFailed("public_key must be a JSON object.", field="public_key")
    levels = _levels(key)
    if levels > PUBLIC_KEY_LEVELS:
        raise ValidationFailed(
            f"public_key is nested {levels} levels deep, and may be {PUBLIC_KEY_LEVELS}.", field="public_key"
        )


def _levels(value: Any) -> int:  # noqa: ANN401 - any JSON
    """Return how many objects and arrays stand around the innermost one, itself included; without recursion."""
    levels, inner = 0, [value]
    while inner:
        levels += 1
        inner = [
            each
            for outer in inner
            for each in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(each, dict | list)
        ]
    return levels


def signup_key(key: str | None, body: SignupBody) -> IdempotencyKey | None:
    """
    Bind a sign-up's idempotency key to the name and the public key; the password is verified against its hash.

    Raises:
        ValidationFailed: If the key, or the body, does not have its form.
    """
    if key is None:
        return None
    check_signup(body)
    named = {"username": read_name(body.username).lower(), "public_key": msgspec.json.decode(body.public_key)}
    return make_idempotency_key(key, "sign_up", body=named)


async def sign_up(
    context: ServiceContext, body: SignupBody, *, policy: SignupPolicy, idempotency_key: IdempotencyKey | None = None
) -> SignedUp:
    """
    Add an account and make its first token.

    A repeated sign-up, by its idempotency key, name, public key and password, gets the account of the first with a
    token of its own: the first answer may have been lost, and no token is kept anywhere.

    Args:
        context: What use cases work with.
        body: The new account.
        policy: Who may make one.
        idempotency_key: The one of the request, when the client gave one.

    Raises:
        ValidationFailed: With the first field that breaks its rule.
        SignupsClosed: If the policy asks for an invitation and the body's is missing, unknown, used or expired, or the
            policy lets nobody sign up.
        UsernameTaken: If somebody has the name, in whatever case.
        Conflict: If the key made that account with another public key or password.
    """
    check_signup(body)
    name = read_name(body.username)
    account = await _signed_up(context, name, body.password, idempotency_key)
    if account is None:
        invitation = await admit(context, policy, body.invitation)
        try:
            account = await context.store.add_account(
                user_id=UserId(new_id()),
                username=name,
                public_key=bytes(body.public_key),
                password_hash=await context.passwords.hash(body.password),
                at_ms=context.clock.wall_ms(),
                idempotency_key=idempotency_key,
                invitation=invitation,
            )
        except UsernameTaken:
            # The first try may have been in progress still.
            account = await _signed_up(context, name, body.password, idempotency_key)
            if account is None:
                raise
    issued = await context.logins.open(account.user_id, account.username, name=login_name(body.device_name))
    return SignedUp(user_id=account.user_id, username=account.username, token=issued.token)


async def _signed_up(
    context: ServiceContext, name: str, password: str, idempotency_key: IdempotencyKey | None
) -> Account | None:
    """Return the account that a sign-up with this key made; None if there is none."""
    if idempotency_key is None:
        return None
    account = await context.store.signed_up(name, idempotency_key, now_ms=context.clock.wall_ms())
    if account is not None and not await context.passwords.verify(account.password_hash, password):
        raise key_reused()
    return account


async def log_in(context: ServiceContext, body: LoginBody) -> LoggedIn:
    """
    Make a token for a user who sent the right password.

    Takes about the same time whether or not the name exists.

    Raises:
        InvalidCredentials: If the name does not exist, has no password, or another one.
        AccountDisabled: If the password is right and the account is disabled.
    """
    # Only a valid name reaches the database: PostgreSQL fails on U+0000.
    name = read_name(body.username)
    named = USERNAME.fullmatch(name) is not None
    account = await context.store.account(name) if named else None
    holds = await context.passwords.verify(None if account is None else account.password_hash, body.password)
    if account is None or not holds:
        raise InvalidCredentials(known=None if account is None else account.username)
    if account.disabled is not None:
        raise AccountDisabled(account.disabled)
    issued = await context.logins.open(account.user_id, account.username, name=login_name(body.device_name))
    return LoggedIn(
        user_id=account.user_id,
        username=account.username,
        public_key=as_sent(account.public_key),
        token=issued.token,
    )
