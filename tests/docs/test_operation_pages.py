"""The commands of the operators' pages, run as printed: backup and restore."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import reading
from tests.support.client import Person
from tests.support.programs import CHECKOUT
from tests.support.server import Server

PAGE = CHECKOUT / "docs" / "how-to" / "back-up-and-restore.md"


def typed(folder: Path, block: str, **env: str) -> str:
    """Run a block of a page in a shell in `folder`, and return what it printed; every line has to succeed."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("ORBITAL_", "DATABASE_URL"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env={**inherited, **env, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own_secret(serve: Callable[..., Server], folder: Path) -> Server:
    """Start a server that makes its secret itself, and keeps it in its data folder."""
    server = serve(data_dir=folder, start=False)
    del server.env["JWT_SECRET"]
    return server.start()


@pytest.fixture
async def household(serve: Callable[..., Server], tmp_path: Path) -> tuple[str, str]:
    """The token and the message id of a server with its own secret, whose data folder is `var`; it is stopped."""
    server = await asyncio.to_thread(own_secret, serve, tmp_path / "var")
    async with await Person.sign_up(server.url) as ada:
        message = await ada.say(await ada.make_group())
    typed(tmp_path, reading.examples(PAGE)["backup"], ORBITAL_DATA_DIR=str(server.data_dir))
    (server.data_dir / "media").mkdir(exist_ok=True)
    assert await asyncio.to_thread(server.close) == 0
    return ada.token, message["message_id"]


async def messages(server: Server, token: str) -> list[str]:
    """Return the ids of all messages that the token's user can read."""
    import httpx

    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as http:
        answer = await http.get("/v1/messages", params={"since": 0})
    assert answer.status_code == 200, answer.text
    return [one["message_id"] for one in answer.json()["messages"]]


async def test_backup_and_restore(household: tuple[str, str], serve: Callable[..., Server], tmp_path: Path):
    """[OPDOC1] The page's commands restore a household of a running server, with its messages and tokens."""
    token, message = household
    typed(tmp_path, reading.examples(PAGE)["restore"])
    restored = await asyncio.to_thread(own_secret, serve, tmp_path / "restored")

    assert await messages(restored, token) == [message]
