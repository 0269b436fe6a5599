"""The guarded clock, with a machine whose clocks a test sets, on a real SQLite."""

from __future__ import annotations

import pytest

from orbital_relay.server.ops.clock import SKEW_MS, GuardedClock, SystemClock
from orbital_relay.store.marks import ClockMarks
from orbital_relay.store.sqlite import SqliteStore

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000


class Machine(SystemClock):
    """Clocks that a test sets."""

    def __init__(self, wall_ms=NOW_MS):
        self.now_ms, self.passed_ms = wall_ms, 0

    def wall_ms(self):
        return self.now_ms

    def running_ms(self):
        return self.passed_ms

    def go(self, ms):
        self.now_ms += ms
        self.passed_ms += ms


@pytest.fixture
async def store(tmp_path):
    """An empty database."""
    opened = await SqliteStore.open(tmp_path / "orbital.db")
    yield opened
    await opened.close()


async def test_a_heartbeat_survives_the_server(store):
    """[CLOCK6] At start the clock is compared with the last run's heartbeat, and a difference is logged once."""
    first = await GuardedClock.open(store, hold_hours=24, machine=Machine())
    await first.beat()

    leapt = await GuardedClock.open(store, hold_hours=24, machine=Machine(NOW_MS + 40 * DAY_MS))
    await leapt.beat()
    right = await GuardedClock.open(store, hold_hours=24, machine=Machine(NOW_MS + 1_000))

    assert leapt.wall_ms() == NOW_MS
    assert leapt.ahead_s() == 40 * DAY_MS / 1000
    assert (right.wall_ms(), right.ahead_s()) == (NOW_MS + 1_000, 0)


async def test_an_accepted_clock_reaches_a_running_server(store, caplog):
    """[CLOCK5] A running server trusts its clock from the first heartbeat after `orbital clock --accept`."""
    await (await GuardedClock.open(store, hold_hours=24, machine=Machine())).beat()
    clock = await GuardedClock.open(store, hold_hours=24, machine=Machine(NOW_MS + 40 * DAY_MS))
    assert clock.wall_ms() == NOW_MS

    await store.accept_clock(wall_ms=NOW_MS + 40 * DAY_MS)
    await clock.beat()

    assert clock.wall_ms() == NOW_MS + 40 * DAY_MS
    assert (await store.clock_marks()).heartbeat_ms == NOW_MS + 40 * DAY_MS
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "the clock is implausibly far ahead",
        "the clock was accepted by the operator",
        "the clock is trusted again",
    ]


async def test_after_the_hold_the_heartbeat_follows(store):
    """[CLOCK4] After one wrong jump ahead, the server still detects the next jump."""
    await store.accept_clock(wall_ms=NOW_MS + 40 * DAY_MS)
    machine = Machine()
    clock = await GuardedClock.open(store, hold_hours=24, machine=machine)
    assert clock.wall_ms() == NOW_MS

    machine.go(DAY_MS)
    await clock.beat()

    assert (await store.clock_marks()).heartbeat_ms == NOW_MS + DAY_MS


@pytest.mark.parametrize("off_ms, used_ms", [(8 * DAY_MS, 0), (-8 * DAY_MS, 0), (SKEW_MS - 1, SKEW_MS - 1)])
async def test_a_clock_that_differs_from_the_databases(store, monkeypatch, off_ms, used_ms):
    """[CLOCK7] A server uses the database's clock if its own differs by more than a minute."""

    async def marks():
        return ClockMarks(NOW_MS, 0, NOW_MS)

    monkeypatch.setattr(store, "clock_marks", marks)

    clock = await GuardedClock.open(store, hold_hours=24, machine=Machine(NOW_MS + off_ms))

    assert clock.wall_ms() == NOW_MS + used_ms


def test_the_elapsed_time_clock_is_monotonic():
    """[CLOCK13] The elapsed-time clock is monotonic."""
    clock = SystemClock()

    assert clock.running_ms() <= clock.running_ms()
