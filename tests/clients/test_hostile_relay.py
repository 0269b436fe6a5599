"""A proxy before the real server lies to the JavaScript and to the Python client, by the same seeded script."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import pytest

from orbital_relay.client import connect
from orbital_relay.core.backoff import Backoff
from orbital_relay.e2ee import CipherClient, ContentKind, E2eeError, GroupCipher, MemoryStore, NewPart, Reaction
from orbital_relay.e2ee.crypto.curve import SigningKey
from orbital_relay.e2ee.member import GroupDevice, now_ms
from orbital_relay.e2ee.requests import WITHHELD_MS
from orbital_relay.e2ee.stores.memory import Snapshot
from orbital_relay.e2ee.texts import to_base64
from tests.support import programs
from tests.support.client import Group, Person
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.server import Server

HERE: Final = CHECKOUT / "tests" / "clients"
SOAK_LIES: Final = 1_000
LIES: Final = 76
SEED: Final = int(os.environ.get("ORBITAL_SEED", "20261127"))
GHOST: Final = "dddddddd-0000-4000-8000-00000000000d"
TRUTH: Final = {"first", "second", *(f"reply {number}" for number in range(4))}
FAST: Final = Backoff(steps_ms=(20,), jitter_ms=20, attempts=1_000_000, window_ms=1_000)
KINDS: Final = 19
"""Kinds of lies: each comes once before any comes again."""
DEADLINE_S: Final = 90


@pytest.mark.soak
def test_a_thousand_lies() -> None:
    """[HOSTILE2] Each of 1,000 seeded lies by a proxy is detected by CipherClient; honest answers cause no warning."""
    folder = CHECKOUT / "clients" / "e2ee"
    programs.node_package(folder, "@noble/hashes")
    command = [programs.node(), "--test", "--test-timeout=900000", "test/hostile.test.js"]
    env = {**os.environ, "ORBITAL_LIES": str(SOAK_LIES)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=1_000)

    assert (done.returncode, f"each of {SOAK_LIES} seeded lies" in done.stdout.lower()) == (0, True), done.stdout


# The same script before the Python client


class Writer:
    """A member with both groups open."""

    def __init__(self, person: Person, client: CipherClient, groups: list[GroupCipher]) -> None:
        self.user, self.client, self.device, self.groups = person.user_id, client, client.device, groups

    async def read(self, number: int, text: str) -> None:
        """Wait until this member has a text in a group."""
        group = self.groups[number].group_id

        async def there() -> bool:
            return any(item.text == text for item in await self.device.items(group))

        await eventually(there, what=f"{text} is read", deadline_s=DEADLINE_S)

    async def at(self) -> int:
        """Return the number of the last event that was processed in the first group."""
        return (await self.device.group(self.groups[0].group_id)).position.seq


@asynccontextmanager
async def writer(person: Person, groups: list[Group], invites: list[str | None]) -> AsyncIterator[Writer]:
    """Open a member; without an invite it founds the group."""
    async with AsyncExitStack() as stack:
        orbital = await stack.enter_async_context(connect(person.url, token=person.token, backoff=FAST))
        client = await stack.enter_async_context(CipherClient(orbital, MemoryStore()))
        opened = []
        for group, invite in zip(groups, invites, strict=True):
            if invite is None:
                await client.found(group.id)
            opened.append(await stack.enter_async_context(client.group(group.id, invite=invite)))
        yield Writer(person, client, opened)


class Victim:
    """The person who is lied to, and the store in which each lie begins."""

    def __init__(self, person: Person, group: str, store: Snapshot) -> None:
        self.person, self.group, self.store = person, group, store


async def in_step(writers: list[Writer]) -> None:
    """Wait until all have processed the same events."""

    async def same() -> bool:
        return len({await each.at() for each in writers}) == 1

    await eventually(same, what="all have processed the same events", deadline_s=DEADLINE_S)


async def new_world(people: list[Person]) -> tuple[Victim, dict[str, Any]]:
    """
    Make a family of three with two groups, and let each of the first two speak.

    The third has not read the replies; the first two have, so that their heads say so.

    Returns:
        The third, and the world of proxy-lies.js.
    """
    ada, ben, cleo = people
    groups = [await ada.make_group() for _ in range(2)]
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(writer(ada, groups, [None, None]))]
        cleos = await stack.enter_async_context(AsyncExitStack())
        for person in (ben, cleo):
            for group in groups:
                await person.join(group)
            invites: list[str | None] = [(await writers[0].device.invite(group.id))[0] for group in groups]
            where = cleos if person is cleo else stack
            writers.append(await where.enter_async_context(writer(person, groups, invites)))
            for group, each in ((group, each) for group in groups for each in writers):

                async def admitted(group: Group = group, device: GroupDevice = each.device) -> bool:
                    return len((await device.roster(group.id)).devices) == len(writers)

                await eventually(admitted, what="the roster has the person", deadline_s=DEADLINE_S)
        for number, by, text in ((1, 0, "from the other group"), (0, 0, "first"), (0, 1, "second")):
            await writers[by].groups[number].send(text)
            for each in writers:
                await each.read(number, text)
        thread = (await ada.open_thread(groups[0]))["thread_id"]
        await in_step(writers)
        await cleos.aclose()
        victim = writers.pop()
        store = victim.client._store
        assert isinstance(store, MemoryStore)
        known = await victim.at()
        for number in range(4):
            await writers[number % 2].groups[0].reply(thread, f"reply {number}")
            for each in writers:
                await each.read(0, f"reply {number}")
            await in_step(writers)
        await writers[1].groups[0].annotate(thread, thread, Reaction("x"))

        async def annotated() -> bool:
            return (await writers[0].device.items(groups[0].id))[-1].type == "new_annotation"

        await eventually(annotated, what="the annotation is read", deadline_s=DEADLINE_S)
    async with connect(ada.url, token=ada.token) as orbital:
        frames = [
            [event.frame.decode() async for event in orbital.api.iter_events(group.id, after_seq=0)] for group in groups
        ]
    world = {
        "group": groups[0].id,
        "texts": frames[0],
        "elsewhere": frames[1],
        "others": [ada.user_id, ben.user_id],
        "known": known,
        "stranger": to_base64(SigningKey.generate().public_key),
    }
    return Victim(cleo, groups[0].id, store.snapshot()), world


async def post(device: GroupDevice, group: str, text: str) -> None:
    """Draft a message and send it."""
    part = NewPart(field="encrypted_envelope", kind=ContentKind.MESSAGE, body=text.encode())
    await device.draft(group, "new_message", [part], {"timestamp": 1})
    await device.flush(group)


async def act(device: GroupDevice, group: str, lie: dict[str, Any]) -> None:
    """Do what a client does when the lie is about answers."""
    match lie.get("act"):
        case "check_directory":
            await device.check_directory(group)
        case "renew_and_post":
            await device.renew_keys(group)
            await post(device, group, "under no key")
        case "revoke":
            await device.revoke(group, lie["user"], removed=True)
            device._cx = msgspec.structs.replace(device._cx, now=lambda: now_ms() + 2 * WITHHELD_MS)
            device.caught_up(group)
            await device.tick(group)
        case "post":
            await post(device, group, "swallowed")
            device.caught_up(group)
            await device.tick(group)
        case other:
            assert other is None, other


async def read_all(cipher: GroupCipher) -> None:
    """Read messages until reading ends."""
    async with asyncio.timeout(DEADLINE_S):
        async for item in cipher.messages():
            assert item.text in TRUTH


async def check(victim: Victim, url: str, lie: dict[str, Any]) -> None:
    """Face one lie: it is detected, and what is shown is what members said, each text once."""
    group, name = victim.group, lie["name"]
    where = f"seed {SEED}, lie {lie['round']}: {name}"
    async with (
        connect(url, token=victim.person.token, backoff=FAST) as orbital,
        CipherClient(orbital, MemoryStore(victim.store)) as client,
        client.group(group) as cipher,
    ):
        device = client.device

        async def codes() -> set[str]:
            return {one.code for one in await device.warnings(group)}

        if name == "rollback":
            with pytest.raises(E2eeError) as ended:
                await read_all(cipher)
            assert ended.value.code == "out_of_order", where
        else:

            async def at_the_end() -> bool:
                return (await device.group(group)).position.seq >= lie["length"]

            await eventually(at_the_end, what=f"{where}: the log is read", deadline_s=DEADLINE_S)
            await act(device, group, lie)
        if wanted := set(lie["wanted"]):

            async def seen() -> bool:
                return bool(wanted & await codes())

            await eventually(seen, what=f"{where}: {wanted}", deadline_s=DEADLINE_S)
        found = await codes()
        if name == "ghost_member":
            assert await device.strangers(group) == [GHOST], where
        if name == "honest":
            assert found == set(), where
        items = await device.items(group)
        shown = [
            one.text
            for one in items
            if one.type != "new_annotation" and one.status == "read" and one.author != device.me.user
        ]
        assert (set(shown) <= TRUTH, len(set(shown))) == (True, len(shown)), f"{where}: shown {shown}"
        if "two_histories" in found:
            with pytest.raises(E2eeError) as stopped:
                await post(device, group, "x")
            assert stopped.value.code == "stopped", where


async def face(server: Server, lies: int) -> Counter[str]:
    """Face `lies` lies, and return how many of each kind there were."""
    programs.node_package(CHECKOUT / "clients" / "e2ee", "@noble/hashes")
    programs.node_package(CHECKOUT / "clients" / "javascript", "ws")
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(await Person.sign_up(server.url)) for _ in range(3)]
        victim, world = await new_world(people)
        proxy = Program([programs.node(), str(HERE / "hostile_relay.mjs")], stdin=True)
        stack.callback(proxy.kill)
        proxy.say(json.dumps({"port": urlsplit(server.url).port, "seed": SEED, **world}))
        listening = await asyncio.to_thread(proxy.wait_for, "^listening (.*)", deadline_s=DEADLINE_S)
        for number in range(lies):
            proxy.say("next")
            line = await asyncio.to_thread(proxy.wait_for, rf"^lie {number} (.*)", deadline_s=DEADLINE_S, after=number)
            lie = json.loads(line[1])
            counts[lie["name"]] += 1
            await check(victim, listening[1], lie)
    return counts


async def test_lies_to_python(shared: Server) -> None:
    """[HOSTILE3] Each of 76 seeded lies is detected by the Python CipherClient, and none is shown as a message."""
    counts = await face(shared, LIES)

    assert (len(counts), counts.total()) == (KINDS, LIES)


@pytest.mark.soak
async def test_a_thousand_lies_to_python(shared: Server) -> None:
    """[HOSTILE4] Each of 1,000 seeded lies by a proxy is detected by the Python CipherClient."""
    counts = await face(shared, SOAK_LIES)

    assert (len(counts), counts.total()) == (KINDS, SOAK_LIES)
