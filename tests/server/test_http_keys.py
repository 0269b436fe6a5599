"""Devices, their keys, records and epochs over HTTP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.errors import Unavailable
from orbital_relay.services import keys, provision
from tests.server.api import Api, User, opaque, opened, send_chunk
from tests.support.devices import curve, keys_body, signed


class Family:
    """Ada and Bob in a group."""

    def __init__(self, ada: User, bob: User, group: Any) -> None:
        self.ada, self.bob, self.group, self.id = ada, bob, group, group["group_id"]

    async def events(self, after: int = 0) -> list[Any]:
        """Return the group's events."""
        page = await self.ada.get("/v1/events", group_id=self.id, after_seq=after)
        found: list[Any] = page.json()["events"]
        return found

    async def claim(self, who: User, *devices: dict[str, Any], key: str | None = None) -> Any:
        """Claim keys, by default of ada's first device by HPKE; return the bundles."""
        wanted = devices or ({"user_id": self.ada.id, "device_id": 1, "suite": 16},)
        answer = await who.post("/v1/keys/claims", {"group_id": self.id, "devices": list(wanted)}, key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()["bundles"]


@pytest.fixture
async def family(api: Api) -> Family:
    """Ada's group, with Bob in it."""
    ada, bob = api.user(), api.user()
    group = await ada.make_group()
    await bob.join(group)
    return Family(ada, bob, group)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Api]:
    """A node of its own for tests that reach a limit."""
    async with opened(tmp_path) as api:
        yield api


# Chapter: publishing


async def test_publish_and_count(family: Family):
    """[KEYS1] Published keys are counted in the response and in `GET /v1/keys/count`; the event names the user."""
    answer = await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=2, suites=3))
    counts = {"pre_keys": 2, "kyber_pre_keys": 2, "hpke_pre_keys": 2}

    assert (answer.status_code, answer.json()) == (200, {"device_id": 1, "counts": counts})
    assert (await family.ada.get("/v1/keys/count")).json() == {"devices": [{"device_id": 1, **counts}]}
    assert (await family.bob.get("/v1/keys/count")).json() == {"devices": []}
    (event,) = await family.events(after=2)
    assert (event["type"], event["data"]) == (
        "identity_changed",
        {"user_id": family.ada.id, "device_id": 1, "change": "added", "identity_key": curve()},
    )


async def test_only_changes_are_announced(family: Family):
    """[DEVICE4] New keys alone emit nothing; another identity or a removal emits `identity_changed` in every group."""
    other = await family.ada.make_group()
    for change in (keys_body(), keys_body(one_time=1), keys_body(2, device_id=1)):
        assert (await family.ada.ask("PUT", "/v1/keys", json=change)).status_code == 200
    removed = await family.ada.ask("DELETE", "/v1/keys/1")

    assert removed.status_code == 204
    changes = [("added", curve()), ("identity", curve(2)), ("removed", curve(2))]
    assert [
        (event["data"]["change"], event["data"]["identity_key"]) for event in await family.events(after=2)
    ] == changes
    page = (await family.ada.get("/v1/events", group_id=other["group_id"], after_seq=1)).json()
    assert [event["data"]["change"] for event in page["events"]] == ["added", "identity", "removed"]
    missing = [await family.ada.ask("DELETE", f"/v1/keys/{number}") for number in ("1", "0", "128", "x", "٣")]
    assert [answer.status_code for answer in missing] == [404] * 5


