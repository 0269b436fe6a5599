"""Push delivery: follows the log as a background consumer, notifies devices that are not connected, retries."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfoNotFoundError

from orbital_relay.errors import NotFound, OrbitalError, PositionLost
from orbital_relay.model import ClaimedPush, Event, GroupId, PushOutcome
from orbital_relay.ports import Clock, Store
from orbital_relay.server.push.encryption import seal
from orbital_relay.server.push.messages import PushCall, bare, calls, collapse, payload
from orbital_relay.server.push.quiet import quiet_until_ms
from orbital_relay.server.push.sender import Sender, Sent

log = logging.getLogger("orbital.push")

GATHER_S: Final = 0.5
"""How long events are gathered before devices are looked for: one look-up for all events of half a second."""
LOOK_S: Final = 5.0
"""How often devices are looked for whose wait is over, or that another server left behind."""
MOST_CALLED: Final = 32
"""Devices that a server calls at a time."""
CLAIM_MS: Final = 120_000
"""How long a claim holds: after it, another server calls the device if this one has died."""
CALL_S: Final = 60.0
"""Deadline of all messages of one claim; less than the claim holds."""
IDLE_MS: Final = 60_000
"""How long a device is left alone in whose groups nothing could be read."""
PAGE_EVENTS: Final = 200
"""Events that are read at once for a device."""
STEPS_S: Final = (5, 15, 60, 300, 900, 3600)
"""Waits after 1, 2, 3, … calls that failed in a row; the last one stands for all that follow."""
MOST_FAILURES: Final = 72
"""A subscription is deleted after so many failures in a row: three days of a push service that answers nothing good."""


class Pusher:
    """
    Calls devices by push messages.

    A device's position is stored when its call succeeded, so a call that a crash interrupts is made again; a claim in
    the store keeps two servers from calling for one event. It never holds up a POST: it learns that something was
    stored, and reads it from the log.

    Args:
        store: The log and the subscriptions.
        clock: The time.
        sender: Sends.
        results: Counts the messages by result.
        alone: Whether no other server shares the database: then the claims of an earlier process are void.

    Attributes:
        due: Set when devices should be looked for before the next round.
    """

    def __init__(self, *, store: Store, clock: Clock, sender: Sender, results: Counter[str], alone: bool) -> None:
        self.due = asyncio.Event()
        self._store = store
        self._clock = clock
        self._sender = sender
        self._results = results
        self._void = alone
        self._gathering: asyncio.TimerHandle | None = None
        self._calling: set[asyncio.Task[None]] = set()
        self._outcomes: list[PushOutcome] = []
        self._storing: asyncio.Task[None] | None = None

    def stored(self) -> None:
        """Note that events were stored. Called for each batch of the hot path: it sets a timer, at most."""
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self.due.set()

    async def look(self) -> None:
        """
        Claim the devices that are due, and start to call them.

        Raises:
            Unavailable: If the database cannot be reached; the next round finds the same.
        """
        room = MOST_CALLED - len(self._calling)
        if room <= 0:
            # The end of a call asks for the next round.
            return
        now_ms = self._clock.wall_ms()
        free_ms = now_ms + CLAIM_MS if self._void else now_ms
        numbers = await self._store.due_pushes(now_ms=now_ms, free_ms=free_ms, limit=room)
        if numbers:
            claimed = await self._store.claim_pushes(
                numbers, now_ms=now_ms, free_ms=free_ms, until_ms=now_ms + CLAIM_MS
            )
            for claim in claimed:
                task = asyncio.create_task(self._call(claim), name="push")
                self._calling.add(task)
                task.add_done_callback(self._calling.discard)
        self._void = False

    async def close(self) -> None:
        """Cancel the calls in progress; devices that they did not reach are notified after the next start."""
        if self._gathering is not None:
            self._gathering.cancel()
        tasks = [*self._calling, *([] if self._storing is None else [self._storing])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sender.close()

    # Chapter: one device

    async def _call(self, claim: ClaimedPush) -> None:
        work = _Work(claim)
        try:
            async with asyncio.timeout(CALL_S):
                await self._work(work)
        except TimeoutError:
            work.failed = Sent("failed", reason="too slow")
        except OrbitalError as exc:
            work.failed = Sent("failed", reason=exc.message)
        except Exception:
            log.exception("a device could not be called")
            work.failed = Sent("failed", reason="a bug of this server")
        self._enqueue_outcome(self._outcome(work))

    async def _work(self, work: _Work) -> None:
        claim = work.claim
        quiet = claim.preferences.quiet
        if quiet is not None:
            try:
                work.wait_until_ms = quiet_until_ms(quiet, now_ms=self._clock.wall_ms())
            except ZoneInfoNotFoundError:
                log.warning(
                    "a time zone is unknown here; quiet hours in it do not count", extra={"zone": quiet.time_zone}
                )
        if work.wait_until_ms:
            return
        for group_id, position in claim.behind.items():
            if not await self._catch_up(work, GroupId(group_id), position):
                return

    async def _catch_up(self, work: _Work, group_id: GroupId, position: int) -> bool:
        """Call a device for all that is new in a group; return False when it cannot be called now."""
        while True:
            try:
                page = await self._store.read(group_id, after=position, limit=PAGE_EVENTS)
            except PositionLost as exc:
                position = int(exc.details["oldest_seq"]) - 1
                continue
            except NotFound:
                # The group was deleted meanwhile.
                return True
            if not page.events:
                return True
            if not await self._send(work, group_id, page.events):
                return False
            position = page.events[-1].seq
            work.reached[group_id] = position
            if position >= page.head.seq:
                return True

    async def _send(self, work: _Work, group_id: GroupId, events: list[Event]) -> bool:
        found = calls(events, work.claim, now_ms=self._clock.wall_ms())
        # Read just before they are sent: what was deleted while the device waited calls it no more.
        targets = {target_id for call in found for target_id in call.target_ids}
        chosen = collapse(found, await self._store.deleted_among(targets) if targets else frozenset())
        threads = {call.message.thread_id for call in chosen if call.message.thread_id is not None}
        titles = await self._store.thread_titles(threads) if threads else {}
        for call in chosen:
            sent = await self._post(work.claim, call, payload(call.message, titles))
            if sent.result == "large":
                sent = await self._post(work.claim, call, bare(call.message))
            self._results[sent.result] += 1
            if sent.result != "sent":
                work.failed = sent
                return False
            work.reached[group_id] = call.seq
            work.sent = True
        return True

    async def _post(self, claim: ClaimedPush, call: PushCall, body: bytes) -> Sent:
        target = claim.target
        return await self._sender.send(
            target.endpoint,
            seal(body, target),
            topic=call.topic(target.auth),
            ttl_s=call.ttl_s(self._clock.wall_ms()),
            urgency=call.urgency,
        )

    def _outcome(self, work: _Work) -> PushOutcome:
        claim, failed = work.claim, work.failed
        if failed is None:
            failures = 0 if work.sent else claim.failures
            wait_until_ms = work.wait_until_ms
            if not work.reached and not wait_until_ms:
                # Nothing to read after all, such as in a group that is being deleted.
                wait_until_ms = self._clock.wall_ms() + IDLE_MS
            return PushOutcome(
                number=claim.number, reached=work.reached, failures=failures, wait_until_ms=wait_until_ms
            )
        failures = 1 if work.sent else claim.failures + 1
        # The endpoint itself is a secret: who knows it can send to it.
        about = {"service": urlsplit(claim.target.endpoint).hostname, "reason": failed.reason, "failures": failures}
        if failed.result == "gone" or failures > MOST_FAILURES:
            log.info("a push subscription has ended", extra=about)
            return PushOutcome(number=claim.number, gone=True)
        log.warning("a push service did not take a message; it is sent again later", extra=about)
        step_s = STEPS_S[min(failures, len(STEPS_S)) - 1]
        # Spread, so that the devices of one push service do not all come back at once.
        wait_s = max(step_s * (1 + random.random() / 4), failed.retry_after_s)  # noqa: S311 - not a secret
        return PushOutcome(
            number=claim.number,
            reached=work.reached,
            failures=failures,
            wait_until_ms=self._clock.wall_ms() + int(wait_s * 1000),
        )

    # Chapter: storing what came of it

    def _enqueue_outcome(self, outcome: PushOutcome) -> None:
        self._outcomes.append(outcome)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_outcomes(), name="push outcomes")

    async def _store_outcomes(self) -> None:
        """Store the outcomes; those that come meanwhile share the next transaction."""
        while self._outcomes:
            some, self._outcomes = self._outcomes, []
            try:
                await self._store.store_outcomes(some)
            except OrbitalError as exc:
                # The claims end by themselves, and the devices are called again: once too often, not once too few.
                log.warning("the outcome of push messages could not be stored", extra={"reason": exc.message})
        # For events that were stored meanwhile, and for devices that there was no room for.
        self.due.set()


class _Work:
    """What was done for one claim so far."""

    __slots__ = ("claim", "failed", "reached", "sent", "wait_until_ms")

    def __init__(self, claim: ClaimedPush) -> None:
        self.claim = claim
        self.reached: dict[str, int] = {}
        self.sent = False
        self.failed: Sent | None = None
        self.wait_until_ms = 0
