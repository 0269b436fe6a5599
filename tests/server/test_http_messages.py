"""Messages over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.server.api import Api, User, opaque, opened

_NOWHERE = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(shared_api: Api) -> Api:
    """One node for all of these: opening one takes longer than most of them."""
    return shared_api


async def _three_groups(ada: User) -> list[str]:
    return [(await ada.make_group())["group_id"] for _ in range(3)]


async def test_posting_and_fetching(api: Api):
    """[MSG1] The POST's response and the fetched message are equal; the envelope is returned byte for byte."""
    ada, bob = api.user(), api.user()
    group = await ada.make_group()
    await bob.join(group)
    envelope = base64.urlsafe_b64encode(bytes(range(256))).decode().rstrip("=")

    posted = (await ada.say(group["group_id"], envelope)).json()
    page = (await bob.get("/v1/messages")).json()

    assert page == {
        "messages": [
            {
                "message_id": posted["message_id"],
                "conversation_id": group["group_id"],
                "encrypted_envelope": envelope,
                "server_timestamp": posted["server_timestamp"],
                "sender_id": ada.id,
                "seq": 3,
            }
        ],
        "has_more": False,
    }
    assert posted["seq"] == 3


async def test_paging_by_the_last_stamp_skips_nothing(api: Api):
    """[MSG2] Paging over all groups, oldest first, returns every message once."""
    ada = api.user()
    groups = await _three_groups(ada)
    posted = [(await ada.say(groups[number % 3])).json()["message_id"] for number in range(40)]

    fetched: list[str] = []
    since, pages = 0, 0
    while True:
        page = (await ada.get("/v1/messages", since=since, limit=7)).json()
        fetched += [message["message_id"] for message in page["messages"]]
        pages += 1
        if not page["has_more"]:
            break
        since = page["messages"][-1]["server_timestamp"]

    assert fetched == posted
    assert pages == 6
    last = (await ada.get("/v1/messages", since=page["messages"][-1]["server_timestamp"])).json()
    assert last == {"messages": [], "has_more": False}


