"""A proxy, a portal or a firewall that answers in the server's place: nothing that it says is the server's decision."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orbital_relay.client import Api, BadAnswer, FileOutbox, Orbital, State, connect
from orbital_relay.client.media import download, upload
from orbital_relay.core.backoff import Backoff
from tests.support.client import Group, Person
from tests.support.liar import EMPTY, HTML, JSON, SPRING, Liar
from tests.support.process import Program
from tests.support.programs import CHECKOUT
from tests.support.server import Server

FAST = Backoff(steps_ms=(20, 40), jitter_ms=10, attempts=1_000, window_ms=1_000)
STATUS = (200, 301, 302, 307, 308, 400, 401, 403, 404, 405, 409, 410, 413, 416, 426, 429, 500, 502, 503)
LIES = [(status, body) for status, body in zip(STATUS, itertools.cycle((HTML, JSON, SPRING, EMPTY)), strict=False)]
LIES += [(401, JSON), (403, HTML), (404, HTML), (410, SPRING), (200, JSON)]


@pytest.fixture
async def liar(shared: Server) -> AsyncIterator[Liar]:
    """A proxy that lies on demand."""
    async with Liar(urlsplit(shared.url).port or 0) as proxy:
        yield proxy


async def anna_and_group(server: Server) -> tuple[Person, Group]:
    """Make a person with a group."""
    anna = await Person.sign_up(server.url)
    return anna, await anna.make_group()


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie[0]}-{len(lie[1])}")
async def test_every_path(shared: Server, liar: Liar, lie: tuple[int, bytes], tmp_path: Path) -> None:
    """[PYLIAR1] Socket, outbox and log continue once the proxy stops interfering; the post is kept and arrives once."""
    anna, group = await anna_and_group(shared)
    outbox = FileOutbox(tmp_path / "outbox")
    async with connect(liar.url, token=anna.token, backoff=FAST, outbox=outbox) as orbital:
        subscription = orbital.subscribe(group.id, since=0)
        assert (await anext(subscription)).type == "member_joined"
        liar.lie = lie
        liar.cut()
        posting = asyncio.create_task(orbital.send(group.id, b"x"))
        reading = asyncio.create_task(anext(subscription))
        await liar.until_answered("/ws", times=2)
        await liar.until_answered("/v1/messages", times=2)
        assert not posting.done()
        assert not reading.done()
        assert orbital.state.state is State.CONNECTING
        assert len(list((tmp_path / "outbox").glob("*.json"))) == 1
        liar.lie = None
        async with asyncio.timeout(60):
            sent = await posting
            event = await reading

        assert (sent.seq, event.seq) == (2, 2)
        assert (await orbital.api.events(group.id)).last_seq == 2
    await anna.close()


REQUESTS: dict[str, Any] = {
    "login": lambda api: api.login("anna", "pw"),
    "logout": lambda api: api.logout(),
    "ticket": lambda api: api.ws_ticket(),
    "groups": lambda api: api.groups(),
    "members": lambda api: api.members("g"),
    "leave": lambda api: api.remove_member("g", "u"),
    "quota": lambda api: api.quota("g"),
    "messages": lambda api: api.messages(),
    "threads": lambda api: api.threads("g"),
    "replies": lambda api: api.replies("t"),
    "events": lambda api: api.events("g"),
    "frames": lambda api: api.event_frames("g"),
    "info": lambda api: api.media_info("m"),
    "downloaded": lambda api: api.media_downloaded("m"),
    "delete": lambda api: api.delete_media("m"),
}


@pytest.mark.parametrize("path", REQUESTS)
async def test_every_request(shared: Server, liar: Liar, path: str) -> None:
    """[PYLIAR2] No request accepts a proxy's response as the server's, whether its status is 2xx, 3xx, 4xx or 5xx."""
    for lie in LIES:
        liar.lie = lie
        async with Api(liar.url, token="t") as api:
            with pytest.raises(BadAnswer):
                await REQUESTS[path](api)


@pytest.mark.parametrize("lie", [(401, HTML), (404, JSON), (413, SPRING), (200, HTML), (302, EMPTY)], ids=str)
async def test_media(shared: Server, liar: Liar, lie: tuple[int, bytes], tmp_path: Path) -> None:
    """[PYLIAR3] Uploads and downloads continue once the proxy stops interfering; no proxy page becomes a medium."""
    anna, group = await anna_and_group(shared)
    thread = (await anna.open_thread(group))["thread_id"]
    about: Any = {"encrypted_metadata": "bWV0YQ==", "encryption_iv": "aXY=", "chunk_bytes": 1_000, "backoff": FAST}
    data = os.urandom(2_500)
    async with Api(liar.url, token=anna.token) as api:
        liar.lie = lie
        liar.cut()
        sending = asyncio.create_task(upload(api, thread, data, **about))
        await liar.until_answered("/api/media/upload", times=2)
        liar.lie = None
        stored = await sending
        liar.lie = lie
        liar.cut()
        again = asyncio.create_task(upload(api, thread, data, media_id=stored.media_id, **about))
        await liar.until_answered(f"/api/media/{stored.media_id}/upload", times=2)
        liar.lie = None
        assert (await again).uploaded_at == stored.uploaded_at
        liar.lie = lie
        liar.cut()
        fetching = asyncio.create_task(download(api, stored.media_id, to=tmp_path / "blob", backoff=FAST))
        await liar.until_answered("/download", times=2)
        liar.lie = None
        await fetching

    assert (tmp_path / "blob").read_bytes() == data
    await anna.close()


def environment(url: str, token: str) -> dict[str, str]:
    """Make the environment of a command."""
    return {**os.environ, "ORBITAL_URL": url, "ORBITAL_TOKEN": token, "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("lie", [(403, HTML), (404, JSON)], ids=str)
async def test_commands(shared: Server, liar: Liar, lie: tuple[int, bytes]) -> None:
    """[PYLIAR4] `orbital tail` and `orbital send` wait for the server, and report in one sentence what responded."""
    anna, group = await anna_and_group(shared)
    orbital = [sys.executable, "-m", "orbital_relay"]
    liar.lie = lie
    tail = Program(
        [*orbital, "tail", "--since", "start", group.id], env=environment(liar.url, anna.token), cwd=CHECKOUT
    )
    await asyncio.to_thread(tail.wait_for, f"the response with status {lie[0]} is not from Orbital")
    sending = asyncio.create_task(
        asyncio.to_thread(
            subprocess.run,
            [*orbital, "send", group.id],
            env=environment(liar.url, anna.token),
            cwd=CHECKOUT,
            input=b"x",
            capture_output=True,
            timeout=60,
        )
    )
    await liar.until_answered("/v1/messages")
    liar.lie = None
    assert (await sending).returncode == 0
    await asyncio.to_thread(tail.wait_for, "#2 new_message")
    tail.kill()
    await anna.close()


async def test_the_server_itself_still_decides(shared: Server) -> None:
    """[PYLIAR5] A refusal by the server itself ends the client at once, with the server's message."""
    with pytest.raises(Exception, match="token") as caught:
        await Orbital(shared.url, token="no.such.token").open()
    assert type(caught.value).__name__ == "Refused"
