"""Where a request ends: upgrade requests, ambiguous framing, and bytes after a refusal."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from orbital_relay.server.edge import linger
from tests.support import tokens
from tests.support.edge import Client, masked, running_edge
from tests.support.process import Program, until
from tests.support.programs import free_port, nginx
from tests.support.server import Server

HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: orbital.test\r\n\r\n"
"""A request that stands where a body is due."""
LAST = b"GET /health/live HTTP/1.1\r\nHost: orbital.test\r\nConnection: close\r\n\r\n"
_HANDSHAKE = f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {Client.KEY}\r\n"


def say(server: Server, *pieces: bytes) -> bytes:
    """Send pieces as packets of their own, and return all that the server answers until it closes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=60)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            line.sendall(piece)
        said = b""
        while piece := line.recv(65_536):
            said += piece
    return said


def statuses(said: bytes) -> list[int]:
    """Return the status of each answer in what a server said; no body here holds a status line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", said)]


_IGNORED = {
    "h2c": "Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "as curl": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "TLS": "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    "a list": "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    "two fields": "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "a websocket": f"Connection: Upgrade\r\nUpgrade: websocket\r\n{_HANDSHAKE}",
}


@pytest.mark.parametrize("path", ["/api/login", "/ws", "/nothing"])
@pytest.mark.parametrize("asked", list(_IGNORED))
def test_an_ignored_upgrade(shared_server: Server, asked: str, path: str):
    """
    [UPG1] An upgrade that is not accepted is ignored (RFC 9110 §7.8): body read, one response per request.

    The body was dropped if it arrived with the head, and parsed as the next request if it arrived later: through a
    proxy that keeps connections, a hidden request got another user's token.
    """
    plain = {"/api/login": 400, "/ws": 405, "/nothing": 404}[path]
    start = f"POST {path} HTTP/1.1\r\nHost: orbital.test\r\n{_IGNORED[asked]}".encode()
    length = b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

    for pieces in (
        (start + length + HIDDEN + LAST,),
        (start + length, HIDDEN, LAST),
        (start + length + HIDDEN[:7], HIDDEN[7:] + LAST),
        (start + chunked + chunks + LAST,),
        (start + chunked, chunks, LAST),
    ):
        assert statuses(say(shared_server, *pieces)) == [plain, 200], pieces


def test_a_body_arrives_whole(shared_server: Server):
    """[UPG1] A login that offers an upgrade is a login with exactly the body that was sent."""
    body = b'{"username":"nobody","password":"Wrong-Horse-77"}'
    head = b"POST /api/login HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"

    said = say(shared_server, head + b"Content-Length: %d\r\n\r\n" % len(body) + body + LAST)

    assert statuses(said) == [401, 200]
    assert b"INVALID_CREDENTIALS" in said


def test_many_ignored_upgrades(shared_server: Server):
    """[UPG1] Requests that offer an upgrade, all in one packet, are answered in sequence."""
    one = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    assert statuses(say(shared_server, one * 50 + LAST)) == [200] * 51


def test_no_upgrade_in_http_1_0(shared_server: Server):
    """[UPG1] HTTP/1.0 has no upgrade: the body is read, the connection is closed, and later bytes are not a request."""
    start = b"POST /api/login HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    body = b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN

    assert statuses(say(shared_server, start + body + LAST)) == [400]
    assert statuses(say(shared_server, start, body, LAST)) == [400]


def _handshake(headers: str = "") -> bytes:
    start = f"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{_HANDSHAKE}{headers}\r\n"
    return start.encode()


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_a_pipelined_handshake_waits(shared_server: Server, pieces: int):
    """
    [UPG2] A handshake behind other requests is answered after them, never before (RFC 9112 §9.3.2).

    The 101 was sent at once, and the response to the login before it, with its token, went into the WebSocket stream.
    """
    body = b'{"username":"nobody","password":"Wrong-Horse-77"}'
    login = b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    bearer = f"Authorization: Bearer {tokens.token('ada', 'ada')}\r\n"
    all_of_it = login + login + _handshake(bearer) + masked(0x89, b"early")
    size = len(all_of_it) // pieces + 1

    with Client(shared_server.port) as client:
        for at in range(0, len(all_of_it), size):
            client.send(all_of_it[at : at + size])

        assert [client.answer()[0] for _ in range(3)] == [401, 401, 101]
        assert json.loads(client.receive().payload)["type"] == "auth_success"
        # A frame that arrived with the handshake is received, too.
        assert client.receive() == (0x8A, b"early")


def test_a_refused_handshake_waits_for_its_turn(shared_server: Server):
    """[UPG2] A post before a refused handshake is stored and answered before the refusal."""
    ada = {"Authorization": f"Bearer {tokens.token('ada', 'ada')}"}
    made = httpx.post(
        f"{shared_server.url}/api/groups",
        json={"encrypted_name": "AAAA", "encrypted_group_key": "AAAA"},
        headers=ada,
    ).json()
    body = json.dumps({"conversation_id": made["group_id"], "encrypted_envelope": "AAAA", "timestamp": 0}).encode()
    post = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {ada['Authorization']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    for number in range(20):
        said = say(shared_server, post + _handshake("Authorization: Bearer nonsense\r\n"))

        assert statuses(said) == [200, 401]
        assert b'"seq":%d' % (number + 2) in said


def test_the_keep_alive_timer_ends_with_the_upgrade():
    """[UPG2] The keep-alive timer of HTTP does not close an upgraded connection."""
    with running_edge(settings={"timeout_keep_alive": 1}) as edge, edge.connect() as client:
        client.ask(target="/health")
        client.ask_upgrade()
        assert [client.answer()[0], client.answer()[0]] == [426, 101]
        until_s = time.monotonic() + 1.5
        while time.monotonic() < until_s:
            client.frame(0x81, b"x")
            assert client.receive().payload == b"x"


_UNCLEAR = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "an invalid host": (b"GET / HTTP/1.1\r\nHost: x/y@z\r\n\r\n", 400),
    "gzip, chunked": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 501),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "both lengths": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    "a signed length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a folded field": (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "a chunk size with a sign": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("what", list(_UNCLEAR))
def test_ambiguous_framing(shared_server: Server, what: str):
    """[FRAME1] A request with ambiguous framing is refused, and no later bytes are a request (RFC 9112 §11.2)."""
    sent, status = _UNCLEAR[what]

    said = say(shared_server, sent + LAST)

    assert statuses(said) == [status]
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["error"] == "VALIDATION_ERROR"


def test_no_request_after_the_last_one(shared_server: Server):
    """[FRAME1] Bytes after a request with `Connection: close`, or of HTTP/1.0, are not a request."""
    assert statuses(say(shared_server, LAST + LAST)) == [200]
    assert statuses(say(shared_server, b"GET /health/live HTTP/1.0\r\n\r\n" + LAST)) == [200]


def test_trailers_are_not_headers(shared_server: Server):
    """[FRAME1] A trailer field does not become a header (RFC 9110 §6.5.1), above all not a token."""
    said = say(
        shared_server,
        b"POST /api/groups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        b"Authorization: Bearer %b\r\n\r\n" % tokens.token("ada", "ada").encode() + LAST,
    )

    assert statuses(said) == [401, 200]


def test_a_slash_in_a_name(shared_server: Server):
    """[FRAME2] `%2F` does not separate path segments: a proxy's path rule would not match it."""
    for path in (
        "/api%2fgroups",
        "/v1%2Fmessages",
        "/metrics%2f",
        "/%2fmetrics",
        "/health%2flive",
        "/sdk%2forbital.js",
    ):
        assert httpx.get(f"{shared_server.url}{path}").status_code == 404, path
    handshake = _handshake().replace(b"/ws ", b"/v1%2fwebsocket ")
    assert statuses(say(shared_server, handshake)) == [404]
    # It is decoded to a slash in a segment that may contain one, such as a user id of an identity provider.
    ada = {"Authorization": f"Bearer {tokens.token('ada', 'ada')}"}
    group = httpx.post(
        f"{shared_server.url}/api/groups", json={"encrypted_name": "AA", "encrypted_group_key": "AA"}, headers=ada
    ).json()
    other = {"Authorization": f"Bearer {tokens.token('cyd/1', 'cyd')}"}
    joined = httpx.post(
        f"{shared_server.url}/api/groups/join",
        json={"invite_code": group["invite_code"], "encrypted_group_key": "AA"},
        headers=other,
    )
    assert joined.status_code == 200, joined.text
    member = f"{shared_server.url}/api/groups/{group['group_id']}/members/cyd%2F1"
    assert httpx.delete(member, headers=ada).status_code == 204


