"""Administration over HTTP: the command line's services, for server administrators; no content is visible."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import Annotated, Final

import msgspec

from orbital_relay import __version__
from orbital_relay.api import admin as api
from orbital_relay.errors import Conflict, NotFound
from orbital_relay.model import MediaState
from orbital_relay.server.http.endpoint import Answer, Call, Reply
from orbital_relay.server.http.endpoint import endpoint as any_endpoint
from orbital_relay.server.http.routes.about import signup_policy
from orbital_relay.server.http.routes.health import PROBE_S, degraded_parts
from orbital_relay.server.http.routes.paging import Offset
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import people
from orbital_relay.services.people import MOST

log = logging.getLogger("orbital.accounts")

endpoint = partial(any_endpoint, tag="Administration", admin=True)
_NUMBER: Final = re.compile(r"[0-9]{1,15}")


class AdminPageQuery(msgspec.Struct):
    """Which page of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST, description="Maximum number of entries.")] = 100
    offset: Offset = 0


class UserPageQuery(AdminPageQuery):
    """Which page of the users, and of which of them."""

    search: Annotated[str, msgspec.Meta(max_length=64, description="A part of the name, in any case.")] = ""


def _note(call: Call, did: str, whom: str) -> None:
    """Log what an administrator did, and to whom."""
    log.info("administration", extra={"did": did, "whom": whom, "by": call.principal.user_id})


@endpoint(
    "GET", "/api/admin/users", answers=[Answer(200, "A page of users.", api.UserEntries)], memory_bytes=MADE_BYTES
)
async def admin_users(call: Call, query: UserPageQuery) -> Reply:
    """List all users, or those whose name has a part."""
    page = await people.users(call.server.store, search=query.search, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "GET",
    "/api/admin/users/{user_id}",
    answers=[Answer(200, "The user.", api.UserDetails)],
    errors=[NotFound],
    memory_bytes=MADE_BYTES,
)
async def admin_user(call: Call) -> Reply:
    """Show a user, by id or name, with groups and logins."""
    store, now_ms = call.server.store, call.server.clock.wall_ms()
    return Reply.json(await people.user_details(store, call.text("user_id"), now_ms=now_ms))


@endpoint(
    "POST",
    "/api/admin/users/{user_id}/disable",
    answers=[Answer(204, "The account accepts no logins, and its tokens are revoked on every server.")],
    errors=[NotFound, Conflict],
)
async def admin_disable_user(call: Call, body: api.DisableBody) -> Reply:
    """Disable an account: all its sessions end, and a login is refused with the reason."""
    server = call.server
    user = await people.find(server.store, call.text("user_id"))
    if user.key == call.principal.key:
        raise Conflict("You cannot disable your own account. Ask another administrator, or use the command line.")
    at_ms = server.clock.wall_ms()
    await people.disable(server.store, server.logins.end_all, user, reason=body.reason, at_ms=at_ms)
    _note(call, "disable", user.user_id)
    return Reply(204)


@endpoint(
    "POST",
    "/api/admin/users/{user_id}/enable",
    answers=[Answer(204, "The account accepts logins.")],
    errors=[NotFound, Conflict],
)
async def admin_enable_user(call: Call) -> Reply:
    """Enable an account again; revoked sessions stay revoked."""
    user = await people.find(call.server.store, call.text("user_id"))
    await people.enable(call.server.store, user)
    _note(call, "enable", user.user_id)
    return Reply(204)


@endpoint(
    "PUT",
    "/api/admin/users/{user_id}/role",
    answers=[Answer(204, "The role counts from the next request on.")],
    errors=[NotFound, Conflict],
)
async def admin_set_role(call: Call, body: api.ServerRoleBody) -> Reply:
    """
    Make a user a server administrator, or a normal user again, as `orbital user promote` and `demote` do.

    Administrators cannot revoke their own role, so that a server keeps one; another administrator or the command line
    can.
    """
    server = call.server
    user = await people.find(server.store, call.text("user_id"))
    if user.key == call.principal.key and body.role != "admin":
        raise Conflict("You cannot revoke your own role. Ask another administrator, or use the command line.")
    await people.set_role(server.store, user, admin=body.role == "admin", at_ms=server.clock.wall_ms())
    _note(call, f"role {body.role}", user.user_id)
    return Reply(204)


@endpoint(
    "POST",
    "/api/admin/users/{user_id}/password-reset",
    answers=[Answer(201, "The code; it is shown this once.", api.OneTimeCode)],
    errors=[NotFound, Conflict],
)
async def admin_reset_password(call: Call) -> Reply:
    """Create a one-time code with which the user can set a new password within a day."""
    user = await people.find(call.server.store, call.text("user_id"))
    code = await people.offer_reset(call.server.store, user, at_ms=call.server.clock.wall_ms())
    _note(call, "password-reset", user.user_id)
    return Reply.json(code, status=201)


