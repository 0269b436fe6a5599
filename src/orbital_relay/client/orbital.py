"""
The client itself: `connect()`, and the `Orbital` that it gives.

It carries out what the conversation (`protocol.py`) decides: what the program reads lies in bounded buffers
(`subscription.py`), and what does not fit there is read from the log later.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Final, Self
from weakref import WeakValueDictionary

import httpx

from orbital_relay.client import media, responses
from orbital_relay.client.api import REQUEST_TIMEOUT_S, Api, TokenSource, encoded, reply_body, reply_path, thread_body
from orbital_relay.client.clocks import now_ms, tick_ms
from orbital_relay.client.connection import CLOSE_S, Connection
from orbital_relay.client.errors import (
    AlreadySubscribed,
    ApiError,
    Closed,
    NotAMember,
    NotConnected,
    Unreachable,
)
from orbital_relay.client.events import (
    CaughtUp,
    Event,
    Item,
    NewThread,
    Position,
    Problem,
    Reset,
    Signal,
    State,
    StateChange,
)
from orbital_relay.client.outbox import Outbox
from orbital_relay.client.progress import Progress
from orbital_relay.client.protocol import (
    IDLE_SLACK_S,
    TYPING_STOP_MS,
    Conversation,
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
    TypingThrottle,
)
from orbital_relay.client.signals import S, Signals
from orbital_relay.client.stores import FileOutbox, FilePositions, OutboxStore, PositionStore
from orbital_relay.client.subscription import Subscription
from orbital_relay.client.user_code import theirs
from orbital_relay.core.backoff import BACKOFF, Backoff

log = logging.getLogger("orbital.client")

FETCHES: Final = 4
"""Pages of the log read at once: after an outage many groups are behind, and the server serves others too."""

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
        self._store = store
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
            tell=self._tell,
        )
        self._outbox = Outbox(self.api, store=outbox, backoff=backoff, random=random, report=self._tell)
        self._subscriptions: WeakValueDictionary[str, Subscription] = WeakValueDictionary()
        self._progress: dict[str, Progress] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._state = StateChange(state=State.CONNECTING)
        self._opened = asyncio.Event()
        self._settled = asyncio.Event()
        self._over: BaseException | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[Any]] = set()
        """Tasks of ours whose callback closes the client; they end when it returns."""
        self._fetching = asyncio.Semaphore(FETCHES)
        self._thread_groups: OrderedDict[str, str] = OrderedDict()
        self._typing: dict[str, TypingThrottle] = {}
        self.user_id: str | None = None
        self.username: str | None = None

    # Public: the connection

    async def __aenter__(self) -> Self:
        """
        Connect.

        Raises:
            Refused: If the server will not have this client: a token that does not hold, a wrong address.
            NotConnected: If the server could not be reached in `open_timeout_s`.
            StoreDamaged, StoreInUse: If the outbox' store cannot be used.
            Closed: If the client was closed; it is not opened again.
        """
        if self._closing is not None:
            raise Closed("The client is closed; make another one with connect().")
        if self._runner is not None:
            raise RuntimeError("This client is open already; make another one with connect().")
        try:
            await self._outbox.start()
            self._own(self._signals.dispatch())
            self._runner = asyncio.get_running_loop().create_task(self._run())
            if self._open_timeout_s is not None:
                try:
                    async with asyncio.timeout(self._open_timeout_s):
                        await self._settled.wait()
                except TimeoutError:
                    raise NotConnected(
                        f"No connection to {self.api.address.http} in {self._open_timeout_s:g} s"
                        + (f": {self._connection.last_problem}" if self._connection.last_problem else ".")
                    ) from None
                if self._over is not None:
                    raise self._over
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            for progress in self._progress.values():
                progress.settle_for(asyncio.current_task())
        await self.close()

    async def close(self) -> None:
        """
        Close for good: the socket, the posts that wait (those in a store stay there), and all subscriptions.

        A callback may call it, and then runs to its end. Who is cancelled meanwhile has closed all the same.
        """
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
        Wait until the connection is open.

        Raises:
            Refused: If it never will be.
            Closed: If the client was closed.
        """
        while not self._opened.is_set():
            self._settled.clear()
            if self._over is not None:
                raise self._over
            if self._closing is not None:
                raise Closed("The client is closed.")
            await self._settled.wait()

    def wake(self) -> None:
        """
        Use a reason to believe that the network is there: it returned, or the machine woke up.

        A pending attempt is made at once, if five a minute allow it. An open connection must prove within 5 s that it
        is alive, or it is replaced.
        """
        self._outbox.wake()
        self._connection.wake()
        self._own(self._connection.probe())

    # Public: hearing

    def subscribe(
        self,
        group_id: str,
        *,
        since: int | Position | None = None,
        on_event: Callable[[Event | Reset | CaughtUp], Awaitable[None] | None] | None = None,
        marks: bool = False,
    ) -> Subscription:
        """
        Listen to a group.

        Args:
            group_id: The group.
            since: Yield what follows this position: 0 for everything that is kept, a number, or a Position. None: from
                now. A position in the client's store goes before it.
            on_event: Called for each item, one after the other, in a task of its own; then do not iterate. What it
                raises is told as a Problem, and the next item follows.
            marks: Yield a CaughtUp too, after what was missed.

        Raises:
            AlreadySubscribed: If this client listens to the group already.
            Closed: If the client is closed.
        """
        if self._closing is not None:
            raise Closed("The client is closed.")
        if isinstance(since, int):
            since = Position(since)
        if since is not None and since.seq < 0:
            raise ValueError(f"A position is 0 or more, not {since.seq}.")
        known = self._subscriptions.get(group_id)
        if known is not None and known.ended is None:
            raise AlreadySubscribed(group_id)
        # One that was dropped without being closed may still be known to the server.
        self._apply(self._conversation.unsubscribe(group_id, now_ms=now_ms()))
        before = self._progress.get(group_id)
        progress = self._progress[group_id] = Progress(group_id, self._store)
        subscription = Subscription(progress, marks=marks, taken=self._taken, leave=self._leave)
        self._subscriptions[group_id] = subscription
        if self._over is not None:
            subscription.end(self._over, "refused")
        elif self._store is None:
            self._apply(self._conversation.subscribe(group_id, since, now_ms=now_ms()))
        else:
            self._own(self._begin(subscription, self._store, before, since))
        if on_event is not None:
            self._own(self._pump(subscription, on_event))
        return subscription

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

    # Public: saying

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
        lane = group_id or self._thread_groups.get(thread_id) or f"thread:{thread_id}"
        body = reply_body(encoded(encrypted_body), message_id)
        return await self._outbox.post(lane, reply_path(thread_id), body, responses.ReplyCreated, key=idempotency_key)

    @property
    def waiting(self) -> int:
        """How many posts the server does not have yet."""
        return self._outbox.waiting

    def typing(self, thread_id: str, *, is_typing: bool = True) -> None:
        """
        Say that the user writes in a thread; call it at every keystroke.

        It is sent at most every 3 s, and taken back 5 s after the last call, or at once with `is_typing=False`. Without
        a connection it is dropped: it would be old news.
        """
        throttle = self._typing.get(thread_id)
        if not is_typing:
            if throttle is not None and throttle.stop():
                self._say_typing(thread_id, is_typing=False)
            self._typing.pop(thread_id, None)
            return
        if throttle is None:
            throttle = self._typing[thread_id] = TypingThrottle()
            self._typing_stop_later(thread_id, throttle, TYPING_STOP_MS)
        if throttle.start(now_ms=tick_ms()):
            self._say_typing(thread_id, is_typing=True)

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
        """Send an encrypted file to a thread; `orbital_relay.client.media.upload` tells all."""
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
        """Fetch a medium; `orbital_relay.client.media.download` tells all."""
        return await media.download(self.api, media_id, to=to, progress=progress, backoff=self._backoff)

    # Private: closing

    async def _close(self) -> None:
        try:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.gather(self._runner, return_exceptions=True)
            await self._outbox.close()
            self._finish(None, "closed")
            for progress in self._progress.values():
                with suppress(Exception):  # What is not saved comes again in the next run.
                    await progress.save()
            self._signals.close()
            tasks = self._tasks - self._closers
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for subscription in list(self._subscriptions.values()):
                subscription.finish()
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
                    self._tell(signal)
                case Fetch():
                    self._own(self._fetch(effect))
                case Opened():
                    self._greeted(effect)
                case Subscribed(group_id=group_id, seq=seq):
                    if (subscription := self._subscriptions.get(group_id)) is not None:
                        subscription.confirm(seq)
                case Ended(group_id=group_id, error=error, reason=reason):
                    if (subscription := self._subscriptions.get(group_id)) is not None:
                        subscription.end(error, reason)
                case RenewToken():
                    self._own(self._connection.renew())
                case Reconnect(reason=reason):
                    self._connection.drop(reason)

    def _deliver(self, group_id: str, item: Item) -> None:
        subscription = self._subscriptions.get(group_id)
        if subscription is None:  # Dropped by the program without a close: nobody will read it.
            self._apply(self._conversation.unsubscribe(group_id, now_ms=now_ms()))
            return
        if isinstance(item, NewThread):
            self._know_thread(item.data.thread_id, group_id)
        elif isinstance(item, Reset | CaughtUp):
            self._tell(item)
        subscription.put(item)

    def _greeted(self, opened: Opened) -> None:
        self.user_id, self.username = opened.user_id, opened.username
        self._connection.greeted(opened)
        log.info("connection open as %s", opened.username)
        self._change(StateChange(state=State.OPEN))
        self._opened.set()
        self._settled.set()
        self._outbox.wake()

    async def _fetch(self, fetch: Fetch) -> None:
        """Read a page of the log for a group that is behind, until it is there or refused."""
        await asyncio.sleep(fetch.pause_ms / 1_000)
        failures = 0
        while True:
            retry_after_ms = 0
            try:
                async with self._fetching:
                    frames = await self.api.event_frames(fetch.group_id, after_seq=fetch.after, limit=fetch.limit)
            except ApiError as exc:
                oldest_seq = exc.details.get("oldest_seq")
                if exc.status == 410 and isinstance(oldest_seq, int):
                    self._apply(self._conversation.page_gone(fetch.group_id, fetch.ticket, oldest_seq))
                    return
                if not exc.retryable:
                    error = NotAMember(fetch.group_id) if exc.status in {403, 404} else exc
                    self._apply(self._conversation.page_refused(fetch.group_id, fetch.ticket, error))
                    return
                retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
            except Closed:
                return
            except Unreachable as exc:
                log.debug("page after %d of %s failed: %s", fetch.after, fetch.group_id, exc)
            except Exception as exc:  # noqa: BLE001 - the token function is other people's code
                self._tell(Problem(code="TOKEN", message=f"Reading the log failed: {exc!r}"))
            else:
                self._apply(self._conversation.page(fetch.group_id, fetch.ticket, frames))
                return
            delay_ms = self._backoff.delay_ms(failures, random=self._random(), now_ms=0, retry_after_ms=retry_after_ms)
            failures += 1
            await asyncio.sleep(delay_ms / 1_000)

    # Private: subscriptions

    async def _begin(
        self, subscription: Subscription, store: PositionStore, before: Progress | None, since: Position | None
    ) -> None:
        """Start a subscription at the position that the store knows."""
        try:
            if before is not None:  # The subscription before this one may have been dropped without a close.
                await before.save()
            known = await theirs(store.load(subscription.group_id))
        except Exception as exc:  # noqa: BLE001 - a store is other people's code; its error belongs to who reads
            subscription.end(exc, "store")
            return
        if subscription.ended is None and self._subscriptions.get(subscription.group_id) is subscription:
            self._apply(self._conversation.subscribe(subscription.group_id, known or since, now_ms=now_ms()))

    async def _pump(self, subscription: Subscription, on_event: Callable[[Any], Awaitable[None] | None]) -> None:
        """Call back for each item of a subscription."""
        while True:
            try:
                item = await anext(subscription)
            except StopAsyncIteration:
                return
            except Exception as exc:  # noqa: BLE001 - a store is other people's code
                over = exc is subscription.error
                code = "SUBSCRIPTION" if over and subscription.ended != "store" else "STORE"
                details = {"group_id": subscription.group_id}
                self._tell(Problem(code=code, message=str(exc) or repr(exc), details=details))
                if over:
                    return
                continue  # It was the saving that failed: no event is lost, and a later saving has it all.
            await self._signals.call(on_event, item)
            if self._closing is not None:  # It was the callback that closed the client.
                await subscription.commit()
                return

    def _taken(self, subscription: Subscription) -> None:
        # One that is over may still be read, and what it holds is nobody's buffer any more.
        if self._closing is None and self._subscriptions.get(subscription.group_id) is subscription:
            self._apply(self._conversation.taken(subscription.group_id))

    def _leave(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.group_id) is subscription:
            if subscription.ended is None:
                self._apply(self._conversation.unsubscribe(subscription.group_id, now_ms=now_ms()))
            del self._subscriptions[subscription.group_id]
        subscription.end(None, "closed")

    # Private: the rest

    def _change(self, change: StateChange) -> None:
        if change.state is not State.OPEN:
            self._opened.clear()
        if change != self._state:
            self._state = change
            self._tell(change)

    def _tell(self, signal: Signal) -> None:
        self._signals.tell(signal)

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
        for subscription in list(self._subscriptions.values()):
            subscription.end(error, reason)
        self._settled.set()

    def _know_thread(self, thread_id: str, group_id: str) -> None:
        self._thread_groups[thread_id] = group_id
        self._thread_groups.move_to_end(thread_id)
        if len(self._thread_groups) > THREADS_KNOWN:
            self._thread_groups.popitem(last=False)

    def _say_typing(self, thread_id: str, *, is_typing: bool) -> None:
        self._apply(self._conversation.typing(thread_id, is_typing, now_ms=now_ms()))

    def _typing_stop_later(self, thread_id: str, throttle: TypingThrottle, delay_ms: int) -> None:
        asyncio.get_running_loop().call_later(delay_ms / 1_000, self._typing_silent, thread_id, throttle)

    def _typing_silent(self, thread_id: str, throttle: TypingThrottle) -> None:
        if self._typing.get(thread_id) is not throttle or self._closing is not None:
            return
        left_ms = throttle.silent_in_ms(now_ms=tick_ms())
        if left_ms > 0:
            self._typing_stop_later(thread_id, throttle, left_ms)
            return
        self.typing(thread_id, is_typing=False)


connect = Orbital
"""What a program calls: the verb for what it does, `Orbital` for what it then has."""
