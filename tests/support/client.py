"""
People for tests: they sign up, make groups, post and listen.

All asserts on what is expected of every answer are here; what a test is about, it asserts itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.frames import check_frame

PASSWORD = "Correct-Horse-7-Battery"
Frame = dict[str, Any]

_numbers = itertools.count(1)


def opaque(content: str | bytes = b"") -> str:
    """Return base64 as an `encrypted_*` field takes it; of `content`, or of 48 random bytes."""
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(raw or os.urandom(48)).decode()


def link(text: str) -> str:
    """Return the `prev` that follows a frame's text (or, for number 1, a group's id): RFC 4648 §5, no padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Refused(AssertionError):
    """The server answered with an error where a test counted on success."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.body: Any = answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        super().__init__(f"{answer.request.method} {answer.request.url} → {self.status} {self.body}")


class Person:
    """One account and an HTTP client that carries its token."""

    def __init__(
        self,
        url: str,
        *,
        user_id: str,
        username: str,
        token: str,
        password: str = PASSWORD,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url, self.user_id, self.username, self.token, self.password = url, user_id, username, token, password
        self.tls = tls
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=120,
            trust_env=False,
            verify=True if tls is None else tls,
        )

    @classmethod
    async def sign_up(
        cls, url: str, username: str | None = None, *, tls: ssl.SSLContext | None = None, **more: str
    ) -> Person:
        """Make an account; without a name it gets one of its own. `more` are further fields, such as an invitation."""
        username = username or f"person_{os.getpid()}_{next(_numbers)}"
        public_key = {"kty": "OKP", "crv": "X25519"}
        verify = True if tls is None else tls
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, verify=verify) as http:
            answer = await http.post(
                "/api/signup",
                json={"username": username, "password": PASSWORD, "public_key": public_key, **more},
            )
        if answer.status_code != 201:
            raise Refused(answer)
        body = answer.json()
        return cls(url, user_id=body["user_id"], username=body["username"], token=body["token"], tls=tls)

    async def close(self) -> None:
        """Close the HTTP client."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # HTTP

    async def ask(self, method: str, path: str, *, expect: int | None = None, **options: Any) -> Any:
        """
        Return the JSON body of an answer (None for an empty one).

        Args:
            expect: The status that is counted on; any 2xx if None.

        Raises:
            Refused: If the status is another one.
        """
        answer = await self.http.request(method, path, **options)
        fine = answer.is_success if expect is None else answer.status_code == expect
        if not fine:
            raise Refused(answer)
        return answer.json() if answer.content else None

    async def get(self, path: str, **query: Any) -> Any:
        """GET `path` with `query` parameters; the JSON body."""
        return await self.ask("GET", path, params=query)

    async def post(self, path: str, body: Mapping[str, Any], *, key: str | None = None) -> Any:
        """POST `body`, with an `Idempotency-Key` if `key` is given; the JSON body of the answer."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.ask("POST", path, json=body, headers=headers)

    async def make_group(self) -> Group:
        """Make a group; its creator is its first member."""
        body = await self.post("/api/groups", {"encrypted_name": opaque(), "encrypted_group_key": opaque()})
        return Group(body["group_id"], body["invite_code"])

    async def join(self, group: Group) -> Any:
        """Join by the group's invite code."""
        return await self.post("/api/groups/join", {"invite_code": group.invite_code, "encrypted_group_key": opaque()})

    async def leave(self, group: Group) -> None:
        """Leave the group."""
        await self.remove(group, self)

    async def remove(self, group: Group, who: Person) -> None:
        """Remove somebody from the group."""
        await self.ask("DELETE", f"/api/groups/{group.id}/members/{who.user_id}", expect=204)

    async def say(self, group: Group, content: str | bytes = b"", *, key: str | None = None) -> Any:
        """Post a message; the envelope is `content` as it is, in base64."""
        return await self.post(
            "/v1/messages",
            {"conversation_id": group.id, "encrypted_envelope": opaque(content), "timestamp": 0},
            key=key,
        )

    async def open_thread(self, group: Group, *, key: str | None = None) -> Any:
        """Open a thread."""
        return await self.post(
            "/api/threads",
            {"group_id": group.id, "encrypted_title": opaque(), "encrypted_body": opaque()},
            key=key,
        )

    async def reply(self, thread_id: str, *, key: str | None = None) -> Any:
        """Reply in a thread."""
        return await self.post(f"/api/threads/{thread_id}/replies", {"encrypted_body": opaque()}, key=key)

    async def events(self, group: Group, *, after: int = 0) -> list[Frame]:
        """Return every kept event of the group after number `after`, page by page."""
        found: list[Frame] = []
        while True:
            page = await self.get("/v1/events", group_id=group.id, after_seq=after)
            found += page["events"]
            if not page["has_more"]:
                return found
            after = found[-1]["seq"]

    # The socket

    async def connect(self, url: str | None = None, **options: Any) -> Socket:
        """
        Open a socket, token in the header, and take its `auth_success`.

        Args:
            url: Another way to the server, as through a proxy.
            options: For `websockets.asyncio.client.connect`.
        """
        address = (url or self.url).replace("http", "ws", 1)
        options.setdefault("additional_headers", {"Authorization": f"Bearer {self.token}"})
        return await Socket.open(address if address.endswith("/ws") else f"{address}/ws", **options)

    async def listen(self, *groups: Group, since: Mapping[str, Any] | None = None, **options: Any) -> Socket:
        """Open a socket and subscribe to `groups`; the `subscribed` frame is the last in `frames`."""
        socket = await self.connect(**options)
        await socket.subscribe(*(group.id for group in groups), since=since)
        return socket


