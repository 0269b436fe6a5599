"""Open the adapters (store, bus, blobs) that the settings name; optional extras are imported only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orbital_relay import __version__
from orbital_relay.config import Postgres, Settings, SqliteFile
from orbital_relay.errors import SettingsInvalid
from orbital_relay.ports import Clock
from orbital_relay.store.sql import SqlStore
from orbital_relay.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from orbital_relay.server.cluster.cluster import Cluster
    from orbital_relay.server.ops.tracing import Tracing


async def open_store(settings: Settings, *, alone: bool = True) -> SqlStore:
    """
    Open the database that the settings name, and bring it to this program's schema.

    Args:
        settings: Where it is.
        alone: Whether this is the server that appends to a file; a command beside it does not.

    Raises:
        DatabaseRefused: If it cannot be opened.
    """
    match settings.database:
        case SqliteFile(path=path):
            return await SqliteStore.open(path, alone=alone)
        case Postgres(dsn=dsn):
            with extra("postgres"):
                from orbital_relay.store.postgres import PostgresStore  # noqa: PLC0415 - an extra
            return await PostgresStore.open(dsn)


def open_cluster(url: str, *, clock: Clock) -> Cluster:
    """
    Make what a server shares with others through Redis; nothing is connected yet.

    Raises:
        SettingsInvalid: If the extra `redis` is not installed.
    """
    with extra("redis"):
        from orbital_relay.server.cluster.cluster import Cluster  # noqa: PLC0415 - an extra
    return Cluster(url, clock=clock)


def open_tracing(settings: Settings) -> Tracing | None:
    """
    Make the traces; None unless the settings ask for them. The exporter reads its own `OTEL_EXPORTER_OTLP_…`.

    Raises:
        SettingsInvalid: If the extra `otel` is not installed.
    """
    if not settings.tracing:
        return None
    with extra("otel"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra

        from orbital_relay.server.ops.tracing import Tracing  # noqa: PLC0415 - an extra
    resource = Resource.create({"service.name": "orbital", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Report how to install a library of an extra when its import fails."""
    try:
        yield
    except ImportError as exc:
        raise SettingsInvalid(
            f"This setting needs a library that is not installed. Install it: pip install 'orbital-relay[{name}]'"
        ) from exc
