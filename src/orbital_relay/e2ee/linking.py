"""Device linking: a device of a person admits a new device of the same person, by a code (QR code) that it shows."""

from __future__ import annotations

import asyncio
import os
from typing import Final, Literal, NoReturn

import msgspec

from orbital_relay.client import ApiError, Unreachable
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.link import (
    MAILBOX_BYTES,
    LinkBody,
    LinkCode,
    link_number,
    link_point,
    open_link,
    read_link_code,
    seal_link,
)
from orbital_relay.e2ee.formats.records import Link, write_record
from orbital_relay.e2ee.handover import enter_handed, handed_over
from orbital_relay.e2ee.link_machine import NewInput, NewState, new_device_row
from orbital_relay.e2ee.mailboxes import MailboxTransport
from orbital_relay.e2ee.member import GroupDevice
from orbital_relay.e2ee.outbox import QueuedRecord, enqueue, new_key
from orbital_relay.e2ee.rows import MARKS
from orbital_relay.e2ee.state import Context, load_roster
from orbital_relay.e2ee.transport import is_left_for_later
from orbital_relay.e2ee.unit import RowTable, Unit

CODE_MS: Final = 10 * 60 * 1000
"""How long a code can be used: as long as the server keeps a mailbox."""
LOOK_S: Final = 2.0
"""The shortest time between two looks into a mailbox: an address may look 60 times a minute."""
MAX_VERIFIED: Final = 1024
"""Verified users that one message names."""


class Linked(msgspec.Struct, frozen=True):
    """Six digits that both devices show, and the groups that the new device may read."""

    number: str
    groups: list[str]


class Inspected(msgspec.Struct, frozen=True):
    """A code that was read: the new device, its identity key, and the groups that it would be admitted to."""

    device: int
    identity: bytes
    groups: list[str]


class LinkOffer(msgspec.Struct, frozen=True, kw_only=True):
    """
    The new device's row.

    Attributes:
        state: `offered` or `received`.
        code: What is shown.
        scalar: The private half of the code's X25519 key.
        until: When the code expires, milliseconds since the epoch.
        sealed: The message, in `received`.
    """

    state: Literal["offered", "received"]
    code: LinkCode
    scalar: bytes
    until: int
    sealed: bytes = b""


class LinkAdmission(msgspec.Struct, frozen=True, kw_only=True):
    """The older device's row: the code, the message for it, and the groups that it hands over."""

    code: LinkCode
    sealed: bytes
    groups: list[str]


OFFERS: Final = RowTable[LinkOffer]("meta", LinkOffer)
ADMISSIONS: Final = RowTable[LinkAdmission]("meta", LinkAdmission)
OFFER: Final = "link/offer"
ADMISSION: Final = "link/admission"


