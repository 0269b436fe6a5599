"""TLS by the server itself: what is served, how a certificate is renewed, and the port that redirects to HTTPS."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from orbital_relay.config import load
from orbital_relay.errors import SettingsInvalid
from orbital_relay.server.edge.redirect import Redirect
from orbital_relay.server.edge.tls import HANDSHAKE_S, Certificate
from tests.conftest import Serve
from tests.support import programs
from tests.support.authority import Authority, serial_of
from tests.support.client import Person, Socket
from tests.support.server import Server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority with a certificate for this machine in cert.pem and key.pem."""
    made = Authority(tmp_path)
    made.issue(tmp_path / "cert.pem", tmp_path / "key.pem", "localhost", "127.0.0.1")
    return made


def https(serve: Serve, authority: Authority, **env: str) -> Server:
    """Start a server with the authority's certificate; it serves HTTPS alone."""
    folder = authority.folder
    files = {"ORBITAL_TLS_CERT": str(folder / "cert.pem"), "ORBITAL_TLS_KEY": str(folder / "key.pem")}
    server = serve(env={**files, **env}, start=False)
    server.port = int(server.launch().wait_for(r'"serving".*https://localhost:(\d+)')[1])
    return server


async def test_everything_over_tls(serve: Serve, authority: Authority):
    """[HTTPS1] With a certificate the server speaks HTTPS: pages, posts, media and both socket paths."""
    server = https(serve, authority)
    url, wss, trust = f"https://127.0.0.1:{server.port}", f"wss://127.0.0.1:{server.port}", authority.trust

    async with await Person.sign_up(url, tls=trust) as ann:
        group = await ann.make_group()
        async with (
            await ann.listen(group, url=wss, ssl=trust) as socket_,
            await Socket.open(f"{wss}/v1/websocket?token={ann.token}", ssl=trust),
        ):
            said = await ann.say(group)
            await socket_.until_seq(group, said["seq"])
        page = await ann.http.get("/")
        large = await ann.http.post("/api/login", content=b"x" * 30_000_000)

    assert page.status_code == 200
    # A refusal reaches a client that is still sending.
    assert large.status_code == 413
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/health/live")


def test_openssl_finds_a_sound_handshake(serve: Serve, authority: Authority):
    """[HTTPS2] openssl verifies the chain and agrees on TLS 1.3 and http/1.1; TLS 1.1 is refused (RFC 8996)."""
    server = https(serve, authority)
    openssl = programs.openssl()
    base = [openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", authority.root]

    def says(*more: str) -> str:
        done = subprocess.run([*base, *more], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    good = says("-verify_return_error", "-verify_ip", "127.0.0.1", "-alpn", "h2,http/1.1")
    old = says("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")

    assert "Verify return code: 0 (ok)" in good
    assert "TLSv1.3" in good
    assert "ALPN protocol: http/1.1" in good
    assert "Cipher is (NONE)" in old


async def test_a_renewal(serve: Serve, authority: Authority):
    """[HTTPS3] SIGHUP shows the renewed certificate to new clients, and closes no connection."""
    server = https(serve, authority)
    url, wss, trust = f"https://127.0.0.1:{server.port}", f"wss://127.0.0.1:{server.port}", authority.trust
    async with await Person.sign_up(url, tls=trust) as ann:
        group = await ann.make_group()
        async with await ann.listen(group, url=wss, ssl=trust) as socket_:
            before = serial_of("127.0.0.1", server.port, trust)
            renewed = authority.issue(authority.folder / "cert.pem", authority.folder / "key.pem", "127.0.0.1")
            unread = serial_of("127.0.0.1", server.port, trust)

            server.program.signal(signal.SIGHUP)
            server.program.wait_for("certificate read")
            after = serial_of("127.0.0.1", server.port, trust)
            said = await ann.say(group)
            await socket_.until_seq(group, said["seq"])

    assert (unread, after) == (before, renewed)


def test_a_renewal_that_is_broken(serve: Serve, authority: Authority):
    """[HTTPS4] A certificate and key that do not match at SIGHUP are logged, and the previous pair stays in use."""
    server = https(serve, authority)
    before = serial_of("127.0.0.1", server.port, authority.trust)
    authority.issue(authority.folder / "cert.pem", authority.folder / "other.pem", "127.0.0.1")

    server.program.signal(signal.SIGHUP)
    server.program.wait_for("the certificate was not renewed.*are no pair")

    assert serial_of("127.0.0.1", server.port, authority.trust) == before


def certificate(cert: Path, key: Path | None) -> str:
    """Return why a pair is refused."""
    with pytest.raises(SettingsInvalid) as refused:
        Certificate(cert, key)
    return str(refused.value)


def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path):
    """[HTTPS5] A missing file, a file without a certificate, a foreign key and a password are each one sentence."""
    cert, key, locked = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "locked.pem"
    authority.issue(tmp_path / "foreign.pem", tmp_path / "foreign.key", "127.0.0.1")
    encrypt = [programs.openssl(), "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(encrypt, check=True)

    assert "ORBITAL_TLS_CERT" in certificate(tmp_path / "none.pem", key)
    assert "No such file" in certificate(cert, tmp_path / "none.pem")
    assert "contains no certificate" in certificate(key, key)
    assert "are no pair" in certificate(cert, tmp_path / "foreign.key")
    assert "are no pair" in certificate(cert, None)
    assert "has a password" in certificate(cert, locked)


def test_one_file_for_both(authority: Authority, tmp_path: Path):
    """[HTTPS6] A file that holds the certificate and its key needs no second setting."""
    both = tmp_path / "both.pem"
    authority.issue(both, both, "127.0.0.1")

    assert Certificate(both, None).context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "env, sentence",
    [
        ({"ORBITAL_TLS_KEY": "/key"}, "ORBITAL_TLS_KEY is set and ORBITAL_TLS_CERT is not"),
        ({"ORBITAL_REDIRECT_PORT": "80"}, "ORBITAL_REDIRECT_PORT is set and ORBITAL_TLS_CERT is not"),
        ({"ORBITAL_TLS_CERT": "/cert", "ORBITAL_UDS": "/socket"}, "ORBITAL_UDS and ORBITAL_TLS_CERT are both set"),
    ],
)
def test_settings_that_contradict_each_other(env: dict[str, str], sentence: str):
    """[HTTPS7] A key or a redirecting port without a certificate is refused, and a certificate on a Unix socket."""
    with pytest.raises(SettingsInvalid) as refused:
        load({}, env)

    assert str(refused.value).startswith(sentence)


def test_a_client_that_shakes_no_hand(serve: Serve, authority: Authority):
    """[HTTPS8] A client that never begins the handshake is disconnected after HANDSHAKE_S; others are served."""
    server = https(serve, authority)
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANDSHAKE_S + 20) as silent:
        assert httpx.get(f"https://127.0.0.1:{server.port}/health/live", verify=authority.trust).status_code == 200

        assert silent.recv(1) == b""


