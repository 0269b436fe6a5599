"""Query parameters for pagination."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import JsonSafeInt

Offset = Annotated[JsonSafeInt, msgspec.Meta(description="Number of entries to skip.")]


class PageQuery(msgspec.Struct):
    """Which page of a list that most clients read whole."""

    limit: Annotated[
        int, msgspec.Meta(ge=1, le=500, description="Maximum number of entries; fewer when they fill 8 MiB.")
    ] = 500
    offset: Offset = 0
