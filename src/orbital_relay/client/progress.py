"""Positions of a subscription: what was delivered to the program, what it has handled, and what is saved."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from orbital_relay.client.events import CaughtUp, Position, Reset, StreamItem
from orbital_relay.client.stores import PositionStore
from orbital_relay.client.user_code import await_user_code

SAVE_EVERY: Final = 64
"""Events read between two savings of the position while more are waiting; the position is saved whenever none is."""


class Progress:
    """How far one group was handled, and how far that is saved. It outlives the iterator that a program drops."""

    def __init__(self, group_id: str, store: PositionStore | None) -> None:
        self.group_id = group_id
        self.handled: Position | None = None
        self._reader: asyncio.Task[Any] | None = None
        """The task that asked last; only it can know that the last item was handled."""
        self._handed: Position | None = None
        """After the item that was yielded last, when it is not known yet whether it was handled."""
        self._unsaved = 0
        self._store = store
        self._saved: Position | None = None
        self._failed: Position | None = None
        self._saving = asyncio.Lock()

    @property
    def is_due(self) -> bool:
        """Whether so much was handled since the last saving that it should not wait for a pause."""
        return self._unsaved >= SAVE_EVERY

    def hand(self, item: StreamItem) -> None:
        """Note what is yielded now; whether it is handled shows later."""
        self._handed = _position_after(item, self.handled)

    def ask(self, task: asyncio.Task[Any] | None) -> None:
        """Note who asks for the next item: what was yielded last is handled."""
        self._reader = task
        self.acknowledge()

    def acknowledge(self) -> None:
        """Count what was yielded last as handled."""
        if self._handed is not None:
            self.handled = self._handed
            self._handed = None
            self._unsaved += 1

    def acknowledge_for(self, task: asyncio.Task[Any] | None) -> None:
        """Count what was yielded last as handled, if `task` was given it, or one that ended well since."""
        reader = self._reader
        if reader is task or (reader and reader.done() and not reader.cancelled() and reader.exception() is None):
            self.acknowledge()

    async def save(self, *, insist: bool = True) -> None:
        """
        Put the position into the store, if it moved.

        Args:
            insist: Try again what the store could not save; otherwise only once it has moved on.
        """
        if self._store is None:
            return
        async with self._saving:
            handled = self.handled
            if handled is None or handled == self._saved or (handled == self._failed and not insist):
                return
            self._unsaved = 0
            try:
                await await_user_code(self._store.save(self.group_id, handled))
            except Exception:
                self._failed = handled
                raise
            self._saved = handled


def _position_after(item: StreamItem, before: Position | None) -> Position:
    """Return the position of a reader that has handled `item`."""
    match item:
        case Reset(seq=seq):
            return Position(seq)
        case CaughtUp(seq=seq):
            return before if before is not None and before.seq == seq else Position(seq)
        case _:
            return item.position
