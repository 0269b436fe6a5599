"""The budget of HTTP connections, alone: who makes room, and what is logged."""

from __future__ import annotations

import logging

import pytest

from orbital_relay.server.edge.budget import WARN_S, ConnectionBudget


class FakeConnection:
    """A connection that waits, is slow, or does neither."""

    def __init__(self, *, waits: bool = True, slow: bool = False) -> None:
        self._waits, self._slow, self.closed = waits, slow, False

    def waits(self) -> bool:
        """Return whether no request is in progress."""
        return self._waits

    def is_slow(self) -> bool:
        """Return whether its request waits for the client."""
        return self._slow

    def make_room(self) -> None:
        """Close."""
        self.closed = True


def test_a_proxy_has_no_budget_of_its_own():
    """[ROOM2] Connections of a trusted proxy belong to many users: only the total bounds them."""
    budget = ConnectionBudget(most=100, most_of_one=2, exempt=lambda address: address == "10.0.0.1")
    behind_proxy, direct = [FakeConnection() for _ in range(10)], [FakeConnection() for _ in range(10)]

    for address, lines in (("10.0.0.1", behind_proxy), ("10.0.0.2", direct)):
        for line in lines:
            assert budget.enter(line, address, connections=1, now_s=0)

    assert [line.closed for line in behind_proxy] == [False] * 10
    assert [line.closed for line in direct] == [True] * 8 + [False] * 2


def test_no_client_can_evict_others():
    """[ROOM5] If every connection is busy and none is slow, a further connection is refused."""
    budget = ConnectionBudget(most=2, most_of_one=10, exempt=lambda _address: False)
    busy = [FakeConnection(waits=False) for _ in range(2)]
    for number, line in enumerate(busy):
        assert budget.enter(line, "10.0.0.2", connections=number + 1, now_s=0)

    assert not budget.enter(FakeConnection(), "10.0.0.3", connections=3, now_s=0)
    assert not any(line.closed for line in busy)


def test_one_warning_a_minute(caplog: pytest.LogCaptureFixture):
    """[ROOM4] Exhaustion is logged once, and again after a minute, regardless of the number of connections."""
    budget = ConnectionBudget(most=5, most_of_one=100, exempt=lambda _address: False)

    def fill(now_s: float) -> int:
        caplog.clear()
        for number in range(50):
            budget.enter(FakeConnection(), "10.0.0.2", connections=number + 1, now_s=now_s)
        return len(caplog.records)

    with caplog.at_level(logging.WARNING, "orbital.server"):
        assert [fill(1_000), fill(1_000 + WARN_S - 1), fill(1_000 + WARN_S)] == [1, 0, 1]
