"""Several servers on one PostgreSQL and one Redis."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import Program, eventually
from tests.support.programs import find, free_port, missing
from tests.support.redis import Redis
from tests.support.server import SERVE, Server


@pytest.fixture
def cluster_of(serve: Any, postgres_url: str, redis_server: Redis) -> Iterator[Callable[..., list[Server]]]:
    """Start servers that share a database and a Redis; `env` and `command` are for all of them."""

    def make(count: int, *, command: Sequence[str] = SERVE, **env: str) -> list[Server]:
        shared = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, **env}
        servers = [serve(env=shared, start=False, command=command) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(Server.start, servers))

    return make


class Cluster:
    """Two masters that share the slots; needs Redis 7 or later."""

    def __init__(self, folder: Path) -> None:
        binary = find("redis-server", "valkey-server", also=("/usr/bin/redis-server",))
        found = "" if binary is None else subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
        version = found.partition("v=")[2].partition(".")[0]
        if binary is None or not version.isdigit() or int(version) < 7:
            missing("Redis 7 or later", remedy="apt-get install redis-server")
        self.ports = [free_port(), free_port()]
        self.programs = []
        for port in self.ports:
            place = folder / str(port)
            place.mkdir()
            self.programs.append(
                Program(
                    [
                        *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""),
                        *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    ]
                )
            )
        for program in self.programs:
            program.wait_for("[Rr]eady to accept connections")

    def close(self) -> None:
        """End both."""
        for program in self.programs:
            program.kill()

    async def whole(self) -> bool:
        """Return whether each master knows the other, and all slots are served."""
        reported = [await ask(port, "CLUSTER", "INFO") for port in self.ports]
        return all(b"cluster_state:ok" in info and b"cluster_known_nodes:2" in info for info in reported)


async def ask(port: int, *command: str) -> bytes:
    """Ask a Redis something whose answer is one line or one string."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((" ".join(command) + "\r\n").encode())
    head = await asyncio.wait_for(reader.readline(), 60)
    body = await reader.readexactly(int(head[1:]) + 2) if head.startswith(b"$") else head
    writer.close()
    await writer.wait_closed()
    return body.strip()


@pytest.fixture
async def redis_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A Redis Cluster of two masters."""
    made = Cluster(tmp_path)
    try:
        one, two = made.ports
        assert await ask(one, "CLUSTER", "ADDSLOTSRANGE", "0", "8191") == b"+OK"
        assert await ask(two, "CLUSTER", "ADDSLOTSRANGE", "8192", "16383") == b"+OK"
        nodes = (await ask(two, "CLUSTER", "NODES")).decode()
        bus_port = nodes.partition("@")[2].partition(" ")[0]
        assert await ask(one, "CLUSTER", "MEET", "127.0.0.1", str(two), bus_port) == b"+OK"
        await eventually(made.whole, what="both masters know each other")
        yield made
    finally:
        made.close()
