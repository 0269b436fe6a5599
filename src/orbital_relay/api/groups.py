"""Groups, their members, invite codes and presence."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from orbital_relay.api.fields import DisplayName, Encrypted, HasMore, ResponseBody

Role: TypeAlias = Literal["founder", "admin", "member"]
"""What a member may do in a group: the founder everything; an administrator invite, remove members, delete media."""


class GroupBody(msgspec.Struct):
    """A new group."""

    encrypted_name: Encrypted
    encrypted_group_key: Annotated[Encrypted, msgspec.Meta(description="The group's key, for its creator.")]


class JoinBody(msgspec.Struct):
    """An invite code, and the group's key encrypted for the new member."""

    invite_code: Annotated[
        str,
        msgspec.Meta(
            description="8 of A-Z and 0-9; lower case, spaces and hyphens do not matter.", examples=["K7QM2XZ9"]
        ),
    ]
    encrypted_group_key: Encrypted


class GroupCreated(ResponseBody, frozen=True, kw_only=True):
    """A new group, whose first member is the caller."""

    group_id: str
    invite_code: str
    created_at: str
    invite_expires_at: Annotated[str | None, msgspec.Meta(description="Until when the code is valid.")] = None


class GroupJoined(ResponseBody, frozen=True, kw_only=True):
    """The group that the caller is now a member of."""

    group_id: str
    encrypted_name: str
    member_count: int
    joined_at: str


class Group(ResponseBody, frozen=True, kw_only=True):
    """A group that the caller is a member of."""

    group_id: str
    encrypted_name: str
    encrypted_group_key: Annotated[str, msgspec.Meta(description="The group's key, as it was sent for the caller.")]
    member_count: int
    invite_code: Annotated[str | None, msgspec.Meta(description="null once it has expired.")] = None
    invite_expires_at: Annotated[str | None, msgspec.Meta(description="null once it has expired.")] = None
    invite_single_use: Annotated[bool, msgspec.Meta(description="Whether the code is valid for one join only.")] = False
    role: Annotated[Role, msgspec.Meta(description="The caller's own.")] = "member"
    joined_at: str
    last_seq: Annotated[int, msgspec.Meta(description="Number of the group's last event.")] = 0


class Groups(ResponseBody, frozen=True, kw_only=True):
    """A page of the caller's groups, in the order of joining."""

    groups: list[Group]
    has_more: HasMore = False


class Member(ResponseBody, frozen=True, kw_only=True):
    """A member of a group."""

    user_id: str
    username: str
    public_key: dict[str, Any]
    joined_at: str
    role: Role = "member"
    display_name: DisplayName = None


class Members(ResponseBody, frozen=True, kw_only=True):
    """A page of the members of a group, in the order of joining."""

    members: list[Member]
    has_more: HasMore = False


class InviteCode(ResponseBody, frozen=True, kw_only=True):
    """The group's new invite code; the old one is no longer valid."""

    invite_code: str
    expires_at: str
    single_use: Annotated[bool, msgspec.Meta(description="Whether the code is valid for one join only.")] = False


class RoleBody(msgspec.Struct):
    """A member's new role."""

    role: Annotated[Literal["admin", "member"], msgspec.Meta(examples=["admin"])]


class RoleSet(ResponseBody, frozen=True, kw_only=True):
    """A member's role in a group."""

    group_id: str
    user_id: str
    role: Literal["admin", "member"]


class Online(ResponseBody, frozen=True, kw_only=True):
    """A user who is subscribed to a group."""

    user_id: str
    username: Annotated[str, msgspec.Meta(description="The name in the user's token.")]
    connections: int
    since: Annotated[str, msgspec.Meta(description="When the oldest connection subscribed, RFC 3339.")]


class Presence(ResponseBody, frozen=True, kw_only=True):
    """A page of the users who are subscribed to a group now, on all servers, in the order of subscription."""

    online: list[Online]
    has_more: HasMore = False
