"""Tokens, keys, tickets and revocation, with a clock that is set by hand and a store of a dictionary."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from orbital.config import Settings
from orbital.errors import SettingsInvalid, Unauthorized, Unavailable
from orbital.model import Principal, Revocation
from orbital.server import auth as room
from orbital.server.auth import (
    WHOSE_CHARS,
    Auth,
    Bearer,
    JwksKeys,
    LocalTickets,
    PemKey,
    Ticket,
    bearer,
    credential,
)

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
            raise Unavailable("The database is away.")
        return self.users.setdefault(user_id, (len(self.users) + 1, username))[0]

    async def revoke(self, *, token_digest, user_id, at_s, until_s):
        assert until_s > at_s
        self.kept.append(Revocation(len(self.kept) + 1, token_digest, user_id, at_s))

    async def revocations(self, *, after):
        self.asked.append(after)
        return [each for each in self.kept if each.number > after]


@pytest.fixture
def clock():
    """Time that the test moves."""
    return Clock()


@pytest.fixture
def store():
    """Users and revocations of the test's own."""
    return Store()


@pytest.fixture
def auth(clock, store):
    """The room, with the server's own secret alone."""
    return Auth(store=store, clock=clock, secret=SECRET)


def _part(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(claims, *, secret=SECRET, header=None, digest=hashlib.sha256) -> str:
    """Sign without the library that is under test; the header says what it is told to say."""
    signed = f"{_part(header or {'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_part(hmac.new(secret, signed.encode(), digest).digest())}"


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


# Chapter: own tokens


async def test_a_minted_token_is_verified(auth, clock, store):
    """[AUT1] What the server mints it accepts, with the claims of the protocol and no others."""
    token, expires_at_s = auth.mint("u-1", "anna")

    principal = await auth.verify(token)

    assert principal == Principal(
        key=1,
        user_id="u-1",
        username="anna",
        expires_at_s=expires_at_s,
        issued_at_s=START_S,
        token_digest=hashlib.sha256(token.encode()).digest(),
    )
    assert expires_at_s == START_S + 30 * 86_400
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert payload == {"userId": "u-1", "username": "anna", "iat": START_S, "exp": expires_at_s}
    assert store.users == {"u-1": (1, "anna")}


async def test_a_token_of_another_service_is_accepted(auth, store):
    """[AUT2] A token with the secret's signature is taken as it is, other claims, header fields and all."""
    other = sign(
        claims(aud="elsewhere", iss="them", role=["x"], exp=START_S + 0.5), header={"alg": "HS256", "kid": "7"}
    )

    principal = await auth.verify(other)

    assert (principal.user_id, principal.username, principal.expires_at_s) == ("u-1", "anna", START_S + 0.5)


@pytest.mark.parametrize("username", [None, ""])
async def test_without_a_username_the_user_id_stands_in(auth, store, username):
    """[AUT3] A missing or empty `username` is the `userId`, and one who does not say when it was issued, at 0."""
    principal = await auth.verify(sign(claims(username=username, iat=None)))

    assert (principal.username, principal.issued_at_s) == ("u-1", 0)
    assert store.users["u-1"][1] == "u-1"


async def test_the_last_year_that_can_be_written_bounds_expiry(auth):
    """[AUT4] A service that gives `exp` in milliseconds makes a token that ends in the year 9999, not an error."""
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
async def test_claims_that_do_not_hold(auth, changes, why):
    """[AUT5] A claim that is missing, wrong or past refuses the token, with a sentence that names it."""
    assert why in await refusal(auth, sign(claims(**changes)))


async def test_not_a_number_is_no_expiry(auth):
    """[AUT5] What Python's JSON reads as a number and RFC 8259 does not is refused."""
    for exp in ("NaN", "Infinity", "1e999"):
        payload = json.dumps(claims(exp=0)).replace('"exp": 0', f'"exp": {exp}').encode()

        assert "claims cannot be used" in await refusal(auth, sign(payload))


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b"\xff", b'"x"', b"[" * 5000])
async def test_a_payload_that_is_no_object(auth, payload):
    """[AUT5] A signed payload that is no object of claims is refused, not stumbled over."""
    assert "claims cannot be used" in await refusal(auth, sign(payload))


