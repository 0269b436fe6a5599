"""The state that a member's devices share, by the Python SDK, against a real server."""

from __future__ import annotations

import asyncio

from orbital_relay.client import Api, CaughtUp, DeviceStateChanged, Orbital, connect
from tests.clients.test_python_rest import pair  # noqa: F401 - a fixture
from tests.support.client import opaque


async def test_another_device_is_notified(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[MSTATE6] With the Python SDK a device stores a state; another device of the user is notified and reads it."""
    anna, _ = pair
    group = (await anna.create_group(opaque(), opaque())).group_id
    before = await anna.member_state(group)
    changed: asyncio.Future[DeviceStateChanged] = asyncio.get_running_loop().create_future()
    client: Orbital = connect(anna.address.http, token=await anna.tokens.get())
    client.on(DeviceStateChanged, changed.set_result)
    async with client, client.subscribe(group, since=0, marks=True) as events:
        async for event in events:
            if isinstance(event, CaughtUp):
                break
        stored = await anna.put_member_state(group, opaque())
        async with asyncio.timeout(60):
            notice = (await changed).data

    assert (before.encrypted_state, before.changed_at) == (None, None)
    assert notice.group_id == group
    assert await anna.member_state(group) == stored
