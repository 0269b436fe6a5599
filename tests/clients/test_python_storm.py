"""The Python SDK through bad networks and killed servers: every client ends with the log, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from orbital_relay.client import (
    Api,
    CaughtUp,
    Event,
    FilePositions,
    Orbital,
    Reset,
    State,
    StateChange,
    Subscription,
    connect,
)
from orbital_relay.client.api import encoded
from orbital_relay.core.backoff import Backoff
from tests.conftest import Serve
from tests.support.client import Person
from tests.support.process import eventually
from tests.support.proxy import Proxy
from tests.support.server import Server
from tests.support.tokens import token

ROUNDS = 50
LOSSES = 50
POSTS_A_ROUND = 20
GROUPS = 5
KILL_EVERY = 10

QUICK = Backoff(steps_ms=(20, 40, 80, 160), jitter_ms=60, attempts=1_000, window_ms=1_000)
"""The rule of back-off with times for a test that ends connections every half second."""


class Listener:
    """A client behind a proxy of its own, and everything it was given."""

    def __init__(self, proxy: Proxy, person: Person, options: dict[str, Any], *, pause: bool) -> None:
        self.proxy = proxy
        self.frames: dict[str, list[bytes]] = {}
        self.marks = Counter[str]()
        self.losses = 0
        """Connections that were open and ended."""
        self.failures = 0
        """Those, and attempts that failed."""
        self._was_open = False
        self._person = person
        self._options = options
        self._pause = pause
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived = asyncio.Condition()
        self.orbital = self._make()

    def _make(self) -> Orbital:
        url = f"http://127.0.0.1:{self.proxy.port}"
        orbital = connect(
            url,
            token=self._person.token,
            verify=True,
            backoff=QUICK,
            idle_slack_s=0.5,
            request_timeout_s=5,
            **self._options,
        )
        orbital.on(StateChange, self._changed)
        return orbital

    def _changed(self, change: StateChange) -> None:
        if change.state is State.OPEN:
            self._was_open = True
        elif change.retry_in_ms is not None:
            self.failures += 1
            self.losses += self._was_open
            self._was_open = False

    async def start(self, group_ids: list[str]) -> None:
        """Connect and listen to groups, from their start or from where the store says."""
        await self.orbital.__aenter__()
        for group_id in group_ids:
            self.frames.setdefault(group_id, [])
            subscription = self.orbital.subscribe(group_id, since=0)
            self._tasks.append(asyncio.create_task(self._read(subscription)))

    async def _read(self, subscription: Subscription) -> None:
        async with subscription:
            async for item in subscription:
                if self._pause:
                    await asyncio.sleep(0.01)  # a reader that is slower than the events come
                await self.take(item)

    async def take(self, item: Event | Reset | CaughtUp) -> None:
        """Keep an item."""
        if isinstance(item, Reset | CaughtUp):
            self.marks[type(item).__name__] += 1
        else:
            self.frames[item.group_id].append(item.frame)
        async with self._arrived:
            self._arrived.notify_all()

    async def until_has(self, counts: dict[str, int]) -> None:
        """Wait until so many events of each group are there, and say which reader ended if one did."""

        def there() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return all(len(self.frames[group_id]) >= count for group_id, count in counts.items())

        async with asyncio.timeout(120), self._arrived:
            await self._arrived.wait_for(there)

    async def stop(self) -> None:
        """End the program."""
        await self.orbital.close()
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    async def restart(self, group_ids: list[str]) -> None:
        """Stop the program gracefully and start it again: only its store has its position."""
        await self.stop()
        self.orbital = self._make()
        await self.start(group_ids)


async def storm(listener: Listener, source: random.Random) -> None:
    """End a listener's connection, in one of the ways of networks."""
    await listener.orbital.wait_open()
    failures = listener.failures
    match source.choice(("cut", "reset", "swallow", "bytes", "delay", "lifetime", "refuse")):
        case "cut":
            await listener.proxy.cut()
        case "reset":
            await listener.proxy.reset()
        case "swallow":  # All looks well, and nothing comes: the watchdog's case.
            await listener.proxy.set("down", swallow=True)
            await eventually(lambda: listener.failures > failures, what="the watchdog")
            await listener.proxy.calm()
        case "bytes":
            await listener.proxy.set("both", slice="bytes")
            await listener.proxy.reset()
        case "delay":
            await listener.proxy.set("both", slice="some", delay_ms=[0, 10])
            await listener.proxy.cut()
        case "lifetime":
            await listener.proxy.set("down", lifetime_bytes=[5_000, 60_000], slice="some")
        case "refuse":
            listener.proxy.refuse()
            await listener.proxy.cut()
            await eventually(lambda: listener.failures >= failures + 2, what="two refusals")
            await listener.proxy.calm()
    if source.random() < 0.5:
        await listener.proxy.calm()


