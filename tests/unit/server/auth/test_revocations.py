"""Revocation: of a token, of a user, by another process."""

from __future__ import annotations

import asyncio

import pytest

from orbital_relay.errors import Unauthorized
from orbital_relay.model import Revocation
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.keys import PemKey
from orbital_relay.server.auth.logins import Logins
from orbital_relay.server.auth.revocations import LEAD_S, Revocations
from tests.unit.server.auth_support import (
    ED_KEY,
    SECRET,
    START_S,
    claims,
    outside_token,
    pem_of,
    refusal,
    sign,
)


async def _log_in(auth, store, clock) -> str:
    """Open a login of `u-1`, and return its token."""
    return (await Logins(auth, store=store, clock=clock).open("u-1", "anna")).token


async def test_a_revoked_token_ends_at_once(auth, clock):
    """[AUT20] A revoked token is evicted from the cache and refused; other tokens of its user stay valid."""
    token, other = sign(claims()), sign(claims(exp=START_S + 61))
    principal, second = await auth.verify(token), await auth.verify(other)

    await auth.revoke(principal)

    assert auth.revoked(principal)
    assert not auth.revoked(second)
    assert auth.cached(token) is None
    assert auth.cached(other) is second
    assert "revoked" in await refusal(auth, token)


async def test_a_user_is_revoked_up_to_now(auth, clock):
    """[AUT21] Revoking a user revokes the tokens issued so far, also those without `iat`, and no later ones."""
    old, timeless = sign(claims(exp=START_S + 999)), sign(claims(iat=None, exp=START_S + 999))
    other = sign(claims(userId="u-2", exp=START_S + 999))
    for token in (old, timeless, other):
        await auth.verify(token)

    await auth.revoke_user("u-1")
    clock.now_s += LEAD_S + 1
    new = sign(claims(iat=START_S + LEAD_S + 1, exp=START_S + 999))

    assert [auth.cached(token) is None for token in (old, timeless, other)] == [True, True, False]
    assert (await auth.verify(new)).user_id == "u-1"
    assert "revoked" in await refusal(auth, timeless)


async def test_another_process_revokes(auth, store):
    """[AUT22] A revocation stored by another server applies from the next refresh, which calls the listener once."""
    token = sign(claims())
    principal = await auth.verify(token)
    noticed = []
    auth.on_revoked(lambda: noticed.append(auth.revoked(principal)))
    await auth.refresh()
    assert noticed == []

    store.kept.append(Revocation(1, principal.token_digest, None, START_S))
    assert auth.cached(token) is principal
    await auth.refresh()
    await auth.refresh()

    assert auth.cached(token) is None
    assert noticed == [True]


async def test_a_revocation_that_commits_late_is_found(auth, store):
    """[AUT23] A revocation with a lower number that commits later is not missed."""
    principal = await auth.verify(sign(claims()))
    store.kept.append(Revocation(5, b"x", None, START_S))
    await auth.refresh()

    store.kept.append(Revocation(4, principal.token_digest, None, START_S))
    await auth.refresh()

    assert auth.revoked(principal)


async def test_a_revocation_that_the_store_deleted_is_deleted(auth, store, clock):
    """[AUT24] All revocations are reloaded once an hour, so memory does not grow with their history."""
    for number in range(1, 300):
        store.kept.append(Revocation(number, number.to_bytes(32), None, START_S))
    await auth.refresh()
    assert len(auth._revocations._tokens) == 299
    del store.kept[:290]

    clock.now_s += 3600
    await auth.refresh()

    assert len(auth._revocations._tokens) == 9
    assert len(auth._revocations._seen) <= 300
    assert store.asked[-1] == 0


async def test_an_older_revocation_does_not_replace_a_newer(auth, store):
    """[AUT25] Of two revocations of a user the one with the later time applies, in any order."""
    store.kept += [Revocation(1, None, "u-1", START_S + 50), Revocation(2, None, "u-1", START_S - 50)]
    await auth.refresh()

    assert "revoked" in await refusal(auth, sign(claims(iat=START_S)))


async def test_revoked_while_its_user_is_created(auth, store):
    """[AUT17] A token that is revoked while its user is stored is refused."""
    store.gate.clear()
    use = asyncio.create_task(auth.verify(sign(claims())))
    while store.entered == 0:
        await asyncio.sleep(0)

    await auth.revoke_user("u-1")
    store.gate.set()

    with pytest.raises(Unauthorized):
        await use


