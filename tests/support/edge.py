"""The WebSocket edge on its own: a server with an echo in the real session's place, a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import queue
import socket
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self

import uvicorn

from orbital_relay.core.framing import text_frame
from orbital_relay.server.edge.deflate import deflated_text_frame
from orbital_relay.server.edge.handshake import Admit, Handshake, Refuse
from orbital_relay.server.edge.http_protocol import HttpConnection
from orbital_relay.server.edge.socket_writer import SocketWriter
from orbital_relay.server.edge.upgrade import websocket_protocol
from tests.support.frames import observe

DEADLINE_S = 120.0


class EchoPeer:
    """Sends each message back, and puts each call into a queue."""

    def __init__(self) -> None:
        self._line: SocketWriter | None = None
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.ready = threading.Event()

    def opened(self, line: SocketWriter) -> None:
        """Keep the line."""
        self._line = line
        self.ready.set()
        self.calls.put(("opened",))

    @property
    def line(self) -> SocketWriter:
        """The connection's writer; a client may have read the 101 just before the server notifies its peer."""
        assert self.ready.wait(DEADLINE_S), "the peer was never notified of its connection"
        assert self._line is not None
        return self._line

    def text(self, payload: bytes) -> None:
        """Send it back, compressed if the client understands that."""
        self.calls.put(("text", payload))
        self.line.write(deflated_text_frame(payload) if self.line.deflate else text_frame(payload))

    def control(self) -> None:
        """Count it."""
        self.calls.put(("control",))

    def pong(self) -> None:
        """Note it."""
        self.calls.put(("pong",))

    def paused(self) -> None:
        """Note it."""
        self.calls.put(("paused",))

    def resumed(self) -> None:
        """Note it."""
        self.calls.put(("resumed",))

    def ending(self) -> None:
        """Nothing waits here: an echo is written at once."""

    def closed(self, code: int | None) -> None:
        """Note it."""
        self.calls.put(("closed", code))

    def until(self, *what: Any) -> list[tuple[Any, ...]]:
        """Wait for the call `what`; return all calls up to it."""
        seen: list[tuple[Any, ...]] = []
        while not seen or seen[-1][: len(what)] != what:
            seen.append(self.calls.get(timeout=DEADLINE_S))
        return seen


def unsent(line: SocketWriter) -> int:
    """Return the bytes that were written and that the operating system has not taken yet."""
    return 0 if line._lost else line._transport.get_write_buffer_size()


class EchoAdmission:
    """Accepts every client at /ws, to an echo; `decision` may be set to decide otherwise."""

    def __init__(self, peer: Callable[[], EchoPeer] = EchoPeer) -> None:
        self._peer = peer
        self.peers: queue.Queue[EchoPeer] = queue.Queue()
        self.asked: list[Handshake] = []
        self.decision: Callable[[Handshake], Admit | Refuse | Awaitable[Admit | Refuse]] | None = None

    def forget(self) -> None:
        """Be as new."""
        self.peers = queue.Queue()
        self.asked.clear()
        self.decision = None

    def route(self, path: str) -> Refuse | None:
        """Know one path."""
        return None if path == "/ws" else Refuse(404, b'{"error":"NOT_FOUND","message":"","details":{}}')

    def decide(self, handshake: Handshake) -> Admit | Refuse | Awaitable[Admit | Refuse]:
        """Accept."""
        self.asked.append(handshake)
        return self.admit() if self.decision is None else self.decision(handshake)

    def admit(self, subprotocol: str | None = None) -> Admit:
        """Make a peer and accept it."""
        peer = self._peer()
        self.peers.put(peer)
        return Admit(peer, subprotocol)

    def next_peer(self) -> EchoPeer:
        """Wait for the peer of the connection that was made longest ago and not asked for yet."""
        return self.peers.get(timeout=DEADLINE_S)

    def latest_peer(self) -> EchoPeer:
        """Wait for the peer of the connection that was made last; all others are forgotten."""
        peer = self.next_peer()
        while not self.peers.empty():
            peer = self.next_peer()
        return peer


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 426, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Edge(NamedTuple):
    """A running edge."""

    port: int
    admission: EchoAdmission
    registry: set[SocketWriter]
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop

    def call(self, what: Callable[[], Any]) -> Any:
        """Run something on the server's loop, and wait for what it returns."""

        async def run() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE_S)

    def connect(self, *, receive_buffer_bytes: int | None = None) -> Client:
        """Open a socket to it."""
        return Client(self.port, receive_buffer_bytes)

    def client(self, headers: str = "", **options: Any) -> Client:
        """Open a WebSocket to it."""
        client = self.connect(**options)
        client.upgrade(headers)
        return client


