"""`orbital tail` and `orbital send`, as a person and as a script use them, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from orbital_relay.client import Api
from tests.conftest import Serve
from tests.support.client import Group, Person
from tests.support.process import Program
from tests.support.programs import CHECKOUT
from tests.support.server import Server

ORBITAL = [sys.executable, "-W", "error", "-m", "orbital_relay"]


def environment(url: str, token: str | None) -> dict[str, str]:
    """Make the environment of a command."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORBITAL_")}
    return {**env, "ORBITAL_URL": url, "PYTHONUNBUFFERED": "1", **({"ORBITAL_TOKEN": token} if token else {})}


def start(url: str, token: str | None, *args: str) -> Program:
    """Start a command and keep its lines."""
    return Program([*ORBITAL, *args], env=environment(url, token), cwd=CHECKOUT)


async def run(url: str, token: str | None, *args: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""

    def work() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*ORBITAL, *args], env=environment(url, token), cwd=CHECKOUT, input=given, capture_output=True, timeout=90
        )

    done = await asyncio.to_thread(work)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def anna_and_group(server: Server) -> tuple[Person, Group]:
    """Make a person with a group."""
    anna = await Person.sign_up(server.url)
    return anna, await anna.make_group()


async def test_tail_to_the_letter(shared: Server) -> None:
    """[CMD1] `tail --json --no-follow` prints the stored frames, byte for byte, and exits."""
    anna, group = await anna_and_group(shared)
    await anna.say(group)
    await anna.open_thread(group)

    done = await run(shared.url, anna.token, "tail", "--since", "start", "--json", "--no-follow", "--verify", group.id)

    async with Api(shared.url, token=anna.token) as api:
        frames = (await api.event_frames(group.id, limit=10)).frames
    assert (done.returncode, done.stderr) == (0, "Connected.\n")
    assert done.stdout.encode() == b"".join(frame + b"\n" for frame in frames)
    await anna.close()


async def test_tail_lives_through_a_restart(serve: Serve, tmp_path: Path) -> None:
    """[CMD2] `tail` reconnects to a restarted server, reports it, and its next run resumes from the positions file."""
    server = serve()
    anna, group = await anna_and_group(server)
    tail = ("tail", "--since", "start", "--positions", str(tmp_path / "seen.json"), group.id)

    first = start(server.url, anna.token, *tail)
    await asyncio.to_thread(first.wait_for, "#1 member_joined")
    await asyncio.to_thread(server.restart, kill=True)
    await anna.say(group)
    await asyncio.to_thread(first.wait_for, "Next attempt in")
    await asyncio.to_thread(first.wait_for, "#2 new_message")
    first.signal(signal.SIGINT)
    assert first.wait() == 1
    assert "Traceback" not in first.text
    await anna.say(group)
    second = await run(server.url, anna.token, *tail, "--no-follow")

    assert [line.split()[2:4] for line in first.lines + second.stdout.splitlines() if " #" in line] == [
        ["#1", "member_joined"],
        ["#2", "new_message"],
        ["#3", "new_message"],
    ]
    await anna.close()


async def test_tail_ends_when_thrown_out(shared: Server) -> None:
    """[CMD3] A removed user's `tail` prints the last event and a message, and exits with 0."""
    anna, group = await anna_and_group(shared)
    ben = await Person.sign_up(shared.url)
    await ben.join(group)
    tail = start(shared.url, ben.token, "tail", "--since", "start", group.id)
    await asyncio.to_thread(tail.wait_for, "#2 member_joined")

    await anna.remove(group, ben)

    assert await asyncio.to_thread(tail.wait) == 0
    assert any("#3 member_left" in line for line in tail.lines)
    assert tail.lines[-1] == f"You are no longer a member of {group.id} (removed)."
    for person in (anna, ben):
        await person.close()


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("tail", str(uuid4())), "You are not a member of the group"),
    (("tail", "no-uuid"), "no-uuid"),
    (("tail", "--since", "-1", "g"), "neither a number from 0 to 2^53 - 1 nor the word start"),
    (("tail",), "Missing argument 'GROUP...'"),
    (("tail", "--token", "nonsense", "g"), "token"),
    (("tail", "--url", "localhost:3000", "g"), "is not an address of a server"),
    (("send", "no-uuid"), "uuid"),
    (("send", str(uuid4())), "group"),
    (("send", "--base64", "g"), "base64"),
    (("send", "--reply-to", str(uuid4()), "g"), "thread"),
]


