"""The store's methods that are one text for both databases: each binds its query to the adapter's transactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from orbital_relay.errors import Busy, OrbitalError
from orbital_relay.model import AnyDraft, UserId
from orbital_relay.ports import Appended
from orbital_relay.store import access as access_rows
from orbital_relay.store import accounts as account_rows
from orbital_relay.store import archive, log_ranges, marks
from orbital_relay.store import claims as claim_rows
from orbital_relay.store import deletion as deletion_rows
from orbital_relay.store import directory as device_rows
from orbital_relay.store import erasure as erasure_rows
from orbital_relay.store import exports as export_rows
from orbital_relay.store import groups as group_rows
from orbital_relay.store import invitations as invitation_rows
from orbital_relay.store import keys as key_rows
from orbital_relay.store import log as log_rows
from orbital_relay.store import logins as login_rows
from orbital_relay.store import mailboxes as mailbox_rows
from orbital_relay.store import media as media_rows
from orbital_relay.store import media_cleanup as cleanup_rows
from orbital_relay.store import member_states as state_rows
from orbital_relay.store import messages as message_rows
from orbital_relay.store import people as people_rows
from orbital_relay.store import push as push_rows
from orbital_relay.store import records as record_rows
from orbital_relay.store import revocations as revocation_rows
from orbital_relay.store import thread_annotations as annotation_rows
from orbital_relay.store import threads as thread_rows
from orbital_relay.store import uploads as upload_rows
from orbital_relay.store.integrity import integrity
from orbital_relay.store.verify import group_ids, verify

T = TypeVar("T")
P = ParamSpec("P")


def reading(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Make a method that runs a query in a transaction that sees one moment; the port has its promise."""

    async def method(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._read(query, *args, **kwargs)

    return method


def writing(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]:
    """Make a method that runs a query in a transaction that is committed, durably, when the method returns."""

    async def method(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write(query, *args, **kwargs)

    return method


class SqlStore(ABC):
    """
    A `ports.Store` over SQLAlchemy Core.

    An adapter says how a query runs in one transaction, for reading or for writing, and how drafts are appended.
    """

    _stuck: bool
    """Whether the last commit failed."""

    @abstractmethod
    async def _read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `query(connection, …)` in a transaction that sees one moment."""

    @abstractmethod
    async def _write(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `query(connection, …)` in a transaction that is committed, durably, when it returns."""

    @abstractmethod
    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """Decide, number, seal and store drafts; see `ports.Store.append`."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is in progress and close the database."""

    # Chapter: the log

    read = reading(log_rows.read)
    read_many = reading(log_ranges.read_many)
    heads = reading(log_rows.heads)
    last_stamp_ms = reading(log_rows.last_stamp_ms)

    async def low_watermark_ms(self) -> int | None:
        """See `ports.Store.low_watermark_ms`."""
        return None

    memberships = reading(access_rows.memberships)
    resume_points = reading(log_rows.resume_points)
    prune = writing(log_rows.prune)
    prune_keys = writing(key_rows.prune_keys)

    # Chapter: accounts

    add_account = writing(account_rows.add_account)
    is_new = reading(account_rows.is_new)
    signed_up = reading(account_rows.signed_up)
    account = reading(account_rows.account)

    async def enter_user(self, *, user_id: UserId, username: str, at_ms: int) -> int:
        """See `ports.Store.enter_user`."""
        known = await self._read(account_rows.user_key, user_id)
        if known is not None:
            return known
        return await self._write(account_rows.enter_user, user_id=user_id, username=username, at_ms=at_ms)

    find_user = reading(account_rows.find_user)
    set_display_name = writing(account_rows.set_display_name)
    add_invitation = writing(invitation_rows.add_invitation)
    invitation_opens = reading(invitation_rows.invitation_opens)
    invite_code_opens = reading(invitation_rows.invite_code_opens)
    invitations = reading(invitation_rows.invitations)
    revoke_invitation = writing(invitation_rows.revoke_invitation)

    add_login = writing(login_rows.add_login)
    extend_login = writing(login_rows.extend_login)
    logins = reading(login_rows.logins)
    end_login = writing(login_rows.end_login)
    note_logins = writing(login_rows.note_logins)
    prune_logins = writing(login_rows.prune_logins)
    set_reset = writing(login_rows.set_reset)
    reset_opens = reading(login_rows.reset_opens)
    reset_password = writing(login_rows.reset_password)

    # Chapter: people, as the operator sees them

    users = reading(people_rows.users)
    groups = reading(people_rows.groups)
    census = reading(people_rows.census)
    group_members = reading(people_rows.group_members)
    set_password = writing(people_rows.set_password)
    rename = writing(people_rows.rename)
    disable = writing(people_rows.disable)
    enable = writing(people_rows.enable)
    is_admin = reading(people_rows.is_admin)
    set_admin = writing(people_rows.set_admin)
    note_seen = writing(people_rows.note_seen)
    request_erasure = writing(erasure_rows.request_erasure)
    request_deletion = writing(erasure_rows.request_deletion)
    due_erasures = reading(erasure_rows.due_erasures)
    erase_user = writing(erasure_rows.erase_user)
    erase_content = writing(erasure_rows.erase_content)
    purge_thread = writing(erasure_rows.purge_thread)
    due_deletions = reading(erasure_rows.due_deletions)
    delete_group = writing(erasure_rows.delete_group)
    revoke = writing(revocation_rows.revoke)
    revocations = reading(revocation_rows.revocations)

    # Chapter: groups, threads, messages

    groups_of = reading(group_rows.groups_of)
    members = reading(group_rows.members)
    access = reading(access_rows.access)
    replace_code = writing(group_rows.replace_code)
    thread_group = reading(thread_rows.thread_group)
    threads = reading(thread_rows.threads)

    thread = reading(media_rows.thread_with_media)
    replies = reading(thread_rows.replies)
    thread_annotations = reading(annotation_rows.thread_annotations)
    content_group = reading(deletion_rows.content_group)
    deleted_among = reading(deletion_rows.deleted_among)
    messages = reading(message_rows.messages)
    events = reading(log_rows.events)

    member_state = reading(state_rows.member_state)
    put_member_state = writing(state_rows.put_member_state)

    key_messages = reading(record_rows.key_messages)
    records = reading(record_rows.records)

    # Chapter: devices and their keys

    publish_keys = writing(device_rows.publish_keys)
    claim_keys = writing(claim_rows.claim_keys)
    claimable = reading(claim_rows.claimable)
    devices = reading(device_rows.devices)
    own_devices = reading(device_rows.own_devices)
    remove_device = writing(device_rows.remove_device)
    low_devices = reading(device_rows.low_devices)
    pending_announcements = writing(device_rows.pending_announcements)
    open_mailbox = writing(mailbox_rows.open_mailbox)
    fill_mailbox = writing(mailbox_rows.fill_mailbox)
    mail = reading(mailbox_rows.mail)
    prune_mailboxes = writing(mailbox_rows.prune_mailboxes)

    # Chapter: push messages

    check_push = reading(push_rows.check_push)

    async def vapid_key(self, draft: bytes) -> bytes:
        """See `ports.PushStore.vapid_key`."""
        stored = await self._read(push_rows.stored_vapid_key)
        return await self._write(push_rows.enter_vapid_key, draft) if stored is None else stored

    put_subscription = writing(push_rows.put_subscription)
    delete_subscription = writing(push_rows.delete_subscription)
    note_received = writing(push_rows.note_received)
    due_pushes = reading(push_rows.due_pushes)
    claim_pushes = writing(push_rows.claim_pushes)
    store_outcomes = writing(push_rows.store_outcomes)
    thread_titles = reading(push_rows.thread_titles)

    # Chapter: media

    first_receipt = reading(key_rows.first_receipt)

    find_place = reading(upload_rows.find_place)
    begin_upload = writing(upload_rows.begin_upload)
    add_chunk = writing(upload_rows.add_chunk)
    release_upload = writing(upload_rows.release_upload)
    upload = reading(upload_rows.upload)
    abort_upload = writing(upload_rows.abort_upload)
    media_file = reading(media_rows.media_file)
    media_info = reading(media_rows.media_info)
    thread_media = reading(media_rows.thread_media)
    thread_folders = reading(deletion_rows.thread_folders)
    note_download = writing(media_rows.note_download)
    quota = reading(media_rows.quota)
    due_media = reading(cleanup_rows.due_media)
    abort_resting = writing(cleanup_rows.abort_resting)
    pending_deletions = reading(cleanup_rows.pending_deletions)
    note_deleted = writing(cleanup_rows.note_deleted)
    known_chunks = reading(cleanup_rows.known_chunks)
    chunks_after = reading(cleanup_rows.chunks_after)
    held = reading(cleanup_rows.held)

    # Chapter: exports

    export_account = reading(export_rows.export_account)
    export_subscriptions = reading(export_rows.export_subscriptions)
    export_group = reading(export_rows.export_group)
    export_page = reading(export_rows.export_page)

    # Chapter: backups

    async def backup(self, file: IO[bytes], *, made_at: str, on_progress: archive.OnProgress) -> int:
        """Write every row as of one moment to a file; return how many. Servers may continue meanwhile."""
        return await self._read(archive.write, file, made_at=made_at, on_progress=on_progress)

    async def rows(self) -> int:
        """Return how many rows a backup would have."""
        return await self._read(archive.count)

    refuse_serving = reading(archive.refuse_serving)

    async def restore(self, path: Path, *, on_progress: archive.OnProgress) -> int:
        """
        Fill the database, which must be empty, from a backup; return the number of rows.

        Raises:
            ArchiveDamaged: If the backup is incomplete; nothing has changed.
            DatabaseRefused: If the database is not empty, or servers are using it.
        """
        return await self._write(archive.restore, path, on_progress=on_progress)

    # Chapter: marks

    clock_marks = reading(marks.clock)
    beat = writing(marks.beat)
    accept_clock = writing(marks.accept_clock)
    note_rewind = writing(marks.note_rewind)
    rewinds = reading(marks.rewinds)

    # Chapter: running

    group_ids = reading(group_ids)
    verify = reading(verify)
    integrity = reading(integrity)
    check_directory = reading(device_rows.check_directory)

    async def ready(self) -> bool:
        """Return whether the database can be read, and written too if the last write failed."""
        try:
            await self._read(marks.rewinds)
            if self._stuck:
                await self._write(marks.probe)
        except Busy:
            # Others are being served: taking this server out of the balancer would move the load to the next one.
            return True
        except OrbitalError:
            return False
        return True
