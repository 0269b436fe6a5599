"""The typed REST side of the Python SDK against a real server: each request, its answer, its refusals."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import pytest

from orbital_relay.client import (
    Api,
    ApiError,
    ChainBroken,
    MemberLeft,
    Refused,
    State,
    StateChange,
    Typing,
    connect,
    responses,
)
from orbital_relay.core.chain import Chain, first_prev
from tests.conftest import Serve
from tests.support.server import Server
from tests.support.tokens import token

PASSWORD = "Correct-Horse-7-Battery"


async def sign_up(server: Server) -> Api:
    """Make an account and the REST side of it."""
    async with Api(server.url) as stranger:
        account = await stranger.signup(f"p_{secrets.token_hex(6)}", PASSWORD, {"kty": "OKP"})
    return Api(server.url, token=account.token)


@pytest.fixture
async def pair(shared: Server) -> AsyncIterator[tuple[Api, Api]]:
    """Two people."""
    async with await sign_up(shared) as anna, await sign_up(shared) as ben:
        yield anna, ben


async def test_an_invitation(serve: Serve) -> None:
    """[SGN13] If sign-ups need an invitation, a refusal names the policy, and a group's code is an invitation."""
    server = await asyncio.to_thread(serve, env={"ORBITAL_SIGNUPS": "invited"})
    async with Api(server.url) as stranger, Api(server.url, token=token("ada")) as ada:
        with pytest.raises(ApiError) as refused:
            await stranger.signup("ben", PASSWORD, {})
        code = (await ada.create_group("bmFtZQ==", "a2V5")).invite_code
        signed = await stranger.signup("ben", PASSWORD, {}, invitation=code)

    assert (refused.value.status, refused.value.code, refused.value.retryable) == (403, "SIGNUPS_CLOSED", False)
    assert refused.value.details["signups"] == "invited"
    assert signed.username == "ben"


async def test_accounts(shared: Server) -> None:
    """[RST1] Signup, login, ticket and logout work; after logout neither requests nor sockets are accepted."""
    name = f"p_{secrets.token_hex(6)}"
    async with Api(shared.url) as stranger:
        about = await stranger.about()
        assert (about.name, about.signups, about.limits.media_group_files) == ("Orbital", "open", 100)
        signed = await stranger.signup(name, PASSWORD, {"kty": "OKP", "x": "ö"})
        with pytest.raises(ApiError) as taken:
            await stranger.signup(name.upper(), PASSWORD, {})
        assert (taken.value.status, taken.value.code) == (409, "USERNAME_TAKEN")
        with pytest.raises(ApiError) as wrong:
            await stranger.login(name, "not the Password 1")
        assert wrong.value.code == "INVALID_CREDENTIALS"
        logged = await stranger.login(name, PASSWORD)
        assert (logged.user_id, logged.username, logged.public_key) == (
            signed.user_id,
            name,
            {"kty": "OKP", "x": "ö"},
        )
    async with Api(shared.url, token=logged.token) as api:
        assert (await api.ws_ticket()).expires_in == 30
        async with connect(shared.url, token=logged.token) as orbital:
            closed = asyncio.Event()
            orbital.on(StateChange, lambda change: closed.set() if change.state is State.CLOSED else None)
            await api.logout()
            async with asyncio.timeout(60):
                await closed.wait()
            assert orbital.state.code == 1008
        with pytest.raises(ApiError) as out:
            await api.groups()
        assert out.value.status == 401
    with pytest.raises(Refused) as refused:
        await connect(shared.url, token=logged.token).__aenter__()
    assert refused.value.status == 401


async def test_groups(pair: tuple[Api, Api]) -> None:
    """[RST2] Groups, members, invite codes, joining and leaving work."""
    anna, ben = pair
    made = await anna.create_group("bmFtZQ==", "a2V5", idempotency_key="once")
    assert await anna.create_group("bmFtZQ==", "a2V5", idempotency_key="once") == made
    code = await anna.new_invite_code(made.group_id)
    with pytest.raises(ApiError) as old:
        await ben.join_group(made.invite_code, "a2V5")
    assert old.value.status == 404
    joined = await ben.join_group(code.invite_code, "a2V5")
    with pytest.raises(ApiError) as twice:
        await ben.join_group(code.invite_code, "a2V5")
    assert twice.value.code == "ALREADY_MEMBER"
    (group,) = await ben.groups()
    members = await anna.members(made.group_id)

    assert (joined.group_id, joined.member_count, joined.encrypted_name) == (made.group_id, 2, "bmFtZQ==")
    assert (group.group_id, group.member_count, group.last_seq) == (made.group_id, 2, 2)
    assert len(members) == 2
    with pytest.raises(ApiError) as not_yours:
        await ben.new_invite_code(made.group_id)
    assert not_yours.value.code == "FORBIDDEN"
    await ben.remove_member(made.group_id, members[1].user_id)
    assert await ben.groups() == []
    with pytest.raises(ApiError) as gone:
        await ben.members(made.group_id)
    assert gone.value.code == "FORBIDDEN"


