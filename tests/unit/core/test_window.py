"""Moving windows, against a plain list of all that was counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.core.window import Windows


def test_hits_up_to_the_limit():
    """[WIN1] Hits up to the limit pass; the next gets the exact seconds until the oldest leaves the window."""
    windows = Windows(limit=5, window_s=60)
    for second in range(5):
        assert windows.hit("a", second) is None

    assert windows.hit("a", 10) == 50
    assert windows.hit("a", 59.5) == 0.5
    assert windows.hit("a", 60) is None
    assert windows.hit("a", 60) == 1
    assert windows.hit("a", 61) is None


def test_refused_hits_do_not_count():
    """[WIN2] A client that retries constantly is admitted at the same time as one that waited."""
    windows = Windows(limit=1, window_s=60)
    windows.hit("a", 0)

    for second in range(1, 60):
        assert windows.hit("a", second) == 60 - second

    assert windows.hit("a", 60) is None


def test_peek_does_not_count():
    """[WIN3] `peek` returns the result that a hit would get, and changes nothing."""
    windows = Windows(limit=2, window_s=60)
    assert windows.peek("a", 0) is None
    assert len(windows) == 0
    windows.hit("a", 0)
    assert [windows.peek("a", 1) for _ in range(5)] == [None] * 5
    windows.hit("a", 1)

    assert windows.peek("a", 2) == 58
    assert windows.peek("a", 60) is None
    assert windows.hit("a", 60) is None


def test_keys_are_independent():
    """[WIN4] The attempts of one key do not count for another."""
    windows = Windows(limit=1, window_s=60)
    windows.hit("a", 0)

    assert windows.hit("b", 0) is None
    assert windows.hit("a", 0) == 60


def test_expired_keys_are_evicted():
    """[WIN5] Keys with a single hit are evicted: each new key evicts up to two expired keys."""
    windows = Windows(limit=5, window_s=60)
    for number in range(1000):
        windows.hit(f"old-{number}", 0)
    assert len(windows) == 1000

    for number in range(1000):
        windows.hit(f"new-{number}", 60)

    assert len(windows) == 1000
    assert windows.peek("old-0", 60) is None


def test_one_new_key_evicts_two_expired_keys():
    """[WIN11] One new key evicts two expired keys and no third."""
    windows = Windows(limit=5, window_s=60)
    for number in range(10):
        windows.hit(f"old-{number}", 0)

    windows.hit("new", 60)

    assert len(windows) == 9


def test_a_key_in_use_stays():
    """[WIN6] A key that keeps getting hits is not evicted for its age."""
    windows = Windows(limit=3, window_s=60)
    windows.hit("busy", 0)
    windows.hit("idle", 1)
    windows.hit("busy", 50)

    for number in range(10):
        windows.hit(f"new-{number}", 62)

    assert windows.hit("busy", 62) is None
    assert windows.hit("busy", 62) is None
    assert windows.hit("busy", 62) == 48


def test_keys_are_bounded():
    """[WIN7] Above the bound the least recently used key is evicted, even within its window."""
    windows = Windows(limit=1, window_s=60, max_keys=3)
    for key in "abcd":
        windows.hit(key, 0)

    assert len(windows) <= 3
    assert windows.hit("d", 1) == 59
    assert windows.hit("a", 1) is None


def test_memory_follows_the_hits_in_the_window():
    """[WIN10] Memory for a high limit is proportional to the attempts inside the window, not to earlier ones."""
    windows = Windows(limit=1_000_000, window_s=60)

    for second in range(100_000):
        assert windows.hit("steady", second / 2) is None

    assert len(windows._keys["steady"].times) <= 2 * 120 + 16


@pytest.mark.parametrize(
    "over, within, kept",
    [
        pytest.param(9, 8, 9, id="more than half are over"),
        pytest.param(9, 9, 19, id="half are over"),
        pytest.param(8, 1, 10, id="so few that cutting costs more"),
    ],
)
def test_expired_hits_are_trimmed(over, within, kept):
    """[WIN13] Expired attempts are trimmed once they are nine and the majority; the others are kept."""
    windows = Windows(limit=over + within, window_s=60)
    for second, count in ((0, over), (1, within)):
        for _ in range(count):
            windows.hit("a", second)

    assert windows.hit("a", 60) is None
    assert len(windows._keys["a"].times) == kept
    assert [windows.hit("a", 60) for _ in range(over)] == [None] * (over - 1) + [1]


def test_the_smallest_valid_window():
    """[WIN8] One attempt of one key is the smallest valid window."""
    assert Windows(limit=1, window_s=1, max_keys=1).hit("a", 0) is None


@pytest.mark.parametrize("limit, window_s, max_keys", [(0, 60, 1), (5, 0, 1), (5, 60, 0)])
def test_a_window_without_capacity_is_refused(limit, window_s, max_keys):
    """[WIN12] A limit, window or capacity of zero raises at once."""
    with pytest.raises(ValueError, match="admit nothing"):
        Windows(limit=limit, window_s=window_s, max_keys=max_keys)


@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from("ab"), st.booleans()), max_size=120),
)
def test_hit_and_peek_agree_with_the_definition(limit, window_s, steps):
    """[WIN9] Hit and peek agree with the definition: the number of counted hits in the last `window_s` seconds."""
    windows = Windows(limit=limit, window_s=window_s)
    counted: dict[str, list[int]] = {"a": [], "b": []}
    now_s = 0

    for pause_s, key, looking in steps:
        now_s += pause_s
        recent = [at_s for at_s in counted[key] if at_s + window_s > now_s]
        expected = None if len(recent) < limit else recent[-limit] + window_s - now_s
        if looking:
            assert windows.peek(key, now_s) == expected
            continue
        assert windows.hit(key, now_s) == expected
        if expected is None:
            counted[key].append(now_s)
