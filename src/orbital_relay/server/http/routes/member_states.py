"""The state that a member's devices share about a group."""

from __future__ import annotations

from typing import Final

from orbital_relay.api.member_states import MemberState, MemberStateBody
from orbital_relay.errors import Forbidden, NotFound, PayloadTooLarge
from orbital_relay.model import GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.services import member_states

_TAG: Final = "Groups"


@endpoint(
    "GET",
    "/api/groups/{group_id}/state",
    tag=_TAG,
    answers=[Answer(200, "The caller's state in the group.", MemberState)],
    errors=[Forbidden, NotFound],
)
async def show_state(call: Call) -> Reply:
    """Show what the caller's devices share about a group."""
    group_id = call.uuid("group_id", GroupId)
    return Reply.json(await member_states.show(call.server.services, call.principal, group_id))


@endpoint(
    "PUT",
    "/api/groups/{group_id}/state",
    tag=_TAG,
    answers=[Answer(200, "The state is stored.", MemberState)],
    errors=[Forbidden, NotFound, PayloadTooLarge],
)
async def put_state(call: Call, body: MemberStateBody) -> Reply:
    """
    Replace what the caller's devices share about a group, such as how far it was read: at most 16 KiB, encrypted.

    The last state that is written stays: merge it with the stored one first. It is deleted when the caller leaves
    the group. Sends `state_changed` to the caller's connections that are subscribed to the group.
    """
    group_id = call.uuid("group_id", GroupId)
    return Reply.json(await member_states.put(call.server.services, call.principal, group_id, body))


ENDPOINTS: Final = (show_state, put_state)
