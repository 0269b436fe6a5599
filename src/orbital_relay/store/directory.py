"""The directory of devices: published keys, announcements, and low stocks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, get_args

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, case, delete, func, insert, literal, or_, select, update

from orbital_relay import wire
from orbital_relay.api import keys as api
from orbital_relay.core.refusals import no_device
from orbital_relay.errors import Conflict, ValidationFailed
from orbital_relay.model import (
    LIBSIGNAL,
    STOCKS,
    Announcement,
    DeviceKeys,
    IdempotencyKey,
    KeyKind,
    LowDevice,
    OneTimeKind,
    OwnDevice,
    PublishedDevice,
    Stock,
)
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.keys import first_answer, remember_answer
from orbital_relay.store.push import forget_device

MOST_DEVICES: Final = 127
"""Devices of a user; a device's number is one byte in what clients encrypt, and libsignal's numbers end there."""

_decode_published = msgspec.json.Decoder(PublishedDevice).decode

# Chapter: publishing


def publish_keys(
    conn: Connection, user: int, keys: DeviceKeys, *, now_ms: int, idempotency_key: IdempotencyKey | None = None
) -> PublishedDevice:
    """Enter a device, or replace and add to what it offers; see `ports.KeyDirectory.publish_keys`."""
    first = first_answer(conn, user, idempotency_key, now_ms=now_ms)
    if first is not None:
        return _decode_published(first)
    _lock(conn, user)
    device_id = keys.device_id or _number_for(conn, user, keys.identity_key)
    found = conn.execute(
        select(t.devices).where(t.devices.c.user == user, t.devices.c.device_id == device_id).with_for_update()
    ).one_or_none()
    device = _enter(conn, user, device_id, keys, found, now_ms=now_ms)
    _store(conn, device, keys)
    stock = _stock(conn, device)
    if not stock.is_low(keys.suites):
        conn.execute(delete(t.low_stocks).where(t.low_stocks.c.device == device))
    published = PublishedDevice(device_id, stock)
    remember_answer(conn, user, idempotency_key, msgspec.json.encode(published), now_ms=now_ms)
    return published


def _lock(conn: Connection, user: int) -> None:
    """Let one change of a user's devices follow another: numbers are given once, and each change is announced."""
    # NO KEY UPDATE lets rows that refer to the user be written meanwhile.
    conn.execute(select(t.users.c.id).where(t.users.c.id == user).with_for_update(key_share=True)).one()


def _number_for(conn: Connection, user: int, identity_key: bytes) -> int:
    d = t.devices.c
    numbers = {row.device_id: row.identity_key for row in conn.execute(
        select(d.device_id, d.identity_key).where(d.user == user)
    )}  # fmt: skip
    for device_id, known in sorted(numbers.items()):
        # A first answer that was lost: the device would enter itself twice.
        if bytes(known) == identity_key:
            return int(device_id)
    for device_id in range(1, MOST_DEVICES + 1):
        if device_id not in numbers:
            return device_id
    raise Conflict(f"All {MOST_DEVICES} device numbers are in use. Remove a device that is no longer used.")


def _enter(
    conn: Connection, user: int, device_id: int, keys: DeviceKeys, found: Row[Any] | None, *, now_ms: int
) -> int:
    """Write the device's row and its announcements; return its row number."""
    row = {"identity_key": keys.identity_key, "suites": keys.suites, "seen_ms": now_ms}
    if keys.registration_id is not None or not keys.suites & LIBSIGNAL:
        row["registration_id"] = keys.registration_id
    if found is None:
        _require_whole(keys)
        values = {**row, "user": user, "device_id": device_id}
        device = int(conn.execute(insert(t.devices).values(values).returning(t.devices.c.id)).scalar_one())
        _announce(conn, user, device_id, "added", keys.identity_key, now_ms=now_ms)
        return device
    device = int(found.id)
    if bytes(found.identity_key) != keys.identity_key:
        _require_whole(keys)
        row["registration_id"] = keys.registration_id
        # The old keys are signed by a key that the device no longer has.
        conn.execute(delete(t.pre_keys).where(t.pre_keys.c.device == device))
        _announce(conn, user, device_id, "identity", keys.identity_key, now_ms=now_ms)
    elif not keys.suites & LIBSIGNAL:
        hpke = t.pre_keys.c.kind.in_(["hpke_pre_key", "hpke_pre_keys"])
        conn.execute(delete(t.pre_keys).where(t.pre_keys.c.device == device, ~hpke))
    elif not found.suites & LIBSIGNAL:
        _require_whole(keys)
    conn.execute(update(t.devices).where(t.devices.c.id == device).values(row))
    return device


