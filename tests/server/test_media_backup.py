"""A backup with the bytes of media: incremental, restorable, and not emptied by a mistake."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orbital_relay.blobs.folder import FolderBlobs
from orbital_relay.ports import Blobs
from orbital_relay.services.forms import new_id
from orbital_relay.services.media_copy import Copied, copy_media
from tests.conftest import Serve
from tests.support.client import Person


def orbital(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run([sys.executable, "-m", "orbital_relay", *args], capture_output=True, text=True, check=False)


async def upload(person: Person, thread_id: str, content: bytes) -> str:
    """Store a medium of one chunk."""
    media_id = new_id()
    fields = {
        "media_id": media_id,
        "thread_id": thread_id,
        "chunk_index": "0",
        "total_chunks": "1",
        "encrypted_metadata": base64.b64encode(b"metadata").decode(),
        "encryption_iv": base64.b64encode(b"0123456789ab").decode(),
    }
    answer = await person.http.post("/api/media/upload", data=fields, files={"chunk": ("chunk", content)})
    assert answer.status_code == 201, answer.text
    return media_id


async def test_a_backup_with_media(serve: Serve, tmp_path: Path):
    """[MEDIABACK1] `backup --media` copies new media; `restore --media` restores them completely."""
    server = await asyncio.to_thread(serve)
    data, copy = server.data_dir, tmp_path / "media-copy"
    first, second = os.urandom(300_000), os.urandom(200_000)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        thread = (await ann.open_thread(group))["thread_id"]
        one = await upload(ann, thread, first)
        monday = orbital("backup", tmp_path / "1.backup", "--media", copy, "--data-dir", data)
        two = await upload(ann, thread, second)
        tuesday = orbital("backup", tmp_path / "2.backup", "--media", copy, "--data-dir", data)
        await asyncio.to_thread(server.terminate)

        restored = tmp_path / "restored"
        done = orbital("restore", tmp_path / "2.backup", "--media", copy, "--data-dir", restored)
        checked = orbital("check", "--data-dir", restored)
        other = await asyncio.to_thread(serve, data_dir=restored)
        again = Person(other.url, user_id=ann.user_id, username=ann.username, token=ann.token)
        async with again:
            found = [(await again.http.get(f"/api/media/{media}/download")).content for media in (one, two)]

    for each in (monday, tuesday, done, checked):
        assert each.returncode == 0, each.stdout + each.stderr
    assert "media: 1 copied, 300000 bytes; 0 were there" in monday.stdout
    assert "media: 1 copied, 200000 bytes; 1 were there" in tuesday.stdout
    assert found == [first, second]
    assert {path.stat().st_mode & 0o077 for path in copy.rglob("*")} == {0}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Blobs, Blobs]:
    """Media, and where the copy is."""
    return FolderBlobs(tmp_path / "media"), FolderBlobs(tmp_path / "copy")


async def store(blobs: Blobs, name: str, content: bytes) -> None:
    """Store a blob."""
    draft = blobs.draft()
    await draft.write(content)
    await blobs.keep(draft, name)


async def names(blobs: Blobs) -> set[str]:
    """Return the names of all blobs."""
    return {blob.name async for blob in blobs.listing()}


async def test_what_leaves_the_copy(places: tuple[Blobs, Blobs]):
    """[MEDIABACK2] What the source lost leaves the copy once it is old enough, and never before."""
    media, copy = places
    await store(media, "a/1", b"one")
    await store(media, "b/1", b"two")
    await copy_media(media, copy)
    await media.delete(["a/1"])

    young = await copy_media(media, copy, older_than_ms=0)
    still = await names(copy)
    old = await copy_media(media, copy, older_than_ms=2**53)

    assert young == Copied(0, 0, 1, 0)
    assert still == {"a/1", "b/1"}
    assert old == Copied(0, 0, 1, 1)
    assert await names(copy) == {"b/1"}


async def test_a_copy_that_is_torn(places: tuple[Blobs, Blobs]):
    """[MEDIABACK3] A blob of another size than the source's is copied again."""
    media, copy = places
    await store(media, "a/1", b"whole")
    await store(copy, "a/1", b"wh")

    assert await copy_media(media, copy) == Copied(1, 5, 0, 0)
    assert b"".join([piece async for piece in copy.stream("a/1", start=0, end=5)]) == b"whole"
