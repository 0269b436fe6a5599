"""The WebSocket frame parser: splits a client's byte stream into frames (RFC 6455 §5.2)."""

from __future__ import annotations

from typing import Final

from orbital_relay.core.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_CONTROL_BYTES,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Violation,
)

try:
    from websockets.speedups import apply_mask
except ImportError:
    # No wheel with the C extension exists for this platform.
    from websockets.utils import apply_mask

READ_BYTES: Final = 1536
"""Bytes that are read at once while no frame is incomplete: a flood of small frames is processed in parts of this."""

MOST_READ_BYTES: Final = 65536
"""Bytes that are read at once of a long frame."""

_READ_BUFFER: Final = memoryview(bytearray(MOST_READ_BYTES))
"""Into which all connections read. The event loop reads and delivers in one step, so it never holds two reads."""

DISCARD_BUFFER: Final = _READ_BUFFER
"""Into which connections read what they discard."""

_SHORT_READ: Final = _READ_BUFFER[:READ_BYTES]

_FIRST_BYTES: Final = frozenset(
    first
    for first in range(256)
    if first & 0x0F in {CONTINUATION, TEXT, BINARY} or (first & 0x80 and first & 0x0F in {CLOSE, PING, PONG})
)
"""The first byte of a frame with a known opcode; a control frame is final (RFC 6455 §5.5)."""


class FrameParser:
    """
    Parses headers, lengths and masks of one client's frames; `FrameReader` validates the rest.

    It copies only the bytes of a frame that is incomplete, at most the limit and one read.

    Args:
        limit_bytes: Most payload bytes of a data frame.

    Attributes:
        violation: The rule that the client broke, after the frames that `feed` returned; nothing is parsed after it.
    """

    __slots__ = ("_limit_bytes", "_missing_bytes", "_partial", "violation")

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._partial: bytearray | None = None
        # Bytes without which `_partial` cannot be parsed any further.
        self._missing_bytes = 0
        self.violation: Violation | None = None

    def buffer(self) -> memoryview:
        """Return the shared buffer to read into: what is missing of a frame, or a small part of the stream."""
        missing = self._missing_bytes
        return _SHORT_READ if missing <= READ_BYTES else _READ_BUFFER[:missing]

    def buffer_updated(self, size_bytes: int) -> list[tuple[int, bytes]]:
        """Parse what was read into `buffer`; see `feed`."""
        return self.feed(bytes(_READ_BUFFER[:size_bytes]))

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        Parse the next bytes of the stream.

        Returns:
            The first byte and the unmasked payload of each frame that is complete.
        """
        partial = self._partial
        if partial is not None:
            self._missing_bytes -= len(data)
            if self._missing_bytes > 0:
                # In place: a frame that comes byte by byte must not be copied as often.
                partial += data
                return []
            data = bytes(partial) + data
            self._partial = None
        frames: list[tuple[int, bytes]] = []
        start, end = 0, len(data)
        try:
            while True:
                # Two bytes, a length of 0, 2 or 8, a mask of 4, and the payload.
                if end - start < 2:
                    next_frame = start + 2
                    break
                first, second = data[start], data[start + 1]
                payload = start + 6
                size = second - 128
                if size > 125:
                    payload += 2 if size == 126 else 8
                    if end < payload - 4:
                        _check_start(first, second)
                        next_frame = payload - 4
                        break
                    size = _long_size(data, start + 2, payload - 4)
                if first not in _FIRST_BYTES or size < 0 or size > MAX_CONTROL_BYTES:
                    self._check(first, second, size)
                next_frame = payload + size
                if end < next_frame:
                    break
                frames.append((first, apply_mask(data[payload:next_frame], data[payload - 4 : payload])))
                start = next_frame
        except Violation as violation:
            self.violation = violation
            return frames
        if start < end:
            self._partial = bytearray(data[start:])
            self._missing_bytes = next_frame - end
        else:
            self._missing_bytes = 0
        return frames

    def _check(self, first: int, second: int, size: int) -> None:
        _check_start(first, second)
        if size > self._limit_bytes:
            raise Violation(TOO_BIG, f"a frame is over {self._limit_bytes} bytes")


def _check_start(first: int, second: int) -> None:
    """Check the first two bytes of a frame."""
    if first not in _FIRST_BYTES:
        raise Violation(PROTOCOL_ERROR, "the opcode is unknown, or a control frame is fragmented")
    if second < 128:
        # RFC 6455 §5.1.
        raise Violation(PROTOCOL_ERROR, "a client's frame has no mask")
    if first & 0x08 and second - 128 > MAX_CONTROL_BYTES:
        raise Violation(PROTOCOL_ERROR, f"a control frame is over {MAX_CONTROL_BYTES} bytes")


def _long_size(data: bytes, start: int, end: int) -> int:
    """Read a length of two or eight bytes; RFC 6455 §5.2: the shortest form that holds it, and 63 bits at most."""
    size = int.from_bytes(data[start:end], "big")
    if size < (126 if end - start == 2 else 65536) or size >> 63:
        raise Violation(PROTOCOL_ERROR, "a length is not in its shortest form, or over 63 bits")
    return size
