"""Decide a draft (permission, epoch, member limit, roles): an event and an answer, or a refusal. No I/O."""

from __future__ import annotations

from typing import assert_never

import msgspec

from orbital_relay import wire
from orbital_relay.api.groups import GroupCreated, GroupJoined
from orbital_relay.api.keys import KeysPosted, RecordCreated
from orbital_relay.api.media import MediaStored
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.receipts import Receipt
from orbital_relay.api.thread_annotations import AnnotationCreated
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.core.refusals import (
    code_taken,
    may_not_delete,
    no_content,
    no_such_member,
    no_target,
    not_author,
    not_member,
)
from orbital_relay.errors import (
    AlreadyDeleted,
    AlreadyMember,
    Conflict,
    EpochChanged,
    Forbidden,
    OrbitalError,
    QuotaExceeded,
    RoleUnchanged,
    UploadEnded,
)
from orbital_relay.model import (
    AnnounceDevice,
    AnyDraft,
    CreateGroup,
    DeleteContent,
    ExpireMedia,
    FinishMedia,
    JoinGroup,
    LeaveGroup,
    MediaState,
    PostAnnotation,
    PostDraft,
    PostKeys,
    PostMessage,
    PostRecord,
    PostReply,
    PostThread,
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
)


class Effect(msgspec.Struct, frozen=True):
    """
    What the store writes, besides the rows that the draft's kind always has.

    Attributes:
        data: The event.
        receipt: The body that answers the draft; None for a draft whose answer has no body.
        creator: Row number of the group's new creator; None when that does not change.
    """

    data: wire.EventData
    receipt: Receipt | None = None
    creator: int | None = None


def decide(draft: AnyDraft, facts: Facts, *, seq: int, stamp_ms: int) -> Effect | OrbitalError:
    """
    Decide a draft.

    Args:
        draft: What a client, or for media that are due the server, asks.
        facts: What the store read under the group's lock.
        seq: The number that the event gets.
        stamp_ms: The event's `server_timestamp`, milliseconds.

    Returns:
        What to write, or the refusal: then nothing is written.
    """
    match draft:
        case PostMessage() | PostThread() | PostReply():
            return _outdated(draft, facts) or _post(draft, facts, seq=seq, stamp_ms=stamp_ms)
        case PostAnnotation():
            return _outdated(draft, facts) or _annotate(draft, facts, seq=seq)
        case PostKeys() | PostRecord():
            return _outdated(draft, facts) or _post_keys(draft, facts, seq=seq, stamp_ms=stamp_ms)
        case AnnounceDevice():
            return _announce(draft, facts)
        case CreateGroup():
            return _create(draft, facts)
        case JoinGroup():
            return _join(draft, facts)
        case LeaveGroup():
            return _leave(draft, facts)
        case SetRole():
            return _set_role(draft, facts)
        case FinishMedia():
            return _finish(draft, facts)
        case ExpireMedia():
            return _expire(draft, facts)
        case DeleteContent():
            return _delete(draft, facts)
        case _:
            assert_never(draft)


def names_of(draft: LeaveGroup | SetRole) -> frozenset[str]:
    """Return the ids that a draft may mean: UUIDs may be written in capitals, other providers' ids stay as they are."""
    return frozenset({draft.user_id, wire.read_uuid(draft.user_id) or draft.user_id})


def _outdated(draft: PostDraft, facts: Facts) -> OrbitalError | None:
    """Return the refusal of a post by no member, or sealed for a membership that has changed since."""
    if not facts.member:
        return not_member()
    if draft.if_epoch is not None and facts.epoch > draft.if_epoch:
        return EpochChanged(epoch=facts.epoch)
    return None


def _post_keys(draft: PostKeys | PostRecord, facts: Facts, *, seq: int, stamp_ms: int) -> Effect:
    author = draft.actor.user_id
    if isinstance(draft, PostKeys):
        return Effect(
            wire.NewKeys(draft.keys_id, facts.group_id, author, draft.encrypted_envelope),
            KeysPosted(keys_id=draft.keys_id, server_timestamp=stamp_ms, seq=seq),
        )
    at = wire.iso(draft.at_ms)
    return Effect(
        wire.NewRecord(draft.record_id, facts.group_id, author, draft.record, at),
        RecordCreated(record_id=draft.record_id, group_id=facts.group_id, created_at=at, seq=seq),
    )


