"""A server that lies, with `verify`: thirty kinds of lies, seven seeds each, and each one is reported."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orbital_relay import wire
from orbital_relay.client import CaughtUp, ChainBroken, Problem, Reset, State, Subscription
from orbital_relay.client.protocol import stream
from tests.support.fake import GROUP, OTHER, STAMP, USER, FakeServer, Log, message, page_of, refusal
from tests.support.sdk import client

LENGTH = 30
"""Events in the log; the lie is about one in the middle, so that others follow by which it shows."""

Lie = Callable[[list[bytes], int, random.Random], list[bytes]]


def number_of(frame: bytes) -> int:
    """Read a frame's number."""
    return int(json.loads(frame)["seq"])


def drop(frames: list[bytes], at: int, _: random.Random) -> list[bytes]:
    """Leave one out."""
    return [frame for frame in frames if number_of(frame) != at]


def drop_two(frames: list[bytes], at: int, _: random.Random) -> list[bytes]:
    """Leave two out."""
    return [frame for frame in frames if number_of(frame) not in {at, at + 1}]


def swap(frames: list[bytes], at: int, _: random.Random) -> list[bytes]:
    """Change the order of two."""
    places = {number_of(frame): place for place, frame in enumerate(frames)}
    changed = list(frames)
    if at in places and at + 1 in places:
        one, two = places[at], places[at + 1]
        changed[one], changed[two] = changed[two], changed[one]
    return changed


def twice(frames: list[bytes], at: int, _: random.Random) -> list[bytes]:
    """Send one twice."""
    return [each for frame in frames for each in ([frame, frame] if number_of(frame) == at else [frame])]


def earlier_again(frames: list[bytes], at: int, source: random.Random) -> list[bytes]:
    """Send an earlier one again."""
    early = [frame for frame in frames if number_of(frame) < at]
    changed: list[bytes] = []
    for frame in frames:
        changed.append(frame)
        if number_of(frame) == at and early:
            changed.append(source.choice(early))
    return changed


def other_again(frames: list[bytes], at: int, _: random.Random) -> list[bytes]:
    """Send another text under a number that was sent already."""
    changed: list[bytes] = []
    for frame in frames:
        changed.append(frame)
        if number_of(frame) == at:
            changed.append(frame.replace(b'"encrypted_envelope":"', b'"encrypted_envelope":"AAAA'))
    return changed


def with_one(change: Callable[[bytes, random.Random], bytes]) -> Lie:
    """Change the text of one frame."""
    return lambda frames, at, source: [change(frame, source) if number_of(frame) == at else frame for frame in frames]


