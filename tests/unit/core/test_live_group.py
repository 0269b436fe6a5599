"""A live group alone: its head, what continues its log, and the events that it keeps."""

from __future__ import annotations

from orbital_relay.core.chain import HASH_LENGTH
from orbital_relay.core.live_group import TAIL_BYTES, TAIL_EVENTS, Delivery, HeadSnapshot, HubSubscription, LiveGroup
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
    assert group.after(TAIL_EVENTS + 2) == []
    assert len(group.after(2)) == TAIL_EVENTS
    assert group.after(1) is None

    group.cursor.last += 1
    group.remember(Delivery(event(group.last, size=TAIL_BYTES - 100)))
    assert group.tail_bytes <= TAIL_BYTES
    assert len(group.tail) < 20
    group.forget_tail()
    assert (len(group.tail), group.tail_bytes) == (0, 0)


def test_the_end_of_a_subscription():
    """[LGRP4] A subscription ends at its group's last event, or at the user's own `member_left`."""
    subscription = HubSubscription(opened(9), 4)

    assert (subscription.position, subscription.goal) == (4, 9)
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
