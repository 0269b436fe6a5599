/** Groups of version 2 in the page's model, with the bundle that the page loads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cipher } from '../js/model/cipher.js';
import { FakeServer } from './fake-server.js';
import { until } from './fakes.js';

/** @typedef {import('../js/model/cipher-outbox.js').Draft} Draft */

const ADA = 'aaaaaaaa-0000-4000-8000-00000000000a';
const BEN = 'bbbbbbbb-0000-4000-8000-00000000000b';

/** A member's page. */
class Tab {
  /** @type {Draft[]} */
  drafts = [];
  /** @type {string[]} Ids of what became readable, in that order. */
  read = [];
  /** @type {any[]} */
  sent = [];

  /** @param {FakeServer} server @param {string} user @param {any} [store] */
  constructor(server, user, store) {
    this.server = server;
    this.user = user;
    /** @type {any} Of the device; another run of the page gets it. */
    this.store = store;
    this.cipher = new Cipher(
      {
        client: server.client(user),
        userId: user,
        files: { get: async () => undefined, set: async () => {}, delete: async () => {} },
        progress: () => {},
        signal: () => undefined,
        store: async (library) => (this.store ??= library.memoryStore()),
      },
      {
        read: (_group, { data }) => this.read.push(data.reply_id ?? data.thread_id),
        drafts: (_group, drafts) => {
          this.drafts = drafts;
        },
        sent: (key, answer) => this.sent.push([key, answer.reply_id ?? answer.thread_id]),
        changed: () => {},
      },
    );
  }

  /** Receive what the log has, one event after the other. @param {string} group */
  async receive(group) {
    const { log } = /** @type {any} */ (this.server.groups.get(group));
    const { seq } = (await (await this.cipher.member()).group(group)).position;
    for (const event of log.slice(seq)) await this.cipher.receive(event);
  }
}

/** Ada's group with Ben in it. @param {import('node:test').TestContext} t */
async function family(t) {
  const server = new FakeServer();
  const [ada, ben] = [new Tab(server, ADA), new Tab(server, BEN)];
  t.after(() => {
    ada.cipher.stop();
    ben.cipher.stop();
  });
  const invitation = await ada.cipher.newInvitation();
  const group = server.newGroup(ADA);
  await ada.cipher.found(group, invitation);
  await ada.cipher.start(group, 1);
  await ada.cipher.flush(group);
  await ada.receive(group);
  server.join(group, BEN);
  await ben.cipher.join(group, invitation, ADA);
  await ben.cipher.start(group, 3);
  await ben.cipher.flush(group);
  const idle = async () => {
    for (let before = -1, now = 0; before !== now; ) {
      before = now;
      for (const one of [ada, ben]) {
        await one.receive(group);
        await one.cipher.flush(group);
      }
      now = /** @type {any} */ (server.groups.get(group)).log.length;
    }
  };
  await idle();
  return { server, ada, ben, group, invitation, idle };
}

test('[CIPHPG1] what one member writes the other reads by its id and its number, and a wrong author reads as nothing', async (t) => {
  const { server, ada, ben, group, idle } = await family(t);
  const key = await ada.cipher.thread(group, 'Sunday', 'Who comes?');
  await idle();
  const [[sentKey, thread]] = ada.sent;
  assert.equal(sentKey, key);
  for (const one of [ada, ben]) {
    assert.equal(one.cipher.text(group, thread, ADA), 'Sunday');
    assert.equal(one.cipher.text(group, thread, ADA, 1), 'Who comes?');
    assert.equal(one.cipher.text(group, thread, BEN), null);
    assert.deepEqual(one.drafts, []);
  }
  await ben.cipher.reply(group, thread, 'I do');
  await idle();
  const event = /** @type {any} */ (server.groups.get(group)).log.find((/** @type {any} */ { type }) => type === 'new_reply');
  assert.equal(ada.cipher.text(group, event.data.reply_id, BEN), 'I do');
  assert.equal(ada.cipher.text(group, event.seq, BEN), 'I do');
  assert.deepEqual(ben.read, [thread]);
  assert.ok(!JSON.stringify(/** @type {any} */ (server.groups.get(group)).texts).includes('Sunday'));
});

