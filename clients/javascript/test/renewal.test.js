/** Tokens that end: asked for again in time, and connected with at once. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { TOKEN_TIMEOUT_MS } from '../src/http.js';
import { OrbitalClient } from '../src/index.js';
import { makeRenewal } from '../src/renewal.js';
import { FakeServer, FAST, hurry, until } from './fake.js';

let server;
const clients = [];
const connect = (token, backoff = FAST) => {
  const client = new OrbitalClient(server.url, { token, backoff });
  client.errors = [];
  client.on('error', (error) => client.errors.push(error));
  clients.push(client);
  client.connect();
  return client;
};
/** Let auth_success and authenticated say that the token lives so long, and count what is asked. */
const lives = (ms) => {
  const expires = () => ({ expires_at: new Date(1 + ms).toISOString() });
  server.onOpen = (connection) => queueMicrotask(() => server.sendFrame(connection, 'authenticated', expires()));
  server.onFrame = (connection, { type }) => type === 'authenticate' && server.sendFrame(connection, 'authenticated', expires());
};
const frames = (type) => [...server.connections].flatMap((connection) => connection.frames.filter((frame) => frame.type === type));

beforeEach(async () => {
  server = await new FakeServer().listen();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

test('[RNW1] a token of 60 s is renewed at 45 s and at 54 s, and not in the second of the connect', (t) => {
  const { setTimeout } = globalThis;
  const waits = [];
  globalThis.setTimeout = (then, ms) => waits.push([ms, then]);
  t.after(() => (globalThis.setTimeout = setTimeout));
  let asked = 0;
  const renewal = makeRenewal(() => asked++);
  renewal.until('1970-01-01T00:01:00Z', 0);
  renewal.expiring();
  assert.equal(asked, 0);
  waits[0][1]();
  assert.equal(asked, 1);
  renewal.expiring();
  assert.equal(asked, 2);
  waits[1][1]();

  assert.equal(asked, 3);
  assert.deepEqual(
    waits.map(([ms]) => ms),
    [45_000, 9_000],
  );
});

test('[RNW6] tokens of 200 ms are renewed on one connection', async () => {
  lives(200);
  let asked = 0;
  connect(() => `t${++asked}`);

  await until(() => frames('authenticate').length >= 4);
  assert.equal(server.handshakes.length, 1);
  assert.ok(asked <= 7, `${asked} tokens`);
});

test('[RNW2] a token function that returns the same token, or fails once, is called again before expiry', async () => {
  lives(400);
  let asked = 0;
  const client = connect(() => {
    asked++;
    if (asked === 2) throw new Error('identity provider away');
    return asked < 3 ? 't1' : `t${asked}`;
  });

  await until(() => frames('authenticate').length);
  assert.equal(server.handshakes.length, 1);
  assert.deepEqual(
    client.errors.map(({ code }) => code),
    ['TOKEN'],
  );
});

test('[RNW3] if the token expires and a newer one is available, the client reconnects at once', async () => {
  let asked = 0;
  // The back-off alone would wait for more than four minutes.
  const client = connect(() => `t${++asked}`, { steps_ms: [250_000], jitter_ms: 1 });
  await until(() => client.state.status === 'open');
  server.cut(1008);

  await until(() => server.handshakes.length === 2);
  assert.equal(server.handshakes.length, 2);
});

test('[RNW4] a token function that fails right after the token expired is retried', async () => {
  let asked = 0;
  const client = connect(() => {
    if (asked++ === 1) throw new Error('identity provider away');
    return `t${asked}`;
  });
  const states = [];
  client.on('state', ({ status }) => states.push(status));
  await until(() => client.state.status === 'open');
  server.refused.add('t1');
  server.cut(1008);

  await until(() => server.handshakes.length === 2);
  assert.ok(!states.includes('closed'));
});

test('[RNW5] a token function that never returns fails with TOKEN after a timeout, and is called again', async (t) => {
  hurry(t, TOKEN_TIMEOUT_MS / 200);
  let asked = 0;
  const client = connect(() => (asked++ ? 't1' : new Promise(() => {})));

  await until(() => client.state.status === 'open');
  assert.equal(asked, 2);
});
