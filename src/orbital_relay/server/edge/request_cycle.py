"""One request and its response, as uvicorn's request cycle runs it, with our overrides."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from orbital_relay.server.edge import linger
from orbital_relay.server.edge.linger import Linger

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent


BODY_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of a body that are read before its answer; a chunk of a medium, the longest that is taken, has 5 MiB."""
PROXY_S: Final = 600
"""How long that may take behind a trusted proxy, in seconds: as long as a chunk that is taken."""
PROXY_IDLE_S: Final = 30
"""How long nothing may come meanwhile, in seconds; again as for a chunk that is taken."""


class AnsweringConnection(Protocol):
    """What a cycle and its transport need of their connection."""

    answering: RequestResponseCycle
    ends: bool
    linger: Linger

    def from_proxy(self) -> bool:
        """Return whether the other end is a trusted proxy."""


class Cycle(RequestResponseCycle):
    """
    A request whose body may be taken, and whose answer may be given, without the events of ASGI.

    Two events make two packets of a small answer, each with its system call, and wake its reader twice.
    """

    def take_body(self) -> bytes | None:
        """Return the body if all of it is here; None if `receive` has to wait for it, or the client is gone."""
        if self.more_body or self.disconnected or self.response_complete:
            return None
        body, self.body = bytes(self.body), bytearray()
        return body

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """
        Write a whole answer in one piece, with the bytes that `send` would write.

        Args:
            status: The status.
            headers: The headers, their names in lower case, `content-length` among them unless the status has none.
            body: What follows them; nothing for a HEAD.

        Returns:
            Whether it was written. If not, nothing was: `send` has to wait for something first, or to log the request.

        Raises:
            RuntimeError: If a header cannot be sent: it would end the headers.
        """
        if self.more_body or self.response_started or self.disconnected or self.flow.write_paused or self.access_log:
            return False
        content = [STATUS_LINE[status]]
        closes = False
        for name, value in (*self.default_headers, *headers):
            if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
                raise RuntimeError(f"The header {name!r} cannot be sent with this value.")
            if name == b"connection" and value == b"close":
                closes = True
                self.keep_alive = False
            content += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not closes:
            content.append(b"connection: close\r\n")
        content += (b"\r\n", body)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"".join(content))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


class BodyCycle(Cycle):
    """
    A request with a body. Its answer waits until the body was read and discarded, if the body is bounded.

    A proxy written in Go (Caddy, Traefik, cloudflared) passes an early answer on and then resets the connection on
    which its client is still sending, so that client loses the answer; nginx answers 502. Lingering helps only the
    peer of this connection, and whether a client stands behind a peer cannot be seen, so this holds for every peer.
    A peer that is no trusted proxy gets no more time than `Linger` has: reading before the answer and lingering behind
    it end together. An answer that closes the connection by its own header, as that to a late body, waits for nothing.
    """

    _hurried = False

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """Take a part of the answer."""
        if self.more_body and not self.response_started:
            return self._send_after_body(message)
        return super().send(message)

    def hurry(self) -> None:
        """Answer without the rest of the body, if the answer waits for it."""
        self._hurried = True
        self.message_event.set()

    async def _send_after_body(self, message: ASGISendEvent) -> None:
        # A client that waits for 100 (Continue) may send the body or not (RFC 9110 §10.1.1).
        if not self.waiting_for_100_continue and message["type"] == "http.response.start" and not _closes(message):
            with suppress(TimeoutError):
                await self._discard_body(cast("CycleTransport", self.transport).line)
        if self.more_body:
            # Nobody knows where the next request begins, or when.
            self.keep_alive = False
        await super().send(message)

    async def _discard_body(self, line: AnsweringConnection | None) -> None:
        declared = next((int(value) for name, value in self.scope["headers"] if name == b"content-length"), 0)
        if line is None or declared > BODY_BYTES:
            return
        now_s = asyncio.get_running_loop().time()
        if line.from_proxy():
            until_s, quiet_s = now_s + PROXY_S, float(PROXY_IDLE_S)
        else:
            line.linger.until_s = now_s + linger.LINGER_S
            # Some time remains to lose no answer behind a body that is slower.
            quiet_s = linger.LINGER_IDLE_S
            until_s = line.linger.until_s - quiet_s
        left_bytes = BODY_BYTES
        async with asyncio.timeout_at(until_s):
            while self.more_body and left_bytes > 0 and not self._hurried and not self.disconnected:
                async with asyncio.timeout(quiet_s):
                    message = await self.receive()
                if message["type"] == "http.request":
                    left_bytes -= len(message["body"])
        if not self.more_body:
            line.linger.until_s = None


def _closes(message: HTTPResponseStartEvent) -> bool:
    return any(name.lower() == b"connection" and value == b"close" for name, value in message.get("headers", ()))


class CycleTransport:
    """What a request writes its answer to. Its connection decides when that ends."""

    __slots__ = ("_transport", "is_closing", "line", "write")

    def __init__(self, line: AnsweringConnection, transport: asyncio.Transport) -> None:
        self.line: AnsweringConnection | None = line
        self._transport = transport
        self.is_closing = transport.is_closing
        self.write = transport.write

    def close(self) -> None:
        """Close behind a whole answer; at once in the middle of one, which uvicorn asks for when the app fails."""
        line = self.line
        if line is not None and line.answering.response_complete:
            line.ends = True
        else:
            self._transport.close()
