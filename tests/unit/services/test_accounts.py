"""Accounts: the rules of signing up, and logging in without telling who exists."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from orbital_relay.api.accounts import LoginBody, SignupBody
from orbital_relay.errors import InvalidCredentials, ValidationFailed
from orbital_relay.model import Account, UserId
from orbital_relay.services import accounts
from orbital_relay.services.accounts import check_signup
from tests.unit.services.desk import NOW_MS, Desk

_GOOD = {"username": "ada_99", "password": "Correct-Horse-7", "public_key": {"kty": "OKP"}}


def _signup(**other: Any) -> SignupBody:
    return msgspec.json.decode(json.dumps({**_GOOD, **other}), type=SignupBody)


@pytest.mark.parametrize(
    "good",
    [
        {"username": "abc"},
        {"username": "A" * 50},
        {"username": "___"},
        {"password": "aaaaaaaaaaA1"},
        {"password": "ÄÖÜäöü123456"},
        {"password": "aA1" + "x" * 1021},
        {"password": "aA1 with spaces and 😀"},
        {"public_key": {}},
        {"public_key": {"x": "y" * 16_000}},
        {"public_key": {"nested": [{"deep": None}], "n": 1.5, "é": "\u0000"}},
    ],
)
def test_valid_names_and_passwords(good: dict[str, Any]):
    """[ACC1] A name has 3-50 of [A-Za-z0-9_], a password 12 with upper, lower and digit; a key is a JSON object."""
    check_signup(_signup(**good))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "ab"}, "username"),
        ({"username": "a" * 51}, "username"),
        ({"username": "ada lovelace"}, "username"),
        ({"username": "adä"}, "username"),
        ({"username": "ada\n"}, "username"),
        ({"username": "ada-l"}, "username"),
        ({"password": ""}, "password"),
        ({"password": "aaaaaaaaaA1"}, "password"),
        ({"password": "aaaaaaaaaaaa1"}, "password"),
        ({"password": "AAAAAAAAAAAA1"}, "password"),
        ({"password": "aaaaaaaaaaaaA"}, "password"),
        ({"password": "aA1" + "x" * 1022}, "password"),
        ({"public_key": None}, "public_key"),
        ({"public_key": "key"}, "public_key"),
        ({"public_key": [{}]}, "public_key"),
        ({"public_key": 1}, "public_key"),
        ({"public_key": {"x": "y" * 16_400}}, "public_key"),
    ],
)
def test_the_first_invalid_field_is_named(bad: dict[str, Any], field: str):
    """[ACC1] The error names the first invalid field."""
    with pytest.raises(ValidationFailed) as refused:
        check_signup(_signup(**bad))

    assert refused.value.details["field"] == field


@pytest.mark.parametrize(
    "text",
    [
        b'{"x":"\\ud800"}',
        b'{"x":"\xff"}',
        b'{"x":1e999}',
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"x":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"x":' + b"9" * 5000 + b"}",
    ],
)
def test_an_unreadable_public_key_is_refused(text: bytes):
    """[ACC2] A public key is forwarded byte for byte, so one that a strict parser rejects is refused."""
    body = SignupBody("ada", _GOOD["password"], msgspec.Raw(text))

    with pytest.raises(ValidationFailed) as refused:
        check_signup(body)

    assert refused.value.details["field"] == "public_key"


def test_a_nested_public_key():
    """[ACC2] A public key of 100 levels is taken by every version of Python, and one of 101 by none."""
    check_signup(SignupBody("ada", _GOOD["password"], msgspec.Raw(b'{"x":' + b"[" * 99 + b"]" * 99 + b"}")))


class _Accounts:
    def __init__(self) -> None:
        self.kept: dict[str, Account] = {}
        self.asked: list[str] = []

    async def add_account(self, **row: Any) -> Account:
        assert row["at_ms"] == NOW_MS
        account = Account(1, row["user_id"], row["username"], msgspec.Raw(row["public_key"]), row["password_hash"])
        self.kept[row["username"].lower()] = account
        return account

    async def account(self, username: str) -> Account | None:
        self.asked.append(username)
        return self.kept.get(username.lower())


async def test_signing_up_and_logging_in():
    """[ACC3] A user logs in with the name in any case, and gets a token and the public key byte for byte."""
    desk = Desk(store=_Accounts())
    raw = b'{ "kty" : "OKP", "b": 1, "a": 2 }'

    body = SignupBody("Ada", "Correct-Horse-7", msgspec.Raw(raw))
    signed_up = await accounts.sign_up(desk.context, body, policy="open")
    logged_in = await accounts.log_in(desk.context, LoginBody("aDA", "Correct-Horse-7"))

    assert (signed_up.username, logged_in.username) == ("Ada", "Ada")
    assert logged_in.user_id == signed_up.user_id
    assert bytes(logged_in.public_key) == raw
    assert signed_up.token == logged_in.token == f"token of {signed_up.user_id} Ada"


async def test_a_bad_signup_reaches_neither_hash_nor_store():
    """[ACC1] Input is validated before any expensive work."""
    with pytest.raises(ValidationFailed):
        await accounts.sign_up(Desk(store=None).context, _signup(password="short"), policy="open")


@pytest.mark.parametrize("username", ["nobody", "x", "", "a\0b", "é" * 10, "a" * 5000])
async def test_an_unknown_name_costs_one_hash(username: str):
    """[ACC4] Any name, existing, unknown or invalid, costs one password verification and gets the same answer."""
    known, unknown = Desk(store=_Accounts()), Desk(store=_Accounts())
    await accounts.sign_up(known.context, _signup(username="ada"), policy="open")

    with pytest.raises(InvalidCredentials) as wrong:
        await accounts.log_in(known.context, LoginBody("ada", "wrong"))
    with pytest.raises(InvalidCredentials) as missing:
        await accounts.log_in(unknown.context, LoginBody(username, "wrong"))

    assert wrong.value.body() == missing.value.body()
    assert len(known.passwords.verified) == len(unknown.passwords.verified) == 1


async def test_a_user_of_another_service_has_no_password():
    """[ACC4] A login to an account without a hash fails after the same time."""
    store = _Accounts()
    store.kept["eve"] = Account(1, UserId("eve"), "eve", msgspec.Raw(b"{}"), None)
    desk = Desk(store=store)

    with pytest.raises(InvalidCredentials):
        await accounts.log_in(desk.context, LoginBody("eve", "hash of None"))

    assert desk.passwords.verified == [None]


async def test_an_invalid_name_is_not_looked_up():
    """[ACC4] The database is not queried for a name that no signup could have."""
    store = _Accounts()

    with pytest.raises(InvalidCredentials):
        await accounts.log_in(Desk(store=store).context, LoginBody("a\0b", "x"))

    assert store.asked == []
