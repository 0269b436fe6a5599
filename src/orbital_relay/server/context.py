"""What the routes need of a server's parts."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.config import Settings
from orbital_relay.model import Principal
from orbital_relay.ports import Bus, Clock, Limiter, Store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.sessions.presence import Presence
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.media import MediaContext


class Admission(Protocol):
    """Who may connect now; see server/limits/policy.py."""

    def address(self, peer: str | None, forwarded_for: str | None) -> str:
        """Return the client's address, behind trusted proxies too."""
        ...

    async def peek(self, address: str, principal: Principal) -> None:
        """
        Look, without counting, whether a handshake would be within the limits.

        Raises:
            TooManyRequests: If it would not.
        """
        ...


class Metrics(Protocol):
    """What is counted; see server/ops/metrics.py."""

    def answered(self, path: str, method: str, status: int) -> None:
        """Count one HTTP answer; `path` is the declared one, `*` where there is none."""
        ...

    async def render_all(self) -> tuple[bytes, str]:
        """Return Prometheus' text, of all workers of this machine, and its content type."""
        ...


class Node(Protocol):
    """One server, composed by server/app.py."""

    @property
    def settings(self) -> Settings:
        """The settings."""
        ...

    @property
    def context(self) -> ServiceContext:
        """What the use cases work with."""
        ...

    @property
    def store(self) -> Store:
        """The log and its rows."""
        ...

    @property
    def bus(self) -> Bus:
        """The way to other servers."""
        ...

    @property
    def auth(self) -> Auth:
        """Tokens and tickets."""
        ...

    @property
    def limiter(self) -> Limiter:
        """Counts attempts."""
        ...

    @property
    def admission(self) -> Admission:
        """Who may connect."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the server is going down."""
        ...

    @property
    def media(self) -> MediaContext:
        """What the use cases of media work with."""
        ...

    @property
    def presence(self) -> Presence:
        """Who is connected."""
        ...
