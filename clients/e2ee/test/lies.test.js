/** A relay that lies, by a seeded script: what is detectable is detected, each time, and no lie is shown as a message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBase64, memoryStore, readEnvelope, toBase64, toHex } from '../src/index.js';
import { ADA, BEN, CLEO, newSigner, raised, seeded } from './people.js';
import { FakeRelay, chained, codes, newFamily, reply, say, texts } from './relay.js';

const GHOST = 'dddddddd-0000-4000-8000-00000000000d';
const SEED = Number(process.env.ORBITAL_SEED ?? 20_261_126);
const LIES = 1000;

/** A family of three with two groups, and what each said. Every lie starts from a copy of the victim's store. */
async function newWorld() {
  const relay = new FakeRelay();
  const [ada, ben, cleo] = [await relay.device(ADA), await relay.device(BEN), await relay.device(CLEO)];
  const group = await newFamily(relay, [ada, ben, cleo]);
  const other = await newFamily(relay, [ada, ben, cleo]);
  await say(ada, other, 'from the other group');
  await relay.waitIdle(other);
  await say(ada, group, 'first');
  await say(ben, group, 'second');
  await relay.waitIdle(group);
  const known = relay.groups.get(group).log.length;
  const snapshot = cleo.store.snapshot();
  // What Cleo has not read yet: the lies are about it. Ben and Ada have, so that their heads say so.
  const thread = '11111111-2222-4333-8444-555555555555';
  for (let round = 0; round < 4; round++) {
    await reply(round % 2 ? ada : ben, group, thread, `reply ${round}`);
    await relay.waitIdle(group, [ada, ben]);
  }
  const log = relay.groups.get(group).log;
  const said = log.filter(({ type }) => type === 'new_reply').map(({ seq }) => seq - 1);
  return { relay, group, other, known, snapshot, log, said };
}

/** @type {Record<string, (world: any, pick: (list: any[]) => any, events: any[]) => any>} Edits of the log for one victim; each names what must be seen. */
const LOG_LIES = {
  drop: (world, pick, events) => (events.splice(pick(world.said.slice(0, -1)), 1), 'two_histories'),
  repeat: (world, pick, events) => {
    const at = pick(world.said);
    events.splice(at + 1, 0, structuredClone(events[at]));
    return 'repeated';
  },
  reorder: (world, pick, events) => {
    const at = pick(world.said.slice(0, -2));
    events.splice(at, 2, events[at + 1], events[at]);
    return 'two_histories';
  },
  swap_thread: (world, pick, events) => ((events[pick(world.said)].data.thread_id = GHOST), 'misplaced'),
  change_author: (world, pick, events) => {
    const { data } = events[pick(world.said)];
    data.author_id = data.author_id === ADA ? BEN : ADA;
    return 'wrong_sender';
  },
  other_group: (world, pick, events) => {
    const { data } = world.relay.groups.get(world.other).log.findLast(({ type }) => type === 'new_message');
    events.splice(pick(world.said), 0, { type: 'new_message', data: structuredClone(data) });
    return 'misplaced';
  },
  two_histories: (world, pick, events) => {
    // Another event under a number that Ada and Ben have seen: nothing in it is for this device.
    events.splice(world.known, 0, { type: 'something_new', data: { marked: pick([1, 2, 3]) } });
    events.splice(pick(world.said.slice(0, -1)) + 1, 1);
    return 'two_histories';
  },
  raise_s: (world, pick, events) => {
    const { data } = events[pick(world.said)];
    data.encrypted_body = raised(data.encrypted_body);
    return 'bad_signature';
  },
  change_bytes: (world, pick, events) => {
    const { data } = events[pick(world.said)];
    const bytes = fromBase64(data.encrypted_body);
    bytes[pick(Array.from({ length: bytes.length - 35 }, (_, at) => 35 + at))] ^= 1 << pick([0, 1, 2, 3, 4, 5, 6, 7]);
    data.encrypted_body = toBase64(bytes);
    return ['bad_signature', 'unreadable', 'too_far_ahead'];
  },
  ghost_member: (_world, _pick, events) => {
    events.push({ type: 'member_joined', data: { user_id: GHOST } });
    return 'stranger';
  },
  swapped_identity: (world, pick, events) => {
    events.push({
      type: 'identity_changed',
      data: { user_id: pick([ADA, BEN]), device_id: 1, change: 'identity', identity_key: world.strangerKey },
    });
    return 'identity_differs';
  },
};