async def test_a_thousand_events_through_a_storm(serve: Serve, seed: int, tmp_path: Path) -> None:
    """[SDK1] With 1,000 posts in 5 groups, 50 seeded disconnections and 5 server kills each client has the full log."""
    source = random.Random(seed)
    server = serve(env={"ORBITAL_HEARTBEAT_SECONDS": "0.5"})
    anna = await Person.sign_up(server.url)
    group_ids, people = [], [anna, *[await Person.sign_up(server.url) for _ in range(3)]]
    for _ in range(GROUPS):
        group = await anna.make_group()
        group_ids.append(group.id)
        for person in people[1:]:
            await person.join(group)
    store = FilePositions(tmp_path / "positions.json")
    options: list[tuple[dict[str, Any], bool]] = [({}, False), ({"buffer": 10}, True), ({"store": store}, False)]
    listeners = []
    for number, ((option, pause), person) in enumerate(zip(options, people[1:], strict=False)):
        proxy = await Proxy.open(server.port, seed=seed + number)
        listeners.append(Listener(proxy, person, option, pause=pause))
        await listeners[-1].start(group_ids)
    poster_proxy = await Proxy.open(server.port, seed=seed + 100)
    poster = connect(
        f"http://127.0.0.1:{poster_proxy.port}", token=anna.token, backoff=QUICK, idle_slack_s=0.5, request_timeout_s=5
    )
    sent: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    threads: dict[str, str] = {}
    numbers = itertools.count()

    async def post(group_id: str) -> None:
        content = encoded(f"post {next(numbers)}".encode())
        sent[group_id].append(content)
        choice = source.random()
        if choice < 0.1 or group_id not in threads:
            threads[group_id] = (await poster.open_thread(group_id, content, content)).thread_id
        elif choice < 0.4:
            await poster.reply(threads[group_id], content)
        else:
            await poster.send(group_id, content)

    await poster.__aenter__()
    rounds = 0
    # Not every storm is a loss: a line with a short life may outlive its round.
    while rounds < ROUNDS or sum(listener.losses for listener in listeners) < LOSSES:
        assert rounds < 2 * ROUNDS, "the storms are no storms"
        round_, rounds = rounds, rounds + 1
        posts = [asyncio.create_task(post(source.choice(group_ids))) for _ in range(POSTS_A_ROUND)]
        await storm(source.choice(listeners), source)
        if round_ % 3 == 0:
            await poster_proxy.reset()
        if round_ % KILL_EVERY == KILL_EVERY - 1:
            await asyncio.to_thread(server.restart, kill=True)
        if round_ % 17 == 16:
            await listeners[2].restart(group_ids)
        async with asyncio.timeout(60):
            await asyncio.gather(*posts)
    for listener in listeners:
        await listener.proxy.calm()

    log = {group_id: await whole_log(server, anna, group_id) for group_id in group_ids}
    assert sum(len(frames) for frames in log.values()) == rounds * POSTS_A_ROUND + GROUPS * len(people)
    for group_id in group_ids:
        contents = [content_of(frame) for frame in log[group_id]]
        assert [content for content in contents if content] == sent[group_id]
    for number, listener in enumerate(listeners):
        await listener.until_has({group_id: len(frames) for group_id, frames in log.items()})
        assert listener.frames == log, f"client {number} does not have the log"
        assert not listener.marks["Reset"]
        await listener.stop()
        await listener.proxy.close()
    print(f"{rounds} rounds, {sum(listener.losses for listener in listeners)} losses, {rounds // KILL_EVERY} kills")
    await poster.close()
    await poster_proxy.close()
    for person in people:
        await person.close()


