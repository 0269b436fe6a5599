"""What the server reports before login: name, version, limits, sign-up policy."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from orbital_relay.api.fields import ResponseBody

SignupPolicy: TypeAlias = Literal["open", "invited", "closed"]
"""Who may make an account: anybody; who has an invitation; nobody but the operator."""


class AboutLimits(ResponseBody, frozen=True, kw_only=True):
    """The server's limits. Sizes are in bytes, times in days."""

    envelope_bytes: Annotated[int, msgspec.Meta(description="Largest encrypted field, after decoding.")]
    media_chunk_bytes: int
    media_file_bytes: int
    media_group_bytes: int
    media_group_files: int
    retention_days: Annotated[float, msgspec.Meta(description="How long events are kept.")]
    media_days: Annotated[float, msgspec.Meta(description="How long media are kept.")]


class About(ResponseBody, frozen=True, kw_only=True):
    """The server's name and version, and who may create an account."""

    name: str
    version: str
    signups: Annotated[
        SignupPolicy,
        msgspec.Meta(description="`invited`: `POST /api/signup` needs `invitation`; `closed`: it is refused."),
    ]
    public_url: Annotated[str | None, msgspec.Meta(description="The server's address, if the operator set it.")] = None
    limits: AboutLimits
