"""The port to the whole database: the sum of the smaller ports."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.ports.accounts import Accounts, Invitations
from orbital_relay.ports.directory import KeyDirectory
from orbital_relay.ports.exports import ExportStore
from orbital_relay.ports.groups import GroupStore
from orbital_relay.ports.keys import IdempotencyKeys, RevocationStore
from orbital_relay.ports.log import Log, LogRetention
from orbital_relay.ports.logins import LoginStore, PasswordResets
from orbital_relay.ports.mailboxes import MailboxStore
from orbital_relay.ports.media import MediaCleanup, MediaStore, Uploads
from orbital_relay.ports.member_states import MemberStateStore
from orbital_relay.ports.people import Census, People, PeopleChanges
from orbital_relay.ports.push import PushStore
from orbital_relay.ports.threads import ThreadStore


class Database(Protocol):
    """The database that answers all of it."""

    async def ready(self) -> bool:
        """Return whether the database answers and can store."""
        ...

    async def census(self) -> Census:
        """Return how many users and groups there are, and how many events are kept."""
        ...

    async def close(self) -> None:
        """Finish what is in progress and close the database."""
        ...


class Store(
    Log,
    LogRetention,
    Accounts,
    Invitations,
    LoginStore,
    PasswordResets,
    People,
    PeopleChanges,
    GroupStore,
    ThreadStore,
    MemberStateStore,
    KeyDirectory,
    MailboxStore,
    IdempotencyKeys,
    RevocationStore,
    PushStore,
    ExportStore,
    Database,
    Protocol,
):
    """The ports to everything but media."""


class MediaRows(Uploads, MediaStore, MediaCleanup, IdempotencyKeys, Protocol):
    """The ports to media."""