class DeviceLink:
    """
    Linking on either device.

    Everything is in the device's store, so a program that is killed continues where it was, or begins again.

    The new device: `offer`, show the code, `receive`, let a person compare the number, then `accept` or `decline`.
    The older one: `inspect` the code, let a person confirm it, `admit`; after a restart `resume`.
    """

    def __init__(self, device: GroupDevice, mailboxes: MailboxTransport) -> None:
        """
        Link this device, or link another one to it.

        Args:
            device: Its keys are in the directory.
            mailboxes: The server's.
        """
        self._device, self._mailboxes = device, mailboxes

    @property
    def _cx(self) -> Context:
        return self._device.context

    # The new device

    async def offer(self) -> LinkOffer:
        """Open a mailbox and return the code to show. A code that can still be used is returned again."""
        cx, known = self._cx, await self._offered()
        state: NewState = "idle" if known is None else known.state
        if known is not None and state == "offered" and cx.now() < known.until:
            new_device_row(state, "shown")
            return known
        new_device_row(state, "open")
        until = cx.now() + CODE_MS
        mailbox = await self._mailboxes.open()
        if len(mailbox) != MAILBOX_BYTES:
            raise E2eeError("malformed", f"the server named a mailbox of {len(mailbox)} bytes, not {MAILBOX_BYTES}")

        def work(unit: Unit) -> LinkOffer:
            scalar = os.urandom(32)
            code = LinkCode(
                mailbox=mailbox,
                user=cx.me.user,
                device=cx.me.device,
                suites=cx.ratchet.suites,
                identity=cx.ratchet.identity(unit).public_key,
                point=link_point(scalar),
                secret=os.urandom(16),
            )
            row = LinkOffer(state="offered", code=code, scalar=scalar, until=until)
            unit.put(OFFERS, OFFER, row)
            return row

        return await cx.transact(work, durable=True)

    async def receive(self) -> Linked:
        """
        Wait for the older device's message. Nothing is entered before `accept`.

        Raises:
            E2eeError: `not_found` when no code is shown, or it has expired; another code when the message is not one
                for this code: the code is deleted, and a new one is needed.
            ApiError, Unreachable: If the server refuses to be asked.
        """
        row = await self._offered()
        if row is None:
            raise E2eeError("not_found", "no code is shown: make one first")
        try:
            sealed = row.sealed or await self._wait(row)
            body = self._read(row, sealed)
        except E2eeError as exc:
            if row.state == "received":
                await self._forget("declined", exc)
            await self._forget("expired" if exc.code == "not_found" else "foreign", exc)

        def work(unit: Unit) -> None:
            present = unit.get(OFFERS, OFFER)
            if present is not None and present.state == "offered" and present.code == row.code:
                new_device_row("offered", "mail")
                unit.put(OFFERS, OFFER, msgspec.structs.replace(present, state="received", sealed=sealed))

        await self._cx.transact(work, durable=True)
        return Linked(link_number(row.code, sealed), [one.group for one in body.groups])

    async def accept(self) -> list[str]:
        """
        Enter the groups, all or none: a person has compared the number.

        Returns:
            The groups; each is readable once the older device's `link` is in its log.

        Raises:
            E2eeError: `not_found` when no message was received; `conflict` when a group is known here with another
                founder.
        """
        cx, row = self._cx, await self._offered()
        if row is None:
            raise E2eeError("not_found", "no message was received: show a code first")
        new_device_row(row.state, "confirmed")
        body = self._read(row, row.sealed)

        def work(unit: Unit) -> list[str]:
            for one in body.groups:
                enter_handed(unit, cx, one)
            for user in body.verified:
                if user != cx.me.user:
                    unit.put(MARKS, f"verified/{user}", cx.now())
            unit.delete(OFFERS, OFFER)
            return [one.group for one in body.groups]

        return await cx.transact(work, durable=True)

    async def decline(self) -> None:
        """Delete the code: the numbers differ, or a person ends it."""
        await self._cx.transact(lambda unit: unit.delete(OFFERS, OFFER), durable=True)

    async def _offered(self) -> LinkOffer | None:
        return await self._cx.transact(lambda unit: unit.get(OFFERS, OFFER))

    async def _forget(self, on: NewInput, error: E2eeError) -> NoReturn:
        def work(unit: Unit) -> None:
            row = unit.get(OFFERS, OFFER)
            if row is not None and new_device_row(row.state, on).does == "forget":
                unit.delete(OFFERS, OFFER)

        await self._cx.transact(work)
        raise error

    async def _wait(self, row: LinkOffer) -> bytes:
        loop = asyncio.get_running_loop()
        while self._cx.now() < row.until:
            since = loop.time()
            try:
                found = await self._mailboxes.read(row.code.mailbox_name)
            except E2eeError as exc:
                if exc.code != "not_found":
                    raise
                break
            except (ApiError, Unreachable) as exc:
                if isinstance(exc, ApiError) and not exc.retryable:
                    raise
                found = None
            if found is not None:
                return found
            # A server that answers at once must not be asked in a loop.
            await asyncio.sleep(max(0.0, LOOK_S - (loop.time() - since)))
        raise E2eeError("not_found", "the code has expired: show a new one")

    def _read(self, row: LinkOffer, sealed: bytes) -> LinkBody:
        body, me = open_link(row.code, row.scalar, sealed), self._cx.me
        if body.user != me.user:
            raise E2eeError("conflict", "the message is of a device of another person")
        if body.device == me.device or body.identity == row.code.identity:
            raise E2eeError("conflict", "the message names this device as the one that made it")
        return body

    # The older device

    async def inspect(self, text: str) -> Inspected:
        """
        Read a code and say what admitting its device means. Nothing is sent.

        Raises:
            E2eeError: `malformed` for a wrong code, `unsupported`; `conflict` when it is of another account, of this
                device, has the number of another device, or was revoked; `not_found` when this device is in no group,
                or a group's secret has not arrived.
        """
        code, cx = read_link_code(text), self._cx
        groups = await cx.transact(lambda unit: handed_over(unit, cx, code))
        return Inspected(code.device, code.identity, [one.group for one in groups])

    async def admit(self, text: str) -> Linked:
        """
        Hand the groups over, and admit the device to each of them: a person has confirmed the code.

        Returns:
            When the server has the message; the records are sent, or wait in the outbox of each group.

        Raises:
            E2eeError: As `inspect`; `bad_key` when the directory has another identity for the device, `not_found` when
                it has none, or the code has expired; `conflict` when the code was used. Nothing is linked then.
            ApiError, Unreachable: If the server did not take the message: `resume` continues.
        """
        code, cx = read_link_code(text), self._cx
        pending = await self._admission()
        if pending is not None and pending.code == code:
            return await self._post(pending)
        groups = await cx.transact(lambda unit: handed_over(unit, cx, code))
        await self._check_listed(code, groups[0].group)

        def work(unit: Unit) -> LinkAdmission:
            signer = cx.ratchet.identity(unit)
            content = LinkBody(
                user=cx.me.user,
                device=cx.me.device,
                identity=signer.public_key,
                groups=groups,
                verified=[key.removeprefix("verified/") for key, _ in unit.scan(MARKS, "verified/", MAX_VERIFIED)],
            )
            sealed = seal_link(code, content, signer)
            row = LinkAdmission(code=code, sealed=sealed, groups=[one.group for one in groups])
            unit.put(ADMISSIONS, ADMISSION, row)
            return row

        return await self._post(await cx.transact(work, durable=True))

    async def resume(self) -> Linked | None:
        """
        Continue an admission that a kill or a lost connection interrupted; None when there is none.

        Raises:
            E2eeError, ApiError, Unreachable: As `admit`.
        """
        row = await self._admission()
        return None if row is None else await self._post(row)

    async def _admission(self) -> LinkAdmission | None:
        return await self._cx.transact(lambda unit: unit.get(ADMISSIONS, ADMISSION))

    async def _check_listed(self, code: LinkCode, group: str) -> None:
        for one in await self._cx.relay.devices(group):
            if (one.user, one.device) != (code.user, code.device):
                continue
            if one.identity == code.identity:
                return
            raise E2eeError(
                "bad_key",
                f"the directory has another identity for device {code.device} than the code: do not link it, "
                "the server may lie",
            )
        raise E2eeError(
            "not_found", f"the directory has no device {code.device} of yours: log in on the new device first"
        )

    async def _post(self, row: LinkAdmission) -> Linked:
        cx, code = self._cx, row.code
        try:
            await self._mailboxes.put(code.mailbox_name, row.sealed)
        except E2eeError as exc:
            await cx.transact(lambda unit: unit.delete(ADMISSIONS, ADMISSION), durable=True)
            why = "has expired" if exc.code == "not_found" else "was used before"
            text = f"the code {why}, and nothing was linked: show a new one on the new device"
            raise E2eeError(exc.code, text) from exc

        def work(unit: Unit) -> None:
            if unit.get(ADMISSIONS, ADMISSION) is None:
                return
            me, signer = cx.me, cx.ratchet.identity(unit)
            body = Link(
                user=me.user, device=code.device, identity=code.identity, suites=code.suites, by_device=me.device
            )
            for group in row.groups:
                present = load_roster(unit, group).find(me.user, code.device)
                if present is None or present.identity != code.identity:
                    enqueue(unit, group, QueuedRecord(id=new_key(), record=write_record(group, body, signer)))
            unit.delete(ADMISSIONS, ADMISSION)

        await cx.transact(work, durable=True)
        for group in row.groups:
            await self._flush(group)
        return Linked(link_number(code, row.sealed), row.groups)

    async def _flush(self, group: str) -> None:
        """Send the record of a group, or leave it in the outbox, which the group sends when it is open."""
        try:
            await self._device.flush(group)
        except (ApiError, Unreachable, E2eeError) as exc:
            if not is_left_for_later(exc):
                raise
