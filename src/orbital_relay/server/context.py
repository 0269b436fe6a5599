"""The context of the routes: the parts of the server that they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orbital_relay.config import Settings
from orbital_relay.ports import Bus, Clock, Store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.logins import Logins
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.limits.memory import AnswerMemory
from orbital_relay.server.limits.policy import RequestLimits
from orbital_relay.server.ops.counters import ServerCounters
from orbital_relay.server.ops.disk import Disk
from orbital_relay.server.ops.metrics import Metrics
from orbital_relay.server.sessions.admission import Admission
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.keys import KeysContext
from orbital_relay.services.media_context import MediaContext
from orbital_relay.services.push import PushContext

if TYPE_CHECKING:
    from orbital_relay.server.ops.tracing import Tracing


@dataclass(frozen=True, slots=True)
class ServerContext:
    """
    The parts of one server that answer HTTP requests. server/app.py makes it, and it never changes.

    Attributes:
        settings: All settings.
        services: What the use cases work with.
        media: What the use cases of media work with.
        keys: What the use cases of devices and their keys work with.
        push: What the use cases of push messages work with.
        store: Health checks ask whether it answers.
        bus: Health checks ask whether it reaches the other servers.
        auth: Tokens and tickets.
        logins: What users opened with their passwords.
        admission: Client addresses, and the limits on handshakes.
        limits: The limits on requests.
        memory: Bounds the answers that wait to be sent.
        metrics: All metrics, rendered for Prometheus.
        counters: Counts the answers.
        clock: The time.
        lifecycle: Whether the server is draining.
        disk: The room on the disk of the data folder.
        tracing: Makes spans of requests; None without OpenTelemetry.
    """

    settings: Settings
    services: ServiceContext
    media: MediaContext
    keys: KeysContext
    push: PushContext
    store: Store
    bus: Bus
    auth: Auth
    logins: Logins
    admission: Admission
    limits: RequestLimits
    memory: AnswerMemory
    metrics: Metrics
    counters: ServerCounters
    clock: Clock
    lifecycle: Lifecycle
    disk: Disk
    tracing: Tracing | None
