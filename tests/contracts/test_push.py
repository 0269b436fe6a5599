"""What `ports.PushStore` promises, of every adapter."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from orbital_relay.errors import Conflict, NotFound
from orbital_relay.model import ClaimedPush, GroupId, Principal, PushOutcome, PushPreferences, PushTarget, QuietHours
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    device_keys,
    enter,
    group_of,
    join,
    leave,
    message,
    new_id,
    put_one,
    thread,
)

CLAIM_MS = 60_000
PREFERENCES = PushPreferences(("g",), ("t",), QuietHours("22:00", "07:00", "Europe/Berlin"))


def _target(endpoint: str = "") -> PushTarget:
    return PushTarget(endpoint or f"https://push.example.org/{new_id()}", b"\x04" + os.urandom(64), os.urandom(16))


class Home:
    """A group with its creator and one more member, who has a device."""

    def __init__(self, store: Any, stamps: Stamps, ann: Principal, bob: Principal, group: GroupId, code: str) -> None:
        self.store, self.stamps, self.ann, self.bob, self.group, self.code = store, stamps, ann, bob, group, code

    async def subscribe(self, who: Principal | None = None, target: PushTarget | None = None, **changes: Any) -> str:
        """Store a subscription, by default of bob's."""
        values: dict[str, Any] = {"device_id": None, "login_id": "", "new_id": new_id(), "now_ms": NOW_MS} | changes
        preferences = values.pop("preferences", PushPreferences())
        stored = await self.store.put_subscription((who or self.bob).key, target or _target(), preferences, **values)
        return str(stored)

    async def say(self, count: int = 1) -> int:
        """Let ann post; return the last number."""
        events = [await put_one(self.store, self.stamps, message(self.ann, self.group)) for _ in range(count)]
        return events[-1].seq

    async def due(self, now_ms: int = NOW_MS, *, free_ms: int | None = None) -> list[int]:
        """Return the subscriptions that are due."""
        free_ms = now_ms if free_ms is None else free_ms
        return list(await self.store.due_pushes(now_ms=now_ms, free_ms=free_ms, limit=50))

    async def claim(self, now_ms: int = NOW_MS, *, free_ms: int | None = None) -> list[ClaimedPush]:
        """Claim all that is due."""
        numbers = await self.due(now_ms, free_ms=free_ms)
        free_ms = now_ms if free_ms is None else free_ms
        return list(await self.store.claim_pushes(numbers, now_ms=now_ms, free_ms=free_ms, until_ms=now_ms + CLAIM_MS))

    async def end_claim(self, claim: ClaimedPush, **changes: Any) -> None:
        """Store what came of a claim."""
        await self.store.store_outcomes([PushOutcome(number=claim.number, **changes)])


@pytest.fixture
async def home(store: Any) -> Home:
    """Ann's group, with Bob in it."""
    ann, bob, stamps = await enter(store, "ann"), await enter(store, "bob"), Stamps()
    group = group_of(ann)
    await put_one(store, stamps, group)
    await put_one(store, stamps, join(bob, group.invite_code))
    return Home(store, stamps, ann, bob, group.group_id, group.invite_code)


async def test_one_key_for_all_servers(home: Home):
    """[PUSH7] The first server's VAPID key is the key of all servers of the database."""
    first, second = await asyncio.gather(home.store.vapid_key(b"one"), home.store.vapid_key(b"two"))

    assert first == second
    assert await home.store.vapid_key(b"three") == first


async def test_events_after_the_subscription_are_due(home: Home):
    """[PUSH8] A new subscription is due for events that follow it, and settled ones are due no more."""
    await home.say(3)
    target = _target()
    await home.subscribe(target=target, preferences=PREFERENCES)
    assert await home.due() == []
    seq = await home.say(2)

    (claim,) = await home.claim()
    await home.end_claim(claim, reached={home.group: seq})

    assert (claim.user_id, claim.target, claim.preferences) == (home.bob.user_id, target, PREFERENCES)
    assert (claim.behind, claim.failures) == ({home.group: seq - 2}, 0)
    assert await home.due() == []


async def test_a_claim_is_given_once(home: Home):
    """[PUSH9] Of claims side by side one gets a subscription; it is free again when settled, or when the claim ends."""
    subscriptions = {await home.subscribe() for _ in range(5)}
    seq = await home.say()
    numbers = await home.due()
    assert len(numbers) == len(subscriptions)

    claims = await asyncio.gather(
        *(home.store.claim_pushes(numbers, now_ms=NOW_MS, free_ms=NOW_MS, until_ms=NOW_MS + CLAIM_MS) for _ in range(4))
    )

    assert sorted(claim.number for some in claims for claim in some) == numbers
    assert await home.claim() == []
    first, *others = (claim for some in claims for claim in some)
    await home.end_claim(first, reached={home.group: seq})
    later = await home.claim(NOW_MS + CLAIM_MS)
    assert sorted(claim.number for claim in later) == sorted(claim.number for claim in others)


