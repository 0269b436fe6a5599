"""One connection's session: what it does with a line, a relay and the time."""

from __future__ import annotations

import asyncio
import json

import pytest

from orbital_relay.model import Principal
from tests.sim.world import Disorder, Group, MemoryStore, Node, uuid_of

NOW_MS = 1_800_000_000_000


class Clock:
    """A clock that is set by hand, and counts how often it is looked at."""

    def __init__(self) -> None:
        self.at_ms = NOW_MS
        self.looks = 0

    def wall_ms(self) -> int:
        """Return the time of day."""
        self.looks += 1
        return self.at_ms

    def steady_s(self) -> float:
        """Return seconds."""
        return self.at_ms / 1000


class RecordingWriter:
    """A line whose client takes everything and never answers a Close."""

    deflate = False
    writable = True

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.code: int | None = None
        self.reading = True

    def write(self, wire: bytes) -> None:
        """Take frames."""
        self.written.append(wire)

    def close(self, code: int, reason: str = "") -> None:
        """Note the code."""
        self.code = code

    def pause_reading(self) -> None:
        """Be read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Be read on."""
        self.reading = True


async def test_an_expired_connection_waits_for_the_close_frame():
    """[TOK3] After its token expired a connection only waits for the Close frame, and sets no further timer."""
    clock = Clock()
    node = Node(MemoryStore(Disorder(0)), clock, None)
    await node.start()
    line = RecordingWriter()
    session = node.open_session(Principal(1, "ada", "ada", NOW_MS / 1000 + 1))
    session.opened(line)

    clock.at_ms += 1_000
    while line.code is None:
        await asyncio.sleep(0)
    looks = clock.looks
    for _ in range(100):
        await asyncio.sleep(0)
    session.beat(b"", stamp_ms=0, now_ms=clock.at_ms)
    for _ in range(100):
        await asyncio.sleep(0)

    assert line.code == 1008
    assert clock.looks == looks
    session.closed(1008)
    await node.relay.close()


LONG = {
    "subscribe": {"group_ids": [uuid_of(number) for number in range(1_600)]},
    "post_message": {"conversation_id": uuid_of(1), "encrypted_envelope": "A" * 60_000, "timestamp": 1},
}


@pytest.mark.parametrize("kind", LONG)
async def test_pending_long_frames_are_bounded(kind):
    """[SLOW1] Frames that wait for the store are bounded in bytes: above two maximum frames, reading is paused."""
    store = MemoryStore(Disorder(0))
    store.groups[uuid_of(1)] = Group(uuid_of(1), creator=2, code="")
    node = Node(store, Clock(), None)
    await node.start()
    line = RecordingWriter()
    session = node.open_session(Principal(1, "ada", "ada", 4e9))
    session.opened(line)
    long = json.dumps({"type": kind, "data": LONG[kind], "id": "long"}).encode()

    for _ in range(2):
        sent = 0
        while line.reading and sent < 100:
            session.text(long)
            sent += 1
        assert sent in {2, 3}
        # All of it is answered, and then there is room again.
        while not line.reading:
            await asyncio.sleep(0)

    session.closed(None)
    await node.relay.close()


async def test_a_token_that_is_revoked_while_it_is_verified():
    """[TOK6] A newer token that is revoked while it is verified is refused; the old one stays valid."""
    node = Node(MemoryStore(Disorder(0)), Clock(), None)
    await node.start()
    newer = Principal(1, "ada", "ada", 5e9)

    class Auth:
        """Verifies every token, and has revoked the newer one by then."""

        async def verify(self, _token: str) -> Principal:
            return newer

        def holds(self, principal: Principal) -> bool:
            return principal is not newer

    line = RecordingWriter()
    old = Principal(1, "ada", "ada", 4e9)
    session = node.open_session(old, auth=Auth())
    session.opened(line)

    session.text(b'{"type":"authenticate","data":{"token":"t"},"id":1}')
    while not any(b'"reply_to":1' in wire for wire in line.written):
        await asyncio.sleep(0)

    assert b'"code":"UNAUTHORIZED"' in b"".join(line.written)
    assert session.principal is old
    session.closed(None)
    await node.relay.close()
