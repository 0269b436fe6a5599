"""What uploads and downloads share: progress, and the retry of a chunk with its wait."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from orbital_relay.client.errors import ApiError, Unreachable
from orbital_relay.client.http import AWAITED_MOST_S
from orbital_relay.core.backoff import Backoff

T = TypeVar("T")

PathLike = os.PathLike[str]

OnTransfer = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all."""

TRIES: Final = 8
"""Failures in a row, about three minutes with back-off, before a transfer fails; it can be resumed."""


def may_pass(error: ApiError | Unreachable) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, Unreachable) or error.retryable


async def tried(request: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
    """
    Make a request that may be repeated, until it is answered.

    Raises:
        ApiError: If the server refuses it, or is in trouble for too long.
        Unreachable: If there is no answer of the server's for too long.
    """
    failures = 0
    while True:
        try:
            return await request()
        except (ApiError, Unreachable) as exc:
            if not may_pass(exc) or failures + 1 >= TRIES:
                raise
            await pause(backoff, failures, exc)
        failures += 1


async def pause(backoff: Backoff, failures: int, error: ApiError | Unreachable) -> None:
    """Wait before the next try, for five minutes and a random time at most: somebody waits for the transfer."""
    retry_after_ms = round(min(error.retry_after_s or 0, AWAITED_MOST_S) * 1_000)
    delay_ms = backoff.delay_ms(failures, random=random.random(), now_ms=0, retry_after_ms=retry_after_ms)  # noqa: S311 - spreads load, hides nothing
    await asyncio.sleep(delay_ms / 1_000)
