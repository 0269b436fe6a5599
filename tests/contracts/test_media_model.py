"""Media beside a model: after any sequence of operations the quota equals the stored bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from orbital_relay import wire
from orbital_relay.blobs import FolderBlobs
from orbital_relay.errors import OrbitalError
from orbital_relay.model import AnyDraft, GroupId, MediaId, MediaLimits, MediaState, ThreadId
from orbital_relay.ports import Appended
from orbital_relay.server.limits.limiter import LocalLimiter
from orbital_relay.services import media, media_cleanup, media_upload
from orbital_relay.services.media_context import MediaContext
from orbital_relay.services.media_upload import ChunkForm
from orbital_relay.store.sqlite import SqliteStore
from tests.contracts.drafts import NOW_MS, enter, group_of, new_id, thread

HOUR_MS = 3600 * 1000
LIMITS = MediaLimits(chunk_bytes=50, file_bytes=150, group_bytes=400, group_files=4, user_uploads=30)


class Killed(BaseException):
    """The server died at this moment: nothing after it happens, no `except` and no answer."""


class Mortal:
    """Stands before a part of the server, and kills it at the step that was chosen: before the call, or after it."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.step()
            result = await found(*args, **kwargs)
            self._fate.step()
            return result

        return call


class Fate:
    """Counts steps down to a death."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def steady_s(self) -> float:
        return self.now_ms / 1000


def chunk_bytes(media_id: str, index: int, variant: int) -> bytes:
    """Return the bytes of a chunk: sizes differ by place, contents by variant."""
    seed = hashlib.sha256(f"{media_id} {index} {variant}".encode()).digest() * 2
    return seed[: 10 + 10 * (index % 5)]


INDEXES = st.integers(0, 3)
WHICH = st.integers(0, 5)
KILLS = st.none() | st.integers(0, 14)


class Machine(RuleBasedStateMachine):
    """Does things to media, dies in the middle, and compares room, rows, files and log."""

    def __init__(self, runner: asyncio.Runner, store: Any, root: Path) -> None:
        super().__init__()
        self.run, self.store, self.root = runner.run, store, root
        self.fate, self.clock = Fate(), Clock()
        self.ids = [MediaId(new_id()) for _ in range(6)]
        self.totals = dict(zip(self.ids, (1, 2, 3, 3, 4, 2), strict=True))
        self.declared = {self.ids[3]: sum(len(chunk_bytes(self.ids[3], index, 0)) for index in range(3))}

    @initialize()
    def enter(self) -> None:
        self.run(self._enter())

    async def _enter(self) -> None:
        self.ada = await enter(self.store, "ada")
        made = group_of(self.ada)
        opened = thread(self.ada, made.group_id)
        outcomes = await self.store.append([made, opened], first_stamp_ms=NOW_MS)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        self.group_id, self.thread_id = GroupId(made.group_id), ThreadId(opened.thread_id)
        # One folder per example, so that earlier examples leave nothing behind.
        self.blobs = FolderBlobs(self.root / self.group_id)
        self.stored: list[str] = []
        self._boot()

    def _boot(self) -> None:
        """A server, new: nothing in memory."""
        self.fate.left = None

        def append(draft: AnyDraft) -> asyncio.Future[Appended]:
            return asyncio.ensure_future(self._append(draft))

        self.room = MediaContext(
            rows=Mortal(self.store, self.fate),  # type: ignore[arg-type]
            blobs=Mortal(self.blobs, self.fate),  # type: ignore[arg-type]
            append=append,
            clock=self.clock,
            limits=LIMITS,
            limiter=LocalLimiter(self.clock),
            uploads_an_hour=1000,
            envelope_bytes=1000,
            keep_ms=7 * 24 * HOUR_MS,
            abandon_ms=24 * HOUR_MS,
            started_ms=2**60,
            alone=True,
        )

    async def _append(self, draft: AnyDraft) -> Appended:
        self.fate.step()
        (outcome,) = await self.store.append([draft], first_stamp_ms=self.clock.now_ms)
        self.fate.step()
        if isinstance(outcome, OrbitalError):
            raise outcome
        return outcome

    def _do(self, work: Any, kill: int | None) -> Any:
        """Do a piece of work, dying at step `kill`; return its outcome, or the refusal."""
        self.fate.left = kill
        try:
            return self.run(work)
        except Killed:
            return None
        except OrbitalError as refusal:
            return refusal
        finally:
            self._boot()

    # Operations

    @rule(which=WHICH, index=INDEXES, variant=st.sampled_from([0, 0, 0, 1]), kill=KILLS)
    def chunk(self, which: int, index: int, variant: int, kill: int | None) -> None:
        self._do(self._chunk(self.ids[which], index, variant), kill)

    async def _chunk(self, media_id: MediaId, index: int, variant: int) -> Any:
        draft = self.blobs.draft()
        await draft.write(chunk_bytes(media_id, index, variant))
        try:
            form = ChunkForm(
                media_id=media_id,
                thread_id=self.thread_id,
                chunk_index=index,
                total_chunks=self.totals[media_id],
                encrypted_metadata="bQ",
                encryption_iv="aQ",
                size_bytes=self.declared.get(media_id),
            )
            return await media_upload.take_chunk(self.room, self.ada, form, draft)
        except Killed:
            # A dead server discards nothing: its files are closed, and stay.
            if draft.file is not None:
                draft.file.close()
            draft = self.blobs.draft()
            raise
        finally:
            await draft.discard()

    @rule(which=WHICH, parts=st.lists(st.tuples(INDEXES, st.sampled_from([0, 0, 1])), max_size=8))
    def at_once(self, which: int, parts: list[tuple[int, int]]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(
                *(self._chunk(self.ids[which], index, variant) for index, variant in parts), return_exceptions=True
            )

        self.run(all_of_them())

    @rule(which=WHICH, kill=KILLS)
    def complete(self, which: int, kill: int | None) -> None:
        self._do(media_upload.complete(self.room, self.ada, self.ids[which], if_epoch=None, idempotency_key=None), kill)

    @rule(which=WHICH, kill=KILLS)
    def delete(self, which: int, kill: int | None) -> None:
        self._do(media.delete_medium(self.room, self.ada, self.ids[which]), kill)

    @rule(hours=st.sampled_from([1, 23, 25, 24 * 7 + 1]), kill=KILLS)
    def time_passes(self, hours: int, kill: int | None) -> None:
        self.clock.now_ms += hours * HOUR_MS
        self._do(media_cleanup.collect(self.room, sweep=False), kill)

    @rule()
    def round(self) -> None:
        """After a whole round no bytes are without a row, and no row without bytes."""
        self.run(media_cleanup.collect(self.room, sweep=True))
        named = self.run(self._named())
        assert self._files() == named
        self.run(self._read_whole())

    # Invariants

    @invariant()
    def room_is_what_is_there(self) -> None:
        total, count = 0, 0
        for media_id in self.ids:
            try:
                upload = self.run(self.store.upload(self.ada.key, media_id))
            except OrbitalError:
                continue
            if upload.state not in {MediaState.UPLOADING, MediaState.COMPLETE}:
                continue
            there = sum(len(chunk_bytes(media_id, index, 0)) for index in upload.received)
            assert upload.size_bytes == there
            owed = self.totals[media_id] - len(upload.received)
            count += 1
            if not upload.received:
                # Killed between the reservation and the first chunk: it keeps that chunk's reservation.
                total += self._reserved(media_id)
            elif media_id in self.declared:
                total += self.declared[media_id]
            else:
                total += min(there + owed * LIMITS.chunk_bytes, LIMITS.file_bytes)
        quota = self.run(self.store.quota(self.ada.key, self.group_id, limits=LIMITS))
        assert (quota.total_bytes, quota.media_count) == (total, count)
        assert total <= LIMITS.group_bytes
        assert count <= LIMITS.group_files

    def _reserved(self, media_id: MediaId) -> int:
        found = self.run(
            self.store._read(
                lambda conn: conn.exec_driver_sql(
                    f"SELECT reserved_bytes FROM media WHERE media_id = '{media_id}'"
                ).scalar_one()
            )
        )
        assert 0 < found <= LIMITS.file_bytes
        return int(found)

    @invariant()
    def rows_have_their_bytes(self) -> None:
        """No row is ever without bytes, dead servers or not."""
        there = self._files()
        for name, size_bytes in self.run(self._named()).items():
            assert there.get(name) == size_bytes

    async def _named(self) -> dict[str, int]:
        named: dict[str, int] = {}
        key = 0
        while some := await self.store.chunks_after(key, limit=2):
            for _, media_id, chunks in some:
                if media_id in self.ids:
                    named |= chunks
            key = some[-1][0]
        return named

    def _files(self) -> dict[str, int]:
        return {
            str(path.relative_to(self.root / self.group_id)): path.stat().st_size
            for path in (self.root / self.group_id).rglob("*")
            if path.is_file() and (path.parent.name != ".drafts")
        }

    async def _read_whole(self) -> None:
        for media_id in self.ids:
            try:
                file = await self.store.media_file(self.ada.key, media_id, now_ms=self.clock.now_ms)
            except OrbitalError:
                continue
            data = b"".join([piece async for piece in _all(self.room, file)])
            at = 0
            for index in range(self.totals[media_id]):
                variants = [chunk_bytes(media_id, index, variant) for variant in (0, 1)]
                assert data[at : at + len(variants[0])] in variants
                at += len(variants[0])
            assert len(data) == at == file.size_bytes

    def teardown(self) -> None:
        self.round()
        self.run(self._log())

    async def _log(self) -> None:
        """Each medium was uploaded once in the log, and expired at most once after that; `check` agrees."""
        page = await self.store.read(self.group_id, after=0, limit=1000)
        said: dict[str, list[str]] = {}
        for event in page.events:
            data = wire.event_data(event.frame)
            if isinstance(data, wire.MediaUploaded | wire.MediaExpired):
                said.setdefault(data.media_id, []).append(data.kind)
        for media_id in self.ids:
            try:
                info = await self.store.media_info(self.ada.key, media_id, now_ms=self.clock.now_ms)
            except OrbitalError:
                assert media_id not in said
                continue
            expired = ["media_expired"] if info.status == "expired" else []
            assert said[media_id] == ["media_uploaded", *expired]
        assert (await self.store.verify(self.group_id)).findings == []


async def _all(room: MediaContext, file: Any) -> AsyncIterator[bytes]:
    async for piece in media.read(room, file, start=0, end=file.size_bytes):
        yield piece


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop that outlives an example."""
    with asyncio.Runner() as opened:
        yield opened


def _check(runner: asyncio.Runner, store: Any, root: Path, *, examples: int) -> None:
    assert msgspec.structs.asdict(LIMITS)["file_bytes"] == 3 * LIMITS.chunk_bytes
    try:
        run_state_machine_as_test(
            lambda: Machine(runner, store, root),
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        runner.run(store.close())


def test_sqlite_keeps_quota_and_bytes_together(runner: asyncio.Runner, tmp_path: Path):
    """[QUO6] After any sequence of chunk, repeat, kill, complete, expire, delete the quota equals the stored bytes."""
    _check(runner, runner.run(SqliteStore.open(tmp_path / "orbital.db")), tmp_path / "media", examples=20)


def test_postgresql_keeps_quota_and_bytes_together(runner: asyncio.Runner, tmp_path: Path, postgres_url: str):
    """[QUO6] The same on PostgreSQL."""
    from orbital_relay.store.postgres import PostgresStore

    _check(runner, runner.run(PostgresStore.open(postgres_url)), tmp_path / "media", examples=6)
