"""
A member of a group on a real server, with an encrypted store, that does what lines of JSON on standard input ask.

`{"text": TEXT}` is a reply to send in the first thread that it has read; `{}` asks for what it has received: `items`
and a list of [status, text], in the order of the log. It prints `ready` once it is in the group. It may be killed at
any moment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from orbital_relay.client import connect
from orbital_relay.core.backoff import Backoff
from orbital_relay.e2ee import CipherClient, SqlcipherStore

QUICK = Backoff(steps_ms=(50, 100, 200), jitter_ms=50, attempts=1_000_000, window_ms=1_000)


async def main(about: dict[str, Any]) -> None:
    """Be the member that `about` describes."""
    group_id = about["group"]
    async with (
        SqlcipherStore(about["path"], bytes.fromhex(about["key"])) as store,
        connect(about["url"], token=about["token"], backoff=QUICK) as orbital,
        CipherClient(orbital, store) as client,
        client.group(group_id, invite=about["invite"]) as group,
    ):
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            match json.loads(line):
                case {"text": text}:
                    threads = (item for item in await client.device.items(group_id) if item.type == "new_thread")
                    await group.reply(next(threads).fields["thread_id"], text)
                case _:
                    items = await client.device.items(group_id)
                    print("items", json.dumps([[item.status, item.text] for item in items]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
