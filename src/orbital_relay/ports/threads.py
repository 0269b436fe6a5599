"""The port to threads and replies."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from orbital_relay.api import threads as api
from orbital_relay.api.thread_annotations import Annotations
from orbital_relay.model import DeletableKind, GroupId, ThreadId


class ThreadStore(Protocol):
    """
    Threads of a group and their replies, for a user.

    Each read checks, in its own transaction, that the user may: NotFound, or Forbidden.
    A page of a list ends at `limit`, or early when its entries fill 8 MiB; `has_more` says whether entries follow.
    """

    async def thread_group(self, thread_id: ThreadId) -> GroupId | None:
        """Return the group that a thread is in."""
        ...

    async def threads(self, user: int, group_id: GroupId, *, limit: int, offset: int, sort: api.Sort) -> api.Threads:
        """Answer `GET /api/groups/{group_id}/threads`."""
        ...

    async def thread(self, user: int, thread_id: ThreadId, *, now_ms: int) -> api.ThreadWithMedia:
        """Answer `GET /api/threads/{thread_id}`."""
        ...

    async def replies(self, user: int, thread_id: ThreadId, *, limit: int, offset: int) -> api.Replies:
        """Answer `GET /api/threads/{thread_id}/replies`."""
        ...

    async def content_group(self, user: int, kind: DeletableKind, target_id: str) -> GroupId | None:
        """
        Return the group of a message, a thread or a reply, also while the log keeps one that was deleted.

        None when there is none of that kind with this id. Whether the user may see it is not checked.
        """
        ...

    async def deleted_among(self, target_ids: Collection[str]) -> set[str]:
        """Return those of some ids whose message, thread or reply was deleted while the log still holds its text."""
        ...

    async def thread_annotations(self, user: int, thread_id: ThreadId, *, after: int, limit: int) -> Annotations:
        """Answer `GET /api/threads/{thread_id}/annotations`: those with a number above `after`."""
        ...