class Group:
    """A group's id and its invite code."""

    def __init__(self, group_id: str, invite_code: str) -> None:
        self.id, self.invite_code = group_id, invite_code


class Socket:
    """
    One open socket. Every frame that is received stays in `frames`, in order; `texts` has them byte for byte.

    Pings of the protocol are answered by themselves unless `answering` is made False.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []
        self.texts: list[str] = []
        self.answering = True
        self._looked = 0

    @classmethod
    async def open(cls, url: str, **options: Any) -> Socket:
        """Connect to `url` and take `auth_success`; a refusal is websockets' `InvalidStatus`."""
        options = {"proxy": None, "max_size": None, "ping_interval": None, "open_timeout": 120} | options
        socket = cls(await connect(url, **options))
        first = await socket.receive()
        assert first["type"] == "auth_success", first
        return socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close in an orderly way."""
        await self.connection.close()

    async def send(self, type_: str, data: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Send one frame; `more` stands beside `type` and `data`, as `id=7`."""
        await self.connection.send(json.dumps({"type": type_, "data": data or {}, **more}))

    async def send_raw(self, message: str | bytes) -> None:
        """Send a text or a binary message as it is."""
        await self.connection.send(message)

    async def receive(self, *, deadline_s: float = 120, pings: bool = False) -> Frame:
        """Return the next frame; one that is no ping, unless `pings`."""
        async with asyncio.timeout(deadline_s):
            while True:
                text = await self.connection.recv()
                assert isinstance(text, str), f"a binary message: {text!r}"
                frame: Frame = json.loads(text)
                check_frame(frame)
                self.frames.append(frame)
                self.texts.append(text)
                if frame["type"] == "ping" and self.answering:
                    await self.send("pong", {"client_time": frame["data"]["server_time"]})
                if pings or frame["type"] != "ping":
                    return frame

    async def until(self, wanted: Callable[[Frame], bool] | str, *, deadline_s: float = 120) -> Frame:
        """
        Return the next frame that is `wanted`: a type, or a predicate.

        Frames before it are passed over, but stay in `frames`. Looks first at frames that arrived while something
        else was awaited.

        Raises:
            AssertionError: If the connection ends or `deadline_s` passes before; with what came instead.
        """
        fits = (lambda frame: frame["type"] == wanted) if isinstance(wanted, str) else wanted
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    while self._looked < len(self.frames):
                        self._looked += 1
                        if fits(self.frames[self._looked - 1]):
                            return self.frames[self._looked - 1]
                    await self.receive(deadline_s=deadline_s)
        except (TimeoutError, ConnectionClosed) as exc:
            shown = ", ".join(f"{frame['type']}#{frame.get('seq', '-')}" for frame in self.frames[-20:])
            raise AssertionError(f"{wanted} did not come ({exc!r}); the last frames: {shown}") from exc

    async def until_seq(self, group: Group | str, seq: int, *, deadline_s: float = 120) -> Frame:
        """Return event number `seq` of the group."""
        group_id = group if isinstance(group, str) else group.id
        return await self.until(
            lambda frame: frame.get("group_id") == group_id and frame.get("seq") == seq, deadline_s=deadline_s
        )

    async def until_closed(self, *, deadline_s: float = 120) -> int:
        """Read on until the connection ends and return its close code; 1006 when there was none."""
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    await self.receive(deadline_s=deadline_s)
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else 1006

    async def subscribe(self, *group_ids: str, since: Mapping[str, Any] | None = None) -> Frame:
        """Subscribe and return the `subscribed` frame."""
        data: dict[str, Any] = {"group_ids": list(group_ids)}
        if since is not None:
            data["since"] = since
        await self.send("subscribe", data)
        return await self.until("subscribed")

    async def wait_idle(self) -> list[Frame]:
        """
        Return all frames so far, once everything that the server had sent before this call has arrived.

        A subscribe to nothing is always answered, after what stands before it on the line.
        """
        mark = f"settle-{next(_numbers)}"
        await self.send("subscribe", {"group_ids": []}, id=mark)
        await self.until(lambda frame: frame.get("reply_to") == mark)
        return self.frames

    def events(self, group: Group | str) -> list[Frame]:
        """Return the durable events of one group among `frames`."""
        group_id = group if isinstance(group, str) else group.id
        return [frame for frame in self.frames if frame.get("group_id") == group_id and "seq" in frame]

    def seqs(self, group: Group | str) -> list[int]:
        """Return the numbers of the group's events, in the order of their arrival."""
        return [frame["seq"] for frame in self.events(group)]

    def assert_chain(self, group: Group | str, *, after: int = 0) -> None:
        """Assert that the group's events came as after+1, after+2, … with each `prev` the hash of the text before."""
        group_id = group if isinstance(group, str) else group.id
        expected = link(group_id) if after == 0 else None
        seq = after
        for frame, text in zip(self.frames, self.texts, strict=True):
            if frame.get("group_id") != group_id or "seq" not in frame:
                continue
            seq += 1
            assert frame["seq"] == seq, f"number {frame['seq']} came where {seq} was due"
            assert expected in (None, frame["prev"]), f"number {seq} does not follow the frame before"
            expected = link(text)


async def crowd(url: str, count: int) -> list[Person]:
    """Make `count` accounts, a few at a time: each costs the server a password hash."""
    gate = asyncio.Semaphore(4)

    async def one() -> Person:
        async with gate:
            return await Person.sign_up(url)

    return list(await asyncio.gather(*(one() for _ in range(count))))
