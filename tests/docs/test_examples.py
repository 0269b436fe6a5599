"""Examples of the documents are run as printed: commands in a shell, blocks in a browser's console, a collection."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.core.framing import text_frame
from orbital_relay.server.edge.deflate import deflated_text_frame
from tests.docs import reading
from tests.docs.console import open_page
from tests.support import fronts, programs
from tests.support.client import PASSWORD, Person
from tests.support.process import Program
from tests.support.programs import CHECKOUT
from tests.support.server import Server

README = CHECKOUT / "README.md"
HOW_TO = CHECKOUT / "docs" / "how-to"
TUTORIAL = CHECKOUT / "docs" / "tutorial" / "first-chat.md"
OUTSIDE = CHECKOUT / "tests" / "outside"


@pytest.fixture
def shell(node: str, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Run blocks of a page in a shell whose `npx` starts the wscat that the tests have installed."""
    wscat = programs.node_package(OUTSIDE, "wscat") / "bin" / "wscat"
    npx = tmp_path / "bin" / "npx"
    npx.parent.mkdir()
    npx.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "--yes wscat" ] || exit 64\nshift 2\nexec "{node}" "{wscat}" "$@"\n', "utf-8"
    )
    npx.chmod(0o755)
    started: list[Program] = []

    def run(server: Server, *blocks: str, **variables: str) -> Program:
        script = "\n".join(blocks).replace("localhost:3000", f"127.0.0.1:{server.port}")
        env = {**os.environ, **variables, "PATH": f"{npx.parent}:{os.environ['PATH']}", "no_proxy": "*"}
        started.append(Program(["bash", "-euo", "pipefail", "-c", script], env=env, cwd=CHECKOUT, stdin=True))
        return started[-1]

    yield run
    for program in started:
        program.kill()


def test_readme_first_event(server: Server, shell: Callable[..., Program]):
    """[DOCS10] The README's commands work as printed: an account, a group, its events, and one more over the socket."""
    blocks = reading.examples(README)

    program = shell(server, blocks["curl"], "echo", blocks["wscat"])

    program.wait_for(r'"message_id":"[^"]+","server_timestamp":\d+,"seq":2\}')
    program.wait_for('"type":"auth_success"')
    program.wait_for('"type":"subscribed"')
    program.wait_for('"type":"new_message".*"seq":3,')
    program.wait_for('"type":"posted".*"seq":3')
    seen = [int(found[1]) for line in program.lines if (found := re.search(r'"seq":(\d+),"prev"', line))]
    assert seen == [1, 2, 3]


async def test_wscat_page(server: Server, shell: Callable[..., Program]):
    """[DOCS11] Each line of the wscat page works as described."""
    blocks = reading.examples(HOW_TO / "wscat.md")
    async with await Person.sign_up(server.url) as ada:
        group = await ada.make_group()
        program = shell(server, blocks["header"], TOKEN=ada.token)
        await asyncio.to_thread(program.wait_for, '"type":"auth_success"')
        for name, answer in (
            ("subscribe", '"type":"subscribed"'),
            ("post", '"type":"posted".*"reply_to":"my first"'),
            ("since", f'"type":"subscribed".*"{group.id}":{{"seq":2,"recovered"'),
            ("pong", ""),
            ("post", '"type":"new_message".*"seq":3'),
        ):
            program.say(blocks[name].strip().replace("GROUP", group.id))
            await asyncio.to_thread(program.wait_for, answer)

    assert not any('"type":"error"' in line for line in program.lines)


async def test_export_page(server: Server, shell: Callable[..., Program], tmp_path: Path):
    """[DOCS31] The commands of the page about one's data download the export, and the media that it names."""
    blocks = reading.examples(HOW_TO / "take-your-data-with-you.md")
    async with await Person.sign_up(server.url) as ada:
        group = await ada.make_group()
        thread_id, media_id = (await ada.open_thread(group))["thread_id"], str(uuid.uuid4())
        upload = {"media_id": media_id, "thread_id": thread_id, "chunk_index": "0", "total_chunks": "1"}
        upload |= {"encrypted_metadata": "bWV0YQ==", "encryption_iv": "aXY="}
        await ada.ask("POST", "/api/media/upload", expect=201, data=upload, files={"chunk": ("chunk", b"photo")})
        commands = (f"cd {tmp_path}", blocks["export"], blocks["export-media"], "echo done")
        program = shell(server, *commands, NAME=ada.username, PASSWORD=PASSWORD)
        await asyncio.to_thread(program.wait_for, "^done$")

    lines = [json.loads(line) for line in (tmp_path / "orbital.ndjson").read_text("utf-8").splitlines()]
    assert [line["type"] for line in lines if line["type"] in {"account", "thread", "medium", "end"}] == [
        *("account", "thread", "medium", "end")
    ]
    assert any('"type":"end"' in line for line in program.lines)
    assert (tmp_path / f"{media_id}.enc").read_bytes() == b"photo"


