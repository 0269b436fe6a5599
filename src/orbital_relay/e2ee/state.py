"""Reading and writing what a device keeps of a group, through a unit of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import DeviceAddress
from orbital_relay.e2ee.ports import DeviceStore, Ratchet, RelayTransport
from orbital_relay.e2ee.roster import LoggedRecord, Roster, RosterFacts, accepted_key, all_secrets, fold, fold_record
from orbital_relay.e2ee.rows import (
    GIVEN,
    GROUPS,
    MARKS,
    MEMBERS,
    OWN,
    RECORDS,
    ROSTERS,
    SECRETS,
    WARNINGS,
    KnownGroup,
    OwnChain,
    Stop,
    Warned,
)
from orbital_relay.e2ee.sender import Given, SenderView, ViewDevice
from orbital_relay.e2ee.unit import Unit, ordered

T = TypeVar("T")

UNSEEN_MS: Final = 90 * 86_400_000
"""A device that the directory has not seen for so long is given nothing, until it is seen again."""
MAX_ID: Final = 100
"""Longest id of the server's that is used in a key, in characters."""


class Context(msgspec.Struct, frozen=True):
    """
    What the parts of a member share.

    Attributes:
        store: Where everything is kept.
        ratchet: The cryptographic state.
        relay: The server.
        me: This device.
        chain_name: Each process of a device has its own: two processes never share a chain.
        inbox: Whether items of other devices are listed as unhandled until the program has handled them.
        keep_frames: Whether frames are kept as they were received, for an audit file.
        now: Gives milliseconds since the epoch.
    """

    store: DeviceStore
    ratchet: Ratchet
    relay: RelayTransport
    me: DeviceAddress
    chain_name: str
    inbox: bool
    keep_frames: bool
    now: Callable[[], int]

    async def transact(self, work: Callable[[Unit], T], *, durable: bool = False) -> T:
        """
        Run `work` as one transaction. Nothing is written when it raises.

        Args:
            work: Reads and writes through the unit.
            durable: On the disk before this returns; what is about to be posted needs it.
        """

        def whole() -> T:
            unit = Unit(self.store)
            result = work(unit)
            writes = unit.writes()
            if writes:
                self.store.commit(writes, durable=durable)
            return result

        return await self.store.run(whole)

    def own_key(self, group: str) -> str:
        """Return the key of this chain name's machine."""
        return f"{group}/{self.chain_name}"


# Values of the server's


def id_of(value: object) -> str:
    """Return an id of the server's; empty when it is no short text, which matches nobody."""
    if type(value) is not str or len(value) > MAX_ID or not value.isprintable():
        return ""
    return value


def device_of(value: object) -> int:
    """Return a device number of the server's; 0 when it is none."""
    return value if type(value) is int and 1 <= value <= 127 else 0


# Groups and rosters


def load_group(unit: Unit, group: str) -> KnownGroup:
    """
    Return where this device is in a group.

    Raises:
        E2eeError: `not_found`.
    """
    state = unit.get(GROUPS, group)
    if state is None:
        raise E2eeError("not_found", f"group {group} is unknown here: found it, or join it with an invite")
    return state


def load_roster(unit: Unit, group: str) -> Roster:
    """Return the roster; an empty one before the founding."""
    return unit.get(ROSTERS, group) or Roster(group=group)


def load_members(unit: Unit, group: str) -> set[str]:
    """Return the users whom the server names as members."""
    return {key[len(group) + 1 :] for key, _ in unit.scan(MEMBERS, f"{group}/")}


def load_records(unit: Unit, group: str) -> list[LoggedRecord]:
    """Return the group's records in the order of the log."""
    return [record for _, record in unit.scan(RECORDS, f"{group}/")]


def secret_key(group: str, number: int) -> str:
    """Return the key of an invite secret."""
    return f"secret/{group}/{ordered(number)}"


def load_facts(unit: Unit, group: str) -> RosterFacts:
    """Return what this device knows beside the records."""
    prefix = f"accepted/{group}/"
    return RosterFacts(
        founder=load_group(unit, group).founder,
        secrets={int(key.split("/")[2]): secret for key, secret in unit.scan(SECRETS, f"secret/{group}/")},
        accepted=frozenset(key[len(prefix) :] for key, _ in unit.scan(MARKS, prefix)),
    )


