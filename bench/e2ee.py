"""
Figures of end-to-end encryption in Python: operations a second, and bytes a message.

    .venv/bin/python bench/e2ee.py

The time is the processor's, of all threads of this process: what else the machine does is not in it.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from orbital_relay.e2ee.chain import SenderChain, decrypt, encrypt, skdm_of
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.crypto.hpke import open_sealed, public_of, seal
from orbital_relay.e2ee.formats.content import Content, ContentKind, write_content
from orbital_relay.e2ee.formats.envelope import Envelope, write_envelope
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message
from orbital_relay.e2ee.safety import safety_number
from orbital_relay.e2ee.stores.sqlcipher import SqlcipherStore
from orbital_relay.e2ee.texts import uuid_text

ROUNDS = 1_000
MEMBERS = 50


def each(times: int, work: Callable[[], object]) -> float:
    """Return the milliseconds of processor time that one call takes."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1_000


def show(what: str, ms: float) -> None:
    """Print one figure."""
    print(f"{what:<58} {ms:8.2f} ms {1_000 / ms:8,.0f} /s")


def in_memory(rounds: int) -> None:
    """Measure the cryptography alone."""
    signing = SigningKey.generate()
    begin = SenderChain(
        distribution=os.urandom(16),
        chain=2**31 - 1,
        iteration=0,
        chain_key=os.urandom(32),
        signing_key=signing.public_key,
    )
    content = Content(
        kind=ContentKind.MESSAGE,
        group=uuid_text(os.urandom(16)),
        context=os.urandom(16),
        at=1_800_000_000_000,
        body=b"A short text of a family.",
        head_seq=4711,
        head_hash=os.urandom(16),
        nonce=os.urandom(16),
    )
    sent, chains = [], {"sending": begin, "reading": begin}

    def one() -> None:
        message, chains["sending"] = encrypt(chains["sending"], signing, write_content(content))
        sent.append(message)

    show("encrypt a short text", each(rounds, one))
    waiting = iter(sent)

    def other() -> None:
        _, chains["reading"] = decrypt(chains["reading"], read_sender_key_message(next(waiting)))

    show("decrypt it", each(rounds, other))
    seed, info, pairwise = os.urandom(32), os.urandom(66), os.urandom(250)
    public = public_of(seed)
    sealing = each(max(1, rounds // 10), lambda: seal(public, info, pairwise))
    sealed = seal(public, info, pairwise)
    show("seal keys for one device (X-Wing)", sealing)
    show("open them", each(max(1, rounds // 10), lambda: open_sealed(seed, info, sealed)))
    show(f"seal keys for {MEMBERS - 1} devices, after a removal", (MEMBERS - 1) * sealing)
    keys = [signing.public_key], [SigningKey.generate().public_key]
    users = [uuid_text(os.urandom(16)) for _ in keys]
    show("a safety number", each(3, lambda: safety_number(users[0], keys[0], users[1], keys[1])))
    print(f"{len(write_envelope(Envelope(content=sent[0])))} bytes: the envelope of a short text")
    print(f"{len(skdm_of(begin))} bytes: a distribution message; {len(sealed)} bytes: 250 bytes, sealed")


async def in_a_group(rounds: int) -> None:
    """Measure members with encrypted files, on a relay in memory."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.e2ee import FakeRelay, message, new_family

    relay = FakeRelay()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            SqlcipherStore(Path(folder, "ada.db"), os.urandom(32)) as ada_store,
            SqlcipherStore(Path(folder, "ben.db"), os.urandom(32)) as ben_store,
        ):
            users = [uuid_text(os.urandom(16)) for _ in range(MEMBERS + 1)]
            ada = await relay.device(users[0], store=ada_store)
            ben = await relay.device(users[1], store=ben_store)
            others = [await relay.device(user) for user in users[2:]]
            group = await new_family(relay, [ada, ben, *others])
            await ada.draft(group, "new_message", message("x"))
            await ada.flush(group)
            await relay.deliver(ben, group)
            start = time.process_time()
            for _ in range(rounds):
                await ada.draft(group, "new_message", message("A short text of a family."))
            await ada.flush(group)
            show(
                "draft, seal and post a short text, in the encrypted file",
                (time.process_time() - start) / rounds * 1_000,
            )
            start = time.process_time()
            await relay.deliver(ben, group)
            reading = (time.process_time() - start) / rounds * 1_000
            show("take it in, in the encrypted file", reading)
            await relay.wait_idle(group)
            await ada.revoke(group, users[-1])
            await ada.flush(group)
            relay.leave(group, users[-1])
            await relay.deliver(ada, group)
            await ada.draft(group, "new_message", message("without"))
            start = time.process_time()
            await ada.flush(group)
            show(f"a new chain for {MEMBERS - 1} devices and the first text", (time.process_time() - start) * 1_000)
            start = time.process_time()
            await relay.deliver(ben, group)
            show("take in removal, keys and text", (time.process_time() - start) * 1_000)


if __name__ == "__main__":
    in_memory(ROUNDS)
    asyncio.run(in_a_group(ROUNDS // 5))
