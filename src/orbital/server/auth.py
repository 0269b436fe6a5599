"""
From a token to who it speaks for: signatures, expiry, revocation, tickets.

A token is a JWT (RFC 7519). Which key checks it follows from its `alg`, and each key is tied to the one algorithm of
its kind (RFC 8725 §3.1), so a public key never becomes the secret of an HMAC:

    HS256                 the server's own secret: tokens of signups and logins, and of services that share the secret
    RS256, ES256, EdDSA   an outside identity provider's public keys: a PEM file, or the address of a JWK set

No token is kept: what the cache knows is its SHA-256. No text or repr made here contains one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Final, Protocol, TypeAlias

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms

from orbital import config
from orbital.config import Settings
from orbital.errors import SettingsInvalid, Unauthorized, Unavailable
from orbital.model import Principal, Revocation, UserId
from orbital.ports import Clock, Store

log = logging.getLogger("orbital.auth")

MAX_TOKEN_CHARS: Final = 8192
"""Longest token that is looked at; a provider's with many claims has some 2,000."""
CACHED_TOKENS: Final = 10_000
"""Tokens remembered as checked, some 500 bytes each; asking takes 1.5 µs, and checking one anew 0.1 ms."""
EARLY_S: Final = 5
"""How far another machine's clock may be ahead of ours before its `nbf` keeps a token out."""
TICKET_S: Final = 30
"""How long a ticket is good for."""
MAX_TICKETS: Final = 20_000
"""Tickets waiting at one time; at the request limit of 600 a minute it takes 67 users to drop each other's."""

LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, the last that RFC 3339 can write; a token that ends later is good until then."""

_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,64}")

# Chapter: what a token says


class _Claims(msgspec.Struct):
    """The claims that count; others are another service's business."""

    exp: float
    user_id: str = msgspec.field(name="userId")
    username: str | None = None
    iat: float = 0
    nbf: float = 0
    iss: msgspec.Raw = msgspec.Raw(b"null")
    aud: msgspec.Raw = msgspec.Raw(b"null")


class _Header(msgspec.Struct):
    """What of a token's header chooses the key."""

    alg: str
    kid: str | None = None


_decode_claims = msgspec.json.Decoder(_Claims).decode
_decode_header = msgspec.json.Decoder(_Header).decode


def _principal_claims(payload: bytes, *, now_s: float) -> _Claims:
    """
    Read the claims of a token whose signature holds.

    Raises:
        Unauthorized: If one is missing, wrong, or says that the token does not hold now.
    """
    try:
        claims = _decode_claims(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        # What msgspec says names the claim, and never shows its value.
        raise Unauthorized(f"The token's claims cannot be used: {exc}.") from None
    if now_s >= claims.exp:
        raise Unauthorized("The token has expired; log in again.")
    if now_s < claims.nbf - EARLY_S:
        raise Unauthorized("The token does not hold yet (nbf).")
    if _VISIBLE.fullmatch(claims.user_id) is None:
        raise Unauthorized("The token's userId is not 1 to 64 visible ASCII characters.")
    # PostgreSQL keeps no U+0000; lone surrogates do not pass the decoder.
    if claims.username is not None and "\0" in claims.username:
        raise Unauthorized("The token's username holds a character that cannot be kept.")
    return claims


# Chapter: keys


class _Hmac(HMACAlgorithm):
    """
    HS256 with a secret that was looked at once, when the server started.

    The library asks of every single token whether the secret looks like a public key; here no public key can get in.
    """

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)

    def prepare_key(self, key: str | bytes) -> bytes:
        """Take the secret as it is."""
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - a short secret was told of at the start
        """Do not repeat at each token what was said at the start."""
        return None


def _signatures(name: str, algorithm: Algorithm) -> jwt.PyJWS:
    """Return a reader of signatures that knows one algorithm alone."""
    signatures = jwt.PyJWS(algorithms=[])
    signatures.register_algorithm(name, algorithm)
    return signatures


