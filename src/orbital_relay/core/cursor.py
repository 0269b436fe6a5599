"""The cursor: deduplication and gap detection by sequence number."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What a reader at some position makes of an event's number."""

    NEXT = "next"
    """The event right after the position: take it."""
    SEEN = "seen"
    """An event at or before the position: drop it."""
    GAP = "gap"
    """An event beyond the next one: read the log from the position on before taking it."""


class Cursor:
    """
    A reader's position in the numbers of one group.

    The numbers of a group run 1, 2, 3, … without a hole, so one integer says all that was seen.
    A cursor never moves backwards and never skips a number.
    """

    __slots__ = ("last",)

    last: int
    """Number of the last event taken; 0 before the first."""

    def __init__(self, last: int = 0) -> None:
        """
        Stand right after event `last`.

        Args:
            last: Number of the last event the reader has; 0 stands before the first.

        Raises:
            ValueError: If `last` is below 0.
        """
        if last < 0:
            msg = f"a position is 0 or more, not {last}"
            raise ValueError(msg)
        self.last = last

    def offer(self, seq: int) -> Verdict:
        """
        Judge the event with number `seq`, and move to it when it is the next one.

        Args:
            seq: The event's number in its group, from 1.

        Returns:
            NEXT, and the cursor stands at `seq`; SEEN or GAP, and it stands where it stood.
        """
        if seq == self.last + 1:
            self.last = seq
            return Verdict.NEXT
        return Verdict.SEEN if seq <= self.last else Verdict.GAP

    def __repr__(self) -> str:
        """Show the position."""
        return f"Cursor({self.last})"
