"""The classes of `event.data`, under names that do not collide with the events' own."""

from __future__ import annotations

from orbital_relay.wire import Deleted as DeletedData
from orbital_relay.wire import IdentityChanged as IdentityChangedData
from orbital_relay.wire import MediaExpired as MediaExpiredData
from orbital_relay.wire import MediaUploaded as MediaUploadedData
from orbital_relay.wire import MemberJoined as MemberJoinedData
from orbital_relay.wire import MemberLeft as MemberLeftData
from orbital_relay.wire import NewAnnotation as NewAnnotationData
from orbital_relay.wire import NewKeys as NewKeysData
from orbital_relay.wire import NewMessage as NewMessageData
from orbital_relay.wire import NewRecord as NewRecordData
from orbital_relay.wire import NewReply as NewReplyData
from orbital_relay.wire import NewThread as NewThreadData
from orbital_relay.wire import RoleChanged as RoleChangedData
from orbital_relay.wire import TypingIndicator as TypingData

__all__ = [
    "DeletedData",
    "IdentityChangedData",
    "MediaExpiredData",
    "MediaUploadedData",
    "MemberJoinedData",
    "MemberLeftData",
    "NewAnnotationData",
    "NewKeysData",
    "NewMessageData",
    "NewRecordData",
    "NewReplyData",
    "NewThreadData",
    "RoleChangedData",
    "TypingData",
]