async def test_large_messages_page_by_page(api: Api):
    """[MSG2] A page ends before its limit when its messages reach 8 MiB; `has_more` says so, and none is omitted."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    posted = [(await ada.say(group, opaque(262_144))).json()["message_id"] for _ in range(30)]

    first = (await ada.get("/v1/messages", limit=500)).json()
    since = first["messages"][-1]["server_timestamp"]
    second = (await ada.get("/v1/messages", since=since, limit=500)).json()

    assert [message["message_id"] for message in first["messages"] + second["messages"]] == posted
    assert 20 < len(first["messages"]) < 30
    assert (first["has_more"], second["has_more"]) == (True, False)


async def test_one_conversation(api: Api):
    """[MSG3] `conversation_id` selects one group; 403 for a non-member, 404 if it does not exist."""
    ada, eve = api.user(), api.user()
    groups = await _three_groups(ada)
    for group in groups:
        await ada.say(group)

    mine = (await ada.get("/v1/messages", conversation_id=groups[1])).json()["messages"]
    statuses = [(await eve.get("/v1/messages", conversation_id=group)).status_code for group in (groups[0], _NOWHERE)]

    assert [message["conversation_id"] for message in mine] == [groups[1]]
    assert statuses == [403, 404]
    assert (await eve.get("/v1/messages")).json() == {"messages": [], "has_more": False}


async def test_who_may_post(api: Api):
    """[PERM1] 403 where the group exists, 404 where it does not; nothing is stored."""
    ada, eve = api.user(), api.user()
    group = (await ada.make_group())["group_id"]

    answers = [await eve.say(group_id) for group_id in (group, _NOWHERE)]

    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
        (403, "FORBIDDEN"),
        (404, "NOT_FOUND"),
    ]
    assert (await ada.get("/v1/messages")).json()["messages"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"conversation_id": None}, "conversation_id"),
        ({"conversation_id": "nope"}, "conversation_id"),
        ({"conversation_id": _NOWHERE[:-1] + "g"}, "conversation_id"),
        ({"conversation_id": 7}, "conversation_id"),
        ({"encrypted_envelope": ""}, "encrypted_envelope"),
        ({"encrypted_envelope": "hello, world"}, "encrypted_envelope"),
        ({"encrypted_envelope": {"ciphertext": "AAAA"}}, "encrypted_envelope"),
        ({"encrypted_envelope": "AAAA="}, "encrypted_envelope"),
        ({"encrypted_envelope": "AA-/"}, "encrypted_envelope"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "1"}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": 2**53}, "timestamp"),
        ({"timestamp": 10**400}, "timestamp"),
    ],
)
async def test_bad_messages_name_the_field(api: Api, change: dict[str, Any], field: str):
    """[FORM1] Each malformed field is 400 with its name, for members and non-members."""
    body = {"conversation_id": _NOWHERE, "encrypted_envelope": "AAAA", "timestamp": 0, **change}

    answer = await api.user().post("/v1/messages", body)

    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["details"]["field"] == field


@pytest.mark.parametrize("missing", ["conversation_id", "encrypted_envelope", "timestamp"])
async def test_every_field_is_needed(api: Api, missing: str):
    """[FORM1] A missing field is 400 with its name."""
    body = {"conversation_id": _NOWHERE, "encrypted_envelope": "AAAA", "timestamp": 0}
    del body[missing]

    answer = await api.user().post("/v1/messages", body)

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, missing)


async def test_the_envelope_limit_is_of_decoded_bytes(tmp_path: Any):
    """[LIM5] An envelope of exactly the limit is stored; one byte more is 413, before base64 is validated."""
    async with opened(tmp_path, envelope_bytes="1000") as api:
        ada = api.user()
        group = (await ada.make_group())["group_id"]

        answers = [
            await ada.say(group, envelope)
            for envelope in (opaque(1000), opaque(1000).rstrip("="), opaque(1001), "!" * 1400)
        ]

        assert [answer.status_code for answer in answers] == [200, 200, 413, 413]
        assert answers[2].json()["error"] == "PAYLOAD_TOO_LARGE"
        assert answers[2].json()["details"]["limit_bytes"] == 1000


async def test_the_largest_envelope_fits_the_body(api: Api):
    """[LIM5] 256 KiB, the default limit, is accepted; one byte more is 413 for the envelope, not for the body."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]

    fits, over = [await ada.say(group, opaque(size)) for size in (262_144, 262_145)]

    assert (fits.status_code, over.status_code) == (200, 413)
    assert over.json()["details"]["field"] == "encrypted_envelope"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1e2", "limit"),
        ("limit=", "limit"),
        ("limit=%201", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=1&limit=1", "limit"),
        ("since=-1", "since"),
        ("since=now", "since"),
        ("since=9007199254740992", "since"),
        ("since=NaN", "since"),
        ("conversation_id=", "conversation_id"),
        ("conversation_id=nope", "conversation_id"),
    ],
)
async def test_bad_queries_name_the_field(api: Api, query: str, field: str):
    """[FORM6] An out-of-range, non-integer or repeated parameter is 400 with the name of the field."""
    answer = await api.user().ask("GET", f"/v1/messages?{query}")

    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["details"]["field"] == field


@pytest.mark.parametrize(
    "query", ["", "limit=1", "limit=500", "since=0", "since=9007199254740991", "cache=1&cache=2", "&&", "limit=007"]
)
async def test_good_queries(api: Api, query: str):
    """[FORM6] The ends of each range are accepted; unknown parameters are ignored."""
    answer = await api.user().ask("GET", f"/v1/messages?{query}")

    assert answer.json() == {"messages": [], "has_more": False}


# IdempotencyKey


