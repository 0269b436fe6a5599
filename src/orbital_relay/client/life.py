"""
The life cycle of a client: opens, keeps its connection, carries out effects, and closes.

It carries out what the conversation (`protocol/`) decides: what the program reads lies in bounded buffers
(`readers.py`, `subscription.py`), and what does not fit there is read from the log later.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

import httpx

from orbital_relay.client.api import Api
from orbital_relay.client.clocks import now_ms
from orbital_relay.client.connection import CLOSE_S, ReconnectingConnection
from orbital_relay.client.errors import Closed, NotConnected
from orbital_relay.client.events import (
    CaughtUp,
    NewThread,
    Reset,
    State,
    StateChange,
    StreamItem,
)
from orbital_relay.client.http import REQUEST_TIMEOUT_S
from orbital_relay.client.outbox import Outbox
from orbital_relay.client.protocol.conversation import ClientProtocol
from orbital_relay.client.protocol.effects import (
    Deliver,
    Ended,
    Fetch,
    Notify,
    Opened,
    ProtocolEffect,
    Reconnect,
    RenewToken,
    Send,
    SubscriptionConfirmed,
    TokenRenewed,
)
from orbital_relay.client.protocol.reconnect import IDLE_SLACK_S
from orbital_relay.client.readers import Readers
from orbital_relay.client.signals import Signals
from orbital_relay.client.stores import FileOutbox, FilePositions, OutboxStore, PositionStore
from orbital_relay.client.tokens import TokenSource
from orbital_relay.client.typing import Typists
from orbital_relay.core.backoff import BACKOFF, Backoff

log = logging.getLogger("orbital.client")

WAITS_MOST_S: Final = 300.0
"""How long the time-out of `open` may stand still while the server asks to wait."""

THREADS_KNOWN: Final = 10_000
"""Threads whose group is remembered, for the order of replies; 1 MB."""


class Life:
    """
    Everything of a client that runs by itself; `Orbital` adds what a program asks of it.

    A life begins with `open` and ends with `close`, once. It never begins again.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource,
        store: PositionStore | None = None,
        outbox: OutboxStore | None = None,
        verify: bool = False,
        buffer: int = 1_000,
        open_timeout_s: float | None = 30.0,
        idle_slack_s: float = IDLE_SLACK_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        backoff: Backoff = BACKOFF,
        random: Callable[[], float] = random_module.random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if buffer < 2:
            raise ValueError(f"A buffer holds 2 events or more, not {buffer}.")
        self.api = Api(url, token=token, timeout_s=request_timeout_s, transport=transport)
        self._stores = store, outbox
        self._open_timeout_s = open_timeout_s
        self._backoff = backoff
        self._random = random
        self._signals = Signals()
        self._conversation = ClientProtocol(verify=verify, capacity=buffer)
        self._connection = ReconnectingConnection(
            self.api,
            self._conversation,
            backoff=backoff,
            random=random,
            idle_slack_s=idle_slack_s,
            apply=self._apply,
            change=self._change,
            notify=self._signals.notify,
            waits=self._waits,
        )
        self._readers = Readers(
            self.api,
            self._conversation,
            store=store,
            signals=self._signals,
            backoff=backoff,
            random=random,
            apply=self._apply,
            own=self._own,
            closing=lambda: self._closing is not None,
        )
        self._typists = Typists(self._say_typing)
        self._outbox = Outbox(self.api, store=outbox, backoff=backoff, random=random, report=self._signals.notify)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._state = StateChange(state=State.CONNECTING)
        self._opened = asyncio.Event()
        self._first_attempt_done = asyncio.Event()
        self._over: BaseException | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[Any]] = set()
        """Tasks of ours whose callback closes the client; they end when it returns."""
        self._thread_groups: OrderedDict[str, str] = OrderedDict()
        self._opening: asyncio.Timeout | None = None
        self._waited_s = 0.0
        self.user_id: str | None = None
        self.username: str | None = None

    # Public: the connection

    async def open(self) -> Self:
        """
        Connect; `async with` does it for you. The program that opens a client closes it.

        The time-out stands still, for five minutes at most, while the server itself asks to wait: after five attempts
        in a minute the sixth has to.

        Raises:
            Refused: If the server refuses this client: an invalid token, a wrong address.
            NotConnected: If the server could not be reached in `open_timeout_s`.
            StoreDamaged, StoreInUse: If the outbox' store cannot be used.
            Closed: If the client was closed; it is not opened again.
            RuntimeError: If it is open already, or belongs to another event loop.
        """
        if self._closing is not None:
            raise Closed("The client is closed; make another one with connect().")
        loop = self.api.guard.enter()
        if self._runner is not None:
            raise RuntimeError("This client is open already; make another one with connect().")
        try:
            await self._outbox.start()
            self._own(self._signals.dispatch())
            self._runner = loop.create_task(self._run())
            if self._open_timeout_s is not None:
                await self._first_connection(self._open_timeout_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self._readers.acknowledge_for(asyncio.current_task())
        await self.close()

    async def close(self) -> None:
        """
        Close permanently: the socket, the posts that wait (those in a store stay there), and all subscriptions.

        A callback may call it, and then runs to its end. A caller that is cancelled meanwhile has closed all the same.

        Raises:
            RuntimeError: If the client belongs to another event loop.
        """
        if self._closing is not None and self._closing.done():
            return
        self.api.guard.enter()
        if (caller := asyncio.current_task()) in self._tasks and caller is not None:
            self._closers.add(caller)
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            # Not without a bound: it may be our own task that we wait for here, by way of a callback.
            await asyncio.wait([self._closing], timeout=CLOSE_S)
            raise

    @property
    def state(self) -> StateChange:
        """What the connection is doing, and why."""
        return self._state

    async def wait_open(self) -> None:
        """
        Wait until the connection is open; for a client that was opened without waiting, or has lost its connection.

        Raises:
            Refused: If it never will be.
            Closed: If the client was closed.
        """
        self._check_used()
        while not self._opened.is_set():
            self._first_attempt_done.clear()
            if self._over is not None:
                raise self._over
            if self._closing is not None:
                raise Closed("The client is closed.")
            await self._first_attempt_done.wait()

    def wake(self) -> None:
        """
        Reconnect at once, since the network may be available: it returned, the machine woke up, or a user asks for it.

        A pending attempt is made at once, whatever `Retry-After` asked for, if five a minute allow it. An open
        connection must prove within 5 s that it is alive, or it is replaced.
        """
        self.api.guard.enter()
        self._outbox.wake()
        self._connection.wake()
        self._own(self._connection.probe())

    # Private: closing

    async def _close(self) -> None:
        try:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.gather(self._runner, return_exceptions=True)
            await self._outbox.close()
            self._finish(None, "closed")
            await self._readers.save()
            self._signals.close()
            tasks = self._tasks - self._closers
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._readers.finish()
        finally:
            for store in self._stores:
                if isinstance(store, FilePositions | FileOutbox):
                    store.release()
            await self.api.close()

    # Private: the connection

    async def _run(self) -> None:
        """Keep a connection until it is refused permanently; then, or for an internal bug, nobody waits for ever."""
        try:
            refused = await self._connection.stay()
        except Exception as exc:
            log.exception("a bug in the client")
            self._finish(exc, "bug")
        else:
            self._finish(refused, "refused", code=refused.status or refused.close_code)

    async def _first_connection(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s) as self._opening:
                await self._first_attempt_done.wait()
        except TimeoutError:
            raise NotConnected(
                f"No connection to {self.api.address.http} in {timeout_s + self._waited_s:g} s"
                + (f": {self._connection.last_problem}" if self._connection.last_problem else ".")
            ) from None
        finally:
            self._opening = None
        if self._over is not None:
            raise self._over

    def _waits(self, delay_ms: int) -> None:
        """Let the time-out of `open` stand still while the server asks to wait."""
        more_s = min(delay_ms / 1_000, WAITS_MOST_S - self._waited_s)
        if self._opening is not None and (when := self._opening.when()) is not None and more_s > 0:
            self._waited_s += more_s
            self._opening.reschedule(when + more_s)

    def _check_used(self) -> None:
        """
        Raise for a use that would wait for ever.

        Raises:
            Closed: If the client is closed.
            RuntimeError: If it was never opened, or belongs to another event loop.
        """
        if self._closing is not None:
            raise Closed("The client is closed.")
        self.api.guard.enter()
        if self._runner is None:
            raise RuntimeError(
                "This client is not open: write `async with connect(...) as orbital:`, or `await orbital.open()` first."
            )

    # Private: effects

    def _apply(self, effects: list[ProtocolEffect]) -> None:
        """Carry out what the conversation decided."""
        for effect in effects:
            match effect:
                case Send(text=text):
                    self._connection.write(text)
                case Deliver(group_id=group_id, item=item):
                    self._deliver(group_id, item)
                case Notify(signal=signal):
                    self._signals.notify(signal)
                case Fetch():
                    self._own(self._readers.fetch(effect))
                case Opened():
                    self._greeted(effect)
                case SubscriptionConfirmed(group_id=group_id, seq=seq):
                    if (subscription := self._readers.get(group_id)) is not None:
                        subscription.confirm(seq)
                case Ended(group_id=group_id, error=error, reason=reason):
                    if (subscription := self._readers.get(group_id)) is not None:
                        subscription.end(error, reason)
                case RenewToken():
                    self._own(self._connection.renew())
                case TokenRenewed(life_s=life_s):
                    self._connection.keep_token(life_s)
                case Reconnect(reason=reason):
                    self._connection.drop(reason)

    def _deliver(self, group_id: str, item: StreamItem) -> None:
        if not self._readers.deliver(group_id, item):
            return
        if isinstance(item, NewThread):
            self._know_thread(item.data.thread_id, group_id)
        elif isinstance(item, Reset | CaughtUp):
            self._signals.notify(item)

    def _greeted(self, opened: Opened) -> None:
        self.user_id, self.username = opened.user_id, opened.username
        self._connection.greeted(opened)
        log.info("connection open as %s", opened.username)
        self._change(StateChange(state=State.OPEN))
        self._opened.set()
        self._first_attempt_done.set()
        self._outbox.wake()

    # Private: the rest

    def _change(self, change: StateChange) -> None:
        if change.state is not State.OPEN:
            self._opened.clear()
        if change != self._state:
            self._state = change
            self._signals.notify(change)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends, at the latest, with the client."""
        if self._closing is not None:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)

    def _disown(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("a bug in the client", exc_info=exc)
            self._finish(exc, "bug")

    def _finish(self, error: BaseException | None, reason: str, *, code: int | None = None) -> None:
        """End all subscriptions; nothing comes any more."""
        self._over = self._over or error
        self._change(StateChange(state=State.CLOSED, code=code, reason=str(error) if error else "Closed."))
        self._readers.end(error, reason)
        self._first_attempt_done.set()

    def _know_thread(self, thread_id: str, group_id: str) -> None:
        self._thread_groups[thread_id] = group_id
        self._thread_groups.move_to_end(thread_id)
        if len(self._thread_groups) > THREADS_KNOWN:
            self._thread_groups.popitem(last=False)

    def _say_typing(self, thread_id: str, is_typing: bool) -> None:  # noqa: FBT001 - the frame's own field
        if self._closing is None:
            self._apply(self._conversation.typing(thread_id, is_typing, now_ms=now_ms()))
