"""A new secret for tokens, without logging everybody out."""

from __future__ import annotations

import pytest

from tests.conftest import Serve
from tests.support.client import Person
from tests.support.server import SECRET, Server

NEW = "another secret for tests alone, long enough for HS256"


async def works(person: Person, server: Server) -> bool:
    """Return whether a person's token is accepted by a server."""
    again = Person(server.url, user_id=person.user_id, username=person.username, token=person.token)
    async with again:
        return (await again.http.get("/api/groups")).status_code == 200


async def test_one_server(serve: Serve):
    """[REPLACE1] With the previous secret accepted, old and new tokens are valid, and revoked ones are not."""
    server = serve()
    ann, ben = await Person.sign_up(server.url), await Person.sign_up(server.url)
    await ben.http.post("/api/logout")
    server.env |= {"JWT_SECRET": NEW, "JWT_SECRET_ACCEPTED": SECRET}
    server.restart()
    eve = await Person.sign_up(server.url)
    during = [await works(one, server) for one in (ann, ben, eve)]
    del server.env["JWT_SECRET_ACCEPTED"]
    server.restart()
    after = [await works(one, server) for one in (ann, ben, eve)]
    for one in (ann, ben, eve):
        await one.close()

    assert during == [True, False, True]
    assert after == [False, False, True]


@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_ACCEPTED"])
def test_a_short_second_secret(serve: Serve, name: str):
    """[REPLACE2] A second secret that is short is warned of, as the first one is; neither is printed."""
    server = serve(env={"JWT_SECRET": SECRET, name: "short-one"})
    server.program.wait_for(f"{name} has fewer than 32 bytes")

    assert "short-one" not in server.program.text
