/** OrbitalClient against a server of the tests' own. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { digest } from '../src/sha256.js';
import { OrbitalClient, OrbitalError, memoryStore } from '../src/index.js';
import { FakeServer, FAST, hurry, until } from './fake.js';

let server;
let group;
const clients = [];

const connect = (options = {}) => {
  const client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, ...options });
  client.errors = [];
  client.violations = [];
  client.states = [];
  client.on('error', (error) => client.errors.push(error));
  client.on('violation', (violation) => client.violations.push(violation));
  client.on('state', (state) => client.states.push(state));
  clients.push(client);
  return client;
};

/** Listen to a group into lists. */
const listen = (client, options = {}, id = group) => {
  const received = { seqs: [], events: [], resets: [], caughtUp: [], ends: [] };
  received.subscription = client.subscribe(id, {
    onEvent: (event) => (received.seqs.push(event.seq), received.events.push(event)),
    onReset: (reset) => received.resets.push(reset),
    onCaughtUp: (item) => received.caughtUp.push(item.data.seq),
    onEnd: (error) => received.ends.push(error),
    ...options,
  });
  return received;
};

const post = (count) => {
  for (let i = 0; i < count; i++) server.post(group);
};

const take = async (subscription, count) => {
  const items = [];
  if (count) for await (const item of subscription) if (items.push(item) === count) break;
  return items;
};

beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

test('[SDKSUB1] a subscription from the start receives all stored events, then live events', async () => {
  post(3);
  const received = listen(connect(), { since: 0 });

  await until(() => received.caughtUp.length);
  assert.deepEqual(received.seqs, [1, 2, 3, 4]);
  assert.deepEqual(received.caughtUp, [4]);
  post(2);
  await until(() => received.seqs.length === 6);
  assert.deepEqual(received.events.at(-1), JSON.parse(server.log.groups.get(group)[5]));
});

test('[SDKSUB2] without since only events posted from now on are received', async () => {
  post(3);
  const received = listen(connect());

  await until(() => received.caughtUp.length);
  post(1);
  await until(() => received.seqs.length);
  assert.deepEqual(received.seqs, [5]);
});

test('[SDKSUB3] async iteration yields events and caught_up in order, and break unsubscribes', async () => {
  post(1);
  const client = connect();
  const items = await take(client.subscribe(group, { since: 0 }), 3);

  assert.deepEqual(
    items.map((item) => item.seq ?? item.type),
    [1, 2, 'caught_up'],
  );
  await until(() => [...server.connections][0].groups.size === 0, 'unsubscribed');
});

test('[SDKSUB4] every event arrives once and in order despite connection losses', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length === 1);

  for (let round = 2; round < 12; round++) {
    post(3);
    server.cut();
    post(3);
    await until(() => received.caughtUp.length === round);
  }
  assert.deepEqual(received.seqs, server.log.seqs(group));
});

test('[SDKSUB5] the subscription resumes after a kill of the server', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length === 1);
  const { port, log } = server;
  await server.kill();
  log.append(group);
  server = await new FakeServer(log).listen(port);

  await until(() => received.caughtUp.length === 2);
  assert.deepEqual(received.seqs, [1, 2]);
});

test('[SDKSUB6] a gap is read over REST, and events that arrive meanwhile are not lost', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length);
  server.delayMs = 30;
  server.filter = (text) => (JSON.parse(text).seq === 3 ? [] : [text]);
  post(2);
  const more = setInterval(() => post(1), 5);
  await until(() => received.seqs.length > 20);
  clearInterval(more);

  await until(() => received.seqs.length === server.log.seqs(group).length);
  assert.deepEqual(received.seqs, server.log.seqs(group));
  const reads = server.requests.filter(({ path }) => path === '/v1/events').length;
  assert.ok(reads <= 3, `${reads} reads of the log`);
});

test('[SDKSUB7] a gap is read although the log first answers 503', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length);
  let refusals = 0;
  server.intercept = ({ path }, answer) =>
    path === '/v1/events' && refusals++ < 1 && answer(503, { error: 'UNAVAILABLE', message: 'later', details: {} });
  server.filter = (text) => (JSON.parse(text).seq === 2 ? [] : [text]);
  post(2);

  await until(() => received.seqs.length === 3);
  assert.deepEqual(received.seqs, [1, 2, 3]);
});