def put_accepted(unit: Unit, group: str, user: str, device: int, identity: bytes) -> None:
    """Note a person's decision to accept a held device."""
    unit.put(MARKS, f"accepted/{group}/{accepted_key(user, device, identity)}", 1)


def add_record(unit: Unit, group: str, record: LoggedRecord) -> tuple[Roster, Roster]:
    """Fold the group's next record into its roster; return the roster after it and before it."""
    unit.put(RECORDS, f"{group}/{ordered(record.seq)}", record)
    before = load_roster(unit, group)
    after = fold_record(before, record, load_facts(unit, group))
    unit.put(ROSTERS, group, after)
    # The record of a newer secret opens the one before it, which earlier knocks were made with.
    if after.secret_number != before.secret_number:
        after = refold(unit, group)
    return after, before


def refold(unit: Unit, group: str) -> Roster:
    """Fold all records again: a secret or an accepted identity is new. Earlier secrets are derived first."""
    facts, records = load_facts(unit, group), load_records(unit, group)
    secrets = all_secrets(group, records, facts.secrets)
    for number, secret in secrets.items():
        unit.put(SECRETS, secret_key(group, number), secret)
    roster = fold(group, records, msgspec.structs.replace(facts, secrets=secrets))
    unit.put(ROSTERS, group, roster)
    return roster


# The sender


def seen_key(group: str, address: DeviceAddress | None = None) -> str:
    """Return the key under which is noted when the directory saw a device; without one the prefix of all."""
    return f"seen/{group}/{'' if address is None else address.name}"


def load_view(unit: Unit, cx: Context, group: str) -> SenderView:
    """Return what the log says about the devices that are given keys."""
    state, roster, members = load_group(unit, group), load_roster(unit, group), load_members(unit, group)
    now = cx.now()
    unseen = {key for key, at in unit.scan(MARKS, seen_key(group)) if now - at > UNSEEN_MS}
    devices = [
        ViewDevice(one.user, one.device, one.identity.hex(), one.suites)
        for one in roster.devices
        if one.user in members
        and DeviceAddress(one.user, one.device) != cx.me
        and seen_key(group, DeviceAddress(one.user, one.device)) not in unseen
    ]
    return SenderView(epoch=state.epoch, devices=devices, rotation_days=roster.rotation_days)


def load_own(unit: Unit, cx: Context, group: str) -> OwnChain:
    """Return the sender's machine."""
    return unit.get(OWN, cx.own_key(group)) or OwnChain()


def load_given(unit: Unit, distribution: bytes) -> list[Given]:
    """Return the devices that were given a chain, or were tried."""
    return [row for _, row in unit.scan(GIVEN, f"{distribution.hex()}/")]


def given_key(distribution: str, to: DeviceAddress) -> str:
    """Return the key under which is noted what a device was given of a chain."""
    return f"{distribution}/{to.name}"


def drop_chain(unit: Unit, cx: Context, key: str) -> None:
    """Forget the own chain of a machine: the next draft makes another. What was given is kept for requests."""
    own = unit.get(OWN, key)
    if own is not None and own.distribution is not None:
        cx.ratchet.forget(unit, own.distribution)
        unit.put(OWN, key, OwnChain())


# Warnings


def warn(unit: Unit, cx: Context, warning: Warned) -> None:
    """Write a warning."""
    key = f"{warning.group}/{ordered(warning.seq)}/{warning.code}/{warning.user}/{warning.device}"
    unit.put(WARNINGS, key, msgspec.structs.replace(warning, at=cx.now()))


def stop_sending(unit: Unit, cx: Context, group: str, why: Stop) -> None:
    """Stop sending in a group until a person decides, and write the warning. The first reason stays."""
    state = load_group(unit, group)
    unit.put(GROUPS, group, msgspec.structs.replace(state, stopped=state.stopped or why))
    details: dict[str, str | int] = {"ours": why.ours, "theirs": why.theirs}
    warn(unit, cx, Warned(group=group, seq=why.seq, code=why.code, user=why.by, details=details))
