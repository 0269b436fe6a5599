"""Stores: one contract, what an encrypted file must not show, and processes that are killed."""

import asyncio
import base64
import os
import random
import sys
from collections import Counter

import msgspec
import pytest

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.ports import PublishedKeys, Wanted
from orbital_relay.e2ee.rows import COUNTERS, ME
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.stores.sqlcipher import SqlcipherStore
from orbital_relay.e2ee.unit import Unit, Write, ordered
from tests.support.e2ee import ADA, BEN, FakeRelay, RelayPort, codes, message, new_family, say, texts
from tests.support.programs import CHECKOUT

KILLS = 55
SEED = 20_261_126


class Memory:
    """A store in memory, opened again from its snapshot."""

    def __init__(self, folder):
        self.snapshot = {}

    def open(self):
        self.store = MemoryStore(self.snapshot)
        return self.store

    async def close(self):
        await self.store.close()
        self.snapshot = self.store.snapshot()


class File:
    """An encrypted file."""

    def __init__(self, folder):
        self.path, self.key = folder / "contract.db", os.urandom(32)

    def open(self):
        self.store = SqlcipherStore(self.path, self.key)
        return self.store

    async def close(self):
        await self.store.close()


@pytest.fixture(params=[Memory, File])
def kept(request, tmp_path):
    """A store that can be opened again."""
    return request.param(tmp_path)


async def test_contract(kept):
    """[PYSAFE1] Every store lists keys in order, separates tables, and keeps what was committed."""
    store = kept.open()

    def work():
        store.commit([Write("meta", "b", b"1"), Write("items", "b", b"2")], durable=True)
        assert (store.get("meta", "b"), store.get("items", "b"), store.get("meta", "a")) == (b"1", b"2", None)
        keys = ["a/2", "a/1", "a/10", "b/1", "a", "a/é", "a/\U0010fffe"]
        store.commit([Write("heads", key, key.encode()) for key in keys], durable=False)
        assert [key for key, _ in store.scan("heads", "a/")] == ["a/1", "a/10", "a/2", "a/é", "a/\U0010fffe"]
        assert [key for key, _ in store.scan("heads", "a/", 2)] == ["a/1", "a/10"]
        assert len(store.scan("heads", "")) == len(keys)
        store.commit(
            [Write("heads", "a/1", None), Write("heads", "gone", None), Write("heads", "a/2", b"")], durable=True
        )
        assert store.scan("heads", "a/", 2) == [("a/10", b"a/10"), ("a/2", b"")]

    await store.run(work)
    await kept.close()
    store = kept.open()
    assert await store.run(lambda: store.get("items", "b")) == b"2"
    await kept.close()


async def test_one_after_the_other(kept):
    """[PYSAFE2] Units of work run one at a time, also after one that failed and one whose caller was cancelled."""
    store, order = kept.open(), []

    def failing():
        order.append("failing")
        raise ZeroDivisionError

    first = asyncio.create_task(store.run(lambda: order.append("first")))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(ZeroDivisionError):
        await store.run(failing)
    await asyncio.gather(*(store.run(lambda number=number: order.append(number)) for number in range(5)))
    assert order == ["first", "failing", 0, 1, 2, 3, 4]
    await kept.close()


async def test_failed_commit(tmp_path):
    """[PYSAFE6] A commit that fails writes nothing."""
    async with SqlcipherStore(tmp_path / "a.db", os.urandom(32)) as store:

        def work():
            with pytest.raises(Exception, match="no_such_table"):
                store.commit([Write("meta", "a", b"1"), Write("no_such_table", "a", b"1")], durable=True)
            assert store.get("meta", "a") is None
            store.commit([Write("meta", "a", b"1")], durable=False)

        await store.run(work)


async def test_unit():
    """[PYSAFE5] A unit of work reads its own writes, in order, and does not change the store before its commit."""
    store = MemoryStore()
    unit = Unit(store)
    for number in (2, 10):
        unit.put(COUNTERS, ordered(number), number)
    store.commit(unit.writes(), durable=True)
    unit = Unit(store)
    unit.put(COUNTERS, ordered(3), 3)
    unit.delete(COUNTERS, ordered(10))
    fork = unit.fork()
    fork.put(COUNTERS, ordered(1), 1)
    fork.delete(COUNTERS, ordered(3))
    assert [value for _, value in fork.scan(COUNTERS)] == [1, 2]
    assert [value for _, value in unit.scan(COUNTERS)] == [2, 3]
    assert [value for _, value in fork.scan(COUNTERS, limit=1)] == [1]
    unit.merge(fork)
    assert (unit.get(COUNTERS, ordered(3)), unit.written(COUNTERS)) == (None, [1])
    assert [value for _, value in Unit(store).scan(COUNTERS)] == [2, 10]


def content_of(folder):
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


