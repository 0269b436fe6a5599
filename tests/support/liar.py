"""A proxy that lies: it carries every byte, or answers every request itself, as portals and firewalls do."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Self

HTML = b"<!doctype html><title>Welcome to the hotel</title>"
JSON = b'{"message": "no Route matched with those values"}'
SPRING = b'{"timestamp": 1, "status": 404, "error": "Not Found", "message": "No message", "path": "/"}'
EMPTY = b""


class Liar:
    """
    A proxy before one server.

    Attributes:
        lie: The status and the body of every answer while it lies; None to carry bytes.
        lied: The request lines that were answered with a lie.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.lie: tuple[int, bytes] | None = None
        self.lied: list[str] = []
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Cut every connection."""
        for line in self._lines:
            line.transport.abort()

    async def until_answered(self, path: str, *, times: int = 1) -> None:
        """Return once requests to a path were answered with so many lies."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: sum(path in line for line in self.lied) >= times)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._lines.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                if self.lie is None:
                    await self._carry(head, reader, writer)
                else:
                    await self._answer(head, writer, *self.lie)
        finally:
            self._tasks.discard(task)
            self._lines.discard(writer)
            writer.transport.abort()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        where = b"Location: http://portal.test/login\r\n" if 300 <= status < 400 else b""
        writer.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Length: {len(body)}\r\n".encode()
            + where
            + b"Connection: close\r\n\r\n"
            + body
        )
        await writer.drain()
        writer.write_eof()
        self.lied.append(head.split(b"\r\n")[0].decode())
        async with self._changed:
            self._changed.notify_all()

    async def _carry(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        self._lines.add(back)
        back.write(head)

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()

        try:
            ends = [asyncio.create_task(pipe(reader, back)), asyncio.create_task(pipe(there, writer))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        finally:
            self._lines.discard(back)
            back.transport.abort()
