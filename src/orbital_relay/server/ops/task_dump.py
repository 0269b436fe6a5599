"""Task dump on SIGUSR1: log what every task of the event loop waits for."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

log = logging.getLogger("orbital.tasks")

DUMPED_TASKS: Final = 200
"""Tasks that are listed one by one; of the rest only the number by name is logged."""


def dump_tasks() -> None:
    """Log one line for each task of the running loop: its name and where it waits; no argument or local variable."""
    tasks = asyncio.all_tasks()
    named = Counter(_kind(task) for task in tasks)
    # A warning, so that it is written whatever the level is: somebody asked for it.
    log.warning("tasks", extra={"count": len(tasks), "by_name": dict(named.most_common(50))})
    for task in sorted(tasks, key=asyncio.Task.get_name)[:DUMPED_TASKS]:
        log.warning("task", extra={"task": task.get_name(), "waits_at": _place(task)})


def _kind(task: asyncio.Task[object]) -> str:
    name = task.get_name()
    # asyncio numbers the tasks that nobody named.
    return "Task" if name.startswith("Task-") else name


def _place(task: asyncio.Task[object]) -> str:
    return " < ".join(
        f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
        for frame in reversed(task.get_stack(limit=8))
    )