async def test_the_redirecting_port(serve: Serve, authority: Authority):
    """[HTTPS9] Plain requests on the second port are redirected with path and query; an upgrade is not."""
    server = https(serve, authority, ORBITAL_REDIRECT_PORT="0", ORBITAL_LOG_LEVEL="debug")
    plain = next(
        one.laddr.port
        for one in psutil.Process(server.pid).net_connections("tcp")
        if one.status == "LISTEN" and one.laddr.port != server.port
    )
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plain}", trust_env=False) as client:
        page = await client.get("/invite/a%20b?c=d%20e")
        post = await client.post("/api/login", json={"username": "ada"})
        socket_ = await client.get("/ws?token=SECRETTOKEN", headers=upgrade)
        strange = await client.get("/", headers={"Host": "a/b"})

    place = f"https://127.0.0.1:{server.port}"
    assert (page.status_code, page.headers["location"]) == (308, f"{place}/invite/a%20b?c=d%20e")
    assert (post.status_code, post.headers["location"]) == (308, f"{place}/api/login")
    assert (socket_.status_code, strange.status_code) == (308, 400)
    assert "location" not in strange.headers
    assert "SECRETTOKEN" not in server.program.text


@pytest.mark.parametrize(
    "port, public_url, host, target",
    [
        (443, None, "talk.example.org", "https://talk.example.org/x"),
        (443, None, "talk.example.org:80", "https://talk.example.org/x"),
        (8443, None, "[2001:db8::1]:8080", "https://[2001:db8::1]:8443/x"),
        (3000, "https://talk.example.org/orbital", "192.0.2.1", "https://talk.example.org/x"),
        (3000, "http://talk.example.org", "192.0.2.1", "https://192.0.2.1:3000/x"),
        (443, None, "", None),
        (443, None, "evil.example/path", None),
        (443, None, "user@evil.example", None),
    ],
)
def test_where_a_redirect_leads(port: int, public_url: str | None, host: str, target: str | None):
    """[HTTPS10] A redirect leads to the public address, or to the requested host at the HTTPS port."""
    assert Redirect(port=port, public_url=public_url).target(host, "/x", "") == target


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example"])
def test_a_redirect_stays_on_the_host(path: str):
    """[HTTPS13] A path that looks like an address does not lead to another host."""
    assert str(Redirect(port=443, public_url=None).target("talk.example.org", path, "")).startswith(
        "https://talk.example.org/"
    )


def test_health_over_tls(serve: Serve, authority: Authority):
    """[HTTPS11] `orbital health` uses TLS if the settings have a certificate."""
    server = https(serve, authority)
    command = [sys.executable, "-m", "orbital_relay", "health", "--ready"]
    command += ["--port", str(server.port), "--tls-cert", str(authority.folder / "cert.pem")]

    asked = subprocess.run(command, capture_output=True, text=True)

    assert asked.returncode == 0, asked.stderr
