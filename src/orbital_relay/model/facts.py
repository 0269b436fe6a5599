"""The facts on which a decision about a draft depends, as the store read them under the group's lock."""

from __future__ import annotations

import msgspec

from orbital_relay.model.media import MediaState


class Creation(msgspec.Struct, frozen=True):
    """
    Facts for `CreateGroup`.

    Attributes:
        code_taken: Whether another group has the invite code.
        groups: How many groups the actor looks after and is in.
    """

    code_taken: bool
    groups: int = 0


class Joining(msgspec.Struct, frozen=True):
    """Facts for `JoinGroup`: the group's name, and how many members it has."""

    encrypted_name: str
    member_count: int


class Named(msgspec.Struct, frozen=True):
    """A member whom a draft names: row number, public id, name, and whether the member is an administrator."""

    key: int
    user_id: str
    username: str
    admin: bool = False


class Appointing(msgspec.Struct, frozen=True):
    """Facts for `SetRole`: the member with the id that the draft names; None when there is no such member."""

    member: Named | None


class Leaving(msgspec.Struct, frozen=True):
    """
    Facts for `LeaveGroup`.

    Attributes:
        leaver: The member with the id that the draft names; None when there is no such member.
        heir: Row number of the member who looks after the group next: of the other administrators, else of the other
            members, the one who joined first; None when there are no others.
        by_admin: Whether the draft's actor is an administrator of the group.
    """

    leaver: Named | None
    heir: int | None
    by_admin: bool = False


class MediumFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    Facts for `FinishMedia` and `ExpireMedia`: the medium's row, under its lock.

    `by_admin` says whether the draft's actor is an administrator of the group.
    """

    thread_id: str
    uploader: int
    state: MediaState
    total_chunks: int
    received_chunks: int
    received_bytes: int
    encrypted_metadata: str
    expires_ms: int
    by_admin: bool = False


class Announcing(msgspec.Struct, frozen=True):
    """Facts for `AnnounceDevice`: whether the announcement has no event yet."""

    pending: bool


class Annotating(msgspec.Struct, frozen=True):
    """Facts for `PostAnnotation`: whether its target is the thread, or a reply or a stored medium in it."""

    target: bool


class Deleting(msgspec.Struct, frozen=True):
    """
    Facts for `DeleteContent`.

    Attributes:
        found: Whether the group has the content.
        deleted: Whether it had it, and it was deleted.
        own: Whether the draft's actor is its author.
        by_admin: Whether the draft's actor is an administrator of the group.
    """

    found: bool
    deleted: bool = False
    own: bool = False
    by_admin: bool = False


DraftFacts = Creation | Joining | Leaving | Appointing | MediumFacts | Announcing | Annotating | Deleting | None


class Facts(msgspec.Struct, frozen=True):
    """
    What the store read under the group's lock.

    Attributes:
        group_id: The group.
        creator: Row number of the user who looks after the group.
        member: Whether the draft's actor is a member now.
        epoch: Number of the group's last event after which content is sealed for other devices.
        about: The facts of the draft's own kind; None for posts.
    """

    group_id: str
    creator: int
    member: bool
    epoch: int = 0
    about: DraftFacts = None
