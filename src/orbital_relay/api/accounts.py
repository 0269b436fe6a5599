"""Accounts: sign-up, login and tickets."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from orbital_relay.api.fields import ResponseBody


class SignupBody(msgspec.Struct):
    """A new account."""

    username: Annotated[
        str,
        msgspec.Meta(
            description="3-50 of A-Z, a-z, 0-9 and _; unique without regard to case.",
            examples=["ada"],
            extra_json_schema={"pattern": "^[A-Za-z0-9_]{3,50}$"},
        ),
    ]
    password: Annotated[
        str,
        msgspec.Meta(
            description="At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.",
            examples=["Correct-Horse-7"],
            extra_json_schema={"minLength": 12, "format": "password"},
        ),
    ]
    public_key: Annotated[
        msgspec.Raw,
        msgspec.Meta(
            description="Any JSON object, such as a JWK, of up to 16 KiB; members of the user's groups receive it "
            "unchanged.",
            examples=[{"kty": "OKP", "crv": "X25519", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}],
            extra_json_schema={"type": "object"},
        ),
    ]
    invitation: Annotated[
        str | None,
        msgspec.Meta(
            description="An operator's invitation, or the invite code of a group; required if `GET /api/about` returns "
            "`invited`. Case, spaces and hyphens do not matter.",
            examples=["K7QM2XZ9"],
        ),
    ] = None
    device_name: Annotated[
        str,
        msgspec.Meta(
            description="Name of the login in `GET /api/sessions`, such as the browser and the operating "
            "system; cut to 64 characters.",
            examples=["Firefox on Linux"],
        ),
    ] = ""


class LoginBody(msgspec.Struct):
    """A username and its password."""

    username: Annotated[str, msgspec.Meta(examples=["ada"])]
    password: Annotated[str, msgspec.Meta(examples=["Correct-Horse-7"], extra_json_schema={"format": "password"})]
    device_name: Annotated[
        str,
        msgspec.Meta(
            description="Name of the login in `GET /api/sessions`, such as the browser and the operating "
            "system; cut to 64 characters.",
            examples=["Firefox on Linux"],
        ),
    ] = ""


class SignedUp(ResponseBody, frozen=True, kw_only=True):
    """A new account, with a token for it."""

    user_id: str
    username: str
    token: str


class LoggedIn(ResponseBody, frozen=True, kw_only=True):
    """An account, with a new token for it."""

    user_id: str
    username: str
    public_key: dict[str, Any]
    token: str


class WsTicket(ResponseBody, frozen=True, kw_only=True):
    """A ticket for one WebSocket handshake within `expires_in` seconds."""

    ticket: str
    expires_in: int
