"""A response that is ready before the request's body: the body is read first, within bounds of size and time."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from orbital_relay.server.edge import linger
from orbital_relay.server.edge.budget import of_descriptors
from orbital_relay.server.edge.http_protocol import HttpConnection
from orbital_relay.server.edge.request_cycle import BODY_BYTES
from tests.support.edge import Client, Edge, running_edge
from tests.support.process import until
from tests.support.server import Server

MIB = 1024 * 1024
CHUNK = 5 * MIB


def _head(size: int, path: str = "/nothing", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {size}\r\n\r\n".encode()


def _is_answered(client: Client) -> bool:
    return bool(select.select([client.socket], [], [], 0)[0])


def _read(server: Server) -> None:
    """Return once the server has read what was sent before on other connections."""
    assert httpx.get(f"{server.url}/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/api/groups", "/v1/messages", "/api/media/upload"])
def test_a_refusal_waits_for_the_body(shared_server: Server, path: str):
    """
    [EARLY1] A refusal of a request with a bounded body is sent after the body is read, and the connection is kept.

    Caddy forwards an early response and resets the connection while its client still sends: the client lost a 401.
    """
    with Client(shared_server.port) as client:
        client.send(_head(CHUNK, path) + b"x" * (CHUNK - 1))
        _read(shared_server)

        assert not _is_answered(client)
        client.send(b"x")
        status, headers, _ = client.answer()
        assert (status, headers.get("connection")) == (404 if path == "/nothing" else 401, None)
        client.ask(target="/health/live")
        assert client.answer()[0] == 200


def test_a_refusal_waits_for_a_body_in_pieces(shared_server: Server):
    """[EARLY1] A chunked body is read before its refusal is sent, like one with a length."""
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with Client(shared_server.port) as client:
        client.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + piece * 80)
        _read(shared_server)

        assert not _is_answered(client)
        client.send(b"0\r\n\r\n")
        assert client.answer()[0] == 404
        client.ask(target="/health/live")
        assert client.answer()[0] == 200


def test_a_body_over_the_bound(shared_server: Server):
    """[EARLY2] A body over 8 MiB is refused at once by its length, or after 8 MiB of chunks, and the socket closed."""
    with Client(shared_server.port) as client:
        client.send(_head(BODY_BYTES + 1))
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (404, "close")
    with Client(shared_server.port) as client:
        client.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(BODY_BYTES // 65_536 + 2):
            client.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (404, "close")


@contextmanager
def _refusing(monkeypatch: pytest.MonkeyPatch, *, proxies: bool = False, closes: bool = False) -> Iterator[Edge]:
    """Run an edge whose application refuses all; its peers are trusted proxies, or none is."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0"), *([(b"connection", b"close")] if closes else [])]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(HttpConnection, "budget", of_descriptors(1024, exempt=lambda _: proxies))
    with running_edge(application=refuse) as edge:
        yield edge


def test_a_stalled_client(monkeypatch: pytest.MonkeyPatch):
    """[EARLY3] A client that stalls within a refused body gets the response and is cut after the linger time."""
    monkeypatch.setattr(linger, "LINGER_IDLE_S", 0.1)
    with _refusing(monkeypatch) as edge, edge.connect() as client:
        client.send(_head(CHUNK) + b"x" * 1000)

        status, headers, _ = client.answer()

        assert (status, headers["connection"]) == (401, "close")
        until(lambda: edge.call(lambda: not edge.server.server_state.connections), what="the connection is gone")


def test_a_slow_client(monkeypatch: pytest.MonkeyPatch):
    """[EARLY3] A client that sends a refused body byte by byte is held no longer than the linger time."""
    monkeypatch.setattr(linger, "LINGER_S", 1.0)
    monkeypatch.setattr(linger, "LINGER_IDLE_S", 0.4)
    with _refusing(monkeypatch) as edge, edge.connect() as client:
        client.send(_head(CHUNK))
        sent = 0
        while not _is_answered(client):
            client.send(b"x")
            sent += 1
            # Twenty are sent in the linger time; without it all of the body would be.
            assert sent < 2_000
            select.select([client.socket], [], [], 0.05)

        assert client.answer()[0] == 401
        until(lambda: edge.call(lambda: not edge.server.server_state.connections), what="the connection is gone")


def test_a_slow_client_of_a_proxy(monkeypatch: pytest.MonkeyPatch):
    """[EARLY4] Behind a trusted proxy a refused body has the deadline of an accepted one, not the linger time."""
    monkeypatch.setattr(linger, "LINGER_S", 0.1)
    monkeypatch.setattr(linger, "LINGER_IDLE_S", 0.05)
    with _refusing(monkeypatch, proxies=True) as edge, edge.connect() as client:
        client.send(_head(CHUNK))
        for _ in range(4):
            client.send(b"x" * MIB)
            # A direct client would have got its response by then.
            assert not select.select([client.socket], [], [], 0.1)[0]
        client.send(b"x" * MIB)

        status, headers, _ = client.answer()
        assert (status, headers.get("connection")) == (401, None)


def test_a_shutdown_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    """[EARLY5] A shutdown sends the refusals that are waiting for request bodies."""
    with _refusing(monkeypatch, proxies=True) as edge, edge.connect() as client:
        client.send(_head(CHUNK) + b"x" * 100_000)
        until(lambda: edge.call(lambda: bool(edge.server.server_state.tasks)), what="the request is in progress")
        edge.server.should_exit = True

        status, headers, _ = client.answer()

        assert (status, headers["connection"]) == (401, "close")


def test_a_response_that_closes_waits_for_nothing(monkeypatch: pytest.MonkeyPatch):
    """[EARLY6] A response with its own `Connection: close`, such as that to a late body, is sent at once."""
    with _refusing(monkeypatch, proxies=True, closes=True) as edge, edge.connect() as client:
        client.send(_head(CHUNK))

        assert client.answer()[0] == 401


def test_memory_of_refused_bodies(serve: Callable[..., Server]):
    """[EARLY7] Refused bodies are discarded as they arrive: forty of 5 MiB at once take less than 16 MiB together."""
    server = serve()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(40)]
        for client in clients[:2]:
            client.send(_head(CHUNK) + b"x" * (CHUNK - 1))
        _read(server)
        before = server.rss_bytes
        for client in clients[2:]:
            client.send(_head(CHUNK) + b"x" * (CHUNK - 1))
        _read(server)

        assert server.rss_bytes - before < 16 * MIB
        for client in clients:
            client.send(b"x")
            assert client.answer()[0] == 404
