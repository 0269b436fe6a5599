"""A clock that is set by hand, a store of a dictionary, and tokens: for the tests of auth and of what it works with."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orbital_relay.errors import Unauthorized, Unavailable
from orbital_relay.model import Revocation

SECRET = b"the secret of these tests, 32 bytes and more"
START_S = 1_800_000_000


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = float(START_S)

    def wall_ms(self):
        return round(self.now_s * 1000)

    def steady_s(self):
        return self.now_s - START_S + 100


class Store:
    """Users and revocations in dictionaries; `gate` holds entering up."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[int, str]] = {}
        self.entered = 0
        self.kept: list[Revocation] = []
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False

    async def enter_user(self, *, user_id, username, at_ms):
        assert isinstance(at_ms, int)
        self.entered += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("The database is unreachable.")
        return self.users.setdefault(user_id, (len(self.users) + 1, username))[0]

    async def add_login(self, user_id, *, login_id, name, at_ms, expires_ms):
        assert expires_ms > at_ms

    async def revoke(self, *, token_digest, user_id, at_s, until_s):
        assert until_s > at_s
        self.kept.append(Revocation(len(self.kept) + 1, token_digest, user_id, at_s))

    async def revocations(self, *, after):
        self.asked.append(after)
        return [each for each in self.kept if each.number > after]


def part_of(value) -> str:
    """A part of a JWT: base64url of bytes, or of a value's JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(claims, *, secret=SECRET, header=None, digest=hashlib.sha256) -> str:
    """Sign without the library that is under test; the header is any that the test names."""
    signed = f"{part_of(header or {'alg': 'HS256', 'typ': 'JWT'})}.{part_of(claims)}"
    return f"{signed}.{part_of(hmac.new(secret, signed.encode(), digest).digest())}"


def claims(**changes):
    """Good claims, changed; a value of None leaves one out."""
    good = {"userId": "u-1", "username": "anna", "iat": START_S - 10, "exp": START_S + 60, **changes}
    return {name: value for name, value in good.items() if value is not None}


async def refusal(auth, token) -> str:
    """The sentence that a token is refused with; what is refused enters nobody and is not remembered."""
    entered = auth._store.entered
    with pytest.raises(Unauthorized) as refused:
        await auth.verify(token)
    assert auth._store.entered == entered
    assert auth.cached(token) is None
    assert len(token) < 20 or token not in str(refused.value)
    return str(refused.value)


# Chapter: an outside identity provider

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
ALL = ("RS256", "ES256", "EdDSA")


def pem_of(key) -> bytes:
    """The public half, as a file has it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def outside_token(algorithm, *, kid=None, key=None, **changes) -> str:
    """A token of the provider's."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key or KEYS[algorithm], algorithm=algorithm, headers=headers)
