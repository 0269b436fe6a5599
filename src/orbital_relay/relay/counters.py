"""Counters of the relay, for the metrics."""

from __future__ import annotations

import msgspec


class Counters(msgspec.Struct):
    """
    What the relay counts; the metrics show it.

    Attributes:
        events: Events appended here, by kind.
        replayed: Events written to listeners that were behind.
        reads: Reads of the log for them.
        gaps: Times that an event was missing and the log was read.
        lost: Subscriptions whose position was no longer kept.
        restored: Times that a group's log was found to have gone back under its listeners.
    """

    events: dict[str, int] = {}
    replayed: int = 0
    reads: int = 0
    gaps: int = 0
    lost: int = 0
    restored: int = 0
