"""What the tests of auth and of what it works with ask for."""

from __future__ import annotations

import pytest

from orbital_relay.server.auth.authenticator import Auth
from tests.unit.server.auth_support import SECRET, Clock, Store


@pytest.fixture
def clock():
    """Time that the test moves."""
    return Clock()


@pytest.fixture
def store():
    """Users and revocations of the test's own."""
    return Store()


@pytest.fixture
def auth(clock, store):
    """The room, with the server's own secret alone."""
    return Auth(store=store, clock=clock, secret=SECRET)