def _announce(draft: AnnounceDevice, facts: Facts) -> Effect | OrbitalError:
    if not isinstance(facts.about, Announcing):
        raise _wrong(draft)
    if not facts.about.pending:
        return Conflict("This change of a device was announced already.")
    if not facts.member:
        return not_member()
    return Effect(wire.IdentityChanged(draft.actor.user_id, draft.device_id, draft.change, draft.identity_key))


def _post(draft: PostMessage | PostThread | PostReply, facts: Facts, *, seq: int, stamp_ms: int) -> Effect:
    actor = draft.actor
    match draft:
        case PostMessage():
            # Its stamp is in its id: by that the log finds it, without an index over ids that every post would pay for.
            message_id = wire.timed_uuid(draft.message_id, stamp_ms)
            return Effect(
                wire.NewMessage(message_id, facts.group_id, draft.encrypted_envelope, stamp_ms, actor.user_id),
                MessagePosted(message_id=message_id, server_timestamp=stamp_ms, seq=seq),
            )
        case PostThread():
            at = wire.iso(draft.at_ms)
            thread = wire.NewThread(
                draft.thread_id,
                facts.group_id,
                actor.user_id,
                actor.username,
                draft.encrypted_title,
                draft.encrypted_body,
                at,
                root_message_id=draft.root_message_id,
            )
            return Effect(
                thread, ThreadCreated(thread_id=draft.thread_id, group_id=facts.group_id, created_at=at, seq=seq)
            )
        case PostReply():
            at = wire.iso(draft.at_ms)
            reply = wire.NewReply(
                draft.reply_id,
                draft.thread_id,
                actor.user_id,
                actor.username,
                draft.encrypted_body,
                at,
                message_id=draft.message_id,
            )
            return Effect(
                reply, ReplyCreated(reply_id=draft.reply_id, thread_id=draft.thread_id, created_at=at, seq=seq)
            )
        case _:
            assert_never(draft)


def _annotate(draft: PostAnnotation, facts: Facts, *, seq: int) -> Effect | OrbitalError:
    if not isinstance(facts.about, Annotating):
        raise _wrong(draft)
    if not facts.about.target:
        return no_target()
    actor, at = draft.actor, wire.iso(draft.at_ms)
    ids = (draft.annotation_id, draft.thread_id, draft.target_id)
    return Effect(
        wire.NewAnnotation(*ids, actor.user_id, actor.username, draft.encrypted_body, at),
        AnnotationCreated(
            annotation_id=draft.annotation_id,
            thread_id=draft.thread_id,
            target_id=draft.target_id,
            created_at=at,
            seq=seq,
        ),
    )


def _create(draft: CreateGroup, facts: Facts) -> Effect | OrbitalError:
    if not isinstance(facts.about, Creation):
        raise _wrong(draft)
    if facts.about.code_taken:
        return code_taken()
    if draft.most_groups is not None and facts.about.groups >= draft.most_groups:
        return QuotaExceeded(
            f"You look after {facts.about.groups} groups, and more are not allowed here. Leave one first.",
            groups=facts.about.groups,
            max_groups=draft.most_groups,
        )
    created_at = wire.iso(draft.at_ms)
    return Effect(
        wire.MemberJoined(facts.group_id, draft.actor.user_id, draft.actor.username, created_at),
        GroupCreated(
            group_id=facts.group_id,
            invite_code=draft.invite_code,
            created_at=created_at,
            invite_expires_at=wire.iso(draft.invite_expires_ms),
        ),
    )


def _join(draft: JoinGroup, facts: Facts) -> Effect | OrbitalError:
    about = facts.about
    if not isinstance(about, Joining):
        raise _wrong(draft)
    if facts.member:
        return AlreadyMember("You are in this group already.", group_id=facts.group_id)
    if draft.most_members is not None and about.member_count >= draft.most_members:
        return QuotaExceeded(
            f"The group has {about.member_count} members, and more are not allowed here.",
            member_count=about.member_count,
            max_members=draft.most_members,
        )
    joined_at = wire.iso(draft.at_ms)
    return Effect(
        wire.MemberJoined(facts.group_id, draft.actor.user_id, draft.actor.username, joined_at),
        GroupJoined(
            group_id=facts.group_id,
            encrypted_name=about.encrypted_name,
            member_count=about.member_count + 1,
            joined_at=joined_at,
        ),
        # Everybody had left: the first who comes back looks after the group.
        creator=None if about.member_count else draft.actor.key,
    )


