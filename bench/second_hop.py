"""
What a second server costs: from a post at one server to a listener there, and to a listener at the other.

    python -m bench fan_out --nodes 2

First at a fixed rate, for the milliseconds that the second server adds; then with so many events in flight, for the
events a second that arrive at a listener of the other server. The clients are Python's and share the machine with the
servers, so the second figure is what all of them together can do, not what a server can.

Orbital on PostgreSQL (every event durable before delivery) and Redis, beside Socket.IO with its Redis adapter and
Node's ws with Redis Pub/Sub (both keep nothing), in turns within the same minute, with one Redis for all.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from bench import tools
from tests.support.client import Person, opaque
from tests.support.postgres import Postgres
from tests.support.process import Program
from tests.support.redis import Redis
from tests.support.server import Server
from tests.support.tokens import token

ENVELOPE = opaque(b"x" * 300)
"""400 characters of base64, as the other benches have."""

Waits = dict[str, list[float]]
"""Milliseconds from sending to arriving, by where the listener is: `here` or `there`."""


class Peer(ABC):
    """A system of two servers, as a client sees it: three sockets, one that posts and two that listen."""

    def __init__(self, sender: ClientConnection, here: ClientConnection, there: ClientConnection) -> None:
        self._sender = sender
        self._listeners = {"here": here, "there": there}

    @abstractmethod
    def post(self, mark: str) -> str:
        """Return the text that posts an event with a mark."""

    async def flood(self, count: int, in_flight: int) -> float:
        """Post `count` events, `in_flight` of them in flight to the other server; return events a second there."""
        room = asyncio.Semaphore(in_flight)

        async def listen(where: str, socket: ClientConnection) -> None:
            left = count
            while left:
                text = str(await socket.recv())
                if text == "2":  # Engine.IO's ping
                    await socket.send("3")
                if text.find("Zmxvb2") >= 0:
                    left -= 1
                    if where == "there":
                        room.release()

        async def talk() -> None:
            for number in range(count):
                await room.acquire()
                await self._sender.send(self.post(f"Zmxvb2{number:010d}"))

        async def drain() -> None:
            while True:
                await self._sender.recv()

        draining = asyncio.create_task(drain())
        began = time.perf_counter()
        try:
            async with asyncio.timeout(120):
                await asyncio.gather(talk(), *(listen(where, one) for where, one in self._listeners.items()))
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
        return count / (time.perf_counter() - began)

    async def round(self, count: int, rate: float) -> Waits:
        """Post `count` events, `rate` a second, and time each at both listeners."""
        sent: dict[str, float] = {}
        waits: Waits = {"here": [], "there": []}

        async def listen(where: str, socket: ClientConnection) -> None:
            while len(waits[where]) < count:
                text = await socket.recv()
                now = time.perf_counter()
                assert isinstance(text, str)
                if text == "2":  # Engine.IO's ping
                    await socket.send("3")
                if '"ping"' in text:
                    await socket.send('{"type":"pong","data":{}}')
                at = text.find("bWFyay")
                if at >= 0:
                    mark = text[at : at + 16]
                    waits[where].append((now - sent[mark]) * 1000)

        async def talk() -> None:
            began = time.perf_counter()
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                mark = f"bWFyay{number:010d}"
                sent[mark] = time.perf_counter()
                await self._sender.send(self.post(mark))

        async def drain() -> None:
            # Answers to the poster are read and dropped, as its application would.
            while True:
                await self._sender.recv()

        draining = asyncio.create_task(drain())
        try:
            async with asyncio.timeout(60 + count / rate):
                await asyncio.gather(talk(), *(listen(where, one) for where, one in self._listeners.items()))
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
        return waits


class Orbital(Peer):
    """Orbital, posting by frames."""

    group_id = ""

    def post(self, mark: str) -> str:
        data = {"conversation_id": self.group_id, "encrypted_envelope": mark + ENVELOPE, "timestamp": 0}
        return json.dumps({"type": "post_message", "data": data})


class SocketIo(Peer):
    """Socket.IO with its Redis adapter."""

    def post(self, mark: str) -> str:
        return "42" + json.dumps(["publish", "g", {"conversation_id": "g", "encrypted_envelope": mark + ENVELOPE}])


class NodeWs(Peer):
    """Node's ws with Redis Pub/Sub."""

    def post(self, mark: str) -> str:
        data = {"conversation_id": "g", "encrypted_envelope": mark + ENVELOPE}
        return json.dumps({"type": "publish", "data": data})


async def _until(socket: ClientConnection, word: str) -> None:
    async with asyncio.timeout(30):
        while word not in str(await socket.recv()):
            pass


