"""
A member in a process of its own, with an encrypted store, that may be killed at any moment.

It asks its parent for everything, a line of JSON each on standard output, and reads the answer from standard input.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.member import GroupDevice
from orbital_relay.e2ee.ports import DirectoryDevice, KeyBundle, PublishedKeys, RelayTransport, Wanted
from orbital_relay.e2ee.stores.sqlcipher import SqlcipherStore
from tests.support.e2ee import codes, event_of, message


def ask(what: str, **about: Any) -> Any:
    """Ask the parent, and wait for its answer."""
    sys.stdout.buffer.write(msgspec.json.encode({"ask": what, **about}) + b"\n")
    sys.stdout.buffer.flush()
    answer = msgspec.json.decode(sys.stdin.buffer.readline())
    if "code" in answer:
        raise E2eeError(answer["code"], answer["code"], **answer["details"])
    return answer["is"]


class AskingRelay:
    """A relay that is the parent's."""

    member: GroupDevice

    async def post(self, group: str, kind: str, body: dict[str, Any], *, key: str, if_epoch: int | None = None) -> int:
        """Post."""
        return int(ask("post", group=group, kind=kind, body=body, key=key, if_epoch=if_epoch))

    async def claim(self, group: str, devices: Sequence[Wanted]) -> list[KeyBundle]:
        """Claim."""
        return msgspec.convert(ask("claim", group=group, devices=devices), list[KeyBundle])

    async def put_keys(self, keys: PublishedKeys) -> int:
        """Publish."""
        return int(ask("put_keys", keys=keys))

    async def devices(self, group: str) -> list[DirectoryDevice]:
        """List nothing: this member does not compare the directory."""
        return []

    async def catch_up(self, group: str, seq: int) -> None:
        """Read the log to its end."""
        after = (await self.member.group(group)).position.seq
        for frame in ask("log", group=group, after=after):
            await self.member.receive(event_of(frame))


_: type[RelayTransport] = AskingRelay


async def main(path: str, key: str, user: str, group: str, invite: str) -> None:
    """Draft, send and read until the parent has no more to say."""
    relay = AskingRelay()
    async with SqlcipherStore(path, bytes.fromhex(key)) as store:
        member = GroupDevice(store=store, relay=relay, user=user, device=1)
        relay.member = member
        try:
            await member.group(group)
        except E2eeError:
            await member.publish_keys(4)
            founded = read_invite(invite)
            assert founded is not None
            await member.join(group, founded)
        while True:
            await relay.catch_up(group, 0)
            await member.flush(group)
            text = ask("next")
            if text is None:
                break
            await member.draft(group, "new_message", message(text))
            ask("drafted", text=text)
            await member.flush(group)
        await relay.catch_up(group, 0)
        items = [[item.seq, item.status, item.text] for item in await member.items(group)]
        ask("done", items=items, codes=await codes(member, group), pending=await member.pending(group))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
