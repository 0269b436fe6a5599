"""What an external tester expects of frames from the protocol: their order, and the handling of unusual ones."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator

import pytest

from tests.support.client import Group, Person, Socket, opaque
from tests.support.server import Server


@pytest.fixture
async def ada(shared_server: Server) -> AsyncIterator[Person]:
    """A user with an account."""
    async with await Person.sign_up(shared_server.url) as person:
        yield person


async def post(socket: Socket, group: Group, number: int) -> None:
    """Post a message by frame."""
    body = {"conversation_id": group.id, "encrypted_envelope": opaque(), "timestamp": 1}
    await socket.send("post_message", body, id=number)


async def test_a_client_that_subscribes_and_then_posts_receives_the_event(ada):
    """
    [CONF1] Frames take effect in order: a client that subscribes and posts without waiting receives the event.

    The post used to be queued while the subscribe was still reading the heads of 200 groups, and could be stored
    before; its sender then never received it.
    """
    groups = [await ada.make_group() for _ in range(200)]
    for number in range(6):
        socket = await ada.connect()
        await socket.send("subscribe", {"group_ids": [group.id for group in groups]})
        await post(socket, groups[-1], number)
        posted = await socket.until(lambda frame, number=number: frame.get("reply_to") == number)
        await socket.wait_idle()

        heads = next(frame for frame in socket.frames if frame["type"] == "subscribed")["data"]["groups"]
        assert heads[groups[-1].id]["seq"] < posted["data"]["seq"]
        assert socket.seqs(groups[-1]) == [posted["data"]["seq"]]
        await socket.close()


async def test_posts_without_data_are_answered_in_order(ada):
    """
    [CONF2] Responses to posts, refusals included, are sent in the order of the frames.

    The refusal of a post without `data` used to overtake the answers of the posts before it.
    """
    group = await ada.make_group()
    socket = await ada.connect()
    for number in range(5):
        await post(socket, group, number)
    await socket.send_raw('{"type":"post_message","id":"nothing"}')
    await socket.send_raw('{"type":"post_message","id":"null","data":null}')
    await post(socket, group, 5)
    await socket.until(lambda frame: frame.get("reply_to") == 5)

    answers = [frame for frame in socket.frames if "reply_to" in frame]
    assert [frame["reply_to"] for frame in answers] == [0, 1, 2, 3, 4, "nothing", "null", 5]
    refused = answers[5]["data"]
    assert (refused["code"], refused["field"]) == ("VALIDATION_ERROR", "data")
    await socket.close()


@pytest.mark.parametrize("number", [2**53, 2**64 + 1, 10**100, -(2**64)])
async def test_an_id_is_echoed_however_large(ada, number):
    """[CONF3] An integer `id` is echoed unchanged, also in refusals, and never closes the connection."""
    socket = await ada.connect()
    await socket.send("subscribe", {"group_ids": []}, id=number)
    await socket.send("nonsense", id=number)
    await socket.send("post_message", id=number)
    kinds = {(await socket.receive())["type"] for _ in range(3)}

    assert kinds == {"subscribed", "error"}
    assert [frame["reply_to"] for frame in socket.frames[-3:]] == [number] * 3
    await socket.close()


@pytest.mark.parametrize("seq", [99, 2**53, 2**63 - 1, 2**63, 2**64, 10**100])
async def test_a_position_ahead_of_the_log_is_not_recovered(ada, seq):
    """[CONF4] Any `since` ahead of the log gets `recovered: false`, and live events follow."""
    group = await ada.make_group()
    socket = await ada.listen(group, since={group.id: seq})
    said = await ada.say(group)
    await socket.until_seq(group, said["seq"])

    assert socket.frames[1]["data"]["groups"] == {group.id: {"seq": 1, "recovered": False}}
    assert socket.seqs(group) == [2]
    await socket.close()


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame of at most 125 bytes; the mask is nought, which RFC 6455 §5.3 allows."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


async def say_at_once(person: Person, port: int, frames: bytes) -> list[str | int]:
    """Connect, send frames in one piece right after the 101, and return the types and close codes that come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {person.token}\r\n\r\n".encode()
    )
    said: list[str | int] = []
    async with asyncio.timeout(60):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(frames)
        while 8 not in said[-2:-1]:
            first, length = await reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
            payload = await reader.readexactly(length)
            said += [json.loads(payload)["type"]] if first & 15 == 1 else [8, int.from_bytes(payload[:2], "big")]
    writer.close()
    await writer.wait_closed()
    return said


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (masked(2, b"x"), 1003),
        (masked(1, b"\xff"), 1007),
        (masked(3, b""), 1002),
        (masked(8, b"\x03\xe8"), 1000),
        (bytes([0x81, 0xFF]) + struct.pack(">Q", 65_537), 1009),
    ],
)
async def test_frames_before_the_end_are_answered(ada, shared_server, last, code):
    """
    [CONF8] `auth_success` is sent first and at once, and frames before one that ends the connection are answered.

    Everything buffered until the end of the loop iteration used to be lost, including the greeting.
    """
    frames = masked(1, b'{"type":"nonsense"}') + last

    assert await say_at_once(ada, shared_server.port, frames) == ["auth_success", "error", 8, code]
