"""Enrolment of a device in groups, and the other devices: records of the roster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import DeviceAddress
from orbital_relay.e2ee.formats.records import (
    Founding,
    HistoryPolicy,
    Knock,
    Link,
    Policy,
    Revoke,
    RosterBody,
    Secret,
    next_secret,
    write_record,
)
from orbital_relay.e2ee.formats.schemas import SECRET_BYTES
from orbital_relay.e2ee.invite import Invite, founder_hash, write_invite
from orbital_relay.e2ee.keys import follow_roster
from orbital_relay.e2ee.newcomers import note_member
from orbital_relay.e2ee.outbox import (
    DRAFTS,
    QueuedDelivery,
    QueuedRecord,
    enqueue,
    new_key,
    posted_of,
)
from orbital_relay.e2ee.roster import LoggedRecord, Roster
from orbital_relay.e2ee.rows import (
    GROUPS,
    MARKS,
    MEMBERS,
    OWN,
    SECRETS,
    KnownGroup,
    LogPosition,
    Removal,
    Warned,
)
from orbital_relay.e2ee.state import (
    Context,
    add_record,
    drop_chain,
    load_group,
    load_members,
    load_records,
    load_roster,
    put_accepted,
    refold,
    secret_key,
    seen_key,
    warn,
)
from orbital_relay.e2ee.texts import uuid_bytes
from orbital_relay.e2ee.unit import Unit


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a device begins that comes into a group whose log it has not read from the start.

    Attributes:
        position: The last event before the first that `receive` will get.
        epoch: The number of the last event that changed members, devices or records.
        members: Users, as the server names them.
        records: All of the group, in order.
    """

    position: LogPosition
    epoch: int
    members: Sequence[str]
    records: Sequence[LoggedRecord]


