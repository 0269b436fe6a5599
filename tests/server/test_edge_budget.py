"""One client that holds many connections: new clients are served all the same."""

from __future__ import annotations

import random
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tests.support.server import Server
from tests.support.tokens import token

_PIECES = (
    b"",
    b"GET / HT",
    b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{",
)


def test_new_clients_while_another_holds_connections(tmp_path: Path, seed: int):
    """
    [ROOM1] With 256 descriptors and one client that opens more connections than that, every new client is served.

    At six connections a second no other client was served for two minutes: idle and slow connections had no bound.
    """
    drawn = random.Random(seed)
    limited = ("sh", "-c", 'ulimit -n 256 && exec "$0" "$@"', sys.executable, "-m", "orbital_relay", "serve")
    server = Server(tmp_path, command=limited).start()
    served = []
    try:
        with ExitStack() as held:
            for number in range(600):
                line = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
                with suppress(OSError):
                    line.sendall(drawn.choice(_PIECES))
                if number % 20 == 0:
                    served.append(httpx.get(f"{server.url}/health/live", timeout=60).status_code)
    finally:
        assert server.close() == 0

    assert served == [200] * 30
    assert not server.complaints()
    assert sum("too few file descriptors" in line for line in server.log) <= 1


def test_nobody_can_make_room(tmp_path: Path):
    """
    [ROOM3] With 33 connections allowed, all of them WebSockets, a new client gets 503 with our error body.

    WebSockets are never closed for others. Exactly one warning is logged, however many clients come.
    """
    limited = ("sh", "-c", 'ulimit -n 100 && exec "$0" "$@"', sys.executable, "-m", "orbital_relay", "serve")
    server = Server(tmp_path, command=limited).start()
    try:
        with ExitStack() as held:
            for number in range(33):
                headers = {"Authorization": f"Bearer {token(f'user-{number}')}"}
                held.enter_context(connect(server.ws_url, additional_headers=headers))
            answers = [httpx.get(f"{server.url}/health/live", timeout=60) for _ in range(5)]
        server.program.wait_for("too few file descriptors")
    finally:
        assert server.close() == 0

    assert [answer.status_code for answer in answers] == [503] * 5
    assert answers[0].json()["error"] == "UNAVAILABLE"
    assert sum("too few file descriptors" in line for line in server.log) == 1
