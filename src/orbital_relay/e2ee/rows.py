"""The rows of a device's tables for a group."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from orbital_relay.e2ee.chain import SenderChain
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.receiver import Pin
from orbital_relay.e2ee.roster import LoggedRecord, Roster
from orbital_relay.e2ee.sender import Given, SenderState
from orbital_relay.e2ee.unit import RowTable

# The log


class LogEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    An event of a group's log, as the transport delivers it.

    Attributes:
        group_id: The group.
        seq: Its number.
        type: Its type.
        data: Its fields as JSON: the server may put in anything that JSON can hold.
        hash: Of the frame's text, base64url, 43 characters.
        prev: Of the frame before it; None when the server keeps no chain.
        frame: The frame's text, byte for byte; empty when the transport does not have it.
    """

    group_id: str
    seq: int
    type: str
    data: bytes
    hash: str
    prev: str | None = None
    frame: bytes = b""

    @classmethod
    def of(
        cls, *, group_id: str, seq: int, type: str, data: dict[str, Any], hash: str, prev: str | None = None
    ) -> LogEvent:
        """Make an event of plain objects."""
        encoded = json.dumps(data, ensure_ascii=True).encode()
        return cls(group_id=group_id, seq=seq, type=type, data=encoded, hash=hash, prev=prev)

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields as plain objects."""
        return dict(json.loads(self.data))


class LogPosition(msgspec.Struct, frozen=True):
    """The last event that was processed; the hash is empty before the first."""

    seq: int = 0
    hash: str = ""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """
    Why nothing is sent until a person decides.

    Attributes:
        code: `two_histories`, `broken_chain` or `rolled_back`.
        seq: The number at which two histories part.
        ours: The hash that this device has.
        theirs: The other one.
        by: The member who has the other one; empty when the server showed it.
    """

    code: str
    seq: int
    ours: str
    theirs: str
    by: str = ""


class Removal(msgspec.Struct, frozen=True):
    """A member who was removed from here and whose `member_left` is awaited; `since` in milliseconds."""

    user: str
    since: int


class KnownGroup(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a device is in a group.

    Attributes:
        position: The last event processed.
        epoch: The number of the last event that changed members, devices or records.
        founder: From the invite, 16 bytes.
        inviter: The person who gave the invite, if known.
        stopped: Why nothing is sent; None when it is.
        removals: Removals that the server has not confirmed.
    """

    position: LogPosition
    epoch: int
    founder: bytes
    inviter: str | None = None
    stopped: Stop | None = None
    removals: tuple[Removal, ...] = ()


class Claimed(msgspec.Struct, frozen=True):
    """A member's head for a number that this device has not reached: 16 bytes, hexadecimal."""

    head: str
    by: str


class KeptFrame(msgspec.Struct, frozen=True, kw_only=True):
    """
    A frame as it was received, for an audit file.

    Attributes:
        frame: Its text.
        hash: As it was noted when the event was processed.
        heads: Where the author of the content stood, in its own words: a number and 16 bytes, hexadecimal.
    """

    frame: bytes
    hash: str
    heads: tuple[tuple[int, str], ...] = ()


class KnownHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one number: the frame's hash, or what members claim."""

    hash: str | None = None
    claims: tuple[Claimed, ...] = ()


# The sender


class Giving(msgspec.Struct, frozen=True):
    """A sealed `new_keys` whose answer is awaited: idempotency key, base64, and the devices that it serves."""

    key: str
    envelope: str
    devices: tuple[Given, ...]


class OwnChain(msgspec.Struct, frozen=True, kw_only=True):
    """
    The sender's machine, as stored.

    Attributes:
        state: Its state.
        distribution: Of its chain; None in `none`.
        epoch: For which the chain was last given.
        count: Messages sealed with it.
        made_at: Milliseconds since the epoch.
        giving: In `giving`.
    """

    state: SenderState = "none"
    distribution: bytes | None = None
    epoch: int = 0
    count: int = 0
    made_at: int = 0
    giving: Giving | None = None


class OwnSenderKey(msgspec.Struct, frozen=True):
    """A chain of the device's own, and the key that signs its messages."""

    chain: SenderChain
    signing: SigningKey


# Members


class KeptChain(msgspec.Struct, frozen=True, kw_only=True):
    """An own chain as it stood when a newcomer joined, or from its beginning; `at` in milliseconds."""

    distribution: bytes
    skdm: bytes
    at: int


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """
    A member whose device the roster does not have yet.

    Attributes:
        since: The number of their `member_joined`.
        kept: Own chains that their device is given.
    """

    since: int
    kept: tuple[KeptChain, ...] = ()


# Distributions


class OwnPin(Pin, frozen=True, kw_only=True, tag="own"):
    """A distribution of this device: the name of its chain, and how it is given from its beginning."""

    chain_name: str
    first_skdm: bytes
    made_epoch: int


