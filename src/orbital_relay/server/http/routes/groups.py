"""Groups, their members and their invite codes."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from orbital_relay.api.groups import (
    GroupBody,
    GroupCreated,
    GroupJoined,
    Groups,
    InviteCode,
    JoinBody,
    Members,
    RoleBody,
    RoleSet,
)
from orbital_relay.errors import AlreadyMember, Conflict, Forbidden, NotFound, QuotaExceeded
from orbital_relay.model import GroupId, UserId
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint
from orbital_relay.server.http.routes.paging import PageQuery
from orbital_relay.server.limits.memory import MADE_BYTES
from orbital_relay.services import groups

_TAG: Final = "Groups"


@endpoint(
    "POST",
    "/api/groups",
    tag=_TAG,
    answers=[Answer(201, "The group was created, with the caller as its first member.", GroupCreated)],
    errors=[Conflict, QuotaExceeded],
    idempotent=True,
)
async def create_group(call: Call, body: GroupBody) -> Reply:
    """
    Make a group.

    Its event number 1 is the creator's `member_joined`.
    """
    idempotency_key = call.key_for("create_group")
    appended = await groups.create(call.server.services, call.principal, body, idempotency_key=idempotency_key)
    return Reply.json(appended.receipt, status=201)


@endpoint(
    "POST",
    "/api/groups/join",
    tag=_TAG,
    answers=[Answer(200, "The caller is a member now.", GroupJoined)],
    errors=[NotFound, AlreadyMember, Conflict, QuotaExceeded],
    idempotent=True,
    limited=True,
)
async def join_group(call: Call, body: JoinBody) -> Reply:
    """
    Join a group by its invite code.

    Emits `member_joined`. Attempts are limited by user and by address, so that codes cannot be guessed.
    """
    await call.server.limits.join(call.address, call.principal.user_id)
    idempotency_key = call.key_for("join_group")
    appended = await groups.join(call.server.services, call.principal, body, idempotency_key=idempotency_key)
    return Reply.json(appended.receipt)


@endpoint(
    "GET",
    "/api/groups",
    tag=_TAG,
    answers=[Answer(200, "A page of the caller's groups.", Groups)],
    memory_bytes=MADE_BYTES,
)
async def list_groups(call: Call, query: PageQuery) -> Reply:
    """List the caller's groups."""
    page = await groups.page(call.server.services, call.principal, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "GET",
    "/api/groups/{group_id}/members",
    tag=_TAG,
    answers=[Answer(200, "A page of members.", Members)],
    errors=[Forbidden, NotFound],
    memory_bytes=MADE_BYTES,
)
async def list_members(call: Call, query: PageQuery) -> Reply:
    """List the members of a group, with their public keys."""
    group_id = call.uuid("group_id", GroupId)
    page = await groups.members(call.server.services, call.principal, group_id, limit=query.limit, offset=query.offset)
    return Reply.json(page)


@endpoint(
    "DELETE",
    "/api/groups/{group_id}/members/{user_id}",
    tag=_TAG,
    answers=[Answer(204, "That user is no longer a member.")],
    errors=[Forbidden, NotFound],
    # An outside identity provider's ids may hold one.
    spans=["user_id"],
)
async def remove_member(call: Call) -> Reply:
    """
    Leave a group, or remove a member, as the group's founder or administrator.

    Only the founder can remove administrators. When the founder leaves, the administrator who joined first becomes
    the founder; without administrators, the member who joined first.

    Emits `member_left`, the last event of the group that this user's connections receive.
    """
    group_id = call.uuid("group_id", GroupId)
    await groups.remove(call.server.services, call.principal, group_id, UserId(call.text("user_id")))
    return Reply(204)


class InviteCodeQuery(msgspec.Struct):
    """What kind of code; parameters of the address, since published clients send no body here."""

    single_use: Annotated[
        Literal["true", "false"], msgspec.Meta(description="Whether the code is valid for one join only.")
    ] = "false"
    hours: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=8760,
            description="How long it is valid, no longer than `ORBITAL_INVITE_DAYS`; 0: as long as that.",
        ),
    ] = 0


@endpoint(
    "POST",
    "/api/groups/{group_id}/invite-codes",
    tag=_TAG,
    answers=[Answer(201, "The new code; the old one is no longer valid.", InviteCode)],
    errors=[Forbidden, NotFound],
)
async def make_invite_code(call: Call, query: InviteCodeQuery) -> Reply:
    """Replace a group's invite code; for its founder and its administrators."""
    group_id = call.uuid("group_id", GroupId)
    code = await groups.replace_code(
        call.server.services,
        call.principal,
        group_id,
        single_use=query.single_use == "true",
        days=query.hours / 24 or None,
    )
    return Reply.json(code, status=201)


@endpoint(
    "PUT",
    "/api/groups/{group_id}/members/{user_id}/role",
    tag=_TAG,
    answers=[Answer(200, "The member has this role.", RoleSet)],
    errors=[Forbidden, NotFound, Conflict],
    spans=["user_id"],
)
async def set_role(call: Call, body: RoleBody) -> Reply:
    """
    Set a member's role, administrator or plain member; for the group's founder.

    An administrator can replace the invite code, remove plain members, and delete media of others. Emits
    `role_changed`, unless the member already has the role.
    """
    group_id = call.uuid("group_id", GroupId)
    user_id = UserId(call.text("user_id"))
    return Reply.json(await groups.set_role(call.server.services, call.principal, group_id, user_id, body))


# set_role before remove_member: a user id spans slashes, so that path fits both.
ENDPOINTS: Final = (create_group, list_groups, join_group, list_members, set_role, remove_member, make_invite_code)