async def test_publishing_again_after_a_lost_response(family: Family):
    """[KEYS9] The same `Idempotency-Key` gets the same response, and no claimed key is offered again."""
    key = {"Idempotency-Key": "publish"}
    first = await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=1), headers=key)
    await family.claim(family.bob)
    again = await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=1), headers=key)
    other = await family.ada.ask("PUT", "/v1/keys", json=keys_body(2), headers=key)

    assert again.json() == first.json()
    assert (other.status_code, other.json()["error"]) == (409, "CONFLICT")
    (bundle,) = await family.claim(family.bob)
    assert bundle["last_resort"] is True


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"identity_key": "AAAA"}, "identity_key"),
        ({"identity_key": base64.b64encode(bytes(33)).decode()}, "identity_key"),
        ({"identity_key": "*" * 44}, "identity_key"),
        ({"hpke_pre_key": signed(1, 1217)}, "hpke_pre_key.key"),
        ({"hpke_pre_key": {**signed(1), "signature": "AAAA"}}, "hpke_pre_key.signature"),
        ({"hpke_pre_keys": [signed(1), signed(2, 1215)]}, "hpke_pre_keys[1].key"),
        ({"hpke_pre_keys": [signed(1), signed(1)]}, "hpke_pre_keys"),
        ({"hpke_pre_keys": [signed(number) for number in range(51)]}, "hpke_pre_keys"),
        ({"hpke_pre_key": None}, "hpke_pre_key"),
        ({"pre_keys": [{"id": 1, "key": curve()}]}, "pre_keys"),
        ({"registration_id": 7}, "registration_id"),
        ({"registration_id": 16_381}, "registration_id"),
        ({"suites": 0}, "suites"),
        ({"device_id": 0}, "device_id"),
        ({"device_id": 128}, "device_id"),
        ({"suites": 3, "registration_id": None}, "registration_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_form_of_keys(family: Family, changes: dict[str, Any], field: str):
    """[KEYS15] Sizes and first bytes are checked, and the refusal names the field; nothing is stored."""
    answer = await family.ada.ask("PUT", "/v1/keys", json=keys_body(**changes))

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)
    assert (await family.ada.get("/v1/keys/count")).json() == {"devices": []}


async def test_the_largest_body(family: Family):
    """[KEYS16] All key stocks at their limits fit into one body; a body over 256 KiB is refused."""
    whole = keys_body(one_time=50, suites=3)
    whole["pre_keys"] = [{"id": number, "key": curve()} for number in range(100)]

    answer = await family.ada.ask("PUT", "/v1/keys", json=whole)
    large = await family.ada.ask("PUT", "/v1/keys", json={**whole, "more": "x" * 256 * 1024})

    assert answer.json()["counts"] == {"pre_keys": 100, "kyber_pre_keys": 50, "hpke_pre_keys": 50}
    assert (large.status_code, large.json()["error"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_devices(family: Family):
    """[KEYS10] Members list the devices of all members; listing consumes no key."""
    await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=1))
    await family.bob.ask("PUT", "/v1/keys", json=keys_body(2, device_id=5, suites=3))

    page = (await family.bob.get("/v1/keys/devices", group_id=family.id)).json()
    strange = await family.ada.api.user().get("/v1/keys/devices", group_id=family.id)

    assert [(each["user_id"], each["device_id"], each["identity_key"], each["suites"]) for each in page["devices"]] == [
        (family.ada.id, 1, curve(), 2),
        (family.bob.id, 5, curve(2), 3),
    ]
    assert page["has_more"] is False
    assert strange.status_code == 403


# Chapter: claims


async def test_claims(family: Family):
    """[CLAIM1] A claim returns a one-time key, byte for byte as published, and later the last-resort key."""
    await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=1, suites=3))
    suite_1 = {"user_id": family.ada.id, "device_id": 1, "suite": 1}

    (hpke,), (again,) = await family.claim(family.bob), await family.claim(family.bob)
    (libsignal,) = await family.claim(family.bob, suite_1)

    assert hpke == {
        "user_id": family.ada.id,
        "device_id": 1,
        "suite": 16,
        "identity_key": curve(),
        "last_resort": False,
        "registration_id": None,
        "pre_key": None,
        "signed_pre_key": None,
        "kyber_pre_key": None,
        "hpke_pre_key": signed(1),
    }
    assert (again["last_resort"], again["hpke_pre_key"]) == (True, signed(0))
    assert libsignal["pre_key"] == {"id": 1, "key": curve(1)}
    assert libsignal["kyber_pre_key"] == signed(1, keys.KYBER_BYTES, keys.KYBER_TYPE)
    assert libsignal["signed_pre_key"] == signed(0, keys.CURVE_BYTES, keys.CURVE_TYPE)
    assert (libsignal["registration_id"], libsignal["last_resort"], libsignal["hpke_pre_key"]) == (7, False, None)


