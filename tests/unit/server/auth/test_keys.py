"""The key of an outside identity provider out of a file: each for its own algorithm alone."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orbital_relay.errors import SettingsInvalid, Unauthorized
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.keys import PemKey, SecretKey
from tests.unit.server.auth_support import (
    ALL,
    EC_KEY,
    ED_KEY,
    KEYS,
    RSA_KEY,
    SECRET,
    claims,
    outside_token,
    pem_of,
    refusal,
    sign,
)


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_pem_key_checks_its_own_algorithm(clock, store, algorithm):
    """[IDP1] Besides the server's own, tokens of the provider's one key are accepted, with its algorithm only."""
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(pem_of(KEYS[algorithm]), allowed=ALL))

    assert (await auth.verify(outside_token(algorithm))).user_id == "u-1"
    assert (await auth.verify(sign(claims(userId="u-2")))).user_id == "u-2"
    for other in ALL:
        if other != algorithm:
            assert "not accepted" in await refusal(auth, outside_token(other))


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_public_key_is_never_a_secret(clock, store, algorithm):
    """[IDP2] HS256 with any form of the public key as the secret is refused (RFC 8725 §2.1)."""
    public = KEYS[algorithm].public_key()
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(pem_of(KEYS[algorithm]), allowed=ALL))
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    for secret in (pem_of(KEYS[algorithm]), pem_of(KEYS[algorithm]).strip(), der):
        assert "signature" in await refusal(auth, sign(claims(), secret=secret))
        assert "signature" in await refusal(auth, sign(claims(), secret=secret, header={"alg": algorithm}))


async def test_another_key_of_the_same_kind_is_refused(clock, store):
    """[IDP3] A matching algorithm is not enough: the key must be the configured one."""
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(pem_of(EC_KEY), allowed=ALL))
    forged = outside_token("ES256", key=ec.generate_private_key(ec.SECP256R1()))

    assert "signature" in await refusal(auth, forged)


async def test_a_certificate_contains_a_key(clock, store):
    """[IDP4] A PEM certificate is accepted for its public key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
    certificate = (
        x509.CertificateBuilder(name, name, RSA_KEY.public_key(), 1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(RSA_KEY, hashes.SHA256())
    )
    auth = Auth(
        store=store, clock=clock, secret=SECRET, outside=PemKey(certificate.public_bytes(Encoding.PEM), allowed=ALL)
    )

    assert (await auth.verify(outside_token("RS256"))).user_id == "u-1"


def test_keys_that_cannot_be_used_are_refused():
    """[IDP5] An invalid, unsupported, too small or disallowed key prevents the start, with a message."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refusing it is the claim
    curve = ec.generate_private_key(ec.SECP384R1())

    for text, why in [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n", "no public key"),
        (b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n", "no public key"),
        (pem_of(small), "2048 bits"),
        (pem_of(curve), "P-256"),
    ]:
        with pytest.raises(SettingsInvalid, match=why):
            PemKey(text, allowed=ALL)
    with pytest.raises(SettingsInvalid, match="leaves out"):
        PemKey(pem_of(ED_KEY), allowed=("RS256",))


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"iss": "https://idp", "aud": "orbital"}, None),
        ({"iss": "https://idp", "aud": ["x", "orbital"]}, None),
        ({"iss": "https://idp"}, "aud"),
        ({"iss": "https://idp", "aud": ["x"]}, "aud"),
        ({"iss": "https://idp", "aud": {"orbital": 1}}, "aud"),
        ({"aud": "orbital"}, "iss"),
        ({"iss": ["https://idp"], "aud": "orbital"}, "iss"),
    ],
)
async def test_issuer_and_audience_of_the_provider(clock, store, changes, why):
    """[IDP6] The provider's tokens must have the configured issuer and audience; the server's own need not."""
    auth = Auth(
        store=store,
        clock=clock,
        secret=SECRET,
        outside=PemKey(pem_of(ED_KEY), allowed=ALL),
        audience="orbital",
        issuer="https://idp",
    )
    token = outside_token("EdDSA", key=ED_KEY) if not changes else _encode_raw(changes)

    if why is None:
        assert (await auth.verify(token)).user_id == "u-1"
    else:
        assert why in await refusal(auth, token)
    assert (await auth.verify(auth.mint("u-9", "own")[0])).user_id == "u-9"


def _encode_raw(changes) -> str:
    """Sign claims that the library would not make, such as an `iss` that is a list."""
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), ED_KEY, algorithm="EdDSA")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(head: str, payload: str, *, secret: bytes = SECRET) -> str:
    """Return a token whose signature holds, whatever its parts are."""
    signature = hmac.digest(secret, f"{head}.{payload}".encode(), "sha256")
    return f"{head}.{payload}.{_encoded(signature)}"


HEAD = _encoded(b'{"alg":"HS256","typ":"JWT"}')


def test_the_server_s_own_tokens_are_jwts():
    """[HMAC1] A token of the server's is read by a JWT library, and one of the library's by the server."""
    key = SecretKey(SECRET)

    assert jwt.decode(key.sign(b'{"userId":"u-1"}'), SECRET, algorithms=["HS256"]) == {"userId": "u-1"}
    assert key.open(jwt.encode({"userId": "u-2"}, SECRET, algorithm="HS256")) == b'{"userId":"u-2"}'


@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(lambda token: token + "=", id="padding behind the signature"),
        pytest.param(lambda token: token + "\n", id="a line break behind it"),
        pytest.param(lambda token: " " + token, id="a space before it"),
        pytest.param(lambda token: token.replace(".", "..", 1), id="an empty part"),
        pytest.param(lambda token: token + ".", id="a fourth part"),
        pytest.param(lambda token: token[:-1] + chr(ord(token[-1]) + 1), id="unused bits that are set"),
        pytest.param(lambda token: token[:-1], id="a shorter signature"),
        pytest.param(lambda token: token.rpartition(".")[0] + ".", id="no signature"),
        pytest.param(lambda token: token.rpartition(".")[0], id="two parts"),
        pytest.param(lambda token: "é" + token, id="a letter outside ASCII"),
    ],
)
def test_a_token_has_one_spelling(spelled):
    """[HMAC2] A token with an extra or a missing character is refused, also where a lax decoder would read the same."""
    key = SecretKey(SECRET)
    token = _signed(HEAD, _encoded(b"{}"))
    # The last character of 32 bytes holds four bits of the signature and two that are zero.
    assert key.open(token) == b"{}"

    with pytest.raises(Unauthorized, match="signature"):
        key.open(spelled(token))


@pytest.mark.parametrize(
    ("head", "payload"),
    [
        (HEAD + "=", _encoded(b"{}")),
        (HEAD, _encoded(b"{}") + "="),
        (HEAD, "e+/="),
        (HEAD[:-1] + chr(ord(HEAD[-1]) + 1), _encoded(b"{}")),
        (_encoded(b'{"alg":"HS256","b64":false}'), _encoded(b"{}")),
        (_encoded(b'{"alg":"HS256","crit":["exp"]}'), _encoded(b"{}")),
        (_encoded(b"[]"), _encoded(b"{}")),
        (_encoded(b"\xff"), _encoded(b"{}")),
        ("", _encoded(b"{}")),
    ],
)
def test_a_signature_does_not_excuse_the_form(head: str, payload: str):
    """[HMAC3] A header or payload that is not strict base64url, or not of the expected form, is refused."""
    with pytest.raises(Unauthorized, match="signature"):
        SecretKey(SECRET).open(_signed(head, payload))
