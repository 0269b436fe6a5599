"""
The HTTP application over a real node in this process, without a port.

Whatever comes back is held against the endpoint's own declaration: an answer that /openapi.json does not know fails
the test that met it.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from orbital_relay import config
from orbital_relay.server.app import Node, open_node
from orbital_relay.server.http import ENDPOINTS, build_app
from orbital_relay.server.http.docs.openapi import Error, errors_of
from orbital_relay.server.http.endpoint import Endpoint
from orbital_relay.server.http.static.site import Site
from tests.support.server import SECRET, WIDE

EACH_DATABASE = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)
"""Marks tests that are run on each database; they use the fixture `database_url`, or `api`, which uses it."""

_numbers = itertools.count(1)
_SITE = Site()


def _pattern(endpoint: Endpoint) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"{(\w+)}", lambda found: ".+" if found[1] in endpoint.spans else "[^/]+", endpoint.path), re.DOTALL
    )


_DECLARED = [(_pattern(each), each) for each in (*ENDPOINTS, *_SITE.endpoints)]


def opaque(size_bytes: int = 24) -> str:
    """Return base64 of random bytes."""
    return base64.b64encode(os.urandom(size_bytes)).decode()


def declared(method: str, path: str) -> Endpoint | None:
    """Return the endpoint that answers there."""
    fits = (each for pattern, each in _DECLARED if each.method == method and pattern.fullmatch(path))
    return next(fits, None)


def assert_declared(answer: httpx.Response) -> None:
    """Assert that the endpoint's declaration knows this status, and that the body has exactly the declared form."""
    where = f"{answer.request.method} {answer.request.url.path} → {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        body = msgspec.json.decode(answer.content, type=Error)
        assert msgspec.to_builtins(body) == answer.json(), where
        assert body.message.endswith("."), where
        if "retry_after" in body.details:
            assert answer.headers["retry-after"] == str(body.details["retry_after"]), where
    head = answer.request.method == "HEAD"
    endpoint = declared("GET" if head else answer.request.method, answer.request.url.path)
    if endpoint is None:
        assert answer.status_code in {404, 405, 200, 204, 304}, where
        return
    if head:
        statuses = {each.status for each in endpoint.answers} | {error.status for error in errors_of(endpoint)}
        assert answer.status_code in statuses, f"not declared: {where}"
        return
    if answer.status_code >= 400:
        known = {(error.status, error.code) for error in errors_of(endpoint)} | {
            (500, "INTERNAL"),
            (400, "VALIDATION_ERROR"),
        }
        assert (answer.status_code, answer.json()["error"]) in known, f"not declared: {where}"
        return
    if answer.status_code == 304:
        return
    kind = answer.headers.get("content-type", "").split(";")[0]
    fits = [each for each in endpoint.answers if each.status == answer.status_code]
    assert fits, f"not declared: {where}"
    if answer.status_code == 204:
        assert answer.content == b"", where
        return
    answers = [each for each in fits if each.media_type == kind]
    assert answers, f"not declared as {kind}: {where}"
    form = answers[0].body
    if form is not None:
        # What the form does not know would be lost on the way through it.
        assert json.loads(msgspec.json.encode(msgspec.json.decode(answer.content, type=form))) == answer.json(), where


class User:
    """Somebody with a token."""

    def __init__(self, api: Api, user_id: str, username: str, token: str) -> None:
        self.api, self.id, self.username, self.token = api, user_id, username, token
        self.headers = {"Authorization": f"Bearer {token}"}

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """Ask with the token."""
        return await self.api.ask(method, path, headers={**self.headers, **(headers or {})}, **options)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        """GET with a query."""
        return await self.ask("GET", path, params=query)

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        """POST a JSON body."""
        return await self.ask("POST", path, json=body, headers={} if key is None else {"Idempotency-Key": key})

    async def make_group(self) -> Any:
        """Make a group and return the answer."""
        answer = await self.post("/api/groups", {"encrypted_name": opaque(), "encrypted_group_key": opaque()})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def join(self, group: Any) -> httpx.Response:
        """Join by the group's code."""
        return await self.post(
            "/api/groups/join", {"invite_code": group["invite_code"], "encrypted_group_key": opaque()}
        )

    async def say(self, group_id: str, envelope: str | None = None, *, key: str | None = None) -> httpx.Response:
        """Post a message."""
        body = {"conversation_id": group_id, "encrypted_envelope": envelope or opaque(), "timestamp": 1}
        return await self.post("/v1/messages", body, key=key)

    async def open_thread(self, group_id: str) -> Any:
        """Open a thread and return the answer."""
        body = {"group_id": group_id, "encrypted_title": opaque(), "encrypted_body": opaque()}
        answer = await self.post("/api/threads", body)
        assert answer.status_code == 201, answer.text
        return answer.json()


async def send_chunk(
    user: User,
    thread_id: str,
    media_id: str,
    index: int | str,
    total: int | str,
    chunk: bytes | None,
    /,
    *,
    key: str | None = None,
    **changes: str | None,
) -> httpx.Response:
    """Send a chunk; a change to None leaves a field out."""
    fields: dict[str, str | None] = {
        "media_id": media_id,
        "thread_id": thread_id,
        "chunk_index": str(index),
        "total_chunks": str(total),
        "encrypted_metadata": "bWV0YQ==",
        "encryption_iv": "aXY=",
        **changes,
    }
    return await user.ask(
        "POST",
        "/api/media/upload",
        data={name: value for name, value in fields.items() if value is not None},
        files={} if chunk is None else {"chunk": ("chunk", chunk, "application/octet-stream")},
        headers={} if key is None else {"Idempotency-Key": key},
    )


class Api:
    """A node and its HTTP application."""

    def __init__(self, node: Node, http: httpx.AsyncClient) -> None:
        self.node, self.http = node, http

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask, and hold the answer against the declaration."""
        answer = await self.http.request(method, path, **options)
        assert_declared(answer)
        return answer

    def user(self, username: str | None = None, *, user_id: str | None = None) -> User:
        """Make somebody whose token another service could have made; the first request enters them."""
        name = username or f"user_{next(_numbers)}"
        token, _ = self.node.auth.mint(user_id or f"id-of-{name}", name)
        return User(self, user_id or f"id-of-{name}", name, token)


@asynccontextmanager
async def opened(data_dir: Path, *, database_url: str | None = None, **environ: str) -> AsyncIterator[Api]:
    """
    Open a node with its application; no limit is met that is not given.

    Args:
        data_dir: Its data folder.
        database_url: Its database; None for SQLite in the data folder.
        environ: Settings, by the names of their variables without `ORBITAL_`.
    """
    given = {f"ORBITAL_{name.upper()}": value for name, value in environ.items()}
    if database_url is not None:
        given["DATABASE_URL"] = database_url
    settings = config.load(environ={**WIDE, "JWT_SECRET": SECRET, "ORBITAL_DATA_DIR": str(data_dir), **given})
    async with open_node(settings) as node:
        transport = httpx.ASGITransport(build_app(node.context), client=("192.0.2.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://orbital.test") as http:
            yield Api(node, http)
