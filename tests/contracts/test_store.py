"""What `ports.Store` promises, of every adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from orbital_relay.api.messages import MessagePosted
from orbital_relay.core.chain import digest, first_prev
from orbital_relay.errors import (
    AccountDisabled,
    Conflict,
    Forbidden,
    NotFound,
    PositionLost,
    SignupsClosed,
    UsernameTaken,
)
from orbital_relay.model import Access, CreateGroup, GroupId, LogRange, Principal, ResumePoint, ThreadId, UserId
from orbital_relay.ports import Appended, Store
from orbital_relay.store import log, log_ranges, messages, sqlite_access
from orbital_relay.store.append.batch import KEY_LIFETIME_MS
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    assert_chain,
    enter,
    group_of,
    join,
    leave,
    message,
    new_code,
    new_id,
    put,
    put_one,
    refusals,
    reply,
    retry_key,
    thread,
)


class Home:
    """A group with its creator and one more member."""

    def __init__(self, ann: Principal, bob: Principal, group_id: GroupId, code: str) -> None:
        self.ann, self.bob, self.group_id, self.code = ann, bob, group_id, code


@pytest.fixture
def stamps() -> Stamps:
    """The relay's stamps."""
    return Stamps()


@pytest.fixture
async def home(store: Store, stamps: Stamps) -> Home:
    """A group of ann's, with bob in it."""
    ann, bob = await enter(store, "ann"), await enter(store, "bob")
    made = group_of(ann)
    await put_one(store, stamps, made)
    await put_one(store, stamps, join(bob, made.invite_code))
    return Home(ann, bob, made.group_id, made.invite_code)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy runs while the test does."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    listen(Engine, "before_cursor_execute", note)
    yield seen
    remove(Engine, "before_cursor_execute", note)


# Chapter: the log


async def test_gapless_numbers_and_a_chain(store: Store, stamps: Stamps, home: Home):
    """[P2] In each group numbers run 1, 2, 3, …, stamps increase, and each frame carries the previous hash."""
    other = group_of(home.bob)
    await put_one(store, stamps, other)
    opened = thread(home.ann, home.group_id)
    outcomes = await put(
        store,
        stamps,
        message(home.ann, home.group_id),
        message(home.bob, other.group_id),
        opened,
        reply(home.bob, opened.thread_id),
        message(home.ann, other.group_id),
        message(home.bob, home.group_id),
    )

    assert refusals(outcomes) == [None, None, None, None, "FORBIDDEN", None]
    for group_id, count in ((home.group_id, 6), (other.group_id, 2)):
        page = await store.read(group_id, after=0, limit=100)
        assert_chain(group_id, page.events)
        assert len(page.events) == count == page.head.seq
        assert [event.stamp_ms for event in page.events] == sorted({event.stamp_ms for event in page.events})
        assert page.head.hash == digest(page.events[-1].frame)
        assert page.head.stamp_ms == page.events[-1].stamp_ms
        assert [json.loads(event.frame)["seq"] for event in page.events] == [event.seq for event in page.events]


async def test_a_response_holds_what_was_stored(store: Store, stamps: Stamps, home: Home):
    """[P3] The event that `append` returns is the one that is read later, byte for byte."""
    (outcome,) = await put(store, stamps, message(home.ann, home.group_id))

    assert isinstance(outcome, Appended)
    assert outcome.event is not None
    assert isinstance(outcome.receipt, MessagePosted)
    assert outcome.receipt.seq == outcome.event.seq == 3
    assert outcome.receipt.server_timestamp == outcome.event.stamp_ms
    assert (await store.read(home.group_id, after=2, limit=10)).events == [outcome.event]


async def test_stamps_are_the_relays_unless_the_group_is_ahead(store: Store, stamps: Stamps, home: Home):
    """[FRAMES3] The draft with index i gets the stamp first + i, or one more than its group's last if higher."""
    first = stamps.next_ms + 1_000
    ahead = await store.append([message(home.ann, home.group_id) for _ in range(3)], first_stamp_ms=first)
    behind = await store.append([message(home.ann, home.group_id) for _ in range(2)], first_stamp_ms=first - 500)

    given = [outcome.event.stamp_ms for outcome in (*ahead, *behind) if isinstance(outcome, Appended) and outcome.event]
    assert given == [first, first + 1, first + 2, first + 3, first + 4]
    assert await store.last_stamp_ms() == first + 4


async def test_a_refused_draft_leaves_no_trace(store: Store, stamps: Stamps, home: Home):
    """[APPEND1] A refused draft uses no number and leaves no row, and the other drafts succeed."""
    stranger = await enter(store, "eve")
    outcomes = await put(
        store,
        stamps,
        message(home.ann, home.group_id),
        message(stranger, home.group_id),
        message(home.ann, GroupId(new_id())),
        reply(home.ann, ThreadId(new_id())),
        thread(stranger, home.group_id),
        join(home.bob, home.code),
        join(stranger, "NOSUCHCD"),
        leave(stranger, home.group_id),
        leave(home.bob, home.group_id, home.ann),
        leave(home.ann, home.group_id, stranger),
        message(home.bob, home.group_id),
    )

    assert refusals(outcomes) == [
        *(None, "FORBIDDEN", "NOT_FOUND", "NOT_FOUND", "FORBIDDEN", "ALREADY_MEMBER", "NOT_FOUND"),
        *("FORBIDDEN", "FORBIDDEN", "NOT_FOUND", None),
    ]
    page = await store.read(home.group_id, after=0, limit=100)
    assert_chain(home.group_id, page.events)
    assert page.head.seq == 4


