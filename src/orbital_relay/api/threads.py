"""Threads and replies."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from orbital_relay.api.fields import Encrypted, HasMore, IfEpoch, ResponseBody, Uuid
from orbital_relay.api.media import Medium

Sort = Literal["created_desc", "created_asc", "active_desc"]
"""The order of a list of threads: newest first, oldest first, or the last active first."""


class ThreadBody(msgspec.Struct):
    """A new thread."""

    group_id: Uuid
    encrypted_title: Encrypted
    encrypted_body: Encrypted
    root_message_id: Annotated[Uuid, msgspec.Meta(description="The message that the thread belongs to.")] | None = None
    if_epoch: IfEpoch = None


class ReplyBody(msgspec.Struct):
    """A reply in a thread."""

    encrypted_body: Encrypted
    message_id: Annotated[Uuid, msgspec.Meta(description="The message that carried the reply's keys.")] | None = None
    if_epoch: IfEpoch = None


class ThreadCreated(ResponseBody, frozen=True, kw_only=True):
    """The thread is durable; `seq` is its number in the group."""

    thread_id: str
    group_id: str
    created_at: str
    seq: int = 0


class ReplyCreated(ResponseBody, frozen=True, kw_only=True):
    """The reply is durable; `seq` is its number in the group."""

    reply_id: str
    thread_id: str
    created_at: str
    seq: int = 0


class Thread(ResponseBody, frozen=True, kw_only=True):
    """A thread."""

    thread_id: str
    group_id: str
    author_id: str
    author_username: str
    encrypted_title: str
    encrypted_body: str
    root_message_id: Annotated[str | None, msgspec.Meta(description="The message id that its author sent.")] = None
    reply_count: int
    media_count: int
    created_at: str
    last_activity_at: Annotated[
        str, msgspec.Meta(description="When its newest reply or medium was posted, or the thread itself.")
    ] = ""
    last_seq: Annotated[int, msgspec.Meta(description="The number of that event in the group.")] = 0
    last_author_id: Annotated[str, msgspec.Meta(description="The user who posted it.")] = ""
    last_author_username: str = ""
    last_encrypted_body: Annotated[
        str | None,
        msgspec.Meta(description="The body of it when it is a reply; null for a medium or the thread itself."),
    ] = None


class ThreadWithMedia(Thread, frozen=True, kw_only=True):
    """A thread with its first 100 media."""

    media: list[Medium] = msgspec.field(default_factory=list)
    media_has_more: Annotated[
        bool, msgspec.Meta(description="Whether the thread has more media than are listed here.")
    ] = False


class Threads(ResponseBody, frozen=True, kw_only=True):
    """A page of a group's threads."""

    threads: list[Thread]
    total_count: int
    has_more: HasMore


class ThreadReply(ResponseBody, frozen=True, kw_only=True):
    """A reply."""

    reply_id: str
    thread_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    message_id: Annotated[str | None, msgspec.Meta(description="The message id that its author sent.")] = None
    media_count: int
    created_at: str
    # An older server does not say it.
    seq: Annotated[int, msgspec.Meta(description="The number of its event in the group.")] = 0


class Replies(ResponseBody, frozen=True, kw_only=True):
    """A page of a thread's replies, oldest first."""

    replies: list[ThreadReply]
    total_count: int
    has_more: HasMore
