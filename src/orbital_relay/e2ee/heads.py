"""Fork detection: every content carries where its sender stood in the log; two histories cannot both agree with it."""

from __future__ import annotations

from typing import Final

from orbital_relay.e2ee.formats.schemas import HASH_BYTES
from orbital_relay.e2ee.rows import HEADS, Claimed, KnownHead, LogPosition, Stop
from orbital_relay.e2ee.state import load_group
from orbital_relay.e2ee.texts import from_base64
from orbital_relay.e2ee.unit import Unit, ordered

HEADS_KEPT: Final = 5000
"""Numbers of a group whose hashes are kept."""
MAX_CLAIMS: Final = 64
"""Claims kept for one number that is not reached yet."""


def head_bytes(frame_hash: str) -> bytes:
    """Return the 16 bytes of a frame's hash (base64url) that a content carries."""
    return from_base64(frame_hash)[:HASH_BYTES]


def head_of(position: LogPosition) -> tuple[int | None, bytes | None]:
    """Return the number and hash that say where this device stands; None before the first event."""
    return (None, None) if position.hash == "" else (position.seq, head_bytes(position.hash))


def note_head(unit: Unit, group: str, seq: int, frame_hash: str) -> Stop | None:
    """Note the hash of an event, and compare it with what members claimed about its number."""
    key = f"{group}/{ordered(seq)}"
    head = unit.get(HEADS, key) or KnownHead()
    unit.put(HEADS, key, KnownHead(hash=frame_hash))
    if seq > HEADS_KEPT:
        unit.delete(HEADS, f"{group}/{ordered(seq - HEADS_KEPT)}")
    ours = head_bytes(frame_hash).hex()
    other = next((claim for claim in head.claims if claim.head != ours), None)
    if other is None:
        return None
    return Stop(code="two_histories", seq=seq, ours=ours, theirs=other.head, by=other.by)


def check_head(unit: Unit, group: str, seq: int, head: bytes, by: str) -> Stop | None:
    """Compare a member's head with this device's; a number that is not reached yet is compared then."""
    key = f"{group}/{ordered(seq)}"
    known, theirs = unit.get(HEADS, key) or KnownHead(), head.hex()
    if known.hash is not None:
        ours = head_bytes(known.hash).hex()
        return None if ours == theirs else Stop(code="two_histories", seq=seq, ours=ours, theirs=theirs, by=by)
    # Older than what is kept: nothing to compare with.
    if seq <= load_group(unit, group).position.seq:
        return None
    if len(known.claims) < MAX_CLAIMS and all(claim.head != theirs for claim in known.claims):
        unit.put(HEADS, key, KnownHead(claims=(*known.claims, Claimed(theirs, by))))
    return None
