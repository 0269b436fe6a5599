"""The context that the routes are given."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from orbital_relay.server.context import ServerContext


def test_a_server_context_is_immutable():
    """[CTX1] No part of a server's context can be replaced, and none can be added, while the server runs."""
    names = [field.name for field in fields(ServerContext)]
    context = ServerContext(**dict.fromkeys(names))

    assert len(names) > 10
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(context, name, object())
    with pytest.raises((AttributeError, TypeError)):
        context.another = object()
