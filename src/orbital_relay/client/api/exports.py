"""The export of the caller's account, read line by line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from orbital_relay.client import responses
from orbital_relay.client.errors import BadAnswer, Unreachable
from orbital_relay.client.http import Http, decode

LINE_BYTES: Final = 4 * 1024 * 1024
"""The longest line that is read; the server's are below 1.5 MiB."""


class ExportRequests(Http):
    """The export of the caller's account."""

    async def iter_export(self) -> AsyncIterator[responses.ExportLine]:
        """
        Iterate over everything that the caller can read, as the server has it; one line at a time is in memory.

        The last line has the type `end`. Leave the iterator by `aclose()` where you do not read it to its end.

        Raises:
            ApiError: If the server refuses; with status 429 after 5 exports in an hour.
            Unreachable: If the export is cut off, with the lines before it already yielded.
        """
        # Lines are what is counted, and a proxy's compression would hide where they end.
        async with self._stream("GET", "/api/account/export", {"Accept-Encoding": "identity"}) as response:
            rest = bytearray()
            async for piece in response.aiter_raw():
                *lines, tail = piece.split(b"\n")
                for line in lines:
                    found = decode(bytes(rest + line), responses.ExportLine)
                    rest.clear()
                    yield found
                    if found.type == "end":
                        return
                rest += tail
                if len(rest) > LINE_BYTES:
                    raise BadAnswer(f"A line of the export is longer than {LINE_BYTES:,} bytes.")
        raise Unreachable("The export was cut off: its last line is missing.")
