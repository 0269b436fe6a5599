"""Administration of a server: its users and what is stored, never content."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from orbital_relay.api.fields import HasMore, ResponseBody
from orbital_relay.api.logins import LoginSession


class UserEntry(ResponseBody, frozen=True, kw_only=True):
    """A user without content; `orbital user list --json` prints the same."""

    user_id: str
    username: str
    state: Literal["active", "disabled", "being erased"]
    admin: Annotated[bool, msgspec.Meta(description="Whether the user is a server administrator.")]
    outside: Annotated[bool, msgspec.Meta(description="Whether an outside identity provider issues the user's tokens.")]
    created_at: str
    last_seen_at: Annotated[str | None, msgspec.Meta(description="To the hour; null for never.")]
    disabled_at: str | None
    disabled_reason: str
    sessions: Annotated[int, msgspec.Meta(description="Logins with a token that has not expired.")]
    groups: int
    media: int
    media_bytes: int


class UserEntries(ResponseBody, frozen=True, kw_only=True):
    """A page of the users, in the order of sign-up."""

    users: list[UserEntry]
    has_more: HasMore = False


class GroupEntry(ResponseBody, frozen=True, kw_only=True):
    """A group without content; `orbital group list --json` prints the same. Its name is encrypted."""

    group_id: str
    creator: str
    created_at: str
    last_event_at: str | None
    last_seq: int
    members: int
    threads: int
    media: int
    media_bytes: int


class GroupEntries(ResponseBody, frozen=True, kw_only=True):
    """A page of the groups, in the order of creation."""

    groups: list[GroupEntry]
    has_more: HasMore = False


class UserDetails(ResponseBody, frozen=True, kw_only=True):
    """A user with groups, 500 at most, and logins, 500 at most."""

    user: UserEntry
    groups: list[GroupEntry]
    sessions: list[LoginSession]


class GroupMemberRow(ResponseBody, frozen=True, kw_only=True):
    """A member of a group."""

    user_id: str
    username: str
    joined_at: str


class GroupDetails(ResponseBody, frozen=True, kw_only=True):
    """A group with its members."""

    group: GroupEntry
    members: list[GroupMemberRow]


class DisableBody(msgspec.Struct):
    """The reason that a refused login shows."""

    reason: Annotated[str, msgspec.Meta(max_length=200, examples=["lost phone"])] = ""


class ServerRoleBody(msgspec.Struct):
    """The role of a user on this server."""

    role: Annotated[
        Literal["admin", "user"],
        msgspec.Meta(description="`admin` is a server administrator.", examples=["admin"]),
    ]


class OneTimeCode(ResponseBody, frozen=True, kw_only=True):
    """A one-time code with which a user can set a new password; it is shown only once."""

    code: str
    expires_at: str


class InvitationBody(msgspec.Struct):
    """An operator's invitation."""

    note: Annotated[str, msgspec.Meta(max_length=200, description="Whom it is for.", examples=["grandma"])] = ""
    days: Annotated[float, msgspec.Meta(gt=0, le=365, description="How long it is valid.", examples=[7])] = 7


class InvitationMade(ResponseBody, frozen=True, kw_only=True):
    """A new invitation. The code is shown only once; the page's address, `#invitation=` and the code make a link."""

    number: int
    note: str
    invitation: str
    expires_at: str


class InvitationRow(ResponseBody, frozen=True, kw_only=True):
    """An invitation; `orbital user invitations --json` prints the same."""

    number: int
    note: str
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: Annotated[str | None, msgspec.Meta(description="null once that account is deleted.")]


class InvitationRows(ResponseBody, frozen=True, kw_only=True):
    """All invitations, the oldest first."""

    invitations: list[InvitationRow]


class StorageReport(ResponseBody, frozen=True, kw_only=True):
    """What is stored, and how much room is left."""

    media: int
    media_bytes: int
    unfinished: Annotated[int, msgspec.Meta(description="Uploads in progress.")]
    unfinished_bytes: int
    media_total_bytes: Annotated[int | None, msgspec.Meta(description="Most bytes of all media; null: no limit.")]
    disk_free_bytes: int
    disk_reserve_bytes: Annotated[int, msgspec.Meta(description="Free bytes below which media are refused.")]


class HealthReport(ResponseBody, frozen=True, kw_only=True):
    """The status of the server that answers."""

    version: str
    status: Literal["ready", "degraded"]
    degraded: Annotated[list[str], msgspec.Meta(description="`redis`, `disk`, `database`.")]
    connections: Annotated[int, msgspec.Meta(description="WebSockets of this server.")]
    signups: str
