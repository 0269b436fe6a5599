"""The keys at an identity provider's address, asked by a provider of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest

from orbital_relay.config import Settings
from orbital_relay.errors import Unavailable
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.jwks import SET_BYTES, JwksKeys, fetch_set
from tests.unit.server.auth_support import (
    ALL,
    KEYS,
    SECRET,
    START_S,
    claims,
    outside_token,
    part_of,
    refusal,
    sign,
)


def _jwk(algorithm, kid, **more):
    made = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }[algorithm].to_jwk(KEYS[algorithm].public_key(), as_dict=True)
    return {key: value for key, value in {**made, "kid": kid, **more}.items() if value is not None}


class Provider:
    """A JWK set that a test changes; counts how often it is asked."""

    def __init__(self, *keys) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise jwt.PyJWKClientError("connection refused")
        return jwt.PyJWKSet.from_dict({"keys": self.keys})


def _with_provider(store, clock, provider, allowed=ALL) -> Auth:
    keys = JwksKeys("https://idp.example.org/jwks", allowed=allowed, clock=clock, fetch=provider)
    return Auth(store=store, clock=clock, secret=SECRET, outside=keys)


@pytest.mark.parametrize("algorithm", ALL)
async def test_a_key_by_its_id(clock, store, algorithm):
    """[JWK1] Tokens are verified with the key that they name, fetched once for many tokens."""
    provider = Provider(*(_jwk(each, f"k-{each}") for each in ALL))
    auth = _with_provider(store, clock, provider)

    for user in ("a", "b", "c"):
        assert (await auth.verify(outside_token(algorithm, kid=f"k-{algorithm}", userId=user))).user_id == user

    assert provider.asked == 1


async def test_a_token_without_a_key_id(clock, store):
    """[JWK2] A token without a key id is verified with the only key of its algorithm, and refused if there are two."""
    provider = Provider(_jwk("RS256", "r"), _jwk("ES256", "e1"), _jwk("ES256", "e2"))
    auth = _with_provider(store, clock, provider)

    assert (await auth.verify(outside_token("RS256"))).user_id == "u-1"
    assert "unknown key" in await refusal(auth, outside_token("ES256"))


async def test_concurrent_verifications_fetch_once(clock, store):
    """[JWK3] A hundred tokens that wait for keys trigger one fetch."""
    provider = Provider(_jwk("EdDSA", "k"))
    provider.gate.clear()
    auth = _with_provider(store, clock, provider)
    uses = [asyncio.create_task(auth.verify(outside_token("EdDSA", kid="k", userId=f"u-{n}"))) for n in range(100)]
    while provider.asked == 0:
        await asyncio.sleep(0)

    provider.gate.set()
    await asyncio.gather(*uses)

    assert provider.asked == 1


async def test_unknown_key_ids_rarely_cause_a_fetch(clock, store):
    """[JWK4] An unknown key id triggers one fetch in 30 seconds, so a new key is found within that time."""
    provider = Provider(_jwk("RS256", "old"))
    auth = _with_provider(store, clock, provider)
    await auth.verify(outside_token("RS256", kid="old"))

    for number in range(50):
        assert "unknown key" in await refusal(auth, outside_token("RS256", kid=f"made-up-{number}"))
    assert provider.asked == 1
    provider.keys = [_jwk("RS256", "new")]
    clock.now_s += 30
    assert (await auth.verify(outside_token("RS256", kid="new", userId="u-2"))).user_id == "u-2"

    assert provider.asked == 2


async def test_a_removed_key_is_refused(clock, store):
    """[JWK5] A key that the provider removes is accepted for at most five minutes."""
    provider = Provider(_jwk("RS256", "old"))
    auth = _with_provider(store, clock, provider)
    await auth.verify(outside_token("RS256", kid="old", exp=START_S + 999))
    provider.keys = [_jwk("RS256", "new")]

    clock.now_s += 300

    assert "unknown key" in await refusal(auth, outside_token("RS256", kid="old", exp=START_S + 998))


async def test_an_unreachable_provider(clock, store, caplog):
    """[JWK6] Without any keys the answer is 503 with Retry-After; keys fetched before stay in use."""
    provider = Provider(_jwk("RS256", "k"))
    provider.away = True
    auth = _with_provider(store, clock, provider)
    token = outside_token("RS256", kid="k", exp=START_S + 9999)
    for _ in range(3):
        with pytest.raises(Unavailable) as away:
            await auth.verify(token)
        assert 1 <= away.value.retry_after_s <= 31
    assert provider.asked == 1
    assert "keys could not be fetched" in caplog.text

    provider.away = False
    clock.now_s += 30
    assert (await auth.verify(token)).user_id == "u-1"
    provider.away = True
    clock.now_s += 1000

    assert (await auth.verify(outside_token("RS256", kid="k", userId="u-2", exp=START_S + 9999))).user_id == "u-2"


async def test_unsuitable_keys_are_ignored(clock, store):
    """[JWK7] Symmetric keys, encryption keys, and keys of another or a disallowed algorithm verify no token."""
    secret = {"kty": "oct", "k": part_of(SECRET), "kid": "s", "alg": "HS256"}
    provider = Provider(
        secret,
        _jwk("RS256", "enc", use="enc"),
        _jwk("RS256", "512", alg="RS512"),
        _jwk("ES256", "left-out"),
        _jwk("EdDSA", "good", use="sig"),
    )
    auth = _with_provider(store, clock, provider, allowed=("RS256", "EdDSA"))

    assert (await auth.verify(outside_token("EdDSA", kid="good"))).user_id == "u-1"
    for kid in ("enc", "512"):
        assert "unknown key" in await refusal(auth, outside_token("RS256", kid=kid))
    assert "not accepted" in await refusal(auth, outside_token("ES256", kid="left-out"))
    assert "signature" in await refusal(auth, sign(claims(), secret=b"other", header={"alg": "HS256", "kid": "s"}))


@pytest.fixture
def jwks_server(monkeypatch):
    """A provider that speaks HTTP; `answer` is what it says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args) -> None:
            """Print nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.answer = (200, json.dumps({"keys": [_jwk("ES256", "k")]}).encode())
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


async def test_keys_are_fetched_over_http(tmp_path, store, clock, jwks_server):
    """[JWK8] Keys are fetched from the address in the settings; an invalid response changes nothing."""
    url = f"http://127.0.0.1:{jwks_server.server_port}/jwks"
    auth = Auth.of(Settings(jwt_jwks_url=url, data_dir=tmp_path), store=store, clock=clock)
    forever = START_S + 99_999

    assert (await auth.verify(outside_token("ES256", kid="k"))).user_id == "u-1"
    for number, answer in enumerate([(500, b"oops"), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": []}')]):
        jwks_server.answer = answer
        clock.now_s += JwksKeys.LIFE_S
        token = outside_token("ES256", kid="k", userId=f"later-{number}", exp=forever)
        assert (await auth.verify(token)).user_id == f"later-{number}"


async def test_an_address_without_keys(tmp_path, store, clock, jwks_server):
    """[JWK9] If the response is not a key set, the answer is 503."""
    url = f"http://127.0.0.1:{jwks_server.server_port}/jwks"
    answers = [
        (404, b"{}"),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b'{"keys": 1}'),
        (200, b'{"keys": [1]}'),
        (200, b'{"keys": [{"kty": ["RSA"]}]}'),
        (200, b'{"keys": [{"kty": "RSA", "n": 5, "e": "AQAB"}]}'),
    ]
    for answer in answers:
        jwks_server.answer = answer
        auth = Auth.of(Settings(jwt_jwks_url=url, data_dir=tmp_path), store=store, clock=clock)
        with pytest.raises(Unavailable):
            await auth.verify(outside_token("ES256", kid="k"))


# Chapter: a provider that is slow, endless or silent


@pytest.fixture
async def provider_of():
    """Start a provider that does to each connection what a test says; returns its address."""
    servers, serving = [], set()

    async def start(answer) -> str:
        async def serve(reader, writer) -> None:
            serving.add(asyncio.current_task())
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await reader.readuntil(b"\r\n\r\n")
                    await answer(writer)
                    await writer.drain()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"

    yield start
    for server in servers:
        server.close()
    # The client is gone, so each ends by itself: with its answer out, or with a broken connection.
    async with asyncio.timeout(60):
        await asyncio.gather(*serving, return_exceptions=True)


def _json_head(more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + more + b"\r\n"


async def _dribble(writer) -> None:
    """Send a byte ten times a second, for ever: no single read ever waits long."""
    writer.write(_json_head())
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


def _quick(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(JwksKeys, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(JwksKeys, "PATIENCE_S", 0.2)


async def test_a_trickling_provider_meets_one_deadline(store, clock, provider_of, monkeypatch):
    """[DLN1] The deadline covers the whole fetch: trickled bytes do not extend it.

    The time-out was that of each read, so a token waited for ever, and so did the shutdown.
    """
    _quick(monkeypatch)
    url = await provider_of(_dribble)
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=JwksKeys(url, allowed=ALL, clock=clock))

    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await auth.verify(outside_token("RS256", kid="k"))


async def test_an_endless_response_is_cut_at_its_bound(provider_of, monkeypatch):
    """[DLN2] Reading stops at one MiB, however much the provider sends."""
    _quick(monkeypatch)
    sent = 0

    async def flood(writer) -> None:
        nonlocal sent
        writer.write(_json_head())
        while True:
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536

    url = await provider_of(flood)

    with pytest.raises(ValueError, match="over 1048576 bytes"):
        await fetch_set(url)
    # What lies in the buffers of both sockets was sent, too.
    assert sent < 16 * SET_BYTES


async def test_a_compressed_response_is_not_inflated(provider_of, monkeypatch):
    """[DLN5] An unrequested gzip response is refused without decompression, which would have no bound."""
    _quick(monkeypatch)
    bomb = gzip.compress(json.dumps({"keys": [_jwk("RS256", "k")]}).encode())

    async def answer(writer) -> None:
        writer.write(_json_head(b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(bomb)) + bomb)
        await writer.drain()

    with pytest.raises((ValueError, UnicodeDecodeError)):
        await fetch_set(await provider_of(answer))


async def test_a_redirect_is_not_followed(provider_of, monkeypatch):
    """[DLN6] A redirect is refused: only the address in the settings is requested."""
    _quick(monkeypatch)

    async def answer(writer) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    with pytest.raises(httpx.HTTPStatusError, match="302"):
        await fetch_set(await provider_of(answer))


async def test_cached_keys_are_used_while_the_provider_trickles(clock, store, monkeypatch):
    """[DLN3] With cached keys a token waits two seconds for a slow provider; then for two seconds none waits."""
    monkeypatch.setattr(JwksKeys, "PATIENCE_S", 0.2)
    provider = Provider(_jwk("RS256", "k"))
    auth = _with_provider(store, clock, provider)
    forever = START_S + 99_999
    await auth.verify(outside_token("RS256", kid="k", exp=forever))
    provider.gate.clear()
    clock.now_s += JwksKeys.LIFE_S + 100

    async with asyncio.timeout(60):
        first = await auth.verify(outside_token("RS256", kid="k", userId="u-2", exp=forever))
        clock.now_s += 1
        second = await auth.verify(outside_token("RS256", kid="k", userId="u-3", exp=forever))

    assert (first.user_id, second.user_id, provider.asked) == ("u-2", "u-3", 2)
    await auth.close()


async def test_keys_are_refreshed_before_they_expire(clock, store):
    """[DLN4] In the last minute of their life keys are refreshed in the background, and no token waits."""
    provider = Provider(_jwk("RS256", "k"))
    auth = _with_provider(store, clock, provider)
    await auth.verify(outside_token("RS256", kid="k", exp=START_S + 9999))
    provider.gate.clear()
    clock.now_s += JwksKeys.LIFE_S - JwksKeys.AHEAD_S

    assert (await auth.verify(outside_token("RS256", kid="k", userId="u-2", exp=START_S + 9999))).user_id == "u-2"
    while provider.asked < 2:
        await asyncio.sleep(0)
    await auth.close()


async def test_closing_cancels_a_fetch(clock, store):
    """[AUT18] A fetch in flight at shutdown is cancelled, and the token that waits for it gets 503."""
    provider = Provider(_jwk("RS256", "k"))
    provider.gate.clear()
    auth = _with_provider(store, clock, provider)
    use = asyncio.create_task(auth.verify(outside_token("RS256", kid="k")))
    while provider.asked == 0:
        await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await auth.close()

    with pytest.raises(Unavailable):
        await use
