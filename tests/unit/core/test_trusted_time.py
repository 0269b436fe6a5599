"""How far a wall clock is trusted, alone."""

from __future__ import annotations

import pytest

from orbital_relay.core.trusted_time import BEHIND_MS, RUN_LEAP_MS, START_LEAP_MS, TrustedTime

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_800_000_000_000


def _started(*, heartbeat_ms=NOW_MS, wall_ms=NOW_MS, hold_ms=DAY_MS):
    return TrustedTime(heartbeat_ms=heartbeat_ms, wall_ms=wall_ms, steady_ms=0, hold_ms=hold_ms)


@pytest.mark.parametrize("off_ms", [0, HOUR_MS, START_LEAP_MS, -40 * DAY_MS])
def test_a_start_that_is_plausible(off_ms):
    """[CLOCK1] A server that was off for up to a day, or whose clock is behind, trusts its wall clock."""
    time = _started(wall_ms=NOW_MS + off_ms)

    assert time.now_ms(wall_ms=NOW_MS + off_ms, steady_ms=0) == NOW_MS + off_ms
    assert time.ahead_ms(wall_ms=NOW_MS + off_ms, steady_ms=0) == 0


def test_the_first_start_trusts_the_clock():
    """[CLOCK10] Without a stored heartbeat the wall clock is trusted."""
    assert _started(heartbeat_ms=None).now_ms(wall_ms=NOW_MS, steady_ms=0) == NOW_MS


def test_a_start_far_ahead_is_held():
    """[CLOCK2] A clock more than a day ahead of the heartbeat is not trusted: time continues from the heartbeat."""
    wall_ms = NOW_MS + 40 * DAY_MS
    time = _started(wall_ms=wall_ms)

    assert time.now_ms(wall_ms=wall_ms + 5_000, steady_ms=5_000) == NOW_MS + 5_000
    assert time.ahead_ms(wall_ms=wall_ms, steady_ms=0) == 40 * DAY_MS
    assert time.heartbeat_ms(steady_ms=5_000) == NOW_MS + 5_000


def test_a_corrected_clock_is_trusted_at_once():
    """[CLOCK11] When the clock is corrected, stamps follow it again, also if the server was off for some hours."""
    time = _started(wall_ms=NOW_MS + 40 * DAY_MS)
    right_ms = NOW_MS + 5 * HOUR_MS

    assert time.now_ms(wall_ms=right_ms, steady_ms=9_000) == right_ms
    assert not time.observe(wall_ms=right_ms, steady_ms=9_000)
    assert time.heartbeat_ms(steady_ms=9_000) == right_ms


def test_a_clock_jump_of_a_running_server():
    """[CLOCK3] A running server accepts a clock jump of at most an hour, and any slow drift."""
    time = _started()
    for minute in range(1, 3000):
        # A steady clock that is slow by a second a minute.
        assert not time.observe(wall_ms=NOW_MS + minute * 61_000, steady_ms=minute * 60_000)
    now_ms, steady_ms = NOW_MS + 2999 * 61_000, 2999 * 60_000

    assert time.now_ms(wall_ms=now_ms + RUN_LEAP_MS, steady_ms=steady_ms) == now_ms + RUN_LEAP_MS
    assert time.now_ms(wall_ms=now_ms + RUN_LEAP_MS + 1, steady_ms=steady_ms) == now_ms


@pytest.mark.parametrize("off_ms", [40 * DAY_MS, -40 * DAY_MS], ids=["ahead", "behind"])
def test_a_clock_is_trusted_after_the_hold(off_ms):
    """[CLOCK4] A server that was off for weeks trusts its clock after the hold, as does one whose clock was behind."""
    time = _started(wall_ms=NOW_MS + off_ms)
    wall_ms = NOW_MS + off_ms

    assert not time.observe(wall_ms=wall_ms + DAY_MS - 1, steady_ms=DAY_MS - 1)
    assert time.observe(wall_ms=wall_ms + DAY_MS, steady_ms=DAY_MS)

    assert time.now_ms(wall_ms=wall_ms + DAY_MS, steady_ms=DAY_MS) == wall_ms + DAY_MS
    assert time.heartbeat_ms(steady_ms=DAY_MS) == wall_ms + DAY_MS


def test_another_clock_jump_restarts_the_hold():
    """[CLOCK4] Another clock jump restarts the hold."""
    time = _started(wall_ms=NOW_MS + 40 * DAY_MS)

    assert not time.observe(wall_ms=NOW_MS + 90 * DAY_MS, steady_ms=DAY_MS - 1)
    assert not time.observe(wall_ms=NOW_MS + 90 * DAY_MS + 1, steady_ms=DAY_MS)
    assert time.observe(wall_ms=NOW_MS + 91 * DAY_MS, steady_ms=2 * DAY_MS - 1)


def test_an_operator_accepts_a_clock():
    """[CLOCK5] An accepted clock is trusted at once, and so is any clock without a hold."""
    wall_ms = NOW_MS + 40 * DAY_MS
    time = _started(wall_ms=wall_ms)

    time.accept(wall_ms=wall_ms, steady_ms=7)

    assert time.now_ms(wall_ms=wall_ms, steady_ms=7) == wall_ms
    assert _started(wall_ms=wall_ms, hold_ms=0).now_ms(wall_ms=wall_ms, steady_ms=0) == wall_ms


@pytest.mark.parametrize("off_ms", [-BEHIND_MS, RUN_LEAP_MS])
def test_the_bounds_of_a_plausible_clock(off_ms):
    """[CLOCK12] A clock that is off by exactly the bound is trusted without a hold."""
    time = _started(hold_ms=0)

    assert not time.observe(wall_ms=NOW_MS + off_ms, steady_ms=0)
    assert time.observe(wall_ms=NOW_MS + off_ms + (DAY_MS if off_ms > 0 else -DAY_MS), steady_ms=0)


def test_an_interrupted_hold_restarts():
    """[CLOCK4] A clock that was correct in between is held for the full period again, even at the same offset."""
    time = _started(wall_ms=NOW_MS + 40 * DAY_MS)
    assert not time.observe(wall_ms=NOW_MS + HOUR_MS, steady_ms=HOUR_MS)

    again_ms = 2 * HOUR_MS
    assert not time.observe(wall_ms=NOW_MS + 40 * DAY_MS + again_ms, steady_ms=again_ms)
    assert not time.observe(wall_ms=NOW_MS + 41 * DAY_MS + again_ms - 1, steady_ms=again_ms + DAY_MS - 1)
    assert time.observe(wall_ms=NOW_MS + 41 * DAY_MS + again_ms, steady_ms=again_ms + DAY_MS)


def test_a_small_step_does_not_restart_the_hold():
    """[CLOCK4] A step of a held clock by exactly the tolerance does not restart the hold."""
    time = _started(wall_ms=NOW_MS + 40 * DAY_MS)

    assert time.observe(wall_ms=NOW_MS + 41 * DAY_MS + BEHIND_MS, steady_ms=DAY_MS)
