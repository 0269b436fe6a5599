"""The REST side: addresses, tokens, errors, and every request as the protocol names it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from orbital_relay.client import Api, ApiError, BadAnswer, Unreachable, responses
from orbital_relay.client.api import RETRY_AFTER_MOST_S, address_of, retry_after_s

GROUP = "0b0e7a52-3f5c-4b8e-9d1a-6f1f4c2a9e01"


@pytest.mark.parametrize(
    "url, http, websocket",
    [
        ("http://localhost:3000", "http://localhost:3000", "ws://localhost:3000/ws"),
        ("https://api.example.com/", "https://api.example.com", "wss://api.example.com/ws"),
        ("ws://h/ws", "http://h", "ws://h/ws"),
        ("wss://h/v1/websocket", "https://h", "wss://h/ws"),
        ("wss://h/orbital/ws/", "https://h/orbital", "wss://h/orbital/ws"),
        ("http://[::1]:3000", "http://[::1]:3000", "ws://[::1]:3000/ws"),
    ],
)
def test_addresses(url: str, http: str, websocket: str) -> None:
    """[API1] An address is taken as people write it, be it of the socket or of the REST side."""
    assert (address_of(url).http, address_of(url).websocket) == (http, websocket)


def test_retry_after() -> None:
    """[API2] Retry-After is read as seconds or as a date; nonsense is as good as nothing."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)

    assert retry_after_s({"Retry-After": "5"}) == 5
    assert 28 < (retry_after_s({"Retry-After": soon}) or 0) <= 30
    assert retry_after_s({"Retry-After": past}) == 0
    assert retry_after_s({"Retry-After": "99999999999"}) == RETRY_AFTER_MOST_S
    for nonsense in ("", "soon", "-1", "1.5", "٣"):
        assert retry_after_s({"Retry-After": nonsense}) is None
    assert retry_after_s({}) is None


