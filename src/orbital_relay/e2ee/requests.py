"""Requests for keys: answer those of others, and send one's own."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.e2ee.formats.envelope import DeviceAddress, History, Keys, Request
from orbital_relay.e2ee.outbox import (
    DRAFTS,
    SERVICES,
    QueuedDelivery,
    QueuedRequest,
    enqueue,
    new_key,
    posted_of,
    services_of,
)
from orbital_relay.e2ee.receiver import on_request, request_due
from orbital_relay.e2ee.rows import ANSWERS, GIVEN, ITEMS, PINS, WAITING, LogEvent, OtherPin, OwnPin, Waiting, Warned
from orbital_relay.e2ee.state import Context, given_key, load_group, load_members, load_roster, warn
from orbital_relay.e2ee.unit import Unit, ordered

OTHERS_ANSWER_MS: Final = 10_000
"""Another device of the owner answers a request only when the owner's did not within this time."""
MAX_ANSWERS: Final = 4
"""Answers to one device for one chain: as many as it asks for by itself."""
WITHHELD_MS: Final = 60_000
"""After this an event that must have come counts as withheld."""


def take_request(unit: Unit, cx: Context, event: LogEvent, author: str, request: Request) -> None:
    """Answer a device that asks for a chain of this user, if it may have it."""
    group, distribution = event.group_id, request.distribution.hex()
    asker = DeviceAddress(author, request.device)
    pin = unit.get(PINS, distribution)
    if pin is None or pin.group != group or pin.user != cx.me.user or asker == cx.me:
        return
    found = load_roster(unit, group).find(author, request.device)
    given = unit.get(GIVEN, given_key(distribution, asker)) if isinstance(pin, OwnPin) else None
    entitled = found is not None and given is not None and given.identity == found.identity.hex()
    skdm = given.skdm if entitled and given is not None else None
    row = on_request(
        in_roster=found is not None,
        given=skdm is not None,
        since=0 if found is None else found.since,
        made_epoch=pin.made_epoch if isinstance(pin, OwnPin) else pin.epoch,
    )
    if row.warning is not None:
        warning = Warned(group=group, seq=event.seq, code=row.warning, user=asker.user, device=asker.device)
        warn(unit, cx, warning)
    if row.does != "answer" or found is None:
        return
    key = given_key(distribution, asker)
    count = unit.get(ANSWERS, key) or 0
    if count >= MAX_ANSWERS:
        return
    unit.put(ANSWERS, key, count + 1)
    answer = QueuedDelivery(
        id=new_key(), to=asker, identity=found.identity.hex(), answers=distribution, not_before=cx.now()
    )
    # The owner's device answers; another device of the same person only if that one did not.
    if isinstance(pin, OwnPin):
        answer = msgspec.structs.replace(answer, skdm=skdm or pin.first_skdm)
    else:
        later = cx.now() + OTHERS_ANSWER_MS
        answer = msgspec.structs.replace(answer, history=[history_of(pin)], not_before=later)
    enqueue(unit, group, answer)


def history_of(pin: OtherPin) -> History:
    """Return what passes a chain of another device on."""
    return History(user=pin.user, device=pin.device, skdm=pin.skdm, proof=pin.proof, proof_key_id=pin.proof_key_id)


def cancel_answers(unit: Unit, group: str, sender: DeviceAddress, keys: Keys) -> None:
    """Delete answers that wait for the owner's device: its keys went out."""
    served = {delivery.to for delivery in keys.deliveries}
    for key, row in unit.scan(SERVICES, services_of(group)):
        if not isinstance(row, QueuedDelivery) or row.answers is None or not row.history:
            continue
        if row.history[0].user == sender.user and row.to in served:
            unit.delete(SERVICES, key)


def due_requests(unit: Unit, cx: Context, group: str, caught_up_at: int) -> None:
    """
    Enqueue the requests that are due, end those that were made often enough, and warn of what the server withholds.

    Args:
        unit: Keeps them.
        cx: The member.
        group: The group.
        caught_up_at: When the device had caught up, milliseconds since the epoch.
    """
    now, asked = cx.now(), set()
    for key, row in unit.scan(WAITING, f"{group}/"):
        if not isinstance(row, Waiting) or row.ended:
            continue
        since = row.since if row.since is not None else max(now, caught_up_at)
        due = request_due(row.asked, since)
        if due is None:
            unit.put(WAITING, key, msgspec.structs.replace(row, since=since, ended=True))
            at = f"{group}/{ordered(row.seq)}"
            item = unit.get(ITEMS, at)
            if item is not None and item.status == "waiting":
                unit.put(ITEMS, at, msgspec.structs.replace(item, status="no_key"))
        elif due <= now:
            unit.put(WAITING, key, msgspec.structs.replace(row, since=since, asked=row.asked + 1))
            if row.distribution not in asked:
                enqueue(unit, group, QueuedRequest(id=new_key(), distribution=bytes.fromhex(row.distribution)))
            asked.add(row.distribution)
        elif row.since is None:
            unit.put(WAITING, key, msgspec.structs.replace(row, since=since))
    _note_withheld(unit, cx, group, now)


def _note_withheld(unit: Unit, cx: Context, group: str, now: int) -> None:
    state, members = load_group(unit, group), load_members(unit, group)
    for removal in state.removals:
        if removal.user in members and now - removal.since >= WITHHELD_MS:
            warn(unit, cx, Warned(group=group, seq=state.position.seq, code="withheld_removal", user=removal.user))
    for key, row in unit.scan(DRAFTS, posted_of(group)):
        # Accepted under a number that this device has passed, and the event was not there.
        if row.withheld or not row.posted or row.posted > state.position.seq:
            continue
        unit.put(DRAFTS, key, msgspec.structs.replace(row, withheld=True))
        warning = Warned(group=group, seq=row.posted, code="withheld_post", user=cx.me.user, device=cx.me.device)
        warn(unit, cx, warning)