class Enrolment:
    """The part of a member that founds and enters groups, and admits and revokes devices."""

    _cx: Context

    @property
    def me(self) -> DeviceAddress:
        """This device."""
        return self._cx.me

    @property
    def context(self) -> Context:
        """What the parts of this device share; a program uses the methods."""
        return self._cx

    # Coming into a group

    async def found(self, group: str, *, history: HistoryPolicy = HistoryPolicy.NONE) -> None:
        """Found a group that the server has just made."""

        def work(unit: Unit) -> None:
            signer = self._cx.ratchet.identity(unit)
            invite = Invite(os.urandom(SECRET_BYTES), founder_hash(signer.public_key))
            self._begin(unit, group, invite, inviter=None, number=0)
            self._record(unit, group, Founding(**self._device(unit), history=history))

        await self._cx.transact(work)

    async def join(
        self,
        group: str,
        invite: Invite,
        *,
        inviter: str | None = None,
        secret_number: int = 0,
        start: Start | None = None,
    ) -> None:
        """
        Enter a group by an invite, with this person's first device.

        Args:
            group: The group.
            invite: Of a link.
            inviter: The person who gave the invite, if known.
            secret_number: Of the invite's secret.
            start: Where to begin; the log's first event when None.
        """

        def work(unit: Unit) -> None:
            self._begin(unit, group, invite, inviter=inviter, number=secret_number, start=start)
            self._record(unit, group, Knock(**self._device(unit), secret_number=secret_number), invite.secret)

        await self._cx.transact(work)

    async def enter_linked(
        self, group: str, invite: Invite, *, secret_number: int = 0, start: Start | None = None
    ) -> None:
        """Enter a group as a further device of a person; an older device signs the `link`."""
        await self._cx.transact(
            lambda unit: self._begin(unit, group, invite, inviter=self.me.user, number=secret_number, start=start)
        )

    async def skip_to(self, group: str, start: Start) -> None:
        """
        Continue behind events that the server no longer keeps.

        What is known of the roster stays: the server can add records, and take none back. Content of the gap is not
        read. The own chain is thrown away, since a copy of this store may have sent in the gap.

        Raises:
            E2eeError: `out_of_order` when the start is not behind the position: the log was replaced by an older one.
        """

        def work(unit: Unit) -> None:
            state = load_group(unit, group)
            seq, last, members = state.position.seq, start.position.seq, set(start.members)
            if last < seq:
                raise E2eeError(
                    "out_of_order",
                    f"the log of {group} ends at {last}, and {seq} was processed: the server has an older log",
                    expected=seq + 1,
                )
            removals = tuple(one for one in state.removals if one.user in members)
            state = msgspec.structs.replace(state, position=start.position, epoch=start.epoch, removals=removals)
            unit.put(GROUPS, group, state)
            present = load_members(unit, group)
            for user in present - members:
                unit.delete(MEMBERS, f"{group}/{user}")
            known = {record.seq for record in load_records(unit, group)}
            for record in start.records:
                if record.seq not in known and record.seq <= last:
                    add_record(unit, group, record)
            refold(unit, group)
            for key, _ in unit.scan(OWN, f"{group}/"):
                drop_chain(unit, self._cx, key)
            for user in sorted(members - present):
                note_member(unit, self._cx, group, user, start.epoch)
            # The events of these posts are in the gap.
            for key, row in unit.scan(DRAFTS, posted_of(group)):
                if row.posted is not None and row.posted <= last:
                    unit.delete(DRAFTS, key)
            if seq > 0:
                warn(unit, self._cx, Warned(group=group, seq=last, code="gap", details={"after": seq}))
            follow_roster(unit, self._cx, group)

        await self._cx.transact(work)

    def _begin(
        self,
        unit: Unit,
        group: str,
        invite: Invite,
        *,
        inviter: str | None,
        number: int,
        start: Start | None = None,
    ) -> None:
        uuid_bytes(group)
        if unit.get(GROUPS, group) is not None:
            raise E2eeError("conflict", f"group {group} is known here already")
        position, epoch = (start.position, start.epoch) if start else (LogPosition(), 0)
        unit.put(GROUPS, group, KnownGroup(position=position, epoch=epoch, founder=invite.founder, inviter=inviter))
        unit.put(SECRETS, secret_key(group, number), invite.secret)
        if start is None:
            return
        for record in start.records:
            add_record(unit, group, record)
        for user in start.members:
            note_member(unit, self._cx, group, user, start.epoch)

    def _device(self, unit: Unit) -> dict[str, Any]:
        """Return the fields of a record that name this device."""
        ratchet, me = self._cx.ratchet, self.me
        identity = ratchet.identity(unit).public_key
        return {"user": me.user, "device": me.device, "identity": identity, "suites": ratchet.suites}

    def _record(self, unit: Unit, group: str, body: RosterBody, secret: bytes | None = None) -> None:
        """Enqueue a record; a secret proves a knock."""
        record = write_record(group, body, self._cx.ratchet.identity(unit) if secret is None else secret)
        enqueue(unit, group, QueuedRecord(id=new_key(), record=record))

    async def invite(self, group: str) -> tuple[str, int]:
        """
        Return the part of an invite link after the `#`, and the number of its secret.

        Raises:
            E2eeError: `not_found` when the present secret has not reached this device yet.
        """

        def work(unit: Unit) -> tuple[str, int]:
            founder, number = load_group(unit, group).founder, load_roster(unit, group).secret_number
            return write_invite(Invite(_present_secret(unit, group), founder)), number

        return await self._cx.transact(work)

    # The roster

    async def link(self, group: str, *, device: int, identity: bytes, suites: int) -> None:
        """Admit a further device of this person."""
        me = self.me
        body = Link(user=me.user, device=device, identity=identity, suites=suites, by_device=me.device)
        await self._cx.transact(lambda unit: self._record(unit, group, body))

    async def revoke(self, group: str, user: str, device: int = 0, *, removed: bool = False) -> None:
        """
        Revoke a device, or every device of a person.

        Args:
            group: The group.
            user: The person.
            device: 0 for all.
            removed: The server is asked to remove the person too: a `member_left` that does not come is warned of.
        """
        me = self.me
        body = Revoke(user=user, device=device, by_user=me.user, by_device=me.device)

        def work(unit: Unit) -> None:
            self._record(unit, group, body)
            state = load_group(unit, group)
            if removed:
                removals = (*state.removals, Removal(user, self._cx.now()))
                unit.put(GROUPS, group, msgspec.structs.replace(state, removals=removals))

        await self._cx.transact(work)

    async def set_policy(self, group: str, *, history: HistoryPolicy, rotation_days: int) -> None:
        """Set the group's policy; only the founding user's counts."""
        body = Policy(history=history, rotation_days=rotation_days, by_device=self.me.device)
        await self._cx.transact(lambda unit: self._record(unit, group, body))

    async def renew_secret(self, group: str) -> None:
        """Replace the invite secret: invites of before prove nothing any more. Every device is sent the new one."""
        me = self.me

        def work(unit: Unit) -> None:
            roster = load_roster(unit, group)
            number = roster.secret_number + 1
            secret, earlier = next_secret(group, _present_secret(unit, group))
            unit.put(SECRETS, secret_key(group, number), secret)
            body = Secret(number=number, by_user=me.user, by_device=me.device, earlier=earlier)
            self._record(unit, group, body)
            for one in roster.devices:
                to = DeviceAddress(one.user, one.device)
                if to != me:
                    enqueue(unit, group, QueuedDelivery(id=new_key(), to=to, identity=one.identity.hex()))

        await self._cx.transact(work)

    async def accept(self, group: str, user: str, device: int, identity: bytes) -> None:
        """Accept a held device: this person's own decision."""

        def work(unit: Unit) -> None:
            put_accepted(unit, group, user, device, identity)
            refold(unit, group)
            follow_roster(unit, self._cx, group)

        await self._cx.transact(work)

    async def roster(self, group: str) -> Roster:
        """Return the devices that may be given keys, and what is wrong with records."""
        return await self._cx.transact(lambda unit: load_roster(unit, group))

    async def strangers(self, group: str) -> list[str]:
        """Return members that nobody of the group has admitted: they are given nothing."""

        def work(unit: Unit) -> list[str]:
            admitted = {one.user for one in load_roster(unit, group).devices}
            return sorted(load_members(unit, group) - admitted)

        return await self._cx.transact(work)

    async def check_directory(self, group: str) -> tuple[list[DeviceAddress], list[DeviceAddress]]:
        """
        Compare the server's directory with the roster, and warn of every difference.

        Devices that were not seen for 90 days are given nothing from now on.

        Returns:
            Devices that the roster does not have, and those that it has with another identity.
        """
        listed = await self._cx.relay.devices(group)

        def work(unit: Unit) -> tuple[list[DeviceAddress], list[DeviceAddress]]:
            roster, seq = load_roster(unit, group), load_group(unit, group).position.seq
            strangers: list[DeviceAddress] = []
            differing: list[DeviceAddress] = []
            for one in listed:
                address = DeviceAddress(one.user, one.device)
                unit.put(MARKS, seen_key(group, address), one.seen_at)
                known = roster.find(one.user, one.device)
                if known is not None and known.identity == one.identity:
                    continue
                (strangers if known is None else differing).append(address)
                code = "unknown_device" if known is None else "identity_differs"
                warning = Warned(group=group, seq=seq, code=code, user=one.user, device=one.device)
                warn(unit, self._cx, warning)
            return strangers, differing

        return await self._cx.transact(work)


def _present_secret(unit: Unit, group: str) -> bytes:
    number = load_roster(unit, group).secret_number
    secret = unit.get(SECRETS, secret_key(group, number))
    if secret is None:
        raise E2eeError("not_found", f"invite secret {number} of {group} has not reached this device yet")
    return secret