@asynccontextmanager
async def orbital(redis: Redis) -> AsyncIterator[Peer]:
    """Two Orbital servers on PostgreSQL, with `fsync`."""
    async with AsyncExitStack() as stack:
        postgres = Postgres(fsync=True).start()
        stack.callback(postgres.close)
        env = {"DATABASE_URL": postgres.create_database(), "REDIS_URL": redis.url, "ORBITAL_LOG_LEVEL": "warning"}
        servers = []
        for _ in range(2):
            folder = stack.enter_context(TemporaryDirectory())
            servers.append(await asyncio.to_thread(Server(Path(folder), env=env).start))
            stack.callback(servers[-1].close)
        async with Person(servers[0].url, user_id="u", username="u", token=token("u")) as one:
            group = await one.make_group()
        sockets = []
        for server in (servers[0], *servers):
            options: dict[str, Any] = {"additional_headers": {"Authorization": f"Bearer {one.token}"}, "proxy": None}
            sockets.append(await stack.enter_async_context(connect(server.ws_url, compression=None, **options)))
        for socket in sockets[1:]:
            await socket.send(json.dumps({"type": "subscribe", "data": {"group_ids": [group.id]}}))
            await _until(socket, '"subscribed"')
        peer = Orbital(*sockets)
        peer.group_id = group.id
        yield peer


def node(script: str, kind: type[Peer], path: str, hello: list[tuple[str, str]]) -> Callable[[Redis], Any]:
    """Make what starts two servers of a Node script; `hello` is what a listener says, and the word it waits for."""

    @asynccontextmanager
    async def started(redis: Redis) -> AsyncIterator[Peer]:
        found = tools.node()
        async with AsyncExitStack() as stack:
            ports = [tools.free_port() for _ in range(2)]
            for port in ports:
                program = Program([found, str(tools.CACHE / "node" / script), str(port), redis.url])
                stack.callback(program.kill)
            urls = [f"ws://127.0.0.1:{port}{path}" for port in (ports[0], *ports)]
            sockets = [await stack.enter_async_context(await _patiently(url)) for url in urls]
            for number, socket in enumerate(sockets):
                for text, word in hello:
                    if number or text.startswith("40"):
                        await socket.send(text)
                        await _until(socket, word)
            yield kind(*sockets)

    return started


async def _patiently(url: str) -> Any:
    """Return what connects, once the server answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with connect(url, proxy=None):
                    return connect(url, proxy=None, compression=None)
            except OSError:
                await asyncio.sleep(0.05)


SYSTEMS: dict[str, Callable[[Redis], Any]] = {
    "Orbital (durable)": orbital,
    "Socket.IO, Redis adapter": node(
        "node_socketio_redis.mjs",
        SocketIo,
        "/socket.io/?EIO=4&transport=websocket",
        [("40", "40"), ('42["subscribe",["g"]]', "subscribed")],
    ),
    "Node ws, Redis Pub/Sub": node(
        "node_ws_redis.mjs",
        NodeWs,
        "/",
        [('{"type":"subscribe","data":{"group_ids":["g"]}}', "subscribed")],
    ),
}


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(
    *, rounds: int, count: int, rate: float, flood: int, in_flight: int
) -> tuple[dict[str, Waits], dict[str, list[float]]]:
    """Run every system in turns; return all waits of each, and its events a second in each round."""
    found: dict[str, Waits] = {name: {"here": [], "there": []} for name in SYSTEMS}
    floods: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    async with AsyncExitStack() as stack:
        redis = Redis().start()
        stack.callback(redis.close)
        peers = {name: await stack.enter_async_context(start(redis)) for name, start in SYSTEMS.items()}
        for peer in peers.values():
            await peer.round(50, rate)
        for _ in range(rounds):
            for name, peer in peers.items():
                for where, waits in (await peer.round(count, rate)).items():
                    found[name][where] += waits
                floods[name].append(await peer.flood(flood, in_flight))
    return found, floods


def report(*, rounds: int = 3, count: int = 300, rate: float = 100.0, flood: int = 3000, in_flight: int = 64) -> None:
    """
    Measure what a second server adds, and print it.

    Args:
        rounds: Runs of each system, in turns.
        count: Events of a run at a fixed rate.
        rate: Events a second there.
        flood: Events of a run with `in_flight` in flight.
        in_flight: How many those are.
    """
    try:
        found, floods = asyncio.run(measure(rounds=rounds, count=count, rate=rate, flood=flood, in_flight=in_flight))
    except tools.Missing as missing:
        raise click.ClickException(str(missing)) from None
    table = Table(
        title=f"two servers; milliseconds at {rate:g} events a second, events a second with {in_flight} in flight"
    )
    for column in ("system", "same server p50", "p99", "other server p50", "p99", "added p50", "events/s", "spread"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for name, waits in found.items():
        here, there = waits["here"], waits["there"]
        added = _at(there, 0.5) - _at(here, 0.5)
        cells = (_at(here, 0.5), _at(here, 0.99), _at(there, 0.5), _at(there, 0.99), added)
        flow = floods[name]
        spread = f"{min(flow):,.0f}-{max(flow):,.0f}"
        table.add_row(name, *(f"{cell:.2f}" for cell in cells), f"{statistics.median(flow):,.0f}", spread)
    Console(width=140).print(table)
