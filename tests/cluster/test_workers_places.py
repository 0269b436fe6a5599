"""Where several workers serve: with TLS, on one Unix socket, and under systemd's watchdog."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.test_systemd import Manager, activated, free_ports
from tests.support.authority import Authority, serial_of
from tests.support.process import until
from tests.support.redis import Redis
from tests.support.server import Server


@pytest.fixture
def cluster(postgres_url: str, redis_server: Redis) -> dict[str, str]:
    """The settings of two workers."""
    return {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, "ORBITAL_WORKERS": "2"}


def test_workers_with_tls(serve: Callable[..., Server], cluster: dict[str, str], tmp_path: Path):
    """[HTTPS12] Every worker speaks TLS, redirects, and shows the renewed certificate after SIGHUP to the first."""
    authority = Authority(tmp_path)
    cert = tmp_path / "both.pem"
    before = authority.issue(cert, cert, "127.0.0.1")
    env = {**cluster, "ORBITAL_TLS_CERT": str(cert), "ORBITAL_REDIRECT_PORT": str(free_ports(1)[0])}
    server = serve(env=env, start=False)
    server.port = int(server.launch().wait_for(r'"serving".*https://localhost:(\d+)')[1])
    trust = authority.trust

    def shown() -> set[int]:
        # The kernel picks a worker by the address: with 24 connections one of two is missed once in 8 million runs.
        return {serial_of("127.0.0.1", server.port, trust) for _ in range(24)}

    first = shown()
    led = httpx.get(f"http://127.0.0.1:{env['ORBITAL_REDIRECT_PORT']}/docs")
    after = authority.issue(cert, cert, "127.0.0.1")
    server.program.signal(signal.SIGHUP)
    until(lambda: server.program.text.count("certificate read") == 2, what="both workers read the certificate")

    assert first == {before}
    assert led.headers["location"] == f"https://127.0.0.1:{server.port}/docs"
    assert shown() == {after}


def test_workers_on_a_unix_socket(serve: Callable[..., Server], cluster: dict[str, str], tmp_path: Path):
    """[UDS7] Several workers accept from one Unix socket; it stays when one is replaced, and is removed at shutdown."""
    path = tmp_path / "orbital.sock"
    server = serve(env={**cluster, "ORBITAL_UDS": str(path)}, start=False)
    server.launch().wait_for('"serving".*unix:')
    workers = [one for one in psutil.Process(server.pid).children() if "spawn_main" in " ".join(one.cmdline())]

    def ready() -> bool:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
            return http.get("http://orbital/health/ready").status_code == 200

    before = ready()
    workers[0].kill()
    server.program.wait_for("a worker died and is replaced")
    after = ready()

    assert len(workers) == 2
    assert before
    assert after
    assert server.terminate() == 0
    assert not path.exists()


def test_workers_at_systemd_s_sockets(cluster: dict[str, str], tmp_path: Path):
    """[SYSTEMD10] Several workers accept from the sockets that systemd opened."""
    (port,) = free_ports(1)
    program = activated([(int(socket.AF_INET), ("127.0.0.1", port))], "", tmp_path, **cluster)
    program.wait_for(f'"serving".*http://localhost:{port}')
    first = psutil.Process(program.pid)

    assert len([one for one in first.children() if "spawn_main" in " ".join(one.cmdline())]) == 2
    assert all(httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200 for _ in range(8))
    assert program.terminate() == 0


def test_the_watchdog_of_workers(serve: Callable[..., Server], cluster: dict[str, str], tmp_path: Path):
    """[SYSTEMD11] The watchdog is served while every worker is alive, and not while one of them is stuck."""
    manager = Manager(str(tmp_path / "notify"))
    env = {**cluster, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1500000"}
    server = serve(env=env, start=False)
    server.launch()
    ready = manager.next()
    beats = [manager.any() for _ in range(6)]
    worker = next(one for one in psutil.Process(server.pid).children() if "spawn_main" in " ".join(one.cmdline()))
    worker.suspend()
    until(lambda: manager.silent(2), what="no sign of life")
    worker.resume()
    again = manager.any()
    manager.close()

    assert ready["READY"] == "1"
    assert beats == [{"WATCHDOG": "1"}] * 6
    assert again == {"WATCHDOG": "1"}
