"""Subscriptions to push messages."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from orbital_relay.api.push import Mute, PushKey, PushSubscriptionBody, PushSubscriptionStored, SeenBody
from orbital_relay.core.endpoint import endpoint_fault
from orbital_relay.errors import NotFound, ValidationFailed
from orbital_relay.model import Principal, PushPreferences, PushTarget, QuietHours
from orbital_relay.ports import Clock, Store
from orbital_relay.services.forms import new_id, read_bytes, read_uuid

POINT_BYTES: Final = 65
"""A point of P-256, uncompressed, behind its type byte."""
POINT_TYPE: Final = 0x04
AUTH_BYTES: Final = 16
LOOKING_MS: Final = 90_000
"""How long a device counts as looked at after it said so; a page says so every 40 s."""


class PushContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the use cases of push messages work with.

    Attributes:
        store: The subscriptions.
        clock: The time.
        public_key: The server's public key in base64url; None where push messages are switched off.
        networks: Private networks in which push services may be.
    """

    store: Store
    clock: Clock
    public_key: str | None
    networks: tuple[IPv4Network | IPv6Network, ...]


def key(room: PushContext) -> PushKey:
    """
    Return the public key that a device subscribes with.

    Raises:
        NotFound: If push messages are switched off.
    """
    if room.public_key is None:
        raise NotFound("This server sends no push messages (ORBITAL_PUSH is off).")
    return PushKey(public_key=room.public_key)


async def subscribe(room: PushContext, principal: Principal, body: PushSubscriptionBody) -> PushSubscriptionStored:
    """
    Store a subscription, or replace what is stored of its endpoint.

    Raises:
        NotFound: If push messages are switched off.
        ValidationFailed: If a field does not have its form, or the endpoint is in a private network.
        Conflict: If another user holds the endpoint with other keys.
    """
    key(room)
    fault = endpoint_fault(body.endpoint, room.networks)
    if fault is not None:
        raise ValidationFailed(f"`endpoint` {fault}.", field="endpoint")
    point = read_bytes("keys.p256dh", body.keys.p256dh, size=POINT_BYTES, first=POINT_TYPE)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as exc:
        raise ValidationFailed("`keys.p256dh` is not a point of P-256.", field="keys.p256dh") from exc
    target = PushTarget(body.endpoint, point, read_bytes("keys.auth", body.keys.auth, size=AUTH_BYTES))
    subscription_id = await room.store.put_subscription(
        principal.key,
        target,
        _preferences(body.mute),
        device_id=body.device_id,
        login_id=principal.login_id,
        new_id=new_id(),
        now_ms=room.clock.wall_ms(),
    )
    return PushSubscriptionStored(subscription_id=subscription_id)


def _preferences(mute: Mute) -> PushPreferences:
    quiet = mute.quiet
    if quiet is not None:
        try:
            ZoneInfo(quiet.time_zone)
        # A name like `../x` is a ValueError; a folder of the zones' own, such as `Europe`, an OSError.
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            raise ValidationFailed(
                f"`mute.quiet.time_zone` {quiet.time_zone[:64]!r} is unknown here. Use a name such as Europe/Berlin.",
                field="mute.quiet.time_zone",
            ) from exc
    return PushPreferences(
        groups=tuple(read_uuid("mute.groups", each) for each in mute.groups),
        threads=tuple(read_uuid("mute.threads", each) for each in mute.threads),
        quiet=None if quiet is None else QuietHours(quiet.start, quiet.end, quiet.time_zone),
    )


async def unsubscribe(room: PushContext, principal: Principal, subscription_id: str) -> None:
    """
    Delete a subscription.

    Raises:
        NotFound: If the caller has no such subscription.
    """
    await room.store.delete_subscription(principal.key, subscription_id)


async def seen(room: PushContext, principal: Principal, subscription_id: str, body: SeenBody) -> None:
    """
    Note what a device has received, and whether somebody is looking at it.

    Raises:
        ValidationFailed: If an id is not a UUID.
        NotFound: If the caller has no such subscription.
    """
    seqs = {read_uuid("seqs", group_id): seq for group_id, seq in body.seqs.items()}
    until_ms = room.clock.wall_ms() + LOOKING_MS if body.looking else 0
    await room.store.note_received(principal.key, subscription_id, seqs, looking_until_ms=until_ms)
