"""Who of a group is connected."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.errors import Forbidden, NotFound
from orbital_relay.model import Access, GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.sessions.presence import Online


class Presence(msgspec.Struct):
    """Who hears the group now, over all servers, in the order of arrival."""

    online: list[Online]


@endpoint(
    "GET",
    "/api/groups/{group_id}/presence",
    tag="Groups",
    answers=[Answer(200, "Who is connected and subscribed.", Presence)],
    errors=[Forbidden, NotFound],
)
async def presence(call: Call) -> Reply:
    """
    Tell who of a group is connected.

    A server that dies is forgotten within half a minute.
    """
    node, group_id = call.node, call.uuid("group_id", GroupId)
    match await node.store.access(call.principal.key, group_id):
        case Access.UNKNOWN:
            raise NotFound("There is no such group.")
        case Access.STRANGER:
            raise Forbidden("You are not a member of this group.")
        case Access.MEMBER:
            return Reply.json(Presence(await node.presence.online(group_id)))


ENDPOINTS: Final = (presence,)
