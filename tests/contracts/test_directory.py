"""What `ports.KeyDirectory` and the epochs of groups promise, of every adapter."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Executable, delete, insert, literal, select, update

from orbital_relay import wire
from orbital_relay.errors import Conflict, EpochChanged, Forbidden, NotFound, OrbitalError, ValidationFailed
from orbital_relay.model import ClaimedDevice, GroupId, Principal, SignedKey, Stock, UserId
from orbital_relay.store import tables as t
from orbital_relay.store.append.batch import KEY_LIFETIME_MS
from tests.contracts.drafts import (
    NOW_MS,
    Stamps,
    announce,
    device_keys,
    enter,
    group_of,
    join,
    keys_message,
    leave,
    message,
    new_id,
    put,
    put_one,
    record,
    refusals,
    reply,
    retry_key,
    thread,
)


class Home:
    """A group with its creator and one more member."""

    def __init__(
        self, store: Any, stamps: Stamps, ann: Principal, bob: Principal, group_id: GroupId, code: str
    ) -> None:
        self.store, self.stamps = store, stamps
        self.ann, self.bob, self.group_id, self.code = ann, bob, group_id, code

    async def publish(self, who: Principal, **changes: Any) -> int:
        """Publish keys without announcing them; return the device's number."""
        published = await self.store.publish_keys(who.key, device_keys(**changes), now_ms=NOW_MS)
        return int(published.device_id)

    async def claim(self, who: Principal, *devices: ClaimedDevice, **changes: Any) -> list[Any]:
        """Claim keys of devices, by default of ann's first by HPKE; return the bundles."""
        wanted = devices or (ClaimedDevice(self.ann.user_id, 1, 16),)
        claimed = await self.store.claim_keys(who.key, self.group_id, wanted, now_ms=NOW_MS, **changes)
        return list(claimed.bundles)

    async def claim_side_by_side(self, count: int) -> list[Any]:
        """Claim a key of ann's first device so many times, six claims at a time; return the bundles of each claim."""

        async def some() -> list[Any]:
            return [await self.claim(self.bob) for _ in range(count // 6)]

        return [found for each in await asyncio.gather(*(some() for _ in range(6))) for found in each]

    async def epoch(self) -> int:
        """Return the epoch as a refused post reports it; an epoch of 0 is above no post's."""
        (outcome,) = await put(self.store, self.stamps, message(self.ann, self.group_id, if_epoch=0))
        assert isinstance(outcome, EpochChanged)
        return int(outcome.details["epoch"])


@pytest.fixture
async def home(store: Any) -> Home:
    """A group of ann's, with bob in it."""
    stamps = Stamps()
    ann, bob = await enter(store, "ann"), await enter(store, "bob")
    made = group_of(ann)
    await put_one(store, stamps, made)
    await put_one(store, stamps, join(bob, made.invite_code))
    return Home(store, stamps, ann, bob, made.group_id, made.invite_code)


# Chapter: publishing


async def test_the_lowest_free_number(store: Any, home: Home):
    """[KEYS1] A device without a number gets the lowest free one; each user has separate numbers."""
    numbers = [await home.publish(home.ann, identity=each) for each in (1, 2, 3)]
    await store.remove_device(home.ann.key, 2, now_ms=NOW_MS)

    assert numbers == [1, 2, 3]
    assert await home.publish(home.ann, identity=4) == 2
    assert await home.publish(home.bob, identity=4) == 1


async def test_the_same_identity_is_the_same_device(home: Home):
    """[KEYS2] A device that sends no number is found by its identity key: a retry registers it only once."""
    first = await home.publish(home.ann, identity=1)

    assert await home.publish(home.ann, identity=1) == first == 1
    assert len(await home.store.own_devices(home.ann.key)) == 1


async def test_all_numbers_in_use(home: Home):
    """[KEYS3] The 128th device of a user is refused."""
    for identity in range(1, 128):
        await home.publish(home.ann, identity=identity)

    with pytest.raises(Conflict, match="127"):
        await home.publish(home.ann, identity=200)


async def test_stocks_grow_to_their_limit(home: Home):
    """[KEYS4] Keys are added to the stocks; over the limit the lowest ids are dropped; a repeated id is replaced."""
    await home.publish(home.ann, one_time=40, suites=3)
    await home.publish(home.ann, one_time=40, first_id=41, suites=3)
    (own,) = await home.store.own_devices(home.ann.key)
    assert own.stock == Stock(pre_keys=80, kyber_pre_keys=50, hpke_pre_keys=50)

    await home.publish(home.ann, one_time=1, first_id=80, suites=3)
    (own,) = await home.store.own_devices(home.ann.key)

    assert own.stock == Stock(pre_keys=80, kyber_pre_keys=50, hpke_pre_keys=50)
    assert (await home.claim(home.bob))[0].hpke_pre_key.id == 31


async def test_fixed_keys_are_replaced(home: Home):
    """[KEYS5] A fixed key replaces the previous one; an omitted one is unchanged."""
    await home.publish(home.ann, one_time=0)
    newer = {"hpke_pre_key": [SignedKey(9, b"newer", b"s")]}
    await home.publish(home.ann, keys=newer)
    await home.publish(home.ann, keys={})

    (bundle,) = await home.claim(home.bob)

    assert (bundle.hpke_pre_key.id, bundle.hpke_pre_key.key, bundle.last_resort) == (
        9,
        wire.encode_bytes(b"newer"),
        True,
    )


async def test_another_identity_empties_the_stocks(home: Home):
    """[KEYS6] Another identity key empties the stocks and requires a new last-resort key."""
    await home.publish(home.ann, one_time=5)
    with pytest.raises(ValidationFailed) as refused:
        await home.publish(home.ann, identity=2, device_id=1, keys={})
    await home.publish(home.ann, identity=2, device_id=1, one_time=1, first_id=9)

    (own,) = await home.store.own_devices(home.ann.key)

    assert refused.value.details["field"] == "hpke_pre_key"
    assert (own.identity_key, own.stock) == (b"\x05" + b"\x02" * 32, Stock(hpke_pre_keys=1))


@pytest.mark.parametrize("missing", ["signed_pre_key", "kyber_pre_key", "hpke_pre_key", "registration_id"])
async def test_a_new_device_is_complete(home: Home, missing: str):
    """[KEYS7] A new device needs the keys of its suites; the refusal names the missing ones."""
    whole = device_keys(suites=3)
    changes = {"registration_id": None} if missing == "registration_id" else {
        "keys": {kind: some for kind, some in whole.keys.items() if kind != missing}
    }  # fmt: skip

    with pytest.raises(ValidationFailed) as refused:
        await home.publish(home.ann, suites=3, **changes)

    assert refused.value.details["field"] == missing
    assert await home.store.own_devices(home.ann.key) == []


async def test_suites_change(home: Home):
    """[KEYS8] A device that drops suite 1 loses its keys; one that adds it must publish them."""
    await home.publish(home.ann, suites=3, one_time=3)
    await home.publish(home.ann, suites=2)
    (own,) = await home.store.own_devices(home.ann.key)
    assert own.stock == Stock(hpke_pre_keys=3)
    with pytest.raises(ValidationFailed):
        await home.publish(home.ann, suites=3, keys={}, registration_id=None)

    await home.publish(home.ann, suites=3, one_time=1)

    assert [each.suites for each in await home.store.own_devices(home.ann.key)] == [3]


async def test_publishing_once(home: Home):
    """[KEYS9] The same idempotency key gets the first response and adds no key again; another body is refused."""
    published = await home.store.publish_keys(
        home.ann.key, device_keys(one_time=2), now_ms=NOW_MS, idempotency_key=retry_key()
    )
    await home.claim(home.bob)

    again = await home.store.publish_keys(
        home.ann.key, device_keys(one_time=2), now_ms=NOW_MS, idempotency_key=retry_key()
    )
    with pytest.raises(Conflict):
        await home.store.publish_keys(
            home.ann.key, device_keys(), now_ms=NOW_MS, idempotency_key=retry_key(fingerprint=b"other")
        )

    assert again == published
    (own,) = await home.store.own_devices(home.ann.key)
    assert own.stock == Stock(hpke_pre_keys=1)


async def test_devices_of_a_group(home: Home):
    """[KEYS10] Members see the devices of all members, a page at a time; non-members see none."""
    cat = await enter(home.store, "cat")
    for who, identity in ((home.ann, 1), (home.bob, 2), (home.ann, 3), (cat, 4)):
        await home.publish(who, identity=identity)

    first = await home.store.devices(home.bob.key, home.group_id, limit=2, offset=0)
    rest = await home.store.devices(home.bob.key, home.group_id, limit=2, offset=2)

    assert [(each.user_id, each.device_id) for each in (*first.devices, *rest.devices)] == [
        (home.ann.user_id, 1),
        (home.bob.user_id, 1),
        (home.ann.user_id, 2),
    ]
    assert (first.has_more, rest.has_more) == (True, False)
    assert first.devices[0].seen_at == wire.iso(NOW_MS)
    with pytest.raises(Forbidden):
        await home.store.devices(cat.key, home.group_id, limit=2, offset=0)
    with pytest.raises(NotFound):
        await home.store.devices(cat.key, GroupId(new_id()), limit=2, offset=0)


async def test_removing_a_device(home: Home):
    """[KEYS11] A removed device is deleted with its keys; removing an unknown one is refused."""
    await home.publish(home.ann, one_time=1)
    await home.store.remove_device(home.ann.key, 1, now_ms=NOW_MS)

    assert await home.claim(home.bob) == []
    with pytest.raises(NotFound):
        await home.store.remove_device(home.ann.key, 1, now_ms=NOW_MS)
    with pytest.raises(NotFound):
        await home.store.remove_device(home.bob.key, 1, now_ms=NOW_MS)


# Chapter: claims


async def test_each_key_once(home: Home):
    """[CLAIM1] One-time keys are returned in order of their ids, each once; then the last resort, marked as such."""
    await home.publish(home.ann, one_time=2)

    found = [(await home.claim(home.bob))[0] for _ in range(4)]

    assert [(each.hpke_pre_key.id, each.last_resort) for each in found] == [
        (1, False),
        (2, False),
        (0, True),
        (0, True),
    ]


async def test_concurrent_claims(home: Home):
    """[CLAIM2] Concurrent claims never get the same one-time key."""
    await home.publish(home.ann, one_time=50)

    found = await home.claim_side_by_side(60)

    ids = [bundle.hpke_pre_key.id for (bundle,) in found if not bundle.last_resort]
    assert sorted(ids) == list(range(1, 51))
    assert sum(bundle.last_resort for (bundle,) in found) == 10


async def test_libsignals_bundle(home: Home):
    """[CLAIM3] A suite 1 bundle has a key of each type; with an empty stock the Kyber key is the last resort."""
    await home.publish(home.ann, one_time=1, suites=3)
    wanted = ClaimedDevice(home.ann.user_id, 1, 1)

    (first,), (second,) = await home.claim(home.bob, wanted), await home.claim(home.bob, wanted)

    assert (first.registration_id, first.pre_key.id, first.kyber_pre_key.id, first.last_resort) == (7, 1, 1, False)
    assert first.signed_pre_key.key == wire.encode_bytes(b"signed\x01")
    assert (second.pre_key, second.kyber_pre_key.id, second.last_resort) == (None, 0, True)
    assert first.hpke_pre_key is second.hpke_pre_key is None


async def test_which_devices_are_omitted(home: Home):
    """[CLAIM4] Devices that are unknown, not a member's, or without the suite are omitted and lose no key."""
    cat = await enter(home.store, "cat")
    await home.publish(home.ann, one_time=1)
    await home.publish(cat, one_time=1)
    wanted = [
        ClaimedDevice(home.ann.user_id, 1, 1),
        ClaimedDevice(cat.user_id, 1, 16),
        ClaimedDevice(home.ann.user_id, 2, 16),
        ClaimedDevice(UserId("nobody"), 1, 16),
    ]

    assert await home.claim(home.bob, *wanted) == []

    assert [own.stock for own in await home.store.own_devices(home.ann.key)] == [Stock(hpke_pre_keys=1)]
    assert [own.stock for own in await home.store.own_devices(cat.key)] == [Stock(hpke_pre_keys=1)]
    assert await home.store.claimable(home.bob.key, home.group_id, wanted, now_ms=NOW_MS) == []


async def test_who_may_claim(home: Home):
    """[CLAIM5] Only members may claim, and a refused claim consumes no key."""
    cat = await enter(home.store, "cat")
    await home.publish(home.ann, one_time=1)

    with pytest.raises(Forbidden):
        await home.claim(cat)
    with pytest.raises(Forbidden):
        await home.store.claimable(cat.key, home.group_id, [], now_ms=NOW_MS)
    with pytest.raises(NotFound):
        await home.store.claim_keys(cat.key, GroupId(new_id()), [], now_ms=NOW_MS)

    assert [own.stock for own in await home.store.own_devices(home.ann.key)] == [Stock(hpke_pre_keys=1)]


async def test_a_claim_once(home: Home):
    """[CLAIM6] The same idempotency key returns the same keys for 24 hours, consuming none; then it is a new claim."""
    await home.publish(home.ann, one_time=3, suites=3)
    wanted = [ClaimedDevice(home.ann.user_id, 1, 16), ClaimedDevice(home.ann.user_id, 1, 1)]

    for one in wanted:
        key = retry_key(f"suite {one.suite}")
        first = await home.claim(home.bob, one, idempotency_key=key)
        assert await home.claim(home.bob, one, idempotency_key=key) == first
        assert await home.store.claimable(home.bob.key, home.group_id, [one], now_ms=NOW_MS, idempotency_key=key) == []
        with pytest.raises(Conflict):
            await home.claim(home.bob, one, idempotency_key=retry_key(key.key, b"other"))

    (own,) = await home.store.own_devices(home.ann.key)
    assert own.stock == Stock(pre_keys=2, kyber_pre_keys=2, hpke_pre_keys=2)
    later = await home.store.claim_keys(
        home.bob.key, home.group_id, wanted[:1], now_ms=NOW_MS + KEY_LIFETIME_MS, idempotency_key=retry_key("suite 16")
    )
    assert later.bundles[0].hpke_pre_key.id == 2


async def test_concurrent_repeats_of_a_claim(home: Home):
    """[CLAIM7] The same claim sent concurrently, as to two servers, is one claim."""
    await home.publish(home.ann, one_time=20)

    found = await asyncio.gather(*(home.claim(home.bob, idempotency_key=retry_key()) for _ in range(8)))

    # Which key it is depends on who held which row locked at the time.
    assert len({bundle.hpke_pre_key.id for (bundle,) in found}) == 1
    (own,) = await home.store.own_devices(home.ann.key)
    assert own.stock == Stock(hpke_pre_keys=19)


async def test_no_one_time_key(home: Home):
    """[CLAIM8] A claim over a limit gets the last resort and consumes no one-time key."""
    await home.publish(home.ann, one_time=1)

    (bundle,) = await home.claim(home.bob, ClaimedDevice(home.ann.user_id, 1, 16, one_time=False))

    assert (bundle.last_resort, bundle.hpke_pre_key.id) == (True, 0)
    assert [own.stock for own in await home.store.own_devices(home.ann.key)] == [Stock(hpke_pre_keys=1)]


async def test_claims_while_keys_are_published(home: Home):
    """[CLAIM9] A bundle's keys belong to its identity key, also while the device changes identity."""
    await home.publish(home.ann, identity=1, one_time=50)

    async def renew() -> None:
        for identity in range(2, 12):
            await home.publish(home.ann, identity=identity, device_id=1, one_time=50)

    found, _ = await asyncio.gather(home.claim_side_by_side(60), renew())

    marks = {(bundle.identity_key, bundle.hpke_pre_key.key) for (bundle,) in found}
    kinds = {wire.encode_bytes(b"\x05" + bytes([each]) * 32): bytes([each]) for each in range(1, 12)}
    assert all(_bytes(key).endswith(kinds[identity]) for identity, key in marks)


def _bytes(text: str) -> bytes:
    return msgspec.json.decode(msgspec.json.encode(text), type=bytes)


# Chapter: low stocks


async def test_low_stocks(home: Home):
    """[KEYS12] A device is low while a stock that its suites need is below ten; claims report since when."""
    low = home.store.low_devices
    await home.publish(home.ann, one_time=11)
    await home.publish(home.bob, one_time=3)
    of_both = {home.ann.key, home.bob.key}
    assert [(each.user, each.stock.hpke_pre_keys) for each in await low(users=of_both, since_ms=0)] == [
        (home.bob.key, 3)
    ]
    assert await low(users=[], since_ms=0) == []

    await home.claim(home.bob)
    assert await low(users=[], since_ms=0) == []
    await home.claim(home.bob)
    (found,) = await low(users=[], since_ms=NOW_MS - 1)
    assert (found.user, found.device_id, found.stock.hpke_pre_keys, found.since_ms) == (home.ann.key, 1, 9, NOW_MS)
    assert await low(users=[], since_ms=NOW_MS) == []

    await home.publish(home.ann, one_time=10, first_id=50)
    assert await low(users=[home.ann.key], since_ms=0) == []


async def test_low_stocks_of_libsignal(home: Home):
    """[KEYS13] For a device with suite 1 each of its stocks counts."""
    await home.publish(home.ann, one_time=10, suites=3)
    assert await home.store.low_devices(users=[home.ann.key], since_ms=0) == []

    await home.claim(home.bob, ClaimedDevice(home.ann.user_id, 1, 1))

    (found,) = await home.store.low_devices(users=[], since_ms=0)
    assert found.stock == Stock(pre_keys=9, kyber_pre_keys=9, hpke_pre_keys=10)


# Chapter: announcements


async def test_changes_are_announced(home: Home):
    """[DEVICE1] A new device, another identity and a removal are pending for each group until their events exist."""
    store, other = home.store, group_of(home.ann)
    await put_one(store, home.stamps, other)
    await home.publish(home.ann)
    await home.publish(home.ann)
    await home.publish(home.ann, identity=2, device_id=1)
    await store.remove_device(home.ann.key, 1, now_ms=NOW_MS)

    pending = await store.pending_announcements(user=home.ann.key, before_ms=NOW_MS + 1, limit=100)
    assert await store.pending_announcements(user=home.bob.key, before_ms=NOW_MS + 1, limit=100) == []
    assert await store.pending_announcements(user=None, before_ms=NOW_MS, limit=100) == []
    events = [await put_one(store, home.stamps, announce(each)) for each in pending]

    announced = [(event.group_id, wire.event_data(event.frame)) for event in events]
    identities = [wire.encode_bytes(b"\x05" + mark * 32) for mark in (b"\x01", b"\x02", b"\x02")]
    for group_id in (home.group_id, other.group_id):
        assert [data for group, data in announced if group == group_id] == [
            wire.IdentityChanged(home.ann.user_id, 1, change, identity)
            for change, identity in zip(("added", "identity", "removed"), identities, strict=True)
        ]
    assert await store.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=100) == []


async def test_an_announcement_once(home: Home):
    """[DEVICE2] A change is announced once, whichever servers attempt it."""
    await home.publish(home.ann)
    (pending,) = await home.store.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10)

    outcomes = await asyncio.gather(*(put(home.store, home.stamps, announce(pending)) for _ in range(3)))

    assert sorted(refusals([outcome for (outcome,) in outcomes]), key=str) == ["CONFLICT", "CONFLICT", None]


