"""Newcomers: what is written behind a person's joining reaches their device, and nothing that is older."""

import random

from orbital_relay.e2ee.enrolment import Start
from orbital_relay.e2ee.formats.envelope import read_envelope
from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.newcomers import KEPT_MS, MAX_KEPT
from orbital_relay.e2ee.roster import LoggedRecord
from orbital_relay.e2ee.rows import MEMBERS, Newcomer
from orbital_relay.e2ee.texts import from_base64
from orbital_relay.e2ee.unit import Unit
from tests.support.e2ee import ADA, BEN, CLEO, FakeRelay, codes, family, new_family, say, texts

DORA = "dddddddd-0000-4000-8000-00000000000d"


async def begin(group, inviter, member, start=None):
    """Begin with the group, on the device of a person who joined on the server: its record is in the outbox."""
    text, number = await inviter.invite(group)
    invite = read_invite(text)
    assert invite is not None
    await member.join(group, invite, inviter=inviter.me.user, secret_number=number, start=start)


def given_to(relay, group, after=0):
    """The users to whom `new_keys` behind a number give something."""
    log = relay.groups[group].log[after:]
    posted = [frame["data"]["encrypted_envelope"] for frame in log if frame["type"] == "new_keys"]
    envelopes = [read_envelope(from_base64(text)) for text in posted]
    return [one.user for envelope in envelopes if envelope.keys is not None for one in envelope.keys.deliveries]


def newcomers(relay, member, group):
    """What a member keeps for newcomers."""
    rows = [row for _, row in Unit(relay.store_of(member)).scan(MEMBERS, f"{group}/")]
    return [row for row in rows if isinstance(row, Newcomer)]


async def test_between_joining_and_record():
    """[PYNEW1] What is written between a person's joining and their device's record is read without a request."""
    relay, (ada, ben), group = await family([ADA, BEN])
    await say(ada, group, "before")
    await relay.wait_idle(group)
    relay.join(group, CLEO)
    for one in (ada, ben):
        await relay.deliver(one, group)
    await say(ada, group, "between")
    await ada.renew_keys(group)
    await say(ada, group, "between, with new keys")
    cleo = await relay.device(CLEO)
    await relay.wait_idle(group, [ada, ben])
    await begin(group, ada, cleo)
    await relay.wait_idle(group)
    await say(ada, group, "after")
    await say(ben, group, "also after")
    await relay.wait_idle(group)
    expected = ["[waiting]", "between", "between, with new keys", "after", "also after"]
    assert await texts(cleo, group) == expected
    for one in (ada, ben, cleo):
        assert await codes(one, group) == []
        assert newcomers(relay, one, group) == []


async def one_order(seed):
    """Joins, leaves, texts and new keys in one order; at the end each newcomer read what is behind it."""
    order = random.Random(seed)
    relay = FakeRelay()
    ada, ben = await relay.device(ADA), await relay.device(BEN)
    group = await new_family(relay, [ada, ben])
    joined, devices, said = {}, {}, 0

    async def knock(user):
        joined.setdefault(user, None)
        if joined[user] is None:
            joined[user] = relay.join(group, user)
        devices[user] = await relay.device(user)
        await begin(group, ada, devices[user])

    for _ in range(40):
        act = order.choice(["write"] * 5 + ["renew", "deliver", "join", "leave", "knock"])
        user = order.choice([CLEO, DORA])
        writer = order.choice([ada, ben, *devices.values()])
        match act:
            case "write":
                if writer in devices.values() or order.random() < 0.7:
                    await relay.deliver(writer, group)
                await say(writer, group, f"{seed}/{said}")
                said += 1
            case "renew":
                await order.choice([ada, ben]).renew_keys(group)
            case "deliver":
                await relay.deliver(order.choice([ada, ben]), group)
            case "join" if user not in joined:
                joined[user] = relay.join(group, user)
            case "leave" if user in joined and user not in devices and order.random() < 0.3:
                relay.leave(group, user)
                del joined[user]
            case "knock" if user in joined and user not in devices:
                await knock(user)
    for user in (CLEO, DORA):
        if user not in devices:
            await knock(user)
    await relay.wait_idle(group)
    assert len(await texts(ada, group)) == said
    assert await texts(ada, group) == await texts(ben, group)
    for user, device in devices.items():
        items = await device.items(group)
        assert len(items) == said
        for item in items:
            assert item.status == ("read" if item.seq > joined[user] else "waiting"), (seed, user, item.seq)
        assert await codes(device, group) == []


async def test_seeded_orders():
    """[PYNEW2] In every seeded order each newcomer reads exactly what stands behind their joining."""
    for seed in range(1, 31):
        await one_order(seed)


