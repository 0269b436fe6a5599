"""What linking hands over: which groups an older device passes on, and how a new one enters them."""

from __future__ import annotations

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.link import MAX_LINK_GROUPS, LinkCode, LinkGroup
from orbital_relay.e2ee.rows import GROUPS, SECRETS, KnownGroup, LogPosition
from orbital_relay.e2ee.state import Context, load_group, load_roster, refold, secret_key
from orbital_relay.e2ee.unit import Unit


def handed_over(unit: Unit, cx: Context, code: LinkCode) -> list[LinkGroup]:
    """
    Return what this device hands over to the device of a code: at least one group.

    Raises:
        E2eeError: `conflict` when the code is not of a further device of this person, `not_found` when there is nothing
            to hand over yet, `unsupported` for too many groups.
    """
    me, number = cx.me, code.device
    if code.user != me.user:
        raise E2eeError("conflict", "the code is of another account: only devices of one person are linked")
    if number == me.device or code.identity == cx.ratchet.identity(unit).public_key:
        raise E2eeError(
            "conflict", f"the code names device {number}, which is this one: read it on another device of yours"
        )
    groups = []
    for group, state in unit.scan(GROUPS):
        roster = load_roster(unit, group)
        if roster.find(me.user, me.device) is None:
            continue
        present = roster.find(me.user, number)
        if present is not None and present.identity != code.identity:
            raise E2eeError(
                "conflict",
                f"device {number} of yours is another one in a group: revoke it there first, then show a new code",
            )
        if code.identity.hex() in roster.revoked:
            raise E2eeError(
                "conflict", "the device of the code was revoked: it needs a new store, and with it a new identity"
            )
        secret = unit.get(SECRETS, secret_key(group, roster.secret_number))
        if secret is None:
            raise E2eeError(
                "not_found",
                f"invite secret {roster.secret_number} of {group} has not reached this device yet: try again later",
            )
        one = LinkGroup(group=group, founder=state.founder, secret=secret, secret_number=roster.secret_number)
        groups.append(one)
    if not groups:
        raise E2eeError("not_found", "this device is in no group: there is nothing to hand over")
    if len(groups) > MAX_LINK_GROUPS:
        raise E2eeError(
            "unsupported", f"this device is in {len(groups)} groups, and one code hands over {MAX_LINK_GROUPS}"
        )
    return groups


def enter_handed(unit: Unit, cx: Context, handed: LinkGroup) -> None:
    """
    Enter a group, or take its newer secret.

    Raises:
        E2eeError: `conflict` when it is known here with another founder.
    """
    group = handed.group
    if unit.get(GROUPS, group) is None:
        entered = KnownGroup(position=LogPosition(), epoch=0, founder=handed.founder, inviter=cx.me.user)
        unit.put(GROUPS, group, entered)
    elif load_group(unit, group).founder != handed.founder:
        raise E2eeError(
            "conflict",
            f"group {group} has another founder here than the message says: do not link, and compare safety numbers",
        )
    unit.put(SECRETS, secret_key(group, handed.secret_number), handed.secret)
    refold(unit, group)
