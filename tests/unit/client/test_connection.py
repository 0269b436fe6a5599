"""The client on asyncio, against a server that can do everything wrong."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from orbital.client import (
    AlreadySubscribed,
    ApiError,
    CaughtUp,
    ChainBroken,
    Closed,
    FilePositions,
    MemoryPositions,
    NotAMember,
    NotConnected,
    Orbital,
    Position,
    Problem,
    Refused,
    Reset,
    State,
    StateChange,
    StoreDamaged,
    Subscription,
    Typing,
    connect,
    connection,
    protocol,
)
from orbital.core.backoff import Backoff
from tests.support.fake import GROUP, OTHER, FakeServer, contents, refusal
from tests.support.proxy import Proxy

FAST = Backoff(steps_ms=(5, 10, 20), spread_ms=5, attempts=1_000, window_ms=1_000)
"""The rule with times for tests."""


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """A server of the tests' own."""
    async with FakeServer() as running:
        yield running


def client(server: FakeServer, **options: Any) -> Orbital:
    """Make a client that tries again quickly."""
    return connect(server.url, **{"token": "t", "transport": server.transport, "backoff": FAST, **options})


async def read(subscription: Subscription, count: int) -> list[int]:
    """Read so many items; give their numbers."""
    async with asyncio.timeout(10):
        return [(await anext(subscription)).seq for _ in range(count)]


def heard(orbital: Orbital, kind: type[Any]) -> asyncio.Queue[Any]:
    """Collect the signals of a kind."""
    found: asyncio.Queue[Any] = asyncio.Queue()
    orbital.on(kind, found.put)
    return found


async def when(found: asyncio.Queue[Any], fact: Callable[[Any], bool] = lambda _: True) -> Any:
    """Wait for a signal of which something is so."""
    async with asyncio.timeout(10):
        while not fact(signal := await found.get()):
            pass
        return signal


# Chapter: connecting


async def test_greeting(server: FakeServer) -> None:
    """[PYCON1] `async with` returns once the server has greeted; the token goes in a header, not in the address."""
    async with client(server, token="secret") as orbital:
        assert orbital.state == StateChange(state=State.OPEN)
        assert orbital.username == "anna"

    assert server.handshakes == ["secret"]
    assert orbital.state.state is State.CLOSED


@pytest.mark.parametrize("status", sorted(protocol.FINAL_STATUS))
async def test_refused_for_good(server: FakeServer, status: int) -> None:
    """[PYCON2] A handshake that would be refused again is not repeated, and raises what the server said."""
    server.refusals = [(status, {}, {"error": "FORBIDDEN", "message": "Not you."})]

    with pytest.raises(Refused, match="Not you") as caught:
        await client(server).__aenter__()

    assert (caught.value.status, caught.value.code) == (status, "FORBIDDEN")
    assert len(server.handshakes) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_refused_for_now(server: FakeServer, status: int) -> None:
    """[PYCON3] A server in trouble is tried again, whatever its body is."""
    server.refusals = [(status, {}, {}), (status, {}, {"error": "UNAVAILABLE"})]

    async with client(server) as orbital:
        assert orbital.state.state is State.OPEN

    assert len(server.handshakes) == 3


async def test_retry_after_is_obeyed(server: FakeServer) -> None:
    """[PYCON4] A Retry-After of the handshake is waited for, also when something wakes the client."""
    server.refusals = [(429, {"Retry-After": "7"}, {"error": "TOO_MANY_REQUESTS", "message": "Too many."})]
    orbital = client(server, open_timeout_s=None)
    states = heard(orbital, StateChange)

    async with orbital:
        refused = await when(states, lambda change: change.code == 429)
        orbital.wake()
        async with asyncio.timeout(3):  # and the loop is not kept busy meanwhile
            for _ in range(20):
                await asyncio.sleep(0)

        assert 7_000 <= refused.retry_in_ms <= 7_010
        assert len(server.handshakes) == 1


async def test_nobody_there() -> None:
    """[PYCON5] Without a server the first connection is given up in time, with the reason in a sentence."""
    async with await Proxy.open(1) as nobody:
        nobody.refuse()
        with pytest.raises(NotConnected, match=r"No connection to http://127.0.0.1:\d+ in 0.2 s: "):
            await connect(f"http://127.0.0.1:{nobody.port}", token="t", backoff=FAST, open_timeout_s=0.2).__aenter__()


