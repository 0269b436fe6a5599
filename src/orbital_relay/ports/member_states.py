"""The port to the state that a member's devices share about a group."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.api.member_states import MemberState
from orbital_relay.model import GroupId


class MemberStateStore(Protocol):
    """
    One opaque state per user and group, deleted when the membership ends.

    Each call checks, in its own transaction, that the user is a member: NotFound, or Forbidden.
    """

    async def member_state(self, user: int, group_id: GroupId) -> MemberState:
        """Answer `GET /api/groups/{group_id}/state`."""
        ...

    async def put_member_state(self, user: int, group_id: GroupId, encrypted_state: str, *, now_ms: int) -> MemberState:
        """Replace the state; of two that are written at once, the last to commit stays."""
        ...
