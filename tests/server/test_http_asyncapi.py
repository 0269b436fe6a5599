"""`/asyncapi.json`: generated from the types of the frames, and true for every frame that the tests receive."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator
from socket import create_server
from typing import Any, get_args

import pytest
import websockets
from jsonschema import Draft202012Validator

from orbital_relay import wire
from orbital_relay.core.framing import text_frame
from tests.server.api import Api
from tests.support import edge, frames, programs, sdk
from tests.support.fake import FakeServer
from tests.support.frames import check_frame
from tests.support.process import Program

FRAME = {
    "type": "ping",
    "data": {"server_time": 1},
    "server_timestamp": 2,
}


def deflated(payload: bytes) -> bytes:
    """Compress a message as RFC 7692 does."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@pytest.fixture
async def document(api: Api) -> Any:
    """The document as a client gets it."""
    answer = await api.ask("GET", "/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


async def test_every_frame_is_described(document: Any):
    """[ASYNC1] The document has a message for each frame of both directions, in one operation of the channel `/ws`."""
    server = {data.kind for data in get_args(wire.ServerData)} | set(wire.EVENTS) | {"posted", "error"}
    client = {frame.__struct_config__.tag for frame in get_args(wire.ClientFrame)}
    messages = document["components"]["messages"]

    assert set(messages) == {f"server.{name}" for name in server} | {f"client.{name}" for name in client}
    assert document["channels"]["socket"]["address"] == "/ws"
    for operation, way in (("sendToClient", "server"), ("receiveFromClient", "client")):
        referred = {each["$ref"].rpartition("/")[2] for each in document["operations"][operation]["messages"]}
        assert referred == {name for name in messages if name.startswith(f"{way}.")}


async def test_every_reference_leads_somewhere(document: Any):
    """[ASYNC2] Every reference in the document resolves within it, and every schema is used and well-formed."""
    references = set(re.findall(r"'#/([^']+)'", str(document)))
    for reference in references:
        part = document
        for name in reference.split("/"):
            part = part[name]

    schemas = document["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in references if "/schemas/" in name} == set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "pingg"},
        {"data": {"server_time": "1"}},
        {"data": {}},
        {"data": {"server_time": 1, "more": 1}},
        {"more": 1},
        {"server_timestamp": 1.5},
        {"reply_to": []},
    ],
    ids=str,
)
def test_an_undeclared_frame_is_noticed(change: dict[str, Any]):
    """[ASYNC3] The check of the tests' sockets accepts a frame and fails for one that the document does not allow."""
    check_frame(FRAME)

    with pytest.raises(AssertionError, match=r"asyncapi\.json"):
        check_frame({**FRAME, **change})


# Frames that no test looks at

UNKNOWN = '{"type":"pingg","data":{},"server_timestamp":1}'
MALFORMED = '{"type":"ping","data":{"server_time":"1"},"server_timestamp":1}'
BAD = [UNKNOWN, MALFORMED, "no JSON", "[]"]


@pytest.fixture
async def checked() -> AsyncIterator[FakeServer]:
    """A server that sends what a test asks for, and whose frames are checked as the real server's are."""
    async with FakeServer(header="") as server:
        yield server


@pytest.mark.parametrize("text", BAD)
async def test_a_bad_frame_to_the_python_sdk_is_noticed(checked: FakeServer, text: str):
    """[ASYNC4] A bad frame that the Python SDK receives fails the test at its end, though the SDK ignores the frame."""
    async with sdk.client(checked):
        await checked.until(lambda: bool(checked.sockets))
        await checked.send(text)
        await checked.end()
        await checked.until(lambda: len(checked.handshakes) > 1)

    assert len(frames.take_violations()) == 1


@pytest.mark.parametrize("text", BAD)
async def test_a_bad_frame_to_a_plain_client_is_noticed(checked: FakeServer, text: str):
    """[ASYNC5] A bad frame that a client of the websockets library receives fails the test, whatever the test reads."""
    async with websockets.connect(checked.url.replace("http", "ws") + "/ws", proxy=None) as socket:
        await socket.recv()
        await checked.send(text)
        await socket.recv()

    assert len(frames.take_violations()) == 1


