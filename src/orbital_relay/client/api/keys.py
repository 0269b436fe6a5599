"""Requests about devices, their public keys, and the records of groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import key_or_new, segment
from orbital_relay.client.http import Http


class KeyRequests(Http):
    """Devices and keys: publish, claim, list, remove; records and envelopes with keys."""

    async def publish_keys(
        self, keys: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> responses.KeysStored:
        """Publish the public keys of one of the caller's devices: the body of `PUT /v1/keys`, keys in base64."""
        key = key_or_new(idempotency_key)
        return await self._call("PUT", "/v1/keys", responses.KeysStored, body=keys, key=key)

    async def claim_keys(
        self, group_id: str, devices: Sequence[tuple[str, int, int]], *, idempotency_key: str | None = None
    ) -> list[responses.Bundle]:
        """
        Claim keys for devices of a group's members; devices that are missing there have no bundle.

        Args:
            group_id: The group.
            devices: User id, device number and suite (1 libsignal, 16 HPKE) of each.
            idempotency_key: The same key for every try; a new one when None.
        """
        wanted = [{"user_id": user, "device_id": device, "suite": suite} for user, device, suite in devices]
        body, key = {"group_id": group_id, "devices": wanted}, key_or_new(idempotency_key)
        return (await self._call("POST", "/v1/keys/claims", responses.Bundles, body=body, key=key)).bundles

    async def iter_devices(self, group_id: str) -> AsyncIterator[responses.Device]:
        """Iterate over the devices of a group's members, a page at a time."""
        pages = self._pages(
            "/v1/keys/devices", responses.Devices, lambda page: len(page.devices), query={"group_id": group_id}
        )
        async for page in pages:
            for device in page.devices:
                yield device

    async def key_counts(self) -> list[responses.OwnKeys]:
        """Count the one-time keys that each of the caller's devices offers."""
        return (await self._call("GET", "/v1/keys/count", responses.OwnDevices)).devices

    async def remove_device(self, device_id: int) -> None:
        """Remove one of the caller's devices with all of its keys."""
        await self._act("DELETE", f"/v1/keys/{device_id}")

    async def post_keys(
        self,
        group_id: str,
        encrypted_envelope: str,
        *,
        if_epoch: int | None = None,
        idempotency_key: str | None = None,
    ) -> responses.KeysPosted:
        """
        Post an envelope with keys for devices of a group.

        Raises:
            ApiError: With code `EPOCH_CHANGED` and `details["epoch"]` when the group's epoch is above `if_epoch`.
        """
        body = {"group_id": group_id, "encrypted_envelope": encrypted_envelope, "if_epoch": if_epoch}
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/v1/key-messages", responses.KeysPosted, body=body, key=key)

    async def post_record(
        self, group_id: str, record: str, *, if_epoch: int | None = None, idempotency_key: str | None = None
    ) -> responses.RecordCreated:
        """Post a signed record of a group's roster, base64; `if_epoch` as in `post_keys`."""
        body, key = {"record": record, "if_epoch": if_epoch}, key_or_new(idempotency_key)
        path = f"/api/groups/{segment(group_id)}/records"
        return await self._call("POST", path, responses.RecordCreated, body=body, key=key)

    async def iter_records(self, group_id: str) -> AsyncIterator[responses.RosterRecord]:
        """Iterate over the records of a group's roster in the order of the log, a page at a time."""
        path = f"/api/groups/{segment(group_id)}/records"
        async for page in self._pages(path, responses.RosterRecords, lambda page: len(page.records)):
            for record in page.records:
                yield record