async def test_a_clock_a_little_ahead_is_forgiven(auth):
    """[AUT6] `nbf` may be five seconds in the future, for two machines' clocks never agree."""
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
    """[AUT7] Nothing but HS256 goes with the secret, though the signature be right for what the header says."""
    assert "not accepted here" in await refusal(auth, sign(claims(), header=header, digest=digest))


async def test_a_signature_of_none_is_refused(auth):
    """[AUT7] `none` with an empty signature, as RFC 7519 §6 writes it, and HS256 with an empty one are refused."""
    body = _part(claims())

    assert "not accepted" in await refusal(auth, f"{_part({'alg': 'none'})}.{body}.")
    assert "signature" in await refusal(auth, f"{_part({'alg': 'HS256'})}.{body}.")


async def test_another_secret_is_refused(auth):
    """[AUT8] A signature of another secret, or over other claims, does not hold."""
    good = sign(claims()).split(".")

    assert "signature" in await refusal(auth, sign(claims(), secret=b"another secret"))
    assert "signature" in await refusal(auth, f"{good[0]}.{_part(claims(userId='u-2'))}.{good[2]}")


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "x" * 9000, "ä.b.c", "Bearer x", "e30.e30.e30", "null", "a" * 43, f"{_part([])}.e30.e30"],
)
async def test_what_is_no_token_is_refused(auth, token):
    """[AUT9] Text that is no JWT gets a sentence."""
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
async def test_a_header_that_must_be_understood(auth, header):
    """[AUT10] A `crit` that this server does not know refuses the token (RFC 7515 §4.1.11)."""
    assert "signature does not hold" in await refusal(auth, sign(claims(), header=header))


@given(
    st.text(max_size=200)
    | st.lists(st.binary(max_size=40), min_size=2, max_size=5).map(lambda parts: ".".join(map(_part, parts)))
)
def test_no_text_gets_in_or_breaks_anything(token):
    """[AUT9] Whatever text comes as a token, the answer is Unauthorized."""

    async def attempt() -> None:
        await refusal(Auth(store=Store(), clock=Clock(), secret=SECRET), token)

    asyncio.run(attempt())


async def test_a_short_secret_works_without_a_warning_each_time(clock, store):
    """[AUT11] A stranger's short secret is used as it is; warnings are errors here, so none was made."""
    auth = Auth(store=store, clock=clock, secret=b"short")

    assert (await auth.verify(sign(claims(), secret=b"short"))).user_id == "u-1"
    assert (await auth.verify(auth.mint("u-2", "b")[0])).user_id == "u-2"


# Chapter: the cache


async def test_the_cache_answers_without_waiting(auth, store):
    """[AUT12] A token that was verified is known at once, and entered once; one never seen is not."""
    token = sign(claims())
    assert auth.cached(token) is None

    principal = await auth.verify(token)

    assert auth.cached(token) is principal
    assert await auth.verify(token) is principal
    assert store.entered == 1


async def test_the_cache_forgets_at_expiry(auth, clock):
    """[AUT13] A remembered token ends in the second it says."""
    token = sign(claims(exp=START_S + 60))
    await auth.verify(token)

    clock.now_s += 59.999
    assert auth.cached(token) is not None
    clock.now_s += 0.001
    assert auth.cached(token) is None
    assert "expired" in await refusal(auth, token)


