"""`/openapi.json`, `/docs` and docs/reference/http.md: one description, generated from the routes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.server.http.docs.javascript import types
from orbital_relay.server.http.docs.manual import example, sample
from orbital_relay.server.http.reference import reference
from orbital_relay.services.forms import new_id
from orbital_relay.services.invitations import digest_of
from tests.server.api import Api, User, send_chunk
from tests.support.devices import keys_body
from tests.support.programs import CHECKOUT
from tests.support.push import Device

# Section 1 of the protocol, without the media and the presence, which have files of their own.
_PROTOCOL = """
POST /api/signup
POST /api/login
POST /api/ws-ticket
POST /api/groups
POST /api/groups/join
GET /api/groups
GET /api/groups/{group_id}/members
DELETE /api/groups/{group_id}/members/{user_id}
POST /api/groups/{group_id}/invite-codes
POST /v1/messages
GET /v1/messages
POST /api/threads
GET /api/groups/{group_id}/threads
GET /api/threads/{thread_id}
GET /api/threads/{thread_id}/replies
POST /api/threads/{thread_id}/replies
GET /v1/events
GET /health/live
GET /health/ready
GET /health/client
GET /health/stream
POST /health/stream
GET /metrics
GET /openapi.json
GET /asyncapi.json
GET /docs
GET /
GET /ws
GET /v1/websocket
"""


@pytest.fixture
async def document(api: Api) -> Any:
    """The document as a client gets it."""
    answer = await api.ask("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def _operations(document: Any) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


async def test_every_path_of_the_protocol_is_described(document: Any):
    """[DOC1] The document has every path of the protocol, and every route of the table."""
    found = set(_operations(document))

    assert set(_PROTOCOL.strip().splitlines()) <= found
    assert {f"{each.method} {each.path}" for each in ENDPOINTS} <= found


async def test_the_document_is_complete(document: Any):
    """[DOC2] Every reference resolves, every name is used, operation ids are unique, path parameters are declared."""
    text = str(document)
    used = set(re.findall(r"#/components/schemas/(\w+)", text))
    operations = _operations(document)

    assert document["openapi"] == "3.1.0"
    assert used == set(document["components"]["schemas"])
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations.items():
        assert operation["tags"], name
        assert set(operation["tags"]) - tags == set(), name
        assert operation["summary"], name
        assert operation["responses"], name
        in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", name), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            assert re.fullmatch(r"[1-5]\d\d", status), name


async def test_posts_that_emit_take_a_key(document: Any):
    """[ONCE9] Every POST that emits an event declares `Idempotency-Key`, and so do sign-ups, publishing and claims."""
    keyed = {
        name
        for name, operation in _operations(document).items()
        if any(each["name"] == "Idempotency-Key" for each in operation["parameters"])
    }

    assert {
        "POST /api/signup",
        "POST /api/groups",
        "POST /api/groups/join",
        "POST /v1/messages",
        "POST /api/threads",
        "POST /api/threads/{thread_id}/replies",
        "POST /v1/key-messages",
        "POST /api/groups/{group_id}/records",
        "POST /v1/keys/claims",
    } <= keyed
    assert {name for name in keyed if not name.startswith("POST ")} == {"PUT /v1/keys"}
    assert not keyed & {"POST /api/login", "POST /api/ws-ticket", "POST /api/logout"}


async def test_tokens_are_required_where_the_document_says(api: Api, document: Any):
    """[AUTH4] Without a token, exactly the operations that the document secures are 401."""
    for name, operation in _operations(document).items():
        method, path = name.split()
        answer = await api.http.request(method, re.sub(r"{\w+}", "x", path), json={})

        wants = operation.get("security") != []
        assert (answer.status_code == 401) == wants, (name, answer.status_code)


class _Page(HTMLParser):
    """What a page refers to, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.add(value or "")
            if name in {"href", "src"}:
                self.links.add(value or "")


async def test_the_page_needs_nothing_else(api: Api, document: Any):
    """[DOC3] `/docs` has every route and form, no script, no foreign style, and no broken link."""
    answer = await api.ask("GET", "/docs")

    page = _Page(answer.text)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not {name for name in page.attributes if name.startswith("on")} | (page.attributes & {"style", "src"})
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside
    assert inside - page.ids == set()
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    for name in _operations(document):
        assert f">{name}</a>" in answer.text
        assert f"<h3>{name}</h3>" in answer.text
    forms = {f"form-{name.lower()}" for name in document["components"]["schemas"]}
    assert forms
    assert forms - page.ids == set()


