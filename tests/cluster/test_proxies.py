"""Every sample configuration of a proxy, run as printed: sockets, addresses, uploads, and logs without tokens."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.typing import Origin

from orbital_relay.server.doctor.outside import PublicAddress, check_outside
from tests.contracts.drafts import new_id
from tests.docs import reading
from tests.support.client import Person, Socket
from tests.support.fronts import DEPLOY, KINDS, PAGE, Front
from tests.support.server import Server
from tests.support.tokens import token

LIMITED = {"ORBITAL_LOGIN_LIMIT": "2", "ORBITAL_CONNECT_LIMIT": "2", "ORBITAL_CONNECT_POLICY": "strict"}


@pytest.fixture(params=KINDS)
async def in_front(
    request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path: Path
) -> AsyncIterator[Callable[..., tuple[Front, Server]]]:
    """Start a server with the settings that are given, and the sample in front of it."""
    made: list[Front] = []

    async def start(**env: str) -> tuple[Front, Server]:
        server = await asyncio.to_thread(serve, env={"ORBITAL_TRUSTED_PROXIES": "127.0.0.1", **env})
        made.append(Front(request.param, tmp_path, [server.port]))
        await made[-1].start()
        return made[-1], server

    yield start
    for front in made:
        front.program.terminate()


def client(front: Front, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client of the proxy that comes from `address`, any of 127.0.0.0/8."""
    # A proxy may close a connection after a refused upload, just as the pool uses it again: a new one for each request.
    one_connection_each = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(verify=front.tls, local_address=address, limits=one_connection_each)
    return httpx.AsyncClient(base_url=front.url, transport=transport, timeout=60)


async def handshake(front: Front, address: str, claimed: str, origin: str | None = None) -> int:
    """Return the status that a handshake without a token gets."""
    try:
        await websockets.connect(
            f"wss://127.0.0.1:{front.port}/ws",
            ssl=front.tls,
            local_addr=(address, 0),
            proxy=None,
            additional_headers={"X-Forwarded-For": claimed},
            origin=None if origin is None else Origin(origin),
        )
    except websockets.InvalidStatus as exc:
        return exc.response.status_code
    raise AssertionError("a handshake without a token was accepted")


async def test_addresses(in_front):
    """[PROXY1] At /ws and at the login a forged X-Forwarded-For gains no attempts, and takes nobody else's."""
    front, _ = await in_front(**LIMITED)
    wrong = {"username": "ada", "password": "Wrong-Horse-7777"}

    sockets = [await handshake(front, "127.0.0.2", f"192.0.2.{number}") for number in range(4)]
    async with client(front, "127.0.0.2") as http:
        logins = [
            (await http.post("/api/login", json=wrong, headers={"X-Forwarded-For": f"192.0.2.{number}"})).status_code
            for number in range(4)
        ]
    async with client(front, "127.0.0.3") as http:
        other_login = (await http.post("/api/login", json=wrong)).status_code
    other_socket = await handshake(front, "127.0.0.3", "127.0.0.2")

    assert sockets == [401, 401, 429, 429]
    assert logins == [401, 401, 429, 429]
    assert (other_login, other_socket) == (401, 401)


async def test_sockets_and_plain_requests(in_front):
    """[PROXY2] Both socket paths are upgraded, health is public, metrics are not, and port 80 redirects."""
    front, server = await in_front()
    ann = await Person.sign_up(server.url)
    group = await ann.make_group()
    wss = front.url.replace("https", "wss")

    async with (
        ann,
        await ann.listen(group, url=wss, ssl=front.tls) as socket,
        await Socket.open(f"{wss}/v1/websocket?token={ann.token}", ssl=front.tls) as other,
        client(front) as http,
    ):
        said = await ann.say(group)
        await socket.until_seq(group, said["seq"])
        assert other.frames[0]["type"] == "auth_success"
        assert (await http.get("/health/ready")).status_code == 200
        assert (await http.get("/metrics")).status_code == 404
        assert (await http.get("/ws")).status_code == 426
    async with httpx.AsyncClient(trust_env=False) as plain:
        answer = await plain.get(f"http://127.0.0.1:{front.plain_port}/ws?token=SECRETTOKEN")
    assert answer.status_code in {301, 308}
    assert answer.headers["location"].startswith("https://")
    assert "SECRETTOKEN" not in front.logged


async def test_the_doctor_accepts_each_sample(in_front):
    """[STREAM4] Through every sample proxy `orbital doctor --url` finds no problem, and no buffering."""
    front, _ = await in_front(ORBITAL_HEARTBEAT_SECONDS="2")
    address = PublicAddress(front.url, front.folder / "orbital.crt")

    found = await asyncio.to_thread(check_outside, address, chunk_bytes=5 * 1024 * 1024, token=token("ada"))

    # The test's certificate is valid for a day.
    assert [each.text for each in found if each.level != "ok" and "ends in" not in each.text] == []
    assert "The proxy forwards responses as they arrive." in {each.text for each in found}