async def test_mistakes_get_a_sentence(shared: Server) -> None:
    """[CMD4] Every error prints one sentence to standard error and exits with a non-zero status."""
    anna = await Person.sign_up(shared.url)

    for args, says in MISTAKES:
        done = await run(shared.url, anna.token, *args, given="für".encode())

        assert done.returncode in {1, 2}, args
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert "Error: " in done.stderr
        assert says.lower() in done.stderr.replace("\n", " ").lower(), done.stderr
    await anna.close()


async def test_without_a_token(shared: Server) -> None:
    """[CMD5] Without a token the error says how to provide one."""
    done = await run(shared.url, None, "tail", "g")

    assert done.returncode == 2
    assert "ORBITAL_TOKEN" in done.stderr or "--token" in done.stderr


async def test_send(shared: Server, tmp_path: Path) -> None:
    """[CMD6] `send` posts bytes from standard input or a file, replies in a thread, and with a key posts once."""
    anna, group = await anna_and_group(shared)
    thread = await anna.open_thread(group)
    (tmp_path / "blob").write_bytes(b"\x00\xff")

    piped = await run(shared.url, anna.token, "send", "--key", "k", group.id, given=b"\x01\x02")
    again = await run(shared.url, anna.token, "send", "--key", "other", "--json", group.id, given=b"\x03")
    filed = await run(shared.url, anna.token, "send", "--file", str(tmp_path / "blob"), group.id)
    text = await run(shared.url, anna.token, "send", "--base64", group.id, given=b"AA\nE=\n")
    reply = await run(shared.url, anna.token, "send", "--reply-to", thread["thread_id"], group.id, given=b"\x05")

    assert [each.returncode for each in (piped, again, filed, text, reply)] == [0] * 5, piped.stderr + reply.stderr
    assert piped.stdout.endswith(", number 3 of the group.\n")
    assert json.loads(again.stdout)["seq"] == 4
    posted = [event["data"] for event in await anna.events(group)][2:]
    assert [data.get("encrypted_envelope") or data["encrypted_body"] for data in posted] == [
        "AQI=",
        "Aw==",
        "AP8=",
        "AAE=",
        "BQ==",
    ]
    await anna.close()


async def test_send_gives_up_with_the_key(serve: Serve) -> None:
    """[CMD7] An unreachable server is retried until the timeout; the error says how to continue without duplicates."""
    server = serve()
    anna, group = await anna_and_group(server)
    server.terminate()

    done = await run(server.url, anna.token, "send", "--timeout", "1", "--key", "mine", group.id, given=b"x")

    assert done.returncode == 1
    assert "--key mine" in done.stderr
    await anna.close()


