"""Sending of what is no draft: records, key requests, and pairwise messages to single devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import (
    DeviceAddress,
    Envelope,
    Keys,
    Pairwise,
    Request,
    write_envelope,
    write_pairwise,
)
from orbital_relay.e2ee.heads import head_of
from orbital_relay.e2ee.outbox import SERVICES, QueuedDelivery, QueuedRecord, SealedDelivery, Service, services_of
from orbital_relay.e2ee.ports import KeyBundle, Wanted, Way
from orbital_relay.e2ee.rows import SECRETS, Warned
from orbital_relay.e2ee.sender import ViewDevice
from orbital_relay.e2ee.state import Context, load_group, load_roster, load_view, secret_key, warn
from orbital_relay.e2ee.texts import to_base64
from orbital_relay.e2ee.unit import Unit

MAX_EPOCH_CHANGES: Final = 32
"""Refusals for a changed epoch that one post answers."""


def pairwise_of(unit: Unit, group: str) -> Pairwise:
    """Return what every pairwise message of now says."""
    state, number = load_group(unit, group), load_roster(unit, group).secret_number
    secret = unit.get(SECRETS, secret_key(group, number)) if number > 0 else None
    head_seq, head_hash = head_of(state.position)
    return Pairwise(
        group=group,
        epoch=state.epoch,
        head_seq=head_seq,
        head_hash=head_hash,
        secret=secret,
        secret_number=None if secret is None else number,
        shareable=True,
    )


async def claim(cx: Context, group: str, devices: Sequence[ViewDevice]) -> dict[DeviceAddress, KeyBundle]:
    """Claim what the ratchet has no session for."""

    def suites(unit: Unit) -> list[Wanted]:
        wanted = []
        for device in devices:
            suite = cx.ratchet.claim_suite(unit, DeviceAddress(device.user, device.device), device.suites)
            if suite is not None:
                wanted.append(Wanted(device.user, device.device, suite))
        return wanted

    wanted = await cx.transact(suites)
    bundles = await cx.relay.claim(group, wanted) if wanted else []
    return {bundle.address: bundle for bundle in bundles}


async def serve(cx: Context, group: str) -> None:
    """Send records, requests and pairwise messages."""
    rows = await cx.transact(lambda unit: unit.scan(SERVICES, services_of(group)))
    for key, row in rows:
        if isinstance(row, QueuedDelivery):
            if row.not_before <= cx.now():
                await _deliver(cx, group, key)
            continue
        if isinstance(row, QueuedRecord):
            kind, body = "new_record", {"record": to_base64(row.record)}
        else:
            request = Envelope(request=Request(cx.me.device, row.distribution))
            kind, body = "new_keys", {"encrypted_envelope": to_base64(write_envelope(request))}
        await _post_once(cx, group, kind, body, row)
        await cx.transact(lambda unit, key=key: unit.delete(SERVICES, key))  # type: ignore[misc]  # mypy infers no default


async def _post_once(
    cx: Context, group: str, kind: str, body: dict[str, str], row: Service, if_epoch: int | None = None
) -> None:
    """Post; another body under the key is our own earlier attempt."""
    try:
        await cx.relay.post(group, kind, body, key=row.id, if_epoch=if_epoch)
    except E2eeError as exc:
        if exc.code != "conflict":
            raise


async def _deliver(cx: Context, group: str, key: str) -> None:
    """Send one pairwise message, if its device is still in the view with that identity."""

    def target_of(unit: Unit) -> tuple[QueuedDelivery, ViewDevice] | None:
        row = unit.get(SERVICES, key)
        if not isinstance(row, QueuedDelivery):
            return None
        for device in load_view(unit, cx, group).devices:
            if (DeviceAddress(device.user, device.device), device.identity) == (row.to, row.identity):
                # A device that asks could not open what it was given: a session that no longer fits must not transport
                # the answer.
                if row.answers is not None and row.sealed is None:
                    cx.ratchet.renew_session(unit, row.to)
                return row, device
        unit.delete(SERVICES, key)
        return None

    def unseal(unit: Unit) -> None:
        row = unit.get(SERVICES, key)
        if isinstance(row, QueuedDelivery):
            unit.put(SERVICES, key, msgspec.structs.replace(row, sealed=None))

    for changes in range(MAX_EPOCH_CHANGES + 1):
        found = await cx.transact(target_of)
        if found is None:
            return
        row, device = found
        bundles = {} if row.sealed is not None else await claim(cx, group, [device])
        bundle = bundles.get(row.to)
        sealed = await cx.transact(lambda unit, bundle=bundle: _seal(unit, cx, group, key, bundle), durable=True)  # type: ignore[misc]  # mypy infers no default
        if sealed is None:
            return
        try:
            await _post_once(cx, group, "new_keys", {"encrypted_envelope": sealed.envelope}, row, sealed.epoch)
        except E2eeError as exc:
            if exc.code != "epoch_changed" or changes == MAX_EPOCH_CHANGES:
                raise
            await cx.transact(unseal)
            epoch = exc.details["epoch"]
            await cx.relay.catch_up(group, epoch if isinstance(epoch, int) else 0)
        else:
            await cx.transact(lambda unit: unit.delete(SERVICES, key))
            return


def _seal(unit: Unit, cx: Context, group: str, key: str, bundle: KeyBundle | None) -> SealedDelivery | None:
    """Seal a pairwise message and keep it with its row; None when that fails: the row is gone, with a warning."""
    row = unit.get(SERVICES, key)
    if not isinstance(row, QueuedDelivery):
        return None
    if row.sealed is not None:
        return row.sealed
    base = pairwise_of(unit, group)
    pairwise = write_pairwise(msgspec.structs.replace(base, skdm=row.skdm, history=row.history))
    way = Way(group=group, sender=cx.me, to=row.to, identity=bytes.fromhex(row.identity))
    try:
        delivery = cx.ratchet.seal(unit, way, bundle, pairwise)
    except E2eeError as exc:
        unit.delete(SERVICES, key)
        details: dict[str, str | int] = {"reason": exc.code}
        warning = Warned(
            group=group, seq=base.epoch, code="bad_bundle", user=row.to.user, device=row.to.device, details=details
        )
        warn(unit, cx, warning)
        return None
    envelope = to_base64(write_envelope(Envelope(keys=Keys(cx.me.device, base.epoch, [delivery]))))
    sealed = SealedDelivery(envelope, base.epoch)
    unit.put(SERVICES, key, msgspec.structs.replace(row, sealed=sealed))
    return sealed