async def test_the_cache_is_bounded(auth, clock, monkeypatch):
    """[AUT14] Only so many tokens are remembered; the one not used for longest goes."""
    monkeypatch.setattr(room, "CACHED_TOKENS", 3)
    tokens = [sign(claims(userId=f"u-{number}")) for number in range(4)]
    for token in tokens[:3]:
        await auth.verify(token)
    assert auth.cached(tokens[0]) is not None

    await auth.verify(tokens[3])

    assert [auth.cached(token) is not None for token in tokens] == [True, False, True, True]
    assert len(auth._cache) == 3


async def test_uses_at_once_share_one_entry(auth, store):
    """[AUT15] Twenty first uses of a token at once enter its user once, and all get the same principal."""
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


async def test_a_database_that_is_away_is_not_remembered(auth, store):
    """[AUT16] When a user cannot be entered it is 503, not 401, and the next try begins anew."""
    token = sign(claims())
    store.away = True
    with pytest.raises(Unavailable):
        await auth.verify(token)

    store.away = False

    assert (await auth.verify(token)).key == 1


async def test_a_token_that_ends_while_its_user_is_entered(auth, store, clock):
    """[AUT17] What was true before waiting is looked at again after."""
    store.gate.clear()
    token = sign(claims(exp=START_S + 60))
    use = asyncio.create_task(auth.verify(token))
    while store.entered == 0:
        await asyncio.sleep(0)

    clock.now_s += 61
    store.gate.set()

    with pytest.raises(Unauthorized, match="no longer holds"):
        await use
    assert auth.cached(token) is None


async def test_closing_waits_for_what_is_under_way(auth, store):
    """[AUT18] No task of ours is left when the room is closed."""
    store.gate.clear()
    use = asyncio.create_task(auth.verify(sign(claims())))
    while store.entered == 0:
        await asyncio.sleep(0)
    closing = asyncio.create_task(auth.close())

    store.gate.set()
    await closing

    assert (await use).user_id == "u-1"


async def test_no_text_of_ours_has_a_token(auth, caplog):
    """[AUT19] Neither a repr nor a log line nor a refusal shows a token or the secret."""
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


# Chapter: revocation


async def test_a_revoked_token_ends_at_once(auth, clock):
    """[AUT20] After a revocation the token is out of the cache, refused, and others of its user still hold."""
    token, other = sign(claims()), sign(claims(exp=START_S + 61))
    principal, second = await auth.verify(token), await auth.verify(other)

    await auth.revoke(principal)

    assert auth.revoked(principal)
    assert not auth.revoked(second)
    assert auth.cached(token) is None
    assert auth.cached(other) is second
    assert "revoked" in await refusal(auth, token)


async def test_a_user_is_revoked_up_to_now(auth, clock):
    """[AUT21] Revoking a user ends what was issued up to now, also tokens that do not say when, and nothing later."""
    old, timeless = sign(claims()), sign(claims(iat=None))
    other = sign(claims(userId="u-2"))
    for token in (old, timeless, other):
        await auth.verify(token)

    await auth.revoke_user("u-1")
    clock.now_s += 1
    new = sign(claims(iat=START_S + 1))

    assert [auth.cached(token) is None for token in (old, timeless, other)] == [True, True, False]
    assert (await auth.verify(new)).user_id == "u-1"
    assert "revoked" in await refusal(auth, timeless)


async def test_another_process_revokes(auth, store):
    """[AUT22] A revocation that somebody else stored counts from the next refresh, which tells whoever asked once."""
    token = sign(claims())
    principal = await auth.verify(token)
    told = []
    auth.on_revoked(lambda: told.append(auth.revoked(principal)))
    await auth.refresh()
    assert told == []

    store.kept.append(Revocation(1, principal.token_digest, None, START_S))
    assert auth.cached(token) is principal
    await auth.refresh()
    await auth.refresh()

    assert auth.cached(token) is None
    assert told == [True]


