"""Push messages of a real server, to a push service of the tests' own that decrypts and checks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.client import Group, Person, Refused, opaque
from tests.support.process import eventually
from tests.support.push import Device, Message, PushService
from tests.support.server import Server

LOOPBACK = {"ORBITAL_PUSH_NETWORKS": "127.0.0.0/8", "ORBITAL_PUBLIC_URL": "https://family.example.org"}


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    """A push service."""
    async with PushService() as opened:
        yield opened


class Phone:
    """A device of a person that is subscribed."""

    def __init__(self, owner: Person, service: PushService, name: str) -> None:
        self.owner, self.service, self.name = owner, service, name
        self.device = Device()
        self.subscription = ""

    async def subscribe(self, **mute: Any) -> Phone:
        """Subscribe, or replace what is stored."""
        body = {"endpoint": self.service.endpoint(self.name), "keys": self.device.keys, "mute": mute}
        stored = await self.owner.ask("PUT", "/api/push/subscriptions", expect=200, json=body)
        self.subscription = stored["subscription_id"]
        return self

    async def seen(self, *, looking: bool, **seqs: int) -> None:
        """Report what was received."""
        path = f"/api/push/subscriptions/{self.subscription}/seen"
        await self.owner.ask("POST", path, expect=204, json={"looking": looking, "seqs": seqs})

    @property
    def messages(self) -> list[Message]:
        """What arrived for this device."""
        return [message for message in self.service.messages if message.path.endswith(f"/{self.name}")]

    async def called(self, count: int) -> list[Any]:
        """Wait for so many messages; return the payloads."""
        await eventually(lambda: len(self.messages) >= count, what=f"{self.name} is called {count} times")
        return [message.read(self.device) for message in self.messages]


class Home:
    """Ada and Ben in a group, with a thread of Ada's; Ben has a phone."""

    def __init__(self, ada: Person, ben: Person, group: Group, thread_id: str, phone: Phone) -> None:
        self.ada, self.ben, self.group, self.thread_id, self.phone = ada, ben, group, thread_id, phone

    async def close(self) -> None:
        """Log nobody out; end the HTTP clients."""
        await self.ada.close()
        await self.ben.close()


async def _home(server: Server, service: PushService) -> Home:
    ada, ben = await Person.sign_up(server.url), await Person.sign_up(server.url)
    group = await ada.make_group()
    await ben.join(group)
    thread = await ada.open_thread(group)
    phone = await Phone(ben, service, "ben").subscribe()
    return Home(ada, ben, group, thread["thread_id"], phone)


@pytest.fixture
async def home(serve: Serve, service: PushService) -> AsyncIterator[Home]:
    """A server with Ada and Ben."""
    server = await asyncio.to_thread(serve, env=LOOPBACK)
    made = await _home(server, service)
    yield made
    await made.close()


async def test_a_reply_calls(home: Home):
    """[PUSH16] A reply of another member sends one push message, with group, thread, number and encrypted content."""
    body = opaque("sealed words")
    await home.ada.post(f"/api/threads/{home.thread_id}/replies", {"encrypted_body": body})

    (found,) = await home.phone.called(1)

    (*_, event) = await home.ada.events(home.group)
    assert (found["type"], found["seq"], found["group_id"]) == ("new_reply", event["seq"], home.group.id)
    assert (found["thread_id"], found["user_id"]) == (home.thread_id, home.ben.user_id)
    assert (found["author_username"], found["data"]) == (home.ada.username, event["data"])
    assert found["data"]["encrypted_body"] == body
    assert "encrypted_title" in found
    assert home.phone.messages[0].headers["urgency"] == "high"


async def test_nobody_is_called_for_their_own_words(home: Home):
    """[PUSH16] A user's own events send no push message to the user's devices; each event of others sends one."""
    other = await Phone(home.ada, home.phone.service, "ada").subscribe()
    await home.ben.reply(home.thread_id)
    await other.called(1)
    await home.ada.reply(home.thread_id)
    await home.phone.called(1)

    assert [found["author_id"] for found in await home.phone.called(1)] == [home.ada.user_id]
    assert [found["author_id"] for found in await other.called(1)] == [home.ben.user_id]


async def test_a_server_that_is_killed_loses_no_call(serve: Serve, service: PushService):
    """[PUSH17] A server that is killed between the event and the push message sends it after the next start."""
    server = await asyncio.to_thread(serve, env=LOOPBACK)
    home = await _home(server, service)
    service.answer = lambda _path: (0, {})
    await home.ada.reply(home.thread_id)
    await eventually(lambda: service.asked, what="the push service is asked")

    server.kill()
    assert service.messages == []
    service.answer = lambda _path: (201, {})
    await asyncio.to_thread(server.start)

    (found,) = await home.phone.called(1)
    assert found["thread_id"] == home.thread_id
    await home.close()