async def test_claims_of_a_dead_process_are_void(home: Home):
    """[PUSH9] A server that is alone need not wait for the claims of the process before it."""
    await home.subscribe()
    await home.say()
    (claim,) = await home.claim()

    assert await home.claim() == []
    assert [again.number for again in await home.claim(free_ms=NOW_MS + CLAIM_MS)] == [claim.number]


async def test_failures_wait(home: Home):
    """[PUSH10] After a failure the position stays, and the subscription is due when its wait is over."""
    await home.subscribe()
    seq = await home.say()
    (claim,) = await home.claim()

    await home.end_claim(claim, failures=3, wait_until_ms=NOW_MS + 5000)

    assert await home.due(NOW_MS + 4999) == []
    (again,) = await home.claim(NOW_MS + 5000)
    assert (again.failures, again.behind) == (3, {home.group: seq - 1})


async def test_gone_endpoints_are_forgotten(home: Home):
    """[PUSH11] A subscription whose endpoint is gone is deleted with its positions."""
    subscription = await home.subscribe()
    await home.say()
    (claim,) = await home.claim()

    await home.end_claim(claim, gone=True)

    assert await home.due(NOW_MS + CLAIM_MS) == []
    with pytest.raises(NotFound):
        await home.store.delete_subscription(home.bob.key, subscription)


async def test_looking_devices_are_not_due(home: Home):
    """[PUSH12] A device that is looking is not due until then; what it has received is not due later."""
    subscription = await home.subscribe()
    seq = await home.say(3)

    async def note(seqs: dict[str, int], until_ms: int) -> None:
        await home.store.note_received(home.bob.key, subscription, seqs, looking_until_ms=until_ms)

    await note({home.group: seq - 1, new_id(): 7}, NOW_MS + 1000)
    assert await home.due(NOW_MS + 999) == []
    (claim,) = await home.claim(NOW_MS + 1000)
    assert claim.behind == {home.group: seq - 1}
    await home.end_claim(claim)

    await note({home.group: 1}, 0)
    assert [again.behind for again in await home.claim()] == [{home.group: seq - 1}]
    await note({home.group: seq + 100}, 0)
    await home.end_claim(claim)
    await home.say()
    assert [again.behind for again in await home.claim()] == [{home.group: seq}]


async def test_positions_of_others_cannot_be_moved(home: Home):
    """[PUSH12] A subscription is known to its own user alone."""
    subscription = await home.subscribe()

    with pytest.raises(NotFound):
        await home.store.note_received(home.ann.key, subscription, {}, looking_until_ms=NOW_MS)
    with pytest.raises(NotFound):
        await home.store.delete_subscription(home.ann.key, subscription)
    await home.store.delete_subscription(home.bob.key, subscription)


async def test_subscribing_again_replaces(home: Home):
    """[PUSH13] The same endpoint again keeps its id and its position, and waits no longer."""
    target = _target()
    subscription = await home.subscribe(target=target)
    await home.say()
    (claim,) = await home.claim()
    await home.end_claim(claim, failures=9, wait_until_ms=NOW_MS + 10**6)

    assert await home.subscribe(target=target, preferences=PREFERENCES) == subscription

    (again,) = await home.claim()
    assert (again.preferences, again.failures, again.behind) == (PREFERENCES, 0, claim.behind)


async def test_an_endpoint_has_one_user(home: Home):
    """[PUSH13] Another user of the same browser takes its endpoint over; a user without its keys is refused."""
    target = _target()
    first = await home.subscribe(target=target)
    with pytest.raises(Conflict):
        await home.subscribe(home.ann, _target(target.endpoint))

    second = await home.subscribe(home.ann, target)

    assert second != first
    await home.say()
    assert [claim.user_id for claim in await home.claim()] == [home.ann.user_id]


async def test_a_user_has_twenty(home: Home):
    """[PUSH13] Of more than 20 subscriptions of a user the oldest is deleted."""
    made = [await home.subscribe(now_ms=NOW_MS + index) for index in range(21)]

    with pytest.raises(NotFound):
        await home.store.delete_subscription(home.bob.key, made[0])
    await home.say()
    assert len(await home.due()) == 20


