/** A proxy between the real server and a `CipherClient` lies, by a seeded script: what is detectable is detected each time. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient } from '../../javascript/src/all.js';
import { until } from '../../javascript/test/fake.js';
import { LyingProxy } from '../../javascript/test/liar.js';
import { Orbital, missing } from '../../javascript/test/orbital.js';
import { CipherClient, textOf } from '../src/cipher-client.js';
import { memoryStore, toBase64 } from '../src/index.js';
import { WITHHELD_MS } from '../src/repair.js';
import { newSigner } from './people.js';
import { GHOST, NAMES, Script, TRUTH } from './proxy-lies.js';

const SEED = Number(process.env.ORBITAL_SEED ?? 20_261_127);
const LIES = Number(process.env.ORBITAL_LIES ?? 120);
const FAST = { steps_ms: [20], jitter_ms: 20, attempts: 1e6 };

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
    await opened[1].annotate(thread.thread_id, thread.thread_id, { kind: 'reaction', text: 'x' });
    await until(async () => (await ada.client.device.items(group)).at(-1).type === 'new_annotation', 'the annotation is read');
    const { texts } = await ada.sdk.api.eventPage({ group_id: group, after_seq: 0 });
    const { texts: others } = await ada.sdk.api.eventPage({ group_id: other, after_seq: 0 });
    await ada.close();
    await ben.close();
    const stranger = toBase64((await newSigner()).publicKey);
    return { cleo, snapshot, group, texts, elsewhere: others, others: [ada.user, ben.user], known, stranger };
  }

  const codes = async (one) => (await one.device.warnings(world.group)).map(({ code }) => code);
  const post = async (victim, text) => {
    await victim.device.draft(world.group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from(text) }], {
      timestamp: 1,
    });
    await victim.device.flush(world.group);
  };

  /** What the victim does when it has read the log; the lies name them. */
  const ACTS = {
    check_directory: (victim) => victim.device.checkDirectory(world.group),
    renew_and_post: async (victim) => {
      await victim.device.renewKeys(world.group);
      await post(victim, 'under no key').catch(() => {});
    },
    revoke: async (victim, user) => {
      await victim.device.revoke(world.group, user, 0, { removed: true });
      victim.device.cx.now = () => Date.now() + 2 * WITHHELD_MS;
      victim.device.caughtUp(world.group);
      await victim.device.tick(world.group);
    },
    post: async (victim) => {
      await post(victim, 'swallowed');
      victim.device.caughtUp(world.group);
      await victim.device.tick(world.group);
    },
  };

  test(`[HOSTILE1] Behind a lying proxy each of ${LIES} seeded lies is detected by a CipherClient, and none is shown as a message.`, async (t) => {
    const script = new Script(proxy, world, SEED);
    const counts = Object.fromEntries(NAMES.map((name) => [name, 0]));
    for (let count = 0; count < LIES; count++) {
      const { round, name, wanted, length, act, user } = script.next();
      counts[name]++;
      const where = `seed ${SEED}, lie ${round}: ${name}`;
      const victim = await open({ ...world.cleo, store: memoryStore(world.snapshot), url: proxy.url });
      try {
        const group = await victim.client.group(world.group);
        if (name === 'rollback') {
          let ended;
          const reading = async () => {
            for await (const item of group.messages()) assert.ok(TRUTH.includes(textOf(item)), where);
          };
          void reading().catch((error) => (ended = error.code));
          await until(() => ended === 'out_of_order', `${where}: ended with ${ended}`, 60_000);
        } else {
          const read = async () => (await victim.device.group(world.group)).position.seq >= length;
          await until(read, `${where}: the log is read`, 60_000);
          if (act) await ACTS[act](victim, user);
        }
        if (wanted.length) {
          const seen = async () => (await codes(victim)).some((code) => wanted.includes(code));
          await until(seen, `${where}: ${wanted}`, 60_000);
        }
        const found = await codes(victim);
        if (name === 'ghost_member') assert.deepEqual(await victim.device.strangers(world.group), [GHOST], where);
        if (name === 'honest') assert.deepEqual(found, [], where);
        const read = (await victim.device.items(world.group))
          .filter(({ type, status, author }) => type !== 'new_annotation' && status === 'read' && author !== victim.user)
          .map(textOf);
        assert.ok(read.every((text) => TRUTH.includes(text)) && new Set(read).size === read.length, `${where}: shown ${read}`);
        if (found.includes('two_histories')) await assert.rejects(post(victim, 'x'), { code: 'stopped' }, where);
      } finally {
        await victim.close();
      }
    }
    t.diagnostic(JSON.stringify(counts));
    assert.ok(Object.values(counts).every((count) => count > 0));
  });
});
