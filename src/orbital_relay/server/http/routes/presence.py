"""Who of a group is connected."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.errors import Forbidden, NotFound
from orbital_relay.model import Access, GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import HasMore, PageQuery
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.server.sessions.presence import Online


class Presence(msgspec.Struct):
    """A page of who is subscribed to the group now, over all servers, in the order of arrival."""

    online: list[Online]
    has_more: HasMore


@endpoint(
    "GET",
    "/api/groups/{group_id}/presence",
    tag="Groups",
    answers=[Answer(200, "Who is connected and subscribed.", Presence)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def presence(call: Call, query: PageQuery) -> Reply:
    """
    List who of a group is connected.

    A server that dies is forgotten within half a minute.
    """
    node, group_id = call.node, call.uuid("group_id", GroupId)
    match await node.store.access(call.principal.key, group_id):
        case Access.UNKNOWN:
            raise NotFound("There is no such group.")
        case Access.STRANGER:
            raise Forbidden("You are not a member of this group.")
        case Access.MEMBER:
            online = await node.presence.online(group_id)
            end = query.offset + query.limit
            return Reply.json(Presence(online[query.offset : end], len(online) > end))


ENDPOINTS: Final = (presence,)