async def raw(front: Front, *packets: bytes) -> bytes:
    """Send packets, each once the one before has been sent, and return all that comes until the proxy closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=front.tls)
    received = b""
    for packet in packets:
        writer.write(packet)
        await writer.drain()
    async with asyncio.timeout(60):
        while block := await reader.read(65536):
            received += block
    writer.close()
    return received


async def test_no_hidden_request(in_front):
    """[PROXY3] A request with any `Upgrade` and a body gets one response, and its body is never a second request."""
    front, server = await in_front()
    hidden = b"\r\n" * 20_000 + b"POST /api/signup HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

    answers = {}
    for path in ("/api/login", "/ws"):
        for upgrade in ("h2c", "TLS/1.2", "websocket, h2c", "websocket"):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, close\r\nUpgrade: {upgrade}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(hidden)}\r\n\r\n"
            )
            try:
                answers[path, upgrade] = await raw(front, head.encode(), hidden)
            except (ConnectionError, ssl.SSLError):
                # The proxy closed the connection on bytes that it rejects; that hides no request.
                answers[path, upgrade] = b""
    counts = httpx.get(f"{server.url}/metrics").text

    for case, received in answers.items():
        assert received.count(b"HTTP/1.1 ") <= 1, (case, received)
        assert b"HTTP/1.1 101" not in received, case
    assert 'path="/api/login"' in counts
    assert 'path="/api/signup"' not in counts, "a body was taken for a request"


async def test_media(in_front, tmp_path: Path):
    """[PROXY4] A chunk of 5 MiB is uploaded and downloaded; a refused one always gets Orbital's own response."""
    front, server = await in_front()
    chunk = os.urandom(5 * 1024 * 1024)
    ann = await Person.sign_up(server.url)
    async with ann, client(front) as http:
        group = await ann.make_group()
        thread = await ann.open_thread(group)
        media_id = new_id()
        fields = {
            "media_id": media_id,
            "thread_id": thread["thread_id"],
            "chunk_index": "0",
            "total_chunks": "1",
            "encrypted_metadata": base64.b64encode(b"metadata").decode(),
            "encryption_iv": base64.b64encode(b"0123456789ab").decode(),
        }

        async def send(token: str) -> httpx.Response:
            files = {"chunk": ("chunk", chunk, "application/octet-stream")}
            return await http.post(
                "/api/media/upload", data=fields, files=files, headers={"Authorization": f"Bearer {token}"}
            )

        refused = [await send("not.a.token") for _ in range(10)]
        stored = await send(ann.token)
        fetched = await http.get(f"/api/media/{media_id}/download", headers={"Authorization": f"Bearer {ann.token}"})

    assert [(each.status_code, each.json()["error"]) for each in refused] == [(401, "UNAUTHORIZED")] * 10
    assert stored.status_code == 201, stored.text
    assert fetched.content == chunk


async def test_no_token_in_a_log(in_front):
    """[PROXY5] With the server running and stopped, no token of a socket's query or subprotocol is logged."""
    front, server = await in_front()
    ann = await Person.sign_up(server.url)
    wss = front.url.replace("https", "wss")
    ways = [(f"{path}?{name}={ann.token}", {}) for path in ("/ws", "/v1/websocket") for name in ("token", "ticket")]
    ways.append(("/ws", {"subprotocols": ["orbital.v1", f"bearer.{ann.token}"]}))

    async with ann, await Socket.open(f"{wss}/ws?token={ann.token}", ssl=front.tls):
        pass
    await asyncio.to_thread(server.terminate)
    statuses = []
    for path, options in ways:
        try:
            await websockets.connect(wss + path, ssl=front.tls, proxy=None, **options)
        except websockets.InvalidStatus as exc:
            statuses.append(exc.response.status_code)
    async with client(front) as http:
        # A proxy with a health check detects it; the others detect it by a failed request.
        assert (await http.get("/health/ready")).status_code in {502, 503}
    await asyncio.to_thread(front.program.terminate)

    assert set(statuses) <= {502, 503}
    assert len(statuses) == len(ways)
    for secret in (ann.token, *ann.token.split(".")[1:]):
        assert secret not in front.logged


@pytest.mark.parametrize(("block", "name"), [("caddy", "Caddyfile"), ("nginx-headers", "orbital-headers.conf")])
def test_the_page_prints_the_file(block: str, name: str):
    """[PROXY6] What the page prints of a file in deploy/ is identical to that file."""
    assert reading.examples(PAGE)[block] == (DEPLOY / name).read_text()


@pytest.mark.parametrize("where", ["deploy", "page"])
def test_every_location_has_the_headers(where: str):
    """[PROXY7] Each nginx location that proxies requests includes the headers file, and sets no other headers."""
    text = (DEPLOY / "nginx.conf").read_text() if where == "deploy" else reading.examples(PAGE)["nginx"]
    locations = re.findall(r"^ *location [^{]*\{(.*?)^ *\}", text, re.MULTILINE | re.DOTALL)
    passing = [each for each in locations if "proxy_pass" in each]

    assert len(passing) == 2
    assert all("include orbital-headers.conf;" in each for each in passing)
    assert "proxy_set_header" not in text


async def test_the_server_s_own_page(in_front):
    """[PROXY9] With an allow-list the page that the proxy serves may connect, whatever its port; others may not."""
    front, _server = await in_front(ORBITAL_ALLOWED_ORIGINS="app://orbital")

    assert await handshake(front, "127.0.0.1", "203.0.113.1", origin=front.url) == 401
    assert await handshake(front, "127.0.0.1", "203.0.113.1", origin="https://evil.example") == 403


SPELLINGS = (
    "/metrics",
    "/%6detrics",
    "/metric%73",
    "/metrics?x",
    "/./metrics",
    "/x/../metrics",
    "//metrics",
    "/metrics%3f",
)
"""Ways to write the path of the metrics that some proxy or server takes for it."""


async def test_metrics_in_another_spelling(in_front):
    """[PROXY8] The metrics are not public, whatever spelling of the path a request uses (RFC 3986 §6.2.2)."""
    front, _server = await in_front()

    answers = {
        path: await raw(front, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        for path in SPELLINGS
    }

    assert [path for path, answer in answers.items() if b"process_open_fds" in answer] == []
    assert all(answer.startswith(b"HTTP/1.1 4") for answer in answers.values())
