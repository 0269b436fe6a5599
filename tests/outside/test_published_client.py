"""
The client class of shipped programs, extracted from the document that published it and run unchanged.

It dials `/ws?token=`, answers JSON pings, knows five events, and comes back automatically: nothing of it may have to
change for this server.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import Serve
from tests.support.client import Group, Person
from tests.support.process import Program
from tests.support.server import Server

pytestmark = pytest.mark.outside

Shipped = Callable[[str, str], Program]
People = Callable[..., Awaitable[Person]]
EVENTS = ("new_message", "new_thread", "new_reply", "media_uploaded", "member_joined")


async def said(program: Program, pattern: str, *, deadline_s: float = 120, after: int = 0) -> re.Match[str]:
    """Wait for a line of the program without stopping the loop."""
    return await asyncio.to_thread(program.wait_for, pattern, deadline_s=deadline_s, after=after)


async def connected(shipped: Shipped, server: Server, who: Person) -> Program:
    """Start the class, let it connect, and return once it was welcomed."""
    client = shipped(server.ws_url.removesuffix("/ws"), who.token)
    for name in EVENTS:
        client.say(f"on {name}")
    client.say("connect")
    await said(client, r'^received \{"type":"auth_success"')
    return client


async def subscribed(client: Program, *groups: Group) -> None:
    """Subscribe and return once the server has said so."""
    client.say(" ".join(["subscribe", *(group.id for group in groups)]))
    for group in groups:
        await said(client, rf'^received \{{"type":"subscribed".*{group.id}')


def events(client: Program, kind: str) -> list[dict[str, object]]:
    """Return the data that the class gave to its handlers of one kind."""
    start = f"event {kind} "
    return [json.loads(line.removeprefix(start)) for line in client.lines if line.startswith(start)]


async def test_connects_and_receives_every_type(shared_server: Server, people: People, shipped_client: Shipped):
    """[OUT1] The shipped class connects with `?token=`, subscribes, and its handlers receive each event's data."""
    ada, ben = await people(shared_server.url), await people(shared_server.url)
    group = await ada.make_group()
    client = await connected(shipped_client, shared_server, ada)
    await subscribed(client, group)

    await ben.join(group)
    message = await ben.say(group, "sealed")
    thread = await ben.open_thread(group)
    reply = await ben.reply(thread["thread_id"])
    await said(client, rf"^event new_reply .*{reply['reply_id']}")

    assert [data["user_id"] for data in events(client, "member_joined")] == [ben.user_id]
    [got] = events(client, "new_message")
    assert got["message_id"] == message["message_id"]
    assert got["conversation_id"] == group.id
    assert got["encrypted_envelope"] == "c2VhbGVk"
    assert got["server_timestamp"] == message["server_timestamp"]
    [opened] = events(client, "new_thread")
    assert opened["thread_id"] == thread["thread_id"]
    assert opened["author_username"] == ben.username
    assert [data["thread_id"] for data in events(client, "new_reply")] == [thread["thread_id"]]


async def test_subscribe_before_open(shared_server: Server, people: People, shipped_client: Shipped):
    """[OUT2] A subscription requested before the socket is open is sent on `open`."""
    ada = await people(shared_server.url)
    group = await ada.make_group()
    client = shipped_client(shared_server.ws_url.removesuffix("/ws"), ada.token)
    client.say("on new_message")
    client.say("connect")
    client.say(f"subscribe {group.id}")
    await said(client, rf'^received \{{"type":"subscribed".*{group.id}')

    await ada.say(group)

    await said(client, "^event new_message ")
    assert events(client, "new_message")[0]["conversation_id"] == group.id


async def test_two_subscribes_add_up(shared_server: Server, people: People, shipped_client: Shipped):
    """[OUT3] A second subscribe adds groups; an unsubscribe removes only the groups that it names."""
    ada = await people(shared_server.url)
    first, second = await ada.make_group(), await ada.make_group()
    client = await connected(shipped_client, shared_server, ada)
    await subscribed(client, first)
    await subscribed(client, second)

    one = await ada.say(first)
    two = await ada.say(second)
    await said(client, rf"^event new_message .*{two['message_id']}")
    client.say(f"unsubscribe {first.id}")
    await said(client, rf'^received \{{"type":"unsubscribed".*{first.id}')
    await ada.say(first)
    three = await ada.say(second)
    await said(client, rf"^event new_message .*{three['message_id']}")

    got = [data["message_id"] for data in events(client, "new_message")]
    assert got == [one["message_id"], two["message_id"], three["message_id"]]