async def test_membership_is_as_of_the_place_in_the_order(store: Store, stamps: Stamps, home: Home):
    """[P1] Within one batch too, a user who left may no longer post, and one who joined may."""
    eve = await enter(store, "eve")
    outcomes = await put(
        store,
        stamps,
        message(eve, home.group_id),
        join(eve, home.code),
        message(eve, home.group_id),
        message(home.bob, home.group_id),
        leave(home.ann, home.group_id, home.bob),
        message(home.bob, home.group_id),
        leave(eve, home.group_id),
        message(eve, home.group_id),
    )

    assert refusals(outcomes) == ["FORBIDDEN", None, None, None, None, "FORBIDDEN", None, "FORBIDDEN"]


async def test_a_group_in_the_same_batch(store: Store, stamps: Stamps, home: Home):
    """[APPEND2] A draft sees what earlier drafts of the batch created: a group, a thread, a reply."""
    made = group_of(home.ann)
    opened = thread(home.ann, made.group_id)
    posts = [message(home.ann, made.group_id), opened, reply(home.ann, opened.thread_id)]
    outcomes = await put(store, stamps, made, *posts)

    assert refusals(outcomes) == [None] * 4
    assert (await store.thread(home.ann.key, opened.thread_id, now_ms=NOW_MS)).reply_count == 1


async def test_the_creator_role_passes_on(store: Store, stamps: Stamps, home: Home):
    """[GROUPS1] When the creator leaves, the longest-standing member becomes creator; an empty group has none."""
    await put_one(store, stamps, leave(home.ann, home.group_id))
    await store.replace_code(home.bob.key, home.group_id, invite_code=(code := new_code()), expires_ms=NOW_MS * 2)
    await put_one(store, stamps, leave(home.bob, home.group_id))
    with pytest.raises(Forbidden):
        await store.members(home.bob.key, home.group_id, limit=500)

    await put_one(store, stamps, join(home.ann, code))

    await store.replace_code(home.ann.key, home.group_id, invite_code=new_code(), expires_ms=NOW_MS * 2)


async def test_an_unknown_id_is_not_removed(store: Store, stamps: Stamps, home: Home):
    """[GROUPS2] Only a member can be removed, whatever the id contains: a path may contain a NUL."""
    nobody = [Principal(0, UserId(user_id), "", expires_at_s=0) for user_id in ("nobody", "", "a\0b", "\0", "é\n")]

    outcomes = await put(store, stamps, *(leave(home.ann, home.group_id, who) for who in nobody))

    assert refusals(outcomes) == ["NOT_FOUND"] * len(nobody)