test('[LIE1] Each of a thousand seeded manipulations of the log is detected, and none is shown as a message.', async () => {
  const world = await newWorld();
  world.strangerKey = toBase64((await newSigner()).publicKey);
  const random = seeded(SEED);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const truth = ['first', 'second', 'reply 0', 'reply 1', 'reply 2', 'reply 3'];
  const counts = {};
  for (let round = 0; round < LIES; round++) {
    const name = pick(Object.keys(LOG_LIES));
    const events = world.log.map(({ type, data }) => ({ type, data: structuredClone(data) }));
    const wanted = LOG_LIES[name](world, pick, events);
    const forged = chained(world.group, events);
    const relay = new FakeRelay();
    relay.groups = world.relay.groups;
    const victim = await relay.device(CLEO, 1, { store: memoryStore(world.snapshot), publish: false });
    await relay.deliver(victim, world.group, forged);
    const where = `seed ${SEED}, lie ${round}: ${name}`;
    const seen = await codes(victim, world.group);
    if (wanted === 'stranger') assert.deepEqual(await victim.strangers(world.group), [GHOST], where);
    else
      assert.ok(
        seen.some((code) => [wanted].flat().includes(code)),
        `${where}: seen ${seen}`,
      );
    const shown = (await texts(victim, world.group)).filter((text) => !text.startsWith('['));
    assert.ok(shown.every((text) => truth.includes(text)) && new Set(shown).size === shown.length, `${where}: shown ${shown}`);
    if (seen.includes('two_histories')) await assert.rejects(say(victim, world.group, 'x'), { code: 'stopped' });
    counts[name] = (counts[name] ?? 0) + 1;
  }
  assert.deepEqual(Object.keys(counts).sort(), Object.keys(LOG_LIES).sort(), 'every lie came up');
});

test('[LIE2] A rewound log is detected, and sending stops until the user decides.', async () => {
  const { relay, group, snapshot } = await newWorld();
  const cleo = await relay.device(CLEO, 1, { store: memoryStore(snapshot), publish: false });
  const { position } = await cleo.group(group);
  const old = relay.groups
    .get(group)
    .log.slice(0, position.seq - 1)
    .map(({ type, data }) => ({ type, data }));
  const rolled = chained(group, [...old, { type: 'something_new', data: {} }]);
  assert.equal(await cleo.receive(rolled.at(-1)), 'seen');
  assert.deepEqual(await codes(cleo, group), ['rolled_back']);
  await cleo.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from('x') }]);
  await assert.rejects(cleo.flush(group), { code: 'stopped' });
  await cleo.resume(group);
  await relay.deliver(cleo, group);
  await cleo.flush(group);
  await assert.rejects(cleo.receive({ ...rolled.at(-1), seq: 999 }), { code: 'out_of_order' });
});

test('[LIE3] A frame whose prev hash does not match is detected.', async () => {
  const { relay, group, snapshot, log, known } = await newWorld();
  const cleo = await relay.device(CLEO, 1, { store: memoryStore(snapshot), publish: false });
  await cleo.receive({ ...log[known], prev: log[0].hash });
  assert.deepEqual(await codes(cleo, group), ['broken_chain']);
});

test('[LIE4] Ghost members and ghost devices receive no keys; the directory is compared with the roster.', async () => {
  const relay = new FakeRelay();
  const [ada, ben] = [await relay.device(ADA), await relay.device(BEN)];
  const group = await newFamily(relay, [ada, ben]);
  const ghost = await relay.device(GHOST);
  relay.groups.get(group).members.add(GHOST);
  relay.append(group, 'member_joined', { user_id: GHOST });
  const extra = await relay.device(BEN, 9);
  relay.hooks.devices = (list) => [...list, { user: ADA, device: 1, identity: new Uint8Array(33), suites: 2, seenAt: 0 }];
  await relay.deliver(ada, group);
  await say(ada, group, 'for Ben');
  const given = relay.groups
    .get(group)
    .log.filter(({ type }) => type === 'new_keys')
    .flatMap(({ data }) => readEnvelope(fromBase64(data.encrypted_envelope)).keys.deliveries);
  assert.deepEqual(
    given.map(({ user, device }) => [user, device]),
    [[BEN, 1]],
  );
  assert.deepEqual(await ada.strangers(group), [GHOST]);
  const found = await ada.checkDirectory(group);
  assert.deepEqual(found, {
    strangers: [
      { user: GHOST, device: 1 },
      { user: BEN, device: 9 },
    ],
    differing: [{ user: ADA, device: 1 }],
  });
  assert.ok((await codes(ada, group)).includes('unknown_device'));
  assert.ok(toHex(await ghost.identity()) !== toHex(await extra.identity()));
});

