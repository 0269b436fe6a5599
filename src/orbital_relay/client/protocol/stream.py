"""
One group's stream: order, deduplication and gap detection, over connections and pages of the log.

Whatever keeps an event from being taken at once (a gap, a reader whose buffer is full) makes the stream *behind*: it is
read from the log over REST until it has caught up. So there is one way back, and no buffer grows beyond its bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from orbital_relay.client.errors import ChainBroken, ClientError
from orbital_relay.client.events import (
    CaughtUp,
    Event,
    MemberLeft,
    Position,
    Problem,
    Reset,
    ResetReason,
)
from orbital_relay.client.protocol.effects import (
    Deliver,
    Ended,
    Fetch,
    Notify,
    ProtocolEffect,
    Reconnect,
    SubscriptionConfirmed,
)
from orbital_relay.client.protocol.frames import BadFrame, Frame, Makes, event_of, read_frame
from orbital_relay.client.protocol.subscription_state import STEPS, SubscriptionState, Word
from orbital_relay.core.chain import Chain, digest, first_prev, prev_of
from orbital_relay.core.cursor import Cursor, Verdict

PAGE_LIMIT: Final = 1_000
"""The most events that the server gives in one answer."""

EMPTY_PAGE_PAUSES_MS: Final = (1_000, 2_000, 4_000, 8_000)
"""Waits before asking again for an event that was announced and is not in the log; after the last one it is missing."""

HASHES_KEPT: Final = 1_000
"""Hashes of delivered events that are remembered with `verify`, to compare a repeat with; 100 KB a group."""


class Stream:
    """
    One group that is listened to. Every method returns the effects to carry out, in order.

    A stream never delivers an event twice or out of order, and never asks for a page while one is in progress.
    """

    def __init__(
        self, group_id: str, since: Position | None, *, verify: bool, capacity: int, ticket: Callable[[], int]
    ) -> None:
        """
        Start after `since`, or at the log's end when it is None.

        Args:
            group_id: The group.
            since: The reader's position.
            verify: Check the hash chain, and report what a sound server never does.
            capacity: Most items that wait for the reader.
            ticket: Returns a number for the next Fetch.
        """
        self.id = group_id
        self.state = SubscriptionState.OFF
        self.cursor = None if since is None else Cursor(since.seq)
        self.chain = Chain(None if since is None else first_prev(group_id) if since.seq == 0 else since.hash)
        self.asked_since = False
        """Whether the position went along with the last `subscribe`."""
        self.user_id: str | None = None
        self.waiting = 0
        """Items delivered and not yet taken by the reader."""
        self._verify = verify
        self._capacity = capacity
        self._new_ticket = ticket
        self._ticket = 0
        """Names the Fetch in progress; 0 when there is none."""
        self._highest_seen = 0 if since is None else since.seq
        """The highest number that is known to exist."""
        self._behind = False
        self._misses = 0
        """Pages in a row that did not hold the next event."""
        self._doubted: int | None = None
        """Where the server would have us continue, while the log is asked whether it must be so."""
        self._target: int | None = None
        """The number at which the stream counts as caught up; None once it did."""
        self._read_to = 0
        """The highest number that came from the log: the socket may repeat up to there."""
        self._hashes: OrderedDict[int, str] = OrderedDict()
        self._departed = False
        """Whether the last event delivered is that this user left."""
        self._seen_at_ping: tuple[SubscriptionState, int] | None = None

    # Public: facts

    @property
    def last(self) -> int:
        """Number of the last event delivered."""
        return self.cursor.last if self.cursor else 0

    @property
    def room(self) -> int:
        """How many items the buffer still takes."""
        return self._capacity - self.waiting

    @property
    def position(self) -> Position | None:
        """The position after the last event delivered; None when it is not known yet."""
        return None if self.cursor is None else Position(self.last, self.chain.prev if self.last else None)

    def step(self, word: Word) -> bool:
        """Move to the next state; False when this word means nothing now."""
        after = STEPS.get((self.state, word))
        if after is None:
            return False
        self.state = after
        return True

    # Public: what comes over the socket

    def confirm(self, seq: int | None, *, recovered: bool | None) -> list[ProtocolEffect]:
        """Receive `subscribed`, with the log's end and whether all since the position follows."""
        again = self.state is SubscriptionState.ON
        if not self.step(Word.CONFIRM):
            return []
        if again:
            lost = seq is not None and recovered is False and self.last < seq
            return self._not_recovered(seq) if lost and seq is not None else []
        confirmed: list[ProtocolEffect] = [SubscriptionConfirmed(self.id, seq)]
        if seq is None:
            return confirmed
        if self.cursor is None:
            self.cursor = Cursor(seq)
            self.chain = Chain(first_prev(self.id) if seq == 0 else None)
        self._target = seq
        if self.asked_since and recovered is False:
            return confirmed + self._not_recovered(seq)
        self._highest_seen = max(self._highest_seen, seq)
        return confirmed + self._catch_up()

    def event(self, frame: Frame, text: bytes) -> list[ProtocolEffect]:
        """Receive a durable event."""
        # Before `subscribed` nothing can follow: this is left from an earlier request, and the answer's seq covers it.
        if self.state is not SubscriptionState.ON:
            return []
        if self._doubted is not None:  # Where we stand is not decided yet; the log has this event, too.
            self._highest_seen = max(self._highest_seen, frame.seq)
            return []
        return self._offer(frame, text, live=True)

    def dismiss(self, reason: str) -> list[ProtocolEffect]:
        """Receive an `unsubscribed` that was not asked for: the user is no member any more."""
        if not self.step(Word.DISMISS):
            return []
        notices: list[ProtocolEffect] = []
        if self._verify and not self._behind and not self._departed:
            notices = self._problem(
                "UNPROVEN_END",
                f"The server ended the group {self.id} ({reason}) without the member_left event that explains it.",
            )
        return [*notices, Ended(self.id, None, reason)]

    def ping(self) -> list[ProtocolEffect]:
        """Receive a heartbeat: what was due before the last one, and has not moved since, is asked for again."""
        now = (self.state, self.last)
        stuck = self._seen_at_ping == now
        self._seen_at_ping = now
        if not stuck:
            return []
        if self.state is SubscriptionState.ASKED:
            notices = self._problem("NO_ANSWER", f"The server does not answer the request for the group {self.id}.")
            return [*notices, Reconnect("The server does not answer a request.")]
        if self.state is SubscriptionState.ON and self.last < self._highest_seen and not self._ticket and self.room > 0:
            self._behind = True
            return self._fetch()
        return []

    # Public: what the reader does

    def taken(self, count: int) -> list[ProtocolEffect]:
        """Note that the reader took `count` items out of the buffer."""
        self.waiting = max(0, self.waiting - count)
        effects = self._catch_up()
        return effects + self._fetch() if self._behind else effects

    # Public: what the log answers

    def page(self, ticket: int, frames: list[bytes]) -> list[ProtocolEffect]:
        """Receive the answer to the Fetch with this ticket; the answer to an older one changes nothing."""
        if self._ticket != ticket:
            return []
        self._ticket = 0
        effects: list[ProtocolEffect] = []
        before = self.last
        for text in frames:
            try:
                frame = read_frame(text)
                if frame.makes is not Makes.EVENT or frame.group_id != self.id:
                    raise BadFrame(f"The log of the group {self.id} contains an event of another group.")
            except BadFrame as exc:
                effects += self._problem("BAD_FRAME", str(exc))
                continue
            if self._doubted is not None:
                effects += self._resolve(frame, text)
            if frame.seq > self.last + 1:
                if self.room > 0 and self._misses == len(EMPTY_PAGE_PAUSES_MS) and not self._verify:
                    effects += self._reset(frame.seq - 1, ResetReason.MISSING)
                    self._behind = True
                else:
                    break
            effects += self._offer(frame, text, live=False)
            if self.state is SubscriptionState.ENDED:
                return effects
        if self._doubted is not None:  # The log holds nothing after our position.
            return effects + self._yield_to_log()
        if not self._behind:
            return effects
        if self.last > before or self.room <= 0:
            self._misses = 0
            return effects + self._fetch()
        return effects + self._miss()

    def gone(self, ticket: int, oldest_seq: int) -> list[ProtocolEffect]:
        """Receive, in answer to a Fetch, that the log no longer keeps what it asked for and begins at `oldest_seq`."""
        if self._ticket != ticket:
            return []
        self._ticket = 0
        if self._doubted is not None:
            return self._yield_to_log()
        if self._verify and oldest_seq <= self.last + 1:
            notices = self._problem(
                "FALSE_GONE",
                f"The server calls events of the group {self.id} deleted that it says it keeps: those from {oldest_seq}"
                f" on, asked for after {self.last}.",
            )
            return notices + self._miss()
        seq = max(0, oldest_seq - 1)
        effects = self._reset(seq, ResetReason.GONE)
        self._behind = seq < self._highest_seen
        return effects + (self._fetch() if self._behind else self._catch_up())

    def refused(self, ticket: int, error: ClientError) -> list[ProtocolEffect]:
        """Receive that a Fetch will never be answered; the stream ends with `error`."""
        return self.end(error, "refused") if self._ticket == ticket else []

    def end(self, error: ClientError | None, reason: str) -> list[ProtocolEffect]:
        """End the stream."""
        self.step(Word.BREAK)
        return [Ended(self.id, error, reason)]

    # Private: events

    def _offer(self, frame: Frame, text: bytes, *, live: bool) -> list[ProtocolEffect]:
        """Offer an event to the cursor; deliver it when it is the next one and there is room."""
        self._highest_seen = max(self._highest_seen, frame.seq)
        if self.cursor is None:  # A server that did not say where the log stands: this is where.
            self.cursor = Cursor(frame.seq - 1)
        if self.room <= 0 and frame.seq > self.cursor.last:
            self._behind = True
            return []
        if self._verify and frame.seq == self.cursor.last + 1 and not self.chain.offer(text):
            return self.end(ChainBroken(self.id, frame.seq), "chain")
        match self.cursor.offer(frame.seq):
            case Verdict.NEXT:
                return self._deliver(event_of(frame, text), live=live)
            case Verdict.SEEN:
                return self._repeated(frame.seq, text, live=live) if self._verify else []
            case Verdict.GAP:
                notices: list[ProtocolEffect] = []
                if self._verify and not self._behind and not self._ticket:
                    notices = self._problem(
                        "GAP",
                        f"Event {frame.seq} of the group {self.id} came after {self.cursor.last}: the server left some "
                        "out or changed their order. They are read from the log.",
                    )
                self._behind = True
                return notices + self._fetch()

    def _deliver(self, event: Event, *, live: bool) -> list[ProtocolEffect]:
        self.chain.prev = event.hash
        self.waiting += 1
        self._misses = 0
        if not live:
            self._read_to = event.seq
        self._departed = isinstance(event, MemberLeft) and event.data.user_id == self.user_id
        if self._verify:
            self._hashes[event.seq] = event.hash
            if len(self._hashes) > HASHES_KEPT:
                self._hashes.popitem(last=False)
        if self._target is None and not self._behind:  # The usual case; two calls less for each event.
            return [Deliver(self.id, event)]
        return [Deliver(self.id, event), *self._catch_up()]

    def _repeated(self, seq: int, text: bytes, *, live: bool) -> list[ProtocolEffect]:
        """Compare a number that was delivered already with what was delivered."""
        known = self._hashes.get(seq)
        if known is not None and known != digest(text):
            return self.end(ChainBroken(self.id, seq), "chain")
        if not live or seq <= self._read_to:
            return []
        return self._problem("REPEATED", f"The server sent event {seq} of the group {self.id} again.")

    def _catch_up(self) -> list[ProtocolEffect]:
        """Deliver a CaughtUp, once, when the last missed event is delivered."""
        if self.last >= self._highest_seen:
            self._behind = False
        if self._target is None or self.last < self._target or self.room <= 0:
            return []
        self._target = None
        self.waiting += 1
        return [Deliver(self.id, CaughtUp(group_id=self.id, seq=self.last))]

    # Private: what is missing

    def _fetch(self, *, pause_ms: int = 0) -> list[ProtocolEffect]:
        """
        Read the log from the position on, unless that is in progress.

        Not before half of the buffer is free, so that a slow reader costs one request for half a buffer and not one
        for each event; `taken` asks again.
        """
        if self._ticket or self.waiting > self._capacity // 2 or self.cursor is None:
            return []
        self._ticket = self._new_ticket()
        return [Fetch(self.id, self.cursor.last, min(PAGE_LIMIT, self.room), self._ticket, pause_ms)]

    def _miss(self) -> list[ProtocolEffect]:
        """Ask again, later each time, for an event that is announced and not in the log; at last it is missing."""
        if self._misses < len(EMPTY_PAGE_PAUSES_MS):
            self._misses += 1
            return self._fetch(pause_ms=EMPTY_PAGE_PAUSES_MS[self._misses - 1])
        self._misses = 0
        seq = self.last + 1
        if self._verify:
            return self.end(ChainBroken(self.id, seq), "chain")
        notices = self._problem(
            "MISSING", f"The server announced event {seq} of the group {self.id}, which its log does not have."
        )
        self._highest_seen = self.last
        if self._target is not None:
            self._target = min(self._target, self.last)
        return notices + self._catch_up()

    def _not_recovered(self, seq: int) -> list[ProtocolEffect]:
        """Continue after `seq`, since the server cannot resume; with `verify` ask the log first whether that is so."""
        self._highest_seen = self._doubted = seq
        if self._verify and seq >= self.last and self.cursor is not None:
            self._ticket = self._new_ticket()
            self._behind = True
            return [Fetch(self.id, self.cursor.last, min(PAGE_LIMIT, max(1, self.room)), self._ticket)]
        return self._yield_to_log(ResetReason.AHEAD if self.last > seq else ResetReason.GONE)

    def _resolve(self, frame: Frame, text: bytes) -> list[ProtocolEffect]:
        """Compare the first frame of the log with the position that the server called lost."""
        try:
            follows = frame.seq == self.last + 1 and prev_of(text) == (self.chain.prev or prev_of(text))
        except ValueError:
            follows = False
        if not follows:
            return self._yield_to_log()
        self._doubted = None
        return self._problem(
            "FALSE_RESET",
            f"The server said that what follows event {self.last} of the group {self.id} is lost, and its log has it. "
            "It is read from there.",
        )

    def _yield_to_log(self, reason: ResetReason = ResetReason.GONE) -> list[ProtocolEffect]:
        """Continue after the number that the server named."""
        seq = self._doubted or 0
        effects = self._reset(seq, reason)
        self._behind = seq < self._highest_seen
        return effects + (self._fetch() if self._behind else self._catch_up())

    def _reset(self, seq: int, reason: ResetReason) -> list[ProtocolEffect]:
        """Abandon the position and continue after `seq`."""
        last = self.last
        self.cursor = Cursor(seq)
        self.chain = Chain(first_prev(self.id) if seq == 0 else None)
        self._hashes.clear()
        self._behind = False
        self._ticket = 0
        self._misses = 0
        self._doubted = None
        self.waiting += 1
        return [Deliver(self.id, Reset(group_id=self.id, last_seq=last, seq=seq, reason=reason))]

    def _problem(self, code: str, message: str) -> list[ProtocolEffect]:
        return [Notify(Problem(code=code, message=message, details={"group_id": self.id}))]