async def test_a_former_member_is_not_announced(home: Home):
    """[DEVICE3] A group that the user has left gets no event of the user's devices."""
    await home.publish(home.bob)
    (pending,) = await home.store.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10)
    await put_one(home.store, home.stamps, leave(home.bob, home.group_id))

    (outcome,) = await put(home.store, home.stamps, announce(pending))

    assert isinstance(outcome, OrbitalError)
    assert await home.store.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10) == []


# Chapter: epochs


async def test_what_advances_the_epoch(home: Home):
    """[EPOCH1] Joining, leaving, a record and a changed device set the epoch to their number; other events do not."""
    store, stamps = home.store, home.stamps
    assert await home.epoch() == 2
    cat = await enter(store, "cat")
    opened = thread(home.ann, home.group_id)
    for draft in (message(home.ann, home.group_id), opened, reply(home.bob, opened.thread_id)):
        await put_one(store, stamps, draft)
    await put_one(store, stamps, keys_message(home.ann, home.group_id))
    assert await home.epoch() == 2

    for seq, draft in enumerate(
        [join(cat, home.code), record(home.ann, home.group_id), leave(cat, home.group_id)], start=7
    ):
        assert (await put_one(store, stamps, draft)).seq == await home.epoch() == seq
    await home.publish(home.bob)
    (pending,) = await store.pending_announcements(user=None, before_ms=NOW_MS + 1, limit=10)
    assert (await put_one(store, stamps, announce(pending))).seq == await home.epoch() == 10


