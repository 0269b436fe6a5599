"""Seeded disorder: five people speak, join, leave, crash and restore; every reader must see exactly what it should."""

import random
from collections import Counter

import pytest

from orbital_relay.e2ee.invite import read_invite
from orbital_relay.e2ee.stores.memory import MemoryStore
from tests.support.e2ee import ADA, BEN, CLEO, DORA, EMIL, codes, family, message, texts

PEOPLE = [ADA, BEN, CLEO, DORA, EMIL]
SEED = 20_261_126
ROUNDS = 400


class Killed(Exception):
    pass


class Storm:
    """A group of five amid crashes, and what each device must read: from its record to its leaving."""

    def __init__(self, relay, group):
        self.random = random.Random(SEED)
        self.relay, self.group = relay, group
        self.present = set(PEOPLE)
        self.newest = dict.fromkeys(PEOPLE, 1)
        self.wanted = {member.me: [] for member in relay.members}
        self.counts = Counter()
        relay.on_posted = self.observe

    def observe(self, post):
        if post["type"] == "new_message":
            for member in self.relay.members:
                if member.me.user in self.present and member.me in self.wanted:
                    self.wanted[member.me].append(post["seq"])

    @property
    def ada(self):
        return next(member for member in self.relay.members if member.me.user == ADA)

    async def kill(self, member):
        """A process dies in the middle of sending, and another begins with what its store holds."""
        relay = self.relay
        self.counts["kills"] += 1
        kind = self.random.choice(["new_keys", "new_message"])

        def dies(post):
            if (post["user"], post["type"]) == (member.me.user, kind):
                raise Killed

        def observed(post):
            self.observe(post)
            dies(post)

        if self.random.random() < 0.5:
            relay.on_post = dies
        else:
            relay.on_posted = observed
        try:
            await member.flush(self.group)
        except Killed:
            self.counts["amid"] += 1
        relay.on_post, relay.on_posted = lambda _: None, self.observe
        store = MemoryStore(relay.store_of(member).snapshot())
        again = await relay.device(member.me.user, member.me.device, store=store, publish=False)
        relay.members.pop()
        relay.members[relay.members.index(member)] = again

    async def remove(self, member):
        """Ada removes somebody."""
        relay, group, ada = self.relay, self.group, self.ada
        self.counts["removed"] += 1
        await relay.deliver(ada, group)
        await ada.revoke(group, member.me.user)
        await ada.flush(group)
        self.present.discard(member.me.user)
        relay.leave(group, member.me.user)
        relay.members.remove(member)
        await relay.wait_idle(group)

    async def back(self, user):
        """A removed person comes back with another device."""
        relay, group = self.relay, self.group
        self.newest[user] += 1
        again = await relay.device(user, self.newest[user])
        # What is posted behind the joining is for it too, also before its record is in the roster.
        self.wanted[again.me] = []
        relay.join(group, user)
        self.present.add(user)
        await relay.wait_idle(group, [one for one in relay.members if one is not again])
        await again.join(group, read_invite((await self.ada.invite(group))[0]), inviter=ADA)
        await relay.deliver(again, group)
        await again.flush(group)
        await relay.wait_idle(group)

    async def round(self, number):
        member, act = self.random.choice(self.relay.members), self.random.random()
        if act < 0.7:
            await member.draft(self.group, "new_message", message(str(number)))
            if self.random.random() < 0.25:
                await self.kill(member)
            else:
                await member.flush(self.group)
        elif act < 0.85:
            await self.relay.deliver(member, self.group)
        elif act < 0.93:
            await member.renew_keys(self.group)
        elif act < 0.97 and len(self.present) > 3 and member.me.user != ADA:
            await self.remove(member)
        elif len(self.present) < len(PEOPLE):
            await self.back(next(user for user in PEOPLE if user not in self.present))


@pytest.mark.parametrize("rounds", [ROUNDS])
async def test_storm(rounds):
    """[PYDEV18] Despite seeded crashes, removals and joins each member of the group reads each message once."""
    relay, _, group = await family(PEOPLE)
    storm = Storm(relay, group)
    for number in range(rounds):
        await storm.round(number)
    await relay.wait_idle(group)
    warned = {}
    for member in relay.members:
        where = f"seed {SEED}, {member.me}"
        items = await member.items(group)
        assert [item.seq for item in items if item.status == "read"] == storm.wanted[member.me], where
        assert await member.pending(group) == 0, where
        shown = [text for text in await texts(member, group) if not text.startswith("[")]
        assert len(set(shown)) == len(shown), where
        warned[member.me] = await codes(member, group)
    # Each device warns of the people who came back after its own record, and of nothing else.
    assert set().union(*warned.values()) == {"returned_person"}, warned
    assert storm.counts["kills"] >= 50, storm.counts
    assert storm.counts["amid"] >= 20, storm.counts
    assert storm.counts["removed"] > 1, storm.counts
