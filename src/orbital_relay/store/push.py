"""Push subscriptions, their claims by servers, and how far each device was notified."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from orbital_relay.errors import Conflict, NotFound
from orbital_relay.model import ClaimedPush, PushOutcome, PushPreferences, PushTarget, UserId
from orbital_relay.store import tables as t

MOST_SUBSCRIPTIONS: Final = 20
"""Subscriptions of a user: each browser of each device has one."""

_s, _p, _g, _m = t.push_subscriptions.c, t.push_positions.c, t.groups.c, t.members.c

_decode_preferences = msgspec.json.Decoder(PushPreferences).decode


def stored_vapid_key(conn: Connection) -> bytes | None:
    """Return the private key of this database, None before the first is made."""
    key = t.vapid_keys.c
    found = conn.execute(select(key.private_key).where(key.number == 1)).scalar_one_or_none()
    return None if found is None else bytes(found)


def enter_vapid_key(conn: Connection, draft: bytes) -> bytes:
    """Store a private key if there is none; return the stored one."""
    found = stored_vapid_key(conn)
    if found is not None:
        return found
    values = {"number": 1, "private_key": draft}
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: PLC0415 - only where it is spoken

        conn.execute(upsert(t.vapid_keys).values(values).on_conflict_do_nothing())
    else:
        conn.execute(insert(t.vapid_keys).values(values))
    return bytes(conn.execute(select(t.vapid_keys.c.private_key)).scalar_one())


# Chapter: subscribing


def put_subscription(
    conn: Connection,
    user: int,
    target: PushTarget,
    preferences: PushPreferences,
    *,
    device_id: int | None,
    login_id: str,
    new_id: str,
    now_ms: int,
) -> str:
    """Store a subscription, or replace one; see `ports.PushStore.put_subscription`."""
    # One change of a user's subscriptions follows another: their number has a bound.
    conn.execute(select(t.users.c.id).where(t.users.c.id == user).with_for_update(key_share=True)).one()
    found = conn.execute(select(t.push_subscriptions).where(_s.endpoint == target.endpoint).with_for_update()).first()
    if found is not None and found.user != user:
        # Another member of the same browser: only that browser knows the keys. Its calls begin now.
        if (bytes(found.p256dh), bytes(found.auth)) != (target.p256dh, target.auth):
            raise Conflict("Another user holds this endpoint, with other keys. Subscribe again in the browser.")
        _forget(conn, _s.id == found.id)
        found = None
    values: dict[str, Any] = {
        "p256dh": target.p256dh,
        "auth": target.auth,
        "device_id": device_id,
        "login_id": login_id,
        "preferences": msgspec.json.encode(preferences).decode(),
        "stored_ms": now_ms,
        # A device that is here again is reached again, and its quiet hours may be others.
        "wait_until_ms": 0,
        "failures": 0,
    }
    if found is not None:
        conn.execute(update(t.push_subscriptions).where(_s.id == found.id).values(values))
        return str(found.subscription_id)
    values |= {"subscription_id": new_id, "user": user, "endpoint": target.endpoint}
    number = conn.execute(insert(t.push_subscriptions).values(values).returning(_s.id)).scalar_one()
    heads = select(_g.id, _g.last_seq).join(t.members, _m.group == _g.id).where(_m.user == user)
    positions = [{"subscription": number, "group": group, "seq": seq} for group, seq in conn.execute(heads).all()]
    if positions:
        conn.execute(insert(t.push_positions), positions)
    kept = select(_s.id).where(_s.user == user).order_by(_s.stored_ms.desc(), _s.id.desc()).limit(MOST_SUBSCRIPTIONS)
    _forget(conn, and_(_s.user == user, _s.id.not_in(conn.execute(kept).scalars().all())))
    return new_id


def delete_subscription(conn: Connection, user: int, subscription_id: str) -> None:
    """
    Delete a subscription.

    Raises:
        NotFound: If the user has no such subscription.
    """
    _forget(conn, _s.id == _own(conn, user, subscription_id))


def note_received(
    conn: Connection, user: int, subscription_id: str, seqs: Mapping[str, int], *, looking_until_ms: int
) -> None:
    """Move the positions of a device forward, and note until when it is not called; see `ports.PushStore`."""
    number = _own(conn, user, subscription_id)
    conn.execute(update(t.push_subscriptions).where(_s.id == number).values(looking_until_ms=looking_until_ms))
    if not seqs:
        return
    mine = (
        select(_g.id, _g.group_id, _g.last_seq)
        .join(t.members, _m.group == _g.id)
        .where(_m.user == user, _g.group_id.in_(list(seqs)))
    )
    for group, group_id, last_seq in conn.execute(mine).all():
        _reach(conn, number, group, min(seqs[group_id], last_seq))


def _own(conn: Connection, user: int, subscription_id: str) -> int:
    """Return the row of a user's subscription, locked."""
    row = conn.execute(
        select(_s.id).where(_s.user == user, _s.subscription_id == subscription_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("You have no such subscription. Subscribe again: PUT /api/push/subscriptions.")
    return int(row.id)


def _reach(conn: Connection, subscription: int, group: int, seq: int) -> None:
    """Move a position, forward only; the subscription's row is locked, or claimed."""
    here = and_(_p.subscription == subscription, _p.group == group)
    higher = case((_p.seq < seq, seq), else_=_p.seq)
    if not conn.execute(update(t.push_positions).where(here).values(seq=higher)).rowcount:
        conn.execute(insert(t.push_positions).values(subscription=subscription, group=group, seq=seq))


def _forget(conn: Connection, which: ColumnElement[bool]) -> None:
    numbers = select(_s.id).where(which)
    conn.execute(delete(t.push_positions).where(_p.subscription.in_(numbers)))
    conn.execute(delete(t.push_subscriptions).where(which))


def forget_user(conn: Connection, user: int | ScalarSelect[int]) -> None:
    """Delete all subscriptions of a user."""
    _forget(conn, _s.user == user)


def forget_login(conn: Connection, login_id: str) -> None:
    """Delete the subscriptions of a login that has ended."""
    _forget(conn, _s.login_id == login_id)


def forget_device(conn: Connection, user: int, device_id: int) -> None:
    """Delete the subscriptions of a device that was removed."""
    _forget(conn, and_(_s.user == user, _s.device_id == device_id))


# Chapter: calling

_POSITION: Final = case((func.coalesce(_p.seq, 0) < _m.joined_seq, _m.joined_seq), else_=_p.seq)
"""How far a device was notified in a group; a member who joined again is not notified of events in between."""


def _due(*, now_ms: int, free_ms: int) -> ColumnElement[bool]:
    behind = (
        select(_m.group)
        .join(t.groups, _g.id == _m.group)
        .outerjoin(t.push_positions, and_(_p.subscription == _s.id, _p.group == _m.group))
        .where(_m.user == _s.user, _g.last_seq != _POSITION)
        .correlate(t.push_subscriptions)
    )
    here = select(t.users.c.id).where(t.users.c.id == _s.user, t.users.c.disabled_ms.is_(None))
    login = select(t.logins.c.id).where(t.logins.c.login_id == _s.login_id)
    return and_(
        or_(_s.login_id == "", exists(login.correlate(t.push_subscriptions))),
        _s.wait_until_ms <= now_ms,
        _s.looking_until_ms <= now_ms,
        _s.claimed_until_ms <= free_ms,
        exists(here.correlate(t.push_subscriptions)),
        exists(behind),
    )


def due_pushes(conn: Connection, *, now_ms: int, free_ms: int, limit: int) -> list[int]:
    """Return subscriptions that may be called now; see `ports.PushStore.due_pushes`."""
    due = select(_s.id).where(_due(now_ms=now_ms, free_ms=free_ms)).order_by(_s.id).limit(limit)
    return [int(number) for number in conn.execute(due).scalars()]


def claim_pushes(
    conn: Connection, numbers: Sequence[int], *, now_ms: int, free_ms: int, until_ms: int
) -> list[ClaimedPush]:
    """Claim subscriptions that are still due; see `ports.PushStore.claim_pushes`."""
    # Rows that another server is claiming are passed over: it calls them.
    locked = conn.execute(_still_due(numbers, now_ms=now_ms, free_ms=free_ms)).all()
    claimed = []
    for row in locked:
        positions = (
            select(_m.group, _g.group_id, _g.last_seq, _POSITION.label("seq"))
            .join(t.groups, _g.id == _m.group)
            .outerjoin(t.push_positions, and_(_p.subscription == row.id, _p.group == _m.group))
            .where(_m.user == row.user, _g.last_seq != _POSITION)
        )
        behind = {}
        for group, group_id, last_seq, seq in conn.execute(positions).all():
            if seq > last_seq:
                # The database went back to an older state.
                here = and_(_p.subscription == row.id, _p.group == group)
                conn.execute(update(t.push_positions).where(here).values(seq=last_seq))
            else:
                behind[str(group_id)] = int(seq)
        conn.execute(update(t.push_subscriptions).where(_s.id == row.id).values(claimed_until_ms=until_ms))
        target = PushTarget(row.endpoint, bytes(row.p256dh), bytes(row.auth))
        preferences = _decode_preferences(row.preferences)
        claimed.append(ClaimedPush(row.id, UserId(row.user_id), target, preferences, row.failures, behind))
    return claimed


def _still_due(numbers: Sequence[int], *, now_ms: int, free_ms: int) -> Select[Any]:
    return (
        select(t.push_subscriptions, t.users.c.user_id)
        .join(t.users, t.users.c.id == _s.user)
        .where(_s.id.in_(list(numbers)), _due(now_ms=now_ms, free_ms=free_ms))
        .order_by(_s.id)
        .with_for_update(of=t.push_subscriptions, skip_locked=True)
    )


def store_outcomes(conn: Connection, outcomes: Sequence[PushOutcome]) -> None:
    """Store what came of claims, and end them; see `ports.PushStore.store_outcomes`."""
    # In one order: two servers that store outcomes at once wait for each other, never in a circle.
    for outcome in sorted(outcomes, key=lambda each: each.number):
        row = conn.execute(select(_s.id).where(_s.id == outcome.number).with_for_update()).one_or_none()
        if row is None:
            continue
        if outcome.gone:
            _forget(conn, _s.id == outcome.number)
            continue
        groups = select(_g.id, _g.group_id).where(_g.group_id.in_(list(outcome.reached)))
        for group, group_id in conn.execute(groups).all() if outcome.reached else ():
            _reach(conn, outcome.number, group, outcome.reached[group_id])
        conn.execute(
            update(t.push_subscriptions)
            .where(_s.id == outcome.number)
            .values(claimed_until_ms=0, failures=outcome.failures, wait_until_ms=outcome.wait_until_ms)
        )


def thread_titles(conn: Connection, thread_ids: Collection[str]) -> dict[str, str]:
    """Return the encrypted titles of threads that exist."""
    th = t.threads.c
    rows = conn.execute(select(th.thread_id, th.encrypted_title).where(th.thread_id.in_(list(thread_ids))))
    return {str(thread_id): str(title) for thread_id, title in rows}


def check_push(conn: Connection) -> list[str]:
    """Return a sentence for each subscription whose stored form is wrong, and for each position beyond its group."""
    found = []
    for row in conn.execute(select(_s.id, _s.p256dh, _s.auth, _s.preferences).order_by(_s.id)):
        try:
            _decode_preferences(row.preferences)
        except msgspec.MsgspecError as exc:
            found.append(f"subscription {row.id} has preferences that cannot be read: {exc}")
        if (len(row.p256dh), len(row.auth)) != (65, 16):
            found.append(f"subscription {row.id} has keys of the wrong size")
    beyond = (
        select(_p.subscription, _g.group_id, _p.seq, _g.last_seq)
        .join(t.groups, _g.id == _p.group)
        .where(_p.seq > _g.last_seq)
        .order_by(_p.subscription, _p.group)
    )
    for number, group_id, seq, last_seq in conn.execute(beyond):
        found.append(f"subscription {number} was called up to {seq} in group {group_id}, which ends at {last_seq}")
    return found