async def test_no_plaintext(tmp_path):
    """[PYSAFE3] An encrypted file has no plaintext and no private key; it opens with its key, for one process."""
    path, key = tmp_path / "ada.db", os.urandom(32)
    relay = FakeRelay()
    store = SqlcipherStore(path, key)
    ada, ben = await relay.device(ADA, store=store), await relay.device(BEN)
    group = await new_family(relay, [ada, ben])
    await ada.draft(group, "new_message", message("a canary in the outbox"))
    await say(ben, group, "the canary sings")
    await relay.deliver(ada, group)
    me = await store.run(lambda: Unit(store).get(ME, "me"))
    secrets = [b"canary", b"SQLite format", b"sender_keys", ADA.encode(), group.encode(), me.seed]
    secrets += [base64.b64encode(me.seed), me.edwards]
    for _ in range(2):
        content = content_of(tmp_path)
        assert len(content) > 4096
        assert not [secret for secret in secrets if secret in content]
        await store.close()
    with pytest.raises(E2eeError) as caught:
        SqlcipherStore(path, os.urandom(32))
    assert caught.value.code == "locked"
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        SqlcipherStore(path, bytes(31))
    plain = tmp_path / "plain.db"
    plain.write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(E2eeError, match="does not open"):
        SqlcipherStore(plain, key)

    async with SqlcipherStore(path, key) as store:
        with pytest.raises(E2eeError, match="in use by another process"):
            SqlcipherStore(path, key)
        again = await relay.device(ADA, store=store, publish=False)
        assert await texts(again, group) == ["the canary sings"]
        assert await again.pending(group) == 1


async def test_both_in_one_group(tmp_path):
    """[PYSAFE7] Two members with encrypted files read each other's messages, also after reopening the files."""
    relay, keys = FakeRelay(), {user: os.urandom(32) for user in (ADA, BEN)}

    def open_store(user):
        return SqlcipherStore(tmp_path / f"{user}.db", keys[user])

    ada, ben = [await relay.device(user, store=open_store(user)) for user in keys]
    group = await new_family(relay, [ada, ben])
    await say(ada, group, "before")
    await relay.wait_idle(group)
    for member in (ada, ben):
        await relay.store_of(member).close()
    again = [await relay.device(user, store=open_store(user), publish=False) for user in keys]
    relay.members = again
    await say(again[1], group, "after")
    await relay.wait_idle(group)
    for member in again:
        assert await texts(member, group) == ["before", "after"]
        assert await codes(member, group) == []
        await relay.store_of(member).close()


# Kills


class Parent:
    """The relay of a member in a process of its own, which it kills."""

    def __init__(self, relay, group, member):
        self.relay, self.group, self.member = relay, group, member
        self.port = RelayPort(relay, ADA, 1)
        self.random = random.Random(SEED)
        self.drafted, self.next, self.kills, self.moments = [], 0, 0, Counter()
        self.done = None

    async def answer(self, asked):
        match asked.pop("ask"):
            case "post":
                return await self.port.post(asked.pop("group"), asked.pop("kind"), asked.pop("body"), **asked)
            case "claim":
                return await self.port.claim(asked["group"], msgspec.convert(asked["devices"], list[Wanted]))
            case "put_keys":
                return await self.port.put_keys(msgspec.convert(asked["keys"], PublishedKeys))
            case "log":
                return self.relay.groups[asked["group"]].log[asked["after"] :]
            case "next":
                if self.kills == KILLS:
                    return None
                self.next += 1
                if self.random.random() < 0.3:
                    await say(self.member, self.group, f"Ben {self.next}")
                return f"Ada {self.next}"
            case "drafted":
                self.drafted.append(asked["text"])
            case "done":
                self.done = asked
        return None

    async def run(self, arguments):
        """Run the process until it is killed, at a seeded question: before, after, or amid what follows the answer."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.e2ee_process",
            *arguments,
            cwd=CHECKOUT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        left = self.random.randrange(2, 30) if self.kills < KILLS else None
        while line := await child.stdout.readline():
            asked = msgspec.json.decode(line)
            moment = self.random.choice(["before", "after", "amid"]) if left == 0 else None
            what = asked["ask"]
            if moment == "before":
                break
            try:
                answer = {"is": await self.answer(asked)}
            except E2eeError as exc:
                answer = {"code": exc.code, "details": exc.details}
            if moment == "after":
                break
            child.stdin.write(msgspec.json.encode(answer) + b"\n")
            if moment == "amid":
                break
            left = None if left is None else left - 1
        if self.done is None:
            self.moments[what, moment] += 1
            self.kills += 1
            child.kill()
        await child.wait()


async def test_killed(tmp_path):
    """[PYSAFE4] After 55 SIGKILLs each message was read once, none is undecryptable, and every draft is sent."""
    path, key = tmp_path / "ada.db", os.urandom(32)
    relay = FakeRelay()
    ben = await relay.device(BEN)
    group = await new_family(relay, [ben])
    relay.join(group, ADA)
    await relay.deliver(ben, group)
    parent = Parent(relay, group, ben)
    invite, _ = await ben.invite(group)
    while parent.done is None:
        await parent.run([str(path), key.hex(), ADA, group, invite])
        await relay.deliver(ben, group)
        await ben.flush(group)
    assert parent.kills == KILLS
    assert len(parent.moments) > 5, parent.moments
    read = [text for text in await texts(ben, group) if text.startswith("Ada")]
    assert Counter(read).most_common(1)[0][1] == 1
    assert set(parent.drafted) <= set(read)
    assert not [text for text in await texts(ben, group) if text.startswith("[")]
    assert await codes(ben, group) == []
    shown = [text for _, status, text in parent.done["items"] if status == "read"]
    statuses = {status for seq, status, _ in parent.done["items"]}
    assert shown == [text for text in await texts(ben, group) if text in set(shown)]
    assert set(parent.drafted) <= set(shown)
    assert len(set(shown)) == len(shown)
    assert statuses == {"read"}
    assert (parent.done["codes"], parent.done["pending"]) == ([], 0)
    assert b"Ada 1" not in content_of(tmp_path)
