"""Tickets: one use, half a minute, and no better than their tokens."""

from __future__ import annotations

import base64

import pytest

from orbital_relay.server.auth import tickets as room
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.tickets import WHOSE_CHARS, LocalTickets
from tests.unit.server.auth_support import (
    SECRET,
    START_S,
    claims,
    sign,
)


async def test_a_ticket_is_valid_once(auth, store):
    """[TIC1] A ticket is redeemed for its principal once, by the immediate or the asynchronous call."""
    principal = await auth.verify(sign(claims()))
    first, life_s = await auth.issue_ticket(principal)
    second, _ = await auth.issue_ticket(principal)

    assert life_s == 30
    assert first != second
    assert len(base64.urlsafe_b64decode(first + "=")) == 32
    assert auth.redeem_now(first) is principal
    assert await auth.redeem(second) is principal
    assert auth.redeem_now(first) is None
    assert await auth.redeem(second) is None
    assert await auth.redeem("made up") is None


@pytest.mark.parametrize(
    "user_id, username", [("4f0a8c1e-6d2b-4b7e-9a5f-0c1d2e3f4a5b", "ada"), ("a", "b"), ("x" * 64, "é" * 50)]
)
async def test_a_ticket_identifies_its_user(auth, clock, user_id, username):
    """[TIC6] A ticket begins with a prefix that the tokens of its user share, newer ones too."""
    tokens = []
    for _ in range(3):
        tokens.append(auth.mint(user_id, username)[0])
        clock.now_s += 86_400
    ticket, _ = await auth.issue_ticket(await auth.verify(tokens[-1]), token=tokens[-1])

    head, _, secret = ticket.partition(".")
    assert {token.split(".")[1][: len(head)] for token in tokens} == {head}
    assert len(head) == WHOSE_CHARS
    assert len(secret) == 43


async def test_a_ticket_lives_thirty_seconds(auth, clock):
    """[TIC2] A ticket expires after 30 seconds."""
    principal = await auth.verify(sign(claims()))
    tickets = [(await auth.issue_ticket(principal))[0] for _ in range(2)]

    clock.now_s += 29.9
    assert auth.redeem_now(tickets[0]) is principal
    clock.now_s += 0.1
    assert auth.redeem_now(tickets[1]) is None


async def test_a_ticket_expires_with_its_token(auth, clock):
    """[TIC3] A ticket is refused if its token has expired or was revoked meanwhile."""
    short = await auth.verify(sign(claims(exp=START_S + 10)))
    revoked = await auth.verify(sign(claims(userId="u-2")))
    tickets = [(await auth.issue_ticket(principal))[0] for principal in (short, revoked)]

    clock.now_s += 10
    await auth.revoke(revoked)

    assert [await auth.redeem(ticket) for ticket in tickets] == [None, None]


async def test_unused_tickets_are_bounded(auth, clock, monkeypatch):
    """[TIC4] Expired tickets are evicted as new ones are issued; above the bound the oldest is evicted."""
    monkeypatch.setattr(room, "MAX_TICKETS", 3)
    principal = await auth.verify(sign(claims()))
    tickets = [(await auth.issue_ticket(principal))[0] for _ in range(4)]
    assert len(auth._tickets) == 3
    assert auth.redeem_now(tickets[0]) is None
    assert auth.redeem_now(tickets[1]) is principal

    clock.now_s += 30
    await auth.issue_ticket(principal)

    assert len(auth._tickets) == 1


async def test_tickets_may_be_stored_elsewhere(clock, store):
    """[TIC5] With shared tickets the immediate call finds none, and the asynchronous call does."""

    class Shared:
        def __init__(self) -> None:
            self.inner = LocalTickets(clock)

        async def put(self, ticket, principal, *, life_s):
            return await self.inner.put(ticket, principal, life_s=life_s)

        async def take(self, ticket):
            return await self.inner.take(ticket)

    auth = Auth(store=store, clock=clock, secret=SECRET, tickets=Shared())
    principal = await auth.verify(sign(claims()))
    ticket, _ = await auth.issue_ticket(principal)

    assert auth.redeem_now(ticket) is None
    assert await auth.redeem(ticket) is principal