async def test_a_call_that_was_made_is_not_repeated(serve: Serve, service: PushService):
    """[PUSH17] After a restart no push message is sent again."""
    server = await asyncio.to_thread(serve, env=LOOPBACK)
    home = await _home(server, service)
    await home.ada.reply(home.thread_id)
    await home.phone.called(1)
    await asyncio.to_thread(server.close)
    await asyncio.to_thread(server.start)
    second = await home.ada.open_thread(home.group)

    found = await home.phone.called(2)

    assert [each["thread_id"] for each in found] == [home.thread_id, second["thread_id"]]
    assert len(service.asked) == 2
    await home.close()


async def test_failures_are_retried(home: Home):
    """[PUSH10] A message that a push service refuses for now is sent again, with the newest of its thread."""
    service = home.phone.service
    service.answer = lambda _path: (503, {"Retry-After": "1"})
    await home.ada.reply(home.thread_id)
    await eventually(lambda: service.asked, what="the push service is asked")
    await home.ada.reply(home.thread_id)
    service.answer = lambda _path: (201, {})

    (found,) = await home.phone.called(1)

    assert found["seq"] == (await home.ada.events(home.group))[-1]["seq"]


@pytest.mark.parametrize("status", [404, 410])
async def test_dead_endpoints_are_forgotten(home: Home, status: int):
    """[PUSH11] After 404 and 410 the subscription is deleted, and no further request is sent."""
    service = home.phone.service
    service.answer = lambda path: (status, {}) if path.endswith("/ben") else (201, {})
    await home.ada.reply(home.thread_id)
    await eventually(lambda: service.asked, what="the push service is asked")
    second = await Phone(home.ben, service, "second").subscribe()

    async def is_gone() -> bool:
        path = f"/api/push/subscriptions/{home.phone.subscription}/seen"
        answer = await home.ben.http.post(path, json={"looking": False})
        return answer.status_code == 404

    await eventually(is_gone, what="the subscription is deleted")
    await home.ada.reply(home.thread_id)
    await second.called(1)
    assert service.asked.count("/push/ben") == 1


async def test_a_service_that_takes_less_gets_less(home: Home):
    """[PUSH5] After 413 the message is sent again without its content."""
    service = home.phone.service
    service.answer = lambda _path: (201, {}) if len(service.asked) > 1 else (413, {})
    await home.ada.reply(home.thread_id)

    (found,) = await home.phone.called(1)

    assert found["thread_id"] == home.thread_id
    assert "data" not in found


async def test_a_device_that_is_looking_is_not_called(home: Home):
    """[PUSH12] A visible page gets no push messages; once hidden, it gets those for unreported events."""
    other = await Phone(home.ben, home.phone.service, "other").subscribe()
    await home.phone.seen(looking=True)
    for _ in range(2):
        await home.ada.open_thread(home.group)
    await other.called(2)
    assert home.phone.messages == []

    seq = (await home.ada.events(home.group))[-1]["seq"]
    await home.phone.seen(looking=False, **{home.group.id: seq - 1})

    assert [found["seq"] for found in await home.phone.called(1)] == [seq]


async def test_mutes(home: Home):
    """[PUSH3] Muted threads and groups do not call; once they are no longer muted, what follows calls."""
    loud, quiet_group = await home.ada.open_thread(home.group), await home.ada.make_group()
    await home.ben.join(quiet_group)
    await home.phone.subscribe(threads=[home.thread_id.upper()], groups=[quiet_group.id])
    await home.ada.reply(home.thread_id)
    await home.ada.say(quiet_group)
    await home.ada.reply(loud["thread_id"])

    assert [found["thread_id"] for found in await home.phone.called(1)] == [loud["thread_id"]]

    await home.phone.subscribe()
    await home.ada.reply(home.thread_id)
    assert [found["thread_id"] for found in await home.phone.called(2)] == [loud["thread_id"], home.thread_id]


async def test_quiet_hours(home: Home):
    """[PUSH3] In quiet hours a device gets no push messages; when they end, or are changed, the held ones are sent."""
    other = await Phone(home.ben, home.phone.service, "other").subscribe()
    now = datetime.now(UTC)
    start, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 2))
    await home.phone.subscribe(quiet={"start": start, "end": end, "time_zone": "UTC"})
    await home.ada.reply(home.thread_id)
    await other.called(1)
    await home.ada.reply(home.thread_id)
    await other.called(2)
    assert home.phone.messages == []

    await home.phone.subscribe()

    (found,) = await home.phone.called(1)
    assert found["seq"] == (await home.ada.events(home.group))[-1]["seq"]


