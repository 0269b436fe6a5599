/** Groups of version 2 in the page's model, with the bundle that the page loads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cipher } from '../js/model/cipher.js';
import { FakeServer } from './fake-server.js';
import { until } from './fakes.js';

/** @typedef {import('../js/model/cipher.js').Draft} Draft */

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
        sent: (draft, answer) => this.sent.push([draft.id, answer.thread_id ?? answer.reply_id]),
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
  await ada.cipher.sendAgain(group, refused);
  await idle();
  assert.deepEqual(ada.drafts, []);
  assert.deepEqual(
    ada.sent.map(([key]) => key),
    [waits, refused],
  );

  fail({ status: 403, code: 'FORBIDDEN' });
  const unwanted = await ada.cipher.thread(group, 'e', 'f');
  await until(() => ada.drafts[0]?.refused !== undefined);
  await ada.cipher.discard(group, unwanted);
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
