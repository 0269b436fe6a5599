"""Periodic jobs: repeat a job at an interval, and retry it after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from orbital_relay.errors import OrbitalError

log = logging.getLogger("orbital.server")


async def repeat(work: Callable[[], object], every_s: float, *, sooner: asyncio.Event | None = None) -> None:
    """
    Repeat a job forever; a failed run, such as during an outage of the database, is retried at the next one.

    Args:
        work: The job; runs never overlap.
        every_s: The interval in seconds.
        sooner: Set it to run the job now; set several times during a run, it causes one more run.
    """
    sooner = asyncio.Event() if sooner is None else sooner
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await sooner.wait()
        sooner.clear()
        try:
            result = work()
            if asyncio.iscoroutine(result):
                await result
        except OrbitalError as exc:
            log.warning("a periodic job failed and will be retried", extra={"reason": exc.message})
        except Exception:
            # An internal bug. Without the next run, revocations would no longer be noticed, for example.
            log.exception("a periodic job raised")


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel jobs, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