test('[SDKSUB8] a page of the log that does not arrive is requested in smaller pages', async (t) => {
  hurry(t, 50);
  for (let i = 0; i < 300; i++) server.log.append(group);
  const limits = [];
  server.intercept = ({ path, query }, _answer, response) =>
    path === '/v1/events' && limits.push(Number(query.get('limit'))) && limits.at(-1) > 100 && (response.destroy(), true);
  const client = connect();
  const live = listen(client);
  await until(() => live.caughtUp.length);
  const received = listen(client, { since: 0 });

  await until(() => received.caughtUp.length);
  assert.deepEqual(received.seqs, server.log.seqs(group));
  assert.deepEqual(limits.slice(0, 3), [1000, 250, 62]);
});

test('[SDKSUB9] a second subscription catches up over REST, without a second replay', async () => {
  const client = connect();
  const first = listen(client, { since: 0 });
  await until(() => first.caughtUp.length);
  post(4);
  await until(() => first.seqs.length === 5);
  const second = listen(client, { since: 2 });

  await until(() => second.caughtUp.length);
  post(1);
  await until(() => second.seqs.length === 4 && first.seqs.length === 6);
  assert.deepEqual(second.seqs, [3, 4, 5, 6]);
  assert.deepEqual(first.seqs, [1, 2, 3, 4, 5, 6]);
  const subscribes = [...server.connections][0].frames.filter(({ type }) => type === 'subscribe');
  assert.equal(subscribes.length, 1);
});

test('[SDKSUB10] recovered: false emits a reset, in order, and later events are delivered', async () => {
  post(9);
  server.oldest = 6;
  const received = listen(connect(), { since: 2 });

  await until(() => received.resets.length);
  assert.deepEqual({ last: received.resets[0].data.last, seq: received.resets[0].data.seq }, { last: 2, seq: 10 });
  post(1);
  await until(() => received.seqs.length);
  assert.deepEqual(received.seqs, [11]);
  assert.deepEqual(received.caughtUp, [10]);
});

test('[SDKSUB11] a position ahead of the log emits a reset: the log was restored from an old backup', async () => {
  const received = listen(connect(), { since: { seq: 50 } });

  await until(() => received.resets.length);
  assert.equal(received.resets[0].data.seq, 1);
});

test('[SDKSUB12] a gap that is no longer retained emits a reset', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length);
  server.filter = (text) => (JSON.parse(text).seq < 5 ? [] : [text]);
  server.oldest = 5;
  post(5);

  await until(() => received.resets.length);
  post(1);
  await until(() => received.seqs.includes(7));
  assert.deepEqual(received.seqs, [1, 7]);
  assert.equal(received.resets[0].data.last, 1);
});

test('[SDKSUB13] a log with a hole emits a reset, and the remaining events are delivered', async () => {
  const received = listen(connect(), { since: 0 });
  await until(() => received.caughtUp.length);
  server.filter = () => [];
  post(4);
  server.filter = (text) => [text];
  const texts = server.log.groups.get(group);
  server.intercept = ({ path }, _answer, response) =>
    path === '/v1/events' &&
    (response.setHeader('Content-Type', 'application/x-ndjson'), response.end(`${texts.slice(3).join('\n')}\n`), true);
  post(1);

  await until(() => received.seqs.includes(6));
  assert.deepEqual(received.seqs, [1, 4, 5, 6]);
  assert.equal(received.resets.length, 1);
});

test('[SDKSUB14] the position is saved in the store, and a new client resumes from it', async () => {
  const store = memoryStore();
  const first = connect({ store });
  const received = listen(first, { since: 0 });
  post(3);
  await until(() => received.seqs.length === 4);
  first.close();
  post(2);
  const again = listen(connect({ store }), { since: 0 });

  await until(() => again.caughtUp.length);
  assert.deepEqual(again.seqs, [5, 6]);
  assert.deepEqual(again.subscription.position, { seq: 6 });
  assert.deepEqual(await store.get(`position:${group}`), { seq: 6 });
});

test('[SDKSUB15] the position advances after the application has handled an event, not before', async () => {
  const store = memoryStore();
  const client = connect({ store });
  let finish;
  const received = listen(client, { since: 0, onEvent: ({ seq }) => seq === 2 && new Promise((resolve) => (finish = resolve)) });
  post(2);
  await until(() => finish);

  assert.deepEqual(await store.get(`position:${group}`), { seq: 1 });
  finish();
  await until(() => received.subscription.position.seq === 3);

  const items = client.subscribe(group, { since: 0, store: null })[Symbol.asyncIterator]();
  const subscription = client.subscribe(group, { since: 0, store: null });
  const iterator = subscription[Symbol.asyncIterator]();
  await items.next();
  await iterator.next();
  assert.deepEqual(subscription.position, { seq: 0 });
  await iterator.next();
  assert.deepEqual(subscription.position, { seq: 1 });
});

