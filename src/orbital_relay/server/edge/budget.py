"""How many HTTP connections a server keeps open, in all and from one address, so that newcomers are always served."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger("orbital.server")

WARN_S: Final = 60.0
"""Shortest time between two warnings that descriptors run out, in seconds."""


class Spare(Protocol):
    """A connection that may have to make room."""

    def waits(self) -> bool:
        """Return whether no request is under way: it is idle, or its head is not whole."""

    def is_slow(self) -> bool:
        """Return whether a request is under way that waits for its client to send or to read."""

    def make_room(self) -> None:
        """Close at once."""


class ConnectionBudget:
    """
    The HTTP connections of one server. Where there are too many, the oldest that wait for their client are closed.

    WebSockets count, too, but are never closed for others: they have shown a token.
    """

    def __init__(self, *, most: int, most_of_one: int, exempt: Callable[[str], bool]) -> None:
        """
        Args:
            most: Connections in all, WebSockets among them.
            most_of_one: HTTP connections of one address.
            exempt: Returns whether an address is a proxy's, whose connections are many people's.
        """
        self._most = most
        self._most_of_one = most_of_one
        self._exempt = exempt
        self._open: OrderedDict[Spare, str] = OrderedDict()
        self._of_one: Counter[str] = Counter()
        self._warned_s = -WARN_S

    def enter(self, line: Spare, address: str, *, connections: int, now_s: float) -> bool:
        """
        Take a new connection, and close others if need be.

        Args:
            line: The new one.
            address: Of its other end.
            connections: How many are open with it, WebSockets among them.
            now_s: Steady time.

        Returns:
            False if there is no room, and no connection that may be closed for it.
        """
        self._open[line] = address
        self._of_one[address] += 1
        if self._of_one[address] > self._most_of_one and not self._exempt(address):
            self._shed(line, address)
        if connections <= self._most:
            return True
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning(
                "descriptors run out: the oldest idle HTTP connections are closed; raise the limit of open files",
                extra={"connections": connections, "most": self._most},
            )
        return self._shed(line, None)

    def exempts(self, address: str) -> bool:
        """Return whether an address is a proxy's."""
        return self._exempt(address)

    def touch(self, line: Spare) -> None:
        """Note that a request was answered: the connection is the youngest now."""
        if line in self._open:
            self._open.move_to_end(line)

    def leave(self, line: Spare) -> None:
        """Forget a connection that has ended, or is a WebSocket now."""
        address = self._open.pop(line, None)
        if address is not None:
            self._of_one[address] -= 1
            if not self._of_one[address]:
                del self._of_one[address]

    def _shed(self, but: Spare, address: str | None) -> bool:
        slow: Spare | None = None
        for line, its in self._open.items():
            if line is but or (address is not None and its != address):
                continue
            if line.waits():
                break
            if slow is None and line.is_slow():
                slow = line
        else:
            if slow is None:
                return False
            line = slow
        self.leave(line)
        line.make_room()
        return True


def of_descriptors(limit: int, *, exempt: Callable[[str], bool]) -> ConnectionBudget:
    """
    Make a budget for a process that may open so many files; some remain for the database, media and the log.

    Args:
        limit: The soft limit of open files.
        exempt: Returns whether an address is a proxy's.
    """
    most = max(16, limit - 64 - limit // 32)
    return ConnectionBudget(most=most, most_of_one=max(8, most // 4), exempt=exempt)
