"""Push messages to devices whose page is closed."""

from __future__ import annotations

from typing import Final

from orbital_relay.api.push import PushKey, PushSubscriptionBody, PushSubscriptionStored, SeenBody
from orbital_relay.errors import Conflict, NotFound
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.services import push

_TAG: Final = "Push"


@endpoint("GET", "/api/push/key", tag=_TAG, answers=[Answer(200, "The key.", PushKey)], errors=[NotFound], auth=False)
async def push_key(call: Call) -> Reply:
    """Return the public key with which a device subscribes at its push service (RFC 8292)."""
    return Reply.json(push.key(call.server.push))


@endpoint(
    "PUT",
    "/api/push/subscriptions",
    tag=_TAG,
    answers=[Answer(200, "The device is subscribed.", PushSubscriptionStored)],
    errors=[NotFound, Conflict],
)
async def put_subscription(call: Call, body: PushSubscriptionBody) -> Reply:
    """
    Subscribe a device to push messages, or replace the subscription of its endpoint.

    The server sends a push message for each `new_message`, `new_thread`, `new_reply` and `media_uploaded` of other
    members of the caller's groups, unless the device is looking or has muted it.
    """
    return Reply.json(await push.subscribe(call.server.push, call.principal, body))


@endpoint(
    "DELETE",
    "/api/push/subscriptions/{subscription_id}",
    tag=_TAG,
    answers=[Answer(204, "The subscription is deleted.")],
    errors=[NotFound],
)
async def delete_subscription(call: Call) -> Reply:
    """Delete one of the caller's subscriptions."""
    await push.unsubscribe(call.server.push, call.principal, call.text("subscription_id"))
    return Reply(204)


@endpoint(
    "POST",
    "/api/push/subscriptions/{subscription_id}/seen",
    tag=_TAG,
    answers=[Answer(204, "Noted.")],
    errors=[NotFound],
)
async def note_seen(call: Call, body: SeenBody) -> Reply:
    """
    Report what a device has received, and whether somebody is looking at it.

    A device that is looking gets no push messages for 90 s; a page that stays visible reports again. No push message
    is sent for events up to the reported numbers.
    """
    await push.seen(call.server.push, call.principal, call.text("subscription_id"), body)
    return Reply(204)


ENDPOINTS: Final = (push_key, put_subscription, delete_subscription, note_seen)
