"""DELETE requests are idempotent by their method: they need no idempotency key and ignore one."""

from __future__ import annotations

import typing

import pytest

from orbital_relay.api import receipts
from orbital_relay.model import AnnounceDevice, AnyDraft, DeleteContent, ExpireMedia, LeaveGroup, SetRole
from orbital_relay.server.http import ENDPOINTS
from tests.server.api import Api


def test_types_of_drafts_with_a_key():
    """[AGAIN1] Drafts have receipts for their keys, except those of DELETE and of PUT; no DELETE uses a key."""
    without = set(typing.get_args(AnyDraft)) - receipts._KINDS.keys()

    assert without == {LeaveGroup, ExpireMedia, AnnounceDevice, SetRole, DeleteContent}
    assert [each.path for each in ENDPOINTS if each.method == "DELETE" and each.idempotent] == []


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "the same key"}])
async def test_a_leave_that_is_repeated(api: Api, key: dict[str, str]):
    """[AGAIN2] A leave whose response was lost may be repeated: 403 says that it was done, and one event is emitted."""
    ann, ben = api.user(), api.user()
    group = await ann.make_group()
    await ben.join(group)
    path = f"/api/groups/{group['group_id']}/members/{ben.id}"

    statuses = [(await ben.ask("DELETE", path, headers=key)).status_code for _ in range(2)]
    events = (await ann.get("/v1/events", group_id=group["group_id"])).text

    assert statuses == [204, 403]
    assert events.count('"type":"member_left"') == 1
