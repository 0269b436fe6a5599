"""Admission by a real server: tokens and how they are sent, tickets, limits, proxies, origins."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import Any, NamedTuple

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from orbital_relay.config import Settings
from orbital_relay.model import UserId
from orbital_relay.store.sqlite import SqliteStore
from tests.support.client import Person, Socket
from tests.support.tokens import sign, token

# Settings that tests of handshakes reset to the protocol's values.
FIVE = {"ORBITAL_CONNECT_LIMIT": "5", "ORBITAL_CONNECT_CEILING": "60"}


@pytest.fixture
def server(shared_server):
    """Share one server among the tests that neither set nor stop it."""
    return shared_server


class Answer(NamedTuple):
    """What a handshake came to."""

    status: int
    body: dict[str, Any]
    headers: Any
    subprotocol: str | None = None


async def _connect(
    server, *, bearer: str | None = None, query: str = "", source: str = "127.0.0.1", **headers
) -> Answer:
    """Try to connect, once; an open socket is closed again."""
    sent = {name.replace("_", "-"): value for name, value in headers.items() if name != "subprotocols"}
    if bearer is not None:
        sent["Authorization"] = f"Bearer {bearer}"
    try:
        async with connect(
            f"{server.ws_url}{query}",
            additional_headers=sent,
            subprotocols=[Subprotocol(name) for name in headers.get("subprotocols", ())] or None,
            local_addr=(source, 0),
            proxy=None,
        ) as socket:
            first = json.loads(await socket.recv())
            assert first["type"] == "auth_success"
            return Answer(101, first["data"], {}, socket.subprotocol)
    except InvalidStatus as refused:
        answer = refused.response
        assert answer.headers["Content-Type"].startswith("application/json")
        return Answer(answer.status_code, json.loads(answer.body or b""), answer.headers)


async def _statuses(server, count, **options) -> list[int]:
    return [(await _connect(server, **options)).status for _ in range(count)]


# Chapter: tokens


async def test_every_way_for_a_token(server, people):
    """[DOO1] Header, subprotocol, ticket and query each authenticate a handshake, tried in this order."""
    ada = await people(server.url)
    ticket = (await ada.post("/api/ws-ticket", {}))["ticket"]

    by_header = await _connect(server, bearer=ada.token, query="?token=bad")
    by_subprotocol = await _connect(server, subprotocols=["orbital.v1", f"bearer.{ada.token}"], query="?token=bad")
    by_ticket = await _connect(server, query=f"?token=bad&ticket={ticket}")
    by_query = await _connect(server, query=f"?token={ada.token}")
    ways = (by_header, by_subprotocol, by_ticket, by_query)

    assert [way.status for way in ways] == [101] * 4
    assert {way.body["user_id"] for way in ways} == {ada.user_id}
    assert by_subprotocol.subprotocol == "orbital.v1"
    assert by_header.subprotocol is None
    assert (await _connect(server, bearer="bad", query=f"?token={ada.token}")).status == 401
    assert (await _connect(server, query=f"?ticket={ticket}")).status == 401, "a ticket opens one door once"


BAD = (
    None,
    "not.a.token",
    token("u", lives_s=-5),
    token("u", secret="another secret, as long as the right one"),
    sign({"userId": "u", "exp": 4_000_000_000}, header={"alg": "none"}),
    sign({"userId": "u", "exp": 4_000_000_000}, header={"alg": "HS512"}),
    sign({"userId": "u"}),
    sign({"userId": "a b", "exp": 4_000_000_000}),
    sign({"username": "u", "exp": 4_000_000_000}),
)


async def test_an_invalid_token(server):
    """[DOO2] Without a valid token a handshake is 401, as JSON, before the upgrade; HTTP requests likewise."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        for bad in BAD:
            refused = await _connect(server, bearer=bad)
            over_http = await http.get("/api/groups", headers={} if bad is None else {"Authorization": f"Bearer {bad}"})

            assert (refused.status, refused.body["error"]) == (401, "UNAUTHORIZED"), bad
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert (over_http.status_code, over_http.json()["error"]) == (401, "UNAUTHORIZED"), bad
            assert over_http.headers["WWW-Authenticate"] == "Bearer"


