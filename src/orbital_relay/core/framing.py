"""WebSocket framing (RFC 6455): build the server's frames; validate (masking, UTF-8) and reassemble the client's."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

import msgspec

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
"""Never on the wire: what a Close frame without a code means (RFC 6455 §7.1.5)."""
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009

MAX_CONTROL_BYTES: Final = 125
"""RFC 6455 §5.5: most bytes of a control frame's payload."""
MAX_REASON_BYTES: Final = MAX_CONTROL_BYTES - 2
"""What a Close frame's code leaves for the reason."""

Inflate = Callable[[bytes, int], bytes]
"""Undoes permessage-deflate: payload and most bytes out, to the message; raises Violation."""


class Violation(Exception):
    """
    The client broke a rule of RFC 6455 or 7692, or went over a limit: the connection must be failed (§7.1.7).

    Args:
        code: The close code that says so.
        reason: The rule, in a few words for the Close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)


class DataMessage(msgspec.Struct, frozen=True, gc=False):
    """
    A whole text message, inflated.

    Attributes:
        payload: Its bytes, valid UTF-8.
    """

    payload: bytes


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """A frame that begins or continues with a message and does not end it."""


class PingFrame(msgspec.Struct, frozen=True, gc=False):
    """A Ping; the Pong that answers it carries the same payload (§5.5.3)."""

    payload: bytes


class PongFrame(msgspec.Struct, frozen=True, gc=False):
    """A Pong, asked for or not."""


class CloseFrame(msgspec.Struct, frozen=True, gc=False):
    """A Close with a code that may be on the wire, or with none."""

    code: int | None


ReceivedFrame = DataMessage | Fragment | PingFrame | PongFrame | CloseFrame

_FRAGMENT = Fragment()
_PONG = PongFrame()
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


# Making frames


def frame(opcode: int, payload: bytes, *, deflated: bool = False) -> bytes:
    """
    Make one whole frame as a server sends it: final and unmasked (RFC 6455 §5.1, §5.2).

    Args:
        opcode: TEXT, BINARY, PING, PONG or CLOSE.
        payload: At most 125 bytes for a control frame.
        deflated: Set RSV1, which says that the payload is compressed (RFC 7692 §6).
    """
    first = 0xC0 | opcode if deflated else 0x80 | opcode
    size = len(payload)
    # §5.2: the shortest form that holds the length.
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """Make one whole, uncompressed text frame of UTF-8 bytes."""
    return frame(TEXT, payload)


def close_frame(code: int | None = None, reason: str = "") -> bytes:
    """
    Make a Close frame.

    Args:
        code: A code that may be sent; None sends none.
        reason: Cut to 123 bytes, never within a character; nothing without a code.

    Raises:
        ValueError: If `code` must not be sent (RFC 6455 §7.4).
    """
    if code is None:
        return frame(CLOSE, b"")
    if not may_be_sent(code):
        raise ValueError(f"{code} is not a close code that may be sent")
    cut = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + cut)


def may_be_sent(code: int) -> bool:
    """
    Say whether a close code may be sent in a frame.

    RFC 6455 §7.4 and the registry that it opens: 1004 is reserved, 1005, 1006 and 1015 are never sent, 1012 to 1014
    were registered later; 3000 to 4999 belong to libraries and applications.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


# Judging frames


