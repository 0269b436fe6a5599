"""Byte strings for parsers of end-to-end encryption, and what was parsed as plain objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from orbital_relay.e2ee.annotation_kinds import (
    MAX_OPTIONS,
    Edit,
    Pinning,
    Poll,
    Reaction,
    SeenMark,
    Vote,
    read_annotation,
    write_annotation,
)
from orbital_relay.e2ee.formats.content import Content, read_content, write_content
from orbital_relay.e2ee.formats.envelope import (
    Envelope,
    History,
    KeyDelivery,
    Keys,
    Pairwise,
    Request,
    Signed,
    read_envelope,
    read_pairwise,
    read_signed,
    write_envelope,
    write_pairwise,
    write_signed,
)
from orbital_relay.e2ee.formats.protobuf import MAX_SAFE
from orbital_relay.e2ee.formats.records import Founding, read_record, write_record
from orbital_relay.e2ee.formats.sender_key import (
    Skdm,
    read_sender_key_message,
    read_skdm,
    sender_key_body,
    write_skdm,
)
from orbital_relay.e2ee.media import MediaInfo, read_media_info, write_media_info
from orbital_relay.e2ee.safety import matches_scan
from tests.support.e2ee import ADA, GROUP


def camel(name: str) -> str:
    """Name a field as the vectors do."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def plain(value: Any) -> Any:
    """As the vectors write it: names of fields in camel case, bytes in hexadecimal, what is missing left out."""
    if isinstance(value, msgspec.Struct):
        fields = {camel(name): plain(one) for name, one in msgspec.structs.asdict(value).items() if one is not None}
        tag = value.__struct_config__.tag
        return fields if tag is None else {"kind": tag, **fields}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


SEEDS = [
    write_envelope(
        Envelope(
            keys=Keys(1, 3, [KeyDelivery(ADA, 1, 16, bytes(40))]), request=Request(1, bytes(16)), content=bytes(30)
        )
    ),
    write_pairwise(Pairwise(group=GROUP, epoch=1, history=[History(user=ADA, device=1, skdm=bytes(9))])),
    write_signed(Signed(pairwise=b"x", identity=bytes(33), signature=bytes(64))),
    sender_key_body(bytes(16), 1, 1, bytes(16)) + bytes(64),
    write_skdm(Skdm(distribution=bytes(16), chain=1, iteration=0, chain_key=bytes(32), signing_key=bytes(33))),
    write_content(Content(kind=1, group=GROUP, context=bytes(16), at=1, body=b"x", nonce=bytes(16))),
    write_record(GROUP, Founding(user=ADA, device=1, identity=bytes(33), suites=2), bytes(16)),
    write_media_info(MediaInfo(key=bytes(32), sha256=bytes(32), type="t", name="n")),
    write_annotation(Reaction("x", removed=True)),
    write_annotation(Edit("\ufeffnew", "title")),
    write_annotation(Poll(bytes(16), "?", ("a", "b"), multiple=True)),
    write_annotation(Vote(bytes(16), (0, 1))),
]
PARSERS: dict[str, Callable[[bytes], Any]] = {
    "envelope": read_envelope,
    "pairwise": read_pairwise,
    "signed": read_signed,
    "message": read_sender_key_message,
    "skdm": read_skdm,
    "content": read_content,
    "record": lambda data: read_record(GROUP, data),
    "media": read_media_info,
    "annotation": read_annotation,
    "scan": lambda data: matches_scan(data, data),
}

_IDS = st.binary(min_size=16, max_size=16)
_TEXTS = st.text(max_size=12)
ANNOTATIONS = st.one_of(
    st.builds(Reaction, st.text(min_size=1, max_size=16), st.booleans()),
    st.builds(Edit, _TEXTS, st.none() | _TEXTS),
    st.builds(Pinning, st.booleans()),
    st.builds(SeenMark, st.integers(0, MAX_SAFE)),
    st.builds(Poll, _IDS, _TEXTS, st.lists(_TEXTS, min_size=2, max_size=32).map(tuple), st.booleans()),
    st.builds(Vote, _IDS, st.lists(st.integers(0, MAX_OPTIONS - 1), max_size=5).map(tuple)),
)
"""Annotations of every kind."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message with a few bytes changed, cut off at any place."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4)):
        data[at % len(data)] = value
    return bytes(data[: draw(st.integers(0, 300)) or len(data)])


HOSTILE = st.one_of(
    st.binary(max_size=400),
    st.builds(lambda first, rest: bytes([first]) + rest, st.sampled_from([0x02, 0x33, 0x0A]), st.binary(max_size=200)),
    mutated(),
)
