"""How many uploads one user may begin in an hour, and leave unfinished."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import httpx

from tests.server.api import EACH_DATABASE, Api, User, opened, send_chunk

pytestmark = EACH_DATABASE


async def _room(api: Api) -> tuple[User, str, str]:
    user = api.user()
    group = await user.make_group()
    return user, group["group_id"], (await user.open_thread(group["group_id"]))["thread_id"]


async def _upload(user: User, thread: str, total: int = 1) -> httpx.Response:
    return await send_chunk(user, thread, str(uuid.uuid4()), 0, total, b"x")


def _wait_s(answer: httpx.Response) -> int:
    assert (answer.status_code, answer.json()["error"]) == (429, "TOO_MANY_REQUESTS"), answer.text
    return int(answer.headers["retry-after"])


async def test_the_uploads_of_an_hour(tmp_path: Path, database_url: str | None):
    """
    [UPB2] Over the bound a new upload is 429 with `Retry-After`, also concurrently, and leaves nothing.

    Chunks of an upload that has begun are accepted, and other users are not affected.
    """
    async with opened(tmp_path, database_url=database_url, upload_limit="5") as api:
        ada, group, thread = await _room(api)
        bob, _, other = await _room(api)
        long = str(uuid.uuid4())
        begun = await send_chunk(ada, thread, long, 0, 2, b"x")
        answers = await asyncio.gather(*(_upload(ada, thread) for _ in range(8)))
        refused = [each for each in answers if each.status_code != 201]
        waits = [_wait_s(each) for each in (*refused, await _upload(ada, thread))]
        rest = [await send_chunk(ada, thread, long, index, 2, b"x") for index in (0, 1, 1)]
        quota = (await ada.get(f"/api/groups/{group}/quota")).json()
        elsewhere = await _upload(bob, other)

    assert (begun.status_code, len(refused)) == (200, 4)
    assert all(3590 <= wait_s <= 3600 for wait_s in waits)
    assert refused[0].json()["message"] == f"You began too many uploads; begin another one in {waits[0]} s."
    assert [each.status_code for each in rest] == [200, 201, 201]
    assert (quota["media_count"], quota["total_bytes"]) == (5, 6)
    assert elsewhere.status_code == 201


async def test_a_refused_upload_does_not_count(tmp_path: Path, database_url: str | None):
    """[UPB3] An upload that a full group refuses does not count as one of the hour."""
    async with opened(tmp_path, database_url=database_url, upload_limit="3", media_group_files="2") as api:
        ada, _, full = await _room(api)
        group = await ada.make_group()
        free = (await ada.open_thread(group["group_id"]))["thread_id"]
        answers = [(await _upload(ada, full)).status_code for _ in range(6)]
        answers += [(await _upload(ada, free)).status_code for _ in range(2)]

    assert answers == [201, 201, 413, 413, 413, 413, 201, 429]


async def test_the_setting_of_unfinished_uploads(tmp_path: Path, database_url: str | None):
    """[UPB1] The bound over all groups is a setting; finishing or deleting an upload frees a place at once."""
    async with opened(tmp_path, database_url=database_url, user_uploads="2") as api:
        ada, _, thread = await _room(api)
        group = await ada.make_group()
        other = (await ada.open_thread(group["group_id"]))["thread_id"]
        media = [str(uuid.uuid4()) for _ in range(2)]
        for one, where in zip(media, (thread, other), strict=True):
            assert (await send_chunk(ada, where, one, 0, 2, b"x")).status_code == 200
        refused = [await _upload(ada, other, 2)]
        finished = await send_chunk(ada, thread, media[0], 1, 2, b"x")
        begun = [await _upload(ada, thread, 2)]
        refused.append(await _upload(ada, thread, 2))
        assert (await ada.ask("DELETE", f"/api/media/{media[1]}")).status_code == 204
        begun.append(await _upload(ada, other, 2))

    assert [_wait_s(each) for each in refused] == [10, 10]
    assert refused[0].json()["message"].startswith("2 uploads of yours are not finished.")
    assert (finished.status_code, [each.status_code for each in begun]) == (201, [200, 200])
