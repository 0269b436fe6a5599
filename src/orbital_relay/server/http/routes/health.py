"""Health probes (liveness, readiness) and metrics, and the answer of `/ws` to plain HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orbital_relay.api.health import Health, Readiness, ReceivedBody, SeenClient
from orbital_relay.errors import Unavailable, UpgradeRequired
from orbital_relay.server.context import ServerContext
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint, read_body
from orbital_relay.server.limits.policy import is_proxy

_TAG: Final = "Running it"
PROBE_S: Final = 2.0
"""Longest wait for the database: a probe asks again in seconds, and one that hangs reports nothing."""

STREAM_PAUSE_S: Final = 1.0
"""Time between the two lines of `/health/stream`: far above the jitter of a network, far below any proxy's timeout."""
STREAM_BODY_BYTES: Final = 128 * 1024
"""Longest body of `/health/stream`: more than any proxy collects before it forwards the head of a request."""


def degraded_parts(server: ServerContext) -> list[str]:
    """Return what this server does without now: `redis`, `disk`."""
    return [name for name, away in (("redis", not server.bus.connected), ("disk", server.disk.low)) if away]


@endpoint(
    "GET", "/health/live", tag=_TAG, answers=[Answer(200, "The process answers.", Health)], auth=False, always=True
)
async def live(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
    """Report that the process is alive (liveness probe); checks no dependency."""
    return Reply.json(Health(status="alive"))


@endpoint(
    "GET",
    "/health/ready",
    tag=_TAG,
    answers=[Answer(200, "Requests can be served; `status` is `ready` or `degraded`.", Readiness)],
    errors=[Unavailable],
    auth=False,
    always=True,
)
async def ready(call: Call) -> Reply:
    """
    Report whether requests can be served (readiness probe).

    503 while the database cannot be reached and while the server is shutting down. While a configured Redis cannot be
    reached, it is 200 with the status `degraded`: posts are stored and delivered, but other servers get them later,
    so a load balancer should keep the server. `disk` in `degraded` means that media are refused; messages are still
    stored.
    """
    server = call.server
    if server.lifecycle.draining:
        raise Unavailable("The server is shutting down.", draining=True)
    try:
        async with asyncio.timeout(PROBE_S):
            database = await server.store.ready()
    except TimeoutError:
        raise Unavailable(f"The database did not answer within {PROBE_S:g} seconds.") from None
    if not database:
        raise Unavailable("Not reachable: the database.", database=False)
    degraded = degraded_parts(server)
    return Reply.json(Readiness(status="degraded" if degraded else "ready", degraded=degraded))


@endpoint(
    "GET",
    "/health/client",
    tag=_TAG,
    answers=[Answer(200, "The caller's address, as rate limits use it.", SeenClient)],
    auth=False,
    always=True,
)
async def client(call: Call) -> Reply:
    """
    Report the client address that the rate limits use for this request.

    `forwarded` without `trusted` means a proxy that is not in ORBITAL_TRUSTED_PROXIES: all its users then share
    one address.
    """
    peer = call.scope.get("client")
    forwarded = call.header(b"x-forwarded-for") is not None
    trusted = is_proxy(peer[0] if peer else None, call.server.settings.trusted_proxies)
    return Reply.json(SeenClient(address=call.address, forwarded=forwarded, trusted=trusted))


class _TwoLines(Response):
    """Two lines of JSON with a pause in between; for HEAD only the header fields."""

    def __init__(self) -> None:
        super().__init__(media_type="application/x-ndjson")
        # The length is left open, as in a response that is still being made.
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Send both lines; the second one also to a client that has disconnected, which costs nothing."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            await send({"type": "http.response.body", "body": b'{"line":1}\n', "more_body": True})
            await asyncio.sleep(STREAM_PAUSE_S)
            await send({"type": "http.response.body", "body": b'{"line":2}\n', "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@endpoint(
    "GET",
    "/health/stream",
    tag=_TAG,
    answers=[Answer(200, "Two lines, a second apart.", media_type="application/x-ndjson")],
    auth=False,
    always=True,
)
async def stream(call: Call) -> Response:  # noqa: ARG001 - every handler gets the call
    """
    Send two lines with a pause of one second in between, to check the proxies on the way.

    Through a proxy that forwards responses as they arrive, the first line is received a second before the second one.
    If both are received together, a proxy buffers responses.
    """
    return _TwoLines()


@endpoint(
    "POST",
    "/health/stream",
    tag=_TAG,
    answers=[Answer(200, "The body was received.", ReceivedBody)],
    body_limit=STREAM_BODY_BYTES,
    auth=False,
    always=True,
)
async def receive_stream(call: Call) -> Reply:
    """
    Report how long the body took to arrive, to check the proxies on the way.

    A client that pauses while it sends the body finds its pause in `milliseconds`, unless a proxy buffers requests.
    The body may have 128 KiB, and its content is discarded.
    """
    began_s = time.monotonic()
    await read_body(call.receive, declared=call.declared, limit=STREAM_BODY_BYTES)
    return Reply.json(ReceivedBody(milliseconds=round((time.monotonic() - began_s) * 1000)))


@endpoint(
    "GET",
    "/metrics",
    tag=_TAG,
    answers=[Answer(200, "Prometheus' text format.", media_type="text/plain")],
    auth=False,
    always=True,
)
async def metrics(call: Call) -> Reply:
    """Return counters and gauges in Prometheus' text format."""
    body, content_type = await call.server.metrics.render_all()
    return Reply(200, body, content_type=content_type.encode())


_UPGRADE: Final = "This path speaks WebSocket: connect with ws:// or wss://, and bring a token."


@endpoint(
    "GET",
    "/ws",
    tag="WebSocket",
    answers=[Answer(101, "The connection is upgraded to a WebSocket; `auth_success` is its first frame.")],
    errors=[UpgradeRequired],
    always=True,
    auth=False,
)
async def websocket(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
    """
    Connect.

    The token comes as `Authorization: Bearer`, as `Sec-WebSocket-Protocol: orbital.v1, bearer.<token>`, as `?ticket=`
    or as `?token=`. Without an upgrade this is 426.
    """
    raise UpgradeRequired(_UPGRADE)


@endpoint(
    "GET",
    "/v1/websocket",
    tag="WebSocket",
    answers=[Answer(101, "The connection is upgraded to a WebSocket; `auth_success` is its first frame.")],
    errors=[UpgradeRequired],
    always=True,
    auth=False,
)
async def websocket_v1(call: Call) -> Reply:  # noqa: ARG001 - every handler gets the call
    """Connect: the same as `/ws`, for clients that use this path."""
    raise UpgradeRequired(_UPGRADE)


ENDPOINTS: Final = (live, ready, client, stream, receive_stream, metrics, websocket, websocket_v1)