def api(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> Api:
    """Make the REST side over a function."""
    return Api("http://orbital.test/base", **{"token": "t", **options}, transport=httpx.MockTransport(answer))


Request = Callable[[Api], Awaitable[Any]]
THREAD = {
    "thread_id": "t",
    "group_id": "g",
    "author_id": "a",
    "author_username": "anna",
    "encrypted_title": "AA==",
    "encrypted_body": "AA==",
    "reply_count": 0,
    "media_count": 0,
    "created_at": "",
}
STORED = {"media_id": "m", "status": "complete", "size_bytes": 1, "expires_at": ""}

REQUESTS: list[tuple[Request, str, str, dict[str, Any] | None, Any, Any]] = [
    (
        lambda a: a.signup("anna", "pw", {"kty": "OKP"}),
        "POST",
        "/api/signup",
        {"username": "anna", "password": "pw", "public_key": {"kty": "OKP"}},
        {"user_id": "u", "username": "anna", "token": "t"},
        responses.SignedUp(user_id="u", username="anna", token="t"),
    ),
    (
        lambda a: a.login("anna", "pw"),
        "POST",
        "/api/login",
        {"username": "anna", "password": "pw"},
        {"user_id": "u", "username": "anna", "public_key": {}, "token": "t"},
        responses.LoggedIn(user_id="u", username="anna", public_key={}, token="t"),
    ),
    (lambda a: a.logout(), "POST", "/api/logout", None, None, None),
    (
        lambda a: a.ws_ticket(),
        "POST",
        "/api/ws-ticket",
        None,
        {"ticket": "x", "expires_in": 30},
        responses.Ticket(ticket="x", expires_in=30),
    ),
    (
        lambda a: a.create_group("AA==", "BB=="),
        "POST",
        "/api/groups",
        {"encrypted_name": "AA==", "encrypted_group_key": "BB=="},
        {"group_id": "g", "invite_code": "ABCD1234", "created_at": ""},
        responses.GroupCreated(group_id="g", invite_code="ABCD1234", created_at=""),
    ),
    (
        lambda a: a.join_group("ABCD1234", "BB=="),
        "POST",
        "/api/groups/join",
        {"invite_code": "ABCD1234", "encrypted_group_key": "BB=="},
        {"group_id": "g", "encrypted_name": "AA==", "member_count": 2, "joined_at": ""},
        responses.GroupJoined(group_id="g", encrypted_name="AA==", member_count=2, joined_at=""),
    ),
    (lambda a: a.groups(), "GET", "/api/groups", None, {"groups": []}, []),
    (lambda a: a.members("g/../x"), "GET", "/api/groups/g%2F..%2Fx/members", None, {"members": []}, []),
    (lambda a: a.remove_member("g", "u"), "DELETE", "/api/groups/g/members/u", None, None, None),
    (
        lambda a: a.new_invite_code("g"),
        "POST",
        "/api/groups/g/invite-codes",
        None,
        {"invite_code": "ABCD1234", "expires_at": ""},
        responses.InviteCode(invite_code="ABCD1234", expires_at=""),
    ),
    (lambda a: a.presence("g"), "GET", "/api/groups/g/presence", None, {"online": []}, []),
    (
        lambda a: a.post_message("g", "AA==", timestamp=5),
        "POST",
        "/v1/messages",
        {"conversation_id": "g", "encrypted_envelope": "AA==", "timestamp": 5},
        {"message_id": "m", "server_timestamp": 6, "seq": 7},
        responses.MessageSent(message_id="m", server_timestamp=6, seq=7),
    ),
    (
        lambda a: a.messages(since=5, limit=2),
        "GET",
        "/v1/messages?since=5&limit=2",
        None,
        {"messages": [], "has_more": False},
        responses.Messages(messages=[], has_more=False),
    ),
    (
        lambda a: a.create_thread("g", "AA==", "BB==", root_message_id="m"),
        "POST",
        "/api/threads",
        {"group_id": "g", "encrypted_title": "AA==", "encrypted_body": "BB==", "root_message_id": "m"},
        {"thread_id": "t", "group_id": "g", "created_at": "", "seq": 3, "later": "more"},
        responses.ThreadCreated(thread_id="t", group_id="g", created_at="", seq=3),
    ),
    (
        lambda a: a.threads("g", sort="created_asc"),
        "GET",
        "/api/groups/g/threads?sort=created_asc",
        None,
        {"threads": [], "total_count": 0, "has_more": False},
        responses.Threads(threads=[], total_count=0, has_more=False),
    ),
    (lambda a: a.thread("t"), "GET", "/api/threads/t", None, {**THREAD, "media": []}, responses.Thread(**THREAD)),
    (
        lambda a: a.replies("t", limit=5, offset=10),
        "GET",
        "/api/threads/t/replies?limit=5&offset=10",
        None,
        {"replies": [], "total_count": 0, "has_more": False},
        responses.Replies(replies=[], total_count=0, has_more=False),
    ),
    (
        lambda a: a.create_reply("t", "AA==", message_id="m"),
        "POST",
        "/api/threads/t/replies",
        {"encrypted_body": "AA==", "message_id": "m"},
        {"reply_id": "r", "thread_id": "t", "created_at": "", "seq": 4},
        responses.ReplyCreated(reply_id="r", thread_id="t", created_at="", seq=4),
    ),
    (
        lambda a: a.upload_state("m"),
        "GET",
        "/api/media/m/upload",
        None,
        {"chunks_received": [0, 2], "total_chunks": 3},
        responses.UploadState(chunks_received=[0, 2], total_chunks=3),
    ),
    (
        lambda a: a.complete_upload("m"),
        "POST",
        "/api/media/upload/complete",
        {"media_id": "m"},
        STORED,
        responses.MediaStored(media_id="m", size_bytes=1, expires_at=""),
    ),
    (lambda a: a.media_downloaded("m"), "POST", "/api/media/m/downloaded", None, None, None),
    (lambda a: a.delete_media("m"), "DELETE", "/api/media/m", None, None, None),
    (lambda a: a.thread_media("t"), "GET", "/api/threads/t/media", None, {"media": []}, []),
    (
        lambda a: a.events("g", after_seq=5, limit=10),
        "GET",
        "/v1/events?group_id=g&after_seq=5&limit=10",
        None,
        {"events": [], "last_seq": 5, "has_more": False},
        responses.Events(events=[], last_seq=5, has_more=False),
    ),
]


@pytest.mark.parametrize("request_, method, path, body, answer, expect", REQUESTS, ids=[r[2] for r in REQUESTS])
async def test_requests(
    request_: Request, method: str, path: str, body: dict[str, Any] | None, answer: Any, expect: Any
) -> None:
    """[API3] Each request goes where the protocol says, with its fields, and its answer is typed."""
    seen: list[httpx.Request] = []

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204) if answer is None else httpx.Response(200, json=answer)

    async with api(answering) as rest:
        assert await request_(rest) == expect

    (sent,) = seen
    assert sent.method == method
    assert str(sent.url) == f"http://orbital.test/base{path}"
    assert (json.loads(sent.content) if sent.content else None) == body
    anonymous = path in {"/api/signup", "/api/login"}
    assert sent.headers.get("Authorization") == (None if anonymous else "Bearer t")
    assert sent.headers["User-Agent"].startswith("orbital-python/")


