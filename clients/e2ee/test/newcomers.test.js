/** Newcomers: what is written between a person's joining and the record of their device reaches them, and nothing from before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KEPT_MS, MAX_KEPT } from '../src/newcomers.js';
import { fromBase64, memoryStore, readEnvelope, readInvite } from '../src/index.js';
import { ADA, BEN, CLEO, seeded } from './people.js';
import { FakeRelay, codes, newFamily, say, texts } from './relay.js';

const DORA = 'dddddddd-0000-4000-8000-00000000000d';

const family = async (users = [ADA, BEN]) => {
  const relay = new FakeRelay();
  const members = [];
  for (const user of users) members.push(await relay.device(user));
  return { relay, members, group: await newFamily(relay, members) };
};

/** The device of a person who has joined on the server begins with the group: its record is in the outbox. */
const begin = async (group, inviter, member) => {
  const { text, secretNumber } = await inviter.invite(group);
  await member.join(group, readInvite(text), { inviter: inviter.me.user, secretNumber });
};

/** Members to whom each `new_keys` of the log gives something, from a number on. */
const givenTo = (relay, group, after) =>
  relay.groups
    .get(group)
    .log.slice(after)
    .filter(({ type }) => type === 'new_keys')
    .flatMap(({ data }) => readEnvelope(fromBase64(data.encrypted_envelope)).keys.deliveries.map(({ user }) => user));

const rows = async (member, group) => (await member.store.list('members', `${group}/`)).map(([, row]) => row);

test('[NEWCOM1] What is written after a person joined and before their device is in the roster is read by it, with no request; nothing from before is.', async () => {
  const { relay, members, group } = await family();
  const [ada, ben] = members;
  await say(ada, group, 'before');
  await say(ben, group, 'also before');
  await relay.waitIdle(group);
  relay.join(group, CLEO);
  for (const one of members) await relay.deliver(one, group);
  await say(ada, group, 'between');
  await ada.renewKeys(group);
  await say(ada, group, 'between, with new keys');
  const cleo = await relay.device(CLEO);
  await relay.waitIdle(group, members);
  await begin(group, ada, cleo);
  await relay.waitIdle(group);
  assert.deepEqual(await texts(cleo, group), ['[waiting]', '[waiting]', 'between', 'between, with new keys']);
  await say(ada, group, 'after');
  await say(ben, group, 'also after');
  await relay.waitIdle(group);
  assert.deepEqual((await texts(cleo, group)).slice(2), ['between', 'between, with new keys', 'after', 'also after']);
  for (const one of relay.members) assert.deepEqual(await codes(one, group), []);
  assert.ok((await rows(ada, group)).every((row) => row.kept === undefined));
});

