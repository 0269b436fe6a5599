"""The subscriptions of a client: where each starts, delivery, and catch-up from the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

from orbital_relay.client.api import Api
from orbital_relay.client.clocks import now_ms
from orbital_relay.client.errors import AlreadySubscribed, ApiError, Closed, NotAMember, StoreDamaged, Unreachable
from orbital_relay.client.events import MAX_SEQ, CaughtUp, Event, Position, Problem, Reset, StreamItem
from orbital_relay.client.progress import Progress
from orbital_relay.client.protocol.conversation import ClientProtocol
from orbital_relay.client.protocol.effects import Fetch, ProtocolEffect
from orbital_relay.client.signals import Signals
from orbital_relay.client.stores import PositionStore
from orbital_relay.client.subscription import Subscription
from orbital_relay.client.user_code import await_user_code
from orbital_relay.core.backoff import Backoff

log = logging.getLogger("orbital.client")

FETCHES: Final = 4
"""Pages of the log read at once: after an outage many groups are behind, and the server serves others too."""

OnEvent = Callable[[Event | Reset | CaughtUp], Awaitable[None] | None]


class Readers:
    """
    The subscriptions of one client, by group.

    They are held weakly: one that the program drops without closing it is released at its next event.
    """

    def __init__(
        self,
        api: Api,
        conversation: ClientProtocol,
        *,
        store: PositionStore | None,
        signals: Signals,
        backoff: Backoff,
        random: Callable[[], float],
        apply: Callable[[list[ProtocolEffect]], None],
        own: Callable[[Coroutine[Any, Any, None]], None],
        closing: Callable[[], bool],
    ) -> None:
        """
        Begin without subscriptions.

        Args:
            api: Reads the log.
            conversation: Speaks with the server.
            store: Keeps the positions over restarts.
            signals: Calls callbacks, and receives problems.
            backoff: How long to wait between tries.
            random: Returns a number in [0, 1).
            apply: Carries out effects.
            own: Runs a task until the client is closed.
            closing: Whether the client is being closed.
        """
        self._api = api
        self._conversation = conversation
        self._store = store
        self._signals = signals
        self._backoff = backoff
        self._random = random
        self._apply = apply
        self._own = own
        self._closing = closing
        self._subscriptions: WeakValueDictionary[str, Subscription] = WeakValueDictionary()
        self._progress: dict[str, Progress] = {}
        self._fetching = asyncio.Semaphore(FETCHES)

    # Public

    def get(self, group_id: str) -> Subscription | None:
        """Return the subscription to a group; None when there is none."""
        return self._subscriptions.get(group_id)

    def subscribe(
        self,
        group_id: str,
        since: Position | None,
        *,
        on_event: OnEvent | None,
        marks: bool,
        over: BaseException | None,
    ) -> Subscription:
        """
        Begin a subscription.

        Args:
            group_id: The group.
            since: Where to begin when the store knows no position.
            on_event: Called for each item.
            marks: Yield a CaughtUp too.
            over: What ended the client already; None while it lives.

        Raises:
            AlreadySubscribed: If there is one.
        """
        known = self._subscriptions.get(group_id)
        if known is not None and known.ended is None:
            raise AlreadySubscribed(group_id)
        # One that was dropped without being closed may still be known to the server.
        self._apply(self._conversation.unsubscribe(group_id, now_ms=now_ms()))
        before = self._progress.get(group_id)
        progress = self._progress[group_id] = Progress(group_id, self._store)
        subscription = Subscription(progress, marks=marks, taken=self._taken, leave=self._leave)
        self._subscriptions[group_id] = subscription
        if over is not None:
            subscription.end(over, "refused")
        elif self._store is None:
            self._apply(self._conversation.subscribe(group_id, since, now_ms=now_ms()))
        else:
            self._own(self._begin(subscription, self._store, before, since))
        if on_event is not None:
            self._own(self._pump(subscription, on_event))
        return subscription

    def deliver(self, group_id: str, item: StreamItem) -> bool:
        """Put an item into the group's buffer; False when nobody will read it."""
        subscription = self._subscriptions.get(group_id)
        if subscription is None:  # Dropped by the program without a close.
            self._apply(self._conversation.unsubscribe(group_id, now_ms=now_ms()))
            return False
        subscription.put(item)
        return True

    def end(self, error: BaseException | None, reason: str) -> None:
        """End all subscriptions once what waits is read."""
        for subscription in list(self._subscriptions.values()):
            subscription.end(error, reason)

    def acknowledge_for(self, task: asyncio.Task[Any] | None) -> None:
        """Count what was yielded last as handled where `task` is the reader."""
        for progress in self._progress.values():
            progress.acknowledge_for(task)

    async def save(self) -> None:
        """Save every position; one that cannot be saved comes again in the next run."""
        for progress in self._progress.values():
            with suppress(Exception):
                await progress.save()

    def finish(self) -> None:
        """Let nobody wait for an end any more."""
        for subscription in list(self._subscriptions.values()):
            subscription.finish()

    async def fetch(self, fetch: Fetch) -> None:
        """Read a page of the log for a group that is behind, until it is there or refused."""
        await asyncio.sleep(fetch.pause_ms / 1_000)
        failures = 0
        while True:
            retry_after_ms = 0
            try:
                async with self._fetching:
                    page = await self._api.event_frames(fetch.group_id, after_seq=fetch.after, limit=fetch.limit)
            except ApiError as exc:
                if self._gone(fetch, exc):
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
                retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
            except Exception as exc:  # noqa: BLE001 - the token function is other people's code
                self._signals.notify(Problem(code="TOKEN", message=f"Reading the log failed: {exc!r}"))
            else:
                self._apply(self._conversation.page(fetch.group_id, fetch.ticket, page.frames))
                return
            delay_ms = self._backoff.delay_ms(failures, random=self._random(), now_ms=0, retry_after_ms=retry_after_ms)
            failures += 1
            await asyncio.sleep(delay_ms / 1_000)

    # Private

    def _gone(self, fetch: Fetch, exc: ApiError) -> bool:
        """Pass on that the log no longer keeps what was asked for; False when the answer says something else."""
        oldest_seq = exc.details.get("oldest_seq")
        if exc.status != 410 or type(oldest_seq) is not int or not 0 <= oldest_seq <= MAX_SEQ:
            return False
        self._apply(self._conversation.page_gone(fetch.group_id, fetch.ticket, oldest_seq))
        return True

    async def _begin(
        self, subscription: Subscription, store: PositionStore, before: Progress | None, since: Position | None
    ) -> None:
        """Start a subscription at the position that the store knows."""
        try:
            if before is not None:  # The subscription before this one may have been dropped without a close.
                await before.save()
            known = await await_user_code(store.load(subscription.group_id))
            if known is not None and not isinstance(known, Position):
                raise StoreDamaged(
                    f"The store's position of the group {subscription.group_id} is {known!r:.80}, not a Position; "
                    "remove it to begin without one."
                )
        except Exception as exc:  # noqa: BLE001 - a store is other people's code; its error belongs to who reads
            subscription.end(exc, "store")
            return
        if subscription.ended is None and self._subscriptions.get(subscription.group_id) is subscription:
            self._apply(self._conversation.subscribe(subscription.group_id, known or since, now_ms=now_ms()))

    async def _pump(self, subscription: Subscription, on_event: OnEvent) -> None:
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
                self._signals.notify(Problem(code=code, message=str(exc) or repr(exc), details=details))
                if over:
                    return
                continue  # It was the saving that failed: no event is lost, and a later saving has it all.
            await self._signals.call(on_event, item)
            if self._closing():  # It was the callback that closed the client.
                await subscription.commit()
                return

    def _taken(self, subscription: Subscription) -> None:
        # One that is over may still be read, and what it holds is nobody's buffer any more.
        if not self._closing() and self._subscriptions.get(subscription.group_id) is subscription:
            self._apply(self._conversation.taken(subscription.group_id))

    def _leave(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.group_id) is subscription:
            if subscription.ended is None:
                self._apply(self._conversation.unsubscribe(subscription.group_id, now_ms=now_ms()))
            del self._subscriptions[subscription.group_id]
        subscription.end(None, "closed")
