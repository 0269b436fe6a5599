"""Annotations by the Python SDK, against a real server."""

from __future__ import annotations

import pytest

from orbital_relay.client import Api, ApiError, NewAnnotation
from tests.clients.test_python_rest import pair  # noqa: F401 - a fixture
from tests.support.client import opaque


async def test_annotations(pair: tuple[Api, Api]) -> None:  # noqa: F811 - the fixture
    """[ANNOT7] The Python SDK annotates a thread and a reply, lists over all pages, and reads the event typed."""
    anna, ben = pair
    group = await anna.create_group(opaque(), opaque())
    await ben.join_group(group.invite_code, opaque())
    thread = (await anna.create_thread(group.group_id, opaque(), opaque())).thread_id
    reply = (await ben.create_reply(thread, opaque())).reply_id
    posted = [await anna.post_annotation(thread, (thread, reply)[index % 2], opaque()) for index in range(103)]
    again = [await ben.post_annotation(thread, reply, "QQ==", idempotency_key="tap") for _ in range(2)]

    listed = [each async for each in ben.iter_annotations(thread)]
    late = [each async for each in ben.iter_annotations(thread, after_seq=posted[-1].seq)]
    event = (await ben.events(group.group_id, after_seq=again[0].seq - 1)).events[0]
    with pytest.raises(ApiError) as refused:
        await anna.post_annotation(thread, group.group_id, opaque())

    assert [each.annotation_id for each in listed] == [each.annotation_id for each in (*posted, again[0])]
    assert [each.annotation_id for each in late] == [again[1].annotation_id]
    assert isinstance(event, NewAnnotation)
    assert (event.seq, event.data.target_id, event.data.encrypted_body) == (again[0].seq, reply, "QQ==")
    assert (refused.value.code, refused.value.details) == ("NOT_FOUND", {"field": "target_id"})
