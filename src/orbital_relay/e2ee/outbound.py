"""Sending drafts: runs the sender's machine of a group, one input after the other, until there is nothing to do."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Sequence
from typing import Final, Literal

import msgspec

from orbital_relay.e2ee.delivering import claim, pairwise_of, serve
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import Content, write_content
from orbital_relay.e2ee.formats.envelope import DeviceAddress, Envelope, Keys, write_envelope, write_pairwise
from orbital_relay.e2ee.formats.schemas import ID_BYTES
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message
from orbital_relay.e2ee.heads import head_of
from orbital_relay.e2ee.newcomers import has_keys_to_send, keep_for_newcomers
from orbital_relay.e2ee.outbox import DRAFTS, OutboxDraft, Sealed, drafts_of, new_key, posted_key
from orbital_relay.e2ee.ports import KeyBundle, Way
from orbital_relay.e2ee.rows import GIVEN, OWN, PINS, Giving, OwnChain, OwnPin, Warned
from orbital_relay.e2ee.sender import (
    MAX_DELIVERIES,
    Given,
    SenderFacts,
    SenderView,
    ViewDevice,
    missing_devices,
    next_input,
    sender_row,
)
from orbital_relay.e2ee.state import Context, drop_chain, given_key, load_given, load_group, load_own, load_view, warn
from orbital_relay.e2ee.texts import to_base64
from orbital_relay.e2ee.unit import Unit

MAX_EPOCH_CHANGES: Final = 32
"""Refusals for a changed epoch that one `flush` answers; then it ends with `epoch_changed`."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with the server: nothing, the next turn, or a request."""

    does: Literal["done", "again", "serve", "claim", "post_keys", "post"]
    devices: Sequence[ViewDevice] = ()
    own: OwnChain = OwnChain()
    key: str = ""
    draft: OutboxDraft | None = None


DONE: Final = Turn(does="done")
AGAIN: Final = Turn(does="again")
SERVE: Final = Turn(does="serve")


async def flush(cx: Context, group: str) -> None:
    """
    Send everything that waits in a group: records, requests and answers first, then drafts in their order.

    It returns when everything was accepted, or must wait.

    Raises:
        E2eeError: `epoch_changed` when the log does not reach the epoch that the server names; `stopped` when drafts
            wait for a person's decision; what the relay raises. The outbox keeps what was not accepted.
    """
    await serve(cx, group)
    changes = 0
    while True:
        turn = await cx.transact(lambda unit: _turn(unit, cx, group), durable=True)
        if turn.does == "done":
            return
        try:
            if turn.does == "serve":
                await serve(cx, group)
            elif turn.does == "claim":
                await _give(cx, group, turn.devices, turn.own.epoch)
            elif turn.does == "post_keys":
                await _post_keys(cx, group, turn.own)
            elif turn.draft is not None:
                await _post_draft(cx, group, turn.key, turn.draft)
        except E2eeError as exc:
            changes += 1
            if exc.code != "epoch_changed" or changes > MAX_EPOCH_CHANGES:
                raise
            await _catch_up(cx, group, exc.details["epoch"])


async def _catch_up(cx: Context, group: str, epoch: object) -> None:
    """Process the log up to the epoch of a refusal."""

    def follow(unit: Unit) -> None:
        own = load_own(unit, cx, group)
        if own.state in {"giving", "ready"}:
            state = sender_row(own.state, "epoch_changed").to
            unit.put(OWN, cx.own_key(group), msgspec.structs.replace(own, state=state, giving=None))

    await cx.transact(follow)
    await cx.relay.catch_up(group, epoch if isinstance(epoch, int) else 0)


