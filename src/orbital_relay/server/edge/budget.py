"""Connection limit: open HTTP connections, in total and per address, with eviction of idle ones."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger("orbital.server")

WARN_S: Final = 60.0
"""Shortest time between two warnings about file descriptors, in seconds."""


class Spare(Protocol):
    """A connection that may be closed to make room."""

    def waits(self) -> bool:
        """Return whether no request is in progress: it is idle, or its head is incomplete."""

    def is_slow(self) -> bool:
        """Return whether a request is in progress that waits for its client to send or to read."""

    def make_room(self) -> None:
        """Close at once."""


class ConnectionBudget:
    """
    The HTTP connections of one server. Above the limit, the oldest that wait for their client are closed.

    WebSockets count too, but are never closed to make room: they are authenticated.
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

    def enter(self, connection: Spare, address: str, *, connections: int, now_s: float) -> bool:
        """
        Add a new connection, and close another one if the limit is exceeded.

        Args:
            connection: The new one.
            address: The peer's address.
            connections: The number of open connections, including this one and WebSockets.
            now_s: Monotonic time.

        Returns:
            False if the limit is exceeded and no connection can be closed.
        """
        self._open[connection] = address
        self._of_one[address] += 1
        if self._of_one[address] > self._most_of_one and not self._exempt(address):
            self._shed(connection, address)
        if connections <= self._most:
            return True
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning(
                "too few file descriptors: the oldest idle HTTP connections are closed; raise the limit (ulimit -n)",
                extra={"connections": connections, "most": self._most},
            )
        return self._shed(connection, None)

    def exempts(self, address: str) -> bool:
        """Return whether an address is a proxy's."""
        return self._exempt(address)

    def touch(self, connection: Spare) -> None:
        """Mark a connection as the most recently used: a request was answered."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def leave(self, connection: Spare) -> None:
        """Remove a connection that was closed or upgraded to a WebSocket."""
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_one[address] -= 1
            if not self._of_one[address]:
                del self._of_one[address]

    def _shed(self, newest: Spare, address: str | None) -> bool:
        slow: Spare | None = None
        for connection, peer in self._open.items():
            if connection is newest or (address is not None and peer != address):
                continue
            if connection.waits():
                break
            if slow is None and connection.is_slow():
                slow = connection
        else:
            if slow is None:
                return False
            connection = slow
        self.leave(connection)
        connection.make_room()
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
