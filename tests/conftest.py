"""
Fixtures that every test may ask for: a real server, a PostgreSQL, a Redis, people, a seed.

Asking for one of the outside parts marks the test by its name (`-m "not postgres"` leaves those out).
"""

from __future__ import annotations

import inspect
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
import hypothesis
import pytest

from tests.support import frames, programs
from tests.support.client import Person
from tests.support.postgres import Postgres
from tests.support.process import Gone
from tests.support.proxy import Proxy
from tests.support.redis import Redis
from tests.support.server import SERVE, Server

# A machine that is busy with other tests is slow, not wrong; and a failure says how to have it again.
hypothesis.settings.register_profile(
    "orbital", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "orbital"))

# Every httpx call that names no timeout shares one `Timeout` object. Its 5 s are too few for a busy machine.
REQUEST_S = 120.0
_default = inspect.signature(httpx.Client).parameters["timeout"].default
for _phase in ("connect", "read", "write", "pool"):
    setattr(_default, _phase, REQUEST_S)

_MARKED_BY = {
    "postgres_cluster": "postgres",
    "postgres_url": "postgres",
    "own_postgres": "postgres",
    "redis_server": "redis",
    "chromium": "browser",
}


def pytest_configure() -> None:
    """Close the fixtures of a run that gets SIGTERM, and restore SIGINT where the tests run unattended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    frames.watch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Fail the test during which a client received a frame that `/asyncapi.json` does not allow."""
    yield
    violations = frames.take_violations()
    assert not violations, f"a server sent what /asyncapi.json does not allow: {violations[:3]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark a test by the outside parts that its fixtures need."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in _MARKED_BY:
                item.add_marker(_MARKED_BY[name])


# --- Disorder --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave the process' logging as it was: a test that configures a server's log changes no other test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    states = {name: (log.level, log.propagate, log.disabled) for name, log in _loggers()}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, log in _loggers():
        was_level, log.propagate, log.disabled = states.get(name, (logging.NOTSET, True, False))
        log.setLevel(was_level)


def _loggers() -> list[tuple[str, logging.Logger]]:
    return [(name, log) for name, log in logging.Logger.manager.loggerDict.items() if isinstance(log, logging.Logger)]


@pytest.fixture
def seed() -> int:
    """The seed of this test's disorder: `ORBITAL_SEED`, or a new one; printed, so that a failure shows it."""
    chosen = int(os.environ.get("ORBITAL_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ORBITAL_SEED={chosen}")
    return chosen


# --- The server ------------------------------------------------------------------------------------------------------


class Serve(Protocol):
    """What the fixture `serve` gives."""

    def __call__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        data_dir: Path | None = None,
        start: bool = True,
        command: Sequence[str] = SERVE,
    ) -> Server:
        """Make a server, started and ready unless `start` is False."""
        ...


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """
    Make real servers, with the settings and flags that a test gives.

    Each has a port and, unless `data_dir` is given, a data folder of its own; no limit is met that a test does not
    set. At the end they are ended, which has to work, what they printed may hold neither a traceback nor a token, and
    none may have ended before, unless the test ended it.
    """
    made: list[Server] = []

    def make(
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        data_dir: Path | None = None,
        start: bool = True,
        command: Sequence[str] = SERVE,
    ) -> Server:
        server = Server(data_dir or tmp_path_factory.mktemp("data"), env=env, args=args, command=command)
        made.append(server)
        return server.start() if start else server

    yield make
    statuses: dict[str, int] = {}
    faults = []
    for server in made:
        try:
            statuses[server.url] = server.close()
        except Gone as exc:
            faults.append(str(exc))
    complaints = [line for server in made for line in server.complaints()]
    if complaints or any(statuses.values()):
        for server in made:
            print(f"--- {server.url}", *server.log, sep="\n")
    assert not complaints, f"a server printed what none may: {complaints[:3]}"
    assert not any(statuses.values()), f"a server did not end well: {statuses}"
    assert not faults, faults[0]


@pytest.fixture
def server(serve: Serve) -> Server:
    """One server with everything as by default, but no limits."""
    return serve()


@pytest.fixture(scope="session")
def _server_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("data")).start()
    yield server
    assert server.close() == 0, "\n".join(server.log)


@pytest.fixture
def shared_server(_server_for_all: Server) -> Iterator[Server]:
    """
    One server for every test that neither sets anything up nor does it harm; starting one takes a second.

    It has to survive each of them, without a traceback or a token in its lines.
    """
    before = len(_server_for_all.log)
    yield _server_for_all
    assert _server_for_all.program.alive, "\n".join(_server_for_all.log[before:])
    assert not _server_for_all.complaints(after=before), "\n".join(_server_for_all.log[before:])


@pytest.fixture
async def people() -> AsyncIterator[Callable[..., object]]:
    """Make people of a server, who are closed at the end."""
    made: list[Person] = []

    async def make(url: str, username: str | None = None) -> Person:
        made.append(await Person.sign_up(url, username))
        return made[-1]

    yield make
    for person in made:
        await person.close()


# --- What a server stands on -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Postgres]:
    """One PostgreSQL for all tests, which nobody harms; see `own_postgres` for that."""
    cluster = Postgres()
    try:
        yield cluster.start()
    finally:
        cluster.close()


@pytest.fixture
def postgres_url(postgres_cluster: Postgres) -> str:
    """The URL of an empty database."""
    return postgres_cluster.create_database()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for this test alone, to be stopped, killed, restarted."""
    cluster = Postgres()
    try:
        yield cluster.start()
    finally:
        cluster.close()


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    """A Redis for this test alone: it starts empty, and may be killed, frozen, restarted."""
    redis = Redis()
    try:
        yield redis.start()
    finally:
        redis.close()


# --- What stands between, and at the other end -----------------------------------------------------------------------


@pytest.fixture
async def proxy(server: Server, seed: int) -> AsyncIterator[Proxy]:
    """A proxy to `server` that does what networks do."""
    async with await Proxy.open(server.port, seed=seed) as opened:
        yield opened


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    return programs.chromium()


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node."""
    return programs.node()