async def test_answers_pings_and_stays_connected(serve: Serve, people: People, shipped_client: Shipped):
    """[OUT4] The class answers JSON pings with JSON pongs only, and that keeps it connected."""
    server = serve(env={"ORBITAL_HEARTBEAT_SECONDS": "0.3"})
    ada = await people(server.url)
    group = await ada.make_group()
    client = await connected(shipped_client, server, ada)
    await subscribed(client, group)

    seen = 0
    for _ in range(8):  # more than twice what an unanswered connection survives
        await said(client, r'^sent \{"type":"pong","data":\{"client_time":\d+\}', after=seen)
        seen = 1 + next(
            number
            for number, line in enumerate(client.lines)
            if number >= seen and line.startswith('sent {"type":"pong"')
        )
    message = await ada.say(group)

    await said(client, rf"^event new_message .*{message['message_id']}")
    assert not [line for line in client.lines if line.startswith("closed")]


async def test_reconnects_after_a_kill(serve: Serve, people: People, shipped_client: Shipped):
    """[OUT5] After SIGKILL and a restart of the server, the class reconnects and subscribes again automatically."""
    server = serve()
    ada = await people(server.url)
    group = await ada.make_group()
    client = await connected(shipped_client, server, ada)
    await subscribed(client, group)
    before = await ada.say(group)
    await said(client, rf"^event new_message .*{before['message_id']}")

    last = before["server_timestamp"]
    await asyncio.to_thread(server.kill)
    await said(client, "^closed 1006")
    mark = len(client.lines)
    await asyncio.to_thread(server.start)
    between = await ada.say(group)
    await said(client, rf'^received \{{"type":"subscribed".*{group.id}', after=mark, deadline_s=60)
    after = await ada.say(group)
    await said(client, rf"^event new_message .*{after['message_id']}")

    # Missed messages are fetched as the document says: by the last stamp, over HTTP.
    missed = await ada.get("/v1/messages", since=last)
    assert [message["message_id"] for message in missed["messages"]] == [between["message_id"], after["message_id"]]


async def test_recovers_by_any_frames_stamp(serve: Serve, people: People, shipped_client: Shipped):
    """[OUT6] A request with the stamp of any last frame, as in the document's client, skips no message."""
    server = serve(env={"ORBITAL_HEARTBEAT_SECONDS": "0.2"})
    ada = await people(server.url)
    group = await ada.make_group()
    client = await connected(shipped_client, server, ada)
    await subscribed(client, group)
    posted = [await ada.say(group) for _ in range(20)]
    await said(client, rf"^event new_message .*{posted[-1]['message_id']}")
    mark = len(client.lines)
    await said(client, r'^received \{"type":"ping"', after=mark)

    received = [json.loads(line.removeprefix("received ")) for line in client.lines if line.startswith("received ")]
    arrived: set[str] = set()
    for frame in received:
        if frame["type"] == "new_message":
            arrived.add(frame["data"]["message_id"])
        page = await ada.get("/v1/messages", since=frame["server_timestamp"], limit=500)
        recovered = {message["message_id"] for message in page["messages"]}
        assert arrived | recovered == {message["message_id"] for message in posted}, frame


async def test_bad_token_is_refused_before_the_upgrade(shared_server: Server, shipped_client: Shipped):
    """[OUT7] An invalid token is HTTP 401, which the class reports as an error and a close."""
    client = shipped_client(shared_server.ws_url.removesuffix("/ws"), "not-a-token")
    client.say("connect")

    await said(client, "^log error WebSocket error.*401")
    await said(client, "^closed 1006")
    assert "open" not in client.lines


async def test_reconnects_after_a_shutdown(serve: Serve, people: People, shipped_client: Shipped):
    """[OUT8] A server that is shut down closes with 1012, and the class subscribes again when it is back."""
    server = serve()
    ada = await people(server.url)
    group = await ada.make_group()
    client = await connected(shipped_client, server, ada)
    await subscribed(client, group)

    assert await asyncio.to_thread(server.terminate) == 0
    await said(client, "^closed 1012")
    mark = len(client.lines)
    await asyncio.to_thread(server.start)

    await said(client, rf'^received \{{"type":"subscribed".*{group.id}', after=mark, deadline_s=60)
