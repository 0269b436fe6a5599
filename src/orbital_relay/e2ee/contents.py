"""Contents: an event's encrypted fields are read all together, or kept until their key comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from orbital_relay.e2ee import chain as chains
from orbital_relay.e2ee.chain import chain_of
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.events import CONTENT_EVENTS, ReadPart, is_in_place, item_of, parse_parts
from orbital_relay.e2ee.formats.content import Content, read_content
from orbital_relay.e2ee.formats.envelope import DeviceAddress
from orbital_relay.e2ee.formats.sender_key import read_skdm
from orbital_relay.e2ee.heads import check_head
from orbital_relay.e2ee.own import take_own
from orbital_relay.e2ee.receiver import on_content
from orbital_relay.e2ee.rows import (
    FRAMES,
    ITEMS,
    NONCES,
    PINS,
    SHARED,
    UNHANDLED,
    WAITING,
    Item,
    ItemStatus,
    LogEvent,
    OwnPin,
    Part,
    SharedChain,
    Waiting,
    Warned,
)
from orbital_relay.e2ee.state import Context, id_of, stop_sending, warn
from orbital_relay.e2ee.unit import Unit, ordered

STATUSES: Final[dict[str, ItemStatus]] = {
    "wrong_sender": "wrong_sender",
    "misplaced": "misplaced",
    "too_far_ahead": "too_far_ahead",
}
"""The status of an item that the receiver's machine warns of before anything is decrypted."""


def take_content(unit: Unit, cx: Context, event: LogEvent) -> None:
    """Take in an event with encrypted fields: write its item, and keep it when its key is not here."""
    group, at = event.group_id, f"{event.group_id}/{ordered(event.seq)}"
    author = id_of(event.fields.get(CONTENT_EVENTS[event.type].author))
    parts = parse_parts(event)
    if isinstance(parts, str):
        unit.put(ITEMS, at, item_of(event, author, parts))
        if parts == "unreadable":
            warn(unit, cx, Warned(group=group, seq=event.seq, code=parts, user=author))
        return
    if _read_parts(unit, cx, event, author, parts):
        return
    unit.put(ITEMS, at, item_of(event, author, "waiting"))
    distribution = parts[0].message.distribution.hex()
    unit.put(WAITING, at, Waiting(seq=event.seq, event=event, author=author, distribution=distribution))
    read_past(unit, cx, group, distribution)


def read_waiting(unit: Unit, cx: Context, group: str, distribution: str) -> None:
    """Try the waiting events of a distribution again, oldest first."""
    for key, row in unit.scan(WAITING, f"{group}/"):
        if not isinstance(row, Waiting) or row.distribution != distribution:
            continue
        parts = parse_parts(row.event)
        if not isinstance(parts, str) and _read_parts(unit, cx, row.event, row.author, parts):
            unit.delete(WAITING, key)
    read_past(unit, cx, group, distribution)


def _refuser(unit: Unit, cx: Context, event: LogEvent, author: str, device: int) -> Callable[[ItemStatus, str], None]:
    def refuse(status: ItemStatus, code: str) -> None:
        unit.put(ITEMS, f"{event.group_id}/{ordered(event.seq)}", item_of(event, author, status))
        warn(unit, cx, Warned(group=event.group_id, seq=event.seq, code=code, user=author, device=device))

    return refuse


def _read_parts(unit: Unit, cx: Context, event: LogEvent, author: str, parts: list[ReadPart]) -> bool:
    """
    Read all parts of an event, or none: the ratchet moves only when every part is read.

    Returns:
        Whether the event is done with; False when its key is missing.
    """
    group, trial, device = event.group_id, unit.fork(), 0
    contents: list[Content] = []
    for part in parts:
        message = part.message
        distribution = message.distribution.hex()
        pin = trial.get(PINS, distribution)
        if isinstance(pin, OwnPin) and pin.group == group and author == cx.me.user:
            take_own(unit, cx, event, parts, pin.chain_name)
            return True
        row = on_content(pin, author=author, group=group, iteration=message.iteration)
        if row.does == "wait" or pin is None:
            return False
        device = pin.device
        refuse = _refuser(unit, cx, event, author, device)
        if row.warning is not None:
            refuse(STATUSES[row.warning], row.warning)
            return True
        try:
            plain = cx.ratchet.decrypt(trial, DeviceAddress(pin.user, pin.device), message)
            after = msgspec.structs.replace(pin, last=max(pin.last, message.iteration + 1))
            trial.put(PINS, distribution, after)
            contents.append(read_content(plain))
        except E2eeError as exc:
            status: ItemStatus = "unreadable"
            if exc.code == "repeated" or exc.code == "too_far_ahead":  # noqa: PLR1714 - mypy narrows no set
                status = exc.code
            refuse(status, "bad_signature" if exc.code == "bad_signature" else status)
            return True
    _accept(unit, cx, event, contents, author=author, device=device, trial=trial)
    return True


