/** The outbox: drafts reach the server in order, once, whatever the network does. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient, localStorageStore, memoryStore } from '../src/index.js';
import { FakeServer, FAST, hurry, until } from './fake.js';

let server;
let group;
const clients = [];
const connect = (options = {}) => {
  const client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, ...options });
  client.on('error', () => {});
  clients.push(client);
  return client;
};
const message = (text) => ({ type: 'message', encrypted_envelope: Buffer.from(text).toString('base64') });
/** What the group's log has, as texts. */
const stored = (id = group) =>
  server.log.groups
    .get(id)
    .map((text) => JSON.parse(text))
    .filter(({ type }) => type !== 'member_joined')
    .map(({ data }) => Buffer.from(data.encrypted_envelope ?? data.encrypted_body, 'base64').toString());

beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

for (const draft of [{ encrypted_envelope: 'YQ==' }, { type: 'note', encrypted_body: 'YQ==' }, 'hello'])
  test(`[DRAFT3] ${JSON.stringify(draft)} is not a draft: it is refused, and nothing of it is sent or stored`, async () => {
    const store = memoryStore();
    const client = connect({ store });

    await assert.rejects(client.send(group, draft), { code: 'VALIDATION_ERROR', message: /message, thread or reply/ });
    assert.deepEqual(stored(), []);
    assert.deepEqual([...(await store.keys('outbox:'))], []);
  });

test('[OUTBOX1] send() resolves with the answer, for each kind of draft, without a connection', async () => {
  const client = connect();
  const sent = [];
  client.on('sent', (one) => sent.push(one));
  server.groupOfReplies = group;
  const answer = await client.send(group, message('one'));
  await client.send(group, { type: 'thread', encrypted_title: 'YQ==', encrypted_body: 'dHdv' });
  await client.send(group, { type: 'reply', thread_id: 'th1', encrypted_body: 'dGhyZWU=' }, { key: 'mine' });

  assert.equal(answer.seq, 2);
  assert.deepEqual(stored(), ['one', 'two', 'three']);
  assert.deepEqual(
    sent.map(({ key, group_id, draft }) => [key.length, group_id, draft.type]),
    [
      [36, group, 'message'],
      [36, group, 'thread'],
      [4, group, 'reply'],
    ],
  );
  const posts = server.requests.filter(({ method }) => method === 'POST');
  assert.deepEqual(
    posts.map(({ path }) => path),
    ['/v1/messages', '/api/threads', '/api/threads/th1/replies'],
  );
  assert.equal(typeof posts[0].body.timestamp, 'number');
  assert.deepEqual(posts[2].body, { encrypted_body: 'dGhyZWU=' });
  assert.equal(server.handshakes.length, 0);
});

test('[OUTBOX2] drafts of a group arrive in the order of the calls, despite lost answers, and none is duplicated', async (t) => {
  hurry(t, 100);
  let calls = 0;
  server.intercept = ({ path }, answer, response) => {
    if (path !== '/v1/messages') return false;
    calls++;
    // Each first answer is lost on the way, after the server has stored the draft.
    if (calls % 2) response.end = () => (response.destroy(), response);
    return calls % 5 === 4 && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  };
  const client = connect();
  const texts = Array.from({ length: 20 }, (_, i) => `m${i}`);
  await Promise.all(texts.map((text) => client.send(group, message(text))));

  assert.deepEqual(stored(), texts);
  assert.ok(calls > 30, `${calls} tries`);
});

test('[OUTBOX3] groups do not wait for each other', async () => {
  const other = server.log.group();
  server.intercept = ({ body }, answer) =>
    body.conversation_id === group && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  const client = connect();
  client.send(group, message('stuck'));
  await client.send(other, message('through'));

  assert.deepEqual(stored(other), ['through']);
  assert.deepEqual(
    (await client.pending()).map(({ group_id }) => group_id),
    [group],
  );
});

