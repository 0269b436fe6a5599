"""The outbox: drafts of each chain, drafts whose event is awaited, and records, requests and deliveries."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from orbital_relay.e2ee.formats.envelope import DeviceAddress, History
from orbital_relay.e2ee.rows import COUNTERS
from orbital_relay.e2ee.unit import RowTable, Unit, ordered


class DraftPart(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a draft, in plaintext."""

    field: str
    kind: int
    context: bytes
    body: bytes
    nonce: bytes


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed draft: its distribution in hexadecimal, the iteration of the first part, its epoch and the fields."""

    distribution: str
    iteration: int
    epoch: int
    body: dict[str, str]


class OutboxDraft(msgspec.Struct, frozen=True, kw_only=True):
    """
    A draft: plaintext until the moment of sending.

    Attributes:
        id: The idempotency key.
        chain_name: The chain that sends it.
        type: The event's type.
        plain: Fields that are not encrypted, as JSON.
        parts: Fields that are encrypted.
        at: When it was written, milliseconds since the epoch.
        sealed: Written together with the ratchet that made it, so that a retry posts the same bytes under the same key.
        tried: Earlier seals whose posts were not answered: one of them may be in the log.
        posted: Its number once the server has it; the row stays until the event itself comes back.
        withheld: Whether a warning was written that the event did not come.
    """

    id: str
    chain_name: str
    type: str
    plain: bytes
    parts: tuple[DraftPart, ...]
    at: int
    sealed: Sealed | None = None
    tried: tuple[Sealed, ...] = ()
    posted: int | None = None
    withheld: bool = False


class QueuedRecord(msgspec.Struct, frozen=True, kw_only=True, tag="record"):
    """A record to post."""

    id: str
    record: bytes


class QueuedRequest(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """A request to post."""

    id: str
    distribution: bytes


class SealedDelivery(msgspec.Struct, frozen=True):
    """A sealed delivery in its envelope, base64, and the epoch that it was made for."""

    envelope: str
    epoch: int


class QueuedDelivery(msgspec.Struct, frozen=True, kw_only=True, tag="deliver"):
    """
    A pairwise message for one device.

    Attributes:
        id: The idempotency key.
        to: The device.
        identity: Hexadecimal: for this identity and no other.
        skdm: An own chain.
        history: Chains of others.
        not_before: Milliseconds since the epoch; a row that another device answers is deleted before.
        answers: The distribution that it answers for, hexadecimal.
        sealed: Kept for a retry.
    """

    id: str
    to: DeviceAddress
    identity: str
    skdm: bytes | None = None
    history: list[History] = []
    not_before: int = 0
    answers: str | None = None
    sealed: SealedDelivery | None = None


Service = QueuedRecord | QueuedRequest | QueuedDelivery
"""Rows of the outbox that are no drafts."""

DRAFTS: Final = RowTable[OutboxDraft]("outbox", OutboxDraft)
SERVICES: Final = RowTable[Service]("outbox", Service)


def drafts_of(group: str, chain_name: str | None = None) -> str:
    """Return the prefix of a chain's drafts, or of all."""
    return f"{group}/drafts/" if chain_name is None else f"{group}/drafts/{chain_name}/"


def posted_of(group: str) -> str:
    """Return the prefix of drafts whose event is awaited."""
    return f"{group}/posted/"


def posted_key(group: str, sealed: Sealed) -> str:
    """Return the key of a draft whose event is awaited."""
    return f"{group}/posted/{sealed.distribution}/{sealed.iteration}"


def services_of(group: str) -> str:
    """Return the prefix of records, requests and deliveries."""
    return f"{group}/service/"


def _next_order(unit: Unit) -> str:
    order = (unit.get(COUNTERS, "outbox_order") or 0) + 1
    unit.put(COUNTERS, "outbox_order", order)
    return ordered(order)


def enqueue_draft(unit: Unit, group: str, draft: OutboxDraft) -> None:
    """Append a draft to the outbox."""
    unit.put(DRAFTS, drafts_of(group, draft.chain_name) + _next_order(unit), draft)


def enqueue(unit: Unit, group: str, row: Service) -> None:
    """Append a record, request or delivery to the outbox."""
    unit.put(SERVICES, services_of(group) + _next_order(unit), row)


def new_key() -> str:
    """Return an idempotency key."""
    return os.urandom(16).hex()