@pytest.mark.browser
async def test_console_page(server: Server, chromium: str, tmp_path: Path):
    """[DOCS12] Each block of the page about the browser's console works, pasted in sequence."""
    blocks = reading.examples(HOW_TO / "browser-console.md")
    async with open_page(chromium, server.url, tmp_path / "profile") as console:
        for name in ("account", "socket"):
            await console.paste(blocks[name])
        await console.until("received.includes('member_joined')")
        await console.paste(blocks["message"])
        await console.until("received.includes('new_message')")
        await console.paste(blocks["ticket"])
        await console.until("second.readyState === WebSocket.OPEN")
        await console.paste(blocks["sdk"])
        async with asyncio.timeout(60):
            while "2 new_message" not in console.lines[-1:]:
                await asyncio.sleep(0.05)  # a page has no way to call us

    assert not any(line.startswith("error") for line in console.lines), console.lines


def test_postman_collection(server: Server, node: str):
    """[DOCS13] The collection's requests, run in order, all pass the collection's own tests."""
    collection = CHECKOUT / "examples" / "postman" / "orbital.postman_collection.json"
    runner = Path(__file__).with_name("run_collection.mjs")
    said = subprocess.run([node, runner, collection, server.url], capture_output=True, text=True, timeout=120)

    assert said.returncode == 0, said.stdout + said.stderr
    requests = re.findall(r'"method":', collection.read_text("utf-8"))
    assert len(re.findall(r"^(?:GET|POST|DELETE) .* 20\d$", said.stdout, re.MULTILINE)) == len(requests)


async def test_identity_provider_page(serve: Callable[..., Server], shell: Callable[..., Program], tmp_path: Path):
    """[DOCS14] With the page's key and token a user of an outside provider connects without a sign-up."""
    blocks = reading.examples(HOW_TO / "identity-provider.md")
    subprocess.run(["bash", "-ec", blocks["keys"]], cwd=tmp_path, check=True, capture_output=True)
    [variable, value] = blocks["serve"].split()[0].split("=")
    server = serve(env={variable: str(tmp_path / value)})

    use = (
        blocks["use"]
        .replace(".venv/bin/python", sys.executable)
        .replace("provider.pem", str(tmp_path / "provider.pem"))
    )
    program = shell(server, use)

    await asyncio.to_thread(program.wait_for, r'^\{"groups":\[\],"has_more":false\}$')


