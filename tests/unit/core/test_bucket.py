"""Token buckets, against their own arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.core.bucket import Bucket


def test_starts_full_and_empties():
    """[BUC1] The bucket admits a burst of its capacity, and no more."""
    bucket = Bucket(rate=50, capacity=100, now_s=0)

    assert [bucket.take(0) for _ in range(101)] == [True] * 100 + [False]


def test_refills_with_time():
    """[BUC2] The bucket refills at its rate, up to its capacity."""
    bucket = Bucket(rate=50, capacity=100, now_s=0)
    assert bucket.take(0, cost=100)

    assert [bucket.take(1) for _ in range(51)] == [True] * 50 + [False]
    assert [bucket.take(1000) for _ in range(101)] == [True] * 100 + [False]


def test_refused_requests_cost_nothing():
    """[BUC3] Refused attempts do not postpone the next success."""
    bucket = Bucket(rate=1, capacity=1, now_s=0)
    bucket.take(0)

    for tenth in range(1, 10):
        assert not bucket.take(tenth / 10)

    assert bucket.take(1)


def test_a_clock_step_back_adds_nothing():
    """[BUC4] A clock that steps back adds no tokens, and adds none twice when it steps forward again."""
    bucket = Bucket(rate=1, capacity=2, now_s=10)
    assert bucket.take(10, cost=2)

    assert not bucket.take(5)
    assert bucket.wait_s(5) == 1
    assert not bucket.take(10.5)
    assert bucket.take(11)


def test_returns_the_wait():
    """[BUC5] The wait is the time until the missing tokens are refilled, and 0 if none is missing."""
    bucket = Bucket(rate=2, capacity=10, now_s=0)
    assert bucket.wait_s(0, cost=10) == 0
    bucket.take(0, cost=9)

    assert bucket.wait_s(0, cost=5) == 2
    assert bucket.wait_s(1, cost=5) == 1
    assert bucket.wait_s(1) == 0


@pytest.mark.parametrize("rate, capacity", [(0, 1), (-1, 5), (1, 0.5)])
def test_a_bucket_without_capacity_is_refused(rate, capacity):
    """[BUC6] A rate of 0, or a capacity below 1, raises at once."""
    with pytest.raises(ValueError, match="admits nothing"):
        Bucket(rate=rate, capacity=capacity, now_s=0)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=60),
)
def test_never_more_than_the_rate_allows(rate, capacity, steps):
    """[BUC7] The bucket admits at most its capacity plus the refill; a client that waits long enough is admitted."""
    bucket = Bucket(rate=rate, capacity=capacity, now_s=0)
    now_s, taken = 0.0, 0.0

    for pause_s, cost in steps:
        now_s += pause_s
        wait_s = bucket.wait_s(now_s, cost=cost)
        if bucket.take(now_s, cost=cost):
            taken += cost
            assert wait_s == 0
        elif cost <= capacity:
            assert wait_s > 0
            now_s += wait_s * 1.000001 + 1e-6
            assert bucket.take(now_s, cost=cost)
            taken += cost
        assert taken <= capacity + rate * now_s + 1e-3
