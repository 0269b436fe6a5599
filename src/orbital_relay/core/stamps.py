"""Timestamps: the hybrid logical clock of `server_timestamp`, and the low watermark of what has been delivered."""

from __future__ import annotations


class Stamps:
    """
    Gives the stamps of one server.

    Events get consecutive stamps, reserved for a batch before it is stored. A frame that is no event gets a stamp below
    every event that has not been delivered: so a client that asks for messages after the last stamp it saw misses none
    (the protocol's section 2, Frames). It never looks at a clock itself.
    """

    __slots__ = ("_last", "_reserved")

    def __init__(self, last_ms: int = 0) -> None:
        """
        Continue after a stamp.

        Args:
            last_ms: The highest stamp that was ever given.
        """
        self._last = last_ms
        self._reserved: int | None = None

    def reserve(self, count: int, *, now_ms: int) -> int:
        """
        Take stamps for a batch of events, which is in flight until `end_batch`.

        Args:
            count: How many, at least 1.
            now_ms: The wall clock.

        Returns:
            The first of them; the others follow it one by one.
        """
        if self._reserved is not None:
            raise AssertionError("one batch at a time is in flight")
        first = max(self._last + 1, now_ms)
        self._last = first + count - 1
        self._reserved = first
        return first

    def advance(self, stamp_ms: int) -> None:
        """Note that the batch was delivered up to the event with this stamp."""
        self._reserved = stamp_ms + 1

    def end_batch(self, last_ms: int = 0) -> None:
        """
        Note that the batch was delivered to every listener, or refused.

        Args:
            last_ms: The highest stamp that the store gave in it, if a group's own was ahead of the clock.
        """
        self._reserved = None
        self._last = max(self._last, last_ms)

    def ephemeral(self, *, now_ms: int) -> int:
        """
        Give the stamp of a frame that is no event: now, or right below the batch that is in flight.

        Args:
            now_ms: The wall clock.
        """
        if self._reserved is not None:
            return self._reserved - 1
        self._last = max(self._last, now_ms)
        return self._last
