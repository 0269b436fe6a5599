"""The state that a member's devices share about a group: stored, read, and other devices notified of a new one."""

from __future__ import annotations

from typing import Final

from orbital_relay.api.member_states import MemberState, MemberStateBody
from orbital_relay.model import GroupId, Principal
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted

STATE_BYTES: Final = 16 * 1024
"""Largest `encrypted_state` after decoding."""


async def show(context: ServiceContext, principal: Principal, group_id: GroupId) -> MemberState:
    """
    Return the caller's state in a group.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await context.store.member_state(principal.key, group_id)


async def put(context: ServiceContext, principal: Principal, group_id: GroupId, body: MemberStateBody) -> MemberState:
    """
    Replace the caller's state in a group, and notify the caller's connections.

    Raises:
        ValidationFailed: If the state is not base64.
        PayloadTooLarge: If it is over the limit.
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    check_encrypted("encrypted_state", body.encrypted_state, limit_bytes=STATE_BYTES)
    stored = await context.store.put_member_state(
        principal.key, group_id, body.encrypted_state, now_ms=context.clock.wall_ms()
    )
    context.state_changed(group_id, principal.user_id)
    return stored