async def test_a_revocation_that_commits_late_is_found(auth, store):
    """[AUT23] A number below the last one seen, committed after it, is not missed."""
    principal = await auth.verify(sign(claims()))
    store.kept.append(Revocation(5, b"x", None, START_S))
    await auth.refresh()

    store.kept.append(Revocation(4, principal.token_digest, None, START_S))
    await auth.refresh()

    assert auth.revoked(principal)


async def test_what_the_store_forgot_is_forgotten(auth, store, clock):
    """[AUT24] Once an hour all revocations are read anew, so memory does not grow with their history."""
    for number in range(1, 300):
        store.kept.append(Revocation(number, number.to_bytes(32), None, START_S))
    await auth.refresh()
    assert len(auth._revocations._tokens) == 299
    del store.kept[:290]

    clock.now_s += 3600
    await auth.refresh()

    assert len(auth._revocations._tokens) == 9
    assert len(auth._revocations._seen) <= 300
    assert store.asked[-1] == 0


async def test_an_older_cut_does_not_lift_a_newer(auth, store):
    """[AUT25] Of two revocations of a user the later moment counts, whatever their order."""
    store.kept += [Revocation(1, None, "u-1", START_S + 50), Revocation(2, None, "u-1", START_S - 50)]
    await auth.refresh()

    assert "revoked" in await refusal(auth, sign(claims(iat=START_S)))


async def test_revoked_while_its_user_is_entered(auth, store):
    """[AUT17] A token that is revoked while its user is entered does not get in."""
    store.gate.clear()
    use = asyncio.create_task(auth.verify(sign(claims())))
    while store.entered == 0:
        await asyncio.sleep(0)

    await auth.revoke_user("u-1")
    store.gate.set()

    with pytest.raises(Unauthorized):
        await use


# Chapter: tickets


async def test_a_ticket_is_good_once(auth, store):
    """[TIC1] A ticket gives back its principal once, whether it is asked for now or with waiting."""
    principal = await auth.verify(sign(claims()))
    first, life_s = await auth.issue_ticket(principal)
    second, _ = await auth.issue_ticket(principal)

    assert life_s == 30
    assert first != second
    assert len(base64.urlsafe_b64decode(first + "=")) == 32
    assert auth.redeem_now(first) is principal
    assert await auth.redeem(second) is principal
    assert auth.redeem_now(first) is None
    assert await auth.redeem(second) is None
    assert await auth.redeem("made up") is None


@pytest.mark.parametrize(
    "user_id, username", [("4f0a8c1e-6d2b-4b7e-9a5f-0c1d2e3f4a5b", "ada"), ("a", "b"), ("x" * 64, "é" * 50)]
)
async def test_a_ticket_says_whose_it_is(auth, clock, user_id, username):
    """[TIC6] A ticket begins with what the payload of each of its user's tokens begins with, newer ones too."""
    tokens = []
    for _ in range(3):
        tokens.append(auth.mint(user_id, username)[0])
        clock.now_s += 86_400
    ticket, _ = await auth.issue_ticket(await auth.verify(tokens[-1]), token=tokens[-1])

    head, _, secret = ticket.partition(".")
    assert {token.split(".")[1][: len(head)] for token in tokens} == {head}
    assert len(head) == WHOSE_CHARS
    assert len(secret) == 43


async def test_a_ticket_lives_thirty_seconds(auth, clock):
    """[TIC2] After 30 seconds a ticket is worth nothing."""
    principal = await auth.verify(sign(claims()))
    tickets = [(await auth.issue_ticket(principal))[0] for _ in range(2)]

    clock.now_s += 29.9
    assert auth.redeem_now(tickets[0]) is principal
    clock.now_s += 0.1
    assert auth.redeem_now(tickets[1]) is None


async def test_a_ticket_is_no_better_than_its_token(auth, clock):
    """[TIC3] A ticket whose token has expired or was revoked meanwhile opens nothing."""
    short = await auth.verify(sign(claims(exp=START_S + 10)))
    revoked = await auth.verify(sign(claims(userId="u-2")))
    tickets = [(await auth.issue_ticket(principal))[0] for principal in (short, revoked)]

    clock.now_s += 10
    await auth.revoke(revoked)

    assert [await auth.redeem(ticket) for ticket in tickets] == [None, None]


