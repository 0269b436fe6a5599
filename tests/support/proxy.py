"""
A TCP proxy that does to connections what networks do, in a seeded way.

It delays, slices a stream down to single bytes, swallows, cuts (FIN) and resets (RST), refuses, and gives each
connection a lifetime in bytes, so that the same seed ends it at the same byte. From Python: `Proxy`. From anything
else: `python -m tests.support.proxy --listen 0 --to 127.0.0.1:3000 --seed 1` prints `{"listening": <port>}` and then
answers each line of JSON on its standard input by one on its standard output:

    {"do": "set", "direction": "down", "delay_ms": [5, 50], "slice": "bytes"}
    {"do": "set", "direction": "both", "swallow": true}
    {"do": "cut"}            ends every connection in an orderly way (FIN)
    {"do": "reset"}          ends every connection rudely (RST)
    {"do": "refuse", "on": true}
    {"do": "aim", "to": "127.0.0.1:3001"}   where new connections go
    {"do": "stats"}          {"done": "stats", "accepted": 3, "open": 1, "bytes_up": 812, "bytes_down": 20480}
    {"do": "wait_accepted", "count": 4}     is answered once so many connections were accepted
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

Direction = Literal["up", "down"]
READ_BYTES = 65_536


@dataclass(frozen=True)
class Weather:
    """What happens to one direction of every connection; the default is nothing."""

    delay_ms: tuple[float, float] = (0, 0)
    """Each piece waits for a seeded time between these."""
    slice: Literal["whole", "some", "bytes"] = "whole"
    """Pieces as they were read; cut at seeded places; or one byte each."""
    swallow: bool = False
    """Read on and forward nothing: the peer sees a healthy connection."""
    stall: bool = False
    """Read nothing: the sender's buffers fill."""
    lifetime_bytes: tuple[int, int] | None = None
    """A connection ends after a seeded number of bytes between these."""
    ending: Literal["cut", "reset", "either"] = "either"
    """How it ends then."""


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    random: random.Random
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                raw: socket.socket | None = writer.get_extra_info("socket")
                if raw is not None and raw.fileno() != -1:
                    # Linger of zero seconds: close() sends RST and drops what was not sent.
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """
    A proxy to one TCP address; made by `await Proxy.open(...)` and ended by `await proxy.close()`, or `async with`.

    Each connection's disorder is drawn from the seed and the connection's own number, so it does not depend on
    what the others do.
    """

    def __init__(self, *, host: str, port: int, seed: int) -> None:
        self.host, self.to_port, self.seed = host, port, seed
        self.port = 0
        self.accepted = 0
        self.bytes = {"up": 0, "down": 0}
        self._weather: dict[Direction, Weather] = {"up": Weather(), "down": Weather()}
        self._refusing = False
        self._open: set[_Connection] = set()
        # A line that was cut while its peer did not read stays until its bytes are out; the proxy's end ends it.
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    @classmethod
    async def open(cls, to_port: int, *, to_host: str = "127.0.0.1", listen: int = 0, seed: int = 1) -> Proxy:
        """Listen on 127.0.0.1 (`listen` 0: any free port, then `proxy.port`) for connections to `to_host:to_port`."""
        proxy = cls(host=to_host, port=to_port, seed=seed)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", listen)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        assert self._server is not None
        self._server.close()
        await self.reset()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        await self._server.wait_closed()

    # Weather

    async def set(self, direction: Literal["up", "down", "both"] = "both", **changes: Any) -> None:
        """Change `Weather` fields for old and new connections; `up` is from client to server."""
        unknown = changes.keys() - {each.name for each in fields(Weather)}
        if unknown:
            raise ValueError(f"no such weather: {', '.join(sorted(unknown))}")
        changes = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
        each: Direction
        for each in ("up", "down"):
            if direction in (each, "both"):
                self._weather[each] = replace(self._weather[each], **changes)
        await self._notify()

    async def calm(self) -> None:
        """Back to a network without faults."""
        self._weather = {"up": Weather(), "down": Weather()}
        self._refusing = False
        await self._notify()

    def refuse(self, *, on: bool = True) -> None:
        """Reset each new connection at once, as a host without a listener does."""
        self._refusing = on

    def aim(self, to_port: int, *, to_host: str = "127.0.0.1") -> None:
        """Send new connections elsewhere."""
        self.host, self.to_port = to_host, to_port

    async def cut(self) -> int:
        """End every connection in an orderly way (FIN both ways); return how many."""
        return await self._end_all(reset=False)

    async def reset(self) -> int:
        """End every connection rudely (RST both ways); return how many."""
        return await self._end_all(reset=True)

    # Facts

    @property
    def open_connections(self) -> int:
        """How many connections pass now."""
        return len(self._open)

    async def wait_accepted(self, count: int, *, deadline_s: float = 120) -> None:
        """Return once `count` connections were accepted since the beginning."""
        async with asyncio.timeout(deadline_s), self._changed:
            await self._changed.wait_for(lambda: self.accepted >= count)

    # Inside

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _end_all(self, *, reset: bool) -> int:
        ended = list(self._open)
        for connection in ended:
            connection.end(reset=reset)
        await asyncio.gather(*(task for connection in ended for task in connection.tasks), return_exceptions=True)
        return len(ended)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if (handler := asyncio.current_task()) is not None:
            self._handlers.add(handler)
            handler.add_done_callback(self._handlers.discard)
        self.accepted += 1
        drawn = random.Random(f"{self.seed}/{self.accepted}")
        await self._notify()
        try:
            if self._refusing:
                raise ConnectionRefusedError
            server_reader, server_writer = await asyncio.open_connection(self.host, self.to_port)
        except OSError:
            _Connection(writer, writer, drawn).end(reset=True)
            return
        self._writers.add(server_writer)
        connection = _Connection(writer, server_writer, drawn)
        self._open.add(connection)
        connection.tasks = [
            asyncio.create_task(self._pass(connection, "up", reader, server_writer)),
            asyncio.create_task(self._pass(connection, "down", server_reader, writer)),
        ]
        try:
            await asyncio.wait(connection.tasks)
        finally:
            connection.end(reset=False)
            self._open.discard(connection)
            await self._notify()

    async def _pass(
        self, connection: _Connection, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        drawn = random.Random(f"{connection.random.random()}/{direction}")
        left: int | None = None
        try:
            while True:
                if self._weather[direction].stall:
                    async with self._changed:
                        await self._changed.wait_for(lambda: not self._weather[direction].stall)
                data = await reader.read(READ_BYTES)
                weather = self._weather[direction]
                self.bytes[direction] += len(data)
                await self._notify()
                if weather.lifetime_bytes is None:
                    left = None
                elif left is None:
                    left = drawn.randint(*weather.lifetime_bytes)
                over = left is not None and len(data) >= left
                if over:
                    data = data[:left]
                if left is not None:
                    left -= len(data)
                if data and not weather.swallow:
                    await self._deliver(data, weather, drawn, writer)
                if over:
                    reset = weather.ending == "reset" or (weather.ending == "either" and drawn.random() < 0.5)
                    asyncio.get_running_loop().call_soon(functools.partial(connection.end, reset=reset))
                    return
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
        except OSError:
            # One end was reset: pass it on, or the other end would wait for ever.
            asyncio.get_running_loop().call_soon(functools.partial(connection.end, reset=True))

    async def _deliver(self, data: bytes, weather: Weather, drawn: random.Random, writer: asyncio.StreamWriter) -> None:
        for piece in _slices(data, weather.slice, drawn):
            if weather.delay_ms[1]:
                await asyncio.sleep(drawn.uniform(*weather.delay_ms) / 1000)  # the weather, not a wait
            writer.write(piece)
            await writer.drain()
            if weather.slice != "whole":
                # Give the other end its turn, so that it sees the pieces apart.
                await asyncio.sleep(0)


def _slices(data: bytes, how: str, drawn: random.Random) -> list[bytes]:
    if how == "whole" or len(data) < 2:
        return [data]
    if how == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted({0, len(data), *(drawn.randrange(len(data)) for _ in range(drawn.randint(1, 8)))})
    return [data[start:end] for start, end in itertools.pairwise(places)]


# The command line


async def _obey(proxy: Proxy, order: dict[str, Any]) -> dict[str, Any]:
    match order.pop("do"):
        case "set":
            await proxy.set(order.pop("direction", "both"), **order)
            return {}
        case "calm":
            await proxy.calm()
            return {}
        case "cut":
            return {"ended": await proxy.cut()}
        case "reset":
            return {"ended": await proxy.reset()}
        case "refuse":
            proxy.refuse(on=order.get("on", True))
            return {}
        case "aim":
            host, port = order["to"].rsplit(":", 1)
            proxy.aim(int(port), to_host=host)
            return {}
        case "stats":
            return {
                "accepted": proxy.accepted,
                "open": proxy.open_connections,
                "bytes_up": proxy.bytes["up"],
                "bytes_down": proxy.bytes["down"],
            }
        case "wait_accepted":
            await proxy.wait_accepted(order["count"], deadline_s=order.get("deadline_s", 30))
            return {"accepted": proxy.accepted}
        case other:
            raise ValueError(f"no such order: {other!r}")


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.proxy", description=__doc__.splitlines()[1])
    parser.add_argument("--listen", type=int, default=0, help="port of 127.0.0.1; 0 takes a free one")
    parser.add_argument("--to", required=True, help="host:port that connections go on to")
    parser.add_argument("--seed", type=int, default=1, help="the disorder is drawn from this")
    options = parser.parse_args()
    host, port = options.to.rsplit(":", 1)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with await Proxy.open(int(port), to_host=host, listen=options.listen, seed=options.seed) as proxy:
        print(json.dumps({"listening": proxy.port}), flush=True)
        while line := await orders.readline():
            try:
                order = json.loads(line)
                answer = {"done": order.get("do"), **await _obey(proxy, order)}
            except Exception as exc:
                answer = {"error": f"{type(exc).__name__}: {exc}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
