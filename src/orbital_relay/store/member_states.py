"""The state that each member's devices share about a group: one row per member, which goes with the membership."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from orbital_relay import wire
from orbital_relay.api.member_states import MemberState
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member

_s, _m = t.member_states.c, t.members.c


def member_state(conn: Connection, user: int, group_id: str) -> MemberState:
    """Answer `GET /api/groups/{group_id}/state`."""
    group = require_member(conn, user, group_id)
    row = conn.execute(
        select(_s.encrypted_state, _s.changed_ms).where(_s.group == group, _s.user == user)
    ).one_or_none()
    if row is None:
        return MemberState(group_id=group_id)
    return MemberState(group_id=group_id, encrypted_state=row.encrypted_state, changed_at=wire.iso(row.changed_ms))


def put_member_state(conn: Connection, user: int, group_id: str, encrypted_state: str, *, now_ms: int) -> MemberState:
    """Replace the state of a member; the last one that is written stays."""
    # Under the membership's lock: two devices do not both insert, and nobody leaves in between and keeps a row.
    membership = select(_m.user).join(t.groups, t.groups.c.id == _m.group).where(t.groups.c.group_id == group_id)
    conn.execute(membership.where(_m.user == user).with_for_update(of=t.members))
    group = require_member(conn, user, group_id)
    values = {"encrypted_state": encrypted_state, "changed_ms": now_ms}
    if not conn.execute(update(t.member_states).where(_s.group == group, _s.user == user).values(values)).rowcount:
        conn.execute(insert(t.member_states).values({"group": group, "user": user, **values}))
    return MemberState(group_id=group_id, encrypted_state=encrypted_state, changed_at=wire.iso(now_ms))