_AnyKey: TypeAlias = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class _Key:
    """A key with the one algorithm that it is for."""

    __slots__ = ("_key", "_signatures", "algorithm")

    def __init__(self, algorithm: str, key: _AnyKey, *, how: Algorithm | None = None) -> None:
        self.algorithm = algorithm
        self._key = key
        self._signatures = _signatures(algorithm, how or get_default_algorithms()[algorithm])

    def open(self, token: str) -> bytes:
        """
        Return the payload of a token that this key signed.

        Raises:
            Unauthorized: If it did not.
        """
        try:
            return bytes(
                self._signatures.decode_complete(
                    token,
                    self._key,
                    algorithms=[self.algorithm],
                    options={"enforce_minimum_key_length": self.algorithm != "HS256"},
                )["payload"]
            )
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            # Which of the library's reasons it was helps only who forges.
            raise Unauthorized("The token's signature does not hold.") from exc


class _Secret(_Key):
    """The server's own key, which also signs."""

    def __init__(self, secret: bytes) -> None:
        super().__init__("HS256", secret, how=_Hmac())
        self._secret = secret

    def sign(self, payload: bytes) -> str:
        """Make a token."""
        return self._signatures.encode(payload, self._secret, algorithm=self.algorithm)


def _public_key(key: object) -> _Key | None:
    """Tie a public key to the one algorithm that it is for (RFC 7518 §3.3, §3.4; RFC 8037 §3.1); None if to none."""
    match key:
        case rsa.RSAPublicKey() if key.key_size >= 2048:
            return _Key("RS256", key)
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return _Key("ES256", key)
        case ed25519.Ed25519PublicKey():
            return _Key("EdDSA", key)
        case _:
            return None


class OutsideKeys(Protocol):
    """The public keys of an outside identity provider."""

    algorithms: frozenset[str]
    """The algorithms that its keys may have."""

    def now(self, algorithm: str, kid: str | None) -> _Key | None:
        """Return the key if it is at hand."""
        ...

    async def find(self, algorithm: str, kid: str | None) -> _Key | None:
        """
        Return the key, fetching keys if need be; None when the provider has no such key.

        Raises:
            Unavailable: If no keys could be fetched yet.
        """
        ...