@contextlib.contextmanager
def running_edge(
    admission: EchoAdmission | None = None,
    *,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    settings: Mapping[str, Any] | None = None,
    application: Any = _no_application,
    **options: Any,
) -> Iterator[Edge]:
    """Run an edge on a thread of its own, on a free port; `settings` and `application` are uvicorn's."""
    admission = admission or EchoAdmission()
    registry: set[SocketWriter] = set()
    config = uvicorn.Config(
        application,
        http=HttpConnection,
        host="127.0.0.1",
        port=0,
        loop=loop,
        lifespan="off",
        log_config=None,
        ws=websocket_protocol(admission, registry=registry, **options),
        **(settings or {}),
    )
    server = uvicorn.Server(config)
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop] | BaseException] = queue.Queue()
    startup = server.startup

    async def report(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        started.put((server.servers[0].sockets[0].getsockname()[1], asyncio.get_running_loop()))

    server.startup = report  # type: ignore[method-assign]  # uvicorn has no other way to tell the port

    def run() -> None:
        try:
            server.run()
        except BaseException as error:  # whatever it is, the test wants to see it
            started.put(error)

    thread = threading.Thread(target=run, name="edge")
    thread.start()
    try:
        ready = started.get(timeout=DEADLINE_S)
        if isinstance(ready, BaseException):
            raise ready
        yield Edge(ready[0], admission, registry, server, ready[1])
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        if thread.is_alive():
            server.force_exit = True
            thread.join(DEADLINE_S)
            raise AssertionError("the edge did not stop: a connection has been left in uvicorn's set")


class ServerFrame(NamedTuple):
    """A frame as the server sent it."""

    first: int
    payload: bytes


class Client:
    """A socket that speaks WebSocket by hand, well or badly."""

    KEY = base64.b64encode(b"0123456789abcdef").decode()

    def __init__(self, port: int, receive_buffer_bytes: int | None = None, *, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.settimeout(DEADLINE_S)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self._fragments: list[ServerFrame] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    # Sending

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def ask(self, headers: str = "", *, target: str = "/ws", method: str = "GET", body: bytes = b"") -> None:
        """Send a request; `headers` are lines that end in CRLF."""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: edge\r\n{headers}\r\n".encode("latin-1") + body)

    def ask_upgrade(self, headers: str = "", **options: Any) -> None:
        """Send a good upgrade request."""
        self.ask(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {self.KEY}\r\n{headers}",
            **options,
        )

    def upgrade(self, headers: str = "") -> dict[str, str]:
        """Open the WebSocket; returns the answer's headers."""
        self.ask_upgrade(headers)
        status, answer, _ = self.answer()
        assert status == 101, (status, answer)
        digest = hashlib.sha1(self.KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
        assert answer["sec-websocket-accept"] == base64.b64encode(digest).decode()
        return answer

    def frame(self, first: int, payload: bytes = b"") -> None:
        """Send one masked frame."""
        self.send(masked(first, payload))

    # Receiving

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Wait for some bytes."""
        while len(self.buffer) < size:
            if not self._more():
                raise EOFError(f"the server closed the socket; {self.buffer!r} was left")
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Wait for an HTTP answer: status, headers by lower-case name, body."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                raise EOFError(f"the server closed the socket; {self.buffer!r} was left")
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(status.split(" ")[1]), headers, self.take(int(headers.get("content-length", "0")))

    def receive(self) -> ServerFrame:
        """Wait for a frame."""
        first, size = self.take(2)
        assert size < 128, "a server does not mask"
        if size == 126:
            (size,) = struct.unpack("!H", self.take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.take(8))
        frame = ServerFrame(first, self.take(size))
        self._check(frame)
        return frame

    def _check(self, frame: ServerFrame) -> None:
        """Check the message that a frame ends, plain or compressed (RFC 7692 §7.2.2), whole or in fragments."""
        if frame.first & 0x08:
            return  # A control frame may come between two fragments.
        self._fragments.append(frame)
        if not frame.first & 0x80:
            return
        fragments, self._fragments = self._fragments, []
        message = b"".join(each.payload for each in fragments)
        if fragments[0].first & 0x40:
            message = zlib.decompressobj(-15).decompress(message + b"\x00\x00\xff\xff")
        # The echo of the tests sends other texts: only a frame of Orbital's begins like this.
        if message.startswith(b'{"type":'):
            observe(message)

    def receive_close(self) -> tuple[int | None, str]:
        """Wait for a Close, which must be the next frame: code and reason."""
        first, payload = self.receive()
        assert first == 0x88, (first, payload)
        if not payload:
            return None, ""
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def receive_end(self) -> None:
        """Wait until the server closes the socket, which must send nothing more before."""
        with contextlib.suppress(ConnectionResetError):
            while self._more():
                pass
        assert self.buffer == b"", self.buffer


def masked(first: int, payload: bytes = b"", *, key: bytes | None = None) -> bytes:
    """Make a client's frame: its first byte as given, then a mask."""
    key = os.urandom(4) if key is None else key
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    repeated = (key * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big") if size else b""
    return bytes((first,)) + length + key + body
