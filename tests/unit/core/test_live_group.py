"""A live group alone: its head, what continues its log, and the events that it keeps."""

from __future__ import annotations

import pytest

from orbital_relay import wire
from orbital_relay.core.chain import HASH_LENGTH, digest
from orbital_relay.core.framing import text_frame
from orbital_relay.core.live_group import (
    TAIL_BYTES,
    TAIL_EVENTS,
    Delivery,
    HeadSnapshot,
    HubSubscription,
    Listener,
    LiveGroup,
)
from orbital_relay.model import Event, Head

HASH = "h" * HASH_LENGTH


def event(seq: int, *, size: int = 10) -> Event:
    """Make an event whose frame has so many bytes."""
    return Event("g", seq, seq * 10, b"x" * size)


def opened(seq: int) -> LiveGroup:
    """Return a group whose head was read."""
    group = LiveGroup("g")
    group.open(Head(seq, 0, 0, HASH))
    return group


def test_opening_takes_the_first_head():
    """[LGRP1] A group opens at the first head that is read; a later head, or a number that passed, requires the log."""
    group = LiveGroup("g")
    group.highest_seen = 7

    assert group.open(Head(5, 0, 0, HASH)) is True
    assert (group.last, group.unseen, group.hash) == (5, 5, HASH)
    group.highest_seen = 0
    assert group.open(Head(5, 0, 0, "other")) is False
    assert group.open(Head(6, 0, 0, "other")) is True
    assert (group.last, group.hash) == (5, HASH)


def test_a_group_without_subscribers_is_idle():
    """[LGRP2] A pin keeps a group in memory as a subscriber does."""
    group = opened(0)
    assert group.idle
    group.pins += 1
    assert not group.idle


def test_the_tail_is_bounded():
    """[LGRP3] The tail keeps the last events up to a count and a size, and reports when it is too short."""
    group = opened(0)
    for seq in range(1, TAIL_EVENTS + 3):
        group.cursor.last = seq
        group.remember(Delivery(event(seq)))

    assert [one.event.seq for one in group.after(TAIL_EVENTS)] == [TAIL_EVENTS + 1, TAIL_EVENTS + 2]
    assert [one.event.seq for one in group.after(TAIL_EVENTS + 1)] == [TAIL_EVENTS + 2]
    assert group.after(TAIL_EVENTS + 2) == group.after(TAIL_EVENTS + 3) == []
    assert len(group.after(2)) == TAIL_EVENTS
    assert group.after(1) is None

    group.cursor.last += 1
    group.remember(Delivery(event(group.last, size=TAIL_BYTES - 100)))
    assert group.tail_bytes <= TAIL_BYTES
    assert len(group.tail) < 20
    group.forget_tail()
    assert (len(group.tail), group.tail_bytes) == (0, 0)


