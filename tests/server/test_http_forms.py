"""Input as people and other systems write it: upper-case ids, trailing spaces, headers of libraries, retries."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orbital_relay.server.http import ENDPOINTS
from orbital_relay.services.forms import new_id
from tests.server.api import Api, opened, send_chunk
from tests.support.client import Person

PASSWORD = "Correct-Horse-7"
ANN: dict[str, Any] = {"username": "ann", "password": PASSWORD, "public_key": {"kty": "OKP"}}

# Chapter: ids in capitals


async def test_ids_in_capitals_over_http(api: Api):
    """[CASE2] Paths, queries and bodies accept UUIDs in upper case, as Swift writes them; responses use lower case."""
    ann, bob = api.user(), api.user(user_id=new_id())
    group = await ann.make_group()
    await bob.join(group)
    group_id = group["group_id"]
    loud = group_id.upper()
    assert loud != group_id

    said = await ann.say(loud)
    thread = (
        await ann.post("/api/threads", {"group_id": loud, "encrypted_title": "QQ==", "encrypted_body": "QQ=="})
    ).json()
    replied = await ann.post(f"/api/threads/{thread['thread_id'].upper()}/replies", {"encrypted_body": "QQ=="})
    media_id = new_id()
    sent = await send_chunk(ann, thread["thread_id"].upper(), media_id.upper(), 0, 1, b"x")
    paths = [
        f"/api/groups/{loud}/members",
        f"/api/groups/{loud}/threads",
        f"/api/groups/{loud}/quota",
        f"/api/groups/{loud}/presence",
        f"/api/groups/{loud}/state",
        f"/api/threads/{thread['thread_id'].upper()}",
        f"/api/threads/{thread['thread_id'].upper()}/replies",
        f"/api/threads/{thread['thread_id'].upper()}/media",
        f"/api/threads/{thread['thread_id'].upper()}/annotations",
        f"/api/media/{media_id.upper()}/info",
        f"/v1/events?group_id={loud}&limit=1000",
        f"/v1/messages?conversation_id={loud}",
    ]
    answers = [await ann.ask("GET", path) for path in paths]
    removed = await ann.ask("DELETE", f"/api/groups/{loud}/members/{bob.id.upper()}")

    assert said.status_code == 200
    assert (thread["group_id"], replied.status_code, sent.json()["media_id"]) == (group_id, 201, media_id)
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    assert removed.status_code == 204
    seen = "".join(answer.text for answer in answers)
    assert loud not in seen
    assert thread["thread_id"].upper() not in seen
    left = (await ann.get("/v1/events", group_id=group_id, limit=1000)).json()["events"][-1]
    assert (left["type"], left["data"]["user_id"]) == ("member_left", bob.id)


async def test_an_outside_user_id_in_capitals_is_that_user(api: Api):
    """[CASE3] An id of an outside identity provider is compared case-sensitively: in upper case it is another user."""
    small = new_id()
    ann, loud, quiet = api.user(), api.user(user_id=small.upper()), api.user(user_id=small)
    group = await ann.make_group()
    await loud.join(group)
    await quiet.join(group)

    assert (await ann.ask("DELETE", f"/api/groups/{group['group_id']}/members/{small.upper()}")).status_code == 204

    members = (await ann.get(f"/api/groups/{group['group_id']}/members")).json()["members"]
    assert [each["user_id"] for each in members] == [ann.id, quiet.id]


async def test_ids_in_capitals_over_the_socket(shared_server, people):
    """[CASE4] `subscribe` with `since`, `typing_indicator`, `post_…` and `unsubscribe` accept upper case, too."""
    ann: Person = await people(shared_server.url)
    group = (await ann.make_group()).id
    data = {"conversation_id": group.upper(), "encrypted_envelope": "QQ==", "timestamp": 1}
    async with await ann.connect() as socket:
        await socket.send("post_message", data)
        await socket.until("posted")
        await socket.send("subscribe", {"group_ids": [group.upper(), group], "since": {group.upper(): 1}})
        subscribed = await socket.until("subscribed")
        missed = await socket.until("new_message")
        await socket.send("unsubscribe", {"group_ids": [group.upper()]})
        gone = await socket.until("unsubscribed")

    assert subscribed["data"]["group_ids"] == [group]
    assert subscribed["data"]["groups"][group]["recovered"] is True
    assert missed["data"]["conversation_id"] == group
    assert gone["data"]["group_ids"] == [group]


# Chapter: what a post refers to


async def test_the_message_that_a_thread_or_reply_names_is_stored(api: Api):
    """[REFS1] `root_message_id` and `message_id` are returned in lists and events; if not set, they are absent."""
    ann = api.user()
    group_id = (await ann.make_group())["group_id"]
    message_id = (await ann.say(group_id)).json()["message_id"]
    body = {"group_id": group_id, "encrypted_title": "QQ==", "encrypted_body": "QQ=="}
    thread_id = (await ann.post("/api/threads", {**body, "root_message_id": message_id.upper()})).json()["thread_id"]
    await ann.post("/api/threads", body)
    replies = f"/api/threads/{thread_id}/replies"
    await ann.post(replies, {"encrypted_body": "QQ==", "message_id": message_id})
    await ann.post(replies, {"encrypted_body": "QQ=="})

    threads = (await ann.get(f"/api/groups/{group_id}/threads", sort="created_asc")).json()["threads"]
    shown = (await ann.get(f"/api/threads/{thread_id}")).json()
    listed = (await ann.get(replies)).json()["replies"]
    events = (await ann.get("/v1/events", group_id=group_id)).json()["events"]
    said = [
        event["data"].get("root_message_id", event["data"].get("message_id", "absent"))
        for event in events
        if event["type"] in {"new_thread", "new_reply"}
    ]

    assert [each["root_message_id"] for each in threads] == [message_id, None]
    assert shown["root_message_id"] == message_id
    assert [each["message_id"] for each in listed] == [message_id, None]
    assert said == [message_id, "absent", message_id, "absent"]


# Chapter: headers of libraries


@pytest.mark.parametrize(
    "asked", ["x-csrf-token", "content-type,idempotency-key,x-csrf-token", "x-requested-with, traceparent, dnt"]
)
async def test_harmless_headers_pass_the_preflight(api: Api, asked: str):
    """[CORS1] A preflight allows the API's own headers and those that the page asks for."""
    headers = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    answer = await api.ask("OPTIONS", "/v1/messages", headers=headers)

    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert answer.status_code == 204
    assert {name.strip() for name in asked.split(",")} | {"authorization", "idempotency-key"} <= allowed
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_preflight_never_echoes_an_invalid_header_name(api: Api):
    """[CORS1] A value that is not a list of header names, or that is too long, is not echoed."""
    for asked in ("x-a;y", "<script>", "x" * 3000):
        headers = {
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        }
        answer = await api.ask("OPTIONS", "/v1/messages", headers=headers)
        assert asked not in answer.headers["access-control-allow-headers"]


