"""`orbital status` of real servers, and what it makes of two looks."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

from rich.console import Console

from orbital_relay.commands.status_view import Sample, fetch, parse, rates, table
from tests.support.client import Person
from tests.support.programs import CHECKOUT, free_port
from tests.support.server import Server

Serve = Callable[..., Server]


def _sample(at_s: float, text: str) -> Sample:
    return Sample(at_s, series=parse(text))


def _status(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orbital_relay", "status", *args]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)


def test_rates_are_between_two_looks():
    """[STATUS1] A rate is the growth of a counter a second, over all workers; after a restart it counts from 0."""
    before = _sample(
        10,
        'orbital_events_total{kind="a",worker="1"} 10\norbital_events_total{kind="b",worker="2"} 5\n'
        'orbital_http_requests_total{status="503"} 9\norbital_append_seconds_sum 1\norbital_append_seconds_count 10\n',
    )
    after = _sample(
        12,
        'orbital_events_total{kind="a",worker="1"} 20\norbital_events_total{kind="b",worker="2"} 15\n'
        'orbital_http_requests_total{status="503"} 3\norbital_http_requests_total{status="200"} 1\n'
        "orbital_append_seconds_sum 1.4\norbital_append_seconds_count 14\n"
        'orbital_connections{worker="1"} 2\norbital_connections{worker="2"} 3\nnot a line\nname NaNN\n',
    )

    found = rates(before, after)

    assert found["events_per_s"] == 10
    assert found["errors_per_s"] == 1.5
    assert found["errors"] == 3
    assert found["connections"] == 5
    assert found["batch_s"] == 0.1
    assert found["batch_posts"] is None


def test_a_server_that_does_not_answer(serve: Serve):
    """[STATUS2] A server that is unreachable, or is another program, is shown with the reason, beside the others."""
    gone = fetch(f"http://127.0.0.1:{free_port()}")
    server = serve()
    stranger = fetch(f"{server.url}/nowhere")
    here = fetch(server.url)

    assert gone.reason
    assert stranger.reason == "/metrics answers 404"
    assert here.answered
    assert rates(here, gone) == {"error": gone.reason}
    console = Console(width=200, record=True, file=StringIO())
    console.print(table({"a": here, "b": gone}, {"a": here, "b": gone}))
    text = console.export_text()
    assert re.search(r"error +│ +│ .*\S", text)
    assert re.search(r"database +│ +yes │", text)


async def test_the_command(serve: Serve):
    """[STATUS3] `orbital status --once` shows each server of a cluster in a table, and with --json as one object."""
    one, two = serve(), serve()
    async with await Person.sign_up(one.url) as ann:
        group = await ann.make_group()
        socket = await ann.listen(group)
        shown = _status("--once", "--json", "--url", one.url, "--url", f"{two.url}/", "--every", "0.3")
        await socket.close()
    view = _status("--once", "--port", str(one.port))
    gone = _status("--once", "--json", "--port", str(free_port()), "--every", "0.2")

    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert list(found) == [one.url, two.url]
    assert (found[one.url]["connections"], found[two.url]["connections"]) == (1, 0)
    assert found[one.url]["database_connected"] == 1
    assert found[one.url]["disk_free_bytes"] > 0
    assert view.returncode == 0
    assert re.search(r"connections +│ +0 │", view.stdout), view.stdout
    assert gone.returncode == 1
    assert "error" in next(iter(json.loads(gone.stdout).values()))


class _Terminal:
    """A terminal of 200 columns with `orbital status` on it."""

    def __init__(self, *args: str) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-m", "orbital_relay", "status", *args]
        env = {**os.environ, "COLUMNS": "200", "LINES": "60", "TERM": "xterm"}
        self.process = subprocess.Popen(command, env=env, cwd=CHECKOUT, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.written = ""

    def wait_for(self, pattern: str, *, deadline_s: float = 120) -> None:
        """Read until what was written since the last call has the pattern."""
        until_s = time.monotonic() + deadline_s
        seen = len(self.written)
        while re.search(pattern, self.written[seen:]) is None:
            left_s = until_s - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(left_s, 0))
            assert ready, f"{pattern!r} was not shown:\n{self.written[-2000:]}"
            self.written += os.read(self._master, 65536).decode(errors="replace")

    def close(self) -> None:
        """End the program and the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextmanager
def _watching(*args: str) -> Iterator[_Terminal]:
    terminal = _Terminal(*args)
    try:
        yield terminal
    finally:
        terminal.close()


async def test_the_live_view(serve: Serve):
    """[STATUS4] Without `--once` a terminal shows changes as they happen, until Ctrl-C restores the screen."""
    server = serve()
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        with _watching("--port", str(server.port), "--every", "0.3") as terminal:
            await asyncio.to_thread(terminal.wait_for, r"connections +│ +0 │")
            socket = await ann.listen(group)
            await asyncio.to_thread(terminal.wait_for, r"connections +│ +1 │")
            await socket.close()
            await asyncio.to_thread(terminal.wait_for, r"connections +│ +0 │")
            terminal.process.send_signal(signal.SIGINT)
            # The terminal's own words for the other screen: on, and off again (xterm's control sequences, mode 1049).
            await asyncio.to_thread(terminal.wait_for, re.escape("\x1b[?1049l"))
            status = await asyncio.to_thread(terminal.process.wait, 30)

    assert "\x1b[?1049h" in terminal.written
    assert status == 0
