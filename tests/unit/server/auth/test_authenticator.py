"""From a token to who it speaks for: what is accepted, what is remembered, what the settings say."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid, Unauthorized, Unavailable
from orbital_relay.model import Principal
from orbital_relay.server.auth import authenticator as room
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.credentials import Bearer, Ticket
from orbital_relay.server.auth.jwks import JwksKeys
from tests.unit.server.auth_support import (
    ED_KEY,
    SECRET,
    START_S,
    Clock,
    Store,
    claims,
    outside_token,
    part_of,
    pem_of,
    refusal,
    sign,
)

# Chapter: own tokens


async def test_a_minted_token_is_verified(auth, clock, store):
    """[AUT1] The server accepts tokens that it issues: the protocol's claims, an id and the user's last revocation."""
    token, expires_at_s = auth.mint("u-1", "anna")

    principal = await auth.verify(token)

    assert principal == Principal(
        key=1,
        user_id="u-1",
        username="anna",
        expires_at_s=expires_at_s,
        issued_at_s=START_S,
        token_digest=hashlib.sha256(token.encode()).digest(),
        generation=0,
    )
    assert expires_at_s == START_S + 30 * 86_400
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert len(payload.pop("jti")) == 16
    assert payload == {
        "userId": "u-1",
        "username": "anna",
        "iat": START_S,
        "exp": expires_at_s,
        "orbital_generation": 0,
    }
    assert store.users == {"u-1": (1, "anna")}


async def test_a_token_of_another_service_is_accepted(auth, store):
    """[AUT2] A token signed with the secret is accepted with any additional claims and header fields."""
    other = sign(
        claims(aud="elsewhere", iss="them", role=["x"], exp=START_S + 0.5), header={"alg": "HS256", "kid": "7"}
    )

    principal = await auth.verify(other)

    assert (principal.user_id, principal.username, principal.expires_at_s) == ("u-1", "anna", START_S + 0.5)


@pytest.mark.parametrize("username", [None, ""])
async def test_the_user_id_is_the_default_username(auth, store, username):
    """[AUT3] A missing or empty `username` defaults to `userId`, and a missing `iat` to 0."""
    principal = await auth.verify(sign(claims(username=username, iat=None)))

    assert (principal.username, principal.issued_at_s) == ("u-1", 0)
    assert store.users["u-1"][1] == "u-1"


async def test_expiry_is_bounded_by_the_last_year(auth):
    """[AUT4] An `exp` in milliseconds yields a token that expires in the year 9999, not an error."""
    principal = await auth.verify(sign(claims(exp=START_S * 1000)))

    assert datetime.fromtimestamp(principal.expires_at_s, UTC).year == 9999


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": str(START_S + 60)}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": START_S}, "expired"),
        ({"exp": START_S - 1}, "expired"),
        ({"exp": -1}, "expired"),
        ({"nbf": START_S + 60}, "nbf"),
        ({"nbf": "soon"}, "nbf"),
        ({"iat": "then"}, "iat"),
        ({"userId": None}, "userId"),
        ({"userId": 7}, "userId"),
        ({"userId": ""}, "userId"),
        ({"userId": "x" * 65}, "userId"),
        ({"userId": "a b"}, "userId"),
        ({"userId": "a\n"}, "userId"),
        ({"userId": "ä"}, "userId"),
        ({"username": 7}, "username"),
        ({"username": "a\0b"}, "username"),
        ({"username": "\ud800"}, "claims cannot be used"),
    ],
)
async def test_invalid_claims(auth, changes, why):
    """[AUT5] A missing, wrong or expired claim refuses the token, with a message that names the claim."""
    assert why in await refusal(auth, sign(claims(**changes)))


async def test_nan_is_not_an_expiry(auth):
    """[AUT28] Numbers that Python's JSON parser accepts and RFC 8259 does not are refused."""
    for exp in ("NaN", "Infinity", "1e999"):
        payload = json.dumps(claims(exp=0)).replace('"exp": 0', f'"exp": {exp}').encode()

        assert "claims cannot be used" in await refusal(auth, sign(payload))


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b"\xff", b'"x"', b"[" * 5000])
async def test_a_payload_that_is_not_an_object(auth, payload):
    """[AUT29] A signed payload that is not an object of claims is refused without an unhandled exception."""
    assert "claims cannot be used" in await refusal(auth, sign(payload))


async def test_a_small_clock_difference_is_accepted(auth):
    """[AUT6] `nbf` may be up to five seconds in the future, because the clocks of two machines differ."""
    assert (await auth.verify(sign(claims(nbf=START_S + 5)))).user_id == "u-1"