test('[CIPHPG2] a text is readable before its event comes, and after a reload without the server', async (t) => {
  const { server, ada, group, idle } = await family(t);
  await ada.cipher.thread(group, 'Now', 'at once');
  await until(() => ada.sent.length === 1);
  const [[, thread]] = ada.sent;
  assert.equal(ada.cipher.text(group, thread, ADA), 'Now');
  await idle();

  const again = new Tab(server, ADA, ada.store);
  t.after(() => again.cipher.stop());
  await again.cipher.start(group, 0);
  assert.equal(again.cipher.text(group, thread, ADA, 1), 'at once');
});

test('[CIPHPG3] what the server refuses stands aside with its reason and the next text is sent; a server that is away refuses nothing', async (t) => {
  const { server, ada, group, idle } = await family(t);
  const fail = (/** @type {object} */ how) => {
    server.before = (type) => {
      if (type === 'new_thread') throw Object.assign(new Error('it is too long'), how);
    };
  };
  fail({ status: 413, code: 'PAYLOAD_TOO_LARGE' });
  const refused = await ada.cipher.thread(group, 'a', 'b');
  await until(() => ada.drafts[0]?.refused === 'it is too long');

  fail({ code: 'NETWORK', retryable: true });
  const waits = await ada.cipher.thread(group, 'c', 'd');
  await ada.cipher.flush(group);
  assert.deepEqual(
    ada.drafts.map(({ id, refused: why, texts }) => [id, why, ...texts]),
    [
      [refused, 'it is too long', 'a', 'b'],
      [waits, undefined, 'c', 'd'],
    ],
  );
  server.before = () => {};
  await ada.cipher.outbox.sendAgain(group, refused);
  await idle();
  assert.deepEqual(ada.drafts, []);
  assert.deepEqual(
    ada.sent.map(([key]) => key),
    [waits, refused],
  );

  fail({ status: 403, code: 'FORBIDDEN' });
  const unwanted = await ada.cipher.thread(group, 'e', 'f');
  await until(() => ada.drafts[0]?.refused !== undefined);
  await ada.cipher.outbox.discard(group, unwanted);
  assert.deepEqual(ada.drafts, []);
});

test('[CIPHPG4] what was missed is taken in by requests, and what came before its key is read when the key is here', async (t) => {
  const { server, ada, ben, group, invitation, idle } = await family(t);
  await ada.cipher.thread(group, 'one', 'body');
  await idle();
  const cleo = new Tab(server, 'cccccccc-0000-4000-8000-00000000000c');
  t.after(() => cleo.cipher.stop());
  server.join(group, cleo.user);
  await cleo.cipher.join(group, invitation, ADA);
  const { log } = /** @type {any} */ (server.groups.get(group));
  await cleo.cipher.start(group, log.length);
  await cleo.cipher.flush(group);
  await idle();
  await cleo.receive(group);
  const [[, thread]] = ada.sent;
  assert.equal(cleo.cipher.text(group, thread, ADA), null);
  assert.equal(cleo.cipher.statusOf(group, thread), 'waiting');

  await (await ada.cipher.member()).shareHistory(group, cleo.user);
  await idle();
  await cleo.receive(group);
  assert.equal(cleo.cipher.text(group, thread, ADA), 'one');
  assert.deepEqual(cleo.read, [thread]);
  assert.equal(ben.cipher.text(group, thread, ADA), 'one');
});

test('[CIPHPG5] founding and entering a group again changes nothing, so both can be repeated after a lost answer', async (t) => {
  const { server, ada, ben, group, invitation, idle } = await family(t);
  const before = /** @type {any} */ (server.groups.get(group)).log.length;
  await ada.cipher.found(group, invitation);
  await ben.cipher.join(group, invitation);
  await idle();
  assert.equal(/** @type {any} */ (server.groups.get(group)).log.length, before);
  assert.deepEqual(await (await ben.cipher.member()).strangers(group), []);
});

