/** Answers that are not the server's: whatever a proxy says, the server is only unreachable. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MAX_ANSWER_BYTES } from '../src/http.js';
import { OrbitalClient, OrbitalWebSocketManager, memoryStore } from '../src/index.js';
import { MAX_TIMER_MS, after } from '../src/timers.js';
import { FakeServer, FAST, until } from './fake.js';

let server;
let group;
const clients = [];
const connect = (options = {}, url = server.url) => {
  const client = new OrbitalClient(url, { token: 'secret-jwt', backoff: FAST, ...options });
  client.errors = [];
  client.states = [];
  client.on('error', (error) => client.errors.push(error));
  client.on('state', (state) => client.states.push(state.status));
  clients.push(client);
  return client;
};
const draft = (text = 'bQ==') => ({ type: 'message', encrypted_envelope: text });
const HTML = '<html><body>Please log in to the network</body></html>';

beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

/** What proxies, portals and gateways answer. */
const LIES = [
  ...[301, 302, 400, 401, 403, 404, 405, 408, 410, 413, 418, 426, 429, 500, 502, 503, 504].map((status) => [status, HTML, 'text/html']),
  [200, HTML, 'text/html'],
  [200, '{"status":"login required"}', 'application/json'],
  [200, '', 'text/plain'],
  [401, '{"error":"unauthorized","message":"no"}', 'application/json'],
  [403, '{"error":"FORBIDDEN","message":"by the gateway"}', 'application/json'],
  [404, '{"error":{"code":404}}', 'application/json'],
  [401, 'null', 'application/json'],
];
const lie =
  ([status, body, type], headers = {}) =>
  (_, __, response) => {
    response
      .writeHead(status, { 'Content-Type': type, ...(status < 400 && status > 300 && { Location: `${server.url}/portal` }), ...headers })
      .end(body);
    return true;
  };

describe('a proxy that gives false answers for a while', () => {
  for (const [i, one] of LIES.entries())
    test(`[PLC1] ${one[0]} ${one[1].slice(0, 30)}: the client continues, sends the kept draft once, and no URL contains the token`, async () => {
      const store = memoryStore();
      const client = connect({ store });
      const seqs = [];
      const ends = [];
      client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq), onEnd: (error) => ends.push(error) });
      await until(() => seqs.length === 1);
      const failed = [];
      client.on('failed', (one) => failed.push(one));
      const before = server.requests.length;
      server.intercept = lie(one);
      server.cut();
      const sending = client.send(group, draft());
      const seen = () => server.requests.slice(before).map(({ path }) => path);
      await until(() => seen().includes('/api/ws-ticket') && seen().includes('/v1/messages'));
      await until(() => seen().filter((path) => path === '/api/ws-ticket').length >= 2);
      assert.equal((await client.pending()).length, 1);
      assert.ok([...store.keys()].some((key) => key.startsWith('outbox:')));
      server.intercept = () => false;

      await sending;
      await until(() => seqs.length === 2);
      assert.deepEqual(seqs, [1, 2]);
      assert.ok(!client.states.includes('closed'), `states ${client.states}`);
      assert.deepEqual([failed, ends], [[], []]);
      assert.ok(server.handshakes.every(({ query }) => !query));
      assert.ok(
        !server.requests.some(({ path, query }) => path.includes('secret-jwt') || [...query.values()].includes('secret-jwt')),
        `lie ${i}`,
      );
    });

  test('[PLC2] reading the log and the REST API: each false answer is HTTP_…, is retryable, and has no status', async () => {
    const client = connect();
    for (const one of LIES) {
      server.intercept = lie(one);
      for (const call of [
        () => client.api.eventPage({ group_id: group }),
        () => client.api.groups(),
        () => client.api.logout(),
        () => client.api.createThread({}),
      ]) {
        if (one[0] === 200 && one[1] === '' && `${call}`.includes('logout')) continue;
        const error = await call().catch((caught) => caught);
        assert.match(error.code, new RegExp(`^HTTP_${one[0]}$`), `${one} ${call}: ${error}`);
        assert.deepEqual([error.status, error.retryable], [0, true]);
      }
    }
  });

  test('[PLC3] a page of the log that a proxy answers does not end or reset a subscription', async () => {
    const client = connect();
    const seqs = [];
    const resets = [];
    client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq), onReset: (reset) => resets.push(reset) });
    await until(() => seqs.length === 1);
    let lies = 0;
    server.intercept = (call, answer, response) =>
      call.path === '/v1/events' && lies < 1 && (lies++, lie([410, HTML, 'text/html'])(call, answer, response));
    server.filter = () => [];
    server.post(group);
    server.filter = (text) => [text];
    server.post(group);

    await until(() => seqs.length === 3);
    assert.deepEqual([seqs, resets, lies], [[1, 2, 3], [], 1]);
  });
});