@pytest.mark.parametrize("kind", ["message", "thread", "reply", "keys", "record"])
async def test_posts_for_an_epoch(home: Home, kind: str):
    """[EPOCH2] A post sealed for the current epoch is accepted; for a past epoch it is refused and not stored."""
    store, stamps, group_id = home.store, home.stamps, home.group_id
    opened = thread(home.ann, group_id)
    await put_one(store, stamps, opened)

    def draft(if_epoch: int | None) -> Any:
        match kind:
            case "message":
                return message(home.ann, group_id, if_epoch=if_epoch)
            case "thread":
                return thread(home.ann, group_id, if_epoch=if_epoch)
            case "reply":
                return reply(home.ann, opened.thread_id, if_epoch=if_epoch)
            case "keys":
                return keys_message(home.ann, group_id, if_epoch=if_epoch)
            case _:
                return record(home.ann, group_id, if_epoch=if_epoch)

    outcomes = await put(store, stamps, draft(1), draft(2), draft(1), draft(None), draft(10**9))

    assert refusals(outcomes) == ["EPOCH_CHANGED", None, "EPOCH_CHANGED", None, None]
    assert (await store.read(group_id, after=0, limit=100)).head.seq == 6


async def test_a_member_who_joins_in_the_same_batch(home: Home):
    """[EPOCH3] A join before a post in the same batch refuses the post: its content was sealed before."""
    cat = await enter(home.store, "cat")

    outcomes = await put(
        home.store,
        home.stamps,
        message(home.ann, home.group_id, if_epoch=2),
        join(cat, home.code),
        message(home.ann, home.group_id, if_epoch=2),
        message(home.ann, home.group_id, if_epoch=3),
    )

    assert refusals(outcomes) == [None, None, "EPOCH_CHANGED", "EPOCH_CHANGED"]
    assert isinstance(outcomes[2], EpochChanged)
    assert outcomes[2].details == {"epoch": 4}