test('[LIE5] Swapped identity keys and unsigned or swapped pre-keys in the directory get no keys and a warning; other devices get keys.', async () => {
  const mallory = await newSigner();
  const lies = {
    bad_key: (bundle) => ({ ...bundle, identity: mallory.publicKey }),
    bad_signature: (bundle) => ({ ...bundle, hpkePreKey: { ...bundle.hpkePreKey, signature: new Uint8Array(64) } }),
    not_found: ({ hpkePreKey: _, ...bundle }) => bundle,
  };
  for (const [reason, lie] of Object.entries(lies)) {
    const relay = new FakeRelay();
    const [ada, ben, cleo] = [await relay.device(ADA), await relay.device(BEN), await relay.device(CLEO)];
    const group = await newFamily(relay, [ada, ben, cleo]);
    relay.hooks.bundle = (bundle) => (bundle.user === BEN ? lie(bundle) : bundle);
    await say(ada, group, 'true');
    await relay.waitIdle(group);
    const [warning] = await ada.warnings(group);
    assert.deepEqual([warning.code, warning.user, warning.details.reason], ['bad_bundle', BEN, reason]);
    assert.deepEqual(await texts(cleo, group), ['true']);
    assert.deepEqual(await texts(ben, group), ['[waiting]']);
  }
});

test('[LIE6] A removal or a post that the server withholds is detected after a minute.', async () => {
  const relay = new FakeRelay();
  const [ada, ben] = [await relay.device(ADA), await relay.device(BEN)];
  const group = await newFamily(relay, [ada, ben]);
  await ada.revoke(group, BEN, 0, { removed: true });
  await relay.waitIdle(group);
  ada.caughtUp(group);
  await ada.tick(group);
  assert.deepEqual(await codes(ada, group), []);
  relay.now += 60_000;
  await ada.tick(group);
  assert.deepEqual(await codes(ada, group), ['withheld_removal']);
  await say(ada, group, 'swallowed');
  const log = relay.groups.get(group).log;
  log[log.length - 1] = { ...log.at(-1), type: 'something_new', data: {} };
  await relay.deliver(ada, group);
  await ada.tick(group);
  assert.ok((await codes(ada, group)).includes('withheld_post'));
});

test('[LIE7] With all one-time keys used up the last-resort key is used: all messages are readable, and the keys are refilled.', async () => {
  const relay = new FakeRelay();
  const [ada, ben] = [await relay.device(ADA), await relay.device(BEN)];
  relay.directory.get(`${BEN}/1`).hpkePreKeys = [];
  const group = await newFamily(relay, [ada, ben]);
  await say(ada, group, 'one');
  await ada.renewKeys(group);
  await say(ada, group, 'two');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['one', 'two']);
  assert.equal(relay.lastResorts, 2);
  await ben.publishKeys(3);
  assert.equal(relay.directory.get(`${BEN}/1`).hpkePreKeys.length, 3);
});

test('[LIE8] Keys that are replayed, sent to another group, or sent under another name are never decrypted.', async () => {
  const relay = new FakeRelay();
  const [ada, ben] = [await relay.device(ADA), await relay.device(BEN)];
  const [group, other] = [await newFamily(relay, [ada, ben]), await newFamily(relay, [ada, ben])];
  await say(ada, group, 'true');
  const { data } = relay.groups.get(group).log.find(({ type }) => type === 'new_keys');
  await relay.waitIdle(group);
  relay.append(group, 'new_keys', data);
  relay.append(other, 'new_keys', data);
  await relay.deliver(ben, group);
  await relay.deliver(ben, other);
  assert.deepEqual(await codes(ben, group), ['unreadable_keys']);
  assert.deepEqual(await codes(ben, other), ['unreadable_keys']);
  assert.deepEqual(await texts(ben, group), ['true']);
});

test('[LIE9] A member who distributes another member’s chain as an own chain is refused.', async () => {
  const relay = new FakeRelay();
  const [ada, ben, cleo] = [await relay.device(ADA), await relay.device(BEN), await relay.device(CLEO)];
  const group = await newFamily(relay, [ada, ben, cleo]);
  await say(ada, group, 'by Ada');
  await relay.waitIdle(group);
  const [, pinned] = (await ben.store.list('distributions', '')).find(([, row]) => row.user === ADA);
  // biome-ignore format: a list is read across the line
  await ben.store.commit([{ table: 'outbox', key: `${group}/service/0000000000009999`, value: {
    kind: 'deliver', id: 'stolen', to: cleo.me, identity: toHex(await cleo.identity()), skdm: pinned.skdm, history: [], secret: false, notBefore: 0,
  } }], true);
  await ben.flush(group);
  await relay.deliver(cleo, group);
  assert.deepEqual(await codes(cleo, group), ['stolen_distribution']);
});