async def test_waiting_tickets_are_bounded(auth, clock, monkeypatch):
    """[TIC4] Old tickets are let go as new ones come, and over the bound the oldest goes."""
    monkeypatch.setattr(room, "MAX_TICKETS", 3)
    principal = await auth.verify(sign(claims()))
    tickets = [(await auth.issue_ticket(principal))[0] for _ in range(4)]
    assert len(auth._tickets) == 3
    assert auth.redeem_now(tickets[0]) is None
    assert auth.redeem_now(tickets[1]) is principal

    clock.now_s += 30
    await auth.issue_ticket(principal)

    assert len(auth._tickets) == 1


async def test_tickets_may_wait_elsewhere(clock, store):
    """[TIC5] With tickets that several servers share, asking now finds none, and asking with waiting does."""

    class Shared:
        def __init__(self) -> None:
            self.inner = LocalTickets(clock)

        async def put(self, ticket, principal, *, life_s):
            await self.inner.put(ticket, principal, life_s=life_s)

        async def take(self, ticket):
            return await self.inner.take(ticket)

    auth = Auth(store=store, clock=clock, secret=SECRET, tickets=Shared())
    principal = await auth.verify(sign(claims()))
    ticket, _ = await auth.issue_ticket(principal)

    assert auth.redeem_now(ticket) is None
    assert await auth.redeem(ticket) is principal


# Chapter: how a token comes

TOKEN = "aaa.bbb.ccc"


@pytest.mark.parametrize(
    "authorization, found",
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic YTpi", None),
        (f"Bearer {TOKEN}", TOKEN),
        (f"bearer  {TOKEN} ", TOKEN),
        (f"BEARER {TOKEN}", TOKEN),
    ],
)
def test_the_authorization_header(authorization, found):
    """[CRE1] The scheme is `Bearer` in whatever case; others bring no token."""
    assert bearer(authorization) == found


@pytest.mark.parametrize(
    "authorization, protocols, query, found",
    [
        (None, None, {}, None),
        (f"Bearer {TOKEN}", "bearer.other", {"token": "third"}, Bearer(TOKEN)),
        (None, f"orbital.v1, bearer.{TOKEN}", {"ticket": "t", "token": "third"}, Bearer(TOKEN)),
        ("Basic YTpi", "orbital.v1", {"token": "third", "ticket": "t"}, Ticket("t")),
        (None, "", {"x": "1", "token": "a.b.c"}, Bearer("a.b.c")),
        (None, None, {"token": "", "ticket": ""}, None),
    ],
)
def test_the_order_of_credentials(authorization, protocols, query, found):
    """[CRE2] Header, subprotocol, ticket, query: the first that is there counts."""
    assert credential(authorization=authorization, protocols=protocols, query=query) == found


# Chapter: an outside identity provider

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
ALL = ("RS256", "ES256", "EdDSA")


def _pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _outside_token(algorithm, *, kid=None, key=None, **changes) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key or KEYS[algorithm], algorithm=algorithm, headers=headers)


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_pem_key_checks_its_own_algorithm(clock, store, algorithm):
    """[IDP1] Beside the server's own, tokens of the provider's one key are accepted, and of no other algorithm."""
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(_pem(KEYS[algorithm]), allowed=ALL))

    assert (await auth.verify(_outside_token(algorithm))).user_id == "u-1"
    assert (await auth.verify(sign(claims(userId="u-2")))).user_id == "u-2"
    for other in ALL:
        if other != algorithm:
            assert "not accepted" in await refusal(auth, _outside_token(other))


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_public_key_is_never_a_secret(clock, store, algorithm):
    """[IDP2] HS256 with the public key for a secret, in any form of it, is refused (RFC 8725 §2.1)."""
    public = KEYS[algorithm].public_key()
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(_pem(KEYS[algorithm]), allowed=ALL))
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    for secret in (_pem(KEYS[algorithm]), _pem(KEYS[algorithm]).strip(), der):
        assert "signature" in await refusal(auth, sign(claims(), secret=secret))
        assert "signature" in await refusal(auth, sign(claims(), secret=secret, header={"alg": algorithm}))


