"""Drafts: what a client asks to append; the store decides in the transaction that commits it."""

from __future__ import annotations

from enum import Enum

import msgspec

from orbital_relay.model.people import GroupId, IdempotencyKey, MediaId, Principal, ThreadId, UserId


class DeletableKind(Enum):
    """Content that can be deleted; the values are those of `kind` in the event `deleted`."""

    MESSAGE = "message"
    THREAD = "thread"
    REPLY = "reply"


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """
    What every draft has.

    Attributes:
        actor: Who asks.
        at_ms: The wall clock when it was asked, milliseconds; `created_at` and its kin.
        idempotency_key: The one of the request, when the client gave one.
    """

    actor: Principal
    at_ms: int
    idempotency_key: IdempotencyKey | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries: the part of a draft that clients may make long."""
        return 0


class PostDraft(Draft, frozen=True, kw_only=True):
    """
    A draft that its sender may bind to a membership.

    Attributes:
        if_epoch: The epoch for which the content was encrypted: refused once the group's is higher. None does not
            check.
    """

    if_epoch: int | None = None


class PostMessage(PostDraft, frozen=True, kw_only=True):
    """A Signal Protocol envelope for a group."""

    group_id: GroupId
    message_id: str
    encrypted_envelope: str

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_envelope)


class PostThread(PostDraft, frozen=True, kw_only=True):
    """A new thread."""

    group_id: GroupId
    thread_id: ThreadId
    encrypted_title: str
    encrypted_body: str
    root_message_id: str | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_title) + len(self.encrypted_body)


class PostReply(PostDraft, frozen=True, kw_only=True):
    """A reply in a thread; the thread tells the group."""

    thread_id: ThreadId
    reply_id: str
    encrypted_body: str
    message_id: str | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_body)


class PostAnnotation(PostDraft, frozen=True, kw_only=True):
    """An annotation of a thread, of a reply or a medium in it: a reaction, an edit, whatever its clients agree on."""

    thread_id: ThreadId
    target_id: str
    annotation_id: str
    encrypted_body: str

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_body)


class CreateGroup(Draft, frozen=True, kw_only=True):
    """A new group, whose first member is the actor; `most_groups` bounds how many the actor looks after."""

    group_id: GroupId
    encrypted_name: str
    encrypted_group_key: str
    invite_code: str
    invite_expires_ms: int
    most_groups: int | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_name) + len(self.encrypted_group_key)


class JoinGroup(Draft, frozen=True, kw_only=True):
    """The actor enters the group whose code it is when it commits; `most_members` bounds how many it has then."""

    invite_code: str
    encrypted_group_key: str
    most_members: int | None = None

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_group_key)


class LeaveGroup(Draft, frozen=True, kw_only=True):
    """The actor leaves, or, as the group's founder or an administrator of it, removes `user_id`."""

    group_id: GroupId
    user_id: UserId


class SetRole(Draft, frozen=True, kw_only=True):
    """The actor, as the group's founder, makes `user_id` an administrator of it, or a plain member again."""

    group_id: GroupId
    user_id: UserId
    admin: bool


class FinishMedia(PostDraft, frozen=True, kw_only=True):
    """
    A medium all of whose chunks are stored; it becomes whole, once.

    Attributes:
        media_id: The medium.
        expires_ms: When the server deletes its bytes, milliseconds since the epoch.
    """

    media_id: MediaId
    expires_ms: int


class ExpireMedia(Draft, frozen=True, kw_only=True):
    """
    A medium whose bytes the server forgets.

    Attributes:
        media_id: The medium.
        early: Whether `actor` deletes it before it expires. An expiry is requested by the server, in the name of the
            uploader.
    """

    media_id: MediaId
    early: bool = False


class DeleteContent(Draft, frozen=True, kw_only=True):
    """
    Content whose author, or an administrator of the group, deletes it.

    Attributes:
        group_id: The group that it is in.
        kind: What it is.
        target_id: Its id. A thread is deleted with its replies, annotations and media.
    """

    group_id: GroupId
    kind: DeletableKind
    target_id: str


class PostKeys(PostDraft, frozen=True, kw_only=True):
    """An envelope with keys for devices of a group."""

    group_id: GroupId
    keys_id: str
    encrypted_envelope: str

    @property
    def content_chars(self) -> int:
        """Characters of ciphertext that it carries."""
        return len(self.encrypted_envelope)


class PostRecord(PostDraft, frozen=True, kw_only=True):
    """A signed record of a group's roster."""

    group_id: GroupId
    record_id: str
    record: str

    @property
    def content_chars(self) -> int:
        """Characters that it carries."""
        return len(self.record)


class AnnounceDevice(Draft, frozen=True, kw_only=True):
    """
    The announcement, in one group, that a device of `actor` was added, removed, or has another identity key.

    It is requested by the server: once for each group that the user was in when the device changed.

    Attributes:
        announcement: The row number of what is pending; the append deletes it.
        group_id: The group.
        device_id: The device.
        change: `added`, `identity` or `removed`.
        identity_key: Base64; of a removed device, the key that it had.
    """

    announcement: int
    group_id: GroupId
    device_id: int
    change: str
    identity_key: str


AnyDraft = (
    PostMessage
    | PostThread
    | PostReply
    | PostAnnotation
    | CreateGroup
    | JoinGroup
    | LeaveGroup
    | FinishMedia
    | ExpireMedia
    | PostKeys
    | PostRecord
    | AnnounceDevice
    | SetRole
    | DeleteContent
)