def _leave(draft: LeaveGroup, facts: Facts) -> Effect | OrbitalError:
    about = facts.about
    if not isinstance(about, Leaving):
        raise _wrong(draft)
    if not facts.member:
        return not_member()
    leaves = draft.actor.user_id in names_of(draft)
    founder = facts.creator == draft.actor.key
    if not leaves and not founder and not about.by_admin:
        return Forbidden("Only the founder and the administrators of the group remove others.")
    leaver = about.leaver
    if leaver is None:
        return no_such_member()
    if not leaves and not founder and (leaver.admin or leaver.key == facts.creator):
        return Forbidden("Only the founder of the group removes administrators, and nobody removes the founder.")
    at, reason = wire.iso(draft.at_ms), "left" if leaves else "removed"
    return Effect(
        wire.MemberLeft(facts.group_id, leaver.user_id, leaver.username, at, reason),
        # Another member becomes the creator, so that somebody can still invite and remove.
        creator=about.heir if leaver.key == facts.creator else None,
    )


def _set_role(draft: SetRole, facts: Facts) -> Effect | OrbitalError:
    about = facts.about
    if not isinstance(about, Appointing):
        raise _wrong(draft)
    if not facts.member:
        return not_member()
    if facts.creator != draft.actor.key:
        return Forbidden("Only the founder of the group changes roles.")
    member = about.member
    if member is None:
        return no_such_member()
    if member.key == facts.creator:
        return Conflict("The founder has every right of an administrator, and no other role.")
    if member.admin == draft.admin:
        return RoleUnchanged("The member has this role already.")
    role = "admin" if draft.admin else "member"
    at, by = wire.iso(draft.at_ms), draft.actor.user_id
    return Effect(wire.RoleChanged(facts.group_id, member.user_id, member.username, role, by, at))


def _finish(draft: FinishMedia, facts: Facts) -> Effect | OrbitalError:
    medium = facts.about
    if not isinstance(medium, MediumFacts):
        raise _wrong(draft)
    if refusal := _outdated(draft, facts):
        return refusal
    if medium.uploader != draft.actor.key:
        return Forbidden("Only the member who began an upload can finish it.")
    # The caller has seen every chunk stored: where some are missing, that upload was abandoned and another one begun.
    if medium.state is not MediaState.UPLOADING or medium.received_chunks != medium.total_chunks:
        return UploadEnded("The upload has already ended.")
    media_id, expires_at, size_bytes = draft.media_id, wire.iso(draft.expires_ms), medium.received_bytes
    data = wire.MediaUploaded(
        media_id, medium.thread_id, draft.actor.user_id, medium.encrypted_metadata, size_bytes, expires_at
    )
    return Effect(
        data,
        MediaStored(media_id=media_id, size_bytes=size_bytes, uploaded_at=wire.iso(draft.at_ms), expires_at=expires_at),
    )


def _expire(draft: ExpireMedia, facts: Facts) -> Effect | OrbitalError:
    medium = facts.about
    if not isinstance(medium, MediumFacts):
        raise _wrong(draft)
    if draft.early:
        if not facts.member:
            return not_member()
        if draft.actor.key not in {medium.uploader, facts.creator} and not medium.by_admin:
            return may_not_delete()
    if medium.state is not MediaState.COMPLETE or (not draft.early and medium.expires_ms > draft.at_ms):
        return UploadEnded("There is nothing to expire.")
    return Effect(wire.MediaExpired(draft.media_id, medium.thread_id, wire.iso(draft.at_ms)))


def _delete(draft: DeleteContent, facts: Facts) -> Effect | OrbitalError:
    about = facts.about
    if not isinstance(about, Deleting):
        raise _wrong(draft)
    if not facts.member:
        return not_member()
    if about.deleted:
        return AlreadyDeleted(f"The {draft.kind.value} was deleted already.")
    if not about.found:
        return no_content()
    if not about.own and not about.by_admin and facts.creator != draft.actor.key:
        return not_author()
    return Effect(wire.Deleted(draft.target_id, draft.kind.value, draft.actor.user_id))


def _wrong(draft: AnyDraft) -> AssertionError:
    return AssertionError(f"the store reads the facts that a {type(draft).__name__} needs")
