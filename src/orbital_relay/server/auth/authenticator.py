"""
Authentication of a token: verification, the cache of verified tokens with its eviction, and revocation.

A token is a JWT (RFC 7519). Which key checks it follows from its `alg`:

    HS256                 the server's own secret: tokens of signups and logins, and of services that share the secret
    RS256, ES256, EdDSA   an outside identity provider's public keys: a PEM file, or the address of a JWK set

No token is kept: what the cache knows is its SHA-256. No text or repr made here contains one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from orbital_relay import config
from orbital_relay.config import Settings
from orbital_relay.core.refusals import token_ended
from orbital_relay.errors import Unauthorized
from orbital_relay.model import Principal, UserId
from orbital_relay.ports import Clock, Store
from orbital_relay.server.auth.keys import Key, OutsideKeys, PemKey, SecretKey
from orbital_relay.server.auth.revocations import Revocations
from orbital_relay.server.auth.tickets import TICKET_S, LocalTickets, Tickets, whose
from orbital_relay.server.auth.tokens import (
    GENERATION,
    LOGIN,
    Claims,
    digest_of,
    login_digest_of,
    read_claims,
    read_header,
)

MAX_TOKEN_CHARS: Final = 8192
"""Longest token that is looked at; a provider's with many claims has some 2,000."""
CACHED_TOKENS: Final = 10_000
"""Cached verified tokens, some 500 bytes each; a cache hit takes 1.5 µs, a verification 0.1 ms."""
LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, the last that RFC 3339 can write; a token that ends later is good until then."""


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
        notify: Notifies other servers that a revocation was stored; None without other servers.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        secret: bytes,
        accepted: bytes | None = None,
        token_s: float = 30 * 86_400,
        outside: OutsideKeys | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        tickets: Tickets | None = None,
        notify: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._own = SecretKey(secret, accepted)
        self.token_s = token_s
        self._outside = outside
        self._audience = audience
        self._issuer = issuer
        self._tickets: Tickets = LocalTickets(clock) if tickets is None else tickets
        self._notify = notify
        self._revocations = Revocations(store, clock)
        self._cache: OrderedDict[bytes, Principal] = OrderedDict()
        self._entering: dict[bytes, asyncio.Task[Principal]] = {}
        self._on_revoked: list[Callable[[], None]] = []
        self.seen: set[int] = set()
        """Row numbers of users whose tokens were used; `LastSeen` empties it."""
        self.seen_logins: set[str] = set()
        """Ids of logins whose tokens were used; `LastSeen` empties it."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        store: Store,
        clock: Clock,
        tickets: Tickets | None = None,
        notify: Callable[[], Awaitable[None]] | None = None,
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
            # It brings an HTTP client, which a server without an identity provider never needs.
            from orbital_relay.server.auth.jwks import JwksKeys  # noqa: PLC0415

            outside = JwksKeys(settings.jwt_jwks_url, allowed=settings.jwt_algorithms, clock=clock)
        return cls(
            store=store,
            clock=clock,
            secret=config.read_jwt_secret(settings),
            accepted=config.secret_bytes(settings.jwt_secret_accepted),
            token_s=settings.token_days * 86_400,
            outside=outside,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            tickets=tickets,
            notify=notify,
        )

    # Public: tokens

    def mint(self, user_id: str, username: str, *, login_id: str | None = None) -> tuple[str, int]:
        """
        Make a token, without waiting; return it with the second, since the epoch, at which it ends.

        Each token has an id of its own (`jti`, RFC 7519 §4.1.7), so that no two are alike. A revocation of the user
        that is not known here yet ends it; see `Logins`.
        """
        now_s = self._clock.wall_ms() // 1000
        expires_at_s = now_s + max(1, round(self.token_s))
        claims = {
            "userId": user_id,
            "username": username,
            "iat": now_s,
            "exp": expires_at_s,
            "jti": secrets.token_urlsafe(12),
            GENERATION: self._revocations.generation_of(UserId(user_id)),
        }
        if login_id is not None:
            claims[LOGIN] = login_id
        return self._own.sign(msgspec.json.encode(claims)), expires_at_s

    def cached(self, token: str) -> Principal | None:
        """
        Return who a token speaks for when it was checked lately and still holds; None says only: ask `verify`.

        Never waits. Expiry and revocation are looked at each time.
        """
        digest = digest_of(token)
        principal = self._cache.get(digest)
        if principal is None:
            return None
        if not self.holds(principal):
            del self._cache[digest]
            return None
        self._cache.move_to_end(digest)
        self.seen.add(principal.key)
        self.seen_logins.add(principal.login_id)
        return principal

    async def verify(self, token: str) -> Principal:
        """
        Return who a token speaks for; a user not known yet is entered.

        Of many uses at once of a token not seen before, one checks and enters, and all get its answer.

        Raises:
            Unauthorized: If the token is invalid; the message says why.
            AccountDisabled: If its user's account is disabled.
            Unavailable: If the database or the identity provider cannot be reached.
        """
        principal = self.cached(token)
        if principal is not None:
            return principal
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthorized(f"The token is longer than {MAX_TOKEN_CHARS} characters.")
        digest = digest_of(token)
        task = self._entering.get(digest)
        if task is None:
            key = self._key_now(token)
            # What needs no waiting is done before a task is made: a forged token costs its signature and no more.
            claims = None if key is None else self._check(key, token, digest)
            task = asyncio.create_task(self._enter(token, digest, claims), name="auth.enter")
            self._entering[digest] = task
            task.add_done_callback(partial(self._entered, digest))
        # If one caller is cancelled, the others still get the answer.
        return await asyncio.shield(task)

    def holds(self, principal: Principal) -> bool:
        """Return whether a principal's token, checked before, is still neither expired nor revoked."""
        return self._clock.wall_ms() < principal.expires_at_s * 1000 and not self.revoked(principal)

    # Public: revocation

    def revoked(self, principal: Principal) -> bool:
        """Return whether a principal's token was revoked, as far as this server knows."""
        return self._revocations.covers(
            token_digest=principal.token_digest,
            user_id=principal.user_id,
            issued_at_s=principal.issued_at_s,
            generation=principal.generation,
            login_digest=principal.login_digest,
        )

    def on_revoked(self, callback: Callable[[], None]) -> None:
        """Have something called after each refresh that brought new revocations: look who of yours is `revoked`."""
        self._on_revoked.append(callback)

    async def refresh(self) -> None:
        """
        Learn of revocations; call it before the first token, every few seconds, and after a revocation.

        Raises:
            Unavailable: If the database cannot be reached; what was known stays known.
        """
        if await self._revocations.refresh():
            for callback in self._on_revoked:
                callback()

    def forget(self) -> None:
        """Trust nothing that was remembered of the database: it has gone back, and row numbers may be others' now."""
        self._cache.clear()
        self._revocations.forget()

    async def revoke(self, principal: Principal) -> None:
        """Revoke one token from now on; other servers are notified and see it at their next refresh."""
        await self._store.revoke(
            token_digest=principal.token_digest,
            user_id=None,
            at_s=self._clock.wall_ms() / 1000,
            until_s=principal.expires_at_s,
        )
        await self.announce_revoked()

    async def revoke_user(self, user_id: UserId) -> None:
        """
        Revoke all tokens that a user has by now, also those without `iat` or with one ahead; see `Revocations`.

        It is kept for ten years, or as long as our own tokens hold if that is longer: nobody knows how long a token
        that another service made is good for.
        """
        now_s = self._clock.wall_ms() / 1000
        until_s = now_s + max(self.token_s, 10 * 365 * 86_400)
        await self._store.revoke(token_digest=None, user_id=user_id, at_s=now_s, until_s=until_s)
        await self.announce_revoked()

    async def announce_revoked(self) -> None:
        """Have a revocation that is stored now hold, here and elsewhere."""
        if self._notify is not None:
            await self._notify()
        await self.refresh()

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
        return await self._tickets.put(ticket, principal, life_s=TICKET_S), TICKET_S

    def redeem_now(self, ticket: str) -> Principal | None:
        """
        Redeem a ticket that waits in this process; None also when tickets wait elsewhere.

        A ticket is used up by being shown, also to a handshake that is then refused.
        """
        if not isinstance(self._tickets, LocalTickets):
            return None
        return self._held(self._tickets.take_now(ticket))

    async def redeem(self, ticket: str) -> Principal | None:
        """Return who a ticket is for, once; None when it is used, too old, unknown, or its token is no longer valid."""
        return self._held(await self._tickets.take(ticket))

    async def close(self) -> None:
        """Finish what is in progress; a fetch from the identity provider is cancelled."""
        if self._outside is not None:
            await self._outside.close()
        await asyncio.gather(*self._entering.values(), return_exceptions=True)

    # Private

    def _held(self, principal: Principal | None) -> Principal | None:
        return principal if principal is not None and self.holds(principal) else None

    def _key_now(self, token: str) -> Key | None:
        """
        Choose the key by the token's header; None when it has to be fetched.

        Raises:
            Unauthorized: If the header is none, or names an algorithm that is not accepted.
        """
        algorithm, kid = read_header(token)
        if algorithm == self._own.algorithm:
            return self._own
        if self._outside is None or algorithm not in self._outside.algorithms:
            raise Unauthorized("The token's signature algorithm is not accepted here.")
        return self._outside.now(algorithm, kid)

    def _check(self, key: Key, token: str, digest: bytes) -> Claims:
        """Check everything that can be checked without waiting."""
        claims = read_claims(key.open(token), now_s=self._clock.wall_ms() / 1000)
        if key is not self._own:
            self._check_origin(claims)
            # Only this server's own word says by which revocation, and of which login, a token was made.
            claims.generation = claims.login = None
        if self._revocations.covers(
            token_digest=digest,
            user_id=UserId(claims.user_id),
            issued_at_s=claims.iat,
            generation=claims.generation,
            login_digest=b"" if claims.login is None else login_digest_of(claims.login),
        ):
            raise Unauthorized("The token was revoked; log in again.")
        return claims

    def _check_origin(self, claims: Claims) -> None:
        """RFC 7519 §4.1.1, §4.1.3: the provider's tokens for others are not for us."""
        if self._issuer is not None and msgspec.json.decode(claims.iss) != self._issuer:
            raise Unauthorized("The token's issuer (iss) is not accepted here.")
        if self._audience is not None:
            audience = msgspec.json.decode(claims.aud)
            if self._audience not in (audience if isinstance(audience, list) else [audience]):
                raise Unauthorized("The token is meant for another service (aud).")

    async def _enter(self, token: str, digest: bytes, claims: Claims | None) -> Principal:
        """Fetch the key if need be, enter the user, and remember the token."""
        if claims is None:
            algorithm, kid = read_header(token)
            if self._outside is None:
                raise AssertionError("_key_now() leaves a key to be fetched only when there is a provider")
            key = await self._outside.find(algorithm, kid)
            if key is None:
                raise Unauthorized("The token is signed with an unknown key.")
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
            generation=claims.generation,
            login_id=claims.login or "",
            login_digest=b"" if claims.login is None else login_digest_of(claims.login),
        )
        # It may have been revoked, or have ended, while the user was entered.
        if not self.holds(principal):
            raise token_ended()
        while len(self._cache) >= CACHED_TOKENS:
            self._cache.popitem(last=False)
        self._cache[digest] = principal
        self.seen.add(row)
        self.seen_logins.add(principal.login_id)
        return principal

    def _entered(self, digest: bytes, task: asyncio.Task[Principal]) -> None:
        del self._entering[digest]
        if not task.cancelled():
            task.exception()  # retrieved, also if every caller was cancelled