test('[OUTBOX4] a draft that the server refuses is dropped and reported, and the next one is sent', async () => {
  server.intercept = ({ body }, answer) =>
    body.encrypted_envelope === 'bad' &&
    answer(400, { error: 'VALIDATION_ERROR', message: 'no', details: { field: 'encrypted_envelope' } });
  const client = connect();
  const failed = [];
  client.on('failed', ({ draft, error }) => failed.push([draft.encrypted_envelope, error.code]));
  const bad = client.send(group, { type: 'message', encrypted_envelope: 'bad' });
  const good = client.send(group, message('good'));

  await assert.rejects(bad, { code: 'VALIDATION_ERROR', status: 400, details: { field: 'encrypted_envelope' } });
  await good;
  assert.deepEqual(stored(), ['good']);
  assert.deepEqual(failed, [['bad', 'VALIDATION_ERROR']]);
});

test('[OUTBOX5] drafts survive a reload: the next client sends them first, in order, under the same keys', async () => {
  const store = memoryStore();
  const storing = server.intercept;
  const keys = [];
  server.intercept = ({ path, headers }, _answer, response) =>
    path === '/v1/messages' && (keys.push(headers['idempotency-key']), response.destroy(), true);
  const first = connect({ store });
  const lost = first.send(group, message('one'));
  first.send(group, message('two'));
  await until(() => keys.length);
  first.close();
  await assert.rejects(lost, { code: 'CLOSED' });
  assert.equal([...store.keys()].length, 2);
  server.intercept = storing;
  const second = connect({ store });
  const sent = [];
  second.on('sent', ({ key }) => sent.push(key));
  second.connect();
  await second.send(group, message('three'));

  assert.deepEqual(stored(), ['one', 'two', 'three']);
  assert.equal(sent[0], keys[0]);
  assert.deepEqual([...(await store.keys())], []);
  assert.deepEqual(await second.pending(), []);
});

test('[OUTBOX6] a closed client refuses drafts, and accepts them once it is connected again', async () => {
  const client = connect();
  await client.send(group, message('one'));
  client.close();
  await assert.rejects(client.send(group, message('two')), { code: 'CLOSED' });
  client.connect();
  await client.send(group, message('three'));

  assert.deepEqual(stored(), ['one', 'three']);
});

test('[OUTBOX7] a draft whose first try was more than a day ago is not sent again', async () => {
  const store = memoryStore();
  const old = Date.now() - 25 * 3600 * 1000;
  store.set('outbox:1', { key: 'k', group_id: group, draft: message('old'), created_at: old, tried_at: old });
  store.set('outbox:2', { key: 'k2', group_id: group, draft: message('old, never tried'), created_at: old });
  const client = connect({ store });
  const failed = [];
  client.on('failed', ({ key, error }) => failed.push([key, error.code]));
  client.connect();

  await until(() => stored().length);
  assert.deepEqual(failed, [['k', 'STALE']]);
  assert.deepEqual(stored(), ['old, never tried']);
});

test('[OUTBOX8] a refused token pauses drafts; a new token resumes them', async () => {
  server.refused.add('t1');
  const client = connect();
  const sending = client.send(group, message('patient'));
  await until(() => server.requests.length);
  assert.deepEqual((await client.pending()).length, 1);
  client.setToken('t2');
  client.connect();

  await sending;
  assert.deepEqual(stored(), ['patient']);
});

test('[OUTBOX9] an open connection triggers a retry at once', async () => {
  const { port, log } = server;
  await server.kill();
  const client = connect({ backoff: { ...FAST, steps_ms: [2500] } });
  client.connect();
  const sending = client.send(group, message('later'));
  await until(() => client.state.retry_at);
  server = await new FakeServer(log).listen(port);
  client.wake();

  await sending;
  assert.deepEqual(stored(), ['later']);
});

test('[OUTBOX10] a Retry-After is obeyed', async () => {
  let first = 0;
  server.intercept = ({ path }, answer) =>
    path === '/v1/messages' &&
    !first &&
    (first = Date.now()) &&
    answer(429, { error: 'TOO_MANY_REQUESTS', message: 'slow', details: { retry_after: 2 } }, { 'Retry-After': '2' });
  await connect().send(group, message('slow'));

  assert.ok(Date.now() - first >= 2000);
});

test('[OUTBOX11] a failing store is reported, and the draft is still sent', async () => {
  const errors = [];
  const store = {
    ...memoryStore(),
    set: async () => {
      throw new Error('disk full');
    },
  };
  const client = connect({ store });
  client.on('error', ({ message: text }) => errors.push(text));
  await client.send(group, message('unkept'));

  assert.deepEqual(stored(), ['unkept']);
  assert.ok(errors.includes('disk full'));
});

