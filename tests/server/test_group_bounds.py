"""How many groups one user may own, and how many members a group may have."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.server.api import EACH_DATABASE, opaque, opened

pytestmark = EACH_DATABASE


def _body() -> dict[str, str]:
    return {"encrypted_name": opaque(), "encrypted_group_key": opaque()}


async def test_the_groups_of_one_user(tmp_path: Path, database_url: str | None):
    """[GBD1] Over the bound a new group is 413, also concurrently; leaving frees a place, joining takes none."""
    async with opened(tmp_path, database_url=database_url, user_groups="3") as api:
        ada, bob = api.user(), api.user()
        answers = await asyncio.gather(*(ada.post("/api/groups", _body()) for _ in range(6)))
        made = [each.json() for each in answers if each.status_code == 201]
        refused = [each for each in answers if each.status_code != 201]
        joined = await ada.join(await bob.make_group())
        left = await ada.ask("DELETE", f"/api/groups/{made[0]['group_id']}/members/{ada.id}")
        again = [(await ada.post("/api/groups", _body())).status_code for _ in range(2)]

    assert (len(made), {(each.status_code, each.json()["error"]) for each in refused}) == (3, {(413, "QUOTA_EXCEEDED")})
    assert refused[0].json()["details"] == {"groups": 3, "max_groups": 3}
    assert (joined.status_code, left.status_code, again) == (200, 204, [201, 413])


async def test_the_members_of_a_group(tmp_path: Path, database_url: str | None):
    """[GBD2] A full group is 413, also with concurrent requests; a member that leaves frees a place."""
    async with opened(tmp_path, database_url=database_url, group_members="3") as api:
        ada, others = api.user(), [api.user() for _ in range(6)]
        group = await ada.make_group()
        answers = await asyncio.gather(*(each.join(group) for each in others))
        inside = [user for user, answer in zip(others, answers, strict=True) if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code != 200]
        await inside[0].ask("DELETE", f"/api/groups/{group['group_id']}/members/{inside[0].id}")
        again = await inside[0].join(group)

    assert (len(inside), {(each.status_code, each.json()["error"]) for each in refused}) == (
        2,
        {(413, "QUOTA_EXCEEDED")},
    )
    assert refused[0].json()["details"] == {"member_count": 3, "max_members": 3}
    assert again.status_code == 200
