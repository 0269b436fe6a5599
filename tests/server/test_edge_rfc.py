"""
The edge conforms to RFC 6455, tested byte by byte on a real socket.

These are the rules of the Autobahn suite's sections 1 to 7 and 10 in our own words, for where that suite cannot run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.edge import Client, Edge, masked, running_edge

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A
FIRST = 0x01  # A text frame that does not end its message.
MIDDLE = 0x00
LIMIT = 65536


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge as the server has it, on both loops."""
    with running_edge(loop=request.param) as edge:
        yield edge


@pytest.fixture
def client(edge: Edge) -> Iterator[Client]:
    """A client whose WebSocket is open."""
    with edge.client() as client:
        yield client


def assert_fails(client: Client, code: int) -> None:
    """The next frame is a Close with this code and a reason, and then the server ends the connection."""
    said, reason = client.receive_close()
    assert said == code
    assert reason
    client.receive_end()


# Messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, LIMIT])
def test_text_of_any_length(client: Client, size: int):
    """[WS4] A text message arrives whole with each encoding of its length."""
    client.frame(TEXT, b"*" * size)

    assert client.receive() == (TEXT, b"*" * size)


@pytest.mark.parametrize("chop", [1, 7, 997])
def test_frames_in_tcp_segments(client: Client, chop: int):
    """[WS4] The boundaries of TCP segments inside a frame make no difference."""
    wire = b"".join(masked(TEXT, "κόσμε".encode() * n) for n in (1, 20, 90))

    for start in range(0, len(wire), chop):
        client.send(wire[start : start + chop])

    assert [client.receive() for _ in range(3)] == [(TEXT, "κόσμε".encode() * n) for n in (1, 20, 90)]


def test_many_frames_in_one_segment(client: Client):
    """[WS4] Frames that arrive together are answered in order."""
    client.send(b"".join(masked(TEXT, str(n).encode()) for n in range(2000)))

    assert [client.receive().payload for _ in range(2000)] == [str(n).encode() for n in range(2000)]


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_masks(client: Client, key: bytes):
    """[WS4] A payload is unmasked with any masking key."""
    client.send(masked(TEXT, b"0123456789" * 30, key=key))

    assert client.receive() == (TEXT, b"0123456789" * 30)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, LIMIT])
@pytest.mark.parametrize("first", [BINARY, 0x02], ids=["whole", "first fragment"])
def test_binary(client: Client, first: int, size: int):
    """[WS11] A binary message of any length is 1003, whole or at its first fragment."""
    client.frame(first, os.urandom(size))

    assert_fails(client, 1003)


# Fragments


def test_fragments(client: Client):
    """[WS5] A fragmented message arrives whole, also with empty fragments and also byte by byte."""
    client.frame(FIRST)
    for byte in "grüße".encode():
        client.frame(MIDDLE, bytes((byte,)))
    client.frame(CONTINUATION)

    assert client.receive() == (TEXT, "grüße".encode())


def test_control_frames_between_fragments(client: Client):
    """[WS5] A ping between fragments is answered at once; the message continues."""
    client.frame(FIRST, b"a")
    client.frame(PING, b"1")
    client.frame(MIDDLE, b"b")
    client.frame(PING, b"2")
    client.frame(CONTINUATION, b"c")

    assert [client.receive() for _ in range(3)] == [(PONG, b"1"), (PONG, b"2"), (TEXT, b"abc")]


@pytest.mark.parametrize(
    "wire",
    [
        masked(CONTINUATION, b"x"),
        masked(MIDDLE, b"x"),
        masked(FIRST, b"x") + masked(TEXT, b"x"),
        masked(FIRST, b"x") + masked(FIRST, b"x"),
        masked(FIRST, b"x") + masked(CONTINUATION, b"x", key=b"abcd") + masked(CONTINUATION, b"x"),
    ],
    ids=[
        "nothing to continue",
        "nothing to continue with",
        "whole between",
        "first between",
        "continued after the end",
    ],
)
def test_order_of_fragments(client: Client, wire: bytes):
    """[WS5] Fragments out of order are 1002; a message that was complete before is still answered."""
    client.send(wire)

    received = client.receive() if wire.count(b"abcd") else None
    assert received in {None, (TEXT, b"xx")}
    assert_fails(client, 1002)


# Control frames


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
def test_ping(client: Client, payload: bytes):
    """[WS13] A ping is answered by a pong with the same payload (RFC 6455 §5.5.3)."""
    client.frame(PING, payload)

    assert client.receive() == (PONG, payload)


