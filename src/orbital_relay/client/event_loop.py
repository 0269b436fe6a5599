"""The event loop that a client belongs to."""

from __future__ import annotations

import asyncio


class LoopBinding:
    """
    Binds an object to the event loop of its first use.

    Locks, tasks and connections of asyncio work in one loop only. Used from another thread or loop they wait for ever,
    and leave the object broken for its own loop; so that use is an error.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """
        Return the running loop, and remember the first one.

        Raises:
            RuntimeError: If no loop runs in this thread, or another one than before.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "This client was called where no event loop runs. Call it from a coroutine of its own loop; "
                "threads and synchronous programs use orbital_relay.client.Portal."
            ) from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "This client belongs to another event loop (asyncio.run() starts a new one each time). Make one client "
                "in each loop; threads and synchronous programs use orbital_relay.client.Portal."
            )
        return loop
