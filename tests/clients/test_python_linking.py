"""A Python device and a JavaScript device of one person link each other on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from orbital_relay.client import connect
from orbital_relay.e2ee import CipherClient, DeviceLink, GroupCipher, MemoryStore, SdkMailboxes
from tests.support import programs
from tests.support.client import Group, Person
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.server import Server

SCRIPT = CHECKOUT / "tests" / "clients" / "link_device.mjs"
DEADLINE_S = 120.0


class Device:
    """A Python device with what links it."""

    def __init__(self, client: CipherClient, link: DeviceLink) -> None:
        self.client, self.link = client, link

    async def sees(self, group: Group, count: int) -> None:
        """Wait until the roster has so many devices."""

        async def listed() -> bool:
            return len((await self.client.device.roster(group.id)).devices) == count

        await eventually(listed, what=f"the roster has {count} devices", deadline_s=DEADLINE_S)


@asynccontextmanager
async def device(person: Person) -> AsyncIterator[Device]:
    """Open a new Python device of a person."""
    async with AsyncExitStack() as stack:
        orbital = await stack.enter_async_context(connect(person.url, token=person.token))
        client = await stack.enter_async_context(CipherClient(orbital, MemoryStore()))
        yield Device(client, DeviceLink(client.device, SdkMailboxes(orbital)))


def node(role: str, person: Person, group: Group, *more: str) -> Program:
    """Start a JavaScript device of a person."""
    programs.node_package(CHECKOUT / "clients" / "e2ee", "@noble/hashes")
    arguments = [role, person.url, person.token, person.user_id, group.id, *more]
    return Program([programs.node(), str(SCRIPT), *arguments], stdin=True)


async def said(program: Program, pattern: str) -> str:
    """Return the rest of the line that begins so."""
    found = await asyncio.to_thread(program.wait_for, f"^{pattern} ?(.*)", deadline_s=DEADLINE_S)
    return str(found[1])


async def converse(cipher: GroupCipher, program: Program) -> None:
    """Each device reads what the other one says."""
    await cipher.send("from Python")
    assert await said(program, "read") == "from Python"
    async with asyncio.timeout(DEADLINE_S):
        received = await anext(cipher.messages())
    assert received.text == "Node received: from Python"
    program.end_input()
    assert await asyncio.to_thread(program.wait) == 0, program.text


async def test_python_links_node(shared: Server) -> None:
    """[PYLINKNODE1] A Python device links a JavaScript device by its code, and each reads the other."""
    async with await Person.sign_up(shared.url) as ada, device(ada) as phone:
        group = await ada.make_group()
        await phone.client.found(group.id)
        async with phone.client.group(group.id) as cipher:
            await phone.sees(group, 1)
            tablet = node("newer", ada, group)
            sent = await phone.link.admit(await said(tablet, "code"))
            assert await said(tablet, "number") == sent.number
            await phone.sees(group, 2)
            await said(tablet, "both")
            await converse(cipher, tablet)
            assert await phone.client.device.warnings(group.id) == []


async def test_node_links_python(shared: Server) -> None:
    """[PYLINKNODE2] A JavaScript device links a Python device by its code, and each reads the other."""
    async with await Person.sign_up(shared.url) as ada, device(ada) as tablet:
        group = await ada.make_group()
        code = (await tablet.link.offer()).code.text
        phone = node("older", ada, group, code)
        received = await tablet.link.receive()
        assert await said(phone, "number") == received.number
        assert await tablet.link.accept() == received.groups == [group.id]
        async with tablet.client.group(group.id) as cipher:
            await tablet.sees(group, 2)
            await said(phone, "both")
            await converse(cipher, phone)
            assert await tablet.client.device.warnings(group.id) == []
