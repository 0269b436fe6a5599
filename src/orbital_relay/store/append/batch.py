"""The append loop of both databases: decide, sequence number, seal, head; deduplication by idempotency key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

import msgspec

from orbital_relay import wire
from orbital_relay.api import receipts
from orbital_relay.core.chain import digest
from orbital_relay.core.decide import Effect, decide
from orbital_relay.core.refusals import key_reused
from orbital_relay.errors import OrbitalError
from orbital_relay.model import AnyDraft, Event, GroupId
from orbital_relay.model.facts import Facts
from orbital_relay.ports import Appended
from orbital_relay.store import tables as t

KEY_LIFETIME_MS: Final = 24 * 3600 * 1000
"""How long an idempotency key answers."""

ScopedKey = tuple[int, str]
"""A user's row number, and the key that the user's client chose."""

KnownKey = tuple[bytes, bytes]
"""Fingerprint of the first request, and its encoded receipt."""

D = TypeVar("D", bound=AnyDraft)


class GroupRow(msgspec.Struct):
    """A group's row while a transaction works on it; the head moves with each event."""

    id: int
    group_id: str
    creator: int
    last_seq: int
    last_stamp_ms: int
    last_hash: str
    floor_seq: int
    epoch_seq: int


class Batch(ABC, Generic[D]):
    """
    The drafts of one transaction, and the rows that they add up to.

    An adapter reads the facts, writes the rows of a draft's kind, and at the end what is in the attributes.

    Attributes:
        events: Rows of the events: event key, group, stamp, 1 for a message and 2 for keys, frame.
        moved: Groups whose head moved, by row number.
        keys: First answers to idempotency keys: fingerprint, encoded receipt, time of use.
    """

    def __init__(self) -> None:
        self.events: list[tuple[int, int, int, int, bytes]] = []
        self.moved: dict[int, GroupRow] = {}
        self.keys: dict[ScopedKey, tuple[bytes, bytes, int]] = {}

    @abstractmethod
    def _write_rows(self, draft: D, group: GroupRow, effect: Effect, *, seq: int) -> None:
        """Write, or note to be written, the rows that a draft of this kind has besides its event."""

    def add(self, draft: D, group: GroupRow, facts: Facts, *, stamp_ms: int) -> Appended | OrbitalError:
        """
        Decide a draft and take up its event; what it adds is seen by the next. A refused draft leaves no trace.

        Args:
            draft: What is asked.
            group: Its group, under its lock.
            facts: What was read for it.
            stamp_ms: The event's stamp, unless the group's last is not below.
        """
        seq = group.last_seq + 1
        stamp_ms = max(stamp_ms, group.last_stamp_ms + 1)
        effect = decide(draft, facts, seq=seq, stamp_ms=stamp_ms)
        if isinstance(effect, OrbitalError):
            return effect
        self._write_rows(draft, group, effect, seq=seq)
        frame = wire.seal(effect.data, group_id=group.group_id, seq=seq, stamp_ms=stamp_ms, prev=group.last_hash)
        group.last_seq, group.last_stamp_ms, group.last_hash = seq, stamp_ms, digest(frame)
        if effect.creator is not None:
            group.creator = effect.creator
        self.moved[group.id] = group
        message = t.MESSAGE_MARKS.get(effect.data.kind, 0)
        self.events.append((group.id << t.SEQ_BITS | seq, group.id, stamp_ms, message, frame))
        if draft.idempotency_key is not None:
            known = draft.idempotency_key.fingerprint, receipts.encode(effect.receipt), draft.at_ms
            self.keys[draft.actor.key, draft.idempotency_key.key] = known
        return Appended(effect.receipt, Event(GroupId(group.group_id), seq, stamp_ms, frame))


def repeated(draft: AnyDraft, known: KnownKey | tuple[bytes, bytes, int] | None) -> Appended | None:
    """
    Return the first answer to a draft's idempotency key, None when the key is new.

    Raises:
        Conflict: If the key was used with another request.
    """
    if known is None or draft.idempotency_key is None:
        return None
    if bytes(known[0]) != draft.idempotency_key.fingerprint:
        raise key_reused()
    try:
        return Appended(receipts.decode(type(draft), bytes(known[1])), None)
    except msgspec.ValidationError as exc:
        # The same fields were posted to another route, which passes over those that it does not know.
        raise key_reused() from exc
