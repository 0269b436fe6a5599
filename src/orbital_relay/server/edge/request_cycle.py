"""One request and its answer, as uvicorn runs it: what its connection decides in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class AnsweringLine(Protocol):
    """What a cycle's transport needs of its connection."""

    answering: RequestResponseCycle
    ends: bool


class ExpectingCycle(RequestResponseCycle):
    """A request whose client waits for 100 (Continue) before it sends the body."""

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """Take a part of the answer."""
        if message["type"] == "http.response.start" and self.waiting_for_100_continue and self.more_body:
            # The client may send the body or not (RFC 9110 §10.1.1): nobody knows where the next request begins.
            self.keep_alive = False
        return super().send(message)


class CycleTransport:
    """What a request writes its answer to. Its connection decides when that ends."""

    __slots__ = ("_transport", "is_closing", "line", "write")

    def __init__(self, line: AnsweringLine, transport: asyncio.Transport) -> None:
        self.line: AnsweringLine | None = line
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
