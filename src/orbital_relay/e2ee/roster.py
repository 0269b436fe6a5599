"""
The roster (trusted devices): the fold of a group's records in log order. Only its devices may be given keys.

The fold is a pure function of the records and of what this device knows: the founder's hash from the invite, and
invite secrets. A record that cannot be judged yet, since its secret is not known here, waits; a new secret folds the
records again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, assert_never

import msgspec

from orbital_relay.e2ee.crypto.curve import check_public_key
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.records import (
    ROTATION_DAYS,
    Founding,
    GroupRecord,
    Knock,
    Link,
    Policy,
    Revoke,
    Secret,
    earlier_secret,
    is_knock_of,
    is_signed_by,
    read_record,
)
from orbital_relay.e2ee.invite import founder_hash

RecordFault = Literal[
    "unreadable_record",
    "other_founder",
    "not_proven",
    "wrong_author",
    "revoked_identity",
    "held_device",
    "returned_person",
    "waiting_secret",
]
"""
Why a record counts for nothing, or is worth a warning.

- `unreadable_record`: malformed, or of an unknown kind.
- `other_founder`: a founding whose key is not the invite's, or a second one.
- `not_proven`: a signature or MAC that does not verify, or a signer who is not in the roster.
- `wrong_author`: the server names another author than the record does.
- `revoked_identity`: a key that was revoked comes back.
- `held_device`: a knock for a person who has a device already; it waits for a link, or for this person's decision.
- `returned_person`: admitted, but with another key than before: all former devices were revoked.
- `waiting_secret`: made with an invite secret that is not known here yet.
"""


class RosterDevice(msgspec.Struct, frozen=True, kw_only=True):
    """
    A device that may be given keys.

    Attributes:
        user: Its user.
        device: Its number.
        identity: Its identity key, 33 bytes.
        suites: A bit mask of SuiteBits.
        since: The number of the record that admitted it.
        by: The kind of that record; `accepted` for a person's own decision.
    """

    user: str
    device: int
    identity: bytes
    suites: int
    since: int
    by: Literal["found", "knock", "link", "accepted"]


class LoggedRecord(msgspec.Struct, frozen=True):
    """A record as the log has it; the author is the server's word."""

    seq: int
    author: str
    record: bytes


class RecordWarning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with a record, or worth a warning; `identity` and `suites` of a knock."""

    seq: int
    code: RecordFault
    user: str
    device: int
    identity: bytes | None = None
    suites: int | None = None


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the records of a group come to.

    Attributes:
        group: Its group.
        founder: The founding user; None before the founding.
        devices: Those that may be given keys.
        revoked: Identity keys, hexadecimal: none of them comes back.
        known: Users that ever had a device here.
        history: A HistoryPolicy.
        rotation_days: After which a chain is replaced.
        secret_number: Knocks behind the record need the secret of this number.
        warnings: In the order of the log.
    """

    group: str
    founder: str | None = None
    devices: tuple[RosterDevice, ...] = ()
    revoked: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    history: int = 0
    rotation_days: int = ROTATION_DAYS
    secret_number: int = 0
    warnings: tuple[RecordWarning, ...] = ()

    def find(self, user: object, device: object) -> RosterDevice | None:
        """Return a device; None when it is not in the roster."""
        return next((one for one in self.devices if one.user == user and one.device == device), None)


class RosterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What this device knows beside the records.

    Attributes:
        founder: 16 bytes, from the invite.
        secrets: Invite secrets by number.
        accepted: `accepted_key` of held devices that a person accepted here.
        vouched: Numbers of knocks that another device verified; used where their secret is not known.
    """

    founder: bytes
    secrets: Mapping[int, bytes]
    accepted: frozenset[str] = frozenset()
    vouched: frozenset[int] = frozenset()


def accepted_key(user: str, device: int, identity: bytes) -> str:
    """Return the text that stands for one device with one key."""
    return f"{user}/{device}/{identity.hex()}"


def fold(group: str, records: Iterable[LoggedRecord], facts: RosterFacts) -> Roster:
    """Fold all records of a group, in the order of the log."""
    roster = Roster(group=group)
    for record in records:
        roster = fold_record(roster, record, facts)
    return roster


RefuseRecord = Callable[..., Roster]


def fold_record(roster: Roster, logged: LoggedRecord, facts: RosterFacts) -> Roster:
    """Fold one record into the roster, which stays unchanged."""

    def refuse(code: RecordFault, about: Founding | Knock | Link | Revoke | None = None) -> Roster:
        user, device = (logged.author, 0) if about is None else (about.user, about.device)
        extra = (about.identity, about.suites) if isinstance(about, Knock) else (None, None)
        warning = RecordWarning(seq=logged.seq, code=code, user=user, device=device, identity=extra[0], suites=extra[1])
        return msgspec.structs.replace(roster, warnings=(*roster.warnings, warning))

    try:
        record = read_record(roster.group, logged.record)
    except E2eeError:
        return refuse("unreadable_record")
    body = record.body
    if isinstance(body, Founding):
        return _fold_found(roster, record, body, logged, facts, refuse)
    if isinstance(body, Knock):
        return _fold_knock(roster, record, body, logged, facts, refuse)
    signer = _signer_of(roster, body)
    about = body if isinstance(body, Link | Revoke) else None
    if signer is None or not is_signed_by(record, signer.identity):
        return refuse("not_proven", about)
    if logged.author != signer.user:
        return refuse("wrong_author", about)
    match body:
        case Link():
            if body.identity.hex() in roster.revoked:
                return refuse("revoked_identity", body)
            return _admit(roster, body, logged.seq, "link") if _is_usable(body.identity) else refuse("not_proven", body)
        case Revoke():
            allowed = signer.user in (body.user, roster.founder)
            return _revoke(roster, body) if allowed else refuse("not_proven", body)
        case Secret():
            if body.number != roster.secret_number + 1:
                return refuse("not_proven")
            return msgspec.structs.replace(roster, secret_number=body.number)
        case Policy():
            return msgspec.structs.replace(roster, history=body.history, rotation_days=body.rotation_days)
        case _:
            assert_never(body)


def _fold_found(
    roster: Roster, record: GroupRecord, body: Founding, logged: LoggedRecord, facts: RosterFacts, refuse: RefuseRecord
) -> Roster:
    if roster.founder is not None or founder_hash(body.identity) != facts.founder:
        return refuse("other_founder", body)
    if not is_signed_by(record, body.identity) or not _is_usable(body.identity):
        return refuse("not_proven", body)
    if logged.author != body.user:
        return refuse("wrong_author", body)
    admitted = _admit(roster, body, logged.seq, "found")
    return msgspec.structs.replace(admitted, founder=body.user, history=body.history)


def _fold_knock(
    roster: Roster, record: GroupRecord, body: Knock, logged: LoggedRecord, facts: RosterFacts, refuse: RefuseRecord
) -> Roster:
    if logged.author != body.user:
        return refuse("wrong_author", body)
    if body.secret_number != roster.secret_number or not _is_usable(body.identity):
        return refuse("not_proven", body)
    secret = facts.secrets.get(body.secret_number)
    if secret is None and logged.seq not in facts.vouched:
        return refuse("waiting_secret", body)
    if secret is not None and not is_knock_of(record, roster.group, secret):
        return refuse("not_proven", body)
    if body.identity.hex() in roster.revoked:
        return refuse("revoked_identity", body)
    present = roster.find(body.user, body.device)
    if present is not None and present.identity == body.identity:
        return roster
    if all(one.user != body.user for one in roster.devices):
        admitted = _admit(roster, body, logged.seq, "knock")
        if body.user not in roster.known:
            return admitted
        returned = refuse("returned_person", body)
        return msgspec.structs.replace(admitted, warnings=returned.warnings)
    if accepted_key(body.user, body.device, body.identity) in facts.accepted:
        return _admit(roster, body, logged.seq, "accepted")
    return refuse("held_device", body)


def _signer_of(roster: Roster, body: Link | Revoke | Secret | Policy) -> RosterDevice | None:
    """Return the device that must have signed."""
    match body:
        case Link():
            return roster.find(body.user, body.by_device)
        case Policy():
            return roster.find(roster.founder, body.by_device)
        case Revoke() | Secret():
            return roster.find(body.by_user, body.by_device)
        case _:
            assert_never(body)


def _is_usable(identity: bytes) -> bool:
    try:
        check_public_key(identity)
    except E2eeError:
        return False
    return True


def _admit(
    roster: Roster, body: Founding | Knock | Link, seq: int, by: Literal["found", "knock", "link", "accepted"]
) -> Roster:
    others = tuple(one for one in roster.devices if (one.user, one.device) != (body.user, body.device))
    device = RosterDevice(
        user=body.user, device=body.device, identity=body.identity, suites=body.suites, since=seq, by=by
    )
    known = roster.known if body.user in roster.known else (*roster.known, body.user)
    return msgspec.structs.replace(roster, devices=(*others, device), known=known)


def _revoke(roster: Roster, body: Revoke) -> Roster:
    gone = [one for one in roster.devices if one.user == body.user and body.device in (0, one.device)]
    return msgspec.structs.replace(
        roster,
        devices=tuple(one for one in roster.devices if one not in gone),
        revoked=(*roster.revoked, *(one.identity.hex() for one in gone)),
    )


def all_secrets(group: str, records: Iterable[LoggedRecord], secrets: Mapping[int, bytes]) -> dict[int, bytes]:
    """Derive every earlier invite secret from a newer one, by the records that seal each under its successor."""
    known = dict(secrets)
    bodies = []
    for record in records:
        try:
            body = read_record(group, record.record).body
        except E2eeError:
            continue
        if isinstance(body, Secret):
            bodies.append(body)
    for body in sorted(bodies, key=lambda one: -one.number):
        secret = known.get(body.number)
        if secret is None or body.number - 1 in known:
            continue
        found = earlier_secret(group, secret, body.earlier)
        if found is not None:
            known[body.number - 1] = found
    return known
