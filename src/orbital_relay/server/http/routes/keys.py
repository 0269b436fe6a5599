"""Devices and the public keys that they offer."""

from __future__ import annotations

from typing import Final

from orbital_relay.api.fields import Uuid
from orbital_relay.api.keys import Bundles, ClaimBody, Devices, KeysBody, KeysStored, OwnDevices
from orbital_relay.core.refusals import no_device
from orbital_relay.errors import Conflict, Forbidden, NotFound
from orbital_relay.model import GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import PageQuery
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import keys
from orbital_relay.services.forms import read_uuid

_TAG: Final = "Keys"

KEYS_BYTES: Final = 256 * 1024
"""Most bytes of a published body: all stocks at their limit in base64 have some 220 kB."""


class DeviceQuery(PageQuery, kw_only=True):
    """Which devices."""

    group_id: Uuid


@endpoint(
    "PUT",
    "/v1/keys",
    tag=_TAG,
    answers=[Answer(200, "The device offers these keys now.", KeysStored)],
    errors=[Conflict],
    idempotent=True,
    body_limit=KEYS_BYTES,
    limited=True,
)
async def publish_keys(call: Call, body: KeysBody) -> Reply:
    """
    Publish the public keys of one of the caller's devices.

    Keys replace the previous ones, lists add to the stocks, omitted members stay unchanged. A new `identity_key`
    empties the stocks. Emits `identity_changed` in each group of the caller for a new device and a new
    identity key.
    """
    published = keys.read_keys(body)
    if await keys.changes_identity(call.server.keys, call.principal, published):
        await call.server.limits.device_change(call.principal.user_id)
    idempotency_key = call.key_for("publish_keys")
    return Reply.json(await keys.publish(call.server.keys, call.principal, published, idempotency_key=idempotency_key))


@endpoint(
    "POST",
    "/v1/keys/claims",
    tag=_TAG,
    answers=[Answer(200, "The keys; one-time keys among them are given to nobody else.", Bundles)],
    errors=[Forbidden, NotFound, Conflict],
    idempotent=True,
    memory_bytes=MADE_BYTES,
)
async def claim_keys(call: Call, body: ClaimBody) -> Reply:
    """
    Claim keys for devices of a group's members.

    Each one-time key is returned once. When a stock is empty, or after 60 claims of a device by one caller in an hour
    or 300 by all callers in a day, the last-resort key is returned.
    """
    idempotency_key = call.key_for("claim_keys")
    return Reply.json(await keys.claim(call.server.keys, call.principal, body, idempotency_key=idempotency_key))


@endpoint(
    "GET",
    "/v1/keys/devices",
    tag=_TAG,
    answers=[Answer(200, "A page of devices.", Devices)],
    errors=[Forbidden, NotFound],
)
async def list_devices(call: Call, query: DeviceQuery) -> Reply:
    """List the devices of a group's members; no key is used up."""
    group_id = GroupId(read_uuid("group_id", query.group_id))
    page = await keys.devices(call.server.keys, call.principal, group_id, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "GET",
    "/v1/keys/count",
    tag=_TAG,
    answers=[Answer(200, "The caller's devices.", OwnDevices)],
)
async def count_keys(call: Call) -> Reply:
    """Count the one-time keys that each of the caller's devices offers."""
    return Reply.json(await keys.own(call.server.keys, call.principal))


@endpoint(
    "DELETE",
    "/v1/keys/{device_id}",
    tag=_TAG,
    answers=[Answer(204, "The device and its keys are gone.")],
    errors=[NotFound],
    limited=True,
)
async def remove_device(call: Call) -> Reply:
    """
    Remove one of the caller's devices.

    Emits `identity_changed` with `removed` in each group of the caller.
    """
    number = call.text("device_id")
    if not (number.isascii() and number.isdigit() and len(number) <= 3 and 1 <= int(number) <= 127):
        raise no_device()
    await call.server.limits.device_change(call.principal.user_id)
    await keys.remove(call.server.keys, call.principal, int(number))
    return Reply(204)


ENDPOINTS: Final = (publish_keys, claim_keys, list_devices, count_keys, remove_device)
