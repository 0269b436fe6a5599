"""A relay that lies, by a seeded script: what is detectable is detected each time, and no lie is shown as a message."""

import copy
import random
from collections import Counter

import msgspec
import pytest

from orbital_relay.e2ee.crypto.curve import ORDER, SigningKey
from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.envelope import DeviceAddress, Envelope, read_envelope, write_envelope
from orbital_relay.e2ee.outbox import SERVICES, QueuedDelivery, services_of
from orbital_relay.e2ee.rows import PINS
from orbital_relay.e2ee.stores.memory import MemoryStore
from orbital_relay.e2ee.texts import from_base64, to_base64
from orbital_relay.e2ee.unit import Unit
from tests.support.e2ee import (
    ADA,
    BEN,
    CLEO,
    DORA,
    FakeRelay,
    chained,
    codes,
    event_of,
    family,
    message,
    new_family,
    reply,
    say,
    texts,
)

GHOST = DORA
SEED = 20_261_126
LIES = 1000
THREAD = "11111111-2222-4333-8444-555555555555"
TRUTH = {"first", "second", "reply 0", "reply 1", "reply 2", "reply 3"}


class World:
    """A family of three with two groups, and what each said; every lie starts from a copy of the victim's store."""

    async def begin(self):
        self.relay, (ada, ben, cleo), self.group = await family()
        self.other = await new_family(self.relay, [ada, ben, cleo])
        await say(ada, self.other, "from the other group")
        await self.relay.wait_idle(self.other)
        await say(ada, self.group, "first")
        await say(ben, self.group, "second")
        await self.relay.wait_idle(self.group)
        self.known = len(self.relay.groups[self.group].log)
        self.snapshot = self.relay.store_of(cleo).snapshot()
        # What Cleo has not read yet: the lies are about it. Ben and Ada have, so that their heads say so.
        for number in range(4):
            await reply(ada if number % 2 else ben, self.group, THREAD, f"reply {number}")
            await self.relay.wait_idle(self.group, [ada, ben])
        self.log = self.relay.groups[self.group].log
        self.said = [at for at, frame in enumerate(self.log) if frame["type"] == "new_reply"]
        self.stranger = to_base64(SigningKey.generate().public_key)
        return self

    def victim(self):
        relay = FakeRelay()
        relay.groups = self.relay.groups
        return relay, relay.device(CLEO, store=MemoryStore(self.snapshot), publish=False)


@pytest.fixture
async def world():
    """A family of three."""
    return await World().begin()


def drop(world, pick, events):
    """Drop an event, for one member."""
    del events[pick.choice(world.said[:-1])]
    return {"two_histories"}


def repeat(world, pick, events):
    """Repeat an event."""
    at = pick.choice(world.said)
    events.insert(at + 1, copy.deepcopy(events[at]))
    return {"repeated"}


def reorder(world, pick, events):
    """Swap two events, for one member."""
    at = pick.choice(world.said[:-2])
    events[at], events[at + 1] = events[at + 1], events[at]
    return {"two_histories"}


def swap_thread(world, pick, events):
    """Move a reply to another thread."""
    events[pick.choice(world.said)]["data"]["thread_id"] = GHOST
    return {"misplaced"}


def change_author(world, pick, events):
    """Change an author."""
    data = events[pick.choice(world.said)]["data"]
    data["author_id"] = BEN if data["author_id"] == ADA else ADA
    return {"wrong_sender"}


def other_group(world, pick, events):
    """Replay content of another group."""
    frames = world.relay.groups[world.other].log
    said = next(frame for frame in reversed(frames) if frame["type"] == "new_message")
    events.insert(pick.choice(world.said), {"type": "new_message", "data": dict(said["data"])})
    return {"misplaced"}


def two_histories(world, pick, events):
    """Show another history."""
    # Another event under a number that Ada and Ben have seen: nothing in it is for this device.
    events.insert(world.known, {"type": "something_new", "data": {"marked": pick.choice([1, 2, 3])}})
    del events[pick.choice(world.said[:-1]) + 1]
    return {"two_histories"}


def raise_s(world, pick, events):
    """Raise the S of a signature by ℓ, which leaves it valid for verifiers that do not look."""
    data = events[pick.choice(world.said)]["data"]
    content = bytearray(read_envelope(from_base64(data["encrypted_body"])).content)
    top = content[-1] & 0x80
    content[-1] &= 0x7F
    content[-32:] = (int.from_bytes(content[-32:], "little") + ORDER).to_bytes(32, "little")
    content[-1] |= top
    data["encrypted_body"] = to_base64(write_envelope(Envelope(content=bytes(content))))
    return {"bad_signature"}


def change_bytes(world, pick, events):
    """Change a bit of a ciphertext."""
    data = events[pick.choice(world.said)]["data"]
    changed = bytearray(from_base64(data["encrypted_body"]))
    changed[pick.randrange(35, len(changed))] ^= 1 << pick.randrange(8)
    data["encrypted_body"] = to_base64(bytes(changed))
    return {"bad_signature", "unreadable", "too_far_ahead"}