async def test_messages_threads_replies(pair: tuple[Api, Api]) -> None:
    """[RST3] Posted content is read page by page, and is in the log with its hash chain."""
    anna, _ = pair
    group = (await anna.create_group("bmFtZQ==", "a2V5")).group_id
    now_ms = time.time_ns() // 1_000_000
    sent = [await anna.post_message(group, "AAEC", timestamp=now_ms) for _ in range(3)]
    thread = await anna.create_thread(group, "dGl0bGU=", "Ym9keQ==", idempotency_key="t")
    assert await anna.create_thread(group, "dGl0bGU=", "Ym9keQ==", idempotency_key="t") == thread
    replies = [await anna.create_reply(thread.thread_id, "Ym9keQ==") for _ in range(3)]

    page = await anna.messages(limit=2, conversation_id=group)
    assert [message.message_id for message in page.messages] == [each.message_id for each in sent[:2]]
    assert page.has_more
    rest = await anna.messages(since=page.messages[-1].server_timestamp, conversation_id=group)
    assert [message.seq for message in rest.messages] == [4]
    listed = await anna.threads(group, sort="created_asc")
    assert [one.thread_id for one in listed.threads] == [thread.thread_id]
    assert (await anna.thread(thread.thread_id)).reply_count == 3
    answered = await anna.replies(thread.thread_id, limit=2, offset=1)
    assert [reply.reply_id for reply in answered.replies] == [each.reply_id for each in replies[1:]]
    assert (answered.total_count, answered.has_more) == (3, False)
    log = await anna.events(group, after_seq=2, limit=3)
    assert [event.seq for event in log.events] == [3, 4, 5]
    assert (log.last_seq, log.has_more) == (8, True)
    chain = Chain(first_prev(group))
    assert all(chain.offer(frame) for frame in (await anna.event_frames(group, limit=100)).frames)
    with pytest.raises(ApiError) as bad:
        await anna.post_message(group, "not base64!", timestamp=now_ms)
    assert bad.value.details["field"] == "encrypted_envelope"


async def test_presence_and_typing(shared: Server, pair: tuple[Api, Api]) -> None:
    """[RST4] A subscribed user is online; others are notified when the user types, and of the stop after a timeout."""
    anna, ben = pair
    group = await anna.create_group("bmFtZQ==", "a2V5")
    await ben.join_group(group.invite_code, "a2V5")
    thread = await anna.create_thread(group.group_id, "dGl0bGU=", "Ym9keQ==")
    tokens = [await each.tokens.get() for each in pair]
    received: asyncio.Queue[Typing] = asyncio.Queue()
    async with (
        connect(shared.url, token=tokens[0] or "") as first,
        connect(shared.url, token=tokens[1] or "") as second,
    ):
        second.on(Typing, received.put)
        await first.subscribe(group.group_id).ready()
        await second.subscribe(group.group_id, on_event=lambda _: None).ready()

        online = await anna.presence(group.group_id)
        assert {each.username for each in online} == {first.username, second.username}
        assert all(isinstance(each, responses.Online) and each.connections == 1 for each in online)
        first.typing(thread.thread_id)
        async with asyncio.timeout(60):
            started, stopped = await received.get(), await received.get()

    assert (started.data.username, started.data.thread_id, started.data.is_typing) == (
        first.username,
        thread.thread_id,
        True,
    )
    assert not stopped.data.is_typing


async def test_removed_while_listening(shared: Server, pair: tuple[Api, Api]) -> None:
    """[RST5] A removed user receives the own removal, and then the stream ends."""
    anna, ben = pair
    group = await anna.create_group("bmFtZQ==", "a2V5")
    await ben.join_group(group.invite_code, "a2V5")
    async with connect(shared.url, token=await ben.tokens.get() or "", verify=True) as orbital:
        subscription = orbital.subscribe(group.group_id, since=0)
        await subscription.ready()
        await anna.remove_member(group.group_id, orbital.user_id or "")
        await anna.post_message(group.group_id, "AAEC", timestamp=0)

        async with asyncio.timeout(60):
            events = [event async for event in subscription]

    assert [event.seq for event in events] == [1, 2, 3]
    assert isinstance(events[-1], MemberLeft)
    assert (events[-1].data.reason, subscription.ended) == ("removed", "removed")


async def test_a_wrong_hash_is_a_reset_and_a_lie_is_found(shared: Server, pair: tuple[Api, Api]) -> None:
    """[RST6] A position with the hash of another log is a Reset; a broken hash chain raises."""
    from orbital_relay.client import Position, Reset

    anna, _ = pair
    group = (await anna.create_group("bmFtZQ==", "a2V5")).group_id
    for _ in range(3):
        await anna.post_message(group, "AAEC", timestamp=0)
    token = await anna.tokens.get() or ""
    async with connect(shared.url, token=token, verify=True) as orbital:
        first = await anext(orbital.subscribe(group, since=Position(2, "A" * 43)))
        assert isinstance(first, Reset)
        assert (first.last_seq, first.seq) == (2, 4)
    async with connect(shared.url, token=token, verify=True) as orbital:
        subscription = orbital.subscribe(group, since=2)
        orbital._conversation._streams[group].chain.prev = "A" * 43  # as if what was seen had been another log's
        with pytest.raises(ChainBroken):
            await anext(subscription)