test('[NEWCOM2] In every seeded order of joins, leaves, texts of two tabs and of two members, and new keys, each newcomer reads exactly what stands behind their joining.', async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const random = seeded(seed);
    const pick = (list) => list[Math.floor(random() * list.length)];
    const relay = new FakeRelay();
    const stores = [memoryStore(), memoryStore()];
    const [ada, ben] = [await relay.device(ADA, 1, { store: stores[0] }), await relay.device(BEN, 1, { store: stores[1] })];
    const group = await newFamily(relay, [ada, ben]);
    const tab = await relay.device(ADA, 1, { store: stores[0], publish: false, chainName: 'second' });
    // One reads for both tabs, as the page does: they share a store.
    relay.members = [ada, ben];
    const writers = [ada, tab, ben];
    /** @type {Map<string, {joined: number, member?: any}>} */
    const people = new Map();
    const said = [];
    let count = 0;
    const steps = {
      write: async () => {
        const who = pick(writers);
        if (random() < 0.7) await relay.deliver(who === tab ? ada : who, group);
        await say(who, group, `${seed}/${count}`);
        said.push(`${seed}/${count++}`);
      },
      renew: () => pick(writers).renewKeys(group),
      deliver: () => relay.deliver(pick([ada, ben]), group),
      join: async () => {
        const user = pick([CLEO, DORA].filter((one) => !people.has(one)));
        if (user) people.set(user, { joined: relay.join(group, user) });
      },
      leave: async () => {
        const [user, found] = pick([...people]) ?? [];
        if (!user || found.member || random() < 0.7) return;
        relay.leave(group, user);
        people.delete(user);
      },
      knock: async () => {
        const [user, found] = pick([...people].filter(([, one]) => !one.member)) ?? [];
        if (!user) return;
        found.member = await relay.device(user);
        await begin(group, ada, found.member);
        if (random() < 0.5) await found.member.flush(group);
      },
      answer: async () => {
        const [, found] = pick([...people].filter(([, one]) => one.member)) ?? [];
        if (!found) return;
        await relay.deliver(found.member, group);
        await say(found.member, group, `${seed}/${count}`);
        said.push(`${seed}/${count++}`);
      },
    };
    const names = ['write', 'write', 'write', 'write', 'renew', 'deliver', 'join', 'leave', 'knock', 'answer'];
    for (let step = 0; step < 40; step++) await steps[pick(names)]();
    for (const user of [CLEO, DORA]) {
      if (!people.has(user)) people.set(user, { joined: relay.join(group, user) });
      const found = people.get(user);
      if (!found.member) {
        found.member = await relay.device(user);
        await begin(group, ada, found.member);
      }
    }
    const all = [ada, ben, ...[...people.values()].map(({ member }) => member)];
    await relay.waitIdle(group, all);
    await tab.flush(group);
    await relay.waitIdle(group, all);
    assert.deepEqual(await texts(ada, group), await texts(ben, group), `seed ${seed}`);
    assert.equal((await texts(ada, group)).length, said.length, `seed ${seed}`);
    for (const [user, { joined, member }] of people) {
      const items = await member.items(group);
      for (const { seq, status } of items) assert.equal(status, seq > joined ? 'read' : 'waiting', `seed ${seed}: ${user}, ${seq}`);
      assert.equal(items.length, said.length);
      assert.deepEqual(await codes(member, group), [], `seed ${seed}`);
    }
  }
});

test('[NEWCOM3] A newcomer who never comes back delays nobody, is given nothing, and what was kept for them goes when they leave.', async () => {
  const { relay, members, group } = await family();
  const [ada, ben] = members;
  relay.join(group, CLEO);
  const joined = relay.groups.get(group).log.length;
  await relay.waitIdle(group);
  await say(ada, group, 'one');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['one']);
  assert.deepEqual(await ada.strangers(group), [CLEO]);
  assert.equal((await rows(ada, group)).flatMap(({ kept = [] }) => kept).length, 1);
  relay.leave(group, CLEO);
  await relay.waitIdle(group);
  assert.equal((await rows(ada, group)).flatMap(({ kept = [] }) => kept).length, 0);
  assert.ok(!givenTo(relay, group, joined).includes(CLEO));
});

test('[NEWCOM4] Keys of a newcomer go before the next text, also when their record comes while drafts are being sent.', async () => {
  const { relay, members, group } = await family();
  const [ada] = members;
  relay.join(group, CLEO);
  await relay.waitIdle(group);
  await say(ada, group, 'between');
  const cleo = await relay.device(CLEO);
  await relay.waitIdle(group, members);
  await begin(group, ada, cleo);
  const port = ada.cx.relay;
  let waiting = true;
  ada.cx.relay = {
    ...port,
    post: async (to, type, ...rest) => {
      if (type === 'new_message' && waiting) {
        waiting = false;
        await cleo.flush(group);
      }
      return port.post(to, type, ...rest);
    },
  };
  await say(ada, group, 'next');
  const types = relay.groups.get(group).log.map(({ type }) => type);
  assert.deepEqual(types.slice(-3), ['new_record', 'new_keys', 'new_message']);
  await relay.waitIdle(group);
  assert.deepEqual(await texts(cleo, group), ['between', 'next']);
  assert.deepEqual(
    givenTo(relay, group, 0).filter((user) => user === CLEO),
    [CLEO],
  );
});