async def test_concurrent_batches(store: Store, stamps: Stamps, home: Home):
    """[P2] Concurrent batches with common groups give one order in each."""
    other = group_of(home.ann)
    await put_one(store, stamps, other)
    await put_one(store, stamps, join(home.bob, other.invite_code))

    async def talk(who: Principal, groups: list[GroupId]) -> list[Appended]:
        reported = []
        for _ in range(10):
            outcomes = await put(store, stamps, *(message(who, group_id) for group_id in groups))
            reported += [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        return reported

    both = [home.group_id, other.group_id]
    answered = await asyncio.gather(talk(home.ann, both), talk(home.bob, both[::-1]), talk(home.ann, [*both, *both]))

    for group_id, first in ((home.group_id, 2), (other.group_id, 2)):
        events = (await store.read(group_id, after=0, limit=1000)).events
        assert_chain(group_id, events)
        reported = [
            a.event for reported in answered for a in reported if a.event is not None and a.event.group_id == group_id
        ]
        assert sorted(reported, key=lambda event: event.seq) == events[first:]


# Chapter: once


async def test_a_repeated_key_gets_the_first_answer(store: Store, stamps: Stamps, home: Home):
    """[REPEAT3] The same key gets the first response and no event: in one batch, in the next, and after leaving."""
    first, again = await put(
        store,
        stamps,
        message(home.bob, home.group_id, idempotency_key=retry_key()),
        message(home.bob, home.group_id, idempotency_key=retry_key()),
    )
    await put_one(store, stamps, leave(home.bob, home.group_id))
    (later,) = await put(store, stamps, message(home.bob, home.group_id, idempotency_key=retry_key()))

    assert isinstance(first, Appended)
    assert first.event is not None
    assert again == later == Appended(first.receipt, None)
    assert (await store.heads([home.group_id]))[home.group_id].seq == 4


async def test_a_key_for_another_request_is_a_conflict(store: Store, stamps: Stamps, home: Home):
    """[REPEAT4] The same key with another body is 409; another user's same key is another key."""
    outcomes = await put(
        store,
        stamps,
        message(home.ann, home.group_id, idempotency_key=retry_key("k", b"1")),
        message(home.ann, home.group_id, idempotency_key=retry_key("k", b"2")),
        message(home.bob, home.group_id, idempotency_key=retry_key("k", b"2")),
    )
    (later,) = await put(store, stamps, message(home.ann, home.group_id, idempotency_key=retry_key("k", b"2")))

    assert refusals([*outcomes, later]) == [None, "CONFLICT", None, "CONFLICT"]


async def test_a_refused_request_frees_its_key(store: Store, stamps: Stamps, home: Home):
    """[REPEAT5] A key whose first request was refused is free again."""
    eve = await enter(store, "eve")
    outcomes = await put(
        store,
        stamps,
        message(eve, home.group_id, idempotency_key=retry_key()),
        join(eve, home.code),
        message(eve, home.group_id, idempotency_key=retry_key(fingerprint=b"another")),
    )

    assert refusals(outcomes) == ["FORBIDDEN", None, None]


async def test_a_key_is_valid_for_a_day(store: Store, stamps: Stamps, home: Home):
    """[REPEAT6] After 24 hours a key may be used again, pruned or not, and then belongs to the new request."""
    for kind in (message, thread):
        later = NOW_MS + KEY_LIFETIME_MS
        key = retry_key(kind.__name__)
        outcomes = [
            *await put(store, stamps, kind(home.ann, home.group_id, idempotency_key=key)),
            *await put(store, stamps, kind(home.ann, home.group_id, idempotency_key=key, at_ms=later - 1)),
            *await put(store, stamps, kind(home.ann, home.group_id, idempotency_key=key, at_ms=later)),
            *await put(store, stamps, kind(home.ann, home.group_id, idempotency_key=key, at_ms=later + 1)),
        ]

        fresh = [isinstance(outcome, Appended) and outcome.event is not None for outcome in outcomes]
        assert fresh == [True, False, True, False]


@pytest.mark.parametrize("kind", ["create", "join", "message", "thread", "reply"])
async def test_one_key_many_concurrent_requests(store: Store, stamps: Stamps, home: Home, kind: str):
    """[REPEAT7] While the first request is in progress the others wait; one event results, one response for all."""
    eve = await enter(store, "eve")
    opened = thread(home.ann, home.group_id)
    await put_one(store, stamps, opened)
    codes = {home.group_id: home.code}
    for _ in range(3):
        more = group_of(home.ann)
        codes[more.group_id] = more.invite_code
        await put_one(store, stamps, more)
    before = {group_id: head.seq for group_id, head in (await store.heads(codes)).items()}
    make = {
        "create": lambda _: group_of(eve, idempotency_key=retry_key()),
        "join": lambda _: join(eve, home.code, idempotency_key=retry_key()),
        # The fingerprint distinguishes requests: these race over four groups, which no correct client does.
        "message": lambda index: message(home.ann, list(codes)[index % 4], idempotency_key=retry_key()),
        "thread": lambda index: thread(home.ann, list(codes)[index % 4], idempotency_key=retry_key()),
        "reply": lambda _: reply(home.bob, opened.thread_id, idempotency_key=retry_key()),
    }[kind]

    outcomes = await asyncio.gather(*(put(store, stamps, make(index)) for index in range(8)))

    flat = [outcome for some in outcomes for outcome in some]
    assert refusals(flat) == [None] * 8
    assert len({outcome.receipt for outcome in flat if isinstance(outcome, Appended)}) == 1
    assert sum(isinstance(outcome, Appended) and outcome.event is not None for outcome in flat) == 1
    after = {group_id: head.seq for group_id, head in (await store.heads(codes)).items()}
    assert sum(after.values()) - sum(before.values()) == (0 if kind == "create" else 1)


async def test_one_user_joins_once(store: Store, stamps: Stamps, home: Home):
    """[GROUPS3] Of several concurrent requests to join, one succeeds."""
    eve = await enter(store, "eve")

    outcomes = await asyncio.gather(*(put(store, stamps, join(eve, home.code)) for _ in range(5)))

    assert sorted(str(code) for some in outcomes for code in refusals(some)) == ["ALREADY_MEMBER"] * 4 + ["None"]


async def test_a_code_belongs_to_one_group(store: Store, stamps: Stamps, home: Home):
    """[GROUPS4] Two groups that draw the same invite code concurrently do not both get it."""
    code = new_code()
    outcomes = await asyncio.gather(*(put(store, stamps, group_of(home.ann, invite_code=code)) for _ in range(4)))

    assert sorted(str(found) for some in outcomes for found in refusals(some)) == ["CONFLICT"] * 3 + ["None"]
    with pytest.raises(Conflict):
        await store.replace_code(home.ann.key, home.group_id, invite_code=code, expires_ms=NOW_MS)


async def test_an_expired_code_is_invalid(store: Store, stamps: Stamps, home: Home):
    """[GROUPS5] A code is valid until its expiry, and is replaced at once."""
    eve = await enter(store, "eve")
    await store.replace_code(home.ann.key, home.group_id, invite_code=(code := new_code()), expires_ms=NOW_MS + 10)

    tries = [join(eve, home.code), join(eve, code, at_ms=NOW_MS + 10), join(eve, code, at_ms=NOW_MS + 9)]

    assert refusals(await put(store, stamps, *tries)) == ["NOT_FOUND", "NOT_FOUND", None]


# Chapter: reading


async def test_pages_are_gapless(store: Store, stamps: Stamps, home: Home):
    """[P4] A page starts at the number after the requested one, and holds at most its limit."""
    await put(store, stamps, *(message(home.ann, home.group_id) for _ in range(7)))

    page = await store.read(home.group_id, after=2, limit=3)
    rest = await store.events(home.bob.key, home.group_id, after=5, limit=1000)
    none = await store.read(home.group_id, after=9, limit=10)
    ahead = await store.read(home.group_id, after=99, limit=10)

    assert [event.seq for event in page.events] == [3, 4, 5]
    assert [event.seq for event in rest.events] == [6, 7, 8, 9]
    assert none.events == ahead.events == []
    assert page.head == rest.head == none.head == (await store.heads([home.group_id]))[home.group_id]


async def test_a_page_is_bounded_in_bytes(store: Store, stamps: Stamps, home: Home, monkeypatch: pytest.MonkeyPatch):
    """
    [P4] A page of large events ends before its limit, after the event that fills it; the next page continues.

    A thousand of the largest events were one response of 350 MB, which took three times as much memory to write.
    """
    sizes = [10, 10, 3000, 10, 10, 10, 10, 5000, 5000, 10]
    events = [
        await put_one(store, stamps, message(home.ann, home.group_id, encrypted_envelope="A" * size)) for size in sizes
    ]
    for module in (log, messages):
        monkeypatch.setattr(module, "PAGE_BYTES", 3000)

    pages: list[list[int]] = []
    while not pages or pages[-1]:
        after = pages[-1][-1] if pages else 2
        pages.append([event.seq for event in (await store.read(home.group_id, after=after, limit=6)).events])
    reported: list[list[int]] = []
    since, more = events[0].stamp_ms - 1, True
    while more:
        page, more = await store.messages(home.ann.key, since_ms=since, limit=6, group_id=None)
        reported.append([event.seq for event in page])
        since = page[-1].stamp_ms

    assert pages == [[3, 4, 5], [6, 7, 8, 9, 10], [11], [12], []]
    assert reported == [[3, 4, 5], [6, 7, 8, 9, 10], [11], [12]]


async def test_a_full_page_never_splits_one_stamp(
    store: Store, stamps: Stamps, home: Home, monkeypatch: pytest.MonkeyPatch
):
    """[MESSAGES1] A full page, too, holds all messages of its last stamp."""
    groups = [group_of(home.ann) for _ in range(3)]
    await put(store, stamps, *groups)
    at = stamps.take(10)
    for group in groups:
        await store.append([message(home.ann, group.group_id)], first_stamp_ms=at)
    await store.append([message(home.ann, home.group_id)], first_stamp_ms=at + 1)
    for module in (log, messages):
        monkeypatch.setattr(module, "PAGE_BYTES", 1)

    page, more = await store.messages(home.ann.key, since_ms=0, limit=10, group_id=None)
    rest, last = await store.messages(home.ann.key, since_ms=at, limit=10, group_id=None)

    assert {event.group_id for event in page} == {group.group_id for group in groups}
    assert ([event.group_id for event in rest], more, last) == ([home.group_id], True, False)


async def test_reading_what_does_not_exist(store: Store, stamps: Stamps, home: Home):
    """[HTTP2] 404 for a group or thread that does not exist, 403 for one that the caller is not in."""
    eve = await enter(store, "eve")
    opened = thread(home.ann, home.group_id)
    await put_one(store, stamps, opened)
    nowhere, no_thread = GroupId(new_id()), ThreadId(new_id())

    for user, group_id, thread_id, error in (
        (home.ann.key, nowhere, no_thread, NotFound),
        (eve.key, home.group_id, opened.thread_id, Forbidden),
    ):
        for asked in (
            store.members(user, group_id, limit=500),
            store.events(user, group_id, after=0, limit=1),
            store.messages(user, since_ms=0, limit=1, group_id=group_id),
            store.threads(user, group_id, limit=1, offset=0, sort="active_desc"),
            store.thread(user, thread_id, now_ms=NOW_MS),
            store.replies(user, thread_id, limit=1, offset=0),
            store.replace_code(user, group_id, invite_code=new_code(), expires_ms=NOW_MS),
        ):
            with pytest.raises(error):
                await asked
    with pytest.raises(NotFound):
        await store.read(nowhere, after=0, limit=1)
    assert await store.heads([nowhere]) == {}
    assert await store.thread_group(no_thread) is None
    assert await store.thread_group(opened.thread_id) == home.group_id
    assert await store.access(home.ann.key, nowhere) is Access.UNKNOWN
    assert await store.access(eve.key, home.group_id) is Access.STRANGER
    assert await store.access(home.bob.key, home.group_id) is Access.MEMBER


async def test_memberships_have_access_and_head(store: Store, stamps: Stamps, home: Home):
    """[SUBSCRIBE1] Groups that exist are returned with access and head; others are left out."""
    other = group_of(home.bob)
    await put_one(store, stamps, other)

    found = await store.memberships(home.ann.key, [home.group_id, other.group_id, GroupId(new_id())])

    heads = await store.heads([home.group_id, other.group_id])
    assert {group_id: (s.access, s.head) for group_id, s in found.items()} == {
        home.group_id: (Access.MEMBER, heads[home.group_id]),
        other.group_id: (Access.STRANGER, heads[other.group_id]),
    }


async def test_heads_of_more_groups_than_a_statement_takes(store: Store, home: Home):
    """[CLUSTER17] Heads are returned for any number of groups: both databases take some 32,000 parameters."""
    asked = [home.group_id, *(GroupId(new_id()) for _ in range(33_000))]

    assert list(await store.heads(asked)) == [home.group_id]


async def test_resume_points(store: Store, stamps: Stamps, home: Home):
    """[P4] At any kept position the hash and the next stamp are known, at the floor from the next frame."""
    await put(store, stamps, *(message(home.ann, home.group_id) for _ in range(3)))
    events = (await store.read(home.group_id, after=0, limit=10)).events
    nowhere = GroupId(new_id())

    async def at(seq: int) -> ResumePoint | None:
        return (await store.resume_points({home.group_id: seq, nowhere: 1})).get(home.group_id)

    assert await store.resume_points({}) == {}
    assert await store.resume_points({nowhere: 1}) == {}
    assert await at(0) == ResumePoint(first_prev(home.group_id), events[0].stamp_ms)
    for event, following in zip(events, [*events[1:], None], strict=True):
        next_stamp_ms = None if following is None else following.stamp_ms
        assert await at(event.seq) == ResumePoint(digest(event.frame), next_stamp_ms)
    assert await at(6) is None

    await store.prune(before_ms=events[2].stamp_ms, limit=10)
    assert await at(1) is None
    assert await at(2) == ResumePoint(digest(events[1].frame), events[2].stamp_ms)


async def test_many_resume_points_are_few_statements(store: Store, stamps: Stamps, home: Home, statements: list[str]):
    """[RSM1] Resume points of 200 groups need as many statements as those of 40."""
    groups = [group_of(home.ann) for _ in range(200)]
    await put(store, stamps, *groups)
    await put(store, stamps, *(message(home.ann, group.group_id) for group in groups))
    counts = []

    for count in (40, 200):
        statements.clear()
        points = await store.resume_points({group.group_id: 1 for group in groups[:count]})
        assert len(points) == count
        assert None not in {point.next_stamp_ms for point in points.values()}
        counts.append(len(statements))

    # Of fewer groups SQLite reads each by itself, by its driver.
    assert counts[0] == counts[1] <= 3


async def put_groups(store: Store, stamps: Stamps, home: Home, count: int) -> list[CreateGroup]:
    """Create groups of ann's."""
    groups = [group_of(home.ann) for _ in range(count)]
    await put(store, stamps, *groups)
    return groups


async def test_reading_many_groups(store: Store, stamps: Stamps, home: Home):
    """[RDM1] Pages of many groups are those that each group's own read gives; lost positions are left out."""
    groups = [home.group_id, *(group.group_id for group in await put_groups(store, stamps, home, 3))]
    for group_id in groups:
        await put(store, stamps, *(message(home.ann, group_id) for _ in range(4)))
    kept = (await store.read(groups[3], after=0, limit=10)).events
    await put(store, stamps, *(message(home.ann, groups[3]) for _ in range(2)))
    ranges = {
        groups[0]: LogRange(0, 3),
        groups[1]: LogRange(2, 100),
        groups[2]: LogRange(5, 5),
        groups[3]: LogRange(4, 1),
        GroupId(new_id()): LogRange(0, 5),
    }

    pages = await store.read_many(ranges)
    await store.prune(before_ms=kept[3].stamp_ms, limit=10_000)
    after_prune = await store.read_many({groups[0]: LogRange(0, 5), groups[3]: LogRange(3, 5)})

    assert await store.read_many({}) == {}
    assert set(pages) == set(groups)
    assert [[event.seq for event in pages[group_id].events] for group_id in groups] == [[1, 2, 3], [3, 4, 5], [], [5]]
    assert set(after_prune) == {groups[3]}
    assert after_prune[groups[3]] == await store.read(groups[3], after=3, limit=5)
    assert pages[groups[3]].events == after_prune[groups[3]].events[1:2]


async def test_reading_many_groups_is_bounded(
    store: Store, stamps: Stamps, home: Home, monkeypatch: pytest.MonkeyPatch
):
    """[RDM2] The bytes of one page are divided among the groups; each page has one event at least."""
    groups = await put_groups(store, stamps, home, 2)
    for group, sizes in zip(groups, ([10, 10, 10, 3000, 10], [5000, 10]), strict=True):
        await put(store, stamps, *(message(home.ann, group.group_id, encrypted_envelope="A" * size) for size in sizes))
    monkeypatch.setattr(log_ranges, "PAGE_BYTES", 3000)
    monkeypatch.setattr(sqlite_access, "PAGE_BYTES", 3000)

    found = []
    for after in (1, 2, 4):
        pages = await store.read_many({group.group_id: LogRange(after, 10) for group in groups})
        found.append([[event.seq for event in pages[group.group_id].events] for group in groups])

    assert found == [[[2, 3, 4, 5], [2]], [[3, 4, 5], [3]], [[5], []]]


async def test_reading_many_groups_is_few_statements(store: Store, stamps: Stamps, home: Home, statements: list[str]):
    """[RDM3] Reads of 1,200 groups need as many statements for the events as those of 40, and one for 500 heads."""
    groups = await put_groups(store, stamps, home, 1_200)
    counts = []

    for count in (40, 1_200):
        statements.clear()
        pages = await store.read_many({group.group_id: LogRange(0, 5) for group in groups[:count]})
        assert [len(page.events) for page in pages.values()] == [1] * count
        counts.append(len(statements))

    assert counts[1] == counts[0] + 2 <= 6


async def test_messages_over_groups(store: Store, stamps: Stamps, home: Home):
    """[MESSAGES2] Only messages of the caller's groups are returned, oldest first; no other events."""
    other, foreign = group_of(home.ann), group_of(home.bob)
    await put(store, stamps, other, foreign)
    await put(
        store,
        stamps,
        message(home.ann, other.group_id),
        thread(home.ann, home.group_id),
        message(home.bob, home.group_id),
        message(home.bob, foreign.group_id),
        message(home.ann, other.group_id),
    )

    everything, more = await store.messages(home.ann.key, since_ms=0, limit=10, group_id=None)
    first, first_more = await store.messages(home.ann.key, since_ms=0, limit=2, group_id=None)
    rest, rest_more = await store.messages(home.ann.key, since_ms=first[-1].stamp_ms, limit=2, group_id=None)
    one, _ = await store.messages(home.ann.key, since_ms=0, limit=10, group_id=home.group_id)

    assert [event.group_id for event in everything] == [other.group_id, home.group_id, other.group_id]
    assert [event.stamp_ms for event in everything] == sorted(event.stamp_ms for event in everything)
    assert (more, first_more, rest_more) == (False, True, False)
    assert first + rest == everything
    assert [event.group_id for event in one] == [home.group_id]


async def test_messages_over_many_groups(store: Store, stamps: Stamps, home: Home, statements: list[str]):
    """
    [MESSAGES3] A page over many groups needs as many statements as one over two.

    It was one per group: a user with 2,000 groups kept SQLite busy for 0.7 s, and PostgreSQL for 2.4 s.
    """
    counts: list[int] = []
    for more in (1, 40):
        groups = [group_of(home.ann) for _ in range(more)]
        await put(store, stamps, *groups)
        await put(store, stamps, *(message(home.ann, group.group_id) for group in groups))
        statements.clear()
        page, _ = await store.messages(home.ann.key, since_ms=0, limit=100, group_id=None)
        counts.append(len(statements))

    assert len(page) == 41
    assert counts[0] == counts[1] > 0


async def test_a_page_never_splits_one_stamp(store: Store, stamps: Stamps, home: Home):
    """[MESSAGES4] Two servers may give events of two groups the same stamp: a page then grows to hold both."""
    groups = [group_of(home.ann) for _ in range(3)]
    await put(store, stamps, *groups)
    at = stamps.take(10)
    for group in groups:
        await store.append([message(home.ann, group.group_id)], first_stamp_ms=at)
    await store.append([message(home.ann, home.group_id)], first_stamp_ms=at + 1)

    page, more = await store.messages(home.ann.key, since_ms=0, limit=1, group_id=None)
    rest, last = await store.messages(home.ann.key, since_ms=at, limit=1, group_id=None)

    assert [event.stamp_ms for event in page] == [at] * 3
    assert {event.group_id for event in page} == {group.group_id for group in groups}
    assert ([event.group_id for event in rest], more, last) == ([home.group_id], True, False)


async def test_threads_by_activity(store: Store, stamps: Stamps, home: Home):
    """[ACT1] The most recently active first: a reply moves its thread up, and the list has its author and body."""
    opened = [thread(home.ann, home.group_id, at_ms=NOW_MS + index) for index in range(3)]
    await put(store, stamps, *opened)

    async def listed() -> list[str]:
        page = await store.threads(home.bob.key, home.group_id, limit=9, offset=0, sort="active_desc")
        return [one.thread_id for one in page.threads]

    assert await listed() == [one.thread_id for one in reversed(opened)]
    old = (await store.threads(home.bob.key, home.group_id, limit=1, offset=0, sort="created_asc")).threads[0]
    assert (old.last_activity_at, old.last_seq) == (old.created_at, 3)
    assert (old.last_author_id, old.last_author_username) == (home.ann.user_id, "ann")
    assert old.last_encrypted_body is None

    # Two replies of one batch in one thread, one in another.
    words = [reply(home.bob, opened[0].thread_id, at_ms=NOW_MS + 10 + index) for index in range(2)]
    await put(store, stamps, words[0], reply(home.ann, opened[1].thread_id, at_ms=NOW_MS + 20), words[1])

    assert await listed() == [opened[0].thread_id, opened[1].thread_id, opened[2].thread_id]
    new = await store.thread(home.ann.key, opened[0].thread_id, now_ms=NOW_MS)
    assert new.last_seq == (await store.heads([home.group_id]))[home.group_id].seq == 8
    assert (
        new.last_activity_at
        == (await store.replies(home.ann.key, opened[0].thread_id, limit=9, offset=0)).replies[-1].created_at
    )
    assert (new.last_author_id, new.last_author_username) == (home.bob.user_id, "bob")
    assert new.last_encrypted_body == words[1].encrypted_body


async def test_threads_and_replies(store: Store, stamps: Stamps, home: Home):
    """[THREADS1] Threads are in the log's order or its reverse, replies oldest first, with counts."""
    opened = [thread(home.ann, home.group_id, at_ms=NOW_MS + index) for index in range(3)]
    await put(store, stamps, *opened)
    written = [reply(home.bob, opened[0].thread_id) for _ in range(3)]
    await put(store, stamps, written[0], reply(home.ann, opened[1].thread_id), *written[1:])

    newest = await store.threads(home.bob.key, home.group_id, limit=2, offset=0, sort="created_desc")
    oldest = await store.threads(home.bob.key, home.group_id, limit=2, offset=2, sort="created_asc")
    replies = await store.replies(home.ann.key, opened[0].thread_id, limit=2, offset=1)

    assert [one.thread_id for one in newest.threads] == [opened[2].thread_id, opened[1].thread_id]
    assert [one.reply_count for one in newest.threads] == [0, 1]
    assert (newest.total_count, newest.has_more) == (3, True)
    assert [one.thread_id for one in oldest.threads] == [opened[2].thread_id]
    assert oldest.has_more is False
    assert [one.reply_id for one in replies.replies] == [written[1].reply_id, written[2].reply_id]
    assert (replies.total_count, replies.has_more) == (3, False)
    assert {one.author_id for one in replies.replies} == {home.bob.user_id}


async def test_groups_and_members(store: Store, stamps: Stamps, home: Home):
    """[GROUPS6] A user's groups have head and valid code; a group's members are in the order of joining."""
    await put_one(store, stamps, message(home.ann, home.group_id))

    (mine,) = (await store.groups_of(home.bob.key, now_ms=NOW_MS, limit=500)).groups
    (late,) = (await store.groups_of(home.bob.key, now_ms=NOW_MS * 2, limit=500)).groups
    members = (await store.members(home.bob.key, home.group_id, limit=500)).members

    assert (mine.group_id, mine.member_count, mine.last_seq) == (home.group_id, 2, 3)
    assert (mine.invite_code, late.invite_code) == (home.code, None)
    assert [member.user_id for member in members] == [home.ann.user_id, home.bob.user_id]


# Chapter: keeping


async def test_the_census(store: Store, stamps: Stamps, home: Home):
    """[WATCH3] The census counts users, groups and the events that are kept."""
    before = await store.census()
    await put(store, stamps, *(message(home.ann, home.group_id) for _ in range(4)))
    after = await store.census()
    events = (await store.read(home.group_id, after=0, limit=10)).events
    await store.prune(before_ms=events[4].stamp_ms, limit=3)

    assert (before.users, before.groups, before.events) == (2, 1, 2)
    assert (after.users, after.groups, after.events) == (2, 1, 6)
    assert (await store.census()).events == 3


async def test_a_place_without_accounts_is_new(store: Store):
    """[STRA3] A place is new until its first account, the administrator's; erasing that one changes nothing."""
    before = await store.is_new()
    account = await store.add_account(
        username="ann", user_id=new_id(), password_hash="x", public_key=b"{}", at_ms=NOW_MS
    )
    admin, after = await store.is_admin(account.key), await store.is_new()
    await store.request_erasure(account.key, at_ms=NOW_MS)
    await store.erase_user(account.key, new_user_id=new_id(), at_ms=NOW_MS)

    assert (before, admin, after, await store.is_new()) == (True, True, False, False)


async def test_prune_deletes_the_oldest(store: Store, stamps: Stamps, home: Home):
    """[PRUNE1] Events older than a moment are deleted, oldest first, up to the limit; the numbers continue."""
    await put(store, stamps, *(message(home.ann, home.group_id) for _ in range(4)))
    events = (await store.read(home.group_id, after=0, limit=10)).events

    assert await store.prune(before_ms=events[4].stamp_ms, limit=3) == 3
    assert await store.prune(before_ms=events[4].stamp_ms, limit=3) == 1
    assert await store.prune(before_ms=events[4].stamp_ms, limit=3) == 0

    with pytest.raises(PositionLost) as lost:
        await store.read(home.group_id, after=3, limit=10)
    assert lost.value.details == {"oldest_seq": 5}
    page = await store.read(home.group_id, after=4, limit=10)
    assert page.events == events[4:]
    assert page.head.floor == 4
    assert (await put_one(store, stamps, message(home.ann, home.group_id))).seq == 7


async def test_prune_of_everything(store: Store, stamps: Stamps, home: Home):
    """[PRUNE2] A group whose events are all deleted keeps its number, and its chain continues from the last hash."""
    head = (await store.heads([home.group_id]))[home.group_id]
    await store.prune(before_ms=stamps.next_ms + 1, limit=1000)

    page = await store.read(home.group_id, after=head.seq, limit=10)
    event = await put_one(store, stamps, message(home.ann, home.group_id))

    assert (page.events, page.head.seq, page.head.floor) == ([], head.seq, head.seq)
    assert event.seq == head.seq + 1
    assert json.loads(event.frame)["prev"] == head.hash


async def test_prune_keys(store: Store, stamps: Stamps, home: Home):
    """[PRUNE3] Old keys are deleted, up to the limit; keys that are still valid stay."""
    drafts = [
        message(home.ann, home.group_id, idempotency_key=retry_key(f"k{index}"), at_ms=NOW_MS + index)
        for index in range(4)
    ]
    await put(store, stamps, *drafts)

    assert await store.prune_keys(before_ms=NOW_MS + 3, limit=2) == 2
    assert await store.prune_keys(before_ms=NOW_MS + 3, limit=2) == 1
    assert await store.prune_keys(before_ms=NOW_MS + 3, limit=2) == 0
    (again,) = await put(
        store, stamps, message(home.ann, home.group_id, idempotency_key=retry_key("k3"), at_ms=NOW_MS + 3)
    )
    assert isinstance(again, Appended)
    assert again.event is None


# Chapter: accounts


async def test_accounts(store: Store):
    """[ACCOUNTS1] A name is unique in any case; the account is found by name and by id."""
    user_id = UserId(new_id())
    made = await store.add_account(
        user_id=user_id, username="Ann_1", public_key=b'{"kty":"OKP"}', password_hash="$argon2", at_ms=NOW_MS
    )

    assert await store.account("aNN_1") == made == await store.find_user(user_id)
    assert (made.username, bytes(made.public_key), made.password_hash) == ("Ann_1", b'{"kty":"OKP"}', "$argon2")
    with pytest.raises(UsernameTaken):
        await store.add_account(
            user_id=UserId(new_id()), username="ann_1", public_key=b"{}", password_hash="", at_ms=NOW_MS
        )
    assert await store.account("nobody") is None
    assert await store.find_user(UserId("nobody")) is None


async def test_one_name_for_one_of_many(store: Store):
    """[ACCOUNTS2] Of several concurrent sign-ups with one name, one succeeds."""

    async def sign_up() -> bool:
        try:
            await store.add_account(
                user_id=UserId(new_id()), username="same", public_key=b"{}", password_hash="", at_ms=NOW_MS
            )
        except UsernameTaken:
            return False
        return True

    assert sum(await asyncio.gather(*(sign_up() for _ in range(6)))) == 1


async def test_invitations(store: Store, home: Home):
    """[INVITED1] An invitation is valid until it is used or expires; of several concurrent accounts one uses it."""
    at_ms, digest = NOW_MS, b"\0\xff" * 16
    made = await store.add_invitation(digest=digest, note="für Oma", at_ms=at_ms, expires_ms=at_ms + 10)
    other = await store.add_invitation(digest=b"o" * 32, note="", at_ms=at_ms, expires_ms=at_ms + 10)

    async def sign_up(name: str) -> bool:
        try:
            await store.add_account(
                user_id=UserId(new_id()),
                username=name,
                public_key=b"{}",
                password_hash="",
                at_ms=at_ms,
                invitation=digest,
            )
        except SignupsClosed:
            return False
        return True

    assert [await store.invitation_opens(digest, now_ms=at_ms + later) for later in (0, 9, 10)] == [True, True, False]
    assert not await store.invitation_opens(b"x" * 32, now_ms=at_ms)
    assert sum(await asyncio.gather(*(sign_up(f"name_{index}") for index in range(6)))) == 1
    assert not await store.invitation_opens(digest, now_ms=at_ms)
    (used, unused) = await store.invitations()
    assert (used.number, used.note, used.used_ms) == (made.number, "für Oma", at_ms)
    assert (used.used_by or "").startswith("name_")
    assert unused == other
    # A refused sign-up leaves no account.
    names = [await store.account(f"name_{index}") for index in range(6)]
    assert sum(each is not None for each in names) == 1
    assert await store.revoke_invitation(other.number)
    assert [each.number for each in await store.invitations()] == [made.number]


async def test_erasing_a_user(store: Store, stamps: Stamps, home: Home):
    """[ERASED2] A user in no group is erased, once, with what it wrote later; a user in a group is not erased."""
    opened = thread(home.bob, home.group_id)
    await put(store, stamps, opened, reply(home.bob, opened.thread_id), reply(home.ann, opened.thread_id))
    await store.request_erasure(home.bob.key, at_ms=NOW_MS)

    (due,) = await store.due_erasures()
    assert (due.user.user_id, due.groups) == (home.bob.user_id, [home.group_id])
    assert not await store.erase_user(home.bob.key, new_user_id=new_id(), at_ms=NOW_MS)
    with pytest.raises(AccountDisabled):
        await store.enter_user(user_id=home.bob.user_id, username="bob", at_ms=NOW_MS)
    await put(store, stamps, leave(home.bob, home.group_id))
    assert await store.erase_user(home.bob.key, new_user_id=new_id(), at_ms=NOW_MS)
    assert await store.erase_user(home.bob.key, new_user_id=new_id(), at_ms=NOW_MS)
    assert await store.due_erasures() == []
    assert await store.find_user(home.bob.user_id) is None
    assert [await store.erase_content(before_ms=NOW_MS + later) for later in (0, 1, 1)] == [0, 1, 0]
    page = await store.threads(home.ann.key, home.group_id, limit=10, offset=0, sort="created_desc")
    (kept,) = [each for each in page.threads if each.thread_id == opened.thread_id]
    assert (kept.author_username, kept.encrypted_body, kept.reply_count) == ("deleted", "AA==", 1)


async def test_deleting_a_group(store: Store, stamps: Stamps, home: Home):
    """[ERASED3] A group without members is deleted, some events at a time; one with members is not."""
    made = group_of(home.bob)
    opened = thread(home.bob, made.group_id)
    await put(store, stamps, made, opened, reply(home.bob, opened.thread_id))
    (found,) = await store.groups(group_id=made.group_id)
    await store.request_deletion(found.key, at_ms=NOW_MS)

    (due,) = await store.due_deletions()
    assert ([each.user_id for each in due.members], due.group_id) == ([home.bob.user_id], made.group_id)
    assert not await store.delete_group(found.key, at_ms=NOW_MS, limit=2)
    await put(store, stamps, leave(home.bob, made.group_id))
    # Four events: two, two, and nothing more.
    rounds = [await store.delete_group(found.key, at_ms=NOW_MS, limit=2) for _ in range(4)]
    assert rounds == [False, False, True, True]
    assert await store.groups(group_id=made.group_id) == await store.due_deletions() == []
    assert (await store.heads([home.group_id, made.group_id])).keys() == {home.group_id}


async def test_a_group_s_code_is_an_invitation_until_it_expires(store: Store, stamps: Stamps, home: Home):
    """[INVITED2] A group's invite code counts as an invitation until its expiry."""
    group = group_of(home.ann)
    await put(store, stamps, group)

    opens = [
        await store.invite_code_opens(group.invite_code, now_ms=group.invite_expires_ms + later) for later in (-1, 0)
    ]

    assert opens == [True, False]
    assert not await store.invite_code_opens("NOBODYS0", now_ms=NOW_MS)


async def test_users_from_outside(store: Store):
    """[TOKENS8] A token's user is created once, also by concurrent requests; two users may have the same name."""
    first, second = UserId("outside|1"), UserId("outside|2")

    keys = await asyncio.gather(*(store.enter_user(user_id=first, username="x", at_ms=NOW_MS) for _ in range(6)))
    other = await store.enter_user(user_id=second, username="x", at_ms=NOW_MS)

    assert len(set(keys)) == 1
    assert other not in keys
    entered = await store.find_user(first)
    assert entered is not None
    assert (entered.username, bytes(entered.public_key), entered.password_hash) == ("x", b"{}", None)
    assert await store.account("x") is None


async def test_revocations(store: Store):
    """[TOKENS9] Revocations are returned in order after a number, and deleted when their tokens have expired."""
    await store.revoke(token_digest=b"d" * 32, user_id=None, at_s=1.5, until_s=NOW_MS / 1000 + 5)
    await store.revoke(token_digest=None, user_id=UserId("u"), at_s=2.5, until_s=NOW_MS / 1000 + 9)

    first, second = await store.revocations(after=0)
    assert (first.token_digest, first.user_id, first.at_s) == (b"d" * 32, None, 1.5)
    assert (second.token_digest, second.user_id, second.at_s) == (None, UserId("u"), 2.5)
    assert await store.revocations(after=first.number) == [second]

    await store.prune_keys(before_ms=NOW_MS + 7_000, limit=10)
    assert await store.revocations(after=0) == [second]


async def test_ready(store: Store):
    """[RUNNING2] A database that answers is ready."""
    assert await store.ready() is True


async def test_revocation_numbers_are_never_reused(store: Store):
    """
    [RVN1] A revocation gets a number above all earlier ones, also when the last one was pruned.

    SQLite reused the highest number, and a server that had read up to it never received the new revocation.
    """
    for _ in range(2):
        await store.revoke(token_digest=b"old", user_id=None, at_s=0, until_s=1)
    last = (await store.revocations(after=0))[-1].number
    await store.prune_keys(before_ms=NOW_MS, limit=10)

    await store.revoke(token_digest=b"new", user_id=None, at_s=0, until_s=5e9)

    (found,) = await store.revocations(after=last)
    assert found.token_digest == b"new"
