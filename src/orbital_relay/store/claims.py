"""Claims of one-time keys (pre-keys): each key is returned once, by any server; keys of last resort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, insert, select, text

from orbital_relay import wire
from orbital_relay.api import keys as api
from orbital_relay.model import LIBSIGNAL, ClaimedDevice, IdempotencyKey, KeyKind, OneTimeKind, SignedKey, Stock, UserId
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.directory import with_stocks
from orbital_relay.store.keys import first_answer, remember_answer

HPKE: Final = 16
"""The suite of a delivery by HPKE; 1 is a session of libsignal."""

_TAKE: Final = """
DELETE FROM pre_keys WHERE device = :device AND kind = :kind AND key_id = (
    SELECT key_id FROM pre_keys WHERE device = :device AND kind = :kind ORDER BY key_id LIMIT 1 {skip}
) RETURNING key_id, "key", signature
"""
# PostgreSQL: a key that another transaction is taking is passed over, so no claim waits for another, and none gets the
# same row. SQLite has one writer at a time.
_TAKE_POSTGRES: Final = text(_TAKE.format(skip="FOR UPDATE SKIP LOCKED"))
_TAKE_SQLITE: Final = text(_TAKE.format(skip=""))


class _Taken(msgspec.Struct, array_like=True):
    """
    What a claim took for one device: all that cannot be read again.

    An answer under an idempotency key is kept as these and not as bundles: keys of last resort would fill the database
    at the callers' will, while one-time keys are as many as devices published.
    """

    user_id: UserId
    device_id: int
    suite: int
    keys: dict[OneTimeKind, SignedKey]


_decode_taken = msgspec.json.Decoder(list[_Taken]).decode


def claimable(
    conn: Connection,
    user: int,
    group_id: str,
    devices: Sequence[ClaimedDevice],
    *,
    now_ms: int,
    idempotency_key: IdempotencyKey | None = None,
) -> list[ClaimedDevice]:
    """Return those of the devices from which a claim would take keys; see `ports.KeyDirectory.claimable`."""
    if first_answer(conn, user, idempotency_key, now_ms=now_ms) is not None:
        return []
    group = require_member(conn, user, group_id)
    there = {(row.user_id, row.device_id): row for row in conn.execute(_present(group, devices))}
    return [
        one
        for one in devices
        if (row := there.get((one.user_id, one.device_id))) and (one.suite == HPKE or row.suites & LIBSIGNAL)
    ]


def claim_keys(
    conn: Connection,
    user: int,
    group_id: str,
    devices: Sequence[ClaimedDevice],
    *,
    now_ms: int,
    idempotency_key: IdempotencyKey | None = None,
) -> api.Bundles:
    """Take keys for devices of a group's members; see `ports.KeyDirectory.claim_keys`."""
    first = first_answer(conn, user, idempotency_key, now_ms=now_ms)
    group = require_member(conn, user, group_id)
    wanted = (
        [ClaimedDevice(one.user_id, one.device_id, one.suite) for one in _decode_taken(first)] if first else devices
    )
    rows = _rows(conn, group, wanted)
    if first is not None:
        taken = _decode_taken(first)
    else:
        taken = [
            _take(conn, row, one) for one in devices if (row := rows.get((one.user_id, one.device_id))) is not None
        ]
        _note_low(conn, {rows[one.user_id, one.device_id].id for one in taken if one.keys}, now_ms=now_ms)
        remember_answer(conn, user, idempotency_key, msgspec.json.encode(taken), now_ms=now_ms)
    fixed = _fixed(conn, [row.id for row in rows.values()])
    bundles = [
        bundle
        for one in taken
        if (row := rows.get((one.user_id, one.device_id))) is not None
        and (bundle := _bundle(one, row, fixed.get(row.id, {}))) is not None
    ]
    return api.Bundles(bundles=bundles)


def _present(group: int, devices: Sequence[ClaimedDevice]) -> Select[Any]:
    """Select the devices of those users, as far as they are in the group."""
    d = t.devices.c
    return (
        select(t.users.c.user_id, d.id, d.device_id, d.identity_key, d.suites, d.registration_id)
        .join(t.users, t.users.c.id == d.user)
        .join(t.members, t.members.c.user == d.user)
        .where(t.members.c.group == group, t.users.c.user_id.in_(sorted({one.user_id for one in devices})))
        .order_by(d.id)
    )