def test_the_largest_tail():
    """[LGRP10] A tail of exactly the permitted size is kept; one byte more discards the oldest event."""
    group, first = opened(0), Delivery(event(1))
    header = len(text_frame(b"x" * (TAIL_BYTES // 2))) - TAIL_BYTES // 2
    largest = Delivery(event(2, size=TAIL_BYTES - len(first.plain) - header))

    group.remember(first)
    group.remember(largest)
    assert (len(group.tail), group.tail_bytes) == (2, TAIL_BYTES)
    group.remember(Delivery(event(3, size=11)))

    assert [one.event.seq for one in group.tail] == [3]


def test_the_end_of_a_subscription():
    """[LGRP4] A subscription ends at its group's last event, or at the user's own `member_left`."""
    subscription = HubSubscription(opened(9), 4)

    assert (subscription.start, subscription.position, subscription.goal, subscription.reason) == (4, 4, 9, "")
    subscription.until = 6
    assert subscription.goal == 6


def test_a_lower_head_or_another_hash_is_a_rewind():
    """[LGRP5] A later head proves a rewind if its number is lower, or if its hash differs at the same number."""
    before = HeadSnapshot(0, 5, HASH)

    assert before.went_back(Head(4, 0, 0, HASH))
    assert before.went_back(Head(5, 0, 0, "other"))
    assert not before.went_back(Head(5, 0, 0, HASH))
    assert not before.went_back(Head(6, 0, 0, "other"))
    assert not HeadSnapshot(0, 5, None).went_back(Head(5, 0, 0, "other"))


class Silent(Listener):
    """A listener without a connection."""

    def send(self, wire: bytes) -> None:
        """Nothing is written."""

    def lost(self, group_id: str, reason: str) -> None:
        """Nothing ends."""

    def reset(self, group_id: str, seq: int) -> None:
        """Nothing is lost."""


def test_a_new_listener_is_current():
    """[LGRP6] A new listener is its user's, has no subscription, is current, and accepts plain frames only."""
    listener = Silent(7, "ann")

    assert (listener.user, listener.user_id, listener.subscriptions, listener.last_stamp_ms) == (7, "ann", {}, 0)
    assert (listener.behind, listener.is_paused, listener.gone, listener.deflate) == (False, False, False, False)


def test_a_new_group_has_delivered_nothing():
    """[LGRP7] A group whose head was not read knows no number, hash or stamp; the first head requires no log."""
    group = LiveGroup("g")

    assert (group.group_id, group.last, group.unseen, group.doubted, group.stamp_ms) == ("g", 0, 0, False, None)
    assert group.snapshot == HeadSnapshot(0, 0, None)
    assert (group.current, group.behind, group.departed, group.deflaters) == (set(), set(), {}, 0)
    assert (group.tick, list(group.tail), group.tail_bytes, group.pins) == ([], [], 0, 0)
    assert group.open(Head(0, 0, 0, HASH)) is False


def test_a_frame_is_compressed_once():
    """[LGRP8] A delivery has its frame with a WebSocket header, and compresses it when it is first asked for."""
    made: list[bytes] = []
    delivery = Delivery(event(1))

    assert delivery.plain == text_frame(b"x" * 10)
    assert [delivery.deflated(lambda text: made.append(text) or b"<" + text + b">") for _ in range(2)] == [
        b"<xxxxxxxxxx>",
        b"<xxxxxxxxxx>",
    ]
    assert made == [b"x" * 10]


def chained(seq: int, prev: str, *, stamp_ms: int) -> Event:
    """Make an event that carries the hash of the one before it."""
    data = wire.NewMessage("m", "g", "AA", stamp_ms, "u")
    return Event("g", seq, stamp_ms, wire.seal(data, group_id="g", seq=seq, stamp_ms=stamp_ms, prev=prev))


OTHER = "o" * HASH_LENGTH
LAST = chained(5, HASH, stamp_ms=50)


@pytest.mark.parametrize(
    ("one", "continues"),
    [
        (chained(6, digest(LAST.frame), stamp_ms=60), True),
        (chained(6, OTHER, stamp_ms=60), False),
        (LAST, True),
        (chained(5, OTHER, stamp_ms=50), False),
        (chained(7, OTHER, stamp_ms=70), True),
        (chained(4, OTHER, stamp_ms=49), True),
        (chained(4, OTHER, stamp_ms=50), False),
        (chained(4, OTHER, stamp_ms=51), False),
    ],
    ids=["next", "next of another log", "last", "last of another log", "beyond", "older", "same stamp", "younger"],
)
def test_what_continues_a_log(one: Event, continues: bool):
    """[LGRP9] The next event carries the last hash, the last has it; an older number has an older stamp."""
    group = LiveGroup("g")
    group.open(Head(5, 0, 50, digest(LAST.frame)))

    assert group.continues(one) is continues


@pytest.mark.parametrize("seq", [4, 5, 6, 7])
def test_a_group_without_a_hash_trusts_the_next_event(seq: int):
    """[LGRP11] After events that nobody saw, hash and stamp are unknown, and any event counts as one of the log."""
    group = opened(5)
    group.hash = group.stamp_ms = None

    assert group.continues(chained(seq, OTHER, stamp_ms=99))
