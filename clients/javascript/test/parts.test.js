/** Parts that are loaded when they are first used, while they cannot be loaded. */
import assert from 'node:assert/strict';
import { register } from 'node:module';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient } from '../src/node.js';
import { FakeServer, FAST, until } from './fake.js';

// The network is away for the first try of each part.
const hooks = `
const failed = new Set();
export async function resolve(specifier, context, next) {
  const later = /(subscription|client|face)\\.js$/.test(context.parentURL) && /(fill|outbox|rest|chain)\\.js$/.test(specifier);
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

test('the outbox and the REST side say NETWORK, and are there the next time', async () => {
  const draft = { type: 'message', encrypted_envelope: 'bQ==' };
  await assert.rejects(client.api.eventTexts(group), { code: 'NETWORK', message: /Failed to fetch/ });
  assert.equal((await client.api.eventTexts(group)).length, 1);
  await assert.rejects(client.send(group, draft), { code: 'NETWORK', retryable: true });
  assert.equal((await client.send(group, draft)).seq, 2);
});

test('a gap that cannot be read from the log is replayed by a new socket', async () => {
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

test('without its rule nothing passes for verified', async () => {
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, verify: true });
  const error = await new Promise((resolve) => client.subscribe(group, { since: 0, onEvent: () => assert.fail('unverified'), onEnd: resolve }));
  assert.equal(error.code, 'NETWORK');
  const seqs = [];
  client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq) });
  await until(() => seqs.length === 1);
});
