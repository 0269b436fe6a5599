"""`orbital vacuum`: what it shrinks, what it keeps, and when it refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.conftest import Serve
from tests.support.client import Person
from tests.support.process import until


def vacuum(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "orbital_relay", "vacuum", *args], capture_output=True, text=True, check=False
    )


async def test_a_file_that_shrinks(serve: Serve):
    """[VACUUM1] After a vacuum the file has the size of what is in it, the log is intact, and the server starts."""
    server = await asyncio.to_thread(serve)
    file = server.data_dir / "orbital.db"
    async with await Person.sign_up(server.url) as ann:
        group, gone = await ann.make_group(), await ann.make_group()
        said = await ann.say(group)
        for _ in range(40):
            await ann.say(gone, b"x" * 150_000)
        running = vacuum("--data-dir", str(server.data_dir))
        await asyncio.to_thread(server.terminate)
        deleted = subprocess.run(
            [sys.executable, "-m", "orbital_relay", "group", "delete", gone.id, "--yes", "--data-dir", server.data_dir],
            capture_output=True,
            text=True,
        )
        before = file.stat().st_size
        done = vacuum("--data-dir", str(server.data_dir))
        after = file.stat().st_size
        checked = subprocess.run(
            [sys.executable, "-m", "orbital_relay", "check", "--data-dir", server.data_dir],
            capture_output=True,
            text=True,
        )
        await asyncio.to_thread(server.start)
        events = await ann.events(group)

    assert running.returncode == 1
    assert "Another server is using" in running.stderr
    assert deleted.returncode == 0, deleted.stderr
    assert done.returncode == 0, done.stderr
    assert f"{after} now" in done.stdout
    assert before > 6_000_000
    assert after < 1_000_000
    assert checked.returncode == 0, checked.stdout
    assert events[-1]["seq"] == said["seq"]


def test_where_there_is_nothing_to_shrink(tmp_path: Path):
    """[VACUUM2] Without a database the command fails and creates none; for PostgreSQL it refers to autovacuum."""
    missing = vacuum("--data-dir", str(tmp_path))
    postgres = vacuum("--database-url", "postgresql://nobody@127.0.0.1:1/none")

    assert (missing.returncode, postgres.returncode) == (1, 1)
    assert "There is no database" in missing.stderr
    assert "autovacuum" in postgres.stderr
    until(lambda: list(tmp_path.iterdir()) == [], what="an empty folder")
