"""Sharing history: chains of the past for a later member, as the policy allows and a person decides."""

from __future__ import annotations

from typing import Final

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import DeviceAddress, History
from orbital_relay.e2ee.formats.records import HistoryPolicy
from orbital_relay.e2ee.outbox import QueuedDelivery, enqueue, new_key
from orbital_relay.e2ee.requests import history_of
from orbital_relay.e2ee.rows import PINS, OwnPin
from orbital_relay.e2ee.state import Context, load_roster
from orbital_relay.e2ee.unit import Unit

MAX_CHAINS: Final = 24
"""Chains in one delivery: with their proofs they stay far below the limit of an envelope."""


def share_history(unit: Unit, cx: Context, group: str, user: str) -> int:
    """
    Enqueue, for each device of a person, every chain of the group that this device may share.

    Returns:
        Chains given to each device.

    Raises:
        E2eeError: `stopped` when the policy allows none.
    """
    roster = load_roster(unit, group)
    if roster.history == HistoryPolicy.NONE:
        raise E2eeError("stopped", "the group does not share history: its founder can change the policy")
    pins = [pin for _, pin in unit.scan(PINS) if pin.group == group]
    most = 0
    for device in roster.devices:
        to = DeviceAddress(device.user, device.device)
        if device.user != user or to == cx.me:
            continue
        shared: list[History] = []
        for pin in pins:
            made = pin.made_epoch if isinstance(pin, OwnPin) else pin.epoch
            if DeviceAddress(pin.user, pin.device) == to:
                continue
            if roster.history == HistoryPolicy.JOINED and made < device.since:
                continue
            if isinstance(pin, OwnPin):
                shared.append(History(user=pin.user, device=pin.device, skdm=pin.first_skdm))
            elif pin.shareable:
                shared.append(history_of(pin))
        most = max(most, len(shared))
        for at in range(0, len(shared), MAX_CHAINS):
            some = shared[at : at + MAX_CHAINS]
            enqueue(unit, group, QueuedDelivery(id=new_key(), to=to, identity=device.identity.hex(), history=some))
    return most
