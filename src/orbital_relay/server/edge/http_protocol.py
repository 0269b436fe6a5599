"""HTTP on the line: uvicorn's parser with bounds on what may come slowly or without end, and errors in our form."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from orbital_relay.errors import ValidationFailed

HEAD_BYTES: Final = 64 * 1024
"""Most bytes that come before a head is whole, or behind a body in pieces; of a token 8 KiB are looked at."""
HEAD_DEADLINE_S: Final = 30
"""How long a connection may take until a head is whole, in seconds."""
STALL_S: Final = 60
"""How often it is looked whether a client takes what it asked for, in seconds."""
STALL_BYTES: Final = 16 * 1024
"""What it has to take in that time; the slowest mobile lines carry ten times as much."""

_ABOUT: Final = "This is no HTTP/1.1 request, or its method is none that is known."


class HttpLine(HttpToolsProtocol):
    """
    One connection that speaks HTTP/1.1.

    uvicorn waits for ever for a head, takes one of any length, and keeps an answer until it is taken. Here a client
    that is silent is cut, and what it can make this process keep is bounded. It never speaks plain text to a client.
    """

    _loose_bytes = 0
    """What has come since the last head, piece of a body or end of a request: the parser keeps it, or nobody does."""
    _unsent_bytes = 0
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    # Chapter: what comes

    def data_received(self, data: bytes) -> None:
        """Read on, as long as something comes of it."""
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes == 0:
            self._stop_waiting()
        elif self._loose_bytes > HEAD_BYTES:
            self._refuse(f"The head of the request, or what follows its body, is over {HEAD_BYTES} bytes.")
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._loose_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._loose_bytes = 0
        super().on_message_complete()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut_if_late(self) -> None:
        self._late = None
        if self._answering() is not None:
            # What came before has still to be answered; a body that is awaited has its own deadline.
            self._late = self.loop.call_later(HEAD_DEADLINE_S, self._cut_if_late)
        else:
            self.transport.close()

    # Chapter: what goes

    def pause_writing(self) -> None:
        """Look from time to time whether the client takes anything."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It did."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(STALL_S, self._cut_if_stalled)

    def _cut_if_stalled(self) -> None:
        self._stalled = None
        if self.transport.get_protocol() is not self:
            # The line is a WebSocket's now, which looks for itself.
            return
        if self.transport.get_write_buffer_size() > self._unsent_bytes - STALL_BYTES:
            self.transport.abort()
        else:
            self._watch()

    # Chapter: what is no request

    def _should_upgrade(self) -> bool:
        # RFC 9110 §7.8: HTTP/1.0 knows no upgrade; where one is asked for it is passed over.
        return self.parser.get_http_version() != "1.0" and super()._should_upgrade()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - one sentence for whatever it was
        """Refuse what is no request."""
        self._refuse(_ABOUT)

    def _answering(self) -> RequestResponseCycle | None:
        """Return the request whose answer is not out yet, the last of several; None when all are answered."""
        last: RequestResponseCycle | None = self.cycle
        return None if last is None or last.response_complete else last

    def _refuse(self, about: str) -> None:
        """Answer 400 and close: nobody knows where the next request would begin (RFC 9112 §2.2)."""
        if self.transport.is_closing():
            return
        last = self._answering()
        if last is not None and (self.pipeline or last.response_started or not last.more_body):
            # What came before it is whole, and gets its answer: then the line is closed.
            last.keep_alive = False
            self.flow.pause_reading()
            return
        body = ValidationFailed(about).body()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"cache-control: no-store\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()
