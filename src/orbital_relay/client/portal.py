"""
The client for synchronous programs and threads: its event loop runs in a thread of its own.

    with Portal("http://localhost:3000", token=token) as portal:
        portal.send(group_id, ciphertext)
        for event in portal.subscribe(group_id, since=0):
            print(event.seq, event.type)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from orbital_relay.client import responses
from orbital_relay.client.errors import Closed
from orbital_relay.client.events import CaughtUp, Event, Position, Reset
from orbital_relay.client.orbital import Orbital
from orbital_relay.client.subscription import Subscription

T = TypeVar("T")


class Portal:
    """
    An `Orbital` that blocks: every method may be called from any thread, and returns when the work is done.

    What it does not have of its own goes through `run`. A portal never runs the program's code in its own thread, apart
    from the functions that are passed to `run`.

        groups = portal.run(lambda orbital: orbital.api.groups())
    """

    def __init__(self, url: str, **options: Any) -> None:
        """
        Connect nothing yet; `with` or `open` does.

        Args:
            url: The server's address.
            options: Those of `connect`.

        Raises:
            ValueError: If `url` is not an address, or an option has a value that it cannot have.
        """
        self._orbital = Orbital(url, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._opened = False

    def open(self) -> Self:
        """
        Start the thread and connect.

        Raises:
            Refused, NotConnected, StoreDamaged, StoreInUse: As `Orbital.open` does.
            RuntimeError: If it is open already.
        """
        if self._opened:
            raise RuntimeError("A portal can be opened only once; create another one.")
        self._opened = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="orbital-portal", daemon=True)
        self._thread.start()
        try:
            self._wait(self._orbital.open())
        except BaseException:
            self._stop()
            raise
        return self

    def close(self) -> None:
        """Close the client and end the thread; a second call does nothing."""
        if self._thread is not None and self._thread.is_alive():
            try:
                self._wait(self._orbital.close())
            finally:
                self._stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, work: Callable[[Orbital], Awaitable[T]]) -> T:
        """
        Run a coroutine function with the client, in the portal's loop, and return its result.

        Args:
            work: Called in the portal's thread; it must not block.

        Raises:
            Closed: If the portal is not open.
        """

        async def inside() -> T:
            return await work(self._orbital)

        return self._wait(inside())

    def subscribe(
        self, group_id: str, *, since: int | Position | None = None, marks: bool = False
    ) -> PortalSubscription:
        """Subscribe to a group; see `Orbital.subscribe`."""

        async def inside() -> Subscription:
            return self._orbital.subscribe(group_id, since=since, marks=marks)

        return PortalSubscription(self, self._wait(inside()))

    def send(
        self, group_id: str, encrypted_envelope: bytes | str, *, idempotency_key: str | None = None
    ) -> responses.MessageSent:
        """Post a message; returns when the server has it, however long that takes."""
        return self._wait(self._orbital.send(group_id, encrypted_envelope, idempotency_key=idempotency_key))

    # Private

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            work.close()
            raise Closed("The portal is not open: write `with Portal(...) as portal:`.")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("The portal's own thread cannot wait for itself; use `await` there.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as exc:
            raise Closed("The portal was closed during the call.") from exc
        except BaseException:
            future.cancel()  # Ctrl-C in the waiting thread.
            raise

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


class PortalSubscription:
    """
    One group's events as an iterator that blocks; see `Subscription`, which it stands for.

    An event counts as handled when the next one is asked for, or by `commit`.
    """

    def __init__(self, portal: Portal, subscription: Subscription) -> None:
        self._portal = portal
        self._subscription = subscription

    @property
    def group_id(self) -> str:
        """The group."""
        return self._subscription.group_id

    @property
    def position(self) -> Position | None:
        """The position after the last event that was handled; None before the first."""
        return self._subscription.position

    @property
    def ended(self) -> str | None:
        """Why the stream is over; None while it is not."""
        return self._subscription.ended

    def ready(self) -> int | None:
        """Wait until the server has confirmed the subscription."""
        return self._portal.run(lambda _: self._subscription.ready())

    def next(self, timeout_s: float | None = None) -> Event | Reset | CaughtUp | None:
        """
        Wait for the next item.

        Args:
            timeout_s: How long, seconds; None for as long as it takes.

        Returns:
            The item; None when there was none in that time, or the stream is over (`ended` says which).
        """

        async def inside(_: Orbital) -> Event | Reset | CaughtUp | None:
            try:
                async with asyncio.timeout(timeout_s):
                    return await anext(self._subscription)
            except (TimeoutError, StopAsyncIteration):
                return None

        return self._portal.run(inside)

    def commit(self) -> None:
        """Count the event that was yielded last as handled, and save the position."""
        self._portal.run(lambda _: self._subscription.commit())

    def close(self) -> None:
        """Unsubscribe; the position is saved."""
        self._portal.run(lambda _: self._subscription.close())

    def __enter__(self) -> Self:
        self.ready()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.commit()
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Reset | CaughtUp:
        item = self.next()
        if item is None:
            raise StopIteration
        return item
