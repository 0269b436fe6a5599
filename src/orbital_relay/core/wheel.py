"""A timer wheel for heartbeats: many deadlines an interval with a single timer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """
    Slots that come round once an interval.

    A thing is due for the first time one whole round after it was added, give or take one slot. The wheel never looks
    at a clock: who owns it calls `turn` every interval / slots.
    """

    __slots__ = ("_at", "_slots", "_where")

    def __init__(self, slots: int) -> None:
        """
        Args:
            slots: Parts of the interval, at least 1; more spread the work more evenly.
        """
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._where: dict[T, int] = {}
        self._at = 0

    def __len__(self) -> int:
        return len(self._where)

    def add(self, thing: T) -> None:
        """Make a thing due from the next round on."""
        self._where[thing] = self._at
        self._slots[self._at].add(thing)

    def discard(self, thing: T) -> None:
        """Forget a thing, if it is there."""
        slot = self._where.pop(thing, None)
        if slot is not None:
            self._slots[slot].discard(thing)

    def turn(self) -> Iterable[T]:
        """Advance by one slot and return the entries that are due; entries may be added and removed meanwhile."""
        self._at = (self._at + 1) % len(self._slots)
        return tuple(self._slots[self._at])