test('[OUTBOX12] localStorageStore keeps JSON under its prefix, and only its own', () => {
  const data = {};
  const storage = new Proxy(data, {
    get: (_, name) =>
      ({
        getItem: (key) => data[key] ?? null,
        setItem: (key, value) => (data[key] = String(value)),
        removeItem: (key) => delete data[key],
      })[name],
  });
  storage.setItem('other', 'x');
  const store = localStorageStore('p:', storage);
  store.set('position:g', { seq: 3 });

  assert.deepEqual(store.get('position:g'), { seq: 3 });
  assert.deepEqual([...store.keys()], ['position:g']);
  store.delete('position:g');
  assert.equal(store.get('position:g'), null);
  assert.deepEqual(data, { other: 'x' });
});

test('[OUTBOX13] a draft sent while closed is kept for the next connect(), if there is a store', async () => {
  const store = memoryStore();
  const client = connect({ store });
  await client.send(group, message('one'));
  client.close();
  await assert.rejects(client.send(group, message('two')), { code: 'CLOSED' });
  assert.equal([...store.keys()].length, 1);
  client.connect();
  await client.send(group, message('three'));

  assert.deepEqual(stored(), ['one', 'two', 'three']);
});

test('[OUTBOX14] an open connection sends, once, what another client left in the same store meanwhile', async () => {
  const store = memoryStore();
  const open = connect({ store });
  open.connect();
  await until(() => open.state.status === 'open');
  let calls = 0;
  server.intercept = ({ path }, answer) =>
    path === '/v1/messages' && ++calls < 3 && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  const left = connect({ store });
  left.send(group, message('one')).catch(() => {});
  left.send(group, message('two')).catch(() => {});
  await until(() => calls);
  left.close();
  const sent = [];
  open.on('sent', ({ draft }) => sent.push(Buffer.from(draft.encrypted_envelope, 'base64').toString()));
  open.send(group, message('three'));
  server.cut();

  await until(() => stored().length === 3);
  assert.deepEqual(
    stored().filter((text) => text !== 'three'),
    ['one', 'two'],
  );
  await until(() => sent.length === 3);
  assert.deepEqual([...store.keys()], []);
});

test('[OUTBOX15] calls to a slow store are serialized per draft, so that a sent draft does not reappear', async () => {
  const inner = memoryStore();
  const busy = new Set();
  const overlaps = [];
  /** @param {'set' | 'delete'} act */
  const slowly = (act) => async (key, value) => {
    if (busy.has(key)) overlaps.push(act);
    busy.add(key);
    await new Promise((resolve) => setTimeout(resolve, 20));
    inner[act](key, value);
    busy.delete(key);
  };
  const store = { get: async (key) => inner.get(key), keys: async () => [...inner.keys()], set: slowly('set'), delete: slowly('delete') };
  await connect({ store }).send(group, message('once'));

  assert.deepEqual(overlaps, []);
  assert.deepEqual([...inner.keys()], []);
});

test('[OUTBOX16] a draft that the store cannot load is reported, and the others are sent', async () => {
  const inner = memoryStore();
  for (const [place, text] of [
    ['outbox:1', 'one'],
    ['outbox:2', ''],
    ['outbox:3', 'three'],
  ])
    inner.set(place, { key: place, group_id: group, draft: message(text), created_at: Date.now() });
  const store = {
    get: (key) => {
      if (key === 'outbox:2') throw new Error('not JSON');
      return inner.get(key);
    },
    set: (key, value) => inner.set(key, value),
    delete: (key) => inner.delete(key),
    keys: () => inner.keys(),
  };
  const errors = [];
  const client = connect({ store });
  client.on('error', ({ message: text }) => errors.push(text));
  client.connect();

  await until(() => stored().length === 2);
  assert.deepEqual(stored(), ['one', 'three']);
  assert.ok(errors.includes('not JSON'));
});

test('[OUTBOX17] a store that failed at first is read when the connection opens', async () => {
  const inner = memoryStore();
  inner.set('outbox:1', { key: 'k', group_id: group, draft: message('patient'), created_at: Date.now() });
  let reads = 0;
  const store = {
    get: (key) => inner.get(key),
    set: (key, value) => inner.set(key, value),
    delete: (key) => inner.delete(key),
    keys: () => {
      if (++reads === 1) throw new Error('not yet');
      return inner.keys();
    },
  };
  connect({ store }).connect();

  await until(() => stored().length);
  assert.deepEqual(stored(), ['patient']);
});

