"""Each kind of draft against each fact that decides it: the event, the answer and the new creator, or the refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from orbital_relay import wire
from orbital_relay.api.groups import GroupCreated, GroupJoined
from orbital_relay.api.keys import KeysPosted, RecordCreated
from orbital_relay.api.media import MediaStored
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.thread_annotations import AnnotationCreated
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.core.decide import Effect, decide
from orbital_relay.core.refusals import no_code, no_group, no_media, no_thread
from orbital_relay.errors import EpochChanged, OrbitalError
from orbital_relay.model import (
    AnnounceDevice,
    AnyDraft,
    CreateGroup,
    DeletableKind,
    DeleteContent,
    ExpireMedia,
    FinishMedia,
    JoinGroup,
    LeaveGroup,
    MediaState,
    PostAnnotation,
    PostKeys,
    PostMessage,
    PostRecord,
    PostReply,
    PostThread,
    Principal,
    SetRole,
)
from orbital_relay.model.facts import (
    Annotating,
    Announcing,
    Appointing,
    Creation,
    Deleting,
    Facts,
    Joining,
    Leaving,
    MediumFacts,
    Named,
)

ANN = Principal(1, "ann-id", "ann", 4e9)
BOB = Principal(2, "9f0c1d2e-0000-4000-8000-00000000000b", "bob", 4e9)
AT_MS, STAMP_MS, SEQ = 1_700_000_000_000, 1_700_000_000_123, 7
AT = "2023-11-14T22:13:20.000Z"
RANDOM_ID = "9f0c1d2e-1234-4abc-9def-00000000000d"
TIMED_ID = "018bcfe5-687b-7abc-9def-00000000000d"
"""The same with version 7 and `STAMP_MS` (0x018bcfe5687b)."""

MESSAGE = PostMessage(actor=ANN, at_ms=AT_MS, group_id="g", message_id=RANDOM_ID, encrypted_envelope="AA")
THREAD = PostThread(
    actor=ANN,
    at_ms=AT_MS,
    group_id="g",
    thread_id="t",
    encrypted_title="BB",
    encrypted_body="CC",
    root_message_id="r",
)
REPLY = PostReply(actor=ANN, at_ms=AT_MS, thread_id="t", reply_id="y", encrypted_body="DD", message_id="m")
ANNOTATION = PostAnnotation(
    actor=ANN, at_ms=AT_MS, thread_id="t", target_id="y", annotation_id="n", encrypted_body="KK"
)
KEYS = PostKeys(actor=ANN, at_ms=AT_MS, group_id="g", keys_id="k", encrypted_envelope="HH")
RECORD = PostRecord(actor=ANN, at_ms=AT_MS, group_id="g", record_id="c", record="II")
CHANGE = AnnounceDevice(
    actor=ANN, at_ms=AT_MS, announcement=4, group_id="g", device_id=3, change="added", identity_key="JJ"
)
GROUP = CreateGroup(
    actor=ANN,
    at_ms=AT_MS,
    group_id="g",
    encrypted_name="EE",
    encrypted_group_key="FF",
    invite_code="CODE",
    invite_expires_ms=AT_MS + 1,
)
JOIN = JoinGroup(actor=BOB, at_ms=AT_MS, invite_code="CODE", encrypted_group_key="FF")
FINISH = FinishMedia(actor=ANN, at_ms=AT_MS, media_id="x", expires_ms=AT_MS + 1000)
MEDIUM = MediumFacts(
    thread_id="t",
    uploader=ANN.key,
    state=MediaState.UPLOADING,
    total_chunks=2,
    received_chunks=2,
    received_bytes=50,
    encrypted_metadata="GG",
    expires_ms=0,
)
MEMBER = Facts("g", creator=ANN.key, member=True)


def appoint(actor: Principal, user_id: str, *, admin: bool = True) -> SetRole:
    """Return the draft by which a user sets the role of another."""
    return SetRole(actor=actor, at_ms=AT_MS, group_id="g", user_id=user_id, admin=admin)


def leave(actor: Principal, user_id: str) -> LeaveGroup:
    """Draft a leaving, or a removal."""
    return LeaveGroup(actor=actor, at_ms=AT_MS, group_id="g", user_id=user_id)


def facts(about: Any, **changes: Any) -> Facts:
    """Facts of ann's group, for a member."""
    return Facts(**{"group_id": "g", "creator": ANN.key, "member": True, "about": about} | changes)


