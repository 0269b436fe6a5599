/** Events: what they change, and what they announce. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Events } from '../js/model/events.js';
import { newGroup } from '../js/model/group.js';
import { ReadMarks } from '../js/model/reads.js';
import { Shelf } from '../js/model/shelf.js';
import { Threads } from '../js/model/threads.js';
import { firstOnly, memoryStorage } from './fakes.js';

/** A group with five threads, and what is announced of it. */
function setting() {
  const group = newGroup({
    id: 'g',
    name: 'G',
    key: undefined,
    version: 1,
    moved: false,
    code: null,
    invite: { expiresAt: null, singleUse: false },
    wrapped: '',
    sealedName: '',
    memberCount: 2,
  });
  const reads = new ReadMarks(new Shelf(memoryStorage(), 'marks'));
  /** @type {string[]} */
  const announced = [];
  for (const id of ['1', '2', '3', '4', '5']) group.threads.set(id, /** @type {any} */ ({ id, items: new Map(), title: id }));
  const threads = {
    countSoon() {},
    find: async (/** @type {any} */ { threads: all }, /** @type {string} */ id) => all.get(id),
    posted() {},
    async addReply(/** @type {any} */ _group, /** @type {any} */ thread, /** @type {any} */ found) {
      thread.items.set(found.reply_id, { author: 'ben', text: found.encrypted_body });
    },
  };
  const parts = /** @type {any} */ ({
    userId: 'me',
    outbox: { arrived() {} },
    people: { lookFor() {} },
    reads,
    threads,
    typists: { stopped() {} },
    uploads: {},
    news: (/** @type {any} */ { thread, text, more }) => announced.push(`${thread.id}: ${text} +${more}`),
  });
  const events = new Events(parts);
  let seq = 0;
  const reply = (/** @type {string} */ thread_id, /** @type {string} */ text, author_id = 'ben') => {
    const data = { thread_id, reply_id: `r${++seq}`, author_id, encrypted_body: text };
    return events.apply(group, /** @type {any} */ ({ type: 'new_reply', seq, server_timestamp: seq, data }));
  };
  return { group, reads, events, announced, reply };
}

test('[MISSED1] events missed during a lost connection are announced after the catch-up, once for each unread thread', async () => {
  const { group, reads, events, announced, reply } = setting();
  events.caughtUp(group);
  await reply('1', 'live');
  assert.deepEqual(announced.splice(0), ['1: live +0']);

  group.caughtUp = false;
  await reply('1', 'Call me');
  await reply('2', 'read elsewhere');
  await reply('1', 'Please');
  await reply('3', 'my own', 'me');
  reads.markRead('2');
  assert.deepEqual(announced, []);
  events.caughtUp(group);
  assert.deepEqual(announced.splice(0), ['1: Please +1']);

  group.caughtUp = false;
  events.caughtUp(group);
  assert.deepEqual(announced, []);
});

test('[MISSED2] the first catch-up announces nothing, and a later one at most three threads', async () => {
  const { group, events, announced, reply } = setting();
  await reply('1', 'before this page was opened');
  events.caughtUp(group);
  assert.deepEqual(announced, []);

  group.caughtUp = false;
  for (const id of ['1', '2', '3', '4', '5', '2']) await reply(id, `in ${id}`);
  events.caughtUp(group);
  assert.deepEqual(announced, ['4: in 4 +0', '5: in 5 +0', '2: in 2 +0']);
});

test('[COUNT1] 400 replies in one thread that is not loaded cost one request for its counts, and threads do not wait for each other', async () => {
  /** @type {string[]} */
  const asked = [];
  const api = /** @type {any} */ ({
    thread: async (/** @type {string} */ id) => {
      asked.push(id);
      return { reply_count: 400, media_count: 0 };
    },
  });
  const threads = new Threads({
    api,
    versions: firstOnly,
    userId: 'me',
    ask: (question) => question(),
    nameOf: () => '',
    counted() {},
    changed() {},
  });
  const { group } = setting();
  mock.timers.enable({ apis: ['setTimeout'] });
  for (let i = 0; i < 400; i++) threads.countSoon(group, '1');
  threads.countSoon(group, '2');
  mock.timers.tick(1000);
  mock.timers.reset();
  await Promise.resolve();
  assert.deepEqual(asked, ['1', '2']);
});
