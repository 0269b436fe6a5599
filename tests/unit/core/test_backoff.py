"""When a client may come back, by the shared vectors and by a hundred clients on a fake clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orbital_relay.core.backoff import BACKOFF, Backoff
from tests.support.vectors import cases, load, named


@pytest.mark.parametrize("case", cases("backoff"), ids=named)
def test_vectors(case: Any) -> None:
    """[BCK1] Every client waits as long as the shared vectors state, to the millisecond."""
    if case["kind"] == "wake":
        delay_ms = BACKOFF.wake_ms(
            now_ms=case["now_ms"], earlier_ms=case["earlier_ms"], retry_after_ms=case["retry_after_ms"]
        )
    else:
        delay_ms = BACKOFF.delay_ms(
            case["failures"],
            random=case["random"],
            now_ms=case["now_ms"],
            earlier_ms=case["earlier_ms"],
            retry_after_ms=case["retry_after_ms"],
        )

    assert delay_ms == case["delay_ms"]


def test_numbers() -> None:
    """[BCK2] The constants of the rule equal those of the vectors."""
    rule = load("backoff")["rule"]

    assert Backoff(**{**rule, "steps_ms": tuple(rule["steps_ms"])}) == BACKOFF


def attempts_of(source: random.Random, *, fails: int, start_ms: int) -> list[int]:
    """Play one client that loses its connection at `start_ms` and fails `fails` times: when its attempts began."""
    earlier: list[int] = []
    now_ms = start_ms
    for failures in range(fails + 1):
        now_ms += BACKOFF.delay_ms(failures, random=source.random(), now_ms=now_ms, earlier_ms=earlier)
        earlier.append(now_ms)
    return earlier


@pytest.mark.parametrize("seed", range(20))
def test_a_hundred_clients_spread(seed: int) -> None:
    """[BCK3] A hundred clients that lose their server at the same time reconnect over at least five seconds."""
    print(f"seed {seed}")
    source = random.Random(seed)

    first = [attempts_of(source, fails=0, start_ms=0)[0] for _ in range(100)]

    assert max(first) - min(first) >= 5_000
    # No second sees more than twice its share: the crowd is thin, not only wide.
    for second in range(8):
        assert sum(1 for at in first if at // 1_000 == second) <= 34


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_five_a_minute(seed: int) -> None:
    """[BCK4] A client never makes a sixth attempt within 60 seconds, after any failure or wake."""
    print(f"seed {seed}")
    source = random.Random(seed)
    earlier: list[int] = []
    now_ms = 0
    failures = 0
    for _ in range(200):
        if source.random() < 0.5:
            now_ms += BACKOFF.wake_ms(now_ms=now_ms, earlier_ms=earlier)
        else:
            now_ms += BACKOFF.delay_ms(failures, random=source.random(), now_ms=now_ms, earlier_ms=earlier)
        earlier.append(now_ms)
        failures = 0 if source.random() < 0.3 else failures + 1
        now_ms += source.choice((0, 1, 10, 5_000))

    for sixth, at in enumerate(earlier[5:], start=5):
        assert at - earlier[sixth - 5] > 60_000


def test_no_wait_before_the_first_attempt() -> None:
    """[BCK5] Without a step, earlier attempts or a Retry-After, the wait is 0."""
    assert Backoff(steps_ms=(0,), jitter_ms=0).delay_ms(0, random=0, now_ms=0) == 0
    assert BACKOFF.wake_ms(now_ms=0) == 0
