"""Clients that request large responses and read none, on a real PostgreSQL: its sessions stay free for others."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from orbital_relay.store.postgres import READERS
from tests.contracts.drafts import new_id
from tests.support.client import Person
from tests.support.edge import Client, masked
from tests.support.postgres import Postgres
from tests.support.process import until
from tests.support.server import Server

pytestmark = pytest.mark.postgres

TEXT = "A" * (256 * 1024 // 3 * 4)
SILENT = 4 * READERS
"""Requests whose answers nobody reads: several times as many as there are sessions to read with."""
CHUNK = os.urandom(5 * 1024 * 1024)


async def _fill(ann: Person, group: str) -> list[str]:
    """Make pages of 8 MiB and a medium of 10 MiB; return the paths of all."""
    thread = (await ann.post("/api/threads", {"group_id": group, "encrypted_title": "AA", "encrypted_body": "AA"}))[
        "thread_id"
    ]
    for _ in range(26):
        await ann.post(f"/api/threads/{thread}/replies", {"encrypted_body": TEXT})
    medium = new_id()
    for number in range(2):
        fields = {
            "media_id": medium,
            "thread_id": thread,
            "chunk_index": str(number),
            "total_chunks": "2",
            "encrypted_metadata": "AAAA",
            "encryption_iv": base64.b64encode(b"0123456789ab").decode(),
        }
        files = {"chunk": ("chunk", CHUNK, "application/octet-stream")}
        await ann.ask("POST", "/api/media/upload", data=fields, files=files)
    return [
        f"/api/threads/{thread}/replies?limit=100",
        f"/v1/events?group_id={group}&limit=1000",
        f"/api/media/{medium}/download",
    ]


def _silent(client: Client, path: str, token: str) -> None:
    """Ask, and read no more than the first line of the answer."""
    client.ask(f"Authorization: Bearer {token}\r\n", target=path)
    client.socket.settimeout(60)
    assert client.take(12) == b"HTTP/1.1 200"


def _silent_socket(client: Client, group: str, token: str) -> None:
    """Open a socket, ask for everything since the start, and read no more than the first bytes of it."""
    client.upgrade(f"Authorization: Bearer {token}\r\n")
    data = {"group_ids": [group], "since": {group: 0}}
    client.send(masked(0x81, json.dumps({"type": "subscribe", "data": data}).encode()))
    client.take(1000)


async def test_sessions_are_free_while_nobody_reads(
    serve: Callable[..., Server], postgres_cluster: Postgres, postgres_url: str, people: Callable[..., Any]
):
    """
    [SILENT1] While 24 large responses and 12 catch-ups are not read, no PostgreSQL session is held for them.

    Another member reads the same pages meanwhile. The memory limit for responses is high here, so it does not apply.
    """
    server = serve(env={"DATABASE_URL": postgres_url, "ORBITAL_ANSWER_MEMORY_BYTES": str(4 * 1024**3)})
    ann: Person = await people(server.url)
    ben: Person = await people(server.url)
    group = await ann.make_group()
    await ben.join(group)
    paths = await _fill(ann, group.id)
    database = postgres_url.rpartition("/")[2].partition("?")[0]

    busy = (
        "SELECT application_name, state, query FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND application_name LIKE 'orbital%' AND state <> 'idle'"
    )

    with ExitStack() as held:
        for number in range(SILENT):
            client = held.enter_context(Client(server.port, 4096))
            await asyncio.to_thread(_silent, client, paths[number % 3], ann.token)
        for _ in range(12):
            client = held.enter_context(Client(server.port, 4096))
            await asyncio.to_thread(_silent_socket, client, group.id, ann.token)
        await asyncio.to_thread(until, lambda: postgres_cluster.execute(busy) == [], what="idle sessions")

        async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {ben.token}"}) as http:
            answers = await asyncio.gather(*(http.get(path, timeout=60) for path in paths * 2))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert answers[2].content == CHUNK * 2
        assert (await ben.say(group))["seq"] > 0
