"""WebSocket framing: what the server's frames look like, and what a client's frames may not."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.core.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    CloseFrame,
    DataMessage,
    Fragment,
    FrameReader,
    PingFrame,
    PongFrame,
    Violation,
    close_frame,
    frame,
    may_be_sent,
    text_frame,
)

# RFC 6455 §7.4 and the registry: what may be in a Close frame.
GOOD_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def reader(**options: Any) -> FrameReader:
    """Make a reader with a limit of 1000 bytes."""
    return FrameReader(**{"limit_bytes": 1000, **options})


def refusal_of(reader: FrameReader, payload: bytes, *, fin: bool) -> int | None:
    """Continue a message; returns the close code if that is refused."""
    try:
        reader.receive(CONTINUATION, payload, fin=fin)
    except Violation as violation:
        return violation.code
    return None


def backwards(payload: bytes, limit_bytes: int) -> bytes:
    """Stand for inflation."""
    assert limit_bytes == 1000
    return payload[::-1]


def code_of(reader: FrameReader, opcode: int, payload: bytes = b"", **bits: bool) -> int:
    """Give the reader a frame that it must refuse; returns the close code."""
    with pytest.raises(Violation) as caught:
        reader.receive(opcode, payload, **{"fin": True, **bits})
    assert 0 < len(caught.value.reason) < 100
    return caught.value.code


# Making frames


@pytest.mark.parametrize(
    "size, head",
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_text_frame_has_the_shortest_length(size: int, head: bytes):
    """[WS1] A server frame is unmasked and encodes its length in the fewest bytes (RFC 6455 §5.1, §5.2)."""
    assert text_frame(b"x" * size) == head + b"x" * size


def test_first_byte_of_a_frame():
    """[WS1] The first byte holds FIN, RSV1 when compressed, and the opcode."""
    assert frame(PONG, b"x") == b"\x8a\x01x"
    assert frame(BINARY, b"x") == b"\x82\x01x"
    assert frame(TEXT, b"x", deflated=True) == b"\xc1\x01x"
    assert frame(BINARY, b"x", deflated=True) == b"\xc2\x01x"


def test_close_frame():
    """[WS2] A Close frame contains a code and a reason, or is empty."""
    assert close_frame() == b"\x88\x00"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(4999, "why") == b"\x88\x05\x13\x87why"


def test_close_frame_cuts_the_reason_between_characters():
    """[WS2] A Close frame fits the control frame limit, and its truncated reason stays valid UTF-8."""
    cut = close_frame(1000, "€" * 100)

    assert len(cut) - 2 <= 125
    assert cut[4:].decode() == "€" * 41
    assert close_frame(1000, "x" + "€" * 100)[4:].decode() == "x" + "€" * 40


@pytest.mark.parametrize("code", BAD_CODES)
def test_close_frame_refuses_codes_that_are_never_sent(code: int):
    """[WS2] Encoding a close code that must not be sent raises an error."""
    with pytest.raises(ValueError, match=rf"^{code} is not a close code that may be sent$"):
        close_frame(code)


def test_codes():
    """[WS3] The close codes 1000-1003, 1007-1014 and 3000-4999 may be sent, and no others."""
    allowed = [code for code in range(65536) if may_be_sent(code)]

    assert allowed == [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]


# Judging frames


def test_whole_messages():
    """[WS4] A message in one frame is a message."""
    taking = reader()

    assert taking.receive(TEXT, b"", fin=True) == DataMessage(b"")
    assert taking.receive(TEXT, "κόσμε".encode(), fin=True) == DataMessage("κόσμε".encode())


def test_fragments_with_control_frames_between():
    """[WS5] Fragments form one message, and control frames may come between them (RFC 6455 §5.4)."""
    taking = reader()

    said = [
        taking.receive(TEXT, b"\xce", fin=False),
        taking.receive(PING, b"a", fin=True),
        taking.receive(CONTINUATION, b"", fin=False),
        taking.receive(PONG, b"", fin=True),
        taking.receive(CONTINUATION, b"\xba", fin=True),
        taking.receive(TEXT, b"next", fin=True),
    ]

    assert said == [
        Fragment(),
        PingFrame(b"a"),
        Fragment(),
        PongFrame(),
        DataMessage(b"\xce\xba"),
        DataMessage(b"next"),
    ]


def test_compressed_messages():
    """[WS6] RSV1 on the first frame marks a compressed message, whole or fragmented (RFC 7692 §6)."""
    taking = reader(inflate=backwards)

    assert taking.receive(TEXT, b"cba", fin=True, rsv1=True) == DataMessage(b"abc")
    assert taking.receive(TEXT, b"fed", fin=False, rsv1=True) == Fragment()
    assert taking.receive(CONTINUATION, b"cba", fin=True) == DataMessage(b"abcdef")
    assert taking.receive(TEXT, b"abc", fin=True) == DataMessage(b"abc")


def test_compressed_text_is_checked_after_inflation():
    """[WS7] Compressed text that is not valid UTF-8 is refused, too."""
    assert code_of(reader(inflate=backwards), TEXT, b"\xff", rsv1=True) == 1007


@pytest.mark.parametrize("bits", [bits for n in (1, 2) for bits in combinations(("rsv2", "rsv3"), n)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE])
def test_reserved_bits(opcode: int, bits: tuple[str, ...]):
    """[WS8] RSV2 and RSV3 fail the connection with 1002 (RFC 6455 §5.2)."""
    assert code_of(reader(inflate=backwards), opcode, **dict.fromkeys(bits, True)) == 1002


def test_rsv1():
    """[WS8] RSV1 is valid only on the first frame of a message, and only with permessage-deflate negotiated."""
    assert code_of(reader(), TEXT, rsv1=True) == 1002
    assert code_of(reader(inflate=backwards), PING, rsv1=True) == 1002
    taking = reader(inflate=backwards)
    taking.receive(TEXT, b"", fin=False, rsv1=True)
    assert code_of(taking, CONTINUATION, rsv1=True) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes(opcode: int):
    """[WS9] An opcode that RFC 6455 §5.2 reserves fails the connection."""
    assert code_of(reader(), opcode) == 1002


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_control_frames_are_short_and_unfragmented(opcode: int):
    """[WS10] A control frame is not fragmented and has at most 125 bytes (RFC 6455 §5.5)."""
    assert code_of(reader(), opcode, fin=False) == 1002
    assert code_of(reader(), opcode, b"x" * 126) == 1002
    assert reader().receive(PING, b"x" * 125, fin=True) == PingFrame(b"x" * 125)


def test_order_of_fragments():
    """[WS5] A continuation without a first fragment, and an interleaved message, are refused."""
    assert code_of(reader(), CONTINUATION) == 1002
    assert code_of(reader(), CONTINUATION, fin=False) == 1002
    for opcode in (TEXT, BINARY):
        taking = reader()
        taking.receive(TEXT, b"", fin=False)
        assert code_of(taking, opcode) == 1002
    ended = reader()
    ended.receive(TEXT, b"", fin=False)
    ended.receive(CONTINUATION, b"", fin=True)
    assert code_of(ended, CONTINUATION) == 1002


def test_binary_is_refused():
    """[WS11] A binary message is refused with 1003 at its first frame, compressed or not."""
    assert code_of(reader(), BINARY) == 1003
    assert code_of(reader(), BINARY, fin=False) == 1003
    assert code_of(reader(inflate=backwards), BINARY, b"fed", rsv1=True) == 1003


def test_limit():
    """[WS12] A message over the size limit is refused with 1009, at the frame that exceeds it."""
    assert reader().receive(TEXT, b"x" * 1000, fin=True) == DataMessage(b"x" * 1000)
    assert code_of(reader(), TEXT, b"x" * 1001) == 1009
    taking = reader()
    taking.receive(TEXT, b"x" * 600, fin=False)
    taking.receive(CONTINUATION, b"x" * 400, fin=False)
    assert code_of(taking, CONTINUATION, b"x", fin=False) == 1009


@pytest.mark.parametrize("payload", [b"", b"x" * 1000, "Grüße".encode(), b"x" * 1001, b"\xff", "ü".encode()[:1]])
@pytest.mark.parametrize("unfinished", [True, False])
def test_fast_path_equals_the_general_path(payload: bytes, unfinished: bool):
    """[PRS7] The fast path and the general path accept and refuse the same text messages."""
    outcomes = []
    for take in (lambda taking: taking.receive(TEXT, payload, fin=True), lambda taking: taking.receive_text(payload)):
        taking = reader()
        if unfinished:
            taking.receive(TEXT, b"", fin=False)
        try:
            take(taking)
        except Violation as violation:
            outcomes.append((violation.code, violation.reason))
        else:
            outcomes.append(None)

    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] is None) == (not unfinished and payload in {b"", b"x" * 1000, "Grüße".encode()})


@given(st.text(max_size=40), st.data())
def test_fragmented_text_is_decoded(text: str, data: st.DataObject):
    """[WS7] Text fragmented within a character is decoded correctly."""
    payload = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=6)))
    pieces = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    taking = reader()

    said = [
        taking.receive(CONTINUATION if index else TEXT, piece, fin=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]

    assert said == [Fragment()] * (len(pieces) - 1) + [DataMessage(payload)]


@given(st.binary(max_size=20), st.data())
def test_invalid_text_is_refused_at_its_first_bad_byte(payload: bytes, data: st.DataObject):
    """[WS7] Fragmented text is refused at the first byte that no continuation makes valid UTF-8, or at its end."""
    taking = reader()
    taking.receive(TEXT, b"", fin=False)

    sound, code = 0, None
    for byte in payload:
        code = refusal_of(taking, bytes((byte,)), fin=False)
        if code is not None:
            break
        sound += 1
    else:
        code = refusal_of(taking, b"", fin=True)

    try:
        payload.decode()
    except UnicodeDecodeError as error:
        # Python names the first byte of the bad sequence; the sequence goes bad within three bytes of it.
        fault = error.start
    else:
        fault = None
    assert code == (None if fault is None else 1007)
    assert fault is None or fault <= sound <= fault + 3


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xce"])
def test_unfragmented_text_that_is_not_utf8(payload: bytes):
    """[WS7] Invalid UTF-8 is 1007: stray bytes, surrogates, above U+10FFFF, overlong, truncated."""
    assert code_of(reader(), TEXT, payload) == 1007


@pytest.mark.parametrize("code", GOOD_CODES)
def test_close_with_a_valid_code(code: int):
    """[WS3] A received Close frame is returned with its code."""
    assert reader().receive(CLOSE, code.to_bytes(2, "big") + "grüße".encode(), fin=True) == CloseFrame(code)


def test_close_without_a_code():
    """[WS3] A Close frame may be empty."""
    assert reader().receive(CLOSE, b"", fin=True) == CloseFrame(None)


@pytest.mark.parametrize("code", BAD_CODES)
def test_close_with_an_invalid_code(code: int):
    """[WS3] A close code that must not be sent is refused with 1002."""
    assert code_of(reader(), CLOSE, code.to_bytes(2, "big")) == 1002


def test_close_with_half_a_code_or_an_invalid_reason():
    """[WS3] A one-byte Close payload is 1002, and a reason that is not UTF-8 is 1007."""
    assert code_of(reader(), CLOSE, b"\x03") == 1002
    assert code_of(reader(), CLOSE, b"\x03\xe8\xff") == 1007


REASONS = [
    # Frames before, as opcode, payload and bits; the frame that is refused; what the Close frame says.
    ([], (TEXT, b"", {"rsv2": True}), 1002, "a reserved bit is set"),
    ([], (TEXT, b"", {"rsv3": True}), 1002, "a reserved bit is set"),
    ([], (TEXT, b"", {"rsv1": True}), 1002, "a reserved bit is set"),
    ([], (PING, b"", {"fin": False}), 1002, "a control frame is fragmented, compressed or too long"),
    ([], (PONG, b"", {"rsv1": True}), 1002, "a control frame is fragmented, compressed or too long"),
    ([], (CLOSE, b"x" * 126, {}), 1002, "a control frame is fragmented, compressed or too long"),
    ([], (3, b"", {}), 1002, "the opcode is unknown"),
    ([], (11, b"", {}), 1002, "the opcode is unknown"),
    ([], (CONTINUATION, b"", {}), 1002, "there is nothing to continue"),
    ([TEXT], (CONTINUATION, b"", {"rsv1": True}), 1002, "a reserved bit is set on a continuation"),
    ([TEXT], (TEXT, b"", {}), 1002, "the message before is not finished"),
    ([], (BINARY, b"", {}), 1003, "only text is taken"),
    ([], (TEXT, b"x" * 1001, {}), 1009, "a message is over 1000 bytes"),
    ([TEXT], (CONTINUATION, b"x" * 1001, {"fin": False}), 1009, "a message is over 1000 bytes"),
    ([], (TEXT, b"\xff", {}), 1007, "text is not UTF-8"),
    ([TEXT], (CONTINUATION, b"\xff", {"fin": False}), 1007, "text is not UTF-8"),
    ([], (CLOSE, b"\x03", {}), 1002, "a close code has two bytes"),
    ([], (CLOSE, b"\x03\xed", {}), 1002, "the close code is invalid"),
    ([], (CLOSE, b"\x03\xe8\xff", {}), 1007, "text is not UTF-8"),
]


@pytest.mark.parametrize("before, frame, code, reason", REASONS)
def test_reasons(before: list[int], frame: tuple[int, bytes, dict[str, bool]], code: int, reason: str):
    """[WSR1] A violation has the close code of its kind and names the broken rule, for the Close frame."""
    taking = reader()
    for opcode in before:
        taking.receive(opcode, b"", fin=False)
    opcode, payload, bits = frame

    with pytest.raises(Violation) as caught:
        taking.receive(opcode, payload, **{"fin": True, **bits})

    assert (caught.value.code, caught.value.reason, caught.value.args) == (code, reason, (code, reason))
