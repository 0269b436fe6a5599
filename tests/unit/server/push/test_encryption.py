"""The encryption of push messages."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orbital_relay.model import PushTarget
from orbital_relay.server.push.encryption import MESSAGE_BYTES, PAYLOAD_BYTES, seal
from tests.support.push import Device, b64url, unb64url

# RFC 8291, section 5 and appendix A.
PLAIN = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
SEALED = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7"
    "A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def _key(scalar: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(unb64url(scalar)), ec.SECP256R1())


def _target(device: Device) -> PushTarget:
    return PushTarget("https://push.example.org/x", device.p256dh, device.auth)


def test_the_example_of_the_standard():
    """[PUSH1] A message is encrypted as RFC 8291 §5 shows, byte for byte."""
    target = PushTarget("", unb64url(P256DH), unb64url(AUTH))

    sealed = seal(PLAIN, target, key=_key(SENDER), salt=unb64url(SALT), padded_bytes=1)

    assert b64url(sealed) == SEALED


def test_the_device_of_the_tests_reads_the_example_of_the_standard():
    """[PUSH1] The tests' own device, which shares no code with the server, decrypts the example of RFC 8291 §5."""
    assert Device(_key(RECEIVER), unb64url(AUTH)).open(unb64url(SEALED)) == PLAIN


@pytest.mark.parametrize("size", [1, 400, 511, 512, 2000, PAYLOAD_BYTES])
def test_sizes(size: int):
    """[PUSH1] A payload of any size is decrypted; a message has at most 4,096 bytes, in steps of 512."""
    device = Device()

    sealed = seal(b"x" * size, _target(device))

    assert device.open(sealed) == b"x" * size
    assert len(sealed) <= MESSAGE_BYTES
    assert (len(sealed) - 86 - 16) % 512 == 0 or len(sealed) == MESSAGE_BYTES


def test_two_messages_share_nothing():
    """[PUSH1] Each message has its own key pair and salt."""
    target = _target(Device())

    first, second = seal(b"same", target), seal(b"same", target)

    assert first[:16] != second[:16]
    assert first[21:86] != second[21:86]
    assert first[86:] != second[86:]


def test_a_payload_that_is_too_large_is_refused():
    """[PUSH1] A payload over the limit raises ValueError: a push service would refuse the message."""
    with pytest.raises(ValueError, match="larger than 3993"):
        seal(b"x" * (PAYLOAD_BYTES + 1), _target(Device()))