async def test_racing_with_a_joining(home: Home):
    """[EPOCH4] In any concurrent order, each content after a join was sealed for that join's epoch or later."""
    people = [await enter(home.store, f"p{number}") for number in range(10)]

    async def post() -> None:
        known = 2
        for _ in range(25):
            (outcome,) = await put(
                home.store,
                home.stamps,
                message(home.ann, home.group_id, if_epoch=known, encrypted_envelope=f"{known:08}"),
            )
            if isinstance(outcome, EpochChanged):
                known = outcome.details["epoch"]

    async def enter_all() -> None:
        for who in people:
            await put(home.store, home.stamps, join(who, home.code))

    await asyncio.gather(post(), post(), enter_all())

    epoch = 0
    for event in (await home.store.read(home.group_id, after=0, limit=200)).events:
        data = wire.event_data(event.frame)
        if isinstance(data, wire.MemberJoined):
            epoch = event.seq
        elif isinstance(data, wire.NewMessage):
            assert int(data.encrypted_envelope) == epoch


async def test_a_key_before_the_epoch(home: Home):
    """[EPOCH5] A repeated post gets its first response in any epoch; a refused post leaves its key free."""
    draft = message(home.ann, home.group_id, if_epoch=2, idempotency_key=retry_key())
    first, again = await put(home.store, home.stamps, draft, record(home.ann, home.group_id))
    outdated = message(home.ann, home.group_id, if_epoch=2, idempotency_key=retry_key("another"))

    repeated, refused = await put(home.store, home.stamps, draft, outdated)
    (accepted,) = await put(home.store, home.stamps, msgspec.structs.replace(outdated, if_epoch=4))

    assert repeated.receipt == first.receipt
    assert refusals([again, refused, accepted]) == [None, "EPOCH_CHANGED", None]


