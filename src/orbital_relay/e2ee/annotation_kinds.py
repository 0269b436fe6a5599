"""The body of content of kind 7: what an annotation says about its target."""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode, malformed
from orbital_relay.e2ee.formats.schemas import ANNOTATION
from orbital_relay.e2ee.rows import Item

MAX_REACTION_BYTES: Final = 64
"""Bound on the text of a reaction, in bytes of UTF-8: the longest emoji sequences have about 40."""
MIN_OPTIONS: Final = 2
MAX_OPTIONS: Final = 32
"""Bounds on the options of a poll."""


class Reaction(msgspec.Struct, frozen=True, tag="reaction"):
    """A reaction: an emoji or a short text; `removed` when the author takes the same text back."""

    text: str
    removed: bool = False


class Edit(msgspec.Struct, frozen=True, tag="edit"):
    """The new text of the target, by its author; `title` of a thread."""

    body: str
    title: str | None = None


class Pinning(msgspec.Struct, frozen=True, tag="pin"):
    """The target is pinned, or `removed`."""

    removed: bool = False


class SeenMark(msgspec.Struct, frozen=True, tag="seen"):
    """The author has seen the thread up to this number."""

    seq: int


class Poll(msgspec.Struct, frozen=True, tag="poll"):
    """
    A poll.

    Attributes:
        id: 16 random bytes; votes name it.
        question: What is asked.
        options: 2 to 32.
        multiple: Whether a vote may choose several.
    """

    id: bytes
    question: str
    options: tuple[str, ...]
    multiple: bool = False


class Vote(msgspec.Struct, frozen=True, tag="vote"):
    """A vote in the poll with this id: places in its options, from 0; none takes the vote back."""

    poll: bytes
    choices: tuple[int, ...]


AnnotationKind = Reaction | Edit | Pinning | SeenMark | Poll | Vote


def _out_of_bounds(annotation: AnnotationKind) -> str | None:
    """Return which bound an annotation does not keep."""
    if isinstance(annotation, Reaction):
        length = len(annotation.text.encode())
        if not 1 <= length <= MAX_REACTION_BYTES:
            return f"a reaction of {length} bytes, not 1 to {MAX_REACTION_BYTES}"
    if isinstance(annotation, Poll) and not MIN_OPTIONS <= len(annotation.options) <= MAX_OPTIONS:
        return f"a poll of {len(annotation.options)} options, not {MIN_OPTIONS} to {MAX_OPTIONS}"
    return None


def _fields_of(annotation: AnnotationKind) -> tuple[str, dict[str, Any]]:
    """Return the kind and the fields of its body."""
    match annotation:
        case Reaction(text, removed):
            return "reaction", {"text": text.encode(), "removed": 1 if removed else None}
        case Edit(body, title):
            return "edit", {"body": body.encode(), "title": None if title is None else title.encode()}
        case Pinning(removed):
            return "pin", {"removed": 1 if removed else None}
        case SeenMark(seq):
            return "seen", {"seq": seq}
        case Poll(id, question, options, multiple):
            texts = [one.encode() for one in options]
            flag = 1 if multiple else None
            return "poll", {"id": id, "question": question.encode(), "options": texts, "multiple": flag}
        case Vote(poll, choices):
            if any(not 0 <= one < MAX_OPTIONS for one in choices):
                raise ValueError(f"a vote for {choices}, not for places from 0 to {MAX_OPTIONS - 1}")
            return "vote", {"poll": poll, "choices": bytes(choices)}
        case _:
            assert_never(annotation)


def write_annotation(annotation: AnnotationKind) -> bytes:
    """
    Write the body of content of kind 7.

    Raises:
        ValueError: If a value is out of its bounds.
    """
    why = _out_of_bounds(annotation)
    if why is not None:
        raise ValueError(why)
    kind, fields = _fields_of(annotation)
    return encode(ANNOTATION, {kind: fields})


def read_annotation(data: bytes) -> AnnotationKind:
    """
    Parse the body of content of kind 7.

    Raises:
        E2eeError: `malformed`; `unsupported` for a kind that this client does not have.
    """
    message = decode(ANNOTATION, data)
    if not message:
        raise E2eeError("unsupported", "an annotation of a kind that is unknown here")
    if len(message) > 1:
        malformed(f"an annotation of {len(message)} kinds at once")
    [(kind, body)] = message.items()
    try:
        annotation = _read_body(kind, body)
    except UnicodeDecodeError:
        malformed(f"a {kind} whose text is not UTF-8")
    why = _out_of_bounds(annotation)
    if why is not None:
        malformed(why)
    return annotation


def _read_body(kind: str, body: dict[str, Any]) -> AnnotationKind:
    match kind:
        case "reaction":
            return Reaction(body["text"].decode(), body.get("removed") == 1)
        case "edit":
            return Edit(body["body"].decode(), body["title"].decode() if "title" in body else None)
        case "pin":
            return Pinning(body.get("removed") == 1)
        case "seen":
            return SeenMark(body["seq"])
        case "poll":
            options = tuple(one.decode() for one in body["options"])
            return Poll(body["id"], body["question"].decode(), options, body.get("multiple") == 1)
        case _:
            return Vote(body["poll"], tuple(body["choices"]))


def annotation_of(item: Item) -> AnnotationKind | None:
    """Return what an item says; None when it is no annotation that was read, or of a kind that is unknown here."""
    if item.type != "new_annotation" or not item.parts:
        return None
    try:
        return read_annotation(item.parts[0].body)
    except E2eeError:
        return None
