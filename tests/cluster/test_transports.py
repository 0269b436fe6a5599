"""PostgreSQL over a Unix socket and with damaged indexes, and Redis over TLS, without mocks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Person
from tests.support.postgres import Postgres
from tests.support.programs import find, missing
from tests.support.redis import Redis
from tests.support.server import Server


def _orbital(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *arguments], capture_output=True, text=True, timeout=120
    )


# Chapter: Redis over TLS


def _certificates(folder: Path) -> None:
    """Make a certificate authority, and a certificate of it for 127.0.0.1."""
    openssl = find("openssl") or missing("openssl", remedy="apt-get install openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=A test authority")
    run("req", *key, "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "redis.csr", "-out", "redis.crt", *signed)


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[tuple[Redis, Path]]:
    """A Redis that speaks TLS alone, and the file of its certificate authority."""
    _certificates(tmp_path)
    certificate = ("--tls-cert-file", str(tmp_path / "redis.crt"), "--tls-key-file", str(tmp_path / "redis.key"))
    redis = Redis(tls=(*certificate, "--tls-ca-cert-file", str(tmp_path / "ca.crt"), "--tls-auth-clients", "no"))
    try:
        yield redis.start(), tmp_path / "ca.crt"
    finally:
        redis.close()


async def test_redis_over_tls(serve, postgres_url: str, tls_redis: tuple[Redis, Path]):
    """[TLS1] Two servers share events and limits over a Redis with TLS; an untrusted certificate is refused."""
    redis, authority = tls_redis
    shared = {"DATABASE_URL": postgres_url, "ORBITAL_LOGIN_LIMIT": "1"}
    trusted = {**shared, "REDIS_URL": f"{redis.url}?ssl_ca_certs={authority}"}
    one, two = [await asyncio.to_thread(serve, env=trusted) for _ in range(2)]
    suspicious: Server = await asyncio.to_thread(serve, env={**shared, "REDIS_URL": redis.url})

    async with await Person.sign_up(one.url) as ann:
        group = await ann.make_group()
        async with Person(two.url, user_id=ann.user_id, username=ann.username, token=ann.token) as elsewhere:
            async with await elsewhere.listen(group) as socket:
                await ann.say(group)
                await socket.until_seq(group, 2)
            body = {"username": ann.username, "password": "wrong"}
            answers = [(await person.http.post("/api/login", json=body)).status_code for person in (ann, elsewhere)]
            ready = (await elsewhere.http.get("/health/ready")).json()
        async with Person(suspicious.url, user_id=ann.user_id, username=ann.username, token=ann.token) as other:
            degraded = (await other.http.get("/health/ready")).json()

    assert ready["status"] == "ready"
    assert answers == [401, 429]
    assert degraded["status"] == "degraded"


# Chapter: PostgreSQL


@pytest.fixture
def socket_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that listens on a Unix socket in its folder, too."""
    made = Postgres(socket=True)
    try:
        yield made.start()
    finally:
        made.close()


async def test_postgres_over_a_unix_socket(serve, socket_postgres: Postgres):
    """[PGS1] A server works with a PostgreSQL that has no TCP port, with libpq's address of a Unix socket."""
    address = f"postgresql:///postgres?host={socket_postgres.sockets}&port={socket_postgres.port}&user=orbital"
    server: Server = await asyncio.to_thread(serve, env={"DATABASE_URL": address})
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        async with await ann.listen(group) as socket:
            await ann.say(group)
            await socket.until_seq(group, 2)

    places = socket_postgres.execute(
        "SELECT client_addr FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    assert places
    assert {row["client_addr"] for row in places} == {None}
    checked = await asyncio.to_thread(_orbital, "check", "--database-url", address)
    assert (checked.returncode, checked.stdout) == (0, "1 groups, 2 events: no findings.\n")


async def test_check_finds_a_damaged_index(serve, own_postgres: Postgres):
    """
    [AMC1] With the extension amcheck `orbital check` names a damaged index, and its status is 1.

    It reported every index as damaged, because it passed the driver an index's number instead of a name.
    """
    available = own_postgres.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'")
    if not available:
        missing("PostgreSQL's extension amcheck", remedy="apt-get install postgresql")
    server: Server = await asyncio.to_thread(serve, env={"DATABASE_URL": own_postgres.url()})
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        await ann.say(group)
    await asyncio.to_thread(server.terminate)
    own_postgres.execute("CREATE EXTENSION amcheck")
    whole = await asyncio.to_thread(_orbital, "check", "--database-url", own_postgres.url())
    (place,) = own_postgres.execute("SELECT pg_relation_filepath('users_user_id_key') AS file")
    await asyncio.to_thread(own_postgres.stop)
    file = own_postgres.data / str(place["file"])
    with file.open("r+b") as index:
        # The second page is the root, and so far the only leaf.
        index.seek(8192)
        index.write(b"\0" * 8192)
    await asyncio.to_thread(own_postgres.start)

    damaged = await asyncio.to_thread(_orbital, "check", "--database-url", own_postgres.url())

    assert (whole.returncode, whole.stdout) == (0, "1 groups, 2 events: no findings.\n")
    assert damaged.returncode == 1
    assert "database: PostgreSQL's amcheck of users_user_id_key: " in damaged.stdout
    assert "Traceback" not in damaged.stderr
