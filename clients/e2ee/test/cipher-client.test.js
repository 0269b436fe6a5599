/** `CipherClient` over `@orbital-relay/client`, against the real server: who reads what, and what survives. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient } from '../../javascript/src/all.js';
import { until } from '../../javascript/test/fake.js';
import { Orbital, missing } from '../../javascript/test/orbital.js';
import { missingDriver } from '../scripts/build-driver.js';
import { CipherClient, textOf } from '../src/cipher-client.js';
import { HPKE_STOCK, memoryStore, toHex } from '../src/index.js';
import { betterSqlite, sqlcipherStore } from '../src/stores/sqlcipher.js';

const noDriver = missingDriver() ?? false;
if (noDriver && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(noDriver);
const FAST = { steps_ms: [20], jitter_ms: 20, attempts: 1e6 };

describe('the real server', { skip: missing }, () => {
  let orbital;
  let folder;
  let Database;
  let names = 0;
  before(async () => {
    orbital = await new Orbital().start();
    folder = mkdtempSync(join(tmpdir(), 'orbital-cipher-'));
    if (!noDriver) Database = (await import('better-sqlite3-multiple-ciphers')).default;
  });
  after(async () => {
    await orbital.close();
    rmSync(folder, { recursive: true });
  });

  /** An account. */
  async function person() {
    const name = `person${++names}`;
    const api = new OrbitalClient(orbital.url).api;
    const { user_id, token } = await api.signup({ username: name, password: 'Correct-horse-1', public_key: {} });
    return { name, user: user_id, token };
  }

  /** A device of a person: an open SDK client with what encrypts on top. */
  async function at({ user, token }, t, { store = memoryStore(), ...options } = {}) {
    const sdk = new OrbitalClient(orbital.url, { token, verify: true, backoff: FAST });
    const violations = [];
    sdk.on('violation', (one) => violations.push(one));
    const client = await CipherClient.open(sdk, { store, user, ...options });
    const one = { user, sdk, client, device: client.device, store, violations, read: [] };
    one.close = async () => {
      await client.close();
      sdk.close();
      await store.close();
    };
    t.after(one.close);
    return one;
  }

  /** Open a group, and collect what it yields. */
  async function follow(one, group, options) {
    one.group = await one.client.group(group, options);
    one.reading = (async () => {
      for await (const item of one.group.messages()) one.read.push(textOf(item));
    })();
    // Looked at where a test expects an end.
    one.reading.catch(() => {});
  }

  const newGroup = async (founder, t, options) => {
    const ada = await at(founder, t, options);
    const { group_id: group } = await ada.sdk.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
    await ada.client.found(group);
    await follow(ada, group);
    return { ada, group };
  };

  const knows = (one, group, user) => async () => (await one.device.roster(group)).devices.some((device) => device.user === user);

  /** A person joins on the server and by the invite of a member; returns when the inviter has it in its roster. */
  async function enter(inviter, group, who, t, { read = true, ...options } = {}) {
    const { invite_code } = await inviter.sdk.api.newInviteCode(group);
    const one = await at(who, t, options);
    await one.sdk.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
    const { text, secretNumber } = await inviter.device.invite(group);
    if (read) await follow(one, group, { invite: text, secretNumber });
    else one.group = await one.client.group(group, { invite: text, secretNumber });
    await until(knows(inviter, group, who.user), 'the roster has the person');
    return one;
  }

  const has = (one, ...texts) =>
    until(() => {
      assert.ok(one.read.length <= texts.length, `${one.read}`);
      return JSON.stringify(one.read) === JSON.stringify(texts);
    }, `${texts}`);
  const statuses = async (one, group) => (await one.device.items(group)).map((item) => textOf(item) || `[${item.status}]`);
  const codes = async (one, group) => (await one.device.warnings(group)).map(({ code }) => code);

  /** @type {[string, string | false, (name: string) => any][]} */
  const stores = [
    ['memory', false, () => memoryStore()],
    [
      'SQLCipher',
      noDriver,
      (name) => sqlcipherStore(betterSqlite(Database, join(folder, `${name}.db`)), crypto.getRandomValues(new Uint8Array(32))),
    ],
  ];
  for (const [kind, skip, make] of stores)
    test(`[JSBOT1] Three members with stores in ${kind} read each other’s messages, threads and replies once; a late joiner reads from its joining on.`, {
      skip,
    }, async (t) => {
      const { ada, group } = await newGroup(await person(), t, { store: make(`ada${names}`) });
      const ben = await enter(ada, group, await person(), t, { store: make(`ben${names}`) });
      const cleo = await enter(ada, group, await person(), t, { store: make(`cleo${names}`) });
      await ada.group.send('the canary sings');
      await has(ben, 'the canary sings');
      await has(cleo, 'the canary sings');
      await ben.group.openThread('Sunday', 'Who cooks?');
      await has(ada, 'Sunday');
      const { thread_id } = (await ada.device.items(group)).at(-1).data;
      await cleo.group.reply(thread_id, 'I do.');
      await has(ada, 'Sunday', 'I do.');
      await has(ben, 'the canary sings', 'I do.');
      const dora = await enter(ada, group, await person(), t, { store: make(`dora${names}`) });
      await ben.group.send('welcome');
      await has(dora, 'welcome');

      assert.deepEqual(await statuses(dora, group), ['[waiting]', '[waiting]', '[waiting]', 'welcome']);
      for (const one of [ada, ben, cleo, dora]) {
        assert.deepEqual(await codes(one, group), []);
        assert.deepEqual(one.violations, []);
        assert.deepEqual(await one.device.strangers(group), []);
        assert.deepEqual(await one.device.checkDirectory(group), { strangers: [], differing: [] });
        await until(async () => (await one.device.pending(group)) === 0, 'what was drafted came back');
      }
      const { digits } = await ada.device.safetyNumber(group, ben.user);
      assert.equal(digits, (await ben.device.safetyNumber(group, ada.user)).digits);
      const files = [folder, orbital.folder].flatMap((place) =>
        readdirSync(place, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => readFileSync(join(entry.parentPath, entry.name))),
      );
      assert.ok(files.length > 1);
      assert.ok(!Buffer.concat(files).includes('canary'));
      assert.ok(!orbital.lines.join('\n').includes('canary'));
    });

  test('[JSBOT2] After a removal the chain is another one, and the removed member reads no further message.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    const ben = await enter(ada, group, await person(), t);
    const cleo = await enter(ada, group, await person(), t);
    await ada.group.send('all three');
    await has(cleo, 'all three');
    await ben.group.send('from Ben');
    await has(cleo, 'all three', 'from Ben');
    const keys = async () => (await ada.sdk.api.keyMessages({ group_id: group })).events.length;
    const before = await keys();
    await ada.device.revoke(group, cleo.user, 0, { removed: true });
    await ada.device.flush(group);
    await ada.sdk.api.removeMember(group, cleo.user);
    await assert.rejects(cleo.reading, { code: 'FORBIDDEN' });
    await ada.group.send('without Cleo');
    await ben.group.send('without Cleo, too');
    await has(ben, 'all three', 'without Cleo');
    await has(ada, 'from Ben', 'without Cleo, too');

    assert.equal(await keys(), before + 2);
    assert.deepEqual(await statuses(cleo, group), ['all three', 'from Ben']);
    assert.deepEqual((await ada.device.group(group)).removals, []);
    // What the removed device has does not open what was stored behind its removal.
    const { events } = await ada.sdk.api.events({ group_id: group, after_seq: (await cleo.device.group(group)).position.seq });
    let { hash } = (await cleo.device.group(group)).position;
    for (const { type, data, group_id, seq } of events) {
      const event = { type, data, group_id, seq, prev: hash, hash: `${String(seq).padStart(43, 'A')}` };
      ({ hash } = event);
      await cleo.device.receive(event);
    }
    assert.deepEqual(await statuses(cleo, group), ['all three', 'from Ben', '[waiting]', '[waiting]']);
  });

  test('[JSBOT3] A reinstalled device is warned of and held; after it was accepted it is read, and reads.', async (t) => {
    const [anna, benno] = [await person(), await person()];
    const { ada, group } = await newGroup(anna, t);
    const ben = await enter(ada, group, benno, t);
    await ada.group.send('old');
    await has(ben, 'old');
    await ben.close();
    const again = await at(benno, t, { device: 1 });
    const { text, secretNumber } = await ada.device.invite(group);
    await follow(again, group, { invite: text, secretNumber });
    await until(async () => (await codes(ada, group)).length === 2, 'Ada is warned');
    assert.deepEqual((await codes(ada, group)).sort(), ['held_device', 'identity_differs']);
    await again.group.send('from the reinstalled device');
    await until(async () => (await statuses(ada, group)).length === 2, 'it is in the log');
    assert.deepEqual(await statuses(ada, group), ['old', '[waiting]']);
    assert.deepEqual(ada.read, []);
    const identity = await again.device.identity();
    const { warnings } = await ada.device.roster(group);
    assert.equal(toHex(warnings.find(({ code }) => code === 'held_device').identity), toHex(identity));
    await ada.device.accept(group, again.user, 1, identity);
    await ada.group.send('welcome back');
    await has(ada, 'from the reinstalled device');
    await until(async () => again.read.includes('welcome back'), 'it reads');
    assert.deepEqual(again.read, ['welcome back']);
  });

  test('[JSBOT4] A message counts as handled when the next is asked for, or with its answer; positions and drafts survive a restart.', {
    skip: noDriver,
  }, async (t) => {
    const key = crypto.getRandomValues(new Uint8Array(32));
    const open = () => sqlcipherStore(betterSqlite(Database, join(folder, 'restart.db')), key);
    const { ada, group } = await newGroup(await person(), t);
    const benno = await person();
    let ben = await enter(ada, group, benno, t, { store: open(), read: false });
    await ada.group.send('one');
    const { value } = await ben.group.messages().next();
    assert.equal(textOf(value), 'one');
    await ben.close();
    await ada.group.send('two');
    ben = await at(benno, t, { store: open() });
    ben.group = await ben.client.group(group);
    const seen = [];
    for await (const item of ben.group.messages()) {
      seen.push(textOf(item));
      await ben.group.send(`you said ${textOf(item)}`, { answering: item });
      if (seen.length === 2) break;
    }
    // What was yielded last before the restart was not counted as handled.
    assert.deepEqual(seen, ['one', 'two']);
    await has(ada, 'you said one', 'you said two');
    await ben.close();
    ben = await at(benno, t, { store: open() });
    await follow(ben, group);
    await ada.group.send('three');
    await has(ben, 'three');
    assert.deepEqual(await codes(ben, group), []);
  });

  test('[JSBOT5] A draft of before a change of members is encrypted again for the new members, and sent once.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    const ben = await enter(ada, group, await person(), t);
    await ada.group.send('one');
    await has(ben, 'one');
    const posts = [];
    const { postMessage } = ada.sdk.api;
    const cleo = await person();
    let joined;
    // Between sealing and posting a person joins: the server refuses the post for the former epoch.
    ada.sdk.api = new Proxy(ada.sdk.api, {
      get: (api, name) =>
        name !== 'postMessage'
          ? api[name]
          : async (body, options) => {
              if (!joined) {
                joined = at(cleo, t);
                const { invite_code } = await api.newInviteCode(group);
                await (await joined).sdk.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
              }
              const answer = await postMessage(body, options).then(
                () => 'stored',
                ({ code }) => code,
              );
              posts.push([answer, options.key, body.if_epoch]);
              return postMessage(body, options);
            },
    });
    const rewired = await CipherClient.open(ada.sdk, { store: ada.store, user: ada.user, chainName: 'second' });
    t.after(() => rewired.close());
    await ada.client.close();
    const again = await rewired.group(group);
    await again.send('two');
    await has(ben, 'one', 'two');
    assert.deepEqual(
      posts.map(([answer]) => answer),
      ['EPOCH_CHANGED', 'stored'],
    );
    assert.equal(posts[0][1], posts[1][1]);
    assert.ok(posts[0][2] < posts[1][2]);
    assert.deepEqual(await codes(ben, group), []);
  });

  test('[JSBOT6] A device refills its one-time keys when the server reports that they run low, and offers them once.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    const ben = await enter(ada, group, await person(), t);
    const stock = async () => (await ada.sdk.api.keyCounts())[0].hpke_pre_keys;
    const wanted = [{ user_id: ada.user, device_id: 1, suite: 16 }];
    for (let left = await stock(); left >= 10; left--) await ben.sdk.api.claimKeys(group, wanted);
    await until(async () => (await stock()) === HPKE_STOCK, 'the stock is full again');
    const again = await at(ada, t, { store: ada.store });
    assert.equal(await stock(), HPKE_STOCK);
    assert.notEqual(await again.device.publishedAt(), null);
  });

  test('[JSBOT7] Without an invite an unknown group is not joined; what is not an invite, and a client without hashes, are named in the error.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    const stranger = await at(await person(), t);
    await assert.rejects(stranger.client.group(group), { code: 'not_found' });
    await assert.rejects(stranger.client.group(group, { invite: 'nonsense' }), { code: 'malformed', message: /43 letters/ });
    const blind = new OrbitalClient(orbital.url, { token: (await person()).token });
    t.after(() => blind.close());
    const { group_id: own } = await blind.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
    const client = await CipherClient.open(blind, { store: memoryStore(), user: (await blind.api.members(own))[0].user_id });
    await client.found(own);
    const cipher = await client.group(own);
    await assert.rejects(cipher.messages().next(), { code: 'unsupported', message: /verify: true/ });
    await cipher.close();
    assert.deepEqual(await codes(ada, group), []);
  });

  test('[JSFILE1] A store gets the next free number of its user’s devices and keeps it, also when the answer of the directory was lost.', async (t) => {
    const anna = await person();
    const store = memoryStore();
    const lost = new OrbitalClient(orbital.url, { token: anna.token, verify: true });
    t.after(() => lost.close());
    lost.api = new Proxy(lost.api, {
      get: (api, name) =>
        name !== 'publishKeys'
          ? api[name]
          : async (...args) => {
              await api.publishKeys(...args);
              throw new Error('the answer is lost');
            },
    });
    await assert.rejects(CipherClient.open(lost, { store, user: anna.user }), /is lost/);
    const numbers = [];
    for (const one of [store, memoryStore(), store]) numbers.push((await at(anna, t, { store: one })).device.me.device);
    assert.deepEqual(numbers, [1, 2, 1]);
    const listed = await (await at(anna, t, { store })).sdk.api.keyCounts();
    assert.deepEqual(
      listed.map(({ device_id }) => device_id),
      [1, 2],
    );
  });

  const song = () => new File(['the canary sings '.repeat(1000)], 'song.txt', { type: 'text/plain' });

  test('[JSFILE2] A file goes to a thread under a key of its own; members open it with its name and type, and the server has neither.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    const ben = await enter(ada, group, await person(), t);
    await ada.group.openThread('Music', 'Listen.');
    await until(async () => (await ben.device.items(group)).length === 1, 'Ben has the thread');
    const [{ data }] = await ben.device.items(group);
    const mediaId = await ben.group.sendFile(data.thread_id, song());
    await until(async () => (await ada.device.items(group)).length === 2, 'Ada has the file');
    const [thread, item] = await ada.device.items(group);
    assert.deepEqual([item.type, item.status, item.data.media_id, item.author], ['media_uploaded', 'read', mediaId, ben.user]);
    const { info, blob } = await ada.group.fetchFile(item);
    assert.deepEqual([info.name, info.type, await blob.text()], ['song.txt', 'text/plain', await song().text()]);
    await assert.rejects(async () => ada.group.fetchFile(thread), { code: 'not_found' });
    const { blob: stored } = await ada.sdk.downloadMedia(mediaId);
    assert.ok(!Buffer.from(await stored.arrayBuffer()).includes('canary'));
    await ada.sdk.api.deleteMedia(mediaId).catch(() => {});
    await ben.sdk.api.deleteMedia(mediaId).catch(() => {});
    await assert.rejects(ada.group.fetchFile(item), { code: 'GONE' });
    assert.deepEqual([await codes(ada, group), await codes(ben, group)], [[], []]);
  });

  test('[JSFILE3] A file whose upload met a change of members is sealed for the new members, also when its first upload could not be deleted.', async (t) => {
    const { ada, group } = await newGroup(await person(), t);
    await ada.group.openThread('Music', 'Listen.');
    await until(async () => (await ada.device.items(group)).length === 1, 'the thread is there');
    const [{ data }] = await ada.device.items(group);
    const cleo = await person();
    let joined;
    const sent = [];
    const { uploadMedia } = ada.sdk;
    ada.sdk.uploadMedia = async (options) => {
      joined ??= await enter(ada, group, cleo, t);
      const answer = await uploadMedia.call(ada.sdk, options).catch((error) => error);
      sent.push(answer.code ?? 'stored');
      if (answer.code) throw answer;
      return answer;
    };
    let failures = 1;
    ada.sdk.api = new Proxy(ada.sdk.api, {
      get: (api, name) =>
        name !== 'deleteMedia'
          ? api[name]
          : async (id) => {
              if (failures-- > 0) throw Object.assign(new Error('no network'), { retryable: true });
              return api.deleteMedia(id);
            },
    });
    await ada.group.sendFile(data.thread_id, song());
    await until(async () => (await joined?.device.items(group))?.at(-1)?.status === 'read', 'Cleo reads the file');
    assert.deepEqual(sent, ['EPOCH_CHANGED', 'INVALID_CHUNK', 'stored']);
    const item = (await joined.device.items(group)).at(-1);
    const { blob } = await joined.group.fetchFile(item);
    assert.equal(await blob.text(), await song().text());
    await until(async () => (await ada.device.pending(group)) === 0, 'the file came back');
    assert.equal((await ada.device.items(group)).filter(({ type }) => type === 'media_uploaded').length, 1);
    assert.deepEqual([await codes(ada, group), await codes(joined, group)], [[], []]);
  });

  /** A server that forgets events after a second. */
  const forgetful = async (t) => {
    const kept = orbital;
    orbital = await new Orbital({ ORBITAL_RETENTION_DAYS: String(1 / 86_400), ORBITAL_PRUNE_SECONDS: '1' }).start();
    const own = orbital;
    t.after(() => {
      orbital = kept;
      return own.close();
    });
  };
  const forgotten = (one, group, after) =>
    until(
      () =>
        one.sdk.api.events({ group_id: group, after_seq: after }).then(
          () => false,
          ({ code }) => code === 'GONE',
        ),
      'the server has forgotten',
      30_000,
    );

  test('[LOGGAP1] A group whose first events the server no longer keeps is joined by its link, and a later joiner reads and is read from then on.', async (t) => {
    await forgetful(t);
    const { ada, group } = await newGroup(await person(), t);
    await ada.group.send('old');
    await until(async () => (await ada.device.pending(group)) === 0, 'it came back');
    await forgotten(ada, group, 0);
    const ben = await enter(ada, group, await person(), t);
    await until(knows(ben, group, ada.user), 'Ben has the roster');
    await ada.group.send('new');
    await has(ben, 'new');
    await ben.group.send('from Ben');
    await has(ada, 'from Ben');
    assert.deepEqual((await ben.device.roster(group)).founder, ada.user);
    assert.deepEqual([await codes(ada, group), await codes(ben, group)], [[], []]);
  });

  test('[LOGGAP2] A device that was away for longer than events are kept warns of the gap and continues behind it; what it knew of the roster stays.', async (t) => {
    await forgetful(t);
    const anna = await person();
    const { ada, group } = await newGroup(anna, t);
    const ben = await enter(ada, group, await person(), t);
    const cleo = await enter(ada, group, await person(), t);
    await ada.group.send('one');
    await has(ben, 'one');
    await until(async () => (await ada.device.pending(group)) === 0, 'it came back');
    await ada.client.close();
    const { position } = await ada.device.group(group);
    await cleo.device.revoke(group, cleo.user);
    await cleo.device.flush(group);
    await cleo.sdk.api.removeMember(group, cleo.user);
    await ben.group.send('in the gap');
    await until(async () => (await ben.device.pending(group)) === 0, 'it came back');
    await forgotten(ben, group, position.seq);

    const back = await at(anna, t, { store: ada.store });
    await follow(back, group);
    await until(async () => (await codes(back, group)).length, 'the gap is noticed');
    assert.deepEqual(await codes(back, group), ['gap']);
    assert.equal(await knows(back, group, cleo.user)(), false);
    await ben.group.send('behind the gap');
    await has(back, 'behind the gap');
    await back.group.send('back again');
    await has(ben, 'one', 'back again');
    const { epoch } = await back.device.group(group);
    const start = { epoch, members: [], records: [], position: { seq: position.seq, hash: '' } };
    await assert.rejects(back.device.skipTo(group, start), { code: 'out_of_order', message: /older log/ });
    assert.deepEqual([await codes(back, group), await codes(ben, group)], [['gap'], []]);
  });
});
