"""PostgreSQL behind PgBouncer, and addresses as libpq writes them."""

from __future__ import annotations

import pytest

from orbital_relay.errors import DatabaseRefused
from orbital_relay.store.postgres import PostgresStore
from orbital_relay.store.postgres_session import connect_timeout_s, driver_dsn
from tests.contracts.drafts import Stamps, enter, group_of, message, put, put_one, refusals
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Postgres


@pytest.fixture
def pooled(request: pytest.FixtureRequest, postgres_cluster: Postgres, postgres_url: str):
    """The address of an empty database behind a PgBouncer in the pool mode that a test asks for."""
    pooler = PgBouncer(postgres_cluster, pool_mode=request.param)
    try:
        yield pooler.url(postgres_url.rpartition("/")[2])
    finally:
        pooler.close()


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
async def test_session_pooling_works(pooled: str):
    """[POOL1] Behind PgBouncer in session mode a store works, and its sessions have the required settings."""
    store = await PostgresStore.open(pooled, patience_s=2)
    stamps = Stamps()
    ann = await enter(store)
    group = group_of(ann)
    await put_one(store, stamps, group)

    # Twice: the driver resets settings when a connection returns to its pool.
    for _ in range(2):
        assert refusals(await put(store, stamps, message(ann, group.group_id))) == [None]
        async with store._append_pool.acquire() as raw:
            shown = [await raw.fetchval(f"SHOW {name}") for name in ("lock_timeout", "statement_timeout", "jit")]
        assert shown == ["5s", "10s", "off"]
    await store.close()


@pytest.mark.parametrize("pooled", ["transaction", "statement"], indirect=True)
async def test_shared_sessions_are_refused(pooled: str):
    """[POOL2] A pooler that shares sessions is refused at the start, with a sentence that says what to set."""
    with pytest.raises(DatabaseRefused, match="pool_mode = session"):
        await PostgresStore.open(pooled, patience_s=2)


async def test_synchronous_commit(own_postgres: Postgres):
    """[POOL3] Where synchronous_commit is off the server turns it on, and verifies it."""
    own_postgres.execute("ALTER ROLE orbital SET synchronous_commit = off")
    store = await PostgresStore.open(own_postgres.url())

    for _ in range(2):
        async with store._append_pool.acquire() as raw:
            assert await raw.fetchval("SHOW synchronous_commit") == "on"
    await store.close()


@pytest.mark.parametrize(
    "query", ["channel_binding=prefer", "connect_timeout=10", "keepalives_idle=30&keepalives=1", "sslmode=prefer"]
)
@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
async def test_addresses_of_libpq(postgres_url: str, scheme: str, query: str):
    """[POOL4] Both schemes, and parameters that only libpq knows, are accepted."""
    store = await PostgresStore.open(f"{scheme}{postgres_url.removeprefix('postgresql')}?{query}", patience_s=2)

    assert await store.ready()
    await store.close()


async def test_several_hosts(postgres_cluster: Postgres, postgres_url: str):
    """[POOL6] Of several hosts the one that accepts writes is used, whatever its position."""
    name = postgres_url.rpartition("/")[2]
    for ports in (f"{postgres_cluster.port},1", f"1,{postgres_cluster.port}"):
        dsn = f"postgresql:///{name}?host=127.0.0.1,127.0.0.1&port={ports}&user=orbital"
        store = await PostgresStore.open(dsn, patience_s=2)
        assert await store.ready()
        await store.close()


@pytest.mark.parametrize(
    "given, taken",
    [
        ("postgresql://u@a/d", "postgresql://u@a/d"),
        ("postgresql://u@a/d?connect_timeout=3", "postgresql://u@a/d"),
        ("postgresql://u@a:1,b:2/d", "postgresql://u@a:1,b:2/d?target_session_attrs=read-write"),
        ("postgresql://u@a,b/d?target_session_attrs=any", "postgresql://u@a,b/d?target_session_attrs=any"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
    ],
)
def test_the_address_for_the_driver(given: str, taken: str):
    """[POOL7] Parameters that the driver does not know are removed; of several hosts the writable one is requested."""
    assert driver_dsn(given) == taken


def test_what_the_driver_does_not_support():
    """[POOL5] An address that requires channel binding is refused with a sentence, not weakened."""
    with pytest.raises(DatabaseRefused, match="verify-full"):
        driver_dsn("postgresql://u@a/d?channel_binding=require")


def test_the_address_s_own_timeout():
    """[POOL8] `connect_timeout` shortens the wait for a connection, and never lengthens it."""
    assert [connect_timeout_s(f"postgresql://a/d?connect_timeout={n}", default=3) for n in ("1", "0", "10")] == [
        1,
        3,
        3,
    ]
