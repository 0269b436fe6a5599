/** A proxy between the real server and a `CipherClient` lies, by a seeded script: what is detectable is detected each time. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient } from '../../javascript/src/all.js';
import { until } from '../../javascript/test/fake.js';
import { LyingProxy } from '../../javascript/test/liar.js';
import { Orbital, missing } from '../../javascript/test/orbital.js';
import { CipherClient, textOf } from '../src/cipher-client.js';
import { fromBase64, memoryStore, toBase64 } from '../src/index.js';
import { WITHHELD_MS } from '../src/repair.js';
import { newSigner, raised, seeded } from './people.js';

const SEED = Number(process.env.ORBITAL_SEED ?? 20_261_127);
const LIES = Number(process.env.ORBITAL_LIES ?? 120);
const GHOST = 'dddddddd-0000-4000-8000-00000000000d';
const TRUTH = ['first', 'second', 'reply 0', 'reply 1', 'reply 2', 'reply 3'];
const FAST = { steps_ms: [20], jitter_ms: 20, attempts: 1e6 };
const sha256 = (text) => createHash('sha256').update(text).digest('base64url');

/** Number and chain frames as the server would; those before the first change stay byte for byte. */
function chained(group, frames, texts) {
  let prev = sha256(group);
  return frames.map(({ type, data, server_timestamp = 1 }, at) => {
    const made = { type, data, server_timestamp, group_id: group, seq: at + 1, prev };
    const own = texts[at] && JSON.parse(texts[at]);
    const same = own && own.prev === prev && JSON.stringify([own.type, own.data]) === JSON.stringify([type, data]);
    const text = same ? texts[at] : JSON.stringify(made);
    prev = sha256(text);
    return text;
  });
}

