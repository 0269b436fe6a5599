"""The port to what erases accounts and deletes groups, step by step; a server that stops in between continues later."""

from __future__ import annotations

from typing import Protocol

import msgspec

from orbital_relay.model import GroupId, Principal


class DueErasure(msgspec.Struct, frozen=True):
    """A user who is to be erased, and the groups that the user is in."""

    user: Principal
    groups: list[GroupId]


class DueDeletion(msgspec.Struct, frozen=True):
    """A group that is to be deleted: its members, the one who looks after it last."""

    key: int
    group_id: GroupId
    members: list[Principal]


class Erasure(Protocol):
    """What leaves nothing of a user or of a group, but what other members' logs keep until their retention."""

    async def due_erasures(self) -> list[DueErasure]:
        """Return users that are marked and not erased yet, some of them."""
        ...

    async def erase_user(self, user: int, *, new_user_id: str, at_ms: int) -> bool:
        """
        Erase name, id, password, keys and media of a user who is in no group; return False if the user is in one.

        The media are expired; the clean-up deletes their bytes. The row stays, without a name, for what it has written.
        """
        ...

    async def erase_content(self, *, before_ms: int) -> int:
        """Erase what users have written that were erased before a moment; return how many users that finished."""
        ...

    async def purge_thread(self, *, limit: int) -> bool:
        """
        Delete at most `limit` replies and annotations of a large thread that was deleted; return False if none is left.

        No reader finds them since the deletion. The thread's own row goes with the last of them.
        """
        ...

    async def due_deletions(self) -> list[DueDeletion]:
        """Return groups that are marked, some of them."""
        ...

    async def delete_group(self, group: int, *, at_ms: int, limit: int) -> bool:
        """
        Delete a group without members, at most `limit` rows of a kind at a time; return whether it is gone.

        Its media are aborted or expired first; the group goes once the clean-up has deleted their bytes.
        """
        ...
