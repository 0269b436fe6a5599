/** A server that lies: thirty kinds, seven seeds each, and each lie is reported. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { OrbitalClient } from '../src/index.js';
import { digest } from '../src/sha256.js';
import { FakeServer, FAST, hurry, until } from './fake.js';
import { seeded } from './orbital.js';

const EVENTS = 30;
const SEED = Number(process.env.SEED ?? 1);

let server;
let group;
const clients = [];
beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
  for (let i = 1; i < EVENTS; i++) server.log.append(group);
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.kill();
});

/** Listen with verify; `reported` are violations, resets and ends. */
const listen = (options = {}, verify = true, token = 't1') => {
  const client = new OrbitalClient(server.url, { token, backoff: FAST, verify });
  clients.push(client);
  const received = { client, texts: [], reported: [], seqs: [], caughtUp: 0 };
  client.on('error', (error) => received.reported.push(error.code));
  client.on('violation', ({ kind }) => received.reported.push(kind));
  client.subscribe(group, {
    since: 0,
    onEvent: ({ seq }) => received.seqs.push(seq),
    onReset: ({ data }) => received.reported.push(`reset: ${data.reason}`),
    onCaughtUp: () => received.caughtUp++,
    onEnd: (error) => received.reported.push(`end: ${error?.code}`),
    ...options,
  });
  return received;
};

const change = (text) => text.replace('"encrypted_envelope":"AAAA"', '"encrypted_envelope":"BBBB"');
const seqOf = (text) => Number(/"seq":(\d+)/.exec(text)[1]);
const reprev = (text, prev) => text.replace(/"prev":"[\w-]{43}"/, `"prev":"${prev}"`);
const renumber = (text, seq) => text.replace(/"seq":\d+/, `"seq":${seq}`);
const unchained = (text) => text.replace(/,"prev":"[\w-]{43}"/, '');

