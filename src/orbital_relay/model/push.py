"""Subscriptions to push messages, and what the pusher knows of each."""

from __future__ import annotations

import msgspec

from orbital_relay.model.people import UserId


class QuietHours(msgspec.Struct, frozen=True):
    """
    Hours of each day in which a device is not called; calls wait until they end.

    Attributes:
        start: When they begin, `HH:MM`.
        end: When they end, `HH:MM`; before `start` if they go over midnight.
        time_zone: The IANA name of the zone of both.
    """

    start: str
    end: str
    time_zone: str


class PushPreferences(msgspec.Struct, frozen=True):
    """
    What a device gets no push messages for.

    Attributes:
        groups: Ids of muted groups.
        threads: Ids of muted threads.
        quiet: Its quiet hours.
    """

    groups: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    quiet: QuietHours | None = None


class PushTarget(msgspec.Struct, frozen=True):
    """
    Where a device receives push messages, and the keys that seal them (RFC 8291 §3.1).

    Attributes:
        endpoint: The address at its push service; nobody else can guess it.
        p256dh: The device's public key, 65 bytes.
        auth: The secret that it shares with this server, 16 bytes.
    """

    endpoint: str
    p256dh: bytes
    auth: bytes


class ClaimedPush(msgspec.Struct, frozen=True):
    """
    A subscription that one server calls now; no other server does until the claim ends.

    Attributes:
        number: Its row.
        user_id: Whose it is.
        target: Where to.
        preferences: What it gets no push messages for.
        failures: Calls that failed in a row.
        behind: By group, the number of the last event that it was notified of or has seen.
    """

    number: int
    user_id: UserId
    target: PushTarget
    preferences: PushPreferences
    failures: int
    behind: dict[str, int]


class PushOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of a claim.

    Attributes:
        number: The subscription's row.
        gone: Whether its endpoint no longer exists; the subscription is deleted.
        reached: By group, the number of the last event that is done.
        failures: Calls that failed in a row, 0 after one that succeeded.
        wait_until_ms: When it may be claimed again, milliseconds since the epoch; 0 for at once.
    """

    number: int
    gone: bool = False
    reached: dict[str, int] = msgspec.field(default_factory=dict)
    failures: int = 0
    wait_until_ms: int = 0
