"""
A small Orbital of the tests' own: a real socket, the REST side without one, and every fault on demand.

It shares the wire's words with the real server and nothing else, so that a client can be shown things a sound server
never does: gaps, repeats, bad frames, silence, another log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from orbital_relay import wire
from orbital_relay.core.chain import digest, first_prev
from tests.support import frames

GROUP = "0b0e7a52-3f5c-4b8e-9d1a-6f1f4c2a9e01"
OTHER = "7d3f0d6e-52b1-4c0e-8f7a-1b2c3d4e5f60"
USER = "5c9b7a30-0d5e-4b2a-a1f3-2e8d9c7b6a54"
STAMP = 1_763_862_000_000


def message(group_id: str = GROUP, content: str = "aGk=") -> wire.NewMessage:
    """Make the data of a message."""
    return wire.NewMessage(str(uuid4()), group_id, content, STAMP, USER)


class Log:
    """One group's log."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.frames: list[bytes] = []
        self.floor = 0

    def append(self, data: wire.EventData | None = None) -> bytes:
        """Number, chain and keep an event; a message when it does not matter which."""
        prev = digest(self.frames[-1]) if self.frames else first_prev(self.group_id)
        seq = len(self.frames) + 1
        frame = wire.seal(
            data or message(self.group_id), group_id=self.group_id, seq=seq, stamp_ms=STAMP + seq, prev=prev
        )
        self.frames.append(frame)
        return frame

    def after(self, seq: int) -> list[bytes]:
        """Give the frames after `seq`."""
        return self.frames[seq:]


