"""A token that is revoked at one server is invalid at all: Redis notifies them at once, the database in any case."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.cluster.conftest import Cluster
from tests.support.client import PASSWORD, Person
from tests.support.programs import CHECKOUT
from tests.support.redis import Redis
from tests.support.server import Server, with_constant

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

SELDOM = with_constant("orbital_relay.server.ops.intervals", "REVOCATION_CHECK_S", 3600.0)
"""A server that looks for revocations by itself once an hour: what it learns before came by the bus."""


@pytest.fixture
def seldom(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Callable[[str], list[Server]]]:
    """Start two servers that share a database and the Redis of a URL, and learn of revocations by Redis alone."""
    with ExitStack() as ending:

        def make(redis_url: str) -> list[Server]:
            env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_url}
            pair = [Server(tmp_path_factory.mktemp("data"), env=env, command=SELDOM) for _ in range(2)]
            for server in pair:
                ending.callback(server.close)
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(Server.start, pair))

        yield make


async def _status(server: Server, token: str) -> int:
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as http:
        return (await http.get("/api/groups")).status_code


def _revoke(username: str, *, by: str = "revoke", **env: str) -> str:
    """Run `orbital user revoke`, or another such command; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "orbital_relay", "user", by, username],
        env={**env, "PATH": "/usr/bin:/bin"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


async def _log_out_here_and_there(pair: list[Server]) -> None:
    """Log out at each server a user who is connected to the other."""
    for here, there in (pair, pair[::-1]):
        async with await Person.sign_up(here.url) as ann, await Person.sign_up(there.url) as bob:
            assert await _status(there, ann.token) == 200
            async with await ann.connect(there.url) as socket, await bob.connect(there.url) as other:
                await ann.ask("POST", "/api/logout")

                assert await socket.until_closed() == 1008
                assert await _status(there, ann.token) == 401
                # Other users' tokens stay valid.
                assert await _status(there, bob.token) == 200
                await other.subscribe()


async def test_a_logout_is_published(seldom: Callable[[str], list[Server]], redis_server: Redis):
    """[TOKENS1] After a logout at one server, the socket at another closes with 1008 and its next request is 401."""
    await _log_out_here_and_there(await asyncio.to_thread(seldom, redis_server.url))


async def test_a_logout_is_published_on_a_cluster(seldom: Callable[[str], list[Server]], redis_cluster: Cluster):
    """[TOKENS2] The same holds on a Redis Cluster, whichever of its nodes is configured."""
    await _log_out_here_and_there(await asyncio.to_thread(seldom, f"redis://127.0.0.1:{redis_cluster.ports[0]}"))


async def test_the_command_line_publishes(
    seldom: Callable[[str], list[Server]], redis_server: Redis, postgres_url: str, tmp_path
):
    """[TOKENS3] `orbital user revoke` with `REDIS_URL` closes the user's connections at every server at once."""
    pair = await asyncio.to_thread(seldom, redis_server.url)
    async with await Person.sign_up(pair[0].url) as ann:
        sockets = [await ann.connect(server.url) for server in pair]
        said = await asyncio.to_thread(
            _revoke,
            ann.username,
            DATABASE_URL=postgres_url,
            REDIS_URL=redis_server.url,
            ORBITAL_DATA_DIR=str(tmp_path),
        )

        assert "Redis" not in said
        for server, socket in zip(pair, sockets, strict=True):
            assert await socket.until_closed() == 1008
            assert await _status(server, ann.token) == 401


@pytest.mark.parametrize("by", ["an administrator", "the operator"])
async def test_a_disabled_account_is_out_at_every_server(
    seldom: Callable[[str], list[Server]], redis_server: Redis, postgres_url: str, tmp_path, by: str
):
    """[DISABLE1] Disabling an account at one server ends its sessions at every server at once, and refuses logins."""
    pair = await asyncio.to_thread(seldom, redis_server.url)
    async with (
        await Person.sign_up(pair[0].url) as ann,
        await Person.sign_up(pair[0].url) as bob,
        await ann.connect(pair[1].url) as own,
    ):
        sockets = [await bob.connect(server.url) for server in pair]
        if by == "an administrator":
            await ann.ask("POST", f"/api/admin/users/{bob.user_id}/disable", json={"reason": "lost phone"})
        else:
            env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, "ORBITAL_DATA_DIR": str(tmp_path)}
            await asyncio.to_thread(_revoke, bob.username, by="disable", **env)

        for server, socket in zip(pair, sockets, strict=True):
            assert await socket.until_closed() == 1008
            assert await _status(server, bob.token) == 401
            async with httpx.AsyncClient(base_url=server.url) as http:
                login = await http.post("/api/login", json={"username": bob.username, "password": PASSWORD})
            assert (login.status_code, login.json()["error"]) == (403, "ACCOUNT_DISABLED")
        # Other accounts stay.
        assert await _status(pair[1], ann.token) == 200
        await own.subscribe()


async def test_the_command_line_without_redis(
    cluster_of: Callable[..., list[Server]], redis_server: Redis, postgres_url: str, tmp_path
):
    """[TOKENS4] Without Redis the command revokes all the same, and says that servers notice at their next poll."""
    pair = await asyncio.to_thread(cluster_of, 2)
    async with await Person.sign_up(pair[0].url) as ann:
        sockets = [await ann.connect(server.url) for server in pair]
        redis_server.kill()
        said = await asyncio.to_thread(
            _revoke,
            ann.username,
            DATABASE_URL=postgres_url,
            REDIS_URL=redis_server.url,
            ORBITAL_DATA_DIR=str(tmp_path),
        )

        assert "Redis" in said
        for server, socket in zip(pair, sockets, strict=True):
            assert await socket.until_closed() == 1008
            assert await _status(server, ann.token) == 401


async def test_redis_is_unreachable(cluster_of: Callable[..., list[Server]], redis_server: Redis):
    """[TOKENS5] A lost notification over Redis does no harm: the other server finds the revocation in the database."""
    pair = await asyncio.to_thread(cluster_of, 2)
    redis_server.kill()

    await _log_out_here_and_there(pair)


async def test_redis_is_reachable_again(seldom: Callable[[str], list[Server]], redis_server: Redis):
    """[TOKENS6] A server that missed bus messages reads the database as soon as the bus is connected again."""
    pair = await asyncio.to_thread(seldom, redis_server.url)
    async with await Person.sign_up(pair[0].url) as ann, await ann.connect(pair[1].url) as socket:
        redis_server.kill()
        await ann.ask("POST", "/api/logout")
        redis_server.start()

        assert await socket.until_closed() == 1008


async def test_no_token_on_the_bus(cluster_of: Callable[..., list[Server]], redis_server: Redis):
    """[P5] A revocation message on Redis names neither a token nor a user."""
    pair = await asyncio.to_thread(cluster_of, 2)
    reader, writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
    writer.write(b"SUBSCRIBE orbital:revoked\r\nPING\r\n")
    async with asyncio.timeout(60):
        # The answer to PING is its last: "pong" and an empty string.
        await reader.readuntil(b"pong\r\n$0\r\n\r\n")
        async with await Person.sign_up(pair[0].url) as ann:
            await ann.ask("POST", "/api/logout")
            lines = [await reader.readline() for _ in range(6)]
            assert lines[:5] == [b"*3\r\n", b"$7\r\n", b"message\r\n", b"$15\r\n", b"orbital:revoked\r\n"]
            assert lines[5] == b"$8\r\n", "the number of the server that wrote it, and no more"
    writer.close()
    await writer.wait_closed()