test('[NEWCOM5] Chains are kept for a newcomer for 30 days, and the newest 64 of them.', async () => {
  const { relay, members, group } = await family();
  const [ada] = members;
  relay.join(group, CLEO);
  await relay.waitIdle(group);
  await say(ada, group, 'long ago');
  relay.now += KEPT_MS;
  await relay.waitIdle(group);
  for (let at = 0; at <= MAX_KEPT; at++) {
    await ada.renewKeys(group);
    await say(ada, group, `text ${at}`);
  }
  assert.equal((await rows(ada, group)).flatMap(({ kept = [] }) => kept).length, MAX_KEPT);
  const cleo = await relay.device(CLEO);
  await begin(group, ada, cleo);
  await relay.waitIdle(group);
  const read = await texts(cleo, group);
  assert.deepEqual(read.slice(0, 3), ['[waiting]', '[waiting]', 'text 1']);
  assert.equal(read.at(-1), `text ${MAX_KEPT}`);

  await relay.join(group, DORA);
  await relay.waitIdle(group);
  await say(ada, group, 'for Dora');
  relay.now += KEPT_MS;
  const dora = await relay.device(DORA);
  await begin(group, ada, dora);
  await relay.waitIdle(group);
  assert.equal((await texts(dora, group)).at(-1), '[waiting]');
});

test('[NEWCOM6] A person whose devices were revoked gets nothing that was written before they joined again.', async () => {
  const { relay, members, group } = await family([ADA, BEN, CLEO]);
  const [ada, ben, cleo] = members;
  await ada.revoke(group, CLEO, 0, { removed: true });
  await ada.flush(group);
  relay.leave(group, CLEO);
  await relay.waitIdle(group);
  await say(ada, group, 'without Cleo');
  relay.join(group, CLEO);
  await relay.waitIdle(group, [ada, ben]);
  await say(ada, group, 'she joined again');
  await relay.waitIdle(group, [ada, ben]);
  relay.members = [ada, ben];
  const again = await relay.device(CLEO, 2);
  await begin(group, ada, again);
  await relay.waitIdle(group);
  assert.deepEqual(await texts(again, group), ['[waiting]', 'she joined again']);
  assert.deepEqual(await texts(cleo, group), []);
  assert.ok((await codes(ada, group)).includes('returned_person'));
});

test('[NEWCOM7] What was kept for a newcomer and was lost in transit is given again from the same place when it is requested.', async () => {
  const { relay, members, group } = await family();
  const [ada] = members;
  await say(ada, group, 'before');
  relay.join(group, CLEO);
  await relay.waitIdle(group);
  await say(ada, group, 'between');
  const cleo = await relay.device(CLEO);
  await relay.waitIdle(group, members);
  await begin(group, ada, cleo);
  await cleo.flush(group);
  await relay.waitIdle(group, members);
  const { log } = relay.groups.get(group);
  const lost = log.map((event) => (event.type === 'new_keys' ? { ...event, data: { ...event.data, encrypted_envelope: 'AgA=' } } : event));
  await relay.deliver(cleo, group, lost);
  assert.deepEqual(await texts(cleo, group), ['[waiting]', '[waiting]']);
  cleo.caughtUp(group);
  await cleo.tick(group);
  relay.now += 3_000;
  await cleo.tick(group);
  await relay.waitIdle(group);
  assert.deepEqual(await texts(cleo, group), ['[waiting]', 'between']);
});

test('[NEWCOM8] A device that begins behind a person’s joining gives them what it writes before their record.', async () => {
  const { relay, members, group } = await family();
  const [ada] = members;
  for (const user of [CLEO, DORA]) relay.join(group, user);
  await relay.waitIdle(group);
  const { position, epoch } = await ada.group(group);
  const records = relay.groups
    .get(group)
    .log.filter(({ type }) => type === 'new_record')
    .map(({ seq, data }) => ({ seq, author: data.author_id, bytes: fromBase64(data.record) }));
  const cleo = await relay.device(CLEO);
  const { text, secretNumber } = await ada.invite(group);
  const start = { position, epoch, members: [ADA, BEN, CLEO, DORA], records };
  await cleo.join(group, readInvite(text), { inviter: ADA, secretNumber, start });
  await relay.waitIdle(group);
  await say(cleo, group, 'before the device of Dora');
  const dora = await relay.device(DORA);
  await relay.waitIdle(group, [...members, cleo]);
  await begin(group, ada, dora);
  await relay.waitIdle(group);
  assert.deepEqual((await texts(dora, group)).at(-1), 'before the device of Dora');
});
