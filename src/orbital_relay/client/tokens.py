"""The caller's token: fixed, or from a function that is called again (token renewal)."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final

from orbital_relay.client.user_code import await_user_code

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that returns one, called again when the last one is no longer valid."""


class Tokens:
    """
    The caller's token.

    It is kept while it holds. Several requests that are refused at once call the token function once.
    """

    def __init__(self, source: TokenSource | None) -> None:
        self._source = source
        self._token: str | None = _checked(source) if isinstance(source, str) else None
        self._lock = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether there is a function to ask."""
        return not isinstance(self._source, str | None)

    async def get(self) -> str | None:
        """Return the token; None when there is none."""
        if self._token is None and self._source is not None:
            await self.renew(None)
        return self._token

    def discard(self, used: str | None) -> None:
        """Forget a token that the server has refused, so that the next `get` calls the function."""
        if self.renewable and self._token == used:
            self._token = None

    async def renew(self, used: str | None) -> bool:
        """
        Get a newer token than the one that was used.

        Args:
            used:The token that is no longer valid; None if there was none.

        Returns:
            Whether there is another one now.

        Raises:
            Exception: Whatever the token function raises.
        """
        async with self._lock:
            if self._token is not None and self._token != used:
                return True
            if self._source is None or isinstance(self._source, str):
                return False
            given = self._source()
            token = await await_user_code(given) if inspect.isawaitable(given) else given
            if not token:
                raise ValueError("The token function returned an empty token.")
            if token == used:
                return False
            self._token = _checked(token)
            return True


_TOKEN: Final = re.compile(r"[!-~]*")


def _checked(token: str) -> str:
    """Refuse a token that would break the header; the error text does not hold the token."""
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(
            "The token holds a character that no token has, such as a space, a line break at its end, or a letter "
            "beyond ASCII."
        )
    return token


def renewal_moments_s(life_s: float) -> tuple[float, ...]:
    """
    Return when to ask for a newer token, seconds from the start of a life.

    At three quarters, and twice shortly before the end: a function that caches its token may renew it only in the last
    seconds, and one that fails needs a second chance.

    Args:
        life_s: How long the present token still holds, seconds.
    """
    return (life_s * 0.75, life_s - min(30.0, life_s * 0.15), life_s - min(10.0, life_s * 0.08))
