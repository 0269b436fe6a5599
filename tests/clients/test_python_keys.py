"""Devices, keys and records by the Python SDK, against a real server."""

from __future__ import annotations

import pytest

from orbital_relay.client import Api, ApiError, IdentityChanged, NewKeys, NewRecord
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
