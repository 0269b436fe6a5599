"""Replay of a group's log: the same frames as on the socket."""

from __future__ import annotations

import msgspec

from orbital_relay.model import GroupId, Principal
from orbital_relay.services.context import ServiceContext


class LogPage(msgspec.Struct, frozen=True):
    """
    Some of a group's stored frames, oldest first and gapless.

    Attributes:
        frames: The texts, as stored.
        last_seq: The group's last number now, whether or not the page reaches it.
        has_more: Whether events follow the last of this page.
    """

    frames: list[bytes]
    last_seq: int
    has_more: bool

    def json(self) -> bytes:
        """Write the page as one JSON object, with the frames byte for byte."""
        more = b"true" if self.has_more else b"false"
        return b'{"events":[%b],"last_seq":%d,"has_more":%b}' % (b",".join(self.frames), self.last_seq, more)

    def lines(self) -> bytes:
        """Write the frames alone, one a line, so that each can be hashed as it stands."""
        return b"".join(frame + b"\n" for frame in self.frames)


async def page(context: ServiceContext, principal: Principal, group_id: GroupId, *, after: int, limit: int) -> LogPage:
    """
    Read what follows number `after` in a group.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
        PositionLost: If events after `after` are no longer kept.
    """
    found = await context.store.events(principal.key, group_id, after=after, limit=limit)
    reached = found.events[-1].seq if found.events else after
    return LogPage([event.frame for event in found.events], found.head.seq, reached < found.head.seq)