@pytest.mark.parametrize(
    "header, digest",
    [
        ({"alg": "none"}, hashlib.sha256),
        ({"alg": "None"}, hashlib.sha256),
        ({"alg": "hs256"}, hashlib.sha256),
        ({"alg": "HS384"}, hashlib.sha384),
        ({"alg": "HS512"}, hashlib.sha512),
        ({"alg": "RS256"}, hashlib.sha256),
        ({"alg": ""}, hashlib.sha256),
    ],
)
async def test_another_algorithm_is_refused(auth, header, digest):
    """[AUT7] With the secret only HS256 is accepted, even if the signature is valid for the header's algorithm."""
    assert "not accepted here" in await refusal(auth, sign(claims(), header=header, digest=digest))


async def test_a_signature_of_none_is_refused(auth):
    """[AUT30] `none` with an empty signature (RFC 7519 §6), and HS256 with an empty signature, are refused."""
    body = part_of(claims())

    assert "not accepted" in await refusal(auth, f"{part_of({'alg': 'none'})}.{body}.")
    assert "signature" in await refusal(auth, f"{part_of({'alg': 'HS256'})}.{body}.")


async def test_another_secret_is_refused(auth):
    """[AUT8] A signature with another secret, or over other claims, is invalid."""
    good = sign(claims()).split(".")

    assert "signature" in await refusal(auth, sign(claims(), secret=b"another secret"))
    assert "signature" in await refusal(auth, f"{good[0]}.{part_of(claims(userId='u-2'))}.{good[2]}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "x" * 9000,
        "ä.b.c",
        "Bearer x",
        "e30.e30.e30",
        "null",
        "a" * 43,
        f"{part_of([])}.e30.e30",
    ],
)
async def test_malformed_tokens_are_refused(auth, token):
    """[AUT9] Text that is not a JWT is refused with a message."""
    assert await refusal(auth, token) in {
        "The token is not a JWT.",
        "The token is longer than 8192 characters.",
    }


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "crit": ["x"], "x": 1},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
    ],
)
async def test_an_unknown_critical_header(auth, header):
    """[AUT10] A token with an unknown `crit` entry is refused (RFC 7515 §4.1.11)."""
    assert "signature is invalid" in await refusal(auth, sign(claims(), header=header))


@given(
    st.text(max_size=200)
    | st.lists(st.binary(max_size=40), min_size=2, max_size=5).map(lambda parts: ".".join(map(part_of, parts)))
)
def test_no_text_is_accepted_or_raises_another_error(token):
    """[AUT31] Any other text as a token raises Unauthorized."""

    async def attempt() -> None:
        await refusal(Auth(store=Store(), clock=Clock(), secret=SECRET), token)

    asyncio.run(attempt())


async def test_a_short_secret_works_without_a_warning_each_time(clock, store):
    """[AUT11] A short secret of an outside service is accepted without a warning."""
    auth = Auth(store=store, clock=clock, secret=b"short")

    assert (await auth.verify(sign(claims(), secret=b"short"))).user_id == "u-1"
    assert (await auth.verify(auth.mint("u-2", "b")[0])).user_id == "u-2"


async def test_a_second_secret_is_accepted_and_never_signs(clock, store):
    """[REPLACE3] Tokens of a second secret are accepted; none is signed with it; a third secret's are refused."""
    auth = Auth(store=store, clock=clock, secret=SECRET, accepted=b"the secret before this one, of 32 bytes")
    alone = Auth(store=store, clock=clock, secret=SECRET)

    old = await auth.verify(sign(claims(), secret=b"the secret before this one, of 32 bytes"))
    new = await alone.verify(auth.mint("u-2", "b")[0])

    assert (old.user_id, new.user_id) == ("u-1", "u-2")
    assert "signature" in await refusal(auth, sign(claims(), secret=b"another secret"))
    assert "signature" in await refusal(alone, sign(claims(), secret=b"the secret before this one, of 32 bytes"))


# Chapter: the cache


async def test_the_cache_answers_without_waiting(auth, store):
    """[AUT12] A verified token is a cache hit and its user is stored once; an unknown token is a miss."""
    token = sign(claims())
    assert auth.cached(token) is None

    principal = await auth.verify(token)

    assert auth.cached(token) is principal
    assert await auth.verify(token) is principal
    assert store.entered == 1


async def test_the_cache_forgets_at_expiry(auth, clock):
    """[AUT13] A cached token expires in the second of its `exp`."""
    token = sign(claims(exp=START_S + 60))
    await auth.verify(token)

    clock.now_s += 59.999
    assert auth.cached(token) is not None
    clock.now_s += 0.001
    assert auth.cached(token) is None
    assert "expired" in await refusal(auth, token)