async def test_a_slow_refresh_does_not_undo_a_faster_one(auth, store, clock):
    """[AUT27] Revocations that a refresh finds during a full reload are kept.

    The answer to the long look, which was older, replaced it: a token that had just been revoked held for two seconds.
    """
    principal = await auth.verify(sign(claims(exp=START_S + 2 * Revocations.RELOAD_S)))
    await auth.refresh()
    clock.now_s += Revocations.RELOAD_S
    read, gate = store.revocations, asyncio.Event()

    async def slowly(*, after):
        found = await read(after=after)
        await gate.wait()
        return found

    store.revocations = slowly
    long = asyncio.create_task(auth.refresh())
    await asyncio.sleep(0)
    store.revocations = read
    await auth.revoke(principal)
    assert auth.revoked(principal)

    gate.set()
    await long

    assert auth.revoked(principal)


# Chapter: tokens with an id


async def test_two_logins_in_one_second_are_two_tokens(auth):
    """[TID1] Two tokens issued in the same second differ, and revoking one does not revoke the other."""
    first, second = auth.mint("u-1", "anna")[0], auth.mint("u-1", "anna")[0]
    principal = await auth.verify(first)

    await auth.revoke(principal)

    assert first != second
    assert "revoked" in await refusal(auth, first)
    assert (await auth.verify(second)).user_id == "u-1"


async def test_an_own_token_from_a_clock_that_was_ahead_is_revoked(auth, store, clock):
    """[TID2] Revoking a user revokes a token that this server issued while its clock was an hour ahead."""
    clock.now_s += 3600
    ahead = await _log_in(auth, store, clock)
    clock.now_s -= 3600
    await auth.verify(ahead)

    await auth.revoke_user("u-1")

    assert auth.cached(ahead) is None
    assert "revoked" in await refusal(auth, ahead)
    clock.now_s += 7200
    assert "revoked" in await refusal(auth, ahead)


async def test_a_login_right_after_a_revocation_holds(auth, store, clock):
    """[TID3] A token issued in the second of the revocation is valid, also if the clock was half a second ahead."""
    clock.now_s += 0.7
    await auth.revoke_user("u-1")

    token = await _log_in(auth, store, clock)

    assert (await auth.verify(token)).user_id == "u-1"


async def test_a_login_at_a_server_that_missed_the_revocation(store, clock):
    """[TID7] A token issued at another server right after the revocation is valid: issuing reads the store."""
    here, there = Auth(store=store, clock=clock, secret=SECRET), Auth(store=store, clock=clock, secret=SECRET)
    await here.revoke_user("u-1")

    token = await _log_in(there, store, clock)

    assert (await here.verify(token)).user_id == "u-1"


@pytest.mark.parametrize("ahead_s", [1, LEAD_S, LEAD_S + 1, 3600, START_S * 1000])
async def test_another_services_token_with_iat_ahead_is_revoked(auth, ahead_s):
    """[TID4] Revoking a user revokes tokens of an outside service whose `iat` is in the future, near or far."""
    token = sign(claims(iat=START_S + ahead_s, exp=START_S * 2000))
    assert (await auth.verify(token)).user_id == "u-1"

    await auth.revoke_user("u-1")

    assert "revoked" in await refusal(auth, token)


async def test_a_provider_cannot_speak_for_this_servers_revocations(store, clock):
    """[TID5] The claim that exempts a token from a revocation counts only if the server's own secret signed it."""
    pem = PemKey(pem_of(ED_KEY), allowed=("EdDSA",))
    auth = Auth(store=store, clock=clock, secret=SECRET, outside=pem)
    token = outside_token("EdDSA", orbital_generation=99)
    await auth.verify(token)

    await auth.revoke_user("u-1")

    assert "revoked" in await refusal(auth, token)


async def test_a_number_from_before_a_restored_backup_saves_no_token(store, clock):
    """[TID6] In a restored database, where numbers restart, a later revocation still revokes an older token."""
    auth = Auth(store=store, clock=clock, secret=SECRET)
    for _ in range(3):
        await auth.revoke_user("u-1")
    token = await _log_in(auth, store, clock)
    store.kept.clear()
    restored = Auth(store=store, clock=clock, secret=SECRET)
    clock.now_s += 10

    await restored.revoke_user("u-1")

    assert "revoked" in await refusal(restored, token)
