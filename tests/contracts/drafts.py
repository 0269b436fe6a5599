"""People, drafts and stores for the suites of the contracts."""

from __future__ import annotations

import itertools
import secrets
import string
import uuid
from collections.abc import Sequence
from typing import Any

from orbital_relay.core.chain import Chain, first_prev
from orbital_relay.errors import OrbitalError
from orbital_relay.model import (
    AnnounceDevice,
    Announcement,
    AnyDraft,
    CreateGroup,
    DeletableKind,
    DeleteContent,
    DeviceKeys,
    Event,
    GroupId,
    IdempotencyKey,
    JoinGroup,
    KeyKind,
    LeaveGroup,
    PostAnnotation,
    PostKeys,
    PostMessage,
    PostRecord,
    PostReply,
    PostThread,
    Principal,
    SignedKey,
    ThreadId,
    UserId,
)
from orbital_relay.ports import Appended
from orbital_relay.wire import encode_bytes

NOW_MS = 4_000_000_000_000
"""A moment far ahead of every clock, so that the stores keep to the stamps that they are given."""

_numbers = itertools.count(1)


def new_id() -> str:
    """Return a UUID."""
    return str(uuid.uuid4())


def new_code() -> str:
    """Return an invite code."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(8))


def retry_key(key: str = "key", fingerprint: bytes = b"f") -> IdempotencyKey:
    """Return the idempotency key of a test, with the fingerprint of what it was used for."""
    return IdempotencyKey(key, fingerprint)


async def enter(store: Any, username: str = "ann") -> Principal:
    """Enter a user that the store does not know yet."""
    user_id = UserId(new_id())
    key = await store.enter_user(user_id=user_id, username=username, at_ms=NOW_MS)
    return Principal(key, user_id, username, expires_at_s=4e9)


def group_of(actor: Principal, **changes: Any) -> CreateGroup:
    """Draft a group."""
    values: dict[str, Any] = {
        "at_ms": NOW_MS,
        "group_id": GroupId(new_id()),
        "encrypted_name": "bmFtZQ",
        "encrypted_group_key": "a2V5",
        "invite_code": new_code(),
        "invite_expires_ms": NOW_MS + 1_000_000,
    }
    return CreateGroup(actor=actor, **values | changes)


def join(actor: Principal, code: str, **changes: Any) -> JoinGroup:
    """Draft a joining."""
    return JoinGroup(actor=actor, **{"at_ms": NOW_MS, "invite_code": code, "encrypted_group_key": "a2V5"} | changes)


def leave(actor: Principal, group_id: GroupId, who: Principal | None = None) -> LeaveGroup:
    """Draft a leaving, or the removal of `who`."""
    return LeaveGroup(actor=actor, at_ms=NOW_MS, group_id=group_id, user_id=(who or actor).user_id)


def message(actor: Principal, group_id: GroupId, **changes: Any) -> PostMessage:
    """Draft a message."""
    values = {"at_ms": NOW_MS, "message_id": new_id(), "encrypted_envelope": f"bXNn{next(_numbers):08}"}
    return PostMessage(actor=actor, group_id=group_id, **values | changes)


def thread(actor: Principal, group_id: GroupId, **changes: Any) -> PostThread:
    """Draft a thread."""
    values = {
        "at_ms": NOW_MS,
        "thread_id": ThreadId(new_id()),
        "encrypted_title": "dGl0bGU",
        "encrypted_body": "Ym9keQ",
    }
    return PostThread(actor=actor, group_id=group_id, **values | changes)


def reply(actor: Principal, thread_id: ThreadId, **changes: Any) -> PostReply:
    """Draft a reply."""
    values = {"at_ms": NOW_MS, "reply_id": new_id(), "encrypted_body": "cmVwbHk"}
    return PostReply(actor=actor, thread_id=thread_id, **values | changes)


def annotation(actor: Principal, thread_id: ThreadId, target_id: str, **changes: Any) -> PostAnnotation:
    """Draft an annotation."""
    values = {"at_ms": NOW_MS, "annotation_id": new_id(), "encrypted_body": f"YW5u{next(_numbers):08}"}
    return PostAnnotation(actor=actor, thread_id=thread_id, target_id=target_id, **values | changes)


def deletion(actor: Principal, group_id: GroupId, kind: DeletableKind, target_id: str) -> DeleteContent:
    """Draft a deletion."""
    return DeleteContent(actor=actor, at_ms=NOW_MS, group_id=group_id, kind=kind, target_id=target_id)


def keys_message(actor: Principal, group_id: GroupId, **changes: Any) -> PostKeys:
    """Draft an envelope with keys."""
    values = {"at_ms": NOW_MS, "keys_id": new_id(), "encrypted_envelope": f"a2V5{next(_numbers):08}"}
    return PostKeys(actor=actor, group_id=group_id, **values | changes)


def record(actor: Principal, group_id: GroupId, **changes: Any) -> PostRecord:
    """Draft a record of a roster."""
    values = {"at_ms": NOW_MS, "record_id": new_id(), "record": f"cmVj{next(_numbers):08}"}
    return PostRecord(actor=actor, group_id=group_id, **values | changes)


def device_keys(
    identity: int = 1, *, one_time: int = 0, first_id: int = 1, suites: int = 2, **changes: Any
) -> DeviceKeys:
    """Make what a device publishes: one-time keys of each kind that its suites have, with rising ids."""
    ids = range(first_id, first_id + one_time)
    mark = bytes([identity])
    keys: dict[KeyKind, list[SignedKey]] = {
        "hpke_pre_key": [SignedKey(0, b"last" + mark, b"s")],
        "hpke_pre_keys": [SignedKey(each, b"hpke%d" % each + mark, b"s") for each in ids],
    }
    if suites & 1:
        keys |= {
            "signed_pre_key": [SignedKey(0, b"signed" + mark, b"s")],
            "kyber_pre_key": [SignedKey(0, b"kyber" + mark, b"s")],
            "pre_keys": [SignedKey(each, b"classic%d" % each + mark) for each in ids],
            "kyber_pre_keys": [SignedKey(each, b"kyber%d" % each + mark, b"s") for each in ids],
        }
        changes = {"registration_id": 7, **changes}
    values = {"device_id": None, "identity_key": b"\x05" + mark * 32, "suites": suites, "keys": keys}
    return DeviceKeys(**values | changes)


def announce(announcement: Announcement) -> AnnounceDevice:
    """Draft an announcement that is pending."""
    return AnnounceDevice(
        actor=Principal(announcement.user, announcement.user_id, announcement.username, expires_at_s=0),
        at_ms=NOW_MS,
        announcement=announcement.number,
        group_id=announcement.group_id,
        device_id=announcement.device_id,
        change=announcement.change,
        identity_key=encode_bytes(announcement.identity_key),
    )


class Stamps:
    """The stamps that a relay would give: one a draft, rising."""

    def __init__(self, first_ms: int = NOW_MS) -> None:
        self.next_ms = first_ms

    def take(self, count: int) -> int:
        """Return the first of `count` new stamps."""
        self.next_ms += count
        return self.next_ms - count


async def put(store: Any, stamps: Stamps, *drafts: AnyDraft) -> list[Appended | OrbitalError]:
    """Append drafts as one batch."""
    return list(await store.append(drafts, first_stamp_ms=stamps.take(len(drafts))))


async def put_one(store: Any, stamps: Stamps, draft: AnyDraft) -> Event:
    """Append one draft that has to succeed; return its event."""
    (outcome,) = await put(store, stamps, draft)
    if isinstance(outcome, OrbitalError):
        raise outcome
    assert outcome.event is not None
    return outcome.event


def refusals(outcomes: Sequence[Appended | OrbitalError]) -> list[str | None]:
    """Return each outcome's error code, None for a success."""
    return [outcome.code if isinstance(outcome, OrbitalError) else None for outcome in outcomes]


def assert_chain(group_id: GroupId, events: Sequence[Event]) -> None:
    """Every frame carries the hash of the one before, the first that of the group's id."""
    chain = Chain(first_prev(group_id))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(chain.offer(event.frame) for event in events)
