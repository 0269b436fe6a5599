"""Annotations of threads, replies and media over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.server.api import EACH_DATABASE, Api, User, send_chunk

pytestmark = EACH_DATABASE


async def annotate(user: User, thread_id: str, target_id: str, body: str = "cmVhY3Q=", **more: Any) -> httpx.Response:
    """Post an annotation."""
    key = more.pop("key", None)
    content = {"target_id": target_id, "encrypted_body": body, **more}
    return await user.post(f"/api/threads/{thread_id}/annotations", content, key=key)


async def listed(user: User, thread_id: str, **query: Any) -> Any:
    """Return a page of annotations."""
    answer = await user.get(f"/api/threads/{thread_id}/annotations", **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def reply(user: User, thread_id: str) -> str:
    """Reply, and return the id."""
    answer = await user.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": "QQ=="})
    return str(answer.json()["reply_id"])


async def photo(user: User, thread_id: str, *, whole: bool = True) -> str:
    """Upload a medium, or the first half of one, and return its id."""
    media_id = str(uuid.uuid4())
    assert (await send_chunk(user, thread_id, media_id, 0, 1 if whole else 2, b"x")).is_success
    if whole:
        done = await user.post("/api/media/upload/complete", {"media_id": media_id})
        assert done.status_code == 200, done.text
    return media_id


@pytest.fixture
async def home(api: Api) -> tuple[User, User, dict[str, str], dict[str, str]]:
    """Ann and Bob in a group with a thread."""
    ann, bob = api.user(), api.user()
    group = await ann.make_group()
    assert (await bob.join(group)).status_code == 200
    return ann, bob, group, await ann.open_thread(group["group_id"])


async def test_an_annotation_in_answer_list_and_event(home: Any):
    """[ANNOT1] An annotation of a thread, a reply or a medium is the same in its answer, in the list and as event."""
    ann, bob, group, thread = home
    thread_id = thread["thread_id"]
    targets = [thread_id, await reply(bob, thread_id), await photo(ann, thread_id)]

    answers = [await annotate(bob, thread_id, target) for target in targets]

    assert [each.status_code for each in answers] == [201] * 3
    entries = (await listed(ann, thread_id))["annotations"]
    author = {"author_id": bob.id, "author_username": bob.username, "encrypted_body": "cmVhY3Q="}
    assert entries == [each.json() | author for each in answers]
    assert [each["target_id"] for each in entries] == targets
    log = (await ann.get("/v1/events", group_id=group["group_id"])).json()["events"]
    events = [each for each in log if each["type"] == "new_annotation"]
    assert [each["data"] | {"seq": each["seq"]} for each in events] == entries


async def test_it_is_no_reply_and_no_activity(home: Any):
    """[ANNOT2] An annotation changes neither a thread's count of replies nor its last activity."""
    ann, bob, group, thread = home
    before = (await ann.get(f"/api/groups/{group['group_id']}/threads")).json()

    assert (await annotate(bob, thread["thread_id"], thread["thread_id"])).status_code == 201

    assert (await ann.get(f"/api/groups/{group['group_id']}/threads")).json() == before


async def test_what_is_refused(api: Api, home: Any):
    """[ANNOT3] A target outside the thread, a stranger, a missing thread and a malformed body change nothing."""
    ann, bob, group, thread = home
    thread_id, eve = thread["thread_id"], api.user()
    other = await bob.open_thread(group["group_id"])
    elsewhere = [other["thread_id"], await reply(bob, other["thread_id"]), await photo(bob, other["thread_id"])]
    unfinished = await photo(ann, thread_id, whole=False)

    lost = [await annotate(ann, thread_id, each) for each in (*elsewhere, unfinished, str(uuid.uuid4()))]
    wrong = [
        await annotate(eve, thread_id, thread_id),
        await annotate(ann, str(uuid.uuid4()), thread_id),
        await annotate(ann, thread_id, "no id"),
        await annotate(ann, thread_id, thread_id, "not base64!"),
        await annotate(ann, thread_id, thread_id, if_epoch=1),
        await eve.get(f"/api/threads/{thread_id}/annotations"),
        await ann.get(f"/api/threads/{uuid.uuid4()}/annotations"),
        await ann.get(f"/api/threads/{thread_id}/annotations", limit=0),
    ]

    assert [(each.status_code, each.json()["details"]) for each in lost] == [(404, {"field": "target_id"})] * 5
    assert [each.status_code for each in wrong] == [403, 404, 400, 400, 409, 403, 404, 400]
    assert await listed(ann, thread_id) == {"annotations": [], "has_more": False}


async def test_pages_after_a_number(home: Any):
    """[ANNOT4] Pages of annotations continue after a number of the log, and each annotation comes once, in order."""
    ann, bob, _, thread = home
    thread_id = thread["thread_id"]
    posted = []
    for index in range(7):
        posted.append((await annotate((ann, bob)[index % 2], thread_id, thread_id)).json()["annotation_id"])
        await reply(ann, thread_id)

    found: list[Any] = []
    more = True
    while more:
        page = await listed(ann, thread_id, limit=3, after_seq=found[-1]["seq"] if found else 0)
        found += page["annotations"]
        more = page["has_more"]

    assert [each["annotation_id"] for each in found] == posted
    assert [each["seq"] for each in found] == sorted(each["seq"] for each in found)


async def test_the_same_request_again(home: Any):
    """[ANNOT5] An annotation that is posted again under its idempotency key is stored once, with the same answer."""
    ann, _, _, thread = home
    thread_id = thread["thread_id"]

    first, again = [await annotate(ann, thread_id, thread_id, key="tap-1") for _ in range(2)]

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert len((await listed(ann, thread_id))["annotations"]) == 1


async def test_check_compares_the_rows_with_the_log(api: Api, home: Any):
    """[ANNOT6] `orbital check` finds an annotation whose row is missing."""
    ann, _, group, thread = home
    await annotate(ann, thread["thread_id"], thread["thread_id"])
    (row,) = await api.node.store.users(named=ann.id)
    clean = (await api.node.store.verify(group["group_id"])).findings

    await api.node.store.request_erasure(row.key, at_ms=0)
    await api.node.erase()
    await api.node.store.erase_content(before_ms=api.node.clock.wall_ms() + 1000)
    (found,) = [each for each in (await api.node.store.verify(group["group_id"])).findings if "annotation" in each]

    assert clean == []
    assert "is missing or differs" in found