async def test_a_repeated_post_is_one_message(api: Api):
    """[ONCE5] The same key and equal JSON, however formatted, get the first response, byte for byte, and one event."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    texts = [
        json.dumps(
            {"conversation_id": group, "encrypted_envelope": "AAAA", "timestamp": 5, "more": more}, indent=indent
        )
        for more, indent in ((1, None), (1.0, 2), (1, 4))
    ]
    texts.append(json.dumps(dict(reversed(json.loads(texts[0]).items()))))

    answers = [
        await ada.ask("POST", "/v1/messages", content=text, headers={"Idempotency-Key": "one"}) for text in texts
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert len((await ada.get("/v1/messages")).json()["messages"]) == 1


async def test_a_key_for_another_request_conflicts(api: Api):
    """[ONCE5] The same key with another body, or on another path, is 409 and stores nothing."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    body = {"conversation_id": group, "encrypted_envelope": "AAAA", "timestamp": 5}
    await ada.post("/v1/messages", body, key="one")

    thread = {"group_id": group, "encrypted_title": "AAAA", "encrypted_body": "AAAA"}
    answers = [
        await ada.post("/v1/messages", {**body, "timestamp": 6}, key="one"),
        await ada.post("/v1/messages", {**body, "more": None}, key="one"),
        await ada.post("/api/threads", thread, key="one"),
    ]

    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(409, "CONFLICT")}
    assert len((await ada.get("/v1/events", group_id=group)).json()["events"]) == 2


async def test_concurrent_posts_with_one_key_are_one(api: Api):
    """[ONCE6] While the first post is in progress, others with its key wait for its response."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]

    answers = await asyncio.gather(*(ada.say(group, "AAAA", key="one") for _ in range(10)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert (await ada.get("/api/groups")).json()["groups"][0]["last_seq"] == 2


async def test_the_key_of_a_refused_post_is_free(api: Api):
    """[ONCE7] A key whose first request was refused can be used for the corrected request."""
    ada, eve = api.user(), api.user()
    group = await ada.make_group()
    body = {"conversation_id": group["group_id"], "encrypted_envelope": "AAAA", "timestamp": 5}

    refused = [
        await eve.post("/v1/messages", {**body, "encrypted_envelope": "no base64!"}, key="one"),
        await eve.post("/v1/messages", body, key="one"),
        await eve.post("/v1/messages", {**body, "conversation_id": _NOWHERE}, key="one"),
    ]
    await eve.join(group)
    accepted = await eve.post("/v1/messages", body, key="one")

    assert [answer.status_code for answer in refused] == [400, 403, 404]
    assert accepted.status_code == 200


async def test_the_response_outlives_the_membership(api: Api):
    """[ONCE8] A former member still gets the first response to a repeated post."""
    ada, bob = api.user(), api.user()
    group = await ada.make_group()
    await bob.join(group)
    first = await bob.say(group["group_id"], "AAAA", key="one")
    await bob.ask("DELETE", f"/api/groups/{group['group_id']}/members/{bob.id}")

    again = await bob.say(group["group_id"], "AAAA", key="one")

    assert (again.status_code, again.content) == (200, first.content)
    assert (await bob.say(group["group_id"], "AAAA", key="two")).status_code == 403


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 129, "ä", "tab\there"])
async def test_a_bad_key_is_refused(api: Api, key: str):
    """[ONCE3] A key is 1-128 visible ASCII characters; anything else is 400, and nothing is stored."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    body = {"conversation_id": group, "encrypted_envelope": "AAAA", "timestamp": 5}

    answer = await ada.ask("POST", "/v1/messages", json=body, headers={"Idempotency-Key": key.encode("latin-1")})

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "Idempotency-Key")
    assert (await ada.get("/v1/messages")).json()["messages"] == []


async def test_two_keys_are_refused(api: Api):
    """[ONCE3] A repeated header is not a valid key."""
    ada = api.user()
    headers = [*ada.headers.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    body = {"conversation_id": _NOWHERE, "encrypted_envelope": "AAAA", "timestamp": 5}

    answer = await api.ask("POST", "/v1/messages", json=body, headers=headers)

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "Idempotency-Key")