def _rows(conn: Connection, group: int, devices: Sequence[ClaimedDevice]) -> dict[tuple[str, int], Row[Any]]:
    """
    Return the rows of those devices whose users are in the group.

    They are locked against publishing, in the order of row numbers: identity key and keys of a bundle belong together.
    """
    found = conn.execute(_present(group, devices).with_for_update(read=True, of=t.devices)).all()
    asked = {(one.user_id, one.device_id) for one in devices}
    return {key: row for row in found if (key := (row.user_id, row.device_id)) in asked}


def _take(conn: Connection, row: Row[Any], one: ClaimedDevice) -> _Taken:
    taken = _Taken(one.user_id, one.device_id, one.suite, {})
    if not one.one_time or (one.suite != HPKE and not row.suites & LIBSIGNAL):
        return taken
    take = _TAKE_POSTGRES if conn.dialect.name == "postgresql" else _TAKE_SQLITE
    kinds: tuple[OneTimeKind, ...] = ("hpke_pre_keys",) if one.suite == HPKE else ("pre_keys", "kyber_pre_keys")
    for kind in kinds:
        key = conn.execute(take, {"device": row.id, "kind": kind}).one_or_none()
        if key is not None:
            taken.keys[kind] = SignedKey(key.key_id, bytes(key.key), bytes(key.signature))
    return taken


def _note_low(conn: Connection, devices: set[int], *, now_ms: int) -> None:
    """Note the devices of which a stock is low now, for the notice to their users."""
    d, low = t.devices.c, t.low_stocks
    rows = conn.execute(with_stocks(d.id, d.suites).where(d.id.in_(devices)).order_by(d.id)).all()
    for device, suites, *counts in rows:
        if not Stock(*map(int, counts)).is_low(suites):
            continue
        noted = {"device": device, "since_ms": now_ms}
        if conn.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: PLC0415 - only where it is spoken

            conn.execute(upsert(low).values(noted).on_conflict_do_nothing())
        elif conn.execute(select(low.c.device).where(low.c.device == device)).one_or_none() is None:
            conn.execute(insert(low).values(noted))


def _fixed(conn: Connection, devices: Sequence[int]) -> dict[int, dict[KeyKind, SignedKey]]:
    p = t.pre_keys.c
    found: dict[int, dict[KeyKind, SignedKey]] = {}
    kinds = ["signed_pre_key", "kyber_pre_key", "hpke_pre_key"]
    for row in conn.execute(select(t.pre_keys).where(p.device.in_(devices), p.kind.in_(kinds))):
        found.setdefault(row.device, {})[row.kind] = SignedKey(row.key_id, bytes(row.key), bytes(row.signature))
    return found


def _bundle(one: _Taken, row: Row[Any], fixed: dict[KeyKind, SignedKey]) -> api.Bundle | None:
    """Put a bundle together; None when the device does not have the suite."""
    if one.suite == HPKE:
        hpke = one.keys.get("hpke_pre_keys")
        return api.Bundle(
            user_id=one.user_id,
            device_id=one.device_id,
            suite=one.suite,
            identity_key=wire.encode_bytes(row.identity_key),
            last_resort=hpke is None,
            hpke_pre_key=_signed(hpke or fixed.get("hpke_pre_key")),
        )
    if not row.suites & LIBSIGNAL:
        return None
    classic, kyber = one.keys.get("pre_keys"), one.keys.get("kyber_pre_keys")
    return api.Bundle(
        user_id=one.user_id,
        device_id=one.device_id,
        suite=one.suite,
        identity_key=wire.encode_bytes(row.identity_key),
        last_resort=kyber is None,
        registration_id=row.registration_id,
        pre_key=None if classic is None else api.PreKey(classic.id, wire.encode_bytes(classic.key)),
        signed_pre_key=_signed(fixed.get("signed_pre_key")),
        kyber_pre_key=_signed(kyber or fixed.get("kyber_pre_key")),
    )


def _signed(key: SignedKey | None) -> api.SignedPreKey | None:
    return (
        None if key is None else api.SignedPreKey(key.id, wire.encode_bytes(key.key), wire.encode_bytes(key.signature))
    )
