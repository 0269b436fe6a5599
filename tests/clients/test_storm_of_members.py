"""Five members with encrypted stores, Python and Node mixed, amid SIGKILLs of members and server."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import programs
from tests.support.client import Person
from tests.support.process import Gone, Program, eventually, until
from tests.support.programs import CHECKOUT
from tests.support.server import Server

HERE = Path(__file__).parent
KINDS = ("node", "python", "node", "python", "node")
"""The first one founds the group."""
SEED = 20_261_127


class Member:
    """A member's process, started again after each kill with the same store."""

    def __init__(self, kind: str, about: dict[str, Any]) -> None:
        self.about, self.ended = about, list[Program]()
        script = HERE / ("storm_member.mjs" if kind == "node" else "storm_member.py")
        self._command = [programs.node() if kind == "node" else sys.executable, str(script)]
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.program = Program([*self._command, json.dumps(self.about)], stdin=True)

    def kill(self) -> None:
        """Kill the process, and start another one."""
        self.program.kill()
        self.ended.append(self.program)
        self.start()

    @property
    def sent(self) -> int:
        """How many texts were drafted and reported, over all processes."""
        return sum(program.lines.count("sent") for program in (*self.ended, self.program))

    @property
    def invite(self) -> str | None:
        """What the founder prints for the others."""
        return next((line.split()[1] for line in self.program.lines if line.startswith("invite ")), None)

    @property
    def result(self) -> dict[str, Any] | None:
        """What the member has at the end."""
        assert not self.program.ended_by_itself, self.program.text
        lines = [line for line in self.program.lines if line.startswith("complete ")]
        return json.loads(lines[0].removeprefix("complete ")) if lines else None


async def storm(server: Server, folder: Path, *, texts: int, kills: int, deadline_s: float) -> dict[str, Any]:
    """Let five members send `texts` each amid kills; return what happened."""
    dice = random.Random(SEED)
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(await Person.sign_up(server.url)) for _ in KINDS]
        group = await people[0].make_group()
        members: list[Member] = []
        invite = None
        for number, (kind, person) in enumerate(zip(KINDS, people, strict=True)):
            if number:
                await person.join(group)
            about = {
                "url": server.url,
                "token": person.token,
                "user": person.user_id,
                "name": f"member{number}",
                "group": group.id,
                "people": len(KINDS),
                "texts": texts,
                "path": str(folder / f"{number}.db"),
                "key": os.urandom(32).hex(),
                "invite": invite,
            }
            members.append(Member(kind, about))
            stack.callback(lambda member=members[-1]: member.program.kill())
            if invite is None:
                await eventually(lambda: members[0].invite, what="the founder's invite", deadline_s=90)
                invite = members[0].invite
        for member in members:
            await eventually(
                lambda one=member: "ready" in one.program.lines, what="all are in the roster", deadline_s=90
            )
        counts = {"members": 0, "server": 0}
        start = time.monotonic()
        total = len(KINDS) * texts
        for kill in range(1, kills + 1):
            due = kill * total * 9 // (10 * (kills + 1))
            await eventually(
                lambda due=due: sum(member.sent for member in members) >= due,
                what=f"{due} texts",
                deadline_s=deadline_s,
            )
            if kill % 5 == 0:
                server.restart(kill=True)
                counts["server"] += 1
            else:
                dice.choice(members).kill()
                counts["members"] += 1
        await eventually(
            lambda: all(member.result is not None for member in members),
            what="all have read all",
            deadline_s=deadline_s,
        )
        for member in members:
            assert member.result == {"texts": total, "statuses": {"read": total}, "warnings": []}, member.about["name"]
        stored = b"".join(path.read_bytes() for path in folder.iterdir())
        assert b"member0 " not in stored
        return {**counts, "texts": total, "seconds": round(time.monotonic() - start, 1)}


def needed() -> None:
    """Skip without the Node package and its driver; one that is being built is waited for."""
    folder = CHECKOUT / "clients" / "e2ee"
    programs.node_package(folder, "@noble/hashes")
    programs.node_package(folder, "better-sqlite3-multiple-ciphers/build")
    try:
        # Where nothing may be missing, the JavaScript tests build it at the same time: two minutes on a small machine.
        until(
            _loads_the_driver,
            what="the driver is built",
            deadline_s=300 if os.environ.get("ORBITAL_TESTS_COMPLETE") == "1" else 0,
        )
    except Gone:
        programs.missing("the SQLCipher driver of Node", remedy="npm run driver in clients/e2ee")


def _loads_the_driver() -> bool:
    script = CHECKOUT / "clients" / "e2ee" / "scripts" / "build-driver.js"
    ask = f"import({json.dumps(script.as_uri())}).then(({{ missingDriver }}) => process.exit(missingDriver() ? 1 : 0))"
    return subprocess.run([programs.node(), "-e", ask], timeout=60).returncode == 0


async def test_a_short_storm(serve: Serve, tmp_path: Path) -> None:
    """[MEMSTORM1] 600 texts of five members amid 12 SIGKILLs are read once by each; stores have no plaintext."""
    needed()
    done = await storm(serve(), tmp_path, texts=120, kills=12, deadline_s=60)
    assert (done["members"], done["server"]) == (10, 2)


@pytest.mark.soak
async def test_a_long_storm(serve: Serve, tmp_path: Path) -> None:
    """[MEMSTORM2] 10,000 texts of five members amid 55 SIGKILLs are read once by each, and none is lost."""
    needed()
    done = await storm(serve(), tmp_path, texts=2_000, kills=55, deadline_s=1_800)
    print(done)
    assert done["members"] + done["server"] == 55
