"""The administration of the Python SDK against a real server: each request, its answer, its refusals."""

from __future__ import annotations

import asyncio

import pytest

from orbital_relay.client import AdminApi, Api, ApiError
from tests.clients.test_python_rest import PASSWORD
from tests.conftest import Serve


async def test_the_administration(serve: Serve) -> None:
    """[ADMPY1] The first account administers the server with typed answers; another user is refused with FORBIDDEN."""
    server = await asyncio.to_thread(serve)
    async with Api(server.url) as stranger:
        first = (await stranger.signup("anna", PASSWORD, {})).token
        async with AdminApi(server.url, token=first) as anna:
            invited = await anna.invite(note="ben", days=2)
            second = (await stranger.signup("ben", PASSWORD, {})).token
            async with AdminApi(server.url, token=second) as ben:
                with pytest.raises(ApiError) as forbidden:
                    await ben.users()
                await anna.set_user_role("ben", "admin")
                found = await ben.users(search="BE", limit=1)
            async with Api(server.url, token=second) as api:
                group_id = (await api.create_group("bmFtZQ==", "a2V5")).group_id
            assert [each.username async for each in anna.iter_users()] == ["anna", "ben"]
            assert [each.username async for each in anna.iter_users(search="nn")] == ["anna"]
            assert [each.group_id async for each in anna.iter_groups()] == [group_id]
            assert [each.username for each in (await anna.group(group_id)).members] == ["ben"]
            await anna.delete_group(group_id)
            await anna.disable_user("ben", reason="lost phone")
            disabled = (await anna.user("ben")).user
            await anna.enable_user("ben")
            await anna.set_user_role("ben", "user")
            code = (await anna.reset_password("ben")).code
            reset = await stranger.reset_password(code, "Another-Horse-8-Battery")
            rows = await anna.invitations()
            await anna.revoke_invitation(invited.number)
            with pytest.raises(ApiError) as revoked:
                await anna.revoke_invitation(invited.number)
            storage, health = await anna.storage(), await anna.health()
            await anna.delete_user(reset.user_id)
            async with Api(server.url, token=reset.token) as gone:
                with pytest.raises(ApiError) as deleted:
                    await gone.account()
            assert (await anna.groups(limit=1)).has_more is False

    assert (forbidden.value.status, forbidden.value.code) == (403, "FORBIDDEN")
    assert ([(each.username, each.admin) for each in found.users], found.has_more) == ([("ben", True)], False)
    assert (disabled.state, disabled.disabled_reason) == ("disabled", "lost phone")
    assert (revoked.value.status, revoked.value.code) == (404, "NOT_FOUND")
    assert [(each.note, each.used_by) for each in rows] == [("ben", None)]
    assert (storage.media, health.status, health.signups) == (0, "ready", "open")
    assert storage.disk_free_bytes > 0
    assert deleted.value.status == 401