test('[SDKSUB16] with a slow application the buffer is bounded, and the rest stays in the log', async () => {
  const client = connect();
  const seqs = [];
  const subscription = client.subscribe(group, { since: 0 });
  const iterator = subscription[Symbol.asyncIterator]();
  const quick = listen(client, { since: 0 });
  await iterator.next();
  await iterator.next();
  post(5000);
  await until(() => quick.seqs.length === 5001);
  assert.deepEqual(
    server.requests.filter(({ path }) => path === '/v1/events'),
    [],
  );
  for (let i = 0; i < 5000; i++) seqs.push((await iterator.next()).value.seq);

  assert.deepEqual(seqs, server.log.seqs(group).slice(1));
  assert.ok(server.requests.filter(({ path }) => path === '/v1/events').length >= 1, 'it was read from the log');
  await iterator.return();
});

test('[SDKSUB17] an exception in a handler is reported and affects no other handler', async () => {
  const client = connect();
  const received = listen(client, { since: 0 });
  listen(client, {
    since: 0,
    onEvent: () => {
      throw new Error('mine');
    },
  });
  const rejected = listen(client, {
    since: 0,
    onEvent: async () => {
      throw new Error('mine, later');
    },
  });
  post(2);

  await until(() => received.seqs.length === 3 && rejected.subscription.position?.seq === 3);
  assert.ok(client.errors.every(({ code }) => code === 'HANDLER'));
  assert.deepEqual([...new Set(client.errors.map(({ message }) => message))].sort(), ['mine', 'mine, later']);
});

test('[SDKSUB18] a bad frame is reported, and the connection stays open', async () => {
  const client = connect();
  const received = listen(client, { since: 0 });
  await until(() => received.caughtUp.length);
  const [connection] = server.connections;
  connection.socket.send('}{');
  connection.socket.send(Buffer.from('binary'));
  connection.socket.send('{"type":"weather","data":{}}');
  post(1);

  await until(() => received.seqs.length === 2);
  assert.deepEqual(
    client.errors.map(({ code }) => code),
    ['BAD_FRAME', 'BAD_FRAME'],
  );
  assert.equal(client.errors[0].details.text, '}{');
  assert.equal(server.handshakes.length, 1);
});

test('[SDKSUB19] a subscription to a group without membership ends with FORBIDDEN, and the others continue', async () => {
  const client = connect();
  const received = listen(client, { since: 0 });
  const other = listen(client, {}, 'not-mine');
  const iterated = take(client.subscribe('not-mine-either'), 1);

  await assert.rejects(iterated, { code: 'FORBIDDEN' });
  await until(() => other.ends.length);
  assert.equal(other.ends[0].code, 'FORBIDDEN');
  post(1);
  await until(() => received.seqs.length === 2);
});

test('[SDKSUB20] a removed member’s subscription ends after the received events, and is not subscribed again', async () => {
  const client = connect();
  const received = listen(client, { since: 0 });
  await until(() => received.caughtUp.length);
  server.post(group, 'member_left', { group_id: group, user_id: 'u1', username: 'anna', left_at: 'x', reason: 'removed' });
  for (const connection of server.connections) server.sendFrame(connection, 'unsubscribed', { group_ids: [group], reason: 'removed' });

  await until(() => received.ends.length);
  assert.deepEqual(received.seqs, [1, 2]);
  assert.equal(received.ends[0].code, 'FORBIDDEN');
  server.cut();
  await until(() => server.handshakes.length === 2 && server.connections.size);
  await until(() => client.state.status === 'open');
  assert.deepEqual(
    [...server.connections][0].frames.filter(({ type }) => type === 'subscribe'),
    [],
  );
});

test('[SDKSUB21] a subscribe that fails temporarily is retried', async () => {
  let asked = 0;
  server.silent = false;
  const log = server.log;
  const texts = log.groups.get(group);
  log.groups.delete(group);
  server.onFrame = (connection, frame) => {
    if (frame.type === 'subscribe' && asked++ === 0)
      server.sendFrame(connection, 'error', { code: 'UNAVAILABLE', message: 'the database is down', group_ids: [group] });
    if (asked === 2) log.groups.set(group, texts);
  };
  const original = server.sendFrame.bind(server);
  server.sendFrame = (connection, type, data, more) => (data.code === 'FORBIDDEN' ? undefined : original(connection, type, data, more));
  const received = listen(connect(), { since: 0 });

  await until(() => received.seqs.length === 1);
  assert.equal(asked, 2);
});