async def test_another_key_of_the_same_kind_is_refused(clock, store):
    """[IDP3] The algorithm alone opens nothing: the key must be the configured one."""
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=PemKey(_pem(EC_KEY), allowed=ALL))
    forged = _outside_token("ES256", key=ec.generate_private_key(ec.SECP256R1()))

    assert "signature" in await refusal(auth, forged)


async def test_a_certificate_holds_a_key_too(clock, store):
    """[IDP4] A PEM certificate serves for its public key."""
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

    assert (await auth.verify(_outside_token("RS256"))).user_id == "u-1"


def test_keys_that_cannot_be_used_are_refused():
    """[IDP5] What is no key, a key of another kind, too small, or not allowed, stops the server with a sentence."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refusing it is the claim
    curve = ec.generate_private_key(ec.SECP384R1())

    for text, why in [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n", "no public key"),
        (b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n", "no public key"),
        (_pem(small), "2048 bits"),
        (_pem(curve), "P-256"),
    ]:
        with pytest.raises(SettingsInvalid, match=why):
            PemKey(text, allowed=ALL)
    with pytest.raises(SettingsInvalid, match="leaves out"):
        PemKey(_pem(ED_KEY), allowed=("RS256",))


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
async def test_issuer_and_audience_of_the_outside(clock, store, changes, why):
    """[IDP6] The provider's tokens must name issuer and audience when they are set; the server's own need not."""
    auth = Auth(
        store=store,
        clock=clock,
        secret=SECRET,
        outside=PemKey(_pem(ED_KEY), allowed=ALL),
        audience="orbital",
        issuer="https://idp",
    )
    token = _outside_token("EdDSA", key=ED_KEY) if not changes else _encode_raw(changes)

    if why is None:
        assert (await auth.verify(token)).user_id == "u-1"
    else:
        assert why in await refusal(auth, token)
    assert (await auth.verify(auth.mint("u-9", "own")[0])).user_id == "u-9"


def _encode_raw(changes) -> str:
    """Sign claims that the library would not make, such as an `iss` that is a list."""
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), ED_KEY, algorithm="EdDSA")


# Chapter: a JWK set


def _jwk(algorithm, kid, **more):
    made = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }[algorithm].to_jwk(KEYS[algorithm].public_key(), as_dict=True)
    return {key: value for key, value in {**made, "kid": kid, **more}.items() if value is not None}


class Provider:
    """A JWK set that a test changes; counts how often it is asked."""

    def __init__(self, *keys) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self):
        self.asked += 1
        assert self.gate.wait(30)
        if self.away:
            raise jwt.PyJWKClientError("connection refused")
        return jwt.PyJWKSet.from_dict({"keys": self.keys})


def _with_provider(store, clock, provider, allowed=ALL) -> Auth:
    keys = JwksKeys("https://idp.example.org/jwks", allowed=allowed, clock=clock, fetch=provider)
    return Auth(store=store, clock=clock, secret=SECRET, outside=keys)


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_key_by_its_name(clock, store, algorithm):
    """[JWK1] Tokens are checked with the key that they name, fetched once for many."""
    provider = Provider(*(_jwk(each, f"k-{each}") for each in ALL))
    auth = _with_provider(store, clock, provider)

    for user in ("a", "b", "c"):
        assert (await auth.verify(_outside_token(algorithm, kid=f"k-{algorithm}", userId=user))).user_id == user

    assert provider.asked == 1


async def test_a_token_without_a_key_name(clock, store):
    """[JWK2] A token that names no key is checked with the only key of its algorithm; of two, with none."""
    provider = Provider(_jwk("RS256", "r"), _jwk("ES256", "e1"), _jwk("ES256", "e2"))
    auth = _with_provider(store, clock, provider)

    assert (await auth.verify(_outside_token("RS256"))).user_id == "u-1"
    assert "not known" in await refusal(auth, _outside_token("ES256"))


async def test_many_at_once_fetch_once(clock, store):
    """[JWK3] A hundred tokens that wait for keys cause one fetch."""
    provider = Provider(_jwk("EdDSA", "k"))
    provider.gate.clear()
    auth = _with_provider(store, clock, provider)
    uses = [asyncio.create_task(auth.verify(_outside_token("EdDSA", kid="k", userId=f"u-{n}"))) for n in range(100)]
    while provider.asked == 0:
        await asyncio.sleep(0)

    provider.gate.set()
    await asyncio.gather(*uses)

    assert provider.asked == 1


async def test_made_up_key_names_fetch_rarely(clock, store):
    """[JWK4] A name that is not there causes one fetch in 30 seconds, so a new key is found within them."""
    provider = Provider(_jwk("RS256", "old"))
    auth = _with_provider(store, clock, provider)
    await auth.verify(_outside_token("RS256", kid="old"))

    for number in range(50):
        assert "not known" in await refusal(auth, _outside_token("RS256", kid=f"made-up-{number}"))
    assert provider.asked == 1
    provider.keys = [_jwk("RS256", "new")]
    clock.now_s += 30
    assert (await auth.verify(_outside_token("RS256", kid="new", userId="u-2"))).user_id == "u-2"

    assert provider.asked == 2


async def test_a_withdrawn_key_ends(clock, store):
    """[JWK5] A key that the provider withdraws is accepted for five minutes at most."""
    provider = Provider(_jwk("RS256", "old"))
    auth = _with_provider(store, clock, provider)
    await auth.verify(_outside_token("RS256", kid="old", exp=START_S + 999))
    provider.keys = [_jwk("RS256", "new")]

    clock.now_s += 300

    assert "not known" in await refusal(auth, _outside_token("RS256", kid="old", exp=START_S + 998))


async def test_a_provider_that_is_away(clock, store, caplog):
    """[JWK6] Without any keys it is 503 with the time to come back; keys once fetched serve on."""
    provider = Provider(_jwk("RS256", "k"))
    provider.away = True
    auth = _with_provider(store, clock, provider)
    token = _outside_token("RS256", kid="k", exp=START_S + 9999)
    for _ in range(3):
        with pytest.raises(Unavailable) as away:
            await auth.verify(token)
        assert 1 <= away.value.retry_after_s <= 31
    assert provider.asked == 1
    assert "keys not fetched" in caplog.text

    provider.away = False
    clock.now_s += 30
    assert (await auth.verify(token)).user_id == "u-1"
    provider.away = True
    clock.now_s += 1000

    assert (await auth.verify(_outside_token("RS256", kid="k", userId="u-2", exp=START_S + 9999))).user_id == "u-2"


async def test_keys_that_are_not_for_this(clock, store):
    """[JWK7] Secrets, encryption keys, keys for another algorithm and those not allowed check nothing."""
    secret = {"kty": "oct", "k": _part(SECRET), "kid": "s", "alg": "HS256"}
    provider = Provider(
        secret,
        _jwk("RS256", "enc", use="enc"),
        _jwk("RS256", "512", alg="RS512"),
        _jwk("ES256", "left-out"),
        _jwk("EdDSA", "good", use="sig"),
    )
    auth = _with_provider(store, clock, provider, allowed=("RS256", "EdDSA"))

    assert (await auth.verify(_outside_token("EdDSA", kid="good"))).user_id == "u-1"
    for kid in ("enc", "512"):
        assert "not known" in await refusal(auth, _outside_token("RS256", kid=kid))
    assert "not accepted" in await refusal(auth, _outside_token("ES256", kid="left-out"))
    assert "signature" in await refusal(auth, sign(claims(), secret=b"other", header={"alg": "HS256", "kid": "s"}))


@pytest.fixture
def jwks_server(monkeypatch):
    """A provider that speaks HTTP; `answer` is what it says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args) -> None:
            """Print nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.answer = (200, json.dumps({"keys": [_jwk("ES256", "k")]}).encode())
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


async def test_keys_come_over_http(tmp_path, store, clock, jwks_server):
    """[JWK8] The address in the settings is fetched and its keys are used; answers that are no keys change nothing."""
    url = f"http://127.0.0.1:{jwks_server.server_port}/jwks"
    auth = Auth.of(Settings(jwt_jwks_url=url, data_dir=tmp_path), store=store, clock=clock)
    forever = START_S + 99_999

    assert (await auth.verify(_outside_token("ES256", kid="k"))).user_id == "u-1"
    for number, answer in enumerate([(500, b"oops"), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": []}')]):
        jwks_server.answer = answer
        clock.now_s += JwksKeys.LIFE_S
        token = _outside_token("ES256", kid="k", userId=f"later-{number}", exp=forever)
        assert (await auth.verify(token)).user_id == f"later-{number}"


async def test_an_address_that_never_gave_keys(tmp_path, store, clock, jwks_server):
    """[JWK6] What was never a set of keys makes the answer 503, whatever it was instead."""
    url = f"http://127.0.0.1:{jwks_server.server_port}/jwks"
    answers = [
        (404, b"{}"),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b'{"keys": 1}'),
        (200, b'{"keys": [1]}'),
        (200, b'{"keys": [{"kty": ["RSA"]}]}'),
        (200, b'{"keys": [{"kty": "RSA", "n": 5, "e": "AQAB"}]}'),
    ]
    for answer in answers:
        jwks_server.answer = answer
        auth = Auth.of(Settings(jwt_jwks_url=url, data_dir=tmp_path), store=store, clock=clock)
        with pytest.raises(Unavailable):
            await auth.verify(_outside_token("ES256", kid="k"))


async def test_closing_waits_for_a_fetch(clock, store):
    """[AUT18] A fetch that is under way when the room is closed is waited for."""
    provider = Provider(_jwk("RS256", "k"))
    provider.gate.clear()
    auth = _with_provider(store, clock, provider)
    use = asyncio.create_task(auth.verify(_outside_token("RS256", kid="k")))
    while provider.asked == 0:
        await asyncio.sleep(0)
    closing = asyncio.create_task(auth.close())

    provider.gate.set()
    await closing

    assert (await use).user_id == "u-1"


# Chapter: as the settings say


async def test_it_is_made_from_settings(tmp_path, clock, store):
    """[AUT26] The settings' secret, token life, provider, issuer and audience are what counts."""
    key = tmp_path / "key.pem"
    key.write_bytes(_pem(ED_KEY))
    auth = Auth.of(
        Settings(jwt_secret=SECRET.decode(), token_days=0.5, jwt_public_key_file=key, jwt_audience="o", jwt_issuer="i"),
        store=store,
        clock=clock,
    )

    assert auth.mint("u", "n")[1] == START_S + 43_200
    assert (await auth.verify(sign(claims()))).user_id == "u-1"
    assert (await auth.verify(_outside_token("EdDSA", aud="o", iss="i"))).user_id == "u-1"
    assert "iss" in await refusal(auth, _outside_token("EdDSA", aud="o"))


def test_a_jwks_address_is_used(tmp_path, clock, store):
    """[AUT26] An address in the settings makes keys that are fetched, none at the start; a bad file is refused."""
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
