"""The keys at an identity provider's address: fetched when they are needed, kept, and fetched again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import jwt

from orbital_relay.errors import Unavailable
from orbital_relay.ports import Clock
from orbital_relay.server.auth.keys import Key, public_key

log = logging.getLogger("orbital.auth")


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
        self._keys: dict[tuple[str, str | None], Key | None] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def now(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key if it is at hand and fresh."""
        if self._fetched_s is None or self._clock.steady_s() - self._fetched_s >= self.LIFE_S:
            return None
        return self._keys.get((algorithm, kid))

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
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
        """Wait for a fetch that is under way."""
        if self._task is not None:
            await self._task
