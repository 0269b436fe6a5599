"""`--workers`: several processes on one machine, one port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.support.client import Person
from tests.support.process import Gone, until
from tests.support.redis import Redis
from tests.support.server import Server


@pytest.mark.parametrize(
    "env, sentence",
    [
        ({}, "there is no Redis"),
        ({"REDIS_URL": "redis://127.0.0.1:1"}, "the database is a file, which one process writes"),
    ],
)
def test_workers_need_a_cluster(tmp_path: Path, env: dict[str, str], sentence: str):
    """[RUN] Without Redis, or with SQLite, `--workers 2` is refused with a sentence."""
    program = Server(tmp_path, env=env, args=["--workers", "2"]).launch()

    assert program.wait() == 1
    assert sentence in program.text


def _sockets(process: psutil.Process, server: Server, status: str) -> int:
    """Return how many sockets of a server's port a process has in one state."""
    return sum(one.status == status and one.laddr.port == server.port for one in process.net_connections("tcp"))


def _workers(server: Server) -> dict[int, psutil.Process]:
    """Return the processes that serve: those that listen on the port."""
    found = {}
    for child in psutil.Process(server.pid).children(recursive=True):
        try:
            if _sockets(child, server, psutil.CONN_LISTEN):
                found[child.pid] = child
        except psutil.Error:
            continue
    return found


@pytest.fixture
def many(serve, postgres_url: str, redis_server: Redis) -> Server:
    """A server of three workers."""
    return serve(env={"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}, args=["--workers", "3"])


async def test_workers_share_the_port(many: Server):
    """[RUN] All workers take connections, events reach those at each, and a worker that is killed is replaced."""
    assert len(_workers(many)) == 3
    ann = await Person.sign_up(many.url)
    group = await ann.make_group()
    # Where a connection lands is drawn by its address: with 24, each of three is missed once in 5,000 runs.
    sockets = [await ann.listen(group) for _ in range(24)]
    before = _workers(many)
    held = {pid: _sockets(one, many, psutil.CONN_ESTABLISHED) for pid, one in before.items()}
    assert all(held.values()), held

    posted = await ann.say(group)
    for socket in sockets:
        await socket.until_seq(group, posted["seq"])

    victim = max(held, key=lambda pid: held[pid])
    before[victim].kill()
    await asyncio.to_thread(
        until, lambda: len(_workers(many)) == 3 and victim not in _workers(many), what="a new worker", deadline_s=60
    )
    again = await Person.sign_up(many.url)
    await ann.close()
    ann = Person(many.url, user_id=ann.user_id, username=ann.username, token=ann.token)
    posted = await ann.say(group)
    alive = 0
    for socket in sockets:
        try:
            await socket.until_seq(group, posted["seq"])
            alive += 1
        except AssertionError:
            assert await socket.until_closed() == 1006
        finally:
            await socket.close()
    assert 0 < alive < len(sockets)
    for one in (ann, again):
        await one.close()
    assert many.terminate() == 0
    assert not psutil.pid_exists(victim)


async def test_workers_end_with_their_parent(many: Server):
    """[RUN] When the process that started them is killed, the workers drain and end by themselves."""
    workers = _workers(many)

    many.kill()

    await asyncio.to_thread(
        until, lambda: not any(one.is_running() for one in workers.values()), what="the workers' end", deadline_s=30
    )


def test_workers_that_cannot_start(serve, postgres_url: str, redis_server: Redis, postgres_cluster):
    """[RUN] Workers that cannot open their database end the whole with a sentence and status 1."""
    env = {"DATABASE_URL": postgres_cluster.url("nowhere"), "REDIS_URL": redis_server.url}
    server = serve(env=env, args=["--workers", "2"], start=False)
    program = server.launch()

    assert program.wait(deadline_s=60) == 1
    assert 'database "nowhere" does not exist' in program.text
    with pytest.raises(Gone):
        program.wait_for("Orbital is serving")
