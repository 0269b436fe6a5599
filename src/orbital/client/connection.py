"""
The client on asyncio: `connect()` and what it gives.

One task dials and reads; it never waits for the program. What the program reads lies in bounded buffers, and what does
not fit is read from the log later (`protocol.py` decides when).
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
import random as random_module
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar
from weakref import WeakValueDictionary

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from orbital.client import answers, media
from orbital.client.api import (
    REQUEST_TIMEOUT_S,
    USER_AGENT,
    Api,
    TokenSource,
    error_of,
    reply_body,
    reply_path,
    thread_body,
)
from orbital.client.errors import (
    AlreadySubscribed,
    ApiError,
    ClientError,
    Closed,
    NotAMember,
    NotConnected,
    Refused,
    StoreDamaged,
    Unreachable,
)
from orbital.client.events import (
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
from orbital.client.outbox import Outbox
from orbital.client.protocol import (
    FINAL_STATUS,
    IDLE_SLACK_S,
    POLICY_VIOLATION,
    TYPING_STOP_MS,
    Conversation,
    Deliver,
    Effect,
    Ended,
    Fetch,
    Line,
    Opened,
    Reconnect,
    RenewToken,
    Send,
    Subscribed,
    Tell,
    TypingThrottle,
    idle_limit_s,
)
from orbital.client.stores import OutboxStore, PositionStore
from orbital.core.backoff import BACKOFF, Backoff

log = logging.getLogger("orbital.client")

S = TypeVar("S", bound=Signal)

HANDSHAKE_S: Final = 10.0
"""How long the handshake, and then the server's greeting, may take."""

CLOSE_S: Final = 2.0
"""How long to wait for the other side's Close frame (RFC 6455 §7.1.1) before the socket is dropped."""

PROBE_S: Final = 5.0
"""How long a connection that only looks open may take to answer after a wake."""

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""The largest frame taken: an envelope of 256 KiB makes 350 KB; a server with another limit may send more."""

OUTGOING_FRAMES: Final = 1_000
"""Frames that wait to be written. They are answers to pings and a few requests: a thousand means a dead line."""

SIGNALS: Final = 1_000
"""Signals that wait for slow callbacks; the oldest go first, since a newer one says more."""

FETCHES: Final = 4
"""Pages of the log read at once: after an outage many groups are behind, and the server serves others too."""

FRAMES_A_TURN: Final = 100
"""Frames read before the other tasks get a turn: during a replay the next one is always there already."""

SAVE_EVERY: Final = 64
"""Events read between two savings of the position while more are waiting; the position is saved whenever none is."""

THREADS_KNOWN: Final = 10_000
"""Threads whose group is remembered, for the order of replies; 1 MB."""


def now_ms() -> int:
    """Tell the wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _tick_ms() -> int:
    """Tell a clock that does not step back, milliseconds."""
    return time.monotonic_ns() // 1_000_000