async def test_another_services_user(server):
    """[DOO3] A user of another service is created on first use; twenty concurrent first uses create one user."""
    stranger = token("legacy|42", "outsider")

    answers = await asyncio.gather(*(_connect(server, bearer=stranger) for _ in range(20)))
    person = Person(server.url, user_id="legacy|42", username="outsider", token=stranger)
    async with person:
        group = await person.make_group()
        members = (await person.get(f"/api/groups/{group.id}/members"))["members"]

    assert [answer.status for answer in answers] == [101] * 20
    assert {answer.body["user_id"] for answer in answers} == {"legacy|42"}
    assert [(member["user_id"], member["username"]) for member in members] == [("legacy|42", "outsider")]


async def test_an_outside_identity_provider(serve, tmp_path):
    """[DOO4] With a public key file the provider's tokens are accepted beside our own; a forged HS256 token is not."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    server = serve(env={"ORBITAL_JWT_PUBLIC_KEY_FILE": str(tmp_path / "key.pem")})
    claims = {"userId": "sso-1", "username": "sso", "exp": 4_000_000_000}

    assert (await _connect(server, bearer=jwt.encode(claims, key, algorithm="EdDSA"))).body["user_id"] == "sso-1"
    assert (await _connect(server, bearer=token("own-1"))).body["user_id"] == "own-1"
    assert (await _connect(server, bearer=sign(claims, secret=pem.decode()))).status == 401


async def test_a_generated_secret(serve):
    """[DOO5] Without JWT_SECRET the server generates one, keeps it private, and its tokens outlive a restart."""
    server = serve(start=False)
    del server.env["JWT_SECRET"]
    server.start()
    secret = server.data_dir / "jwt-secret"
    async with await Person.sign_up(server.url) as ada:
        server.restart()
        assert (await _connect(server, bearer=ada.token)).body["user_id"] == ada.user_id

    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text().strip() not in "\n".join(server.log)
    assert (await _connect(server, bearer=token("u"))).status == 401


# Chapter: limits


async def test_five_a_minute(serve, people):
    """[DOO6] The sixth handshake of a user in a minute is 429 with the seconds; other users are not affected."""
    server = serve(env=FIVE)
    ada, bob = await people(server.url), await people(server.url)
    assert await _statuses(server, 5, bearer=ada.token) == [101] * 5

    refused = await _connect(server, bearer=ada.token)

    assert (refused.status, refused.body["error"]) == (429, "TOO_MANY_REQUESTS")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.body["details"]["retry_after"] == int(refused.headers["Retry-After"])
    assert (await _connect(server, bearer=bob.token)).status == 101
    assert (await _connect(server, bearer=ada.token, source="127.0.0.2")).status == 101


async def test_a_limit_is_checked_before_a_bad_token(serve):
    """[DOO7] Five bad tokens from an address are 401 each, the sixth is 429; a valid one is still accepted."""
    server = serve(env=FIVE)

    assert await _statuses(server, 6, bearer="bad") == [401] * 5 + [429]
    assert (await _connect(server)).status == 429
    assert (await _connect(server, bearer=token("u"))).status == 101


async def test_strict_counts_all_users(serve):
    """[DOO8] With `strict` an address has five attempts in all, valid or not, by any user."""
    server = serve(env={**FIVE, "ORBITAL_CONNECT_POLICY": "strict"})

    statuses = [
        (await _connect(server, bearer=bearer)).status
        for bearer in (token("a"), "bad", token("b"), token("a"), None, token("c"), "bad")
    ]

    assert statuses == [101, 401, 101, 101, 401, 429, 429]
    assert (await _connect(server, bearer=token("c"), source="127.0.0.2")).status == 101


async def test_the_ceiling_of_an_address(serve):
    """[DOO9] With `home` an address has a maximum number of attempts in all; refused ones do not count."""
    server = serve(env={"ORBITAL_CONNECT_LIMIT": "2", "ORBITAL_CONNECT_CEILING": "6"})

    assert await _statuses(server, 4, bearer=token("a")) == [101, 101, 429, 429]
    assert await _statuses(server, 3, bearer="bad") == [401, 401, 429]
    assert await _statuses(server, 3, bearer=token("b")) == [101, 101, 429]
    assert (await _connect(server, bearer=token("c"))).status == 429
    assert (await _connect(server, bearer=token("c"), source="127.0.0.2")).status == 101


async def test_asking_for_a_ticket_takes_no_attempt(serve, people):
    """[DOO10] Tickets are free while an attempt is left, and 429 with the seconds otherwise."""
    server = serve(env=FIVE)
    ada = await people(server.url)
    tickets = [(await ada.post("/api/ws-ticket", {})) for _ in range(8)]
    assert {ticket["expires_in"] for ticket in tickets} == {30}

    assert [(await _connect(server, query=f"?ticket={ticket['ticket']}")).status for ticket in tickets[:6]] == [
        *[101] * 5,
        429,
    ]

    refused = await ada.http.post("/api/ws-ticket")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


async def test_behind_a_proxy(serve):
    """[DOO11] Only a trusted proxy's header determines the address, right-most first."""
    trusting = serve(env={**FIVE, "ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    one, other = "203.0.113.5", "203.0.113.6"
    assert await _statuses(trusting, 6, bearer="bad", X_Forwarded_For=f"6.6.6.6, {one}") == [401] * 5 + [429]
    assert (await _connect(trusting, bearer="bad", X_Forwarded_For=f"{other}, {one}")).status == 429
    assert (await _connect(trusting, bearer="bad", X_Forwarded_For=other)).status == 401
    # 127.0.0.2 is not a trusted proxy: its header is ignored.
    lies = [
        (await _connect(trusting, bearer="bad", source="127.0.0.2", X_Forwarded_For=f"203.0.113.{last}")).status
        for last in range(50, 56)
    ]
    assert lies == [401] * 5 + [429]


async def test_origins(serve):
    """[DOO12] With an allow-list other origins are 403, before any limit or token; no Origin means not a page."""
    server = serve(env={"ORBITAL_ALLOWED_ORIGINS": "https://chat.example.org", "ORBITAL_CONNECT_LIMIT": "1"})
    good = token("u")

    assert await _statuses(server, 3, Origin="https://evil.example", bearer="bad") == [403] * 3
    assert (await _connect(server, Origin="https://evil.example", bearer=good)).body["error"] == "FORBIDDEN"
    assert (await _connect(server, Origin="https://chat.example.org", bearer=good)).status == 101
    assert (await _connect(server, bearer=token("v"))).status == 101


async def test_the_server_s_own_page_and_apps(serve):
    """[ORI4] An allow-list never excludes the server's own page; `null` and `app://` are accepted where listed."""
    server = serve(env={"ORBITAL_ALLOWED_ORIGINS": "app://orbital, null"})
    good = token("u")

    for origin in (server.url, "app://orbital", "null"):
        assert (await _connect(server, Origin=origin, bearer=good)).status == 101, origin
    for origin in (f"{server.url}0", "app://other", "https://evil.example"):
        assert (await _connect(server, Origin=origin, bearer=good)).status == 403, origin


async def test_the_server_s_own_page_behind_a_proxy_that_changes_the_host(serve):
    """[ORI5] The host that a trusted proxy forwards is the server's own; the header of any other peer is ignored."""
    server = serve(env={"ORBITAL_ALLOWED_ORIGINS": "app://orbital", "ORBITAL_TRUSTED_PROXIES": "127.0.0.1"})
    good = token("u")

    async def try_origin(origin: str, forwarded: str, source: str = "127.0.0.1") -> int:
        return (await _connect(server, Origin=origin, X_Forwarded_Host=forwarded, source=source, bearer=good)).status

    assert await try_origin("https://family.example", "family.example") == 101
    assert await try_origin("https://family.example", "family.example:443") == 101
    assert await try_origin("https://evil.example", "family.example") == 403
    # Each proxy appends: the trusted one's entry is the last.
    assert await try_origin("https://evil.example", "evil.example, family.example") == 403
    assert await try_origin("https://family.example", "family.example", source="127.0.0.2") == 403


async def test_any_origin_by_default(server):
    """[DOO13] Without an allow-list a page of any origin may connect with a token."""
    assert (await _connect(server, Origin="https://any.example", bearer=token("u"))).status == 101


# Chapter: the end of a token


async def test_logging_out_ends_the_connection(server, people):
    """[DOO14] A revoked token closes its connections with 1008 and is 401 from then on; other tokens stay valid."""
    ada = await people(server.url)
    other = token(ada.user_id, ada.username)
    first, second = await ada.connect(), await Socket.open(f"{server.ws_url}?token={other}")
    ticket = (await ada.post("/api/ws-ticket", {}))["ticket"]

    await ada.ask("POST", "/api/logout", expect=204)

    assert await first.until_closed() == 1008
    assert (await _connect(server, bearer=ada.token)).status == 401
    assert (await _connect(server, query=f"?ticket={ticket}")).status == 401
    assert (await ada.http.get("/api/groups")).status_code == 401
    await second.wait_idle()
    await second.close()


async def test_a_user_is_revoked_by_another_process(server):
    """[DOO15] A revocation that another process writes closes all of the user's connections within seconds."""
    old = token("outcast")
    sockets = [await Socket.open(f"{server.ws_url}?token={old}") for _ in range(3)]
    bystander = await Socket.open(f"{server.ws_url}?token={token('bystander')}")

    database = Settings(data_dir=server.data_dir).database
    store = await SqliteStore.open(database.path, alone=False)
    await store.revoke(token_digest=None, user_id=UserId("outcast"), at_s=4_000_000_000, until_s=4_000_000_001)
    await store.close()

    assert await asyncio.gather(*(socket.until_closed() for socket in sockets)) == [1008] * 3
    assert (await _connect(server, bearer=old)).status == 401
    await bystander.wait_idle()
    await bystander.close()


async def test_expiry_ends_the_connection(server):
    """[DOO16] When a token expires, its connection is closed with 1008, after a warning."""
    socket = await Socket.open(f"{server.ws_url}?token={token('brief', lives_s=15)}")

    warning = await socket.until("token_expiring")

    assert warning["data"]["expires_at"]
    assert await socket.until_closed(deadline_s=60) == 1008


async def test_no_secret_is_logged(serve, people):
    """[DOO17] At every log level, no token or ticket, valid or not, is logged, however it is sent."""
    server = serve(env={"ORBITAL_LOG_LEVEL": "debug"})
    ada = await people(server.url)
    forged = token(ada.user_id, secret="another secret, as long as the right one")
    ticket = (await ada.post("/api/ws-ticket", {}))["ticket"]
    for each in (ada.token, forged):
        await _connect(server, bearer=each)
        await _connect(server, subprotocols=["orbital.v1", f"bearer.{each}"])
        await _connect(server, query=f"?token={each}")
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            for path in (f"/ws?token={each}", f"/nowhere?token={each}", f"/api/groups/{each}/members"):
                await http.get(path, headers={"Authorization": f"Bearer {each}"})
    await _connect(server, query=f"?ticket={ticket}")
    async with await ada.connect() as socket:
        await socket.send("authenticate", {"token": forged})
        await socket.send_raw('{"type":"authenticate","data":{"token":["' + ada.token + '"]}}')
        await socket.wait_idle()

    printed = "\n".join(server.log)

    assert "connection opened" in printed
    for secret in (*ada.token.split(".")[1:], *forged.split(".")[1:], ticket, ada.password):
        assert secret not in printed