def test_pings_in_order(client: Client):
    """[WS13] A client that reads gets a pong for every ping, in order."""
    client.send(b"".join(masked(PING, b"%d" % n) for n in range(200)))

    assert [client.receive() for _ in range(200)] == [(PONG, b"%d" % n) for n in range(200)]


def test_the_peer_is_notified_of_pongs(edge: Edge, client: Client):
    """[WS14] An unsolicited pong is allowed; the peer is notified of each, and of every other control frame."""
    peer = edge.admission.latest_peer()
    client.frame(PONG, b"whatever")
    client.frame(PING, b"")
    client.frame(FIRST, b"x")
    client.frame(CONTINUATION, b"y")

    assert peer.until("text") == [("opened",), ("control",), ("pong",), ("control",), ("control",), ("text", b"xy")]


@pytest.mark.parametrize(
    "wire",
    [
        masked(PING, b"x" * 126),
        masked(PONG, b"x" * 126),
        masked(CLOSE, b"\x03\xe8" + b"x" * 124),
        masked(0x09, b""),
        masked(0x0A, b""),
        masked(0x08, b""),
    ],
    ids=["long ping", "long pong", "long close", "fragmented ping", "fragmented pong", "fragmented close"],
)
def test_control_frames_are_short_and_whole(client: Client, wire: bytes):
    """[WS10] A control frame of more than 125 bytes, or a fragmented one, is 1002."""
    client.send(wire)

    assert_fails(client, 1002)


# Bits, opcodes, masks, lengths


@pytest.mark.parametrize("bits", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_reserved_bits(client: Client, opcode: int, bits: int):
    """[WS8] A reserved bit without a negotiated meaning is 1002 on any frame."""
    client.frame(opcode | bits << 4)

    assert_fails(client, 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes(client: Client, opcode: int):
    """[WS9] A reserved opcode is 1002."""
    client.frame(0x80 | opcode, b"x")

    assert_fails(client, 1002)


def test_frames_without_a_mask(client: Client):
    """[WS15] A frame from a client without a mask is 1002 (RFC 6455 §5.1)."""
    client.send(b"\x81\x01x")

    assert_fails(client, 1002)


@pytest.mark.parametrize(
    "head",
    [b"\x81\xfe\x00\x7d", b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff", b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x01"],
    ids=["16 bits for 125", "64 bits for 65535", "highest bit"],
)
def test_lengths_that_are_not_the_shortest(client: Client, head: bytes):
    """[WS15] A length that is not encoded minimally, or has its highest bit set, is 1002 (RFC 6455 §5.2)."""
    client.send(head)

    assert_fails(client, 1002)


@pytest.mark.parametrize(
    "bad", [masked(0x83, b"x"), masked(TEXT | 0x20), b"\x81\x00"], ids=["reserved opcode", "reserved bit", "no mask"]
)
def test_frames_before_a_violation_count(client: Client, bad: bytes):
    """[WS16] Frames before a bad one are answered, also when all arrive together; later ones are not."""
    client.send(masked(TEXT, b"one") + masked(PING, b"two") + masked(TEXT, b"three") + bad + masked(TEXT, b"four"))

    assert [client.receive() for _ in range(3)] == [(TEXT, b"one"), (PONG, b"two"), (TEXT, b"three")]
    assert_fails(client, 1002)


# Limits


@pytest.mark.parametrize(
    "wire",
    [
        masked(TEXT, b"x" * (LIMIT + 1)),
        masked(FIRST, b"x" * LIMIT) + masked(MIDDLE, b"x"),
        masked(FIRST, b"x" * 60000) + masked(MIDDLE, b"x" * 5000) + masked(MIDDLE, b"x" * 5000),
    ],
    ids=["one frame", "one byte more", "many fragments"],
)
def test_a_message_over_the_limit(client: Client, wire: bytes):
    """[WS12] A message over 64 KiB is 1009 at the frame that exceeds the limit."""
    client.send(wire)

    assert_fails(client, 1009)


def test_a_declared_length_over_the_limit(client: Client):
    """[WS12] A frame whose declared length exceeds the limit is refused before its payload arrives."""
    client.send(b"\x81\xff" + (2**40).to_bytes(8, "big"))

    assert_fails(client, 1009)


def test_the_close_survives_what_is_still_being_sent(client: Client):
    """[WS17] A client that is still sending receives the Close, not a reset that discards it."""
    client.send(masked(TEXT, b"x" * (LIMIT + 1)))
    client.send(b"x" * 2_000_000)

    assert client.receive_close()[0] == 1009


# UTF-8


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "κόσμε",
        "\x00",
        "\x7f",
        "\x80",
        "\u07ff",
        "\u0800",
        "\ud7ff",
        "\ue000",
        "\ufffd",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
    ],
)
def test_valid_text(client: Client, text: str):
    """[WS7] Every kind of valid UTF-8 is accepted, including noncharacters."""
    client.frame(TEXT, text.encode())

    assert client.receive() == (TEXT, text.encode())


