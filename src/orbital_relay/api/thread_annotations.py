"""Annotations of threads, replies and media: reactions, edits, pins, as clients agree inside the ciphertext."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import Encrypted, IfEpoch, ResponseBody, Uuid


class AnnotationBody(msgspec.Struct):
    """A new annotation."""

    target_id: Annotated[Uuid, msgspec.Meta(description="The thread itself, or a reply or a stored medium in it.")]
    encrypted_body: Encrypted
    if_epoch: IfEpoch = None


class AnnotationCreated(ResponseBody, frozen=True, kw_only=True):
    """The annotation is durable; `seq` is its number in the group."""

    annotation_id: str
    thread_id: str
    target_id: str
    created_at: str
    seq: int = 0


class Annotation(ResponseBody, frozen=True, kw_only=True):
    """An annotation."""

    annotation_id: str
    thread_id: str
    target_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    created_at: str
    seq: Annotated[int, msgspec.Meta(description="Its number in the group's log.")]


class Annotations(ResponseBody, frozen=True, kw_only=True):
    """Annotations of a thread in the order of the log."""

    annotations: list[Annotation]
    has_more: Annotated[
        bool, msgspec.Meta(description="Whether more follow: repeat with `after_seq`, the `seq` of the last one here.")
    ]
