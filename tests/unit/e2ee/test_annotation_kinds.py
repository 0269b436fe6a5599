"""The bodies of annotations."""

import pytest
from hypothesis import given

from orbital_relay.e2ee.annotation_kinds import (
    MAX_OPTIONS,
    MAX_REACTION_BYTES,
    Edit,
    Pinning,
    Poll,
    Reaction,
    SeenMark,
    Vote,
    annotation_of,
    read_annotation,
    write_annotation,
)
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.formats.protobuf import encode
from orbital_relay.e2ee.formats.schemas import ANNOTATION
from orbital_relay.e2ee.rows import Item, Part
from tests.support.e2ee import ADA, GROUP
from tests.support.e2ee_bytes import ANNOTATIONS

POLL = bytes([7]) * 16


def raw(kind, **body):
    """Encode a body without checking its values."""
    return encode(ANNOTATION, {kind: body})


def refused(code, data):
    """Expect a refusal with this code."""
    with pytest.raises(E2eeError) as caught:
        read_annotation(data)
    assert caught.value.code == code


@given(annotation=ANNOTATIONS)
def test_encoding(annotation):
    """[SEALNOTE7] Fuzzed: in Python, too, an annotation of any kind decodes to what was encoded."""
    assert read_annotation(write_annotation(annotation)) == annotation


def test_bytes():
    """[SEALNOTE8] An annotation has the bytes that the other clients write."""
    assert write_annotation(Reaction("❤️")).hex() == "0a080a06e29da4efb88f"
    assert write_annotation(Vote(POLL, (1, 0))).hex() == f"32160a10{POLL.hex()}12020100"
    assert write_annotation(Pinning()).hex() == "1a00"
    assert read_annotation(write_annotation(Edit("\ufeffx"))) == Edit("\ufeffx")


@pytest.mark.parametrize(
    ("annotation", "data"),
    [
        (Reaction(""), raw("reaction", text=b"")),
        (Reaction("x" * (MAX_REACTION_BYTES + 1)), raw("reaction", text=b"x" * (MAX_REACTION_BYTES + 1))),
        (Poll(POLL, "", ("a",)), raw("poll", id=POLL, question=b"", options=[b"a"])),
        (
            Poll(POLL, "", ("a",) * (MAX_OPTIONS + 1)),
            raw("poll", id=POLL, question=b"", options=[b"a"] * (MAX_OPTIONS + 1)),
        ),
    ],
)
def test_bounds(annotation, data):
    """[SEALNOTE9] A value out of its bounds is neither written nor read."""
    with pytest.raises(ValueError, match=r"bytes, not 1 to 64|options, not 2 to 32"):
        write_annotation(annotation)
    refused("malformed", data)


@pytest.mark.parametrize("choice", [-1, MAX_OPTIONS])
def test_choices(choice):
    """[SEALNOTE10] A vote for an option that no poll can have is not written."""
    with pytest.raises(ValueError, match="places from 0 to 31"):
        write_annotation(Vote(POLL, (choice,)))


def test_refusals():
    """[SEALNOTE11] Text that is not UTF-8 and two kinds at once are malformed; an unknown kind is unsupported."""
    refused("malformed", raw("reaction", text=b"\xff"))
    refused("malformed", raw("edit", body=b"x", title=b"\xff"))
    refused("malformed", raw("poll", id=POLL, question=b"", options=[b"a", b"\xff"]))
    refused("malformed", raw("pin") + raw("seen", seq=1))
    refused("malformed", raw("seen", seq=1)[:3])
    refused("unsupported", b"")
    refused("unsupported", b"\x7a\x00")


def test_items():
    """[SEALNOTE12] An item that is no annotation, or of an unknown kind, has none; a file's key is no text."""

    def item(type, kind, body):
        part = Part(kind, body, 1)
        return Item(
            group=GROUP, seq=1, hash="", type=type, status="read", author=ADA, data=b"{}", parts=(part,) if body else ()
        )

    reply = item("new_reply", ContentKind.REPLY, b"I do.")
    seen = item("new_annotation", ContentKind.ANNOTATION, write_annotation(SeenMark(4)))
    file = item("media_uploaded", ContentKind.MEDIA, b"the key of a file")
    waiting = item("new_annotation", ContentKind.ANNOTATION, b"")
    unknown = item("new_annotation", ContentKind.ANNOTATION, b"\x7a\x00")
    items = (reply, seen, file, waiting, unknown)
    assert [one.text for one in items] == ["I do.", "", "", "", ""]
    assert [annotation_of(one) for one in items] == [None, SeenMark(4), None, None, None]