async def test_a_server_that_says_nothing(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYCON6] A connection without a greeting is given up and made anew."""
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.2)
    server.silent = True

    async with client(server, open_timeout_s=None) as orbital:
        await server.until(lambda: len(server.handshakes) >= 2)
        server.silent = False
        await orbital.wait_open()


async def test_bad_addresses() -> None:
    """[PYCON7] An address that is none is refused at once, in a sentence without what may be secret in it."""
    for url in ("localhost:3000", "ftp://x", "http://", "http://h:99999", "http://h/?token=secret", "http://u:p@h"):
        with pytest.raises(ValueError, match="address") as caught:
            connect(url, token="t")
        assert "secret" not in str(caught.value) or "99999" in url
    with pytest.raises(ValueError, match="2 events or more"):
        connect("http://h", token="t", buffer=1)


async def test_the_token_reaches_no_log(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """[PYCON8] Even with all logs on, no line has the token."""
    caplog.set_level(logging.DEBUG)

    tokens = iter(("the-very-secret-token", "the-next-secret-token"))

    async with client(server, token=lambda: next(tokens)) as orbital:
        await orbital.send(GROUP, b"x")
        await server.send(json.dumps({"type": "token_expiring", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.heard_of("authenticate")) == 1)

    ours = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert any("GET /ws" in line for line in ours)
    assert not [line for line in ours if "secret" in line]


# Chapter: tokens


async def test_static_token_is_not_tried_again(server: FakeServer) -> None:
    """[PYTOK1] After 1008 a client with one token stays closed, and its streams say why."""
    async with client(server) as orbital:
        states = heard(orbital, StateChange)
        subscription = orbital.subscribe(GROUP)
        await subscription.ready()

        await server.end(1008, "The token has ended.")

        with pytest.raises(Refused, match="The token has ended") as caught:
            await anext(subscription)
        assert caught.value.close_code == 1008
        closed = await when(states, lambda change: change.state is State.CLOSED)
        assert (closed.code, closed.retry_in_ms) == (1008, None)
        with pytest.raises(Refused):
            await orbital.wait_open()
        with pytest.raises(Refused):
            await orbital.subscribe(OTHER).ready()

    assert len(server.handshakes) == 1


async def test_token_function_is_asked_again(server: FakeServer) -> None:
    """[PYTOK2] A function is called anew when its token is refused at the handshake, by 1008, and over REST."""
    numbers = itertools.count(1)
    valid = {"t2"}
    server.good_token = lambda token: token in valid

    async def token() -> str:
        return f"t{next(numbers)}"

    async with client(server, token=token) as orbital:
        assert server.handshakes == ["t1", "t2"]
        valid.clear()
        valid.add("t3")
        await server.end(1008, "The token has ended.")
        await server.until(lambda: len(server.sockets) == 1 and len(server.handshakes) == 3)
        await orbital.wait_open()
        valid.clear()
        valid.add("t4")

        await orbital.send(GROUP, b"x")

    assert server.handshakes == ["t1", "t2", "t3"]


async def test_the_same_token_again_is_final(server: FakeServer) -> None:
    """[PYTOK3] A function that has nothing newer ends the client like a token of its own."""
    server.good_token = lambda _: False

    with pytest.raises(Refused, match="does not hold"):
        await client(server, token=lambda: "old").__aenter__()

    assert server.handshakes == ["old"]


async def test_a_token_that_ends_soon_is_renewed(server: FakeServer) -> None:
    """[PYTOK4] On `token_expiring` the function's newer token is presented on the same connection."""
    tokens = iter(("first", "second"))

    async with client(server, token=lambda: next(tokens)):
        await server.send(json.dumps({"type": "token_expiring", "data": {"expires_at": ""}, "server_timestamp": 1}))
        await server.until(lambda: server.heard_of("authenticate") == [{"token": "second"}])

    assert server.handshakes == ["first"]


