"""The formats, byte for byte, and what their parsers refuse."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import Content, ContentKind, read_content, write_content
from orbital_relay.e2ee.formats.envelope import (
    DeviceAddress,
    Envelope,
    History,
    KeyDelivery,
    Keys,
    Pairwise,
    Request,
    Signed,
    delivery_info,
    read_envelope,
    read_pairwise,
    read_signed,
    write_envelope,
    write_pairwise,
    write_signed,
)
from orbital_relay.e2ee.formats.protobuf import MAX_REPEATED, MAX_SAFE, Field, decode, encode
from orbital_relay.e2ee.formats.records import Knock, Policy, read_record, write_record
from orbital_relay.e2ee.formats.schemas import RECORD
from orbital_relay.e2ee.formats.sender_key import (
    SenderKeyMessage,
    Skdm,
    read_sender_key_message,
    read_skdm,
    sender_key_body,
    write_skdm,
)
from orbital_relay.e2ee.invite import Invite, read_invite, write_invite
from orbital_relay.e2ee.media import MediaInfo, read_media_info, write_media_info
from orbital_relay.e2ee.texts import from_base64, to_base64, to_base64url, uuid_bytes, uuid_text
from tests.support.e2ee import ADA, BEN, GROUP
from tests.support.e2ee_bytes import HOSTILE, PARSERS

SCHEMA = {
    1: Field(name="number", type="uint"),
    2: Field(name="text", type="bytes", length=2),
    3: Field(name="many", type="uint", repeated=True),
}
unhex = bytes.fromhex


def refused(code, parse, data):
    """Expect a refusal with this code."""
    with pytest.raises(E2eeError) as caught:
        parse(data)
    assert caught.value.code == code


def test_writing():
    """[PYFMT1] A message is encoded in the order of its fields, with numbers in their shortest form."""
    written = encode(SCHEMA, {"text": b"ab", "number": 300, "many": [0, 127, 128]})
    assert written.hex() == "08ac0212026162" + "1800187f188001"
    assert encode(SCHEMA, {}) == b""
    for wrong in ({"text": b"abc"}, {"number": -1}, {"number": 1.5}, {"number": 2**32}, {"number": True}):
        with pytest.raises(ValueError):
            encode(SCHEMA, wrong)


def test_reading():
    """[PYFMT2] Unknown fields are skipped; a duplicate single field keeps the last value, a repeated field all."""
    unknown = "2001" + "290102030405060708" + "3201ff" + "3d01020304"
    assert decode(SCHEMA, unhex("0801" + unknown + "0802" + "1801" + "1802")) == {"number": 2, "many": [1, 2]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("0880", id="a truncated number"),
        pytest.param("08", id="a missing number"),
        pytest.param("120361", id="a truncated byte string"),
        pytest.param("088100", id="a number not in its shortest form"),
        pytest.param("088080808010", id="a number above its bound"),
        pytest.param("08ffffffffffffffffff01", id="a number of nine bytes"),
        pytest.param("08ffffffffffffff7f", id="a number above 2^53"),
        pytest.param("0001", id="field number 0"),
        pytest.param("2301", id="a group"),
        pytest.param("2601", id="wire type 6"),
        pytest.param("0a0161", id="a known field of another wire type"),
        pytest.param("120161", id="a byte string of another length"),
        pytest.param("1801" * (MAX_REPEATED + 1), id="more values than may be"),
    ],
)
def test_malformed(data):
    """[PYFMT3] Truncated, overlong or out-of-range input, a wrong wire type or length, or a group is malformed."""
    refused("malformed", lambda one: decode(SCHEMA, one), unhex(data))


def test_most_values():
    """[PYFMT16] The maximum number of values is accepted, and a missing required field is malformed."""
    assert len(decode(SCHEMA, unhex("1801" * MAX_REPEATED))["many"]) == MAX_REPEATED
    refused("malformed", read_envelope, unhex("02" + "1200"))


def test_envelope():
    """[PYFMT4] An envelope begins with its version and contains content, keys or a request; others are refused."""
    keys = Envelope(keys=Keys(1, 2**40, [KeyDelivery(BEN, 127, 16, b"\t" * 3)]))
    assert write_envelope(Envelope(content=b"x")).hex() == "020a0178"
    assert read_envelope(write_envelope(keys)) == keys
    request = Envelope(request=Request(3, b"\7" * 16))
    assert read_envelope(write_envelope(request)) == request
    assert write_envelope(keys).hex() == (
        "0212260801108080808080201a1b0a10bbbbbbbb00004000800000000000000b107f18102203090909"
    )
    for first in (b"", b"\0", b"\1", b"\3", b"\xff"):
        refused("unsupported", read_envelope, first)


def test_pairwise():
    """[PYFMT5] Pairwise, history and signature round-trip; the info binds group, sender and receiver."""
    whole = Pairwise(
        group=GROUP,
        skdm=b"\1" * 96,
        epoch=7,
        head_seq=9,
        head_hash=b"\2" * 16,
        history=[History(user=ADA, device=2, skdm=b"\3" * 4, proof=b"\4" * 5, proof_key_id=11)],
        secret=b"\5" * 16,
        secret_number=1,
        shareable=True,
    )
    bare = Pairwise(group=GROUP, epoch=0)
    for pairwise in (whole, bare):
        assert read_pairwise(write_pairwise(pairwise)) == pairwise
    signed = Signed(pairwise=write_pairwise(bare), identity=b"\5" * 33, signature=b"\6" * 64)
    assert read_signed(write_signed(signed)) == signed
    info = delivery_info(GROUP, DeviceAddress(ADA, 1), DeviceAddress(BEN, 2))
    assert info.hex() == b"orbital/2 keys\0".hex() + f"{GROUP}{ADA}01{BEN}02".replace("-", "")


def test_sender_key_message():
    """[PYFMT6] A SenderKeyMessage of a short text has the layout of the contract: an envelope of 258 bytes."""
    body = sender_key_body(b"\1" * 16, 2**31 - 1, 0, b"\3" * 160)
    assert body.hex() == "33" + "0a10" + "01" * 16 + "10ffffffff07" + "1800" + "22a001" + "03" * 160
    message = body + b"\4" * 64
    envelope = write_envelope(Envelope(content=message))
    assert len(envelope) == 258
    assert envelope[:5].hex() == "020afe0133"
    assert read_sender_key_message(message) == SenderKeyMessage(
        distribution=b"\1" * 16,
        chain=2**31 - 1,
        iteration=0,
        ciphertext=b"\3" * 160,
        signed=body,
        signature=b"\4" * 64,
    )
    for broken in (message[:60], sender_key_body(b"\1" * 16, 1, 0, b"\3" * 15) + b"\4" * 64, body[:19] + b"\4" * 64):
        refused("malformed", read_sender_key_message, broken)
    refused("malformed", read_sender_key_message, sender_key_body(b"\1" * 16, 1, 0, b"") + b"\4" * 64)
    refused("unsupported", read_sender_key_message, b"\x32" + message[1:])


def test_skdm():
    """[PYFMT7] An SKDM distributes a chain from a given iteration on."""
    skdm = Skdm(distribution=b"\1" * 16, chain=5, iteration=300, chain_key=b"\2" * 32, signing_key=b"\3" * 33)
    written = write_skdm(skdm)
    assert written.hex() == "33" + "0a10" + "01" * 16 + "1005" + "18ac02" + "2220" + "02" * 32 + "2a21" + "03" * 33
    assert read_skdm(written) == skdm
    refused("malformed", read_skdm, written[:90])
    refused("unsupported", read_skdm, b"\x44")


def test_padding():
    """[PYFMT8] Content is padded to 160·n - 1 bytes, which hides the length of short texts; else it is malformed."""

    def written(length):
        content = Content(
            kind=ContentKind.REPLY,
            group=GROUP,
            context=b"\1" * 16,
            at=1_700_000_000_000,
            body=bytes(length),
            head_seq=4,
            head_hash=b"\2" * 16,
            nonce=b"\3" * 16,
        )
        padded = write_content(content)
        assert read_content(padded) == content
        return padded

    for length in (0, 1, 30, 31, 32, 33, 34, 200, 5000):
        assert (len(written(length)) + 1) % 160 == 0
    assert len(written(5)) == len(written(30)) == 159
    for broken in (written(5)[1:], bytes(159), b"\1" * 159, b""):
        refused("malformed", read_content, broken)


def test_invites():
    """[PYFMT9] An invite is 43 characters that encode one secret and one founder; anything else is refused."""
    invite = Invite(b"\xab" * 16, b"\xcd" * 16)
    text = write_invite(invite)
    assert len(text) == 43
    assert read_invite(text) == read_invite(f" {text[:20]}\n{text[20:]} ") == invite
    for bad in ("", text[1:], text + "A", text[:-1] + "=", text[:42] + "1", text.replace("q", "+"), text + "\n\u0661"):
        assert read_invite(bad) is None, bad
    assert invite.secret.hex() not in repr(invite)


def test_texts():
    """[PYFMT10] Base64 and UUIDs are accepted in canonical form only."""
    for length in (0, 1, 2, 3, 100, 70_000):
        data = b"\xfb" * length
        assert from_base64(to_base64(data)) == from_base64(to_base64url(data)) == data
    for bad in ("a", "ab*d", "ab=c", "a b=", "abcd\n"):
        with pytest.raises(ValueError):
            from_base64(bad)
    assert uuid_text(uuid_bytes(GROUP)) == GROUP
    for bad in ("", GROUP.upper(), GROUP + "0", GROUP + "\n"):
        with pytest.raises(ValueError):
            uuid_bytes(bad)


def test_media_info():
    """[PYFMT13] A media info round-trips; a name that is not UTF-8 is malformed."""
    info = MediaInfo(key=b"\1" * 32, sha256=b"\2" * 32, type="image/png", name="sea é.png")
    assert read_media_info(write_media_info(info)) == info
    refused("malformed", read_media_info, write_media_info(info).replace("é".encode(), b"\xff\xff"))
    assert info.key.hex() not in repr(info)


def test_records():
    """[PYFMT14] A record has exactly one kind and a proof of that kind's length; omitted fields have defaults."""
    knock = Knock(user=BEN, device=1, identity=b"\5" * 33, suites=2)
    written = write_record(GROUP, knock, bytes(16))
    assert len(written) == 93
    assert read_record(GROUP, written).body == knock
    refused("malformed", lambda one: read_record(GROUP, one), written[:59] + unhex("7a0100"))
    found = encode(RECORD, {"found": b"\1", "knock": b"\1", "proof": bytes(64)})
    refused("malformed", lambda one: read_record(GROUP, one), found)
    refused("unsupported", lambda one: read_record(GROUP, one), encode(RECORD, {"proof": bytes(64)}))
    bare = encode(RECORD, {"policy": unhex("1801"), "proof": bytes(64)})
    assert read_record(GROUP, bare).body == Policy(history=0, rotation_days=7, by_device=1)