async def test_frames_of_a_fake_are_not_checked():
    """[ASYNC6] A server of the tests that sends bad frames on purpose says so in its handshake, and is not checked."""
    async with (
        FakeServer() as server,
        websockets.connect(server.url.replace("http", "ws") + "/ws", proxy=None) as socket,
    ):
        await socket.recv()
        await server.send(UNKNOWN)
        await socket.recv()

    assert frames.take_violations() == []


@pytest.mark.parametrize("text", [UNKNOWN, MALFORMED])
def test_a_bad_frame_on_a_raw_socket_is_noticed(text: str):
    """[ASYNC7] A bad frame that a test reads off a raw socket fails the test."""
    with create_server(("127.0.0.1", 0)) as listener, edge.Client(listener.getsockname()[1]) as client:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(text_frame(text.encode()))
            client.receive()

    assert len(frames.take_violations()) == 1


@pytest.mark.parametrize("text", [UNKNOWN, MALFORMED])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_a_bad_frame_in_any_form_is_noticed(text: str, compressed: bool, fragments: int):
    """[ASYNC9] A bad frame on a raw socket fails the test also compressed, or in fragments with a Ping between them."""
    payload = deflated(text.encode()) if compressed else text.encode()
    size = -(-len(payload) // fragments)
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    wire = b""
    for number, part in enumerate(parts):
        first = (0x80 if number == len(parts) - 1 else 0) | (0x01 if number == 0 else 0)
        first |= 0x40 if compressed and number == 0 else 0
        wire += bytes((first, len(part))) + part + b"\x89\x00"

    with create_server(("127.0.0.1", 0)) as listener, edge.Client(listener.getsockname()[1]) as client:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(wire)
            for _ in range(2 * len(parts)):
                client.receive()

    assert len(parts) == fragments
    assert len(frames.take_violations()) == 1


@pytest.mark.parametrize(("text", "status"), [(json.dumps(FRAME), 0), *((bad, 1) for bad in BAD)])
async def test_a_bad_frame_to_javascript_is_noticed(checked: FakeServer, text: str, status: int):
    """[ASYNC8] A process of Node that received a bad frame ends with status 1, and prints what is wrong with it."""
    recorder = (programs.CHECKOUT / "tests" / "support" / "record_frames.mjs").as_uri()
    code = f"""
        import {{ recordSockets }} from '{recorder}';
        recordSockets((url) => url.pathname === '/ws');
        const socket = new WebSocket('{checked.url.replace("http", "ws")}/ws');
        socket.onmessage = ({{ data }}) => data.includes('auth_success') || socket.close();
    """
    program = Program([programs.node(), "--input-type=module", "--eval", code])
    try:
        await checked.until(lambda: bool(checked.sockets), deadline_s=60)
        await checked.send(text)

        assert await asyncio.to_thread(program.wait) == status
        assert any("asyncapi.json" in line for line in program.lines) == bool(status)
    finally:
        program.kill()


def socket_in_a_page(url: str) -> str:
    """Return the source of a promise that a page keeps when its WebSocket receives a frame after `auth_success`."""
    return f"""new Promise((resolve) => {{
        const socket = new WebSocket('{url.replace("http", "ws")}/ws');
        socket.onmessage = ({{ data }}) => data.includes('auth_success') || resolve(data.length);
    }})"""


@pytest.mark.parametrize(("text", "status"), [(json.dumps(FRAME), 0), (UNKNOWN, 1)])
async def test_a_bad_frame_to_a_tab_is_noticed(checked: FakeServer, chromium: str, text: str, status: int):
    """[ASYNC10] A test of the SDK in Chromium ends with status 1 if a tab received a bad frame."""
    driver = (programs.CHECKOUT / "clients" / "javascript" / "test" / "chromium.js").as_uri()
    code = f"""
        import {{ Chromium }} from '{driver}';
        const browser = await Chromium.open();
        const tab = await browser.tab();
        await tab.run(() => {socket_in_a_page(checked.url)});
        await browser.close();
    """
    program = Program([programs.node(), "--input-type=module", "--eval", code], env={"ORBITAL_CHROMIUM": chromium})
    try:
        await checked.until(lambda: bool(checked.sockets), deadline_s=60)
        await checked.send(text)

        assert await asyncio.to_thread(program.wait) == status
        assert any("asyncapi.json" in line for line in program.lines) == bool(status)
    finally:
        program.kill()
