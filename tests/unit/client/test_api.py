"""The REST side: addresses, tokens, errors, and every request as the protocol names it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from orbital_relay import wire
from orbital_relay.client import Api, ApiError, BadAnswer, NewMessage, NewThread, Unreachable, http, responses
from orbital_relay.client.address import address_of
from orbital_relay.client.http import RETRY_AFTER_MOST_S, retry_after_s
from orbital_relay.core.backoff import Backoff
from orbital_relay.core.chain import digest
from tests.support.fake import Log, page_of

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
    """[API1] The client accepts the address of the socket and the address of the REST API."""
    assert (address_of(url).http, address_of(url).websocket) == (http, websocket)


def test_retry_after() -> None:
    """[API2] Retry-After is parsed as seconds or as a date; an invalid value is ignored."""
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
        lambda a: a.account(),
        *("GET", "/api/account", None, {"user_id": "u", "username": "anna", "admin": True}),
        responses.OwnAccount(user_id="u", username="anna", admin=True),
    ),
    (
        lambda a: a.set_display_name("Zoë"),
        *("PUT", "/api/account/display-name", {"display_name": "Zoë"}),
        {"user_id": "u", "username": "anna", "admin": False, "display_name": "Zoë"},
        responses.OwnAccount(user_id="u", username="anna", admin=False, display_name="Zoë"),
    ),
    (
        lambda a: a.change_password("a", "b"),
        *("POST", "/api/password", {"old_password": "a", "new_password": "b"}),
        *({"token": "t", "expires_at": ""}, responses.IssuedToken(token="t", expires_at="")),
    ),
    (
        lambda a: a.reset_password("a", "b"),
        *("POST", "/api/password/reset", {"code": "a", "new_password": "b"}),
        *(
            {"user_id": "u", "username": "anna", "token": "t"},
            responses.SignedUp(user_id="u", username="anna", token="t"),
        ),
    ),
    (lambda a: a.sessions(), "GET", "/api/sessions", None, {"sessions": []}, responses.LoginSessions(sessions=[])),
    (lambda a: a.end_session("a/b"), "DELETE", "/api/sessions/a%2Fb", None, None, None),
    (
        lambda a: a.renew_session(),
        *("POST", "/api/session/renew", None, {"token": "t", "expires_at": ""}),
        responses.IssuedToken(token="t", expires_at=""),
    ),
    (lambda a: a.delete_account("a"), "DELETE", "/api/account", {"password": "a"}, None, None),
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
    (
        lambda a: a.new_invite_code("g", single_use=True, hours=5),
        *("POST", "/api/groups/g/invite-codes?single_use=true&hours=5", None),
        *({"invite_code": "A", "expires_at": ""}, responses.InviteCode(invite_code="A", expires_at="")),
    ),
    (
        lambda a: a.set_role("g", "u/1", "admin"),
        *("PUT", "/api/groups/g/members/u%2F1/role", {"role": "admin"}),
        {"group_id": "g", "user_id": "u/1", "role": "admin"},
        responses.RoleSet(group_id="g", user_id="u/1", role="admin"),
    ),
    (
        lambda a: a.groups_page(limit=5, offset=10),
        *("GET", "/api/groups?limit=5&offset=10", None, {"groups": [], "has_more": False}),
        responses.Groups(groups=[], has_more=False),
    ),
    (
        lambda a: a.members_page("g/1", offset=2),
        *("GET", "/api/groups/g%2F1/members?offset=2", None, {"members": [], "has_more": False}),
        responses.Members(members=[], has_more=False),
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
    (
        lambda a: a.thread("t"),
        "GET",
        "/api/threads/t",
        None,
        {**THREAD, "media": []},
        responses.ThreadWithMedia(**THREAD),
    ),
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
        responses.MediaCompleted(media_id="m", size_bytes=1, expires_at=""),
    ),
    (lambda a: a.media_downloaded("m"), "POST", "/api/media/m/downloaded", None, None, None),
    (lambda a: a.delete_media("m"), "DELETE", "/api/media/m", None, None, None),
    (lambda a: a.thread_media("t"), "GET", "/api/threads/t/media", None, {"media": []}, []),
]


@pytest.mark.parametrize("request_, method, path, body, answer, expect", REQUESTS, ids=[r[2] for r in REQUESTS])
async def test_requests(
    request_: Request, method: str, path: str, body: dict[str, Any] | None, answer: Any, expect: Any
) -> None:
    """[API3] Each method sends the request that the protocol specifies and returns a typed answer."""
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
    anonymous = path in {"/api/signup", "/api/login", "/api/password/reset"}
    assert sent.headers.get("Authorization") == (None if anonymous else "Bearer t")
    assert sent.headers["User-Agent"].startswith("orbital-python/")


async def test_idempotency_keys() -> None:
    """[API4] Every method that creates something takes a key and sends it as the `Idempotency-Key` header."""
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


@pytest.mark.parametrize("status", [403, 410, 429, 503])
async def test_refusals(status: int) -> None:
    """[API5] An error response of Orbital raises ApiError with its code, message, details and Retry-After."""
    body = {"error": "SOME_CODE", "message": "No.", "details": {"n": 1}}
    async with api(lambda _: httpx.Response(status, json=body, headers={"Retry-After": "3"})) as rest:
        with pytest.raises(ApiError, match="No") as caught:
            await rest.groups()

    error = caught.value
    assert (error.status, error.code, error.details, error.retry_after_s) == (status, "SOME_CODE", {"n": 1}, 3)
    assert error.retryable == (status in {429, 503})


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"groups": 5}', "\ud800".encode("utf-8", "surrogatepass")])
async def test_malformed_responses(text: Any) -> None:
    """[API6] A 2xx response that does not follow the protocol raises BadAnswer, which counts as unreachable."""
    async with api(lambda _: httpx.Response(200, content=text)) as rest:
        with pytest.raises(BadAnswer):
            await rest.groups()


async def test_unreachable() -> None:
    """[API7] Any network failure raises Unreachable, with the address and the cause."""

    def breaking(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    async with api(breaking) as rest:
        with pytest.raises(
            Unreachable, match=r"http://orbital\.test/base did not answer: Connection refused"
        ) as caught:
            await rest.groups()

    assert isinstance(caught.value.__cause__, httpx.ConnectError)


async def test_a_newer_token() -> None:
    """[API8] A request that gets 401 is retried once with a new token from the token function."""
    seen: list[str] = []
    tokens = iter(("a", "b", "b"))

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401, json={"error": "UNAUTHORIZED", "message": "No."})

    async with api(answering, token=lambda: next(tokens)) as rest:
        with pytest.raises(ApiError):
            await rest.groups()

    assert seen == ["Bearer a", "Bearer b"]


async def test_a_page_of_the_log() -> None:
    """[API9] The log's events are returned as raw frames for hashing, with the header values, or as parsed events."""
    log = Log(GROUP)
    log.append()
    log.append(wire.NewThread("t", GROUP, "a", "Zoë", "AA==", "AA==", ""))
    asked: list[httpx.Request] = []

    def answering(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        after = int(request.url.params["after_seq"])
        return page_of(log.after(after)[:1], last_seq=2, has_more=after == 0)

    async with api(answering) as rest:
        frames = await rest.event_frames(GROUP, after_seq=1, limit=5)
        events = [event async for event in rest.iter_events(GROUP)]
        page = await rest.events(GROUP)

    assert (frames.frames, frames.last_seq, frames.has_more) == ([log.frames[1]], 2, False)
    assert asked[0].headers["Accept"] == "application/x-ndjson"
    assert str(asked[0].url).endswith(f"/v1/events?group_id={GROUP}&after_seq=1&limit=5")
    assert [(type(event), event.seq, event.hash) for event in events] == [
        (NewMessage, 1, digest(log.frames[0])),
        (NewThread, 2, digest(log.frames[1])),
    ]
    assert (page.events, page.last_seq, page.has_more) == (events[:1], 2, True)


async def test_iterators_read_all_pages() -> None:
    """[PYPAGE1] Iterators page through all groups, members, threads, replies and messages and yield each item once."""
    group = {
        "encrypted_name": "",
        "encrypted_group_key": "",
        "member_count": 1,
        "joined_at": "",
    }
    member = {"username": "", "public_key": {}, "joined_at": ""}
    reply = {"thread_id": "t", "author_id": "", "author_username": "", "encrypted_body": "", "media_count": 0}
    message = {"conversation_id": "g", "encrypted_envelope": ""}

    def answering(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params.get("offset", "0"))
        numbers = [f"{n}" for n in range(5)][offset : offset + 2]
        more: dict[str, Any] = {"has_more": offset + 2 < 5, "total_count": 5}
        path = request.url.path
        if path.endswith("/members"):
            return httpx.Response(200, json={"members": [{**member, "user_id": n} for n in numbers], **more})
        if path.endswith("/replies"):
            rows = [{**reply, "reply_id": n, "created_at": ""} for n in numbers]
            return httpx.Response(200, json={"replies": rows, **more})
        if path.endswith("/threads"):
            # A thread is opened between the pages: the newest first, so everything moves by one.
            rows = [{**THREAD, "thread_id": f"{max(0, int(n) - (offset > 0))}"} for n in numbers]
            return httpx.Response(200, json={"threads": rows, **more})
        if path.endswith("/messages"):
            since = int(request.url.params.get("since", "-1"))
            stamps = [n for n in range(5) if n > since][:2]
            rows = [{**message, "message_id": f"{n}", "server_timestamp": n} for n in stamps]
            return httpx.Response(200, json={"messages": rows, "has_more": since + 2 < 4})
        return httpx.Response(200, json={"groups": [{**group, "group_id": n} for n in numbers], **more})

    async with api(answering) as rest:
        assert [each.group_id for each in await rest.groups()] == ["0", "1", "2", "3", "4"]
        assert [each.user_id for each in await rest.members("g")] == ["0", "1", "2", "3", "4"]
        assert [each.reply_id async for each in rest.iter_replies("t")] == ["0", "1", "2", "3", "4"]
        assert [each.message_id async for each in rest.iter_messages()] == ["0", "1", "2", "3", "4"]
        assert [each.thread_id async for each in rest.iter_threads("g")] == ["0", "1", "2", "3"]


async def test_a_list_that_does_not_advance() -> None:
    """[PYPAGE2] A list of annotations whose numbers do not rise, as of a lying server, is refused, not repeated."""
    row = {"thread_id": "t", "target_id": "t", "author_id": "a", "author_username": "anna", "encrypted_body": "AA=="}
    page = {"annotations": [{**row, "annotation_id": "1", "created_at": "", "seq": 7}], "has_more": True}

    async with api(lambda _: httpx.Response(200, json=page)) as rest:
        listed = rest.iter_annotations("t")
        assert (await anext(listed)).seq == 7
        with pytest.raises(BadAnswer, match="holds number 7 after 7"):
            await anext(listed)


async def test_a_post_is_retried_after_a_lost_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYPOST1] A POST that creates something, sign-up included, has a key and is retried if its answer is lost."""
    monkeypatch.setattr(http, "ONCE_MORE", Backoff(steps_ms=(1,), jitter_ms=1))
    keys: list[str] = []

    def answering(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) % 3 == 1:
            raise httpx.ReadError("")
        if len(keys) % 3 == 2:
            return httpx.Response(200, text="<html>")
        answers = {"/base/api/signup": {"user_id": "u", "username": "anna", "token": "t"}}
        made = {"group_id": "g", "invite_code": "ABCD1234", "created_at": ""}
        return httpx.Response(201, json=answers.get(request.url.path, made))

    async with api(answering) as rest:
        await rest.signup("anna", "pw", {})
        await rest.create_group("AA==", "AA==")

    assert len(keys) == 6
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert keys[0] != keys[3]


async def test_retries_of_a_post_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYPOST2] After three tries without an answer the error is raised; a request without a key is tried once."""
    monkeypatch.setattr(http, "ONCE_MORE", Backoff(steps_ms=(1,), jitter_ms=1))
    tries: list[str] = []

    def breaking(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        raise httpx.ConnectError("", request=request)

    async with api(breaking) as rest:
        with pytest.raises(Unreachable):
            await rest.create_group("AA==", "AA==")
        with pytest.raises(Unreachable):
            await rest.login("anna", "pw")

    assert tries == ["/base/api/groups"] * 3 + ["/base/api/login"]