@pytest.mark.parametrize("kind", ["behind-a-proxy.md", "deploy/Caddyfile"])
async def test_proxy_page(kind: str, serve: Callable[..., Server], shell: Callable[..., Program], tmp_path: Path):
    """[DOCS15] The page's check of a proxy gives the result that the page states, and 426 never occurs."""
    server = await asyncio.to_thread(serve, env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    folder = tmp_path / "front"
    folder.mkdir()
    front = fronts.Front(kind, folder, [server.port])
    try:
        await front.start()
        (typed,) = re.findall(r"^npx .*$", fronts.PAGE.read_text("utf-8"), re.MULTILINE)
        typed = typed.replace("wss://orbital.example.org", f"wss://127.0.0.1:{front.port}")
        refused = shell(server, typed, NODE_EXTRA_CA_CERTS=str(folder / "orbital.crt"))

        await asyncio.to_thread(refused.wait_for, "Unexpected server response: 401")
    finally:
        front.program.kill()


async def test_media_page(server: Server, tmp_path: Path):
    """[DOCS22] With the page's commands a film is encrypted, uploaded, downloaded and decrypted unchanged."""
    blocks = reading.examples(HOW_TO / "media.md")
    film = os.urandom(300_000)
    (tmp_path / "film.mp4").write_bytes(film)
    async with await Person.sign_up(server.url) as ada:
        group = await ada.make_group()
        thread = await ada.open_thread(group)
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ORBITAL_URL": server.url,
            "ORBITAL_TOKEN": ada.token,
        }

        def typed(*names: str, **places: str) -> str:
            script = "\n".join(blocks[name] for name in names)
            for place, text in places.items():
                script = script.replace(place, text)
            done = subprocess.run(["bash", "-euc", script], env=env, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout

        said = await asyncio.to_thread(typed, "encrypt", "put", THREAD=thread["thread_id"])
        await asyncio.to_thread(typed, "get", MEDIA=said.split()[0])

    assert (tmp_path / "fetched.mp4").read_bytes() == film
    assert (tmp_path / "fetched.enc").read_bytes() != film


# Chapter: the tutorial


def test_embedded_code():
    """[DOCS16] Code that a page embeds from a file is identical to that file, byte for byte."""
    shown = 0
    for page in reading.documents():
        for place, text in re.findall(
            r"<!-- from: (\S+) -->\n```\w+\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            shown += 1
            for piece in text.split("\n\n\n"):
                assert piece.strip() in (CHECKOUT / place).read_text("utf-8"), f"{page.name}: {piece}"
    assert shown >= 7


@pytest.fixture
def chat_page() -> Iterator[str]:
    """The address of the tutorial's page, served as the tutorial says: from another origin than Orbital's."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=CHECKOUT / "examples" / "chat")
    handler.log_message = lambda *_args: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/page.html"
        served.shutdown()


def chat(server: Server, command: str) -> Program:
    """Start the chat by the tutorial's command."""
    words = command.split()
    assert words[0] == ".venv/bin/python"
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "ORBITAL_URL": server.url}
    return Program([sys.executable, *words[1:]], env=env, cwd=CHECKOUT, stdin=True)


def test_chat_in_terminals(server: Server):
    """[DOCS17] Ada invites Ben, and both read both; a line typed during a server outage arrives once, automatically."""
    blocks = reading.examples(TUTORIAL)
    ada = chat(server, blocks["new"])
    try:
        invitation = ada.wait_for(r"Invite with: (\S+)")[1]
        ben = chat(server, blocks["join"].replace("INVITATION", invitation))
        try:
            ada.say("Who cooks on Sunday?")
            ben.wait_for(r"^ada_\w+: Who cooks on Sunday\?$")
            server.terminate()
            ben.say("I do.")
            server.start()
            ada.wait_for(r"^ben_\w+: I do\.$", deadline_s=60)
            ada.say("Good.")
            ben.wait_for(r"^ada_\w+: Good\.$", deadline_s=60)
            for program in (ada, ben):
                program.end_input()
                assert program.wait() == 0
                said = [re.sub(r"_\w+", "", line) for line in program.lines if ": " in line]
                assert [line for line in said if not line.startswith("Invite")] == [
                    "ada: Who cooks on Sunday?",
                    "ben: I do.",
                    "ada: Good.",
                ]
        finally:
            ben.kill()
    finally:
        ada.kill()
    assert "Sunday" not in "".join(server.log)


@pytest.mark.browser
async def test_chat_in_a_page(server: Server, chromium: str, chat_page: str, tmp_path: Path):
    """[DOCS18] The page decrypts what the terminal encrypts, and vice versa."""
    ada = chat(server, reading.examples(TUTORIAL)["new"])
    try:
        invitation = (await asyncio.to_thread(ada.wait_for, r"Invite with: (\S+)"))[1]
        ada.say("Hello page")
        async with open_page(chromium, f"{chat_page}?server={server.url}", tmp_path / "profile") as console:
            await console.until("document.getElementById('enter').disabled === false")
            await console.paste(
                "at = (id) => document.getElementById(id);"
                f"at('name').value = 'ben'; at('invitation').value = {json.dumps(invitation)};"
                "at('door').requestSubmit()"
            )
            await console.until("/^ada_\\w+: Hello page$/m.test(at('said').innerText)")
            await console.paste("at('say').value = 'Hello terminal'; at('room').requestSubmit()")
            await asyncio.to_thread(ada.wait_for, r"^ben_\w+: Hello terminal$")
        assert not any(line.startswith("error") for line in console.lines), console.lines
    finally:
        ada.kill()


# Chapter: figures


def _frame(content_bytes: int, seq: int) -> bytes:
    def drawn() -> str:
        return str(uuid.uuid4())

    envelope = base64.b64encode(os.urandom(content_bytes)).decode()
    data = wire.NewMessage(drawn(), drawn(), envelope, 1764000000000 + seq, drawn())
    prev = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    return wire.seal(data, group_id=drawn(), seq=1000 + seq, stamp_ms=1764000000000 + seq, prev=prev)


def test_compression_figures():
    """[DOCS19] The compression savings on the page are the measured ones, within two percent of the whole."""
    page = (CHECKOUT / "docs" / "explanation" / "compression.md").read_text("utf-8")
    rows: list[Any] = re.findall(r"^\| ([\d,]+) bytes \| .* \| (\d+) % \|$", page, re.MULTILINE)
    assert len(rows) == 4

    for content, saved in rows:
        frames = [_frame(int(content.replace(",", "")), seq) for seq in range(20)]
        plain = sum(len(text_frame(one)) for one in frames)
        packed = sum(len(deflated_text_frame(one)) for one in frames)
        assert abs(100 * (1 - packed / plain) - int(saved)) < 2, content
