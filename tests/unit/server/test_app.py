"""The composition root: what comes round goes on coming round."""

from __future__ import annotations

import asyncio
import logging

import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.server.ops.periodic import repeat


class Work:
    """A job that raises the given exceptions, then succeeds; it counts its runs."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.done = 0
        self.well = asyncio.Event()

    async def __call__(self) -> None:
        self.done += 1
        if self._failures:
            raise self._failures.pop(0)
        self.well.set()


async def _repeat(work: Work, *, every_s: float, sooner: asyncio.Event | None = None) -> asyncio.Task[None]:
    return asyncio.create_task(repeat(work, every_s, sooner=sooner))


async def test_a_job_runs_again_after_a_failure(caplog: pytest.LogCaptureFixture):
    """
    [CLUSTER20] A periodic job runs again after any failure, which is logged: as an error unless it was an outage.

    One mistake ended it in silence, and no revocation made elsewhere was looked for any more.
    """
    work = Work(Unavailable("away"), LookupError("a mistake"))
    task = await _repeat(work, every_s=0)

    async with asyncio.timeout(60):
        await work.well.wait()

    task.cancel()
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


async def test_a_job_is_requested_early():
    """[CLUSTER21] A job that is requested early runs at once; several requests during a run are one more run."""
    work, sooner = Work(), asyncio.Event()
    task = await _repeat(work, every_s=3600, sooner=sooner)
    for _ in range(5):
        sooner.set()

    async with asyncio.timeout(60):
        await work.well.wait()
    for _ in range(5):
        await asyncio.sleep(0)

    task.cancel()
    assert work.done == 1
