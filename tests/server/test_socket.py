"""The socket of a real server: its frames, their order, and how it closes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.client import link, opaque
from tests.support.tokens import sign


@pytest.fixture
def server(shared_server):
    """Share one server among the tests that neither set nor stop it."""
    return shared_server


async def _family(server, people, count=2):
    """Return so many people in one group."""
    family = [await people(server.url) for _ in range(count)]
    group = await family[0].make_group()
    for person in family[1:]:
        await person.join(group)
    return *family, group


# The first frames


async def test_auth_success_comes_first(server, people):
    """[SOCK1] The first frame names the authenticated user and the capabilities of the connection."""
    ada = await people(server.url)

    async with await ada.connect() as socket:
        first = socket.frames[0]

    assert first["type"] == "auth_success"
    assert first["data"]["user_id"] == ada.user_id
    assert first["data"]["username"] == ada.username
    assert first["data"]["heartbeat_seconds"] == 30
    assert first["data"]["max_frame_bytes"] == 65536
    assert uuid.UUID(first["data"]["session_id"])
    assert first["data"]["connected_at"].endswith("Z")
    assert first["data"]["expires_at"].endswith("Z")


async def test_both_paths_are_the_endpoint(server, people):
    """[SOCK1] `/v1/websocket` is the same endpoint: an event reaches the sockets of both paths as the same text."""
    ada, group = await _family(server, people, 1)

    async with await ada.connect() as socket:
        path = server.ws_url.replace("/ws", "/v1/websocket")
        assert path != server.ws_url
        headers = {"Authorization": f"Bearer {ada.token}"}
        async with await type(socket).open(path, additional_headers=headers) as other:
            for each in (socket, other):
                await each.subscribe(group.id)
            await ada.say(group)
            for each in (socket, other):
                await each.until_seq(group, 2)

    assert [each.frames[0]["type"] for each in (socket, other)] == ["auth_success"] * 2
    assert socket.texts[-1] == other.texts[-1]


# Subscribing


async def test_subscribe_adds(server, people):
    """[SUB1] `subscribe` adds groups and is always answered, with the position of each group."""
    ada, group = await _family(server, people, 1)
    other = await ada.make_group()

    async with await ada.connect() as socket:
        first = await socket.subscribe(group.id)
        second = await socket.subscribe(other.id, other.id)
        third = await socket.subscribe()
        await ada.say(group)
        await ada.say(other)
        await socket.until_seq(group, 2)
        await socket.until_seq(other, 2)

    assert first["data"]["group_ids"] == [group.id]
    assert first["data"]["groups"] == {group.id: {"seq": 1}}
    assert second["data"]["group_ids"] == [other.id]
    assert third["data"]["group_ids"] == []


async def test_groups_of_others(server, people):
    """[SUB1] Groups that the user is not in, or that do not exist, are listed in one `error`; the others succeed."""
    ada, group = await _family(server, people, 1)
    bob, strange = await _family(server, people, 1)
    missing = str(uuid.uuid4())

    async with await ada.connect() as socket:
        await socket.send("subscribe", {"group_ids": [strange.id, group.id, missing, "no uuid"]}, id="q")
        error = await socket.until("error")
        answer = await socket.until("subscribed")
        await bob.say(strange)
        await socket.wait_idle()

    assert error["data"]["code"] == "FORBIDDEN"
    assert error["data"]["group_ids"] == [strange.id, missing, "no uuid"]
    assert answer["data"]["group_ids"] == [group.id]
    assert error["reply_to"] == answer["reply_to"] == "q"
    assert socket.seqs(strange) == []


async def test_unsubscribe(server, people):
    """[SUB2] `unsubscribe` is answered, and no event of the group follows."""
    ada, bob, group = await _family(server, people)

    async with await ada.listen(group) as socket:
        await bob.say(group)
        await socket.until_seq(group, 3)
        await socket.send("unsubscribe", {"group_ids": [group.id]}, id=9)
        answer = await socket.until("unsubscribed")
        await bob.say(group)
        await socket.wait_idle()

    assert answer["data"] == {"group_ids": [group.id], "reason": "requested"}
    assert answer["reply_to"] == 9
    assert socket.seqs(group) == [3]


async def test_every_event_has_its_fields(server, people):
    """[EVT1] Messages, threads, replies and members arrive with the protocol's fields, chained, in order."""
    ada, bob, group = await _family(server, people)

    async with await ada.listen(group, since={group.id: 0}) as socket:
        message = await bob.say(group, "one")
        thread = await bob.open_thread(group)
        reply = await bob.reply(thread["thread_id"])
        cy = await people(server.url)
        await cy.join(group)
        await cy.leave(group)
        await socket.until_seq(group, 7)

    frames = {frame["seq"]: frame for frame in socket.events(group)}
    assert [frame["type"] for frame in frames.values()] == [
        "member_joined",
        "member_joined",
        "new_message",
        "new_thread",
        "new_reply",
        "member_joined",
        "member_left",
    ]
    assert frames[1]["data"]["user_id"] == ada.user_id
    assert frames[3]["data"] == {
        "message_id": message["message_id"],
        "conversation_id": group.id,
        "encrypted_envelope": opaque("one"),
        "server_timestamp": message["server_timestamp"],
        "sender_id": bob.user_id,
    }
    assert frames[3]["server_timestamp"] == message["server_timestamp"]
    assert set(frames[4]["data"]) == {
        "thread_id",
        "group_id",
        "author_id",
        "author_username",
        "encrypted_title",
        "encrypted_body",
        "created_at",
    }
    assert frames[4]["data"]["created_at"] == thread["created_at"]
    assert frames[5]["data"]["reply_id"] == reply["reply_id"]
    assert frames[7]["data"]["reason"] == "left"
    assert [message["seq"], thread["seq"], reply["seq"]] == [3, 4, 5]
    socket.assert_chain(group)


