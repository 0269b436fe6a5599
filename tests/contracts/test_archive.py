"""Backups: from either store and into either, complete or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from orbital_relay.errors import DatabaseRefused, NotFound
from orbital_relay.model import ClaimedDevice, DeletableKind, GroupId, Principal, Stock, UserId
from orbital_relay.ports import Appended
from orbital_relay.store import archive, schema
from orbital_relay.store.archive import ArchiveDamaged
from orbital_relay.store.sql import SqlStore
from orbital_relay.store.sqlite import SqliteStore
from orbital_relay.store.tables import groups
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    announce,
    assert_chain,
    deletion,
    device_keys,
    enter,
    group_of,
    join,
    keys_message,
    leave,
    message,
    new_id,
    put,
    put_one,
    record,
    refusals,
    reply,
    retry_key,
    thread,
)

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[SqlStore]]]:
    """Open empty stores of a kind; all are closed at the end."""
    opened: list[SqlStore] = []

    async def make(kind: str) -> SqlStore:
        if kind == "sqlite":
            opened.append(await SqliteStore.open(tmp_path / f"{len(opened)}.db"))
        else:
            from orbital_relay.store.postgres import PostgresStore

            url = request.getfixturevalue("postgres_cluster").create_database()
            opened.append(await PostgresStore.open(url))
        return opened[-1]

    yield make
    for store in opened:
        await store.close()


async def _fill(store: SqlStore, stamps: Stamps) -> tuple[GroupId, int]:
    """Put a bit of everything into a store; return the group and ann's row number."""
    ann, bob = await enter(store, "ann"), await enter(store, "bob")
    await store.add_account(
        user_id=UserId(new_id()), username="Carl", public_key=b'{"kty":"OKP"}', password_hash="$x", at_ms=NOW_MS
    )
    group, other = group_of(ann), group_of(bob)
    opened = thread(ann, group.group_id, root_message_id=None)
    await put(store, stamps, group, join(bob, group.invite_code), other, opened)
    await put(store, stamps, reply(bob, opened.thread_id), *(message(ann, group.group_id) for _ in range(1200)))
    await put(
        store, stamps, message(bob, group.group_id, idempotency_key=retry_key("kept")), leave(bob, group.group_id)
    )
    await store.revoke(token_digest=b"\0\xff" * 16, user_id=None, at_s=1.5, until_s=4e9)
    await store.prune(before_ms=(await store.read(group.group_id, after=0, limit=3)).events[-1].stamp_ms, limit=10)
    return group.group_id, ann.key


async def _write(store: SqlStore, path: Path) -> int:
    reports: list[int] = []
    with archive.writing(path) as file:
        rows = await store.backup(file, made_at="2026-11-23T00:00:00Z", on_progress=reports.append)
    assert sum(reports) == rows == await store.rows()
    return rows


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("of", KINDS)
async def test_backup_and_restore(empty, tmp_path: Path, of: str, to: str):
    """[BACKUP3] A restored store equals the backup, byte for byte, and accepts new events."""
    source, target, stamps = await empty(of), await empty(to), Stamps()
    group_id, ann = await _fill(source, stamps)
    account = await source.find_user((await source.members(ann, group_id, limit=1, offset=0)).members[0].user_id)
    author = Principal(account.key, account.user_id, account.username, expires_at_s=4e9)
    opened = thread(author, group_id)
    await put(source, stamps, opened)
    await put_one(source, stamps, deletion(author, group_id, DeletableKind.THREAD, opened.thread_id))
    path, again = tmp_path / "one.backup", tmp_path / "two.backup"

    rows = await _write(source, path)
    assert await target.restore(path, on_progress=lambda _: None) == rows
    assert await _write(target, again) == rows

    # The same rows line by line, from either database.
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(again.read_bytes())
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".*")) == []
    assert await target.heads([group_id]) == await source.heads([group_id])
    assert (await target.verify(group_id)).findings == []
    assert await target.groups_of(ann, now_ms=NOW_MS, limit=500) == await source.groups_of(
        ann, now_ms=NOW_MS, limit=500
    )
    assert await target.revocations(after=0) == await source.revocations(after=0)
    # New rows get new numbers, a repeated key its first response, and the chain continues.
    eve = await enter(target, "eve")
    fresh = group_of(eve)
    await put_one(target, stamps, fresh)
    assert_chain(fresh.group_id, (await target.read(fresh.group_id, after=0, limit=10)).events)
    (repeated,) = await put(target, stamps, message(eve, group_id, idempotency_key=retry_key("kept")))
    assert not isinstance(repeated, Appended), "another user's key is another key"
    assert (await target.verify(group_id)).findings == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_in_use_is_refused(empty, tmp_path: Path, kind: str):
    """[BACKUP4] A database that is not empty is not restored into, and is unchanged."""
    store, stamps = await empty(kind), Stamps()
    group_id, _ = await _fill(store, stamps)
    path = tmp_path / "a.backup"
    await _write(store, path)
    before = await store.heads([group_id])

    with pytest.raises(DatabaseRefused, match="holds accounts or groups already"):
        await store.restore(path, on_progress=lambda _: None)

    assert await store.heads([group_id]) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_damage_is_found(empty, tmp_path: Path, kind: str):
    """[BACKUP5] A truncated, modified or extended file is refused, and the database stays empty and usable."""
    source, target, stamps = await empty("sqlite"), await empty(kind), Stamps()
    await _fill(source, stamps)
    path, bad = tmp_path / "a.backup", tmp_path / "bad.backup"
    await _write(source, path)
    whole = path.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    spoiled = {
        "cut": whole[: len(whole) // 2],
        "without its end": gzip.compress(b"".join(lines[:-1])),
        "a row less": gzip.compress(b"".join(lines[:40] + lines[41:])),
        "a letter changed": gzip.compress(b"".join(lines).replace(b'"ann"', b'"anm"')),
        "more after the end": gzip.compress(b"".join([*lines, lines[50]])),
        "a bit flipped": whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:],
        "no backup": b"PK\3\4",
        "another gzip": gzip.compress(b"hello\n"),
        "nothing": b"",
    }

    for how, content in spoiled.items():
        bad.write_bytes(content)
        print(how)
        with pytest.raises(ArchiveDamaged):
            archive.check(bad, on_progress=lambda _: None)
        with pytest.raises(ArchiveDamaged):
            await target.restore(bad, on_progress=lambda _: None)

    assert await target.restore(path, on_progress=lambda _: None) == await source.rows()


