"""The background tasks of the relay: a failure is logged, and nothing is left at the end."""

from __future__ import annotations

import asyncio

import pytest

from orbital_relay.relay.tasks import TaskSet


async def test_a_task_that_fails(caplog: pytest.LogCaptureFixture):
    """[RELTASK1] A task that fails is logged by name with its error, and is no longer held; others go on."""

    async def failing() -> None:
        raise LookupError("a bug")

    tasks, ended = TaskSet(), asyncio.Event()
    other = tasks.spawn(asyncio.Event().wait(), "other")
    tasks.spawn(failing(), "the failing one").add_done_callback(lambda _: ended.set())
    await ended.wait()

    [record] = caplog.records
    assert (record.message, record.task) == ("a task of the relay failed", "the failing one")  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    assert tasks.running == {other}

    await tasks.close()

    assert other.cancelled()
    assert tasks.running == set()
    assert len(caplog.records) == 1
