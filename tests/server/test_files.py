"""Files of a server: permissions, which database a command uses, and a full disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orbital_relay.services.forms import new_id
from orbital_relay.store.sqlite import SqliteStore
from tests.support.client import Person
from tests.support.locks import lasting_locks
from tests.support.process import eventually
from tests.support.programs import missing
from tests.support.server import Server


def orbital(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator's."""
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def _open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]


async def test_files_are_private(serve, tmp_path: Path):
    """[FILES1] In an existing folder, with any umask, database, log, lock, media and backup are private."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        server: Server = await asyncio.to_thread(serve, data_dir=data)
        async with await Person.sign_up(server.url) as ann:
            await ann.make_group()
            made = await asyncio.to_thread(orbital, "backup", "--data-dir", data, data / "home.backup")
            assert made.returncode == 0, made.stderr
            assert {"orbital.db-wal", "orbital.db-shm"} <= {path.name for path in data.iterdir()}
            assert _open_to_others(data) == []
    finally:
        os.umask(before)


def test_readable_files_are_made_private(serve, tmp_path: Path):
    """[FILES5] A database that other users could read becomes private at the next start."""
    data = tmp_path / "data"
    server: Server = serve(data_dir=data)
    server.terminate()
    (data / "media").mkdir(exist_ok=True)
    (data / "orbital.db").chmod(0o644)
    (data / "media").chmod(0o755)

    server.start()

    assert _open_to_others(data) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that another user cannot open")
@pytest.mark.parametrize("command", [["migrate"], ["check"], ["user", "add", "eve"], ["media", "gc"]], ids=" ".join)
def test_commands_of_root_leave_the_service_s_files(tmp_path: Path, command: list[str]):
    """[FILES2] A command that root runs in the service's folder leaves no file that root owns."""
    data = tmp_path / "data"
    data.mkdir()
    assert orbital("migrate", "--data-dir", data).returncode == 0
    for path in (data, *data.rglob("*")):
        os.chown(path, 65534, 65534)
    for path in data.glob("*.lock"):
        path.unlink()
    if command == ["migrate"]:
        (data / "orbital.db").unlink()

    done = orbital(*command, "--data-dir", data, input="Correct-Horse-7\n")

    assert done.returncode == 0, done.stderr
    assert [path.name for path in data.rglob("*") if path.stat().st_uid != 65534] == []


def test_which_database(tmp_path: Path):
    """[FILES3] `orbital user add` creates no database, and every command names the database that it used."""
    data = tmp_path / "data"

    refused = orbital("user", "add", "eve", "--data-dir", data, input="Correct-Horse-7\n")
    assert refused.returncode == 1
    assert f"There is no database at {data / 'orbital.db'}" in refused.stderr
    assert not data.exists()

    assert orbital("migrate", "--data-dir", data).returncode == 0
    for command in (["user", "add", "eve"], ["token", "eve"], ["check"], ["clock"], ["token", "nobody"]):
        done = orbital(*command, "--data-dir", data, input="Correct-Horse-7\n")
        assert f"Database: {data / 'orbital.db'}" in done.stderr


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_the_lock_resolves_links(serve, tmp_path: Path, kind: str):
    """[FILES4] Two paths of one file are one database: a second server is refused under either path."""
    first: Server = serve(data_dir=tmp_path / "one")
    other = tmp_path / "two"
    other.mkdir()
    if kind == "hard link":
        os.link(first.data_dir / "orbital.db", other / "orbital.db")
    else:
        (other / "orbital.db").symlink_to(first.data_dir / "orbital.db")

    second = serve(data_dir=other, start=False)
    second.launch()

    assert second.program.wait() == 1
    assert "Another server is using" in second.program.text


