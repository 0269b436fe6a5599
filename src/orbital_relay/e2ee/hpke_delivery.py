"""Suite 16: pairwise encryption by HPKE (post-quantum), signed by the sender's identity."""

from __future__ import annotations

import hmac
import os
from typing import Final

from orbital_relay.e2ee.crypto.curve import verify
from orbital_relay.e2ee.crypto.hpke import ENC_BYTES, SEED_BYTES, open_sealed, public_of, seal
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import (
    KeyDelivery,
    Signed,
    Suite,
    delivery_info,
    read_signed,
    signed_bytes,
    write_signed,
)
from orbital_relay.e2ee.formats.records import Signer
from orbital_relay.e2ee.ports import KeyBundle, OfferedKey, OpenedDelivery, Way
from orbital_relay.e2ee.rows import COUNTERS, PRE_KEYS, StoredPreKey
from orbital_relay.e2ee.unit import Unit, ordered

LAST_RESORT_MS: Final = 7 * 86_400_000
"""A last-resort key is replaced after this."""
LAST_RESORT_KEPT_MS: Final = 30 * 86_400_000
"""It is kept longer, for deliveries that are in transit."""
HPKE_STOCK: Final = 50
"""One-time keys that the directory holds for a device."""


def _row_key(pre_key_id: int) -> str:
    return f"hpke/{ordered(pre_key_id)}"


def pre_key_bytes(pre_key_id: int, key: bytes) -> bytes:
    """Return what the signature of an HPKE pre-key covers."""
    return b"orbital/2 prekey\0" + pre_key_id.to_bytes(4) + key


def _make_pre_key(unit: Unit, signer: Signer, now_ms: int, *, last: bool) -> OfferedKey:
    """Make one pre-key and store it."""
    number = unit.get(COUNTERS, "hpke_pre_key") or 1
    unit.put(COUNTERS, "hpke_pre_key", number + 1)
    seed = os.urandom(SEED_BYTES)
    unit.put(PRE_KEYS, _row_key(number), StoredPreKey(id=number, last=last, made_at=now_ms, seed=seed))
    key = public_of(seed)
    return OfferedKey(number, key, signer.sign(pre_key_bytes(number, key)))


def publish_hpke(unit: Unit, signer: Signer, now_ms: int, wanted: int) -> tuple[OfferedKey | None, list[OfferedKey]]:
    """
    Make the HPKE part of a device's published keys.

    Args:
        unit: Keeps the private parts.
        signer: The device's identity.
        now_ms: Milliseconds since the epoch.
        wanted: One-time keys to make.

    Returns:
        The last-resort key when it is due, and the one-time keys.
    """
    rows = [row for _, row in unit.scan(PRE_KEYS, "hpke/") if row.last]
    for row in rows:
        if now_ms - row.made_at > LAST_RESORT_KEPT_MS:
            unit.delete(PRE_KEYS, _row_key(row.id))
    due = all(now_ms - row.made_at >= LAST_RESORT_MS for row in rows)
    last = _make_pre_key(unit, signer, now_ms, last=True) if due else None
    return last, [_make_pre_key(unit, signer, now_ms, last=False) for _ in range(wanted)]


def seal_hpke(signer: Signer, way: Way, bundle: KeyBundle | None, pairwise: bytes) -> KeyDelivery:
    """
    Seal a pairwise message for a device.

    Raises:
        E2eeError: `bad_key` when the bundle is not of the identity that the roster has; `bad_signature`; `not_found`
            without a bundle.
    """
    to, pre_key = way.to, None if bundle is None else bundle.hpke_pre_key
    if bundle is None or pre_key is None:
        raise E2eeError("not_found", f"no HPKE key was given for {to.name}")
    if not hmac.compare_digest(bundle.identity, way.identity):
        raise E2eeError("bad_key", f"the directory gives another identity for {to.name} than the roster")
    if not verify(way.identity, pre_key_bytes(pre_key.id, pre_key.key), pre_key.signature):
        raise E2eeError("bad_signature", f"the pre-key of {to.name} is not signed by its device")
    info = delivery_info(way.group, way.sender, to)
    signature = signer.sign(signed_bytes(info, pre_key.id, pairwise))
    signed = write_signed(Signed(pairwise=pairwise, identity=signer.public_key, signature=signature))
    sealed = pre_key.id.to_bytes(4) + seal(pre_key.key, info, signed)
    return KeyDelivery(to.user, to.device, Suite.HPKE, sealed)


def open_hpke(unit: Unit, way: Way, sealed: bytes) -> OpenedDelivery:
    """
    Open a delivery. A one-time key is deleted with it.

    Raises:
        E2eeError: `cannot_open`, `malformed`, `bad_key` when it is of another identity than the roster has,
            `bad_signature`.
    """
    if len(sealed) < 4 + ENC_BYTES:
        raise E2eeError("malformed", f"a delivery of {len(sealed)} bytes")
    number = int.from_bytes(sealed[:4])
    row = unit.get(PRE_KEYS, _row_key(number))
    if row is None:
        raise E2eeError("cannot_open", f"pre-key {number} is not here: it was used, or is of another device")
    info = delivery_info(way.group, way.sender, way.to)
    plain = open_sealed(row.seed, info, sealed[4:])
    signed = read_signed(plain)
    sender = way.sender.name
    if not hmac.compare_digest(signed.identity, way.identity):
        shown = signed.identity.hex()[:12]
        raise E2eeError("bad_key", f"keys of {sender} by identity {shown}…, which the roster does not have")
    if not verify(way.identity, signed_bytes(info, number, signed.pairwise), signed.signature):
        raise E2eeError("bad_signature", f"keys of {sender} are not signed by that device")
    if not row.last:
        unit.delete(PRE_KEYS, _row_key(number))
    return OpenedDelivery(signed.pairwise, plain, number)


def read_proof(way: Way, proof: bytes, pre_key_id: int) -> bytes | None:
    """
    Verify, for a third device, that an owner gave a chain to the device that passes it on.

    Args:
        way: From the owner to the passing device; `identity` is the owner's.
        proof: A Signed.
        pre_key_id: Of that delivery.

    Returns:
        The pairwise message that the owner signed; None when it is not proven.
    """
    try:
        signed = read_signed(proof)
    except E2eeError:
        return None
    covered = signed_bytes(delivery_info(way.group, way.sender, way.to), pre_key_id, signed.pairwise)
    same = hmac.compare_digest(signed.identity, way.identity)
    return signed.pairwise if same and verify(way.identity, covered, signed.signature) else None