describe('the real server behind a proxy that lies', { skip: missing }, () => {
  let orbital;
  let proxy;
  let world;
  before(async () => {
    orbital = await new Orbital().start();
    proxy = await new LyingProxy(orbital.port).listen();
    world = await newWorld();
  });
  after(async () => {
    await proxy?.close();
    await orbital.close();
  });

  async function open({ user, token, store, url = orbital.url }) {
    const sdk = new OrbitalClient(url, { token, verify: true, backoff: FAST });
    const client = await CipherClient.open(sdk, { store, user });
    return { user, token, store, sdk, client, device: client.device, close: async () => (await client.close(), sdk.close()) };
  }

  /** A family of three with two groups, and what each said. Cleo has not read the replies; Ada and Ben have, so that their heads say so. */
  async function newWorld() {
    const people = [];
    for (const name of ['ada', 'ben', 'cleo']) {
      const { user_id: user, token } = await new OrbitalClient(orbital.url).api.signup({
        username: name,
        password: 'Correct-horse-1',
        public_key: {},
      });
      people.push(await open({ user, token, store: memoryStore() }));
    }
    const [ada, ben, cleo] = people;
    const groups = [];
    for (let made = 0; made < 2; made++) {
      const { group_id: group } = await ada.sdk.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
      await ada.client.found(group);
      const opened = [await ada.client.group(group)];
      for (const one of [ben, cleo]) {
        const { invite_code } = await ada.sdk.api.newInviteCode(group);
        await one.sdk.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
        const { text } = await ada.device.invite(group);
        opened.push(await one.client.group(group, { invite: text }));
        for (const other of people.slice(0, opened.length))
          await until(async () => (await other.device.roster(group)).devices.length === opened.length, 'the roster has the person');
      }
      groups.push({ group, opened });
    }
    const [{ group, opened }, { group: other, opened: elsewhere }] = groups;
    const reads = (readers, text, where = group) =>
      until(async () => {
        for (const one of readers) if (!(await one.device.items(where)).some((item) => textOf(item) === text)) return false;
        return true;
      }, text);
    await elsewhere[0].send('from the other group');
    await reads(people, 'from the other group', other);
    await opened[0].send('first');
    await reads(people, 'first');
    await opened[1].send('second');
    await reads(people, 'second');
    await ada.sdk.api.createThread({ group_id: group, encrypted_title: 'AA==', encrypted_body: 'AA==' });
    const [thread] = (await ada.sdk.api.threads(group)).threads;
    const settled = async () =>
      new Set(await Promise.all(people.map(async ({ device }) => (await device.group(group)).position.seq))).size === 1;
    await until(settled, 'everybody has read the thread');
    await cleo.close();
    const snapshot = cleo.store.snapshot();
    const known = (await cleo.device.group(group)).position.seq;
    for (let round = 0; round < 4; round++) {
      await opened[round % 2].reply(thread.thread_id, `reply ${round}`);
      await reads([ada, ben], `reply ${round}`);
      await until(
        async () => (await ada.device.group(group)).position.seq === (await ben.device.group(group)).position.seq,
        'both have it',
      );
    }
    const { texts } = await ada.sdk.api.eventPage({ group_id: group, after_seq: 0 });
    const { texts: others } = await ada.sdk.api.eventPage({ group_id: other, after_seq: 0 });
    await ada.close();
    await ben.close();
    const log = texts.map((text) => JSON.parse(text));
    const said = log.flatMap(({ type }, at) => (type === 'new_reply' ? [at] : []));
    const foreign = JSON.parse(others.findLast((text) => JSON.parse(text).type === 'new_message')).data;
    const stranger = toBase64((await newSigner()).publicKey);
    return { ada, ben, cleo, group, texts, log, said, known, snapshot, foreign, stranger };
  }

  /** Edits of the log; each names the warnings of which one must be seen. */
  const LOG = {
    drop: (events, pick) => (events.splice(pick(world.said.slice(0, -1)), 1), ['two_histories']),
    repeat: (events, pick) => {
      const at = pick(world.said);
      events.splice(at + 1, 0, structuredClone(events[at]));
      return ['repeated'];
    },
    reorder: (events, pick) => {
      const at = pick(world.said.slice(0, -2));
      events.splice(at, 2, events[at + 1], events[at]);
      return ['two_histories'];
    },
    swap_thread: (events, pick) => ((events[pick(world.said)].data.thread_id = GHOST), ['misplaced']),
    change_author: (events, pick) => {
      const { data } = events[pick(world.said)];
      data.author_id = data.author_id === world.ada.user ? world.ben.user : world.ada.user;
      return ['wrong_sender'];
    },
    other_group: (events, pick) => {
      events.splice(pick(world.said), 0, { type: 'new_message', data: { ...world.foreign, conversation_id: world.group } });
      return ['misplaced'];
    },
    two_histories: (events, pick) => {
      events.splice(world.known, 0, { type: 'something_new', data: { marked: pick([1, 2, 3]) } });
      events.splice(pick(world.said.slice(0, -1)) + 1, 1);
      return ['two_histories'];
    },
    raise_s: (events, pick) => {
      const { data } = events[pick(world.said)];
      data.encrypted_body = raised(data.encrypted_body);
      return ['bad_signature'];
    },
    change_bytes: (events, pick) => {
      const { data } = events[pick(world.said)];
      const bytes = fromBase64(data.encrypted_body);
      bytes[pick(Array.from({ length: bytes.length - 35 }, (_, at) => 35 + at))] ^= 1 << pick([0, 1, 2, 3, 4, 5, 6, 7]);
      data.encrypted_body = toBase64(bytes);
      return ['bad_signature', 'unreadable', 'too_far_ahead'];
    },
    swapped_identity: (events, pick) => {
      const user_id = pick([world.ada.user, world.ben.user]);
      events.push({ type: 'identity_changed', data: { user_id, device_id: 1, change: 'identity', identity_key: world.stranger } });
      return ['identity_differs'];
    },
    ghost_member: (events) => {
      events.push({ type: 'member_joined', data: { user_id: GHOST, username: 'ghost' } });
      return [];
    },
    honest: () => [],
  };
  const codes = async (one) => (await one.device.warnings(world.group)).map(({ code }) => code);
  /** @returns Every post is answered as stored, and no event of it is ever shown. */
  const swallow = ({ method, path }) => {
    if (method !== 'POST' || /ticket|claims/.test(path)) return undefined;
    const ids = { message_id: GHOST, record_id: GHOST, keys_id: GHOST, reply_id: GHOST };
    return [201, { ...ids, seq: world.texts.length, server_timestamp: 1, created_at: '2026-01-01T00:00:00Z' }];
  };
  const post = async (victim, text) => {
    await victim.device.draft(world.group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from(text) }], {
      timestamp: 1,
    });
    await victim.device.flush(world.group);
  };
  const seen = (victim, ...wanted) => until(async () => (await codes(victim)).some((code) => wanted.includes(code)), `${wanted}`, 5_000);

  /** Lies in answers, to a victim that has read the log. */
  const ANSWERS = {
    ghost_device: async (victim, pick) => {
      proxy.change = (path, body) =>
        path === '/v1/keys/devices' ? { ...body, devices: [...body.devices, { ...body.devices[0], device_id: pick([2, 9, 127]) }] } : body;
      await victim.device.checkDirectory(world.group);
      await seen(victim, 'unknown_device');
    },
    swapped_directory: async (victim, pick) => {
      const user = pick([world.ada.user, world.ben.user]);
      const swapped = (one) => (one.user_id === user ? { ...one, identity_key: world.stranger } : one);
      proxy.change = (path, body) => (path === '/v1/keys/devices' ? { ...body, devices: body.devices.map(swapped) } : body);
      await victim.device.checkDirectory(world.group);
      await seen(victim, 'identity_differs');
    },
    swapped_bundle: async (victim, pick) => {
      const field = pick(['identity_key', 'hpke_pre_key']);
      const lie = (one) => ({
        ...one,
        [field]: field === 'identity_key' ? world.stranger : { ...one[field], signature: toBase64(new Uint8Array(64)) },
      });
      proxy.change = (path, body) => (path === '/v1/keys/claims' ? { ...body, bundles: body.bundles.map(lie) } : body);
      await victim.device.renewKeys(world.group);
      await post(victim, 'under no key').catch(() => {});
      await seen(victim, 'bad_bundle');
    },
    withheld_removal: async (victim, pick) => {
      await victim.device.revoke(world.group, pick([world.ada.user, world.ben.user]), 0, { removed: true });
      victim.device.cx.now = () => Date.now() + 2 * WITHHELD_MS;
      victim.device.caughtUp(world.group);
      await victim.device.tick(world.group);
      await seen(victim, 'withheld_removal');
    },
    withheld_post: async (victim) => {
      await post(victim, 'swallowed');
      victim.device.caughtUp(world.group);
      await victim.device.tick(world.group);
      await seen(victim, 'withheld_post');
    },
  };

  test(`[HOSTILE1] Behind a lying proxy each of ${LIES} seeded lies is detected by a CipherClient, and none is shown as a message.`, async (t) => {
    const random = seeded(SEED);
    const pick = (list) => list[Math.floor(random() * list.length)];
    const names = [...Object.keys(LOG), ...Object.keys(ANSWERS), 'rollback'];
    const counts = Object.fromEntries(names.map((name) => [name, 0]));
    for (let round = 0; round < LIES; round++) {
      const name = round < names.length ? names[round] : pick(names);
      counts[name]++;
      const where = `seed ${SEED}, lie ${round}: ${name}`;
      const events = world.log.map(({ type, data, server_timestamp }) => ({ type, data: structuredClone(data), server_timestamp }));
      const wanted = LOG[name]?.(events, pick) ?? [];
      const forged = chained(world.group, events, world.texts);
      proxy.lastSeq = world.texts.length;
      proxy.forged = new Map([[world.group, forged]]);
      proxy.answer = swallow;
      const victim = await open({ ...world.cleo, store: memoryStore(world.snapshot), url: proxy.url });
      if (name === 'rollback') {
        const back = 1 + Math.floor(random() * (world.known - 1));
        proxy.forged.set(world.group, world.texts.slice(0, world.known - back));
        proxy.stands = (_group, where) => ({ ...where, recovered: false });
      }
      try {
        const group = await victim.client.group(world.group);
        if (name === 'rollback') {
          let ended;
          const reading = async () => {
            for await (const item of group.messages()) assert.ok(TRUTH.includes(textOf(item)), where);
          };
          void reading().catch((error) => (ended = error.code));
          await until(() => ended === 'out_of_order', `${where}: ended with ${ended}`, 10_000);
        } else {
          await until(
            async () => (await victim.device.group(world.group)).position.seq >= forged.length,
            `${where}: the log is read`,
            10_000,
          );
          await ANSWERS[name]?.(victim, pick);
        }
        const found = await codes(victim);
        if (wanted.length)
          assert.ok(
            found.some((code) => wanted.includes(code)),
            `${where}: seen ${found}`,
          );
        if (name === 'ghost_member') assert.deepEqual(await victim.device.strangers(world.group), [GHOST], where);
        if (name === 'honest') assert.deepEqual(found, [], where);
        const read = (await victim.device.items(world.group))
          .filter(({ status, author }) => status === 'read' && author !== victim.user)
          .map(textOf);
        assert.ok(read.every((text) => TRUTH.includes(text)) && new Set(read).size === read.length, `${where}: shown ${read}`);
        if (found.includes('two_histories')) await assert.rejects(post(victim, 'x'), { code: 'stopped' }, where);
      } finally {
        await victim.close();
        Object.assign(proxy, { change: (_path, body) => body, stands: (_group, at) => at, answer: () => undefined });
      }
    }
    t.diagnostic(JSON.stringify(counts));
    assert.ok(Object.values(counts).every((count) => count > 0));
  });
});