# Chapter: records and key messages


async def test_records_are_kept(home: Home):
    """[RECORD1] Records are listed in the order of the log, a page at a time, also when their events are pruned."""
    store = home.store
    drafts = [record(who, home.group_id) for who in (home.ann, home.bob, home.ann)]
    events = [await put_one(store, home.stamps, each) for each in drafts]
    await store.prune(before_ms=home.stamps.next_ms + 1, limit=1000)

    first = await store.records(home.bob.key, home.group_id, limit=2, offset=0)
    rest = await store.records(home.bob.key, home.group_id, limit=2, offset=2)

    assert [(each.seq, each.author_id, each.record) for each in (*first.records, *rest.records)] == [
        (event.seq, draft.actor.user_id, draft.record) for event, draft in zip(events, drafts, strict=True)
    ]
    assert (first.has_more, rest.has_more) == (True, False)
    with pytest.raises(Forbidden):
        await store.records((await enter(store, "cat")).key, home.group_id, limit=2, offset=0)


async def test_key_messages_outlive_the_log(home: Home):
    """[RECORD2] Key messages stay readable when the log around them is pruned, until they expire."""
    store, group_id = home.store, home.group_id
    keys = []
    for _ in range(3):
        await put_one(store, home.stamps, message(home.ann, group_id))
        keys.append(await put_one(store, home.stamps, keys_message(home.ann, group_id)))
    later = home.stamps.next_ms + 1
    await store.prune(before_ms=later, keys_before_ms=keys[1].stamp_ms, limit=1000)

    found, more = await store.key_messages(home.bob.key, group_id, after=0, limit=1)
    assert (found, more) == (keys[1:2], True)
    found, more = await store.key_messages(home.bob.key, group_id, after=keys[1].seq, limit=10)
    assert (found, more) == (keys[2:], False)
    head = (await store.heads([group_id]))[group_id]
    assert (head.floor, head.seq) == (8, 8)
    assert (await store.verify(group_id)).findings == []

    await store.prune(before_ms=later, keys_before_ms=later, limit=1000)
    assert await store.key_messages(home.bob.key, group_id, after=0, limit=10) == ([], False)
    with pytest.raises(Forbidden):
        await store.key_messages((await enter(store, "cat")).key, group_id, after=0, limit=10)


