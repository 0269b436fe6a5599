"""Keys, signatures, chains, HPKE and files."""

import io
import os

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orbital_relay.e2ee import chain as chains
from orbital_relay.e2ee.chain import MAX_AHEAD, MAX_SKIPPED, SenderChain, chain_of, decrypt, encrypt, skdm_of
from orbital_relay.e2ee.crypto.curve import LOW_ORDER, ORDER, P, SigningKey, check_public_key, verify
from orbital_relay.e2ee.crypto.hpke import ENC_BYTES, PUBLIC_BYTES, open_sealed, public_of, seal
from orbital_relay.e2ee.crypto.mac import sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message, read_skdm
from orbital_relay.e2ee.media import PIECE_BYTES, MediaInfo, open_file, seal_file
from orbital_relay.e2ee.safety import safety_number
from tests.support.e2ee import ADA, BEN


def refused(code, call, *arguments):
    """Expect a refusal with this code."""
    with pytest.raises(E2eeError) as caught:
        call(*arguments)
    assert caught.value.code == code


def new_chain():
    """Make a chain and the key that signs its messages."""
    signing = SigningKey.generate()
    chain = SenderChain(
        distribution=os.urandom(16),
        chain=1,
        iteration=0,
        chain_key=os.urandom(32),
        signing_key=signing.public_key,
    )
    return chain, signing


def sent(chain, signing, count):
    """Encrypt numbers, and parse the messages."""
    messages = []
    for number in range(count):
        message, chain = encrypt(chain, signing, b"%d" % number)
        messages.append(read_sender_key_message(message))
    return messages


# Signatures


def test_signing():
    """[PYCRY1] An Ed25519 key signs as its Curve25519 key: the signature carries the sign bit of the point."""
    signs = set()
    for _ in range(16):
        key = SigningKey.generate()
        signature = key.sign(b"text")
        signs.add(key.edwards[31] >> 7)
        assert signature[63] >> 7 == key.edwards[31] >> 7
        assert verify(key.public_key, b"text", signature)
        assert not verify(key.public_key, b"texT", signature)
        assert not verify(SigningKey.generate().public_key, b"text", signature)
        plain = signature[:63] + bytes([signature[63] & 0x7F])
        Ed25519PublicKey.from_public_bytes(key.edwards).verify(plain, b"text")
    assert signs == {0, 1}
    assert key.seed.hex() not in repr(key)


def test_a_signature_with_a_large_s():
    """[PYCRY2] A signature with S ≥ ℓ or with a wrong length is refused."""
    key = SigningKey.generate()
    signature = key.sign(b"text")
    top, s = signature[63] & 0x80, int.from_bytes(signature[32:63] + bytes([signature[63] & 0x7F]), "little")
    raised = bytearray(signature[:32] + (s + ORDER).to_bytes(32, "little"))
    raised[63] |= top
    for bad in (bytes(raised), signature[:63], signature + b"\0", b""):
        assert not verify(key.public_key, b"text", bad)


def test_public_keys():
    """[PYCRY3] A public key of low order, non-canonical encoding, wrong type or wrong length is refused everywhere."""
    good = SigningKey.generate().public_key
    assert check_public_key(good) < P
    bad = [good[1:], b"\6" + good[1:], good + b"\0", b"", b"\5" + P.to_bytes(32, "little"), b"\5" + b"\xff" * 32]
    bad += [b"\5" + u.to_bytes(32, "little") for u in LOW_ORDER]
    for key in bad:
        refused("bad_key", check_public_key, key)
        assert not verify(key, b"text", SigningKey.generate().sign(b"text"))
        chain, _ = new_chain()
        if len(key) == 33:
            skdm = msgspec.structs.replace(read_skdm(skdm_of(chain)), signing_key=key)
            refused("bad_key", chain_of, skdm)


# HPKE


