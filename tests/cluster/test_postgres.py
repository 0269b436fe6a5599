"""The store of several servers on one PostgreSQL: races between them, and an unreachable database."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.util import await_only

from orbital_relay.errors import Busy, DatabaseRefused, NotFound, OrbitalError, Unavailable, ValidationFailed
from orbital_relay.model import AnyDraft, DeletableKind, GroupId, MediaId, UserId
from orbital_relay.ports import Appended
from orbital_relay.store.append import rows
from orbital_relay.store.append.postgres import append_one
from orbital_relay.store.postgres import READERS, PostgresStore
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    assert_chain,
    deletion,
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
from tests.contracts.test_media import Home as MediaHome
from tests.support.postgres import Postgres
from tests.support.process import eventually


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """The stores of two servers on one database."""
    one, two = await asyncio.gather(PostgresStore.open(postgres_url), PostgresStore.open(postgres_url))
    yield one, two
    await one.close()
    await two.close()


async def test_several_servers_migrate_at_once(postgres_url: str):
    """[STARTUP1] Servers that start concurrently on an empty database all start, and one of them creates the schema."""
    stores = await asyncio.gather(*(PostgresStore.open(postgres_url) for _ in range(5)))

    assert [await store.ready() for store in stores] == [True] * 5
    for store in stores:
        await store.close()


async def test_one_order_over_two_servers(pair: tuple[PostgresStore, PostgresStore]):
    """[P2] Two servers that append to the same groups, in batches of opposite order, create one chain in each."""
    stamps = Stamps()
    ann = await enter(pair[0])
    groups = [group_of(ann) for _ in range(4)]
    await put(pair[0], stamps, *groups)
    ids = [group.group_id for group in groups]

    async def talk(store: PostgresStore, order: list[GroupId]) -> list[Appended | OrbitalError]:
        reported: list[Appended | OrbitalError] = []
        for _ in range(25):
            reported += await put(store, stamps, *(message(ann, group_id) for group_id in order))
        return reported

    reported = await asyncio.gather(talk(pair[0], ids), talk(pair[1], ids[::-1]), talk(pair[1], ids[1:]))

    assert {code for some in reported for code in refusals(some)} == {None}
    for group_id, count in zip(ids, [51, 76, 76, 76], strict=True):
        page = await pair[0].read(group_id, after=0, limit=1000)
        assert_chain(group_id, page.events)
        assert page.head.seq == count
        assert [event.stamp_ms for event in page.events] == sorted({event.stamp_ms for event in page.events})


@pytest.mark.parametrize("kind", [message, thread])
async def test_one_key_at_two_servers(pair: tuple[PostgresStore, PostgresStore], kind):
    """[REPEAT1] The same key at two servers concurrently gives one event and the same response, every time."""
    stamps = Stamps()
    ann = await enter(pair[0])
    group = group_of(ann)
    await put_one(pair[0], stamps, group)

    for index in range(20):
        tries = [
            put(store, stamps, kind(ann, group.group_id, idempotency_key=retry_key(f"k{index}"))) for store in pair * 2
        ]
        flat = [outcome for some in await asyncio.gather(*tries) for outcome in some]
        assert refusals(flat) == [None] * 4
        assert len({outcome.receipt for outcome in flat if isinstance(outcome, Appended)}) == 1
        assert (await pair[1].heads([group.group_id]))[group.group_id].seq == index + 2


async def test_one_key_and_a_code_that_is_replaced(
    pair: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
):
    """
    [REPEAT2] A user who joins with one key at two servers gets one response, though the code is replaced meanwhile.

    The second request read the key before the first was stored, and the code after it was replaced: 404 for
    a member of the group.
    """
    stamps = Stamps()
    ann, eve = await enter(pair[0], "ann"), await enter(pair[0], "eve")
    group = group_of(ann)
    await put_one(pair[0], stamps, group)
    entry = join(eve, group.invite_code, idempotency_key=retry_key())
    look_up = rows.group_id_of
    first: list[Appended | OrbitalError] = []

    async def overtake() -> None:
        first.extend(await put(pair[1], stamps, entry))
        await pair[1].replace_code(ann.key, group.group_id, invite_code=new_code(), expires_ms=NOW_MS + 1)

    def look_up_late(conn: Connection, draft: AnyDraft) -> str:
        monkeypatch.setattr(rows, "group_id_of", look_up)
        await_only(overtake())
        return look_up(conn, draft)

    monkeypatch.setattr(rows, "group_id_of", look_up_late)
    (second,) = await put(pair[0], stamps, entry)

    (stored,) = first
    assert isinstance(stored, Appended)
    assert stored.event is not None
    assert second == Appended(stored.receipt, None)


async def test_a_thread_that_another_server_deletes(pair: tuple[PostgresStore, PostgresStore], caplog):
    """
    [P2] A reply in a thread that another server deleted is refused; the posts beside it are stored in one batch.

    A server remembers threads between transactions: the reply's row named one that was gone.
    """
    stamps = Stamps()
    ann = await enter(pair[0], "ann")
    group = group_of(ann)
    gone, kept = thread(ann, group.group_id), thread(ann, group.group_id)
    await put(pair[0], stamps, group, gone, kept)
    assert refusals(await put(pair[1], stamps, reply(ann, gone.thread_id), reply(ann, kept.thread_id))) == [None] * 2
    await put_one(pair[0], stamps, deletion(ann, group.group_id, DeletableKind.THREAD, gone.thread_id))

    outcomes = await put(
        pair[1], stamps, message(ann, group.group_id), reply(ann, gone.thread_id), reply(ann, kept.thread_id)
    )

    assert refusals(outcomes) == [None, "NOT_FOUND", None]
    assert "retried alone" not in caplog.text
    assert_chain(group.group_id, (await pair[1].read(group.group_id, after=0, limit=100)).events)
    assert (await pair[0].verify(group.group_id)).findings == []


async def test_a_download_that_is_noted_while_its_thread_is_deleted(pair: tuple[PostgresStore, PostgresStore]):
    """[DELETED18] A download that is noted while the thread is deleted waits, and then finds no medium."""
    home = await MediaHome(pair[0]).make()
    medium = await home.store_whole()
    await put_one(pair[0], home.stamps, home.finish(medium))
    deleted, note = asyncio.Event(), asyncio.Event()

    def delete_slowly(conn: Connection) -> None:
        draft = deletion(home.ann, home.group_id, DeletableKind.THREAD, home.thread_id)
        append_one(conn, draft, stamp_ms=NOW_MS + 10**6)
        deleted.set()
        await_only(note.wait())

    deleting = asyncio.create_task(pair[0]._write(delete_slowly))
    await deleted.wait()
    noting = asyncio.create_task(pair[1].note_download(home.bob.key, MediaId(medium), now_ms=NOW_MS))
    await eventually(lambda: pair[0]._read(_somebody_waits), what="the download waits for the deletion")
    note.set()
    await deleting

    with pytest.raises(NotFound):
        await noting
    assert (await pair[0].verify(home.group_id)).findings == []


def _somebody_waits(conn: Connection) -> bool:
    """Return whether a transaction waits for another one's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(conn.execute(text(waiting)).scalar_one())