test('[PLC5] close 1008 before auth_success comes from a proxy: the client reconnects', async () => {
  server.silent = true;
  const client = connect();
  client.connect();
  await until(() => server.connections.size);
  server.cut(1008);
  server.silent = false;

  await until(() => client.state.status === 'open');
  assert.ok(!client.states.includes('closed'));
});

test('[PLC6] a refusal by the server itself ends the loops with an error, which goes to the console without a listener', async (t) => {
  const said = [];
  const { error } = console;
  console.error = (...args) => said.push(args);
  t.after(() => (console.error = error));
  const client = new OrbitalClient(server.url, { token: 't1', backoff: FAST });
  clients.push(client);
  const ends = [];
  client.subscribe(group, { since: 0, onEvent: () => {}, onEnd: (cause) => ends.push(cause) });
  const loop = (async () => {
    for await (const item of client.subscribe(group, { since: 0 })) if (item.type === 'caught_up') server.cut(1008);
  })();

  await assert.rejects(loop, { name: 'OrbitalError', code: 'UNAUTHORIZED', message: 'cut' });
  await until(() => ends.length);
  assert.equal(ends[0].code, 'UNAUTHORIZED');
  assert.equal(client.state.code, 1008);
  assert.match(String(said[0]), /orbital: error:.*cut/);
});

for (const [status, code] of [
  [401, 'UNAUTHORIZED'],
  [403, 'ACCOUNT_DISABLED'],
])
  test(`[PLC8] refused at the ticket with ${status}: the loop throws ${code}`, async () => {
    server.intercept = ({ path }, answer) => path === '/api/ws-ticket' && answer(status, { error: code, message: 'no', details: {} });
    const client = connect();
    await assert.rejects(
      (async () => {
        for await (const _ of client.subscribe(group)) assert.fail('an event');
      })(),
      { code, status },
    );
    assert.deepEqual(
      client.errors.map((error) => error.code),
      [code],
    );
  });

describe('numbers from outside', () => {
  for (const value of ['1000000000', '3000000', '1e308', 'Fri, 31 Dec 9999 23:59:59 GMT', '-1', 'NaN', 'soon'])
    test(`[NUM1] Retry-After: ${value}: at most five attempts in a window, and connect() retries at once`, async () => {
      server.intercept = ({ path }, answer) =>
        path === '/api/ws-ticket' && answer(429, { error: 'TOO_MANY_REQUESTS', message: 'later', details: {} }, { 'Retry-After': value });
      const client = connect({ backoff: { ...FAST, window_ms: 60_000 } });
      const began = performance.now();
      client.connect();
      await until(() => client.state.retry_at);
      assert.ok(client.state.retry_at - Date.now() <= 3_601_000, `waits ${client.state.retry_at - Date.now()} ms`);
      await until(() => performance.now() - began > 300);
      assert.ok(server.requests.length <= 5, `${server.requests.length} requests`);
      server.intercept = () => false;
      // At most one a second by hand.
      await until(() => (client.connect(), client.state.status === 'open'), 'open', 120_000);
    });

  test('[NUM1] in a page, where a user waits, the maximum wait is five minutes', async (t) => {
    globalThis.document = Object.assign(new EventTarget(), { hidden: true });
    t.after(() => delete globalThis.document);
    server.intercept = (_, answer) => answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} }, { 'Retry-After': '86400' });
    const error = await connect()
      .api.groups()
      .catch((caught) => caught);
    assert.equal(error.retryAfterMs, 300_000);
  });

  test('[NUM2] a timer never exceeds 31 bits of milliseconds, and src/ starts timers in one place', () => {
    const { setTimeout } = globalThis;
    const waits = [];
    globalThis.setTimeout = (_, ms) => waits.push(ms);
    try {
      for (const ms of [2 ** 31, 1e308, Infinity, NaN, -5, 7]) after(ms, () => {});
    } finally {
      globalThis.setTimeout = setTimeout;
    }
    assert.deepEqual(waits, [MAX_TIMER_MS, MAX_TIMER_MS, MAX_TIMER_MS, 0, 0, 7]);
    const src = new URL('../src/', import.meta.url);
    for (const file of readdirSync(src).filter((name) => name !== 'timers.js'))
      assert.doesNotMatch(readFileSync(new URL(file, src), 'utf8'), /\b(setTimeout|setInterval|AbortSignal\.timeout)\(/, file);
  });

  for (const since of [-1, NaN, 1.5, Infinity, '7', {}, { seq: '7' }, { seq: 1, hash: 'short' }, null, []])
    test(`[NUM3] since: ${JSON.stringify(since) ?? since} ${Object.is(since, NaN) ? 'NaN' : ''} throws a catchable error at once`, () => {
      const client = connect();
      assert.throws(() => client.subscribe(group, { since }), { code: 'VALIDATION_ERROR', message: /a position is a whole number/ });
      assert.equal(client.state.status, 'closed');
    });

  for (const stored of ['7', {}, -1, { seq: 1e300 }, [1]])
    test(`[NUM4] a stored position ${JSON.stringify(stored)} ends the loop with an error that names the key in the store`, async () => {
      const store = memoryStore();
      store.set(`position:${group}`, stored);
      const client = connect({ store });
      await assert.rejects(
        (async () => {
          for await (const _ of client.subscribe(group, { since: 0 })) assert.fail('an event');
        })(),
        { code: 'VALIDATION_ERROR', message: new RegExp(`position:${group}`) },
      );
      const error = await new Promise((resolve) => client.subscribe(group, { onEnd: resolve }));
      assert.equal(error.code, 'VALIDATION_ERROR');
    });

  for (const heartbeat of [1e308, -1, 'x', 1e-300, null])
    test(`[NUM5] heartbeat_seconds ${heartbeat} causes no timer loop`, async () => {
      server.heartbeatSeconds = heartbeat;
      const { setTimeout } = globalThis;
      let timers = 0;
      globalThis.setTimeout = (...args) => (timers++, setTimeout(...args));
      try {
        const client = connect();
        client.connect();
        await until(() => client.state.status === 'open');
        timers = 0;
        const began = performance.now();
        await until(() => performance.now() - began > 100);
        // The test's own wait makes one each 2 ms at most.
        assert.ok(timers < 70, `${timers} timers in 100 ms`);
      } finally {
        globalThis.setTimeout = setTimeout;
      }
    });

  for (const groups of [{ seq: -5, recovered: false }, { seq: 'x' }, { seq: 2 ** 60 }])
    test(`[NUM6] a subscribed frame with ${JSON.stringify(groups)} is a bad frame, and the subscription continues`, async () => {
      const client = connect();
      const seqs = [];
      client.subscribe(group, { since: 0, onEvent: ({ seq }) => seqs.push(seq) });
      await until(() => seqs.length === 1);
      for (const connection of server.connections)
        server.sendFrame(connection, 'subscribed', { group_ids: [group], groups: { [group]: groups } });
      await until(() => client.errors.length);
      server.post(group);

      await until(() => seqs.length === 2);
      assert.equal(client.errors[0].code, 'BAD_FRAME');
    });
});

