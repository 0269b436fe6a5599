"""Pages of a group's event log, for replay and catch-up over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from orbital_relay import wire
from orbital_relay.api.fields import ResponseBody

EVENT_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = tuple(
    msgspec.defstruct(
        f"{data.__name__}Frame",
        [("data", data), ("server_timestamp", int), ("group_id", str), ("seq", int), ("prev", str)],
        tag_field="type",
        tag=kind,
        namespace={"__doc__": data.__doc__},
    )
    for kind, data in wire.EVENTS.items()
)
"""The durable frames as the socket carries them, one struct for each kind."""

AnyEventFrame: Any = EVENT_FRAMES[0]
for _frame in EVENT_FRAMES[1:]:
    AnyEventFrame |= _frame


_FRAMES: Final = {str(frame.__struct_config__.tag): frame for frame in EVENT_FRAMES}
NewKeysFrame: Any = _FRAMES["new_keys"]


class KeyMessages(ResponseBody, frozen=True, kw_only=True):
    """A group's `new_keys` events, oldest first: the same objects as on the socket."""

    events: list[NewKeysFrame]
    has_more: Annotated[bool, msgspec.Meta(description="Whether events follow the last of this page.")]


class Events(ResponseBody, frozen=True, kw_only=True):
    """Events of a group, oldest first and without gaps: the same objects as on the socket."""

    events: list[AnyEventFrame]
    last_seq: Annotated[int, msgspec.Meta(description="The number of the group's last event, not of the page's.")]
    has_more: bool
