"""Await user code (callbacks, token functions, stores), so that its cancellation does not cancel the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def await_user_code(work: Awaitable[T]) -> T:
    """
    Wait for other people's code.

    Raises:
        RuntimeError: If it was cancelled, and we were not: it waited for a task of its own that was. The task of ours
            that called it must not end for that.
    """
    try:
        return await work
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("it cancelled itself") from exc
