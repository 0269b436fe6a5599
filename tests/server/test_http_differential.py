"""
The same bytes to other HTTP implementations and to this server: all must parse the same requests.

nginx, HAProxy and Caddy stand once before a trivial server that counts what it gets, and once before ours.
"""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.edge import running_edge
from tests.support.fronts import Front
from tests.support.process import Program, until
from tests.support.programs import caddy, free_port, haproxy, nginx
from tests.support.server import Server

SILENCE_S = 1.0
"""How long a client waits for a proxy that says nothing more and does not close."""


class _Counter(socketserver.BaseRequestHandler):
    """A server that knows only what it needs: a head, a length or chunks, and that an Upgrade may be ignored."""

    seen: list[str]

    def handle(self) -> None:
        """Answer each request with its path."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.request.makefile("rb") as came, suppress(OSError):
            while request := came.readline():
                _, path, version = request.decode("latin-1").split()
                headers = {}
                while (field := came.readline()) not in {b"\r\n", b""}:
                    name, _, value = field.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip().lower()
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(came.readline().split(b";")[0] or b"0", 16):
                        came.read(size + 2)
                    while came.readline() not in {b"\r\n", b""}:
                        pass
                else:
                    came.read(int(headers.get("content-length", "0")))
                self.seen.append(path)
                body = path.encode()
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                if version == "HTTP/1.0" or headers.get("connection") == "close":
                    return


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def counting() -> Iterator[tuple[int, list[str]]]:
    """Run the trivial server; gives its port and the paths that it was asked for."""
    seen: list[str] = []
    with _Threads(("127.0.0.1", 0), type("Counter", (_Counter,), {"seen": seen})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="counter")
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def ours() -> Iterator[tuple[int, list[str]]]:
    """Run our edge before an application that answers as the trivial server does."""
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body", False):
            pass
        seen.append(scope["path"])
        body = scope["path"].encode()
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    with running_edge(application=application) as edge:
        yield edge.port, seen


def _nginx(folder: Path, port: int, to: int) -> Program:
    """Nginx with kept connections, which passes every Upgrade on: the worst that an operator may have written."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
        http {{ access_log off; {places}
        upstream behind {{ server 127.0.0.1:{to}; keepalive 8; }}
        map $http_upgrade $asked {{ "" ""; default upgrade; }}
        server {{ listen 127.0.0.1:{port};
        location / {{ proxy_http_version 1.1; proxy_request_buffering off; proxy_next_upstream off;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $asked; proxy_pass http://behind; }} }} }}
        """
    )
    return Program([nginx(), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "early.log"])


def _haproxy(folder: Path, port: int, to: int) -> Program:
    (folder / "haproxy.cfg").write_text(
        f"""defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    retries 0
listen front
    bind 127.0.0.1:{port}
    http-reuse always
    server behind 127.0.0.1:{to}
"""
    )
    return Program([haproxy(), "-db", "-f", folder / "haproxy.cfg"])


def _caddy(folder: Path, port: int, to: int) -> Program:
    (folder / "Caddyfile").write_text(
        f"""{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    reverse_proxy 127.0.0.1:{to}
}}
"""
    )
    places = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return Program([caddy(), "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"], env=places)


_PROXIES: dict[str, Callable[[Path, int, int], Program]] = {"nginx": _nginx, "HAProxy": _haproxy, "Caddy": _caddy}


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
        return True
    return False


@contextlib.contextmanager
def _before(proxy: str, folder: Path, to: int) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    program = _PROXIES[proxy](folder, port, to)
    try:
        until(lambda: _listens(port) or not program.alive, what=f"{proxy} listens")
        assert program.alive, program.text
        yield port
    finally:
        program.terminate()


# The request shapes


class Shape(NamedTuple):
    """Bytes that a client sends, and how many requests they are at most."""

    about: str
    sent: bytes
    most: int


_HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
_NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_UPGRADES = (
    "",
    "Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: nonsense\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Upgrade: h2c\r\n",
)


def _shapes(drawn: random.Random) -> Iterator[Shape]:
    """Yield a body behind each offer of an upgrade, and what is refused; framing, padding and order are drawn."""
    made: list[Shape] = []
    for asked in _UPGRADES:
        for method in ("POST", "GET"):
            for path in ("/outer", "/ws"):
                start = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{asked}".encode()
                about = f"{method} {path} {asked!r}"
                padding = b"\r\n" * drawn.choice((0, 1, 9_000))
                body = padding + _HIDDEN
                framed = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                if drawn.random() < 0.5:
                    framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                made.append(Shape(f"{about} {framed[:20]!r}", start + framed + _NEXT, 2))
    length = b"Content-Length: %d\r\n" % len(_HIDDEN)
    for about, fields in {
        "two lengths": length + b"Content-Length: 0\r\n",
        "both": length + b"Transfer-Encoding: chunked\r\n",
        "both, turned": b"Transfer-Encoding: chunked\r\n" + length,
        "gzip": b"Transfer-Encoding: gzip, chunked\r\n",
        "hidden coding": b"Transfer-Encoding:\x0bchunked\r\n" + length,
        "coding with a space": b"Transfer-Encoding : chunked\r\n" + length,
        "signed": b"Content-Length: +%d\r\n" % len(_HIDDEN),
        "two hosts": b"Host: y\r\n" + length,
    }.items():
        made.append(Shape(about, b"POST /outer HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + _HIDDEN, 1))
    made.append(
        Shape("1.0 chunks", b"POST /outer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _HIDDEN, 1)
    )
    made.append(Shape("no host", b"POST /outer HTTP/1.1\r\n" + length + b"\r\n" + _HIDDEN, 1))
    made.append(Shape("HTTP/2.0", b"POST /outer HTTP/2.0\r\nHost: x\r\n" + length + b"\r\n" + _HIDDEN, 1))
    drawn.shuffle(made)
    yield from made


def _pieces(sent: bytes, drawn: random.Random) -> Iterator[bytes]:
    """Cut what is sent at the end of the head, or anywhere, or nowhere."""
    place = drawn.choice((sent.index(b"\r\n\r\n") + 4, drawn.randrange(1, len(sent)), len(sent)))
    yield sent[:place]
    if sent[place:]:
        yield sent[place:]


def _say(port: int, pieces: list[bytes], *, tls: ssl.SSLContext | None = None) -> None:
    """Send pieces, and read until the other side closes or is silent."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line = plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
    with closing(line), suppress(OSError):
        for piece in pieces:
            line.sendall(piece)
        while line.recv(65_536):
            pass


def _own(port: int, name: str) -> str:
    """Ask as the next user does, and return what the answer is about."""
    return httpx.get(f"http://127.0.0.1:{port}/{name}").text


def test_sent_directly(seed: int):
    """[DIFF1] Sent directly, no byte sequence is parsed as more requests than RFC 9110 and RFC 9112 allow."""
    drawn = random.Random(seed)
    with ours() as (port, seen):
        for shape in _shapes(drawn):
            seen.clear()

            _say(port, list(_pieces(shape.sent, drawn)))

            assert _own(port, "mine") == "/mine"
            assert "/hidden" not in seen, shape.about
            assert len(seen) - 1 <= shape.most, shape.about


@pytest.mark.parametrize("proxy", list(_PROXIES))
def test_behind_a_proxy(proxy: str, tmp_path: Path, seed: int):
    """[DIFF3] Through a proxy the server sees the requests that a trivial server sees; requests of users never mix."""
    drawn = random.Random(seed)
    with (
        counting() as (trivial_port, trivial),
        ours() as (our_port, seen),
        _before(proxy, tmp_path / "trivial", trivial_port) as before_trivial,
        _before(proxy, tmp_path / "ours", our_port) as before_ours,
    ):
        for shape in _shapes(drawn):
            pieces = list(_pieces(shape.sent, drawn))
            trivial.clear()
            seen.clear()

            _say(before_trivial, pieces)
            _say(before_ours, pieces)

            assert _own(before_ours, "mine") == "/mine", shape.about
            assert _own(before_trivial, "mine") == "/mine", shape.about
            # This server may refuse an ambiguous request that the trivial server accepts.
            # A proxy forwards the head or not, depending on when it reads the part of the body that it refuses.
            fine = (trivial, ["/mine"], ["/outer", "/mine"]) if shape.most == 1 else (trivial,)
            until(lambda: seen in fine, what=f"the same requests of {shape.about}", deadline_s=60)  # noqa: B023
            assert "/hidden" not in seen, shape.about


# The project's own configuration


async def test_nothing_hides_behind_our_nginx(serve: Callable[..., Server], tmp_path: Path):
    """[DIFF2] Through deploy/nginx.conf no request hides in another's body, and requests of users never mix."""
    server = serve(env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOGIN_LIMIT": "10"})
    front = Front("deploy/nginx.conf", tmp_path, [server.port])
    login = b'{"username":"nobody","password":"Wrong-Horse-77"}'
    hidden = b"POST /api/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\nContent-Length: %d\r\n\r\n%b" % (
        len(login),
        login,
    )
    unfinished = b"DELETE /api/groups/x/members/y HTTP/1.1\r\nX-Ignore: "
    try:
        await front.start()
        before = _logins(server)
        for asked in ("h2c", "TLS/1.2", "websocket, h2c", "websocket"):
            for size in (0, 16_000, 40_000, 100_000):
                for inner in (hidden, unfinished):
                    body = b"\r\n" * (size // 2) + inner
                    head = (
                        f"POST /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {asked}\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n"
                    ).encode()
                    _say(front.port, [head, body + _NEXT], tls=front.tls)
                    # The next user's request is their own.
                    mine = httpx.get(f"{front.url}/health/live", verify=front.tls)
                    assert mine.json() == {"status": "alive"}

        assert _logins(server) == before
    finally:
        front.program.terminate()


def _logins(server: Server) -> list[str]:
    return [line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if "/api/login" in line]
