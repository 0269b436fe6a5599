"""The memory for answers: shares, waiting, and which slow reader is cut."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.server.limits import memory as room
from orbital_relay.server.limits.memory import GRACE_S, WAIT_S, AnswerMemory
from tests.unit.server.auth_support import Clock


@pytest.fixture
def memory(monkeypatch):
    """A hundred bytes of memory, looked at again in each turn of the loop."""
    monkeypatch.setattr(room, "_LOOK_S", 0)
    return AnswerMemory(100, clock=Clock())


class Reader:
    """A client that reads slowly: its answer is in flight until it is cut."""

    def __init__(self, memory, owner, size_bytes) -> None:
        self.memory, self.owner, self.size_bytes = memory, owner, size_bytes
        self.held = None
        self.was_cut = False
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        self.held = await self.memory.take(self.owner, self.size_bytes)
        try:
            async with self.held.sending(self.memory._clock.steady_s()):
                await asyncio.Event().wait()
        except TimeoutError:
            self.was_cut = True
        finally:
            self.memory.release(self.held)


async def _readers(memory, *given):
    made = [Reader(memory, owner, size_bytes) for owner, size_bytes in given]
    while not all(each.held for each in made):
        await asyncio.sleep(0)
    return made


async def _end(readers):
    for each in readers:
        each.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*(each.task for each in readers), return_exceptions=True)


async def test_shares_are_reserved_and_released(memory):
    """[MEM1] A share counts until it is released; shrinking it frees memory at once."""
    first = await memory.take("ann", 40)
    assert memory.taken_bytes == 40

    memory.shrink(first, 10)
    second = await memory.take("bob", 60)
    assert memory.taken_bytes == 70
    memory.release(first)
    memory.release(second)

    assert memory.taken_bytes == 0


async def test_a_share_does_not_grow_by_shrinking(memory):
    """[MEM5] An answer that is larger than its share keeps its share: no memory is added implicitly."""
    held = await memory.take("ann", 40)

    memory.shrink(held, 90)

    assert memory.taken_bytes == 40


async def test_one_answer_is_always_admitted(memory):
    """[MEM6] With no other answer in progress an answer of any size is admitted; otherwise it could never be sent."""
    assert (await memory.take("ann", 1000)).size_bytes == 1000


async def test_an_answer_waits_for_memory(memory):
    """[MEM2] An answer for which no memory is free is admitted as soon as another one is sent."""
    held = [await memory.take(owner, 50) for owner in ("ann", "bob")]
    third = asyncio.create_task(memory.take("cat", 50))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not third.done()

    memory.release(held[0])

    assert (await third).owner == "cat"
    assert memory.taken_bytes == 100


async def test_the_wait_is_bounded(memory):
    """[MEM2] A request for which no memory is free within ten seconds gets 503 with Retry-After."""
    for owner in ("ann", "bob"):
        await memory.take(owner, 50)
    late = asyncio.create_task(memory.take("cat", 50))
    await asyncio.sleep(0)

    memory._clock.now_s += WAIT_S

    with pytest.raises(Unavailable) as refused:
        await late
    assert refused.value.retry_after_s >= 1


async def test_the_slowest_answer_is_aborted(memory):
    """[MEM3] If no memory is free, only the answer with the lowest transfer rate is aborted (eviction)."""
    readers = await _readers(memory, ("ann", 30), ("bob", 30), ("cat", 30))
    for reader, sent in zip(readers, (5000, 10, 900), strict=True):
        reader.held.sent_bytes = sent
    memory._clock.now_s += GRACE_S

    await memory.take("dan", 30)

    assert [reader.was_cut for reader in readers] == [False, True, False]
    await _end(readers)


async def test_a_new_answer_is_not_aborted(memory):
    """[MEM3] An answer is not aborted in its first five seconds, nor while it is built."""
    (young,) = await _readers(memory, ("ann", 50))
    made = await memory.take("bob", 50)
    late = asyncio.create_task(memory.take("cat", 50))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not young.was_cut
    assert not late.done()

    memory._clock.now_s += GRACE_S
    await late

    assert young.was_cut
    assert not made.cut
    await _end([young])


async def test_one_user_uses_at_most_half(memory):
    """[MEM4] One user's answers use at most half of the memory: a further one aborts that user's slowest answer."""
    own, other = await _readers(memory, ("ann", 40), ("bob", 20))
    own.held.sent_bytes = 900
    memory._clock.now_s += GRACE_S

    await memory.take("ann", 20)

    assert own.was_cut
    assert not other.was_cut
    await _end([other])


async def test_a_cancelled_wait_keeps_no_share(memory):
    """[MEM2] A request that is cancelled while it waits keeps no share."""
    held = [await memory.take(owner, 50) for owner in ("ann", "bob")]
    waiting = asyncio.create_task(memory.take("cat", 50))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for each in held:
        memory.release(each)

    assert memory.taken_bytes == 0
    assert memory._waiting == set()
