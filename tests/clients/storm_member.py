"""
A member of a group on a real server, with a SQLCipher store, that may be killed at any moment.

It sends its texts from where its store stands, waits until it has read everybody's, and prints what it has.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from orbital_relay.client import connect
from orbital_relay.core.backoff import Backoff
from orbital_relay.e2ee import CipherClient, SqlcipherStore

QUICK = Backoff(steps_ms=(50, 100, 200), jitter_ms=50, attempts=1_000_000, window_ms=1_000)
POLL_S = 0.25


async def main(about: dict[str, Any]) -> None:
    """Be the member that `about` describes."""
    group_id, people, own_total = about["group"], about["people"], about["texts"]
    async with (
        SqlcipherStore(about["path"], bytes.fromhex(about["key"])) as store,
        connect(about["url"], token=about["token"], backoff=QUICK) as orbital,
        CipherClient(orbital, store) as client,
    ):
        device = client.device
        async with client.group(group_id, invite=about["invite"]) as group:
            while len((await device.roster(group_id)).devices) < people:
                await asyncio.sleep(POLL_S)  # nobody announces the fact
            print("ready", flush=True)
            # An event that comes back between two reads would be in neither; nothing is drafted, so pending only falls.
            while True:
                before = await device.pending(group_id)
                mine = [item for item in await device.items(group_id) if item.author == about["user"]]
                if before == await device.pending(group_id):
                    break
            for number in range(len(mine) + before, own_total):
                await group.send(f"{about['name']} {number}")
                print("sent", flush=True)
            while len(items := await device.items(group_id)) < people * own_total or await device.pending(group_id):
                await asyncio.sleep(POLL_S)  # nobody announces the fact
            found = {
                "texts": len({item.text for item in items}),
                "statuses": Counter(item.status for item in items),
                "warnings": [one.code for one in await device.warnings(group_id)],
            }
            print("complete", json.dumps(found), flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
