"""How a server starts and stops: both families of localhost, SIGHUP, and one deadline for a stop."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from orbital_relay.config import Settings
from orbital_relay.server.serve import listen
from tests.support.process import until
from tests.support.server import Server


def test_a_name_of_two_addresses(monkeypatch: pytest.MonkeyPatch):
    """[STOP1] A host's name is listened at by each address that this machine has, all at one port."""
    places = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: places)

    with ExitStack() as held:
        made = [held.enter_context(one) for one in listen(Settings(jwt_secret="x" * 32, host="localhost", port=0))]
        names = [one.getsockname()[:2] for one in made]

    assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in names}) == 1


def test_localhost(serve: Callable[..., Server]):
    """[STOP1] `--host localhost` serves each address that the name has here."""
    server = serve(args=("--host", "localhost"))
    hosts = {found[4][0] for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}

    for host in hosts:
        shown = f"[{host}]" if ":" in str(host) else host
        assert httpx.get(f"http://{shown}:{server.port}/health/live").status_code == 200, host


def test_a_hangup_cuts_nobody(serve: Callable[..., Server]):
    """[STOP2] SIGHUP is noted in the log and changes nothing."""
    server = serve()
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/health/live").status_code == 200
        server.program.signal(signal.SIGHUP)
        server.program.wait_for("SIGHUP changes nothing")

        assert http.get("/health/live").status_code == 200


def test_a_hangup_during_the_start(tmp_path: Path):
    """[STOP2] SIGHUP during the start ends nothing: the server comes up, and stops in order."""
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
    early = "Orbital is serving" not in program.text
    for _ in range(200):
        program.signal(signal.SIGHUP)
    server.wait_ready()

    assert early
    assert server.close() == 0


def test_one_deadline_for_a_stop(serve: Callable[..., Server]):
    """
    [STOP3] A stop takes at most ORBITAL_DRAIN_SECONDS in all, whatever a stranger leaves unfinished.

    The application waited that long for an unfinished body, and then the HTTP server as long again.
    """
    server = serve(env={"ORBITAL_DRAIN_SECONDS": "4"})
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as line:
        line.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        httpx.get(f"{server.url}/health/live")
        began = time.monotonic()

        assert server.terminate() == 0
        took_s = time.monotonic() - began

    # The interpreter's own start and end are not the drain's.
    assert took_s < 4 + 2
