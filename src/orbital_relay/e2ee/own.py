"""Own events that come back: their plaintext is in the outbox, and the log must not be ahead of the store."""

from __future__ import annotations

from orbital_relay.e2ee.events import ReadPart, item_of
from orbital_relay.e2ee.outbox import DRAFTS, OutboxDraft, Sealed, drafts_of, posted_key
from orbital_relay.e2ee.rows import ITEMS, NONCES, OWN, LogEvent, Part, Warned
from orbital_relay.e2ee.state import Context, drop_chain, warn
from orbital_relay.e2ee.unit import Unit, ordered


def take_own(unit: Unit, cx: Context, event: LogEvent, parts: list[ReadPart], chain_name: str) -> None:
    """
    Take in an event that an own chain encrypted.

    Args:
        unit: Keeps it.
        cx: The member.
        event: The event.
        parts: Its parsed fields.
        chain_name: The chain's.
    """
    group, me, first, fields = event.group_id, cx.me, parts[0].message, event.fields
    key, at = f"{group}/{chain_name}", f"{group}/{ordered(event.seq)}"
    nonce = f"{group}/own/{first.distribution.hex()}/{first.iteration}"
    own = unit.get(OWN, key)
    if own is not None and own.distribution == first.distribution and first.iteration >= own.count:
        details: dict[str, str | int] = {"iteration": first.iteration, "stored": own.count}
        warning = Warned(group=group, seq=event.seq, code="old_copy", user=me.user, device=me.device, details=details)
        warn(unit, cx, warning)
        drop_chain(unit, cx, key)
    found = _sent_row(unit, group, (first.distribution.hex(), first.iteration))
    if found is not None:
        where, row, sealed = found
        if all(fields.get(part.field) == sealed.body.get(part.field) for part in parts):
            for one in (where, *(posted_key(group, tried) for tried in (*row.tried, sealed))):
                unit.delete(DRAFTS, one)
            unit.put(NONCES, nonce, event.seq)
            shown = tuple(Part(part.kind, part.body, row.at) for part in row.parts)
            unit.put(ITEMS, at, item_of(event, me.user, "read", device=me.device, parts=shown))
            return
    if unit.get(NONCES, nonce) is not None:
        unit.put(ITEMS, at, item_of(event, me.user, "repeated", device=me.device))
        warn(unit, cx, Warned(group=group, seq=event.seq, code="repeated", user=me.user, device=me.device))
        return
    # Sent from an older copy of this store, or not what was sent.
    unit.put(ITEMS, at, item_of(event, me.user, "own_lost", device=me.device))


def _sent_row(unit: Unit, group: str, sent: tuple[str, int]) -> tuple[str, OutboxDraft, Sealed] | None:
    """
    Find the outbox's row of an own event.

    It was posted, or is still a draft when the answer to its post did not come yet. Any process may have taken the
    draft over, at any place of its line, and any may see the event first.
    """
    distribution, iteration = sent
    key = posted_key(group, Sealed(distribution=distribution, iteration=iteration, epoch=0, body={}))
    posted = unit.get(DRAFTS, key)
    if posted is not None and posted.sealed is not None:
        return key, posted, posted.sealed
    for at, row in unit.scan(DRAFTS, drafts_of(group)):
        for sealed in (*row.tried, *([row.sealed] if row.sealed else [])):
            if (sealed.distribution, sealed.iteration) == sent:
                return at, row, sealed
    return None
