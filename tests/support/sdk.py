"""The Python SDK against the small server of `fake.py`: a client that tries again quickly, and waits for facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orbital_relay.client import Orbital, Subscription, connect
from orbital_relay.core.backoff import Backoff
from tests.support.fake import FakeServer

FAST = Backoff(steps_ms=(5, 10, 20), jitter_ms=5, attempts=1_000, window_ms=1_000)
"""The rule with times for tests."""


def client(server: FakeServer, **options: Any) -> Orbital:
    """Make a client that tries again quickly."""
    return connect(server.url, **{"token": "t", "transport": server.transport, "backoff": FAST, **options})


async def read(subscription: Subscription, count: int) -> list[int]:
    """Read so many items; give their numbers."""
    async with asyncio.timeout(60):
        return [(await anext(subscription)).seq for _ in range(count)]


def signals_of(orbital: Orbital, kind: type[Any]) -> asyncio.Queue[Any]:
    """Collect the signals of a kind."""
    found: asyncio.Queue[Any] = asyncio.Queue()
    orbital.on(kind, found.put)
    return found


async def when(found: asyncio.Queue[Any], fact: Callable[[Any], bool] = lambda _: True) -> Any:
    """Wait for a signal of which something is so."""
    async with asyncio.timeout(60):
        while not fact(signal := await found.get()):
            pass
        return signal
