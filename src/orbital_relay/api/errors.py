"""The error body: what every response that reports an error contains."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from orbital_relay.api.fields import ResponseBody


class Error(ResponseBody, frozen=True, kw_only=True):
    """The body of every response that is not 2xx (other than 101, 206 and 304)."""

    error: Annotated[str, msgspec.Meta(description="A code for programs.", pattern=r"^[A-Z][A-Z0-9_]{1,63}$")]
    message: Annotated[str, msgspec.Meta(description="A sentence for a person.", min_length=1)]
    details: Annotated[dict[str, Any], msgspec.Meta(description="More for programs.")] = msgspec.field(
        default_factory=dict
    )
