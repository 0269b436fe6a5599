/** Parts that are loaded when they are first used, while they cannot be loaded. */
import assert from 'node:assert/strict';
import { register } from 'node:module';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient, memoryStore } from '../src/index.js';
import { FakeServer, FAST, until } from './fake.js';

// The network is away for the first try of each part.
const hooks = `
const failed = new Set();
export async function resolve(specifier, context, next) {
  const later = /parts\\.js$/.test(context.parentURL) && /(catch-up|outbox|rest|verify)\\.js$/.test(specifier);
  if (later && !failed.has(specifier)) {
    failed.add(specifier);
    throw new TypeError('Failed to fetch dynamically imported module: ' + specifier);
  }
  return next(specifier, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

let server;
let group;
let client;
beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST });
  client.on('error', () => {});
});
afterEach(async () => {
  client.close();
  await server.kill();
});

test('[SDKPARTS1] the REST client throws NETWORK, and works the next time', async () => {
  await assert.rejects(client.api.eventTexts(group), { code: 'NETWORK', message: /Failed to fetch/ });
  assert.equal((await client.api.eventTexts(group)).length, 1);
});

test('[DRF1] a draft is stored before any code is loaded, and sent once the outbox can be loaded', async () => {
  const store = memoryStore();
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, store });
  const sending = client.send(group, { type: 'message', encrypted_envelope: 'bQ==' });
  assert.equal([...store.keys()].filter((key) => key.startsWith('outbox:')).length, 1);
  assert.equal((await client.pending()).length, 1);
  client.connect();

  assert.equal((await sending).seq, 2);
  await until(() => ![...store.keys()].some((key) => key.startsWith('outbox:')));
});

test('[SDKPARTS2] a gap that cannot be read from the log is replayed by a new socket', async () => {
  const seqs = [];
  client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq) });
  await until(() => seqs.length === 1);
  server.filter = (text) => (text.includes('"seq":2,') ? [] : [text]);
  server.post(group);
  server.filter = (text) => [text];
  server.post(group);

  await until(() => seqs.length === 3);
  assert.deepEqual(seqs, [1, 2, 3]);
  assert.equal(server.handshakes.length, 2);
  assert.ok(!server.requests.some(({ path }) => path === '/v1/events'));
});

test('[SDKPARTS3] if the verification code cannot be loaded, nothing counts as verified', async () => {
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, verify: true });
  const error = await new Promise((resolve) =>
    client.subscribe(group, { since: 0, onEvent: () => assert.fail('unverified'), onEnd: resolve }),
  );
  assert.equal(error.code, 'NETWORK');
  const seqs = [];
  client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq) });
  await until(() => seqs.length === 1);
});
