"""The examples and the reference of the Python SDK do what they say, against a real server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import orbital_relay.client
from tests.support.client import Person
from tests.support.process import Program
from tests.support.programs import CHECKOUT
from tests.support.server import Server

EXAMPLES = CHECKOUT / "examples" / "python"
REFERENCE = CHECKOUT / "docs" / "reference" / "python.md"


def run(name: str, *args: str, token: str = "", cwd: Path | None = None) -> Program:
    """Start an example."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "ORBITAL_TOKEN": token}
    return Program([sys.executable, "-W", "error", str(EXAMPLES / name), *args], env=env, cwd=cwd or CHECKOUT)


async def printed(program: Program, pattern: str) -> None:
    """Wait for a line, and let the loop run meanwhile."""
    await asyncio.to_thread(program.wait_for, pattern)


def interrupt(program: Program) -> int:
    """Press Ctrl-C; return the exit status."""
    program.signal(signal.SIGINT)
    return program.wait()


def test_family(shared: Server) -> None:
    """[EXA1] The tour with two users prints its steps and exits."""
    program = run("family.py", shared.url)

    assert program.wait() == 0, program.text
    assert program.lines == [
        "3: ada asks: Who cooks?",
        "4: a message: See the new thread.",
        "5: ben answers: I do.",
    ]


async def test_watch(shared: Server, tmp_path: Path) -> None:
    """[EXA2] The watcher prints each event once, also over its own restart, and exits with an error for a bad token."""
    anna = await Person.sign_up(shared.url)
    group = await anna.make_group()
    await anna.say(group)
    positions = str(tmp_path / "positions.json")

    first = run("watch.py", shared.url, group.id, positions, token=anna.token)
    await printed(first, "^2 new_message")
    assert interrupt(first) == 0
    await anna.say(group)
    second = run("watch.py", shared.url, group.id, positions, token=anna.token)
    await printed(second, "^3 new_message")
    assert interrupt(second) == 0
    events = [line for line in first.lines + second.lines if line[0].isdigit()]
    assert events == ["1 member_joined", "2 new_message", "3 new_message"]

    for token in ("no.such.token", "no token"):
        third = run("watch.py", shared.url, group.id, positions, token=token)
        assert third.wait() == 1
        assert "Traceback" not in third.text
    await anna.close()


async def test_echo(shared: Server, tmp_path: Path) -> None:
    """[EXA3] The bot answers each thread once, also a thread that was created while it was down."""
    anna, bot = await Person.sign_up(shared.url), await Person.sign_up(shared.url)
    group = await anna.make_group()
    await bot.join(group)

    program = run("echo.py", shared.url, group.id, token=bot.token, cwd=tmp_path)
    await printed(program, "^ready")
    first = await anna.open_thread(group)
    await printed(program, f"^answered {first['thread_id']}")
    program.signal(signal.SIGKILL)
    program.wait()
    missed = await anna.open_thread(group)
    again = run("echo.py", shared.url, group.id, token=bot.token, cwd=tmp_path)
    await printed(again, f"^answered {missed['thread_id']}")
    last = await anna.open_thread(group)
    await printed(again, f"^answered {last['thread_id']}")

    for thread in (first, missed, last):
        replies = await anna.get(f"/api/threads/{thread['thread_id']}/replies")
        assert [reply["author_id"] for reply in replies["replies"]] == [bot.user_id]
    await anna.remove(group, bot)
    assert again.wait() == 0
    for person in (anna, bot):
        await person.close()


def test_every_example_is_tried() -> None:
    """[EXA4] Every example is run."""
    here = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_python_*.py"))

    untried = [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in here]

    assert untried == []


async def test_reference(shared: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[EXA5] Every Python block of the reference runs, one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    anna, ben = await Person.sign_up(shared.url), await Person.sign_up(shared.url)
    group = await anna.make_group()
    await ben.join(group)
    thread = await anna.open_thread(group)
    names: dict[str, Any] = {
        "url": shared.url,
        "token": anna.token,
        "group_id": group.id,
        "thread_id": thread["thread_id"],
        "ciphertext": b"\x00\x01\x02",
        "get_token": lambda: anna.token,
        "__name__": "reference",
    }
    blocks = re.findall(r"^```python\n(.*?)^```", REFERENCE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8

    for block in blocks:
        code = compile(block, str(REFERENCE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)  # noqa: S307 - our own page, and the one way to run a block with `await`
        if inspect.isawaitable(result):
            await result
    for person in (anna, ben):
        await person.close()


def test_every_public_name_is_in_the_reference() -> None:
    """[EXA6] The importable names are listed."""
    text = REFERENCE.read_text("utf-8")

    missing = [name for name in orbital_relay.client.__all__ if not re.search(rf"\b{name}\b", text)]

    assert missing == []