async def test_the_cache_is_bounded(auth, clock, monkeypatch):
    """[AUT14] The cache of tokens is bounded; the least recently used is evicted."""
    monkeypatch.setattr(room, "CACHED_TOKENS", 3)
    tokens = [sign(claims(userId=f"u-{number}")) for number in range(4)]
    for token in tokens[:3]:
        await auth.verify(token)
    assert auth.cached(tokens[0]) is not None

    await auth.verify(tokens[3])

    assert [auth.cached(token) is not None for token in tokens] == [True, False, True, True]
    assert len(auth._cache) == 3


async def test_concurrent_uses_share_one_entry(auth, store):
    """[AUT15] Twenty concurrent first uses of a token store its user once and return the same principal."""
    store.gate.clear()
    token = sign(claims())
    uses = [asyncio.create_task(auth.verify(token)) for _ in range(20)]
    while store.entered == 0:
        await asyncio.sleep(0)

    uses[0].cancel()
    await asyncio.gather(uses[0], return_exceptions=True)
    store.gate.set()
    found = await asyncio.gather(*uses[1:])

    assert uses[0].cancelled()
    assert store.entered == 1
    assert all(principal is found[0] for principal in found)
    assert not auth._entering


async def test_an_unreachable_database_is_not_cached(auth, store):
    """[AUT16] If the user cannot be stored the answer is 503, not 401, and the next attempt starts again."""
    token = sign(claims())
    store.away = True
    with pytest.raises(Unavailable):
        await auth.verify(token)

    store.away = False

    assert (await auth.verify(token)).key == 1


async def test_a_token_that_expires_while_its_user_is_created(auth, store, clock):
    """[AUT17] A fact that was read before an await is read again after it."""
    store.gate.clear()
    token = sign(claims(exp=START_S + 60))
    use = asyncio.create_task(auth.verify(token))
    while store.entered == 0:
        await asyncio.sleep(0)

    clock.now_s += 61
    store.gate.set()

    with pytest.raises(Unauthorized, match="no longer valid"):
        await use
    assert auth.cached(token) is None


async def test_close_waits_for_operations_in_progress(auth, store):
    """[AUT18] After close no task is left."""
    store.gate.clear()
    use = asyncio.create_task(auth.verify(sign(claims())))
    while store.entered == 0:
        await asyncio.sleep(0)
    closing = asyncio.create_task(auth.close())

    store.gate.set()
    await closing

    assert (await use).user_id == "u-1"


async def test_no_message_contains_a_token(auth, caplog):
    """[AUT19] No repr, log line or refusal contains a token or the secret."""
    caplog.set_level(logging.DEBUG)
    token = sign(claims())
    ticket, _ = await auth.issue_ticket(await auth.verify(token))
    texts = [
        repr(auth),
        repr(auth.__dict__),
        repr(Bearer(token)),
        str(Bearer(token)),
        repr(Ticket(ticket)),
        caplog.text,
    ]

    for text in texts[:1] + texts[2:]:
        assert token not in text
        assert ticket not in text
    assert token not in texts[1]
    assert SECRET.decode() not in "".join(texts)


# Chapter: as the settings say


async def test_the_authenticator_is_built_from_settings(tmp_path, clock, store):
    """[AUT26] The settings determine the secret, the token life, the provider, the issuer and the audience."""
    key = tmp_path / "key.pem"
    key.write_bytes(pem_of(ED_KEY))
    auth = Auth.of(
        Settings(jwt_secret=SECRET.decode(), token_days=0.5, jwt_public_key_file=key, jwt_audience="o", jwt_issuer="i"),
        store=store,
        clock=clock,
    )

    assert auth.mint("u", "n")[1] == START_S + 43_200
    assert (await auth.verify(sign(claims()))).user_id == "u-1"
    assert (await auth.verify(outside_token("EdDSA", aud="o", iss="i"))).user_id == "u-1"
    assert "iss" in await refusal(auth, outside_token("EdDSA", aud="o"))


def test_a_jwks_address_is_used(tmp_path, clock, store):
    """[AUT32] A key address in the settings is fetched on demand, not at the start; an invalid file is refused."""
    auth = Auth.of(
        Settings(jwt_jwks_url="https://idp.example.org/jwks", data_dir=tmp_path, jwt_algorithms=("ES256",)),
        store=store,
        clock=clock,
    )

    assert isinstance(auth._outside, JwksKeys)
    assert auth._outside.algorithms == {"ES256"}
    assert auth._outside._tried_s is None
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(SettingsInvalid):
        Auth.of(Settings(jwt_public_key_file=tmp_path / "bad.pem", data_dir=tmp_path), store=store, clock=clock)