# Resuming


async def test_resume(server, people):
    """[PROM4] `since` replays later events, then continues live, without gap or duplicate; a hash is verified."""
    ada, bob, group = await _family(server, people)
    async with await ada.listen(group, since={group.id: 0}) as socket:
        for _ in range(10):
            await bob.say(group)
        await socket.until_seq(group, 12)
    texts = [text for frame, text in zip(socket.frames, socket.texts, strict=True) if "seq" in frame]
    for _ in range(5):
        await bob.say(group)

    async with await ada.listen(group, since={group.id: {"seq": 12, "hash": link(texts[-1])}}) as later:
        assert later.frames[-1]["data"]["groups"] == {group.id: {"seq": 17, "recovered": True}}
        await bob.say(group)
        await later.until_seq(group, 18)

    assert later.seqs(group) == [13, 14, 15, 16, 17, 18]
    later.assert_chain(group, after=12)


@pytest.mark.parametrize("position", [99, {"seq": 2, "hash": "A" * 43}, {"seq": 99, "hash": None}])
async def test_a_position_that_the_log_does_not_have(server, people, position):
    """[PROM4] Ahead of the log, or with another hash: `recovered` is false, no replay, live events continue."""
    ada, bob, group = await _family(server, people)
    await bob.say(group)

    async with await ada.listen(group, since={group.id: position}) as socket:
        assert socket.frames[-1]["data"]["groups"] == {group.id: {"seq": 3, "recovered": False}}
        await bob.say(group)
        await socket.until_seq(group, 4)

    assert socket.seqs(group) == [4]


async def test_each_event_once_on_a_connection(server, people):
    """[PROM2] Subscribing again, with any position, repeats no event that was sent."""
    ada, bob, group = await _family(server, people)

    async with await ada.listen(group, since={group.id: 0}) as socket:
        await bob.say(group)
        await socket.until_seq(group, 3)
        again = await socket.subscribe(group.id, since={group.id: 1})
        older = await socket.subscribe(group.id)
        await bob.say(group)
        await socket.until_seq(group, 4)

    assert again["data"]["groups"] == {group.id: {"seq": 3, "recovered": True}}
    assert older["data"]["groups"] == {group.id: {"seq": 3}}
    assert socket.seqs(group) == [1, 2, 3, 4]


