"""The store beside a model of lists and sets, for any sequence of operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.core.chain import Chain, digest, first_prev
from orbital_relay.errors import OrbitalError, PositionLost
from orbital_relay.model import (
    Access,
    AnyDraft,
    GroupId,
    IdempotencyKey,
    LeaveGroup,
    PostMessage,
    PostReply,
    PostThread,
    Principal,
    ThreadId,
)
from orbital_relay.ports import Appended, Store
from orbital_relay.store.sqlite import SqliteStore
from tests.contracts.drafts import NOW_MS, enter, group_of, join, leave, message, new_code, reply, thread

_clock = iter(range(NOW_MS, NOW_MS * 2, 1_000))
"""Each example has a second of its own, so that pruning in one says nothing of another's events."""


class Group:
    """A group as it has to be."""

    def __init__(self, group_id: GroupId, code: str, creator: Principal) -> None:
        self.id, self.code, self.creator = group_id, code, creator
        self.members = [creator]
        self.frames: list[bytes] = []
        self.stamps: list[int] = []
        self.floor = 0


RECEIPTS = {PostThread: ThreadCreated, PostReply: ReplyCreated, PostMessage: MessagePosted}
"""The kind of receipt of each kind of draft that takes a key here."""


class Machine(RuleBasedStateMachine):
    """Does the same to a store and to lists, and compares."""

    def __init__(self, runner: asyncio.Runner, store: Store) -> None:
        super().__init__()
        self.run, self.store = runner.run, store
        self.stamp_ms = next(_clock)
        self.people: list[Principal] = []
        self.groups: list[Group] = []
        self.threads: dict[ThreadId, tuple[Group, int]] = {}
        self.keys: dict[tuple[int, str], tuple[bytes, bytes]] = {}
        self.batch: list[tuple[AnyDraft, Callable[[], str | None]]] = []

    @initialize()
    def enter(self) -> None:
        self.people = [self.run(enter(self.store, name)) for name in ("ann", "bob", "eve")]

    # Operations are collected in a batch; `flush` applies it to the store and to the model.

    def _somebody(self, data: st.DataObject) -> Principal:
        return data.draw(st.sampled_from(self.people))

    def _group(self, data: st.DataObject) -> Group:
        return data.draw(st.sampled_from(self.groups))

    def _plan(self, draft: AnyDraft, decide: Callable[[], str | None]) -> None:
        self.batch.append((draft, decide))

    @precondition(lambda self: len(self.groups) < 3)
    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        self.flush()
        draft = group_of(self._somebody(data))
        group = Group(draft.group_id, draft.invite_code, draft.actor)
        self._plan(draft, lambda: None)
        self.groups.append(group)
        self.flush()

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        who, group = self._somebody(data), self._group(data)

        def decide() -> str | None:
            if who in group.members:
                return "ALREADY_MEMBER"
            if not group.members:
                group.creator = who
            group.members.append(who)
            return None

        self._plan(join(who, group.code), decide)

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        who, whom, group = self._somebody(data), self._somebody(data), self._group(data)

        def decide() -> str | None:
            if who not in group.members or who not in (whom, group.creator):
                return "FORBIDDEN"
            if whom not in group.members:
                return "NOT_FOUND"
            group.members.remove(whom)
            if group.creator == whom and group.members:
                group.creator = group.members[0]
            return None

        self._plan(leave(who, group.id, whom), decide)

    @precondition(lambda self: self.groups)
    @rule(data=st.data(), key=st.sampled_from([None, None, "k1", "k2"]), print_=st.sampled_from([b"1", b"2"]))
    def post(self, data: st.DataObject, key: str | None, print_: bytes) -> None:
        who, group = self._somebody(data), self._group(data)
        kind = data.draw(st.sampled_from(["message", "thread", "reply"]))
        idempotency_key = None if key is None else IdempotencyKey(key, print_)
        here = [thread_id for thread_id, (of, _) in self.threads.items() if of is group]
        if kind == "thread":
            opened = thread(who, group.id, idempotency_key=idempotency_key)

            def decide() -> str | None:
                if who not in group.members:
                    return "FORBIDDEN"
                self.threads[opened.thread_id] = (group, 0)
                return None

            self._plan(opened, decide)
        elif kind == "reply" and here:
            thread_id = data.draw(st.sampled_from(here))

            def decide_reply() -> str | None:
                if who not in group.members:
                    return "FORBIDDEN"
                self.threads[thread_id] = (group, self.threads[thread_id][1] + 1)
                return None

            self._plan(reply(who, thread_id, idempotency_key=idempotency_key), decide_reply)
        else:
            self._plan(
                message(who, group.id, idempotency_key=idempotency_key),
                lambda: None if who in group.members else "FORBIDDEN",
            )

    @rule()
    def flush(self) -> None:
        """Append what was planned as one batch, and compare each outcome with the model's."""
        if not self.batch:
            return
        drafts = [draft for draft, _ in self.batch]
        outcomes = self.run(self.store.append(drafts, first_stamp_ms=self.stamp_ms))
        assert len(outcomes) == len(drafts)
        for index, ((draft, decide), outcome) in enumerate(zip(self.batch, outcomes, strict=True)):
            self._compare(draft, decide, outcome, self.stamp_ms + index)
        self.stamp_ms += len(drafts)
        self.batch.clear()

    def _compare(
        self, draft: AnyDraft, decide: Callable[[], str | None], outcome: Appended | OrbitalError, stamp_ms: int
    ) -> None:
        key = None if draft.idempotency_key is None else (draft.actor.key, draft.idempotency_key.key)
        if draft.idempotency_key is not None and key in self.keys:
            fingerprint, answer = self.keys[key]
            if fingerprint != draft.idempotency_key.fingerprint or type(answer) is not RECEIPTS[type(draft)]:
                assert isinstance(outcome, OrbitalError)
                assert outcome.code == "CONFLICT"
            else:
                assert isinstance(outcome, Appended)
                assert (outcome.receipt, outcome.event) == (answer, None)
            return
        code = decide()
        if code is not None:
            assert isinstance(outcome, OrbitalError), outcome
            assert outcome.code == code
            return
        assert isinstance(outcome, Appended), outcome
        event = outcome.event
        assert event is not None
        group = self._group_of(draft, event.group_id)
        assert event.seq == len(group.frames) + 1
        assert event.stamp_ms >= stamp_ms
        assert json.loads(event.frame)["prev"] == (digest(group.frames[-1]) if group.frames else first_prev(group.id))
        group.frames.append(event.frame)
        group.stamps.append(event.stamp_ms)
        if draft.idempotency_key is not None and key is not None:
            self.keys[key] = (draft.idempotency_key.fingerprint, outcome.receipt)

    def _group_of(self, draft: AnyDraft, group_id: GroupId) -> Group:
        (group,) = (group for group in self.groups if group.id == group_id)
        if isinstance(draft, PostReply):
            assert self.threads[draft.thread_id][0] is group
        elif isinstance(draft, PostMessage | LeaveGroup):
            assert draft.group_id == group_id
        return group

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def replace_code(self, data: st.DataObject) -> None:
        self.flush()
        group, code = self._group(data), new_code()
        if not group.members:
            return
        self.run(self.store.replace_code(group.creator.key, group.id, invite_code=code, expires_ms=NOW_MS * 2))
        group.code = code

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        self.flush()
        group = self._group(data)
        before_ms = data.draw(st.sampled_from(group.stamps[group.floor :] or [0]))
        self.run(self.store.prune(before_ms=before_ms, limit=10_000))
        for one in self.groups:
            while one.floor < len(one.stamps) and one.stamps[one.floor] < before_ms:
                one.floor += 1

    # Invariants while no batch is pending

    @invariant()
    def same(self) -> None:
        """Heads, pages, hashes, memberships and counts are the model's."""
        if self.batch or not self.groups:
            return
        heads = self.run(self.store.heads([group.id for group in self.groups]))
        for group in self.groups:
            page = self.run(self.store.read(group.id, after=group.floor, limit=1000))
            assert [event.frame for event in page.events] == group.frames[group.floor :]
            assert page.head == heads[group.id]
            assert (page.head.seq, page.head.floor) == (len(group.frames), group.floor)
            assert page.head.hash == digest(group.frames[-1])
            points = self.run(self.store.resume_points({group.id: group.floor}))
            assert points[group.id].hash == (
                digest(group.frames[group.floor - 1]) if group.floor else first_prev(group.id)
            )
            chain = Chain(first_prev(group.id))
            assert all(chain.offer(frame) for frame in group.frames)
            if group.floor:
                with pytest.raises(PositionLost):
                    self.run(self.store.read(group.id, after=group.floor - 1, limit=1))
            for who in self.people:
                expected = Access.MEMBER if who in group.members else Access.STRANGER
                assert self.run(self.store.access(who.key, group.id)) is expected
            if group.members:
                reported = self.run(self.store.members(group.members[0].key, group.id, limit=500)).members
                assert [member.user_id for member in reported] == [member.user_id for member in group.members]
        for thread_id, (group, count) in self.threads.items():
            if group.members:
                reported = self.run(self.store.thread(group.members[0].key, thread_id, now_ms=NOW_MS))
                assert reported.reply_count == count

    def teardown(self) -> None:
        self.flush()
        self.same()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop that outlives an example."""
    with asyncio.Runner() as opened:
        yield opened


def _check(runner: asyncio.Runner, store: Any, *, examples: int) -> None:
    try:
        run_state_machine_as_test(
            lambda: Machine(runner, store),
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        runner.run(store.close())


def test_sqlite_equals_the_model(runner: asyncio.Runner, tmp_path: Path):
    """[P2] After any batches of posts, joins, leaves, retries and prunes SQLite equals the in-memory model."""
    _check(runner, runner.run(SqliteStore.open(tmp_path / "orbital.db")), examples=25)


def test_postgresql_equals_the_model(runner: asyncio.Runner, postgres_url: str):
    """[P2] After any batches of posts, joins, leaves, retries and prunes PostgreSQL equals the in-memory model."""
    from orbital_relay.store.postgres import PostgresStore

    _check(runner, runner.run(PostgresStore.open(postgres_url)), examples=8)
