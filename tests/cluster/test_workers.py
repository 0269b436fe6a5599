"""`--workers`: several processes on one machine, one port."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from socket import create_server

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orbital_relay.config import Settings, load
from orbital_relay.server.edge.listening import Listeners
from orbital_relay.server.ops.supervisor import Workers
from orbital_relay.server.ops.worker_metrics import Siblings
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
    """[STARTUP5] Without Redis, or with SQLite, `--workers 2` is refused with a sentence."""
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
    """[STARTUP6] All workers accept connections, events reach the clients of each, and a killed worker is replaced."""
    assert len(_workers(many)) == 3
    ann = await Person.sign_up(many.url)
    group = await ann.make_group()
    # The kernel picks a worker by the address: with 24 connections, one of three is missed once in 5,000 runs.
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


Reported = dict[tuple[str, str], float]


async def _report(server: Server) -> Reported:
    """Return each worker's samples, summed over the other labels: `{(name, worker): value}`."""
    found: Reported = {}
    # A connection may reach a worker that is frozen: then another is tried.
    expires_s = 5
    async with asyncio.timeout(240):
        while True:
            try:
                async with httpx.AsyncClient(base_url=server.url, timeout=expires_s, trust_env=False) as http:
                    text = (await http.get("/metrics")).text
                break
            except httpx.TransportError:
                continue
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, sample.labels["worker"]
            found[key] = found.get(key, 0) + sample.value
    return found


async def _whole_report(server: Server, workers: set[str]) -> Reported:
    """Return the first report of all `workers`: one that took longer than a second to reply was left out before."""
    async with asyncio.timeout(240):
        while True:
            reported = await _report(server)
            if {worker for _, worker in reported} == workers:
                return reported


def _sum(reported: Reported, name: str) -> float:
    return sum(value for (each, _), value in reported.items() if each == name)


async def test_metrics_of_all_workers(serve, postgres_url: str, redis_server: Redis):
    """
    [METRICS1] Any worker that answers `/metrics` returns the metrics of all, each under the label `worker`.

    Each worker returned only its own, so that each scrape covered another part of the server.
    """
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}
    two: Server = await asyncio.to_thread(serve, env=env, args=["--workers", "2"])
    async with await Person.sign_up(two.url) as ann:
        group = await ann.make_group()
        sockets = [await ann.listen(group) for _ in range(12)]
        for _ in range(5):
            posted = await ann.say(group)
        for socket in sockets:
            await socket.until_seq(group, posted["seq"])

        # Each scrape is a separate connection and reaches a random worker.
        for _ in range(12):
            reported = await _whole_report(two, {"1", "2"})
            assert _sum(reported, "orbital_connections") == len(sockets)
            assert _sum(reported, "orbital_events_total") == 6
            assert _sum(reported, "orbital_deliveries_total") == 5 * len(sockets)
            assert _sum(reported, "orbital_append_batch_drafts_sum") == 6
            if psutil.LINUX:
                assert {("process_open_fds", "1"), ("process_open_fds", "2")} <= set(reported)

        # A stopped worker is left out, and is included again when it continues.
        first, second = _workers(two).values()
        first.suspend()
        reported = await _report(two)
        assert len({worker for _, worker in reported}) == 1
        first.resume()
        await _whole_report(two, {"1", "2"})

        # A replaced worker starts again from zero, under the same number.
        second.kill()
        await asyncio.to_thread(
            until, lambda: len(_workers(two)) == 2 and second.pid not in _workers(two), what="a new worker"
        )
        reported = await _whole_report(two, {"1", "2"})
        assert _sum(reported, "orbital_connections") < len(sockets)
        for socket in sockets:
            await socket.close()


async def test_workers_stop_with_their_parent(many: Server):
    """[STARTUP7] When the parent process is killed, the workers drain and exit."""
    workers = _workers(many)

    many.kill()

    await asyncio.to_thread(
        until, lambda: not any(one.is_running() for one in workers.values()), what="the workers' end", deadline_s=60
    )


def _sleep(_settings: Settings, started: Connection, _siblings: Siblings, *_more: object) -> None:
    started.send(True)
    time.sleep(600)  # what a worker does here, until it is ended


