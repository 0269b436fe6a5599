"""Tracing by OpenTelemetry, from a request to the delivery of its event; loaded only if enabled."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orbital_relay.model import AnyDraft, Event
from orbital_relay.ports import Appended
from orbital_relay.services.context import Append

KEPT_DELIVERIES: Final = 1024
"""Deliveries whose times are kept until their post ends: two of the largest batches."""

DeliverEvents: TypeAlias = Callable[[Sequence[Event]], None]


class Tracing:
    """
    Makes three spans of a post: the request, `append` until it is durable, `deliver` to this server's sockets.

    No span names a user, a group or an address; the id of a trace comes from the header `traceparent`, or is new.

    Args:
        provider: A TracerProvider of the SDK.
    """

    def __init__(self, provider: Any) -> None:  # noqa: ANN401 - the library is an extra, which the type checker may lack
        self._provider = provider
        self._tracer: Any = provider.get_tracer("orbital")
        self._delivered: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()

    def request(self, app: ASGIApp, *, route: str) -> ASGIApp:
        """Return the application of a route with a span for each request."""
        return _TracedRoute(self._tracer, app, route)

    def append(self, append: Append) -> Append:
        """Return the relay's `append` with a span for each draft, which ends when the draft is durable or refused."""

        def traced(draft: AnyDraft) -> asyncio.Future[Appended]:
            span = self._tracer.start_span("append", attributes={"orbital.draft": type(draft).__name__})
            future = append(draft)
            future.add_done_callback(lambda done: self._end(span, done))
            return future

        return traced

    def deliver(self, deliver: DeliverEvents) -> DeliverEvents:
        """Return the relay's delivery of a batch, with its times noted for the spans of the posts in it."""

        def timed(events: Sequence[Event]) -> None:
            began_ns = time.time_ns()
            deliver(events)
            ended_ns = time.time_ns()
            for event in events:
                self._delivered[event.group_id, event.seq] = began_ns, ended_ns
            while len(self._delivered) > KEPT_DELIVERIES:
                self._delivered.popitem(last=False)

        return timed

    def _end(self, span: Any, done: asyncio.Future[Appended]) -> None:  # noqa: ANN401 - see above
        if done.cancelled() or done.exception() is not None:
            span.set_status(StatusCode.ERROR)
        else:
            event = done.result().event
            if event is not None:
                span.set_attribute("orbital.seq", event.seq)
                times = self._delivered.pop((event.group_id, event.seq), None)
                if times is not None:
                    context = trace.set_span_in_context(span)
                    delivery = self._tracer.start_span("deliver", context=context, start_time=times[0])
                    delivery.end(end_time=times[1])
        span.end()

    async def close(self) -> None:
        """Send the spans that wait."""
        await asyncio.to_thread(self._provider.shutdown)


class _TracedRoute:
    """An ASGI application with a span for each request. An object: a router takes a function for a request handler."""

    def __init__(self, tracer: Any, app: ASGIApp, route: str) -> None:  # noqa: ANN401 - see above
        self._tracer = tracer
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            f"{scope['method']} {self._route}",
            context=extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "http.route": self._route},
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            await self._app(scope, receive, noting)