async def test_a_claim_again(family: Family):
    """[CLAIM6] The same `Idempotency-Key` and body return the same keys, byte for byte; another body is 409."""
    await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=2))

    first, again = [await family.claim(family.bob, key="claim") for _ in range(2)]
    other = await family.bob.post("/v1/keys/claims", {"group_id": family.id, "devices": [
        {"user_id": family.ada.id, "device_id": 2, "suite": 16}
    ]}, key="claim")  # fmt: skip

    assert first == again
    assert (other.status_code, other.json()["error"]) == (409, "CONFLICT")
    assert (await family.ada.get("/v1/keys/count")).json()["devices"][0]["hpke_pre_keys"] == 1


@pytest.mark.parametrize(
    "devices, field",
    [
        ([], "devices"),
        ([{"user_id": "x", "device_id": 1, "suite": 16}] * 2, "devices"),
        ([{"user_id": "x", "device_id": 0, "suite": 16}], "devices[0].device_id"),
        ([{"user_id": "x", "device_id": 1, "suite": 2}], "devices[0].suite"),
    ],
    ids=["none", "twice", "no number", "no suite"],
)
async def test_the_form_of_claims(family: Family, devices: list[Any], field: str):
    """[CLAIM10] A claim names 1 to 200 devices, each once, with a suite that has keys."""
    answer = await family.bob.post("/v1/keys/claims", {"group_id": family.id, "devices": devices})

    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["details"]["field"].startswith(field.partition("[")[0])


