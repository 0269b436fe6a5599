"""Administration of a place: who there is and what is stored, never content."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from orbital_relay.api.fields import HasMore, ResponseBody
from orbital_relay.api.logins import LoginSession


class UserEntry(ResponseBody, frozen=True, kw_only=True):
    """A user without content, as `orbital user list --json` prints it, too."""

    user_id: str
    username: str
    state: Literal["active", "disabled", "being erased"]
    admin: Annotated[bool, msgspec.Meta(description="Whether the user is an administrator of this place.")]
    outside: Annotated[bool, msgspec.Meta(description="Whether another service makes the user's tokens.")]
    created_at: str
    last_seen_at: Annotated[str | None, msgspec.Meta(description="To the hour; null for never.")]
    disabled_at: str | None
    disabled_reason: str
    sessions: Annotated[int, msgspec.Meta(description="Logins with a token that has not ended.")]
    groups: int
    media: int
    media_bytes: int


class UserEntries(ResponseBody, frozen=True, kw_only=True):
    """A page of the users, in the order in which they came."""

    users: list[UserEntry]
    has_more: HasMore = False


class GroupEntry(ResponseBody, frozen=True, kw_only=True):
    """A group without content, as `orbital group list --json` prints it, too: its name is encrypted."""

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
    """A page of the groups, in the order in which they were made."""

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
    """What the user reads at a login."""

    reason: Annotated[str, msgspec.Meta(max_length=200, examples=["lost phone"])] = ""


class PlaceRoleBody(msgspec.Struct):
    """What a user is in this place."""

    role: Annotated[
        Literal["admin", "user"],
        msgspec.Meta(description="`admin` is an administrator of the place.", examples=["admin"]),
    ]


class OneTimeCode(ResponseBody, frozen=True, kw_only=True):
    """A one-time code with which a user sets another password; it is shown this once."""

    code: str
    expires_at: str


class InvitationBody(msgspec.Struct):
    """An invitation of the operator's."""

    note: Annotated[str, msgspec.Meta(max_length=200, description="Whom it is for.", examples=["grandma"])] = ""
    days: Annotated[float, msgspec.Meta(gt=0, le=365, description="How long it is valid.", examples=[7])] = 7


class InvitationMade(ResponseBody, frozen=True, kw_only=True):
    """A new invitation; the code is shown this once. The page's address and `#invitation=` before it make a link."""

    number: int
    note: str
    invitation: str
    expires_at: str


class InvitationRow(ResponseBody, frozen=True, kw_only=True):
    """An invitation, as `orbital user invitations --json` prints it, too."""

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
    media_total_bytes: Annotated[int | None, msgspec.Meta(description="Most bytes of all media; null: no bound.")]
    disk_free_bytes: int
    disk_reserve_bytes: Annotated[int, msgspec.Meta(description="Free bytes below which media are refused.")]


class HealthReport(ResponseBody, frozen=True, kw_only=True):
    """How the server that answers is."""

    version: str
    status: Literal["ready", "degraded"]
    degraded: Annotated[list[str], msgspec.Meta(description="`redis`, `disk`, `database`.")]
    connections: Annotated[int, msgspec.Meta(description="WebSockets of this server.")]
    signups: str