def ghost_member(world, pick, events):
    """Add a member."""
    events.append({"type": "member_joined", "data": {"user_id": GHOST}})
    return set()


def swapped_identity(world, pick, events):
    """Name another identity key of a device."""
    swapped = {"user_id": pick.choice([ADA, BEN]), "device_id": 1, "change": "identity", "identity_key": world.stranger}
    events.append({"type": "identity_changed", "data": swapped})
    return {"identity_differs"}


LOG_LIES = [
    drop,
    repeat,
    reorder,
    swap_thread,
    change_author,
    other_group,
    two_histories,
    raise_s,
    change_bytes,
    ghost_member,
    swapped_identity,
]


async def test_a_thousand_manipulations(world):
    """[SEALLIE1] Each of a thousand seeded manipulations of the log is detected, and none is shown as a message."""
    pick, counts = random.Random(SEED), Counter()
    for number in range(LIES):
        lie = pick.choice(LOG_LIES)
        events = [{"type": frame["type"], "data": copy.deepcopy(frame["data"])} for frame in world.log]
        wanted = lie(world, pick, events)
        relay, device = world.victim()
        victim = await device
        await relay.deliver(victim, world.group, chained(world.group, events))
        where, seen = f"seed {SEED}, lie {number}: {lie.__name__}", await codes(victim, world.group)
        assert (wanted & set(seen)) if wanted else await victim.strangers(world.group) == [GHOST], f"{where}: {seen}"
        shown = [text for text in await texts(victim, world.group) if not text.startswith("[")]
        assert set(shown) <= TRUTH, f"{where}: shown {shown}"
        assert len(set(shown)) == len(shown), f"{where}: shown {shown}"
        if "two_histories" in seen:
            with pytest.raises(E2eeError, match="a person must decide"):
                await say(victim, world.group, "x")
        counts[lie] += 1
    assert set(counts) == set(LOG_LIES)


async def test_an_honest_log_reports_nothing(world):
    """[SEALLIE10] Without a manipulation there is no warning, and every message is shown."""
    relay, device = world.victim()
    victim = await device
    await relay.deliver(victim, world.group)
    assert await codes(victim, world.group) == []
    assert set(await texts(victim, world.group)) == TRUTH


async def test_rolled_back(world):
    """[SEALLIE2] A rewound log is detected, and sending stops until the user decides."""
    relay, device = world.victim()
    cleo, group = await device, world.group
    position = (await cleo.group(group)).position
    old = [{"type": frame["type"], "data": frame["data"]} for frame in world.log[: position.seq - 1]]
    rolled = event_of(chained(group, [*old, {"type": "something_new", "data": {}}])[-1])
    assert not (await cleo.receive(rolled)).processed
    assert await codes(cleo, group) == ["rolled_back"]
    await cleo.draft(group, "new_message", message("x"))
    with pytest.raises(E2eeError) as caught:
        await cleo.flush(group)
    assert caught.value.code == "stopped"
    await cleo.resume(group)
    await relay.deliver(cleo, group)
    await cleo.publish_keys(1)
    relay.directory.update(world.relay.directory)
    await cleo.flush(group)
    assert (await cleo.sender(group)).count == 1
    with pytest.raises(E2eeError, match="is not number"):
        await cleo.receive(msgspec.structs.replace(rolled, seq=999))


async def test_broken_chain(world):
    """[SEALLIE3] A frame whose prev hash does not match is detected."""
    _, device = world.victim()
    cleo = await device
    await cleo.receive(event_of({**world.log[world.known], "prev": world.log[0]["hash"]}))
    assert await codes(cleo, world.group) == ["broken_chain"]


async def test_ghosts():
    """[SEALLIE4] Ghost members and ghost devices receive no keys; the directory is compared with the roster."""
    relay, (ada, _), group = await family([ADA, BEN])
    await relay.device(GHOST)
    relay.join(group, GHOST)
    await relay.device(BEN, 9)
    relay.on_devices = lambda listed: [
        msgspec.structs.replace(one, identity=bytes(33)) if one.user == ADA else one for one in listed
    ]
    await relay.deliver(ada, group)
    await say(ada, group, "for Ben")
    given = [
        (one.user, one.device)
        for frame in relay.groups[group].log
        if frame["type"] == "new_keys"
        for one in read_envelope(from_base64(frame["data"]["encrypted_envelope"])).keys.deliveries
    ]
    assert given == [(BEN, 1)]
    assert await ada.strangers(group) == [GHOST]
    strangers, differing = await ada.check_directory(group)
    assert (set(strangers), differing) == ({DeviceAddress(GHOST, 1), DeviceAddress(BEN, 9)}, [DeviceAddress(ADA, 1)])
    assert {"unknown_device", "identity_differs"} <= set(await codes(ada, group))


