"""The caller's own account: password, logins, deletion."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import DisplayName, HasMore, ResponseBody

_Password = Annotated[str, msgspec.Meta(examples=["Correct-Horse-7"], extra_json_schema={"format": "password"})]
_NewPassword = Annotated[
    str,
    msgspec.Meta(
        description="At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.",
        examples=["Another-Horse-8"],
        extra_json_schema={"minLength": 12, "format": "password"},
    ),
]


class PasswordBody(msgspec.Struct):
    """The current password and the new one."""

    old_password: _Password
    new_password: _NewPassword


class ResetBody(msgspec.Struct):
    """A one-time code from the operator, and the new password."""

    code: Annotated[
        str,
        msgspec.Meta(description="Case, spaces and hyphens do not matter.", examples=["K7QM2-XZ9AB-CDEFG-HJKLM"]),
    ]
    new_password: _NewPassword


class DeleteAccountBody(msgspec.Struct):
    """The password of the account that is deleted."""

    password: _Password


class IssuedToken(ResponseBody, frozen=True, kw_only=True):
    """A new token, and when it expires."""

    token: str
    expires_at: str


class LoginSession(ResponseBody, frozen=True, kw_only=True):
    """An active login."""

    session_id: str
    name: Annotated[str, msgspec.Meta(description="The `device_name` of the login; may be empty.")]
    created_at: str
    last_used_at: Annotated[str, msgspec.Meta(description="To the hour.")]
    expires_at: str
    current: Annotated[bool, msgspec.Meta(description="Whether this is the login of the request's token.")]


class LoginSessions(ResponseBody, frozen=True, kw_only=True):
    """A page of the caller's logins, most recently used first."""

    sessions: list[LoginSession]
    has_more: HasMore = False


class OwnAccount(ResponseBody, frozen=True, kw_only=True):
    """The caller's account."""

    user_id: str
    username: str
    admin: Annotated[bool, msgspec.Meta(description="Whether the user is a server administrator.")] = False
    has_password: Annotated[bool, msgspec.Meta(description="false for a user of an outside identity provider.")] = True
    display_name: DisplayName = None


class DisplayNameBody(msgspec.Struct):
    """The name to be shown under; null removes it."""

    display_name: DisplayName
