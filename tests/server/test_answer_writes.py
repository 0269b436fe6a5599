"""Responses in one write: the same bytes as with separate ASGI events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from orbital_relay.server.edge.http_protocol import HttpConnection
from orbital_relay.server.edge.request_cycle import Cycle
from orbital_relay.server.http.application import PIECE_BYTES, respond
from orbital_relay.server.http.endpoint import Reply, read_body

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
REPLIES = [
    pytest.param(Reply(200, b'{"a":1}'), id="body"),
    pytest.param(Reply(404, b"{}", headers=((b"x-one", b"1"), (b"x-two", b"2"))), id="headers"),
    pytest.param(Reply(204), id="no body"),
    pytest.param(Reply(413, b"{}", headers=((b"connection", b"close"),)), id="close"),
    pytest.param(Reply(200, b"x" * PIECE_BYTES), id="longest piece"),
]
HEADS = [
    pytest.param(POST + b"\r\n", id="kept open"),
    pytest.param(POST + b"Connection: close\r\n\r\n", id="closed"),
    pytest.param(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", id="head"),
    pytest.param(POST.replace(b"1.1", b"1.0") + b"\r\n", id="1.0"),
]


class _Transport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _answer(reply: Reply, *pieces: bytes, by_events: bool) -> tuple[_Transport, list[bytes]]:
    """Give a request in those pieces to a connection; return what it wrote and the bodies that its app read."""
    bodies = []
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycle = send.__self__
        assert isinstance(cycle, Cycle)
        bodies.append(await read_body(receive, cycle=None if by_events else cycle, declared=4, limit=4))
        await respond(reply, scope, receive, send, extra=(), cycle=None if by_events else cycle)
        done.set()

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, date_header=False)
    config.load()
    transport = _Transport()
    line = HttpConnection(config, uvicorn.server.ServerState(), {}, asyncio.get_running_loop())
    line.connection_made(transport)
    for piece in pieces:
        line.data_received(piece)
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await done.wait()
    line.connection_lost(None)
    return transport, bodies


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("reply", REPLIES)
async def test_a_small_answer_is_one_write(reply: Reply, head: bytes):
    """[ANSW1] A small response is sent in one write, byte for byte what two separate ASGI events would send."""
    events, _ = await _answer(reply, head + b"body", by_events=True)
    whole, bodies = await _answer(reply, head + b"body", by_events=False)

    assert b"".join(whole.writes) == b"".join(events.writes)
    assert len(whole.writes) == 1
    assert whole.closed == events.closed
    assert bodies == [b"body"]


async def test_a_longer_response_waits_for_its_reader():
    """[ANSW2] A response larger than one piece is sent in pieces, so that a slow reader holds no more than one."""
    reply = Reply(200, b"x" * (PIECE_BYTES + 1))

    whole, _ = await _answer(reply, POST + b"\r\nbody", by_events=False)

    assert [len(write) for write in whole.writes[1:]] == [PIECE_BYTES, 1]


async def test_a_body_in_pieces_is_awaited():
    """[ANSW3] When only a part of a request body has arrived, the rest is awaited, and the response is one write."""
    whole, bodies = await _answer(Reply(200, b"{}"), POST + b"\r\n", b"bo", b"dy", by_events=False)

    assert bodies == [b"body"]
    assert len(whole.writes) == 1


@pytest.mark.parametrize("header", [(b"x-name", b"a\r\nb: c"), (b"x name", b"a")], ids=["value", "name"])
async def test_a_header_that_would_end_the_headers(header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture):
    """[ANSW4] A header value that contains a line break is not sent: the request fails and an error is logged."""
    failed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await respond(Reply(200, headers=(header,)), scope, receive, send, extra=(), cycle=send.__self__)
        finally:
            failed.set()

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    transport = _Transport()
    line = HttpConnection(config, uvicorn.server.ServerState(), {}, asyncio.get_running_loop())
    line.connection_made(transport)
    line.data_received(POST + b"\r\nbody")
    async with asyncio.timeout(60):
        await failed.wait()
        await asyncio.sleep(0)
    line.connection_lost(None)

    written = b"".join(transport.writes)
    assert written.startswith(b"HTTP/1.1 500")
    assert b"b: c" not in written
    assert b"x name" not in written
    assert "cannot be sent" in caplog.text
