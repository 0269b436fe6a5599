"""Push messages: which events cause one for a device, its content, TTL, urgency and topic."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from orbital_relay import wire
from orbital_relay.model import ClaimedPush, Event, PushPreferences, UserId
from orbital_relay.server.push.encryption import PAYLOAD_BYTES

KEEP_S: Final = 3 * 24 * 3600
"""After so long an event calls nobody any more: the unread marks show it."""
KINDS: Final = frozenset({"new_message", "new_thread", "new_reply", "media_uploaded"})
"""Kinds of events that call a device."""


class PushMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The payload of a push message.

    Attributes:
        type: Of the event.
        group_id: Its group.
        seq: Its number in the group.
        user_id: Who is called: several users may share a browser.
        server_timestamp: When the event was stored, milliseconds since the epoch.
        thread_id: Its thread; not with `new_message`.
        author_id: Who posted it.
        author_username: The author's name, where the event has it.
        encrypted_title: The sealed title of the thread; left out if it does not fit.
        data: The event's `data` with its sealed content; left out if it does not fit.
    """

    type: str
    group_id: str
    seq: int
    user_id: str
    server_timestamp: int
    author_id: str
    thread_id: str | None = None
    author_username: str | None = None
    encrypted_title: str | None = None
    data: msgspec.Raw | None = None


class PushCall(msgspec.Struct, frozen=True):
    """One event that calls a device, the message about it, and the ids of what it is about and its thread."""

    seq: int
    message: PushMessage
    target_ids: tuple[str, ...]

    @property
    def subject(self) -> str:
        """What later messages replace this one: those of the same thread, or of the group where there is none."""
        return self.message.thread_id or self.message.group_id

    @property
    def urgency(self) -> str:
        """How much of the device's battery it is worth (RFC 8030 §5.3)."""
        return "normal" if self.message.type == "media_uploaded" else "high"

    def ttl_s(self, now_ms: int) -> int:
        """Return for how long a push service may keep it."""
        return max(0, min(KEEP_S, KEEP_S - (now_ms - self.message.server_timestamp) // 1000))

    def topic(self, secret: bytes) -> str:
        """Return the topic: 32 characters (RFC 8030 §5.4) that say nothing to those without the device's secret."""
        return urlsafe_b64encode(hmac.digest(secret, self.subject.encode(), hashlib.sha256)[:24]).decode()


class _Posted(msgspec.Struct):
    """The members of an event's `data` that decide whom it calls, and whether it was deleted."""

    author_id: str | None = None
    sender_id: str | None = None
    message_id: str | None = None
    thread_id: str | None = None
    reply_id: str | None = None
    author_username: str | None = None


_decode_posted = msgspec.json.Decoder(_Posted).decode
_encode = msgspec.json.Encoder().encode


def calls(events: Iterable[Event], claim: ClaimedPush, *, now_ms: int) -> list[PushCall]:
    """Return a call for each event of a page that calls the device, in order."""
    found = []
    for event in events:
        if wire.kind_of(event.frame) not in KINDS or now_ms - event.stamp_ms > KEEP_S * 1000:
            continue
        call = _call(event, claim.user_id)
        if call.message.author_id != claim.user_id and not _muted(call.message, claim.preferences):
            found.append(call)
    return found


def collapse(found: Iterable[PushCall], deleted: AbstractSet[str]) -> list[PushCall]:
    """
    Return the calls to make, in order: for each thread the last one whose content was not deleted.

    A call that is left out for a later one has a smaller number, so a position that moves from call to call skips
    no event without a push message.

    Args:
        found: The calls of a page of events.
        deleted: Ids of messages, replies and threads that were deleted.
    """
    last: dict[str, PushCall] = {}
    for call in found:
        if deleted.isdisjoint(call.target_ids):
            last[call.subject] = call
    return sorted(last.values(), key=lambda each: each.seq)


def _call(event: Event, user_id: UserId) -> PushCall:
    frame = wire.open_frame(event.frame)
    posted = _decode_posted(frame.data)
    # A message that a reply refers to is another one.
    own = posted.message_id if frame.type == "new_message" else posted.reply_id
    target_ids = tuple(each for each in (own, posted.thread_id) if each is not None)
    message = PushMessage(
        type=frame.type,
        group_id=event.group_id,
        seq=event.seq,
        user_id=user_id,
        server_timestamp=frame.server_timestamp,
        author_id=posted.author_id or posted.sender_id or "",
        thread_id=posted.thread_id,
        author_username=posted.author_username,
        data=frame.data,
    )
    return PushCall(event.seq, message, target_ids)


def _muted(message: PushMessage, preferences: PushPreferences) -> bool:
    return message.group_id in preferences.groups or message.thread_id in preferences.threads


def payload(message: PushMessage, titles: Mapping[str, str]) -> bytes:
    """Write a message with all that fits: without the thread's title, and without its content, if it must be."""
    title = None if message.type == "new_thread" else titles.get(message.thread_id or "")
    whole = _encode(msgspec.structs.replace(message, encrypted_title=title))
    if len(whole) <= PAYLOAD_BYTES:
        return whole
    without = _encode(msgspec.structs.replace(message, encrypted_title=title, data=None))
    return without if len(without) <= PAYLOAD_BYTES else bare(message)


def bare(message: PushMessage) -> bytes:
    """Write a message without anything sealed: that something is new, and where."""
    return _encode(msgspec.structs.replace(message, data=None))
