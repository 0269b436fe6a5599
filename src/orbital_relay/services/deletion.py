"""Deletion of messages, threads and replies, by their author or those who look after the group."""

from __future__ import annotations

import logging
from contextlib import suppress

from orbital_relay.core.refusals import no_content
from orbital_relay.errors import AlreadyDeleted, OrbitalError
from orbital_relay.model import DeletableKind, DeleteContent, Principal, ThreadId
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.media_context import MediaContext

log = logging.getLogger("orbital.media")


async def delete(context: ServiceContext, principal: Principal, kind: DeletableKind, target_id: str) -> None:
    """
    Delete a message, a thread or a reply; what was deleted already stays deleted, and nothing is emitted.

    Raises:
        NotFound: If there is no such content.
        Forbidden: If the caller is not in its group, or may not delete it.
    """
    group_id = await context.store.content_group(principal.key, kind, target_id)
    if group_id is None:
        raise no_content()
    draft = DeleteContent(
        actor=principal, at_ms=context.clock.wall_ms(), group_id=group_id, kind=kind, target_id=target_id
    )
    with suppress(AlreadyDeleted):
        await context.append(draft)


async def delete_thread(
    context: ServiceContext, media: MediaContext, principal: Principal, thread_id: ThreadId
) -> None:
    """
    Delete a thread with its replies and annotations, and the bytes of its media.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the caller is not in its group, or may not delete it.
    """
    # Read before: afterwards no row names them. What a crash leaves, or an upload that begins now, the sweep deletes.
    folders = await media.rows.thread_folders(thread_id)
    await delete(context, principal, DeletableKind.THREAD, thread_id)
    for folder in folders:
        try:
            await media.blobs.delete_folder(folder)
        except OrbitalError as exc:
            log.warning("bytes of a deleted thread are left to the clean-up", extra={"reason": exc.message})
