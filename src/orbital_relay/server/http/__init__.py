"""HTTP: the routes, one file a resource, and the application that they make."""

from __future__ import annotations

from typing import Final

from orbital_relay.server.context import ServerContext
from orbital_relay.server.http.application import Application
from orbital_relay.server.http.endpoint import Endpoint
from orbital_relay.server.http.routes import (
    about,
    accounts,
    admin,
    events,
    exports,
    groups,
    health,
    keys,
    media,
    member_states,
    messages,
    own_account,
    presence,
    provision,
    push,
    records,
    thread_annotations,
    threads,
)
from orbital_relay.server.http.static.site import Site

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *about.ENDPOINTS,
    *accounts.ENDPOINTS,
    *own_account.ENDPOINTS,
    *exports.ENDPOINTS,
    *groups.ENDPOINTS,
    *presence.ENDPOINTS,
    *member_states.ENDPOINTS,
    *messages.ENDPOINTS,
    *threads.ENDPOINTS,
    *thread_annotations.ENDPOINTS,
    *media.ENDPOINTS,
    *events.ENDPOINTS,
    *keys.ENDPOINTS,
    *records.ENDPOINTS,
    *provision.ENDPOINTS,
    *push.ENDPOINTS,
    *admin.ENDPOINTS,
    *health.ENDPOINTS,
)
"""Every endpoint but those that serve documents."""


def build_app(server: ServerContext) -> Application:
    """Make the ASGI application of a server."""
    site = Site()
    endpoints = (*ENDPOINTS, *site.endpoints)
    site.describe(endpoints, public_url=server.settings.public_url)
    return Application(server, endpoints, fallback=site.fallback)
