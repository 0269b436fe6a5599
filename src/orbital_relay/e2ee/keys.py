"""Receiving keys: `new_keys` events."""

from __future__ import annotations

from orbital_relay.e2ee.contents import read_waiting, share_chain
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.events import bytes_of
from orbital_relay.e2ee.formats.envelope import DeviceAddress, History, Keys, Pairwise, read_envelope, read_pairwise
from orbital_relay.e2ee.formats.records import Secret, earlier_secret, read_record
from orbital_relay.e2ee.formats.sender_key import read_skdm
from orbital_relay.e2ee.heads import check_head
from orbital_relay.e2ee.hpke_delivery import read_proof
from orbital_relay.e2ee.newcomers import give_to_newcomers
from orbital_relay.e2ee.ports import OpenedDelivery, Way
from orbital_relay.e2ee.receiver import ReceiverRow, on_history, on_keys, on_keys_of_nobody
from orbital_relay.e2ee.requests import cancel_answers, take_request
from orbital_relay.e2ee.rows import MARKS, PINS, SECRETS, WAITING, Held, LogEvent, OtherPin, Warned
from orbital_relay.e2ee.state import (
    Context,
    id_of,
    load_group,
    load_records,
    load_roster,
    refold,
    secret_key,
    stop_sending,
    warn,
)
from orbital_relay.e2ee.unit import Unit, ordered


def take_keys(unit: Unit, cx: Context, event: LogEvent) -> None:
    """Take in a `new_keys`: open what is for this device, and answer a request."""
    author = id_of(event.fields.get("sender_id"))
    # A part of it that cannot be read must not leave the rest half done.
    trial = unit.fork()
    try:
        envelope = read_envelope(bytes_of(event.fields.get("encrypted_envelope")) or b"")
        if envelope.request is not None:
            take_request(trial, cx, event, author, envelope.request)
        if envelope.keys is not None:
            sender = DeviceAddress(author, envelope.keys.device)
            cancel_answers(trial, event.group_id, sender, envelope.keys)
            _open_keys(trial, cx, event, sender, envelope.keys)
    except (E2eeError, ValueError):
        warn(unit, cx, Warned(group=event.group_id, seq=event.seq, code="unreadable_keys", user=author))
        return
    unit.merge(trial)


def follow_roster(unit: Unit, cx: Context, group: str) -> None:
    """The roster has changed: give newcomers what was kept for them, and try held keys again."""
    give_to_newcomers(unit, cx, group)
    for key, row in unit.scan(WAITING, f"{group}/"):
        if isinstance(row, Held):
            unit.delete(WAITING, key)
            take_keys(unit, cx, row.event)


def _warn_of(
    unit: Unit, cx: Context, event: LogEvent, sender: DeviceAddress, code: str, reason: str | None = None
) -> None:
    details: dict[str, str | int] = {} if reason is None else {"reason": reason}
    warning = Warned(
        group=event.group_id, seq=event.seq, code=code, user=sender.user, device=sender.device, details=details
    )
    warn(unit, cx, warning)


def _follow(unit: Unit, cx: Context, event: LogEvent, sender: DeviceAddress, row: ReceiverRow) -> None:
    """Hold keys and write warnings, as a row of the receiver's machine says."""
    if row.does == "hold":
        unit.put(WAITING, f"{event.group_id}/{ordered(event.seq)}", Held(seq=event.seq, event=event))
    if row.warning is not None:
        _warn_of(unit, cx, event, sender, row.warning)


def _open_keys(unit: Unit, cx: Context, event: LogEvent, sender: DeviceAddress, keys: Keys) -> None:
    group = event.group_id
    mine = [one for one in keys.deliveries if one.to == cx.me]
    if not mine or sender == cx.me:
        return
    device = load_roster(unit, group).find(sender.user, sender.device)
    if device is None:
        _follow(unit, cx, event, sender, on_keys_of_nobody(None, known_device=False))
        return
    way = Way(group=group, sender=sender, to=cx.me, identity=device.identity)
    for delivery in mine:
        # A one-time key is used only when the delivery is of the identity that the roster has.
        trial = unit.fork()
        try:
            opened = cx.ratchet.open(trial, way, delivery)
        except E2eeError as exc:
            if exc.code == "bad_key":
                _follow(unit, cx, event, sender, on_keys_of_nobody(None, known_device=True))
                return
            _warn_of(unit, cx, event, sender, "unreadable_keys", exc.code)
            continue
        unit.merge(trial)
        pairwise = read_pairwise(opened.pairwise)
        if pairwise.group != group:
            _warn_of(unit, cx, event, sender, "misplaced")
        else:
            _take_pairwise(unit, cx, event, sender, pairwise, opened)


