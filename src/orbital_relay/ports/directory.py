"""The port to the directory of devices and their public keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from orbital_relay.api import keys as api
from orbital_relay.model import (
    Announcement,
    ClaimedDevice,
    DeviceKeys,
    GroupId,
    IdempotencyKey,
    LowDevice,
    OwnDevice,
    PublishedDevice,
)


class KeyDirectory(Protocol):
    """
    Devices and the public keys that they offer.

    A one-time key is given out once, whatever number of servers and callers ask at the same time. What has to be
    announced of a device is stored with the change, and stays until the event is.
    """

    async def publish_keys(
        self, user: int, keys: DeviceKeys, *, now_ms: int, idempotency_key: IdempotencyKey | None = None
    ) -> PublishedDevice:
        """
        Enter a device, or replace and add to what it offers; another identity key empties its stocks.

        Raises:
            ValidationFailed: If a new device, or one with a new identity key, lacks keys that its suites need.
            Conflict: If all numbers are in use, or the idempotency key was used for another request.
        """
        ...

    async def claim_keys(
        self,
        user: int,
        group_id: GroupId,
        devices: Sequence[ClaimedDevice],
        *,
        now_ms: int,
        idempotency_key: IdempotencyKey | None = None,
    ) -> api.Bundles:
        """
        Answer `POST /v1/keys/claims`; what is taken from a stock is gone from it.

        Raises:
            NotFound: If there is no such group.
            Forbidden: If the caller is not in it.
            Conflict: If the idempotency key was used for another request.
        """
        ...

    async def claimable(
        self,
        user: int,
        group_id: GroupId,
        devices: Sequence[ClaimedDevice],
        *,
        now_ms: int,
        idempotency_key: IdempotencyKey | None = None,
    ) -> list[ClaimedDevice]:
        """
        Return those of the devices from which a claim would take keys now: none where it was answered before.

        Raises:
            NotFound: If there is no such group.
            Forbidden: If the caller is not in it.
            Conflict: If the idempotency key was used for another request.
        """
        ...

    async def devices(self, user: int, group_id: GroupId, *, limit: int, offset: int) -> api.Devices:
        """
        Answer `GET /v1/keys/devices`.

        Raises:
            NotFound: If there is no such group.
            Forbidden: If the caller is not in it.
        """
        ...

    async def own_devices(self, user: int) -> list[OwnDevice]:
        """Return a user's devices, by number."""
        ...

    async def remove_device(self, user: int, device_id: int, *, now_ms: int) -> None:
        """
        Remove a device with all of its keys.

        Raises:
            NotFound: If the user has no such device.
        """
        ...

    async def low_devices(self, *, users: Collection[int], since_ms: int) -> list[LowDevice]:
        """Return the devices with a low stock: of those users, and those that claims left low after `since_ms`."""
        ...

    async def pending_announcements(self, *, user: int | None, before_ms: int, limit: int) -> list[Announcement]:
        """Return announcements without an event, made before a moment, oldest first; of one user if given."""
        ...