class FrameReader:
    """
    Judges a client's frames one after the other and puts messages together.

    It holds at most one unfinished message, never more than the limit, and after a Violation it must not be used again.
    It never sees masks and lengths: whatever cut the stream into frames has checked those.

    Args:
        limit_bytes: Most bytes of a message, inflated.
        inflate: How to inflate a message, when permessage-deflate was negotiated.
    """

    __slots__ = ("_compressed", "_decoder", "_inflate", "_limit_bytes", "_parts")

    def __init__(self, *, limit_bytes: int, inflate: Inflate | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._inflate = inflate
        self._compressed = False
        self._decoder: codecs.IncrementalDecoder | None = None
        # A bytearray, not a list of parts: a message of one-byte fragments must not cost a Python object for each.
        self._parts: bytearray | None = None

    def receive(
        self,
        opcode: int,
        payload: bytes,
        *,
        fin: bool,
        rsv1: bool = False,
        rsv2: bool = False,
        rsv3: bool = False,
    ) -> ReceivedFrame:
        """
        Take the next frame, unmasked.

        Args:
            opcode: The frame's opcode.
            payload: All of its payload.
            fin: Whether it ends its message.
            rsv1: The first reserved bit: compressed, when permessage-deflate was negotiated.
            rsv2: The second reserved bit; no extension gives it a meaning here.
            rsv3: The third.

        Raises:
            Violation: If the frame breaks a rule or goes over the limit.
        """
        if rsv2 or rsv3:
            # RFC 6455 §5.2: a set bit without a negotiated meaning fails the connection.
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode >= CLOSE:
            return self._control(opcode, payload, fin=fin, rsv1=rsv1)
        self._order(opcode, rsv1=rsv1)
        if self._parts is None and fin:
            return self._whole(payload)
        return self._fragment(payload, fin=fin)

    def receive_text(self, payload: bytes) -> None:
        """
        Take the most frequent frame, a text frame that is a whole message and is not compressed; its payload is valid.

        Raises:
            Violation: As `receive` does for the same frame.
        """
        if self._parts is not None:
            raise _unfinished()
        self._check_text(payload)

    def _control(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool) -> ReceivedFrame:
        # RFC 6455 §5.5: short and never fragmented; RFC 7692 §6.1: RSV1 has no meaning on a control frame.
        if not fin or rsv1 or len(payload) > MAX_CONTROL_BYTES:
            raise Violation(PROTOCOL_ERROR, "a control frame is fragmented, compressed or too long")
        if opcode == PING:
            return PingFrame(payload)
        if opcode == PONG:
            return _PONG
        if opcode == CLOSE:
            return CloseFrame(_close_code(payload))
        raise Violation(PROTOCOL_ERROR, "the opcode is unknown")

    def _order(self, opcode: int, *, rsv1: bool) -> None:
        """Check that a data frame may stand here, and remember what it begins."""
        if opcode == CONTINUATION:
            if self._parts is None:
                raise Violation(PROTOCOL_ERROR, "there is nothing to continue")
            if rsv1:
                # RFC 7692 §6.1: the bit is set on the first fragment only.
                raise Violation(PROTOCOL_ERROR, "a reserved bit is set on a continuation")
            return
        if self._parts is not None:
            raise _unfinished()
        if opcode > BINARY:
            raise Violation(PROTOCOL_ERROR, "the opcode is unknown")
        if rsv1 and self._inflate is None:
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode == BINARY:
            raise Violation(UNSUPPORTED_DATA, "only text is taken")
        self._compressed = rsv1

    def _whole(self, payload: bytes) -> DataMessage:
        """Finish a message of which all payload is here."""
        if self._compressed:
            if self._inflate is None:
                raise AssertionError("_order() lets no compressed frame pass without negotiation")
            payload = self._inflate(payload, self._limit_bytes)
        self._check_text(payload)
        return DataMessage(payload)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise Violation(TOO_BIG, f"a message is over {self._limit_bytes} bytes")

    def _check_text(self, payload: bytes) -> None:
        self._check_size(len(payload))
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise _not_utf8() from None

    def _fragment(self, payload: bytes, *, fin: bool) -> DataMessage | Fragment:
        """Add a fragment; text is checked at once, so that a broken message is refused at its first bad byte."""
        parts = self._parts
        if parts is None:
            parts = self._parts = bytearray()
            self._decoder = None if self._compressed else _Utf8Decoder()
        self._check_size(len(parts) + len(payload))
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, fin)
            except UnicodeDecodeError:
                raise _not_utf8() from None
        parts += payload
        if not fin:
            return _FRAGMENT
        self._parts = None
        if self._decoder is None:
            return self._whole(bytes(parts))
        self._decoder = None
        return DataMessage(bytes(parts))


def _close_code(payload: bytes) -> int | None:
    """Read a Close frame's payload (RFC 6455 §5.5.1): nothing, or a code and a UTF-8 reason."""
    if not payload:
        return None
    if len(payload) < 2:
        raise Violation(PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise Violation(PROTOCOL_ERROR, "the close code is invalid")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None
    return code


def _unfinished() -> Violation:
    """RFC 6455 §5.4: messages are not interleaved."""
    return Violation(PROTOCOL_ERROR, "the message before is not finished")


def _not_utf8() -> Violation:
    """RFC 6455 §8.1: text that is not UTF-8 fails the connection."""
    return Violation(INVALID_DATA, "text is not UTF-8")