def test_bad_requests_log_nothing(serve: Callable[..., Server]):
    """[FRAME3] Bad requests from an unauthenticated client write nothing to the log."""
    server = serve()
    before = len(server.log)

    for sent, _ in _UNCLEAR.values():
        say(server, sent)

    assert [
        line for line in server.log[before:] if "refused" in line or "Invalid" in line or "WARN" in line.upper()
    ] == []


# Refusals before the body is read


def _ask(url: str, path: str, *, size: int, headers: dict[str, str]) -> int:
    """Send a body with urllib, which sends `Connection: close` and all of the body before it reads."""
    request = urllib.request.Request(f"{url}{path}", b"x" * size, headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            refused.read()
            return refused.code


_TOKEN = {"Authorization": f"Bearer {tokens.token('ada', 'ada')}"}
_REFUSALS = (
    ("/v1/messages", 8_000_000, {**_TOKEN, "Content-Type": "application/json"}, 413),
    ("/api/groups", 4_000_000, {"Authorization": "Bearer nonsense"}, 401),
    ("/nothing", 4_000_000, {}, 404),
    ("/v1/media/upload/chunk", 4_000_000, {**_TOKEN, "Content-Type": "text/plain"}, None),
)


@pytest.mark.parametrize(("path", "size", "headers", "status"), _REFUSALS, ids=["413", "401", "404", "media"])
def test_a_refusal_arrives(shared_server: Server, path: str, size: int, headers: dict[str, str], status: int | None):
    """
    [REFUSE1] A refusal before the body is read reaches a client that sends the whole body first (RFC 9112 §9.6).

    The connection was closed with the body unread, the kernel reset it, and urllib got no response in 60 of 60 runs.
    """
    seen = {_ask(shared_server.url, path, size=size, headers=headers) for _ in range(25)}

    assert len(seen) == 1
    assert seen == {status} or (status is None and seen < {400, 404, 413, 415})


def test_a_refusal_arrives_through_a_proxy(serve: Callable[..., Server], tmp_path: Path):
    """[REFUSE1] Behind an nginx without upstream keep-alive, 100 of 100 refused uploads get the refusal, not a 502."""
    server = serve(env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in kinds)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {places} client_max_body_size 9m;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.1; proxy_request_buffering off;\n"
        f"proxy_set_header Connection close; proxy_pass http://127.0.0.1:{server.port}; }} }} }}\n"
    )
    proxy = Program([nginx(), "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "early.log"])
    try:
        until(lambda: _listens(port), what="nginx listens")
        url = f"http://127.0.0.1:{port}"
        seen = [
            _ask(url, path, size=size, headers=headers) == status
            for _ in range(34)
            for path, size, headers, status in _REFUSALS
            if status is not None
        ]
    finally:
        proxy.terminate()

    assert seen.count(True) == len(seen) == 102


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return False
    return True


def test_a_client_that_never_stops(shared_server: Server):
    """[REFUSE2] The bytes read after a refusal are bounded: an endless body ends in a closed connection."""
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), timeout=60)) as line:
        line.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with suppress(ConnectionError):
            while sent < 1_000_000_000:
                line.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                sent += 65_536
    assert sent < 200_000_000


def test_a_body_that_may_never_come(shared_server: Server):
    """[REFUSE3] Refused before `100 Continue`, a connection is closed: a body may follow or not (RFC 9110 §10.1.1)."""
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN)

    said = say(shared_server, head)

    assert statuses(said) == [404]
    assert b"connection: close" in said


def test_a_half_closing_client(shared_server: Server):
    """[REFUSE4] A client that closes its sending side after a request gets the response (RFC 9112 §9.6)."""
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=60)
    with closing(connection):
        connection.request("GET", "/health/live")
        connection.sock.shutdown(socket.SHUT_WR)

        assert connection.getresponse().read() == b'{"status":"alive"}'


def test_lingering_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """[REFUSE5] A client that neither sends nor closes after a refusal is disconnected after the linger time."""
    monkeypatch.setattr(linger, "LINGER_IDLE_S", 0.1)
    with running_edge() as edge, edge.connect() as client:
        client.send(b"GET / HTTP/3.0\r\nHost: x\r\n\r\n")
        assert client.answer()[0] in {400, 505}
        until(lambda: edge.call(lambda: not edge.server.server_state.connections), what="the connection is gone")
