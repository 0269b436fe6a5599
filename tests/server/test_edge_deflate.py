"""permessage-deflate: negotiation, compressed frames, and bounds of inflation."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbital_relay.core.framing import Violation, text_frame
from orbital_relay.server.edge.deflate import deflated_text_frame, inflate, negotiate
from tests.support.edge import Edge, masked, running_edge

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
LIMIT = 65536
decompressor = zlib.decompressobj


# Negotiation


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        'permessage-deflate; client_max_window_bits="1\\5"',
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        " permessage-deflate\t;server_no_context_takeover ",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
        'x; note="\\a\\b", permessage-deflate',
        ", permessage-deflate,",
    ],
)
def test_offers_that_are_taken(offer: str):
    """[WS60] The first offer that the server can honour is accepted; both sides use no context takeover."""
    assert negotiate(offer) == ANSWER


@pytest.mark.parametrize("bits", [12, 13, 14, 15])
def test_server_windows_that_fit(bits: int):
    """[WS60] A limit on the server's window that it meets anyway is confirmed (RFC 7692 §7.1.2.1)."""
    assert negotiate(f"permessage-deflate; server_max_window_bits={bits}") == f"{ANSWER}; server_max_window_bits={bits}"


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=11",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=-9",
    ],
)
def test_offers_that_are_declined(offer: str):
    """[WS60] An offer that cannot be honoured, or that RFC 7692 §7.1 calls invalid, is declined without compression."""
    assert negotiate(offer) is None


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; =1",
        "permessage-deflate;",
        "permessage-deflate; a=",
        "permessage deflate",
        'permessage-deflate; a="b c"',
        'permessage-deflate; a="',
        "permessage-deflate, ;",
        'x; note="a, b; c=\\"d\\"", permessage-deflate',
        "permessage-deflate, b@d",
    ],
)
def test_malformed_offers(offer: str):
    """[WS22] An extension header that RFC 6455 §9.1 cannot parse is an error, also after an acceptable offer."""
    with pytest.raises(ValueError, match="Sec-WebSocket-Extensions"):
        negotiate(offer)


# One frame for all


def undone(wire: bytes) -> bytes:
    """Undo a compressed server frame with a window of its own, as any client does."""
    assert wire[0] == 0xC1
    start = {126: 4, 127: 10}.get(wire[1], 2)
    return zlib.decompressobj(-15).decompress(wire[start:] + b"\x00\x00\xff\xff")


