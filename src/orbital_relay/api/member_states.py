"""The state that a member's devices share about a group."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import Encrypted, ResponseBody


class MemberStateBody(msgspec.Struct):
    """What the caller's devices share about a group, such as how far it was read."""

    encrypted_state: Encrypted


class MemberState(ResponseBody, frozen=True, kw_only=True):
    """The state that the caller's devices share about a group."""

    group_id: str
    encrypted_state: Annotated[str | None, msgspec.Meta(description="null before the first was stored.")] = None
    changed_at: Annotated[str | None, msgspec.Meta(description="When it was stored; null before that.")] = None