@endpoint(
    "DELETE",
    "/api/admin/users/{user_id}",
    answers=[Answer(204, "The account accepts no more logins, and is erased within seconds.")],
    errors=[NotFound, Conflict],
)
async def admin_delete_user(call: Call) -> Reply:
    """Delete an account, as `orbital user delete` does; it cannot be undone."""
    server = call.server
    user = await people.find(server.store, call.text("user_id"))
    if user.key == call.principal.key:
        raise Conflict("You cannot delete your own account here. Use `DELETE /api/account`.")
    await people.erase(server.store, server.logins.end_all, user, at_ms=server.clock.wall_ms())
    _note(call, "delete", user.user_id)
    return Reply(204)


@endpoint(
    "GET", "/api/admin/groups", answers=[Answer(200, "A page of groups.", api.GroupEntries)], memory_bytes=MADE_BYTES
)
async def admin_groups(call: Call, query: AdminPageQuery) -> Reply:
    """List all groups; their names are encrypted."""
    return Reply.json(await people.groups(call.server.store, limit=query.limit, offset=query.offset))


@endpoint(
    "GET",
    "/api/admin/groups/{group_id}",
    answers=[Answer(200, "The group.", api.GroupDetails)],
    errors=[NotFound],
    memory_bytes=MADE_BYTES,
)
async def admin_group(call: Call) -> Reply:
    """Show a group with its members."""
    return Reply.json(await people.group_details(call.server.store, call.text("group_id")))


@endpoint(
    "DELETE",
    "/api/admin/groups/{group_id}",
    answers=[Answer(204, "The group accepts no more members, and is deleted within seconds.")],
    errors=[NotFound],
)
async def admin_delete_group(call: Call) -> Reply:
    """Delete a group with its members, log, threads and media; it cannot be undone."""
    group = await people.find_group(call.server.store, call.text("group_id"))
    await people.delete_group(call.server.store, group, at_ms=call.server.clock.wall_ms())
    _note(call, "delete", group.group_id)
    return Reply(204)


@endpoint("GET", "/api/admin/invitations", answers=[Answer(200, "All invitations.", api.InvitationRows)])
async def admin_invitations(call: Call) -> Reply:
    """List all invitations, with who has used them."""
    return Reply.json(await people.invitations(call.server.store))


@endpoint(
    "POST",
    "/api/admin/invitations",
    answers=[Answer(201, "The invitation; its code is shown this once.", api.InvitationMade)],
)
async def admin_invite(call: Call, body: api.InvitationBody) -> Reply:
    """Create an invitation, with which one person can create an account."""
    made = await people.invite(call.server.store, note=body.note, days=body.days, at_ms=call.server.clock.wall_ms())
    _note(call, "invite", str(made.number))
    return Reply.json(made, status=201)


@endpoint(
    "DELETE",
    "/api/admin/invitations/{number}",
    answers=[Answer(204, "The invitation is no longer valid.")],
    errors=[NotFound],
)
async def admin_revoke_invitation(call: Call) -> Reply:
    """Delete an unused invitation."""
    number = call.text("number")
    if _NUMBER.fullmatch(number) is None:
        raise NotFound("There is no such invitation.")
    await people.revoke_invitation(call.server.store, int(number))
    _note(call, "revoke_invitation", number)
    return Reply(204)


@endpoint("GET", "/api/admin/storage", answers=[Answer(200, "What is stored.", api.StorageReport)])
async def admin_storage(call: Call) -> Reply:
    """Report what is stored, and how much space is left."""
    server = call.server
    held = await server.media.rows.held()
    whole, begun = held[MediaState.COMPLETE], held[MediaState.UPLOADING]
    return Reply.json(
        api.StorageReport(
            media=whole.media,
            media_bytes=whole.size_bytes,
            unfinished=begun.media,
            unfinished_bytes=begun.size_bytes,
            media_total_bytes=server.media.limits.total_bytes,
            disk_free_bytes=server.disk.free_bytes(),
            disk_reserve_bytes=server.disk.reserve_bytes,
        )
    )


@endpoint("GET", "/api/admin/health", answers=[Answer(200, "The status of this server.", api.HealthReport)])
async def admin_health(call: Call) -> Reply:
    """Report the status of the server that answers; `/health/ready` reports the same to a load balancer."""
    server = call.server
    degraded = degraded_parts(server)
    try:
        async with asyncio.timeout(PROBE_S):
            database = await server.store.ready()
    except TimeoutError:
        database = False
    if not database:
        degraded.append("database")
    return Reply.json(
        api.HealthReport(
            version=__version__,
            status="degraded" if degraded else "ready",
            degraded=degraded,
            connections=server.metrics.connections,
            signups=signup_policy(call),
        )
    )


ENDPOINTS: Final = (
    admin_users,
    admin_user,
    admin_disable_user,
    admin_enable_user,
    admin_set_role,
    admin_reset_password,
    admin_delete_user,
    admin_groups,
    admin_group,
    admin_delete_group,
    admin_invitations,
    admin_invite,
    admin_revoke_invitation,
    admin_storage,
    admin_health,
)
