"""
The Python SDK: a client of Orbital that never misses an event.

    from orbital_relay.client import connect

    async with connect("http://localhost:3000", token=token) as orbital:
        async for event in orbital.subscribe(group_id, since=0):
            print(event.seq, event.type)
"""

from orbital_relay.client import responses
from orbital_relay.client.api import Api
from orbital_relay.client.api.log import EventPage, FramePage
from orbital_relay.client.data import (
    MediaExpiredData,
    MediaUploadedData,
    MemberJoinedData,
    MemberLeftData,
    NewMessageData,
    NewReplyData,
    NewThreadData,
    TypingData,
)
from orbital_relay.client.errors import (
    AlreadySubscribed,
    ApiError,
    BadAnswer,
    ChainBroken,
    ClientError,
    Closed,
    Discarded,
    MediumTooLarge,
    NotAMember,
    NotConnected,
    OutboxExpired,
    OutboxFull,
    Refused,
    StoreDamaged,
    StoreInUse,
    SubscribeRefused,
    Unreachable,
)
from orbital_relay.client.events import (
    CaughtUp,
    Event,
    MediaExpired,
    MediaUploaded,
    MemberJoined,
    MemberLeft,
    NewMessage,
    NewReply,
    NewThread,
    Position,
    Problem,
    Reset,
    ResetReason,
    State,
    StateChange,
    Typing,
    UnknownEvent,
    Unnumbered,
)
from orbital_relay.client.media import Downloaded, UploadInterrupted
from orbital_relay.client.orbital import Orbital, connect
from orbital_relay.client.portal import Portal, PortalSubscription
from orbital_relay.client.stores import (
    FileOutbox,
    FilePositions,
    MemoryOutbox,
    MemoryPositions,
    OutboxStore,
    PositionStore,
    QueuedPost,
)
from orbital_relay.client.subscription import Subscription

__all__ = [
    "AlreadySubscribed",
    "Api",
    "ApiError",
    "BadAnswer",
    "CaughtUp",
    "ChainBroken",
    "ClientError",
    "Closed",
    "Discarded",
    "Downloaded",
    "Event",
    "EventPage",
    "FileOutbox",
    "FilePositions",
    "FramePage",
    "MediaExpired",
    "MediaExpiredData",
    "MediaUploaded",
    "MediaUploadedData",
    "MediumTooLarge",
    "MemberJoined",
    "MemberJoinedData",
    "MemberLeft",
    "MemberLeftData",
    "MemoryOutbox",
    "MemoryPositions",
    "NewMessage",
    "NewMessageData",
    "NewReply",
    "NewReplyData",
    "NewThread",
    "NewThreadData",
    "NotAMember",
    "NotConnected",
    "Orbital",
    "OutboxExpired",
    "OutboxFull",
    "OutboxStore",
    "Portal",
    "PortalSubscription",
    "Position",
    "PositionStore",
    "Problem",
    "QueuedPost",
    "Refused",
    "Reset",
    "ResetReason",
    "State",
    "StateChange",
    "StoreDamaged",
    "StoreInUse",
    "SubscribeRefused",
    "Subscription",
    "Typing",
    "TypingData",
    "UnknownEvent",
    "Unnumbered",
    "Unreachable",
    "UploadInterrupted",
    "connect",
    "responses",
]