def _take_pairwise(
    unit: Unit, cx: Context, event: LogEvent, sender: DeviceAddress, pairwise: Pairwise, opened: OpenedDelivery
) -> None:
    group = event.group_id
    if pairwise.head_seq is not None and pairwise.head_hash is not None:
        fork = check_head(unit, group, pairwise.head_seq, pairwise.head_hash, sender.user)
        if fork is not None:
            stop_sending(unit, cx, group, fork)
    if pairwise.secret is not None and pairwise.secret_number is not None:
        _take_secret(unit, cx, group, pairwise.secret_number, pairwise.secret)
    if pairwise.skdm is not None:
        _take_skdm(unit, cx, event, sender, pairwise, pairwise.skdm, opened)
    for history in pairwise.history:
        _take_history(unit, cx, event, sender, history)


def _take_skdm(
    unit: Unit,
    cx: Context,
    event: LogEvent,
    sender: DeviceAddress,
    pairwise: Pairwise,
    data: bytes,
    opened: OpenedDelivery,
) -> None:
    group, skdm = event.group_id, read_skdm(data)
    distribution = skdm.distribution.hex()
    pin = unit.get(PINS, distribution)
    row = on_keys(pin, user=sender.user, device=sender.device, group=group)
    if row.does == "warn":
        _follow(unit, cx, event, sender, row)
        return
    if row.does == "ignore" and pin is not None:
        # The owner gives an earlier beginning: what stands before the first one is read beside the chain, which stays
        # as it is.
        if skdm.iteration < pin.first:
            share_chain(unit, group, sender, data, None)
        read_waiting(unit, cx, group, distribution)
        return
    cx.ratchet.learn(unit, sender, data)
    # A Signed that carries history of others is no proof to pass on: it would share more than this chain.
    proof = (opened.proof, opened.proof_key_id) if not pairwise.history else (None, None)
    learned = OtherPin(
        group=group,
        user=sender.user,
        device=sender.device,
        first=skdm.iteration,
        last=skdm.iteration,
        epoch=pairwise.epoch,
        skdm=data,
        shareable=pairwise.shareable,
        proof=proof[0],
        proof_key_id=proof[1],
    )
    unit.put(PINS, distribution, learned)
    read_waiting(unit, cx, group, distribution)


def _take_secret(unit: Unit, cx: Context, group: str, number: int, secret: bytes) -> None:
    if unit.get(SECRETS, secret_key(group, number)) is not None:
        return
    # The record of the secret seals the one before it, so that a wrong secret is noticed.
    for record in load_records(unit, group):
        try:
            body = read_record(group, record.record).body
        except E2eeError:
            continue
        if not isinstance(body, Secret) or body.number != number:
            continue
        earlier = earlier_secret(group, secret, body.earlier)
        known = unit.get(SECRETS, secret_key(group, number - 1))
        if earlier is None or (known is not None and earlier != known):
            continue
        unit.put(SECRETS, secret_key(group, number), secret)
        refold(unit, group)
        follow_roster(unit, cx, group)
        return


def _take_history(unit: Unit, cx: Context, event: LogEvent, sender: DeviceAddress, history: History) -> None:
    group = event.group_id
    distribution = read_skdm(history.skdm).distribution.hex()
    owner = DeviceAddress(history.user, history.device)
    trusted = (
        sender.user in (cx.me.user, load_group(unit, group).inviter)
        or unit.get(MARKS, f"verified/{sender.user}") is not None
    )
    row = on_history(known=unit.get(PINS, distribution) is not None, trusted=trusted)
    if row.does == "warn":
        _follow(unit, cx, event, sender, row)
        return
    via: str | None = sender.user
    device = load_roster(unit, group).find(owner.user, owner.device)
    if device is not None and history.proof is not None and history.proof_key_id is not None:
        way = Way(group=group, sender=owner, to=sender, identity=device.identity)
        shown = read_proof(way, history.proof, history.proof_key_id)
        if shown is not None and read_pairwise(shown).skdm == history.skdm:
            via = None
    share_chain(unit, group, owner, history.skdm, via)
    read_waiting(unit, cx, group, distribution)
