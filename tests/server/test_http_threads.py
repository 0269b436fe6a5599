"""Threads and replies over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api import Api, opaque

_NOWHERE = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(shared_api: Api) -> Api:
    """One node for all of these: opening one takes longer than most of them."""
    return shared_api


async def test_a_thread_s_life(api: Api):
    """[THR1] A thread is opened, listed, shown and replied to: all responses agree, and so do the events."""
    ada, bob = api.user(), api.user()
    group = await ada.make_group()
    await bob.join(group)
    group_id = group["group_id"]
    body = {"group_id": group_id, "encrypted_title": "VElU", "encrypted_body": "Qk9E", "root_message_id": _NOWHERE}

    opened = await ada.post("/api/threads", body)
    thread = opened.json()
    replied = await bob.post(
        f"/api/threads/{thread['thread_id']}/replies", {"encrypted_body": "UkVQ", "message_id": None}
    )
    reply = replied.json()

    assert (opened.status_code, replied.status_code) == (201, 201)
    assert (thread["group_id"], thread["seq"], reply["thread_id"], reply["seq"]) == (
        group_id,
        3,
        thread["thread_id"],
        4,
    )
    shown = (await bob.get(f"/api/threads/{thread['thread_id']}")).json()
    expected = {
        "thread_id": thread["thread_id"],
        "group_id": group_id,
        "author_id": ada.id,
        "author_username": ada.username,
        "encrypted_title": "VElU",
        "encrypted_body": "Qk9E",
        "root_message_id": _NOWHERE,
        "reply_count": 1,
        "media_count": 0,
        "created_at": thread["created_at"],
        "last_activity_at": reply["created_at"],
        "last_seq": 4,
        "last_author_id": bob.id,
        "last_author_username": bob.username,
        "last_encrypted_body": "UkVQ",
    }
    assert shown == {**expected, "media": [], "media_has_more": False}
    listed = (await ada.get(f"/api/groups/{group_id}/threads")).json()
    assert listed == {"threads": [expected], "total_count": 1, "has_more": False}
    replies = (await ada.get(f"/api/threads/{thread['thread_id']}/replies")).json()
    expected_reply = {
        "reply_id": reply["reply_id"],
        "thread_id": thread["thread_id"],
        "author_id": bob.id,
        "author_username": bob.username,
        "encrypted_body": "UkVQ",
        "message_id": None,
        "media_count": 0,
        "created_at": reply["created_at"],
        "seq": reply["seq"],
    }
    assert replies == {"replies": [expected_reply], "total_count": 1, "has_more": False}
    events = (await ada.get("/v1/events", group_id=group_id, after_seq=2)).json()["events"]
    assert [event["type"] for event in events] == ["new_thread", "new_reply"]
    # The reply named no message, so its event has no such field.
    without = {"reply_count", "media_count", "seq"} | {name for name in expected if name.startswith("last_")}
    del expected_reply["message_id"]
    assert events[0]["data"] == {name: value for name, value in expected.items() if name not in without}
    assert events[1]["data"] == {name: value for name, value in expected_reply.items() if name not in without}


@pytest.mark.parametrize("order", [None, "created_desc", "created_asc", "active_desc"])
async def test_threads_come_page_by_page(api: Api, order: str | None):
    """[THR2] limit, offset and sort page through one order; newest first by default."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    made = [(await ada.open_thread(group))["thread_id"] for _ in range(7)]
    await ada.post(f"/api/threads/{made[2]}/replies", {"encrypted_body": opaque()})
    active = [made[2], *(one for one in reversed(made) if one != made[2])]
    query: dict[str, Any] = {} if order is None else {"sort": order}

    pages = [
        (await ada.get(f"/api/groups/{group}/threads", limit=3, offset=offset, **query)).json()
        for offset in (0, 3, 6, 9)
    ]

    seen = [[thread["thread_id"] for thread in page["threads"]] for page in pages]
    expected = {"created_asc": made, "active_desc": active}.get(order or "", made[::-1])
    assert seen == [expected[:3], expected[3:6], expected[6:], []]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert {page["total_count"] for page in pages} == {7}


