"""A wall clock that jumps, with a real server: libfaketime (Debian's `faketime`) sets its time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.client import Person, opaque
from tests.support.process import eventually
from tests.support.programs import missing
from tests.support.server import Server

DAYS_40_S = 40 * 24 * 3600
_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def moved_clock(**more: str) -> dict[str, str]:
    """Return the environment in which the time of a program is another one."""
    found = sorted(Path("/").glob(_LIBRARIES.lstrip("/")))
    if not found:
        missing("libfaketime", remedy="apt-get install faketime")
    return {"LD_PRELOAD": str(found[0]), **more}


async def _medium(person: Person, group) -> str:
    opened = await person.open_thread(group)
    media_id = "11111111-1111-4111-8111-111111111111"
    await person.ask(
        "POST",
        "/api/media/upload",
        expect=201,
        data={
            "media_id": media_id,
            "thread_id": opened["thread_id"],
            "chunk_index": "0",
            "total_chunks": "1",
            "encrypted_metadata": opaque(),
            "encryption_iv": opaque("i" * 12),
        },
        files={"chunk": b"photo"},
    )
    return media_id


async def _assert_kept(person: Person, group, media_id: str, *, events: int) -> None:
    assert [event["seq"] for event in await person.events(group)] == list(range(1, events + 1))
    assert (await person.http.get(f"/api/media/{media_id}/download")).content == b"photo"


async def test_a_start_with_a_clock_40_days_ahead(serve, tmp_path: Path):
    """[CLOCK8] With a clock 40 days ahead a server deletes and expires nothing, keeps stamps right, and warns."""
    env = {"ORBITAL_PRUNE_SECONDS": "0.1"}
    server: Server = await asyncio.to_thread(serve, data_dir=tmp_path / "data", env=env)
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        media_id = await _medium(ann, group)
        first = await ann.post("/v1/messages", _message(group), key="once")
        await _assert_kept(ann, group, media_id, events=4)
        await asyncio.to_thread(server.terminate)

        leapt: Server = await asyncio.to_thread(
            serve, data_dir=tmp_path / "data", env={**env, **moved_clock(FAKETIME="+40d")}
        )
        async with Person(leapt.url, user_id=ann.user_id, username=ann.username, token=ann.token) as there:
            assert (await there.post("/v1/messages", _message(group), key="once")) == first
            await _assert_dated(there, group, within_s=60)
            await _beats(there)
            await _assert_kept(there, group, media_id, events=5)
            metrics = (await there.http.get("/metrics")).text
            (ahead,) = [line for line in metrics.splitlines() if line.startswith("orbital_clock_ahead_seconds ")]
            assert float(ahead.split()[1]) == pytest.approx(DAYS_40_S, abs=600)
        assert any("implausibly far ahead" in line for line in leapt.log)
        await asyncio.to_thread(leapt.terminate)

        await asyncio.to_thread(server.start)
        async with Person(server.url, user_id=ann.user_id, username=ann.username, token=ann.token) as back:
            await _assert_dated(back, group, within_s=1)
            await _assert_kept(back, group, media_id, events=6)


async def _assert_dated(person: Person, group, *, within_s: float) -> None:
    """Post, and hold the stamp against the time at which that was done."""
    before_s = time.time()
    posted = await person.say(group)
    assert before_s - within_s < posted["server_timestamp"] / 1000 < time.time() + within_s


def _message(group) -> dict[str, object]:
    return {"conversation_id": group.id, "encrypted_envelope": "AAAA", "timestamp": 0}


async def _beats(person: Person) -> None:
    """Return after the periodic work has come round: seen by a metric that only grows."""
    started_s = time.monotonic()
    await eventually(lambda: time.monotonic() - started_s > 1, what="ten rounds of pruning")
    await person.get("/api/groups")


async def test_a_leap_while_the_server_runs(serve, tmp_path: Path):
    """[CLOCK14] A clock that jumps 40 days for a moment changes no stamp, and nothing is deleted meanwhile."""
    offset = tmp_path / "offset"
    offset.write_text("+0d")
    env = moved_clock(
        FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_CACHE_DURATION="1", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    server: Server = await asyncio.to_thread(serve, env={"ORBITAL_PRUNE_SECONDS": "0.1", **env})
    async with await Person.sign_up(server.url) as ann:
        group = await ann.make_group()
        media_id = await _medium(ann, group)

        offset.write_text("+40d")
        await eventually(lambda: any("implausibly far ahead" in line for line in server.log), what="it is noticed")
        await _assert_dated(ann, group, within_s=10)
        await _beats(ann)
        offset.write_text("+0d")
        await eventually(lambda: any("trusted again" in line for line in server.log), what="it is right again")

        await _assert_dated(ann, group, within_s=1)
        await _assert_kept(ann, group, media_id, events=5)


def test_the_operator_accepts(serve, tmp_path: Path):
    """[CLOCK5] `orbital clock` reports what is held and why; `--accept` makes a running server accept its clock."""
    server: Server = serve(data_dir=tmp_path / "data")
    server.terminate()
    late = moved_clock(FAKETIME="+40d")
    leapt: Server = serve(data_dir=tmp_path / "data", env={"ORBITAL_PRUNE_SECONDS": "0.1", **late})
    leapt.program.wait_for("implausibly far ahead")

    def orbital(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "orbital_relay", "clock", "--data-dir", str(tmp_path / "data"), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=late,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "40.0 days ahead of the heartbeat" in orbital()
    assert "is accepted" in orbital("--accept")
    leapt.program.wait_for("the clock is trusted again")
    assert "days ahead" not in orbital()
