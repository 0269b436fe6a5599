"""A group with subscribers here (listener, current or behind): head of the log, tail (ring buffer)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from orbital_relay.core.chain import digest, fits
from orbital_relay.core.cursor import Cursor
from orbital_relay.core.framing import text_frame
from orbital_relay.model import Event, GroupId, Head, UserId

TAIL_EVENTS: Final = 512
"""Events that a group keeps in memory while somebody is behind: the last stretch of catching up, without waiting."""
TAIL_BYTES: Final = 512 * 1024
"""The same in bytes, whichever is less."""


class Listener(ABC):
    """
    One connection, as the hub knows it: its user, its subscriptions, and how to write to it.

    It is *current*: the hub writes events to it; or *behind*: it reads the log until it has caught up with all of its
    groups. It receives one stretch of the log in the order of stamps, so it is behind as a whole.
    """

    __slots__ = ("behind", "deflate", "gone", "is_paused", "last_stamp_ms", "subscriptions", "user", "user_id")

    def __init__(self, user: int, user_id: UserId) -> None:
        self.user = user
        self.user_id = user_id
        self.subscriptions: dict[GroupId, HubSubscription] = {}
        self.behind = False
        # The transport holds more than it should: nothing is written until it says otherwise.
        self.is_paused = False
        self.gone = False
        self.deflate = False
        # The stamp of the last frame that went out; while it is behind, other frames must not overtake events.
        self.last_stamp_ms = 0

    @abstractmethod
    def send(self, wire: bytes, /) -> None:
        """Write whole frames to the connection."""

    @abstractmethod
    def lost(self, group_id: GroupId, reason: str) -> None:
        """Called when a subscription ended, since the user left or was removed."""

    @abstractmethod
    def reset(self, group_id: GroupId, seq: int) -> None:
        """Called when events of a group could not be delivered; the subscription continues after number `seq`."""


class HubSubscription:
    """
    A listener's subscription to one group.

    Attributes:
        group: The group.
        start: The number after which everything was or will be sent.
        position: The number of the last event that was sent; kept up only while the listener is behind.
        until: The number of the `member_left` after which nothing is sent, once there is one.
        reason: Why: `left` or `removed`.
    """

    __slots__ = ("group", "position", "reason", "start", "until")

    def __init__(self, group: LiveGroup, start: int) -> None:
        self.group = group
        self.start = start
        self.position = start
        self.until: int | None = None
        self.reason = ""

    @property
    def goal(self) -> int:
        """The number that the listener has to reach."""
        return self.group.last if self.until is None else self.until


class Delivery:
    """An event made ready for sockets: its frame with its WebSocket header, plain and, once asked for, compressed."""

    __slots__ = ("_deflated", "event", "plain")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.plain = text_frame(event.frame)
        self._deflated: bytes | None = None

    def deflated(self, compress: Callable[[bytes], bytes]) -> bytes:
        """Return the compressed frame, made once for all."""
        if self._deflated is None:
            self._deflated = compress(self.event.frame)
        return self._deflated


class HeadSnapshot(NamedTuple):
    """What a group's listeners were given before a read of the store began: the number and hash of the last event."""

    epoch: int
    seq: int
    hash: str | None

    def went_back(self, head: Head) -> bool:
        """Return whether a head read afterwards proves that the log lost events that were delivered here."""
        return head.seq < self.seq or (head.seq == self.seq and self.hash is not None and head.hash != self.hash)


class LiveGroup:
    """
    A group that somebody here listens to.

    Until its head has been read it is not `open`: it only notes the highest number that passed by.
    """

    __slots__ = (
        "behind",
        "current",
        "cursor",
        "deflaters",
        "departed",
        "doubted",
        "epoch",
        "group_id",
        "hash",
        "highest_seen",
        "pins",
        "stamp_ms",
        "tail",
        "tail_bytes",
        "tick",
        "unseen",
    )

    def __init__(self, group_id: GroupId) -> None:
        self.group_id = group_id
        self.cursor: Cursor | None = None
        # Hash and stamp of the event with the number `last`; None while they are unknown.
        self.hash: str | None = None
        self.stamp_ms: int | None = None
        # How often the log was found to have gone back: what was read before the last time proves nothing.
        self.epoch = 0
        # An event passed that does not continue what was delivered here: read the log, it may have gone back.
        self.doubted = False
        self.highest_seen = 0
        # The last number that did not pass through here, since the group was not open yet or it was no longer kept:
        # nobody saw who left up to it.
        self.unseen = 0
        self.current: set[Listener] = set()
        self.behind: set[Listener] = set()
        # How many of the current ones take compressed frames.
        self.deflaters = 0
        # Who left, and with which number, since the group came alive: a subscription that was checked before that
        # must not be subscribed after it.
        self.departed: dict[UserId, int] = {}
        self.tick: list[Delivery] = []
        self.tail: deque[Delivery] = deque()
        self.tail_bytes = 0
        # Subscriptions in progress: the group stays alive for them.
        self.pins = 0

    @property
    def last(self) -> int:
        """The number of the last event that was delivered here."""
        return 0 if self.cursor is None else self.cursor.last

    @property
    def idle(self) -> bool:
        """Whether nobody needs the group here."""
        return not (self.current or self.behind or self.pins)

    @property
    def snapshot(self) -> HeadSnapshot:
        """What was delivered here, to compare with a head that is read from the store afterwards."""
        return HeadSnapshot(self.epoch, self.last, self.hash)

    def open(self, head: Head) -> bool:
        """
        Take the head that was read from the store.

        Returns:
            Whether events beyond it have passed by already, so that the log has to be read.
        """
        if self.cursor is None:
            self.cursor = Cursor(head.seq)
            self.unseen, self.hash, self.stamp_ms = head.seq, head.hash, head.stamp_ms
        return max(self.highest_seen, head.seq) > self.cursor.last

    def continues(self, event: Event) -> bool:
        """Return whether an event belongs to the log that was delivered here, as far as memory shows."""
        last = self.last
        if event.seq == last + 1:
            return self.hash is None or fits(event.frame, self.hash)
        if event.seq == last:
            return self.hash is None or digest(event.frame) == self.hash
        # Stamps rise along a group's log, so an older number with a newer stamp is of another log.
        return event.seq > last or self.stamp_ms is None or event.stamp_ms < self.stamp_ms

    def remember(self, delivery: Delivery) -> None:
        """Keep an event for those who are behind."""
        self.tail.append(delivery)
        self.tail_bytes += len(delivery.plain)
        while len(self.tail) > TAIL_EVENTS or self.tail_bytes > TAIL_BYTES:
            self.tail_bytes -= len(self.tail.popleft().plain)

    def forget_tail(self) -> None:
        """Keep nothing: nobody is behind."""
        self.tail.clear()
        self.tail_bytes = 0

    def after(self, position: int) -> list[Delivery] | None:
        """Return the events after a position up to the last, or None when memory does not reach back so far."""
        missing = self.last - position
        if missing > len(self.tail):
            return None
        tail = self.tail
        return [tail[index] for index in range(len(tail) - missing, len(tail))]
