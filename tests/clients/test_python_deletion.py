"""Deletion by the Python SDK, against a real server."""

from __future__ import annotations

import pytest

from orbital_relay.client import Api, ApiError, Deleted
from tests.clients.test_python_rest import pair  # noqa: F401 - a fixture
from tests.support.client import opaque


async def test_deletion(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[DELETED16] The Python SDK deletes a message, a reply and a thread, twice, and reads the events typed."""
    anna, ben = pair
    group = await anna.create_group(opaque(), opaque())
    await ben.join_group(group.invite_code, opaque())
    message = await ben.post_message(group.group_id, opaque(), timestamp=1)
    thread = await anna.create_thread(group.group_id, opaque(), opaque())
    reply = await ben.create_reply(thread.thread_id, opaque())
    with pytest.raises(ApiError) as refused:
        await ben.delete_thread(thread.thread_id)

    for _ in range(2):
        await ben.delete_message(message.message_id)
        await anna.delete_reply(reply.reply_id)
        await anna.delete_thread(thread.thread_id)

    page = await ben.events(group.group_id, after_seq=reply.seq)
    found = [each for each in page.events if isinstance(each, Deleted)]
    assert len(found) == len(page.events) == 3
    assert [(each.data.content_kind, each.data.target_id) for each in found] == [
        ("message", message.message_id),
        ("reply", reply.reply_id),
        ("thread", thread.thread_id),
    ]
    assert len({each.data.by for each in found}) == 2
    assert refused.value.code == "FORBIDDEN"
    assert (await ben.messages()).messages == []
    with pytest.raises(ApiError) as lost:
        await ben.thread(thread.thread_id)
    assert lost.value.code == "NOT_FOUND"
