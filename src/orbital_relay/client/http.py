"""HTTP requests of the SDK: tokens, deadlines, size limits, retry with back-off and jitter."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import httpx
import msgspec

import orbital_relay
from orbital_relay.api.errors import Error
from orbital_relay.client.address import address_of
from orbital_relay.client.errors import ApiError, BadAnswer, Closed, Unreachable
from orbital_relay.client.event_loop import LoopBinding
from orbital_relay.client.network import http_client
from orbital_relay.client.tokens import Tokens, TokenSource
from orbital_relay.core.backoff import Backoff


class _Page(Protocol):
    @property
    def has_more(self) -> bool: ...


T = TypeVar("T")
P = TypeVar("P", bound=_Page)

REQUEST_TIMEOUT_S: Final = 30.0
"""How long the server may be silent within one request before it counts as unreachable."""

REQUEST_DEADLINE_S: Final = 300.0
"""How long one request may take in all: a server that sends a byte from time to time is never silent."""

RETRY_AFTER_MOST_S: Final = 3_600.0
"""A server that asks for more is asked again after an hour."""

AWAITED_MOST_S: Final = 300.0
"""The same where somebody waits for the answer: five minutes."""

ANSWER_BYTES: Final = 32 * 1024 * 1024
"""The largest answer that is read, after inflation. The server's pages have 8 MiB at most."""

ERROR_BYTES: Final = 256 * 1024
"""The same for the body of an error."""

USER_AGENT: Final = f"orbital-python/{orbital_relay.__version__}"

ONCE_MORE: Final = Backoff(steps_ms=(500, 1_500), jitter_ms=500)
"""Waits between the tries of a POST whose answer was lost."""

POST_TRIES: Final = 3
"""Most tries of a POST that carries an idempotency key."""