class _NoTokens(logging.Filter):
    """Keeps tokens out of websockets' own log: the header of the handshake, and the frame that carries a newer one."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        what = str(args[0]) if isinstance(args, tuple) and args else ""
        return what.lower() != "authorization" and '"authenticate"' not in what


_websocket_log = logging.getLogger("orbital.client.websocket")
_websocket_log.addFilter(_NoTokens())


# Chapter: subscriptions


class _Progress:
    """How far one group was handled, and how far that is saved. It outlives the iterator that a program drops."""

    def __init__(self, group_id: str, store: PositionStore | None) -> None:
        self.group_id = group_id
        self.handed: Position | None = None
        """After the item that was yielded last, when it is not known yet whether it was handled."""
        self.handled: Position | None = None
        self.unsaved = 0
        self.reader: asyncio.Task[Any] | None = None
        """The task that reads; only it can know that the last item was handled."""
        self._store = store
        self._saved: Position | None = None
        self._saving = asyncio.Lock()

    def settle(self) -> None:
        """Count what was yielded last as handled."""
        if self.handed is not None:
            self.handled = self.handed
            self.handed = None
            self.unsaved += 1

    async def save(self) -> None:
        """Put the position into the store, if it moved."""
        if self._store is None:
            return
        async with self._saving:
            handled = self.handled
            if handled is None or handled == self._saved:
                return
            self.unsaved = 0
            await self._store.save(self.group_id, handled)
            self._saved = handled


class Subscription:
    """
    One group's events, each once, in order, from a position on.

    An asynchronous iterator. The connection may come and go meanwhile; the iterator just goes on. It yields events, and
    a Reset where some are gone for good. It ends when the user is no member any more, and raises when it cannot go on.

    An event counts as handled when the next one is asked for, when `commit` is called, or when the `async with` block
    of the subscription or of the client ends without an error in the task that reads; with a callback, when that has
    returned. The position in the store moves then, and not before.
    """

    def __init__(self, orbital: Orbital, progress: _Progress, *, marks: bool) -> None:
        self._orbital = orbital
        self._progress = progress
        self._marks = marks
        self.group_id = progress.group_id
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._finished = asyncio.Event()
        self._head: int | None = None
        self._over = False
        self._error: BaseException | None = None
        self._reason: str | None = None

    # Public

    @property
    def position(self) -> Position | None:
        """The position after the last event that was handled; None before the first."""
        return self._progress.handled

    @property
    def ended(self) -> str | None:
        """Why the stream is over: `left`, `removed`, `closed`, `refused`, `chain`; None while it is not."""
        return self._reason

    @property
    def error(self) -> BaseException | None:
        """What the iterator raises at its end; None when it just ends."""
        return self._error

    async def ready(self) -> int | None:
        """
        Wait until the server has confirmed the subscription.

        Returns:
            Number of the group's last event at that moment; None when the server did not say.

        Raises:
            NotAMember: If the user is not in the group.
            Refused: If the connection ended for good.
        """
        await self._ready.wait()
        if self._error is not None:
            raise self._error
        return self._head

    async def finished(self) -> None:
        """
        Wait until the stream is over and all of it was read; for a subscription with a callback.

        Raises:
            NotAMember, ChainBroken, Refused: What ended it, if that was an error.
        """
        await self._finished.wait()
        if self._error is not None:
            raise self._error

    async def commit(self) -> None:
        """Count the event that was yielded last as handled, and save the position."""
        self._progress.settle()
        await self._progress.save()

    async def close(self) -> None:
        """Stop listening; the position is saved."""
        self._orbital._unsubscribe(self)  # noqa: SLF001 - one room, two classes
        self._finished.set()
        await self._progress.save()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Reset | CaughtUp:
        progress = self._progress
        progress.reader = asyncio.current_task()
        progress.settle()
        while True:
            if progress.unsaved >= SAVE_EVERY:
                await progress.save()
            while self._items:
                item = self._items.popleft()
                self._orbital._taken(self.group_id)  # noqa: SLF001
                progress.handed = _position_after(item, progress.handled)
                if not isinstance(item, CaughtUp) or self._marks:
                    return item
                progress.settle()
            await progress.save()
            if self._items:
                continue
            if self._over:
                self._finished.set()
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()

    async def __aenter__(self) -> Self:
        await self.ready()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self._progress.settle()
        await self.close()

    # For the client

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._arrived.set()

    def _confirm(self, seq: int | None) -> None:
        self._head = seq
        self._ready.set()

    def _end(self, error: BaseException | None, reason: str) -> None:
        if not self._over:
            self._over = True
            self._error = error
            self._reason = reason
        self._ready.set()
        self._arrived.set()


def _position_after(item: Item, before: Position | None) -> Position:
    """Tell where a reader stands who has handled `item`."""
    match item:
        case Reset(seq=seq):
            return Position(seq)
        case CaughtUp(seq=seq):
            return before if before is not None and before.seq == seq else Position(seq)
        case _:
            return item.position


# Chapter: the client


class _Lost(msgspec.Struct, frozen=True):
    """How a connection, or an attempt at one, ended."""

    opened: bool
    reason: str
    code: int | None = None
    retry_after_ms: int = 0
    final: Refused | None = None
    fresh_token: bool = False
    """The token was refused, and there is another one."""


class Orbital:
    """
    A client of one server: subscriptions that never miss an event, posts that arrive once, and the REST side as `api`.

    Made by `connect()`, and opened by `async with`.
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
        self._open_timeout_s = open_timeout_s
        self._idle_slack_s = idle_slack_s
        self._backoff = backoff
        self._random = random
        self._conversation = Conversation(verify=verify, capacity=buffer)
        self._line = Line(backoff)
        self._outbox = Outbox(self.api, store=outbox, backoff=backoff, random=random, report=self._tell)
        self._subscriptions: WeakValueDictionary[str, Subscription] = WeakValueDictionary()
        self._progress: dict[str, _Progress] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[str] | None = None
        self._drop_reason: str | None = None
        self._used_token: str | None = None
        self._heartbeat_s = 30.0
        self._state = StateChange(state=State.CONNECTING)
        self._opened = asyncio.Event()
        self._settled = asyncio.Event()
        self._woken = asyncio.Event()
        self._over: BaseException | None = None
        self._closing = False
        self._last_problem = ""
        self._listeners: list[tuple[type[Any], Callable[[Any], Any]]] = []
        self._signals: deque[Signal] = deque(maxlen=SIGNALS)
        self._signalled = asyncio.Event()
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
            StoreDamaged: If the outbox' store cannot be read.
        """
        try:
            await self._outbox.start()
            self._own(self._dispatch())
            self._runner = asyncio.get_running_loop().create_task(self._run())
            if self._open_timeout_s is not None:
                try:
                    async with asyncio.timeout(self._open_timeout_s):
                        await self._settled.wait()
                except TimeoutError:
                    raise NotConnected(
                        f"No connection to {self.api.address.http} in {self._open_timeout_s:g} s"
                        + (f": {self._last_problem}" if self._last_problem else ".")
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
                if progress.reader is asyncio.current_task():
                    progress.settle()
        await self.close()

    async def close(self) -> None:
        """Close for good: the socket, the posts that wait (those in a store stay there), and all subscriptions."""
        if self._closing:
            return
        self._closing = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        await self._outbox.close()
        self._finish(None, "closed")
        for progress in self._progress.values():
            with suppress(OSError, ClientError):  # What is not saved comes again in the next run.
                await progress.save()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for subscription in list(self._subscriptions.values()):
            subscription._finished.set()  # noqa: SLF001
        await self.api.close()

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
            if self._closing:
                raise Closed("The client is closed.")
            await self._settled.wait()

    def wake(self) -> None:
        """
        Use a reason to believe that the network is there: it returned, or the machine woke up.

        A pending attempt is made at once, if five a minute allow it. An open connection must prove within 5 s that it
        is alive, or it is replaced.
        """
        self._woken.set()
        self._outbox.wake()
        if self._socket is not None:
            self._own(self._probe(self._socket))

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
        if self._closing:
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
        progress = self._progress[group_id] = _Progress(group_id, self._store)
        subscription = Subscription(self, progress, marks=marks)
        self._subscriptions[group_id] = subscription
        if self._over is not None:
            subscription._end(self._over, "refused")  # noqa: SLF001
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
        entry = (kind, callback)
        self._listeners.append(entry)

        def off() -> None:
            with suppress(ValueError):
                self._listeners.remove(entry)

        return off

    # Public: saying

    async def send(
        self, group_id: str, encrypted_envelope: bytes | str, *, idempotency_key: str | None = None
    ) -> answers.MessageSent:
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
        return await self._outbox.post(group_id, "/v1/messages", body, answers.MessageSent, key=idempotency_key)

    async def open_thread(
        self,
        group_id: str,
        encrypted_title: bytes | str,
        encrypted_body: bytes | str,
        *,
        root_message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> answers.ThreadCreated:
        """Open a thread; the same promises as `send`."""
        body = thread_body(group_id, encoded(encrypted_title), encoded(encrypted_body), root_message_id)
        created = await self._outbox.post(group_id, "/api/threads", body, answers.ThreadCreated, key=idempotency_key)
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
    ) -> answers.ReplyCreated:
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
        return await self._outbox.post(lane, reply_path(thread_id), body, answers.ReplyCreated, key=idempotency_key)

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
        if throttle.start(now_ms=_tick_ms()):
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
    ) -> answers.MediaStored:
        """Send an encrypted file to a thread; `orbital.client.media.upload` tells all."""
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
        """Fetch a medium; `orbital.client.media.download` tells all."""
        return await media.download(self.api, media_id, to=to, progress=progress, backoff=self._backoff)

    # Private: dialing

    async def _run(self) -> None:
        """Keep a connection until it is refused for good; then, or for a bug of ours, nobody waits for ever."""
        try:
            await self._stay_connected()
        except Exception as exc:
            log.exception("a bug in the client")
            self._finish(exc, "bug")

    async def _stay_connected(self) -> None:
        delay_ms = self._line.wake(now_ms=_tick_ms())
        while True:
            await self._wait(delay_ms)
            self._line.dialed(now_ms=_tick_ms())
            lost = await self._connection()
            self._opened.clear()
            self._last_problem = lost.reason
            if lost.final is not None:
                log.warning("connection refused for good: %s", lost.reason)
                self._finish(lost.final, "refused", code=lost.code)
                return
            first_refusal = lost.fresh_token and self._line.failures == 0
            delay_ms = self._line.failed(
                now_ms=_tick_ms(), random=self._random(), opened=lost.opened, retry_after_ms=lost.retry_after_ms
            )
            if first_refusal:  # Another token is a reason to try at once, but not twice in a row.
                self._line.failures = max(1, self._line.failures)
                delay_ms = self._line.wake(now_ms=_tick_ms())
            log.info("connection lost: %s; next attempt in %d ms", lost.reason, delay_ms)
            self._change(StateChange(state=State.CONNECTING, code=lost.code, reason=lost.reason, retry_in_ms=delay_ms))

    async def _wait(self, delay_ms: int) -> None:
        """Wait, or less when there is a reason to try at once."""
        end_ms = _tick_ms() + delay_ms
        while (left_ms := end_ms - _tick_ms()) > 0:
            try:
                async with asyncio.timeout(left_ms / 1_000):
                    await self._woken.wait()
            except TimeoutError:
                return
            self._woken.clear()
            end_ms = min(end_ms, _tick_ms() + self._line.wake(now_ms=_tick_ms()))
        self._woken.clear()

    async def _connection(self) -> _Lost:
        """Make one connection and use it until it ends."""
        self._change(StateChange(state=State.CONNECTING))
        try:
            self._used_token = await self.api.tokens.get()
        except Exception as exc:  # noqa: BLE001 - the token function is other people's code
            self._tell(Problem(code="TOKEN", message=f"The token function failed: {exc!r}"))
            return _Lost(opened=False, reason=f"The token function failed: {exc!r}")
        try:
            socket = await dial(
                self.api.address.websocket,
                additional_headers={"Authorization": f"Bearer {self._used_token}"},
                user_agent_header=USER_AGENT,
                open_timeout=HANDSHAKE_S,
                close_timeout=CLOSE_S,
                ping_interval=None,  # The server pings; its silence is noticed below.
                max_size=MAX_FRAME_BYTES,
                logger=_websocket_log,
            )
        except InvalidStatus as exc:
            return await self._refused(exc)
        except (OSError, WebSocketException, EOFError) as exc:
            what = str(exc) or type(exc).__name__
            return _Lost(opened=False, reason=f"The server at {self.api.address.http} cannot be reached: {what}.")
        self._socket = socket
        self._outgoing = asyncio.Queue(OUTGOING_FRAMES)
        self._drop_reason = None
        writer = asyncio.get_running_loop().create_task(self._write(socket, self._outgoing))
        try:
            return await self._read(socket)
        finally:
            opened = self._conversation.is_open
            self._socket = None
            self._outgoing = None
            self._conversation.lost()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            if opened and self._drop_reason is None:
                await socket.close()
            else:
                socket.transport.abort()

    async def _refused(self, refusal: InvalidStatus) -> _Lost:
        """Read an answer to the handshake that is not 101."""
        status = refusal.response.status_code
        error = error_of(status, refusal.response.headers, bytes(refusal.response.body or b""))
        retry_after_ms = round((error.retry_after_s or 0) * 1_000)
        if status == 401 and await self._renewed():
            return _Lost(opened=False, reason=error.message, code=status, fresh_token=True)
        final = Refused(error.message, status=status, code=error.code) if status in FINAL_STATUS else None
        return _Lost(opened=False, reason=error.message, code=status, retry_after_ms=retry_after_ms, final=final)

    async def _renewed(self) -> bool:
        """Whether there is another token than the one that was refused."""
        try:
            return await self.api.tokens.renew(self._used_token)
        except Exception as exc:  # noqa: BLE001 - the token function is other people's code
            self._tell(Problem(code="TOKEN", message=f"The token function failed: {exc!r}"))
            return False

    async def _read(self, socket: ClientConnection) -> _Lost:
        """Hear the server until the connection ends."""
        turn = 0
        while True:
            is_open = self._conversation.is_open
            limit_s = idle_limit_s(self._heartbeat_s, self._idle_slack_s) if is_open else HANDSHAKE_S
            try:
                async with asyncio.timeout(limit_s):
                    message = await socket.recv()
            except TimeoutError:
                self._drop_reason = f"Nothing was heard for {limit_s:g} s: the line is dead."
                return _Lost(opened=is_open, reason=self._drop_reason)
            except ConnectionClosed as exc:
                return await self._closed(exc)
            if isinstance(message, str):
                self._apply(self._conversation.received(message.encode(), now_ms=now_ms()))
            else:
                self._tell(Problem(code="BAD_FRAME", message="The server sent a binary frame."))
            turn += 1
            if turn % FRAMES_A_TURN == 0:
                await asyncio.sleep(0)

    async def _closed(self, exc: ConnectionClosed) -> _Lost:
        """Read how a connection ended."""
        opened = self._conversation.is_open
        if self._drop_reason is not None:
            return _Lost(opened=opened, reason=self._drop_reason)
        if exc.rcvd is None:
            return _Lost(opened=opened, reason="The connection was lost.", code=1006)  # RFC 6455 §7.1.5
        code, reason = exc.rcvd.code, exc.rcvd.reason or f"The server closed the connection ({exc.rcvd.code})."
        if code != POLICY_VIOLATION:
            return _Lost(opened=opened, reason=reason, code=code)
        if await self._renewed():
            return _Lost(opened=opened, reason=reason, code=code, fresh_token=True)
        return _Lost(opened=opened, reason=reason, code=code, final=Refused(reason, close_code=code))

    async def _write(self, socket: ClientConnection, outgoing: asyncio.Queue[str]) -> None:
        with suppress(ConnectionClosed):  # The reader tells how it ended.
            while True:
                await socket.send(await outgoing.get())

    async def _probe(self, socket: ClientConnection) -> None:
        """See whether a connection that looks open is."""
        try:
            async with asyncio.timeout(PROBE_S):
                await (await socket.ping())
        except TimeoutError:
            if socket is self._socket:
                self._drop("The connection did not answer after a wake.")
        except ConnectionClosed:
            pass

    def _drop(self, reason: str) -> None:
        """End the present connection; another one follows."""
        if self._socket is not None:
            self._drop_reason = reason
            self._socket.transport.abort()

    # Private: effects

    def _apply(self, effects: list[Effect]) -> None:
        """Carry out what the conversation decided."""
        for effect in effects:
            match effect:
                case Send(text=text):
                    self._write_later(text)
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
                        subscription._confirm(seq)  # noqa: SLF001
                case Ended(group_id=group_id, error=error, reason=reason):
                    if (subscription := self._subscriptions.get(group_id)) is not None:
                        subscription._end(error, reason)  # noqa: SLF001
                case RenewToken():
                    self._own(self._renew())
                case Reconnect(reason=reason):
                    self._drop(reason)

    def _write_later(self, text: str) -> None:
        if self._outgoing is None:
            return
        try:
            self._outgoing.put_nowait(text)
        except asyncio.QueueFull:
            self._drop(f"{OUTGOING_FRAMES} frames wait to be written: the line is dead.")

    def _deliver(self, group_id: str, item: Item) -> None:
        subscription = self._subscriptions.get(group_id)
        if subscription is None:  # Dropped by the program without a close: nobody will read it.
            self._apply(self._conversation.unsubscribe(group_id, now_ms=now_ms()))
            return
        if isinstance(item, NewThread):
            self._know_thread(item.data.thread_id, group_id)
        elif isinstance(item, Reset | CaughtUp):
            self._tell(item)
        subscription._put(item)  # noqa: SLF001

    def _greeted(self, opened: Opened) -> None:
        self.user_id, self.username = opened.user_id, opened.username
        self._heartbeat_s = opened.heartbeat_s
        self._line.opened()
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

    async def _renew(self) -> None:
        """Present a newer token before the present one ends."""
        if await self._renewed():
            self._used_token = await self.api.tokens.get()
            if self._used_token is not None:
                self._apply(self._conversation.authenticate(self._used_token, now_ms=now_ms()))

    # Private: subscriptions

    async def _begin(
        self, subscription: Subscription, store: PositionStore, before: _Progress | None, since: Position | None
    ) -> None:
        """Start a subscription at the position that the store knows."""
        try:
            if before is not None:  # The subscription before this one may have been dropped without a close.
                await before.save()
            known = await store.load(subscription.group_id)
        except Exception as exc:  # noqa: BLE001 - a store is other people's code; its error belongs to who reads
            subscription._end(exc, "store")  # noqa: SLF001
            return
        if subscription.ended is None and self._subscriptions.get(subscription.group_id) is subscription:
            self._apply(self._conversation.subscribe(subscription.group_id, known or since, now_ms=now_ms()))

    async def _pump(self, subscription: Subscription, on_event: Callable[[Any], Awaitable[None] | None]) -> None:
        """Call back for each item of a subscription."""
        try:
            async for item in subscription:
                await self._call(on_event, item)
        except (ClientError, OSError) as exc:
            code = "STORE" if isinstance(exc, StoreDamaged | OSError) else "SUBSCRIPTION"
            self._tell(Problem(code=code, message=str(exc), details={"group_id": subscription.group_id}))

    def _taken(self, group_id: str) -> None:
        self._apply(self._conversation.taken(group_id))

    def _unsubscribe(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.group_id) is subscription:
            if subscription.ended is None:
                self._apply(self._conversation.unsubscribe(subscription.group_id, now_ms=now_ms()))
            del self._subscriptions[subscription.group_id]
        subscription._end(None, "closed")  # noqa: SLF001

    # Private: signals

    def _change(self, change: StateChange) -> None:
        if change != self._state:
            self._state = change
            self._tell(change)

    def _tell(self, signal: Signal) -> None:
        if isinstance(signal, Problem):
            log.warning("problem %s: %s", signal.code, signal.message)
        if len(self._signals) == SIGNALS:
            log.warning("a callback is slow: the oldest of %d signals was dropped", SIGNALS)
        self._signals.append(signal)
        self._signalled.set()

    async def _dispatch(self) -> None:
        """Call the listeners of signals, one after the other."""
        while True:
            while self._signals:
                signal = self._signals.popleft()
                for kind, callback in list(self._listeners):
                    if isinstance(signal, kind):
                        await self._call(callback, signal)
            self._signalled.clear()
            await self._signalled.wait()

    async def _call(self, callback: Callable[[Any], Any], argument: object) -> None:
        """Call other people's code; what it raises hurts nobody else."""
        try:
            result = callback(argument)
            if inspect.isawaitable(result):
                await result
        except Exception as exc:
            log.exception("a callback raised")
            # A callback for problems that raises must not make more of them.
            if not isinstance(argument, Problem):
                self._tell(Problem(code="CALLBACK", message=f"A callback raised {exc!r}."))

    # Private: the rest

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends, at the latest, with the client."""

        async def guarded() -> None:
            try:
                await work
            except Exception as exc:
                log.exception("a bug in the client")
                self._finish(exc, "bug")

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _finish(self, error: BaseException | None, reason: str, *, code: int | None = None) -> None:
        """End all subscriptions; nothing comes any more."""
        self._over = self._over or error
        self._opened.clear()
        self._change(StateChange(state=State.CLOSED, code=code, reason=str(error) if error else "Closed."))
        for subscription in list(self._subscriptions.values()):
            subscription._end(error, reason)  # noqa: SLF001
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
        if self._typing.get(thread_id) is not throttle or self._closing:
            return
        left_ms = throttle.silent_in_ms(now_ms=_tick_ms())
        if left_ms > 0:
            self._typing_stop_later(thread_id, throttle, left_ms)
            return
        self.typing(thread_id, is_typing=False)


def encoded(encrypted: bytes | str) -> str:
    """Write ciphertext as base64; text is base64 already."""
    return base64.b64encode(encrypted).decode("ascii") if isinstance(encrypted, bytes) else encrypted


def connect(
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
) -> Orbital:
    """
    Connect to a server, and stay connected.

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
        ValueError: If `url` is not an address.
    """
    return Orbital(
        url,
        token=token,
        store=store,
        outbox=outbox,
        verify=verify,
        buffer=buffer,
        open_timeout_s=open_timeout_s,
        idle_slack_s=idle_slack_s,
        request_timeout_s=request_timeout_s,
        backoff=backoff,
        random=random,
        transport=transport,
    )
