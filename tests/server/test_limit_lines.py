"""Each limit of a real server, reached through a proxy's header: one line with the client's address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.server.api import Api
from tests.support.client import PASSWORD, opaque
from tests.support.edge import Client
from tests.support.server import Server
from tests.support.tokens import token

FROM = {"X-Forwarded-For": "198.51.100.9", "X-Request-Id": "proxy-7f3a"}
WRONG = {"username": "nobody", "password": PASSWORD}
SIGNUP = {"password": PASSWORD, "public_key": {}}
JOIN = {"invite_code": "AAAAAAAA", "encrypted_group_key": opaque()}

LIMITS: dict[str, tuple[str, Callable[[httpx.Client], int]]] = {
    "logins": ("ORBITAL_LOGIN_LIMIT", lambda http: http.post("/api/login", json=WRONG).status_code),
    "signups": (
        "ORBITAL_SIGNUP_LIMIT",
        lambda http: http.post("/api/signup", json={"username": "another", **SIGNUP}).status_code,
    ),
    "tries to join": ("ORBITAL_JOIN_LIMIT", lambda http: http.post("/api/groups/join", json=JOIN).status_code),
    "requests": ("ORBITAL_REQUEST_LIMIT", lambda http: http.get("/api/groups").status_code),
}


def _lines(server: Server, message: str) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in server.log if line.startswith("{")]
    return [line for line in read if line["event"] == message]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_on_requests(serve: Callable[..., Server], limit: str):
    """[LIMLOG1] Each limit on requests that is reached logs one line with the client's address and the request id."""
    variable, ask = LIMITS[limit]
    server = serve(env={variable: "1", "ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOG_FORMAT": "json"})
    with httpx.Client(base_url=server.url, headers={**FROM, "Authorization": f"Bearer {token('busy')}"}) as http:
        first, second = ask(http), ask(http)

    assert (first, second) != (429, 429)
    assert second == 429
    server.terminate()
    (line,) = _lines(server, "limit reached")
    assert (line["address"], line["limit"], line["request_id"]) == ("198.51.100.9", limit, "proxy-7f3a")
    assert 0 < line["retry_after_s"] <= 900


@pytest.mark.parametrize("bearer", [token("busy"), "nonsense"])
def test_the_limit_on_handshakes(serve: Callable[..., Server], bearer: str):
    """[LIMLOG2] A handshake over the limit, whatever its token, logs one line with the client's address."""
    env = {"ORBITAL_CONNECT_LIMIT": "1", "ORBITAL_CONNECT_CEILING": "1", "ORBITAL_CONNECT_POLICY": "strict"}
    server = serve(env={**env, "ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOG_FORMAT": "json"})
    statuses = []
    for _ in range(2):
        with Client(server.port) as client:
            headers = "".join(f"{name}: {value}\r\n" for name, value in FROM.items())
            client.ask_upgrade(f"{headers}Authorization: Bearer {bearer}\r\n")
            statuses.append(client.answer()[0])

    assert statuses == [401 if bearer == "nonsense" else 101, 429]
    server.terminate()
    (line,) = _lines(server, "limit reached")
    assert (line["address"], line["limit"], line["request_id"]) == (
        "198.51.100.9",
        "connection attempts",
        "proxy-7f3a",
    )


def test_refusals_have_the_id_too(serve: Callable[..., Server]):
    """[LIMLOG3] A refused login and a refused sign-up log one line each, with the address and the request id."""
    server = serve(env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOG_FORMAT": "json"})
    with httpx.Client(base_url=server.url, headers=FROM) as http:
        taken = [http.post("/api/signup", json={"username": "ada_l", **SIGNUP}).status_code for _ in range(2)]
        login = http.post("/api/login", json=WRONG, headers={"X-Request-Id": "not an id"}).status_code

    assert (taken, login) == ([201, 409], 401)
    server.terminate()
    (signup,) = _lines(server, "signup refused")
    (refused,) = _lines(server, "login refused")
    assert (signup["address"], signup["request_id"]) == ("198.51.100.9", "proxy-7f3a")
    # An invalid id is not logged; a new one is.
    assert refused["address"] == "198.51.100.9"
    assert len(refused["request_id"]) == 16


async def test_an_error_of_ours_names_its_line(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """[LIMLOG4] A 500 has the request id in its body, and the logged traceback has the same id."""
    ann = api.user()

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(api.node.store, "groups_of", broken)
    answer = await ann.get("/api/groups")

    (line,) = [each for each in caplog.records if each.message == "request failed"]
    assert answer.status_code == 500
    assert answer.json()["details"]["request_id"] == line.request_id