async def test_any_flipped_bit_is_found(empty, tmp_path: Path):
    """
    [BACKUP6] A flipped bit anywhere after the file's header is detected, and the backup refused with a sentence.

    Depending on the position the checksum, the JSON parser or the decompressor detects it; the latter's error was lost.
    """
    source = await empty("sqlite")
    await _fill(source, Stamps())
    path, bad = tmp_path / "a.backup", tmp_path / "bad.backup"
    await _write(source, path)
    whole = path.read_bytes()

    for at in range(10, len(whole), max(1, len(whole) // 400)):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(ArchiveDamaged):
            archive.check(bad, on_progress=lambda _: None)


def _rewritten(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """Return a backup with other lines, and an end that fits them."""
    lines = change(gzip.decompress(path.read_bytes()).splitlines()[:-1])
    text = b"".join(line + b"\n" for line in lines)
    rows = sum(line.startswith(b"[") for line in lines)
    end = {"line": "end", "rows": rows, "sha256": sha256(text).hexdigest()}
    return gzip.compress(text + json.dumps(end, separators=(",", ":")).encode() + b"\n")


_FIRST = {"users", "groups", "members", "events", "threads", "replies", "idempotency_keys", "revocations"}
"""The tables of the first schema."""
_LATER = {
    "users": {
        *("seen_ms", "disabled_ms", "erase_ms", "erased_ms", "disabled_reason"),
        *("admin_ms", "reset_digest", "reset_expires_ms", "display_name"),
    },
    "groups": {"delete_ms", "epoch_seq", "invite_once"},
    "members": {"admin"},
    "threads": {"active_seq", "active_ms", "deleted_seq"},
}
"""What later schemas added to these tables."""


def _to_first(lines: list[bytes]) -> list[bytes]:
    """Rewrite the lines of a backup as the first schema had them."""
    kept, table = [lines[0].replace(f'"schema":"{schema.newest()}"'.encode(), b'"schema":"0001"')], ""
    dropped: set[int] = set()
    for line in lines[1:]:
        content = json.loads(line)
        if isinstance(content, dict):
            table = content["table"]
            dropped = {index for index, name in enumerate(content["columns"]) if name in _LATER.get(table, ())}
            content["columns"] = [one for index, one in enumerate(content["columns"]) if index not in dropped]
            content["binary"] = [one for one in content["binary"] if one in content["columns"]]
        else:
            content = [value for index, value in enumerate(content) if index not in dropped]
        older = json.dumps(content, separators=(",", ":")).encode() if dropped else line
        if table == "idempotency_keys":
            # Until schema 0004 an HTTP status stood before each answer.
            was = b'"answer"' if line.startswith(b"{") else b'"ey'
            now = b'"status","answer"' if line.startswith(b"{") else b'200,"ey'
            kept.append(line.replace(was, now, 1))
        elif table in _FIRST:
            kept.append(older)
    return kept


@pytest.mark.parametrize("kind", KINDS)
async def test_epochs_of_an_older_log(empty, tmp_path: Path, kind: str):
    """[EPOCH8] Groups from before epochs existed get the epoch that follows from their log or members' rows."""
    source, target, stamps = await empty("sqlite"), await empty(kind), Stamps()
    group_id, _ = await _fill(source, stamps)
    ann, bob = await enter(source, "ada"), await enter(source, "ben")
    pruned = group_of(ann)
    await put(source, stamps, pruned, join(bob, pruned.invite_code))
    await source.prune(before_ms=stamps.next_ms + 1, limit=2)
    path, old = tmp_path / "a.backup", tmp_path / "old.backup"
    await _write(source, path)
    old.write_bytes(_rewritten(path, _to_first))

    await target.restore(old, on_progress=lambda _: None)

    for known in (group_id, pruned.group_id):
        assert (await target.verify(known)).findings == []
    outcomes = await put(
        target, stamps, message(ann, pruned.group_id, if_epoch=1), message(ann, pruned.group_id, if_epoch=2)
    )
    assert refusals(outcomes) == ["EPOCH_CHANGED", None]
    assert (await source.heads([group_id]))[group_id].seq == await _epoch(target, group_id)


async def _epoch(store: SqlStore, group_id: GroupId) -> int:
    found = await store._read(
        lambda conn: conn.execute(select(groups.c.epoch_seq).where(groups.c.group_id == group_id)).scalar_one()
    )
    return int(found)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_one_time_key_is_restored(empty, tmp_path: Path, kind: str):
    """[CLAIM13] A restored backup offers no one-time keys; all else of devices, records and key messages is kept."""
    source, target, stamps = await empty(kind), await empty("sqlite"), Stamps()
    ann = await enter(source, "ann")
    group = group_of(ann)
    await put_one(source, stamps, group)
    await source.publish_keys(ann.key, device_keys(one_time=3, suites=3), now_ms=NOW_MS)
    (pending,) = await source.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10)
    await put_one(source, stamps, announce(pending))
    await source.publish_keys(ann.key, device_keys(2), now_ms=NOW_MS)
    await put_one(source, stamps, record(ann, group.group_id))
    await put_one(source, stamps, keys_message(ann, group.group_id))
    await source.open_mailbox("box", now_ms=NOW_MS)
    path = tmp_path / "a.backup"
    await _write(source, path)

    await target.restore(path, on_progress=lambda _: None)

    key = (await target.find_user(ann.user_id)).key
    assert [(each.device_id, each.stock) for each in await target.own_devices(key)] == [(1, Stock()), (2, Stock())]
    wanted = [ClaimedDevice(ann.user_id, 1, 1), ClaimedDevice(ann.user_id, 2, 16)]
    claimed = await target.claim_keys(key, group.group_id, wanted, now_ms=NOW_MS)
    assert [bundle.last_resort for bundle in claimed.bundles] == [True, True]
    assert await target.check_directory() == []
    for read in ("records", "key_messages"):
        found = [
            await getattr(store, read)(
                user, group.group_id, limit=9, **({"offset": 0} if read == "records" else {"after": 0})
            )
            for store, user in ((source, ann.key), (target, key))
        ]
        assert found[0] == found[1]
    assert len(await target.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10)) == 1
    with pytest.raises(NotFound):
        await target.mail("box", after_ms=0)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_older_backup(empty, tmp_path: Path, kind: str):
    """[BACKUP7] A backup of the first schema is restored and migrated, with its keys; a newer schema is refused."""
    source, target, stamps = await empty("sqlite"), await empty(kind), Stamps()
    group_id, _ = await _fill(source, stamps)
    path, old, new = tmp_path / "a.backup", tmp_path / "old.backup", tmp_path / "new.backup"
    await _write(source, path)
    old.write_bytes(_rewritten(path, _to_first))
    for change in (b'"schema":"9999"', b'"format":2'):
        name = change.split(b":")[0]
        new.write_bytes(_rewritten(path, lambda lines, c=change, n=name: [_with(lines[0], n, c), *lines[1:]]))
        with pytest.raises(ArchiveDamaged, match="newer Orbital"):
            await target.restore(new, on_progress=lambda _: None)

    await target.restore(old, on_progress=lambda _: None)

    assert await target.heads([group_id]) == await source.heads([group_id])
    assert (await target.verify(group_id)).findings == []
    assert await _answers(target) == await _answers(source) != []
    assert await _activity(target) == await _activity(source) != []


async def _activity(store: SqlStore) -> list[tuple[str, int, int]]:
    query = "SELECT thread_id, active_seq, active_ms FROM threads ORDER BY thread_id"
    return [(row[0], row[1], row[2]) for row in await store._read(lambda conn: conn.exec_driver_sql(query).all())]


async def _answers(store: SqlStore) -> list[tuple[str, bytes]]:
    found = await store._read(lambda conn: conn.exec_driver_sql("SELECT key, answer FROM idempotency_keys").all())
    return [(key, bytes(answer)) for key, answer in found]


def _with(header: bytes, name: bytes, change: bytes) -> bytes:
    start = header.index(name)
    end = header.index(b",", start)
    return header[:start] + change + header[end:]
