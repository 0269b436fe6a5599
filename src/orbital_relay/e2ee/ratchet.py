"""The ratchet without libsignal: sender-key chains of the project's own code, deliveries by HPKE."""

from __future__ import annotations

import os
from typing import Final

from orbital_relay.e2ee import chain as chains
from orbital_relay.e2ee.chain import SenderChain, chain_of, skdm_of
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import DeviceAddress, KeyDelivery, Suite, SuiteBits
from orbital_relay.e2ee.formats.sender_key import SenderKeyMessage, read_skdm
from orbital_relay.e2ee.hpke_delivery import open_hpke, publish_hpke, seal_hpke
from orbital_relay.e2ee.ports import KeyBundle, OpenedDelivery, PublishedKeys, Ratchet, Way
from orbital_relay.e2ee.rows import CHAINS, ME, OWN_KEYS, OwnSenderKey
from orbital_relay.e2ee.unit import Unit

CHAIN_BITS: Final = 31


def _own_key(distribution: bytes) -> str:
    return f"own/{distribution.hex()}"


def _chain_key(sender: DeviceAddress, distribution: bytes) -> str:
    return f"{sender.name}/{distribution.hex()}"


class HpkeRatchet:
    """Sender-key chains, and deliveries by suite 16. It keeps nothing itself: all of it is in the store."""

    suites = int(SuiteBits.HPKE)

    def identity(self, unit: Unit) -> SigningKey:
        """Return the device's identity, made on the first call."""
        stored = unit.get(ME, "me")
        if stored is None:
            stored = SigningKey.generate()
            unit.put(ME, "me", stored)
        return stored

    def new_chain(self, unit: Unit, distribution: bytes) -> None:
        """Make a chain of the device's own."""
        signing = SigningKey.generate()
        chain = SenderChain(
            distribution=distribution,
            chain=int.from_bytes(os.urandom(4)) >> 32 - CHAIN_BITS,
            iteration=0,
            chain_key=os.urandom(32),
            signing_key=signing.public_key,
        )
        unit.put(OWN_KEYS, _own_key(distribution), OwnSenderKey(chain, signing))

    def skdm(self, unit: Unit, distribution: bytes) -> bytes:
        """Give an own chain from its present iteration on."""
        return skdm_of(self._own(unit, distribution).chain)

    def encrypt(self, unit: Unit, distribution: bytes, plain: bytes) -> bytes:
        """Return a SenderKeyMessage."""
        own = self._own(unit, distribution)
        message, after = chains.encrypt(own.chain, own.signing, plain)
        unit.put(OWN_KEYS, _own_key(distribution), OwnSenderKey(after, own.signing))
        return message

    def forget(self, unit: Unit, distribution: bytes) -> None:
        """Delete an own chain."""
        unit.delete(OWN_KEYS, _own_key(distribution))

    def learn(self, unit: Unit, sender: DeviceAddress, skdm: bytes) -> None:
        """Keep a chain of another device; a known one stays as it is."""
        read = read_skdm(skdm)
        key = _chain_key(sender, read.distribution)
        if unit.get(CHAINS, key) is None:
            unit.put(CHAINS, key, chain_of(read))

    def decrypt(self, unit: Unit, sender: DeviceAddress, message: SenderKeyMessage) -> bytes:
        """Decrypt a message of another device."""
        key = _chain_key(sender, message.distribution)
        chain = unit.get(CHAINS, key)
        if chain is None:
            raise E2eeError("unknown_chain", "no key of this distribution is here")
        plain, after = chains.decrypt(chain, message)
        unit.put(CHAINS, key, after)
        return plain

    def publish(self, unit: Unit, device: int, now_ms: int, wanted: int) -> PublishedKeys:
        """Make `wanted` new one-time keys, and what offers them; the last resort is renewed when it is due."""
        signer = self.identity(unit)
        last, one_time = publish_hpke(unit, signer, now_ms, wanted)
        return PublishedKeys(
            device=device, identity=signer.public_key, suites=self.suites, hpke_pre_key=last, hpke_pre_keys=one_time
        )

    def claim_suite(self, unit: Unit, to: DeviceAddress, suites: int) -> int | None:  # noqa: ARG002 - HPKE serves every device
        """Return the suite to claim keys of: HPKE has no sessions."""
        return Suite.HPKE

    def renew_session(self, unit: Unit, to: DeviceAddress) -> None:
        """Do nothing: HPKE has no session to break."""

    def seal(self, unit: Unit, way: Way, bundle: KeyBundle | None, pairwise: bytes) -> KeyDelivery:
        """Seal a pairwise message."""
        return seal_hpke(self.identity(unit), way, bundle, pairwise)

    def open(self, unit: Unit, way: Way, delivery: KeyDelivery) -> OpenedDelivery:
        """Open a delivery."""
        if delivery.suite != Suite.HPKE:
            raise E2eeError("unsupported", f"suite {delivery.suite} needs libsignal")
        return open_hpke(unit, way, delivery.sealed)

    def _own(self, unit: Unit, distribution: bytes) -> OwnSenderKey:
        row = unit.get(OWN_KEYS, _own_key(distribution))
        if row is None:
            raise E2eeError("unknown_chain", "this device has no such chain of its own")
        return row


_: type[Ratchet] = HpkeRatchet
