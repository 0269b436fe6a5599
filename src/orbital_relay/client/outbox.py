"""
The outbox (send queue, offline queue): posts are retried until stored, once each, in order within a group.

Every try of a post carries the same idempotency key, so a try whose answer was lost does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from orbital_relay.client.api import Api
from orbital_relay.client.api.bodies import key_or_new
from orbital_relay.client.errors import ApiError, Closed, Discarded, OutboxExpired, OutboxFull, Unreachable
from orbital_relay.client.events import Problem
from orbital_relay.client.http import AWAITED_MOST_S, decode
from orbital_relay.client.stores import MemoryOutbox, OutboxStore, QueuedPost
from orbital_relay.client.user_code import await_user_code
from orbital_relay.core.backoff import BACKOFF, Backoff

T = TypeVar("T")

MOST_POSTS: Final = 1_000
"""Most posts that wait, over all groups: 350 MB when every envelope is as large as may be, and 1 MB as a rule."""

KEY_LIFE_MS: Final = 23 * 3_600_000
"""The server remembers a key for 24 hours; an hour less allows for clocks that differ."""


AWAITED_MOST_MS: Final = round(AWAITED_MOST_S * 1_000)
"""The longest wait between two tries of a post that somebody waits for."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A post in its lane."""

    post: QueuedPost
    stored: asyncio.Future[None]
    answer: asyncio.Future[bytes]
    awaited: bool
    """Whether a caller waits for the answer: not for a post of an earlier run, nor after the caller was cancelled."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to end the wait for the next try."""
    discarded: bool = False


