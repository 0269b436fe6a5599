"""What a server logs at level debug, for any request and any failure: no secret."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from websockets.exceptions import InvalidStatus

from orbital_relay.server.http import ENDPOINTS
from tests.conftest import Serve
from tests.support.client import Socket
from tests.support.postgres import Postgres
from tests.support.redis import Redis
from tests.support.server import SECRET, Server
from tests.support.tokens import token

_ROWS = ("groups", "members", "events", "threads", "replies", "idempotency_keys", "revocations", "media", "users")


class _Vault:
    """Draws secrets, each unlike anything else, and knows them all."""

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {"JWT_SECRET": SECRET}

    def keep(self, what: str, text: str) -> str:
        """Note a secret that was drawn elsewhere."""
        self.drawn[f"{what} {len(self.drawn)}"] = text
        return text

    def text(self, what: str) -> str:
        """Draw a secret that a person could have typed."""
        return self.keep(what, f"Plain-{secrets.token_hex(12)}-7")

    def opaque(self, what: str) -> str:
        """Draw ciphertext, in base64; the bytes are as secret."""
        return self.keep(what, base64.b64encode(self.text(what).encode()).decode())

    def token(self, user_id: str, **options: Any) -> str:
        """Draw a token; of two of one user the signatures differ, so those are what is looked for."""
        # All tokens differ, so that revoking one leaves the others valid.
        made = token(user_id, f"name-of-{user_id}", lives_s=3600 + len(self.drawn), **options)
        self.keep("signature", made.rpartition(".")[2])
        return made

    def found_in(self, printed: str) -> list[str]:
        """Return which secrets are in a text."""
        return [what for what, text in self.drawn.items() if text in printed]


class _Visitor:
    """
    Asks every route with a token, and notes which it has asked.

    What one visit has made, a group, a thread and a medium, is what the next asks for when it can make none.
    """

    def __init__(self, server: Server, vault: _Vault, http: httpx.AsyncClient) -> None:
        self.server, self.vault, self.http = server, vault, http
        self.visited: set[tuple[str, str]] = set()
        self.statuses: set[int] = set()
        self.bearer = ""
        self.group_id = self.thread_id = self.media_id = self.code = ""

    async def ask(self, method: str, route: str, *, bearer: str | None = None, **options: Any) -> httpx.Response:
        """Ask a route; `{names}` in it are taken from the options."""
        self.visited.add((method, route))
        path = re.sub(r"{(\w+)}", lambda found: str(options.pop(found[1], uuid.uuid4())), route)
        headers = {"Authorization": f"Bearer {bearer or self.bearer}", **options.pop("headers", {})}
        answer = await self.http.request(method, path, headers=headers, **options)
        self.statuses.add(answer.status_code)
        return answer

    async def post(self, route: str, body: Any, *, key: str | None = None, **options: Any) -> httpx.Response:
        """POST a body with a key that nobody shall read."""
        headers = {"Idempotency-Key": self.vault.keep("idempotency key", key or f"key-{secrets.token_hex(12)}")}
        return await self.ask("POST", route, json=body, headers=headers, **options)

    async def everything(self) -> None:
        """Ask every route: well where that can be, then badly."""
        self.visited, self.statuses = set(), set()
        vault, opaque = self.vault, self.vault.opaque
        self.bearer, other, stranger = vault.token("ada"), vault.token("bob"), vault.token("eve")
        shut = vault.token("ada", secret="another secret, long enough for this")
        password, wrong = vault.text("password"), vault.text("wrong password")
        key = {"kty": vault.text("public key")}
        account = {"username": f"s{secrets.token_hex(6)}", "password": password}
        signed = await self.ask("POST", "/api/signup", json={**account, "public_key": key})
        await self.ask("POST", "/api/signup", json={**account, "public_key": vault.text("public key")})
        await self.ask("POST", "/api/signup", json={**account, "password": vault.keep("weak", secrets.token_hex(8))})
        logins = [
            await self.ask("POST", "/api/login", json={**account, "password": text}) for text in (password, wrong)
        ]
        for answer in (signed, *logins):
            if answer.is_success:
                vault.keep("signature", answer.json()["token"].rpartition(".")[2])
        made = await self.post("/api/groups", {"encrypted_name": opaque("name"), "encrypted_group_key": opaque("key")})
        if made.is_success:
            self.group_id, self.code = made.json()["group_id"], vault.keep("invite code", made.json()["invite_code"])
        group_id = self.group_id
        joining = {"invite_code": self.code, "encrypted_group_key": opaque("group key")}
        await self.post("/api/groups/join", joining, bearer=other)
        await self.post("/api/groups/join", joining)
        guess = vault.keep("guessed code", f"Q{secrets.token_hex(4)[:7].upper()}")
        await self.post("/api/groups/join", {**joining, "invite_code": guess})
        renewed = await self.ask("POST", "/api/groups/{group_id}/invite-codes", group_id=group_id)
        if renewed.is_success:
            self.code = vault.keep("invite code", renewed.json()["invite_code"])
        opened = await self.post(
            "/api/threads", {"group_id": group_id, "encrypted_title": opaque("t"), "encrypted_body": opaque("b")}
        )
        if opened.is_success:
            self.thread_id = opened.json()["thread_id"]
        thread_id = self.thread_id
        for envelope in (opaque("envelope"), vault.text("envelope that nobody encrypted")):
            message = {"conversation_id": group_id, "encrypted_envelope": envelope, "timestamp": 1}
            used = f"key-{secrets.token_hex(12)}"
            await self.post("/v1/messages", message, key=used)
            await self.post("/v1/messages", {**message, "timestamp": 2}, key=used)
            await self.post("/v1/messages", message, bearer=stranger)
            await self.post("/v1/messages", {"wrong": envelope})
            await self.ask("POST", "/v1/messages", content=f'{{"x": "{envelope}'.encode())
            await self.ask("POST", "/v1/messages", content=f'{{"x": "{envelope}", "y": "'.encode() + b'\xff\0"}')
            await self.post("/api/threads/{thread_id}/replies", {"encrypted_body": envelope}, thread_id=thread_id)
        media_id = str(uuid.uuid4())
        upload = {
            "media_id": media_id,
            "thread_id": thread_id,
            "chunk_index": "0",
            "total_chunks": "1",
            "encrypted_metadata": opaque("metadata"),
            "encryption_iv": vault.keep("vector", base64.b64encode(secrets.token_bytes(12)).decode()),
        }
        for fields in (upload, {**upload, "encrypted_metadata": vault.text("metadata")}):
            file = {"chunk": ("chunk", vault.text("chunk").encode())}
            sent = await self.ask("POST", "/api/media/upload", data=fields, files=file)
            if sent.is_success:
                self.media_id = media_id
        await self.post("/api/media/upload/complete", {"media_id": media_id})
        await self.post("/api/media/{media_id}/downloaded", None, media_id=media_id)
        known = {
            "group_id": group_id,
            "thread_id": thread_id,
            "media_id": self.media_id,
            "mailbox": secrets.token_urlsafe(16),
            "user_id": secrets.token_urlsafe(8),
        }
        asked: dict[str, Any] = {"/v1/events": {"group_id": group_id}}
        for endpoint in ENDPOINTS:
            if endpoint.method == "GET":
                named = {name: known[name] for name in re.findall(r"{(\w+)}", endpoint.path)}
                for bearer in (self.bearer, other, shut):
                    query = {**asked.get(endpoint.path, {}), "token": bearer}
                    await self.ask("GET", endpoint.path, bearer=bearer, params=query, **named)
                await self.ask("GET", endpoint.path, params={**query, "limit": vault.text("limit")}, **named)
        await self.keys(group_id, str(known["mailbox"]))
        await self.account(signed, password)
        await self.ask("DELETE", "/api/media/{media_id}", media_id=self.media_id)
        ticket = await self.ask("POST", "/api/ws-ticket")
        shown = vault.keep("ticket", ticket.json()["ticket"]) if ticket.status_code == 200 else vault.text("ticket")
        await self.sockets(group_id, thread_id, (f"?ticket={shown}", f"?ticket={shown}", f"?token={self.bearer}"))
        leaving = "/api/groups/{group_id}/members/{user_id}"
        await self.ask("DELETE", leaving, group_id=group_id, user_id="bob", bearer=stranger)
        await self.ask("DELETE", leaving, group_id=group_id, user_id="bob")
        await self.rest()
        await self.ask("POST", "/api/logout")

    async def account(self, signed: httpx.Response, password: str) -> None:
        """Change the password of a new account, and let its device be called."""
        vault = self.vault
        bearer = signed.json()["token"] if signed.is_success else self.bearer
        newer = {"old_password": password, "new_password": vault.text("new password")}
        changed = await self.ask("POST", "/api/password", bearer=bearer, json=newer)
        if changed.is_success:
            bearer = changed.json()["token"]
            vault.keep("signature", bearer.rpartition(".")[2])
        point = base64.urlsafe_b64encode(b"\x04" + secrets.token_bytes(64)).rstrip(b"=").decode()
        keys = {"p256dh": vault.keep("push key", point), "auth": vault.keep("push secret", secrets.token_urlsafe(16))}
        endpoint = f"https://push.example.org/{vault.text('endpoint')}"
        await self.ask("PUT", "/api/push/subscriptions", bearer=bearer, json={"endpoint": endpoint, "keys": keys})

    async def rest(self) -> None:
        """Ask every other route with a secret in each field and in each part of its path."""
        for each in ENDPOINTS:
            if each.method == "GET" or (each.method, each.path) in self.visited or each.path == "/api/logout":
                continue
            named = {name: self.vault.text(name) for name in re.findall(r"{(\w+)}", each.path)}
            fields = () if each.body is None else msgspec.structs.fields(each.body)
            body = {field.encode_name: self.vault.text(field.encode_name) for field in fields}
            await self.ask(each.method, each.path, json=body, **named)

    async def keys(self, group_id: str, unknown: str) -> None:
        """Publish, claim and remove keys, post records and envelopes, and fill a mailbox, well and badly."""
        vault = self.vault

        def public(start: bytes, size: int) -> str:
            text = base64.b64encode(start + secrets.token_bytes(size - len(start))).decode()
            return vault.keep("public key", text)

        signed = {"id": 0, "key": public(b"", 1216), "signature": public(b"", 64)}
        device = {"identity_key": public(b"\x05", 33), "suites": 2, "hpke_pre_key": signed}
        for body in (device, {**device, "identity_key": vault.text("identity key")}):
            await self.ask("PUT", "/v1/keys", json=body)
        wanted = {"user_id": "ada", "device_id": 1, "suite": 16}
        await self.post("/v1/keys/claims", {"group_id": group_id, "devices": [wanted]})
        for text in (vault.opaque("envelope"), vault.text("envelope")):
            await self.post("/v1/key-messages", {"group_id": group_id, "encrypted_envelope": text})
            await self.post("/api/groups/{group_id}/records", {"record": text}, group_id=group_id)
        opened = await self.ask("POST", "/v1/provision")
        mailbox = vault.keep("mailbox", opened.json()["mailbox"]) if opened.status_code == 201 else unknown
        for text in (vault.opaque("mail"), vault.text("mail")):
            await self.ask("PUT", "/v1/provision/{mailbox}", mailbox=mailbox, json={"encrypted_message": text})
        await self.ask("GET", "/v1/provision/{mailbox}", mailbox=mailbox)
        for name in ("1", vault.text("device")):
            await self.ask("DELETE", "/v1/keys/{device_id}", device_id=name)

    async def sockets(self, group_id: str, thread_id: str, ways: tuple[str, ...]) -> None:
        """Open sockets in every way, and say what can be said there, well and badly."""
        vault, opaque = self.vault, self.vault.opaque
        for way in ways:
            try:
                socket = await Socket.open(self.server.ws_url + way)
            except InvalidStatus as refused:
                self.statuses.add(refused.response.status_code)
                continue
            async with socket:
                await socket.send("subscribe", {"group_ids": [group_id, vault.text("group")]})
                for body in (opaque("body"), vault.text("body")):
                    key = {"idempotency_key": vault.keep("idempotency key", f"key-{secrets.token_hex(12)}")}
                    message = {"conversation_id": group_id, "encrypted_envelope": body, "timestamp": 1}
                    await socket.send("post_message", {**message, **key})
                    await socket.send("post_message", {**message, "timestamp": 2, **key})
                    thread = {"group_id": group_id, "encrypted_title": body, "encrypted_body": body}
                    await socket.send("post_thread", {**thread, **key})
                    await socket.send("post_reply", {"thread_id": thread_id, "encrypted_body": body})
                    await socket.send(body, {"thread_id": body})
                    await socket.send("typing_indicator", {"thread_id": body, "is_typing": body})
                    await socket.send("pong", {"client_time": body})
                    await socket.send_raw(f'{{"type":"post_message","data":{{"encrypted_envelope":"{body}')
                    await socket.send("typing_indicator", {"thread_id": thread_id, "is_typing": True})
                for newer in (self.bearer, vault.token("somebody-else"), vault.text("token")):
                    await socket.send("authenticate", {"token": newer})
                await socket.wait_idle()


def _refuse_rows_in_sqlite(server: Server) -> Callable[[], None]:
    def execute(statement: str) -> None:
        with sqlite3.connect(server.data_dir / "orbital.db", timeout=60) as conn:
            for table in _ROWS:
                for event in ("INSERT", "UPDATE", "DELETE"):
                    conn.execute(statement.format(table=table, event=event))
        conn.close()

    execute(
        "CREATE TRIGGER no_{table}_{event} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'refused here'); END"
    )
    return lambda: execute("DROP TRIGGER no_{table}_{event}")


def _refuse_rows_in_postgres(postgres: Postgres, url: str) -> Callable[[], None]:
    database = url.rpartition("/")[2]
    for table in _ROWS:
        # Its DETAIL contains the whole row.
        column = {"members": "joined_ms", "events": "stamp_ms", "idempotency_keys": "used_ms", "revocations": "number"}
        check = f"CHECK ({column.get(table, 'id')} < 0) NOT VALID"
        postgres.execute(f"ALTER TABLE {table} ADD CONSTRAINT refused_here {check}", database=database)

    def undo() -> None:
        for table in _ROWS:
            postgres.execute(f"ALTER TABLE {table} DROP CONSTRAINT refused_here", database=database)

    return undo


async def _reveal_no_secret(server: Server, refuse: Callable[[], Callable[[], None]]) -> None:
    vault = _Vault()
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as http:
        visitor = _Visitor(server, vault, http)
        await visitor.everything()
        assert {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} == visitor.visited
        assert {200, 201, 204, 400, 401, 403, 404, 409, 426} <= visitor.statuses
        undo = await asyncio.to_thread(refuse)
        await visitor.everything()
        assert visitor.statuses & {500, 503}
        await asyncio.to_thread(undo)
        await visitor.everything()
        assert not visitor.statuses & {500, 503}

    server.terminate()
    printed = "\n".join(server.log)
    assert "connection opened" in printed
    assert "the database" in printed
    assert len(vault.drawn) > 100
    assert vault.found_in(printed) == []


async def test_no_line_has_a_secret(serve: Serve):
    """[PROM5] At level debug no secret is logged: every route and frame, valid and invalid, with a failing database."""
    server = serve(env={"ORBITAL_LOG_LEVEL": "debug", "ORBITAL_LOG_FORMAT": "json"})

    await _reveal_no_secret(server, lambda: _refuse_rows_in_sqlite(server))


async def test_no_line_of_a_cluster_has_a_secret(
    serve: Serve, postgres_cluster: Postgres, postgres_url: str, redis_server: Redis
):
    """[PROM5] Nothing secret is logged on PostgreSQL, whose errors contain the whole row, in text format."""
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}
    server = serve(env={"ORBITAL_LOG_LEVEL": "debug", "ORBITAL_LOG_FORMAT": "text", **env})

    await _reveal_no_secret(server, lambda: _refuse_rows_in_postgres(postgres_cluster, postgres_url))
