"""The clock of `server_timestamp`, alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.core.stamps import Stamps


def test_stamps_increase_whatever_the_clock_is():
    """[STAMP1] A batch gets consecutive stamps above all earlier ones, also after the wall clock was set back."""
    stamps = Stamps(1_000)

    assert stamps.reserve(3, now_ms=2_000) == 2_000
    stamps.end_batch()
    assert stamps.reserve(2, now_ms=1_500) == 2_003


def test_an_ephemeral_frame_stays_below_the_batch_in_flight():
    """[STAMP2] While a batch is in flight, other frames get the stamp right below it, however long it takes."""
    stamps = Stamps(1_000)
    first = stamps.reserve(5, now_ms=2_000)

    assert stamps.ephemeral(now_ms=9_000) == first - 1


def test_an_ephemeral_frame_may_follow_what_was_delivered():
    """[STAMP2] While a batch is delivered, other frames may have the stamp of the last delivered event."""
    stamps = Stamps()
    first = stamps.reserve(3, now_ms=2_000)

    stamps.advance(first + 1)

    assert stamps.ephemeral(now_ms=9_000) == first + 1


def test_events_follow_earlier_frames():
    """[STAMP2] An event gets a stamp above that of every frame sent before it."""
    stamps = Stamps()

    said = stamps.ephemeral(now_ms=5_000)

    assert stamps.reserve(1, now_ms=4_000) == said + 1


def test_a_group_that_is_ahead_advances_the_clock():
    """[STAMP1] If the store assigned a higher stamp than reserved, the next batch starts above it."""
    stamps = Stamps()
    stamps.reserve(1, now_ms=1_000)

    stamps.end_batch(7_000)

    assert stamps.ephemeral(now_ms=1_001) == 7_000
    assert stamps.reserve(1, now_ms=1_001) == 7_001


def test_one_batch_at_a_time():
    """[STAMP1] Two concurrent batches raise an AssertionError."""
    stamps = Stamps()
    stamps.reserve(1, now_ms=1)

    with pytest.raises(AssertionError, match=r"^one batch at a time is in flight$"):
        stamps.reserve(1, now_ms=1)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50), st.booleans()), max_size=40))
def test_no_frame_overtakes_an_event(steps):
    """[STAMP1] [STAMP2] In any mix of batches and other frames event stamps increase strictly, in order."""
    stamps = Stamps()
    said, last_event = 0, 0
    for count, now_ms, talk in steps:
        said = max(said, stamps.ephemeral(now_ms=now_ms))
        first = stamps.reserve(count, now_ms=now_ms)
        assert first > max(said, last_event)
        for stamp_ms in range(first, first + count):
            if talk:
                assert stamps.ephemeral(now_ms=now_ms) < stamp_ms
            stamps.advance(stamp_ms)
        last_event = first + count - 1
        stamps.end_batch()


def test_the_first_stamp():
    """[STAMP1] Stamps begin at 1, and a batch that assigned none changes nothing."""
    stamps = Stamps()
    stamps.end_batch()

    assert stamps.ephemeral(now_ms=0) == 0
    assert stamps.reserve(1, now_ms=0) == 1