def medium(**changes: Any) -> Facts:
    """Facts of a medium of ann's; `member` and `creator` are the group's."""
    group = {name: changes.pop(name) for name in ("member", "creator") if name in changes}
    values = {name: getattr(MEDIUM, name) for name in MEDIUM.__struct_fields__}
    return facts(MediumFacts(**values | changes), **group)


def deletion(kind: DeletableKind) -> DeleteContent:
    """Draft a deletion by Ann."""
    return DeleteContent(actor=ANN, at_ms=AT_MS, group_id="g", kind=kind, target_id="d")


def effect_of(draft: AnyDraft, known: Facts) -> Effect:
    """Decide a draft that has to be accepted."""
    effect = decide(draft, known, seq=SEQ, stamp_ms=STAMP_MS)
    assert isinstance(effect, Effect), effect
    return effect


@pytest.mark.parametrize(
    "draft, data, receipt",
    [
        (
            MESSAGE,
            wire.NewMessage(TIMED_ID, "g", "AA", STAMP_MS, ANN.user_id),
            MessagePosted(message_id=TIMED_ID, server_timestamp=STAMP_MS, seq=SEQ),
        ),
        (
            THREAD,
            wire.NewThread("t", "g", ANN.user_id, "ann", "BB", "CC", AT, root_message_id="r"),
            ThreadCreated(thread_id="t", group_id="g", created_at=AT, seq=SEQ),
        ),
        (
            REPLY,
            wire.NewReply("y", "t", ANN.user_id, "ann", "DD", AT, message_id="m"),
            ReplyCreated(reply_id="y", thread_id="t", created_at=AT, seq=SEQ),
        ),
        (
            KEYS,
            wire.NewKeys("k", "g", ANN.user_id, "HH"),
            KeysPosted(keys_id="k", server_timestamp=STAMP_MS, seq=SEQ),
        ),
        (
            RECORD,
            wire.NewRecord("c", "g", ANN.user_id, "II", AT),
            RecordCreated(record_id="c", group_id="g", created_at=AT, seq=SEQ),
        ),
        (
            ANNOTATION,
            wire.NewAnnotation("n", "t", "y", ANN.user_id, "ann", "KK", AT),
            AnnotationCreated(annotation_id="n", thread_id="t", target_id="y", created_at=AT, seq=SEQ),
        ),
    ],
    ids=["message", "thread", "reply", "keys", "record", "annotation"],
)
def test_posts(draft: AnyDraft, data: Any, receipt: Any):
    """[DCD1] A member's post results in an event and an answer; a non-member's post is FORBIDDEN."""
    known = facts(Annotating(target=True)) if draft is ANNOTATION else MEMBER
    assert effect_of(draft, known) == Effect(data, receipt)
    refusal = decide(draft, Facts("g", ANN.key, member=False), seq=SEQ, stamp_ms=STAMP_MS)
    assert isinstance(refusal, OrbitalError)
    assert (refusal.code, refusal.message) == ("FORBIDDEN", "You are not a member of this group.")


@pytest.mark.parametrize(
    "draft", [MESSAGE, THREAD, REPLY, KEYS, RECORD, ANNOTATION, FINISH], ids=lambda draft: type(draft).__name__
)
@pytest.mark.parametrize("if_epoch, epoch, refused", [(None, 9, False), (9, 9, False), (10, 9, False), (8, 9, True)])
def test_epochs(draft: Any, if_epoch: int | None, epoch: int, refused: bool):
    """[EPOCH2] A post is refused if the group's epoch is above the epoch that the post was sealed for."""
    about = {FINISH: MEDIUM, ANNOTATION: Annotating(target=True)}.get(draft)
    known = facts(about, epoch=epoch)

    decided = decide(msgspec.structs.replace(draft, if_epoch=if_epoch), known, seq=SEQ, stamp_ms=STAMP_MS)

    assert isinstance(decided, EpochChanged) is refused
    assert not refused or decided.details == {"epoch": 9}


