"""Frames before the end of a connection: posts are stored and answered, however it ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.support import tokens
from tests.support.edge import Client, masked
from tests.support.process import until
from tests.support.server import Server

_HEADERS = {"Authorization": f"Bearer {tokens.token('ada', 'ada')}"}


def _group(server: Server) -> str:
    made = httpx.post(
        f"{server.url}/api/groups", json={"encrypted_name": "AAAA", "encrypted_group_key": "AAAA"}, headers=_HEADERS
    )
    return str(made.json()["group_id"])


def _text(kind: str, data: dict[str, Any], number: int) -> bytes:
    return masked(0x81, json.dumps({"type": kind, "data": data, "id": number}).encode())


def _post(group: str, number: int) -> bytes:
    data = {"conversation_id": group, "encrypted_envelope": "AAAA", "timestamp": number}
    return _text("post_message", data, number)


def _stored(server: Server, group: str) -> int:
    """Return how many messages the group has."""
    answer = httpx.get(f"{server.url}/v1/messages", params={"conversation_id": group, "since": 0}, headers=_HEADERS)
    return len(answer.json()["messages"])


_ENDS: dict[str, tuple[bytes, int | None]] = {
    "Close": (masked(0x88, b"\x03\xe8"), 1000),
    "Close without a code": (masked(0x88), None),
    "a protocol error": (b"\xf1\x80\x00\x00\x00\x00", 1002),
    "binary": (masked(0x82, b"x"), 1003),
    "no UTF-8": (masked(0x81, b"\xff"), 1007),
    "too long": (masked(0x81, b"x" * 70_000), 1009),
    "ten bad frames": (masked(0x81, b"{}") * 10, 1008),
}


def _rest(client: Client) -> tuple[list[dict[str, Any]], int | None]:
    """Read to the Close; return the frames before it, and its code."""
    frames = []
    while True:
        first, payload = client.receive()
        if first == 0x88:
            return frames, int.from_bytes(payload[:2], "big") if payload else None
        frames.append(json.loads(payload))


@pytest.mark.parametrize("subscribes", [False, True], ids=["posts", "subscribe and posts"])
@pytest.mark.parametrize("ending", list(_ENDS))
def test_posts_before_a_close(shared_server: Server, ending: str, subscribes: bool):
    """
    [LAST1] Posts before the frame that ends a connection are stored and answered before the Close.

    0 of 108 were answered, and 17 that followed a subscribe were not stored.
    """
    group = _group(shared_server)
    sent = b"".join(_post(group, number) for number in (1, 2, 3))
    if subscribes:
        sent = _text("subscribe", {"group_ids": [group]}, 7) + sent
    end, code = _ENDS[ending]

    with Client(shared_server.port) as client:
        client.upgrade(f"Authorization: {_HEADERS['Authorization']}\r\n")
        client.send(sent + end)
        frames, said = _rest(client)

    assert [frame["reply_to"] for frame in frames if frame["type"] == "posted"] == [1, 2, 3]
    assert said == code
    assert _stored(shared_server, group) == 3


@pytest.mark.parametrize("subscribes", [False, True], ids=["posts", "subscribe and posts"])
def test_posts_before_a_half_close(shared_server: Server, subscribes: bool):
    """[LAST1] A client that closes only its sending side gets the responses to its posts."""
    group = _group(shared_server)
    sent = b"".join(_post(group, number) for number in (1, 2, 3))
    if subscribes:
        sent = _text("subscribe", {"group_ids": [group]}, 7) + sent

    with Client(shared_server.port) as client:
        client.upgrade(f"Authorization: {_HEADERS['Authorization']}\r\n")
        client.send(sent)
        client.socket.shutdown(socket.SHUT_WR)
        posted: list[int] = []
        with suppress(EOFError):
            while frame := json.loads(client.receive().payload):
                posted += [frame["reply_to"]] if frame["type"] == "posted" else []

    assert posted == [1, 2, 3]
    assert _stored(shared_server, group) == 3


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_posts_of_a_client_that_disconnected(shared_server: Server, reset: bool):
    """[LAST2] Posts that were read are stored, also behind a subscribe, although their client has disconnected."""
    groups = [_group(shared_server) for _ in range(5)]
    for group in groups:
        with Client(shared_server.port) as client:
            client.upgrade(f"Authorization: {_HEADERS['Authorization']}\r\n")
            client.send(_text("subscribe", {"group_ids": [group]}, 7) + b"".join(_post(group, n) for n in (1, 2, 3)))
            # The ping behind them is answered at once: all frames were read.
            client.frame(0x89, b"")
            while client.receive().first != 0x8A:
                pass
            if reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    until(lambda: [_stored(shared_server, group) for group in groups] == [3] * 5, what="all posts are stored")


def test_the_wait_for_responses_is_bounded(serve: Callable[..., Server]):
    """[LAST1] The wait for responses has the same deadline as a shutdown of the server."""
    server = serve(env={"ORBITAL_DRAIN_SECONDS": "0"})
    group = _group(server)

    with Client(server.port) as client:
        client.upgrade(f"Authorization: {_HEADERS['Authorization']}\r\n")
        client.send(_post(group, 1) + masked(0x88, b"\x03\xe8"))
        _, said = _rest(client)

    assert said == 1000
    until(lambda: _stored(server, group) == 1, what="the post is stored")


def test_a_long_number_is_answered(shared_server: Server):
    """[LAST3] A frame whose `id` is a number of any length is answered with that number, as are its neighbours."""
    digits = "7" * 5_000
    with Client(shared_server.port) as client:
        client.upgrade(f"Authorization: {_HEADERS['Authorization']}\r\n")
        for text in (f'{{"type":"pong","id":{digits}}}', f'{{"type":"subscribe","data":{{"x":{digits}}},"id":5}}'):
            client.frame(0x81, text.encode())
        client.receive()
        answers = [client.receive().payload for _ in range(2)]

    assert [b'"code":"VALIDATION_ERROR"' in answer for answer in answers] == [True, True]
    assert answers[0].endswith(f'"reply_to":{digits}}}'.encode())
    assert json.loads(answers[1])["reply_to"] == 5


def test_a_long_number_in_a_body(shared_server: Server):
    """[LAST7] A number of any length in a JSON body is 400 or ignored, never a server error."""
    digits = "7" * 5_000
    for body, path in (
        (f'{{"conversation_id":{digits},"encrypted_envelope":"AAAA","timestamp":0}}', "/v1/messages"),
        (f'{{"conversation_id":"x","encrypted_envelope":"AAAA","timestamp":{digits}}}', "/v1/messages"),
        (f'{{"encrypted_name":"AA","encrypted_group_key":"AA","x":{digits}}}', "/api/groups"),
        (f'{{"username":"xyz","password":"Correct-Horse-7","public_key":{{"n":{digits}}}}}', "/api/signup"),
    ):
        answer = httpx.post(f"{shared_server.url}{path}", content=body, headers=_HEADERS)
        assert answer.status_code in {201, 400}, answer.text
        keyed = {**_HEADERS, "Idempotency-Key": f"k{len(body)}"}
        answer = httpx.post(f"{shared_server.url}{path}", content=body, headers=keyed)
        assert answer.status_code in {201, 400, 409}, answer.text
    for path in (f"/v1/messages?limit={digits}", f"/v1/messages?since={digits}", f"/api/groups?limit={digits}"):
        assert httpx.get(f"{shared_server.url}{path}", headers=_HEADERS).status_code in {200, 400}, path
