"""Push messages to devices whose page is closed (RFC 8030)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import JsonSafeInt, ResponseBody, Uuid
from orbital_relay.api.keys import DeviceId

ClockTime = Annotated[
    str, msgspec.Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", description="`HH:MM`.", examples=["22:00"])
]


class PushKey(ResponseBody, frozen=True, kw_only=True):
    """The public key of this server (RFC 8292)."""

    public_key: Annotated[
        str,
        msgspec.Meta(description="A point of P-256, uncompressed, in base64url: the browser's `applicationServerKey`."),
    ]


class PushKeys(msgspec.Struct, frozen=True):
    """The keys of a browser's subscription, as `PushSubscription.toJSON()` writes them."""

    p256dh: Annotated[str, msgspec.Meta(description="Base64url of 65 bytes: a point of P-256, uncompressed.")]
    auth: Annotated[str, msgspec.Meta(description="Base64url of 16 bytes.")]


class Quiet(msgspec.Struct, frozen=True):
    """Hours of each day without push messages; messages are held until the hours end."""

    start: ClockTime
    end: ClockTime
    time_zone: Annotated[
        str, msgspec.Meta(max_length=64, description="The IANA name of the zone.", examples=["Europe/Berlin"])
    ]


class Mute(msgspec.Struct, frozen=True):
    """What the device gets no push messages for."""

    groups: Annotated[list[Uuid], msgspec.Meta(max_length=200)] = msgspec.field(default_factory=list)
    threads: Annotated[list[Uuid], msgspec.Meta(max_length=500)] = msgspec.field(default_factory=list)
    quiet: Quiet | None = None


class PushSubscriptionBody(msgspec.Struct):
    """Where a device receives push messages."""

    endpoint: Annotated[
        str,
        msgspec.Meta(
            max_length=2048,
            description="The address at the push service, https.",
            examples=["https://push.example.org/m/6f1f7c0e"],
        ),
    ]
    keys: PushKeys
    device_id: Annotated[
        DeviceId | None,
        msgspec.Meta(description="The device of `/v1/keys`; removing it deletes the subscription."),
    ] = None
    mute: Mute = msgspec.field(default_factory=Mute)


class PushSubscriptionStored(ResponseBody, frozen=True, kw_only=True):
    """The subscription is stored."""

    subscription_id: str


class SeenBody(msgspec.Struct):
    """What a device has received, and whether somebody is looking at it."""

    looking: Annotated[
        bool,
        msgspec.Meta(
            description="Whether the page is visible: no push messages for 90 s, or until the next report.",
            examples=[True],
        ),
    ]
    seqs: Annotated[
        dict[Uuid, JsonSafeInt],
        msgspec.Meta(max_length=200, description="For each group, the number of the last event that was received."),
    ] = msgspec.field(default_factory=dict)
