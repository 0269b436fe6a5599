/** The machine: when it connects, when it does not, and how it notices that a line is dead. */
import assert from 'node:assert/strict';
import { connect as dial, createServer } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient } from '../src/index.js';
import { WebSocket } from 'ws';
import { FakeServer, FAST, hurry, until } from './fake.js';

let server;
const clients = [];
const connect = (options = {}, url = server.url) => {
  const client = new OrbitalClient(url, { token: 't1', backoff: FAST, ...options });
  client.errors = [];
  client.states = [];
  client.on('error', (error) => client.errors.push(error));
  client.on('state', (state) => client.states.push(state));
  clients.push(client);
  client.connect();
  return client;
};
const open = (client) => until(() => client.state.status === 'open', 'open');
const refuse =
  (status, code, headers) =>
  ({ path }, answer) =>
    path === '/api/ws-ticket' && answer(status, { error: code, message: code, details: {} }, headers);

/** A socket that reports a failed handshake as a browser does: code 1006, and no reason. */
class Silent extends WebSocket {
  set onclose(then) {
    super.onclose = ({ code }) => then({ code, reason: '' });
  }
}

/** A proxy that drops one header from requests, or from answers. */
async function dropping({ port }, side) {
  const proxy = createServer((client) => {
    const server = dial(port, '127.0.0.1');
    const pass = (drops) => (bytes) =>
      drops && proxy.drops ? Buffer.from(bytes.toString('latin1').replace(/sec-websocket-protocol:.*\r\n/i, ''), 'latin1') : bytes;
    const pairs = [
      [client, server, pass(side === 'request')],
      [server, client, pass(side === 'answer')],
    ];
    for (const [from, to, change] of pairs) {
      from.on('data', (bytes) => to.write(change(bytes)));
      from.on('close', () => to.destroy());
      from.on('error', () => to.destroy());
    }
  });
  proxy.drops = true;
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  proxy.url = `http://127.0.0.1:${proxy.address().port}`;
  return proxy;
}