test('[CIPHPG6] a text that is written while others are being sent is sent once and shown once; the flushes that are asked for meanwhile are one', async (t) => {
  const { server, ada, ben, group, idle } = await family(t);
  let posts = 0;
  /** @type {Promise<string>[]} */
  const written = [];
  server.before = (type) => {
    if (type !== 'new_thread') return;
    posts++;
    // While one is in progress: more texts, and every part of the page asks for a flush.
    if (written.length < 3) written.push(ada.cipher.thread(group, `t${written.length + 1}`, 'body'));
    for (let at = 0; at < 5; at++) void ada.cipher.flush(group);
  };
  const first = await ada.cipher.thread(group, 't0', 'body');
  await until(() => ada.sent.length === 4);
  const keys = [first, ...(await Promise.all(written))];
  await idle();
  assert.equal(posts, 4);
  assert.deepEqual(ada.sent.map(([key]) => key).sort(), keys.sort());
  assert.deepEqual(ada.drafts, []);
  const threads = ada.sent.map(([, thread]) => thread);
  for (const one of [ada, ben]) assert.deepEqual(threads.map((id) => one.cipher.text(group, id, ADA)).sort(), ['t0', 't1', 't2', 't3']);
});

test('[CIPHPG7] a text that is sent while the store is read is not shown as waiting', async (t) => {
  const { ada, group } = await family(t);
  const member = await ada.cipher.member();
  const drafts = member.drafts.bind(member);
  let reads = 0;
  /** @type {() => void} */
  let release = () => {};
  member.drafts = async (id) => {
    const rows = await drafts(id);
    if (++reads === 1) await new Promise((resolve) => (release = () => resolve(undefined)));
    return rows;
  };
  const written = ada.cipher.thread(group, 'quick', 'body');
  await until(() => reads === 1);
  await ada.cipher.flush(group);
  release();
  await written;
  assert.equal(ada.sent.length, 1);
  assert.deepEqual(
    ada.drafts.filter(({ posted }) => !posted),
    [],
  );
});

test('[CIPHPG8] a group that two tabs and two parts of the page enter at once is entered once, with the inviter who was named first', async (t) => {
  const { server, ada, group, invitation, idle } = await family(t);
  const first = new Tab(server, 'cccccccc-0000-4000-8000-00000000000c');
  const { store } = await first.cipher.open();
  const second = new Tab(server, first.user, store);
  for (const tab of [first, second]) t.after(() => tab.cipher.stop());
  server.join(group, first.user);
  const again = [first, second, first].map((tab, at) => tab.cipher.join(group, invitation, at ? undefined : ADA));
  await Promise.all(again);
  for (const tab of [first, second]) await tab.cipher.flush(group);
  await idle();
  const { log } = /** @type {any} */ (server.groups.get(group));
  const records = log.filter((/** @type {any} */ { type, data }) => type === 'new_record' && data.author_id === first.user);
  assert.equal(records.length, 1);
  assert.equal((await (await first.cipher.member()).group(group)).inviter, ADA);
  assert.deepEqual(await (await ada.cipher.member()).strangers(group), []);
});