async def test_never_comes_back():
    """[PYNEW3] A newcomer who never comes back delays nobody; what was kept for them goes when they leave."""
    relay, (ada, ben), group = await family([ADA, BEN])
    joined = relay.join(group, CLEO)
    await relay.wait_idle(group)
    await say(ada, group, "one")
    await relay.wait_idle(group)
    assert await texts(ben, group) == ["one"]
    assert await ada.strangers(group) == [CLEO]
    assert [len(one.kept) for one in newcomers(relay, ada, group)] == [1]
    relay.leave(group, CLEO)
    await relay.wait_idle(group)
    assert newcomers(relay, ada, group) == []
    assert CLEO not in given_to(relay, group, joined)


async def test_keys_before_content():
    """[PYNEW4] Keys of a newcomer go before the next text, also when their record comes while drafts are being sent."""
    relay, (ada, ben), group = await family([ADA, BEN])
    relay.join(group, CLEO)
    await relay.wait_idle(group)
    await say(ada, group, "between")
    cleo = await relay.device(CLEO)
    await relay.wait_idle(group, [ada, ben])
    await begin(group, ada, cleo)
    port = ada._cx.relay
    post, waiting = port.post, [cleo]

    async def knock_first(to, kind, body, *, key, if_epoch=None):
        if kind == "new_message" and waiting:
            await waiting.pop().flush(group)
        return await post(to, kind, body, key=key, if_epoch=if_epoch)

    port.post = knock_first
    await say(ada, group, "next")
    types = [frame["type"] for frame in relay.groups[group].log]
    assert types[-3:] == ["new_record", "new_keys", "new_message"]
    await relay.wait_idle(group)
    assert await texts(cleo, group) == ["between", "next"]
    assert given_to(relay, group).count(CLEO) == 1


async def test_bounds():
    """[PYNEW5] Chains are kept for a newcomer for 30 days, and the newest 64 of them."""
    relay, (ada, _), group = await family([ADA, BEN])
    relay.join(group, CLEO)
    await relay.wait_idle(group)
    await say(ada, group, "long ago")
    relay.now += KEPT_MS
    await relay.wait_idle(group)
    for at in range(MAX_KEPT + 1):
        await ada.renew_keys(group)
        await say(ada, group, f"text {at}")
    assert [len(one.kept) for one in newcomers(relay, ada, group)] == [MAX_KEPT]
    cleo = await relay.device(CLEO)
    await begin(group, ada, cleo)
    await relay.wait_idle(group)
    read = await texts(cleo, group)
    assert read[:3] == ["[waiting]", "[waiting]", "text 1"]
    assert read[-1] == f"text {MAX_KEPT}"
    relay.join(group, DORA)
    await relay.wait_idle(group)
    await say(ada, group, "for Dora")
    relay.now += KEPT_MS
    dora = await relay.device(DORA)
    await begin(group, ada, dora)
    await relay.wait_idle(group)
    assert (await texts(dora, group))[-1] == "[waiting]"


async def test_revoked_person():
    """[PYNEW6] A person whose devices were revoked gets nothing that was written before they joined again."""
    relay, (ada, ben, cleo), group = await family()
    await ada.revoke(group, CLEO, removed=True)
    await ada.flush(group)
    relay.leave(group, CLEO)
    await relay.wait_idle(group)
    await say(ada, group, "without Cleo")
    relay.join(group, CLEO)
    await relay.wait_idle(group, [ada, ben])
    await say(ada, group, "joined again")
    await relay.wait_idle(group, [ada, ben])
    again = await relay.device(CLEO, 2)
    await begin(group, ada, again)
    await relay.wait_idle(group, [ada, ben, again])
    assert await texts(again, group) == ["[waiting]", "joined again"]
    assert await texts(cleo, group) == []
    assert "returned_person" in await codes(ada, group)


async def test_start_behind_a_joining():
    """[PYNEW7] A device that begins behind a person's joining gives them what it writes before their record."""
    relay, (ada, ben), group = await family([ADA, BEN])
    relay.join(group, CLEO)
    relay.join(group, DORA)
    await relay.wait_idle(group)
    log = relay.groups[group].log
    records = [
        LoggedRecord(frame["seq"], frame["data"]["author_id"], from_base64(frame["data"]["record"]))
        for frame in log
        if frame["type"] == "new_record"
    ]
    state = await ada.group(group)
    start = Start(position=state.position, epoch=state.epoch, members=[ADA, BEN, CLEO, DORA], records=records)
    cleo = await relay.device(CLEO)
    await begin(group, ada, cleo, start)
    await relay.wait_idle(group)
    await say(cleo, group, "before Dora's device")
    dora = await relay.device(DORA)
    await relay.wait_idle(group, [ada, ben, cleo])
    await begin(group, ada, dora)
    await relay.wait_idle(group)
    assert (await texts(dora, group))[-1] == "before Dora's device"