async def test_a_token_function_that_fails(server: FakeServer) -> None:
    """[PYTOK5] A token function that raises is told and tried again, like a connection that fails."""
    answers: list[Any] = [OSError("the keyring is locked"), "", "good"]

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    orbital = client(server, token=token)
    problems = heard(orbital, Problem)
    async with orbital:
        first, second = await when(problems), await when(problems)

    assert "the keyring is locked" in first.message
    assert "empty token" in second.message
    assert server.handshakes == ["good"]


# Chapter: events


async def test_each_event_once_over_every_kind_of_loss(server: FakeServer) -> None:
    """[PYEVT1] Closes, cuts and gaps on the way: the reader sees every number, once, in order."""
    server.log(events=3)
    async with client(server, verify=True) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        got = await read(subscription, 3)
        for ending in ("close", "cut", "gap", "close", "cut"):
            if ending == "close":
                await server.end(1012)
            elif ending == "cut":
                server.cut()
            else:
                await server.append(hush=True)
            await server.append()
            await server.append()
            got += await read(subscription, 3 if ending == "gap" else 2)

    assert got == list(range(1, 15))


async def test_from_now(server: FakeServer) -> None:
    """[PYEVT2] Without a position, only what happens after the confirmation is yielded."""
    server.log(events=5)
    async with client(server) as orbital, orbital.subscribe(GROUP) as subscription:
        assert await subscription.ready() == 5
        await server.append()

        assert await read(subscription, 1) == [6]


async def test_marks(server: FakeServer) -> None:
    """[PYEVT3] Being caught up is in the stream when asked for, and told to listeners in any case."""
    server.log(events=2)
    async with client(server) as orbital:
        told = heard(orbital, CaughtUp)
        subscription = orbital.subscribe(GROUP, since=1, marks=True)

        assert [type(await anext(subscription)).__name__ for _ in range(2)] == ["NewMessage", "CaughtUp"]
        assert await when(told) == CaughtUp(group_id=GROUP, seq=2)


async def test_reset(server: FakeServer) -> None:
    """[PYEVT4] A position that is no longer kept yields a Reset, and then what is kept."""
    server.log(events=9).floor = 6
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=2)
        reset = await anext(subscription)
        await server.append()

        assert isinstance(reset, Reset)
        assert (reset.last_seq, reset.seq) == (2, 9)
        assert await read(subscription, 1) == [10]


