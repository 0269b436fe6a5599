"""One user with many connections: the rate is bounded over all of them, and no other user is delayed."""

from __future__ import annotations

import asyncio
import json
import time


async def test_many_connections_of_one_user(serve, people):
    """
    [FLOOD1] Valid frames over a user's budget are delayed, not refused; other users' posts overtake them.

    Forty connections with subscribes of 56 KB each delayed all events: only single connections had a bound.
    """
    server = serve(env={"ORBITAL_FRAME_RATE": "50"})
    ada, bob = await people(server.url), await people(server.url)
    group = await bob.make_group()
    listener = await bob.listen(group)
    lines = [await ada.connect() for _ in range(10)]
    unknown = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1_400)]
    frames = [json.dumps({"type": "subscribe", "data": {"group_ids": unknown}, "id": number}) for number in range(12)]
    done = []

    async def flood(line) -> None:
        for frame in frames:
            await line.send_raw(frame)
        for number in range(len(frames)):
            answer = await line.until(
                lambda one, number=number: one.get("reply_to") == number and one["type"] == "subscribed",
                deadline_s=120,
            )
            done.append(answer["type"])

    began_s = time.monotonic()
    floods = [asyncio.create_task(flood(line)) for line in lines]
    posts = 0
    while len(done) < len(lines) * len(frames):
        await bob.say(group)
        posts += 1
        await listener.until_seq(group, posts + 1)
    await asyncio.gather(*floods)
    took_s = time.monotonic() - began_s
    for one in (listener, *lines):
        await one.close()

    assert done == ["subscribed"] * 120
    # Had a post waited for the frames before it, the first one would have outlasted them all.
    assert posts >= 3
    # 120 frames of 54 KB cost 14 each; the budget holds 400 and gets 200 a second.
    assert took_s > (120 * 14 - 400) / 200 - 1