for (const url of [
  'localhost:3000',
  '',
  'example.org',
  'ftp://h',
  'http://',
  '/ws',
  null,
  'http:/h',
  'http://h/?a=1',
  'http://h/#join=a',
  'http://u:p@h',
])
  test(`[URLA1] ${JSON.stringify(url)} is not a valid address and throws at once`, () => {
    const named = { code: 'VALIDATION_ERROR', message: /is not the address of a server/ };
    assert.throws(() => new OrbitalClient(url), named);
    assert.throws(() => new OrbitalWebSocketManager(url, 't'), named);
  });
for (const [url, base] of [
  ['http://localhost:3000', 'http://localhost:3000'],
  ['https://api.example.com/', 'https://api.example.com'],
  ['ws://h/ws', 'http://h'],
  ['wss://h/v1/websocket', 'https://h'],
  ['wss://h/orbital/ws/', 'https://h/orbital'],
  ['https://h/orbital//', 'https://h/orbital'],
  ['HTTP://LOCALHOST:3000/', 'http://localhost:3000'],
  ['http://[::1]:3000', 'http://[::1]:3000'],
  ['https://h/news', 'https://h/news'],
])
  test(`[URLA2] ${url} is accepted in common spellings, for the socket and for the REST API`, () => {
    const client = new OrbitalClient(url);

    assert.equal(client.http.url, base);
  });
test('[URLA3] without an address and outside a page the client throws at once', () => {
  assert.throws(() => new OrbitalClient(), { code: 'VALIDATION_ERROR' });
});

for (const [what, status] of [
  ['an answer', 200],
  ['a refusal', 503],
])
  test(`[BND1] ${what} that inflates above the bound is not read into memory`, async () => {
    const { gzipSync } = await import('node:zlib');
    const bomb = gzipSync(Buffer.alloc(8 * MAX_ANSWER_BYTES, '{"a":1}\n'), { level: 1 });
    server.intercept = (_, __, response) => (
      response.writeHead(status, { 'Content-Type': 'application/x-ndjson', 'Content-Encoding': 'gzip' }).end(bomb), true
    );
    const before = process.memoryUsage().rss;
    let most = 0;
    const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss - before)), 5);
    const client = connect();
    for (const call of [() => client.api.eventTexts(group), () => client.api.groups()]) await assert.rejects(call(), { retryable: true });
    clearInterval(watch);
    assert.ok(most < 200e6, `${Math.round(most / 1e6)} MB more`);
  });