async def test_tail_ends_with_its_reader(shared: Server) -> None:
    """[CMD14] `tail` ends as soon as its output is closed, also in a group without events."""
    anna, group = await anna_and_group(shared)
    reading, writing = os.pipe()
    args = [*ORBITAL, "tail", "--since", "start", group.id]
    tail = await asyncio.create_subprocess_exec(
        *args, stdout=writing, stderr=subprocess.PIPE, env=environment(shared.url, anna.token), cwd=CHECKOUT
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as output:
        assert b"#1 member_joined" in await asyncio.to_thread(output.readline)

    async with asyncio.timeout(60):
        _, reported = await tail.communicate()
    assert (tail.returncode, reported) == (1, b"Connected.\n")
    await anna.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk here that is always full")
@pytest.mark.parametrize("args", [("--help",), ("tail", "--help"), ("tail", "--since", "start", "GROUP")])
async def test_a_full_disk(shared: Server, args: tuple[str, ...]) -> None:
    """[CMD15] A full disk that prevents printing is reported in one sentence."""
    anna, group = await anna_and_group(shared)
    command = [*ORBITAL, *(group.id if arg == "GROUP" else arg for arg in args)]

    def work() -> subprocess.CompletedProcess[bytes]:
        with Path("/dev/full").open("wb") as full:
            env = environment(shared.url, anna.token)
            return subprocess.run(command, env=env, cwd=CHECKOUT, stdout=full, stderr=subprocess.PIPE, timeout=90)

    done = await asyncio.to_thread(work)
    assert done.returncode == 1
    assert done.stderr.decode().removeprefix("Connected.\n") == "Error: No space left on device.\n"
    await anna.close()


async def test_positions_that_cannot_be_kept(shared: Server, tmp_path: Path) -> None:
    """[CMD16] A positions file that is not writable or not valid is named in the error."""
    anna, group = await anna_and_group(shared)
    (tmp_path / "damaged.json").write_bytes(b'{"a\xff": {"seq": 1}}')
    tail = ("tail", "--since", "start", "--no-follow", "--positions")

    nowhere = await run(shared.url, anna.token, *tail, str(tmp_path / "nowhere" / "seen.json"), group.id)
    damaged = await run(shared.url, anna.token, *tail, str(tmp_path / "damaged.json"), group.id)

    for done, says in ((nowhere, "No such file or directory"), (damaged, "is not a file of positions")):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "Error: " in done.stderr
        assert says in done.stderr
    await anna.close()


@pytest.mark.parametrize(
    "args, says",
    [(("send", "g"), "There is nothing to send"), (("user", "add", "ada"), "no standard input to read the password")],
)
async def test_without_standard_input(args: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """[CMD17] Without a standard input, as under some supervisors, a command that reads it reports the error."""
    if args[0] == "user":
        await run("", None, "migrate", "--data-dir", str(tmp_path))
        args = (*args, "--data-dir", str(tmp_path))

    def work() -> subprocess.CompletedProcess[str]:
        closing = ["sh", "-c", 'exec "$@" <&-', "sh", *ORBITAL, *args]
        env = environment("http://localhost:1", "t")
        return subprocess.run(closing, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=90)

    done = await asyncio.to_thread(work)
    assert done.returncode == 2
    assert says in done.stderr


async def test_a_refusal_is_reported_once(shared: Server) -> None:
    """[CMD18] An invalid token is reported in one sentence, with no log line before it."""
    done = await run(shared.url, "nonsense", "tail", str(uuid4()))

    assert done.returncode == 1
    assert done.stderr == "Error: The token is not a JWT.\n"


@pytest.mark.parametrize("args", [("check",), ("backup", "b"), ("token", "ada"), ("user", "revoke", "ada")])
async def test_a_folder_that_was_mistyped(args: tuple[str, ...], tmp_path: Path) -> None:
    """[CMD19] A command that reads or backs up a database or uses its secret does not create a new, empty one."""
    done = await run("", None, *args, "--data-dir", str(tmp_path / "typo"))

    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no database at ")
    assert list(tmp_path.iterdir()) == []


async def test_a_backup_replaces_files_alone(tmp_path: Path) -> None:
    """[CMD20] `backup --force` never replaces a device or a pipe; standard error contains only the database."""
    await run("", None, "migrate", "--data-dir", str(tmp_path))
    os.mkfifo(tmp_path / "pipe")

    refused = await run("", None, "backup", "--force", str(tmp_path / "pipe"), "--data-dir", str(tmp_path))
    done = await run("", None, "backup", str(tmp_path / "file"), "--data-dir", str(tmp_path))

    assert refused.returncode == 1
    assert "is not a regular file" in refused.stderr
    assert (tmp_path / "pipe").is_fifo()
    assert (done.returncode, done.stderr) == (0, f"Database: {tmp_path / 'orbital.db'}\n")