class Outbox:
    """
    The posts that the server does not have yet.

    Posts of one lane are sent one after the other, those of different lanes side by side. An outbox never reorders a
    lane, and never sends a post again under another key.
    """

    def __init__(
        self,
        api: Api,
        *,
        store: OutboxStore | None = None,
        backoff: Backoff = BACKOFF,
        random: Callable[[], float],
        report: Callable[[Problem], None],
        limit: int = MOST_POSTS,
    ) -> None:
        """
        Send over `api`.

        Args:
            api: The REST side.
            store: Where posts are kept; in memory when None.
            backoff: How long to wait between tries.
            random: Gives a number in [0, 1).
            report: Receives refused posts that nobody waits for: those of an earlier run, and of cancelled calls.
            limit: Most posts that wait.
        """
        self._api = api
        self._store: OutboxStore = store or MemoryOutbox()
        self._backoff = backoff
        self._random = random
        self._report = report
        self._limit = limit
        self._lanes: dict[str, deque[_Waiting]] = {}
        self._paused_lanes: set[str] = set()
        """Lanes that stand until there is another token."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._closed = False

    # Public

    @property
    def waiting(self) -> int:
        """How many posts the server does not have yet."""
        return self._count

    async def start(self) -> None:
        """Take up what an earlier run left."""
        for post in await self._store.load():
            waiting = self._enqueue(post, awaited=False)
            waiting.stored.set_result(None)

    async def post(self, lane: str, path: str, body: dict[str, Any], answer: type[T], *, key: str | None = None) -> T:
        """
        Send a post, however long it takes.

        When the caller is cancelled the post stays in the outbox and is still sent.

        Args:
            lane: Posts of one lane keep their order.
            path: Where to.
            body: The JSON body.
            answer: The type of the answer.
            key: The idempotency key; a new one when None.

        Raises:
            OutboxFull: If too many posts wait; nothing was kept.
            ApiError: If the server refused it permanently.
            OutboxExpired: If it was tried and is too old to be tried again.
            Discarded: If it was discarded first.
            Closed: If the client was closed first; a post in a store is sent by the next run.
            BadAnswer: If the server has it, and answered in a form that this version does not know.
            ValueError: If `key` cannot be one.
        """
        if self._closed:
            raise Closed("The client is closed.")
        if self._count >= self._limit:
            raise OutboxFull(f"{self._count} posts wait for the server; wait for some to be sent.")
        now_ms = time.time_ns() // 1_000_000
        post = QueuedPost(
            key=key_or_new(key),
            lane=lane,
            path=path,
            body=msgspec.Raw(msgspec.json.encode(body)),
            created_ms=now_ms,
            # An idle lane sends at once; saying so now saves a second write.
            tried_ms=None if lane in self._lanes else now_ms,
        )
        waiting = self._enqueue(post, awaited=True)
        self._own(self._keep(waiting))
        if lane in self._paused_lanes:
            self.wake()
        try:
            # Shielded: cancelling the caller does not discard the post.
            content = await asyncio.shield(waiting.answer)
        except asyncio.CancelledError:
            waiting.awaited = False
            raise
        return decode(content, answer)

    async def discard(self, key: str) -> bool:
        """
        Discard the post with this idempotency key; when this returns it is deleted from the store.

        A try that is in progress is not interrupted, and may still reach the server.

        Args:
            key: The idempotency key.

        Returns:
            Whether such a post was waiting; its caller gets Discarded.
        """
        found = [
            waiting
            for lane in self._lanes.values()
            for waiting in lane
            if waiting.post.key == key and not waiting.discarded
        ]
        for waiting in found:
            waiting.discarded = True
            self._count -= 1
            _fail(waiting, Discarded(f"The post {key} was discarded before the server had answered it."))
            waiting.awake.set()
        for waiting in found:
            await asyncio.wait([waiting.stored])
            await self._forget(waiting)
        return bool(found)

    def wake(self) -> None:
        """Try at once each post that waits for its next try: the server can be reached again."""
        for lane in self._lanes.values():
            lane[0].awake.set()

    async def close(self) -> None:
        """Stop trying; what is in a store stays there."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for waiting in lane:
                _fail(waiting, Closed("The client was closed before the server had the post."))
        self._lanes.clear()

    # Private

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _enqueue(self, post: QueuedPost, *, awaited: bool) -> _Waiting:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(post, loop.create_future(), loop.create_future(), awaited)
        self._count += 1
        if post.lane in self._lanes:
            self._lanes[post.lane].append(waiting)
        else:
            self._lanes[post.lane] = deque([waiting])
            self._own(self._run(post.lane))
        return waiting

    async def _keep(self, waiting: _Waiting) -> None:
        """Put a post into the store; it is not sent before it is there."""
        try:
            await await_user_code(self._store.put(waiting.post))
        except Exception as exc:  # noqa: BLE001 - a store is other people's code; its error belongs to who posts
            waiting.stored.set_exception(exc)
            waiting.stored.exception()  # Seen: its lane may be closed before it gets there.
        else:
            waiting.stored.set_result(None)

    async def _run(self, lane: str) -> None:
        """Send the posts of one lane, one after the other, until it is empty."""
        queue = self._lanes[lane]
        while queue:
            waiting = queue[0]
            try:
                await waiting.stored
                answer = await self._send(waiting)
            except Exception as exc:  # noqa: BLE001 - every error belongs to the caller of `post`
                if not waiting.awaited and not waiting.discarded:
                    self._report_unsent(waiting.post, exc)
                    if isinstance(exc, ApiError) and exc.status == 401:
                        # The token was refused, not the post: it stays for a run with another token.
                        await self._pause_lane(lane, exc)
                        continue
                await self._forget(waiting)
                _fail(waiting, exc)
            else:
                try:
                    await self._forget(waiting)
                finally:  # Also when the client is closed now: the server has the post.
                    if not waiting.answer.done():
                        waiting.answer.set_result(answer)
            self._drop(queue, waiting)
        del self._lanes[lane]

    def _drop(self, queue: deque[_Waiting], waiting: _Waiting) -> None:
        """Remove a post from its lane; a discarded one is no longer counted."""
        queue.remove(waiting)
        if not waiting.discarded:
            self._count -= 1

    async def _pause_lane(self, lane: str, refused: ApiError) -> None:
        """Stop a lane until its first post is woken or discarded; calls that wait in it fail with `refused`."""
        queue = self._lanes[lane]
        head = queue[0]
        for waiting in [each for each in queue if each.awaited]:
            await asyncio.wait([waiting.stored])
            await self._forget(waiting)
            _fail(waiting, refused)
            self._drop(queue, waiting)
        self._paused_lanes.add(lane)
        try:
            await head.awake.wait()
        finally:
            self._paused_lanes.discard(lane)

    def _report_unsent(self, post: QueuedPost, exc: Exception) -> None:
        self._report(
            Problem(
                code=exc.code if isinstance(exc, ApiError) else "OUTBOX",
                message=f"A post of an earlier run, or of a cancelled call, was not sent: {exc}",
                details={"idempotency_key": post.key, "path": post.path},
            )
        )

    async def _forget(self, waiting: _Waiting) -> None:
        try:
            await await_user_code(self._store.remove(waiting.post.key))
        except Exception as exc:  # noqa: BLE001 - a store is other people's code
            # It would be sent again by the next run, under its key: no harm within the key's life.
            self._report(Problem(code="STORE", message=f"A sent post could not be removed from its store: {exc}"))

    async def _send(self, waiting: _Waiting) -> bytes:
        """Try a post until the server has it or refuses it."""
        failures = 0
        while True:
            now_ms = time.time_ns() // 1_000_000
            post = waiting.post
            waiting.awake.clear()
            retry_after_ms = 0
            if waiting.discarded:
                raise Discarded(f"The post {post.key} was discarded.")
            if post.tried_ms is not None and now_ms - post.tried_ms > KEY_LIFE_MS:
                raise OutboxExpired(
                    "This post was tried more than 23 hours ago, and the answer was lost: the server may have it. "
                    "Read the group's log, and post it again if it is missing."
                )
            if await self._noted(waiting, now_ms) and not waiting.discarded:
                try:
                    content = await self._api.post(post.path, bytes(post.body), idempotency_key=post.key)
                    decode(content, _Receipt)
                except ApiError as exc:
                    if not exc.retryable:
                        raise
                    retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
                except Closed:
                    raise
                except Unreachable as exc:  # Also whatever a proxy says in the server's place.
                    retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
                except Exception as exc:  # noqa: BLE001 - the token function is other people's code
                    self._report(
                        Problem(code="TOKEN", message=f"A post waits, since the token function failed: {exc!r}")
                    )
                else:
                    return content
            failures += 1
            delay_ms = self._backoff.delay_ms(
                failures - 1, random=self._random(), now_ms=0, retry_after_ms=retry_after_ms
            )
            if waiting.awaited:
                delay_ms = min(delay_ms, AWAITED_MOST_MS)
            try:
                async with asyncio.timeout(delay_ms / 1_000):
                    await waiting.awake.wait()
            except TimeoutError:
                pass

    async def _noted(self, waiting: _Waiting, now_ms: int) -> bool:
        """Store the time of the first try before it is made; False when that failed and no caller waits."""
        if waiting.post.tried_ms is not None:
            return True
        tried = msgspec.structs.replace(waiting.post, tried_ms=now_ms)
        try:
            await await_user_code(self._store.put(tried))
        except Exception as exc:
            if waiting.awaited:
                raise
            self._report(Problem(code="STORE", message=f"A post waits, since its store failed: {exc}"))
            return False
        waiting.post = tried
        return True


class _Receipt(msgspec.Struct):
    """
    What every answer to a post has one of (`api.receipts`).

    No more is asked of it: a post that was stored is not sent again because another version's answer lacks a field.
    """

    message_id: str | None = None
    thread_id: str | None = None
    reply_id: str | None = None

    def __post_init__(self) -> None:
        if self.message_id is self.thread_id is self.reply_id is None:
            raise ValueError("it names nothing that was made")


def _fail(waiting: _Waiting, exc: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(exc)
        # Nobody may ask any more: mark it as seen, or the loop would complain of an error never retrieved.
        waiting.answer.exception()