# Chapter: mailboxes


async def test_a_mailbox(store: Any):
    """[MAILBOX1] A mailbox accepts one message, which may be repeated, and is deleted when it expires."""
    await store.open_mailbox("box", now_ms=NOW_MS)
    assert await store.mail("box", after_ms=NOW_MS - 1) is None

    await store.fill_mailbox("box", "bWFpbA", after_ms=NOW_MS - 1)
    await store.fill_mailbox("box", "bWFpbA", after_ms=NOW_MS - 1)
    with pytest.raises(Conflict):
        await store.fill_mailbox("box", "b3RoZXI", after_ms=NOW_MS - 1)

    assert await store.mail("box", after_ms=NOW_MS - 1) == "bWFpbA"
    for late in (
        store.mail("box", after_ms=NOW_MS),
        store.fill_mailbox("box", "bWFpbA", after_ms=NOW_MS),
        store.mail("none", after_ms=0),
    ):
        with pytest.raises(NotFound):
            await late
    assert await store.prune_mailboxes(before_ms=NOW_MS) == 0
    assert await store.prune_mailboxes(before_ms=NOW_MS + 1) == 1


# Chapter: the check


async def test_the_check_of_the_directory(home: Home):
    """[KEYS14] Publishing and claiming leave no findings; records and epochs agree with the log."""
    await home.publish(home.ann, one_time=3, suites=3)
    await home.publish(home.bob, identity=2)
    await home.claim(home.bob)
    await put_one(home.store, home.stamps, record(home.ann, home.group_id))

    assert await home.store.check_directory() == []
    assert (await home.store.verify(home.group_id)).findings == []


