"""The lines about limits that were reached: which, and how many."""

from __future__ import annotations

import time

import pytest

from orbital_relay.errors import TooManyRequests
from orbital_relay.server.limits.limit_log import LOGGED_A_SECOND, LimitLog
from orbital_relay.server.limits.policy import too_many


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands; its one entry is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_names_user_and_action(caplog: pytest.LogCaptureFixture):
    """[REF2] A reached limit is logged in one line with the address, the limit, the wait and the request id."""
    LimitLog().note(too_many(59.2, "signups"), address="192.0.2.7", request_id="abc")

    (line,) = caplog.records
    assert (line.levelname, line.message) == ("WARNING", "limit reached")
    assert {name: getattr(line, name) for name in ("address", "limit", "retry_after_s", "request_id")} == {
        "address": "192.0.2.7",
        "limit": "signups",
        "retry_after_s": 60,
        "request_id": "abc",
    }


def test_lines_are_bounded(second: list[float], caplog: pytest.LogCaptureFixture):
    """[REF3] Reached limits log at most one line per address, limit and second, and twenty per second in total."""
    log = LimitLog()
    for _ in range(2):
        for _ in range(500):
            log.note(too_many(1, "logins"), address="192.0.2.7", request_id="x")
            log.note(TooManyRequests("Too many chunks."), address="192.0.2.7", request_id="x")
        assert len(caplog.records) == 2
        for number in range(500):
            log.note(too_many(1, "logins"), address=f"192.0.2.{number}", request_id="x")
        assert len(caplog.records) == LOGGED_A_SECOND
        second[0] += 1
        caplog.clear()
