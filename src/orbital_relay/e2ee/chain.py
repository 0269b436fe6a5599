"""
Sender keys: the ratchet of message keys, and a message's encryption, as libsignal has them.

The order of reading is: the signature first, then the key, then AES-CBC. AES-CBC without a MAC is safe only so.
"""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.e2ee.crypto.curve import SigningKey, check_public_key, verify
from orbital_relay.e2ee.crypto.mac import cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.sender_key import SenderKeyMessage, Skdm, sender_key_body, write_skdm

MAX_AHEAD: Final = 2000
"""A message further ahead of the last one read is refused before any key is derived."""
MAX_SKIPPED: Final = 2000
"""Message keys that are kept for messages that were passed over."""
SALT: Final = bytes(32)
INFO: Final = b"WhisperGroup"


class SenderChain(msgspec.Struct, frozen=True, kw_only=True):
    """
    A chain as it stands.

    Attributes:
        distribution: 16 bytes.
        chain: 31 bits.
        iteration: Of the next message.
        chain_key: Of the next message, 32 bytes.
        signing_key: 33 bytes.
        skipped: Iteration and seed of messages that were passed over, oldest first.
    """

    distribution: bytes
    chain: int
    iteration: int
    chain_key: bytes
    signing_key: bytes
    skipped: tuple[tuple[int, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"SenderChain({self.distribution.hex()}, iteration {self.iteration})"


def _step(chain_key: bytes) -> tuple[bytes, bytes]:
    """Return the seed of this iteration's message key, and the next chain key."""
    return hmac_sha256(chain_key, b"\x01"), hmac_sha256(chain_key, b"\x02")


def _message_key(seed: bytes) -> tuple[bytes, bytes]:
    """Return key and IV."""
    derived = hkdf(seed, SALT, INFO, 48)
    return derived[16:], derived[:16]


def chain_of(skdm: Skdm) -> SenderChain:
    """
    Begin a chain with a distribution message.

    Raises:
        E2eeError: `bad_key`.
    """
    check_public_key(skdm.signing_key)
    return SenderChain(**msgspec.structs.asdict(skdm))


def skdm_of(chain: SenderChain) -> bytes:
    """Return the SKDM that gives the chain from its present iteration on."""
    fields = msgspec.structs.asdict(chain)
    del fields["skipped"]
    return write_skdm(Skdm(**fields))


def encrypt(chain: SenderChain, signing: SigningKey, plain: bytes) -> tuple[bytes, SenderChain]:
    """
    Encrypt the chain's next message.

    Returns:
        The message, and the chain as it stands after it; the caller stores it before it posts.
    """
    seed, following = _step(chain.chain_key)
    body = sender_key_body(chain.distribution, chain.chain, chain.iteration, cbc_encrypt(*_message_key(seed), plain))
    after = msgspec.structs.replace(chain, iteration=chain.iteration + 1, chain_key=following)
    return body + signing.sign(body), after


def decrypt(chain: SenderChain, message: SenderKeyMessage) -> tuple[bytes, SenderChain]:
    """
    Decrypt a message.

    Returns:
        The plaintext, and the chain as it stands after the message; the given one is unchanged.

    Raises:
        E2eeError: `unknown_chain`, `too_far_ahead`, `bad_signature`, `repeated` (used, or older than what is kept),
            `cannot_open`.
    """
    at = message.iteration
    if message.chain != chain.chain:
        raise E2eeError("unknown_chain", f"chain {message.chain} of this distribution is unknown")
    if at - chain.iteration > MAX_AHEAD:
        raise E2eeError("too_far_ahead", f"iteration {at} is more than {MAX_AHEAD} ahead of {chain.iteration}")
    if not verify(chain.signing_key, message.signed, message.signature):
        raise E2eeError("bad_signature", "the message is not signed by its chain")
    if at < chain.iteration:
        seed = next((one for iteration, one in chain.skipped if iteration == at), None)
        if seed is None:
            raise E2eeError("repeated", f"iteration {at} was used already")
        after = msgspec.structs.replace(chain, skipped=tuple(one for one in chain.skipped if one[0] != at))
    else:
        passed = []
        chain_key = chain.chain_key
        for iteration in range(chain.iteration, at):
            skipped, chain_key = _step(chain_key)
            passed.append((iteration, skipped))
        seed, chain_key = _step(chain_key)
        kept = (*chain.skipped, *passed)[-MAX_SKIPPED:] if passed else chain.skipped
        after = msgspec.structs.replace(chain, iteration=at + 1, chain_key=chain_key, skipped=kept)
    return cbc_decrypt(*_message_key(seed), message.ciphertext), after
