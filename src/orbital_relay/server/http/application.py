"""The ASGI application: routing, body limit, CORS, security headers, errors."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from time import perf_counter
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orbital_relay.errors import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    OrbitalError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from orbital_relay.model import Principal
from orbital_relay.server.auth.credentials import bearer
from orbital_relay.server.context import ServerContext
from orbital_relay.server.edge.current_request import CURRENT, CurrentRequest
from orbital_relay.server.edge.request_cycle import Cycle
from orbital_relay.server.http.endpoint import Call, ClientGone, Endpoint, RawHeaders, Reply, read_body
from orbital_relay.server.http.query import read_query, whole_fields
from orbital_relay.server.ops.histogram import Histogram
from orbital_relay.services.forms import read

log = logging.getLogger("orbital.server")

# 300 fields of 10 bytes round the two encrypted fields that a body has at most.
_BODY_SLACK_BYTES: Final = 64 * 1024

PIECE_BYTES: Final = 64 * 1024
"""Bytes of a body that are written at once: as much as a transport takes before it asks the writer to wait."""

_SAFETY: Final[RawHeaders] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_EXPOSED: Final = (
    b"Retry-After, ETag, X-Last-Seq, X-Has-More, X-Encryption-IV, X-Expires-At, Content-Disposition, Content-Range, "
    b"Accept-Ranges"
)
_ALLOWED: Final = b"Authorization, Content-Type, Idempotency-Key, Accept, Range, If-Range, If-Match, If-None-Match"
_HEADER_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{1,2048}")
_ANY: Final[RawHeaders] = ((b"access-control-allow-origin", b"*"),)
_ANY_EXPOSED: Final[RawHeaders] = (*_ANY, (b"access-control-expose-headers", _EXPOSED))


def body_limit(envelope_bytes: int) -> int:
    """Return the most bytes of a JSON body: two encrypted fields at their limit in base64, and some slack."""
    return 2 * (envelope_bytes * 4 // 3 + 4) + _BODY_SLACK_BYTES


class Cors:
    """
    Which pages of other origins may call (the Fetch standard's CORS protocol).

    No cookie is ever looked at, so a foreign page has nothing to ride on: any may call, unless origins are named.
    """

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None, *, exposed: bool = True) -> RawHeaders:
        """Return what an answer says to a page of that origin; a static file lists no headers of the API: 187 bytes."""
        if not self._origins:
            # Who may is the same for everybody, so caches need not know about the origin.
            return _ANY if origin is None or not exposed else _ANY_EXPOSED
        if origin is None or origin.lower() not in self._origins:
            return ((b"vary", b"Origin"),)
        allowed = (b"access-control-allow-origin", origin), (b"vary", b"Origin")
        return (*allowed, (b"access-control-expose-headers", _EXPOSED)) if exposed else allowed


class _Bound:
    """An endpoint with what it needs at every call made ready."""

    __slots__ = ("body", "endpoint", "limit", "query", "seconds", "whole")

    def __init__(self, endpoint: Endpoint, *, limit: int, seconds: Histogram) -> None:
        self.endpoint = endpoint
        self.seconds = seconds
        self.limit = limit if endpoint.body_limit is None else endpoint.body_limit
        self.body: msgspec.json.Decoder[Any] | None = None
        if endpoint.body is not None:
            self.body = msgspec.json.Decoder(endpoint.body)
        self.query = endpoint.query
        self.whole = frozenset[str]() if endpoint.query is None else whole_fields(endpoint.query)


class Resource:
    """One path: an ASGI application that chooses the endpoint by method, and answers for all that can go wrong."""

    def __init__(self, server: ServerContext, path: str, endpoints: Iterable[Endpoint]) -> None:
        self._server = server
        self._path = path
        limit = body_limit(server.settings.envelope_bytes)
        self._endpoints = {
            endpoint.method: _Bound(endpoint, limit=limit, seconds=server.counters.times_of(path, endpoint.method))
            for endpoint in endpoints
        }
        methods = {*self._endpoints, "OPTIONS"} | ({"HEAD"} if "GET" in self._endpoints else set())
        self._allow = ", ".join(sorted(methods)).encode()
        self._cors = Cors(server.settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began_s = perf_counter()
        # One pass over the headers; most requests need three of them.
        authorization = origin = declared = key = None
        repeated = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                repeated = repeated or authorization is not None
                authorization = value
            elif name == b"content-length":
                declared = value
            elif name == b"idempotency-key":
                # Two keys are none that anybody chose; the comma and space between make the form wrong.
                key = value if key is None else key + b", " + value
            elif name == b"origin":
                origin = value
        call = Call(self._server, scope, receive, send)
        current = CurrentRequest(call)
        CURRENT.set(current)
        try:
            reply = await self._answer(call, None if repeated else authorization, declared=declared, key=key)
            if reply is None:
                return
            bound = self._bound(scope["method"])
            if bound is not None:
                bound.seconds.observe(perf_counter() - began_s)
            self._server.counters.answered(self._path, scope["method"], _status(reply))
            extra = self._cors.headers(origin, exposed=not isinstance(reply, Reply) or reply.exposed)
            await self._respond(reply, call, extra=extra)
        finally:
            current.request = None
            if call.held is not None:
                self._server.memory.release(call.held)

    def _bound(self, method: str) -> _Bound | None:
        return self._endpoints.get("GET" if method == "HEAD" else method)

    async def _answer(
        self, call: Call, authorization: bytes | None, *, declared: bytes | None, key: bytes | None
    ) -> Reply | Response | None:
        """Return the answer, whatever goes wrong; None when the client is gone."""
        method = call.scope["method"]
        try:
            bound = self._bound(method)
            if bound is None:
                return self._without_endpoint(method, call.scope)
            if self._server.lifecycle.draining and not bound.endpoint.always:
                raise Unavailable("The server is shutting down; retry, and another server answers.")
            if bound.endpoint.auth:
                call.principal = await self._admit(authorization)
            if bound.endpoint.admin and not await self._server.store.is_admin(call.principal.key):
                # Of the store, not of the token: who is no administrator any more is none at the next request.
                raise Forbidden("Only server administrators may do this.")
            if key is not None:
                call.idempotency_key = key.decode("latin-1")
            call.declared = _length(declared)
            if bound.endpoint.memory_bytes:
                call.held = await self._server.memory.take(call.principal.user_id, bound.endpoint.memory_bytes)
            return await _run(bound, call)
        except OrbitalError as exc:
            if isinstance(exc, TooManyRequests):
                self._server.admission.limit_log.note(exc, address=call.address, request_id=call.request_id)
            if exc.status < 500:
                return Reply.error(exc)
            if not self._server.lifecycle.draining:
                self._server.admission.limit_log.failed(exc, path=self._path, request_id=call.request_id)
            return Reply.error(exc, request_id=call.request_id)
        except ClientGone:
            return None
        except Exception:
            # The path as declared: what stands in its place may be somebody's id.
            extra = {"method": method, "path": self._path, "request_id": call.request_id}
            log.exception("request failed", extra=extra)
            about = "The server has a bug. Its log has the details, under the id of this request."
            return Reply.error(OrbitalError(about), request_id=call.request_id)

    async def _respond(self, reply: Reply | Response, call: Call, *, extra: RawHeaders) -> None:
        held = call.held
        try:
            if held is None:
                await respond(reply, call.scope, call.receive, call.send, extra=extra, cycle=call.cycle)
                return
            if isinstance(reply, Reply):
                self._server.memory.shrink(held, len(reply.body))

            async def counted(message: Message) -> None:
                await call.send(message)
                held.sent_bytes += len(message.get("body", b""))

            async with held.sending(self._server.clock.steady_s()):
                await respond(reply, call.scope, call.receive, counted, extra=extra)
        except TimeoutError:
            # uvicorn closes the connection of an answer that ends short.
            if held is None or not held.cut:
                raise
        except asyncio.CancelledError:
            # A shutdown did not wait for the rest: the answer is cut short, and uvicorn closes the connection.
            if not self._server.lifecycle.draining:
                raise
            log.warning("a response was cut off by the shutdown", extra={"path": self._path})

    async def _admit(self, authorization: bytes | None) -> Principal:
        """Turn the header into who asks, and count the request."""
        token = None if authorization is None else bearer(authorization.decode("latin-1"))
        if token is None:
            raise Unauthorized("Send one header `Authorization: Bearer <token>`; signup and login return tokens.")
        auth = self._server.auth
        principal = auth.cached(token) or await auth.verify(token)
        if self._server.limits.local:
            self._server.limits.request_now(principal.user_id)
        else:
            await self._server.limits.request(principal.user_id)
        return principal

    def _without_endpoint(self, method: str, scope: Scope) -> Reply:
        if method != "OPTIONS":
            raise _WrongMethod(self._allow.decode(), method)
        headers = [(b"allow", self._allow)]
        if any(name == b"access-control-request-method" for name, _ in scope["headers"]):
            headers += [
                (b"access-control-allow-methods", self._allow),
                (b"access-control-allow-headers", _allowed_headers(scope)),
                # Browsers keep it for two hours at most.
                (b"access-control-max-age", b"7200"),
            ]
        return Reply(204, headers=headers)


def _allowed_headers(scope: Scope) -> bytes:
    """
    Return the headers that a page of another origin may send: those of the API, and any that it asks for.

    No header does harm: no cookie is looked at, so a page can send only what its own user gave it. Libraries add
    `X-CSRF-Token`, `X-Requested-With` or trace ids, and a preflight that refuses one fails the whole request.
    """
    asked = b", ".join(value for name, value in scope["headers"] if name == b"access-control-request-headers")
    return _ALLOWED + b", " + asked if _HEADER_NAMES.fullmatch(asked) else _ALLOWED


class _Elsewhere(Resource):
    """Every path that no endpoint has: a file of the web page, or nothing, whatever the method."""

    def _without_endpoint(self, method: str, scope: Scope) -> Reply:  # noqa: ARG002 - the method makes no difference
        raise missing()


class _WrongMethod(MethodNotAllowed):
    """RFC 9110 §15.5.6: the answer names the methods that would do."""

    def __init__(self, allow: str, method: str) -> None:
        super().__init__(f"{method} is not for this path; {allow} are.")
        self._allow = allow

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self._allow}


async def _run(bound: _Bound, call: Call) -> Reply | Response:
    """Read what the endpoint declares, and let it answer."""
    arguments: list[msgspec.Struct] = []
    if bound.query is not None:
        arguments.append(read_query(call.scope["query_string"], bound.query, whole=bound.whole))
    try:
        if bound.body is not None:
            call.raw_body = await read_body(call.receive, cycle=call.cycle, declared=call.declared, limit=bound.limit)
            arguments.append(read(bound.body, call.raw_body))
        return await bound.endpoint.handler(call, *arguments)
    except asyncio.CancelledError:
        # uvicorn cancels what a shutdown did not wait for. The connection is still open, so the client gets an answer.
        if not call.server.lifecycle.draining:
            raise
        raise Unavailable("The server shut down before the request was complete. Send it again.") from None


def _length(declared: bytes | None) -> int | None:
    # The parsers of uvicorn let nothing but digits through; other servers may not.
    if declared is None:
        return None
    if not declared.isdigit():
        raise ValidationFailed("Content-Length is not a number.")
    return int(declared)


def _status(reply: Reply | Response) -> int:
    return reply.status if isinstance(reply, Reply) else reply.status_code


async def respond(
    reply: Reply | Response,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    extra: RawHeaders,
    cycle: Cycle | None = None,
) -> None:
    """
    Send an answer with the headers that all have, a small one by `cycle` if it is given.

    RFC 9110 §9.3.2: a HEAD gets the same headers, and no body.
    """
    head = scope["method"] == "HEAD"
    if isinstance(reply, Reply):
        headers = [*reply.headers, (b"cache-control", reply.cache), *_SAFETY, *extra]
        # RFC 9110 §8.6: a 204 and a 304 have neither length nor type.
        if reply.status not in {204, 304}:
            headers.append((b"content-type", reply.content_type))
            headers.append((b"content-length", b"%d" % len(reply.body)))
        body = b"" if head else reply.body
        if cycle is not None and len(body) <= PIECE_BYTES and cycle.answer(reply.status, headers, body):
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        # The server waits for the client before each piece, so the transport never holds a large body whole.
        # Each piece is a copy: a view would keep the body alive for as long as the transport has a piece of it.
        start = 0
        while len(body) - start > PIECE_BYTES:
            await send({"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True})
            start += PIECE_BYTES
        await send({"type": "http.response.body", "body": body[start:]})
        return

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in (*_SAFETY, *extra, (b"cache-control", b"no-store")) if header[0] not in own),
            ]
        elif head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    await reply(scope, receive, send_with_headers)


class Application:
    """The whole of HTTP: an ASGI application over a table of endpoints."""

    def __init__(self, server: ServerContext, endpoints: Iterable[Endpoint], *, fallback: Endpoint) -> None:
        by_path: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, []).append(endpoint)
        # A path without names needs no pattern: one look-up.
        self._exact: dict[str, ASGIApp] = {}
        tracing = server.tracing
        routes: list[Route] = []
        for path, here in by_path.items():
            resource: ASGIApp = Resource(server, path, here)
            if tracing is not None:
                resource = tracing.request(resource, route=path)
            if "{" not in path:
                self._exact[path] = resource
                continue
            pattern = path
            for name in here[0].spans:
                pattern = pattern.replace(f"{{{name}}}", f"{{{name}:path}}")
            routes.append(Route(pattern, resource, name=path))
        self._elsewhere = _Elsewhere(server, "*", [fallback])
        self._router = Router(routes, redirect_slashes=False, default=self._elsewhere)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; uvicorn's lifespan is not used."""
        if scope["type"] != "http":
            raise AssertionError(f"no {scope['type']} scope arrives here: upgrades go to the edge, and lifespan is off")
        path = scope["path"]
        resource = self._exact.get(path)
        if resource is None and path.endswith("\n"):
            # The router's patterns end in `$`, which is also true before a line break.
            resource = self._elsewhere
        if resource is not None:
            await resource(scope, receive, send)
        else:
            await self._router(scope, receive, send)


def missing() -> NotFound:
    """Make the answer for a path that matches no route."""
    return NotFound("There is nothing at this path; /docs lists the paths.")
