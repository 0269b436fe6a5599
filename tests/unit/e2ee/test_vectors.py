"""The committed vectors, offline: libsignal's, those of drafts, and those of the project's own formats."""

import hashlib

import pytest

from orbital_relay.e2ee.chain import chain_of, decrypt, encrypt, skdm_of
from orbital_relay.e2ee.crypto.curve import SigningKey, verify
from orbital_relay.e2ee.crypto.hpke import open_sealed, public_of
from orbital_relay.e2ee.crypto.mac import hkdf, sha256
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import read_content, write_content
from orbital_relay.e2ee.formats.envelope import (
    DeviceAddress,
    delivery_info,
    read_envelope,
    read_pairwise,
    read_signed,
    signed_bytes,
    write_envelope,
    write_pairwise,
)
from orbital_relay.e2ee.formats.link import (
    LinkBody,
    LinkGroup,
    link_number,
    link_point,
    open_link,
    read_link_code,
    seal_link,
)
from orbital_relay.e2ee.formats.records import read_record, write_record
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message, read_skdm, write_skdm
from orbital_relay.e2ee.hpke_delivery import pre_key_bytes
from orbital_relay.e2ee.invite import Invite, founder_hash, read_invite, write_invite
from orbital_relay.e2ee.roster import LoggedRecord, RosterFacts, all_secrets, fold
from orbital_relay.e2ee.safety import matches_scan, safety_number
from orbital_relay.e2ee.texts import uuid_text
from tests.support.e2ee import GROUP, VECTORS, vectors
from tests.support.e2ee_bytes import plain

unhex = bytes.fromhex
NAMES = {
    "chains",
    "contents",
    "deliveries",
    "envelopes",
    "hkdf",
    "identities",
    "invites",
    "links",
    "records",
    "refusals",
    "safety-numbers",
    "signatures",
    "xwing",
}


def test_every_file_has_its_test():
    """[PYVEC1] Every file of vectors has a test here."""
    assert {path.stem for path in VECTORS.iterdir()} == NAMES


def test_chains():
    """[PYVEC2] Chains of libsignal match: distribution messages, keys and every message, out of order."""
    cases = vectors("chains")["cases"]
    for case in cases:
        skdm = read_skdm(unhex(case["skdm"]))
        assert uuid_text(skdm.distribution) == case["distribution"]
        assert (skdm.chain, skdm.iteration, skdm.chain_key.hex()) == (
            case["chain"],
            case["iteration"],
            case["chain_key"],
        )
        assert write_skdm(skdm).hex() == case["skdm"]
        reading = chain_of(skdm)
        for at in case["read_in_order"]:
            sent = case["messages"][at]
            text, reading = decrypt(reading, read_sender_key_message(unhex(sent["message"])))
            assert text.hex() == sent["plain"], f"{case['name']}, message {at}"
        assert skdm_of(reading).hex() == case["after"]["skdm"]
        assert (reading.iteration, reading.chain_key.hex()) == (case["after"]["iteration"], case["after"]["chain_key"])
        sending = chain_of(skdm)
        for sent in case["messages"]:
            # Another signature key, so the bytes before the signature are compared.
            message, sending = encrypt(sending, SigningKey.generate(), unhex(sent["plain"]))
            assert message[:-64].hex() == sent["message"][:-128]
    assert len(cases) == 6


def test_signatures():
    """[PYVEC3] Signatures of libsignal verify; changed ones do not, nor does S + ℓ, which libsignal accepts."""
    cases = vectors("signatures")["cases"]
    for case in cases:
        found = verify(unhex(case["public_key"]), unhex(case["message"]), unhex(case["signature"]))
        assert found is case["valid"], case["name"]
    assert len(cases) == 64
    assert sum(case["libsignal"] and not case["valid"] for case in cases) > 0


def test_safety_numbers():
    """[PYVEC4] Safety numbers equal libsignal's, digits and scannable bytes, and match only the peer's scan."""
    for case in vectors("safety-numbers")["cases"]:
        one, other = case["local"], case["remote"]
        ends = [(end["user"], [unhex(end["identity"])]) for end in (one, other)]
        mine, theirs = safety_number(*ends[0], *ends[1]), safety_number(*ends[1], *ends[0])
        assert (mine.digits, mine.scannable.hex()) == (case["digits"], case["scannable"]), case["name"]
        assert matches_scan(mine.scannable, theirs.scannable)
        assert not matches_scan(mine.scannable, mine.scannable)
        assert mine.spaced.replace("\n", " ").split() == [mine.digits[at : at + 5] for at in range(0, 60, 5)]


def test_hkdf():
    """[PYVEC5] HKDF output equals libsignal's."""
    for case in vectors("hkdf")["cases"]:
        salt = unhex(case["salt"] or "")
        found = hkdf(unhex(case["material"]), salt, case["info"].encode(), case["length"])
        assert found.hex() == case["output"], case["name"]


def test_identities():
    """[PYVEC6] A seed yields its identity key and its signatures."""
    for case in vectors("identities")["cases"]:
        key = SigningKey.of_seed(unhex(case["seed"]))
        assert key.public_key.hex() == case["public_key"], case["name"]
        assert key.sign(unhex(case["message"])).hex() == case["signature"], case["name"]
        assert verify(key.public_key, unhex(case["message"]), unhex(case["signature"]))


