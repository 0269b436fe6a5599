/** The outbox: drafts reach the server in order, once, whatever the network does. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient, localStorageStore, memoryStore } from '../src/node.js';
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
  server.log.groups.get(id).map((text) => JSON.parse(text)).filter(({ type }) => type !== 'member_joined')
    .map(({ data }) => Buffer.from(data.encrypted_envelope ?? data.encrypted_body, 'base64').toString());

beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

test('send() resolves with the answer, for each kind of draft, without a connection', async () => {
  const client = connect();
  const sent = [];
  client.on('sent', (one) => sent.push(one));
  server.groupOfReplies = group;
  const answer = await client.send(group, message('one'));
  await client.send(group, { type: 'thread', encrypted_title: 'YQ==', encrypted_body: 'dHdv' });
  await client.send(group, { type: 'reply', thread_id: 'th1', encrypted_body: 'dGhyZWU=' }, { key: 'mine' });

  assert.equal(answer.seq, 2);
  assert.deepEqual(stored(), ['one', 'two', 'three']);
  assert.deepEqual(sent.map(({ key, group_id, draft }) => [key.length, group_id, draft.type]), [[36, group, 'message'], [36, group, 'thread'], [4, group, 'reply']]);
  const posts = server.requests.filter(({ method }) => method === 'POST');
  assert.deepEqual(posts.map(({ path }) => path), ['/v1/messages', '/api/threads', '/api/threads/th1/replies']);
  assert.equal(typeof posts[0].body.timestamp, 'number');
  assert.deepEqual(posts[2].body, { encrypted_body: 'dGhyZWU=' });
  assert.equal(server.handshakes.length, 0);
});

test('[order] drafts of a group arrive in the order of the calls, though answers are lost, and none is doubled', async (t) => {
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

test('groups do not wait for each other', async () => {
  const other = server.log.group();
  server.intercept = ({ body }, answer) => body.conversation_id === group && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  const client = connect();
  client.send(group, message('stuck'));
  await client.send(other, message('through'));

  assert.deepEqual(stored(other), ['through']);
  assert.deepEqual((await client.pending()).map(({ group_id }) => group_id), [group]);
});

test('a draft that the server will not have is dropped and told, and the next one goes', async () => {
  server.intercept = ({ body }, answer) =>
    body.encrypted_envelope === 'bad' && answer(400, { error: 'VALIDATION_ERROR', message: 'no', details: { field: 'encrypted_envelope' } });
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

test('drafts survive a reload: the next client sends them first, in order, under the same keys', async () => {
  const store = memoryStore();
  const storing = server.intercept;
  const keys = [];
  server.intercept = ({ path, headers }, answer, response) => path === '/v1/messages' && (keys.push(headers['idempotency-key']), response.destroy(), true);
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

test('a closed client refuses drafts, and one that is connected again takes them', async () => {
  const client = connect();
  await client.send(group, message('one'));
  client.close();
  await assert.rejects(client.send(group, message('two')), { code: 'CLOSED' });
  client.connect();
  await client.send(group, message('three'));

  assert.deepEqual(stored(), ['one', 'three']);
});

test('a draft that was on its way more than a day ago is not sent again blindly', async () => {
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

test('a refused token holds drafts back; the next one lets them go', async () => {
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

test('an open connection is a reason to try at once', async () => {
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

test('a Retry-After is obeyed', async () => {
  let first = 0;
  server.intercept = ({ path }, answer) =>
    path === '/v1/messages' && !first && (first = Date.now()) && answer(429, { error: 'TOO_MANY_REQUESTS', message: 'slow', details: { retry_after: 2 } }, { 'Retry-After': '2' });
  await connect().send(group, message('slow'));

  assert.ok(Date.now() - first >= 2000);
});

test('a store that fails is reported, and the draft goes all the same', async () => {
  const errors = [];
  const store = { ...memoryStore(), set: async () => { throw new Error('disk full'); } };
  const client = connect({ store });
  client.on('error', ({ message: text }) => errors.push(text));
  await client.send(group, message('unkept'));

  assert.deepEqual(stored(), ['unkept']);
  assert.ok(errors.includes('disk full'));
});

test('localStorageStore keeps JSON under its prefix, and only its own', () => {
  const data = {};
  const storage = new Proxy(data, {
    get: (_, name) =>
      ({ getItem: (key) => data[key] ?? null, setItem: (key, value) => (data[key] = String(value)), removeItem: (key) => delete data[key] })[name],
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
