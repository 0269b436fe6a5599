"""Account deletion (erasure), deletion of groups and large threads, in steps that continue after a crash."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from orbital_relay.errors import Forbidden, NotFound
from orbital_relay.model import LeaveGroup
from orbital_relay.ports import Clock, Erasure
from orbital_relay.services.context import Append
from orbital_relay.services.forms import new_id

log = logging.getLogger("orbital.accounts")

ERASE_S: Final = 5.0
"""How often a server looks for what is due: `orbital user delete` waits for it."""
MARGIN_MS: Final = 3_600_000
"""How long after the retention the content goes: the log is pruned every minute, so it has dropped it by then."""
EVENTS: Final = 1000
"""Events, or rows of a thread, that one transaction deletes: a few milliseconds, in which no POST is stored."""


async def erase(store: Erasure, *, append: Append, clock: Clock, keep_ms: int) -> None:
    """
    Do what is due. Several servers may do it at once.

    Args:
        store: The rows.
        append: Queues a draft.
        clock: The time.
        keep_ms: How long the log keeps events; what an erased user has written goes when no log holds it any more.

    Raises:
        Unavailable: If the database is unreachable.
    """
    now_ms = clock.wall_ms()
    while await store.purge_thread(limit=EVENTS):
        pass
    for due in await store.due_erasures():
        for group_id in due.groups:
            # Another server, or the user's own last request, was first.
            with suppress(NotFound, Forbidden):
                await append(LeaveGroup(actor=due.user, at_ms=now_ms, group_id=group_id, user_id=due.user.user_id))
        if await store.erase_user(due.user.key, new_user_id=new_id(), at_ms=now_ms):
            log.info("account erased", extra={"groups": len(due.groups)})
    if await store.erase_content(before_ms=now_ms - keep_ms - MARGIN_MS):
        log.info("content of erased accounts deleted")
    for group in await store.due_deletions():
        if group.members:
            creator = group.members[-1]
            for member in group.members:
                with suppress(NotFound, Forbidden):
                    await append(
                        LeaveGroup(actor=creator, at_ms=now_ms, group_id=group.group_id, user_id=member.user_id)
                    )
        if await store.delete_group(group.key, at_ms=now_ms, limit=EVENTS):
            log.info("group deleted")
