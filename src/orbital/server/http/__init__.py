"""HTTP: the routes, one file a resource, and the application that they make."""

from __future__ import annotations

from typing import Final

from orbital.server.http import accounts, events, groups, media, messages, presence, running, threads
from orbital.server.http.application import Application
from orbital.server.http.endpoint import Endpoint
from orbital.server.http.node import Node
from orbital.server.http.site import Site

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *accounts.ENDPOINTS,
    *groups.ENDPOINTS,
    *presence.ENDPOINTS,
    *messages.ENDPOINTS,
    *threads.ENDPOINTS,
    *media.ENDPOINTS,
    *events.ENDPOINTS,
    *running.ENDPOINTS,
)
"""Every endpoint but those that serve documents."""


def build_app(node: Node) -> Application:
    """Make the ASGI application of a server."""
    site = Site()
    endpoints = (*ENDPOINTS, *site.endpoints)
    site.describe(endpoints)
    return Application(node, endpoints, fallback=site.fallback)