async def test_a_removed_member_can_post_nowhere(pair: tuple[PostgresStore, PostgresStore]):
    """[P1] A removal at one server takes effect at its place in the order at the other, whichever is faster."""
    stamps = Stamps()
    ann, bob = await enter(pair[0], "ann"), await enter(pair[0], "bob")
    for _ in range(10):
        group = group_of(ann)
        await put(pair[0], stamps, group, join(bob, group.invite_code))

        async def talk(group_id: GroupId) -> list[Appended | OrbitalError]:
            return [outcome for _ in range(6) for outcome in await put(pair[1], stamps, message(bob, group_id))]

        removal = put_one(pair[0], stamps, leave(ann, group.group_id, bob))
        said, left = await asyncio.gather(talk(group.group_id), removal)

        seqs = [outcome.event.seq for outcome in said if isinstance(outcome, Appended) and outcome.event]
        assert all(seq < left.seq for seq in seqs)
        assert refusals(said[len(seqs) :]) == ["FORBIDDEN"] * (6 - len(seqs))
        assert_chain(group.group_id, (await pair[0].read(group.group_id, after=0, limit=100)).events)


async def test_no_later_event_is_below_the_low_watermark(pair: tuple[PostgresStore, PostgresStore], seed: int):
    """[FRAMES1] An event that commits after the low watermark was read has a stamp above it, also with slow clocks."""
    chance = random.Random(seed)
    ann = await enter(pair[0])
    groups = [group_of(ann) for _ in range(8)]
    ids = [group.group_id for group in groups]
    await pair[0].append(groups, first_stamp_ms=1)
    over = asyncio.Event()

    async def talk(store: PostgresStore) -> None:
        while not over.is_set():
            # A server whose clock is an hour behind.
            slow_ms = int(time.time() * 1000) - chance.choice([0, 3_600_000])
            some = chance.sample(ids, chance.randint(1, 8))
            drafts = [message(ann, group_id) for group_id in some]
            if chance.random() < 0.2:
                drafts.insert(chance.randint(0, len(drafts)), group_of(ann))
            assert {*refusals(await store.append(drafts, first_stamp_ms=slow_ms))} == {None}

    talking = [asyncio.create_task(talk(store)) for store in pair]
    looks = []
    for _ in range(60):
        settled = await pair[0].low_watermark_ms()
        assert settled is not None
        looks.append((settled, {group_id: head.seq for group_id, head in (await pair[1].heads(ids)).items()}))
    over.set()
    await asyncio.gather(*talking)

    now_ms = time.time() * 1000
    assert now_ms - 30_000 < looks[0][0] < looks[-1][0] < now_ms
    for group_id in ids:
        events = (await pair[0].read(group_id, after=0, limit=10_000)).events
        for settled, heads in looks:
            assert all(event.stamp_ms > settled for event in events[heads[group_id] :])