@given(st.text(min_size=100, max_size=2000, alphabet="abcdef"))
def test_a_compressed_frame_needs_no_context(text: str):
    """[WS61] Each frame is compressed independently, so one frame serves all subscribers."""
    wire = deflated_text_frame(text.encode())

    assert undone(wire) == text.encode()
    assert len(wire) < len(text)


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_long_frames(size: int):
    """[WS61] Frames longer than the window, with each length encoding, arrive intact."""
    payload = os.urandom(size // 2).hex().encode()

    assert undone(deflated_text_frame(payload)) == payload
    assert undone(deflated_text_frame(payload, 9)) == payload


def test_the_window_that_was_negotiated():
    """[WS60] No reference in a frame reaches farther back than 4096 bytes, the smallest window that is confirmed."""
    half = os.urandom(3000).hex().encode()
    wire = deflated_text_frame(half + half)
    start = {126: 4, 127: 10}[wire[1]]

    assert zlib.decompressobj(-12).decompress(wire[start:] + b"\x00\x00\xff\xff") == half + half


def test_an_incompressible_payload_is_sent_uncompressed():
    """[WS61] Tiny and incompressible payloads are sent uncompressed (RFC 7692 §6)."""
    for payload in (b"", b"x" * 63, "".join(chr(0x4E00 + n * 37 % 20000) for n in range(200)).encode()):
        assert len(deflated_text_frame(payload)) <= len(text_frame(payload))
    assert deflated_text_frame(b"x" * 63) == text_frame(b"x" * 63)
    assert deflated_text_frame(os.urandom(500))[0] == 0x81


# Inflation


def deflated(payload: bytes, *, level: int = 9, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Compress as a client does."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = compressor.compress(payload) + compressor.flush(mode)
    return data.removesuffix(b"\x00\x00\xff\xff") if mode == zlib.Z_SYNC_FLUSH else data


def refused(payload: bytes, limit_bytes: int = LIMIT) -> int:
    """The code with which the payload is refused."""
    with pytest.raises(Violation) as caught:
        inflate(payload, limit_bytes)
    return caught.value.code


@given(st.binary(max_size=3000), st.integers(0, 9))
def test_inflation(payload: bytes, level: int):
    """[WS62] What a client compresses, at any level, inflates to the original bytes."""
    assert inflate(deflated(payload, level=level), LIMIT) == payload


def test_the_examples_of_the_standard():
    """[WS62] The examples of RFC 7692 §7.2.3 inflate: compressed, stored, with a final block, in two blocks."""
    for message in (
        "f248cdc9c90700",
        "000500faff48656c6c6f00",
        "f348cdc9c9070000",
        "f24805000000ffffcac9c90700",
    ):
        assert inflate(bytes.fromhex(message), LIMIT) == b"Hello"


def test_blocks_after_a_final_one():
    """[WS62] A message may continue after a final DEFLATE block."""
    one = deflated(b"one " * 20, mode=zlib.Z_FINISH)

    assert inflate(one + deflated(b"two"), LIMIT) == b"one " * 20 + b"two"


def test_the_limit():
    """[WS12] A payload that inflates to the limit is accepted; one byte more is 1009, whatever its compressed size."""
    assert len(inflate(deflated(b"x" * LIMIT), LIMIT)) == LIMIT
    assert refused(deflated(b"x" * (LIMIT + 1))) == 1009


def test_a_bomb():
    """[WS63] A decompression bomb costs no more memory than the limit."""
    bomb = deflated(b"\0" * 60_000_000)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        assert refused(bomb) == 1009
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < 8 * LIMIT


def test_an_endless_sequence_of_final_blocks(monkeypatch: pytest.MonkeyPatch):
    """[WS63] A message of nothing but final blocks is refused before each block costs an inflater."""
    made = []
    monkeypatch.setattr(zlib, "decompressobj", lambda *args: made.append(decompressor(*args)) or made[-1])

    assert refused(b"\x03\x00" * (LIMIT // 2)) == 1007
    assert 1 < len(made) < 100


def test_invalid_deflate():
    """[WS64] A payload that is not valid DEFLATE is 1007."""
    assert refused(b"\xff" * 20) == 1007


# On the wire


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """An edge as the server has it."""
    with running_edge() as edge:
        yield edge


def test_a_conversation(edge: Edge):
    """[WS61] Messages compressed in both directions, whole or fragmented, work next to uncompressed ones."""
    with edge.connect() as client:
        assert client.upgrade(OFFER)["sec-websocket-extensions"] == ANSWER
        text = "grüße " * 50
        data = deflated(text.encode())
        client.frame(0xC1, data)
        assert undone(b"\xc1\x05" + client.receive().payload) == text.encode()
        client.send(masked(0x41, data[:5]) + masked(0x89, b"p") + masked(0x00, data[5:9]) + masked(0x80, data[9:]))
        assert client.receive() == (0x8A, b"p")
        assert undone(b"\xc1\x05" + client.receive().payload) == text.encode()
        client.frame(0x81, b"plain")
        assert client.receive() == (0x81, b"plain")
        assert edge.admission.latest_peer().line.deflate


def test_the_largest_message_that_does_not_shrink(edge: Edge):
    """[WS12] A message of the maximum size is accepted even if compression made it longer."""
    with edge.client(OFFER) as client:
        payload = "".join(chr(32 + byte % 95) for byte in os.urandom(LIMIT)).encode()
        stored = deflated(payload, level=0)
        assert len(stored) > LIMIT
        client.frame(0xC1, stored)

        first, echoed = client.receive()
        assert (undone(b"\xc1\x05" + echoed) if first == 0xC1 else echoed) == payload


@pytest.mark.parametrize(
    "wire, code",
    [
        (masked(0xC1, deflated(b"x" * (LIMIT + 1))), 1009),
        (masked(0x81, b"x" * (LIMIT + 1)), 1009),
        (masked(0xC1, b"\xff" * 20), 1007),
        (masked(0xC1, deflated(b"\xff" * 100)), 1007),
        (masked(0xC2, deflated(b"x")), 1003),
        (masked(0xC9, b""), 1002),
        (masked(0x41, b"") + masked(0xC0, b""), 1002),
        (masked(0x01, b"") + masked(0xC0, b""), 1002),
        (masked(0xA1, b""), 1002),
    ],
    ids=["bomb", "plain", "damage", "not UTF-8", "binary", "ping", "continuation", "late", "RSV2"],
)
def test_what_fails_a_compressed_connection(edge: Edge, wire: bytes, code: int):
    """[WS64] Each violation on a compressed connection closes it with the matching code."""
    with edge.client(OFFER) as client:
        client.send(wire)

        assert client.receive_close()[0] == code
        client.receive_end()


def test_no_offer_no_compression(edge: Edge):
    """[WS60] Without an offer, or with a declined one, nothing is compressed and RSV1 is a protocol error."""
    for offer in ("", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"):
        with edge.connect() as client:
            assert "sec-websocket-extensions" not in client.upgrade(offer)
            client.frame(0x81, b"x" * 200)
            assert client.receive() == (0x81, b"x" * 200)
            client.frame(0xC1, deflated(b"x"))
            assert client.receive_close()[0] == 1002


def test_switched_off():
    """[WS60] An edge with deflate disabled declines every offer."""
    with running_edge(deflate=False) as edge, edge.connect() as client:
        assert "sec-websocket-extensions" not in client.upgrade(OFFER)
        assert not edge.admission.latest_peer().line.deflate