beforeEach(async () => {
  server = await new FakeServer().listen();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

test('[SDKCONN1] the token is exchanged for a ticket, and no URL contains it', async () => {
  await open(connect());

  assert.deepEqual(
    server.handshakes.map(({ ticket, query, token }) => ({ ticket, query, token })),
    [{ ticket: true, query: false, token: 't1' }],
  );
});

test('[PLC4] without tickets the token is put into a URL only if an option allows it: the reason names the option', async () => {
  server.hasTickets = false;
  const client = connect();
  await until(() => server.requests.length > 2);

  assert.equal(server.handshakes.length, 0);
  assert.match(client.state.reason, /handshake: 'query'/);
  await open(connect({ handshake: 'query' }));
  assert.deepEqual(
    server.handshakes.map(({ query }) => query),
    [true],
  );
});

test('[SDKCONN2] a page of another origin that may not request a ticket sends the token as a subprotocol', async (t) => {
  globalThis.location = { origin: 'https://elsewhere.example' };
  t.after(() => delete globalThis.location);
  server.wss.options.handleProtocols = (offered) => offered.has('orbital.v1') && 'orbital.v1';
  await open(
    connect({
      fetch: async () => {
        throw new TypeError('Failed to fetch');
      },
    }),
  );

  assert.deepEqual(server.handshakes[0].offered, ['orbital.v1', 'bearer.t1']);
});

for (const [handshake, seen] of [
  ['protocol', { query: false, ticket: false }],
  ['query', { query: true, ticket: false }],
])
  test(`[SDKCONN3] handshake: ${handshake}`, async () => {
    server.wss.options.handleProtocols = () => 'orbital.v1';
    await open(connect({ handshake }));

    const [{ query, ticket, token }] = server.handshakes;
    assert.deepEqual({ query, ticket, token }, { ...seen, token: 't1' });
  });

for (const [where, side] of [
  ['requests', 'request'],
  ['answers', 'answer'],
])
  test(`[SPD1] a proxy that drops Sec-WebSocket-Protocol from ${where}: the client reports it once, continues, and puts the token in no URL`, async (t) => {
    const proxy = await dropping(server, side);
    t.after(() => proxy.close());
    // The `ws` package is as silent about a refusal as a browser.
    const client = connect({ handshake: 'protocol', WebSocket: Silent }, proxy.url);
    const { errors } = client;
    await until(() => client.reconnectAttempts >= 6);

    assert.equal(errors.length, 1);
    assert.equal(errors[0].code, 'NETWORK');
    assert.match(errors[0].message, /^3 attempts .* proxy drops the header Sec-WebSocket-Protocol/);
    assert.equal(client.state.status, 'connecting');
    assert.ok(server.handshakes.every(({ query, ticket }) => !query && !ticket));
    proxy.drops = false;
    await open(client);
    assert.equal(errors.length, 1);
  });

/** A socket that reports why a handshake failed. */
class Explained extends WebSocket {
  set onclose(then) {
    super.onclose = ({ code }) => then({ code, reason: 'refused with 401' });
  }
}

test('[SPD2] failures with a known reason, and those of other token transports, are not attributed to a proxy', async () => {
  server.refused.add('t1');
  for (const [handshake, WebSocket] of [
    ['protocol', Explained],
    ['query', Silent],
  ]) {
    const client = connect({ handshake, WebSocket });
    await until(() => client.reconnectAttempts >= 5);
    assert.deepEqual(client.errors, [], handshake);
  }
});

test('[SDKCONN4] a refused token is not retried', async () => {
  server.refused.add('t1');
  const client = connect();

  await until(() => client.state.status === 'closed');
  assert.equal(client.state.code, 1008);
  assert.equal(server.handshakes.length, 0);
  assert.equal(server.requests.length, 1);
});

test('[SDKCONN5] 403 is not retried', async () => {
  server.intercept = refuse(403, 'FORBIDDEN');
  const client = connect();

  await until(() => client.state.status === 'closed');
  assert.deepEqual(client.state, { status: 'closed', code: 1008, reason: 'FORBIDDEN' });
});

test('[SDKCONN6] close 1008 is not retried', async () => {
  const client = connect();
  await open(client);
  server.cut(1008);

  await until(() => client.state.status === 'closed');
  assert.deepEqual(client.state, { status: 'closed', code: 1008, reason: 'cut' });
  assert.equal(server.handshakes.length, 1);
});

test('[SDKCONN7] a token function is called again after its token was refused, at the ticket and by 1008', async () => {
  const tokens = ['old', 'good', 'better'];
  let asked = 0;
  server.refused.add('old');
  const client = connect({ token: async () => tokens[asked++] });
  await open(client);
  assert.equal(server.handshakes.at(-1).token, 'good');
  server.refused.add('good');
  server.cut(1008);

  await until(() => server.handshakes.length === 2);
  await open(client);
  assert.equal(server.handshakes.at(-1).token, 'better');
  assert.equal(asked, 3);
});

test('[SDKCONN8] a token function that returns the refused token again ends the client', async () => {
  server.refused.add('t1');
  let asked = 0;
  const client = connect({ token: () => (asked++, 't1') });

  await until(() => client.state.status === 'closed');
  assert.ok(asked >= 2 && asked <= 3, `asked ${asked} times`);
});

test('[SDKCONN9] a token function that throws is retried: the source of tokens may be unavailable', async () => {
  let asked = 0;
  const client = connect({
    token: () => {
      if (asked++ < 2) throw new Error('offline');
      return 't1';
    },
  });

  await open(client);
  assert.equal(asked, 3);
});

test('[SDKCONN10] on token_expiring the function’s newer token is sent on the same connection', async () => {
  let asked = 0;
  const client = connect({ token: () => `t${++asked}` });
  await open(client);
  const [connection] = server.connections;
  server.sendFrame(connection, 'token_expiring', { expires_at: 'soon' });

  await until(() => connection.frames.some(({ type }) => type === 'authenticate'));
  assert.deepEqual(connection.frames.find(({ type }) => type === 'authenticate').data, { token: 't2' });
  assert.equal(server.handshakes.length, 1);
});

for (const status of [429, 503])
  test(`[SDKCONN11] Retry-After of a ${status} is obeyed`, async () => {
    let refusals = 0;
    const plain = refuse(status, 'LATER', { 'Retry-After': '1' });
    server.intercept = (call, answer) => refusals < 1 && plain(call, answer) && !!++refusals;
    const began = Date.now();
    const client = connect();
    await until(() => client.state.retry_at);
    client.wake();

    await open(client);
    assert.ok(Date.now() - began >= 1000, `${Date.now() - began} ms`);
  });

test('[SDKCONN12] at most five attempts in a window, after any failure', async () => {
  const at = [];
  const counting = (url, init) => {
    at.push(Date.now());
    return fetch(url, init);
  };
  const client = connect({ fetch: counting, backoff: { ...FAST, steps_ms: [1], jitter_ms: 1, window_ms: 3000 } });
  const poke = setInterval(() => client.wake(), 5);
  const cut = setInterval(() => server.cut(), 3);
  await until(() => at.length >= 14);
  clearInterval(poke);
  clearInterval(cut);

  // A second for a machine that looks elsewhere between the count and the request.
  for (let i = 5; i < at.length; i++) assert.ok(at[i] - at[i - 5] > 2000, `six attempts in ${at[i] - at[i - 5]} ms`);
});

test('[SDKCONN13] a connection without any frame for one interval plus slack is replaced', async () => {
  server.heartbeatSeconds = 0.1;
  const client = connect({ slackMs: 100 });
  await open(client);

  await until(() => server.handshakes.length === 2);
  assert.ok(client.states.some(({ reason }) => reason?.startsWith('no answer in time')));
});

test('[SDKCONN14] pings keep a connection open, and are answered', async () => {
  server.heartbeatSeconds = 0.2;
  const client = connect({ slackMs: 100 });
  await open(client);
  const [connection] = server.connections;
  const ping = setInterval(() => server.sendFrame(connection, 'ping', { server_time: 1 }), 100);
  await until(() => connection.frames.filter(({ type }) => type === 'pong').length > 6);
  clearInterval(ping);

  assert.equal(server.handshakes.length, 1);
  assert.equal(typeof connection.frames[0].data.client_time, 'number');
});

test('[SDKCONN15] wake: an attempt in back-off starts at once', async () => {
  const { port, log } = server;
  const client = connect({ backoff: { ...FAST, steps_ms: [60_000] } });
  await open(client);
  await server.kill();
  await until(() => client.state.retry_at);
  server = await new FakeServer(log).listen(port);
  client.wake();

  await open(client);
});

test('[SDKCONN16] wake: an open socket that does not respond is replaced', async (t) => {
  hurry(t, 50);
  const client = connect();
  await open(client);
  server.silent = true;
  client.wake();
  await until(() => client.state.status === 'connecting');
  server.silent = false;

  await until(() => server.handshakes.length === 2);
  await open(client);
  assert.ok(client.states.some(({ reason }) => reason === 'no answer'));
});

test('[SDKCONN17] wake: an open socket that responds is kept', async (t) => {
  // The sign of life may take 600 ms.
  hurry(t, 5);
  const client = connect();
  await open(client);
  client.wake();
  await new Promise((resolve) => client.on('subscribed', resolve));
  await new Promise((resolve) => setTimeout(resolve, 10_000));

  assert.equal(client.state.status, 'open');
  assert.equal(server.handshakes.length, 1);
});

test('[SDKCONN18] an unanswered subscribe replaces the socket', async (t) => {
  hurry(t, 50);
  const client = connect();
  await open(client);
  server.silent = true;
  client.subscribe(server.log.group());

  await until(() => client.states.some(({ reason }) => reason === 'no answer'));
});

test('[SDKCONN19] showing the page and regaining the network wake the client, but not after close()', async (t) => {
  const target = new EventTarget();
  const page = Object.assign(new EventTarget(), { hidden: true });
  Object.assign(globalThis, {
    document: page,
    addEventListener: target.addEventListener.bind(target),
    removeEventListener: target.removeEventListener.bind(target),
  });
  t.after(() => ['document', 'addEventListener', 'removeEventListener'].forEach((name) => void delete globalThis[name]));
  const client = connect();
  await open(client);
  const [connection] = server.connections;
  const probes = () => connection.frames.filter(({ type, data }) => type === 'subscribe' && !data.group_ids.length).length;
  page.dispatchEvent(new Event('visibilitychange'));
  page.hidden = false;
  page.dispatchEvent(new Event('visibilitychange'));
  await until(() => probes() === 1);
  target.dispatchEvent(new Event('online'));
  await until(() => probes() === 2);
  client.close();
  target.dispatchEvent(new Event('online'));
  page.dispatchEvent(new Event('visibilitychange'));

  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(server.handshakes.length, 1);
});

test('[SDKCONN20] a server that accepts and then sends nothing is disconnected after a timeout', async (t) => {
  hurry(t, 50);
  server.silent = true;
  const client = connect();
  await until(() => client.states.some(({ reason }) => reason === 'no answer in time'));
  server.silent = false;

  await open(client);
});

test('[SDKCONN21] close() cancels an attempt in progress', async () => {
  server.delayMs = 20;
  const client = connect();
  await until(() => server.requests.length);
  client.close();
  await new Promise((resolve) => setTimeout(resolve, 50));

  assert.equal(server.handshakes.length, 0);
  assert.equal(client.state.status, 'closed');
});

/** @returns {(ms: number) => void} Moves the wall clock. */
function wallClock(t) {
  let shift = 0;
  const { now } = Date;
  Date.now = () => now.call(Date) + shift;
  t.after(() => (Date.now = now));
  return (ms) => (shift += ms);
}

test('[SDKCONN22] a clock that steps back by a day does not extend a wait', async (t) => {
  const move = wallClock(t);
  const { port, log } = server;
  await server.kill();
  const client = connect();
  await until(() => client.reconnectAttempts >= 5);
  move(-86_400_000);
  client.wake();
  assert.ok(client.state.retry_at - Date.now() <= FAST.window_ms, `waits ${client.state.retry_at - Date.now()} ms`);

  server = await new FakeServer(log).listen(port);
  server.intercept = refuse(429, 'TOO_MANY_REQUESTS', { 'Retry-After': '2' });
  await until(() => server.requests.length);
  await until(() => client.state.retry_at > Date.now() + 1000);
  move(-86_400_000);
  client.wake();
  assert.ok(client.state.retry_at - Date.now() <= 2000, `waits ${client.state.retry_at - Date.now()} ms`);
  server.intercept = () => false;
  await open(client);
});

test('[SDKCONN23] close() cancels a pending request for a ticket, so that it keeps no process alive', async () => {
  let ended = false;
  server.intercept = ({ path }, _, response) => path === '/api/ws-ticket' && new Promise(() => response.on('close', () => (ended = true)));
  const client = connect();
  await until(() => server.requests.length);
  client.close();

  await until(() => ended);
  assert.deepEqual(client.errors, []);
  assert.equal(client.state.status, 'closed');
});

test('[SDKCONN24] a platform without AbortSignal.any, such as a tablet of 2022, still connects and sends requests', async (t) => {
  const { any } = AbortSignal;
  AbortSignal.any = undefined;
  t.after(() => (AbortSignal.any = any));
  server.intercept = ({ path }, answer) => path === '/api/groups' && answer(200, { groups: [] });
  const client = connect();
  await open(client);

  assert.deepEqual(await client.api.groups(), []);
});

test('[SDKCONN25] setToken() takes precedence over a later result of an earlier token function', async () => {
  let give;
  const client = connect({ token: () => new Promise((resolve) => (give = resolve)) });
  await until(() => give);
  client.setToken('t2');
  give('t1');
  await open(client);

  assert.deepEqual(
    server.handshakes.map(({ token }) => token),
    ['t2'],
  );
  await client.api.groups().catch(() => {});
  assert.equal(server.requests.at(-1).headers.authorization, 'Bearer t2');
});

test('[SDKCONN26] a client can be serialized as JSON', async () => {
  const rejected = [];
  const listen = (cause) => rejected.push(cause);
  process.on('unhandledRejection', listen);
  const client = connect();
  const { api } = client;
  JSON.stringify({ api });
  await api.groups().catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', listen);

  assert.deepEqual(rejected, []);
});
