"""
End-to-end encryption for Orbital: Signal's Sender Keys with a signed roster.

    async with SqlcipherStore("ada.db", key) as store, connect(url, token=token) as orbital:
        async with CipherClient(orbital, store) as client, client.group(group_id, invite=invite) as group:
            await group.send("hello")
            async for message in group.messages():
                print(message.author, message.text)

docs/reference/encryption.md states the formats, the state machines, and what each failure looks like. It needs the
extra `e2ee`: `pip install orbital-relay[e2ee]`.
"""

from orbital_relay.e2ee.annotation_fold import AnnotatedTarget, ShownEdit, ShownPin, ShownPoll, fold_annotations
from orbital_relay.e2ee.annotation_kinds import (
    AnnotationKind,
    Edit,
    Pinning,
    Poll,
    Reaction,
    SeenMark,
    Vote,
    annotation_of,
    read_annotation,
    write_annotation,
)
from orbital_relay.e2ee.audit_check import AuditFinding, AuditReport, check_audit
from orbital_relay.e2ee.cipher import CipherClient, GroupCipher
from orbital_relay.e2ee.enrolment import Start
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.formats.envelope import DeviceAddress, SuiteBits
from orbital_relay.e2ee.formats.records import HistoryPolicy
from orbital_relay.e2ee.invite import Invite, read_invite, write_invite
from orbital_relay.e2ee.linking import DeviceLink
from orbital_relay.e2ee.mailboxes import MailboxTransport, SdkMailboxes
from orbital_relay.e2ee.media import MediaInfo, open_file, read_media_info, seal_file, write_media_info
from orbital_relay.e2ee.member import GroupDevice, NewPart, Received
from orbital_relay.e2ee.ports import (
    DeviceStore,
    DirectoryDevice,
    KeyBundle,
    OfferedKey,
    PublishedKeys,
    Ratchet,
    RelayTransport,
    Wanted,
)
from orbital_relay.e2ee.ratchet import HpkeRatchet
from orbital_relay.e2ee.rows import Item, LogEvent, LogPosition, Part, Warned
from orbital_relay.e2ee.safety import SafetyNumber, matches_scan
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.stores.sqlcipher import SqlcipherStore
from orbital_relay.e2ee.transport import SdkRelay, log_event

__all__ = [
    "AnnotatedTarget",
    "AnnotationKind",
    "AuditFinding",
    "AuditReport",
    "CipherClient",
    "ContentKind",
    "DeviceAddress",
    "DeviceLink",
    "DeviceStore",
    "DirectoryDevice",
    "E2eeError",
    "Edit",
    "GroupCipher",
    "GroupDevice",
    "HistoryPolicy",
    "HpkeRatchet",
    "Invite",
    "Item",
    "KeyBundle",
    "LogEvent",
    "LogPosition",
    "MailboxTransport",
    "MediaInfo",
    "MemoryStore",
    "NewPart",
    "OfferedKey",
    "Part",
    "Pinning",
    "Poll",
    "PublishedKeys",
    "Ratchet",
    "Reaction",
    "Received",
    "RelayTransport",
    "SafetyNumber",
    "SdkMailboxes",
    "SdkRelay",
    "SeenMark",
    "ShownEdit",
    "ShownPin",
    "ShownPoll",
    "SqlcipherStore",
    "Start",
    "SuiteBits",
    "Vote",
    "Wanted",
    "Warned",
    "annotation_of",
    "check_audit",
    "fold_annotations",
    "log_event",
    "matches_scan",
    "open_file",
    "read_annotation",
    "read_invite",
    "read_media_info",
    "seal_file",
    "write_annotation",
    "write_invite",
    "write_media_info",
]