class OtherPin(Pin, frozen=True, kw_only=True, tag="other"):
    """
    A distribution of another device.

    Attributes:
        epoch: For which it was given.
        skdm: As it was given.
        shareable: Whether it may be given to later members.
        proof: The Signed by which its owner gave it; None when that proves nothing to others.
        proof_key_id: The pre-key of that delivery.
    """

    epoch: int
    skdm: bytes
    shareable: bool
    proof: bytes | None = None
    proof_key_id: int | None = None


class SharedChain(msgspec.Struct, frozen=True, kw_only=True):
    """
    A chain that reads the past.

    Attributes:
        user: Its owner.
        device: Its owner's device.
        first: The first iteration that it reads.
        chain: As it stands.
        via: The giver, when the owner is not proven.
    """

    user: str
    device: int
    first: int
    chain: SenderChain
    via: str | None


# What was received

ItemStatus = Literal[
    "read",
    "waiting",
    "unreadable",
    "misplaced",
    "wrong_sender",
    "repeated",
    "too_far_ahead",
    "other_version",
    "own_lost",
    "no_key",
]


TEXT_KINDS: Final = frozenset(
    {ContentKind.MESSAGE, ContentKind.TITLE, ContentKind.BODY, ContentKind.REPLY, ContentKind.NAME}
)
"""Kinds of content whose body is text; a file's holds its key, and an annotation's is a message of fields."""


class Part(msgspec.Struct, frozen=True):
    """One decrypted field; `at` is the sender's clock in milliseconds, which is shown and never trusted."""

    kind: int
    body: bytes
    at: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of an event's content.

    Attributes:
        group: Its group.
        seq: The event's number.
        hash: Of the frame.
        type: The event's type.
        status: What became of it.
        author: Its author's user id.
        device: The author's device; None while it is not known.
        data: The event's own fields as JSON, the encrypted ones left out.
        parts: Empty unless the status is `read`.
        via: The person who gave the chain, when its owner is not proven.
    """

    group: str
    seq: int
    hash: str
    type: str
    status: ItemStatus
    author: str
    device: int | None = None
    data: bytes
    parts: tuple[Part, ...] = ()
    via: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The event's own fields as plain objects."""
        return dict(json.loads(self.data))

    @property
    def text(self) -> str:
        """What a message or reply says, or the title of a thread; bytes that are not UTF-8 are replaced. Else empty."""
        first = self.parts[0] if self.parts else None
        return "" if first is None or first.kind not in TEXT_KINDS else first.body.decode(errors="replace")


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="content"):
    """
    An event whose key is not here.

    Attributes:
        seq: Its number.
        event: The event.
        author: Its author.
        distribution: Hexadecimal.
        asked: Requests made so far.
        since: When the device had caught up and the key was missing; None before that.
        ended: Whether asking has ended.
    """

    seq: int
    event: LogEvent
    author: str
    distribution: str
    asked: int = 0
    since: int | None = None
    ended: bool = False


class Held(msgspec.Struct, frozen=True, kw_only=True, tag="keys"):
    """Keys that wait until the roster has their device with their identity."""

    seq: int
    event: LogEvent


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """A warning: its code, the event's number, the user and device it is about, and when it was written."""

    group: str
    seq: int
    code: str
    user: str = ""
    device: int = 0
    details: dict[str, str | int] = {}
    at: int = 0


class StoredPreKey(msgspec.Struct, frozen=True, kw_only=True):
    """The private part of an HPKE pre-key; `last` for a last resort."""

    id: int
    last: bool
    made_at: int
    seed: bytes


# Tables

COUNTERS: Final = RowTable[int]("meta", int)
SECRETS: Final = RowTable[bytes]("meta", bytes)
ME: Final = RowTable[SigningKey]("identities", SigningKey)
MARKS: Final = RowTable[int]("identities", int)
PRE_KEYS: Final = RowTable[StoredPreKey]("pre_keys", StoredPreKey)
OWN_KEYS: Final = RowTable[OwnSenderKey]("sender_keys", OwnSenderKey)
CHAINS: Final = RowTable[SenderChain]("sender_keys", SenderChain)
PINS: Final = RowTable[OwnPin | OtherPin]("distributions", OwnPin | OtherPin)
SHARED: Final = RowTable[SharedChain]("shared", SharedChain)
OWN: Final = RowTable[OwnChain]("own", OwnChain)
GIVEN: Final = RowTable[Given]("given", Given)
ANSWERS: Final = RowTable[int]("answers", int)
ROSTERS: Final = RowTable[Roster]("roster", Roster)
RECORDS: Final = RowTable[LoggedRecord]("records", LoggedRecord)
MEMBERS: Final = RowTable[int | Newcomer]("members", int | Newcomer)
GROUPS: Final = RowTable[KnownGroup]("groups", KnownGroup)
HEADS: Final = RowTable[KnownHead]("heads", KnownHead)
FRAMES: Final = RowTable[KeptFrame]("frames", KeptFrame)
NONCES: Final = RowTable[int]("nonces", int)
ITEMS: Final = RowTable[Item]("items", Item)
UNHANDLED: Final = RowTable[int]("unhandled", int)
WAITING: Final = RowTable[Waiting | Held]("waiting", Waiting | Held)
WARNINGS: Final = RowTable[Warned]("warnings", Warned)
