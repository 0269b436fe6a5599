"""The bodies of the server's responses, as the requests of `Api` return them. Unknown members are ignored."""

from orbital_relay.api.about import About, AboutLimits
from orbital_relay.api.accounts import LoggedIn, SignedUp
from orbital_relay.api.accounts import WsTicket as Ticket
from orbital_relay.api.admin import (
    GroupDetails,
    GroupEntries,
    GroupEntry,
    GroupMemberRow,
    HealthReport,
    InvitationMade,
    InvitationRow,
    InvitationRows,
    OneTimeCode,
    StorageReport,
    UserDetails,
    UserEntries,
    UserEntry,
)
from orbital_relay.api.exports import ExportLine
from orbital_relay.api.groups import (
    Group,
    GroupCreated,
    GroupJoined,
    Groups,
    InviteCode,
    Member,
    Members,
    Online,
    Presence,
    RoleSet,
)
from orbital_relay.api.keys import (
    Bundle,
    Bundles,
    Device,
    Devices,
    KeysPosted,
    KeysStored,
    Mail,
    Mailbox,
    OwnDevices,
    OwnKeys,
    RecordCreated,
    RosterRecord,
    RosterRecords,
)
from orbital_relay.api.logins import IssuedToken, LoginSession, LoginSessions, OwnAccount
from orbital_relay.api.media import ChunkTaken as ChunkStored
from orbital_relay.api.media import Fetched, MediaCompleted, MediaStored, Quota, UploadState
from orbital_relay.api.media import Medium as MediaItem
from orbital_relay.api.media import MediumInfo as MediaInfo
from orbital_relay.api.media import ThreadMedia as MediaList
from orbital_relay.api.member_states import MemberState
from orbital_relay.api.messages import Message, Messages
from orbital_relay.api.messages import MessagePosted as MessageSent
from orbital_relay.api.push import PushKey, PushSubscriptionStored
from orbital_relay.api.thread_annotations import Annotation, AnnotationCreated, Annotations
from orbital_relay.api.threads import Replies, ReplyCreated, Sort, Thread, ThreadCreated, Threads, ThreadWithMedia
from orbital_relay.api.threads import ThreadReply as Reply

__all__ = [
    "About",
    "AboutLimits",
    "Annotation",
    "AnnotationCreated",
    "Annotations",
    "Bundle",
    "Bundles",
    "ChunkStored",
    "Device",
    "Devices",
    "ExportLine",
    "Fetched",
    "Group",
    "GroupCreated",
    "GroupDetails",
    "GroupEntries",
    "GroupEntry",
    "GroupJoined",
    "GroupMemberRow",
    "Groups",
    "HealthReport",
    "InvitationMade",
    "InvitationRow",
    "InvitationRows",
    "InviteCode",
    "IssuedToken",
    "KeysPosted",
    "KeysStored",
    "LoggedIn",
    "LoginSession",
    "LoginSessions",
    "Mail",
    "Mailbox",
    "MediaCompleted",
    "MediaInfo",
    "MediaItem",
    "MediaList",
    "MediaStored",
    "Member",
    "MemberState",
    "Members",
    "Message",
    "MessageSent",
    "Messages",
    "OneTimeCode",
    "Online",
    "OwnAccount",
    "OwnDevices",
    "OwnKeys",
    "Presence",
    "PushKey",
    "PushSubscriptionStored",
    "Quota",
    "RecordCreated",
    "Replies",
    "Reply",
    "ReplyCreated",
    "RoleSet",
    "RosterRecord",
    "RosterRecords",
    "SignedUp",
    "Sort",
    "StorageReport",
    "Thread",
    "ThreadCreated",
    "ThreadWithMedia",
    "Threads",
    "Ticket",
    "UploadState",
    "UserDetails",
    "UserEntries",
    "UserEntry",
]
