"""The queue before the log: its order, its batches, and its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import pytest

from orbital_relay.core.stamps import Stamps
from orbital_relay.errors import Unavailable
from orbital_relay.model import (
    AnyDraft,
    CreateGroup,
    Event,
    JoinGroup,
    PostMessage,
    PostReply,
    PostThread,
    Principal,
)
from orbital_relay.ports import Appended, Store
from orbital_relay.relay.appender import (
    BATCH_CHARS,
    BATCH_DRAFTS,
    GATHER,
    GATHER_DRAFTS,
    QUEUE_CHARS,
    QUEUE_DRAFTS,
    Appender,
)

GROUP = "00000000-0000-4000-8000-000000000001"
ANN = Principal(1, "ann", "ann", 4_000_000_000)


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds."""
        return 1_800_000_000_000

    def steady_s(self) -> float:
        """Return seconds."""
        return self.now_s


class Log:
    """A store that notes its batches, and waits for leave to store each."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.leave = asyncio.Semaphore(0)
        self.failures: list[BaseException] = []
        self._seq = 0

    @property
    def names(self) -> list[str]:
        """What was stored, in order."""
        return [name for batch in self.batches for name in batch]

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended]:
        """Store drafts."""
        self.batches.append([cast("PostMessage", draft).message_id for draft in drafts])
        await self.leave.acquire()
        if self.failures:
            raise self.failures.pop(0)
        done = []
        for index, _ in enumerate(drafts):
            self._seq += 1
            done.append(Appended(None, Event(GROUP, self._seq, first_stamp_ms + index, b"{}")))
        return done


class Desk:
    """An appender with what it needs."""

    def __init__(self) -> None:
        self.log = Log()
        self.clock = Clock()
        self.delivered: list[int] = []
        self.bugs: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.appender = Appender(
            store=cast("Store", self.log),
            clock=self.clock,
            stamps=Stamps(),
            spawn=self._spawn,
            deliver=self._deliver,
            publish=self._publish,
            on_batch=lambda count, seconds: None,
        )

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            cast("Coroutine[Any, Any, None]", work), name=name
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _deliver(self, events: Sequence[Event]) -> None:
        if self.bugs:
            raise self.bugs.pop(0)
        self.delivered.extend(event.seq for event in events)

    async def _publish(self, events: Sequence[Event]) -> None:
        pass

    def post(self, name: str, chars: int) -> asyncio.Future[Appended]:
        """Queue a message with so much ciphertext."""
        return self.appender.append(message(name, chars))

    async def until(self, batches: int) -> None:
        """Let the loop run until the store was asked so often."""
        while len(self.log.batches) < batches:
            await asyncio.sleep(0)


def message(name: str, chars: int) -> PostMessage:
    """Make a draft with so much ciphertext; they share it."""
    return PostMessage(actor=ANN, at_ms=1, group_id=GROUP, message_id=name, encrypted_envelope="A" * chars)


async def test_pending_posts_are_bounded_in_number():
    """[QUEUE1] The queue of drafts is bounded; a refusal says to retry, and the queued drafts are stored."""
    desk = Desk()
    first = desk.post("first", 4)
    await desk.until(1)
    waiting = [desk.post(str(number), 4) for number in range(QUEUE_DRAFTS)]
    refused = desk.post("one too many", 4)

    with pytest.raises(Unavailable, match="more to store than it can"):
        await refused
    for _ in range(1 + -(-QUEUE_DRAFTS // BATCH_DRAFTS)):
        desk.log.leave.release()
    await asyncio.gather(first, *waiting)
    assert desk.delivered == list(range(1, QUEUE_DRAFTS + 2))
    assert desk.log.names == ["first", *map(str, range(QUEUE_DRAFTS))]
    assert max(map(len, desk.log.batches)) == BATCH_DRAFTS


async def test_pending_posts_are_bounded_in_size():
    """[QUEUE2] Large drafts queue up to a sum of their ciphertext; once some are stored, there is room again."""
    desk = Desk()
    large = QUEUE_CHARS // 8
    first = desk.post("first", 4)
    await desk.until(1)
    waiting = [desk.post(str(number), large) for number in range(8)]

    with pytest.raises(Unavailable):
        await desk.post("one too many", large)
    with pytest.raises(Unavailable):
        await desk.post("a small one", 4)
    for _ in range(2):
        desk.log.leave.release()
    await asyncio.gather(first, waiting[0])
    again = desk.post("again", large)
    for _ in range(8):
        desk.log.leave.release()
    await asyncio.gather(*waiting, again)
    assert desk.log.names == ["first", *map(str, range(8)), "again"]


async def test_one_draft_is_never_too_large_for_an_empty_queue():
    """[QUEUE3] A draft within its own limits is stored, whatever the bound of the queue is."""
    desk = Desk()
    desk.log.leave.release()

    assert (await desk.post("huge", QUEUE_CHARS + 1)).event is not None


async def test_a_batch_is_bounded_in_size():
    """[QUEUE4] Large drafts share a transaction up to a sum of ciphertext; small drafts do not wait for all of them."""
    desk = Desk()
    first = desk.post("first", 4)
    await desk.until(1)
    sizes = {"a": BATCH_CHARS // 2, "b": BATCH_CHARS // 2, "c": 1, "d": BATCH_CHARS + 1, "e": 1, "f": 1}
    waiting = [desk.post(name, chars) for name, chars in sizes.items()]
    for _ in range(5):
        desk.log.leave.release()

    await asyncio.gather(first, *waiting)
    assert desk.log.batches == [["first"], ["a", "b"], ["c"], ["d"], ["e", "f"]]


def test_the_size_of_a_draft():
    """[QUEUE5] The weight of a draft is the length of its ciphertext, the part whose size the client sets."""
    thread = PostThread(actor=ANN, at_ms=1, group_id=GROUP, thread_id="t", encrypted_title="AA", encrypted_body="BBBB")
    reply = PostReply(actor=ANN, at_ms=1, thread_id="t", reply_id="r", encrypted_body="BBB")
    group = CreateGroup(
        actor=ANN,
        at_ms=1,
        group_id=GROUP,
        encrypted_name="NN",
        encrypted_group_key="KKK",
        invite_code="ABCDEFGH",
        invite_expires_ms=2,
    )
    join = JoinGroup(actor=ANN, at_ms=1, invite_code="ABCDEFGH", encrypted_group_key="KKKK")

    assert [draft.content_chars for draft in (message("m", 5), thread, reply, group, join)] == [5, 6, 3, 5, 4]


async def test_what_is_under_way_can_be_awaited():
    """[QUEUE6] `delivered` waits for the batch that is with the store, `drain` for everything that is queued."""
    desk = Desk()
    first = desk.post("first", 4)
    await desk.until(1)
    second = desk.post("second", 4)
    delivered = asyncio.create_task(desk.appender.delivered())
    drained = asyncio.create_task(desk.appender.drain())

    desk.log.leave.release()
    await delivered
    assert (first.done(), second.done(), drained.done()) == (True, False, False)

    desk.log.leave.release()
    await drained
    assert second.done()
    await asyncio.gather(desk.appender.delivered(), desk.appender.drain())


@pytest.mark.parametrize("failure", [Unavailable("The store says why."), RuntimeError("a bug")], ids=["refusal", "bug"])
async def test_a_batch_that_the_store_cannot_store(failure: Exception, caplog: pytest.LogCaptureFixture):
    """[QUEUE7] If the store fails, each draft of the batch is refused, a bug is logged, and the next is stored."""
    desk = Desk()
    desk.log.failures.append(failure)
    posts = [desk.post(name, 4) for name in ("a", "b", "c")]
    posts[1].cancel()
    for _ in range(2):
        desk.log.leave.release()

    results = await asyncio.gather(posts[0], posts[2], return_exceptions=True)

    expected = "The store says why." if isinstance(failure, Unavailable) else "The server could not store this."
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert all(expected in str(result) for result in results)
    last = desk.post("last", 4)
    assert (await last).event is not None
    assert ("a batch could not be delivered" in caplog.text) is isinstance(failure, RuntimeError)


async def test_a_bug_in_a_delivery(caplog: pytest.LogCaptureFixture):
    """[QUEUE8] Stored drafts are answered even if their delivery failed, and the next batch is delivered."""
    desk = Desk()
    desk.bugs.append(RuntimeError("a bug"))
    cancelled, stored = desk.post("a", 4), desk.post("b", 4)
    cancelled.cancel()
    for _ in range(2):
        desk.log.leave.release()

    assert (await stored).event is not None
    assert "a batch could not be delivered" in caplog.text
    assert (await desk.post("c", 4)).event is not None
    assert desk.delivered == [3]


async def _answered(desk: Desk, count: int, *, took_s: float) -> None:
    """Let a batch of so many drafts take so long."""
    posts = [desk.post(f"first {number}", 4) for number in range(count)]
    await desk.until(1)
    desk.clock.now_s += took_s
    desk.log.leave.release()
    await asyncio.gather(*posts)


async def test_a_large_batch_waits_for_those_who_come_back():
    """[QUEUE9] After a large batch the next waits until as many drafts came, and then goes to the store at once."""
    desk = Desk()
    await _answered(desk, GATHER_DRAFTS, took_s=4_000)

    posts = [desk.post(f"next {number}", 4) for number in range(GATHER_DRAFTS - 1)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(desk.log.batches) == 1, "a thousand seconds may pass before it goes without the last one"

    posts += [desk.post("the last", 4), desk.post("one more", 4)]
    desk.log.leave.release()
    await asyncio.gather(*posts)
    assert [len(batch) for batch in desk.log.batches] == [GATHER_DRAFTS, GATHER_DRAFTS + 1]


async def test_a_large_batch_waits_a_quarter_of_its_time():
    """[QUEUE10] If fewer drafts arrive, the next batch goes to the store after a quarter of the last one's time."""
    desk = Desk()
    await _answered(desk, GATHER_DRAFTS, took_s=0.2)
    started_s = asyncio.get_running_loop().time()

    desk.log.leave.release()
    await desk.post("alone", 4)

    assert asyncio.get_running_loop().time() - started_s >= GATHER * 0.2 * 0.99
    assert [len(batch) for batch in desk.log.batches] == [GATHER_DRAFTS, 1]


async def test_a_small_batch_waits_for_nobody():
    """[QUEUE11] After a small batch a draft goes to the store at once."""
    desk = Desk()
    await _answered(desk, GATHER_DRAFTS - 1, took_s=4_000)

    desk.log.leave.release()
    async with asyncio.timeout(60):
        await desk.post("alone", 4)
    assert [len(batch) for batch in desk.log.batches] == [GATHER_DRAFTS - 1, 1]