content = with_one(lambda frame, _: frame.replace(b'"encrypted_envelope":"', b'"encrypted_envelope":"BBBB'))
author = with_one(lambda frame, _: frame.replace(USER.encode(), OTHER.encode()))
stamp = with_one(lambda frame, _: frame.replace(b'"server_timestamp":', b'"server_timestamp":1'))
kind = with_one(lambda frame, _: frame.replace(b'"new_message"', b'"new_thread"', 1))
space = with_one(lambda frame, _: frame.replace(b'"data":{', b'"data": {', 1))
prev = with_one(lambda frame, source: frame[:-45] + bytes(source.choices(b"abcdefgh", k=43)) + b'"}')
no_prev = with_one(lambda frame, _: frame[:-53] + b"}")
short_prev = with_one(lambda frame, _: frame[:-46] + b'"}')
higher = with_one(lambda frame, _: frame.replace(b'"seq":', b'"seq":9', 1))
no_number = with_one(lambda frame, _: frame.replace(b'"seq":', b'"sequence":', 1))
huge_number = with_one(lambda frame, _: frame.replace(b'"seq":', b'"seq":99999999999999999999', 1))
broken = with_one(lambda frame, _: frame[: len(frame) // 2])
foreign = with_one(lambda frame, _: frame.replace(GROUP.encode(), OTHER.encode()))

SOCKET, LOG, BOTH = "socket", "log", "both"

KINDS: dict[str, tuple[str, Lie]] = {
    "drop": (SOCKET, drop),
    "drop_both": (BOTH, drop),
    "drop_two": (SOCKET, drop_two),
    "drop_two_both": (BOTH, drop_two),
    "swap": (SOCKET, swap),
    "swap_both": (BOTH, swap),
    "twice": (SOCKET, twice),
    "earlier_again": (SOCKET, earlier_again),
    "other_again": (SOCKET, other_again),
    "content": (SOCKET, content),
    "content_both": (BOTH, content),
    "author": (SOCKET, author),
    "author_both": (BOTH, author),
    "stamp": (SOCKET, stamp),
    "kind": (SOCKET, kind),
    "space": (SOCKET, space),
    "prev": (SOCKET, prev),
    "prev_both": (BOTH, prev),
    "no_prev": (SOCKET, no_prev),
    "no_prev_both": (BOTH, no_prev),
    "short_prev": (BOTH, short_prev),
    "higher": (SOCKET, higher),
    "higher_both": (BOTH, higher),
    "no_number": (SOCKET, no_number),
    "no_number_both": (BOTH, no_number),
    "huge_number": (BOTH, huge_number),
    "broken": (SOCKET, broken),
    "broken_both": (BOTH, broken),
    "foreign": (SOCKET, foreign),
    "foreign_both": (BOTH, foreign),
}


class Liar(FakeServer):
    """A server that sends something else than its log."""

    def __init__(self, where: str, lie: Lie, seed: int) -> None:
        super().__init__()
        self.where, self.lie, self.source = where, lie, random.Random(seed)
        self.at = self.source.randint(5, LENGTH - 5)
        self.rest = self._log

    async def send_all(self, log: Log) -> None:
        """Send the whole log over the socket, with the lie in it."""
        frames = self.lie(log.frames, self.at, self.source) if self.where != LOG else log.frames
        for frame in frames:
            await self.send(frame)

    def _log(self, request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/v1/events" or self.where == SOCKET:
            return None
        after = int(request.url.params["after_seq"])
        frames = self.lie(self.log().frames, self.at, self.source)
        tail = [frame for place, frame in enumerate(frames) if _place(frame, place) > after]
        return page_of(tail, last_seq=LENGTH)


def _place(frame: bytes, place: int) -> int:
    """Return a frame's number, or its place when it cannot be read."""
    try:
        seq = json.loads(frame)["seq"]
    except (ValueError, KeyError):
        return place + 1
    return int(seq)


async def _read(subscription: Subscription, got: list[bytes]) -> BaseException | None:
    """Read to the log's end or an error; return the error."""
    try:
        async for item in subscription:
            if isinstance(item, CaughtUp | Reset):
                continue
            got.append(item.frame)
            if item.seq == LENGTH:
                return None
    except ChainBroken as exc:
        return exc
    return None


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again soon."""
    monkeypatch.setattr(stream, "EMPTY_PAGE_PAUSES_MS", (5, 5, 5, 5))


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("kind", KINDS)
async def test_a_violation_is_reported(kind: str, seed: int) -> None:
    """[PYLIE1] A dropped, changed, repeated or moved frame raises ChainBroken, or is a Problem and the log is read."""
    print(f"seed {seed}")
    async with Liar(*KINDS[kind], seed) as server:
        said: list[Problem] = []
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0, marks=True)
            await subscription.ready()
            log = server.log(events=LENGTH)
            got: list[bytes] = []
            await server.send_all(log)
            async with asyncio.timeout(60):
                error = await _read(subscription, got)
                while not (error or said):  # A repeat may come behind the last event.
                    await asyncio.sleep(0)

            assert orbital.state.state is State.OPEN
        changed = [place for place, frame in enumerate(got) if frame != log.frames[place]]
        assert error is not None or said
        # The changed frame itself shows by the one behind it: one wrong frame at most, and only with an error.
        assert len(changed) <= 1
        assert error is not None or (not changed and len(got) == LENGTH)
        # Reported after a few requests: the client does not ask endlessly.
        assert sum(request.url.path == "/v1/events" for request in server.requests) <= 8


@pytest.mark.parametrize("seed", range(7))
async def test_an_honest_server_is_not_accused(seed: int) -> None:
    """[PYLIE2] Connection losses with an honest server report no violation."""
    print(f"seed {seed}")
    source = random.Random(seed)
    async with FakeServer() as server:
        said: list[Problem] = []
        async with client(server, verify=True, buffer=source.choice((2, 10, 1_000))) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0, marks=True)
            await subscription.ready()
            got: list[bytes] = []
            reading = asyncio.create_task(_read(subscription, got))
            for _ in range(LENGTH):
                await server.append()
                if source.random() < 0.2:
                    server.cut()
                    await server.until(lambda: bool(server.sockets))
            async with asyncio.timeout(60):
                assert await reading is None

        assert got == server.log().frames
        assert said == []


# Chapter: excuses


async def test_a_false_reset() -> None:
    """[PYLIE3] `recovered: false` for events that the log still has is reported, and they are read from the log."""
    async with FakeServer() as server:
        server.log(events=5)
        said: list[Problem] = []
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0)
            got = [await anext(subscription) for _ in range(5)]
            await server.append(hush=True)
            excuse = {"group_ids": [GROUP], "subscribed_at": "", "groups": {GROUP: {"seq": 6, "recovered": False}}}
            await server.send(json.dumps({"type": "subscribed", "data": excuse, "server_timestamp": STAMP}))
            async with asyncio.timeout(60):
                got.append(await anext(subscription))

            assert [item.seq for item in got] == [1, 2, 3, 4, 5, 6]
            assert [problem.code for problem in said] == ["FALSE_RESET"]


@pytest.mark.parametrize("honest", ["pruned", "restored"])
async def test_an_honest_reset(honest: str) -> None:
    """[PYLIE4] A log that lost events or was replaced yields a Reset and no violation."""
    async with FakeServer() as server:
        server.log(events=5)
        said: list[Problem] = []
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0)
            for _ in range(5):
                await anext(subscription)
            if honest == "pruned":
                server.log(events=9).floor = 7
            else:
                del server.logs[GROUP]
                server.log(events=9)
            server.cut()
            async with asyncio.timeout(60):
                reset = await anext(subscription)
                await server.append()
                event = await anext(subscription)

            assert isinstance(reset, Reset)
            assert (reset.last_seq, reset.seq, event.seq) == (5, 9, 10)
            assert said == []


async def test_a_false_410() -> None:
    """[PYLIE5] A 410 that contradicts its own fields is reported, and raises ChainBroken if it persists."""
    async with FakeServer() as server:
        said: list[Problem] = []
        server.rest = lambda _: refusal(410, "GONE", details={"oldest_seq": 1})
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0)
            await subscription.ready()
            server.log(events=3)
            await server.send(server.log().frames[2])
            async with asyncio.timeout(60):
                with pytest.raises(ChainBroken):
                    await anext(subscription)
            while not said:
                await asyncio.sleep(0)

    assert {problem.code for problem in said} <= {"GAP", "FALSE_GONE"}
    assert len(server.requests) == 5


@pytest.mark.parametrize("true", [True, False])
async def test_a_false_unsubscribed(*, true: bool) -> None:
    """[PYLIE6] `unsubscribed` with reason `left` is reported unless the user's own member_left came before it."""
    async with FakeServer() as server:
        said: list[Problem] = []
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0)
            await subscription.ready()
            await server.append(
                data=wire.MemberLeft(GROUP, USER if true else OTHER, "anna", "", "left") if true else message()
            )
            gone = {"group_ids": [GROUP], "reason": "left"}
            await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": STAMP}))
            async with asyncio.timeout(60):
                assert [item.seq async for item in subscription] == [1]
            for _ in range(20):
                await asyncio.sleep(0)

    assert [problem.code for problem in said] == ([] if true else ["UNPROVEN_END"])


async def test_without_verify_a_gap_in_the_log_is_a_reset() -> None:
    """[PYLIE7] Without `verify`, a hole in the log yields a Reset after a few retries; later events are delivered."""
    async with Liar(BOTH, drop, 1) as server:
        async with client(server) as orbital:
            subscription = orbital.subscribe(GROUP, since=0)
            await subscription.ready()
            await server.send_all(server.log(events=LENGTH))
            async with asyncio.timeout(60):
                items = [await anext(subscription) for _ in range(LENGTH)]

        resets = [item for item in items if isinstance(item, Reset)]
        assert [(reset.last_seq, reset.seq) for reset in resets] == [(server.at - 1, server.at)]
        assert [item.seq for item in items if not isinstance(item, Reset)] == [
            seq for seq in range(1, LENGTH + 1) if seq != server.at
        ]
        assert len(server.requests) <= 6


@pytest.mark.parametrize(
    "data",
    [
        {"group_ids": [GROUP], "groups": {GROUP: {"seq": -5, "recovered": False}}},
        {"group_ids": [GROUP], "groups": {GROUP: {"seq": 2**60}}},
        {"group_ids": [GROUP], "groups": {GROUP: {"seq": 1.5}}},
        {"group_ids": GROUP},
        {"group_ids": [GROUP], "groups": {GROUP: {"seq": "7"}}},
        {},
    ],
    ids=str,
)
async def test_a_bad_subscribed(data: dict[str, Any]) -> None:
    """[PYLIE8] An unreadable `subscribed` frame does not end the client: it reconnects and continues."""
    async with FakeServer() as server:
        server.log(events=2)
        said: list[Problem] = []
        async with client(server, verify=True) as orbital:
            orbital.on(Problem, said.append)
            subscription = orbital.subscribe(GROUP, since=0)
            assert (await anext(subscription)).seq == 1
            await server.send(json.dumps({"type": "subscribed", "data": data, "server_timestamp": STAMP}))
            await server.until(lambda: len(server.handshakes) == 2)
            await orbital.wait_open()
            await server.append()
            async with asyncio.timeout(60):
                assert [(await anext(subscription)).seq for _ in range(2)] == [2, 3]

    assert [problem.code for problem in said] == ["BAD_FRAME"]
