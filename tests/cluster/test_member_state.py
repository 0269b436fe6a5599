"""Notices of a new member state reach the member's own connections at every server, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.client import Person, opaque
from tests.support.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


async def test_the_members_connections_at_every_server(cluster_of: Callable[..., list[Server]]):
    """[MSTATE5] `state_changed` reaches a member's subscribed connections at every server, and no other member."""
    first, second = await asyncio.to_thread(cluster_of, 2)
    async with await Person.sign_up(first.url) as ann, await Person.sign_up(second.url) as bob:
        group = await ann.make_group()
        await bob.join(group)
        async with (
            await ann.listen(group) as here,
            await ann.listen(group, url=second.url) as there,
            await bob.listen(group) as other,
        ):
            stored = await ann.ask(
                "PUT", f"/api/groups/{group.id}/state", expect=200, json={"encrypted_state": opaque()}
            )
            notices = [await socket.until("state_changed") for socket in (here, there)]
            # A later event of the same group: what was for Bob has arrived before it.
            await ann.open_thread(group)
            await other.until("new_thread")

            assert [notice["data"] for notice in notices] == [{"group_id": group.id}] * 2
            assert not [frame for frame in other.frames if frame["type"] == "state_changed"]
            assert await ann.get(f"/api/groups/{group.id}/state") == stored