test('[CIPHPG9] a second browser of a member is held until the first admits it by its number, is given the past then, and nothing more once it is removed', async (t) => {
  const { server, ada, ben, group, invitation, idle } = await family(t);
  await ada.cipher.thread(group, 'Past', 'body');
  await idle();
  const [[, thread]] = ada.sent;
  const second = new Tab(server, BEN);
  t.after(() => second.cipher.stop());
  await second.cipher.join(group, invitation);
  const { log } = /** @type {any} */ (server.groups.get(group));
  await second.cipher.start(group, log.length);
  await second.cipher.flush(group);
  const all = async () => {
    await idle();
    await second.receive(group);
    await second.cipher.flush(group);
    await idle();
    await second.receive(group);
  };
  await all();
  const { number = '', standing } = second.cipher.roster.place(group) ?? {};
  assert.deepEqual([standing, ben.cipher.roster.place(group)?.asking, ada.cipher.roster.place(group)?.asking], ['held', 1, 0]);
  assert.equal(second.cipher.text(group, thread, ADA), null);
  await assert.rejects(ben.cipher.roster.admit(group, BEN, '00000 00000 00000 00000'), /does not ask/);

  await ben.cipher.roster.admit(group, BEN, number);
  await all();
  assert.equal(second.cipher.roster.place(group)?.standing, 'in');
  assert.equal(second.cipher.text(group, thread, ADA), 'Past');
  const person = await ada.cipher.roster.person(group, BEN);
  assert.deepEqual(
    person.devices.map(({ device, by, here }) => [device, by, here]),
    [
      [1, 'knock', false],
      [2, 'link', false],
    ],
  );
  assert.equal(person.verifiedAtMs, null);
  assert.equal(person.safetyNumber, (await ben.cipher.roster.person(group, ADA)).safetyNumber);
  await ada.cipher.roster.verify(BEN);
  assert.equal((await ada.cipher.roster.everybody(group)).get(BEN)?.verified, true);

  await ben.cipher.roster.remove(group, 2);
  await ada.cipher.thread(group, 'Later', 'body');
  await all();
  assert.equal(second.cipher.roster.place(group)?.standing, 'revoked');
  assert.equal(second.cipher.text(group, ada.sent[1][1], ADA), null);
  assert.equal(ben.cipher.text(group, ada.sent[1][1], ADA), 'Later');
});

test('[CIPHPG10] a tab reads what another tab of the browser took in while it began, and what that one could read later', async (t) => {
  const { server, ada, ben, group, idle } = await family(t);
  for (const title of ['one', 'two']) await ada.cipher.thread(group, title, 'body');
  await until(() => ada.sent.length === 2);
  const tab = new Tab(server, BEN, ben.store);
  t.after(() => tab.cipher.stop());
  const member = await tab.cipher.member();
  const items = member.items.bind(member);
  member.items = async (id) => {
    const found = await items(id);
    member.items = items;
    // Between this tab's look at the store and its own catch-up.
    await idle();
    return found;
  };
  const { log } = /** @type {any} */ (server.groups.get(group));
  await tab.cipher.start(group, log.length);
  for (const [, thread] of ada.sent) assert.ok(tab.cipher.text(group, thread, ADA));
});

test('[CIPHPG11] a group that moves is founded by its mover and entered by the others behind the record of the move, whose texts before anybody entered are for all of them', async (t) => {
  const server = new FakeServer();
  const [ada, ben] = [new Tab(server, ADA), new Tab(server, BEN)];
  for (const one of [ada, ben]) t.after(() => one.cipher.stop());
  const group = server.newGroup(ADA);
  server.join(group, BEN);
  const raw = await ada.cipher.newInvitation();
  const seq = server.append(group, 'new_record', { author_id: ADA, record: 'AQID' });
  for (let twice = 0; twice < 2; twice++) await ada.cipher.follow(group, { raw, seq });
  await ada.cipher.start(group, seq);
  await ada.cipher.thread(group, 'At once', 'body');
  await until(() => ada.sent.length === 1);
  await ada.receive(group);

  await ben.cipher.follow(group, { raw, seq }, ADA);
  const { log } = /** @type {any} */ (server.groups.get(group));
  await ben.cipher.start(group, log.length);
  for (let round = 0; round < 4; round++)
    for (const one of [ben, ada]) {
      await one.receive(group);
      await one.cipher.flush(group);
    }
  assert.equal(ben.cipher.text(group, ada.sent[0][1], ADA), 'At once');
  assert.deepEqual(await (await ada.cipher.member()).strangers(group), []);
  for (const one of [ada, ben]) assert.deepEqual(await one.cipher.roster.warnings(group), []);
});
