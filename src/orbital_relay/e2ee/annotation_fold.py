"""What annotations come to: each target of a group with its edit, reactions, pin, positions and polls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from orbital_relay.e2ee.annotation_kinds import (
    AnnotationKind,
    Edit,
    Pinning,
    Poll,
    Reaction,
    SeenMark,
    Vote,
    annotation_of,
)
from orbital_relay.e2ee.rows import Item

IDS: Final = {"new_thread": "thread_id", "new_reply": "reply_id", "media_uploaded": "media_id"}
"""The field that holds the id of what can be annotated."""


class ShownEdit(msgspec.Struct, frozen=True):
    """The text that replaces the target's; `at` is the author's clock in milliseconds, shown and not trusted."""

    body: str
    title: str | None
    seq: int
    at: int


class ShownPin(msgspec.Struct, frozen=True):
    """Who pinned the target, and with which event."""

    by: str
    seq: int


class ShownPoll(msgspec.Struct):
    """A poll with its votes: by user, places in the options."""

    question: str
    options: tuple[str, ...]
    multiple: bool
    by: str
    seq: int
    votes: dict[str, tuple[int, ...]] = {}


class AnnotatedTarget(msgspec.Struct):
    """
    What a thread, reply or medium shows besides itself.

    Attributes:
        edit: The last one by the target's author.
        reactions: By text: the users, the first one first.
        pin: The last one; None when there is none, or it was removed.
        seen: By user: the highest number.
        polls: By id, hexadecimal.
    """

    edit: ShownEdit | None = None
    reactions: dict[str, list[str]] = {}
    pin: ShownPin | None = None
    seen: dict[str, int] = {}
    polls: dict[str, ShownPoll] = {}


def fold_annotations(items: Iterable[Item]) -> dict[str, AnnotatedTarget]:
    """
    Fold annotations in the order of the log.

    An edit counts if its author wrote the target; all else counts of every member. Targets are known by what was read:
    an edit of something that is not among the items counts for nothing.

    Args:
        items: A group's, as `items()` of the device returns them.

    Returns:
        What is shown, by target.
    """
    authors: dict[str, str] = {}
    targets: dict[str, AnnotatedTarget] = {}
    for item in items:
        if item.status != "read":
            continue
        if item.type in IDS:
            authors.setdefault(str(item.fields.get(IDS[item.type])), item.author)
            continue
        annotation = annotation_of(item)
        if annotation is None:
            continue
        name = str(item.fields.get("target_id"))
        _apply(targets.setdefault(name, AnnotatedTarget()), item, annotation, authors.get(name))
    return targets


def _apply(target: AnnotatedTarget, item: Item, annotation: AnnotationKind, author: str | None) -> None:
    by = item.author
    match annotation:
        case Reaction(text, removed):
            users = [user for user in target.reactions.get(text, []) if user != by or not removed]
            if not removed and by not in users:
                users.append(by)
            if users:
                target.reactions[text] = users
            else:
                target.reactions.pop(text, None)
        case Edit(body, title):
            if by == author:
                target.edit = ShownEdit(body, title, item.seq, item.parts[0].at)
        case Pinning(removed):
            target.pin = None if removed else ShownPin(by, item.seq)
        case SeenMark(seq):
            target.seen[by] = max(seq, target.seen.get(by, 0))
        case Poll(id, question, options, multiple):
            # The first one: nobody replaces a poll that has votes.
            target.polls.setdefault(id.hex(), ShownPoll(question, options, multiple, by, item.seq))
        case Vote(poll, choices):
            _vote(target.polls.get(poll.hex()), choices, by)


def _vote(poll: ShownPoll | None, choices: tuple[int, ...], by: str) -> None:
    chosen = tuple(sorted(set(choices)))
    if poll is None or any(one >= len(poll.options) for one in chosen) or (len(chosen) > 1 and not poll.multiple):
        return
    if chosen:
        poll.votes[by] = chosen
    else:
        poll.votes.pop(by, None)