def test_a_stop_while_a_worker_starts(monkeypatch: pytest.MonkeyPatch):
    """
    [STARTUP8] A signal that arrives while a worker is being started stops that worker, too.

    The worker got no signal, and the supervisor waited for it until it killed all processes.
    """
    with create_server(("127.0.0.1", 0)) as listening:
        many = Workers(load({"workers": "2"}, {}), work=_sleep, listeners=Listeners([listening], []))
        start = SpawnProcess.start
        started = []

        def stopped_meanwhile(process: SpawnProcess) -> None:
            start(process)
            started.append(process)
            if len(started) == 2:
                many.stop()

        monkeypatch.setattr(SpawnProcess, "start", stopped_meanwhile)
        # Its signal handlers are replaced by the test's: it runs in a thread here.
        monkeypatch.setattr(signal, "signal", lambda *_: signal.SIG_DFL)
        running = threading.Thread(target=many.run, kwargs={"on_started": lambda _: None})
        running.start()
        running.join(30)
        ended = not running.is_alive()
        for process in started:
            process.kill()
        running.join(30)

    assert ended


def _boot(*_: object) -> None:
    time.sleep(600)  # a worker that has not begun to serve


def test_a_stop_before_workers_serve_is_orderly(monkeypatch: pytest.MonkeyPatch):
    """[STOP4] A worker that must stop before it serves has not failed: the status is 0."""
    statuses: list[int] = []
    with create_server(("127.0.0.1", 0)) as listening:
        many = Workers(load({"workers": "2"}, {}), work=_boot, listeners=Listeners([listening], []))
        start = SpawnProcess.start

        def stopped_soon(process: SpawnProcess) -> None:
            start(process)
            threading.Timer(0.2, many.stop).start()

        monkeypatch.setattr(SpawnProcess, "start", stopped_soon)
        # Its signal handlers are replaced by the test's: it runs in a thread here.
        monkeypatch.setattr(signal, "signal", lambda *_: signal.SIG_DFL)
        running = threading.Thread(target=lambda: statuses.append(many.run(on_started=lambda _: None)))
        running.start()
        running.join(30)

    assert statuses == [0]


def test_workers_that_cannot_start(serve, postgres_url: str, redis_server: Redis, postgres_cluster):
    """[STARTUP9] If workers cannot open their database, the server exits with a sentence and status 1."""
    env = {"DATABASE_URL": postgres_cluster.url("nowhere"), "REDIS_URL": redis_server.url}
    server = serve(env=env, args=["--workers", "2"], start=False)
    program = server.launch()

    assert program.wait(deadline_s=60) == 1
    assert 'database "nowhere" does not exist' in program.text
    with pytest.raises(Gone):
        program.wait_for("serving")


def test_workers_share_a_log_file(serve, postgres_url: str, redis_server: Redis, tmp_path: Path):
    """[LOGFILE4] Workers write to one log file; SIGHUP to the first process makes each of them open it again."""
    path = tmp_path / "orbital.log"
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, "ORBITAL_LOG_FILE": str(path)}
    server = serve(env={**env, "ORBITAL_LOG_FORMAT": "text"}, args=["--workers", "2"])
    path.rename(tmp_path / "orbital.log.1")
    server.program.signal(signal.SIGHUP)
    until(
        lambda: path.exists() and path.read_text("utf-8").count("the log file was opened again") == 3,
        what="three processes that opened the log file again",
    )
    server.program.signal(signal.SIGUSR1)
    until(lambda: path.read_text("utf-8").count("by_name") == 2, what="the tasks of two workers")

    assert server.close() == 0


def test_a_hangup_ends_no_worker(many: Server):
    """[STOP2] SIGHUP to the supervisor and to each worker ends no process, and no worker is replaced."""
    before = set(_workers(many))

    many.program.signal(signal.SIGHUP)
    for worker in _workers(many).values():
        worker.send_signal(signal.SIGHUP)
    many.program.wait_for("SIGHUP changes nothing: .* stops the workers")
    until(lambda: many.program.text.count("SIGTERM stops the server") == 3, what="a line of each worker")

    assert httpx.get(f"{many.url}/health/live").status_code == 200
    assert set(_workers(many)) == before


def test_a_hangup_while_a_worker_starts(many: Server):
    """[STOP2] SIGHUP to a worker that has just replaced another one does not end it either."""
    first = psutil.Process(many.pid)
    before = _workers(many)
    old = {child.pid for child in first.children(recursive=True)}
    next(iter(before.values())).kill()
    started: set[int] = set()

    def serves() -> bool:
        for child in first.children(recursive=True):
            if child.pid not in old:
                started.add(child.pid)
                with suppress(psutil.Error):
                    child.send_signal(signal.SIGHUP)
        # From here on it handles the signal itself.
        return "SIGTERM stops the server" in many.program.text

    until(serves, what="a new worker that notes SIGHUP", deadline_s=60)
    until(lambda: len(_workers(many)) == 3, what="three workers that listen", deadline_s=60)

    assert len(started) == 1
    assert started < set(_workers(many))
