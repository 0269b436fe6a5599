"""The Python package of end-to-end encryption beside the JavaScript one, byte for byte, in a Node process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from orbital_relay.e2ee.annotation_fold import fold_annotations
from orbital_relay.e2ee.annotation_kinds import (
    AnnotationKind,
    Edit,
    Pinning,
    Poll,
    Reaction,
    SeenMark,
    Vote,
    write_annotation,
)
from orbital_relay.e2ee.chain import SenderChain, chain_of, decrypt, encrypt, skdm_of
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.crypto.hpke import open_sealed, public_of, seal
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import ContentKind
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message, read_skdm
from orbital_relay.e2ee.media import MediaInfo, open_file, seal_file
from orbital_relay.e2ee.rows import Item, Part
from orbital_relay.e2ee.safety import safety_number
from tests.support import programs
from tests.support.e2ee import ADA, BEN, CLEO, GROUP, vectors
from tests.support.e2ee_bytes import HOSTILE, PARSERS, plain
from tests.support.programs import CHECKOUT

MEDIA = "22222222-2222-4333-8444-555555555555"
PACKAGE = CHECKOUT / "clients" / "e2ee"


def hexed(value: Any) -> Any:
    """Write bytes as the Node process reads them."""
    match value:
        case bytes():
            return {"$": value.hex()}
        case dict():
            return {name: hexed(one) for name, one in value.items()}
        case list():
            return [hexed(one) for one in value]
    return value


class Node:
    """The JavaScript package in a process."""

    def __init__(self, program: str) -> None:
        script = CHECKOUT / "tests" / "clients" / "e2ee_beside.mjs"
        self.process = subprocess.Popen(
            [program, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def answer(self, what: str, **about: Any) -> dict[str, Any]:
        """Ask, and return the answer as it came."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": what, **hexed(about)}) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def ask(self, what: str, **about: Any) -> Any:
        """Ask, and return what is."""

        def bytes_of(value: dict[str, Any]) -> Any:
            return bytes.fromhex(value["$"]) if "$" in value else value

        return json.loads(json.dumps(self.answer(what, **about)["is"]), object_hook=bytes_of)

    def close(self) -> int:
        """End the process, and return its status."""
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """The JavaScript package; it has to end well."""
    programs.node_package(PACKAGE, "@noble/hashes")
    beside = Node(programs.node())
    yield beside
    assert beside.close() == 0


def test_xwing(node: Node) -> None:
    """[PYNODE1] X-Wing's ciphertexts and secrets in Node equal the draft's, and Python decapsulates them."""
    for case in vectors("xwing")["cases"]:
        seed, coins = bytes.fromhex(case["seed"]), bytes.fromhex(case["coins"])
        found = node.ask("encapsulate", seed=seed, coins=coins)
        assert hashlib.sha256(found["enc"]).hexdigest() == case["enc_sha256"]
        expanded, enc = hashlib.shake_256(seed).digest(96), found["enc"]
        shared = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(enc[:1088])
        mine = X25519PrivateKey.from_private_bytes(expanded[64:])
        agreed = mine.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        whole = shared + agreed + enc[1088:] + mine.public_key().public_bytes_raw() + b"\\.//^\\"
        assert hashlib.sha3_256(whole).hexdigest() == case["secret"] == found["secret"].hex() == found["again"].hex()


def test_hpke(node: Node) -> None:
    """[PYNODE2] Each side decrypts what the other encrypts with HPKE, at any length."""
    for length in (0, 1, 250, 100_000):
        seed, info, text = os.urandom(32), os.urandom(66), os.urandom(length)
        assert open_sealed(seed, info, node.ask("seal", key=public_of(seed), info=info, plain=text)["sealed"]) == text
        assert node.ask("open", seed=seed, info=info, sealed=seal(public_of(seed), info, text))["plain"] == text
    changed = seal(public_of(seed), info, text)[:-1] + b"\0"
    assert node.answer("open", seed=seed, info=info, sealed=changed) == {"code": "cannot_open"}


def test_chains(node: Node) -> None:
    """[PYNODE3] Each side decrypts the other's chain messages out of order, and both chains end in the same state."""
    plains = [os.urandom(length) for length in (0, 15, 16, 159, 319, 5_000)]
    order = [3, 0, 5, 1, 4, 2]
    made = node.ask("write", plains=plains, distribution=os.urandom(16), key=os.urandom(32))
    reading = chain_of(read_skdm(made["skdm"]))
    for at in order:
        text, reading = decrypt(reading, read_sender_key_message(made["messages"][at]))
        assert text == plains[at]
    signing = SigningKey.generate()
    sending = SenderChain(
        distribution=os.urandom(16), chain=7, iteration=0, chain_key=os.urandom(32), signing_key=signing.public_key
    )
    skdm, messages = skdm_of(sending), []
    for text in plains:
        message, sending = encrypt(sending, signing, text)
        messages.append(message)
    found = node.ask("read", skdm=skdm, messages=[messages[at] for at in order])
    assert found["plains"] == [plains[at] for at in order]
    assert found["after"] == skdm_of(sending)