def _subscription() -> dict[str, Any]:
    return {"endpoint": "https://push.example.org/m/1", "keys": Device().keys, "mute": {}}


async def _with_password(api: Api, *, code: bool) -> User:
    """Return a user who has the password of the examples, and with `code` their one-time code."""
    name = f"user_{new_id()[:8]}"
    body = {"username": name, "password": "Correct-Horse-7", "public_key": {}}
    made = (await api.ask("POST", "/api/signup", json=body)).json()
    (row,) = await api.node.store.users(named=name)
    if code:
        digest, expires_ms = digest_of("K7QM2-XZ9AB-CDEFG-HJKLM"), api.node.clock.wall_ms() + 60_000
        await api.node.store.set_reset(row.key, digest=digest, expires_ms=expires_ms)
    return User(api, made["user_id"], name, made["token"])


async def test_the_examples_work(api: Api, document: Any):
    """[DOC5] Every example body, with real ids, does what its endpoint is for."""
    schemas, ada = document["components"]["schemas"], api.user()
    group, member = await ada.make_group(), api.user()
    root = await _with_password(api, code=False)
    (row,) = await api.node.store.users(named=root.id)
    await api.node.store.set_admin(row.key, at_ms=1)
    assert (await member.join(group)).status_code == 200
    ids = {
        "GROUP_ID": group["group_id"],
        "USER_ID": member.id,
        "THREAD_ID": (await ada.open_thread(group["group_id"]))["thread_id"],
        "MEDIA_ID": new_id(),
        "SUBSCRIPTION_ID": (await ada.ask("PUT", "/api/push/subscriptions", json=_subscription())).json()[
            "subscription_id"
        ],
        "MAILBOX": (await api.ask("POST", "/v1/provision")).json()["mailbox"],
    }
    whole = await send_chunk(ada, ids["THREAD_ID"], ids["MEDIA_ID"], 0, 1, b"ciphertext")
    assert whole.status_code == 201
    asked = 0

    for name, operation in _operations(document).items():
        method, path = name.split()
        text = example(method, path, operation, schemas)
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        body = sample(content["application/json"]["schema"], schemas)
        assert json.dumps(body) in text, name
        body |= {"invite_code": group["invite_code"]} if "invite_code" in body else {}
        body |= {field: ids["GROUP_ID"] for field in ("group_id", "conversation_id") if field in body}
        body |= {"target_id": ids["THREAD_ID"]} if "target_id" in body else {}
        body |= {"media_id": ids["MEDIA_ID"]} if "media_id" in body else {}
        # Keys of their real sizes would fill the page.
        body |= keys_body() if "identity_key" in body else {}
        body |= _subscription() if "endpoint" in body else {}
        where = re.sub(r"{(\w+)}", lambda found: ids[found[1].upper()], path)
        user = api.user() if path.endswith("/join") else ada
        user = root if path.startswith("/api/admin/") else user
        if path in {"/api/password", "/api/password/reset", "/api/account"}:
            user = await _with_password(api, code=path.endswith("/reset"))
        answer = await user.ask(method, where, json=body)

        assert answer.is_success, (name, answer.text)
        assert str(answer.status_code) in operation["responses"]
        asked += 1

    assert asked >= 7


def test_the_javascript_types_are_current():
    """[DOC10] The JavaScript SDK's types of bodies and of frames match `/openapi.json` and `/asyncapi.json`."""
    written = (CHECKOUT / "clients" / "javascript" / "src" / "api-types.js").read_text("utf-8")

    assert written == types(), "run: make docs"


def test_the_reference_is_current():
    """[DOC4] docs/reference/http.md matches the routes."""
    written = (CHECKOUT / "docs" / "reference" / "http.md").read_text("utf-8")

    assert written == reference(), "run: python -m orbital_relay.server.http.reference > docs/reference/http.md"


def test_the_reference_has_no_broken_link():
    """[DOC11] Every link in the reference points to a heading."""
    text = reference()
    headings = {
        re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower()
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }

    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= headings
