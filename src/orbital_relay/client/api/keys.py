"""Requests about devices, their public keys, and the records of groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import given, key_or_new, segment
from orbital_relay.client.api.log import event_from
from orbital_relay.client.errors import BadAnswer
from orbital_relay.client.events import NewKeys
from orbital_relay.client.http import Http, decode


class _KeyMessages(msgspec.Struct):
    """A page of `new_keys` events (`api.events.KeyMessages`) as texts, because an event's hash is that of its bytes."""

    events: list[msgspec.Raw]
    has_more: bool


class KeyRequests(Http):
    """Devices and keys: publish, claim, list, remove; records, envelopes with keys, mailboxes for linking."""

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
        body = given({"group_id": group_id, "encrypted_envelope": encrypted_envelope, "if_epoch": if_epoch})
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/v1/key-messages", responses.KeysPosted, body=body, key=key)

    async def iter_key_messages(self, group_id: str, *, after_seq: int = 0) -> AsyncIterator[NewKeys]:
        """
        Iterate over a group's `new_keys` events after a number, a page at a time, also those that the log has not kept.

        Their hashes are those of the stored frames.
        """
        while True:
            query = {"group_id": group_id, "after_seq": after_seq or None}
            page = await self._call("GET", "/v1/key-messages", _KeyMessages, query=query)
            for text in page.events:
                event = event_from(bytes(text))
                if not isinstance(event, NewKeys) or event.seq <= after_seq:
                    raise BadAnswer(f"The list of key messages holds event {event.seq} of the type {event.type!r}.")
                after_seq = event.seq
                yield event
            if not page.has_more or not page.events:
                return

    async def post_record(
        self, group_id: str, record: str, *, if_epoch: int | None = None, idempotency_key: str | None = None
    ) -> responses.RecordCreated:
        """Post a signed record of a group's roster, base64; `if_epoch` as in `post_keys`."""
        body, key = given({"record": record, "if_epoch": if_epoch}), key_or_new(idempotency_key)
        path = f"/api/groups/{segment(group_id)}/records"
        return await self._call("POST", path, responses.RecordCreated, body=body, key=key)

    async def iter_records(self, group_id: str) -> AsyncIterator[responses.RosterRecord]:
        """Iterate over the records of a group's roster in the order of the log, a page at a time."""
        path = f"/api/groups/{segment(group_id)}/records"
        async for page in self._pages(path, responses.RosterRecords, lambda page: len(page.records)):
            for record in page.records:
                yield record

    # Public: linking a device

    async def open_mailbox(self) -> responses.Mailbox:
        """Open a mailbox, for a new device that has no token yet; its name is the only key to it."""
        return await self._call("POST", "/v1/provision", responses.Mailbox, anonymous=True)

    async def fill_mailbox(self, mailbox: str, encrypted_message: str) -> None:
        """
        Put the one message into a mailbox, from a device with a token; the same message again changes nothing.

        Args:
            mailbox: Its name, as the new device shows it.
            encrypted_message: Base64 of up to 64 KiB.

        Raises:
            ApiError: `CONFLICT` when another message is in it, `NOT_FOUND` when it is gone.
        """
        await self._act("PUT", f"/v1/provision/{segment(mailbox)}", body={"encrypted_message": encrypted_message})

    async def read_mailbox(self, mailbox: str, *, wait_s: int | None = None) -> str | None:
        """
        Wait for the message of a mailbox, and return it in base64; None when no message came in time: call it again.

        Args:
            mailbox: Its name.
            wait_s: 0 to 25 seconds; 25 when None.

        Raises:
            ApiError: `NOT_FOUND` when the mailbox is gone.
        """
        path = f"/v1/provision/{segment(mailbox)}"
        got = await self._request("GET", path, anonymous=True, query={"wait": wait_s})
        return None if got.status == 204 else decode(got.content, responses.Mail).encrypted_message
