"""Push subscriptions by the Python SDK, against a real server."""

from __future__ import annotations

import pytest

from orbital_relay.client import Api, ApiError
from tests.clients.test_python_rest import pair  # noqa: F401 - a fixture
from tests.support.client import opaque
from tests.support.push import Device


async def test_push(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[PYPUSH1] The Python SDK reads the key, subscribes, replaces, reports what was received, and unsubscribes."""
    anna, _ = pair
    group = await anna.create_group(opaque(), opaque())
    device, endpoint = Device(), "https://push.example.org/anna"
    quiet = {"start": "22:00", "end": "07:00", "time_zone": "Europe/Berlin"}

    assert len(await anna.push_key()) == 87
    subscription = await anna.subscribe_push(endpoint, **device.keys)
    again = await anna.subscribe_push(endpoint, **device.keys, mute={"groups": [group.group_id], "quiet": quiet})
    assert again == subscription
    await anna.push_seen(subscription, looking=True, seqs={group.group_id: 1})
    await anna.push_seen(subscription, looking=False)
    await anna.unsubscribe_push(subscription)

    with pytest.raises(ApiError) as refused:
        await anna.push_seen(subscription, looking=False)
    assert refused.value.code == "NOT_FOUND"
