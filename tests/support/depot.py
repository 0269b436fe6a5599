"""The media side of a server, of the tests' own, with every fault on demand."""

from __future__ import annotations

import re
from email.parser import BytesParser
from typing import Any

import httpx

from orbital_relay.client import Api
from tests.support.fake import refusal

DATA = bytes(range(256)) * 10
"""What is there to be fetched."""
KNOWN = "11111111-2222-4333-8444-555555555555"
"""A media id."""


class Depot:
    """The media side of a server; what it does wrong is set by `troubles`."""

    def __init__(self) -> None:
        self.chunks: dict[str, dict[int, bytes]] = {}
        self.totals: dict[str, int] = {}
        self.fields: list[dict[str, str]] = []
        self.ranges: list[str | None] = []
        self.downloaded: list[str] = []
        self.troubles: list[Any] = []
        self.whole = DATA
        self.api = self.new_api()

    def new_api(self) -> Api:
        """Make a REST side of it."""
        return Api("http://orbital.test", token="t", transport=httpx.MockTransport(self.answer))

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        path = request.url.path
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, httpx.Response):
            return trouble
        if path.endswith("/download"):
            return self.down(request, trouble)
        if isinstance(trouble, Exception):
            raise trouble
        if path == "/api/media/upload":
            return self.up(request)
        if path == "/api/media/upload/complete":
            return self.stored(KNOWN, 200)
        media_id = path.split("/")[3]
        if path.endswith("/info"):
            return self.info(media_id)
        if path.endswith("/downloaded"):
            self.downloaded.append(media_id)
            return httpx.Response(204)
        if media_id not in self.totals:
            return refusal(404, "NOT_FOUND")
        state = {"chunks_received": sorted(self.chunks[media_id]), "total_chunks": self.totals[media_id]}
        return httpx.Response(200, json=state)

    def up(self, request: httpx.Request) -> httpx.Response:
        """Take a chunk."""
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        fields: dict[str, bytes] = {}
        for part in BytesParser().parsebytes(head + request.content).get_payload():
            name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
            fields[str(name)] = part.get_payload(decode=True)  # type: ignore[union-attr, assignment]
        plain = {name: value.decode() for name, value in fields.items() if name != "chunk"}
        self.fields.append(plain)
        media_id, index, total = plain["media_id"], int(plain["chunk_index"]), int(plain["total_chunks"])
        self.totals[media_id] = total
        chunks = self.chunks.setdefault(media_id, {})
        chunks[index] = fields["chunk"]
        if len(chunks) == total:
            return self.stored(media_id, 201)
        answer = {"media_id": media_id, "chunk_index": index, "chunks_received": len(chunks), "total_chunks": total}
        return httpx.Response(200, json=answer)

    def stored(self, media_id: str, status: int) -> httpx.Response:
        """Say that all is there; only the chunk that completes it gets the time."""
        answer = {"media_id": media_id, "size_bytes": len(self.joined(media_id)), "expires_at": "soon"}
        more = {"uploaded_at": "then"} if status == 201 else {"status": "complete"}
        return httpx.Response(status, json={**answer, **more})

    def info(self, media_id: str) -> httpx.Response:
        """Say what is known of a medium."""
        who = {"thread_id": "t", "group_id": "g", "author_id": "a", "author_username": "anna"}
        sealed = {"encrypted_metadata": "bWV0YQ==", "encryption_iv": "aXY="}
        times = {"uploaded_at": "then", "expires_at": "soon"}
        facts = {"media_id": media_id, "size_bytes": len(self.joined(media_id)), "status": "complete"}
        return httpx.Response(200, json={**facts, **who, **sealed, **times, "downloaded_by": []})

    def joined(self, media_id: str) -> bytes:
        """Give what was uploaded."""
        return b"".join(chunk for _, chunk in sorted(self.chunks[media_id].items()))

    def down(self, request: httpx.Request, trouble: Any) -> httpx.Response:
        """Give the medium, from a byte on; `trouble` is after how many bytes the connection breaks."""
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0  # type: ignore[index]
        if start >= len(self.whole):
            return refusal(416, "RANGE_NOT_SATISFIABLE")
        rest = self.whole[start:]

        async def body() -> Any:
            yield rest[: trouble if isinstance(trouble, int) else None]
            if isinstance(trouble, int):
                raise httpx.ReadError("the connection broke")

        headers = {"Content-Length": str(len(rest)), "X-Encryption-IV": "aXY=", "X-Expires-At": "soon"}
        return httpx.Response(206 if asked else 200, headers=headers, content=body())
