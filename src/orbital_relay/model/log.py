"""The log of a group: events, pages, resume positions (offsets), membership at the head."""

from __future__ import annotations

import msgspec

from orbital_relay.model.people import Access, GroupId


class Event(msgspec.Struct, frozen=True):
    """
    One numbered entry of a group's log.

    Attributes:
        group_id: The group.
        seq: Its number in the group, from 1, without holes.
        stamp_ms: Its `server_timestamp`.
        frame: The UTF-8 text that every subscriber gets, made once.
    """

    group_id: GroupId
    seq: int
    stamp_ms: int
    frame: bytes


class Head(msgspec.Struct, frozen=True):
    """
    Where a group's log stands.

    Attributes:
        seq: Number of the last event; 0 is possible for no group that exists.
        floor: Number of the last event that is no longer kept; 0 when all are.
        stamp_ms: `server_timestamp` of the last event.
        hash: SHA-256 of the last frame as the chain writes it: base64url, 43 characters.
    """

    seq: int
    floor: int
    stamp_ms: int
    hash: str


class MembershipAtHead(msgspec.Struct, frozen=True):
    """A user's access to a group together with the group's head, both read in one transaction."""

    access: Access
    head: Head


class LogRange(msgspec.Struct, frozen=True):
    """
    What is to be read of a group's log.

    Attributes:
        after: Number of the last event that the reader has; 0 reads from the start.
        limit: Most events to return.
    """

    after: int
    limit: int


class Page(msgspec.Struct, frozen=True):
    """
    Some of a group's events, oldest first and gapless.

    Attributes:
        events: Starts at the number after the one asked for, or is empty.
        head: The group's head when the page was read.
    """

    events: list[Event]
    head: Head


class Resume(msgspec.Struct, frozen=True):
    """Where a client says it stands: the last number it has, and the hash of that frame if it checks the chain."""

    seq: int
    hash: str | None = None


class ResumePoint(msgspec.Struct, frozen=True):
    """
    What the log holds at a position that a client resumes from.

    Attributes:
        hash: The hash of the frame with that number; of number 0 the group's own.
        next_stamp_ms: `server_timestamp` of the event that follows, None at the head.
    """

    hash: str
    next_stamp_ms: int | None
