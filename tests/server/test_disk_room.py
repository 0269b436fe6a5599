"""Disk space for media: the reserve of the disk, and the total of all groups."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx
import pytest

from orbital_relay.client.errors import ApiError
from orbital_relay.server.ops.disk import Disk
from tests.server.api import EACH_DATABASE, Api, User, opened, send_chunk


async def room(api: Api) -> tuple[User, str, str]:
    """Make a user with a group and a thread."""
    ada = api.user()
    group = await ada.make_group()
    return ada, group["group_id"], (await ada.open_thread(group["group_id"]))["thread_id"]


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the error's code."""
    return answer.status_code, answer.json().get("error", "")


async def test_media_leave_the_reserve_to_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """[DSK1] Below the reserve a chunk is 507 and leaves nothing; messages are stored, and freed space ends the 507."""
    free = [1_000_000]
    monkeypatch.setattr(Disk, "free_bytes", lambda _self: free[0])
    async with opened(tmp_path, disk_reserve_bytes="900000") as api:
        ada, group, thread = await room(api)
        well = [await send_chunk(ada, thread, str(uuid.uuid4()), 0, 1, b"x" * 1000)]
        ready = [(await api.ask("GET", "/health/ready")).json()]
        # The chunk itself would reach into the reserve.
        large = await send_chunk(ada, thread, str(uuid.uuid4()), 0, 1, b"x" * 200_000)
        free[0] = 899_999
        small = [await send_chunk(ada, thread, str(uuid.uuid4()), 0, 1, b"x") for _ in range(3)]
        ready.append((await api.ask("GET", "/health/ready")).json())
        said = await ada.say(group)
        metrics = (await api.ask("GET", "/metrics")).text
        free[0] = 1_000_000
        well.append(await send_chunk(ada, thread, str(uuid.uuid4()), 0, 1, b"x" * 1000))
        quota = (await ada.get(f"/api/groups/{group}/quota")).json()

    assert [each.status_code for each in well] == [201, 201]
    assert [outcome(each) for each in (large, *small)] == [(507, "STORAGE_FULL")] * 4
    assert ready == [{"status": "ready", "degraded": []}, {"status": "degraded", "degraded": ["disk"]}]
    assert said.status_code == 200
    assert "\norbital_disk_free_bytes 899999.0\n" in metrics
    assert "\norbital_disk_reserve_bytes 900000.0\n" in metrics
    assert quota["media_count"] == 2
    # One line, not one for each refusal.
    assert [each.message for each in caplog.records].count("media are refused: the disk is full") == 1


def test_the_room_is_that_of_the_folder_s_disk(tmp_path: Path):
    """[DSK3] The available space is what the data folder's file system offers to a process without root privileges."""
    disk = Disk(tmp_path, reserve_bytes=0)

    assert 0 < disk.free_bytes() < 1 << 60
    assert not disk.low
    assert Disk(tmp_path, reserve_bytes=1 << 60).low


@EACH_DATABASE
async def test_the_total_of_all_groups(tmp_path: Path, database_url: str | None):
    """[DSK2] Above the total of all groups a medium is 507, as declared or as it grows; deleting media frees space."""
    async with opened(tmp_path, database_url=database_url, media_total_bytes="10000") as api:
        ada, _, thread = await room(api)
        bob, _, other = await room(api)
        first = str(uuid.uuid4())
        fits = await send_chunk(ada, thread, first, 0, 1, b"x" * 6000)
        declared = await send_chunk(bob, other, str(uuid.uuid4()), 0, 2, b"x" * 100, size_bytes="4001")
        over = await send_chunk(bob, other, str(uuid.uuid4()), 0, 1, b"x" * 4001)
        assert (await ada.ask("DELETE", f"/api/media/{first}")).status_code == 204
        again = await send_chunk(bob, other, str(uuid.uuid4()), 0, 1, b"x" * 4001)

    assert [outcome(each) for each in (fits, declared, over, again)] == [
        (201, ""),
        (507, "STORAGE_FULL"),
        (507, "STORAGE_FULL"),
        (201, ""),
    ]


def test_a_507_is_not_retried():
    """[DSK4] The Python SDK does not retry a 507, which lasts until the operator frees space."""
    full, away = (ApiError("", status=status, code="X", details={}, retry_after_s=None) for status in (507, 503))

    assert (full.retryable, away.retryable) == (False, True)
