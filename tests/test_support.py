"""What the other tests stand on is itself tried: the launched programs, the proxy, the tokens."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.conftest import REQUEST_S
from tests.support import published
from tests.support.client import link, opaque
from tests.support.fork_server import fork_server
from tests.support.locks import lasting_locks
from tests.support.postgres import Postgres
from tests.support.process import Gone, Program, until
from tests.support.programs import CHECKOUT
from tests.support.proxy import Proxy
from tests.support.redis import Redis
from tests.support.server import Server
from tests.support.tokens import sign


def test_program_lines_and_end():
    """[SUPPORT1] A program's output lines are kept, its status is reported, and a wait ends with the program."""
    program = Program([sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"])

    assert program.wait_for("t(w)o")[1] == "w"
    with pytest.raises(Gone, match="ended without"):
        program.wait_for("three")
    assert program.wait() == 3
    assert program.lines == ["one", "two"]


def test_program_killed():
    """[SUPPORT2] A killed program has ended when `kill` returns, frozen or not."""
    program = Program([sys.executable, "-c", "print('up', flush=True); input()"], stdin=True)
    program.wait_for("up")

    program.freeze()
    program.kill()

    assert not program.alive


def test_a_program_that_ends_by_itself():
    """[ENDED1] A program that ended without a signal from its test, or a wait for its end, is known to have."""
    one, other = (Program([sys.executable, "-c", "input()"], stdin=True) for _ in range(2))

    one.end_input()
    until(lambda: not one.alive, what="the program's end")
    other.kill()

    assert (one.ended_by_itself, other.ended_by_itself) == (True, False)
    assert one.wait() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the locks of a process are read in /proc")
def test_lost_locks_are_seen(tmp_path: Path):
    """[ENDED2] A process that opened and closed a file of its SQLite database is seen to have lost its lock on it."""
    path = tmp_path / "one.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        held = lasting_locks(path)
        (tmp_path / "one.db-shm").read_bytes()
        left = lasting_locks(path)

    assert (held, left) == ({"one.db", "one.db-shm"}, {"one.db"})


def test_postgres_survives_a_crash(own_postgres: Postgres):
    """[SUPPORT3] A database survives a crash of its PostgreSQL."""
    url = own_postgres.create_database()
    name = url.rsplit("/", 1)[1]
    own_postgres.execute("CREATE TABLE t AS SELECT 7 AS n", database=name)

    own_postgres.restart(kill=True)

    assert own_postgres.execute("SELECT n FROM t", database=name) == [{"n": 7}]


async def _resp(redis: Redis, command: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    writer.write(command + b"\r\n")
    answer = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_redis_restarts_empty(redis_server: Redis):
    """[SUPPORT4] A restarted Redis has the same port and is empty."""
    assert await _resp(redis_server, b"SET k v") == b"+OK\r\n"

    redis_server.restart()

    assert await _resp(redis_server, b"GET k") == b"$-1\r\n"


# The proxy


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("how", ["whole", "some", "bytes"])
async def test_proxy_changes_nothing_by_slicing(echo: int, how: str, seed: int):
    """[SUPPORT5] However a stream is sliced and delayed, its bytes arrive complete and in order."""
    sent = os.urandom(3_000)
    async with await Proxy.open(echo, seed=seed) as proxy:
        await proxy.set(slice=how, delay_ms=[0, 0.1])
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(sent)

        assert await asyncio.wait_for(reader.readexactly(len(sent)), 60) == sent
        writer.close()
        await writer.wait_closed()


async def test_proxy_cut_and_reset_differ(echo: int):
    """[SUPPORT6] The client sees a cut as an end of file, and a reset as an error."""
    async with await Proxy.open(echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        await reader.readexactly(1)
        assert await proxy.cut() == 1
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        await reader.readexactly(1)
        assert await proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 60)
        writer.close()


async def test_proxy_lifetime_follows_the_seed(echo: int):
    """[SUPPORT7] The same seed ends a connection at the same byte."""
    ends = []
    for _ in range(2):
        async with await Proxy.open(echo, seed=7) as proxy:
            await proxy.set("down", lifetime_bytes=(10, 1_000), ending="cut")
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(bytes(2_000))
            ends.append(len(await asyncio.wait_for(reader.read(), 60)))
            writer.close()

    assert ends[0] == ends[1]
    assert 10 <= ends[0] <= 1_000


async def test_proxy_by_command(echo: int):
    """[SUPPORT8] The proxy executes JSON lines, so that Node and Python can drive it, and reports unknown commands."""
    command = [sys.executable, "-m", "tests.support.proxy", "--to", f"127.0.0.1:{echo}"]
    program = Program(command, stdin=True, cwd=CHECKOUT)
    port = int((await asyncio.to_thread(program.wait_for, r'"listening": (\d+)'))[1])

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    await reader.readexactly(1)
    for order in ({"do": "set", "slice": "bytes"}, {"do": "set", "rain": 1}, {"do": "stats"}, {"do": "cut"}):
        program.say(json.dumps(order))
    await asyncio.to_thread(program.wait_for, '"done": "cut", "ended": 1')
    writer.close()
    program.terminate()

    answers = [json.loads(line) for line in program.lines[1:5]]
    assert answers[0] == {"done": "set"}
    assert answers[1] == {"error": "ValueError: no such weather: rain"}
    assert answers[2] == {"done": "stats", "accepted": 1, "open": 1, "bytes_up": 1, "bytes_down": 1}


# Helpers


def test_link_and_opaque():
    """[SUPPORT9] The hash and the base64 conform to the standards: SHA-256 of "abc" (FIPS 180-2, appendix B.1)."""
    assert link("abc") == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"
    assert opaque("hi") == "aGk="


def test_sign_is_rfc_7515s():
    """[SUPPORT10] A signature conforms to RFC 7515, appendix A.1, and the server's own library verifies it."""
    jwt = pytest.importorskip("jwt")
    made = sign({"userId": "u", "exp": 4_000_000_000}, secret="k" * 32)

    assert jwt.decode(made, "k" * 32, algorithms=["HS256"]) == {"userId": "u", "exp": 4_000_000_000}


def test_published_class_is_complete():
    """[SUPPORT11] The code extracted from the published document is exactly the one class, to its last brace."""
    text = published.client_class()

    assert text.startswith("class OrbitalWebSocketManager {")
    assert text.endswith("\n}")
    assert text.count("{") == text.count("}")


def test_the_default_deadline_of_a_request():
    """[STEADY4] A request of httpx that names no timeout has a deadline for a busy machine, not the library's 5 s."""
    with httpx.Client() as client:
        assert client.timeout == httpx.Timeout(REQUEST_S)


# Servers that are forked


@pytest.mark.skipif(fork_server() is None, reason="the system has no `pidfd_open`")
def test_a_forked_server(tmp_path: Path):
    """[FORKED1] A server that is forked has its own settings, output, session and exit status, and may be killed."""
    one, other = (Server(tmp_path / name).start() for name in ("one", "other"))

    assert "fork_server" in Path(f"/proc/{one.pid}/cmdline").read_text()
    assert os.getsid(one.pid) == one.pid
    assert (one.data_dir / "orbital.db").exists()
    assert f":{one.port}" in one.program.text
    assert f":{one.port}" not in other.program.text
    one.kill()
    assert (one.program.wait(), one.program.alive) == (-9, False)
    assert one.restart().close() == 0
    assert other.close() == 0


@pytest.mark.skipif(fork_server() is None, reason="the system has no `pidfd_open`")
def test_a_server_that_is_not_forked(tmp_path: Path):
    """[FORKED2] A server with a variable that only a new interpreter or library reads is started, not forked."""
    server = Server(tmp_path, env={"TZ": "Asia/Tokyo"}).start()

    assert "fork_server" not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert server.close() == 0


@pytest.mark.skipif(fork_server() is None, reason="the system has no `pidfd_open`")
def test_a_forked_server_that_refuses(tmp_path: Path):
    """[FORKED3] A forked server that refuses its settings ends with the status and the words of one that is started."""
    forked, started = (
        Server(tmp_path, env={"ORBITAL_DRAIN_SECONDS": "never", **more}).launch() for more in ({}, {"TZ": "UTC"})
    )

    assert forked.wait() == started.wait() == 1
    assert forked.lines == started.lines
    assert "ORBITAL_DRAIN_SECONDS" in forked.text