def _require_whole(keys: DeviceKeys) -> None:
    needed: list[KeyKind] = ["hpke_pre_key"]
    if keys.suites & LIBSIGNAL:
        needed += ["signed_pre_key", "kyber_pre_key"]
        if keys.registration_id is None:
            raise ValidationFailed("`registration_id` is missing: suite 1 needs it.", field="registration_id")
    for field in needed:
        if not keys.keys.get(field):
            raise ValidationFailed(
                f"`{field}` is missing: a new device, a new identity key and a new suite need it.", field=field
            )


def _store(conn: Connection, device: int, keys: DeviceKeys) -> None:
    p = t.pre_keys.c
    for kind, some in keys.keys.items():
        stock = kind in STOCKS
        of_kind = (p.device == device) & (p.kind == kind)
        replaced = of_kind & p.key_id.in_([each.id for each in some]) if stock else of_kind
        conn.execute(delete(t.pre_keys).where(replaced))
        if some:
            conn.execute(
                insert(t.pre_keys),
                [
                    {"device": device, "kind": kind, "key_id": key.id, "key": key.key, "signature": key.signature}
                    for key in some
                ],
            )
        if stock:
            newest = select(p.key_id).where(of_kind).order_by(p.key_id.desc()).limit(STOCKS[kind])
            conn.execute(delete(t.pre_keys).where(of_kind, p.key_id.not_in(newest)))


def _announce(conn: Connection, user: int, device_id: int, change: str, identity_key: bytes, *, now_ms: int) -> None:
    """Store an announcement for each group of the user."""
    what = [literal(device_id), literal(change), literal(identity_key), literal(now_ms)]
    groups = select(t.members.c.user, t.members.c.group, *what).where(t.members.c.user == user)
    columns = ["user", "group", "device_id", "change", "identity_key", "at_ms"]
    conn.execute(insert(t.announcements).from_select(columns, groups))