# Chapter: names


async def test_a_trailing_space_is_not_part_of_a_name(api: Api):
    """[NAME1] A space that a phone's keyboard adds to a name is trimmed at sign-up and at login."""
    made = await api.ask("POST", "/api/signup", json={**ANN, "username": " ann "})
    entered = await api.ask("POST", "/api/login", json={"username": "Ann ", "password": PASSWORD})
    inside = await api.ask("POST", "/api/signup", json={**ANN, "username": "an n"})

    assert (made.status_code, made.json()["username"]) == (201, "ann")
    assert (entered.status_code, entered.json()["user_id"]) == (200, made.json()["user_id"])
    assert inside.status_code == 400


# Chapter: sign-ups whose answer was lost


async def _sign_up(api: Api, key: str | None = "k", **changes: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.ask("POST", "/api/signup", json={**ANN, **changes}, headers=headers)


async def test_a_repeated_signup_gets_the_same_account(api: Api):
    """[SUP1] The same key, name, public key and password get the first account, with a new token."""
    first, again = await _sign_up(api), await _sign_up(api, public_key={"kty": "OKP"}, username="Ann ")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["user_id"] == first.json()["user_id"]
    assert again.json()["token"] != first.json()["token"]
    for answer in (first, again):
        token = {"Authorization": f"Bearer {answer.json()['token']}"}
        assert (await api.ask("GET", "/api/groups", headers=token)).status_code == 200


async def test_many_at_once_make_one_account(api: Api):
    """[SUP2] Six concurrent requests of the same sign-up create one account, and all return it."""
    answers = await asyncio.gather(*(_sign_up(api) for _ in range(6)))

    assert [answer.status_code for answer in answers] == [201] * 6
    assert len({answer.json()["user_id"] for answer in answers}) == 1


async def test_a_key_opens_no_account_of_another(api: Api):
    """[SUP3] The key with another password or public key is 409 CONFLICT; without the key the name is taken."""
    await _sign_up(api)

    refused = [
        await _sign_up(api, password="Another-Horse-8"),
        await _sign_up(api, public_key={"kty": "EC"}),
        await _sign_up(api, key=None),
        await _sign_up(api, key="other"),
    ]

    assert [(each.status_code, each.json()["error"]) for each in refused] == [
        (409, "CONFLICT"),
        (409, "CONFLICT"),
        (409, "USERNAME_TAKEN"),
        (409, "USERNAME_TAKEN"),
    ]


async def test_a_key_may_be_used_for_other_names(api: Api):
    """[SUP3] A key belongs to the account that it created: under another name the same key creates another account."""
    first, second = await _sign_up(api), await _sign_up(api, username="bob")

    assert first.json()["user_id"] != second.json()["user_id"]


async def test_a_key_expires_after_a_day(api: Api, monkeypatch: pytest.MonkeyPatch):
    """[SUP4] After 24 hours a key no longer returns the first response, and the name is taken."""
    await _sign_up(api)
    now_ms = api.node.clock.wall_ms()
    monkeypatch.setattr(api.node.clock, "wall_ms", lambda: now_ms + 24 * 3600 * 1000 + 1)

    assert (await _sign_up(api)).json()["error"] == "USERNAME_TAKEN"


async def test_a_repeated_group_is_one_group(api: Api):
    """[SUP5] A POST of a group that is repeated with its key creates one group."""
    ann = api.user()
    body = {"encrypted_name": "QQ==", "encrypted_group_key": "QQ=="}

    answers = await asyncio.gather(*(ann.post("/api/groups", body, key="g") for _ in range(4)))

    assert len({answer.json()["group_id"] for answer in answers}) == 1
    assert len((await ann.get("/api/groups")).json()["groups"]) == 1


# Chapter: refusals in the log


async def test_refused_logins_and_signups_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """[REF1] A refused login or sign-up logs one line with the address, and the name only if the account exists."""
    async with opened(tmp_path) as api:
        await _sign_up(api)
        caplog.clear()
        for name in ("ANN", "Correct-Horse-7", "nobody"):
            await api.ask("POST", "/api/login", json={"username": name, "password": "wrong-Horse-9"})
        await _sign_up(api, key=None)

        lines = [each for each in caplog.records if each.message in {"login refused", "signup refused"}]

    assert [getattr(each, "username", None) for each in lines] == ["ann", "(no account)", "(no account)", None]
    assert {each.address for each in lines} == {"192.0.2.7"}
    assert "Horse" not in caplog.text + str([vars(each) for each in lines])


# Chapter: sentences

_DECODER = re.compile(r"`(?:str|int|float|bool|object|array|null)|Expected|Object (?:missing|contains)|msgspec|\$\.")
_WRONG: tuple[Any, ...] = (None, True, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, 10**30)


async def test_no_refusal_mentions_the_decoder(api: Api):
    """[SENT3] Every field of every JSON body with every wrong type is refused in our words, or accepted; never 500."""
    ann = api.user()
    group_id = (await ann.make_group())["group_id"]
    thread_id = (await ann.open_thread(group_id))["thread_id"]
    ids = {"group_id": group_id, "thread_id": thread_id, "media_id": new_id(), "user_id": "x"}
    ids |= {"session_id": new_id(), "subscription_id": new_id(), "number": "1"}
    ids |= {"message_id": new_id(), "reply_id": new_id()}
    ids |= {"device_id": "1", "mailbox": (await api.ask("POST", "/v1/provision")).json()["mailbox"]}
    asked = 0
    for each in ENDPOINTS:
        path = each.path.format(**ids)
        if each.body is not None:
            for field in msgspec.structs.fields(each.body):
                for wrong in _WRONG:
                    answer = await ann.ask(each.method, path, content=_json({field.encode_name: wrong}))
                    _check(answer)
                    asked += 1
            for text in (b"", b"{", b"[]", b"null", b'{"a":1,}', b"\xff", b'{"a":' + b"9" * 5000 + b"}", b"[" * 5000):
                _check(await ann.ask(each.method, path, content=text, headers={"Idempotency-Key": new_id()}))
        if each.query is not None:
            for field in msgspec.structs.fields(each.query):
                for text in ("", "x", "-1", "1.5", "9" * 5000, "null"):
                    _check(await ann.ask(each.method, f"{path}?{field.encode_name}={text}"))
                    asked += 1
    assert asked > 100


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _check(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code == 400:
        assert _DECODER.search(answer.json()["message"]) is None, answer.text


async def test_a_timestamp_is_a_whole_number(api: Api):
    """[SENT1] «timestamp must be a whole number of milliseconds.»"""
    ann = api.user()
    group_id = (await ann.make_group())["group_id"]
    body = {"conversation_id": group_id, "encrypted_envelope": "QQ==", "timestamp": 1.5}

    refused = (await ann.post("/v1/messages", body)).json()

    assert (refused["message"], refused["details"]) == (
        "timestamp must be a whole number of milliseconds.",
        {"field": "timestamp"},
    )
