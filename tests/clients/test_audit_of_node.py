"""Audit files of the JavaScript client, verified in Python, beside the file of a Python device in the same group."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orbital_relay.client import connect
from orbital_relay.e2ee import CipherClient, MemoryStore, check_audit, read_invite
from orbital_relay.e2ee.errors import E2eeError
from tests.support import programs
from tests.support.client import Person
from tests.support.process import Program, eventually
from tests.support.programs import CHECKOUT
from tests.support.server import Server

Exported = tuple[bytes, bytes, str]


@pytest.fixture
async def exported(shared: Server, tmp_path: Path) -> AsyncIterator[Exported]:
    """The files of a Node device and of a Python device about one group, and the invite."""
    programs.node_package(CHECKOUT / "clients" / "e2ee", "@noble/hashes")
    file = tmp_path / "node.audit"
    async with AsyncExitStack() as stack:
        ada, nina = [await stack.enter_async_context(await Person.sign_up(shared.url)) for _ in range(2)]
        group = await ada.make_group()
        await nina.join(group)
        orbital = await stack.enter_async_context(connect(ada.url, token=ada.token))
        client = await stack.enter_async_context(CipherClient(orbital, MemoryStore(), keep_frames=True))
        await client.found(group.id)
        at_adas = await stack.enter_async_context(client.group(group.id))
        invite, _ = await client.device.invite(group.id)
        arguments = [ada.url, nina.token, nina.user_id, group.id, invite, str(file)]
        script = CHECKOUT / "tests" / "clients" / "e2ee_member.mjs"
        member = Program([programs.node(), str(script), *arguments], stdin=True)
        stack.callback(member.kill)

        async def admitted() -> bool:
            return any(one.user == nina.user_id for one in (await client.device.roster(group.id)).devices)

        await eventually(admitted, what="the roster has the Node device")
        messages = at_adas.messages()
        async with asyncio.timeout(60):
            for text in ("the canary sings ✓", "two"):
                await at_adas.send(text)
                assert (await anext(messages)).text == f"Node received: {text}"
        await at_adas.send("export")
        await asyncio.to_thread(member.wait_for, "exported")

        async def read() -> bool:
            return not await client.device.pending(group.id)

        await eventually(read, what="the Python device has the last event, too")
        yield file.read_bytes(), await client.audit(group.id), invite


def lines_of(data: bytes, kind: str) -> list[dict[str, Any]]:
    """Return the lines of one kind."""
    lines: list[dict[str, Any]] = [msgspec.json.decode(line) for line in data.splitlines()]
    return [line for line in lines if line["line"] == kind]


async def test_differential(exported: Exported, tmp_path: Path) -> None:
    """[AUDNODE1] `orbital verify` verifies a Node device's file; its events and records equal those of Python."""
    theirs, ours, invite = exported
    file = tmp_path / "node.audit"
    command = [sys.executable, "-m", "orbital_relay", "verify", str(file), "--invite", invite]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    read = read_invite(invite)
    assert read is not None
    report, own = check_audit(theirs, secret=(0, read.secret)), check_audit(ours)

    assert (done.returncode, "shows one history" in done.stdout) == (0, True)
    assert (report.findings, report.warnings, report.vouched) == ([], [], 0)
    assert (report.first, report.last, report.records) == (own.first, own.last, own.records)
    # Three messages of Ada, two of Nina; a device knows where the others stood.
    assert (report.heads, own.heads) == (3, 2)
    assert check_audit(theirs).vouched == own.vouched == 1
    for kind in ("event", "record"):
        assert [{**line, "heads": None} for line in lines_of(theirs, kind)] == [
            {**line, "heads": None} for line in lines_of(ours, kind)
        ]
    mine, other = lines_of(ours, "audit")[0], lines_of(theirs, "audit")[0]
    changing = {"user", "at", "device"}
    assert {name: mine[name] for name in mine if name not in changing} == {
        name: other[name] for name in other if name not in changing
    }
    assert b"canary" not in theirs


async def test_changes(exported: Exported) -> None:
    """[AUDNODE2] A Node device's file that was changed in any byte, or cut off, is refused or has findings."""
    theirs, _, _ = exported
    dice = random.Random(12)
    for _ in range(100):
        at = dice.randrange(len(theirs))
        changed = theirs[:at] + bytes([theirs[at] ^ 1 << dice.randrange(7)]) + theirs[at + 1 :]
        try:
            found = {one.code for one in check_audit(changed).findings}
        except E2eeError as exc:
            found = {exc.code} & {"malformed", "unsupported"}
        assert found, at