def test_an_annotation_of_nothing():
    """[ANNOT3] An annotation whose target is not in the thread is NOT_FOUND, and names the field."""
    refusal = decide(ANNOTATION, facts(Annotating(target=False)), seq=SEQ, stamp_ms=STAMP_MS)

    assert isinstance(refusal, OrbitalError)
    assert (refusal.code, refusal.details) == ("NOT_FOUND", {"field": "target_id"})


def test_announcements():
    """[DEVICE2] A pending change of a device becomes an event without an answer."""
    assert effect_of(CHANGE, facts(Announcing(pending=True))) == Effect(
        wire.IdentityChanged(ANN.user_id, 3, "added", "JJ")
    )


def test_create():
    """[DCD2] One event creates a group with its code and joins its creator."""
    effect = effect_of(GROUP, facts(Creation(code_taken=False), member=False))

    assert effect.data == wire.MemberJoined("g", ANN.user_id, "ann", AT)
    until = wire.iso(AT_MS + 1)
    assert effect.receipt == GroupCreated(group_id="g", invite_code="CODE", created_at=AT, invite_expires_at=until)
    assert effect.creator is None


@pytest.mark.parametrize("count, creator", [(3, None), (0, BOB.key)])
def test_join(count: int, creator: int | None):
    """[DCD3] A new member receives the name and the member count; in an empty group the new member becomes creator."""
    effect = effect_of(JOIN, facts(Joining("EE", count), member=False))

    assert effect.data == wire.MemberJoined("g", BOB.user_id, "bob", AT)
    assert effect.receipt == GroupJoined(group_id="g", encrypted_name="EE", member_count=count + 1, joined_at=AT)
    assert effect.creator == creator


@pytest.mark.parametrize(
    "actor, user_id, leaver, reason, creator",
    [
        (BOB, BOB.user_id, BOB, "left", None),
        (BOB, BOB.user_id.upper(), BOB, "left", None),
        (ANN, BOB.user_id, BOB, "removed", None),
        (ANN, ANN.user_id, ANN, "left", 9),
    ],
    ids=["leaves", "leaves in capitals", "is removed", "the creator leaves"],
)
def test_leave(actor: Principal, user_id: str, leaver: Principal, reason: str, creator: int | None):
    """[DCD4] Members leave, creators remove members; the longest-standing member succeeds a creator who leaves."""
    known = facts(Leaving(Named(leaver.key, leaver.user_id, leaver.username), heir=9))

    effect = effect_of(leave(actor, user_id), known)

    assert effect.data == wire.MemberLeft("g", leaver.user_id, leaver.username, AT, reason)
    assert (effect.receipt, effect.creator) == (None, creator)


def test_an_administrator_removes_a_member():
    """[ROLE2] An administrator removes a plain member."""
    known = facts(Leaving(Named(7, "x", "xenia"), heir=9, by_admin=True))

    effect = effect_of(leave(BOB, "x"), known)

    assert effect.data == wire.MemberLeft("g", "x", "xenia", AT, "removed")
    assert effect.creator is None


@pytest.mark.parametrize(("admin", "role"), [(True, "admin"), (False, "member")])
def test_set_role(admin: bool, role: str):
    """[ROLE1] The founder makes a member an administrator, or a plain member again."""
    known = facts(Appointing(Named(BOB.key, BOB.user_id, BOB.username, admin=not admin)))

    effect = effect_of(appoint(ANN, BOB.user_id, admin=admin), known)

    assert effect.data == wire.RoleChanged("g", BOB.user_id, BOB.username, role, ANN.user_id, AT)
    assert (effect.receipt, effect.creator) == (None, None)


def test_finish():
    """[DCD5] A medium becomes complete once all its chunks are stored."""
    until = "2023-11-14T22:13:21.000Z"

    effect = effect_of(FINISH, medium())

    assert effect.data == wire.MediaUploaded("x", "t", ANN.user_id, "GG", 50, until)
    assert effect.receipt == MediaStored(media_id="x", size_bytes=50, uploaded_at=AT, expires_at=until)


