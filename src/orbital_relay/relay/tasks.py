"""Background tasks of the relay: each has an owner, and a failure is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger("orbital.relay")


class TaskSet:
    """
    Runs tasks until they end or the set is closed.

    A failed task is logged with its traceback, and no other task ends with it.
    """

    def __init__(self) -> None:
        """Make an empty set, whose tasks run on the current event loop."""
        self.running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def spawn(self, coroutine: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Start a task; the log shows its name if it fails."""
        task = self._loop.create_task(coroutine, name=name)
        self.running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel the tasks that run, and wait until each has ended."""
        for task in list(self.running):
            task.cancel()
        if self.running:
            await asyncio.gather(*self.running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the relay failed", exc_info=error, extra={"task": task.get_name()})
