"""A server that stops closes its connections at the configured rate."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.support.client import Person
from tests.support.server import Server

COUNT, PACE = 24, 12


async def test_connections_are_closed_at_a_pace(serve):
    """[DRAIN2] Draining closes connections at a fixed rate, refuses new ones with 503, and exits with status 0."""
    server: Server = await asyncio.to_thread(serve, env={"ORBITAL_CLOSE_PACE": str(PACE)})
    ann = await Person.sign_up(server.url)
    group = await ann.make_group()
    sockets = [await ann.listen(group) for _ in range(COUNT)]
    closed: list[float] = []

    async def wait(number: int) -> int:
        code = await sockets[number].until_closed()
        closed.append(time.monotonic())
        await sockets[number].close()
        return code

    waiting = [asyncio.create_task(wait(number)) for number in range(COUNT)]
    stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    async with httpx.AsyncClient(base_url=server.url) as http:
        ready = await http.get("/health/ready")
        again = await http.get(
            "/ws",
            headers={
                "Authorization": f"Bearer {ann.token}",
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        )
    codes = await asyncio.gather(*waiting)
    status = await stopping
    await ann.close()

    assert (ready.status_code, again.status_code, status) == (503, 503, 0)
    assert again.json()["error"] == "UNAVAILABLE"
    assert int(again.headers["Retry-After"]) >= 1
    assert codes == [1012] * COUNT
    # The first closes at once, the last after all the others.
    assert max(closed) - min(closed) > (COUNT - 2) / PACE