@pytest.mark.parametrize("reason", ["bad_key", "bad_signature", "not_found"])
async def test_false_bundles(reason):
    """[SEALLIE5] A swapped identity or an unsigned or missing pre-key gets no keys and a warning; others get keys."""
    mallory = SigningKey.generate()
    lies = {
        "bad_key": lambda bundle: {"identity": mallory.public_key},
        "bad_signature": lambda bundle: {
            "hpke_pre_key": msgspec.structs.replace(bundle.hpke_pre_key, signature=bytes(64))
        },
        "not_found": lambda bundle: {"hpke_pre_key": None},
    }
    relay, (ada, ben, cleo), group = await family()
    relay.on_bundle = lambda bundle: (
        msgspec.structs.replace(bundle, **lies[reason](bundle)) if bundle.user == BEN else bundle
    )
    await say(ada, group, "true")
    await relay.wait_idle(group)
    [warning] = await ada.warnings(group)
    assert (warning.code, warning.user, warning.details) == ("bad_bundle", BEN, {"reason": reason})
    assert await texts(cleo, group) == ["true"]
    assert await texts(ben, group) == ["[waiting]"]


async def test_withheld():
    """[SEALLIE6] A removal or a post that the server withholds is detected after a minute."""
    relay, (ada, _), group = await family([ADA, BEN])
    await ada.revoke(group, BEN, removed=True)
    await relay.wait_idle(group)
    ada.caught_up(group)
    await ada.tick(group)
    assert await codes(ada, group) == []
    relay.now += 60_000
    await ada.tick(group)
    assert await codes(ada, group) == ["withheld_removal"]
    await say(ada, group, "swallowed")
    relay.groups[group].log[-1].update(type="something_new", data={})
    await relay.deliver(ada, group)
    await ada.tick(group)
    assert "withheld_post" in await codes(ada, group)


async def test_last_resort():
    """[SEALLIE7] With all one-time keys used up the last-resort key is used, and the keys are refilled."""
    relay, (ada, ben), group = await family([ADA, BEN])
    stock = relay.directory
    stock[BEN, 1] = msgspec.structs.replace(stock[BEN, 1], hpke_pre_keys=[])
    await say(ada, group, "one")
    await ada.renew_keys(group)
    await say(ada, group, "two")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["one", "two"]
    assert relay.last_resorts == 2
    await ben.publish_keys(3)
    assert len(stock[BEN, 1].hpke_pre_keys) == 3


async def test_last_resort_is_renewed():
    """[SEALLIE11] A last-resort key is replaced after 7 days, and the old one is kept for 30 days."""
    relay, (ada, ben), group = await family([ADA, BEN])
    first = relay.directory[BEN, 1].hpke_pre_key
    relay.now += 7 * 86_400_000
    await ben.publish_keys(0)
    assert relay.directory[BEN, 1].hpke_pre_key != first
    relay.directory[BEN, 1] = msgspec.structs.replace(relay.directory[BEN, 1], hpke_pre_keys=[], hpke_pre_key=first)
    await say(ada, group, "by the old one")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["by the old one"]
    relay.now += 24 * 86_400_000
    await ben.publish_keys(0)
    relay.directory[BEN, 1] = msgspec.structs.replace(relay.directory[BEN, 1], hpke_pre_key=first)
    await ada.renew_keys(group)
    await say(ada, group, "too late")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["by the old one", "[waiting]"]


async def test_replayed_keys():
    """[SEALLIE8] Keys that are replayed, sent to another group, or sent under another name are never decrypted."""
    relay, (ada, ben, cleo), group = await family()
    other = await new_family(relay, [ada, ben, cleo])
    await say(ada, group, "true")
    data = next(frame["data"] for frame in relay.groups[group].log if frame["type"] == "new_keys")
    await relay.wait_idle(group)
    for where in (group, other):
        relay.append(where, "new_keys", data)
        relay.append(where, "new_keys", {**data, "sender_id": CLEO})
        await relay.deliver(ben, where)
        assert set(await codes(ben, where)) == {"unreadable_keys"}
    assert await texts(ben, group) == ["true"]


async def test_stolen_chain():
    """[SEALLIE9] A member who distributes another member's chain as an own chain is refused."""
    relay, (ada, ben, cleo), group = await family()
    await say(ada, group, "by Ada")
    await relay.wait_idle(group)
    store = relay.store_of(ben)
    unit = Unit(store)
    skdm = next(pin.skdm for _, pin in unit.scan(PINS) if pin.user == ADA and pin.group == group)
    identity = (await cleo.identity()).hex()
    unit.put(
        SERVICES, services_of(group) + "9" * 16, QueuedDelivery(id="stolen", to=cleo.me, identity=identity, skdm=skdm)
    )
    store.commit(unit.writes(), durable=True)
    await ben.flush(group)
    await relay.deliver(cleo, group)
    assert await codes(cleo, group) == ["stolen_distribution"]
