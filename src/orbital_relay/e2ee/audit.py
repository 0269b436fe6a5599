"""
Audit files: a group's log as one device received it, signed by the device.

A file is lines of JSON. The first says whose it is, then come events, records and warnings, and the last is a
signature over every byte before it. It holds what the server sent, and no key.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.records import Knock, read_record
from orbital_relay.e2ee.roster import LoggedRecord, Roster
from orbital_relay.e2ee.rows import FRAMES, HEADS, WARNINGS, KeptFrame
from orbital_relay.e2ee.state import Context, load_facts, load_group, load_records, load_roster
from orbital_relay.e2ee.texts import to_base64, uuid_bytes
from orbital_relay.e2ee.unit import Unit, ordered

VERSION: Final = 1


class AuditHead(msgspec.Struct, frozen=True, kw_only=True, tag="audit", tag_field="line"):
    """
    The first line.

    Attributes:
        version: Of the format.
        group: The group.
        founder: From the invite, 16 bytes, hexadecimal.
        user: Whose device wrote the file.
        device: Its number.
        at: When, milliseconds since the Unix epoch.
        after: The number of the event before the first one of the file.
        hash: Its hash as the device noted it; empty when it is not known. Of the group's id before number 1.
        vouched: Numbers of knocks that the device verified with an invite secret, which the file does not hold.
        accepted: Held devices that a person accepted at this device.
    """

    version: int
    group: str
    founder: str
    user: str
    device: int
    at: int
    after: int
    hash: str
    vouched: tuple[int, ...] = ()
    accepted: tuple[str, ...] = ()


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, tag="event", tag_field="line"):
    """An event: the frame's text, its hash as noted at its arrival, and the heads that its content claims."""

    seq: int
    hash: str
    frame: str
    heads: tuple[tuple[int, str], ...] = ()


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, tag="record", tag_field="line"):
    """A record of the roster as the device has it; `record` in base64."""

    seq: int
    author: str
    record: str


class AuditWarning(msgspec.Struct, frozen=True, kw_only=True, tag="warning", tag_field="line"):
    """A warning of the device: what it found by its keys, which no reader of the file can repeat."""

    seq: int
    code: str
    user: str
    device: int


class AuditEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="line"):
    """The last line: the device's identity key and signature, base64."""

    identity: str
    signature: str


AuditLine = AuditHead | AuditEvent | AuditRecord | AuditWarning | AuditEnd


def signed_text(group: str, lines: bytes) -> bytes:
    """Return what the signature of a file covers: the label, the group, and the SHA-256 of every line before it."""
    return b"orbital/2 audit\0" + uuid_bytes(group) + hashlib.sha256(lines).digest()


def write_audit(unit: Unit, cx: Context, group: str) -> bytes:
    """
    Write the audit file of a group.

    Raises:
        E2eeError: `not_found` when the group is unknown here, or no frames of it were kept.
    """
    state, records, roster = load_group(unit, group), load_records(unit, group), load_roster(unit, group)
    frames = _kept_run(unit, group, state.position.seq)
    if not frames:
        raise E2eeError("not_found", f"the store has kept no frames of {group}: open it with keep_frames=True")
    after = frames[0][0] - 1
    before = unit.get(HEADS, f"{group}/{ordered(after)}")
    head = AuditHead(
        version=VERSION,
        group=group,
        founder=state.founder.hex(),
        user=cx.me.user,
        device=cx.me.device,
        at=cx.now(),
        after=after,
        hash="" if before is None or before.hash is None else before.hash,
        vouched=_vouched(group, records, roster),
        accepted=tuple(sorted(load_facts(unit, group).accepted)),
    )
    lines: list[AuditLine] = [head]
    lines += [AuditEvent(seq=seq, hash=row.hash, frame=row.frame.decode(), heads=row.heads) for seq, row in frames]
    lines += [AuditRecord(seq=one.seq, author=one.author, record=to_base64(one.record)) for one in records]
    lines += [
        AuditWarning(seq=one.seq, code=one.code, user=one.user, device=one.device)
        for _, one in unit.scan(WARNINGS, f"{group}/")
    ]
    text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    signer = cx.ratchet.identity(unit)
    signature = signer.sign(signed_text(group, text))
    end = AuditEnd(identity=to_base64(signer.public_key), signature=to_base64(signature))
    return text + msgspec.json.encode(end) + b"\n"


def _kept_run(unit: Unit, group: str, last: int) -> list[tuple[int, KeptFrame]]:
    """Return the frames without a gap that end with the last event processed; an earlier gap is this device's own."""
    found = [(int(key.rpartition("/")[2]), row) for key, row in unit.scan(FRAMES, f"{group}/") if row.frame]
    start = len(found)
    while start and found[start - 1][0] == last - (len(found) - start):
        start -= 1
    return found[start:]


def _vouched(group: str, records: list[LoggedRecord], roster: Roster) -> tuple[int, ...]:
    """Return the numbers of the knocks whose MAC this device verified."""
    refused = {one.seq for one in roster.warnings if one.code in {"not_proven", "waiting_secret", "unreadable_record"}}
    found = []
    for one in records:
        if one.seq in refused:
            continue
        try:
            body = read_record(group, one.record).body
        except E2eeError:
            continue
        if isinstance(body, Knock):
            found.append(one.seq)
    return tuple(found)
