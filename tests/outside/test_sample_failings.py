"""
Errors of the published sample server that this server does not have.

That sample dies on input that it did not expect, takes any path, asks nobody for membership, finds group ids inside
longer strings, and cuts a line after one missed pong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve
from tests.support.client import Person, Socket
from tests.support.server import Server

pytestmark = pytest.mark.outside

People = Callable[..., Awaitable[Person]]

# Every client frame has a mask (RFC 6455 §5.3); a mask of zeros changes no byte.
_MASK = bytes(4)


async def assert_still_serves(server: Server, ada: Person, socket: Socket) -> None:
    """Assert that this socket still subscribes and gets events: nothing broke but what had to."""
    group = await ada.make_group()
    assert (await socket.subscribe(group.id))["data"]["group_ids"] == [group.id]
    await ada.say(group)
    assert (await socket.until_seq(group, 2))["type"] == "new_message"
    assert server.program.alive


@pytest.mark.parametrize("text", ["hello", "", "{", "{'type': 'pong'}", '{"type":"pong"}{', "\x00", "[1,2", "NaN"])
async def test_not_json(shared_server: Server, people: People, text: str):
    """[OUT21] Text that is not JSON gets an error frame, and the connection stays open."""
    ada = await people(shared_server.url)
    async with await ada.connect() as socket:
        await socket.send_raw(text)

        error = await socket.until("error")
        assert error["data"]["code"] == "VALIDATION_ERROR"
        assert error["data"]["message"]
        await assert_still_serves(shared_server, ada, socket)


@pytest.mark.parametrize("text", ["null", "[]", "{}", "7", '"pong"', "true", '{"type":null}', '{"type":7,"data":{}}'])
async def test_json_that_is_not_a_frame(shared_server: Server, people: People, text: str):
    """[OUT22] JSON that is not a frame, `null` above all, gets an error frame, and the connection stays open."""
    ada = await people(shared_server.url)
    async with await ada.connect() as socket:
        await socket.send_raw(text)

        assert (await socket.until("error"))["data"]["code"] == "VALIDATION_ERROR"
        await assert_still_serves(shared_server, ada, socket)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"subscribe"}',
        '{"type":"subscribe","data":null}',
        '{"type":"subscribe","data":[]}',
        '{"type":"subscribe","data":{}}',
        '{"type":"subscribe","data":{"group_ids":null}}',
        '{"type":"subscribe","data":{"group_ids":{}}}',
        '{"type":"subscribe","data":{"group_ids":[null]}}',
        '{"type":"subscribe","data":{"group_ids":[7]}}',
        '{"type":"unsubscribe"}',
        '{"type":"unsubscribe","data":{}}',
        '{"type":"typing_indicator"}',
        '{"type":"no_such_type","data":{}}',
    ],
)
async def test_wrong_data(shared_server: Server, people: People, text: str):
    """[OUT23] A frame with missing or malformed data gets an error, and the connection stays open."""
    ada = await people(shared_server.url)
    async with await ada.connect() as socket:
        await socket.send_raw(text)

        assert (await socket.until("error"))["data"]["code"] == "VALIDATION_ERROR"
        await assert_still_serves(shared_server, ada, socket)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        pytest.param(b"\xc1\x82" + _MASK + b"{}", 1002, id="reserved bit without an extension"),
        pytest.param(b"\x81\x02{}", 1002, id="not masked"),
        pytest.param(b"\x83\x80" + _MASK, 1002, id="reserved opcode"),
        pytest.param(b"\x80\x80" + _MASK, 1002, id="continuation of nothing"),
        pytest.param(b"\x09\x80" + _MASK, 1002, id="ping in fragments"),
        pytest.param(b"\x81\x82" + _MASK + b"\xff\xff", 1007, id="not UTF-8"),
        pytest.param(b"\x82\x82" + _MASK + b"{}", 1003, id="binary"),
        pytest.param(b"\x81\xff" + (2**62).to_bytes(8, "big") + _MASK, 1009, id="four exabytes announced"),
    ],
)
async def test_broken_frame(shared_server: Server, people: People, broken: bytes, code: int):
    """[OUT24] A malformed WebSocket frame closes its own connection with the matching code, and no other."""
    ada = await people(shared_server.url)
    async with await ada.connect() as bystander, await ada.connect(compression=None) as socket:
        socket.connection.transport.write(broken)

        assert await socket.until_closed() == code
        await assert_still_serves(shared_server, ada, bystander)


async def test_half_a_frame(shared_server: Server, people: People):
    """[OUT25] A client that disconnects within a frame affects no other connection."""
    ada = await people(shared_server.url)
    async with await ada.connect() as bystander:
        for part in (b"\x81", b"\x81\xfe\xff", b"\x81\x85" + _MASK + b"{", b"\x01\x81" + _MASK + b"{"):
            socket = await ada.connect(compression=None)
            socket.connection.transport.write(part)
            socket.connection.transport.abort()

        await assert_still_serves(shared_server, ada, bystander)


@pytest.mark.parametrize("path", ["/", "/ws/", "/wss", "/ws/x", "/api/groups", "/socket.io/", "/%77s%2f", "//ws"])
async def test_another_path(shared_server: Server, people: People, path: str):
    """[OUT26] A handshake is accepted on `/ws` and `/v1/websocket`, on no other path."""
    ada = await people(shared_server.url)
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{shared_server.port}{path}?token={ada.token}", proxy=None)

    assert refused.value.response.status_code == 404
    assert b'"NOT_FOUND"' in (refused.value.response.body or b"")


async def test_not_a_member(shared_server: Server, people: People):
    """[OUT27] A non-member cannot subscribe to a group and receives nothing of it; the other groups succeed."""
    ada, eve = await people(shared_server.url), await people(shared_server.url)
    group, own = await ada.make_group(), await eve.make_group()
    nowhere = "00000000-0000-4000-8000-000000000000"
    async with await eve.connect() as socket:
        answer = await socket.subscribe(group.id, own.id, nowhere)
        assert answer["data"]["group_ids"] == [own.id]
        await ada.say(group)
        await eve.say(own)
        await socket.until_seq(own, 2)
        frames = await socket.wait_idle()

    [error] = [frame for frame in frames if frame["type"] == "error"]
    assert error["data"]["code"] == "FORBIDDEN"
    assert sorted(error["data"]["group_ids"]) == sorted([group.id, nowhere])
    assert socket.events(group) == []


async def test_ids_inside_a_string(shared_server: Server, people: People):
    """[OUT28] `group_ids` as one string is refused: an id within a longer text subscribes to nothing."""
    ada = await people(shared_server.url)
    group, other = await ada.make_group(), await ada.make_group()
    async with await ada.connect() as socket:
        await socket.send("subscribe", {"group_ids": f"{group.id},{other.id}"})
        assert (await socket.until("error"))["data"]["code"] == "VALIDATION_ERROR"
        await ada.say(group)
        await socket.wait_idle()

        assert socket.events(group) == []


async def test_missed_pongs(serve: Serve, people: People):
    """[OUT29] Two unanswered pings in a row are tolerated, repeatedly; three close the connection."""
    server = serve(env={"ORBITAL_HEARTBEAT_SECONDS": "0.4"})
    ada = await people(server.url)
    async with await ada.connect() as socket:
        socket.answering = False

        async def ping() -> None:
            while (await socket.receive(pings=True))["type"] != "ping":
                pass

        for _ in range(3):
            await ping()
            await ping()
            await socket.send("pong", {"client_time": 0})
        answered = 6

        await socket.until_closed()
        assert sum(frame["type"] == "ping" for frame in socket.frames) == answered + 3