INVALID = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xe0\x80\x80", b"\xe0\xa0", b"\xed\xa0\x80",
    b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x90\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64",
]  # fmt: skip


@pytest.mark.parametrize("payload", INVALID)
def test_invalid_text(client: Client, payload: bytes):
    """[WS7] Text that is not UTF-8 is 1007."""
    client.frame(TEXT, b"ok" + payload)

    assert_fails(client, 1007)


def test_invalid_text_is_refused_before_its_end(client: Client):
    """[WS7] The first invalid byte of a fragmented text is refused at once, before the message ends."""
    client.frame(FIRST, "κόσμε".encode())
    client.frame(MIDDLE, b"\xf4\x90")

    assert_fails(client, 1007)


def test_text_that_ends_within_a_character(client: Client):
    """[WS7] An incomplete character is 1007 at the end of the message, not before."""
    client.frame(FIRST, b"\xce")
    client.frame(PING, b"still there")
    client.frame(CONTINUATION)

    assert client.receive() == (PONG, b"still there")
    assert_fails(client, 1007)


# Closing


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_close_is_answered(edge: Edge, client: Client, code: int):
    """[WS3] A Close is answered once with its code, the socket is closed, and the peer is notified."""
    peer = edge.admission.latest_peer()
    client.frame(CLOSE, code.to_bytes(2, "big") + "tschüß".encode())

    assert client.receive_close() == (code, "")
    client.receive_end()
    assert peer.until("closed") == [("opened",), ("closed", code)]


def test_close_without_a_code(edge: Edge, client: Client):
    """[WS3] An empty Close is answered by an empty Close; the peer is notified with 1005."""
    peer = edge.admission.latest_peer()
    client.frame(CLOSE)

    assert client.receive_close() == (None, "")
    client.receive_end()
    assert peer.until("closed") == [("opened",), ("closed", 1005)]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_with_a_code_that_is_never_sent(client: Client, code: int):
    """[WS3] A Close with a code that is never sent on the wire is 1002."""
    client.frame(CLOSE, code.to_bytes(2, "big"))

    assert_fails(client, 1002)


def test_close_with_half_a_code(client: Client):
    """[WS3] A Close payload of one byte is 1002."""
    client.frame(CLOSE, b"\x03")

    assert_fails(client, 1002)


def test_close_with_a_reason_that_is_not_utf8(client: Client):
    """[WS3] A reason that is not UTF-8 is 1007."""
    client.frame(CLOSE, b"\x03\xe8" + INVALID[-1])

    assert_fails(client, 1007)


def test_close_with_the_longest_reason(client: Client):
    """[WS3] A reason may have 123 bytes."""
    client.frame(CLOSE, b"\x03\xe8" + b"x" * 123)

    assert client.receive_close() == (1000, "")
    client.receive_end()


@pytest.mark.parametrize(
    "late",
    [masked(TEXT, b"x"), masked(PING, b"x"), masked(CLOSE, b"\x03\xe9"), masked(0x83), b"\xff" * 3000],
    ids=["text", "ping", "close", "reserved opcode", "noise"],
)
def test_nothing_is_processed_after_a_close(edge: Edge, client: Client, late: bytes):
    """[WS17] Data after a Close is discarded, valid or not (RFC 6455 §1.4); the Close gets its own code back."""
    peer = edge.admission.latest_peer()
    client.send(masked(TEXT, b"before") + masked(CLOSE, b"\x03\xe8") + late)

    assert client.receive() == (TEXT, b"before")
    assert client.receive_close() == (1000, "")
    client.receive_end()
    assert peer.until("closed") == [("opened",), ("text", b"before"), ("closed", 1000)]


def test_close_within_a_fragmented_message(client: Client):
    """[WS3] A Close may come between fragments; the incomplete message is never delivered."""
    client.frame(FIRST, b"x")
    client.frame(CLOSE, b"\x03\xe8")

    assert client.receive_close() == (1000, "")
    client.receive_end()