def test_hpke():
    """[PYCRY4] A delivery decrypts only with its key, info and bytes."""
    seed = os.urandom(32)
    sealed = seal(public_of(seed), b"info", b"text")
    assert len(sealed) == ENC_BYTES + 4 + 16
    assert open_sealed(seed, b"info", sealed) == b"text"
    refused("cannot_open", open_sealed, os.urandom(32), b"info", sealed)
    refused("cannot_open", open_sealed, seed, b"inf", sealed)
    for at in (0, ENC_BYTES - 1, ENC_BYTES, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        refused("cannot_open", open_sealed, seed, b"info", bytes(changed))
    refused("malformed", open_sealed, seed, b"info", sealed[:100])
    refused("cannot_open", open_sealed, seed, b"info", sealed[:ENC_BYTES])
    refused("cannot_open", open_sealed, seed, b"info", sealed[: ENC_BYTES - 32] + bytes(32) + sealed[ENC_BYTES:])


def test_hpke_public_keys():
    """[PYCRY5] A key of wrong length, an ML-KEM key above its modulus, and a point of low order are refused."""
    good = public_of(os.urandom(32))
    for bad in (good[1:], b"\xff" * PUBLIC_BYTES, good[:-32] + bytes(32), good[:-32] + b"\1" + bytes(31)):
        refused("bad_key", seal, bad, b"info", b"text")


# Chains


def test_any_order():
    """[PYCRY6] Messages of a chain decrypt in any order, each once."""
    chain, signing = new_chain()
    messages = sent(chain, signing, 5)
    reading = chain_of(read_skdm(skdm_of(chain)))
    for at in (2, 0, 4, 1, 3):
        text, reading = decrypt(reading, messages[at])
        assert text == b"%d" % at
    for message in messages:
        refused("repeated", decrypt, reading, message)
    assert reading.skipped == ()


def test_messages_far_ahead(monkeypatch):
    """[PYCRY7] A message more than 2,000 ahead is refused before any key is derived; 2,000 skipped keys are kept."""
    chain, signing = new_chain()
    ahead = msgspec.structs.replace(chain, iteration=MAX_AHEAD)
    for _ in range(MAX_AHEAD):
        ahead = msgspec.structs.replace(ahead, chain_key=chains._step(ahead.chain_key)[1])
    last = read_sender_key_message(encrypt(ahead, signing, b"last")[0])
    text, after = decrypt(chain, last)
    assert text == b"last"
    assert [after.skipped[0][0], after.skipped[-1][0], len(after.skipped)] == [0, MAX_AHEAD - 1, MAX_SKIPPED]
    further = read_sender_key_message(encrypt(msgspec.structs.replace(after, skipped=()), signing, b"x")[0])
    _, more = decrypt(after, further)
    assert more.skipped == after.skipped
    farthest = msgspec.structs.replace(ahead, iteration=MAX_AHEAD + 1)
    beyond = read_sender_key_message(encrypt(farthest, signing, b"x")[0])
    monkeypatch.setattr(chains, "_step", None)
    monkeypatch.setattr(chains, "verify", None)
    refused("too_far_ahead", decrypt, chain, beyond)


def test_the_oldest_skipped_key_is_evicted():
    """[PYCRY12] Above 2,000 skipped keys the oldest are deleted."""
    chain, signing = new_chain()
    messages = sent(chain, signing, MAX_SKIPPED + 3)
    _, after = decrypt(chain, messages[MAX_SKIPPED])
    _, after = decrypt(after, messages[MAX_SKIPPED + 2])
    assert len(after.skipped) == MAX_SKIPPED
    refused("repeated", decrypt, after, messages[0])
    assert decrypt(after, messages[1])[0] == b"1"


def test_forged_messages():
    """[PYCRY8] A changed message, or one of another signer or chain, is refused, and the chain is unchanged."""
    chain, signing = new_chain()
    raw, _ = encrypt(chain, signing, b"text")
    message = read_sender_key_message(raw)
    before = msgspec.msgpack.encode(chain)
    for at in (30, 60, len(raw) - 70, len(raw) - 1):
        changed = bytearray(raw)
        changed[at] ^= 1
        try:
            forged = read_sender_key_message(bytes(changed))
        except E2eeError:
            continue
        with pytest.raises(E2eeError) as caught:
            decrypt(chain, forged)
        assert caught.value.code in {"bad_signature", "unknown_chain", "too_far_ahead"}
    refused("bad_signature", decrypt, chain, read_sender_key_message(encrypt(chain, SigningKey.generate(), b"x")[0]))
    refused("unknown_chain", decrypt, msgspec.structs.replace(chain, chain=2), message)
    body = raw[:-64]
    no_padding = body[:-16] + bytes(16)
    refused("cannot_open", decrypt, chain, read_sender_key_message(no_padding + signing.sign(no_padding)))
    assert msgspec.msgpack.encode(chain) == before
    assert chain.chain_key.hex() not in repr(chain)


# Safety numbers


def test_safety_numbers():
    """[PYCRY9] Two users see the same 60 digits, in any order of their devices; a changed key changes the digits."""
    ada, ben = [[SigningKey.generate().public_key for _ in range(2)] for _ in range(2)]
    mine, theirs = safety_number(ADA, ada, BEN, ben), safety_number(BEN, ben[::-1], ADA, ada[::-1])
    assert mine.digits == theirs.digits
    assert len(mine.digits) == 60
    assert len(mine.scannable) == 74
    assert safety_number(ADA, ada, BEN, ben[:1]).digits != mine.digits
    with pytest.raises(ValueError, match="no device"):
        safety_number(ADA, [], BEN, ben)


# Files

MEDIA = "22222222-2222-4333-8444-555555555555"


def sealed_file(data):
    """Seal a file, and return what opens it."""
    target = io.BytesIO()
    key, digest = seal_file(MEDIA, io.BytesIO(data), target)
    return MediaInfo(key=key, sha256=digest, type="", name=""), target.getvalue()


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_files(size):
    """[PYCRY10] A file of any size decrypts with its own key, complete and in order."""
    data = os.urandom(size)
    info, sealed = sealed_file(data)
    assert len(sealed) == 1 + size + 28 * max(1, -(-size // PIECE_BYTES))
    opened = io.BytesIO()
    open_file(MEDIA, info, io.BytesIO(sealed), opened)
    assert opened.getvalue() == data


def test_changed_files():
    """[PYCRY11] A swapped, truncated or reordered file, or one with another id or version, does not decrypt."""
    info, sealed = sealed_file(os.urandom(2 * PIECE_BYTES + 5))
    piece = PIECE_BYTES + 28
    swapped = sealed[:1] + sealed[1 + piece : 1 + 2 * piece] + sealed[1 : 1 + piece] + sealed[1 + 2 * piece :]

    def opens(data, digest=None, media=MEDIA):
        named = msgspec.structs.replace(info, sha256=digest or sha256(data))
        open_file(media, named, io.BytesIO(data), io.BytesIO())

    refused("cannot_open", opens, sealed, bytes(32))
    for changed in (swapped, sealed[: 1 + 2 * piece], sealed[: 1 + piece], sealed[:-1], sealed[:1]):
        refused("cannot_open", opens, changed)
    refused("cannot_open", opens, sealed, None, ADA)
    refused("unsupported", opens, b"\1" + sealed[1:])
    refused("unsupported", opens, b"")
