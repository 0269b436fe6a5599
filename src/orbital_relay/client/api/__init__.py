"""The REST side of the protocol, typed: one class, put together from the requests about each noun."""

from __future__ import annotations

from orbital_relay.client.api.accounts import AccountRequests
from orbital_relay.client.api.bodies import encoded
from orbital_relay.client.api.exports import ExportRequests
from orbital_relay.client.api.groups import GroupRequests
from orbital_relay.client.api.keys import KeyRequests
from orbital_relay.client.api.log import LogRequests
from orbital_relay.client.api.media import MediaRequests
from orbital_relay.client.api.push import PushRequests
from orbital_relay.client.api.threads import ThreadRequests

__all__ = ["Api", "encoded"]


class Api(
    AccountRequests,
    ExportRequests,
    GroupRequests,
    ThreadRequests,
    MediaRequests,
    KeyRequests,
    PushRequests,
    LogRequests,
):
    """
    Every request of the protocol, as a coroutine with a typed answer.

    All raise ApiError when the server refuses, and Unreachable when there is no answer of the server's. A request that
    the server refuses with 401 is made once more when the token function has a newer token. A POST that makes something
    carries an idempotency key, and is repeated twice when its answer was lost. Nothing else is repeated here.
    """