@pytest.mark.parametrize(
    "actor, early, expires_ms", [(ANN, True, AT_MS + 9), (BOB, True, AT_MS + 9), (ANN, False, AT_MS)]
)
def test_expire(actor: Principal, early: bool, expires_ms: int):
    """[DCD6] A medium expires at the end of its retention, or when its uploader or the group's creator deletes it."""
    draft = ExpireMedia(actor=actor, at_ms=AT_MS, media_id="x", early=early)
    known = medium(state=MediaState.COMPLETE, expires_ms=expires_ms, creator=BOB.key)

    assert effect_of(draft, known) == Effect(wire.MediaExpired("x", "t", AT))


@pytest.mark.parametrize("kind", DeletableKind)
@pytest.mark.parametrize(
    "about, creator",
    [
        (Deleting(found=True, own=True), BOB.key),
        (Deleting(found=True, by_admin=True), BOB.key),
        (Deleting(found=True), ANN.key),
    ],
    ids=["author", "admin", "founder"],
)
def test_delete(kind: DeletableKind, about: Deleting, creator: int):
    """[DCD11] The author, an administrator or the founder deletes content: the event says what, and who deleted it."""
    known = Facts("g", creator, member=True, about=about)

    assert effect_of(deletion(kind), known) == Effect(wire.Deleted("d", kind.value, ANN.user_id))


def in_bobs(about: Deleting, *, member: bool = True) -> Facts:
    """Return the facts of a deletion in Bob's group."""
    return Facts("g", BOB.key, member=member, about=about)


MESSAGE_GONE = deletion(DeletableKind.MESSAGE)
NOT_AUTHOR = "Only the author, and the group's founder and administrators, delete this."
NO_CONTENT = "There is nothing of this kind with this id to delete."
NOT_MEMBER = "You are not a member of this group."
NOT_ADMIN = "Only the founder and the administrators of the group remove others."
NOT_FOUNDER = "Only the founder of the group removes administrators, and nobody removes the founder."
HELPER = Named(7, "x", "xenia", admin=True)
FOUNDER = Named(ANN.key, ANN.user_id, ANN.username)
NOT_YOURS = "Only the member who uploaded a medium, and the group's founder and administrators, delete it."
EARLY = ExpireMedia(actor=ANN, at_ms=AT_MS, media_id="x", early=True)
DUE = ExpireMedia(actor=ANN, at_ms=AT_MS, media_id="x")
STORED = MediaState.COMPLETE