async def _damage(home: Home, *statements: Executable) -> list[str]:
    """Execute statements that no program of ours would, and return what the check finds then."""

    def write(conn: Connection) -> None:
        for statement in statements:
            conn.execute(statement)

    await home.store._write(write)
    return [*(await home.store.verify(home.group_id)).findings, *await home.store.check_directory()]


async def _add_records(home: Home) -> tuple[int, int]:
    """Post a record and a key message of ann's; return their numbers."""
    posted = await put_one(home.store, home.stamps, record(home.ann, home.group_id))
    keys = await put_one(home.store, home.stamps, keys_message(home.ann, home.group_id))
    return posted.seq, keys.seq


RECORDS, DEVICES, PRE_KEYS, EVENTS = t.records.c, t.devices.c, t.pre_keys.c, t.events.c


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (delete(t.records), "is missing or differs"),
        (update(t.records).values(record="YW5vdGhlcg=="), "is missing or differs"),
        (update(t.records).values(seq=RECORDS.seq + 50), "is missing or differs"),
        (update(t.records).values(author=RECORDS.author + 1), "has another author"),
        (update(t.groups).values(epoch_seq=1), "the epoch is 1"),
        (delete(t.pre_keys).where(PRE_KEYS.kind == "hpke_pre_key"), "0 keys of the kind hpke_pre_key"),
        (update(t.devices).values(suites=3), "0 keys of the kind signed_pre_key"),
    ],
)
async def test_damage_to_the_directory(home: Home, damage: Executable, sentence: str):
    """[KEYCHECK1] The check names a damaged record, epoch or device; ann's record is one of them."""
    await _add_records(home)
    await home.publish(home.ann, one_time=3)
    assert await _damage(home) == []

    found = await _damage(home, damage)

    assert any(sentence in one for one in found), found