test('[SDKSUB22] state: connecting, open, closed, with code and reason', async () => {
  const client = connect();
  assert.deepEqual(client.state, { status: 'closed' });
  client.connect();
  await until(() => client.state.status === 'open');
  server.cut(1012);
  await until(() => client.states.at(-1).status === 'open' && client.states.length > 3);
  client.close(4000, 'enough');

  const words = client.states.map(({ status, code }) => [status, code]);
  assert.deepEqual(words[0], ['connecting', undefined]);
  assert.ok(
    client.states.some(
      ({ status, code, reason, retry_at }) => status === 'connecting' && code === 1012 && reason === 'cut' && retry_at > 0,
    ),
  );
  assert.deepEqual(client.state, { status: 'closed', code: 4000, reason: 'enough' });
  client.close();
  assert.equal(client.states.length, words.length);
});

test('[SDKSUB23] a closed client emits nothing more, and connect() opens it again', async () => {
  const client = connect();
  const received = listen(client, { since: 0 });
  await until(() => received.caughtUp.length);
  client.close();
  post(1);

  await until(() => received.ends.length);
  assert.deepEqual(received.ends, [undefined]);
  const again = listen(client, { since: 0 });
  await until(() => again.caughtUp.length);
  assert.deepEqual(again.seqs, [1, 2]);
  assert.deepEqual(received.seqs, [1]);
});

test('[SDKSUB24] verify: an honest server causes no violation, despite connection losses and gaps', async () => {
  const client = connect({ verify: true });
  const received = listen(client, { since: 0 });
  await until(() => received.caughtUp.length === 1);
  for (let round = 2; round < 6; round++) {
    post(2);
    server.cut();
    post(2);
    await until(() => received.caughtUp.length === round);
  }
  const late = listen(client, { since: 3 });
  await until(() => late.caughtUp.length);

  assert.deepEqual(client.violations, []);
  assert.deepEqual(received.seqs, server.log.seqs(group));
  const texts = server.log.groups.get(group);
  assert.deepEqual(
    received.events.map(({ text, hash }) => [text, hash]),
    texts.map((text) => [text, digest(text)]),
  );
  assert.equal(Object.keys(received.events[0]).includes('text'), false);
  assert.deepEqual(received.subscription.position, { seq: texts.length, hash: digest(texts.at(-1)) });
  const last = [...server.connections][0].frames.findLast(({ type }) => type === 'subscribe');
  assert.equal(typeof last.data.since[group].hash, 'string');
});

for (const [what, filter, kind] of [
  ['changed', (text) => [text.replace('"server_timestamp":3', '"server_timestamp":9')], 'changed'],
  ['dropped', (text) => (text.includes('"seq":3,') ? [] : [text]), 'skipped'],
  ['sent twice', (text) => [text, text], 'repeated'],
])
  test(`[SDKSUB25] verify: a frame that was ${what} is detected`, async () => {
    const client = connect({ verify: true });
    const received = listen(client, { since: 0 });
    await until(() => received.caughtUp.length);
    server.filter = filter;
    post(4);

    await until(() => received.seqs.length === 5);
    assert.ok(client.violations.length);
    assert.equal(client.violations[0].kind, kind);
    assert.equal(client.violations[0].group_id, group);
    assert.deepEqual(received.seqs, [1, 2, 3, 4, 5]);
  });

test('[SDKSUB26] verify: two frames in the wrong order are detected, and delivered in the right order', async () => {
  const client = connect({ verify: true });
  const received = listen(client, { since: 0 });
  await until(() => received.caughtUp.length);
  let kept;
  server.filter = (text) => (text.includes('"seq":2,') ? ((kept = text), []) : kept ? [text, kept] : [text]);
  post(2);

  await until(() => received.seqs.length === 3);
  assert.deepEqual(received.seqs, [1, 2, 3]);
  assert.deepEqual(client.violations.map(({ kind }) => kind).slice(0, 2), ['skipped', 'repeated']);
});

test('[SDKSUB27] verify: another log at the same address emits a reset', async () => {
  const store = memoryStore();
  const first = connect({ store, verify: true });
  const received = listen(first, { since: 0 });
  post(2);
  await until(() => received.seqs.length === 3);
  first.close();
  const texts = server.log.groups.get(group);
  texts.length = 1;
  post(4);
  const again = listen(connect({ store, verify: true }));

  await until(() => again.resets.length);
  assert.equal(again.resets[0].data.last, 3);
});

