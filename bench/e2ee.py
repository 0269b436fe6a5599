"""
Figures of end-to-end encryption in Python, as a line of JSON with the names of clients/e2ee/scripts/figures.js.

    .venv/bin/python bench/e2ee.py

The time is the processor's, of all threads of this process: other work on the machine is not in it.
`npm run figures` in clients/e2ee compares them with Node's and Chromium's.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orbital_relay.e2ee.chain import SenderChain, decrypt, encrypt, skdm_of
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.crypto.hpke import public_of, seal
from orbital_relay.e2ee.formats.content import Content, ContentKind, write_content
from orbital_relay.e2ee.formats.envelope import Envelope, write_envelope
from orbital_relay.e2ee.formats.sender_key import read_sender_key_message
from orbital_relay.e2ee.safety import safety_number
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.stores.sqlcipher import SqlcipherStore
from orbital_relay.e2ee.texts import uuid_text

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.e2ee import FakeRelay, enter, say

ROUNDS = 200
MEMBERS = 50
TEXT = "A short text of a family."


def timed(start: float) -> float:
    """Return the milliseconds of processor time since `start`, which is of `time.process_time`."""
    return (time.process_time() - start) * 1_000


def each(times: int, work: Callable[[], object]) -> float:
    """Return the milliseconds of processor time that one call takes."""
    start = time.process_time()
    for _ in range(times):
        work()
    return timed(start) / times


def steps(rounds: int) -> dict[str, float]:
    """Measure the steps in memory: milliseconds of each one; `envelope` and `distribution` are bytes of one message."""
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
        body=TEXT.encode(),
        head_seq=4711,
        head_hash=os.urandom(16),
        nonce=os.urandom(16),
    )
    sent, chains = [], {"sending": begin, "reading": begin}

    def one() -> None:
        message, chains["sending"] = encrypt(chains["sending"], signing, write_content(content))
        sent.append(message)

    encryption = each(rounds, one)
    waiting = iter(sent)

    def other() -> None:
        _, chains["reading"] = decrypt(chains["reading"], read_sender_key_message(next(waiting)))

    decryption = each(rounds, other)
    public, info, pairwise = public_of(os.urandom(32)), os.urandom(66), os.urandom(250)
    keys = [signing.public_key], [SigningKey.generate().public_key]
    users = [uuid_text(os.urandom(16)) for _ in keys]
    return {
        "encrypt": encryption,
        "decrypt": decryption,
        "seal": each(max(1, rounds // 10), lambda: seal(public, info, pairwise)),
        "compare": each(3, lambda: safety_number(users[0], keys[0], users[1], keys[1])),
        "envelope": len(write_envelope(Envelope(content=sent[0]))),
        "distribution": len(skdm_of(begin)),
    }


async def grown(relay: FakeRelay, members: int, stores: list[Any]) -> tuple[str, list[Any]]:
    """Make a group of `members` people and one more; the first two have the stores and process everything."""
    devices = [await relay.device(uuid_text(os.urandom(16)), store=store) for store in stores]
    devices += [await relay.device(uuid_text(os.urandom(16))) for _ in range(members + 1 - len(devices))]
    founder, *others = devices
    group = relay.new_group(founder.me.user)
    await founder.found(group)
    await relay.wait_idle(group, [founder])
    for member in others:
        await enter(relay, group, founder, member)
        await relay.deliver(founder, group)
    await relay.wait_idle(group, devices[:2])
    return group, devices


async def in_a_group(members: int, rounds: int, stores: list[Any]) -> dict[str, float]:
    """
    Measure two members of a group: what a text costs, and what a removal costs those that are left.

    Args:
        members: That are left after the removal.
        rounds: Texts.
        stores: Of the two members.

    Returns:
        Milliseconds: `send`, to draft, seal and post one text; `receive`, to process it; `renew`, a new chain for all
        the others with its first text; `removal`, to process the removal, the new keys and that text.
    """
    relay = FakeRelay()
    group, [ada, ben, *others] = await grown(relay, members, stores)
    await say(ada, group, "x")
    await relay.deliver(ben, group)
    start = time.process_time()
    for _ in range(rounds):
        await say(ada, group, TEXT)
    send = timed(start) / rounds
    start = time.process_time()
    await relay.deliver(ben, group)
    receive = timed(start) / rounds
    await relay.wait_idle(group, [ada, ben])
    last = others[-1].me.user
    await ada.revoke(group, last)
    await ada.flush(group)
    relay.leave(group, last)
    await relay.deliver(ada, group)
    start = time.process_time()
    await say(ada, group, TEXT)
    renew = timed(start)
    start = time.process_time()
    await relay.deliver(ben, group)
    return {"send": send, "receive": receive, "renew": renew, "removal": timed(start)}


async def in_files(members: int, rounds: int) -> dict[str, float]:
    """Measure two members with encrypted files."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            SqlcipherStore(Path(folder, "ada.db"), os.urandom(32)) as ada,
            SqlcipherStore(Path(folder, "ben.db"), os.urandom(32)) as ben,
        ):
            return await in_a_group(members, rounds, [ada, ben])


if __name__ == "__main__":
    measured = {
        "steps": steps(5 * ROUNDS),
        "memory": asyncio.run(in_a_group(MEMBERS, ROUNDS, [MemoryStore(), MemoryStore()])),
        "stored": asyncio.run(in_files(MEMBERS, ROUNDS)),
    }
    print(json.dumps(measured))