async def test_check_reads_every_page(serve):
    """[CHECK2] `orbital check` finds a damaged index, which reading the log would not, and reports it in a sentence."""
    server: Server = await asyncio.to_thread(serve)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        for _ in range(20):
            await ann.say(group)
    await asyncio.to_thread(server.terminate)
    file = server.data_dir / "orbital.db"
    whole = file.read_bytes()
    size = int.from_bytes(whole[16:18], "big")

    found = 0
    pages = range(1, len(whole) // size, 7)
    for page in pages:
        damaged = bytearray(whole)
        damaged[page * size : (page + 1) * size] = b"\xa5" * size
        file.write_bytes(damaged)
        done = await asyncio.to_thread(orbital, "check", "--data-dir", server.data_dir)
        assert "Traceback" not in done.stderr, (page, done.stderr)
        found += done.returncode == 1
    file.write_bytes(whole)

    assert found == len(pages)
    assert (await asyncio.to_thread(orbital, "check", "--data-dir", server.data_dir)).returncode == 0


async def test_a_truncated_write_ahead_log(serve, tmp_path: Path):
    """
    [WALT2] A server whose write-ahead log was truncated is not ready, stores nothing more, and logs a remedy.

    It still serves the intact log; after a restart it has the complete events, and `orbital check` finds no error.
    """
    data = tmp_path / "data"
    server: Server = await asyncio.to_thread(serve, data_dir=data)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        for _ in range(20):
            await ann.say(group)
        stored = await ann.events(group)
        wal = data / "orbital.db-wal"
        os.truncate(wal, wal.stat().st_size // 2)

        health = await ann.http.get("/health/ready")
        post = await ann.http.post(
            "/v1/messages", json={"conversation_id": group.id, "encrypted_envelope": "AAAA", "timestamp": 1}
        )
        read = await ann.http.get("/v1/events", params={"group_id": group.id})

        assert (health.status_code, post.status_code) == (503, 503)
        assert "operator" in post.json()["message"]
        assert read.status_code == 503 or read.json()["events"] == stored
        (said,) = [line for line in server.log if "write-ahead log" in line]
        assert "orbital check" in said
        await asyncio.to_thread(server.terminate)
        assert (await asyncio.to_thread(orbital, "check", "--data-dir", data)).returncode == 0
        await asyncio.to_thread(server.start)
        assert await asyncio.to_thread(server.terminate) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the locks of a process are read in /proc")
async def test_locks_survive_every_read(serve, tmp_path: Path):
    """
    [WALT4] No GET, and no command beside it, takes from a running server the locks that SQLite has on its files.

    A server that lost them was ended by SIGBUS, and its log deleted, when the next program opened the database.
    """
    data = tmp_path / "data"
    server: Server = await asyncio.to_thread(serve, data_dir=data)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        for _ in range(20):
            await ann.say(group)
        stored = await ann.events(group)
        paths = (await ann.http.get("/openapi.json")).json()["paths"]
        reads = [path.replace("{group_id}", group.id) for path, methods in paths.items() if "get" in methods]

        held = {"start": lasting_locks(data / "orbital.db", server.pid)}
        for path in [*reads, "/metrics"]:
            await ann.http.get(path)
            held[path] = lasting_locks(data / "orbital.db", server.pid)
        for command in (["user", "list"], ["check"], ["backup", data / "home.backup"]):
            done = await asyncio.to_thread(orbital, *command, "--data-dir", data)
            assert done.returncode == 0, done.stderr
            held[str(command[0])] = lasting_locks(data / "orbital.db", server.pid)
        again = await ann.events(group)

    assert len(reads) > 20
    assert {what: files for what, files in held.items() if files != {"orbital.db", "orbital.db-shm"}} == {}
    assert again == stored


async def test_a_log_that_went_back_is_noted(serve, tmp_path: Path):
    """[CHECK4] `orbital check` reports how often servers found the log rewound, and when last; its status is 0."""
    data = tmp_path / "data"
    server: Server = await asyncio.to_thread(serve, data_dir=data)
    await asyncio.to_thread(server.terminate)
    assert "Note:" not in (await asyncio.to_thread(orbital, "check", "--data-dir", data)).stdout
    store = await SqliteStore.open(data / "orbital.db")
    for at_ms in (1_000, 1_700_000_000_000):
        await store.note_rewind(at_ms=at_ms)
    await store.close()

    checked = await asyncio.to_thread(orbital, "check", "--data-dir", data)

    assert checked.returncode == 0
    assert "lost events under running servers, 2 times, the last at 2023-11-14T22:13:20+00:00" in checked.stdout


async def test_a_restore_without_media(serve, tmp_path: Path):
    """[CHECK5] Restored without media, `orbital check` names each medium with status 3; after the `cp`, status 0."""
    server: Server = await asyncio.to_thread(serve, data_dir=tmp_path / "var")
    media = []
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        body = {"group_id": group.id, "encrypted_title": "AAAA", "encrypted_body": "AAAA"}
        thread = await ann.post("/api/threads", body)
        for size in (100, 2_000):
            fields = {"media_id": new_id(), "thread_id": thread["thread_id"], "chunk_index": "0", "total_chunks": "1"}
            fields |= {"encrypted_metadata": "AAAA", "encryption_iv": "AAAA"}
            sent = await ann.http.post("/api/media/upload", data=fields, files={"chunk": b"x" * size})
            assert sent.status_code == 201, sent.text
            media.append((fields["media_id"], size))
    file, restored = tmp_path / "home.backup", tmp_path / "restored"
    for command in (
        ("backup", "--data-dir", server.data_dir, file),
        ("restore", "--data-dir", restored, file),
    ):
        done = await asyncio.to_thread(orbital, *command)
        assert done.returncode == 0, done.stderr

    lacking = await asyncio.to_thread(orbital, "check", "--data-dir", restored)
    how_to = (Path(__file__).parents[2] / "docs/how-to/back-up-and-restore.md").read_text()
    (copy,) = [line.partition("#")[0].split() for line in how_to.splitlines() if line.startswith("cp -a var/media ")]
    await asyncio.to_thread(subprocess.run, copy, cwd=tmp_path, check=True)
    whole = await asyncio.to_thread(orbital, "check", "--data-dir", restored)

    assert lacking.returncode == 3
    assert sorted(line for line in lacking.stdout.splitlines() if line.startswith("media:")) == sorted(
        f"media: the medium {media_id} lacks 1 of its 1 chunks ({size:,} bytes)" for media_id, size in media
    )
    assert "copy the folder media" in lacking.stderr
    assert (whole.returncode, "media:" in whole.stdout) == (0, False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        missing("the right to mount a small disk", remedy="run the tests as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _fill(disk: Path) -> Path:
    """Take all that is free."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    assert shutil.disk_usage(disk).free == 0
    return filler


async def test_a_full_disk(serve, small_disk: Path):
    """[DISK1] On a full disk a server reports not ready, starts and serves reads, and recovers when space is free."""
    data = small_disk / "data"
    server: Server = await asyncio.to_thread(serve, data_dir=data)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        filler = _fill(small_disk)
        # The allocated part of the write-ahead log still accepts a few.
        await eventually(lambda: _is_refused(ann.http, group), what="nothing more can be stored")
        ready = await ann.http.get("/health/ready")
        kept = await ann.events(group)
        assert ready.status_code == 503
        filler.unlink()
        # After a clean end SQLite needs room for its shared memory before it reads anything.
        await asyncio.to_thread(server.terminate)
        assert not (data / "orbital.db-shm").exists()
        _fill(small_disk)
        await asyncio.to_thread(server.launch)
        port = int((await asyncio.to_thread(server.program.wait_for, r"http://\S+?:(\d+)")).group(1))
        async with httpx.AsyncClient(
            base_url=f"http://localhost:{port}", headers={"Authorization": f"Bearer {ann.token}"}
        ) as http:
            read = await http.get("/v1/events", params={"group_id": group.id, "after_seq": 0})
            assert [event["seq"] for event in read.json()["events"]] == [event["seq"] for event in kept][:100]
            _fill(small_disk)
            await eventually(lambda: _is_refused(http, group), what="nothing more can be stored")
            assert (await http.get("/health/ready")).status_code == 503
            assert any("the disk is full" in line for line in server.log)

            filler.unlink()
            assert (await http.get("/health/ready")).status_code == 200
            assert (await http.post("/v1/messages", json=_message(group, 2_000))).status_code == 200
    # The fixture stops it, which must succeed.


async def _is_refused(http: httpx.AsyncClient, group) -> bool:
    return (await http.post("/v1/messages", json=_message(group, 2_000))).status_code == 503


def _message(group, size: int) -> dict[str, object]:
    return {"conversation_id": group.id, "encrypted_envelope": "A" * size, "timestamp": 0}