test('[OUTBOX18] drafts keep their order, although the clock steps back by a day between them, also over a reload', async (t) => {
  const store = memoryStore();
  let shift = 0;
  const { now } = Date;
  Date.now = () => now.call(Date) + shift;
  t.after(() => (Date.now = now));
  server.intercept = ({ path }, answer) => path === '/v1/messages' && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  const first = connect({ store });
  first.send(group, message('one'));
  await until(() => server.requests.length);
  shift = -86_400_000;
  first.send(group, message('two'));
  await until(async () => (await first.pending()).length === 2);
  first.close();
  server.intercept = () => false;
  const second = connect({ store });
  second.send(group, message('three'));

  await until(() => stored().length === 3);
  assert.deepEqual(stored(), ['one', 'two', 'three']);
});

test('[OUTBOX19] a draft that can never be sent is refused at once, and blocks no other', async () => {
  const client = connect();
  await assert.rejects(client.send(group, { ...message('big'), timestamp: 1n }), { code: 'VALIDATION_ERROR' });
  await assert.rejects(client.send(group, message('odd'), { key: 'a key…' }), { code: 'VALIDATION_ERROR' });
  await assert.rejects(client.send(group, message('none'), { key: '' }), { code: 'VALIDATION_ERROR' });
  await client.send(group, message('good'));

  assert.deepEqual(stored(), ['good']);
});

test('[OUTBOX20] a client that is closed and connected again while a draft is in flight reports it once', async () => {
  const store = memoryStore();
  const answers = [];
  server.intercept = ({ path }) => path === '/v1/messages' && new Promise((resolve) => answers.push(() => resolve(false)));
  const client = connect({ store });
  const sent = [];
  client.on('sent', ({ key }) => sent.push(key));
  client.send(group, message('one'), { key: 'k1' });
  client.send(group, message('two'), { key: 'k2' });
  await until(() => answers.length === 1);
  client.close();
  client.connect();
  await until(() => answers.length === 2);
  server.intercept = () => false;
  for (const go of answers) go();

  await until(() => [...store.keys()].length === 0);
  assert.deepEqual(stored(), ['one', 'two']);
  assert.deepEqual(sent, ['k1', 'k2']);
});

test('[OUTBOX21] a client that is closed and connected again while it reads a slow store loads each draft once', async () => {
  const inner = memoryStore();
  inner.set('outbox:1', { key: 'k', group_id: group, draft: message('one'), created_at: Date.now() });
  const reads = [];
  const store = {
    get: (key) => inner.get(key),
    set: (key, value) => inner.set(key, value),
    delete: (key) => inner.delete(key),
    keys: () => new Promise((resolve) => reads.push(() => resolve([...inner.keys()]))),
  };
  const client = connect({ store });
  const sent = [];
  client.on('sent', ({ key }) => sent.push(key));
  client.connect();
  await until(() => reads.length);
  client.close();
  client.connect();
  await until(() => reads.length > 1);
  const reading = setInterval(() => reads.splice(0).forEach((go) => void go()), 5);
  await until(() => inner.size === 0);
  await client.send(group, message('two'));
  clearInterval(reading);

  assert.deepEqual(stored(), ['one', 'two']);
  assert.deepEqual(sent.slice(0, 1), ['k']);
  assert.equal(sent.length, 2);
});

test('[DRF2] a pending draft can be discarded, and the next one is sent', async () => {
  const store = memoryStore();
  const client = connect({ store });
  server.intercept = ({ path }, answer) => path === '/v1/messages' && answer(503, { error: 'UNAVAILABLE', message: '', details: {} });
  const first = client.send(group, message('one'), { key: 'k1' });
  const second = client.send(group, message('two'), { key: 'k2' });
  await until(() => server.requests.length);
  assert.equal(await client.discard('k1'), true);
  assert.equal(await client.discard('k1'), false);
  server.intercept = () => false;

  await assert.rejects(first, { code: 'DISCARDED' });
  await second;
  assert.deepEqual(stored(), ['two']);
  await until(() => ![...store.keys()].some((key) => key.startsWith('outbox:')));
});