async def test_refused_with_a_sentence(postgres_cluster: Postgres, postgres_url: str):
    """[STARTUP2] A database that is missing, newer or unreachable is refused with a sentence, without the password."""
    missing = postgres_cluster.url("nowhere").replace("orbital@", "orbital:hunter2@")
    with pytest.raises(DatabaseRefused, match='nowhere cannot be used: database "nowhere" does not exist') as refused:
        await PostgresStore.open(missing)
    assert "hunter2" not in str(refused.value)

    await (await PostgresStore.open(postgres_url)).close()
    postgres_cluster.execute("UPDATE alembic_version SET version_num = '9999'", database=postgres_url.rsplit("/", 1)[1])
    with pytest.raises(DatabaseRefused, match="a newer Orbital has written it"):
        await PostgresStore.open(postgres_url)

    with pytest.raises(DatabaseRefused, match=r"cannot be used: .*[Cc]onnect"):
        await PostgresStore.open("postgresql://orbital@127.0.0.1:1/orbital", patience_s=0.1)


async def test_a_value_that_the_database_cannot_hold(pair: tuple[PostgresStore, PostgresStore]):
    """[ERRORS1] A NUL in a text is the client's error: 400, and no other request is affected."""
    with pytest.raises(ValidationFailed):
        await pair[0].enter_user(user_id=UserId(new_id()), username="a\0b", at_ms=1)
    with pytest.raises(ValidationFailed):
        await pair[0].account("a\0b")

    stamps = Stamps()
    ann = await enter(pair[0])
    group = group_of(ann)
    await put_one(pair[0], stamps, group)
    bad = message(ann, group.group_id, idempotency_key=retry_key("\0"))
    outcomes = await put(pair[0], stamps, message(ann, group.group_id), bad, message(ann, group.group_id))
    assert refusals(outcomes) == [None, "VALIDATION_ERROR", None]


