/** Seeded disorder: five people speak, join, leave, link, crash and restore; every reader must see exactly what it should. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryStore, readInvite } from '../src/index.js';
import { ADA, BEN, CLEO, seeded } from './people.js';
import { FakeRelay, codes, newFamily, texts } from './relay.js';

const DORA = 'dddddddd-0000-4000-8000-00000000000d';
const EMIL = 'eeeeeeee-0000-4000-8000-00000000000e';
const SEED = Number(process.env.ORBITAL_SEED ?? 20_261_126);
const ROUNDS = 400;

test('[DEVGRP18] Despite seeded crashes, removals, joins and new chains each member of the group, and nobody else, reads each message once.', async () => {
  const random = seeded(SEED);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const relay = new FakeRelay();
  const people = [ADA, BEN, CLEO, DORA, EMIL];
  for (const user of people) await relay.device(user);
  const group = await newFamily(relay, relay.members);
  const present = new Set(people);
  /** What each device must read: from its joining to its leaving, in the order of the log. */
  const wanted = new Map(relay.members.map((member) => [member.store, []]));
  const counts = { kills: 0, said: 0, removed: 0, renewed: 0 };
  relay.hooks.posted = ({ type, seq }) => {
    if (type !== 'new_message') return;
    for (const member of relay.members) if (present.has(member.me.user)) wanted.get(member.store)?.push(seq);
  };
  const observe = relay.hooks.posted;
  const devices = new Map(people.map((user) => [user, 1]));

  /** A process dies in the middle of sending, and another begins with what its store holds. */
  const kill = async (member) => {
    counts.kills++;
    const type = pick(['new_keys', 'new_message']);
    const before = random() < 0.5;
    const dies = ({ user }) => {
      if (user === member.me.user) throw new Error('killed');
    };
    if (before) relay.hooks.post = (event) => event.type === type && dies(event);
    else
      relay.hooks.posted = (event) => {
        observe(event);
        if (event.type === type) dies(event);
      };
    await member.flush(group).catch((error) => assert.equal(error.message, 'killed', `seed ${SEED}`));
    relay.hooks.post = () => {};
    relay.hooks.posted = observe;
    const store = memoryStore(member.store.snapshot());
    wanted.set(store, wanted.get(member.store));
    const again = await relay.device(member.me.user, member.me.device, { store, publish: false });
    relay.members.pop();
    relay.members[relay.members.indexOf(member)] = again;
  };

  for (let round = 0; round < ROUNDS; round++) {
    const member = pick(relay.members);
    const act = random();
    if (act < 0.7) {
      counts.said++;
      await member.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: new TextEncoder().encode(`${round}`) }]);
      if (random() < 0.2) await kill(member);
      else await member.flush(group);
    } else if (act < 0.85) await relay.deliver(member, group);
    else if (act < 0.93) {
      counts.renewed++;
      await member.renewKeys(group);
    } else if (act < 0.97 && present.size > 3 && member.me.user !== ADA) {
      // Ada removes somebody, who comes back with another device.
      counts.removed++;
      const ada = relay.members.find((one) => one.me.user === ADA);
      const user = member.me.user;
      await relay.deliver(ada, group);
      await ada.revoke(group, user);
      await ada.flush(group);
      present.delete(user);
      relay.leave(group, user);
      relay.members.splice(relay.members.indexOf(member), 1);
      await relay.waitIdle(group);
    } else if (present.size < people.length) {
      const user = people.find((one) => !present.has(one));
      const ada = relay.members.find((one) => one.me.user === ADA);
      devices.set(user, devices.get(user) + 1);
      const again = await relay.device(user, devices.get(user));
      // What is posted behind the joining is for it too, also before its record is in the roster.
      wanted.set(again.store, []);
      relay.join(group, user);
      present.add(user);
      await relay.waitIdle(
        group,
        relay.members.filter((one) => one !== again),
      );
      await again.join(group, readInvite((await ada.invite(group)).text), { inviter: ADA });
      await relay.deliver(again, group);
      await again.flush(group);
      await relay.waitIdle(group);
    }
  }
  await relay.waitIdle(group);
  for (const member of relay.members) {
    const items = await member.items(group);
    const read = items.filter(({ status }) => status === 'read').map(({ seq }) => seq);
    const where = `seed ${SEED}, ${member.me.user[0]}${member.me.device}`;
    assert.deepEqual(read, wanted.get(member.store), where);
    assert.equal(await member.pending(group), 0, where);
    const bodies = (await texts(member, group)).filter((text) => !text.startsWith('['));
    assert.equal(new Set(bodies).size, bodies.length, `${where}: a message was read twice`);
    const unexpected = (await codes(member, group)).filter((code) => code !== 'returned_person');
    assert.deepEqual(unexpected, [], where);
  }
  assert.ok(counts.kills > 20 && counts.removed > 1, JSON.stringify(counts));
});