def _accept(
    unit: Unit,
    cx: Context,
    event: LogEvent,
    contents: list[Content],
    *,
    author: str,
    device: int,
    trial: Unit | None = None,
    via: str | None = None,
) -> None:
    """Check decrypted contents against the event that carried them, and write the item."""
    group, at = event.group_id, f"{event.group_id}/{ordered(event.seq)}"
    refuse = _refuser(unit, cx, event, author, device)
    if trial is not None:
        unit.merge(trial)
    if not is_in_place(event, contents):
        refuse("misplaced", "misplaced")
        return
    for content in contents:
        nonce = f"{group}/{author}/{content.nonce.hex()}"
        if unit.get(NONCES, nonce) is not None:
            refuse("repeated", "repeated")
            return
        unit.put(NONCES, nonce, event.seq)
    shown = tuple(Part(content.kind, content.body, content.at) for content in contents)
    unit.put(ITEMS, at, item_of(event, author, "read", device=device, parts=shown, via=via))
    if cx.inbox:
        unit.put(UNHANDLED, at, event.seq)
    kept = unit.get(FRAMES, at) if cx.keep_frames else None
    for content in contents:
        if content.head_seq is None or content.head_hash is None:
            continue
        if kept is not None:
            kept = msgspec.structs.replace(kept, heads=(*kept.heads, (content.head_seq, content.head_hash.hex())))
            unit.put(FRAMES, at, kept)
        fork = check_head(unit, group, content.head_seq, content.head_hash, author)
        if fork is not None:
            stop_sending(unit, cx, group, fork)


# The past: chains that were shared


def share_chain(unit: Unit, group: str, owner: DeviceAddress, skdm: bytes, via: str | None) -> str:
    """
    Keep a chain for reading the past; of several beginnings the earliest counts.

    Returns:
        Its distribution, hexadecimal.
    """
    chain = chain_of(read_skdm(skdm))
    distribution = chain.distribution.hex()
    key = f"{group}/{distribution}/{owner.name}"
    known = unit.get(SHARED, key)
    if known is None or known.first > chain.iteration or (known.via is not None and via is None):
        row = SharedChain(user=owner.user, device=owner.device, first=chain.iteration, chain=chain, via=via)
        unit.put(SHARED, key, row)
    return distribution


def read_past(unit: Unit, cx: Context, group: str, distribution: str) -> None:
    """Read waiting events of a distribution with chains that were shared."""
    for key, shared in unit.scan(SHARED, f"{group}/{distribution}/"):
        for at, row in unit.scan(WAITING, f"{group}/"):
            if not isinstance(row, Waiting) or row.distribution != distribution:
                continue
            after = _read_scratch(unit, cx, row, shared)
            if after is not None:
                shared = after  # noqa: PLW2901 - the chain moves with each event
                unit.put(SHARED, key, shared)
                unit.delete(WAITING, at)


def _read_scratch(unit: Unit, cx: Context, row: Waiting, shared: SharedChain) -> SharedChain | None:
    """Read one waiting event with a shared chain; None when it does not read it."""
    parts = parse_parts(row.event)
    if isinstance(parts, str) or row.author != shared.user:
        return None
    contents, chain = [], shared.chain
    try:
        for part in parts:
            plain, chain = chains.decrypt(chain, part.message)
            contents.append(read_content(plain))
    except E2eeError:
        return None
    _accept(unit, cx, row.event, contents, author=row.author, device=shared.device, via=shared.via)
    return msgspec.structs.replace(shared, chain=chain)


def read_items(unit: Unit) -> list[Item]:
    """Return the items that a unit of work has read."""
    return [item for item in unit.written(ITEMS) if item.status == "read"]