def test_contents_and_envelopes():
    """[PYVEC7] Contents, envelopes and pairwise messages are decoded and encoded byte for byte."""
    for case in vectors("contents")["cases"]:
        content = read_content(unhex(case["padded"]))
        assert plain(content) == case["content"], case["name"]
        assert write_content(content).hex() == case["padded"], case["name"]
    found = vectors("envelopes")
    for case in found["envelopes"]:
        envelope = read_envelope(unhex(case["bytes"]))
        assert plain(envelope) == case["envelope"], case["name"]
        assert write_envelope(envelope).hex() == case["bytes"], case["name"]
    for case in found["pairwises"]:
        pairwise = read_pairwise(unhex(case["bytes"]))
        assert plain(pairwise) == case["pairwise"], case["name"]
        assert write_pairwise(pairwise).hex() == case["bytes"], case["name"]


def test_refusals():
    """[PYVEC8] Every refusal has its error code."""
    parsers = {
        "envelope": read_envelope,
        "message": read_sender_key_message,
        "skdm": read_skdm,
        "content": read_content,
        "record": lambda data: read_record(GROUP, data),
    }
    for case in vectors("refusals")["cases"]:
        with pytest.raises(E2eeError) as caught:
            parsers[case["parser"]](unhex(case["bytes"]))
        assert caught.value.code == case["code"], case["name"]


def test_invites():
    """[PYVEC9] Invites are decoded and encoded; other spellings are refused."""
    found = vectors("invites")
    for case in found["cases"]:
        invite = Invite(unhex(case["secret"]), founder_hash(unhex(case["founder_identity"])))
        assert write_invite(invite) == case["text"]
        assert read_invite(case["text"]) == invite
    for text in found["refused"]:
        assert read_invite(text) is None, text


def test_deliveries():
    """[PYVEC10] Deliveries decrypt with their pre-key, and their signatures verify."""
    for case in vectors("deliveries")["cases"]:
        key, sealed, info = case["pre_key"], unhex(case["sealed"]), unhex(case["info"])
        sender, to = DeviceAddress(**case["from"]), DeviceAddress(**case["to"])
        assert delivery_info(case["group"], sender, to) == info
        public = public_of(unhex(key["seed"]))
        assert sha256(public).hex() == key["public_sha256"], case["name"]
        assert verify(unhex(key["owner"]), pre_key_bytes(key["id"], public), unhex(key["signature"])), case["name"]
        assert int.from_bytes(sealed[:4]) == key["id"]
        opened = open_sealed(unhex(key["seed"]), info, sealed[4:])
        assert opened.hex() == case["signed"], case["name"]
        signed = read_signed(opened)
        assert (signed.pairwise.hex(), signed.identity.hex()) == (case["pairwise"], case["identity"])
        assert verify(signed.identity, signed_bytes(info, key["id"], signed.pairwise), signed.signature)


def test_records():
    """[PYVEC11] Records fold into the expected rosters, and each refused record has its reason."""
    found = vectors("records")
    group = found["group"]
    log = [LoggedRecord(one["seq"], one["author"], unhex(one["bytes"])) for one in found["records"]]
    for one, logged in zip(found["records"], log, strict=True):
        record = read_record(group, logged.record)
        assert plain(record.body) == one["body"], one["name"]
        # Another proof, so the bytes before it are compared.
        again = write_record(group, record.body, SigningKey.generate())
        assert again[: logged.record.index(record.proof) - 2] == logged.record[: logged.record.index(record.proof) - 2]
    latest = found["latest_secret"]
    secrets = all_secrets(group, log, {latest["number"]: unhex(latest["secret"])})
    for number, secret in found["earlier_secrets"].items():
        assert secrets[int(number)].hex() == secret
    for case in found["rosters"]:
        facts = RosterFacts(founder=unhex(found["founder"]), secrets=secrets, accepted=frozenset(case["accepted"]))
        roster = plain(fold(group, log, facts))
        del roster["group"]
        assert roster == case["roster"], case["name"]


def test_xwing_keys():
    """[PYVEC12] X-Wing yields the public keys of the draft's vectors; a Node test covers ciphertexts and secrets."""
    for case in vectors("xwing")["cases"]:
        public = public_of(unhex(case["seed"]))
        assert public.hex().startswith(case["public_begins"]), case["name"]
        assert hashlib.sha256(public).hexdigest() == case["public_sha256"], case["name"]


def test_links():
    """[PYVEC13] The code of a new device and the message for it have the committed bytes in both directions."""
    found = vectors("links")
    code, scalar = read_link_code(found["text"]), unhex(found["scalar"])
    assert plain(code) == found["code"]
    assert code.text == found["text"]
    assert link_point(scalar) == code.point
    for case in found["cases"]:
        fields, sealed = case["body"], unhex(case["sealed"])
        groups = [
            LinkGroup(
                group=one["group"],
                founder=unhex(one["founder"]),
                secret=unhex(one["secret"]),
                secret_number=one["secretNumber"],
            )
            for one in fields["groups"]
        ]
        body = LinkBody(
            user=fields["user"],
            device=fields["device"],
            identity=unhex(fields["identity"]),
            groups=groups,
            verified=fields["verified"],
        )
        assert open_link(code, scalar, sealed) == body
        signer = SigningKey.of_seed(unhex(case["signing_seed"]))
        assert seal_link(code, body, signer, unhex(case["ephemeral_scalar"])) == sealed
        assert link_number(code, sealed) == case["number"]
