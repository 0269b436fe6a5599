"""
Newcomers: members whose device the roster does not have yet.

What is written between `member_joined` and the record of the newcomer's device is for them too, and cannot be sealed
for a device that nobody knows. Each own chain is therefore kept from where it stood when they joined, and given once
the roster has their device. A chain runs forward only: nothing that was written before they joined can be read with it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.e2ee.formats.envelope import DeviceAddress
from orbital_relay.e2ee.formats.sender_key import read_skdm
from orbital_relay.e2ee.outbox import SERVICES, QueuedDelivery, enqueue, new_key, services_of
from orbital_relay.e2ee.rows import GIVEN, MEMBERS, OWN, KeptChain, Newcomer
from orbital_relay.e2ee.sender import Given
from orbital_relay.e2ee.state import Context, given_key, load_roster
from orbital_relay.e2ee.unit import Unit

KEPT_MS: Final = 30 * 86_400_000
"""A chain is kept for so long: as long as the server keeps the messages that give keys."""
MAX_KEPT: Final = 64
"""Chains kept for one newcomer; the oldest goes first, and what it sealed then needs a person who shows the past."""


def note_member(unit: Unit, cx: Context, group: str, user: str, since: int) -> None:
    """
    Note a member. One without a device in the roster is a newcomer: every own chain is kept for them as it stands.

    Args:
        unit: Keeps it.
        cx: The member.
        group: The group.
        user: The person.
        since: The number of the event.
    """
    key = f"{group}/{user}"
    before = unit.get(MEMBERS, key)
    if isinstance(before, Newcomer):
        return
    if user == cx.me.user or any(one.user == user for one in load_roster(unit, group).devices):
        unit.put(MEMBERS, key, since)
        return
    kept = tuple(
        KeptChain(distribution=own.distribution, skdm=cx.ratchet.skdm(unit, own.distribution), at=cx.now())
        for _, own in unit.scan(OWN, f"{group}/")
        if own.distribution is not None
    )
    unit.put(MEMBERS, key, Newcomer(since=since, kept=kept))


def keep_for_newcomers(unit: Unit, cx: Context, group: str, distribution: bytes, skdm: bytes) -> None:
    """Keep a new chain from its beginning for everybody who is a newcomer."""
    chain = KeptChain(distribution=distribution, skdm=skdm, at=cx.now())
    for key, row in unit.scan(MEMBERS, f"{group}/"):
        if isinstance(row, Newcomer):
            kept = (*_fresh(cx, row), chain)[-MAX_KEPT:]
            unit.put(MEMBERS, key, msgspec.structs.replace(row, kept=kept))


def _fresh(cx: Context, newcomer: Newcomer) -> list[KeptChain]:
    return [chain for chain in newcomer.kept if cx.now() - chain.at < KEPT_MS]


def give_to_newcomers(unit: Unit, cx: Context, group: str) -> None:
    """
    Enqueue what was kept for newcomers whose device the roster has now: it has changed.

    A present chain that has sealed nothing since is left to the sender's machine, which gives it with the next draft.
    """
    roster = load_roster(unit, group)
    counts = {own.distribution: own.count for _, own in unit.scan(OWN, f"{group}/")}
    for key, row in unit.scan(MEMBERS, f"{group}/"):
        user = key[len(group) + 1 :]
        devices = [one for one in roster.devices if one.user == user]
        if not isinstance(row, Newcomer) or not devices:
            continue
        unit.put(MEMBERS, key, row.since)
        used = [one for one in _fresh(cx, row) if counts.get(one.distribution) != read_skdm(one.skdm).iteration]
        for device in devices:
            to, identity = DeviceAddress(user, device.device), device.identity.hex()
            for chain in used:
                given = Given(user=user, device=device.device, identity=identity, skdm=chain.skdm)
                unit.put(GIVEN, given_key(chain.distribution.hex(), to), given)
                enqueue(unit, group, QueuedDelivery(id=new_key(), to=to, identity=identity, skdm=chain.skdm))


def has_keys_to_send(unit: Unit, group: str) -> bool:
    """Return whether a newcomer's keys are not posted yet: they go before content."""
    return any(
        isinstance(row, QueuedDelivery) and row.skdm is not None and row.answers is None
        for _, row in unit.scan(SERVICES, services_of(group))
    )
