"""The interfaces (ports) to store, bus and clock: Protocols of at most eight methods, with their guarantees."""

from orbital_relay.ports.accounts import Accounts, Invitation, Invitations
from orbital_relay.ports.blobs import Blob, BlobDraft, BlobMissing, Blobs
from orbital_relay.ports.bus import Bus, BusReceiver
from orbital_relay.ports.clock import Clock
from orbital_relay.ports.directory import KeyDirectory
from orbital_relay.ports.erasure import DueDeletion, DueErasure, Erasure
from orbital_relay.ports.groups import GroupStore
from orbital_relay.ports.keys import IdempotencyKeys, RevocationStore
from orbital_relay.ports.limiter import Limiter
from orbital_relay.ports.log import Appended, Log, LogRetention
from orbital_relay.ports.mailboxes import MailboxStore
from orbital_relay.ports.media import MediaCleanup, MediaStore, MediaUsage, Uploads
from orbital_relay.ports.people import Census, GroupSummary, People, PeopleChanges, Storage, UserSummary
from orbital_relay.ports.push import PushStore
from orbital_relay.ports.store import Database, MediaRows, Store
from orbital_relay.ports.threads import ThreadStore

__all__ = [
    "Accounts",
    "Appended",
    "Blob",
    "BlobDraft",
    "BlobMissing",
    "Blobs",
    "Bus",
    "BusReceiver",
    "Census",
    "Clock",
    "Database",
    "DueDeletion",
    "DueErasure",
    "Erasure",
    "GroupStore",
    "GroupSummary",
    "IdempotencyKeys",
    "Invitation",
    "Invitations",
    "KeyDirectory",
    "Limiter",
    "Log",
    "LogRetention",
    "MailboxStore",
    "MediaCleanup",
    "MediaRows",
    "MediaStore",
    "MediaUsage",
    "People",
    "PeopleChanges",
    "PushStore",
    "RevocationStore",
    "Storage",
    "Store",
    "ThreadStore",
    "Uploads",
    "UserSummary",
]