async def test_an_outage_of_the_database(own_postgres: Postgres):
    """[P3] While the database is unreachable: `Unavailable` within seconds; afterwards everything works again."""
    store = await PostgresStore.open(own_postgres.create_database())
    stamps = Stamps()
    ann = await enter(store)
    group = group_of(ann)
    await put_one(store, stamps, group)
    answered = [1]
    goes_on = asyncio.Event()

    async def talk() -> None:
        while not goes_on.is_set() or len(answered) < 40:
            try:
                (outcome,) = await put(store, stamps, message(ann, group.group_id))
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                assert isinstance(outcome, Appended), outcome
                assert outcome.event is not None
                answered.append(outcome.event.seq)

    async def found() -> None:
        """The way of all drafts but posts is another one; there the driver once lost track of its own connection."""
        while not goes_on.is_set():
            try:
                (outcome,) = await put(store, stamps, group_of(ann))
            except Unavailable:
                await asyncio.sleep(0)
            else:
                assert isinstance(outcome, Appended), outcome

    talking = [asyncio.create_task(talk()) for _ in range(3)] + [asyncio.create_task(found()) for _ in range(6)]
    for kill in (False, True, False, True):
        said = len(answered)
        await eventually(lambda said=said: len(answered) >= said + 5, what="five more posts")
        await asyncio.to_thread(own_postgres.kill if kill else own_postgres.stop)
        async with asyncio.timeout(60):
            assert await store.ready() is False
            with pytest.raises(Unavailable) as away:
                await put(store, stamps, message(ann, group.group_id))
            assert away.value.headers == {"Retry-After": "2"}
            with pytest.raises(Unavailable):
                await store.read(group.group_id, after=0, limit=1)
        await asyncio.to_thread(own_postgres.start)
        assert await store.ready() is True
    goes_on.set()
    await asyncio.gather(*talking)

    events = (await store.read(group.group_id, after=0, limit=10_000)).events
    assert_chain(group.group_id, events)
    assert len(answered) == len(set(answered))
    assert set(answered) <= {event.seq for event in events}
    await store.close()


async def test_the_database_is_frozen(own_postgres: Postgres):
    """[STARTUP3] A database that does not answer is unavailable after a timeout; it is used again when it answers."""
    import orbital_relay.store.postgres as adapter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "ANSWER_S", 1.0)
        patch.setattr(adapter, "CONNECT_S", 1.0)
        store = await PostgresStore.open(own_postgres.create_database())
        stamps = Stamps()
        ann = await enter(store)
        group = group_of(ann)
        await put_one(store, stamps, group)
        children = own_postgres.program.pid
        await asyncio.to_thread(_signal_tree, children, "freeze")
        try:
            # One after the other they would take two minutes.
            tries = [
                put(store, stamps, message(ann, group.group_id)),
                store.read(group.group_id, after=0, limit=1),
                *(store.last_stamp_ms() for _ in range(120)),
            ]
            async with asyncio.timeout(60):
                outcomes = await asyncio.gather(*tries, return_exceptions=True)
            # The requests without a free connection get the refusal that the server is busy.
            assert {type(outcome) for outcome in outcomes} == {Unavailable, Busy}
        finally:
            await asyncio.to_thread(_signal_tree, children, "thaw")
        await eventually(store.ready, what="PostgreSQL answers")
        event = await put_one(store, stamps, message(ann, group.group_id))
        assert_chain(group.group_id, (await store.read(group.group_id, after=0, limit=10)).events)
        assert event.seq in {2, 3}
        await store.close()


def _signal_tree(pid: int, what: str) -> None:
    import psutil

    postmaster = psutil.Process(pid)
    for process in (postmaster, *postmaster.children(recursive=True)):
        (process.suspend if what == "freeze" else process.resume)()


async def test_a_busy_pool_is_not_an_unreachable_database(postgres_url: str, caplog: pytest.LogCaptureFixture):
    """
    [BUSY1] While all reading connections are in use, a request that waits too long gets `busy`.

    It reported "the database cannot be reached", and the server was not ready.
    """
    store = await PostgresStore.open(postgres_url)
    slow = [asyncio.create_task(store._read(_sleep, 5.0)) for _ in range(READERS)]
    await eventually(lambda: store._reader.pool.checkedout() == READERS, what="every connection is at work")

    late, ready = await asyncio.gather(store.heads(["x"]), store.ready(), return_exceptions=True)
    await asyncio.gather(*slow)

    assert isinstance(late, Busy)
    assert ready is True
    assert "away" not in caplog.text
    assert await store.heads(["x"]) == {}
    await store.close()


def _sleep(conn: Connection, seconds: float) -> None:
    conn.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