class FakeServer:
    """
    One server. What it does wrong is set by its attributes.

    Attributes:
        logs: By group.
        refusals: Answers to the next handshakes: status, headers and body; served first to last.
        received: Every frame of every client, parsed.
        handshakes: The tokens that came, oldest first.
        forbidden: Groups nobody is in.
        silent: Accept, and never say a word.
        rest: Called for each REST request first; an answer of its own, or None to continue.
    """

    def __init__(self, *, header: str = frames.FAKE) -> None:
        """Make a server; `header` is the `Server` of its handshakes, and frames are checked unless it is FAKE."""
        self.logs: dict[str, Log] = {}
        self.refusals: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.received: list[dict[str, Any]] = []
        self.handshakes: list[str] = []
        self.requests: list[httpx.Request] = []
        self.forbidden: set[str] = set()
        self.silent = False
        self.heartbeat_s = 30.0
        self._header = header
        self.good_token: Callable[[str], bool] = lambda _: True
        self.rest: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.posts: dict[str, tuple[str, bytes]] = {}
        self.sockets: dict[ServerConnection, set[str]] = {}
        self._changed = asyncio.Condition()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def transport(self) -> httpx.MockTransport:
        """The REST side."""
        return httpx.MockTransport(self._answer)

    def log(self, group_id: str = GROUP, *, events: int = 0) -> Log:
        """Give a group's log, with at least so many events."""
        log = self.logs.setdefault(group_id, Log(group_id))
        while len(log.frames) < events:
            log.append()
        return log

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._admit, ping_interval=None, server_header=self._header
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    # What a test does

    async def append(self, group_id: str = GROUP, data: wire.EventData | None = None, *, hush: bool = False) -> bytes:
        """Append an event and send it to who listens; with `hush`, send nothing."""
        frame = self.log(group_id).append(data)
        if not hush:
            await self.send(frame, group_id)
        return frame

    async def send(self, frame: bytes | str, group_id: str | None = None) -> None:
        """Send a frame to who listens to a group, or to everybody."""
        text = frame.decode() if isinstance(frame, bytes) else frame
        for socket, groups in list(self.sockets.items()):
            if group_id is None or group_id in groups:
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(text)

    async def end(self, code: int = 1012, reason: str = "") -> None:
        """Close every connection."""
        for socket in list(self.sockets):
            await socket.close(code, reason)

    def cut(self) -> None:
        """Cut every connection without a word."""
        for socket in list(self.sockets):
            socket.transport.abort()

    async def until(self, fact: Callable[[], bool], *, deadline_s: float = 120) -> None:
        """Return once something is so."""
        async with asyncio.timeout(deadline_s), self._changed:
            await self._changed.wait_for(fact)

    async def changed(self) -> None:
        """Let `until` look again."""
        async with self._changed:
            self._changed.notify_all()

    def received_of(self, type_: str) -> list[dict[str, Any]]:
        """Give the data of the frames of a type that clients sent."""
        return [frame["data"] for frame in self.received if frame["type"] == type_]

    # The socket

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.handshakes.append(token)
        await self.changed()
        if self.refusals:
            status, headers, body = self.refusals.pop(0)
        elif not self.good_token(token):
            status, headers, body = 401, {}, {"error": "UNAUTHORIZED", "message": "The token is invalid."}
        else:
            return None
        content = json.dumps(body).encode()
        return Response(
            status, HTTPStatus(status).phrase, Headers({**headers, "Content-Length": str(len(content))}), content
        )

    async def _serve(self, socket: ServerConnection) -> None:
        groups: set[str] = set()
        self.sockets[socket] = groups
        try:
            if not self.silent:
                hello = {
                    "user_id": USER,
                    "username": "anna",
                    "connected_at": wire.iso(STAMP),
                    "session_id": str(uuid4()),
                    "heartbeat_seconds": self.heartbeat_s,
                    "max_frame_bytes": 65_536,
                    "expires_at": wire.iso(STAMP),
                }
                await self._say(socket, "auth_success", hello)
            await self.changed()
            async for text in socket:
                frame = json.loads(text)
                self.received.append(frame)
                if not self.silent:
                    await self._hear(socket, groups, frame)
                await self.changed()
        except ConnectionClosed:
            pass
        finally:
            del self.sockets[socket]
            await self.changed()

    async def _say(self, socket: ServerConnection, type_: str, data: dict[str, Any], **more: Any) -> None:
        await socket.send(json.dumps({"type": type_, "data": data, "server_timestamp": STAMP, **more}))

    async def _hear(self, socket: ServerConnection, groups: set[str], frame: dict[str, Any]) -> None:
        if frame["type"] == "unsubscribe":
            groups.difference_update(frame["data"]["group_ids"])
            await self._say(socket, "unsubscribed", {"group_ids": frame["data"]["group_ids"], "reason": "requested"})
        if frame["type"] != "subscribe":
            return
        wanted = frame["data"]["group_ids"]
        since = frame["data"].get("since", {})
        more = {"reply_to": frame["id"]} if "id" in frame else {}
        refused = [group_id for group_id in wanted if group_id in self.forbidden]
        if refused:
            error = {"code": "FORBIDDEN", "message": "You are not in some of these groups.", "group_ids": refused}
            await self._say(socket, "error", error, **more)
        granted = [group_id for group_id in wanted if group_id not in self.forbidden]
        states: dict[str, Any] = {}
        replay: list[bytes] = []
        for group_id in granted:
            log = self.log(group_id)
            states[group_id] = {"seq": len(log.frames)}
            if group_id in since:
                asked = since[group_id]
                seq, hash_ = (asked, None) if isinstance(asked, int) else (asked["seq"], asked.get("hash"))
                fits = log.floor <= seq <= len(log.frames) and (not hash_ or digest(log.frames[seq - 1]) == hash_)
                states[group_id]["recovered"] = fits
                replay += log.after(seq) if fits else []
        groups.update(granted)
        data = {"group_ids": granted, "subscribed_at": wire.iso(STAMP), "groups": states}
        await self._say(socket, "subscribed", data, **more)
        for each in replay:
            await socket.send(each.decode())

    # The REST side

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        try:
            return self.rest(request) or self._route(request)
        finally:
            await self.changed()

    def _route(self, request: httpx.Request) -> httpx.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.good_token(token):
            return refusal(401, "UNAUTHORIZED")
        if request.url.path == "/v1/events":
            return self._events(request)
        if request.url.path == "/v1/messages" and request.method == "POST":
            return self._post(request)
        return refusal(404, "NOT_FOUND")

    def _events(self, request: httpx.Request) -> httpx.Response:
        query = {name: values[0] for name, values in parse_qs(urlsplit(str(request.url)).query).items()}
        group_id, after = query["group_id"], int(query["after_seq"])
        if group_id in self.forbidden:
            return refusal(403, "FORBIDDEN")
        log = self.log(group_id)
        if after < log.floor:
            return refusal(410, "GONE", details={"oldest_seq": log.floor + 1})
        frames = log.after(after)[: int(query["limit"])]
        more = after + len(frames) < len(log.frames)
        return page_of(frames, last_seq=len(log.frames), has_more=more)

    def _post(self, request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        body = json.loads(request.content)
        if key not in self.posts:
            data = message(body["conversation_id"], body["encrypted_envelope"])
            log = self.log(body["conversation_id"])
            log.append(data)
            answer = {"message_id": data.message_id, "server_timestamp": STAMP, "seq": len(log.frames)}
            self.posts[key] = (body["encrypted_envelope"], json.dumps(answer).encode())
        return httpx.Response(200, content=self.posts[key][1])


def refusal(
    status: int, code: str, *, headers: dict[str, str] | None = None, details: dict[str, Any] | None = None
) -> httpx.Response:
    """Make an error answer as the protocol writes it."""
    body = {"error": code, "message": f"{code} it is.", "details": details or {}}
    return httpx.Response(status, headers=headers or {}, json=body)


def page_of(frames: list[bytes], *, last_seq: int, has_more: bool = False) -> httpx.Response:
    """Make a page of a log."""
    headers = {
        "Content-Type": "application/x-ndjson",
        "X-Last-Seq": str(last_seq),
        "X-Has-More": "true" if has_more else "false",
    }
    return httpx.Response(200, headers=headers, content=b"".join(frame + b"\n" for frame in frames))


def contents(log: Log) -> list[str]:
    """Give the envelopes of a log of messages, in order."""
    return [json.loads(frame)["data"].get("encrypted_envelope", "") for frame in log.frames]
