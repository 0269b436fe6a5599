"""What an external tester expects of HTTP from the protocol: bodies, errors, keys."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.client import Person
from tests.support.server import Server


async def answer_on_the_line(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes that no HTTP library would; return the head and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(60):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"FOO /api/groups HTTP/1.1\r\nHost: x\r\n\r\n",
        b"hello\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_an_invalid_request_gets_a_json_error(shared_server, request_bytes):
    """
    [CONF5] Every response other than 2xx has the error body, also when the HTTP parser rejects the request.

    It used to be the parser's plain text.
    """
    head, body = await answer_on_the_line(shared_server, request_bytes)

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    error = json.loads(body)
    assert error.keys() == {"error", "message", "details"}
    assert (error["error"], error["details"]) == ("VALIDATION_ERROR", {})


async def test_one_equals_one_point_zero(shared_server):
    """
    [CONF6] Bodies are compared as parsed JSON: order, whitespace, escapes and `1.0` for `1` make no difference.

    `"timestamp": 1.0` used to be refused, although JSON has only one type of number.
    """
    async with await Person.sign_up(shared_server.url) as ada:
        group = await ada.make_group()
        bodies = [
            f'{{"conversation_id":"{group.id}","encrypted_envelope":"YQ==","timestamp":1}}',
            f'{{"conversation_id":"{group.id}","encrypted_envelope":"YQ==","timestamp":1.0}}',
            f'{{ "timestamp" : 1e0, "encrypted_envelope":"\\u0059Q==", "conversation_id":"{group.id}"}}',
        ]
        answers = [
            await ada.http.post("/v1/messages", content=body, headers={"Idempotency-Key": "one"}) for body in bodies
        ]

        assert [answer.status_code for answer in answers] == [200] * 3
        assert len({answer.text for answer in answers}) == 1
        assert [event["seq"] for event in await ada.events(group)] == [1, 2]


@pytest.mark.parametrize("timestamp", ["1.5", "-1", "9007199254740992", "1e400", '"1"', "true", "null", "[]"])
async def test_a_timestamp_is_a_whole_number(shared_server, timestamp):
    """[CONF7] A `timestamp` that is not a whole number of milliseconds is 400 with the name of the field."""
    async with await Person.sign_up(shared_server.url) as ada:
        group = await ada.make_group()
        body = f'{{"conversation_id":"{group.id}","encrypted_envelope":"YQ==","timestamp":{timestamp}}}'
        answer = await ada.http.post("/v1/messages", content=body)

        assert answer.status_code == 400
        assert answer.json()["error"] == "VALIDATION_ERROR"
        assert answer.json()["details"] == {"field": "timestamp"}
