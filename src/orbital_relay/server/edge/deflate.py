"""Compression of frames: permessage-deflate (RFC 7692), its threshold, one frame shared by all, bounded inflation."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from orbital_relay.core.framing import INVALID_DATA, TEXT, TOO_BIG, Violation, frame, text_frame

WINDOW_BITS: Final = 12
"""
Base-2 logarithm of the compressor's window.

With 12 a JSON frame of 425 bytes, base64 in it, compresses in 10 µs, with 15 in 33 µs (most of it clears tables), to
the same 250 bytes; at 30 kB, 12 is faster (0.49 ms to 0.65 ms) and smaller. Measured with zlib 1.2.13 on one core.
"""
LEVEL: Final = 1
"""zlib's effort: 6 makes 247 bytes of the 250."""
MIN_DEFLATED_BYTES: Final = 64
"""A text frame below this goes uncompressed: there are not 10 µs worth of bytes to save."""

_TAIL: Final = b"\x00\x00\xff\xff"
_EMPTY_STREAMS: Final = 16
"""Final blocks that a message may have: each costs a new inflater, so a message of nothing else would be an attack."""
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


# Negotiation


def negotiate(offers: str) -> str | None:
    """
    Answer a client's `Sec-WebSocket-Extensions`.

    The first offer that can be kept to is taken (RFC 7692 §5). Neither side keeps its window from one message to the
    next: so a frame is compressed once for everyone, and an idle connection costs no window.

    Args:
        offers: The header's value; several headers joined by commas.

    Returns:
        The value of the answer's header, or None when no offer is taken: the connection then runs uncompressed.

    Raises:
        ValueError: If the header does not have the form of RFC 6455 §9.1.
    """
    # All of it is parsed before any of it is used: what is malformed later on fails the handshake as well.
    for name, parameters in list(_parse(offers)):
        if name == "permessage-deflate" and (answer := _accept(parameters)) is not None:
            return answer
    return None


def _accept(parameters: list[tuple[str, str | None]]) -> str | None:
    """Answer one offer of permessage-deflate, or None to decline it (RFC 7692 §7.1)."""
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    seen = set[str]()
    for name, value in parameters:
        if name in seen:
            return None
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                if value is not None:
                    return None
            case "client_max_window_bits":
                # A hint that we may ask for a smaller window; the inflater takes them all.
                if value is not None and _bits(value) is None:
                    return None
            case "server_max_window_bits":
                bits = None if value is None else _bits(value)
                if bits is None or bits < WINDOW_BITS:
                    return None
                # §7.1.2.1: it is accepted by saying it again.
                answer += f"; server_max_window_bits={bits}"
            case _:
                return None
    return answer


def _bits(value: str) -> int | None:
    """Read a window size: 8 to 15, without leading zeros (RFC 7692 §7.1.2)."""
    return int(value) if value in {"8", "9", "10", "11", "12", "13", "14", "15"} else None


def _parse(header: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Read a list of extensions with parameters (RFC 6455 §9.1); empty elements are allowed (RFC 9110 §5.6.1)."""
    # A plain split does: a quoted value must be a token (§9.1), so one with a separator in it is malformed either way.
    for element in header.split(","):
        if not element.strip(" \t"):
            continue
        name, *rest = element.split(";")
        yield _token(name), [_parameter(part) for part in rest]


def _parameter(part: str) -> tuple[str, str | None]:
    name, equals, value = part.partition("=")
    if not equals:
        return _token(name), None
    value = value.strip(" \t")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        # §9.1: a quoted value must be a token once the quotes and backslashes are off.
        value = _unquoted(value[1:-1])
    return _token(name), _token(value)


def _unquoted(inside: str) -> str:
    characters = iter(inside)
    return "".join(next(characters, "") if character == "\\" else character for character in characters)


def _token(text: str) -> str:
    token = text.strip(" \t")
    if not token or not _TOKEN.issuperset(token):
        raise ValueError(f"Sec-WebSocket-Extensions has {text!r} where a name or a value is expected")
    return token


# Compressing and inflating


def deflated_text_frame(payload: bytes, level: int = LEVEL) -> bytes:
    """
    Make one text frame for every connection that negotiated permessage-deflate.

    A payload that does not shrink goes uncompressed, which RFC 7692 §6 allows for any message.

    Args:
        payload: UTF-8 bytes.
        level: zlib's effort, 1 to 9.
    """
    if len(payload) < MIN_DEFLATED_BYTES:
        return text_frame(payload)
    compressor = zlib.compressobj(level, zlib.DEFLATED, -WINDOW_BITS)
    # RFC 7692 §7.2.1: flush to a byte boundary with an empty stored block, and leave off its last four bytes.
    deflated = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    if len(deflated) >= len(payload):
        return text_frame(payload)
    return frame(TEXT, deflated, deflated=True)


def inflate(payload: bytes, limit_bytes: int) -> bytes:
    """
    Undo the compression of one message (RFC 7692 §7.2.2).

    Never makes more than one byte over the limit, whatever the payload claims to hold.

    Args:
        payload: The message as it came, without the four bytes that the sender left off.
        limit_bytes: Most bytes of the inflated message.

    Raises:
        Violation: 1009 if it holds more, 1007 if it is not DEFLATE.
    """
    out = b""
    data = payload + _TAIL
    for _ in range(_EMPTY_STREAMS):
        # The zdict is what this message gave so far: a block after a final one may still refer to it.
        inflater = (
            zlib.decompressobj(-zlib.MAX_WBITS, zdict=out[-32768:]) if out else zlib.decompressobj(-zlib.MAX_WBITS)
        )
        try:
            out += inflater.decompress(data, limit_bytes + 1 - len(out))
        except zlib.error:
            raise Violation(INVALID_DATA, "the compressed data is damaged") from None
        if len(out) > limit_bytes:
            raise Violation(TOO_BIG, f"a message is over {limit_bytes} bytes")
        # §7.2.3.4: a block may be marked final; the message continues after it.
        if not inflater.eof or not inflater.unused_data:
            return out
        data = inflater.unused_data
    raise Violation(INVALID_DATA, "the compressed data continues after its end")
