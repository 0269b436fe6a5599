"""HTTP on a real connection: behaviour that only a socket shows."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn

from orbital_relay.server.edge import http_protocol, stall_watch
from orbital_relay.server.edge.http_protocol import HttpConnection
from orbital_relay.server.http.application import respond
from orbital_relay.server.http.endpoint import Reply
from tests.server.api import opaque
from tests.support import tokens
from tests.support.server import Server

_LIMIT = 2 * (262_144 * 4 // 3 + 4) + 64 * 1024


class _Line:
    """A TCP connection on which requests are written by hand."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._left = b""

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def answer(self, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Read one answer, by its length."""
        while b"\r\n\r\n" not in self._left:
            self._read()
        start, _, self._left = self._left.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head else int(headers.get("content-length", "0"))
        while len(self._left) < length:
            self._read()
        body, self._left = self._left[:length], self._left[length:]
        return int(first.split()[1]), headers, body

    def _read(self) -> None:
        piece = self.socket.recv(65_536)
        assert piece, f"the line was closed after {self._left!r}"
        self._left += piece


@contextmanager
def _line(server: Server) -> Iterator[_Line]:
    line = _Line(server)
    with line.socket:
        yield line


def _head(method: str, path: str, *headers: str, user: str | None = "ada") -> bytes:
    bearer = [] if user is None else [f"Authorization: Bearer {tokens.token(user, user)}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: orbital.test", *bearer, *headers, "", ""]).encode()


def _group(server: Server) -> str:
    answer = httpx.post(
        f"{server.url}/api/groups",
        json={"encrypted_name": opaque(), "encrypted_group_key": opaque()},
        headers={"Authorization": f"Bearer {tokens.token('ada', 'ada')}"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["group_id"])


def _message(group: str) -> bytes:
    return json.dumps({"conversation_id": group, "encrypted_envelope": "AAAA", "timestamp": 0}).encode()


def test_pipelined_requests(shared_server: Server):
    """[LINE1] Pipelined requests are answered in order."""
    group = _group(shared_server)
    body = _message(group)
    post = _head("POST", "/v1/messages", f"Content-Length: {len(body)}") + body

    with _line(shared_server) as line:
        line.send(post * 3 + _head("GET", "/nope") + post + _head("GET", "/health/live", user=None))
        answers = [line.answer() for _ in range(6)]

    assert [status for status, _, _ in answers] == [200, 200, 200, 404, 200, 200]
    assert [json.loads(answers[index][2])["seq"] for index in (0, 1, 2, 4)] == [2, 3, 4, 5]


def test_a_body_byte_by_byte(shared_server: Server):
    """[LINE2] A body that arrives in several segments, with a length or chunked, is one body."""
    body = _message(_group(shared_server))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"

    with _line(shared_server) as line:
        head = _head("POST", "/v1/messages", f"Content-Length: {len(body)}")
        line.send(*(bytes([byte]) for byte in head + body))
        by_length = line.answer()
        line.send(_head("POST", "/v1/messages", "Transfer-Encoding: chunked"), chunks)
        by_chunks = line.answer()

    assert (by_length[0], by_chunks[0]) == (200, 200)


def test_a_client_that_expects_100_continue(shared_server: Server):
    """[LINE3] With `Expect: 100-continue` a long body is refused before it is sent, and a valid one is requested."""
    body = _message(_group(shared_server))

    with _line(shared_server) as line:
        line.send(_head("POST", "/v1/messages", f"Content-Length: {_LIMIT + 1}", "Expect: 100-continue"))
        refused = line.answer()
    with _line(shared_server) as line:
        line.send(_head("POST", "/v1/messages", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        asked = line.answer()
        line.send(body)
        answered = line.answer()

    assert refused[0] == 413
    assert (asked[0], answered[0]) == (100, 200)


def test_too_long_a_body(shared_server: Server):
    """[LINE4] The refusal of a long body can be read, also by a client that sends the whole body first."""
    body = b"x" * (2 * _LIMIT)

    for how, sent in (
        (f"Content-Length: {len(body)}", body),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
    ):
        with _line(shared_server) as line:
            line.send(_head("POST", "/v1/messages", how), sent)
            status, _, answer = line.answer()

        assert (status, json.loads(answer)["error"]) == (413, "PAYLOAD_TOO_LARGE"), how


def test_a_head_response_has_no_body(shared_server: Server):
    """[ERR4] After the response to a HEAD comes the next response, with no body in between."""
    with _line(shared_server) as line:
        line.send(_head("HEAD", "/docs", user=None) + _head("GET", "/health/live", user=None))
        headed, live = line.answer(head=True), line.answer()

    assert headed[0] == 200
    assert int(headed[1]["content-length"]) > 10_000
    assert (live[0], live[2]) == (200, b'{"status":"alive"}')


def test_no_upgrade_at_the_socket_s_path(shared_server: Server):
    """[ERR3] 426, with the token in the URL or not; the connection stays usable."""
    for path in ("/ws", "/v1/websocket"):
        with _line(shared_server) as line:
            line.send(_head("GET", path, user=None))
            plain = line.answer()
            line.send(
                _head("GET", f"{path}?token={tokens.token('ada')}", "Connection: Upgrade", "Upgrade: h2c", user=None)
            )
            other = line.answer()

        assert (plain[0], other[0]) == (426, 426)
        assert plain[1]["upgrade"].lower() == "websocket"


_ADDRESSES = {
    "/api/groups?token=x": 200,
    "/api/groups/": 404,
    "/api//groups": 404,
    "/api/%67roups": 200,
    "/api/groups%3Fx=1": 404,
    "/api/groups/%00/members": 404,
    "/api/groups/%ff%fe/members": 404,
    "/api/groups/../groups": 404,
    "/sdk/..%2f..%2f..%2fpyproject.toml": 404,
    "/v1/messages?%ff=%fe&limit=1": 400,
    "/v1/messages?" + "&".join(f"x{number}" for number in range(60)): 400,
}


def test_no_upgrade_from_http_1_0(shared_server: Server):
    """[ERR3] HTTP/1.0 has no upgrade (RFC 9110 §7.8, RFC 6455 §4.2.1): such a request is plain HTTP."""
    upgrade = _head(
        "GET",
        "/ws",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )

    with _line(shared_server) as line:
        line.send(upgrade.replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, _, body = line.answer()

    assert (status, json.loads(body)["error"]) == (426, "UPGRADE_REQUIRED")


def test_any_request_target(shared_server: Server):
    """[LINE5] Every request target gets one of our responses."""
    with _line(shared_server) as line:
        for target, status in _ADDRESSES.items():
            line.send(_head("GET", target))
            answer = line.answer()

            assert answer[0] == status, target
            assert status == 200 or "error" in json.loads(answer[2]), target


def test_two_lengths_do_not_smuggle(shared_server: Server):
    """[LINE6] A request with two lengths is refused, and no later bytes are parsed as a request."""
    inner = _head("GET", "/health/live", user=None)

    for headers in (
        ("Content-Length: 0", f"Content-Length: {len(inner)}"),
        ("Transfer-Encoding: chunked", f"Content-Length: {len(inner)}"),
    ):
        with _line(shared_server) as line:
            line.send(_head("POST", "/api/login", *headers, user=None) + inner)
            status, _, _ = line.answer()
            assert status == 400
            assert line.socket.recv(10) == b""


def test_a_head_without_end(shared_server: Server):
    """
    [LINE7] A head is refused once 64 KiB have arrived, be it one long header, many headers, or the target.

    uvicorn buffered without a bound: 100 MB of headers took 200 MB of memory, without a token.
    """
    for start, more in (
        (b"GET /api/groups HTTP/1.1\r\nX: ", b"a" * 1024),
        (b"GET /api/groups HTTP/1.1\r\n", b"X: y\r\n" * 170),
        (b"GET /", b"a" * 1024),
    ):
        with _line(shared_server) as line:
            line.send(start, *[more] * 65)
            status, headers, body = line.answer()

            assert (status, headers["connection"]) == (400, "close")
            assert json.loads(body)["error"] == "VALIDATION_ERROR"
            assert line.socket.recv(10) == b""


def test_trailers_without_end(shared_server: Server):
    """[LINE7] Bytes after a chunked body have the same bound."""
    for more in (b"X: y\r\n" * 170, b"X" * 1024):
        with _line(shared_server) as line:
            line.send(_head("POST", "/api/login", "Transfer-Encoding: chunked", user=None), b"2\r\n{}\r\n0\r\n")
            sent = 0
            with suppress(ConnectionError):
                while sent < 10_000_000:
                    line.send(more)
                    sent += len(more)

        assert sent < 10_000_000


def test_invalid_bytes_after_a_request(shared_server: Server):
    """[LINE1] A request is answered even if invalid bytes follow it; then the connection is closed."""
    with _line(shared_server) as line:
        line.send(_head("GET", "/api/groups", user="newcomer") + b"\x00\x01 nonsense\r\n\r\n")
        status, headers, body = line.answer()

        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(body) == {"groups": [], "has_more": False}
        assert line.socket.recv(10) == b""


@asynccontextmanager
async def _answering(body: bytes) -> AsyncIterator[tuple[int, set[HttpConnection]]]:
    """Answer every request with a body, in this process; gives the port and the open lines."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await respond(Reply(200, body), scope, receive, send, extra=())

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = uvicorn.server.ServerState()
    lines: set[Any] = state.connections
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpConnection(config, state, {}, loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], lines


_HALF = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("said", [b"", b"GET / HTT", _HALF, _HALF + b"\r\nGET /"])
async def test_a_head_that_never_arrives(monkeypatch: pytest.MonkeyPatch, said: bytes):
    """[LINE8] A client that sends nothing, or half a head, is cut at the deadline; whole requests are answered."""
    monkeypatch.setattr(http_protocol, "HEAD_DEADLINE_S", 0.05)
    async with _answering(b"{}") as (port, lines):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        for piece in [b"x"] if said.endswith(b"GET /") else []:
            # A second segment, after the response to the first request: from here on the head is late.
            await reader.readuntil(b"{}")
            writer.write(piece)

        await reader.read()

        assert not lines
        writer.close()


async def test_a_partial_head_during_a_response(monkeypatch: pytest.MonkeyPatch):
    """[LINE8] While a response is being sent, a partial head of the next request does not close the connection."""
    monkeypatch.setattr(http_protocol, "HEAD_DEADLINE_S", 0.05)
    body = b"x" * 20_000_000
    async with _answering(body) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(len(body))

        assert got == body
        writer.close()


def _rest(line: socket.socket) -> int:
    """Return how many bytes were in flight when the connection was cut."""
    count = 0
    with suppress(ConnectionResetError):
        while piece := line.recv(1_000_000):
            count += len(piece)
    return count


async def test_a_response_that_nobody_reads(monkeypatch: pytest.MonkeyPatch):
    """
    [LINE9] A client that reads nothing of a response for a minute is disconnected, and the response freed.

    The transport of a closed connection waits until all data is read: each page of the log, 8 MiB, that a client
    requested and did not read stayed in memory without a limit.
    """
    monkeypatch.setattr(stall_watch, "STALL_S", 0.05)
    async with _answering(b"x" * 20_000_000) as (port, lines):
        silent = socket.create_connection(("127.0.0.1", port))
        with silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not lines:
                await asyncio.sleep(0)
            while lines:
                await asyncio.sleep(0)
            assert _rest(silent) < 20_000_000


async def test_a_response_that_is_read_slowly(monkeypatch: pytest.MonkeyPatch):
    """[LINE9] A client that reads 16 KiB per check interval is kept, a slower one is cut; a WebSocket is exempt."""
    config = uvicorn.Config(lambda: None, lifespan="off", log_config=None, http=HttpConnection)
    config.load()
    line = HttpConnection(config, uvicorn.server.ServerState(), {}, asyncio.get_running_loop())
    monkeypatch.setattr(stall_watch, "STALL_S", 3600)
    transport = _Slow(line)
    line.connection_made(transport)  # type: ignore[arg-type]
    transport.unsent = 1_000_000
    line.pause_writing()
    watch = line._stall_watch
    assert watch is not None

    for taken, protocol, cut in (
        (stall_watch.STALL_BYTES, line, False),
        (500_000, line, False),
        (0, object(), False),
        (stall_watch.STALL_BYTES - 1, line, True),
    ):
        transport.unsent -= taken
        transport.protocol = protocol
        watch.check()

        assert transport.aborted is cut, taken
    line.connection_lost(None)


class _Slow:
    """A transport whose other end takes what a test says."""

    def __init__(self, protocol: object) -> None:
        self.protocol, self.unsent, self.aborted = protocol, 0, False

    def get_protocol(self) -> object:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True