/** What a lie makes of the frames; `at` is the event that it is about, never the last one, of which nothing can be known yet. */
const FRAMES = {
  'content changed': (texts, at) => texts.map((text, i) => (i === at ? change(text) : text)),
  'stamp changed': (texts, at) =>
    texts.map((text, i) => (i === at ? text.replace(/"server_timestamp":\d+,"group/, '"server_timestamp":9999,"group') : text)),
  'type changed': (texts, at) => texts.map((text, i) => (i === at ? text.replace('new_message', 'new_thread') : text)),
  'a space added': (texts, at) => texts.map((text, i) => (i === at ? text.replace('{"type"', '{ "type"') : text)),
  'prev of another': (texts, at, random) => texts.map((text, i) => (i === at ? reprev(text, digest(String(random()))) : text)),
  'prev left out': (texts, at) => texts.map((text, i) => (i === at ? unchained(text) : text)),
  'all prevs left out from here': (texts, at) => texts.map((text, i) => (i >= at ? unchained(text) : text)),
  'two contents swapped': (texts, at) =>
    texts.map((text, i) => (i === at ? renumber(texts[at - 1], at + 1) : i === at - 1 ? renumber(texts[at], at) : text)),
  'one dropped and the rest renumbered': (texts, at) => texts.filter((_, i) => i !== at).map((text, i) => renumber(text, i + 1)),
  'one made up and the rest renumbered': (texts, at) =>
    [...texts.slice(0, at), change(texts[at]), ...texts.slice(at)].map((text, i) => renumber(text, i + 1)),
};
/** Where a lie stands: in the log and on the socket, or in one of them. */
const PLACES = ['both', 'socket', 'log'];

/** On the socket and in the log, or in one. */
function lies(place, make) {
  const texts = server.log.groups.get(group);
  const lied = make(texts);
  if (place !== 'log') {
    const bySeq = new Map(lied.map((text) => [seqOf(text), text]));
    server.filter = (text) => [bySeq.get(seqOf(text)) ?? []].flat();
  }
  // With a lie in the log alone the socket leaves a gap, so that the log is read.
  if (place === 'log') server.filter = (text) => (seqOf(text) > 1 && seqOf(text) < EVENTS ? [] : [text]);
  if (place !== 'socket') {
    server.intercept = (call, _, response) => {
      if (call.path !== '/v1/events') return false;
      const from = Number(call.query.get('after_seq'));
      response.writeHead(200, { 'Content-Type': 'application/x-ndjson' }).end(
        lied
          .filter((text) => seqOf(text) > from)
          .map((text) => `${text}\n`)
          .join(''),
      );
      return true;
    };
  }
}

describe('[VERIFY1] with verify each violation is reported', () => {
  for (const [kind, make] of Object.entries(FRAMES))
    for (const place of PLACES)
      test(`${kind}, ${place}: seven seeds from ${SEED}`, async (t) => {
        hurry(t, 20);
        for (let seed = SEED; seed < SEED + 7; seed++) {
          const random = seeded(seed);
          const at = 2 + Math.floor(random() * (EVENTS - 4));
          lies(place, (texts) => make(texts, at, random));
          const received = listen();
          await until(() => received.reported.length, `reported: seed ${seed}, event ${at + 1}`);
          assert.ok(
            ['changed', 'skipped', 'repeated', 'withheld'].some((one) => received.reported.includes(one)),
            `seed ${seed}: ${received.reported}`,
          );
          received.client.close();
        }
      });

  test('an honest server causes no violation, with seven seeds', async () => {
    for (let i = 0; i < 7; i++) {
      const received = listen();
      await until(() => received.seqs.length === EVENTS && received.caughtUp);
      assert.deepEqual(received.reported, []);
    }
  });
});

describe("[VERIFY2] verify: 'throw' ends the subscription before the event that does not verify is delivered", () => {
  for (const [kind, make] of Object.entries(FRAMES).filter(([name]) => /content changed|dropped/.test(name)))
    test(kind, async () => {
      lies('socket', (texts) => make(texts, 10, Math.random));
      const received = listen({}, 'throw');
      await until(() => received.reported.some((one) => one.startsWith('end')));
      assert.ok(received.reported.includes('end: CHAIN_BROKEN'), String(received.reported));
      assert.ok(!received.seqs.includes(12), String(received.seqs));
      await assert.rejects(
        (async () => {
          for await (const _ of received.client.subscribe(group, { since: 0 }));
        })(),
        (error) => error.code === 'CHAIN_BROKEN' && error.details.group_id === group,
      );
    });
});

describe('[VERIFY3] excuses', () => {
  const standing = async () => {
    const received = listen();
    await until(() => received.seqs.length === EVENTS && received.caughtUp);
    return received;
  };

  test('recovered: false for events that the log still has is a violation; if they are lost it is only a reset', async () => {
    const received = await standing();
    server.filter = () => [];
    server.post(group);
    server.post(group);
    const { sendFrame } = server;
    server.sendFrame = (connection, type, data, more) => {
      for (const about of Object.values(data.groups ?? {})) about.recovered = false;
      sendFrame.call(server, connection, type, data, more);
    };
    server.cut();
    await until(() => received.reported.length >= 2);
    assert.deepEqual([...received.reported].sort(), ['reset: not recovered', 'withheld']);
  });

  test('an honest recovered: false of a rewound log is a reset and no violation', async () => {
    const received = await standing();
    const texts = server.log.groups.get(group);
    texts.length = 10;
    for (let i = 0; i < 25; i++) server.log.append(group);
    let asked = 0;
    server.intercept = ({ path }) => (path === '/v1/events' && asked++, false);
    server.cut();
    await until(() => received.reported.length && asked && received.caughtUp === 2);
    assert.deepEqual(received.reported, ['reset: not recovered']);
  });

  test('410 for a position that the log, by its own fields, still has is a violation', async () => {
    const received = await standing();
    server.intercept = ({ path }, answer) =>
      path === '/v1/events' && answer(410, { error: 'GONE', message: 'gone', details: { oldest_seq: 5 } });
    server.filter = () => [];
    server.post(group);
    server.filter = (text) => [text];
    server.post(group);
    await until(() => received.reported.some((one) => one.startsWith('reset')));
    assert.ok(received.reported.includes('withheld'), String(received.reported));
  });

  for (const reason of ['left', 'removed'])
    test(`“${reason}” without our member_left is reported, and with it is no violation`, async () => {
      const received = await standing();
      const [connection] = server.connections;
      server.sendFrame(connection, 'unsubscribed', { group_ids: [group], reason });
      await until(() => received.reported.some((one) => one.startsWith('end')));
      assert.deepEqual(received.reported, ['left', 'end: FORBIDDEN']);

      const honest = listen();
      await until(() => honest.seqs.length === EVENTS);
      server.post(group, 'member_left', { group_id: group, user_id: 'u1', username: 'anna', left_at: 'now', reason });
      for (const one of server.connections)
        if (one.groups.has(group)) server.sendFrame(one, 'unsubscribed', { group_ids: [group], reason });
      await until(() => honest.reported.length);
      assert.deepEqual(honest.reported, [reason === 'left' ? 'end: undefined' : 'end: FORBIDDEN']);
    });
});

test('[VERIFY4] a violation without a listener goes to the console', async (t) => {
  const said = [];
  const { error } = console;
  console.error = (...args) => said.push(args);
  t.after(() => (console.error = error));
  lies('socket', (texts) => FRAMES['content changed'](texts, 10));
  const client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, verify: true });
  clients.push(client);
  client.subscribe(group, { since: 0, onEvent: () => {} });

  await until(() => said.length);
  assert.match(String(said[0][0]), /orbital: violation/);
  assert.equal(said[0][1].kind, 'changed');
});