async def test_members_alone_are_called(home: Home):
    """[PUSH14] A user who left gets no push messages; one who rejoins gets those for later events."""
    await home.subscribe()
    await put_one(home.store, home.stamps, leave(home.bob, home.group))
    await home.say()
    assert await home.due() == []

    joined = await put_one(home.store, home.stamps, join(home.bob, home.code))

    assert await home.due() == []
    await home.say()
    assert [claim.behind for claim in await home.claim()] == [{home.group: joined.seq}]


async def test_disabled_accounts_are_not_called(home: Home):
    """[PUSH14] A disabled account gets no push messages, and gets them again once it is enabled."""
    await home.subscribe()
    await home.say()
    await home.store.disable(home.bob.key, reason="lost", at_ms=NOW_MS)
    assert await home.due() == []

    await home.store.enable(home.bob.key)

    assert len(await home.due()) == 1


async def test_revoking_a_user_ends_the_subscriptions(home: Home):
    """[PUSH14] A revocation of all tokens of a user ends the user's subscriptions: a lost phone is called no more."""
    await home.subscribe()
    kept = await home.subscribe(home.ann)
    await home.store.revoke(token_digest=b"d", user_id=None, at_s=1, until_s=2)
    await home.say()
    assert len(await home.due()) == 2

    await home.store.revoke(token_digest=None, user_id=home.bob.user_id, at_s=1, until_s=2)

    assert [claim.user_id for claim in await home.claim()] == [home.ann.user_id]
    await home.store.delete_subscription(home.ann.key, kept)


async def test_a_subscription_ends_with_its_login(home: Home):
    """[PUSH14] A login's subscription gets push messages while the login exists, and ends with it."""
    login = {"login_id": "l1", "name": "", "at_ms": NOW_MS, "expires_ms": NOW_MS + 10}
    await home.store.add_login(home.bob.user_id, **login)
    kept, ended = await home.subscribe(), await home.subscribe(login_id="l1")
    await home.subscribe(login_id="pruned")
    await home.say()
    assert len(await home.due()) == 2

    await home.store.end_login(home.bob.key, login_id="l1", digest=b"d", at_s=1, until_s=2)

    assert len(await home.due()) == 1
    with pytest.raises(NotFound):
        await home.store.delete_subscription(home.bob.key, ended)
    await home.store.delete_subscription(home.bob.key, kept)


async def test_removing_a_device_ends_its_subscription(home: Home):
    """[PUSH14] Removing a device of `/v1/keys` deletes its subscription, and no other."""
    published = await home.store.publish_keys(home.bob.key, device_keys(), now_ms=NOW_MS)
    await home.subscribe(device_id=published.device_id)
    await home.subscribe()
    await home.say()
    assert len(await home.due()) == 2

    await home.store.remove_device(home.bob.key, published.device_id, now_ms=NOW_MS)

    assert len(await home.due()) == 1


async def test_erasing_a_user_erases_the_subscriptions(home: Home):
    """[PUSH14] With an account its subscriptions are erased, and the database refers to nothing that is missing."""
    await home.subscribe()
    await home.say()
    await put_one(home.store, home.stamps, leave(home.bob, home.group))
    await home.store.request_erasure(home.bob.key, at_ms=NOW_MS)

    assert await home.store.erase_user(home.bob.key, new_user_id=new_id(), at_ms=NOW_MS)

    assert await home.store.integrity() == []
    assert await home.store.check_push() == []


async def test_a_log_that_went_back(home: Home):
    """[PUSH15] A position beyond the end of its group, as after a restored backup, is found and moved to the end."""
    subscription = await home.subscribe()
    seq = await home.say()
    (claim,) = await home.claim()
    await home.end_claim(claim, reached={home.group: seq + 100})
    assert await home.store.check_push() == [
        f"subscription {claim.number} was called up to {seq + 100} in group {home.group}, which ends at {seq}"
    ]

    (again,) = await home.claim()
    await home.end_claim(again)

    assert again.behind == {}
    assert await home.store.check_push() == []
    await home.say()
    assert [one.behind for one in await home.claim()] == [{home.group: seq}]
    await home.store.delete_subscription(home.bob.key, subscription)


async def test_titles(home: Home):
    """[PUSH5] The sealed titles of threads are found by their ids."""
    draft = thread(home.ann, home.group)
    await put_one(home.store, home.stamps, draft)

    assert await home.store.thread_titles({draft.thread_id, new_id()}) == {draft.thread_id: draft.encrypted_title}