async def test_replies_come_page_by_page_oldest_first(api: Api):
    """[THR2] Replies are in the order of the log; 50 a page by default."""
    ada = api.user()
    thread = (await ada.open_thread((await ada.make_group())["group_id"]))["thread_id"]
    path = f"/api/threads/{thread}/replies"
    posted = [(await ada.post(path, {"encrypted_body": opaque()})).json() for _ in range(53)]

    first = (await ada.get(path)).json()
    rest = (await ada.get(path, offset=50)).json()

    listed = [(reply["reply_id"], reply["seq"]) for reply in first["replies"] + rest["replies"]]
    assert listed == [(reply["reply_id"], reply["seq"]) for reply in posted]
    assert (first["has_more"], rest["has_more"], first["total_count"]) == (True, False, 53)
    shown = (await ada.get(f"/api/threads/{thread}")).json()
    assert shown["reply_count"] == 53


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("offset=9007199254740992", "offset"),
        ("offset=1&offset=2", "offset"),
        ("sort=newest", "sort"),
        ("sort=", "sort"),
    ],
)
async def test_bad_pages_name_the_field(api: Api, query: str, field: str):
    """[FORM6] An out-of-range, non-integer or repeated parameter or an unknown sort is 400 with the field."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]

    answer = await ada.ask("GET", f"/api/groups/{group}/threads?{query}")

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)


async def test_the_ends_of_the_ranges_pass(api: Api):
    """[FORM6] The largest limit and offset are accepted; past the end the page is empty."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    thread = (await ada.open_thread(group))["thread_id"]

    threads = await ada.get(f"/api/groups/{group}/threads", limit=100, offset=2**53 - 1)
    replies = await ada.get(f"/api/threads/{thread}/replies", limit=1, offset=2**53 - 1)

    assert threads.json() == {"threads": [], "total_count": 1, "has_more": False}
    assert replies.json() == {"replies": [], "total_count": 0, "has_more": False}


async def test_threads_of_others(api: Api):
    """[PERM1] 403 where the thread is another group's, 404 where it does not exist or the id is invalid."""
    ada, eve = api.user(), api.user()
    group = (await ada.make_group())["group_id"]
    thread = (await ada.open_thread(group))["thread_id"]

    for method, path in (("GET", "{}"), ("GET", "{}/replies"), ("POST", "{}/replies")):
        statuses = [
            (await eve.ask(method, "/api/threads/" + path.format(name), json={"encrypted_body": "AAAA"})).status_code
            for name in (thread, _NOWHERE, "nope", f"{thread}x")
        ]
        assert statuses == [403, 404, 404, 404], (method, path)
    body = {"group_id": group, "encrypted_title": "AAAA", "encrypted_body": "AAAA"}
    answers = [await eve.post("/api/threads", {**body, "group_id": name}) for name in (group, _NOWHERE)]
    assert [answer.status_code for answer in answers] == [403, 404]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group_id": "nope"}, "group_id"),
        ({"group_id": None}, "group_id"),
        ({"encrypted_title": "a title"}, "encrypted_title"),
        ({"encrypted_body": ""}, "encrypted_body"),
        ({"root_message_id": "nope"}, "root_message_id"),
        ({"root_message_id": 1}, "root_message_id"),
    ],
)
async def test_bad_threads_name_the_field(api: Api, change: dict[str, Any], field: str):
    """[FORM1] Each malformed field is 400 with its name."""
    body = {"group_id": _NOWHERE, "encrypted_title": "AAAA", "encrypted_body": "AAAA", **change}

    answer = await api.user().post("/api/threads", body)

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "encrypted_body"),
        ({"encrypted_body": "?"}, "encrypted_body"),
        ({"encrypted_body": "AAAA", "message_id": ""}, "message_id"),
    ],
)
async def test_bad_replies_name_the_field(api: Api, body: dict[str, Any], field: str):
    """[FORM1] Each malformed field is 400 with its name."""
    answer = await api.user().post(f"/api/threads/{_NOWHERE}/replies", body)

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)


async def test_repeated_threads_and_replies_are_one(api: Api):
    """[ONCE5] The same key and body create one entry; a reply's key belongs to its thread."""
    ada = api.user()
    group = (await ada.make_group())["group_id"]
    body = {"group_id": group, "encrypted_title": "AAAA", "encrypted_body": "AAAA"}

    threads = [await ada.post("/api/threads", body, key="t") for _ in range(2)]
    thread, other = threads[0].json()["thread_id"], (await ada.open_thread(group))["thread_id"]
    replies = [await ada.post(f"/api/threads/{thread}/replies", {"encrypted_body": "AAAA"}, key="r") for _ in range(2)]
    elsewhere = await ada.post(f"/api/threads/{other}/replies", {"encrypted_body": "AAAA"}, key="r")

    assert threads[0].content == threads[1].content
    assert replies[0].content == replies[1].content
    assert (replies[0].status_code, elsewhere.status_code) == (201, 409)
    assert (await ada.get(f"/api/threads/{thread}")).json()["reply_count"] == 1