def remove_device(conn: Connection, user: int, device_id: int, *, now_ms: int) -> None:
    """
    Remove a device with all of its keys.

    Raises:
        NotFound: If the user has no such device.
    """
    _lock(conn, user)
    d = t.devices.c
    row = conn.execute(
        select(d.id, d.identity_key).where(d.user == user, d.device_id == device_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise no_device()
    conn.execute(delete(t.pre_keys).where(t.pre_keys.c.device == row.id))
    conn.execute(delete(t.low_stocks).where(t.low_stocks.c.device == row.id))
    conn.execute(delete(t.devices).where(d.id == row.id))
    forget_device(conn, user, device_id)
    _announce(conn, user, device_id, "removed", bytes(row.identity_key), now_ms=now_ms)


def pending_announcements(conn: Connection, *, user: int | None, before_ms: int, limit: int) -> list[Announcement]:
    """Return announcements without an event yet, oldest first; those of a user who has left are dropped."""
    a = t.announcements.c
    mine = (a.at_ms < before_ms) if user is None else (a.at_ms < before_ms) & (a.user == user)
    rows = conn.execute(
        select(t.announcements, t.users.c.user_id, t.users.c.username, t.groups.c.group_id, t.members.c.joined_seq)
        .join(t.users, t.users.c.id == a.user)
        .join(t.groups, t.groups.c.id == a.group)
        .outerjoin(t.members, (t.members.c.user == a.user) & (t.members.c.group == a.group))
        .where(mine)
        .order_by(a.id)
        .limit(limit)
    ).all()
    left = [row.id for row in rows if row.joined_seq is None]
    if left:
        conn.execute(delete(t.announcements).where(a.id.in_(left)))
    return [
        Announcement(
            number=row.id,
            user=row.user,
            user_id=row.user_id,
            username=row.username,
            group_id=row.group_id,
            device_id=row.device_id,
            change=row.change,
            identity_key=bytes(row.identity_key),
        )
        for row in rows
        if row.joined_seq is not None
    ]


# Chapter: reading


def _counts() -> list[ColumnElement[int]]:
    return [func.coalesce(func.sum(case((t.pre_keys.c.kind == kind, 1), else_=0)), 0) for kind in get_args(OneTimeKind)]


def _stock(conn: Connection, device: int) -> Stock:
    row = conn.execute(select(*_counts()).where(t.pre_keys.c.device == device)).one()
    return Stock(*(int(count) for count in row))


def with_stocks(*columns: ColumnElement[Any]) -> Select[Any]:
    """Select columns of devices, and behind them the sizes of their stocks, in the order of `Stock`."""
    return (
        select(*columns, *_counts())
        .select_from(t.devices.outerjoin(t.pre_keys, t.pre_keys.c.device == t.devices.c.id))
        .group_by(t.devices.c.id)
    )


def own_devices(conn: Connection, user: int) -> list[OwnDevice]:
    """Return a user's devices, by number."""
    d = t.devices.c
    rows = conn.execute(with_stocks(d.device_id, d.identity_key, d.suites).where(d.user == user).order_by(d.device_id))
    return [
        OwnDevice(device_id, bytes(identity_key), suites, Stock(*map(int, counts)))
        for device_id, identity_key, suites, *counts in rows
    ]


def low_devices(conn: Connection, *, users: Collection[int], since_ms: int) -> list[LowDevice]:
    """Return the devices with a low stock: of those users, and those that claims left low after a moment."""
    d, low = t.devices.c, t.low_stocks.c
    claims = select(low.device, low.since_ms).where(low.since_ms > since_ms)
    noted: dict[int, int] = {row.device: row.since_ms for row in conn.execute(claims)}
    asked = or_(d.user.in_(list(users)), d.id.in_(list(noted)))
    rows = conn.execute(with_stocks(d.id, d.user, d.device_id, d.suites).where(asked).order_by(d.id))
    found = [
        (LowDevice(user, device_id, Stock(*map(int, counts)), noted.get(number, 0)), suites)
        for number, user, device_id, suites, *counts in rows
    ]
    return [device for device, suites in found if device.stock.is_low(suites)]


def devices(conn: Connection, user: int, group_id: str, *, limit: int, offset: int) -> api.Devices:
    """Answer `GET /v1/keys/devices`, in the order in which devices were added."""
    group = require_member(conn, user, group_id)
    d = t.devices.c
    rows = conn.execute(
        select(t.users.c.user_id, d.device_id, d.identity_key, d.suites, d.seen_ms)
        .join(t.users, t.users.c.id == d.user)
        .join(t.members, t.members.c.user == d.user)
        .where(t.members.c.group == group)
        .order_by(d.id)
        .limit(limit + 1)
        .offset(offset)
    ).all()
    return api.Devices(
        devices=[
            api.Device(
                user_id=row.user_id,
                device_id=row.device_id,
                identity_key=wire.encode_bytes(row.identity_key),
                suites=row.suites,
                seen_at=wire.iso(row.seen_ms),
            )
            for row in rows[:limit]
        ],
        has_more=len(rows) > limit,
    )


def check_directory(conn: Connection) -> list[str]:
    """Return a sentence for each device whose keys are not as publishing leaves them."""
    d, p = t.devices.c, t.pre_keys.c
    found = []
    per_kind = select(p.device, p.kind, func.count().label("count")).group_by(p.device, p.kind)
    counted: dict[int, dict[str, int]] = {}
    for device, kind, count in conn.execute(per_kind):
        counted.setdefault(device, {})[kind] = int(count)
    rows = conn.execute(
        select(t.users.c.user_id, d.id, d.device_id, d.suites).join(t.users, t.users.c.id == d.user).order_by(d.id)
    )
    for row in rows:
        has, name = counted.get(row.id, {}), f"device {row.device_id} of {row.user_id}"
        needed = ["hpke_pre_key", *(["signed_pre_key", "kyber_pre_key"] if row.suites & LIBSIGNAL else [])]
        found += [
            f"{name} has {has.get(kind, 0)} keys of the kind {kind}, not 1" for kind in needed if has.get(kind) != 1
        ]
        found += [
            f"{name} has {has[kind]} {kind}, over {most}" for kind, most in STOCKS.items() if has.get(kind, 0) > most
        ]
    return found
