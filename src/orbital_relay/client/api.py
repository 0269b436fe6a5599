"""The REST side of the protocol, typed."""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import msgspec

import orbital_relay
from orbital_relay.client import responses
from orbital_relay.client.errors import ApiError, BadAnswer, Closed, Unreachable
from orbital_relay.client.user_code import theirs

T = TypeVar("T")
P = TypeVar("P", responses.Groups, responses.Members, responses.Presence, responses.MediaList)

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that gives one, called again whenever the last one no longer holds."""

REQUEST_TIMEOUT_S: Final = 30.0
"""How long the server may be silent within one request before it counts as unreachable."""

RETRY_AFTER_MOST_S: Final = 3_600.0
"""A server that asks for more is asked again after an hour."""

USER_AGENT: Final = f"orbital-python/{orbital_relay.__version__}"


# Chapter: addresses


class Address(msgspec.Struct, frozen=True):
    """
    Where a server is.

    Attributes:
        http: The base of the REST side, without a slash at its end.
        websocket: The address of the socket.
    """

    http: str
    websocket: str


_SOCKET_PATHS: Final = re.compile(r"/(?:ws|v1/websocket)/?\Z")


def address_of(url: str) -> Address:
    """
    Read a server's address as people write it.

    Args:
        url: `http://`, `https://`, `ws://` or `wss://`, a host, perhaps a port and a path before `/ws`.

    Raises:
        ValueError: If it is none; the text says why.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(f"{url!r} is not an address: {exc}.") from exc
    secure = {"http": False, "https": True, "ws": False, "wss": True}.get(parts.scheme)
    if secure is None or not parts.hostname:
        raise ValueError(f"{url!r} is not an address of a server; write it like http://localhost:3000.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"The address {parts.hostname} must not carry a user, a query or a fragment.")
    path = _SOCKET_PATHS.sub("", parts.path).rstrip("/")
    return Address(
        urlunsplit(("https" if secure else "http", parts.netloc, path, "", "")),
        urlunsplit(("wss" if secure else "ws", parts.netloc, f"{path}/ws", "", "")),
    )


# Chapter: tokens


class Tokens:
    """The caller's token: kept while it holds, asked for anew when it does not."""

    def __init__(self, source: TokenSource | None) -> None:
        self._source = source
        self._token: str | None = _checked(source) if isinstance(source, str) else None
        self._lock = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether there is a function to ask."""
        return not isinstance(self._source, str | None)

    async def get(self) -> str | None:
        """Give the token; None when there is none."""
        if self._token is None and self._source is not None:
            await self.renew(None)
        return self._token

    async def renew(self, used: str | None) -> bool:
        """
        Get a newer token than the one that was used.

        Args:
            used: The token that no longer holds; None when there was none.

        Returns:
            Whether there is another one now.
        """
        async with self._lock:
            if self._token != used:
                return True
            if self._source is None or isinstance(self._source, str):
                return False
            given = self._source()
            token = await theirs(given) if inspect.isawaitable(given) else given
            if not token:
                raise ValueError("The token function returned an empty token.")
            if token == used:
                return False
            self._token = _checked(token)
            return True


_TOKEN: Final = re.compile(r"[!-~]*")


def _checked(token: str) -> str:
    """Refuse what would break the header, and be told with it; without the token in the sentence."""
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(
            "The token holds a character that no token has, such as a space, a line break at its end, or a letter "
            "beyond ASCII."
        )
    return token


# Chapter: errors


class _ErrorBody(msgspec.Struct):
    error: str
    message: str = ""
    details: dict[str, Any] = {}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, in seconds or as a date (RFC 9110 §10.2.3); None when it is absent or unreadable."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MOST_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), RETRY_AFTER_MOST_S)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Make the error of an answer that is not 2xx, whoever gave it."""
    wait_s = retry_after_s(headers)
    try:
        told = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        location = headers.get("Location") if 300 <= status < 400 else None
        sentence = f"The server answered {status}" + (f" and points to {location[:200]}." if location else ".")
        return ApiError(sentence, status=status, code=f"HTTP_{status}", retry_after_s=wait_s)
    message = told.message or f"The server answered {status}."
    return ApiError(message, status=status, code=told.error, details=told.details, retry_after_s=wait_s)


# Chapter: the requests


_KEY: Final = re.compile(r"[!-~]{1,128}")


def checked_key(key: str) -> str:
    """
    Give an idempotency key back.

    Raises:
        ValueError: If the protocol does not allow it.
    """
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"An idempotency key has 1 to 128 visible ASCII characters; {key!r} is none.")
    return key


def _segment(value: str) -> str:
    """Write an id into a path, whatever is in it."""
    return quote(value, safe="")


