"""Subscribers to signals: callbacks, and the queue in front of each."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from orbital_relay.client.events import Problem, Signal
from orbital_relay.client.user_code import await_user_code

log = logging.getLogger("orbital.client")

S = TypeVar("S", bound=Signal)

SIGNALS: Final = 1_000
"""Signals that wait for slow callbacks; the oldest go first, since a newer one says more."""


class Signals:
    """
    The callbacks of a program, called one after the other by a task of their own.

    What a callback raises does not affect the client, and a slow callback delays only the other callbacks.
    """

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Any], Callable[[Any], Any]]] = []
        self._waiting: deque[Signal] = deque(maxlen=SIGNALS)
        self._arrived = asyncio.Event()
        self._closed = False

    def on(self, kind: type[S], callback: Callable[[S], Awaitable[None] | None]) -> Callable[[], None]:
        """Call back for each signal of a kind; the function that is returned ends it."""
        entry = (kind, callback)
        self._listeners.append(entry)

        def off() -> None:
            with suppress(ValueError):
                self._listeners.remove(entry)

        return off

    def notify(self, signal: Signal) -> None:
        """Enqueue this for the callbacks, behind the signals that they have not received yet."""
        if isinstance(signal, Problem):
            log.warning("problem %s: %s", signal.code, signal.message)
        if len(self._waiting) == SIGNALS:
            log.warning("a callback is slow: the oldest of %d signals was dropped", SIGNALS)
        self._waiting.append(signal)
        self._arrived.set()

    async def dispatch(self) -> None:
        """Call the listeners, until it is closed."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                signal = self._waiting.popleft()
                for kind, callback in list(self._listeners):
                    if isinstance(signal, kind):
                        await self.call(callback, signal)
                    if self._closed:
                        return

    def close(self) -> None:
        """Call nobody any more, once the callback that runs has returned."""
        self._closed = True

    async def call(self, callback: Callable[[Any], Any], argument: object) -> None:
        """Call a callback; what it raises is reported as a Problem."""
        try:
            result = callback(argument)
            if inspect.isawaitable(result):
                await await_user_code(result)
        except Exception as exc:
            log.exception("a callback raised")
            # A callback for problems that raises must not make more of them.
            if not isinstance(argument, Problem):
                self.notify(Problem(code="CALLBACK", message=f"A callback raised {exc!r}."))
