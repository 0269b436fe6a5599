"""Devices, keys, records, epochs and mailboxes by the Python SDK, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import pytest

from orbital_relay.client import (
    Api,
    ApiError,
    BadAnswer,
    CaughtUp,
    IdentityChanged,
    KeysLow,
    NewKeys,
    NewRecord,
    Orbital,
    connect,
)
from orbital_relay.client.media import upload
from tests.clients.test_python_rest import pair  # noqa: F401 - a fixture
from tests.support.client import opaque
from tests.support.devices import curve, keys_body


async def test_keys(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[KEYS21] The Python SDK publishes, counts, lists, claims and removes keys, and reads the events typed."""
    anna, ben = pair
    group = await anna.create_group(opaque(), opaque())
    await ben.join_group(group.invite_code, opaque())
    stored = await anna.publish_keys(keys_body(one_time=1))
    (device,) = [each async for each in ben.iter_devices(group.group_id)]
    (bundle,) = await ben.claim_keys(group.group_id, [(device.user_id, device.device_id, 16)])
    (count,) = await anna.key_counts()
    posted = await anna.post_keys(group.group_id, opaque(), if_epoch=3)
    record = await anna.post_record(group.group_id, opaque(), if_epoch=3)
    with pytest.raises(ApiError) as late:
        await ben.post_keys(group.group_id, opaque(), if_epoch=3)
    await anna.remove_device(stored.device_id)

    assert (device.identity_key, bundle.last_resort, count.hpke_pre_keys) == (curve(), False, 0)
    assert (late.value.code, late.value.details["epoch"]) == ("EPOCH_CHANGED", record.seq)
    assert [each.record_id async for each in ben.iter_records(group.group_id)] == [record.record_id]
    events = (await ben.events(group.group_id, after_seq=2)).events
    assert [type(event) for event in events] == [IdentityChanged, NewKeys, NewRecord, IdentityChanged]
    assert events[1].seq == posted.seq


async def _refused(post: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await post
    return refused.value


async def test_epoch_of_every_post(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY1] With the Python SDK every post to a group has `if_epoch`; a former epoch stores nothing."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    thread = (await anna.create_thread(group, "dA==", "Yg==", if_epoch=1)).thread_id
    record = await anna.post_record(group, opaque())
    async with connect(anna.address.http, token=await anna.tokens.get()) as client:

        def posts(epoch: int) -> list[Callable[[], Awaitable[object]]]:
            return [
                lambda: anna.post_message(group, "AA==", timestamp=1, if_epoch=epoch),
                lambda: anna.create_thread(group, "dA==", "Yg==", if_epoch=epoch),
                lambda: anna.create_reply(thread, "Yg==", if_epoch=epoch),
                lambda: client.send(group, "AA==", if_epoch=epoch),
                lambda: client.open_thread(group, "dA==", "Yg==", if_epoch=epoch),
                lambda: client.reply(thread, "Yg==", if_epoch=epoch),
            ]

        for post in posts(record.seq - 1):
            refused = await _refused(post())
            assert (refused.code, refused.details["epoch"], refused.retryable) == ("EPOCH_CHANGED", record.seq, False)
        assert client.waiting == 0
        assert (await anna.events(group)).last_seq == record.seq
        for post in posts(record.seq):
            await post()
    assert (await anna.events(group)).last_seq == record.seq + 6


async def test_epoch_of_an_upload(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY2] A medium of a former epoch is not posted; with the newer epoch only its first chunk is sent again."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    thread = (await anna.create_thread(group, "dA==", "Yg==")).thread_id
    record, medium, seen = await anna.post_record(group, opaque()), str(uuid4()), list[int]()

    async def send(epoch: int, metadata: str = "bQ==") -> object:
        how = {"encrypted_metadata": metadata, "encryption_iv": "aXY=", "media_id": medium}
        return await upload(
            anna, thread, b"x" * 40, if_epoch=epoch, chunk_bytes=16, progress=lambda at, _: seen.append(at), **how
        )

    refused = await _refused(send(record.seq - 1))
    before = (await anna.events(group)).last_seq
    chunks = (await anna.upload_state(medium)).chunks_received
    other = await _refused(send(record.seq, "bWE="))
    seen.clear()
    await send(record.seq)

    assert other.code == "INVALID_CHUNK"
    assert (refused.code, refused.details["epoch"], before) == ("EPOCH_CHANGED", record.seq, record.seq)
    assert (chunks, seen) == ([0, 1, 2], [24, 40])
    assert (await anna.thread_media(thread))[0].media_id == medium


async def test_key_messages(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY3] `iter_key_messages` reads the `new_keys` events page by page, each with the hash of the log."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    sent = [(await anna.post_keys(group, opaque())).seq for _ in range(120)]
    await anna.post_message(group, "AA==", timestamp=1)
    listed = [each async for each in anna.iter_key_messages(group)]
    logged = [each async for each in anna.iter_events(group) if isinstance(each, NewKeys)]

    assert [each.seq for each in listed] == sent
    assert listed == logged
    assert [each.seq async for each in anna.iter_key_messages(group, after_seq=sent[-2])] == sent[-1:]


async def test_no_key_message(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY13] A list of key messages with another event, or with one that comes twice, is not the server's."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    page = await anna.event_frames(group)
    await anna.post_keys(group, opaque())
    (keys,) = (await anna.event_frames(group, after_seq=1)).frames

    for events in ([page.frames[0]], [keys, keys]):
        body = b'{"events":[' + b",".join(events) + b'],"has_more":false}'
        transport = httpx.MockTransport(lambda _, body=body: httpx.Response(200, content=body))
        async with Api("http://127.0.0.1:9", token="t", transport=transport) as liar:
            with pytest.raises(BadAnswer, match="list of key messages"):
                _ = [each async for each in liar.iter_key_messages(group)]


async def test_mailbox(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY4] A new device without a token opens a mailbox and waits; a device with one puts the message into it."""
    anna, _ = pair
    async with Api(anna.address.http) as new:
        opened = await new.open_mailbox()
        assert await new.read_mailbox(opened.mailbox, wait_s=0) is None
        waiting = asyncio.create_task(new.read_mailbox(opened.mailbox))
        await anna.fill_mailbox(opened.mailbox, "bGluaw==")
        await anna.fill_mailbox(opened.mailbox, "bGluaw==")
        other = await _refused(anna.fill_mailbox(opened.mailbox, "b3RoZXI="))
        gone = await _refused(new.read_mailbox("A" * 22, wait_s=0))

        assert await waiting == "bGluaw=="
        assert (other.code, gone.code) == ("CONFLICT", "NOT_FOUND")


async def test_keys_low(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[SDKKEY5] `keys_low` reaches a client of the Python SDK typed, when it connects with a low stock."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    await anna.publish_keys(keys_body(one_time=3))
    low: asyncio.Future[KeysLow] = asyncio.get_running_loop().create_future()
    client: Orbital = connect(anna.address.http, token=await anna.tokens.get())
    client.on(KeysLow, low.set_result)
    async with client, client.subscribe(group, since=0, marks=True) as events:
        async for event in events:
            if isinstance(event, CaughtUp):
                break
        async with asyncio.timeout(60):
            found = (await low).data

    assert (found.device_id, found.pre_keys, found.kyber_pre_keys, found.hpke_pre_keys) == (1, 0, 0, 3)
