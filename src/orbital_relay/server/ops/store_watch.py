"""Health check of the database for the readiness probe, and counts of what is stored."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from orbital_relay.ports import Census, Clock
from orbital_relay.server.ops.intervals import COUNT_S

log = logging.getLogger("orbital.server")

ANSWER_S: Final = 2.0
"""Longest wait for the database, as of a readiness check."""


class WatchedStore(Protocol):
    """What is asked of the database."""

    async def ready(self) -> bool:
        """Return whether the database answers and can store."""

    async def census(self) -> Census:
        """Return how much is stored."""


class StoreWatch:
    """
    Asks the database regularly, so that a metric shows its state without a query for each scrape.

    Args:
        store: The database.
        clock: The time.

    Attributes:
        connected: Whether the last question was answered.
        census: The last count; None before the first.
    """

    def __init__(self, store: WatchedStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counted_s = -COUNT_S
        self.connected = True
        self.census: Census | None = None

    async def look(self) -> None:
        """Ask whether the database answers, and log a change; count once in COUNT_S."""
        try:
            async with asyncio.timeout(ANSWER_S):
                connected = await self._store.ready()
        except TimeoutError:
            connected = False
        if connected != self.connected:
            self.connected = connected
            if connected:
                log.warning("the database answers again")
            else:
                log.warning("the database does not answer", extra={"within_s": ANSWER_S})
        now_s = self._clock.steady_s()
        if connected and now_s - self._counted_s >= COUNT_S:
            self._counted_s = now_s
            self.census = await self._store.census()
