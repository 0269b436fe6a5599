"""The workers of one machine ask each other for their numbers, so that whichever is asked tells those of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

ANSWER_S: Final = 1.0
"""Longest wait for the others, and for one that asks to read: who takes longer is left out."""

TOLD_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that one worker tells: a hundred times what its numbers are."""


class Siblings(msgspec.Struct, frozen=True):
    """
    The workers that share a port, each behind a socket in a folder that only their user enters.

    Attributes:
        folder: Where the sockets are.
        number: This worker's own, from 1; who replaces it has the same.
        count: How many they are.
    """

    folder: Path
    number: int
    count: int

    @asynccontextmanager
    async def told(self, tell: Callable[[], bytes]) -> AsyncIterator[None]:
        """Tell the others what `tell` returns, whenever they ask."""

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(tell())
                with suppress(OSError):
                    async with asyncio.timeout(ANSWER_S):
                        await writer.drain()
                        writer.close()
                        await writer.wait_closed()
            finally:
                writer.transport.abort()

        async with await asyncio.start_unix_server(answer, self._place(self.number)):
            yield

    async def ask(self) -> dict[int, bytes]:
        """Return what the others tell, by their numbers; without those that do not answer as they should."""
        others = [number for number in range(1, self.count + 1) if number != self.number]
        answers = await asyncio.gather(*map(self._ask, others))
        return {number: told for number, told in zip(others, answers, strict=True) if told is not None}

    async def _ask(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._place(number))
                try:
                    await reader.readexactly(TOLD_BYTES)
                except asyncio.IncompleteReadError as whole:
                    return whole.partial
                finally:
                    writer.transport.abort()
        except OSError:
            return None
        return None

    def _place(self, number: int) -> str:
        return str(self.folder / str(number))
