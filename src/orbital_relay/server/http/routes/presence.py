"""Presence: which members of a group are connected."""

from __future__ import annotations

from typing import Final

from orbital_relay.api.groups import Presence
from orbital_relay.errors import Forbidden, NotFound
from orbital_relay.model import GroupId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import PageQuery
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import groups


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
    List the members of a group who are connected (presence).

    Connections of a server that crashed disappear from the list within 30 s.
    """
    group_id = call.uuid("group_id", GroupId)
    page = await groups.presence(call.server.services, call.principal, group_id, limit=query.limit, offset=query.offset)
    return Reply.json(page)


ENDPOINTS: Final = (presence,)
