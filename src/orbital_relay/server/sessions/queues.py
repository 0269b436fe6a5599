"""The queues of one connection: unread frames, posts, and frames that need the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from orbital_relay.core import session as says
from orbital_relay.core.session import StoreEffect
from orbital_relay.ports import Appended
from orbital_relay.server.sessions.intake import Intake
from orbital_relay.server.sessions.outgoing import Outgoing
from orbital_relay.server.sessions.posts import PostQueue, ReplyTo
from orbital_relay.server.sessions.store_queue import StoreQueue


class Queues:
    """
    The queues of one connection. A frame counts in the intake from when it is enqueued until it is done.

    Args:
        outgoing: Its socket is paused while too much waits.
        answer: Sends the answer of a post that is done.
        act: Does what a frame that needs the store asks for, given its length in bytes.
    """

    __slots__ = ("intake", "posts", "store")

    def __init__(
        self,
        outgoing: Outgoing,
        *,
        answer: Callable[[asyncio.Future[Appended], ReplyTo], None],
        act: Callable[[StoreEffect, int], Awaitable[None]],
    ) -> None:
        self.intake = Intake(outgoing)
        self.posts = PostQueue(answer=answer, done=self.intake.leave)
        self.store = StoreQueue(act=act, done=self.intake.leave)

    def add_post(self, future: asyncio.Future[Appended], reply_to: ReplyTo, *, size_bytes: int) -> None:
        """Enqueue a post whose answer is due."""
        self.intake.enter(size_bytes)
        self.posts.add(future, reply_to, size_bytes=size_bytes)

    def wait_for_store(self, effect: StoreEffect, size_bytes: int) -> None:
        """Enqueue a frame that needs the store, or that has to wait for one."""
        self.intake.enter(size_bytes)
        self.store.add(effect, size_bytes)

    def in_progress(self) -> list[asyncio.Future[Any]]:
        """Return what the posts wait for whose answers are due."""
        return [*self.posts.in_progress(), *self.store.in_progress()]

    def close(self) -> list[says.StorePost]:
        """Forget everything, since the client has gone; return the posts that waited for the store."""
        self.posts.release()
        self.store.cancel()
        return self.store.take_posts()