# Fuzzed


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=400, deadline=None)
@given(data=HOSTILE)
def test_any_bytes(name, data):
    """[PYFMT11] Fuzzed: every parser returns a value or raises E2eeError for every byte string."""
    try:
        PARSERS[name](data)
        code = "malformed"
    except E2eeError as exc:
        code = exc.code
    assert code in {"malformed", "unsupported"}


ids = st.binary(min_size=16, max_size=16)
users = ids.map(uuid_text)
devices = st.integers(1, 127)
safe = st.integers(0, MAX_SAFE)
deliveries = st.builds(KeyDelivery, users, devices, st.sampled_from([1, 2, 16]), st.binary(max_size=300))
envelopes = st.one_of(
    st.builds(Envelope, content=st.binary(max_size=300)),
    st.builds(Envelope, keys=st.builds(Keys, devices, safe, st.lists(deliveries, max_size=5))),
    st.builds(Envelope, request=st.builds(Request, devices, ids)),
)
contents = st.builds(
    Content,
    kind=st.integers(0, 9),
    group=users,
    context=ids,
    at=safe,
    body=st.binary(max_size=300),
    head_seq=st.none() | safe,
    head_hash=st.none() | ids,
    nonce=ids,
)


@settings(max_examples=300, deadline=None)
@given(envelope=envelopes, content=contents)
def test_round_trip(envelope, content):
    """[PYFMT12] Fuzzed: encoded values decode to equal values, for any field values."""
    assert read_envelope(write_envelope(envelope)) == envelope
    assert read_content(write_content(content)) == content


@settings(max_examples=300, deadline=None)
@given(data=HOSTILE)
def test_canonical(data):
    """[PYFMT15] Fuzzed: a decoded value that is encoded again decodes to an equal value."""
    try:
        envelope = read_envelope(data)
    except E2eeError:
        envelope = read_envelope(write_envelope(Envelope(content=data or os.urandom(1))))
    assert read_envelope(write_envelope(envelope)) == envelope