test('[SDKSUB28] typing: sent at most every 3 s, received by others, and stopped by a timeout', async (t) => {
  const client = connect();
  const other = connect();
  const typed = [];
  other.on('typing_indicator', ({ thread_id, is_typing }) => typed.push([thread_id, is_typing]));
  client.connect();
  other.connect();
  await until(() => client.state.status === 'open' && other.state.status === 'open');
  let now = Date.now();
  t.mock.method(Date, 'now', () => now);
  hurry(t, 40);
  for (let key = 0; key < 8; key++, now += 500) client.typing('thread-1');
  await until(() => typed.length === 3);
  client.typing('thread-2');
  client.typing('thread-2', false);
  client.typing('thread-3', false);

  await until(() => typed.length >= 5);
  assert.deepEqual(typed, [
    ['thread-1', true],
    ['thread-1', true],
    ['thread-1', false],
    ['thread-2', true],
    ['thread-2', false],
  ]);
});

test('[SDKSUB29] close() right after subscribe() ends that subscription, also with a slow store', async () => {
  const give = [];
  const store = { ...memoryStore(), get: () => new Promise((resolve) => give.push(resolve)), set() {}, keys: () => [] };
  for (const options of [{}, { store }]) {
    const client = connect(options);
    const ends = [];
    const subscription = client.subscribe(group, { since: 0 });
    client.subscribe(group, { onEvent() {}, onEnd: (error) => ends.push(error) });
    client.close();
    give.splice(0).forEach((resolve) => void resolve(undefined));
    for await (const item of subscription) assert.fail(item);
    await until(() => ends.length);

    assert.deepEqual(ends, [undefined]);
  }
  assert.equal(server.handshakes.length, 0);
});

test('[CBK1] subscribe without onEvent still calls onReset, onCaughtUp and onEnd', async () => {
  const client = connect();
  const resets = [];
  const caughtUp = [];
  const ends = [];
  client.subscribe(server.log.group(), { since: 5, onReset: ({ data }) => resets.push(data.reason) });
  client.subscribe(group, { since: 0, onCaughtUp: ({ data }) => caughtUp.push(data.seq) });
  client.subscribe('not ours', { onEnd: (error) => ends.push(error?.code) });

  await until(() => resets.length && caughtUp.length && ends.length);
  assert.deepEqual([resets, caughtUp[0], ends], [['not recovered'], 1, ['FORBIDDEN']]);
});

test('[CBK2] a subscription with callbacks cannot also be iterated: the events would be divided between the two', async () => {
  const subscription = connect().subscribe(group, { onEnd: () => {} });
  await assert.rejects(
    (async () => {
      for await (const _ of subscription) assert.fail('an item');
    })(),
    { code: 'VALIDATION_ERROR' },
  );
});

test('[JSE1] an error keeps its message and code as JSON', () => {
  const error = new OrbitalError('FORBIDDEN', 'no', { status: 403 });
  assert.deepEqual(JSON.parse(JSON.stringify({ error })).error, {
    name: 'OrbitalError',
    code: 'FORBIDDEN',
    message: 'no',
    status: 403,
    details: {},
    retryAfterMs: 0,
  });
});

test('[RDY1] ready() resolves when the connection is or becomes open, and rejects when it is refused or closed', async () => {
  const client = connect();
  await client.ready();
  assert.equal(client.state.status, 'open');
  await client.ready();
  server.refused.add('bad');
  await assert.rejects(connect({ token: 'bad' }).ready(), { code: 'UNAUTHORIZED', message: 'no' });
  const other = connect();
  const waiting = other.ready();
  other.close();
  await assert.rejects(waiting, { code: 'CLOSED' });
});

test('[EVH1] with verify each event has its hash, which makes a position that another client resumes from', async () => {
  post(3);
  const received = listen(connect({ verify: true }), { since: 0 });
  await until(() => received.events.length === 4);
  const texts = server.log.groups.get(group);
  assert.deepEqual(
    received.events.map(({ hash }) => hash),
    texts.map(digest),
  );
  const { seq, hash } = received.events[1];
  const again = listen(connect({ verify: true }), { since: { seq, hash } });
  await until(() => again.seqs.length === 2);
  assert.deepEqual([again.seqs, again.resets], [[3, 4], []]);
});