async def test_a_record_that_the_log_does_not_have(home: Home):
    """[KEYCHECK2] The check names a record whose number is no record in the log."""
    _, keys = await _add_records(home)
    row = {"record_id": new_id(), "seq": keys, "record": "eA==", "created_ms": NOW_MS}
    place = select(literal(row["record_id"]), RECORDS.group, literal(keys), RECORDS.author, literal("eA=="), literal(1))
    columns = ["record_id", "group", "seq", "author", "record", "created_ms"]

    found = await _damage(home, insert(t.records).from_select(columns, place))

    assert found == [f"the record {row['record_id']} has number {keys}, which is not a record in the log"]


async def test_damage_to_kept_key_messages(home: Home):
    """[KEYCHECK3] The check names a changed key message that is older than the log."""
    _, keys = await _add_records(home)
    later = home.stamps.next_ms + 1
    await home.store.prune(before_ms=later, keys_before_ms=0, limit=1000)
    assert await _damage(home) == []
    key = t.event_key(await _number_of(home), keys)

    for frame, sentence in (
        (b"nothing", f"number {keys} is not the text of an event"),
        (b'{"type":"new_keys"}', f"number {keys} is not the text of an event"),
    ):
        assert await _damage(home, update(t.events).where(EVENTS.event_key == key).values(frame=frame)) == [sentence]


async def _number_of(home: Home) -> int:
    found = await home.store._read(
        lambda conn: conn.execute(select(t.groups.c.id).where(t.groups.c.group_id == home.group_id)).scalar_one()
    )
    return int(found)


async def test_an_erased_account(home: Home):
    """[KEYCHECK4] Erasing an account erases its devices, keys and announcements; its records keep their author's id."""
    store, bob = home.store, home.bob
    await home.publish(bob, one_time=3)
    await home.publish(home.ann, identity=2, one_time=1)
    posted = await put_one(store, home.stamps, record(bob, home.group_id))
    await put_one(store, home.stamps, leave(bob, home.group_id))
    assert await store.erase_user(bob.key, new_user_id=new_id(), at_ms=NOW_MS)

    rows = await store._read(
        lambda conn: [
            conn.execute(select(t.devices.c.device_id, t.users.c.user_id).join(t.users)).all(),
            conn.execute(select(PRE_KEYS.device).distinct()).all(),
            conn.execute(select(t.announcements.c.user).distinct()).all(),
        ]
    )
    listed = await store.records(home.ann.key, home.group_id, limit=10, offset=0)

    assert [tuple(row) for row in rows[0]] == [(1, home.ann.user_id)]
    assert (len(rows[1]), [row[0] for row in rows[2]]) == (1, [home.ann.key])
    assert [(one.seq, one.author_id) for one in listed.records] == [(posted.seq, bob.user_id)]
    assert await _damage(home) == []
