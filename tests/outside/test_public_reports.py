"""Public bug reports of similar systems, reproduced on Orbital; each test names its reports."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from orbital_relay.client import connect
from tests.support import programs
from tests.support.client import Person
from tests.support.process import Program, eventually
from tests.support.programs import free_port
from tests.support.server import Server

HERE = Path(__file__).parent

# Chapter: addresses in X-Forwarded-For


@pytest.mark.parametrize(
    "one, same",
    [
        ("203.0.113.1", "203.0.113.1:5555"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("2001:db8::1", '"[2001:db8::1]:443"'),
        ("203.0.113.1", "::ffff:203.0.113.1"),
        ("203.0.113.1", "203.0.113.1, 127.0.0.1:8080"),
        ("203.0.113.1", "203.0.113.1,"),
    ],
)
async def test_how_proxies_write_an_address(serve: Callable[..., Server], one: str, same: str) -> None:
    """[PUB1] Ports, brackets, mapped addresses and empty elements of X-Forwarded-For do not change the counted address.

    uvicorn #2789, daphne #90, waitress #230, tornado #3561.
    """
    env = {"ORBITAL_TRUSTED_PROXIES": "127.0.0.1", "ORBITAL_LOGIN_LIMIT": "2"}
    server = await asyncio.to_thread(serve, env=env)

    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:

        async def login(address: str) -> int:
            body = {"username": "nobody", "password": "Correct-Horse-7"}
            answer = await http.post("/api/login", json=body, headers={"X-Forwarded-For": address})
            return answer.status_code

        assert [await login(one), await login(one), await login(same)] == [401, 401, 429]
        assert await login("198.51.100.7") == 401


# Chapter: below a path, on IPv6, and a device whose clock is wrong


async def there_and_back(url: str, person: Person, group: str) -> int:
    """Send a message and receive it by the Python SDK; return how often the token function was called."""
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return person.token

    async with asyncio.timeout(60), connect(url, token=token) as orbital:
        sent = await orbital.send(group, "aGVsbG8=")
        async for event in orbital.subscribe(group, since=0):
            if event.seq == sent.seq:
                return asked
    raise AssertionError("the subscription ended before the message came")


async def by_javascript(node: str, url: str, person: Person, group: str, days: int = 0) -> int:
    """The same by the JavaScript SDK."""
    command = [node, str(HERE / "drive_reports.mjs"), url, person.token, group, str(days)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["asked"]


@pytest.fixture
async def below_a_path(shared_server: Server, tmp_path: Path) -> AsyncIterator[str]:
    """The address `[::1]:port` of an nginx that has the server at /orbital/."""
    port = free_port()
    config = tmp_path / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    config.write_text(
        f"daemon off;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{places}access_log off;\n"
        f"server {{\nlisten [::1]:{port};\nlocation /orbital/ {{\nproxy_pass {shared_server.url}/;\n"
        "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\n"
        "proxy_set_header Connection $http_connection;\n}\n}\n}\n"
    )
    program = Program([programs.nginx(), "-c", config, "-p", tmp_path, "-e", "stderr"])
    place = f"[::1]:{port}"
    async with httpx.AsyncClient(trust_env=False) as http:

        async def answers() -> bool:
            try:
                return (await http.get(f"http://{place}/orbital/health/live")).status_code == 200
            except httpx.TransportError:
                assert program.alive, program.text
                return False

        await eventually(answers, what="nginx answers")
    yield place
    program.terminate()


async def test_below_a_path(shared_server: Server, people: Callable[..., Person], below_a_path: str, node: str) -> None:
    """[PUB2] Both SDKs work below a path of an IPv6 address, with and without trailing slashes.

    ympd #134, openclaw #47432, ttyd #100, websockets #802.
    """
    ann = await people(shared_server.url)
    group = (await ann.make_group()).id

    for ending in ("", "/", "//"):
        assert await there_and_back(f"http://{below_a_path}/orbital{ending}", ann, group) == 1
    assert await there_and_back(f"ws://{below_a_path}/orbital/ws", ann, group) == 1
    assert await by_javascript(node, f"http://{below_a_path}/orbital//", ann, group) == 1
    assert await by_javascript(node, f"ws://{below_a_path}/orbital/ws", ann, group) == 1


@pytest.mark.parametrize("days", [40, -40])
async def test_the_clock_of_a_device(
    shared_server: Server, people: Callable[..., Person], node: str, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """[PUB3] A device whose clock is 40 days off sends and receives, and requests its token once.

    firebase-js-sdk #6032, angular-oauth2-oidc #1135, openclaw #24455.
    """
    ann = await people(shared_server.url)
    group = (await ann.make_group()).id
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + days * 86_400)

    assert await there_and_back(shared_server.url, ann, group) == 1
    assert await by_javascript(node, shared_server.url, ann, group, days) == 1
