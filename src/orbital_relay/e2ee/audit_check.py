"""
Verify an audit file, without the server and without a key of the group.

What is proven: the file is as the device signed it, and the device is of the group; the frames form one chain without a
gap, and are those that the device noted when they arrived; every record of the roster is in the log, and is signed by
whom it names; and the members whose messages the device read stood in this history.
What is not: who wrote a message, and what it says, needs the keys; the device's own warnings say what it found by them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orbital_relay.core.chain import digest, first_prev, prev_of
from orbital_relay.e2ee.audit import (
    VERSION,
    AuditEnd,
    AuditEvent,
    AuditHead,
    AuditLine,
    AuditRecord,
    AuditWarning,
    signed_text,
)
from orbital_relay.e2ee.crypto.curve import verify
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.heads import head_bytes
from orbital_relay.e2ee.roster import LoggedRecord, Roster, RosterFacts, all_secrets, fold
from orbital_relay.e2ee.texts import from_base64

FORGED: Final = frozenset({"unreadable_record", "other_founder", "not_proven", "wrong_author", "revoked_identity"})
"""What is wrong with a record that no honest member posts; the other faults are a person's decision to make."""


class AuditFinding(msgspec.Struct, frozen=True):
    """What is wrong: a code for programs, the number of the event or 0, and a sentence."""

    code: str
    seq: int
    text: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a file shows.

    Attributes:
        group: Its group.
        user: The user whose device wrote it.
        device: The device.
        first: The number of its first event; 0 without one.
        last: The number of its last event.
        records: How many records it has.
        heads: How many heads of members were compared.
        vouched: Knocks that were taken on the device's word, since no invite was given.
        findings: What is wrong; none in an honest file.
        warnings: What the device itself found.
    """

    group: str
    user: str
    device: int
    first: int
    last: int
    records: int
    heads: int
    vouched: int
    findings: list[AuditFinding]
    warnings: list[AuditWarning]


def check_audit(data: bytes, *, secret: tuple[int, bytes] | None = None) -> AuditReport:
    """
    Verify a file.

    Args:
        data: The file.
        secret: Number and bytes of an invite secret of the group: with it every knock up to it is verified, too.

    Raises:
        E2eeError: `malformed` when it is not an audit file, or is cut off; `unsupported` for another version.
    """
    head, lines, end, text = _parse(data)
    findings: list[AuditFinding] = []
    events = [line for line in lines if isinstance(line, AuditEvent)]
    records = [line for line in lines if isinstance(line, AuditRecord)]
    warnings = [line for line in lines if isinstance(line, AuditWarning)]
    hashes = _check_frames(head, events, findings)
    heads = _check_heads(events, hashes, findings)
    logged = _check_records(head, events, records, findings)
    facts, vouched = _facts(head, logged, secret)
    roster = fold(head.group, logged, facts)
    findings += [
        AuditFinding(one.code, one.seq, f"record {one.seq} counts for nothing: {one.code}")
        for one in roster.warnings
        if one.code in FORGED
    ]
    _check_signature(head, end, text, roster, findings)
    return AuditReport(
        group=head.group,
        user=head.user,
        device=head.device,
        first=events[0].seq if events else 0,
        last=events[-1].seq if events else head.after,
        records=len(records),
        heads=heads,
        vouched=vouched,
        findings=findings,
        warnings=warnings,
    )


def _parse(data: bytes) -> tuple[AuditHead, list[AuditLine], AuditEnd, bytes]:
    if not data.endswith(b"\n"):
        raise E2eeError("malformed", "the audit file is cut off: its last line has no end")
    lines = data.splitlines(keepends=True)
    decoder = msgspec.json.Decoder(AuditLine)
    read: list[AuditLine] = []
    for number, line in enumerate(lines, 1):
        try:
            read.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise E2eeError("malformed", f"line {number} is not one of an audit file: {exc}") from exc
    head, end = read[0], read[-1]
    if not isinstance(head, AuditHead):
        raise E2eeError("malformed", "the first line does not say whose audit file it is")
    if head.version != VERSION:
        raise E2eeError("unsupported", f"an audit file of version {head.version}; this program reads {VERSION}")
    if not isinstance(end, AuditEnd):
        raise E2eeError("malformed", "the audit file is cut off: its last line is not a signature")
    if any(isinstance(line, AuditHead | AuditEnd) for line in read[1:-1]):
        raise E2eeError("malformed", "the audit file has a second first or last line")
    try:
        signed_text(head.group, b"")
        bytes.fromhex(head.founder)
    except ValueError as exc:
        raise E2eeError("malformed", f"the first line names no group or no founder: {exc}") from exc
    return head, read[1:-1], end, b"".join(lines[:-1])


def _check_frames(head: AuditHead, events: list[AuditEvent], findings: list[AuditFinding]) -> dict[int, str]:
    """Check numbers, chain and noted hashes; return the hash of each frame by its number."""
    hashes: dict[int, str] = {}
    last, prev = head.after, first_prev(head.group) if head.after == 0 else head.hash
    for event in events:
        seq, frame = event.seq, event.frame.encode()
        found = digest(frame)
        fields = _fields_of(event)
        if seq != last + 1:
            findings.append(AuditFinding("gap", seq, f"event {seq} follows event {last}"))
            prev = ""
        if fields.get("seq") != seq:
            findings.append(AuditFinding("wrong_number", seq, f"the frame of event {seq} says {fields.get('seq')!r}"))
        if fields.get("group_id") != head.group:
            findings.append(AuditFinding("wrong_group", seq, f"event {seq} is of another group"))
        if found != event.hash:
            findings.append(AuditFinding("changed", seq, f"event {seq} is not the one that the device received"))
        try:
            carried = prev_of(frame)
        except ValueError:
            carried = ""
        if prev and carried != prev:
            findings.append(AuditFinding("broken_chain", seq, f"event {seq} does not follow the event before it"))
        hashes[seq] = found
        last, prev = seq, found
    return hashes


def _check_heads(events: list[AuditEvent], hashes: dict[int, str], findings: list[AuditFinding]) -> int:
    """Compare where authors stood with this history; return how many could be compared."""
    compared = 0
    for event in events:
        for seq, head in event.heads:
            if seq >= event.seq:
                text = f"the author of event {event.seq} claims to have read event {seq} before it"
                findings.append(AuditFinding("two_histories", event.seq, text))
            elif seq in hashes:
                compared += 1
                if head_bytes(hashes[seq]).hex() != head:
                    text = f"the author of event {event.seq} has another event {seq}"
                    findings.append(AuditFinding("two_histories", seq, text))
    return compared


def _check_records(
    head: AuditHead, events: list[AuditEvent], records: list[AuditRecord], findings: list[AuditFinding]
) -> list[LoggedRecord]:
    """Compare the records with the frames that carry them; return them as logged."""
    logged: list[LoggedRecord] = []
    for record in records:
        try:
            logged.append(LoggedRecord(record.seq, record.author, from_base64(record.record)))
        except ValueError:
            logged.append(LoggedRecord(record.seq, record.author, b""))
    known = {one.seq: one for one in logged}
    if len(known) != len(logged) or sorted(known) != [one.seq for one in logged]:
        findings.append(AuditFinding("record_order", 0, "the records are not in the order of the log"))
    carried = set()
    for event in events:
        fields = _fields_of(event)
        if fields.get("type") != "new_record":
            continue
        carried.add(event.seq)
        data = fields.get("data")
        data = data if isinstance(data, dict) else {}
        found = known.get(event.seq)
        if found is None:
            findings.append(AuditFinding("record_missing", event.seq, f"record {event.seq} of the log is left out"))
            continue
        try:
            same = from_base64(str(data.get("record"))) == found.record and data.get("author_id") == found.author
        except ValueError:
            same = found.record == b""
        if not same:
            findings.append(AuditFinding("record_differs", event.seq, f"record {event.seq} differs from the log's"))
    findings += [
        AuditFinding("record_added", seq, f"record {seq} is not in the log")
        for seq in known
        if seq > head.after and seq not in carried
    ]
    return logged


def _facts(head: AuditHead, logged: list[LoggedRecord], secret: tuple[int, bytes] | None) -> tuple[RosterFacts, int]:
    """Return what the roster is folded with, and how many knocks are taken on the device's word."""
    secrets = {} if secret is None else all_secrets(head.group, logged, dict([secret]))
    facts = RosterFacts(
        founder=bytes.fromhex(head.founder),
        secrets=secrets,
        accepted=frozenset(head.accepted),
        vouched=frozenset(head.vouched),
    )
    strict = fold(head.group, logged, msgspec.structs.replace(facts, vouched=frozenset()))
    waiting = {one.seq for one in strict.warnings if one.code == "waiting_secret"}
    return facts, len(waiting & facts.vouched)


def _check_signature(head: AuditHead, end: AuditEnd, text: bytes, roster: Roster, findings: list[AuditFinding]) -> None:
    try:
        identity, signature = from_base64(end.identity), from_base64(end.signature)
        holds = verify(identity, signed_text(head.group, text), signature)
    except (ValueError, E2eeError):
        identity, holds = b"", False
    if not holds:
        findings.append(AuditFinding("bad_signature", 0, "the file was changed after the device signed it"))
    known = roster.find(head.user, head.device)
    if identity.hex() not in roster.revoked and (known is None or known.identity != identity):
        text_ = f"device {head.device} of user {head.user} is not in the roster with the key that signed the file"
        findings.append(AuditFinding("unknown_device", 0, text_))


def _fields_of(event: AuditEvent) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(event.frame)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