async def whole_log(server: Server, person: Person, group_id: str) -> list[bytes]:
    """Read a group's whole log, byte for byte."""
    frames: list[bytes] = []
    async with Api(server.url, token=person.token) as api:
        while page := (await api.event_frames(group_id, after_seq=len(frames), limit=1_000)).frames:
            frames += page
    return frames


def content_of(frame: bytes) -> str | None:
    """Give what was posted; None for what was not posted."""
    data = json.loads(frame)["data"]
    content: str | None = data.get("encrypted_envelope") or data.get("encrypted_body")
    return content


class Crowd:
    """A hundred clients of one program, with the times of all their attempts and openings."""

    def __init__(self) -> None:
        self.clients: list[Orbital] = []
        self.attempts: dict[int, list[float]] = {}
        self.opened: dict[int, list[float]] = {}
        self.got: dict[int, list[int]] = {}

    def watch(self, number: int, orbital: Orbital) -> None:
        """Note when a client dials and when it is open."""
        self.clients.append(orbital)
        self.attempts[number], self.opened[number] = [], []
        connection = orbital._connection
        dial = connection._connect

        async def noted() -> Any:
            self.attempts[number].append(time.monotonic())
            return await dial()

        connection._connect = noted

        def changed(change: StateChange) -> None:
            if change.state is State.OPEN:
                self.opened[number].append(time.monotonic())

        orbital.on(StateChange, changed)


async def test_a_hundred_clients_come_back_apart(serve: Serve, seed: int) -> None:
    """[SDK2] After a restart 100 clients reconnect over 5 s or more, at most five times a minute, and miss no event."""
    source = random.Random(seed)
    server = serve()
    anna = await Person.sign_up(server.url)
    group = await anna.make_group()
    crowd = Crowd()

    async def enter(number: int) -> None:
        bearer = token(f"crowd-{number}", username=f"crowd_{number}")
        async with Api(server.url, token=bearer) as api:
            await api.join_group(group.invite_code, encoded(b"key"))
        orbital = connect(server.url, token=bearer, verify=True, random=source.random)
        crowd.watch(number, orbital)
        await orbital.__aenter__()
        crowd.got[number] = []
        subscription = orbital.subscribe(group.id, since=0, on_event=lambda item: crowd.got[number].append(item.seq))
        await subscription.ready()

    for start in range(0, 100, 10):
        await asyncio.gather(*(enter(number) for number in range(start, start + 10)))
    await anna.say(group, "before")

    await asyncio.to_thread(server.restart, kill=True)
    back_s = time.monotonic()
    for _ in range(5):
        await anna.say(group, "after")
    async with asyncio.timeout(300):
        await asyncio.gather(*(orbital.wait_open() for orbital in crowd.clients))
        await anna.say(group, "last")
        frames = await whole_log(server, anna, group.id)
        await eventually(lambda: all(len(got) >= len(frames) for got in crowd.got.values()), what="the last event")

    second = [opened[1] for opened in crowd.opened.values()]
    first_try = [attempts[1] for attempts in crowd.attempts.values()]
    print(
        f"came back over {max(second) - min(second):.1f} s, first tries over {max(first_try) - min(first_try):.1f} s, "
        f"last {max(second) - back_s:.1f} s after the server"
    )
    assert max(first_try) - min(first_try) >= 5
    assert max(second) - min(second) >= 5
    for attempts in crowd.attempts.values():
        assert all(later - earlier > 60 for earlier, later in zip(attempts, attempts[5:], strict=False))
    assert all(got == list(range(1, len(frames) + 1)) for got in crowd.got.values())
    assert msgspec.json.decode(frames[-1])["seq"] == len(frames)
    await asyncio.gather(*(orbital.close() for orbital in crowd.clients))
    await anna.close()
