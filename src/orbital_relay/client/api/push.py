"""Requests about push messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import segment
from orbital_relay.client.http import Http


class PushRequests(Http):
    """Subscriptions to push messages, by which the server calls a device that is not connected."""

    async def push_key(self) -> str:
        """Return the server's public key, base64url, with which a device subscribes at its push service."""
        return (await self._call("GET", "/api/push/key", responses.PushKey)).public_key

    async def subscribe_push(
        self,
        endpoint: str,
        *,
        p256dh: str,
        auth: str,
        device_id: int | None = None,
        mute: Mapping[str, Any] | None = None,
    ) -> str:
        """
        Subscribe a device, or replace what is stored of its endpoint; return the subscription's id.

        Args:
            endpoint: The address at the push service.
            p256dh: The device's public key, base64url.
            auth: The secret that it shares with the server, base64url.
            device_id: The device of `publish_keys`; with its removal the subscription ends.
            mute: What the device gets no push messages for: `groups`, `threads`, `quiet`.
        """
        body = {"endpoint": endpoint, "keys": {"p256dh": p256dh, "auth": auth}, "device_id": device_id}
        body["mute"] = dict(mute or {})
        stored = await self._call("PUT", "/api/push/subscriptions", responses.PushSubscriptionStored, body=body)
        return stored.subscription_id

    async def unsubscribe_push(self, subscription_id: str) -> None:
        """End a subscription."""
        await self._act("DELETE", f"/api/push/subscriptions/{segment(subscription_id)}")

    async def push_seen(self, subscription_id: str, *, looking: bool, seqs: Mapping[str, int] | None = None) -> None:
        """
        Report what a device has received, so that no push message is sent for it.

        Args:
            subscription_id: The subscription.
            looking: Whether somebody is looking at the device: for 90 s it is not called.
            seqs: For each group, the number of the last event that the device has received.
        """
        body = {"looking": looking, "seqs": dict(seqs or {})}
        await self._act("POST", f"/api/push/subscriptions/{segment(subscription_id)}/seen", body=body)
