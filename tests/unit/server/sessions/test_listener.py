"""The outgoing side of a connection: events and answers leave in the order in which they were written."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from orbital_relay.core.framing import text_frame
from orbital_relay.model import Principal
from orbital_relay.ports import Clock
from orbital_relay.relay import Relay
from orbital_relay.server.edge.socket_writer import SocketWriter
from orbital_relay.server.sessions.listener import SocketListener
from tests.unit.server.sessions.test_client_session import RecordingWriter

ADA = Principal(1, "ada", "ada", 4e9)


def connected() -> tuple[SocketListener, RecordingWriter]:
    """Return a listener that is attached to a writer which keeps what it writes."""
    listener = SocketListener(ADA, relay=cast("Relay", Times()), clock=cast("Clock", None))
    writer = RecordingWriter()
    listener.attach(cast("SocketWriter", writer))
    return listener, writer


class Times:
    """The part of the relay that gives stamps."""

    def ephemeral_ms(self) -> int:
        """Return a stamp."""
        return 1


async def test_events_are_written_from_the_start():
    """[OUTROUTE1] An event is written as soon as the connection is open, also when no answer was sent before."""
    listener, writer = connected()
    listener.send(b"event")
    assert writer.written == [b"event"]

    listener.detach()
    listener.send(b"late")
    assert writer.written == [b"event"]


@pytest.mark.parametrize("seed", range(20))
async def test_events_and_answers_keep_their_order(seed: int):
    """[OUTROUTE2] However answers, events and pauses follow each other, their bytes leave in that order."""
    chance = random.Random(seed)
    listener = SocketListener(ADA, relay=cast("Relay", Times()), clock=cast("Clock", None))
    writer = RecordingWriter()
    outgoing = listener.attach(cast("SocketWriter", writer))
    expected = b""
    for number in range(200):
        match chance.choice(["event", "event", "answer", "turn", "pause", "resume", "flush"]):
            case "event":
                expected += b"<%d>" % number
                listener.send(b"<%d>" % number)
            case "answer":
                expected += text_frame(b"%d" % number)
                outgoing.put(b"%d" % number)
            case "turn":
                await asyncio.sleep(0)
            case "pause":
                writer.writable = False
            case "resume":
                writer.writable = True
                outgoing.flush()
            case "flush":
                outgoing.flush(anyway=True)
    outgoing.flush(anyway=True)

    assert b"".join(writer.written) == expected
    assert outgoing.size_bytes == 0
