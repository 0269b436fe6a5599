"""The hash chain, by the shared vectors and by an independent hash."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from orbital_relay.core.chain import HASH_LENGTH, Chain, digest, first_prev, fits, prev_of
from tests.support.vectors import cases, load, named


def test_hashes() -> None:
    """[CHN1] A hash is the SHA-256 of the UTF-8 text, base64url without padding: 43 characters."""
    for case in load("chain")["digests"]:
        assert digest(case["text"].encode()) == case["hash"]
        raw = base64.urlsafe_b64decode(case["hash"] + "=")
        assert raw == hashlib.sha256(case["text"].encode()).digest()
        assert len(case["hash"]) == HASH_LENGTH


def test_first_prev() -> None:
    """[CHN2] The first event of a group carries the hash of the group's id."""
    for case in cases("chain", key="first_prev"):
        assert first_prev(case["group_id"]) == case["prev"]


def test_prev_of() -> None:
    """[CHN3] The hash of the previous frame is the last field of a frame."""
    for case in cases("chain", key="prev_of"):
        assert prev_of(case["frame"].encode()) == case["prev"]


@pytest.mark.parametrize("case", cases("chain"), ids=named)
def test_vectors(case: Any) -> None:
    """[CHN4] A dropped, changed or moved frame does not verify, and a refused frame does not advance the chain."""
    chain = Chain(case["start"])

    for offer in case["offers"]:
        assert chain.offer(offer["frame"].encode()) is offer["accepted"]
    assert chain.prev == case["end"]


@pytest.mark.parametrize("frame", [b"", b"{}", b'"}', b'{"seq":1,"prev":"' + b"\xff" * 43 + b'"}'])
def test_prev_of_a_text_without_a_hash(frame: bytes) -> None:
    """[CHN5] A frame that does not end with a hash is refused with a message."""
    with pytest.raises(ValueError, match="prev"):
        prev_of(frame)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"{}", "the frame does not end with its prev, so it is not the text of a durable frame"),
        (b'{"seq":1,"prev":"' + b"=" * 43 + b'"}', "the frame's prev is not base64url"),
    ],
)
def test_the_error_names_the_fault(frame: bytes, sentence: str) -> None:
    """[CHN5] The error says whether the hash is missing or malformed."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        prev_of(frame)


def test_a_frame_verifies_against_its_predecessor() -> None:
    """[CHN3] A frame verifies only against the hash in its last field."""
    for case in cases("chain", key="prev_of"):
        frame = case["frame"].encode()
        assert fits(frame, case["prev"])
        assert not fits(frame, case["prev"][:-1] + "~")
        assert not fits(frame + b" ", case["prev"])
