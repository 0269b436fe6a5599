"""A device as a member of groups: the package's public face."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from orbital_relay.e2ee.audit import write_audit
from orbital_relay.e2ee.contents import read_items
from orbital_relay.e2ee.enrolment import Enrolment
from orbital_relay.e2ee.formats.envelope import DeviceAddress
from orbital_relay.e2ee.formats.schemas import ID_BYTES
from orbital_relay.e2ee.history import share_history
from orbital_relay.e2ee.hpke_delivery import HPKE_STOCK
from orbital_relay.e2ee.inbound import process_event
from orbital_relay.e2ee.outbound import flush
from orbital_relay.e2ee.outbox import (
    DRAFTS,
    DraftPart,
    OutboxDraft,
    drafts_of,
    enqueue_draft,
    new_key,
    posted_of,
)
from orbital_relay.e2ee.ports import DeviceStore, Ratchet, RelayTransport
from orbital_relay.e2ee.ratchet import HpkeRatchet
from orbital_relay.e2ee.requests import due_requests
from orbital_relay.e2ee.rows import (
    GROUPS,
    ITEMS,
    MARKS,
    UNHANDLED,
    WARNINGS,
    Item,
    KnownGroup,
    LogEvent,
    OwnChain,
    Warned,
)
from orbital_relay.e2ee.safety import SafetyNumber, safety_number
from orbital_relay.e2ee.state import (
    Context,
    drop_chain,
    load_group,
    load_own,
)
from orbital_relay.e2ee.texts import uuid_bytes
from orbital_relay.e2ee.unit import Unit, ordered


class NewPart(msgspec.Struct, frozen=True, kw_only=True):
    """
    An encrypted field of a draft.

    Attributes:
        field: Its name in the event.
        kind: A ContentKind.
        body: What is said.
        context: 16 bytes; None for 16 random ones that all parts of the draft share.
    """

    field: str
    kind: int
    body: bytes
    context: bytes | None = None


class Received(msgspec.Struct, frozen=True):
    """
    What became of an event.

    Attributes:
        processed: False when its number was processed before.
        read: Items that could be read by it: the event's own, and those that waited for keys.
    """

    processed: bool
    read: list[Item]


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class GroupDevice(Enrolment):
    """
    A device of a user in its groups.

    Every event is one transaction: ratchet, item, warning and position together. A member never talks to the server
    but through its relay.
    """

    def __init__(
        self,
        *,
        store: DeviceStore,
        relay: RelayTransport,
        user: str,
        device: int,
        ratchet: Ratchet | None = None,
        chain_name: str = "main",
        inbox: bool = False,
        keep_frames: bool = False,
        now: Callable[[], int] = now_ms,
    ) -> None:
        """
        Be a device.

        Args:
            store: Where everything is kept.
            relay: The server.
            user: A UUID.
            device: 1 to 127; 0 asks the directory for the next free number when keys are published first.
            ratchet: The cryptographic state; an HpkeRatchet when None.
            chain_name: Two members that share a store have different ones: they never share a chain.
            inbox: List items of other devices as unhandled until `handled` is called.
            keep_frames: Keep every frame as it was received, for an audit file.
            now: Gives milliseconds since the epoch.
        """
        uuid_bytes(user)
        me = DeviceAddress(user, device)
        self._cx = Context(store, ratchet or HpkeRatchet(), relay, me, chain_name, inbox, keep_frames, now)
        self._sending: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._caught_up: dict[str, int] = {}

    # Keys and identity

    async def publish_keys(self, wanted: int = HPKE_STOCK) -> None:
        """Make one-time keys, and offer them in the directory; `wanted` is what a `keys_low` says is missing."""
        cx = self._cx
        keys = await cx.transact(lambda unit: cx.ratchet.publish(unit, cx.me.device, cx.now(), wanted), durable=True)
        number = await cx.relay.put_keys(keys)

        def note(unit: Unit) -> None:
            unit.put(MARKS, "published", cx.now())
            unit.put(MARKS, "device", number)

        await cx.transact(note)
        self._cx = msgspec.structs.replace(cx, me=DeviceAddress(cx.me.user, number))

    async def published_at(self) -> int | None:
        """Return when keys were last offered in the directory, milliseconds since the epoch; None before that."""
        return await self._cx.transact(lambda unit: unit.get(MARKS, "published"))

    async def identity(self) -> bytes:
        """Return the identity key of this device, 33 bytes."""
        cx = self._cx
        return await cx.transact(lambda unit: cx.ratchet.identity(unit).public_key, durable=True)

    # Verification

    async def safety_number(self, group: str, user: str) -> SafetyNumber:
        """
        Return what this person and another one compare.

        Raises:
            ValueError: If one of them has no device in the roster.
        """
        devices = (await self.roster(group)).devices
        keys = {one: [each.identity for each in devices if each.user == one] for one in (self.me.user, user)}
        return await asyncio.to_thread(safety_number, self.me.user, keys[self.me.user], user, keys[user])

    async def verify(self, user: str) -> None:
        """Remember that a person's safety number was compared: history that this person shares is read."""
        await self._cx.transact(lambda unit: unit.put(MARKS, f"verified/{user}", self._cx.now()))

    # Receiving

    async def receive(self, event: LogEvent) -> Received:
        """
        Process the group's next event.

        Raises:
            E2eeError: `out_of_order` when it is not the next one, `not_found` for a group that is unknown here.
        """

        def work(unit: Unit) -> Received:
            processed = process_event(unit, self._cx, event)
            return Received(processed, read_items(unit))

        return await self._cx.transact(work)

    def caught_up(self, group: str) -> None:
        """Note that everything that the log had is processed: what is still unreadable is asked for."""
        self._caught_up.setdefault(group, self._cx.now())

    async def tick(self, group: str) -> None:
        """
        Do what is due: requests for missing keys, warnings about what did not come.

        Call it now and then, and `flush` after it.
        """
        since = self._caught_up.get(group)
        if since is not None:
            await self._cx.transact(lambda unit: due_requests(unit, self._cx, group, since))

    async def items(self, group: str) -> list[Item]:
        """Return what was received, in the order of the log."""
        return await self._cx.transact(lambda unit: [item for _, item in unit.scan(ITEMS, f"{group}/")])

    async def unhandled(self, group: str, limit: int = 100) -> list[Item]:
        """Return the oldest items that the program has not handled; a member with `inbox` lists them."""

        def work(unit: Unit) -> list[Item]:
            found = [unit.get(ITEMS, key) for key, _ in unit.scan(UNHANDLED, f"{group}/", limit)]
            return [item for item in found if item is not None]

        return await self._cx.transact(work)

    async def handled(self, item: Item) -> None:
        """Note that the program has handled an item."""
        await self._cx.transact(lambda unit: unit.delete(UNHANDLED, f"{item.group}/{ordered(item.seq)}"))

    async def warnings(self, group: str) -> list[Warned]:
        """Return the warnings, in the order of the log."""
        return await self._cx.transact(lambda unit: [one for _, one in unit.scan(WARNINGS, f"{group}/")])

    async def group(self, group: str) -> KnownGroup:
        """
        Return where this device is in a group.

        Raises:
            E2eeError: `not_found`.
        """
        return await self._cx.transact(lambda unit: load_group(unit, group))

    async def audit(self, group: str) -> bytes:
        """
        Return an audit file of a group, signed by this device.

        Raises:
            E2eeError: `not_found` when the group is unknown here, or no frames of it were kept.
        """
        return await self._cx.transact(lambda unit: write_audit(unit, self._cx, group))

    async def resume(self, group: str) -> None:
        """Go on sending: a person has looked at why it stopped. A new chain is made."""

        def work(unit: Unit) -> None:
            unit.put(GROUPS, group, msgspec.structs.replace(load_group(unit, group), stopped=None))
            drop_chain(unit, self._cx, self._cx.own_key(group))

        await self._cx.transact(work)

    # Sending

    async def draft(
        self,
        group: str,
        kind: str,
        parts: Sequence[NewPart],
        plain: dict[str, Any] | None = None,
        *,
        answering: Item | None = None,
    ) -> str:
        """
        Put a draft into the outbox. It is sealed at the moment of sending.

        Args:
            group: The group.
            kind: The type of the event, `new_reply` for instance.
            parts: The encrypted fields.
            plain: The other fields.
            answering: An item that counts as handled in the same transaction: it is answered once, also when the
                program is killed.

        Returns:
            The idempotency key.

        Raises:
            E2eeError: `not_found` for a group that is unknown here.
            ValueError: If there is no encrypted field.
        """
        if not parts:
            raise ValueError(f"a draft of {kind} needs an encrypted field")
        cx = self._cx
        shared = os.urandom(ID_BYTES)
        draft = OutboxDraft(
            id=new_key(),
            chain_name=cx.chain_name,
            type=kind,
            plain=json.dumps(plain or {}).encode(),
            parts=tuple(
                DraftPart(
                    field=part.field,
                    kind=part.kind,
                    context=shared if part.context is None else part.context,
                    body=part.body,
                    nonce=os.urandom(ID_BYTES),
                )
                for part in parts
            ),
            at=cx.now(),
        )

        def work(unit: Unit) -> None:
            load_group(unit, group)
            enqueue_draft(unit, group, draft)
            if answering is not None:
                unit.delete(UNHANDLED, f"{answering.group}/{ordered(answering.seq)}")

        await cx.transact(work, durable=True)
        return draft.id

    async def flush(self, group: str) -> None:
        """Send what waits; raises as `flush` of outbound.py does. One at a time for a group."""
        async with self._sending[group]:
            await flush(self._cx, group)

    async def pending(self, group: str) -> int:
        """Return how many drafts did not come back as events yet."""
        return await self._cx.transact(
            lambda unit: len(unit.scan(DRAFTS, drafts_of(group))) + len(unit.scan(DRAFTS, posted_of(group)))
        )

    async def renew_keys(self, group: str) -> None:
        """Take new keys for what is sent next: a person asked for it."""
        await self._cx.transact(lambda unit: drop_chain(unit, self._cx, self._cx.own_key(group)))

    async def adopt_drafts(self, group: str) -> None:
        """Take over drafts of other chain names, whose processes have ended."""
        name = self._cx.chain_name

        def work(unit: Unit) -> None:
            for key, row in unit.scan(DRAFTS, drafts_of(group)):
                if row.chain_name != name:
                    unit.delete(DRAFTS, key)
                    enqueue_draft(unit, group, msgspec.structs.replace(row, chain_name=name))

        await self._cx.transact(work)

    async def sender(self, group: str) -> OwnChain:
        """Return the sender's machine, for showing."""
        return await self._cx.transact(lambda unit: load_own(unit, self._cx, group))

    async def share_history(self, group: str, user: str) -> int:
        """
        Give a person what this device can read, as far as the group's policy allows: a person's decision.

        Returns:
            Chains given to each of the person's devices.

        Raises:
            E2eeError: `stopped` when the policy allows none.
        """
        return await self._cx.transact(lambda unit: share_history(unit, self._cx, group, user))