@pytest.mark.parametrize("size", [0, 5, 1024 * 1024, 1024 * 1024 + 1])
def test_files(node: Node, size: int) -> None:
    """[PYNODE4] Each side decrypts a file that the other encrypted."""
    data, sealed, opened = os.urandom(size), io.BytesIO(), io.BytesIO()
    theirs = node.ask("seal_file", media=MEDIA, data=data)
    info = MediaInfo(key=theirs["key"], sha256=theirs["sha256"], type="", name="")
    open_file(MEDIA, info, io.BytesIO(theirs["sealed"]), opened)
    assert opened.getvalue() == data
    key, digest = seal_file(MEDIA, io.BytesIO(data), sealed)
    found = node.ask("open_file", media=MEDIA, key=key, sha256=digest, sealed=sealed.getvalue())
    assert found["data"] == data


def test_safety_numbers(node: Node) -> None:
    """[PYNODE5] Both sides compute the same safety number for users with several devices."""
    ada, ben = [[SigningKey.generate().public_key for _ in range(3)] for _ in range(2)]
    mine = safety_number(ADA, ada, BEN, ben)
    theirs = node.ask("safety", local={"user": ADA, "identities": ada}, remote={"user": BEN, "identities": ben})
    assert (theirs["digits"], theirs["scannable"]) == (mine.digits, mine.scannable)


@pytest.mark.parametrize("name", [name for name in PARSERS if name != "scan"])
def test_parsers(node: Node, name: str) -> None:
    """[PYNODE6] Fuzzed: both parsers decode the same values from any byte string, or refuse it with the same code."""

    @settings(max_examples=150, deadline=None)
    @given(data=HOSTILE)
    def same(data: bytes) -> None:
        theirs = node.answer("parse", parser=name, data=data)
        try:
            mine = {"is": plain(PARSERS[name](data))}
        except E2eeError as exc:
            mine = {"code": exc.code}
        assert mine == _bare(theirs)

    same()


POLLS = st.sampled_from([bytes(16), bytes([1]) * 16])
NOTES: st.SearchStrategy[AnnotationKind] = st.one_of(
    st.builds(Reaction, st.sampled_from("xy"), st.booleans()),
    st.builds(Edit, st.sampled_from("pq"), st.sampled_from([None, "t"])),
    st.builds(Pinning, st.booleans()),
    st.builds(SeenMark, st.integers(0, 9)),
    st.builds(Poll, POLLS, st.just("?"), st.just(("a", "b", "c")), st.booleans()),
    st.builds(Vote, POLLS, st.lists(st.integers(0, 3), max_size=3).map(tuple)),
)
"""Annotations of few values, so that they meet."""
PEOPLE = st.sampled_from([ADA, BEN, CLEO])
TARGETS = st.sampled_from([MEDIA, MEDIA.replace("2", "3"), MEDIA.replace("2", "4")])


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, str, str, str, bytes]:
    """An item's author, type, target and status, and its body."""
    named = draw(st.sampled_from(["thread_id", "reply_id", "media_id", *["target_id"] * 5]))
    body = write_annotation(draw(NOTES)) if named == "target_id" else b"x"
    return draw(PEOPLE), named, draw(TARGETS), draw(st.sampled_from(["read", "read", "read", "waiting"])), body


TYPES = {
    "thread_id": "new_thread",
    "reply_id": "new_reply",
    "media_id": "media_uploaded",
    "target_id": "new_annotation",
}


@settings(max_examples=300, deadline=None)
@given(log=st.lists(entries(), max_size=40))
def test_annotations(node: Node, log: list[tuple[str, str, str, Any, bytes]]) -> None:
    """[SEALNOTE16] Fuzzed: both sides come to the same edits, reactions, pins, positions and polls."""
    mine, theirs = [], []
    for seq, (author, named, target, status, body) in enumerate(log, 1):
        about = {"group": GROUP, "seq": seq, "hash": "", "type": TYPES[named], "status": status, "author": author}
        part = Part(ContentKind.ANNOTATION, body, seq)
        mine.append(Item(**about, data=json.dumps({named: target}).encode(), parts=(part,)))
        shown = {"kind": int(part.kind), "body": body, "at": seq}
        theirs.append({**about, "data": {named: target}, "parts": [shown]})
    expected = []
    for target, found in fold_annotations(mine).items():
        fields = msgspec.to_builtins(found)
        for poll in fields["polls"].values():
            poll["votes"] = [[user, list(votes)] for user, votes in poll["votes"].items()]
        for name in ("reactions", "seen", "polls"):
            fields[name] = [list(pair) for pair in fields[name].items()]
        if fields["edit"] is not None and fields["edit"]["title"] is None:
            del fields["edit"]["title"]
        expected.append([target, fields])
    assert json.loads(json.dumps(node.ask("fold", items=theirs))) == json.loads(json.dumps(expected))


def _bare(value: Any) -> Any:
    """Bytes as hexadecimal text."""
    if isinstance(value, dict):
        return value["$"] if set(value) == {"$"} else {name: _bare(one) for name, one in value.items()}
    return [_bare(one) for one in value] if isinstance(value, list) else value
