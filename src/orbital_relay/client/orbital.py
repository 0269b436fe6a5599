"""
The client itself: `connect()`, and the `Orbital` that it gives.

It carries out what the conversation (`protocol/`) decides: what the program reads lies in bounded buffers
(`readers.py`, `subscription.py`), and what does not fit there is read from the log later.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import httpx

from orbital_relay.client import media, responses
from orbital_relay.client.api import Api
from orbital_relay.client.api.bodies import encoded, reply_body, reply_path, thread_body
from orbital_relay.client.clocks import now_ms
from orbital_relay.client.connection import CLOSE_S, Connection
from orbital_relay.client.errors import Closed, NotConnected
from orbital_relay.client.events import (
    CaughtUp,
    Item,
    NewThread,
    Position,
    Reset,
    State,
    StateChange,
)
from orbital_relay.client.http import REQUEST_TIMEOUT_S
from orbital_relay.client.outbox import Outbox
from orbital_relay.client.protocol.conversation import Conversation
from orbital_relay.client.protocol.effects import (
    Deliver,
    Effect,
    Ended,
    Fetch,
    Opened,
    Reconnect,
    RenewToken,
    Send,
    Subscribed,
    Tell,
    TokenRenewed,
)
from orbital_relay.client.protocol.reconnect import IDLE_SLACK_S
from orbital_relay.client.readers import OnEvent, Readers
from orbital_relay.client.signals import S, Signals
from orbital_relay.client.stores import FileOutbox, FilePositions, OutboxStore, PositionStore
from orbital_relay.client.subscription import Subscription
from orbital_relay.client.tokens import TokenSource
from orbital_relay.client.typing import Typists
from orbital_relay.core.backoff import BACKOFF, Backoff

log = logging.getLogger("orbital.client")

WAITS_MOST_S: Final = 300.0
"""How long the time-out of `open` may stand still while the server asks to wait."""

THREADS_KNOWN: Final = 10_000
"""Threads whose group is remembered, for the order of replies; 1 MB."""


class Orbital:
    """
    A client of one server: subscriptions that never miss an event, posts that arrive once, and the REST side as `api`.

    It connects when it is entered, and stays connected.

        async with connect("https://orbital.example.com", token=token) as orbital:
            async for event in orbital.subscribe(group_id, since=0):
                print(event.seq, event.type)

    Args:
        url: The server's address.
        token: The caller's token; or a function that gives one, called again when the last one no longer holds.
        store: Keeps the position of every group over restarts.
        outbox: Keeps the posts that the server does not have yet over restarts.
        verify: Check the hash chain: a server that drops, changes or re-orders anything is found out, and the
            subscription raises ChainBroken.
        buffer: Most events of one group that wait for a slow reader; further ones are read from the log later.
        open_timeout_s: How long to wait for the first connection; None to go on without it and connect meanwhile.
        idle_slack_s: How late a heartbeat may be before the line counts as dead.
        request_timeout_s: How long the server may be silent within a request before it is tried again.
        backoff: How long to wait between attempts.
        random: Gives a number in [0, 1).
        transport: Another httpx transport for the REST side.

    Raises:
        ValueError: If `url` is not an address, `token` cannot be one, or `buffer` is below 2.
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
        self._conversation = Conversation(verify=verify, capacity=buffer)
        self._connection = Connection(
            self.api,
            self._conversation,
            backoff=backoff,
            random=random,
            idle_slack_s=idle_slack_s,
            apply=self._apply,
            change=self._change,
            tell=self._signals.tell,
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
        self._outbox = Outbox(self.api, store=outbox, backoff=backoff, random=random, report=self._signals.tell)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._state = StateChange(state=State.CONNECTING)
        self._opened = asyncio.Event()
        self._settled = asyncio.Event()
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
        Connect; `async with` does it for you. Whoever opens a client closes it.

        The time-out stands still, for five minutes at most, while the server itself asks to wait: after five attempts
        in a minute the sixth has to.

        Raises:
            Refused: If the server refuses this client: a token that does not hold, a wrong address.
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
            self._readers.settle_for(asyncio.current_task())
        await self.close()

    async def close(self) -> None:
        """
        Close for good: the socket, the posts that wait (those in a store stay there), and all subscriptions.

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
            self._settled.clear()
            if self._over is not None:
                raise self._over
            if self._closing is not None:
                raise Closed("The client is closed.")
            await self._settled.wait()

    def wake(self) -> None:
        """
        Use a reason to believe that the network is there: it returned, the machine woke up, or somebody asks.

        A pending attempt is made at once, whatever `Retry-After` asked for, if five a minute allow it. An open
        connection must prove within 5 s that it is alive, or it is replaced.
        """
        self.api.guard.enter()
        self._outbox.wake()
        self._connection.wake()
        self._own(self._connection.probe())

    # Public: receiving

    def subscribe(
        self,
        group_id: str,
        *,
        since: int | Position | None = None,
        on_event: OnEvent | None = None,
        marks: bool = False,
    ) -> Subscription:
        """
        Subscribe to a group.

        Args:
            group_id: The group.
            since: Yield what follows this position: 0 for everything that is kept, a number, or a Position. None: from
                now. A position in the client's store goes before it.
            on_event: Called for each item, one after the other, in a task of its own; then do not iterate. What it
                raises is reported as a Problem, and the next item follows.
            marks: Yield a CaughtUp too, after what was missed.

        Raises:
            AlreadySubscribed: If this client follows the group already.
            Closed: If the client is closed.
            RuntimeError: If the client is not open, or belongs to another event loop.
            ValueError: If `since` is not a whole number from 0 to 2^53 - 1.
        """
        self._check_used()
        position = since if since is None or isinstance(since, Position) else Position(since)
        return self._readers.subscribe(group_id, position, on_event=on_event, marks=marks, over=self._over)

    def on(self, kind: type[S], callback: Callable[[S], Awaitable[None] | None]) -> Callable[[], None]:
        """
        Call back for each signal of a kind: StateChange, Typing, Problem, Reset, CaughtUp, Unnumbered.

        Callbacks run one after the other in a task of their own, so they never hold up the reading. When more than
        1,000 signals wait for them, the oldest are dropped.

        Args:
            kind: The class of the signals.
            callback: A function or a coroutine function of one argument.

        Returns:
            A function that ends it.
        """
        return self._signals.on(kind, callback)

    # Public: posting

    async def send(
        self, group_id: str, encrypted_envelope: bytes | str, *, idempotency_key: str | None = None
    ) -> responses.MessageSent:
        """
        Post a message; returns when the server has it, however long that takes.

        The posts to one group arrive in the order of the calls. To give up waiting, cancel the task: the post stays in
        the outbox and is still sent.

        Args:
            group_id: The group.
            encrypted_envelope: The envelope: bytes, or text that is base64 already.
            idempotency_key: For a post that your own program may repeat; a new one when None.

        Raises:
            ApiError: If the server refuses it for good.
            OutboxFull, OutboxExpired, Closed: As the names say.
        """
        self._check_used()
        body = {"conversation_id": group_id, "encrypted_envelope": encoded(encrypted_envelope), "timestamp": now_ms()}
        return await self._outbox.post(group_id, "/v1/messages", body, responses.MessageSent, key=idempotency_key)

    async def open_thread(
        self,
        group_id: str,
        encrypted_title: bytes | str,
        encrypted_body: bytes | str,
        *,
        root_message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ThreadCreated:
        """Open a thread; the same promises as `send`."""
        self._check_used()
        body = thread_body(group_id, encoded(encrypted_title), encoded(encrypted_body), root_message_id)
        created = await self._outbox.post(group_id, "/api/threads", body, responses.ThreadCreated, key=idempotency_key)
        self._know_thread(created.thread_id, group_id)
        return created

    async def reply(
        self,
        thread_id: str,
        encrypted_body: bytes | str,
        *,
        group_id: str | None = None,
        message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ReplyCreated:
        """
        Reply in a thread; the same promises as `send`.

        Args:
            thread_id: The thread.
            encrypted_body: The body: bytes, or text that is base64 already.
            group_id: The thread's group, to keep the reply in order with the group's other posts. Not needed for a
                thread that this client opened or heard of; without it the order holds within the thread.
            message_id: The message that carries it.
            idempotency_key: For a post that your own program may repeat; a new one when None.
        """
        self._check_used()
        lane = group_id or self._thread_groups.get(thread_id) or f"thread:{thread_id}"
        body = reply_body(encoded(encrypted_body), message_id)
        return await self._outbox.post(lane, reply_path(thread_id), body, responses.ReplyCreated, key=idempotency_key)

    @property
    def waiting(self) -> int:
        """How many posts the server does not have yet."""
        return self._outbox.waiting

    def typing(self, thread_id: str, *, is_typing: bool = True) -> None:
        """
        Report that the user types in a thread; call it at every keystroke.

        It is sent at most every 3 s, and withdrawn 5 s after the last call, or at once with `is_typing=False`. Without
        a connection it is dropped: it would be old news.
        """
        self.api.guard.enter()
        self._typists.typing(thread_id, is_typing=is_typing)

    # Public: media

    async def upload(
        self,
        thread_id: str,
        source: bytes | str | media.PathLike | BinaryIO,
        *,
        encrypted_metadata: bytes | str,
        encryption_iv: bytes | str,
        media_id: str | None = None,
        progress: media.Progress | None = None,
    ) -> responses.MediaStored:
        """Send an encrypted file to a thread; `orbital_relay.client.media.upload` has the details."""
        return await media.upload(
            self.api,
            thread_id,
            source,
            encrypted_metadata=encoded(encrypted_metadata),
            encryption_iv=encoded(encryption_iv),
            media_id=media_id,
            progress=progress,
            backoff=self._backoff,
        )

    async def download(
        self, media_id: str, *, to: str | media.PathLike | None = None, progress: media.Progress | None = None
    ) -> media.Downloaded:
        """Fetch a medium; `orbital_relay.client.media.download` has the details."""
        return await media.download(self.api, media_id, to=to, progress=progress, backoff=self._backoff)

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
        """Keep a connection until it is refused for good; then, or for a bug of ours, nobody waits for ever."""
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
                await self._settled.wait()
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

    def _apply(self, effects: list[Effect]) -> None:
        """Carry out what the conversation decided."""
        for effect in effects:
            match effect:
                case Send(text=text):
                    self._connection.write(text)
                case Deliver(group_id=group_id, item=item):
                    self._deliver(group_id, item)
                case Tell(signal=signal):
                    self._signals.tell(signal)
                case Fetch():
                    self._own(self._readers.fetch(effect))
                case Opened():
                    self._greeted(effect)
                case Subscribed(group_id=group_id, seq=seq):
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

    def _deliver(self, group_id: str, item: Item) -> None:
        if not self._readers.deliver(group_id, item):
            return
        if isinstance(item, NewThread):
            self._know_thread(item.data.thread_id, group_id)
        elif isinstance(item, Reset | CaughtUp):
            self._signals.tell(item)

    def _greeted(self, opened: Opened) -> None:
        self.user_id, self.username = opened.user_id, opened.username
        self._connection.greeted(opened)
        log.info("connection open as %s", opened.username)
        self._change(StateChange(state=State.OPEN))
        self._opened.set()
        self._settled.set()
        self._outbox.wake()

    # Private: the rest

    def _change(self, change: StateChange) -> None:
        if change.state is not State.OPEN:
            self._opened.clear()
        if change != self._state:
            self._state = change
            self._signals.tell(change)

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
        self._settled.set()

    def _know_thread(self, thread_id: str, group_id: str) -> None:
        self._thread_groups[thread_id] = group_id
        self._thread_groups.move_to_end(thread_id)
        if len(self._thread_groups) > THREADS_KNOWN:
            self._thread_groups.popitem(last=False)

    def _say_typing(self, thread_id: str, is_typing: bool) -> None:  # noqa: FBT001 - the frame's own field
        if self._closing is None:
            self._apply(self._conversation.typing(thread_id, is_typing, now_ms=now_ms()))


connect = Orbital
"""What a program calls: the verb for what it does, `Orbital` for what it then has."""
