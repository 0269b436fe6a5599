"""A Unix socket instead of a port: who may connect, whose address counts, and what a killed server leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import websockets

from tests.conftest import Serve
from tests.support.server import Server


def on_socket(serve: Serve, path: Path, **env: str) -> Server:
    """Start a server on a Unix socket."""
    server = serve(env={"ORBITAL_UDS": str(path), **env}, start=False)
    server.launch().wait_for(f'"serving".*unix:{path}')
    return server


def client(path: Path) -> httpx.AsyncClient:
    """A client of the socket."""
    return httpx.AsyncClient(base_url="http://orbital", transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=60)


async def test_requests_and_sockets(serve: Serve, tmp_path: Path):
    """[UDS1] HTTP and WebSockets are served on a Unix socket, which its owner and group may use."""
    path = tmp_path / "orbital.sock"
    server = on_socket(serve, path)

    async with client(path) as http:
        made = await http.post("/api/signup", json={"username": "ada", "password": "Correct-Horse-7", "public_key": {}})
    async with websockets.unix_connect(str(path), f"ws://orbital/ws?token={made.json()['token']}") as line:
        first = await line.recv()
    rights = stat.S_IMODE(path.stat().st_mode)

    assert "auth_success" in str(first)
    assert rights == 0o660
    assert server.terminate() == 0
    assert not path.exists()


async def test_addresses_behind_a_socket(serve: Serve, tmp_path: Path):
    """[UDS2] The proxy at the socket is trusted: limits count its X-Forwarded-For, without further settings."""
    path = tmp_path / "orbital.sock"
    on_socket(serve, path, ORBITAL_LOGIN_LIMIT="2", ORBITAL_CONNECT_LIMIT="2", ORBITAL_CONNECT_CEILING="2")
    wrong = {"username": "ada", "password": "Wrong-Horse-7777"}

    async def handshake(address: str) -> int:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.unix_connect(str(path), "ws://orbital/ws", additional_headers={"X-Forwarded-For": address})
        return refused.value.response.status_code

    async with client(path) as http:
        logins = [
            (await http.post("/api/login", json=wrong, headers={"X-Forwarded-For": address})).status_code
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2")
        ]
    sockets = [await handshake(address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2")]

    assert logins == [401, 401, 429, 401]
    assert sockets == [401, 401, 429, 401]


async def test_signups_behind_a_socket(serve: Serve, tmp_path: Path):
    """[UDS3] A server on a Unix socket has a proxy in front: by default sign-ups need an invitation."""
    path = tmp_path / "orbital.sock"
    on_socket(serve, path, ORBITAL_SIGNUPS="")

    async with client(path) as http:
        about = (await http.get("/api/about")).json()

    assert about["signups"] == "invited"


def test_what_a_killed_server_leaves(serve: Serve, tmp_path: Path):
    """[UDS4] The socket of a killed server is replaced; one that answers, and a file, are refused with a sentence."""
    path = tmp_path / "orbital.sock"
    first = on_socket(serve, path)
    second = serve(env={"ORBITAL_UDS": str(path)}, start=False)
    refused = second.launch().wait(), second.program.text
    first.kill()
    left = path.exists()
    third = on_socket(serve, path)
    third.terminate()
    path.write_text("a file")
    fourth = serve(env={"ORBITAL_UDS": str(path)}, start=False)
    over_a_file = fourth.launch().wait(), fourth.program.text

    assert refused[0] == 1
    assert "Another server listens at ORBITAL_UDS" in refused[1]
    assert left
    assert over_a_file[0] == 1
    assert "exists and is not a socket" in over_a_file[1]
    assert path.read_text() == "a file"


def test_a_folder_that_is_missing(serve: Serve, tmp_path: Path):
    """[UDS5] A socket in a folder that does not exist is refused with a sentence that names the path."""
    path = tmp_path / "none" / "orbital.sock"
    server = serve(env={"ORBITAL_UDS": str(path)}, start=False)

    assert server.launch().wait() == 1
    assert f"ORBITAL_UDS, {path}, cannot be used: No such file or directory" in server.program.text


def test_health_by_a_socket(serve: Serve, tmp_path: Path):
    """[UDS6] `orbital health --uds` sends its request to that socket; without one it fails with a message."""
    path = tmp_path / "orbital.sock"
    command = [sys.executable, "-m", "orbital_relay", "health"]
    env = {**os.environ, "ORBITAL_UDS": str(path)}
    without = subprocess.run(command, env=env, capture_output=True, text=True)
    on_socket(serve, path)
    asked = subprocess.run(command, env=env, capture_output=True, text=True)

    assert without.returncode == 1
    assert f"No answer from {path}" in without.stderr
    assert asked.returncode == 0, asked.stderr
