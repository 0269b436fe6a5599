"""What the server answers over REST, as the protocol's section 1 names it. Unknown members are ignored."""

from __future__ import annotations

from typing import Any

import msgspec


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The common form of all answers."""


# Chapter: accounts


class SignedUp(_Answer, frozen=True, kw_only=True):
    """A new account, and a token for it."""

    user_id: str
    username: str
    token: str


class LoggedIn(_Answer, frozen=True, kw_only=True):
    """An account, and a token for it."""

    user_id: str
    username: str
    public_key: dict[str, Any]
    token: str


class Ticket(_Answer, frozen=True, kw_only=True):
    """Good for one handshake within `expires_in` seconds."""

    ticket: str
    expires_in: float


# Chapter: groups


class GroupCreated(_Answer, frozen=True, kw_only=True):
    """A new group, whose first member is the caller."""

    group_id: str
    invite_code: str
    created_at: str


class GroupJoined(_Answer, frozen=True, kw_only=True):
    """The caller is a member now."""

    group_id: str
    encrypted_name: str
    member_count: int
    joined_at: str


class Group(_Answer, frozen=True, kw_only=True):
    """One of the caller's groups. `invite_code` is None when there is none, or not for the caller to see."""

    group_id: str
    encrypted_name: str
    encrypted_group_key: str
    member_count: int
    joined_at: str
    invite_code: str | None = None
    last_seq: int = 0


class Groups(_Answer, frozen=True, kw_only=True):
    """A page of the caller's groups."""

    groups: list[Group]
    has_more: bool = False


class Member(_Answer, frozen=True, kw_only=True):
    """A member of a group."""

    user_id: str
    username: str
    public_key: dict[str, Any]
    joined_at: str


class Members(_Answer, frozen=True, kw_only=True):
    """A page of the members of a group."""

    members: list[Member]
    has_more: bool = False


class InviteCode(_Answer, frozen=True, kw_only=True):
    """A code that lets its bearer in until `expires_at`."""

    invite_code: str
    expires_at: str


class Quota(_Answer, frozen=True, kw_only=True):
    """How much of its room for media a group uses."""

    group_id: str
    total_bytes: int
    max_bytes: int
    media_count: int
    max_media_count: int
    usage_percent: float
    warning_threshold: float
    is_warning: bool
    is_full: bool


class Online(_Answer, frozen=True, kw_only=True):
    """A member who is connected, since when, and how many times."""

    user_id: str
    username: str
    connections: int
    since: str


class Presence(_Answer, frozen=True, kw_only=True):
    """A page of the members of a group who are connected."""

    online: list[Online]
    has_more: bool = False


# Chapter: messages


class MessageSent(_Answer, frozen=True, kw_only=True):
    """The message is durable; `seq` is its number in the group."""

    message_id: str
    server_timestamp: int
    seq: int = 0


class Message(_Answer, frozen=True, kw_only=True):
    """A message of one of the caller's groups."""

    message_id: str
    conversation_id: str
    encrypted_envelope: str
    server_timestamp: int
    sender_id: str = ""
    seq: int = 0


class Messages(_Answer, frozen=True, kw_only=True):
    """A page of messages, oldest first."""

    messages: list[Message]
    has_more: bool


# Chapter: threads


class ThreadCreated(_Answer, frozen=True, kw_only=True):
    """The thread is durable; `seq` is its number in the group."""

    thread_id: str
    group_id: str
    created_at: str
    seq: int = 0


class ReplyCreated(_Answer, frozen=True, kw_only=True):
    """The reply is durable; `seq` is its number in the group."""

    reply_id: str
    thread_id: str
    created_at: str
    seq: int = 0


class MediaItem(_Answer, frozen=True, kw_only=True):
    """A medium of a thread. An older server does not name its author in a list."""

    media_id: str
    author_id: str = ""
    author_username: str = ""
    encrypted_metadata: str
    size_bytes: int
    uploaded_at: str
    expires_at: str


class Thread(_Answer, frozen=True, kw_only=True):
    """A thread. `media` stands only on a single one."""

    thread_id: str
    group_id: str
    author_id: str
    author_username: str
    encrypted_title: str
    encrypted_body: str
    reply_count: int
    media_count: int
    created_at: str
    root_message_id: str | None = None
    media: list[MediaItem] = []
    media_has_more: bool = False


class Threads(_Answer, frozen=True, kw_only=True):
    """A page of threads."""

    threads: list[Thread]
    total_count: int
    has_more: bool


class Reply(_Answer, frozen=True, kw_only=True):
    """A reply."""

    reply_id: str
    thread_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    media_count: int
    created_at: str
    message_id: str | None = None


class Replies(_Answer, frozen=True, kw_only=True):
    """A page of replies, oldest first."""

    replies: list[Reply]
    total_count: int
    has_more: bool


# Chapter: media


class ChunkStored(_Answer, frozen=True, kw_only=True):
    """A chunk is there; others are still owed."""

    media_id: str
    chunk_index: int
    chunks_received: int
    total_chunks: int


class MediaStored(_Answer, frozen=True, kw_only=True):
    """The medium is there, whole."""

    media_id: str
    size_bytes: int
    expires_at: str
    uploaded_at: str = ""


class UploadState(_Answer, frozen=True, kw_only=True):
    """Which chunks of an upload the server has."""

    chunks_received: list[int]
    total_chunks: int


class Fetched(_Answer, frozen=True, kw_only=True):
    """A member who has a medium."""

    user_id: str
    username: str
    downloaded_at: str


class MediaInfo(_Answer, frozen=True, kw_only=True):
    """What is known of a medium, also of one that has expired; `downloaded_by` lists the members who have it."""

    media_id: str
    thread_id: str
    group_id: str
    author_id: str
    author_username: str
    size_bytes: int
    encrypted_metadata: str
    encryption_iv: str
    uploaded_at: str
    expires_at: str
    status: str
    downloaded_by: list[Fetched] = []
    downloaded_count: int = 0


class MediaList(_Answer, frozen=True, kw_only=True):
    """A page of the media of a thread."""

    media: list[MediaItem]
    has_more: bool = False
