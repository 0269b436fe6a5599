"""Devices and their public keys: publish, claim, remove, and announce changes in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from orbital_relay.api import keys as api
from orbital_relay.errors import Conflict, Forbidden, NotFound, ValidationFailed
from orbital_relay.model import (
    LIBSIGNAL,
    AnnounceDevice,
    Announcement,
    AnyDraft,
    ClaimedDevice,
    DeviceKeys,
    GroupId,
    IdempotencyKey,
    KeyKind,
    Principal,
    SignedKey,
    Stock,
    UserId,
)
from orbital_relay.ports import Appended, Clock, Limiter, Store
from orbital_relay.services.forms import read_bytes, read_uuid
from orbital_relay.wire import encode_bytes

CURVE_BYTES: Final = 33
"""A Curve25519 public key behind its type byte."""
CURVE_TYPE: Final = 0x05
KYBER_BYTES: Final = 1569
"""A Kyber1024 public key behind its type byte."""
KYBER_TYPE: Final = 0x08
XWING_BYTES: Final = 1216
"""An X-Wing public key: ML-KEM-768 and X25519."""
SIGNATURE_BYTES: Final = 64

CLAIMS_OF_CALLER: Final = 60
"""One-time keys of one device that one caller is given in an hour."""
CLAIMS_OF_DEVICE: Final = 300
"""One-time keys of one device that all callers together are given in a day."""
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

ANNOUNCE_S: Final = 10.0
"""How often announcements are looked for that a server left behind."""
LEFT_BEHIND_MS: Final = 10_000
"""After so long, the server that changed a device has announced it or has died."""
ANNOUNCED_AT_ONCE: Final = 100
"""Announcements that are read at once: a user's groups, of which most have fewer."""

_FORMS: Final[dict[KeyKind, tuple[int, int | None]]] = {
    "signed_pre_key": (CURVE_BYTES, CURVE_TYPE),
    "pre_keys": (CURVE_BYTES, CURVE_TYPE),
    "kyber_pre_key": (KYBER_BYTES, KYBER_TYPE),
    "kyber_pre_keys": (KYBER_BYTES, KYBER_TYPE),
    "hpke_pre_key": (XWING_BYTES, None),
    "hpke_pre_keys": (XWING_BYTES, None),
}
_LIBSIGNAL_ONLY: Final = ("signed_pre_key", "kyber_pre_key", "pre_keys", "kyber_pre_keys")


class KeysContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the use cases of devices, their keys and mailboxes work with.

    Attributes:
        store: The directory, the mailboxes.
        append: Queues a draft; see `ServiceContext.append`.
        clock: The time.
        limiter: Counts claims.
        changed: Called when a claim may have left a stock low.
        readers: One for each request that waits for a message in a mailbox.
    """

    store: Store
    append: Callable[[AnyDraft], asyncio.Future[Appended]]
    clock: Clock
    limiter: Limiter
    changed: Callable[[], None]
    readers: set[object] = msgspec.field(default_factory=set)


# Chapter: publishing


def read_keys(body: api.KeysBody) -> DeviceKeys:
    """
    Check sizes and first bytes; nothing is verified.

    Raises:
        ValidationFailed: If a field does not have its form; `details.field` names the place.
    """
    keys: dict[KeyKind, list[SignedKey]] = {}
    for kind in _FORMS:
        given = getattr(body, kind)
        some = given if isinstance(given, list) else [] if given is None else [given]
        if some:
            keys[kind] = [
                _read_key(kind, f"{kind}[{at}]" if given is some else kind, key) for at, key in enumerate(some)
            ]
            if len({key.id for key in keys[kind]}) < len(some):
                raise ValidationFailed(f"`{kind}` has an id twice.", field=kind)
    if not body.suites & LIBSIGNAL:
        for field in (*(kind for kind in _LIBSIGNAL_ONLY if kind in keys), "registration_id"):
            if getattr(body, field):
                raise ValidationFailed(f"`{field}` is for suite 1, which `suites` does not have.", field=field)
    return DeviceKeys(
        device_id=body.device_id,
        identity_key=read_bytes("identity_key", body.identity_key, size=CURVE_BYTES, first=CURVE_TYPE),
        suites=body.suites,
        registration_id=body.registration_id,
        keys=keys,
    )


def _read_key(kind: KeyKind, field: str, key: api.PreKey | api.SignedPreKey) -> SignedKey:
    size, first = _FORMS[kind]
    signature = b""
    if isinstance(key, api.SignedPreKey):
        signature = read_bytes(f"{field}.signature", key.signature, size=SIGNATURE_BYTES)
    return SignedKey(key.id, read_bytes(f"{field}.key", key.key, size=size, first=first), signature)


async def changes_identity(room: KeysContext, principal: Principal, keys: DeviceKeys) -> bool:
    """Return whether publishing would be announced to groups: a new device, or another identity key."""
    for own in await room.store.own_devices(principal.key):
        if own.identity_key == keys.identity_key and keys.device_id in {None, own.device_id}:
            return False
    return True


async def publish(
    room: KeysContext, principal: Principal, keys: DeviceKeys, *, idempotency_key: IdempotencyKey | None = None
) -> api.KeysStored:
    """
    Publish a device's keys; when this returns, every group of the caller has the event of what changed.

    Raises:
        ValidationFailed: If a new device lacks keys that its suites need.
        Conflict: If all numbers are in use, or the idempotency key was used for another request.
    """
    published = await room.store.publish_keys(
        principal.key, keys, now_ms=room.clock.wall_ms(), idempotency_key=idempotency_key
    )
    await announce(room, principal.key)
    return api.KeysStored(device_id=published.device_id, counts=counts_of(published.stock))


def counts_of(stock: Stock) -> api.KeyCounts:
    """Return the sizes of stocks as an answer writes them."""
    return api.KeyCounts(
        pre_keys=stock.pre_keys, kyber_pre_keys=stock.kyber_pre_keys, hpke_pre_keys=stock.hpke_pre_keys
    )


async def remove(room: KeysContext, principal: Principal, device_id: int) -> None:
    """
    Remove a device of the caller; when this returns, every group of the caller has the event.

    Raises:
        NotFound: If the caller has no such device.
    """
    await room.store.remove_device(principal.key, device_id, now_ms=room.clock.wall_ms())
    await announce(room, principal.key)


async def announce(room: KeysContext, user: int | None, *, age_ms: int = 0) -> int:
    """
    Append the pending announcements of changes; return how many.

    A change is stored with its announcements, and each is deleted with its event: a server that dies in between leaves
    them to the next round of any server.

    Args:
        room: What to work with.
        user: The row number of the user whose devices changed; None for all users.
        age_ms: Leave alone what is younger: the server that stored it is about to announce it.
    """
    announced = 0
    # One is added since a change of this very millisecond is to be announced.
    before_ms = room.clock.wall_ms() - age_ms + 1
    while True:
        pending = await room.store.pending_announcements(user=user, before_ms=before_ms, limit=ANNOUNCED_AT_ONCE)
        outcomes = await asyncio.gather(*(room.append(_draft(room, each)) for each in pending), return_exceptions=True)
        for outcome in outcomes:
            # Another server was first, or the user has left the group since.
            if isinstance(outcome, BaseException) and not isinstance(outcome, Conflict | Forbidden | NotFound):
                raise outcome
        announced += len(pending)
        if len(pending) < ANNOUNCED_AT_ONCE:
            return announced


def _draft(room: KeysContext, announcement: Announcement) -> AnnounceDevice:
    return AnnounceDevice(
        actor=Principal(announcement.user, announcement.user_id, announcement.username, expires_at_s=0),
        at_ms=room.clock.wall_ms(),
        announcement=announcement.number,
        group_id=announcement.group_id,
        device_id=announcement.device_id,
        change=announcement.change,
        identity_key=encode_bytes(announcement.identity_key),
    )


# Chapter: claiming


async def claim(
    room: KeysContext, principal: Principal, body: api.ClaimBody, *, idempotency_key: IdempotencyKey | None = None
) -> api.Bundles:
    """
    Take a bundle of keys for each device.

    Over the limits the last resort is given: a flood of claims uses up no stock, and cuts nobody off.

    Raises:
        ValidationFailed: If an id does not have its form, or a device is named twice.
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
        Conflict: If the idempotency key was used for another request.
    """
    group_id = GroupId(read_uuid("group_id", body.group_id))
    if len({(one.user_id, one.device_id) for one in body.devices}) < len(body.devices):
        raise ValidationFailed("`devices` names a device twice.", field="devices")
    now_ms = room.clock.wall_ms()
    wanted = [ClaimedDevice(UserId(one.user_id), one.device_id, one.suite) for one in body.devices]
    there = await room.store.claimable(principal.key, group_id, wanted, now_ms=now_ms, idempotency_key=idempotency_key)
    wanted = await asyncio.gather(*(_within_limits(room, principal, one) for one in there))
    bundles = await room.store.claim_keys(
        principal.key, group_id, wanted, now_ms=now_ms, idempotency_key=idempotency_key
    )
    room.changed()
    return bundles


async def _within_limits(room: KeysContext, principal: Principal, one: ClaimedDevice) -> ClaimedDevice:
    """Count a claim; over a limit it is one of the last resort."""
    device, hit = f"{one.user_id}/{one.device_id}", room.limiter.hit
    wait_s = await hit("claim", f"{principal.user_id} {device}", limit=CLAIMS_OF_CALLER, window_s=HOUR_S)
    if wait_s is None:
        wait_s = await hit("claim.device", device, limit=CLAIMS_OF_DEVICE, window_s=DAY_S)
    return one if wait_s is None else msgspec.structs.replace(one, one_time=False)


# Chapter: reading


async def devices(
    room: KeysContext, principal: Principal, group_id: GroupId, *, limit: int, offset: int
) -> api.Devices:
    """
    Return a page of the devices of a group's members.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await room.store.devices(principal.key, group_id, limit=limit, offset=offset)


async def own(room: KeysContext, principal: Principal) -> api.OwnDevices:
    """Return the caller's devices with the sizes of their stocks."""
    return api.OwnDevices(
        devices=[
            api.OwnKeys(
                device_id=device.device_id,
                pre_keys=device.stock.pre_keys,
                kyber_pre_keys=device.stock.kyber_pre_keys,
                hpke_pre_keys=device.stock.hpke_pre_keys,
            )
            for device in await room.store.own_devices(principal.key)
        ]
    )
