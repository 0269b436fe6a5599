"""The uploads that a user may begin in an hour, counted over several servers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.contracts.drafts import new_id
from tests.support.client import Person
from tests.support.redis import Redis
from tests.support.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


async def _begin(server: Server, person: Person, thread_id: str) -> httpx.Response:
    """Send the first of two chunks of a new medium to this server."""
    fields = {
        "media_id": new_id(),
        "thread_id": thread_id,
        "chunk_index": "0",
        "total_chunks": "2",
        "encrypted_metadata": base64.b64encode(b"metadata").decode(),
        "encryption_iv": base64.b64encode(b"0123456789ab").decode(),
    }
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        return await http.post(
            "/api/media/upload",
            data=fields,
            files={"chunk": ("chunk", b"x", "application/octet-stream")},
            headers={"Authorization": f"Bearer {person.token}"},
        )


async def test_one_hour_at_two_servers(
    serve: Callable[..., Server], postgres_url: str, redis_server: Redis, tmp_path: Path
):
    """[HOURLY1] Two servers share the count of a user's uploads of the hour, also concurrently, and over a restart."""
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url, "ORBITAL_UPLOAD_LIMIT": "6"}
    one, two = [await asyncio.to_thread(serve, env=env, data_dir=tmp_path / "shared") for _ in range(2)]
    async with await Person.sign_up(one.url) as ann, await Person.sign_up(two.url) as ben:
        thread = (await ann.open_thread(await ann.make_group()))["thread_id"]
        other = (await ben.open_thread(await ben.make_group()))["thread_id"]
        answers = await asyncio.gather(*(_begin((one, two)[turn % 2], ann, thread) for turn in range(14)))
        await asyncio.to_thread(two.restart)
        late = [await _begin(server, ann, thread) for server in (one, two)]
        elsewhere = await _begin(one, ben, other)

    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [429] * 8
    assert [answer.status_code for answer in late] == [429, 429]
    assert all(3000 <= int(answer.headers["retry-after"]) <= 3600 for answer in late)
    assert elsewhere.status_code == 200
