"""Effects: what the protocol decides and the client carries out."""

from __future__ import annotations

import msgspec

from orbital_relay.client.errors import ClientError
from orbital_relay.client.events import Signal, StreamItem


class Send(msgspec.Struct, frozen=True):
    """Write this text frame."""

    text: str


class Opened(msgspec.Struct, frozen=True):
    """The server knows us. `heartbeat_s` is the time between its pings."""

    user_id: str
    username: str
    session_id: str
    heartbeat_s: float
    token_life_s: float | None = None
    """How long the token still holds, by the server's clock; None when the server did not say."""


class SubscriptionConfirmed(msgspec.Struct, frozen=True):
    """The server answered for this group; `seq` is the log's end now, None when it did not say."""

    group_id: str
    seq: int | None


class Deliver(msgspec.Struct, frozen=True):
    """Put this into the group's buffer."""

    group_id: str
    item: StreamItem


class Fetch(msgspec.Struct, frozen=True):
    """Read the log after `after`, at most `limit` events, after a pause; the answer names `ticket`."""

    group_id: str
    after: int
    limit: int
    ticket: int
    pause_ms: int = 0


class Ended(msgspec.Struct, frozen=True):
    """The group's stream is over: because of `error`, or because the user is no member any more."""

    group_id: str
    error: ClientError | None
    reason: str


class Notify(msgspec.Struct, frozen=True):
    """Notify the listeners of a signal."""

    signal: Signal


class RenewToken(msgspec.Struct, frozen=True):
    """The token ends soon: get a newer one and send it."""


class TokenRenewed(msgspec.Struct, frozen=True):
    """The server accepted a newer token, which holds for `life_s` seconds more; None when the server did not say."""

    life_s: float | None


class Reconnect(msgspec.Struct, frozen=True):
    """The conversation cannot go on like this: drop the connection and come back."""

    reason: str


ProtocolEffect = (
    Send | Opened | SubscriptionConfirmed | Deliver | Fetch | Ended | Notify | RenewToken | TokenRenewed | Reconnect
)