class PemKey:
    """
    One public key out of a PEM file, or out of a certificate in one.

    Args:
        pem: The file's text.
        allowed: Algorithms that the settings accept.

    Raises:
        SettingsInvalid: If it holds no key that can be used.
    """

    def __init__(self, pem: bytes, *, allowed: Sequence[str]) -> None:
        name = "ORBITAL_JWT_PUBLIC_KEY_FILE"
        try:
            if b"BEGIN CERTIFICATE" in pem:
                key = _public_key(x509.load_pem_x509_certificate(pem).public_key())
            else:
                key = _public_key(load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise SettingsInvalid(f"{name} holds no public key in PEM form.") from exc
        if key is None:
            raise SettingsInvalid(
                f"{name} holds a key of a kind that is not used: it must be RSA of at least 2048 bits, "
                "EC on the curve P-256, or Ed25519."
            )
        if key.algorithm not in allowed:
            raise SettingsInvalid(f"{name} holds a key for {key.algorithm}, which ORBITAL_JWT_ALGORITHMS leaves out.")
        self.algorithms = frozenset({key.algorithm})
        self._key = key

    def now(self, algorithm: str, kid: str | None) -> _Key | None:  # noqa: ARG002 - one key needs no name
        """Return the key when it is for that algorithm."""
        return self._key if algorithm == self._key.algorithm else None

    async def find(self, algorithm: str, kid: str | None) -> _Key | None:
        """Return the key when it is for that algorithm."""
        return self.now(algorithm, kid)


class JwksKeys:
    """
    The keys at an address (RFC 7517), fetched on a thread, kept, and fetched again when they may have changed.

    However many tokens come, there is one fetch at a time, at most one in `COOLDOWN_S`, and keys once fetched serve on
    while the provider is away.

    Args:
        url: The address.
        allowed: Algorithms that the settings accept.
        clock: The time.
        fetch: Returns the JWK set, blocking; the library's client unless a test brings its own.
    """

    LIFE_S: Final = 300
    """How old the keys may get before they are fetched again: so long a withdrawn key goes on being accepted."""
    COOLDOWN_S: Final = 30
    """Least time between two fetches; tokens with made-up key names cannot make us knock more often."""
    TIMEOUT_S: Final = 10
    """Longest wait for the provider."""

    def __init__(
        self,
        url: str,
        *,
        allowed: Sequence[str],
        clock: Clock,
        fetch: Callable[[], jwt.PyJWKSet] | None = None,
    ) -> None:
        self.algorithms = frozenset(allowed)
        self._clock = clock
        self._fetch = fetch or partial(jwt.PyJWKClient(url, cache_jwk_set=False, timeout=self.TIMEOUT_S).get_jwk_set)
        self._keys: dict[tuple[str, str | None], _Key | None] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def now(self, algorithm: str, kid: str | None) -> _Key | None:
        """Return the key if it is at hand and fresh."""
        if self._fetched_s is None or self._clock.steady_s() - self._fetched_s >= self.LIFE_S:
            return None
        return self._keys.get((algorithm, kid))

    async def find(self, algorithm: str, kid: str | None) -> _Key | None:
        """Return the key, fetching when the keys are old or do not have it."""
        key = self.now(algorithm, kid)
        if key is not None:
            return key
        tried = self._tried_s
        if tried is None or self._clock.steady_s() - tried >= self.COOLDOWN_S or self._task is not None:
            if self._task is None:
                self._tried_s = self._clock.steady_s()
                self._task = asyncio.create_task(self._refresh(), name="jwks")
            await asyncio.shield(self._task)
        if self._fetched_s is None:
            wait_s = (
                self.COOLDOWN_S if self._tried_s is None else self._tried_s + self.COOLDOWN_S - self._clock.steady_s()
            )
            raise Unavailable(
                "The identity provider's keys cannot be fetched; try again later.", retry_after_s=int(wait_s) + 1
            )
        return self._keys.get((algorithm, kid))

    async def _refresh(self) -> None:
        try:
            found = await asyncio.to_thread(self._fetch)
        except Exception as exc:  # noqa: BLE001 - whatever the provider answers, the keys at hand serve on
            log.warning("identity provider's keys not fetched", extra={"reason": f"{type(exc).__name__}: {exc}"})
        else:
            self._keys = self._sorted(found)
            self._fetched_s = self._clock.steady_s()
        finally:
            self._task = None

    def _sorted(self, found: jwt.PyJWKSet) -> dict[tuple[str, str | None], _Key | None]:
        """Sort the usable keys by algorithm and name; a token without a name may use the only key of its algorithm."""
        keys: dict[tuple[str, str | None], _Key | None] = {}
        for each in found.keys:
            key = _public_key(each.key)
            # A key for encryption, or one that says it is for another algorithm than its kind's, checks nothing here.
            if key is None or key.algorithm not in self.algorithms or each.algorithm_name != key.algorithm:
                continue
            if each.public_key_use not in {"sig", None}:
                continue
            if each.key_id is not None:
                keys[key.algorithm, each.key_id] = key
            keys[key.algorithm, None] = None if (key.algorithm, None) in keys else key
        return keys

    async def close(self) -> None:
        """Wait for a fetch that is under way."""
        if self._task is not None:
            await self._task


# Chapter: how a token comes


class Bearer(msgspec.Struct, frozen=True):
    """A JWT that came with a request. Its text never shows."""

    token: str

    def __repr__(self) -> str:
        """Show nothing of the token."""
        return "Bearer(***)"


class Ticket(msgspec.Struct, frozen=True):
    """A ticket that came with a handshake. Its text never shows."""

    ticket: str

    def __repr__(self) -> str:
        """Show nothing of the ticket."""
        return "Ticket(***)"


SUBPROTOCOL: Final = "orbital.v1"
"""What the server answers to a handshake that offers it (RFC 6455 §1.9)."""


def bearer(authorization: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer …` header (RFC 6750 §2.1), or None when it is none."""
    if authorization is None:
        return None
    scheme, _, token = authorization.strip().partition(" ")
    # RFC 9110 §11.1: the scheme's case does not matter.
    return token.strip() or None if scheme.lower() == "bearer" else None


def credential(*, authorization: str | None, protocols: str | None, query: Mapping[str, str]) -> Bearer | Ticket | None:
    """
    Find what a handshake brings, in the protocol's order: header, subprotocol, ticket, query.

    Args:
        authorization: The header of that name.
        protocols: The header `Sec-WebSocket-Protocol`.
        query: The fields of the address after `?`, the first of each name, percent-decoded.
    """
    token = bearer(authorization)
    if token is not None:
        return Bearer(token)
    for offer in (protocols or "").split(","):
        name = offer.strip()
        if name.startswith("bearer."):
            return Bearer(name.removeprefix("bearer."))
    if query.get("ticket"):
        return Ticket(query["ticket"])
    return Bearer(query["token"]) if query.get("token") else None


# Chapter: tickets


WHOSE_CHARS: Final = 44
"""Characters of `whose`: 33 bytes, of which 22 are a user id's, and none is of the times that follow it."""


def whose(token: str) -> str:
    """
    Return what the payloads of all tokens of a user begin with, as long as the id comes first, as it does in ours.

    A load balancer reads it in a token, whichever way that comes, and in front of a ticket's secret, and so keeps a
    user at one server, without a key and beyond the life of a token.
    """
    return token.split(".")[1][:WHOSE_CHARS]


class Tickets(Protocol):
    """Where tickets wait for their one use; several servers may share it."""

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> None:
        """Keep it for so many seconds."""
        ...

    async def take(self, ticket: str) -> Principal | None:
        """Return who it is for, and forget it in the same step; None when it is not there any more, or never was."""
        ...


class LocalTickets:
    """
    Tickets in this process' memory, at most `MAX_TICKETS`: over that the oldest goes.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def put_now(self, ticket: str, principal: Principal, *, life_s: int) -> None:
        """Keep a ticket, and let go of those whose time is over."""
        now_s = self._clock.steady_s()
        # All live equally long, so the first is the oldest.
        while self._waiting and (len(self._waiting) >= MAX_TICKETS or next(iter(self._waiting.values()))[1] <= now_s):
            self._waiting.popitem(last=False)
        self._waiting[ticket] = (principal, now_s + life_s)

    def take_now(self, ticket: str) -> Principal | None:
        """Return who the ticket is for, once."""
        found = self._waiting.pop(ticket, None)
        if found is None or found[1] <= self._clock.steady_s():
            return None
        return found[0]

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> None:
        """Do as `put_now`."""
        self.put_now(ticket, principal, life_s=life_s)

    async def take(self, ticket: str) -> Principal | None:
        """Do as `take_now`."""
        return self.take_now(ticket)


_: type[Tickets] = LocalTickets

# Chapter: revocation


class Revocations:
    """
    Which tokens were revoked, as of the last look into the store; asked on every use of a token.

    It is asked without waiting, so a revocation made by another process counts from the next `refresh` on.

    Args:
        store: Where revocations are kept.
        clock: The time.
    """

    OVERLAP: Final = 64
    """Numbers read again each time: a transaction with a lower number may have committed after one with a higher."""
    RELOAD_S: Final = 3600
    """How often all are read anew, so that those which the store forgot are forgotten here too."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: set[int] = set()
        self._tokens: set[bytes] = set()
        self._users: dict[UserId, float] = {}
        self._last = 0
        self._loaded_s: float | None = None

    def covers(self, *, token_digest: bytes, user_id: UserId, issued_at_s: float) -> bool:
        """Tell whether a token is revoked: itself, or with all that its user had by then."""
        if token_digest in self._tokens:
            return True
        until_s = self._users.get(user_id)
        return until_s is not None and issued_at_s <= until_s

    async def refresh(self) -> list[Revocation]:
        """
        Look into the store; return what is new since the last look.

        Raises:
            Unavailable: If the database is away; what was known stays known.
        """
        now_s = self._clock.steady_s()
        whole = self._loaded_s is None or now_s - self._loaded_s >= self.RELOAD_S
        found = await self._store.revocations(after=0 if whole else max(0, self._last - self.OVERLAP))
        fresh = [each for each in found if each.number not in self._seen]
        if whole:
            self._tokens, self._users = set(), {}
            self._loaded_s = now_s
        for each in found:
            if each.token_digest is not None:
                self._tokens.add(each.token_digest)
            if each.user_id is not None:
                self._users[each.user_id] = max(each.at_s, self._users.get(each.user_id, each.at_s))
            self._last = max(self._last, each.number)
        self._seen.update(each.number for each in found)
        self._seen = {number for number in self._seen if number >= self._last - self.OVERLAP}
        return fresh


# Chapter: the whole


class Auth:
    """
    Says who a token speaks for, as of now.

    It never keeps a token, and never says of a bad one more than what its owner may know.

    Args:
        store: Where users are entered and revocations kept.
        clock: The time.
        secret: The secret of HS256.
        token_s: How long the tokens made here hold, in seconds.
        outside: The keys of an outside identity provider.
        audience: What the provider's tokens must name in `aud`; None accepts any.
        issuer: What the provider's tokens must have as `iss`; None accepts any.
        tickets: Where tickets wait; this process' memory when left out.
        tell: Hints to other servers that a revocation was stored; there are none when left out.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        secret: bytes,
        token_s: float = 30 * 86_400,
        outside: OutsideKeys | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        tickets: Tickets | None = None,
        tell: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._own = _Secret(secret)
        self._token_s = token_s
        self._outside = outside
        self._audience = audience
        self._issuer = issuer
        self._tickets: Tickets = LocalTickets(clock) if tickets is None else tickets
        self._tell = tell
        self._revocations = Revocations(store, clock)
        self._cache: OrderedDict[bytes, Principal] = OrderedDict()
        self._entering: dict[bytes, asyncio.Task[Principal]] = {}
        self._on_revoked: list[Callable[[], None]] = []

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        store: Store,
        clock: Clock,
        tickets: Tickets | None = None,
        tell: Callable[[], Awaitable[None]] | None = None,
    ) -> Auth:
        """
        Make it as the settings say, reading the secret and the key files.

        Raises:
            SettingsInvalid: If a secret or key cannot be used.
        """
        outside: OutsideKeys | None = None
        pem = config.read_jwt_public_key(settings)
        if pem is not None:
            outside = PemKey(pem, allowed=settings.jwt_algorithms)
        elif settings.jwt_jwks_url is not None:
            outside = JwksKeys(settings.jwt_jwks_url, allowed=settings.jwt_algorithms, clock=clock)
        return cls(
            store=store,
            clock=clock,
            secret=config.read_jwt_secret(settings),
            token_s=settings.token_days * 86_400,
            outside=outside,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            tickets=tickets,
            tell=tell,
        )

    # Public: tokens

    def mint(self, user_id: str, username: str) -> tuple[str, int]:
        """Make a token; return it with the second, since the epoch, at which it ends."""
        now_s = self._clock.wall_ms() // 1000
        expires_at_s = now_s + max(1, round(self._token_s))
        claims = {"userId": user_id, "username": username, "iat": now_s, "exp": expires_at_s}
        return self._own.sign(msgspec.json.encode(claims)), expires_at_s

    def cached(self, token: str) -> Principal | None:
        """
        Return who a token speaks for when it was checked lately and still holds; None says only: ask `verify`.

        Never waits. Expiry and revocation are looked at each time.
        """
        digest = _digest(token)
        principal = self._cache.get(digest)
        if principal is None:
            return None
        if not self.holds(principal):
            del self._cache[digest]
            return None
        self._cache.move_to_end(digest)
        return principal

    async def verify(self, token: str) -> Principal:
        """
        Return who a token speaks for; a user not known yet is entered.

        Of many uses at once of a token not seen before, one checks and enters, and all get its answer.

        Raises:
            Unauthorized: If the token does not hold; the sentence says why.
            Unavailable: If the database or the identity provider is away, so that nobody can tell.
        """
        principal = self.cached(token)
        if principal is not None:
            return principal
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthorized(f"The token is longer than {MAX_TOKEN_CHARS} characters.")
        digest = _digest(token)
        task = self._entering.get(digest)
        if task is None:
            key = self._key_now(token)
            # What needs no waiting is done before a task is made: a forged token costs its signature and no more.
            claims = None if key is None else self._check(key, token, digest)
            task = asyncio.create_task(self._enter(token, digest, claims), name="auth.enter")
            self._entering[digest] = task
            task.add_done_callback(partial(self._entered, digest))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def holds(self, principal: Principal) -> bool:
        """Tell whether a principal's token, once checked, is neither expired nor revoked now."""
        return self._clock.wall_ms() < principal.expires_at_s * 1000 and not self.revoked(principal)

    # Public: revocation

    def revoked(self, principal: Principal) -> bool:
        """Tell whether a principal's token was revoked, as far as is known here."""
        return self._revocations.covers(
            token_digest=principal.token_digest, user_id=principal.user_id, issued_at_s=principal.issued_at_s
        )

    def on_revoked(self, callback: Callable[[], None]) -> None:
        """Have something called after each refresh that brought new revocations: look who of yours is `revoked`."""
        self._on_revoked.append(callback)

    async def refresh(self) -> None:
        """
        Learn of revocations; call it before the first token, every few seconds, and after a revocation.

        Raises:
            Unavailable: If the database is away; what was known stays known.
        """
        if await self._revocations.refresh():
            for callback in self._on_revoked:
                callback()

    async def revoke(self, principal: Principal) -> None:
        """Revoke one token, from now on; other servers are told, and find it when they refresh."""
        await self._store.revoke(
            token_digest=principal.token_digest,
            user_id=None,
            at_s=self._clock.wall_ms() / 1000,
            until_s=principal.expires_at_s,
        )
        await self._revoked()

    async def revoke_user(self, user_id: UserId) -> None:
        """
        Revoke all tokens that a user has by now; a token without `iat` counts as one of them.

        It is kept for ten years, or as long as our own tokens hold if that is longer: nobody knows how long a token
        that another service made is good for.
        """
        now_s = self._clock.wall_ms() / 1000
        until_s = now_s + max(self._token_s, 10 * 365 * 86_400)
        await self._store.revoke(token_digest=None, user_id=user_id, at_s=now_s, until_s=until_s)
        await self._revoked()

    # Public: tickets

    async def issue_ticket(self, principal: Principal, *, token: str = "") -> tuple[str, int]:
        """
        Make a ticket for one handshake; return it with the seconds that it is good for.

        Args:
            principal: Whom it speaks for.
            token: The token that was shown for it; a load balancer will see whose the ticket is.
        """
        ticket = secrets.token_urlsafe(32)
        if token:
            ticket = f"{whose(token)}.{ticket}"
        await self._tickets.put(ticket, principal, life_s=TICKET_S)
        return ticket, TICKET_S

    def redeem_now(self, ticket: str) -> Principal | None:
        """
        Redeem a ticket that waits in this process; None also when tickets wait elsewhere.

        A ticket is used up by being shown, also to a handshake that is then refused.
        """
        if not isinstance(self._tickets, LocalTickets):
            return None
        return self._held(self._tickets.take_now(ticket))

    async def redeem(self, ticket: str) -> Principal | None:
        """Return who a ticket is for, once; None when it is used, too old, unknown, or its token no longer holds."""
        return self._held(await self._tickets.take(ticket))

    async def close(self) -> None:
        """Finish what is under way."""
        await asyncio.gather(*self._entering.values(), return_exceptions=True)
        if isinstance(self._outside, JwksKeys):
            await self._outside.close()

    # Private

    async def _revoked(self) -> None:
        """Have a revocation that is stored now hold, here and elsewhere."""
        if self._tell is not None:
            await self._tell()
        await self.refresh()

    def _held(self, principal: Principal | None) -> Principal | None:
        return principal if principal is not None and self.holds(principal) else None

    def _key_now(self, token: str) -> _Key | None:
        """
        Choose the key by the token's header; None when it has to be fetched.

        Raises:
            Unauthorized: If the header is none, or names an algorithm that is not accepted.
        """
        algorithm, kid = _header(token)
        if algorithm == self._own.algorithm:
            return self._own
        if self._outside is None or algorithm not in self._outside.algorithms:
            raise Unauthorized("The token is signed in a way that is not accepted here.")
        return self._outside.now(algorithm, kid)

    def _check(self, key: _Key, token: str, digest: bytes) -> _Claims:
        """Check everything that can be checked without waiting."""
        claims = _principal_claims(key.open(token), now_s=self._clock.wall_ms() / 1000)
        if key is not self._own:
            self._check_origin(claims)
        if self._revocations.covers(token_digest=digest, user_id=UserId(claims.user_id), issued_at_s=claims.iat):
            raise Unauthorized("The token was revoked; log in again.")
        return claims

    def _check_origin(self, claims: _Claims) -> None:
        """RFC 7519 §4.1.1, §4.1.3: the provider's tokens for others are not for us."""
        if self._issuer is not None and msgspec.json.decode(claims.iss) != self._issuer:
            raise Unauthorized("The token's issuer (iss) is not accepted here.")
        if self._audience is not None:
            audience = msgspec.json.decode(claims.aud)
            if self._audience not in (audience if isinstance(audience, list) else [audience]):
                raise Unauthorized("The token is meant for another service (aud).")

    async def _enter(self, token: str, digest: bytes, claims: _Claims | None) -> Principal:
        """Fetch the key if need be, enter the user, and remember the token."""
        if claims is None:
            algorithm, kid = _header(token)
            if self._outside is None:
                raise AssertionError("_key_now() leaves a key to be fetched only when there is a provider")
            key = await self._outside.find(algorithm, kid)
            if key is None:
                raise Unauthorized("The token is signed with a key that is not known here.")
            claims = self._check(key, token, digest)
        row = await self._store.enter_user(
            user_id=UserId(claims.user_id),
            username=claims.username or claims.user_id,
            at_ms=self._clock.wall_ms(),
        )
        principal = Principal(
            key=row,
            user_id=UserId(claims.user_id),
            username=claims.username or claims.user_id,
            expires_at_s=min(claims.exp, LAST_SECOND),
            issued_at_s=claims.iat,
            token_digest=digest,
        )
        # It may have been revoked, or have ended, while the user was entered.
        if not self.holds(principal):
            raise Unauthorized("The token no longer holds; log in again.")
        while len(self._cache) >= CACHED_TOKENS:
            self._cache.popitem(last=False)
        self._cache[digest] = principal
        return principal

    def _entered(self, digest: bytes, task: asyncio.Task[Principal]) -> None:
        del self._entering[digest]
        if not task.cancelled():
            task.exception()  # seen, also when every caller has gone away


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _header(token: str) -> tuple[str, str | None]:
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
