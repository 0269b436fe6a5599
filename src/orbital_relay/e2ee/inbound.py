"""Receiving: one event of the log, processed in one transaction with everything that follows from it."""

from __future__ import annotations

import msgspec

from orbital_relay.e2ee.contents import take_content
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.events import CONTENT_EVENTS, EPOCH_EVENTS, bytes_of
from orbital_relay.e2ee.heads import note_head
from orbital_relay.e2ee.keys import follow_roster, take_keys
from orbital_relay.e2ee.newcomers import note_member
from orbital_relay.e2ee.roster import LoggedRecord
from orbital_relay.e2ee.rows import (
    FRAMES,
    GROUPS,
    HEADS,
    MEMBERS,
    OWN,
    KeptFrame,
    LogEvent,
    LogPosition,
    Stop,
    Warned,
)
from orbital_relay.e2ee.state import (
    Context,
    add_record,
    device_of,
    drop_chain,
    id_of,
    load_group,
    load_roster,
    stop_sending,
    warn,
)
from orbital_relay.e2ee.unit import Unit, ordered


def process_event(unit: Unit, cx: Context, event: LogEvent) -> bool:
    """
    Process the group's next event.

    Returns:
        False when its number was processed before.

    Raises:
        E2eeError: `out_of_order` when it is not the next one, `not_found` for a group that is unknown here.
    """
    group = event.group_id
    state = load_group(unit, group)
    last = state.position
    if event.seq <= last.seq:
        head = unit.get(HEADS, f"{group}/{ordered(event.seq)}")
        if head is not None and head.hash is not None and head.hash != event.hash:
            rolled = Stop(code="rolled_back", seq=event.seq, ours=head.hash, theirs=event.hash)
            stop_sending(unit, cx, group, rolled)
        return False
    if event.seq != last.seq + 1:
        raise E2eeError(
            "out_of_order", f"event {event.seq} of {group} is not number {last.seq + 1}", expected=last.seq + 1
        )
    user = id_of(event.fields.get("user_id"))
    left = user if event.type == "member_left" else None
    after = msgspec.structs.replace(
        state,
        position=LogPosition(event.seq, event.hash),
        epoch=event.seq if event.type in EPOCH_EVENTS else state.epoch,
        removals=tuple(one for one in state.removals if one.user != left),
    )
    unit.put(GROUPS, group, after)
    if cx.keep_frames:
        unit.put(FRAMES, f"{group}/{ordered(event.seq)}", KeptFrame(frame=event.frame, hash=event.hash))
    # What waits for its key keeps its fields; the text would be there twice.
    event = msgspec.structs.replace(event, frame=b"")
    if event.prev is not None and last.hash not in ("", event.prev):
        broken = Stop(code="broken_chain", seq=event.seq, ours=last.hash, theirs=event.prev)
        stop_sending(unit, cx, group, broken)
    fork = note_head(unit, group, event.seq, event.hash)
    if fork is not None:
        stop_sending(unit, cx, group, fork)

    match event.type:
        case "member_joined":
            note_member(unit, cx, group, user, event.seq)
        case "member_left":
            unit.delete(MEMBERS, f"{group}/{user}")
            if any(one.user == user for one in load_roster(unit, group).devices):
                _drop_own(unit, cx, group)
        case "identity_changed":
            _note_identity(unit, cx, event)
        case "new_record":
            _take_record(unit, cx, event)
        case "new_keys":
            take_keys(unit, cx, event)
        case kind if kind in CONTENT_EVENTS:
            take_content(unit, cx, event)
    return True


def _take_record(unit: Unit, cx: Context, event: LogEvent) -> None:
    group, fields = event.group_id, event.fields
    record = LoggedRecord(event.seq, id_of(fields.get("author_id")), bytes_of(fields.get("record")) or b"")
    after, before = add_record(unit, group, record)
    for one in after.warnings:
        if one.seq == event.seq:
            warn(unit, cx, Warned(group=group, seq=one.seq, code=one.code, user=one.user, device=one.device))
    if after.devices == before.devices:
        return
    stays = {one.identity for one in after.devices}
    if any(one.identity not in stays for one in before.devices):
        _drop_own(unit, cx, group)
    follow_roster(unit, cx, group)


def _drop_own(unit: Unit, cx: Context, group: str) -> None:
    """
    Forget the own chains: a device has left, and what follows is sealed with new ones.

    Somebody else may have shown it the present chains as history, of which this device knows nothing.
    """
    for key, _ in unit.scan(OWN, f"{group}/"):
        drop_chain(unit, cx, key)


def _note_identity(unit: Unit, cx: Context, event: LogEvent) -> None:
    """Compare the server's word on a device with the roster."""
    group, fields = event.group_id, event.fields
    user, device = id_of(fields.get("user_id")), device_of(fields.get("device_id"))
    known = load_roster(unit, group).find(user, device)
    if known is None or fields.get("change") == "removed":
        return
    if bytes_of(fields.get("identity_key")) != known.identity:
        warn(unit, cx, Warned(group=group, seq=event.seq, code="identity_differs", user=user, device=device))
