"""The bus of a single server, which has no others to notify."""

from __future__ import annotations

from orbital_relay.model import GroupId
from orbital_relay.ports import Bus


class LocalBus:
    """A bus with nobody else on it."""

    async def publish(self, group_id: GroupId, payload: bytes) -> None:
        """Do nothing: there are no other servers."""

    async def follow(self, group_id: GroupId) -> None:
        """Do nothing: there are no other servers."""

    async def unfollow(self, group_id: GroupId) -> None:
        """Do nothing: there are no other servers."""

    async def notify_revoked(self) -> None:
        """Do nothing: there are no other servers."""

    @property
    def connected(self) -> bool:
        """Always true: there is no other server to reach."""
        return True

    async def close(self) -> None:
        """Close nothing."""


_: type[Bus] = LocalBus
