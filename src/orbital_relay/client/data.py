"""The classes of `event.data`, under names that do not collide with the events' own."""

from __future__ import annotations

from orbital_relay.wire import MediaExpired as MediaExpiredData
from orbital_relay.wire import MediaUploaded as MediaUploadedData
from orbital_relay.wire import MemberJoined as MemberJoinedData
from orbital_relay.wire import MemberLeft as MemberLeftData
from orbital_relay.wire import NewMessage as NewMessageData
from orbital_relay.wire import NewReply as NewReplyData
from orbital_relay.wire import NewThread as NewThreadData
from orbital_relay.wire import TypingIndicator as TypingData

__all__ = [
    "MediaExpiredData",
    "MediaUploadedData",
    "MemberJoinedData",
    "MemberLeftData",
    "NewMessageData",
    "NewReplyData",
    "NewThreadData",
    "TypingData",
]
