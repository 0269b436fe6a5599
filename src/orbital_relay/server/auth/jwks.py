"""Public keys from an identity provider's JWKS address: fetched on demand, cached, and refreshed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import httpx
import jwt
import msgspec

from orbital_relay.errors import Unavailable
from orbital_relay.ports import Clock
from orbital_relay.server.auth.keys import Key, public_key

log = logging.getLogger("orbital.auth")

SET_BYTES: Final = 1024 * 1024
"""Most bytes of a JWK set; a provider's with ten RSA keys and their certificates has some 30 kB."""


class JwksKeys:
    """
    The keys at an address (RFC 7517), fetched when needed, kept, and fetched again when they may have changed.

    However many tokens come, there is one fetch at a time and at most one in `COOLDOWN_S`. Keys once fetched are used
    while the provider is unreachable or slow. It never follows a redirect.

    Args:
        url: The address.
        allowed: Algorithms that the settings accept.
        clock: The time.
        fetch: Returns the JWK set; `fetch_set` unless a test brings its own.
    """

    LIFE_S: Final = 300
    """How old the keys may get before they are fetched again: so long a removed key is accepted."""
    AHEAD_S: Final = 60
    """How long before that end they are fetched in the background, so that no request waits for a provider."""
    COOLDOWN_S: Final = 30
    """Least time between two fetches: tokens with made-up key names cause no more requests to the provider."""
    TIMEOUT_S: Final = 10
    """Deadline of a whole fetch, from the name look-up to the last byte."""
    PATIENCE_S: Final = 2
    """How long a fetch is waited for if an old key is cached."""

    def __init__(
        self,
        url: str,
        *,
        allowed: Sequence[str],
        clock: Clock,
        fetch: Callable[[], Awaitable[jwt.PyJWKSet]] | None = None,
    ) -> None:
        self.algorithms = frozenset(allowed)
        self._clock = clock
        self._fetch = fetch or partial(fetch_set, url)
        self._keys: dict[tuple[str, str | None], Key | None] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def now(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key if it is cached and fresh; start a fetch before it expires."""
        if self._fetched_s is None:
            return None
        age_s = self._clock.steady_s() - self._fetched_s
        if age_s >= self.LIFE_S:
            return None
        if age_s >= self.LIFE_S - self.AHEAD_S:
            self._start()
        return self._keys.get((algorithm, kid))

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key, fetching when the keys are old or do not have it."""
        key = self.now(algorithm, kid)
        if key is not None:
            return key
        self._start()
        if self._task is not None:
            cached = self._keys.get((algorithm, kid)) is not None
            # The wait is per fetch, not per token: two seconds after its start no caller with a cached key waits.
            since_s = self._clock.steady_s() - (self._tried_s or 0)
            await asyncio.wait([self._task], timeout=max(0, self.PATIENCE_S - since_s) if cached else None)
        if self._fetched_s is None:
            wait_s = (
                self.COOLDOWN_S if self._tried_s is None else self._tried_s + self.COOLDOWN_S - self._clock.steady_s()
            )
            raise Unavailable(
                "The identity provider's keys cannot be fetched; try again later.", retry_after_s=int(wait_s) + 1
            )
        return self._keys.get((algorithm, kid))

    def _start(self) -> None:
        """Start a fetch, unless one is in progress or was tried lately."""
        now_s = self._clock.steady_s()
        if self._task is None and (self._tried_s is None or now_s - self._tried_s >= self.COOLDOWN_S):
            self._tried_s = now_s
            self._task = asyncio.create_task(self._refresh(), name="jwks")

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self.TIMEOUT_S):
                found = await self._fetch()
            keys = self._sorted(found)
        except Exception as exc:  # noqa: BLE001 - whatever the provider answers, the cached keys are used
            log.warning(
                "the identity provider's keys could not be fetched", extra={"reason": f"{type(exc).__name__}: {exc}"}
            )
        else:
            self._keys = keys
            self._fetched_s = self._clock.steady_s()
        finally:
            self._task = None

    def _sorted(self, found: jwt.PyJWKSet) -> dict[tuple[str, str | None], Key | None]:
        """Sort the usable keys by algorithm and name; a token without a name may use the only key of its algorithm."""
        keys: dict[tuple[str, str | None], Key | None] = {}
        for each in found.keys:
            key = public_key(each.key)
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
        """Cancel a fetch that is in progress: a shutdown does not wait for the provider."""
        if self._task is not None:
            task = self._task
            task.cancel()
            await asyncio.wait([task])


async def fetch_set(url: str) -> jwt.PyJWKSet:
    """
    Fetch a JWK set, with no deadline of its own.

    Raises:
        httpx.HTTPError: If the provider cannot be reached, or does not answer 200.
        ValueError: If the answer is over `SET_BYTES`, or not a JSON object.
        jwt.PyJWTError: If it holds no usable key.
    """
    # The system's certificates, as a provider inside a company has one of its own; reading them takes some 20 ms.
    tls = await asyncio.to_thread(ssl.create_default_context)
    body = bytearray()
    # A compressed answer could be of any size once inflated, so it is asked for as it is.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    # The deadline is on the whole, not on each read: a server that sends a byte a second would never meet that.
    async with (
        httpx.AsyncClient(verify=tls, timeout=None) as client,  # noqa: S113 - JwksKeys.TIMEOUT_S
        client.stream("GET", url, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise httpx.HTTPStatusError(f"status {answer.status_code}", request=answer.request, response=answer)
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > SET_BYTES:
                raise ValueError(f"the answer is over {SET_BYTES} bytes")
    return jwt.PyJWKSet.from_dict(msgspec.json.decode(bytes(body), type=dict))
