"""The port to the other servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orbital_relay.model import GroupId


class Bus(Protocol):
    """
    Messages between servers: they may be lost, repeated or reordered, and no event is lost by that.

    A server follows a group while somebody there listens to it.
    """

    async def publish(self, group_id: GroupId, payload: bytes) -> None:
        """Send to every other server that follows the group; returns without waiting for them."""
        ...

    async def follow(self, group_id: GroupId) -> None:
        """Subscribe to a group; returns when what is published from now on will be received."""
        ...

    async def unfollow(self, group_id: GroupId) -> None:
        """Unsubscribe from a group."""
        ...

    async def notify_revoked(self) -> None:
        """Hint to every other server that a revocation was stored; it names none, and returns without waiting."""
        ...

    @property
    def connected(self) -> bool:
        """Whether hints reach other servers now; without them events of others arrive seconds later."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


BusReceiver = Callable[[GroupId, bytes], None]
"""Called on the loop with what another server published."""