def _turn(unit: Unit, cx: Context, group: str) -> Turn:
    """Take the machine's next input, as far as no answer of the server is needed."""
    own, view, key = load_own(unit, cx, group), load_view(unit, cx, group), cx.own_key(group)
    drafts = unit.scan(DRAFTS, drafts_of(group, cx.chain_name), 1)
    stopped = load_group(unit, group).stopped
    if stopped is not None and drafts:
        why = f"{stopped.code} at {stopped.seq}"
        details = msgspec.structs.asdict(stopped)
        raise E2eeError("stopped", f"nothing is sent in {group}: {why}; a person must decide", why=details)
    given = [] if own.distribution is None else load_given(unit, own.distribution)
    facts = SenderFacts(
        state=own.state, epoch=own.epoch, count=own.count, made_at=own.made_at, given=given, drafts=bool(drafts)
    )
    on = next_input(facts, view, cx.now())
    if on is None:
        return DONE
    row = sender_row(own.state, on)
    match row.does:
        case "make":
            _make_chain(unit, cx, group, view)
            return AGAIN
        case "drop":
            drop_chain(unit, cx, key)
            return AGAIN
        case "follow" | "catch_up":
            giving = own.giving if row.does == "follow" else None
            after = msgspec.structs.replace(own, state=row.to, epoch=view.epoch, giving=giving)
            unit.put(OWN, key, after)
            return AGAIN
        case "give":
            missing = missing_devices(view, given)[:MAX_DELIVERIES]
            return Turn(does="claim", devices=missing, own=msgspec.structs.replace(own, epoch=view.epoch))
        case "repost":
            return Turn(does="post_keys", own=own)
        case "seal":
            if has_keys_to_send(unit, group):
                return SERVE
            [(at, draft)] = drafts
            return Turn(does="post", key=at, draft=_seal_draft(unit, cx, group, own, at, draft))
        case "record":
            raise AssertionError("an answer is recorded where it arrives")


def _make_chain(unit: Unit, cx: Context, group: str, view: SenderView) -> None:
    distribution = os.urandom(ID_BYTES)
    cx.ratchet.new_chain(unit, distribution)
    own = OwnChain(state="made", distribution=distribution, epoch=view.epoch, made_at=cx.now())
    unit.put(OWN, cx.own_key(group), own)
    pin = OwnPin(
        group=group,
        user=cx.me.user,
        device=cx.me.device,
        chain_name=cx.chain_name,
        first_skdm=cx.ratchet.skdm(unit, distribution),
        made_epoch=view.epoch,
    )
    unit.put(PINS, distribution.hex(), pin)
    keep_for_newcomers(unit, cx, group, distribution, pin.first_skdm)


async def _give(cx: Context, group: str, devices: Sequence[ViewDevice], epoch: int) -> None:
    """Seal the chain for devices and store the `new_keys`; the next turn posts it."""
    bundles = await claim(cx, group, devices)
    await cx.transact(lambda unit: _seal_keys(unit, cx, group, devices, epoch, bundles), durable=True)


def _seal_keys(
    unit: Unit,
    cx: Context,
    group: str,
    devices: Sequence[ViewDevice],
    epoch: int,
    bundles: dict[DeviceAddress, KeyBundle],
) -> None:
    own = load_own(unit, cx, group)
    # The log moved while the keys were claimed: decide again.
    if own.distribution is None or load_view(unit, cx, group).epoch != epoch:
        return
    distribution, skdm = own.distribution.hex(), cx.ratchet.skdm(unit, own.distribution)
    pairwise = write_pairwise(msgspec.structs.replace(pairwise_of(unit, group), skdm=skdm))
    deliveries, served = [], []
    for device in devices:
        to = DeviceAddress(device.user, device.device)
        row = Given(user=device.user, device=device.device, identity=device.identity, skdm=skdm)
        way = Way(group=group, sender=cx.me, to=to, identity=bytes.fromhex(device.identity))
        try:
            deliveries.append(cx.ratchet.seal(unit, way, bundles.get(to), pairwise))
        except E2eeError as exc:
            # Not given, and not tried again with this chain: a directory that lies about one device must not stop the
            # group.
            refused = msgspec.structs.replace(row, skdm=None, refused=exc.code)
            unit.put(GIVEN, given_key(distribution, to), refused)
            details: dict[str, str | int] = {"reason": exc.code}
            warning = Warned(group=group, seq=epoch, code="bad_bundle", user=to.user, device=to.device, details=details)
            warn(unit, cx, warning)
            continue
        served.append(row)
        # Until the answer is known the device counts as one that may have the chain: should it leave, the chain goes.
        unit.put(GIVEN, given_key(distribution, to), msgspec.structs.replace(row, maybe=True))
    if not served:
        return
    envelope = to_base64(write_envelope(Envelope(keys=Keys(cx.me.device, epoch, deliveries))))
    state = sender_row(own.state, "missing").to
    giving = Giving(new_key(), envelope, tuple(served))
    unit.put(OWN, cx.own_key(group), msgspec.structs.replace(own, state=state, epoch=epoch, giving=giving))


