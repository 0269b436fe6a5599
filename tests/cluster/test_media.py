"""Media at several servers that share a database and a folder."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import httpx
import pytest

from tests.contracts.drafts import new_id
from tests.support.client import Person

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


async def test_chunks_at_either_server(serve, postgres_url: str, redis_server, tmp_path: Path):
    """[MEDIA1] Chunks of one medium may go to any server, concurrently and repeatedly; each server serves it."""
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}
    pair = [await asyncio.to_thread(serve, env=env, data_dir=tmp_path / "shared") for _ in range(2)]
    ann = await Person.sign_up(pair[0].url)
    group = await ann.make_group()
    thread = await ann.open_thread(group)
    media_id, chunks = new_id(), [os.urandom(100_000 + index) for index in range(6)]

    async def send(index: int, server) -> httpx.Response:
        fields = {
            "media_id": media_id,
            "thread_id": thread["thread_id"],
            "chunk_index": str(index),
            "total_chunks": str(len(chunks)),
            "encrypted_metadata": base64.b64encode(b"metadata").decode(),
            "encryption_iv": base64.b64encode(b"0123456789ab").decode(),
        }
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            return await http.post(
                "/api/media/upload",
                data=fields,
                files={"chunk": ("chunk", chunks[index], "application/octet-stream")},
                headers={"Authorization": f"Bearer {ann.token}"},
            )

    async with ann, await ann.listen(group) as here, await ann.listen(group, url=pair[1].url) as there:
        answers = await asyncio.gather(
            *(send(index, pair[(index + again) % 2]) for index in range(len(chunks)) for again in range(2))
        )

        assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
        for socket in (here, there):
            reported = await socket.until("media_uploaded")
            assert (reported["data"]["media_id"], reported["data"]["size_bytes"]) == (media_id, sum(map(len, chunks)))
        assert [event["type"] for event in await ann.events(group)].count("media_uploaded") == 1
        for server in pair:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
                fetched = await http.get(
                    f"/api/media/{media_id}/download", headers={"Authorization": f"Bearer {ann.token}"}
                )
            assert fetched.content == b"".join(chunks)