async def test_a_reader_that_sleeps_is_bounded_and_misses_nothing(server: FakeServer) -> None:
    """[PYEVT5] With a buffer of ten, a thousand events come to a late reader; pings are answered meanwhile."""
    async with client(server, buffer=10) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        for _ in range(1_000):
            await server.append()
        await server.send(json.dumps({"type": "ping", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.heard_of("pong")) == 1)
        assert len(subscription._items) <= 11

        assert await read(subscription, 1_000) == list(range(1, 1_001))


async def test_verify_raises(server: FakeServer) -> None:
    """[PYEVT6] With `verify`, a server that changed an event is found out at the next one."""
    log = server.log(events=4)
    log.frames[1] = log.frames[1].replace(b"aGk=", b"aGo=")
    async with client(server, verify=True) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        assert await read(subscription, 2) == [1, 2]

        with pytest.raises(ChainBroken, match="Event 3"):
            await anext(subscription)
        with pytest.raises(ChainBroken):
            await anext(subscription)


async def test_no_member(server: FakeServer) -> None:
    """[PYEVT7] A group that the user is not in raises NotAMember; the other groups go on."""
    server.forbidden = {OTHER}
    async with client(server) as orbital:
        fine = orbital.subscribe(GROUP, since=0)
        with pytest.raises(NotAMember):
            await orbital.subscribe(OTHER, since=0).ready()
        await server.append()

        assert await read(fine, 1) == [1]


async def test_removed_while_behind(server: FakeServer) -> None:
    """[PYEVT8] Who may no longer read the log that is missing gets NotAMember, not an endless wait."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        server.forbidden = {GROUP}
        await server.append(hush=True)
        await server.append()

        with pytest.raises(NotAMember):
            await anext(subscription)


async def test_leaving_ends_the_iteration(server: FakeServer) -> None:
    """[PYEVT9] After `unsubscribed` with a reason, what came before is yielded and the loop ends."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await server.append()
        gone = {"group_ids": [GROUP], "reason": "removed"}
        await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": 1}))

        assert [item.seq async for item in subscription] == [1]
        assert subscription.ended == "removed"


async def test_reading_the_log_is_tried_again(server: FakeServer) -> None:
    """[PYEVT10] A gap is filled even when the log cannot be read at first."""
    troubles = [refusal(503, "UNAVAILABLE"), refusal(500, "INTERNAL"), httpx.Response(502, text="<html>")]
    server.rest = lambda request: troubles.pop() if troubles and request.url.path == "/v1/events" else None
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await server.append(hush=True)
        await server.append()

        assert await read(subscription, 2) == [1, 2]
    assert troubles == []


async def test_one_subscription_a_group(server: FakeServer) -> None:
    """[PYEVT11] A second subscription to a group is refused while the first lives; a closed or dropped one is over."""
    async with client(server) as orbital:
        first = orbital.subscribe(GROUP, since=0)
        with pytest.raises(AlreadySubscribed):
            orbital.subscribe(GROUP)
        await first.close()
        second = orbital.subscribe(GROUP, since=0)
        await second.ready()
        await server.append()
        assert await read(second, 1) == [1]
        del second
        gc.collect()
        third = orbital.subscribe(GROUP, since=0)

        assert await read(third, 1) == [1]
        with pytest.raises(ValueError, match="0 or more"):
            orbital.subscribe(OTHER, since=-1)


async def test_a_bad_frame_is_told_and_survived(server: FakeServer) -> None:
    """[PYEVT12] Broken JSON and binary frames are told as problems; the connection lives."""
    async with client(server) as orbital:
        problems = heard(orbital, Problem)
        await server.send("{broken")
        assert (await when(problems)).code == "BAD_FRAME"
        for socket in server.sockets:
            await socket.send(b"\x00")
        assert (await when(problems)).message == "The server sent a binary frame."

    assert len(server.handshakes) == 1


# Chapter: lines


async def test_a_dead_line_is_noticed(server: FakeServer) -> None:
    """[LIN3] A line on which nothing is heard for a heartbeat and the slack is replaced."""
    server.heartbeat_s = 0.2
    async with await Proxy.open(int(server.url.rsplit(":", 1)[1])) as proxy:
        orbital = connect(
            f"http://127.0.0.1:{proxy.port}", token="t", transport=server.transport, backoff=FAST, idle_slack_s=0.1
        )
        states = heard(orbital, StateChange)
        async with orbital:
            subscription = orbital.subscribe(GROUP, since=0)
            await subscription.ready()
            await proxy.set("down", swallow=True)
            await server.append()
            lost = await when(states, lambda change: "the line is dead" in change.reason)
            await proxy.calm()

            assert lost.state is State.CONNECTING
            assert await read(subscription, 1) == [1]


async def test_wake_tries_at_once(server: FakeServer) -> None:
    """[LIN4] A reason to try cuts the wait short."""
    slow = Backoff(steps_ms=(600_000,), spread_ms=1)
    async with client(server, backoff=slow) as orbital:
        states = heard(orbital, StateChange)
        server.cut()
        await when(states, lambda change: change.retry_in_ms is not None)

        orbital.wake()

        await when(states, lambda change: change.state is State.OPEN)


async def test_wake_replaces_a_line_that_only_looks_open(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[LIN5] After a wake, an open connection that does not answer is replaced without waiting for the watchdog."""
    monkeypatch.setattr(connection, "PROBE_S", 0.1)
    async with (
        await Proxy.open(int(server.url.rsplit(":", 1)[1])) as proxy,
        connect(f"http://127.0.0.1:{proxy.port}", token="t", transport=server.transport, backoff=FAST) as orbital,
    ):
        states = heard(orbital, StateChange)
        orbital.wake()  # answered: nothing happens
        await proxy.set("down", swallow=True)
        orbital.wake()
        await when(states, lambda change: "after a wake" in change.reason)
        await proxy.calm()
        await when(states, lambda change: change.state is State.OPEN)


async def test_close_stays_closed(server: FakeServer) -> None:
    """[LIN6] Closing during back-off ends it: no attempt follows, streams end, posts that wait are told."""
    slow = Backoff(steps_ms=(600_000,), spread_ms=1)
    server.rest = lambda _: refusal(503, "UNAVAILABLE")
    orbital = client(server, backoff=slow)
    async with orbital:
        subscription = orbital.subscribe(GROUP)
        states = heard(orbital, StateChange)
        posting = asyncio.create_task(orbital.send(GROUP, b"x"))
        server.cut()
        await when(states, lambda change: change.retry_in_ms is not None)

    assert [item async for item in subscription] == []
    with pytest.raises(Closed):
        await posting
    with pytest.raises(Closed):
        await orbital.send(GROUP, b"x")
    with pytest.raises(Closed):
        orbital.subscribe(GROUP)
    with pytest.raises(Closed):
        await orbital.wait_open()
    await orbital.close()
    assert len(server.handshakes) == 1


# Chapter: callbacks


async def test_callbacks_hurt_nobody(server: FakeServer) -> None:
    """[CAL1] A callback that raises is told; the next event and the other callbacks come all the same."""
    got: list[int] = []

    async def on_event(event: Any) -> None:
        got.append(event.seq)
        if event.seq == 1:
            raise RuntimeError("a bug of the program")

    async with client(server) as orbital:
        problems = heard(orbital, Problem)

        def bad(_: CaughtUp) -> None:
            raise RuntimeError("another")

        orbital.on(CaughtUp, bad)
        told = heard(orbital, CaughtUp)
        subscription = orbital.subscribe(GROUP, since=0, on_event=on_event)
        await subscription.ready()
        await when(told)
        assert "another" in (await when(problems)).message
        await server.append()
        assert "a bug of the program" in (await when(problems)).message
        await server.append()
        await server.send(json.dumps({"type": "ping", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.heard_of("pong")) == 1)

    assert got == [1, 2]


async def test_a_callback_that_hangs_holds_up_nobody(server: FakeServer) -> None:
    """[CAL2] While one callback waits for ever, events are read, pings are answered and memory is bounded."""
    never = asyncio.Event()

    async def hang(_: Any) -> None:
        await never.wait()

    async with client(server, buffer=5) as orbital:
        orbital.on(StateChange, hang)
        orbital.on(Typing, hang)
        subscription = orbital.subscribe(GROUP, since=0, on_event=hang)
        other = orbital.subscribe(OTHER, since=0)
        await other.ready()
        for _ in range(50):
            await server.append()
        typing = {"thread_id": "t", "user_id": "u", "username": "b", "is_typing": True}
        for _ in range(1_200):
            await server.send(json.dumps({"type": "typing_indicator", "data": typing, "server_timestamp": 1}))
        await server.append(OTHER)

        assert await read(other, 1) == [1]
        assert len(subscription._items) <= 6
        assert len(orbital._signals) <= 1_000


async def test_off(server: FakeServer) -> None:
    """[CAL3] A listener that was taken off hears nothing more."""
    async with client(server) as orbital:
        got: list[Any] = []
        off = orbital.on(StateChange, got.append)
        states = heard(orbital, StateChange)
        off()
        off()
        server.cut()
        await when(states, lambda change: change.state is State.OPEN)

    assert got == []


async def test_finished(server: FakeServer) -> None:
    """[CAL5] Who has a callback can wait for the end of the stream, and hears the error that ended it."""
    store = MemoryPositions()
    never = asyncio.Event()
    begun = asyncio.Event()

    async def hang(_: Any) -> None:
        begun.set()
        await never.wait()

    async with client(server, store=store) as orbital:
        got: list[Any] = []
        left = orbital.subscribe(OTHER, since=0, on_event=got.append)
        await left.ready()
        await server.append(OTHER)
        gone = {"group_ids": [OTHER], "reason": "left"}
        await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": 1}))
        await left.finished()
        assert [item.seq for item in got] == [1]
        hanging = orbital.subscribe(GROUP, since=0, on_event=hang)
        await server.append()
        await begun.wait()
        waiting = asyncio.create_task(hanging.finished())

    await waiting
    assert await store.load(GROUP) is None, "the callback had not returned"
    server.forbidden = {GROUP}
    async with client(server) as orbital:
        refused = orbital.subscribe(GROUP, since=0, on_event=hang)
        with pytest.raises(NotAMember):
            await refused.finished()


async def test_pump_tells_how_it_ends(server: FakeServer) -> None:
    """[CAL4] With callbacks, a stream that ends with an error is told as a problem."""
    server.forbidden = {GROUP}
    async with client(server) as orbital:
        problems = heard(orbital, Problem)
        subscription = orbital.subscribe(GROUP, since=0, on_event=lambda _: None)

        told = await when(problems, lambda problem: problem.code == "SUBSCRIPTION")

        assert told.details == {"group_id": GROUP}
        assert isinstance(subscription.error, NotAMember)


# Chapter: positions


async def test_the_position_moves_when_an_event_was_handled(server: FakeServer) -> None:
    """[POS1] An event whose handling failed comes again in the next run; one that was handled does not."""
    server.log(events=5)
    store = MemoryPositions()

    with pytest.raises(RuntimeError):  # noqa: PT012 - the error is raised in the midst of reading
        async with client(server, store=store) as orbital:
            async for event in orbital.subscribe(GROUP, since=0):
                if event.seq == 3:
                    raise RuntimeError("the handling of 3 failed")
    async with client(server, store=store) as orbital, orbital.subscribe(GROUP, since=0) as subscription:
        second = await read(subscription, 2)
    async with client(server, store=store) as orbital:
        third = await read(orbital.subscribe(GROUP, since=0), 1)

    assert second == [3, 4]
    assert third == [5]


async def test_commit_and_waiting_save_the_position(server: FakeServer) -> None:
    """[POS2] The position is saved by `commit`, and whenever the reader has caught up; events read fast, by the 64."""
    server.log(events=200)
    store = MemoryPositions()
    async with client(server, store=store) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await read(subscription, 130)
        saved = await store.load(GROUP)
        assert saved is not None
        assert 64 <= saved.seq < 130
        await subscription.commit()
        assert await store.load(GROUP) == subscription.position
        assert subscription.position is not None
        assert subscription.position.seq == 130
        await read(subscription, 70)
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.wait_for(_saved(store, 200), 10)
        await server.append()
        assert (await waiting).seq == 201


async def _saved(store: MemoryPositions, seq: int) -> None:
    while (position := await store.load(GROUP)) is None or position.seq != seq:
        await asyncio.sleep(0)


async def test_files_outlive_the_client(server: FakeServer, tmp_path: Any) -> None:
    """[POS3] A position in a file is where the next client begins, with the hash."""
    server.log(events=3)
    path = tmp_path / "positions.json"
    async with client(server, store=FilePositions(path)) as orbital, orbital.subscribe(GROUP, since=0) as first:
        await read(first, 2)
    async with client(server, store=FilePositions(path)) as orbital, orbital.subscribe(GROUP, since=0) as second:
        assert await read(second, 1) == [3]

    since = [data["since"][GROUP] for data in server.heard_of("subscribe")]
    assert since[0] == 0
    assert since[1]["seq"] == 2
    assert len(since[1]["hash"]) == 43


async def test_a_damaged_store_is_told(server: FakeServer, tmp_path: Any) -> None:
    """[POS4] A store that cannot be read ends the subscription with a sentence that names the file."""
    path = tmp_path / "positions.json"
    path.write_text("half a fi")
    async with client(server, store=FilePositions(path)) as orbital:
        with pytest.raises(StoreDamaged, match=r"positions\.json is not a file of positions"):
            await orbital.subscribe(GROUP).ready()


async def test_from_now_is_kept_too(server: FakeServer) -> None:
    """[POS5] Where a reader without a position began is remembered, so that the next run misses nothing."""
    server.log(events=4)
    store = MemoryPositions()
    async with client(server, store=store) as orbital, orbital.subscribe(GROUP, marks=True) as subscription:
        assert isinstance(await anext(subscription), CaughtUp)
    assert await store.load(GROUP) == Position(4)
    await server.append()
    async with client(server, store=store) as orbital:
        assert await read(orbital.subscribe(GROUP), 1) == [5]

    assert (await store.load(GROUP)) != Position(4)


# Chapter: posts


async def test_posts_arrive_once_and_in_order(server: FakeServer) -> None:
    """[PYOUT1] Answers lost and servers in trouble: every post is there once, in the order of the calls."""
    troubles = [503, "lost", 500, "lost", 429, "page"]

    def rest(request: httpx.Request) -> httpx.Response | None:
        if not troubles or request.url.path != "/v1/messages":
            return None
        trouble = troubles.pop()
        if trouble == "lost":  # it is done, and the answer never comes
            server._post(request)
            raise httpx.ReadError("")
        if trouble == "page":
            return httpx.Response(200, text="<html>Welcome to the hotel")
        return refusal(int(trouble), "UNAVAILABLE")

    server.rest = rest
    async with client(server) as orbital:
        await asyncio.gather(*(orbital.send(GROUP, f"{number:03d}".encode()) for number in range(30)))

    assert contents(server.log()) == [connection.encoded(f"{number:03d}".encode()) for number in range(30)]
    assert troubles == []


async def test_what_waits_is_sent_when_the_connection_is_back(server: FakeServer) -> None:
    """[OUT16] A post that waits for its next try goes as soon as the server has greeted again."""
    troubles = [refusal(503, "UNAVAILABLE")]
    server.rest = lambda _: troubles.pop() if troubles else None
    async with client(server) as orbital:
        orbital._outbox._backoff = Backoff(steps_ms=(600_000,), spread_ms=1)
        posting = asyncio.create_task(orbital.send(GROUP, b"x"))
        await server.until(lambda: troubles == [])
        await server.end(1012)

        async with asyncio.timeout(10):
            assert (await posting).seq == 1


async def test_a_refused_post_is_told_and_the_next_one_goes(server: FakeServer) -> None:
    """[PYOUT2] A post that the server will never take raises what it said, and holds up no other."""
    answers = [refusal(413, "PAYLOAD_TOO_LARGE")]
    server.rest = lambda _: answers.pop() if answers else None
    async with client(server) as orbital:
        first, second = await asyncio.gather(
            orbital.send(GROUP, b"large"), orbital.send(GROUP, b"small"), return_exceptions=True
        )

    assert isinstance(first, ApiError)
    assert first.code == "PAYLOAD_TOO_LARGE"
    assert not isinstance(second, BaseException)
    assert second.seq == 1


async def test_who_gives_up_waiting_does_not_take_the_post_back(server: FakeServer) -> None:
    """[PYOUT3] A cancelled send is still sent; when it is refused then, that is told as a problem."""
    answers = [refusal(503, "UNAVAILABLE"), refusal(400, "VALIDATION_ERROR")]
    server.rest = lambda _: answers.pop(0) if answers else None
    async with client(server) as orbital:
        problems = heard(orbital, Problem)
        sending = asyncio.create_task(orbital.send(GROUP, b"x"))
        await server.until(lambda: len(server.requests) == 1)
        sending.cancel()

        told = await when(problems)

        assert told.code == "VALIDATION_ERROR"
        assert orbital.waiting == 0


async def test_a_bug_of_ours_leaves_nobody_waiting(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYCON9] Were the client itself to break, every reader would get the error instead of waiting for ever."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()

        def broken(*_: Any, **__: Any) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(orbital._conversation, "received", broken)
        await server.append()

        with pytest.raises(KeyError, match="a bug"):
            await anext(subscription)
        assert orbital.state.state is State.CLOSED


# Chapter: typing


async def test_typing_stops_by_itself(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[TYP2] Many keystrokes are one `true`, and silence says `false`."""
    monkeypatch.setattr(protocol, "TYPING_STOP_MS", 100)
    monkeypatch.setattr(connection, "TYPING_STOP_MS", 100)
    async with client(server) as orbital:
        for _ in range(20):
            orbital.typing("t")
        await server.until(lambda: len(server.heard_of("typing_indicator")) == 2)
        orbital.typing("t")
        orbital.typing("t", is_typing=False)
        orbital.typing("t", is_typing=False)
        await server.until(lambda: len(server.heard_of("typing_indicator")) == 4)

    assert [data["is_typing"] for data in server.heard_of("typing_indicator")] == [True, False, True, False]
