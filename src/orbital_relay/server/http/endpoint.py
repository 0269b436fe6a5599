"""Declaration of an endpoint, from which both the route and its OpenAPI description are made."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orbital_relay import wire
from orbital_relay.errors import NotFound, OrbitalError, PayloadTooLarge, ValidationFailed
from orbital_relay.model import IdempotencyKey, Principal
from orbital_relay.server.context import ServerContext
from orbital_relay.server.edge.request_cycle import Cycle
from orbital_relay.server.edge.request_head import ENCODED_SLASH, request_id
from orbital_relay.server.limits.memory import Reservation
from orbital_relay.services.forms import make_idempotency_key, read

JSON: Final = b"application/json"
RawHeaders = Sequence[tuple[bytes, bytes]]

BODY_DEADLINE_S: Final = 30
"""How long a body may take to arrive, in seconds: 760 kB of it at 25 kB a second, as on the worst mobile line."""


class ClientGone(Exception):
    """The client hung up before its request was whole; nobody is left to answer."""


class Reply:
    """
    An answer whose body is in memory.

    Attributes:
        exposed: Whether pages of other origins may read the headers of the API.
    """

    __slots__ = ("body", "cache", "content_type", "exposed", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        headers: RawHeaders = (),
        content_type: bytes = JSON,
        cache: bytes = b"no-store",
        exposed: bool = True,
    ) -> None:
        self.status = status
        self.exposed = exposed
        self.body = body
        self.headers = headers
        self.content_type = content_type
        self.cache = cache

    @classmethod
    def json(cls, value: object, *, status: int = 200, headers: RawHeaders = ()) -> Reply:
        """Write a value as JSON."""
        return cls(status, _encode(value), headers=headers)

    @classmethod
    def error(cls, error: OrbitalError, **details: Any) -> Reply:
        """Make the answer of an error, with more `details`."""
        own = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        return cls(error.status, error.body(**details), headers=own)


_encode = msgspec.json.Encoder().encode
Id = TypeVar("Id", bound=str)


class Call:
    """
    One request at one endpoint. It is made when the path and method are known.

    Attributes:
        server: The server's parts.
        scope: The ASGI scope.
        receive: The ASGI way to the body, for an endpoint that reads it itself.
        send: The ASGI way back, for an endpoint that streams.
        idempotency_key: The header of that name.
        raw_body: The body, when the endpoint declares one.
        declared: The Content-Length, when there is one.
        cycle: The connection's own request, behind the ASGI events; None below another server than ours.
        held: The answer's share of the server's memory for answers, when the endpoint declares one.
    """

    __slots__ = (
        "_principal",
        "_request_id",
        "cycle",
        "declared",
        "held",
        "idempotency_key",
        "raw_body",
        "receive",
        "scope",
        "send",
        "server",
    )

    def __init__(self, server: ServerContext, scope: Scope, receive: Receive, send: Send) -> None:
        self.server = server
        self.scope = scope
        self.receive = receive
        self.send = send
        # A reference from the scope would be a ring, which only the collector frees.
        cycle = getattr(send, "__self__", None)
        self.cycle = cycle if isinstance(cycle, Cycle) else None
        self.idempotency_key: str | None = None
        self.raw_body = b""
        self.declared: int | None = None
        self.held: Reservation | None = None
        self._principal: Principal | None = None
        self._request_id: str | None = None

    @property
    def principal(self) -> Principal:
        """Who asks; known at every endpoint that wants a token."""
        if self._principal is None:
            raise AssertionError("an endpoint without a token asked for its caller")
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal

    @property
    def address(self) -> str:
        """The client's address, behind trusted proxies too."""
        client = self.scope.get("client")
        return self.server.admission.address(client[0] if client else None, self.header(b"x-forwarded-for"))

    def header(self, name: bytes) -> str | None:
        """Return a header by its lower-case name, repeated ones joined by commas (RFC 9110 §5.3)."""
        found = [value for key, value in self.scope["headers"] if key == name]
        return b", ".join(found).decode("latin-1") if found else None

    @property
    def request_id(self) -> str:
        """The id of this request in the log, the same at each call."""
        if self._request_id is None:
            self._request_id = request_id(self.header(b"x-request-id"))
        return self._request_id

    def text(self, name: str) -> str:
        """Return a part of the path, decoded: an encoded slash is a slash of the part's own."""
        return str(self.scope["path_params"][name]).replace(ENCODED_SLASH, "/")

    def uuid(self, name: str, kind: Callable[[str], Id]) -> Id:
        """
        Return an id of the path, in lower case.

        Raises:
            NotFound: If it cannot be one: then there is no such thing.
        """
        found = wire.read_uuid(self.text(name))
        if found is None:
            raise NotFound(f"There is no such {name.removesuffix('_id')}.")
        return kind(found)

    def key_for(self, operation: str, *ids: str) -> IdempotencyKey | None:
        """
        Bind the request's idempotency key, if it has one, to the operation and the body.

        Raises:
            ValidationFailed: If the key does not have its form.
        """
        if self.idempotency_key is None:
            return None
        return make_idempotency_key(self.idempotency_key, operation, *ids, body=read(_any, self.raw_body))