async def _post_keys(cx: Context, group: str, own: OwnChain) -> None:
    giving, distribution = own.giving, own.distribution
    if giving is None or distribution is None:
        raise AssertionError("a `new_keys` that was not stored cannot be posted")
    body = {"encrypted_envelope": giving.envelope}
    await unless_conflict(cx.relay.post(group, "new_keys", body, key=giving.key, if_epoch=own.epoch))

    def accepted(unit: Unit) -> None:
        present = load_own(unit, cx, group)
        if present.giving is None or present.giving.key != giving.key:
            return
        for row in giving.devices:
            unit.put(GIVEN, given_key(distribution.hex(), DeviceAddress(row.user, row.device)), row)
        state = sender_row(present.state, "accepted").to
        unit.put(OWN, cx.own_key(group), msgspec.structs.replace(present, state=state, giving=None))

    await cx.transact(accepted)


async def unless_conflict(posted: Awaitable[int]) -> int | None:
    """Return the number of a post; None when the server has another body under the key: our own earlier attempt."""
    try:
        return await posted
    except E2eeError as exc:
        if exc.code == "conflict":
            return None
        raise


def _seal_draft(unit: Unit, cx: Context, group: str, own: OwnChain, key: str, draft: OutboxDraft) -> OutboxDraft:
    """
    Seal a draft with the chain's next keys, and keep the bytes with the row.

    A row that is sealed for this chain and epoch is posted as it is.
    """
    distribution = own.distribution
    if distribution is None:
        raise AssertionError("a machine that is ready has a chain")
    done = draft.sealed
    if done is not None and (done.distribution, done.epoch) == (distribution.hex(), own.epoch):
        return draft
    head_seq, head_hash = head_of(load_group(unit, group).position)
    body, iterations = {}, []
    for part in draft.parts:
        content = Content(
            kind=part.kind,
            group=group,
            context=part.context,
            at=draft.at,
            body=part.body,
            head_seq=head_seq,
            head_hash=head_hash,
            nonce=part.nonce,
        )
        message = cx.ratchet.encrypt(unit, distribution, write_content(content))
        iterations.append(read_sender_key_message(message).iteration)
        body[part.field] = to_base64(write_envelope(Envelope(content=message)))
    sealed = Sealed(distribution=distribution.hex(), iteration=iterations[0], epoch=own.epoch, body=body)
    tried = draft.tried if done is None else (*draft.tried, done)
    after = msgspec.structs.replace(draft, sealed=sealed, tried=tried)
    unit.put(DRAFTS, key, after)
    unit.put(OWN, cx.own_key(group), msgspec.structs.replace(own, count=iterations[-1] + 1))
    return after


async def _post_draft(cx: Context, group: str, key: str, draft: OutboxDraft) -> None:
    sealed = draft.sealed
    if sealed is None:
        raise AssertionError("a draft is sealed before it is posted")
    body = {**json.loads(draft.plain), **sealed.body}
    posted = await unless_conflict(cx.relay.post(group, draft.type, body, key=draft.id, if_epoch=sealed.epoch))

    def accepted(unit: Unit) -> None:
        present = unit.get(DRAFTS, key)
        # The event may have come back before the answer did.
        if present is None:
            return
        unit.delete(DRAFTS, key)
        # Under this key the server holds another body: an earlier seal of the draft was accepted, and its answer was
        # lost.
        sent = (*draft.tried, sealed) if posted is None else (sealed,)
        for one in sent:
            row = msgspec.structs.replace(present, sealed=one, tried=sent, posted=posted or 0)
            unit.put(DRAFTS, posted_key(group, one), row)

    await cx.transact(accepted)