# Chapter: whose answer it is


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, in seconds or as a date (RFC 9110 §10.2.3); None when it is absent or unreadable."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MOST_S)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), RETRY_AFTER_MOST_S)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError | BadAnswer:
    """
    Make the error of an answer that is not 2xx.

    Only an answer with Orbital's own error body is the server's decision. A proxy, a portal or a firewall that answers
    in its place knows nothing of the request: then the server is unreachable.
    """
    wait_s = retry_after_s(headers)
    try:
        ours = msgspec.json.decode(body, type=Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        location = headers.get("Location") if 300 <= status < 400 else None
        sentence = f"The server cannot be reached: the response with status {status} is not from Orbital"
        sentence += f"; it points to {location[:200]}." if location else "."
        return BadAnswer(sentence, status=status, retry_after_s=wait_s)
    return ApiError(ours.message, status=status, code=ours.error, details=ours.details, retry_after_s=wait_s)


def decode(content: bytes, answer: type[T]) -> T:
    """
    Read a JSON answer.

    Raises:
        BadAnswer: If it does not have the form that the protocol gives it.
    """
    try:
        return msgspec.json.decode(content, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadAnswer(f"The response does not follow Orbital's protocol: {exc}.") from exc


class HttpAnswer(msgspec.Struct, frozen=True):
    """A 2xx answer, read whole."""

    status: int
    headers: httpx.Headers
    content: bytes


async def read_bounded(response: httpx.Response, most_bytes: int) -> bytes:
    """
    Read a body, inflated; never more than so many bytes of it are in memory.

    Args:
        response: Its body was not read yet, or came whole from a transport of the program's own.
        most_bytes: The bound, after inflation.

    Raises:
        BadAnswer: If it is larger, or encoded in another way than we asked for.
        httpx.HTTPError: If the connection breaks.
    """
    too_large = BadAnswer(f"The answer is larger than {most_bytes:,} bytes, and was not read to its end.")
    if response.is_stream_consumed:
        if len(response.content) > most_bytes:
            raise too_large
        return response.content
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise BadAnswer(f"The answer is encoded as {encoding[:40]!r}, which was not requested.")
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    content = bytearray()
    try:
        async for raw in response.aiter_raw():
            content += raw if inflate is None else inflate.decompress(raw, most_bytes + 1 - len(content))
            if len(content) > most_bytes:
                raise too_large
    except zlib.error as exc:
        raise BadAnswer(f"The answer cannot be inflated: {exc}.") from exc
    if inflate is not None and not inflate.eof:
        raise BadAnswer("The answer ended before its compressed stream did.")
    return bytes(content)


# Chapter: requests

RequestContent = bytes | Callable[[], AsyncIterator[bytes]] | None
"""A body: bytes, or a function that starts to produce it, called once for each try."""


class Http:
    """The requests of one caller to one server. It knows no path."""

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Prepare for requests to the server at `url`.

        Args:
            url: Its address, such as `http://localhost:3000`.
            token: The caller's token, or a function that returns one; None for signup and login.
            timeout_s: How long the server may be silent, seconds.
            transport: Another httpx transport, for proxies of your own and for tests.

        Raises:
            ValueError: If `url` is not an address, or `token` cannot be one.
            Unreachable: If the environment names a proxy that cannot be used.
        """
        self.address = address_of(url)
        self.tokens = Tokens(token)
        self.guard = LoopBinding()
        self._http = http_client(self.address, timeout_s=timeout_s, user_agent=USER_AGENT, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # For the paths

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
        """
        Make a JSON request; one with an idempotency key is repeated when its answer was lost.

        Raises:
            ApiError: If the server refuses it.
            Unreachable: If there is no answer of the server's.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        tries = 1
        while True:
            try:
                got = await self._request(
                    method,
                    path,
                    anonymous=anonymous,
                    content=None if body is None else msgspec.json.encode(body),
                    query=query,
                    headers=headers,
                )
                return decode(got.content, answer)
            except Unreachable:
                if key is None or tries == POST_TRIES:
                    raise
            delay_ms = ONCE_MORE.delay_ms(tries - 1, random=random.random(), now_ms=0)  # noqa: S311 - spreads load, hides nothing
            tries += 1
            await asyncio.sleep(delay_ms / 1_000)

    async def _pages(
        self, path: str, answer: type[P], count: Callable[[P], int], *, query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[P]:
        """Read a list to its end, page by page; `count` returns how many entries a page has."""
        offset = 0
        while True:
            page = await self._call("GET", path, answer, query={**(query or {}), "offset": offset or None})
            yield page
            offset += count(page)
            # A page may end early when its entries are large.
            if not page.has_more or not count(page):
                return

    async def _act(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> None:
        """Make a request whose answer is 204; any other 2xx is not the server's."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        got = await self._request(method, path, content=content, headers=headers)
        if got.status != 204:
            raise BadAnswer(f"The response does not follow Orbital's protocol: {got.status} in place of 204.")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        anonymous: bool = False,
        content: RequestContent = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = REQUEST_DEADLINE_S,
    ) -> HttpAnswer:
        """Make a request; once more when the server refused the token and there is a newer one."""
        while True:
            used = None if anonymous else await self._token()
            request = self._build(method, path, used, content=content, query=query, headers=headers)
            try:
                async with asyncio.timeout(deadline_s), self._opened(request) as response:
                    if response.is_success:
                        body = await read_bounded(response, ANSWER_BYTES)
                        return HttpAnswer(response.status_code, response.headers, body)
                    error = await _error(response)
            except TimeoutError as exc:
                raise Unreachable(f"The server at {self.address.http} did not answer in {deadline_s:g} s.") from exc
            if not (_token_refused(error) and used is not None and await self.tokens.renew(used)):
                raise error

    @asynccontextmanager
    async def _stream(self, method: str, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Make a request whose 2xx body is read as it comes."""
        while True:
            used = await self._token()
            request = self._build(method, path, used, headers=headers)
            async with self._opened(request) as response:
                if response.is_success:
                    yield response
                    return
                error = await _error(response)
            if not (_token_refused(error) and used is not None and await self.tokens.renew(used)):
                raise error

    # Private

    async def _token(self) -> str | None:
        self.guard.enter()
        if self._http.is_closed:
            raise Closed("The client is closed; make another one.")
        return await self.tokens.get()

    def _build(
        self,
        method: str,
        path: str,
        token: str | None,
        *,
        content: RequestContent = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        params = None if query is None else {name: value for name, value in query.items() if value is not None}
        body = content() if callable(content) else content
        return self._http.build_request(method, path, content=body, params=params, headers=given)

    @asynccontextmanager
    async def _opened(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """Send a request; what breaks while it is answered is Unreachable."""
        try:
            response = await self._http.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
            raise self._unreachable(exc) from exc
        try:
            yield response
        except httpx.HTTPError as exc:  # An OSError here may be the caller's own: a disk that is full.
            raise self._unreachable(exc) from exc
        finally:
            await response.aclose()

    def _unreachable(self, exc: Exception) -> Unreachable:
        """Say what happened in a sentence; httpx' own text is empty for some errors."""
        return Unreachable(f"The server at {self.address.http} did not answer: {str(exc) or type(exc).__name__}.")


async def _error(response: httpx.Response) -> ApiError | BadAnswer:
    try:
        body = await read_bounded(response, ERROR_BYTES)
    except BadAnswer:
        body = b""  # Orbital's own error bodies are small.
    return error_of(response.status_code, response.headers, body)


def _token_refused(error: ApiError | BadAnswer) -> bool:
    return isinstance(error, ApiError) and error.status == 401
