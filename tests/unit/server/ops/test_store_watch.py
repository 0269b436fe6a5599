"""The regular look at the database: whether it answers, and how much it stores."""

from __future__ import annotations

import asyncio

import pytest

from orbital_relay.ports import Census
from orbital_relay.server.ops import store_watch
from orbital_relay.server.ops.intervals import COUNT_S
from orbital_relay.server.ops.store_watch import StoreWatch


class _Store:
    """A database whose state a test sets."""

    def __init__(self) -> None:
        self.answers: bool | None = True
        self.counted = 0

    async def ready(self) -> bool:
        if self.answers is None:
            await asyncio.Event().wait()
        return bool(self.answers)

    async def census(self) -> Census:
        self.counted += 1
        return Census(users=1, groups=2, events=self.counted)


class _Clock:
    now_s = 100.0

    def steady_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        raise AssertionError("the wall clock says nothing about an interval")


async def test_an_outage_is_seen_and_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """[WATCH1] A database that refuses, or does not answer in time, is not connected; each change is one line."""
    monkeypatch.setattr(store_watch, "ANSWER_S", 0.01)
    store = _Store()
    watch = StoreWatch(store, _Clock())
    seen = []
    for answers in (True, False, None, None, True):
        store.answers = answers
        await watch.look()
        seen.append(watch.connected)

    assert seen == [True, False, False, False, True]
    assert [record.message for record in caplog.records] == [
        "the database does not answer",
        "the database answers again",
    ]


async def test_it_counts_now_and_then():
    """[WATCH2] Users, groups and events are counted once a minute, and not while the database is unreachable."""
    store, clock = _Store(), _Clock()
    watch = StoreWatch(store, clock)
    assert watch.census is None
    for step_s in (0, 1, COUNT_S - 2, 1):
        clock.now_s += step_s
        await watch.look()
    assert (store.counted, watch.census) == (2, Census(users=1, groups=2, events=2))

    store.answers = False
    clock.now_s += COUNT_S
    await watch.look()
    assert store.counted == 2