async def test_idempotency_keys() -> None:
    """[API4] Every request that makes something takes a key and sends it as the header."""
    keys: list[str | None] = []

    def answering(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        return httpx.Response(400, json={"error": "VALIDATION_ERROR", "message": "No."})

    async with api(answering) as rest:
        for request in (
            rest.create_group("AA==", "AA==", idempotency_key="k"),
            rest.join_group("A", "AA==", idempotency_key="k"),
            rest.post_message("g", "AA==", timestamp=0, idempotency_key="k"),
            rest.create_thread("g", "AA==", "AA==", idempotency_key="k"),
            rest.create_reply("t", "AA==", idempotency_key="k"),
        ):
            with pytest.raises(ApiError):
                await request

    assert keys == ["k"] * 5


@pytest.mark.parametrize(
    "response, status, code, message, retry_s",
    [
        (httpx.Response(403, json={"error": "FORBIDDEN", "message": "No."}), 403, "FORBIDDEN", "No.", None),
        (httpx.Response(502, text="<html>"), 502, "HTTP_502", "The server answered 502.", None),
        (httpx.Response(429, json={"error": 5}, headers={"Retry-After": "3"}), 429, "HTTP_429", "The server", 3),
        (
            httpx.Response(302, headers={"Location": "/login"}),
            302,
            "HTTP_302",
            "The server answered 302 and points to /login.",
            None,
        ),
    ],
)
async def test_refusals(response: httpx.Response, status: int, code: str, message: str, retry_s: float | None) -> None:
    """[API5] Whoever refuses, Orbital or a proxy, the error says what is known."""
    async with api(lambda _: response) as rest:
        with pytest.raises(ApiError, match=re.escape(message)) as caught:
            await rest.groups()

    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (status, code, retry_s)
    assert caught.value.retryable == (status in {302, 429, 502})


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"groups": 5}', "\ud800".encode("utf-8", "surrogatepass")])
async def test_answers_that_are_none(text: Any) -> None:
    """[API6] A 2xx that is not the protocol's is a BadAnswer, which counts as unreachable."""
    async with api(lambda _: httpx.Response(200, content=text)) as rest:
        with pytest.raises(BadAnswer):
            await rest.groups()


async def test_unreachable() -> None:
    """[API7] Whatever breaks on the way is Unreachable, with the address and the cause."""

    def breaking(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    async with api(breaking) as rest:
        with pytest.raises(
            Unreachable, match=r"http://orbital\.test/base did not answer: Connection refused"
        ) as caught:
            await rest.groups()

    assert isinstance(caught.value.__cause__, httpx.ConnectError)


async def test_a_newer_token() -> None:
    """[API8] A request that is refused with 401 is made once more with the function's next token, not for ever."""
    seen: list[str] = []
    tokens = iter(("a", "b", "b"))

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401, json={"error": "UNAUTHORIZED", "message": "No."})

    async with api(answering, token=lambda: next(tokens)) as rest:
        with pytest.raises(ApiError):
            await rest.groups()

    assert seen == ["Bearer a", "Bearer b"]


async def test_frames_to_the_letter() -> None:
    """[API9] The log's frames come as they are stored, so that they can be hashed."""
    frames = [b'{"type":"x", "n":1}', '{"who":"Zoë"}'.encode()]
    accepts: list[str] = []

    def answering(request: httpx.Request) -> httpx.Response:
        accepts.append(request.headers["Accept"])
        return httpx.Response(200, content=b"\n".join(frames) + b"\n")

    async with api(answering) as rest:
        assert await rest.event_frames("g", after_seq=1, limit=5) == frames

    assert accepts == ["application/x-ndjson"]
