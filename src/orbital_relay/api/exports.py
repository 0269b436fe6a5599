"""The export of an account: a JSON object a line."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

from orbital_relay.api.fields import ResponseBody
from orbital_relay.api.groups import Member, Role
from orbital_relay.api.logins import OwnAccount
from orbital_relay.api.media import Medium
from orbital_relay.api.push import Mute

FORMAT = 1
"""The version of the export's form, in its first line."""

ExportPart = Literal["member", "record", "thread", "reply", "annotation", "medium", "event"]
"""The kinds of lines that a group has any number of, in their order behind the group's own lines."""

ExportKind = Literal["begin", "account", "session", "device", "push_subscription", "group", "state", ExportPart, "end"]
"""The kinds of lines of an export."""


class ExportLine(ResponseBody, frozen=True, kw_only=True):
    """
    A line of an account's export.

    The last line has the type `end`; an export without it was cut off.
    """

    type: Annotated[
        str,
        msgspec.Meta(
            description="What `data` is; readers skip types that they do not know.",
            extra_json_schema={"enum": list(get_args(ExportKind))},
        ),
    ]
    data: Annotated[dict[str, Any], msgspec.Meta(description="As lists of the API have it.")]


class ExportBegin(ResponseBody, frozen=True, kw_only=True):
    """The first line: whose export it is, of which form, and from when."""

    format: int
    user_id: str
    exported_at: str


class ExportedAccount(OwnAccount, frozen=True, kw_only=True):
    """The caller's account."""

    public_key: dict[str, Any]
    created_at: str


class ExportedDevice(ResponseBody, frozen=True, kw_only=True):
    """A device of the caller's, with its public identity key."""

    device_id: int
    identity_key: str
    suites: int


class ExportedSubscription(ResponseBody, frozen=True, kw_only=True):
    """A push subscription without its secrets: of its address, which nobody else may know, only the push service."""

    subscription_id: str
    service: str
    device_id: int | None
    mute: Mute
    stored_at: str


class ExportedGroup(ResponseBody, frozen=True, kw_only=True):
    """A group that the caller is a member of; its invite code is left out: it would let any reader join."""

    group_id: str
    encrypted_name: str
    encrypted_group_key: str
    role: Role
    created_at: str
    joined_at: str
    last_seq: int


class ExportedMember(Member, frozen=True, kw_only=True):
    """A member of a group of the caller's."""

    group_id: str


class ExportedMedium(Medium, frozen=True, kw_only=True):
    """What the server knows of a medium; `download_path` is null once the server has deleted its bytes."""

    thread_id: str
    group_id: str
    encryption_iv: str
    download_path: str | None


class ExportEnd(ResponseBody, frozen=True, kw_only=True):
    """The last line: how many lines of each type came before it, and groups that the caller left meanwhile."""

    counts: dict[str, int]
    left_group_ids: list[str]
