"""wscat and the `websockets` command line work as users type them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.support.client import Person
from tests.support.process import Program
from tests.support.server import Server

pytestmark = pytest.mark.outside

People = Callable[..., Awaitable[Person]]
Start = Callable[..., Program]


async def converse(program: Program, who: Person) -> None:
    """Subscribe by a typed line and see an event arrive."""
    await asyncio.to_thread(program.wait_for, '"type":"auth_success"')
    group = await who.make_group()
    program.say(json.dumps({"type": "subscribe", "data": {"group_ids": [group.id]}}))
    await asyncio.to_thread(program.wait_for, f'"type":"subscribed".*{group.id}')
    message = await who.say(group)
    await asyncio.to_thread(program.wait_for, f'"type":"new_message".*{message["message_id"]}')


async def test_wscat_token_in_query(shared_server: Server, people: People, start: Start, wscat: tuple[str, str]):
    """[OUT11] `wscat -c "ws://…/ws?token=…"` is greeted, subscribes, and receives events."""
    ada = await people(shared_server.url)

    await converse(start(*wscat, "-c", f"{shared_server.ws_url}?token={ada.token}"), ada)


async def test_wscat_token_in_header(shared_server: Server, people: People, start: Start, wscat: tuple[str, str]):
    """[OUT12] `wscat -H "Authorization: Bearer …"` is greeted, subscribes, and receives events."""
    ada = await people(shared_server.url)

    await converse(start(*wscat, "-c", shared_server.ws_url, "-H", f"Authorization: Bearer {ada.token}"), ada)


async def test_wscat_token_in_subprotocol(shared_server: Server, people: People, start: Start, wscat: tuple[str, str]):
    """[OUT13] A browser's method, `-s orbital.v1 -s bearer.<token>`, negotiates `orbital.v1`, which ws requires."""
    ada = await people(shared_server.url)

    await converse(start(*wscat, "-c", shared_server.ws_url, "-s", "orbital.v1", "-s", f"bearer.{ada.token}"), ada)


async def test_wscat_shows_the_refusal(shared_server: Server, start: Start, wscat: tuple[str, str]):
    """[OUT14] Without a token wscat shows the HTTP status of the refusal."""
    program = start(*wscat, "-c", shared_server.ws_url)

    await asyncio.to_thread(program.wait_for, "401")
    assert await asyncio.to_thread(program.wait) != 0


async def test_wscat_older_path(shared_server: Server, people: People, start: Start, wscat: tuple[str, str]):
    """[OUT15] `/v1/websocket` is the same endpoint."""
    ada = await people(shared_server.url)
    older = f"ws://127.0.0.1:{shared_server.port}/v1/websocket"

    await converse(start(*wscat, "-c", f"{older}?token={ada.token}"), ada)


async def test_websockets_command_line(shared_server: Server, people: People, start: Start):
    """[OUT16] `python -m websockets "ws://…/ws?token=…"` is greeted, receives events, and closes with 1000."""
    ada = await people(shared_server.url)
    program = start(sys.executable, "-m", "websockets", f"{shared_server.ws_url}?token={ada.token}")

    await converse(program, ada)
    program.end_input()

    await asyncio.to_thread(program.wait_for, "Connection closed: 1000")


async def test_websockets_library_token_in_header(shared_server: Server, people: People):
    """[OUT17] The websockets library connects with the token in the header and its default compression offer."""
    ada = await people(shared_server.url)
    group = await ada.make_group()
    async with await ada.listen(group) as socket:
        message = await ada.say(group)
        await socket.until(lambda frame: frame["data"].get("message_id") == message["message_id"])

        assert [extension.name for extension in socket.connection.protocol.extensions] == ["permessage-deflate"]
