"""How a token or a ticket comes with a request."""

from __future__ import annotations

import pytest

from orbital_relay.server.auth.credentials import Bearer, Ticket, bearer, credential

TOKEN = "aaa.bbb.ccc"


@pytest.mark.parametrize(
    "authorization, found",
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic YTpi", None),
        (f"Bearer {TOKEN}", TOKEN),
        (f"bearer  {TOKEN} ", TOKEN),
        (f"BEARER {TOKEN}", TOKEN),
    ],
)
def test_the_authorization_header(authorization, found):
    """[CRE1] The scheme `Bearer` is case-insensitive; other schemes carry no token."""
    assert bearer(authorization) == found


@pytest.mark.parametrize(
    "authorization, protocols, query, found",
    [
        (None, None, {}, None),
        (f"Bearer {TOKEN}", "bearer.other", {"token": "third"}, Bearer(TOKEN)),
        (None, f"orbital.v1, bearer.{TOKEN}", {"ticket": "t", "token": "third"}, Bearer(TOKEN)),
        ("Basic YTpi", "orbital.v1", {"token": "third", "ticket": "t"}, Ticket("t")),
        (None, "", {"x": "1", "token": "a.b.c"}, Bearer("a.b.c")),
        (None, None, {"token": "", "ticket": ""}, None),
    ],
)
def test_the_order_of_credentials(authorization, protocols, query, found):
    """[CRE2] The first present source is used: header, subprotocol, ticket, query."""
    assert credential(authorization=authorization, protocols=protocols, query=query) == found