REFUSED = [
    (GROUP, facts(Creation(code_taken=True)), "CONFLICT", "The invite code that was drawn is in use. Try again.", {}),
    (
        replace(GROUP, most_groups=2),
        facts(Creation(code_taken=False, groups=2)),
        "QUOTA_EXCEEDED",
        "You look after 2 groups, and more are not allowed here. Leave one first.",
        {"groups": 2, "max_groups": 2},
    ),
    (
        replace(JOIN, most_members=2),
        facts(Joining("EE", 2), member=False),
        "QUOTA_EXCEEDED",
        "The group has 2 members, and more are not allowed here.",
        {"member_count": 2, "max_members": 2},
    ),
    (JOIN, facts(Joining("EE", 2)), "ALREADY_MEMBER", "You are in this group already.", {"group_id": "g"}),
    (leave(BOB, "x"), facts(Leaving(None, None), member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (
        leave(BOB, "x"),
        facts(Leaving(None, None)),
        "FORBIDDEN",
        NOT_ADMIN,
        {},
    ),
    (leave(BOB, "x"), facts(Leaving(HELPER, None, by_admin=True)), "FORBIDDEN", NOT_FOUNDER, {}),
    (leave(BOB, "ann-id"), facts(Leaving(FOUNDER, None, by_admin=True)), "FORBIDDEN", NOT_FOUNDER, {}),
    (appoint(ANN, "x"), facts(Appointing(HELPER), member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (appoint(BOB, "x"), facts(Appointing(HELPER)), "FORBIDDEN", "Only the founder of the group changes roles.", {}),
    (appoint(ANN, "x"), facts(Appointing(None)), "NOT_FOUND", "There is no such member in this group.", {}),
    (
        appoint(ANN, "ann-id", admin=False),
        facts(Appointing(FOUNDER)),
        "CONFLICT",
        "The founder has every right of an administrator, and no other role.",
        {},
    ),
    (appoint(ANN, "x"), facts(Appointing(HELPER)), "CONFLICT", "The member has this role already.", {}),
    (leave(ANN, "x"), facts(Leaving(None, None)), "NOT_FOUND", "There is no such member in this group.", {}),
    (FINISH, medium(member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (CHANGE, facts(Announcing(pending=False)), "CONFLICT", "This change of a device was announced already.", {}),
    (CHANGE, facts(Announcing(pending=True), member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (FINISH, medium(uploader=BOB.key), "FORBIDDEN", "Only the member who began an upload can finish it.", {}),
    (FINISH, medium(state=STORED), "CONFLICT", "The upload has already ended.", {}),
    (FINISH, medium(received_chunks=1), "CONFLICT", "The upload has already ended.", {}),
    (EARLY, medium(state=STORED, member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (replace(EARLY, actor=BOB), medium(state=STORED), "FORBIDDEN", NOT_YOURS, {}),
    (EARLY, medium(), "CONFLICT", "There is nothing to expire.", {}),
    (DUE, medium(state=STORED, expires_ms=AT_MS + 1), "CONFLICT", "There is nothing to expire.", {}),
    (MESSAGE_GONE, in_bobs(Deleting(found=True, own=True), member=False), "FORBIDDEN", NOT_MEMBER, {}),
    (MESSAGE_GONE, in_bobs(Deleting(found=False, deleted=True)), "GONE", "The message was deleted already.", {}),
    (MESSAGE_GONE, in_bobs(Deleting(found=False)), "NOT_FOUND", NO_CONTENT, {}),
    (MESSAGE_GONE, in_bobs(Deleting(found=True)), "FORBIDDEN", NOT_AUTHOR, {}),
]


@pytest.mark.parametrize("draft, known, code, message, details", REFUSED)
def test_refusals(draft: AnyDraft, known: Facts, code: str, message: str, details: dict[str, Any]):
    """[DCD7] Each fact that forbids a draft results in its own refusal, returned as a value and not raised."""
    refusal = decide(draft, known, seq=SEQ, stamp_ms=STAMP_MS)

    assert isinstance(refusal, OrbitalError)
    assert (refusal.code, refusal.message, refusal.details) == (code, message, details)


@pytest.mark.parametrize(
    "draft, about",
    [
        (replace(GROUP, most_groups=2), Creation(code_taken=False, groups=1)),
        (replace(JOIN, most_members=2), Joining("EE", 1)),
    ],
    ids=["groups", "members"],
)
def test_the_last_place_is_given(draft: AnyDraft, about: Any):
    """[DCD10] Below the bound of groups a user creates one more; below the bound of members one more user joins."""
    effect_of(draft, facts(about, member=False))


@pytest.mark.parametrize(
    "draft",
    [
        *(GROUP, JOIN, leave(ANN, "x"), appoint(ANN, "x"), FINISH, CHANGE, ANNOTATION),
        ExpireMedia(actor=ANN, at_ms=0, media_id="x"),
        deletion(DeletableKind.REPLY),
    ],
)
def test_facts_of_another_kind(draft: AnyDraft):
    """[DCD8] A store that reads the facts for another kind of draft raises an error."""
    with pytest.raises(AssertionError, match=f"^the store reads the facts that a {type(draft).__name__} needs$"):
        decide(draft, MEMBER, seq=SEQ, stamp_ms=STAMP_MS)


def test_a_missing_object():
    """[DCD9] A draft that refers to a missing object is NOT_FOUND, with a message for that kind of object."""
    refusals = [no_group(), no_thread(), no_code(), no_media()]
    assert {refusal.code for refusal in refusals} == {"NOT_FOUND"}
    assert [refusal.message for refusal in refusals] == [
        "There is no such group.",
        "There is no such thread.",
        "This invite code is unknown or no longer valid. Ask a member for the current one.",
        "There is no such medium.",
    ]