async def test_retention(serve, people):
    """[KEEP1] Events past the retention are deleted; resuming before them is reported, and REST returns 410."""
    server = serve(env={"ORBITAL_RETENTION_DAYS": "0.00002", "ORBITAL_PRUNE_SECONDS": "0.2"})
    ada, bob, group = await _family(server, people)
    for _ in range(5):
        await bob.say(group)

    async with asyncio.timeout(120):
        answer = await ada.http.get("/v1/events", params={"group_id": group.id, "after_seq": 0})
        while answer.status_code != 410 or answer.json()["details"]["oldest_seq"] != 8:
            answer = await ada.http.get("/v1/events", params={"group_id": group.id, "after_seq": 0})
    assert answer.json()["error"] == "GONE"
    async with await ada.listen(group, since={group.id: 3}) as socket:
        assert socket.frames[-1]["data"]["groups"] == {group.id: {"seq": 7, "recovered": False}}
    async with await ada.listen(group, since={group.id: 7}) as socket:
        assert socket.frames[-1]["data"]["groups"] == {group.id: {"seq": 7, "recovered": True}}
        await bob.say(group)
        await socket.until_seq(group, 8)
    assert socket.seqs(group) == [8]


async def test_stamps(server, people):
    """[STAMP1] [STAMP2] Event stamps rise over all groups; no other frame overtakes them; REST catches up from any."""
    ada, bob, group = await _family(server, people)
    other = await bob.make_group()
    await ada.join(other)

    async with await ada.listen(group, other) as socket:
        posts = [asyncio.create_task(bob.say(chosen)) for chosen in [group, other] * 20]
        while not all(post.done() for post in posts):
            await socket.wait_idle()
        await asyncio.gather(*posts)
        await socket.wait_idle()

    stamps = [frame["server_timestamp"] for frame in socket.frames if "seq" in frame]
    assert stamps == sorted(set(stamps))
    for index, frame in enumerate(socket.frames):
        later = [one for one in socket.frames[index + 1 :] if "seq" in one]
        if "seq" not in frame and later:
            assert frame["server_timestamp"] < later[0]["server_timestamp"]
    for since in socket.frames[:: len(socket.frames) // 5]:
        seen = [frame["data"]["message_id"] for frame in socket.frames if frame["type"] == "new_message"]
        missed = await ada.get("/v1/messages", since=since["server_timestamp"], limit=500)
        at = socket.frames.index(since)
        expected = [f["data"]["message_id"] for f in socket.frames[at + 1 :] if f["type"] == "new_message"]
        assert [one["message_id"] for one in missed["messages"]] == expected
        assert len(seen) == 40


# Members


async def test_removed_while_messages_flow(server, people):
    """[PROM1] No frame after its `member_left` reaches the removed user, on any of its connections."""
    ada, bob, cy, group = await _family(server, people, 3)
    sockets = [await cy.listen(group) for _ in range(5)]
    watching = await bob.listen(group)

    async def flow():
        for _ in range(60):
            await bob.say(group)

    posts = asyncio.create_task(flow())
    await sockets[0].until_seq(group, 15)
    await ada.remove(group, cy)
    await posts
    for socket in sockets:
        await socket.until("unsubscribed")
        await socket.wait_idle()

    left = next(frame for frame in await ada.events(group) if frame["type"] == "member_left")
    await watching.until_seq(group, 64)
    assert left["data"]["reason"] == "removed"
    for socket in sockets:
        seqs = socket.seqs(group)
        assert seqs == list(range(4, left["seq"] + 1))
        after = socket.frames[socket.frames.index(socket.events(group)[-1]) + 1]
        assert (after["type"], after["data"]["reason"]) == ("unsubscribed", "removed")
        await socket.close()
    assert watching.seqs(group) == list(range(4, 65))
    async with await cy.connect() as again:
        await again.subscribe(group.id)
        assert any(frame["type"] == "error" for frame in again.frames)
    await watching.close()


# Posting over the socket


async def test_posts_as_frames(server, people):
    """[POST1] Each post frame does what its POST does; responses come in the order of the frames."""
    ada, bob, group = await _family(server, people)

    async with await ada.connect() as socket, await bob.listen(group) as listening:
        thread = await ada.open_thread(group)
        await socket.send(
            "post_message", {"conversation_id": group.id, "encrypted_envelope": opaque(), "timestamp": 1}, id=1
        )
        await socket.send("post_thread", {"group_id": group.id, "encrypted_title": "!", "encrypted_body": "QQ"}, id=2)
        await socket.send("post_thread", {"group_id": group.id, "encrypted_title": "QQ", "encrypted_body": "QQ"}, id=3)
        await socket.send("post_reply", {"thread_id": thread["thread_id"], "encrypted_body": "QQ"}, id=4)
        await socket.send("post_reply", {"thread_id": str(uuid.uuid4()), "encrypted_body": "QQ"}, id=5)
        await socket.send(
            "post_message", {"conversation_id": str(uuid.uuid4()), "encrypted_envelope": "QQ", "timestamp": 1}, id=6
        )
        answers = [await socket.until(lambda frame: "reply_to" in frame) for _ in range(6)]
        await listening.until_seq(group, 6)

    assert [answer["reply_to"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert [answer["type"] for answer in answers] == ["posted", "error", "posted", "posted", "error", "error"]
    assert [answers[index]["data"]["seq"] for index in (0, 2, 3)] == [4, 5, 6]
    assert answers[1]["data"]["code"] == "VALIDATION_ERROR"
    assert answers[4]["data"]["code"] == answers[5]["data"]["code"] == "NOT_FOUND"
    assert [frame["type"] for frame in listening.events(group)] == [
        "new_thread",
        "new_message",
        "new_thread",
        "new_reply",
    ]


async def test_a_frame_and_a_post_share_their_keys(server, people):
    """[ONCE1] A frame and a POST with the same body share one idempotency key: the event is stored once."""
    ada, bob, group = await _family(server, people)
    body = {"conversation_id": group.id, "encrypted_envelope": opaque(), "timestamp": 1}

    async with await ada.connect() as socket:
        await socket.send("post_message", {**body, "idempotency_key": "k"}, id=1)
        posted = await socket.until("posted")
        answer = await ada.post("/v1/messages", body, key="k")
        await socket.send("post_message", {**body, "idempotency_key": "k"}, id=2)
        again = await socket.until("posted")
        await socket.send("post_message", {**body, "timestamp": 2, "idempotency_key": "k"}, id=3)
        conflict = await socket.until("error")

    assert posted["data"] == answer == again["data"]
    assert conflict["data"]["code"] == "CONFLICT"
    assert len(await bob.events(group)) == 3


async def test_ten_bad_posts_in_a_row(server, people):
    """[BAD2] Posts with wrong data count as bad frames."""
    ada, group = await _family(server, people, 1)

    async with await ada.connect() as socket:
        for number in range(10):
            await socket.send("post_message", {"conversation_id": group.id}, id=number)
        code = await socket.until_closed()

    assert code == 1008
    assert [frame["reply_to"] for frame in socket.frames if frame["type"] == "error"] == list(range(10))


async def test_a_client_that_posts_and_disconnects(serve, people):
    """[POST1] A post that is refused after its client disconnected is not logged as an error."""
    server = serve()
    ada, group = await _family(server, people, 1)
    stranger = await people(server.url)

    for _ in range(10):
        socket = await stranger.connect()
        await socket.send("post_message", _message(group))
        await socket.send("post_message", {})
        socket.connection.transport.abort()
    # Stored after all of their frames.
    await ada.say(group)
    await ada.say(group)
    await asyncio.to_thread(server.terminate)

    assert [line for line in server.log if '"level": "error"' in line] == []


# Typing


async def test_typing(server, people):
    """[TYPE1] The other members of the group see who types; the name comes from the token, not from the frame."""
    ada, bob, group = await _family(server, people)
    thread = (await ada.open_thread(group))["thread_id"]
    outsider = await people(server.url)

    async with await ada.listen(group) as typing, await ada.listen(group) as own, await bob.listen(group) as other:
        await typing.send("typing_indicator", {"thread_id": thread, "is_typing": True, "user_id": "x", "username": "y"})
        seen = await other.until("typing_indicator")
        await typing.send("typing_indicator", {"thread_id": thread, "is_typing": False})
        stopped = await other.until("typing_indicator")
        await own.wait_idle()
        async with await outsider.connect() as stranger:
            await stranger.send("typing_indicator", {"thread_id": thread, "is_typing": True}, id=1)
            refused = await stranger.until("error")
            await stranger.send("typing_indicator", {"thread_id": str(uuid.uuid4()), "is_typing": True}, id=2)
            missing = await stranger.until("error")
        await other.wait_idle()

    assert seen["data"] == {
        "thread_id": thread,
        "user_id": ada.user_id,
        "username": ada.username,
        "is_typing": True,
    }
    assert "seq" not in seen
    assert stopped["data"]["is_typing"] is False
    assert not [frame for frame in own.frames + typing.frames if frame["type"] == "typing_indicator"]
    assert (refused["data"]["code"], missing["data"]["code"]) == ("FORBIDDEN", "NOT_FOUND")
    assert len([frame for frame in other.frames if frame["type"] == "typing_indicator"]) == 2


async def test_typing_without_permission(server, people):
    """[TYPE1] When a non-member types in a thread and leaves at once, no member of its group receives it."""
    ada, bob, group = await _family(server, people)
    thread = (await ada.open_thread(group))["thread_id"]
    stranger = await people(server.url)

    async with await ada.listen(group) as typing, await bob.listen(group) as other:
        # From here on the server knows which group the thread is in.
        await typing.send("typing_indicator", {"thread_id": thread, "is_typing": True})
        await other.until("typing_indicator")
        for _ in range(10):
            socket = await stranger.connect()
            await socket.send("typing_indicator", {"thread_id": thread, "is_typing": True})
            await socket.close()
        await other.wait_idle()

    typists = [frame["data"]["user_id"] for frame in other.frames if frame["type"] == "typing_indicator"]
    assert set(typists) == {ada.user_id}


async def test_typing_stops_with_the_connection(server, people):
    """[TYPE2] When the connection of a typing user ends, the others receive that typing stopped."""
    ada, bob, group = await _family(server, people)
    thread = (await ada.open_thread(group))["thread_id"]

    async with await bob.listen(group) as other:
        typing = await ada.connect()
        await typing.send("typing_indicator", {"thread_id": thread, "is_typing": True})
        await other.until("typing_indicator")
        typing.connection.transport.abort()
        stopped = await other.until("typing_indicator", deadline_s=60)

    assert stopped["data"]["is_typing"] is False


# Heartbeat, expiry and shutdown


async def test_heartbeat(serve, people):
    """[HB1] [HB2] A ping every interval; three unanswered ones abort the connection; a client that answers stays."""
    server = serve(env={"ORBITAL_HEARTBEAT_SECONDS": "1.5"})
    ada = await people(server.url)

    async with await ada.connect() as alive, await ada.connect() as dead, await ada.connect() as pong:
        dead.answering = pong.answering = False

        async def by_websocket_pong():
            for _ in range(8):
                await pong.receive(pings=True)
                await pong.connection.pong()

        async def by_json_pong():
            while len(alive.frames) < 9:
                await alive.receive(pings=True)

        started = time.monotonic()
        code, _, _ = await asyncio.gather(dead.until_closed(), by_websocket_pong(), by_json_pong())
        lasted = time.monotonic() - started
        await alive.wait_idle()
        await pong.wait_idle()

    assert code == 1006
    assert [frame["type"] for frame in dead.frames] == ["auth_success", "ping", "ping", "ping"]
    assert lasted > 4.5
    pings = [frame for frame in dead.frames if frame["type"] == "ping"]
    gaps = [b["data"]["server_time"] - a["data"]["server_time"] for a, b in itertools.pairwise(pings)]
    assert all(gap > 1_200 for gap in gaps), gaps


async def test_a_newer_token_keeps_the_connection(server):
    """[TOK3] [TOK4] A client is notified that its token expires; with a newer one the connection stays open."""
    now = int(time.time())
    token = sign({"userId": "robot", "username": "robot", "iat": now, "exp": now + 15})
    from tests.support.client import Socket

    async with await Socket.open(server.ws_url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        expiring = await socket.until("token_expiring")
        await socket.send("authenticate", {"token": "nonsense"}, id=1)
        bad = await socket.until("error")
        other = sign({"userId": "other", "username": "other", "iat": now, "exp": now + 900})
        await socket.send("authenticate", {"token": other}, id=2)
        foreign = await socket.until("error")
        newer = sign({"userId": "robot", "username": "robot", "iat": now, "exp": now + 900})
        await socket.send("authenticate", {"token": newer}, id=3)
        fine = await socket.until("authenticated")
        while time.time() < now + 16:
            await socket.wait_idle()
            await asyncio.sleep(0.1)

    assert expiring["data"]["expires_at"].endswith("Z")
    assert (bad["data"]["code"], bad["reply_to"]) == ("UNAUTHORIZED", 1)
    assert (foreign["data"]["code"], foreign["reply_to"]) == ("FORBIDDEN", 2)
    assert fine["reply_to"] == 3


async def test_frames_over_the_rate(serve, people):
    """[RATE1] Frames over the rate are refused one by one; a client that continues is closed with 1008."""
    server = serve(env={"ORBITAL_FRAME_RATE": "5"})
    ada = await people(server.url)

    async with await ada.connect() as socket:
        for number in range(30):
            await socket.send("unsubscribe", {"group_ids": []}, id=number)
        code = await socket.until_closed()

    refused = [frame for frame in socket.frames if frame["type"] == "error"]
    assert code == 1008
    assert {frame["data"]["code"] for frame in refused} == {"TOO_MANY_REQUESTS"}
    assert 5 <= len(refused) <= 6


async def test_sigterm(serve, people):
    """[DRAIN1] SIGTERM: work in progress finishes, sockets close with 1012, and the status is 0."""
    server = serve()
    ada, bob, group = await _family(server, people)
    listening = await ada.listen(group)
    asked = [asyncio.create_task(bob.http.post("/v1/messages", json=_message(group))) for _ in range(40)]
    await listening.until_seq(group, 5)

    status = await asyncio.to_thread(server.terminate)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    code = await listening.until_closed()

    assert status == 0
    assert code == 1012
    done = [answer.json()["seq"] for answer in answers if isinstance(answer, httpx.Response) and answer.is_success]
    # Event 5 was delivered before the signal; two of the five are the members' own.
    assert len(done) >= 3
    server.start()
    kept = {frame["seq"] for frame in await ada.events(group)}
    assert set(done) <= kept
    assert listening.seqs(group) == sorted(listening.seqs(group))
    assert set(done) <= set(listening.seqs(group))


def _message(group):
    return {"conversation_id": group.id, "encrypted_envelope": opaque(), "timestamp": 0}


@pytest.mark.parametrize("pace", [0, 20])
async def test_a_draining_server_answers_what_it_stores(serve, people, pace):
    """[DRAIN1] Under load, a draining server answers every post that it stored before it closes the connection."""
    server = serve(env={"ORBITAL_CLOSE_PACE": str(pace), "ORBITAL_DRAIN_SECONDS": "5"})
    ada, group = await _family(server, people, 1)
    sockets = [await ada.connect() for _ in range(8)]
    begun = asyncio.Event()

    async def post(socket):
        for _ in range(4):
            await socket.send("post_message", _message(group))
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.receive()
                begun.set()
                await socket.send("post_message", _message(group))
        return await socket.until_closed()

    posting = [asyncio.create_task(post(socket)) for socket in sockets]
    await begun.wait()
    assert await asyncio.to_thread(server.terminate) == 0
    codes = await asyncio.gather(*posting)
    server.start()

    stored = [frame["seq"] for frame in await ada.events(group) if frame["type"] == "new_message"]
    answered = [frame["data"]["seq"] for socket in sockets for frame in socket.frames if frame["type"] == "posted"]
    assert sorted(answered) == stored
    assert codes == [1012] * 8


async def test_draining_refuses_handshakes(serve, people):
    """[DRAIN1] A draining server refuses new connections with 503, and is not ready."""
    server = serve(env={"ORBITAL_DRAIN_SECONDS": "120"})
    ada, bob, group = await _family(server, people)
    host, port = "127.0.0.1", server.port
    # A request whose body has not arrived yet is in progress, and delays the drain.
    reader, writer = await asyncio.open_connection(host, port)
    body = b'{"conversation_id":"%b","encrypted_envelope":"QUJD","timestamp":0}' % group.id.encode()
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (ada.token.encode(), len(body), body[:10])
    )
    await writer.drain()
    await bob.say(group)
    stopping = asyncio.create_task(asyncio.to_thread(server.terminate, deadline_s=300))
    async with asyncio.timeout(100):
        while (await bob.http.get("/health/ready")).status_code != 503:
            pass

    with pytest.raises(InvalidStatus) as refused:
        await ada.connect()
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"]
    writer.write(body[10:])
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200")
    assert await stopping == 0
