"""The frame parser against streams that are split anywhere, against another parser, and against broken frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from orbital_relay.core.framing import PROTOCOL_ERROR, TOO_BIG
from orbital_relay.server.edge.frame_parser import MOST_READ_BYTES, READ_BYTES, FrameParser
from tests.support.edge import masked

LIMIT = 70_000
LENGTHS = st.sampled_from([0, 1, 4, 5, 124, 125, 126, 127, 300, 65_535, 65_536, LIMIT])
FIRST_BYTES = [0x81, 0x01, 0x80, 0x82, 0x89, 0x8A, 0x88]
COMPRESSED = 0xC1


def streams(first_bytes: list[int]) -> st.SearchStrategy[list[tuple[int, int, bytes]]]:
    """Draw frames: first byte, length and mask of each."""
    return st.lists(st.tuples(st.sampled_from(first_bytes), LENGTHS, st.binary(min_size=4, max_size=4)), max_size=6)


def written(frames: list[tuple[int, int, bytes]]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the stream of such frames, and what a parser returns of it."""
    expected = []
    stream = b""
    for number, (first, length, key) in enumerate(frames):
        size = min(length, 125) if first & 0x08 else length
        payload = bytes((number + at) % 251 for at in range(min(size, 509))) * (size // 509 + 1)
        expected.append((first, payload[:size]))
        stream += masked(first, payload[:size], key=key)
    return stream, expected


def read(parser: FrameParser, stream: bytes) -> list[tuple[int, bytes]]:
    """Pass a stream through the shared buffer, as the event loop does."""
    found = []
    while stream:
        buffer = parser.buffer()
        size = min(len(buffer), len(stream))
        buffer[:size] = stream[:size]
        found += parser.buffer_updated(size)
        stream = stream[size:]
    return found


@given(streams([*FIRST_BYTES, COMPRESSED]), st.data())
def test_frames_do_not_depend_on_segmentation(frames, data):
    """[PRS1] A stream yields the same frames in one piece, through the shared buffer, and split anywhere."""
    stream, expected = written(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    split = FrameParser(limit_bytes=LIMIT)

    assert FrameParser(limit_bytes=LIMIT).feed(stream) == expected
    assert read(FrameParser(limit_bytes=LIMIT), stream) == expected
    assert [frame for piece in pieces for frame in split.feed(piece)] == expected
    assert split.violation is None


@given(streams(FIRST_BYTES))
def test_agrees_with_another_parser(frames):
    """[PRS2] The parser yields the frames that the library `websockets` finds in the same stream."""
    stream, _ = written(frames)
    reader = StreamReader()
    reader.feed_data(stream)
    theirs = []
    for _ in frames:
        with pytest.raises(StopIteration) as stopped:
            next(Frame.parse(reader.read_exact, mask=True, max_size=LIMIT))
        frame = stopped.value.value
        bits = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
        theirs.append((bits | frame.opcode, bytes(frame.data)))

    assert FrameParser(limit_bytes=LIMIT).feed(stream) == theirs


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b"\x83", PROTOCOL_ERROR),
        (b"\x8b", PROTOCOL_ERROR),
        (b"\x09", PROTOCOL_ERROR),
        (b"\x81\x05", PROTOCOL_ERROR),
        (b"\x81\x7e", PROTOCOL_ERROR),
        (b"\x89\xfe", PROTOCOL_ERROR),
        (b"\x81\xfe\x00\x7d", PROTOCOL_ERROR),
        (b"\x81\xff" + (65_535).to_bytes(8, "big"), PROTOCOL_ERROR),
        (b"\x81\xff" + (2**63).to_bytes(8, "big"), PROTOCOL_ERROR),
        (b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big"), TOO_BIG),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_malformed_head_is_refused(start: bytes, code: int, at_once: bool):
    """[PRS3] A malformed header ends the stream as soon as it is detectable, after the frames before it."""
    parser = FrameParser(limit_bytes=LIMIT)
    stream = masked(0x81, b"good") + (start if len(start) > 1 else start + b"\x80")
    pieces = [stream] if at_once else [stream[at : at + 1] for at in range(len(stream))]
    found = []
    for piece in pieces:
        assert parser.violation is None
        found += parser.feed(piece)

    assert found == [(0x81, b"good")]
    assert parser.violation is not None
    assert parser.violation.code == code


def test_reads_are_small_until_a_frame_is_long():
    """[PRS4] A read takes a small part of a flood, the missing rest of a long frame, and never more than the buffer."""
    parser = FrameParser(limit_bytes=10 * MOST_READ_BYTES)

    assert len(parser.buffer()) == READ_BYTES
    parser.feed(masked(0x81, b"x" * 20_000)[:8_000])
    assert len(parser.buffer()) == 20_008 - 8_000
    parser.feed(masked(0x81, b"x" * 20_000)[8_000:])
    assert len(parser.buffer()) == READ_BYTES
    parser.feed(masked(0x81, b"x" * 5 * MOST_READ_BYTES)[:100])
    assert len(parser.buffer()) == MOST_READ_BYTES


def test_connections_share_the_buffer():
    """[PRS5] Two connections whose partial frames alternate each get their own frames."""
    one, other = FrameParser(limit_bytes=LIMIT), FrameParser(limit_bytes=LIMIT)
    first, second = masked(0x81, b"one" * 100), masked(0x81, b"other" * 100)

    assert read(one, first[:150]) == []
    assert read(other, second[:150]) == []
    assert read(one, first[150:]) == [(0x81, b"one" * 100)]
    assert read(other, second[150:]) == [(0x81, b"other" * 100)]


def test_a_frame_byte_by_byte():
    """[PRS6] A frame that arrives byte by byte is buffered once: received bytes are not copied for each byte."""
    parser = FrameParser(limit_bytes=LIMIT)
    stream = masked(0x81, b"x" * 10_000)
    parser.feed(stream[:100])
    kept = parser._partial
    for at in range(100, len(stream) - 1):
        assert parser.feed(stream[at : at + 1]) == []
        assert parser._partial is kept

    assert parser.feed(stream[-1:]) == [(0x81, b"x" * 10_000)]
