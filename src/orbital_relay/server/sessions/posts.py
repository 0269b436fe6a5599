"""The posts of one connection: enqueued at once, acknowledged in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from orbital_relay import wire
from orbital_relay.ports import Appended

ReplyTo: TypeAlias = wire.ReplyTo


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a post without a client, or asyncio logs 'Future exception was never retrieved'."""
    if not future.cancelled():
        future.exception()


class PostQueue:
    """
    Posts whose answers are due. An answer is sent once those of all earlier posts were sent.

    Args:
        answer: Sends the answer of a post that is done.
        done: Called with the length of each frame that is answered, in bytes.
    """

    # A list, not a deque: an empty deque takes 600 bytes, and nearly all connections are idle.
    __slots__ = ("_answer", "_done", "_posts")

    def __init__(
        self, *, answer: Callable[[asyncio.Future[Appended], ReplyTo], None], done: Callable[[int], None]
    ) -> None:
        self._answer = answer
        self._done = done
        self._posts: list[tuple[asyncio.Future[Appended], ReplyTo, int]] = []

    def add(self, future: asyncio.Future[Appended], reply_to: ReplyTo, *, size_bytes: int) -> None:
        """Enqueue a post; its answer comes in a later turn of the loop, also when it is refused already."""
        self._posts.append((future, reply_to, size_bytes))
        future.add_done_callback(self._answer_done)

    def in_progress(self) -> list[asyncio.Future[Any]]:
        """Return the futures of the posts that are not answered."""
        return [future for future, _, _ in self._posts]

    def release(self) -> None:
        """Release all posts, since the client has disconnected; posts that are enqueued are still stored."""
        posts, self._posts = self._posts, []
        for future, _, _ in posts:
            future.add_done_callback(retrieve_exception)

    def _answer_done(self, _done: asyncio.Future[Appended]) -> None:
        while self._posts and self._posts[0][0].done():
            future, reply_to, size_bytes = self._posts.pop(0)
            self._answer(future, reply_to)
            self._done(size_bytes)