async def test_messages_of_a_thread_share_a_topic(home: Home):
    """[PUSH6] Messages of one thread have one topic, so that a push service keeps the last of them."""
    other = await home.ada.open_thread(home.group)
    await home.phone.called(1)
    await home.ada.reply(home.thread_id)
    await home.phone.called(2)
    await home.ada.reply(home.thread_id)
    await home.phone.called(3)

    topics = [message.headers["topic"] for message in home.phone.messages]
    assert topics[1] == topics[2] != topics[0]
    assert not {home.thread_id, other["thread_id"]} & set(topics)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"endpoint": "http://push.example.org/x"}, "endpoint"),
        ({"endpoint": "https://127.0.0.1/x"}, "endpoint"),
        ({"endpoint": "https://[fd00::1]/x"}, "endpoint"),
        ({"endpoint": "https://169.254.169.254/latest/meta-data"}, "endpoint"),
        ({"keys": {"p256dh": "AAAA", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}, "keys.p256dh"),
        ({"keys": {"p256dh": "BA" + "A" * 85, "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}, "keys.p256dh"),
        ({"keys": Device().keys | {"auth": "AAAA"}}, "keys.auth"),
        ({"mute": {"groups": ["x"]}}, "mute.groups"),
        ({"mute": {"quiet": {"start": "22:00", "end": "7:00", "time_zone": "UTC"}}}, "mute.quiet.end"),
        ({"mute": {"quiet": {"start": "22:00", "end": "07:00", "time_zone": "Mars/Base"}}}, "mute.quiet.time_zone"),
        ({"mute": {"quiet": {"start": "22:00", "end": "07:00", "time_zone": "../x"}}}, "mute.quiet.time_zone"),
        ({"mute": {"quiet": {"start": "22:00", "end": "07:00", "time_zone": "Europe"}}}, "mute.quiet.time_zone"),
    ],
)
async def test_wrong_subscriptions_are_refused(shared_server: Server, changes: dict[str, Any], field: str):
    """[PUSH13] A private endpoint, wrong keys, ids, hours and zones are refused; the field is named."""
    body = {"endpoint": "https://push.example.org/x", "keys": Device().keys} | changes
    async with await Person.sign_up(shared_server.url) as ada:
        with pytest.raises(Refused) as refused:
            await ada.ask("PUT", "/api/push/subscriptions", json=body)

    assert (refused.value.status, refused.value.body["details"]["field"]) == (400, field)


async def test_names_are_checked_when_they_are_called(serve: Serve, service: PushService):
    """[PUSH2] A name that resolves to a private address is accepted, and never connected to."""
    server = await asyncio.to_thread(serve)
    async with await Person.sign_up(server.url) as ada, await Person.sign_up(server.url) as ben:
        group = await ada.make_group()
        await ben.join(group)
        body = {"endpoint": f"https://localhost:{service.port}/x", "keys": Device().keys}
        await ben.ask("PUT", "/api/push/subscriptions", expect=200, json=body)

        await ada.open_thread(group)

        await eventually(
            lambda: any("private network" in line for line in server.log), what="the server refuses to connect"
        )
    assert service.asked == []


async def test_the_key_is_kept(serve: Serve):
    """[PUSH7] `GET /api/push/key` gives one key for the life of the database; switched off it answers 404."""
    server = await asyncio.to_thread(serve)
    async with await Person.sign_up(server.url) as ada:
        key = await ada.get("/api/push/key")
        await asyncio.to_thread(server.close)
        await asyncio.to_thread(server.start)
        assert await ada.get("/api/push/key") == key
    off = await asyncio.to_thread(serve, env={"ORBITAL_PUSH": "off"})
    async with await Person.sign_up(off.url) as ben:
        with pytest.raises(Refused) as refused:
            await ben.get("/api/push/key")
        assert refused.value.status == 404


async def test_no_secret_is_logged(serve: Serve, service: PushService):
    """[PUSH18] Neither endpoints nor keys reach a log or a metric, also when a message fails."""
    server = await asyncio.to_thread(serve, env={**LOOPBACK, "ORBITAL_LOG_LEVEL": "debug"})
    home = await _home(server, service)
    service.answer = lambda _path: (500, {})
    await home.ada.reply(home.thread_id)
    await eventually(lambda: any("push service did not" in line for line in server.log), what="the failure is logged")
    metrics = (await home.ada.http.get("/metrics")).text

    assert 'orbital_push_messages_total{result="failed"} 1' in metrics
    for secret in ("/push/ben", *home.phone.device.keys.values(), home.phone.subscription):
        assert not [line for line in server.log if secret in line and "/api/push/" not in line]
        assert secret not in metrics
    await home.close()
