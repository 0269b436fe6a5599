"""How a server starts and stops: both address families of localhost, SIGHUP, and one deadline for a shutdown."""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from orbital_relay.config import Settings
from orbital_relay.server.edge.listening import listen
from tests.support.edge import Client
from tests.support.process import until
from tests.support.programs import missing
from tests.support.server import Server


def test_a_name_of_two_addresses(monkeypatch: pytest.MonkeyPatch):
    """[STOP1] A host name with several addresses is bound at each address of this machine, all on one port."""
    places = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: places)

    with ExitStack() as held:
        made = [held.enter_context(one) for one in listen(Settings(jwt_secret="x" * 32, host="relay.test", port=0))]
        names = [one.getsockname()[:2] for one in made]

    assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in names}) == 1


def _loopback6() -> None:
    """Skip the test where this machine has no ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        if Path("/proc/sys/net/ipv6").exists():
            missing("the address ::1", remedy="sysctl -w net.ipv6.conf.lo.disable_ipv6=0; ip link set lo up")
        pytest.skip("the address ::1 is missing; this system has no IPv6")


@pytest.mark.parametrize("name", ["localhost", "LocalHost"])
def test_localhost(serve: Callable[..., Server], name: str):
    """[STOP5] `--host localhost` serves 127.0.0.1 and ::1, whatever the hosts file contains (RFC 6761 §6.3)."""
    _loopback6()
    server = serve(args=("--host", name))

    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert httpx.get(f"http://{host}:{server.port}/health/live").status_code == 200, host
    with Client(server.port, host="::1") as client:
        client.ask_upgrade()
        assert client.answer()[0] == 401


def test_localhost_without_ipv6(monkeypatch: pytest.MonkeyPatch):
    """[STOP6] On a machine without ::1, or without IPv6, `localhost` is served at 127.0.0.1."""
    plain = socket.socket
    for refusal in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):

        def only_ipv4(family: int = -1, *rest: Any, refusal: int = refusal, **options: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(refusal, "no IPv6")
            return plain(family, *rest, **options)

        with monkeypatch.context() as patch, ExitStack() as held:
            patch.setattr(socket, "socket", only_ipv4)
            made = [held.enter_context(one) for one in listen(Settings(jwt_secret="x" * 32, host="localhost", port=0))]
            assert [one.getsockname()[0] for one in made] == ["127.0.0.1"]


def test_a_hangup_closes_no_connection(serve: Callable[..., Server]):
    """[STOP2] SIGHUP is logged and changes nothing."""
    server = serve()
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/health/live").status_code == 200
        server.program.signal(signal.SIGHUP)
        server.program.wait_for("SIGHUP changes nothing")

        assert http.get("/health/live").status_code == 200


def test_a_hangup_during_the_start(tmp_path: Path):
    """[STOP2] SIGHUP during startup does not end the server: it starts, and later stops in order."""
    server = Server(tmp_path)
    program = server.launch()
    mask = Path(f"/proc/{program.pid}/status")

    def _has(line: str) -> bool:
        return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)

    def guarded() -> bool:
        lines = mask.read_text().splitlines()
        return any(_has(one) for one in lines if one.startswith(("SigIgn", "SigCgt")))

    # The interpreter itself takes a moment until the first line of ours runs.
    until(guarded, what="a process that does not end by SIGHUP")
    early = "serving" not in program.text
    for _ in range(200):
        program.signal(signal.SIGHUP)
    server.wait_ready()

    assert early
    assert server.close() == 0


def test_one_deadline_for_a_stop(serve: Callable[..., Server]):
    """
    [STOP3] A shutdown takes at most ORBITAL_DRAIN_SECONDS in all, whatever requests are unfinished.

    The application waited that long for an unfinished body, and then the HTTP server waited as long again.
    """
    server = serve(env={"ORBITAL_DRAIN_SECONDS": "20"})
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=60)) as line:
        line.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        httpx.get(f"{server.url}/health/live")
        began = time.monotonic()

        assert server.terminate() == 0
        took_s = time.monotonic() - began

    # Twice as long would be 40 s; the interpreter's own end is not the drain's, and may take long on a busy machine.
    assert took_s < 35
