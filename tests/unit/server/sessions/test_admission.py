"""Admission: what was true when a handshake began to wait is checked again before it is accepted."""

from __future__ import annotations

import asyncio
from collections import Counter

from orbital_relay.config import Settings
from orbital_relay.server.edge.handshake import Admit, Handshake, Headers
from orbital_relay.server.lifecycle import Lifecycle
from orbital_relay.server.sessions.admission import Admission, HandshakeAdmission
from tests.sim.world import Disorder, MemoryStore, Node
from tests.unit.server.auth_support import claims, sign


class SlowLimiter:
    """Counts elsewhere, and lets everybody through once `gate` is open."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def hit(self, name, key, *, limit, window_s):
        """Count an attempt."""

    async def peek(self, name, key, *, limit, window_s):
        """Wait, then find that there is room."""
        self.asked.set()
        await self.gate.wait()


class WaitingHandshake:
    """An admission, and a handshake that waits for the limits to be looked at."""

    def __init__(self, auth, clock) -> None:
        self.limiter = SlowLimiter()
        self.lifecycle = Lifecycle()
        node = Node(MemoryStore(Disorder(0)), clock, None)
        self.keeper = HandshakeAdmission(
            open_session=node.open_session,
            auth=auth,
            admission=Admission(Settings(), limiter=self.limiter),
            lifecycle=self.lifecycle,
            refusals=Counter(),
        )

    async def attempt(self):
        """Begin a handshake with a good token; return it once the limits are being looked at."""
        headers = Headers({"authorization": f"Bearer {sign(claims())}"})
        decision = self.keeper.decide(Handshake("GET", "/ws", {}, headers, ("127.0.0.1", 1)))
        deciding = asyncio.ensure_future(decision)
        await self.limiter.asked.wait()
        return deciding


async def test_a_valid_token_is_admitted(auth, clock):
    """[DOO1] A valid token opens the handshake, also if verification takes time."""
    handshake = WaitingHandshake(auth, clock)
    deciding = await handshake.attempt()

    handshake.limiter.gate.set()

    assert isinstance(await deciding, Admit)


async def test_revoked_during_the_handshake(auth, clock):
    """[DOO14] A token that is revoked during its handshake no longer opens it: 401."""
    handshake = WaitingHandshake(auth, clock)
    deciding = await handshake.attempt()

    await auth.revoke(await auth.verify(sign(claims())))
    handshake.limiter.gate.set()

    assert (await deciding).status == 401


async def test_draining_during_the_handshake(auth, clock):
    """[DRAIN1] A handshake that is pending when the server starts to drain gets 503, like later ones."""
    handshake = WaitingHandshake(auth, clock)
    deciding = await handshake.attempt()

    handshake.lifecycle.draining = True
    handshake.limiter.gate.set()

    assert (await deciding).status == 503