class Api:
    """
    Every request of the protocol, as a coroutine with a typed answer.

    All raise ApiError when the server refuses, and Unreachable when it does not answer. A request that the server
    refuses with 401 is made once more when the token function has a newer token. Nothing else is retried here.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Speak with the server at `url`.

        Args:
            url: Its address, such as `http://localhost:3000`.
            token: The caller's token, or a function that gives one; None for signup and login.
            timeout_s: How long the server may be silent, seconds.
            transport: Another httpx transport, for proxies of your own and for tests.

        Raises:
            ValueError: If `url` is not an address, or `token` cannot be one.
        """
        self.address = address_of(url)
        self.tokens = Tokens(token)
        self._http = httpx.AsyncClient(
            base_url=self.address.http,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            headers={"User-Agent": USER_AGENT},
            transport=transport,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Public: accounts

    async def signup(self, username: str, password: str, public_key: dict[str, Any]) -> responses.SignedUp:
        """Make an account. The password has at least 12 characters with upper, lower and digit."""
        body = {"username": username, "password": password, "public_key": public_key}
        return await self._call("POST", "/api/signup", responses.SignedUp, body=body, anonymous=True)

    async def login(self, username: str, password: str) -> responses.LoggedIn:
        """Get a token for an account."""
        body = {"username": username, "password": password}
        return await self._call("POST", "/api/login", responses.LoggedIn, body=body, anonymous=True)

    async def logout(self) -> None:
        """Make the token void; connections that use it end."""
        await self._request("POST", "/api/logout")

    async def ws_ticket(self) -> responses.Ticket:
        """Get a ticket for one handshake."""
        return await self._call("POST", "/api/ws-ticket", responses.Ticket)

    # Public: groups

    async def create_group(
        self, encrypted_name: str, encrypted_group_key: str, *, idempotency_key: str | None = None
    ) -> responses.GroupCreated:
        """Make a group; the caller is its first member."""
        body = {"encrypted_name": encrypted_name, "encrypted_group_key": encrypted_group_key}
        return await self._call("POST", "/api/groups", responses.GroupCreated, body=body, key=idempotency_key)

    async def join_group(
        self, invite_code: str, encrypted_group_key: str, *, idempotency_key: str | None = None
    ) -> responses.GroupJoined:
        """Enter the group that the code belongs to."""
        body = {"invite_code": invite_code, "encrypted_group_key": encrypted_group_key}
        return await self._call("POST", "/api/groups/join", responses.GroupJoined, body=body, key=idempotency_key)

    async def groups(self) -> list[responses.Group]:
        """List the caller's groups."""
        return [group async for page in self._pages("/api/groups", responses.Groups) for group in page.groups]

    async def members(self, group_id: str) -> list[responses.Member]:
        """List a group's members."""
        pages = self._pages(f"/api/groups/{_segment(group_id)}/members", responses.Members)
        return [member async for page in pages for member in page.members]

    async def remove_member(self, group_id: str, user_id: str) -> None:
        """Remove a member, as the group's creator; or leave, as that member."""
        await self._request("DELETE", f"/api/groups/{_segment(group_id)}/members/{_segment(user_id)}")

    async def new_invite_code(self, group_id: str) -> responses.InviteCode:
        """Replace the group's invite code, as its creator."""
        return await self._call("POST", f"/api/groups/{_segment(group_id)}/invite-codes", responses.InviteCode)

    async def quota(self, group_id: str) -> responses.Quota:
        """Tell how much of its room for media a group uses."""
        return await self._call("GET", f"/api/groups/{_segment(group_id)}/quota", responses.Quota)

    async def presence(self, group_id: str) -> list[responses.Online]:
        """List who of a group is connected, to whichever server of the cluster."""
        pages = self._pages(f"/api/groups/{_segment(group_id)}/presence", responses.Presence)
        return [each async for page in pages for each in page.online]

    # Public: messages

    async def post_message(
        self, conversation_id: str, encrypted_envelope: str, *, timestamp: int, idempotency_key: str | None = None
    ) -> responses.MessageSent:
        """
        Post a message once; `Orbital.send` does it until it is there.

        Args:
            conversation_id: The group's id.
            encrypted_envelope: The envelope, base64.
            timestamp: The sender's clock, milliseconds since the epoch.
            idempotency_key: The same key for every try of the same post.
        """
        body = {
            "conversation_id": conversation_id,
            "encrypted_envelope": encrypted_envelope,
            "timestamp": timestamp,
        }
        return await self._call("POST", "/v1/messages", responses.MessageSent, body=body, key=idempotency_key)

    async def messages(
        self, *, since: int | None = None, limit: int | None = None, conversation_id: str | None = None
    ) -> responses.Messages:
        """
        Read a page of the messages of all groups, or of one, oldest first.

        Args:
            since: Only those stamped later than this, milliseconds since the epoch; None from the oldest kept.
            limit: 1 to 500; 100 when left out.
            conversation_id: One group's id.
        """
        query = {"since": since, "limit": limit, "conversation_id": conversation_id}
        return await self._call("GET", "/v1/messages", responses.Messages, query=query)

    # Public: threads

    async def create_thread(
        self,
        group_id: str,
        encrypted_title: str,
        encrypted_body: str,
        *,
        root_message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ThreadCreated:
        """Open a thread once; `Orbital.open_thread` does it until it is there."""
        body = thread_body(group_id, encrypted_title, encrypted_body, root_message_id)
        return await self._call("POST", "/api/threads", responses.ThreadCreated, body=body, key=idempotency_key)

    async def threads(
        self,
        group_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        sort: Literal["created_desc", "created_asc"] | None = None,
    ) -> responses.Threads:
        """Read a page of a group's threads: at most 100, 50 when left out, the newest first when left out."""
        query = {"limit": limit, "offset": offset, "sort": sort}
        return await self._call("GET", f"/api/groups/{_segment(group_id)}/threads", responses.Threads, query=query)

    async def thread(self, thread_id: str) -> responses.Thread:
        """Read one thread, with its media."""
        return await self._call("GET", f"/api/threads/{_segment(thread_id)}", responses.Thread)

    async def replies(
        self, thread_id: str, *, limit: int | None = None, offset: int | None = None
    ) -> responses.Replies:
        """Read a page of a thread's replies, oldest first."""
        query = {"limit": limit, "offset": offset}
        return await self._call("GET", f"/api/threads/{_segment(thread_id)}/replies", responses.Replies, query=query)

    async def create_reply(
        self,
        thread_id: str,
        encrypted_body: str,
        *,
        message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> responses.ReplyCreated:
        """Reply once; `Orbital.reply` does it until it is there."""
        body = reply_body(encrypted_body, message_id)
        return await self._call("POST", reply_path(thread_id), responses.ReplyCreated, body=body, key=idempotency_key)

    # Public: media

    async def upload_state(self, media_id: str) -> responses.UploadState:
        """Tell which chunks of an upload the server has."""
        return await self._call("GET", f"/api/media/{_segment(media_id)}/upload", responses.UploadState)

    async def upload_chunk(
        self,
        *,
        media_id: str,
        thread_id: str,
        chunk_index: int,
        total_chunks: int,
        chunk: bytes,
        encrypted_metadata: str,
        encryption_iv: str,
    ) -> responses.ChunkStored | responses.MediaStored:
        """Send one chunk, of at most 5 MiB; MediaStored when it was the one that completes the medium."""
        fields = {
            "media_id": media_id,
            "thread_id": thread_id,
            "chunk_index": str(chunk_index),
            "total_chunks": str(total_chunks),
            "encrypted_metadata": encrypted_metadata,
            "encryption_iv": encryption_iv,
        }
        files = {"chunk": ("chunk", chunk, "application/octet-stream")}
        response = await self._request("POST", "/api/media/upload", data=fields, files=files)
        if response.status_code == 201:
            return _decode(response.content, responses.MediaStored)
        return _decode(response.content, responses.ChunkStored)

    async def complete_upload(self, media_id: str) -> responses.MediaStored:
        """Ask whether a medium is whole; ApiError names the chunks that are missing."""
        body = {"media_id": media_id}
        return await self._call("POST", "/api/media/upload/complete", responses.MediaStored, body=body)

    async def media_info(self, media_id: str) -> responses.MediaInfo:
        """Tell what is known of a medium."""
        return await self._call("GET", f"/api/media/{_segment(media_id)}/info", responses.MediaInfo)

    async def media_downloaded(self, media_id: str) -> None:
        """Tell the group that the caller has a medium; its info lists who has."""
        await self._request("POST", f"/api/media/{_segment(media_id)}/downloaded")

    async def delete_media(self, media_id: str) -> None:
        """Take a medium away before its time, or give an upload up."""
        await self._request("DELETE", f"/api/media/{_segment(media_id)}")

    async def thread_media(self, thread_id: str) -> list[responses.MediaItem]:
        """List a thread's media."""
        pages = self._pages(f"/api/threads/{_segment(thread_id)}/media", responses.MediaList)
        return [medium async for page in pages for medium in page.media]

    @asynccontextmanager
    async def download(
        self, media_id: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """
        Open a medium for reading; the body is streamed.

        Args:
            media_id: The medium.
            headers: `Range` and `If-Range`, to go on after an interruption.
        """
        async with self._stream("GET", f"/api/media/{_segment(media_id)}/download", headers or {}) as response:
            yield response

    # Public: the log

    async def events(self, group_id: str, *, after_seq: int = 0, limit: int | None = None) -> responses.Events:
        """Read a page of a group's log, as plain objects."""
        query = {"group_id": group_id, "after_seq": after_seq, "limit": limit}
        return await self._call("GET", "/v1/events", responses.Events, query=query)

    async def event_frames(self, group_id: str, *, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        """
        Read a page of a group's log as the frames that are stored, to the letter, so that they can be hashed.

        Raises:
            ApiError: With code `GONE` and `details["oldest_seq"]` when events after `after_seq` are no longer kept.
        """
        query = {"group_id": group_id, "after_seq": after_seq, "limit": limit}
        response = await self._request(
            "GET", "/v1/events", params=_query(query), headers={"Accept": "application/x-ndjson"}
        )
        return [line for line in response.content.split(b"\n") if line]

    async def post(self, path: str, body: bytes, *, idempotency_key: str) -> bytes:
        """Post JSON as it is and give the answer as it is; for the outbox."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        return (await self._request("POST", path, content=body, headers=headers)).content

    # Private

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        anonymous: bool = False,
    ) -> T:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = checked_key(key)
        response = await self._request(
            method,
            path,
            anonymous=anonymous,
            content=None if body is None else msgspec.json.encode(body),
            params=_query(query),
            headers=headers,
        )
        return _decode(response.content, answer)

    async def _pages(self, path: str, answer: type[P]) -> AsyncIterator[P]:
        """Read a list to its end: a page ends early when its entries are large."""
        offset = 0
        while True:
            page = await self._call("GET", path, answer, query={"offset": offset} if offset else None)
            yield page
            # The entries are the one list of a page.
            count = next(len(value) for value in msgspec.structs.astuple(page) if isinstance(value, list))
            offset += count
            if not page.has_more or not count:
                return

    def _check_open(self) -> None:
        if self._http.is_closed:
            raise Closed("The client is closed; make another one.")

    async def _request(self, method: str, path: str, *, anonymous: bool = False, **kwargs: Any) -> httpx.Response:
        """Make a request; once more when the token did not hold and there is a newer one."""
        given: dict[str, str] = kwargs.pop("headers", {})
        self._check_open()
        while True:
            used = None if anonymous else await self.tokens.get()
            headers = given if used is None else {**given, "Authorization": f"Bearer {used}"}
            try:
                response = await self._http.request(method, path, headers=headers, **kwargs)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
                raise _unreachable(exc, self.address) from exc
            if response.status_code == 401 and used is not None and await self.tokens.renew(used):
                continue
            if not response.is_success:
                raise error_of(response.status_code, response.headers, response.content)
            return response

    @asynccontextmanager
    async def _stream(self, method: str, path: str, given: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        self._check_open()
        while True:
            used = await self.tokens.get()
            headers = dict(given) if used is None else {**given, "Authorization": f"Bearer {used}"}
            request = self._http.build_request(method, path, headers=headers)
            try:
                response = await self._http.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
                raise _unreachable(exc, self.address) from exc
            try:
                if response.status_code == 401 and used is not None and await self.tokens.renew(used):
                    continue
                if not response.is_success:
                    raise error_of(response.status_code, response.headers, await response.aread())
                yield response
                return
            except httpx.HTTPError as exc:
                raise _unreachable(exc, self.address) from exc
            finally:
                await response.aclose()


def encoded(encrypted: bytes | str) -> str:
    """Write ciphertext as base64; text is base64 already."""
    return base64.b64encode(encrypted).decode("ascii") if isinstance(encrypted, bytes) else encrypted


def thread_body(
    group_id: str, encrypted_title: str, encrypted_body: str, root_message_id: str | None
) -> dict[str, Any]:
    """Make the body of `POST /api/threads`."""
    body = {"group_id": group_id, "encrypted_title": encrypted_title, "encrypted_body": encrypted_body}
    return body if root_message_id is None else {**body, "root_message_id": root_message_id}


def reply_body(encrypted_body: str, message_id: str | None) -> dict[str, Any]:
    """Make the body of a reply's POST."""
    body = {"encrypted_body": encrypted_body}
    return body if message_id is None else {**body, "message_id": message_id}


def reply_path(thread_id: str) -> str:
    """Tell where a thread's replies are posted."""
    return f"/api/threads/{_segment(thread_id)}/replies"


def _query(query: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if query is None else {name: value for name, value in query.items() if value is not None}


def _decode(content: bytes, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadAnswer(f"What answered does not speak Orbital's protocol: {exc}.") from exc


def _unreachable(exc: Exception, address: Address) -> Unreachable:
    """Say what happened in a sentence; httpx' own text is empty for some errors."""
    what = str(exc) or type(exc).__name__
    return Unreachable(f"The server at {address.http} did not answer: {what}.")