async def test_the_limits_of_claims(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[CLAIM11] Over the limits a claim gets the last-resort key, not a refusal; a repeated claim does not count."""
    monkeypatch.setattr(keys, "CLAIMS_OF_CALLER", 2)
    monkeypatch.setattr(keys, "CLAIMS_OF_DEVICE", 3)
    await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=10))

    of_bob = [(await family.claim(family.bob, key=str(number)))[0]["last_resort"] for number in (1, 1, 1, 2, 3)]
    of_ada = [(await family.claim(family.ada))[0]["last_resort"] for _ in range(3)]

    assert of_bob == [False, False, False, False, True]
    assert of_ada == [False, True, True]
    assert (await family.ada.get("/v1/keys/count")).json()["devices"][0]["hpke_pre_keys"] == 7


async def test_non_members_consume_no_keys(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[CLAIM12] Claims by users who share no group with a device neither consume its keys nor count for its limit."""
    monkeypatch.setattr(keys, "CLAIMS_OF_DEVICE", 1)
    await family.ada.ask("PUT", "/v1/keys", json=keys_body(one_time=2))
    mallory = family.ada.api.user()
    own = await mallory.make_group()
    wanted = [{"user_id": family.ada.id, "device_id": 1, "suite": 16}]

    refused = [await mallory.post("/v1/keys/claims", {"group_id": family.id, "devices": wanted}) for _ in range(2)]
    elsewhere = await mallory.post("/v1/keys/claims", {"group_id": own["group_id"], "devices": wanted})

    assert [answer.status_code for answer in refused] == [403, 403]
    assert elsewhere.json() == {"bundles": []}
    (bundle,) = await family.claim(family.bob)
    assert bundle["last_resort"] is False


# Chapter: records, key messages, epochs


async def test_records(family: Family):
    """[RECORD1] A record is an event, advances the epoch, and is listed."""
    path = f"/api/groups/{family.id}/records"
    record = opaque(127)

    created = await family.bob.post(path, {"record": record}, key="r")
    again = await family.bob.post(path, {"record": record}, key="r")
    listed = (await family.ada.get(path)).json()
    late = await family.ada.post(path, {"record": record, "if_epoch": 2})

    assert created.status_code == 201
    assert again.json() == created.json()
    answer = created.json()
    data = {"record_id": answer["record_id"], "group_id": family.id, "author_id": family.bob.id, "record": record}
    (event,) = await family.events(after=2)
    assert (event["type"], event["seq"]) == ("new_record", answer["seq"])
    assert event["data"] == {**data, "created_at": answer["created_at"]}
    assert listed == {"records": [{**data, "created_at": answer["created_at"], "seq": 3}], "has_more": False}
    assert (late.status_code, late.json()["error"], late.json()["details"]) == (409, "EPOCH_CHANGED", {"epoch": 3})


async def test_the_size_of_records(family: Family):
    """[RECORD3] A record of 4,096 bytes is stored, one byte more is 413."""
    path = f"/api/groups/{family.id}/records"

    answers = [await family.ada.post(path, {"record": opaque(size)}) for size in (4096, 4097)]
    empty = await family.ada.post(path, {"record": ""})

    assert [answer.status_code for answer in answers] == [201, 413]
    assert empty.status_code == 400


async def test_the_limit_of_records(limited: Api):
    """[RECORD4] A user may post 30 records an hour over all groups; other users are not affected."""
    ada, bob = limited.user(), limited.user()
    group = await ada.make_group()
    await bob.join(group)
    path = f"/api/groups/{group['group_id']}/records"

    statuses = [(await ada.post(path, {"record": opaque()})).status_code for _ in range(31)]
    refused = await ada.post(path, {"record": opaque()})

    assert statuses == [201] * 30 + [429]
    assert int(refused.headers["retry-after"]) > 60
    assert (await bob.post(path, {"record": opaque()})).status_code == 201


async def test_the_limit_of_device_changes(limited: Api):
    """[DEVICE5] A user may change devices 30 times an hour; publishing more keys does not count."""
    ada = limited.user()

    changed = [(await ada.ask("PUT", "/v1/keys", json=keys_body(mark))).status_code for mark in range(1, 32)]
    more = await ada.ask("PUT", "/v1/keys", json=keys_body(1, one_time=1))
    removed = await ada.ask("DELETE", "/v1/keys/1")

    assert changed == [200] * 30 + [429]
    assert (more.status_code, removed.status_code) == (200, 429)


async def test_key_messages(family: Family):
    """[RECORD2] An envelope with keys is an event of its own type, and can be fetched separately from the log."""
    envelope = opaque(500)
    posted = await family.ada.post("/v1/key-messages", {"group_id": family.id, "encrypted_envelope": envelope}, key="k")
    again = await family.ada.post("/v1/key-messages", {"group_id": family.id, "encrypted_envelope": envelope}, key="k")
    await family.ada.say(family.id)

    page = (await family.bob.get("/v1/key-messages", group_id=family.id)).json()

    answer = posted.json()
    assert (posted.status_code, again.json()) == (200, answer)
    event = (await family.events(after=2))[0]
    assert event["data"] == {
        "keys_id": answer["keys_id"],
        "group_id": family.id,
        "sender_id": family.ada.id,
        "encrypted_envelope": envelope,
    }
    assert (event["type"], event["seq"], event["server_timestamp"]) == ("new_keys", 3, answer["server_timestamp"])
    assert page == {"events": [event], "has_more": False}
    assert (await family.bob.get("/v1/key-messages", group_id=family.id, after_seq=3)).json()["events"] == []
    assert (await family.bob.api.user().get("/v1/key-messages", group_id=family.id)).status_code == 403
    messages = (await family.bob.get("/v1/messages")).json()["messages"]
    assert len(messages) == 1


async def test_every_post_has_a_condition(family: Family):
    """[EPOCH2] Messages, threads, replies, keys, records and media for a past epoch are refused with 409."""
    opened = await family.ada.open_thread(family.id)
    media_id = "6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11"
    thread = {"group_id": family.id, "encrypted_title": opaque(), "encrypted_body": opaque()}
    message = {"conversation_id": family.id, "encrypted_envelope": opaque(), "timestamp": 1}

    async def post_all(if_epoch: int) -> list[Any]:
        condition = {"if_epoch": if_epoch}
        return [
            await family.ada.post("/v1/messages", message | condition),
            await family.ada.post("/api/threads", thread | condition),
            await family.ada.post(
                f"/api/threads/{opened['thread_id']}/replies", {"encrypted_body": opaque(), **condition}
            ),
            await family.ada.post(
                "/v1/key-messages", {"group_id": family.id, "encrypted_envelope": opaque(), **condition}
            ),
            await send_chunk(family.ada, opened["thread_id"], media_id, 0, 1, b"x", if_epoch=str(if_epoch)),
            await family.ada.post("/api/media/upload/complete", {"media_id": media_id, **condition}),
            await family.ada.post(f"/api/groups/{family.id}/records", {"record": opaque(), **condition}),
        ]

    refused = await post_all(1)
    accepted = await post_all(2)

    assert [(answer.status_code, answer.json()["error"]) for answer in refused] == [(409, "EPOCH_CHANGED")] * 7
    assert [answer.status_code for answer in accepted] == [200, 201, 201, 200, 201, 200, 201]
    kinds = [event["type"] for event in await family.events(after=3)]
    assert kinds == ["new_message", "new_thread", "new_reply", "new_keys", "media_uploaded", "new_record"]


async def test_a_condition_is_not_part_of_the_request(family: Family):
    """[EPOCH6] The same key and body with another `if_epoch` are the same request and get the first response."""
    message = {"conversation_id": family.id, "encrypted_envelope": opaque(), "timestamp": 1}
    first = await family.ada.post("/v1/messages", {**message, "if_epoch": 2}, key="k")
    await family.ada.post(f"/api/groups/{family.id}/records", {"record": opaque()})

    again = [
        await family.ada.post("/v1/messages", {**message, **more}, key="k")
        for more in ({}, {"if_epoch": 2}, {"if_epoch": 4})
    ]

    assert [answer.json() for answer in again] == [first.json()] * 3


# Chapter: what a server leaves behind


async def test_a_server_crashes_before_it_announces(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[DEVICE6] If a server crashes before it emits a change's events, the next round emits them, once."""

    async def dies(*_: Any, **__: Any) -> Any:
        raise Unavailable("The server died here.")

    with monkeypatch.context() as patched:
        patched.setattr(keys, "announce", dies)
        assert (await family.ada.ask("PUT", "/v1/keys", json=keys_body())).status_code == 503
    assert await family.events(after=2) == []
    room = family.ada.api.node.keys

    assert await keys.announce(room, None, age_ms=60_000) == 0
    assert [await keys.announce(room, None), await keys.announce(room, None)] == [1, 0]

    (event,) = await family.events(after=2)
    assert event["data"]["change"] == "added"


async def test_many_groups(family: Family):
    """[DEVICE7] A change is announced in every group, also when there are more groups than one read returns."""
    groups = [await family.bob.make_group() for _ in range(keys.ANNOUNCED_AT_ONCE + 5)]

    await family.bob.ask("PUT", "/v1/keys", json=keys_body())

    listed = (await family.bob.get("/api/groups")).json()["groups"]
    assert {group["group_id"]: group["last_seq"] for group in listed} == {
        family.id: 3,
        **{group["group_id"]: 2 for group in groups},
    }


# Chapter: mailboxes


async def test_a_mailbox(family: Family):
    """[MAILBOX2] A device without a token opens a mailbox and polls; a linked device posts one message to it."""
    http, message = family.ada.api, opaque(500)
    made = await http.ask("POST", "/v1/provision")
    path = f"/v1/provision/{made.json()['mailbox']}"
    waiting = asyncio.create_task(http.ask("GET", path))

    stranger = await http.ask("PUT", path, json={"encrypted_message": message})
    filled = await family.ada.ask("PUT", path, json={"encrypted_message": message})
    again = await family.ada.ask("PUT", path, json={"encrypted_message": message})
    other = await family.ada.ask("PUT", path, json={"encrypted_message": opaque()})

    assert made.status_code == 201
    assert (stranger.status_code, filled.status_code, again.status_code, other.status_code) == (401, 204, 204, 409)
    assert (await waiting).json() == {"encrypted_message": message}
    assert (await http.ask("GET", path)).json() == {"encrypted_message": message}


async def test_no_message_in_time(family: Family):
    """[MAILBOX3] Without a message before the timeout the response is 204; an unknown name is 404."""
    http = family.ada.api
    path = f"/v1/provision/{(await http.ask('POST', '/v1/provision')).json()['mailbox']}"

    assert (await http.ask("GET", path, params={"wait": 0})).status_code == 204
    for name in ("A" * 22, "A" * 21, "ä" * 22):
        assert (await http.ask("GET", f"/v1/provision/{name}")).status_code == 404
        assert (
            await family.ada.ask("PUT", f"/v1/provision/{name}", json={"encrypted_message": "AAAA"})
        ).status_code == 404


async def test_the_size_of_mail(family: Family):
    """[MAILBOX4] A message of 64 KiB is accepted; one byte more is 413."""
    http = family.ada.api
    paths = [f"/v1/provision/{(await http.ask('POST', '/v1/provision')).json()['mailbox']}" for _ in range(2)]

    answers = [
        await family.ada.ask("PUT", path, json={"encrypted_message": opaque(size)})
        for path, size in zip(paths, (provision.MAIL_BYTES, provision.MAIL_BYTES + 1), strict=True)
    ]

    assert [answer.status_code for answer in answers] == [204, 413]


async def test_the_limit_of_mailboxes(limited: Api):
    """[MAILBOX5] An address may open ten mailboxes a minute."""
    statuses = [(await limited.ask("POST", "/v1/provision")).status_code for _ in range(11)]

    assert statuses == [201] * 10 + [429]


async def test_many_readers_wait(family: Family, monkeypatch: pytest.MonkeyPatch):
    """[MAILBOX6] Readers over the server's bound get 503 at once; one that disconnects frees a place."""
    monkeypatch.setattr(provision, "MOST_WAITING", 1)
    http = family.ada.api
    path = f"/v1/provision/{(await http.ask('POST', '/v1/provision')).json()['mailbox']}"
    room = http.node.keys
    waiting = asyncio.create_task(http.ask("GET", path))
    while not room.readers:
        await asyncio.sleep(0)

    refused = await http.ask("GET", path)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert (refused.status_code, refused.json()["error"]) == (503, "UNAVAILABLE")
    assert (await http.ask("GET", path, params={"wait": 0})).status_code == 204


# Chapter: revocation


@pytest.mark.parametrize(
    "method, path",
    [
        ("PUT", "/v1/keys"),
        ("POST", "/v1/keys/claims"),
        ("GET", "/v1/keys/devices"),
        ("GET", "/v1/keys/count"),
        ("DELETE", "/v1/keys/1"),
        ("POST", "/v1/key-messages"),
        ("GET", "/v1/key-messages"),
        ("POST", "/api/groups/6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11/records"),
        ("GET", "/api/groups/6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11/records"),
        ("PUT", "/v1/provision/AAAAAAAAAAAAAAAAAAAAAA"),
    ],
)
async def test_a_revoked_token(family: Family, method: str, path: str):
    """[KEYS17] A revoked token cannot publish, claim, list or remove anything."""
    assert (await family.ada.post("/api/logout")).status_code == 204

    answer = await family.ada.ask(method, path, json={})

    assert (answer.status_code, answer.json()["error"]) == (401, "UNAUTHORIZED")
