"""Where the older description was silent: the server behaves as the protocol page says that it chose."""

from __future__ import annotations

import pytest

from tests.support.client import Person, opaque
from tests.support.server import Server


async def test_refused_groups_are_reported_first(shared_server: Server):
    """[CHO1] The `error` that names refused groups comes before the `subscribed` response."""
    async with await Person.sign_up(shared_server.url) as ada, await Person.sign_up(shared_server.url) as ben:
        mine, theirs = await ada.make_group(), await ben.make_group()
        async with await ada.connect() as socket:
            await socket.send("subscribe", {"group_ids": [mine.id, theirs.id]}, id=1)
            answers = [await socket.receive(), await socket.receive()]

    assert [(frame["type"], frame["reply_to"]) for frame in answers] == [("error", 1), ("subscribed", 1)]
    assert answers[0]["data"]["group_ids"] == [theirs.id]
    assert answers[1]["data"]["group_ids"] == [mine.id]


async def test_stamps_stand_still_before_the_first_subscribe(shared_server: Server):
    """[CHO2] A message posted before the first `subscribe` was answered is found from any frame's stamp."""
    async with await Person.sign_up(shared_server.url) as ada:
        group = await ada.make_group()
        async with await ada.connect() as socket:
            message = await ada.say(group)
            await socket.send("unheard_of")
            refusal = await socket.until("error")
            granted = await socket.subscribe(group.id)
            stamps = {socket.frames[0]["server_timestamp"], refusal["server_timestamp"], granted["server_timestamp"]}
            found = await ada.get("/v1/messages", since=granted["server_timestamp"])
            # From then on stamps increase again.
            await ada.say(group)
            moved = await socket.until("new_message")

    assert len(stamps) == 1
    assert max(stamps) < message["server_timestamp"]
    assert [one["message_id"] for one in found["messages"]] == [message["message_id"]]
    assert moved["server_timestamp"] > message["server_timestamp"]


async def test_a_group_always_has_a_creator(shared_server: Server):
    """[CHO3] The creator's rights pass to the longest-standing member; if all have left, to the first to join."""
    people = [await Person.sign_up(shared_server.url) for _ in range(3)]
    ada, ben, cleo = people
    group = await ada.make_group()
    await ben.join(group)
    await cleo.join(group)
    replace = f"/api/groups/{group.id}/invite-codes"

    async def may(who: Person) -> bool:
        return (await who.http.post(replace)).status_code == 201

    assert [await may(one) for one in (ben, cleo)] == [False, False]
    await ada.leave(group)
    assert [await may(one) for one in (cleo, ben)] == [False, True]
    group.invite_code = (await ben.post(replace, {}))["invite_code"]
    await ben.leave(group)
    await cleo.leave(group)
    await ada.join(group)
    await cleo.join(group)
    assert [await may(one) for one in (cleo, ada)] == [False, True]
    for one in people:
        await one.close()


@pytest.mark.parametrize("method_path", ["GET /api/groups/{}/members", "GET /api/threads/{}", "GET /api/media/{}/info"])
async def test_ids_in_paths(shared_server: Server, method_path: str):
    """[CHO4] A path with an id that is not a UUID is 404."""
    method, path = method_path.split()
    async with await Person.sign_up(shared_server.url) as ada:
        answer = await ada.http.request(method, path.format("not-a-uuid"))

    assert answer.status_code == 404
    assert answer.json()["error"] == "NOT_FOUND"


async def test_ids_elsewhere(shared_server: Server):
    """[CHO4] In a query or a body such an id is 400 with the name of its field."""
    async with await Person.sign_up(shared_server.url) as ada:
        asked = await ada.http.get("/v1/events", params={"group_id": "not-a-uuid"})
        body = {"conversation_id": "not-a-uuid", "encrypted_envelope": opaque(), "timestamp": 0}
        posted = await ada.http.post("/v1/messages", json=body)

    assert [answer.status_code for answer in (asked, posted)] == [400, 400]
    assert [answer.json()["details"]["field"] for answer in (asked, posted)] == ["group_id", "conversation_id"]


async def test_highest_number(shared_server: Server):
    """[CHO5] `after_seq` may be up to 10^12, and no more."""
    async with await Person.sign_up(shared_server.url) as ada:
        group = await ada.make_group()
        statuses = [
            (await ada.http.get("/v1/events", params={"group_id": group.id, "after_seq": after})).status_code
            for after in (10**12, 10**12 + 1)
        ]

    assert statuses == [200, 400]


async def test_the_list_of_groups_has_the_last_number(shared_server: Server):
    """[CHO6] `last_seq` in the list of groups increases with every event."""
    async with await Person.sign_up(shared_server.url) as ada:
        group = await ada.make_group()
        await ada.say(group)
        await ada.open_thread(group)
        [listed] = (await ada.get("/api/groups"))["groups"]

    assert listed["last_seq"] == 3