class BodyLate(ValidationFailed):
    """The body did not arrive in time: the answer closes the connection, and waits for no more of it."""

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9112 §9.6: nothing behind this answer is read as a request."""
        return {"Connection": "close"}


_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


async def read_body(receive: Receive, *, cycle: Cycle | None = None, declared: int | None, limit: int) -> bytes:
    """
    Read a request's body, counting while reading.

    Args:
        receive: The ASGI way to it.
        cycle: The shorter way, if there is one: most bodies arrive together with their head.
        declared: Its Content-Length, when there is one.
        limit: Most bytes.

    Raises:
        PayloadTooLarge: If it is longer; by the declared length before a byte is read.
        BodyLate: If it does not arrive within its deadline.
        ClientGone: If the client hangs up.
    """
    if declared is not None and declared > limit:
        raise _too_large(limit)
    at_hand = None if cycle is None else cycle.take_body()
    if at_hand is not None:
        if len(at_hand) > limit:
            raise _too_large(limit)
        return at_hand
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                whole: bytes = message.get("body", b"")
                if len(whole) > limit:
                    raise _too_large(limit)
                return whole
            body = bytearray()
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return bytes(body)
                message = await receive()
    except TimeoutError as exc:
        raise BodyLate(f"The body did not arrive within {BODY_DEADLINE_S} seconds.") from exc


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is over {limit} bytes.", limit_bytes=limit)


# Chapter: declarations


class Answer(msgspec.Struct, frozen=True):
    """
    One way in which an endpoint answers well.

    Attributes:
        status: The HTTP status.
        about: When, in a sentence.
        body: The type of the JSON body; None when there is none, or it is not JSON.
        media_type: The body's.
        lines: The type of each line, where the body is JSON lines.
        headers: Headers worth knowing, each with a sentence.
    """

    status: int
    about: str
    body: Any = None
    media_type: str = "application/json"
    lines: Any = None
    headers: dict[str, str] = {}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    A method and a path, what may be sent there, what comes back, and who does it.

    Attributes:
        method: GET stands for HEAD, too.
        path: With `{names}`.
        tag: The chapter of the reference.
        summary: One line, from the handler's docstring.
        about: The rest of it.
        handler: Gets the call, then the query, then the body: those that it declares.
        answers: The successful responses.
        errors: The endpoint's own; those of every endpoint (401, 413, 429, 503) are added where they apply.
        auth: Whether a token is asked for.
        idempotent: Whether an `Idempotency-Key` is heeded.
        query: Type of the query, from the handler's annotation.
        body: Type of the JSON body, from the handler's annotation.
        body_limit: Most bytes of body; None for the server's own limit.
        form: Type that describes a multipart body, which the handler reads itself.
        spans: Names in the path whose value may hold a slash.
        always: Whether it answers while the server is shutting down, too.
        limited: Whether a limit of its own applies, beside the one on all requests with a token.
        admin: Whether it is for server administrators only; checked in the store at each call.
        memory_bytes: What its answer takes of the server's memory for answers until it is sent; 0 when it is small.
    """

    method: str
    path: str
    tag: str
    summary: str
    about: str
    handler: Callable[..., Awaitable[Reply | Response]]
    answers: tuple[Answer, ...]
    errors: tuple[type[OrbitalError], ...]
    auth: bool
    idempotent: bool
    query: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    body_limit: int | None
    form: type[msgspec.Struct] | None
    spans: frozenset[str]
    always: bool
    limited: bool
    memory_bytes: int
    admin: bool


def endpoint(
    method: str,
    path: str,
    *,
    tag: str,
    answers: Sequence[Answer],
    errors: Sequence[type[OrbitalError]] = (),
    auth: bool = True,
    idempotent: bool = False,
    body_limit: int | None = None,
    form: type[msgspec.Struct] | None = None,
    spans: Sequence[str] = (),
    always: bool = False,
    limited: bool = False,
    memory_bytes: int = 0,
    admin: bool = False,
) -> Callable[[Callable[..., Awaitable[Reply | Response]]], Endpoint]:
    """
    Declare an endpoint; the handler's parameters `query` and `body` say by their types what may be sent.

    See `Endpoint` for the arguments.
    """

    def declare(handler: Callable[..., Awaitable[Reply | Response]]) -> Endpoint:
        hints = typing.get_type_hints(handler)
        summary, _, about = (inspect.getdoc(handler) or "").partition("\n")
        return Endpoint(
            method=method,
            path=path,
            tag=tag,
            summary=summary,
            about=about.strip(),
            handler=handler,
            answers=tuple(answers),
            errors=tuple(errors),
            auth=auth,
            idempotent=idempotent,
            query=hints.get("query"),
            body=hints.get("body"),
            body_limit=body_limit,
            form=form,
            spans=frozenset(spans),
            always=always,
            limited=limited,
            memory_bytes=memory_bytes,
            admin=admin,
        )

    return declare
