"""Errors between a request and its endpoint: paths, methods, bodies, internal errors, other origins."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.server.http import ENDPOINTS, build_app, endpoint
from orbital_relay.server.http.application import body_limit
from tests.server.api import Api, opened

_MESSAGE = {"conversation_id": "00000000-0000-4000-8000-000000000000", "encrypted_envelope": "AAAA", "timestamp": 0}


# Paths and methods


_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]
_NO_PATHS = [
    "/nope",
    "/api",
    "/api/",
    "/api/groups/",
    "/v1",
    "/v2/messages",
    "//",
    "/API/groups",
    "/api/threads/a/b/c",
    "/ws/",
]


@pytest.mark.parametrize("method", _METHODS)
async def test_unknown_paths(api: Api, method: str):
    """[ERR1] An unknown path is 404 in JSON, whatever the method, with or without a token."""
    ada = api.user()
    # httpx would parse `//` as the start of a host.
    answers = [
        await api.ask(method, f"http://orbital.test{path}", headers=headers)
        for path in _NO_PATHS
        for headers in ({}, ada.headers)
    ]

    assert {answer.status_code for answer in answers} == {404}
    if method != "HEAD":
        assert {answer.json()["error"] for answer in answers} == {"NOT_FOUND"}


async def test_a_line_break_behind_a_path(api: Api):
    """[ERR1] A path with a trailing newline is 404 and matches no route."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]

    answers = [
        await ada.ask("GET", f"/api/groups/{group}/members%0A"),
        await ada.ask("DELETE", f"/api/groups/{group}/members/{ada.id}%0A"),
        await ada.ask("GET", "/api/groups%0A"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert (await ada.get(f"/api/groups/{group}/members")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/messages", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/api/login", "OPTIONS, POST"),
        ("HEAD", "/api/signup", "OPTIONS, POST"),
        ("POST", "/ws", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/threads/x/replies", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/api/groups/x/members/y", "DELETE, OPTIONS"),
        ("POST", "/docs", "GET, HEAD, OPTIONS"),
        ("get", "/api/groups", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_methods_that_a_path_does_not_have(api: Api, method: str, path: str, allow: str):
    """[ERR2] A path's other methods are 405, and `Allow` lists the supported ones (RFC 9110 §15.5.6)."""
    # httpx converts methods to upper case; this request goes to the application without httpx.
    status, headers, body = await _ask(api, method, path)

    assert (status, headers["allow"]) == (405, allow)
    assert b"METHOD_NOT_ALLOWED" in body or method == "HEAD"


async def _ask(
    api: Api,
    method: str,
    path: str,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    receive: Callable[[], Any] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Ask the application itself, as a server would."""
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers or [],
        "client": ("192.0.2.7", 4711),
    }
    await build_app(api.node.context)(scope, receive or nothing, send)
    if not sent:
        return 0, {}, b""
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("path", ["/ws", "/v1/websocket"])
async def test_the_socket_s_paths_require_an_upgrade(api: Api, path: str):
    """[ERR3] Plain HTTP at the WebSocket's path is 426, with a token or without, draining or not."""
    for draining in (False, True):
        api.node.lifecycle.draining = draining
        for headers in ({}, api.user().headers):
            answer = await api.ask("GET", path, headers=headers)

            assert (answer.status_code, answer.json()["error"]) == (426, "UPGRADE_REQUIRED")
            assert (answer.headers["upgrade"], answer.headers["sec-websocket-version"]) == ("websocket", "13")


@pytest.mark.parametrize("path", ["/health/ready", "/docs", "/openapi.json", "/", "/nope", "/ws"])
async def test_head_is_get_without_its_body(api: Api, path: str):
    """[ERR4] HEAD has the status and the headers of GET, and no body (RFC 9110 §9.3.2)."""
    # Content-Length is the length of the sent body: compressed, it differs from that of the text.
    plain = {"Accept-Encoding": "identity"}
    got, headed = await api.ask("GET", path, headers=plain), await api.ask("HEAD", path, headers=plain)

    assert headed.content == b""
    assert headed.status_code == got.status_code
    assert dict(headed.headers) == dict(got.headers)
    assert int(headed.headers["content-length"]) == len(got.content)


# Bodies


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b"{}}",
        b"\xff\xfe",
        b'{"timestamp": NaN}',
        b"conversation_id=1",
        b'{"conversation_id": "\xff"}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
    ],
)
async def test_bodies_that_are_not_json_objects(api: Api, content: bytes):
    """[ERR5] A body that is not a JSON object is 400 with a sentence, and the server continues."""
    ada = api.user()

    answers = [
        await api.ask("POST", path, content=content, headers=ada.headers)
        for path in ("/v1/messages", "/api/groups", "/api/login")
    ]

    # A body without a token may have 64 KiB.
    login = 413 if len(content) > 65_536 else 400
    assert [answer.status_code for answer in answers] == [400, 400, login]
    assert (await api.ask("GET", "/health/ready")).status_code == 200


async def test_a_long_body_is_refused_by_its_length(api: Api):
    """[ERR6] A declared length over the limit is 413 before a byte of the body is read."""
    headers = [
        (b"authorization", f"Bearer {api.user().token}".encode()),
        (b"content-length", str(body_limit(262_144) + 1).encode()),
    ]

    async def receive() -> Any:
        raise AssertionError("the body was read")

    status, _, body = await _ask(api, "POST", "/v1/messages", headers=headers, receive=receive)

    assert status == 413
    assert b"PAYLOAD_TOO_LARGE" in body


async def test_a_long_body_is_refused_while_it_arrives(api: Api):
    """[ERR6] Without a length, or with a false one, bytes are counted: reading stops right after the limit."""
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 65_536
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    for length in ([], [(b"content-length", b"10")]):
        read = 0
        headers = [(b"authorization", f"Bearer {api.user().token}".encode()), *length]
        status, _, _ = await _ask(api, "POST", "/v1/messages", headers=headers, receive=receive)

        assert status == 413
        assert read <= body_limit(262_144) + 65_536


async def test_bodies_without_a_token_are_short(api: Api):
    """[ERR6] Signup and login accept 64 KiB at most."""
    answers = [
        await api.ask("POST", path, content=b'{"username":"' + b"x" * size + b'"}')
        for path in ("/api/signup", "/api/login")
        for size in (65_000, 66_000)
    ]

    assert [answer.status_code for answer in answers] == [400, 413, 400, 413]


async def test_an_invalid_length(api: Api):
    """[ERR6] An invalid Content-Length is 400."""
    headers = [(b"authorization", f"Bearer {api.user().token}".encode()), (b"content-length", b"-1")]

    status, _, _ = await _ask(api, "POST", "/v1/messages", headers=headers)

    assert status == 400


async def test_a_body_in_segments(api: Api):
    """[ERR7] A body that arrives in several segments is assembled."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"username":', b'"nobody","pass', b"", b'word":"x"}'):
            yield piece

    answer = await api.ask("POST", "/api/login", content=pieces())

    assert answer.status_code == 401


async def test_a_body_that_never_arrives(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[ERR8] A client that sends a head and no body gets a response at the deadline, and its memory is freed."""
    monkeypatch.setattr(endpoint, "BODY_DEADLINE_S", 0.05)
    came = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Any:
        with contextlib.suppress(StopIteration):
            return next(came)
        return await asyncio.get_running_loop().create_future()

    status, _, body = await _ask(api, "POST", "/api/login", receive=receive)

    assert (status, b"did not arrive" in body) == (400, True)


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_client_that_hangs_up(api: Api, pieces: int):
    """[ERR8] A client that disconnects before its request is complete gets no response, and nothing is stored."""
    came = [{"type": "http.request", "body": b'{"username":"ab', "more_body": True}] * pieces

    async def receive() -> Any:
        return came.pop() if came else {"type": "http.disconnect"}

    assert await _ask(api, "POST", "/api/login", receive=receive) == (0, {}, b"")


# Internal errors


@pytest.fixture
def broken(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Make a method of the store raise."""

    def break_store(error: Exception) -> None:
        async def fail(*args: Any, **kwargs: Any) -> Any:
            raise error

        monkeypatch.setattr(api.node.store, "groups_of", fail)
        monkeypatch.setattr(api.node.store, "append", fail)

    return break_store


async def test_an_exception_is_reported_in_the_log_only(
    api: Api, broken: Callable[[Exception], None], caplog: pytest.LogCaptureFixture
):
    """[ERR9] An unexpected exception is 500 without details; the log has the traceback, and no token."""
    ada = api.user()
    broken(RuntimeError("the secret reason"))

    with caplog.at_level(logging.DEBUG):
        answer = await ada.get("/api/groups")

    assert (answer.status_code, answer.json()["error"]) == (500, "INTERNAL")
    assert "secret reason" not in answer.text
    assert "secret reason" in caplog.text
    assert "Traceback" in caplog.text
    assert ada.token not in caplog.text


async def test_an_unreachable_database(api: Api, broken: Callable[[Exception], None]):
    """[ERR10] With an unreachable database reads and posts are 503 with `Retry-After`."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    broken(Unavailable("The database is unreachable.", retry_after_s=3))

    answers = [await ada.get("/api/groups"), await ada.say(group)]

    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(503, "UNAVAILABLE")}
    assert {answer.headers["retry-after"] for answer in answers} == {"3"}


async def test_a_draining_server(api: Api):
    """[ERR11] While draining, every endpoint is 503 with `Retry-After`, except those about the server itself."""
    ada = api.user()
    assert (await ada.get("/api/groups")).status_code == 200
    api.node.lifecycle.draining = True

    refused = [
        await ada.get("/api/groups"),
        await ada.post("/v1/messages", _MESSAGE),
        await api.ask("POST", "/api/login", json={"username": "x", "password": "y"}),
        await api.ask("GET", "/health/ready"),
    ]
    alive = [await api.ask("GET", path) for path in ("/health/live", "/metrics")]

    assert {(answer.status_code, answer.json()["error"]) for answer in refused} == {(503, "UNAVAILABLE")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert [answer.status_code for answer in alive] == [200, 200]


# Headers, other origins


@pytest.mark.parametrize("path", ["/api/groups", "/nope", "/health/live", "/metrics", "/v1/messages?limit=x"])
async def test_responses_have_security_headers(api: Api, path: str):
    """[SEC1] API responses forbid caching and MIME sniffing, and send no referrer."""
    answer = await api.user().ask("GET", path)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "file://", "app://orbital"])
async def test_pages_of_any_origin_may_call(api: Api, origin: str):
    """[CORS1] By default a page of any origin may call with a token and read the response headers that it needs."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }

    preflight = await api.ask("OPTIONS", "/v1/messages", headers=asked)
    answer = await api.user().ask("GET", "/api/groups", headers={"Origin": origin})
    refused = await api.ask("GET", "/api/groups", headers={"Origin": origin})

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert {"authorization", "content-type", "idempotency-key", "range"} <= {
        name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")
    }
    for each in (answer, refused):
        assert each.headers["access-control-allow-origin"] == "*"
        assert {"retry-after", "etag", "x-last-seq", "x-encryption-iv"} <= {
            name.strip().lower() for name in each.headers["access-control-expose-headers"].split(",")
        }
    assert (answer.status_code, refused.status_code) == (200, 401)
    assert "access-control-allow-credentials" not in answer.headers


async def test_only_listed_origins_may_call(tmp_path: Path):
    """[CORS2] With an allow-list, pages of other origins cannot read responses, and caches keep origins apart."""
    async with opened(tmp_path, allowed_origins="https://chat.example, http://localhost:5173") as api:
        ask = {"Access-Control-Request-Method": "POST"}
        mine, other, none = [
            await api.ask("OPTIONS", "/v1/messages", headers={**ask, **headers})
            for headers in ({"Origin": "https://chat.example"}, {"Origin": "https://evil.example"}, {})
        ]

        assert mine.headers["access-control-allow-origin"] == "https://chat.example"
        assert {answer.headers["vary"] for answer in (mine, other, none)} == {"Origin"}
        assert "access-control-allow-origin" not in other.headers
        assert "access-control-allow-origin" not in none.headers
        assert (
            "access-control-expose-headers"
            in (await api.ask("GET", "/health/live", headers={"Origin": "http://localhost:5173"})).headers
        )


async def test_static_files_list_no_headers(tmp_path: Path):
    """[CORS3] A static file may be read by a page of another origin, and lists no headers: it has none of the API's."""
    for settings in ({}, {"allowed_origins": "https://chat.example"}):
        async with opened(tmp_path / str(len(settings)), **settings) as api:
            origin = {"Origin": "https://chat.example"}
            files = [await api.ask("GET", path, headers=origin) for path in ("/", "/sdk/client.js", "/app.css")]
            etag = {"If-None-Match": files[1].headers["etag"]}
            known = await api.ask("GET", "/sdk/client.js", headers=origin | etag)
            health = await api.ask("GET", "/health/live", headers=origin)

            assert [file.status_code for file in (*files, known)] == [200, 200, 200, 304]
            for file in (*files, known):
                assert file.headers["access-control-allow-origin"] in ("*", "https://chat.example")
                assert "access-control-expose-headers" not in file.headers
            assert "access-control-expose-headers" in health.headers


async def test_options_without_a_preflight(api: Api):
    """[CORS1] Only OPTIONS lists the methods (RFC 9110 §9.3.7); an unknown path has none."""
    plain = await api.ask("OPTIONS", "/api/groups")
    missing = await api.ask("OPTIONS", "/nope", headers={"Origin": "null", "Access-Control-Request-Method": "GET"})

    assert (plain.status_code, plain.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert "access-control-allow-methods" not in plain.headers
    assert missing.status_code == 404


# Counting


async def test_responses_are_counted_by_route(api: Api):
    """[MET1] Each response is counted under the declared path, never under an id."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    await ada.get(f"/api/groups/{group}/members")
    await ada.get("/secret-path")

    metrics = (await api.ask("GET", "/metrics")).text

    assert 'method="GET",path="/api/groups/{group_id}/members",status="200"} 1.0' in metrics
    assert 'method="GET",path="*",status="404"} 1.0' in metrics
    assert group not in metrics
    assert "secret-path" not in metrics


async def test_only_http_is_accepted(api: Api):
    """[ERR12] An upgrade or a lifespan scope that reaches the application is a programming error and raises at once."""
    for kind in ("websocket", "lifespan"):
        with pytest.raises(AssertionError):
            await build_app(api.node.context)({"type": kind}, None, None)  # type: ignore[arg-type]


def test_endpoints_are_unique():
    """[HTTP1] No two endpoints share a method and a path."""
    keys = [(each.method, each.path) for each in ENDPOINTS]

    assert len(set(keys)) == len(keys)
