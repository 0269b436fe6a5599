/** Against the real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient, OrbitalWebSocketManager, memoryStore } from '../src/index.js';
import { OrbitalApi } from '../src/rest.js';
import { FAST, until } from './fake.js';
import { Orbital, account, jwt, missing } from './orbital.js';
import { SEED, storm } from './storm.js';

describe('the real server', { skip: missing }, () => {
  let orbital;
  before(async () => {
    orbital = await new Orbital({ ORBITAL_HEARTBEAT_SECONDS: '1' }).start();
  });
  after(() => orbital.close());

  test('[SDKREAL2] a conversation: accounts, groups, threads, replies, messages, members, presence, typing', async () => {
    const anna = new OrbitalClient(orbital.url, { verify: true });
    const ben = new OrbitalClient(orbital.url, { verify: true });
    const violations = [];
    for (const client of [anna, ben]) {
      client.on('violation', (one) => violations.push(one));
      client.on('error', (error) => error.code === 'FORBIDDEN' || violations.push(error));
    }
    try {
      const [{ group_id, invite_code }] = await account(anna.api, 'anna', 1);
      await account(ben.api, 'ben');
      await ben.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
      const received = [];
      const caughtUp = [];
      ben.subscribe(group_id, { since: 0, onEvent: (event) => received.push(event), onCaughtUp: (item) => caughtUp.push(item.data.seq) });
      await until(() => caughtUp.length);
      assert.deepEqual(caughtUp, [2]);
      const { thread_id } = await anna.send(group_id, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'Yg==' });
      await anna.send(group_id, { type: 'reply', thread_id, encrypted_body: 'Yg==' });
      const { seq } = await anna.send(group_id, { type: 'message', encrypted_envelope: 'bQ==' });
      await until(() => received.length === 5);

      assert.equal(seq, 5);
      assert.deepEqual(
        received.map(({ type }) => type),
        ['member_joined', 'member_joined', 'new_thread', 'new_reply', 'new_message'],
      );
      assert.deepEqual(
        received.map(({ hash, ...event }) => event),
        (await anna.api.events({ group_id })).events,
      );
      assert.deepEqual((await anna.api.members(group_id)).map(({ username }) => username).sort(), ['anna', 'ben']);
      assert.deepEqual(
        (await anna.api.presence(group_id)).map(({ username }) => username),
        ['ben'],
      );
      assert.equal((await anna.api.threads(group_id)).threads[0].reply_count, 1);
      assert.equal((await anna.api.replies(thread_id)).total_count, 1);
      assert.equal((await anna.api.messages()).messages.length, 1);

      const typed = [];
      ben.on('typing_indicator', (data) => typed.push([data.username, data.is_typing]));
      anna.subscribe(group_id);
      await until(() => anna.state.status === 'open');
      anna.typing(thread_id);
      anna.typing(thread_id, false);
      await until(() => typed.length === 2);
      assert.deepEqual(typed, [
        ['anna', true],
        ['anna', false],
      ]);

      let end;
      ben.subscribe(group_id, { onEvent: () => {}, onEnd: (error) => (end = error) });
      const { user_id } = (await anna.api.members(group_id)).find(({ username }) => username === 'ben');
      await anna.api.removeMember(group_id, user_id);
      await until(() => end);
      assert.equal(end.code, 'FORBIDDEN');
      assert.equal(received.at(-1).type, 'member_left');
      await assert.rejects(ben.api.events({ group_id }), { code: 'FORBIDDEN' });
      assert.deepEqual(violations, []);
    } finally {
      anna.close();
      ben.close();
    }
  });

  test('[SDKREAL3] each token transport opens a connection, and an invalid token does not', async () => {
    const api = new OrbitalApi(orbital.url);
    const { token } = await api.signup({ username: 'handshakes', password: 'Correct-horse-1', public_key: {} });
    for (const handshake of ['ticket', 'protocol', 'query']) {
      const client = new OrbitalClient(orbital.url, { token, handshake });
      client.connect();
      await until(() => client.state.status === 'open', handshake);
      client.close();
    }
    const client = new OrbitalClient(orbital.url, { token: `${token}x` });
    client.connect();
    await until(() => client.state.status === 'closed');
    assert.equal(client.state.code, 1008);
  });

  test('[SDKREAL4] logging out closes the connection permanently', async () => {
    const client = new OrbitalClient(orbital.url, { backoff: FAST });
    await account(client.api, 'leaver');
    client.connect();
    await until(() => client.state.status === 'open');
    await client.api.logout();
    await until(() => client.state.status === 'closed', 'closed', 120_000);
    assert.equal(client.state.code, 1008);
  });

  test('[SDKREAL5] an expiring token is replaced by the next one on the same connection', async () => {
    const { user_id } = await new OrbitalApi(orbital.url).signup({ username: 'shortlived', password: 'Correct-horse-1', public_key: {} });
    let asked = 0;
    const states = [];
    const client = new OrbitalClient(orbital.url, {
      backoff: FAST,
      token: () => jwt({ userId: user_id, username: 'shortlived' }, asked++ ? 3600 : 10),
    });
    client.on('state', ({ status, code }) => states.push([status, code]));
    const renewed = new Promise((resolve) => client.on('authenticated', resolve));
    client.connect();
    const { expires_at } = await renewed;
    assert.ok(Date.parse(expires_at) > Date.now() + 3_000_000);
    assert.equal(asked, 2);
    // Longer than the first token held.
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    assert.equal(states.at(-1)[0], 'open');
    client.close();
  });

  test('[SDKREAL6] a group without membership is refused, and events that are no longer retained emit a reset', async (t) => {
    const shortly = await new Orbital({ ORBITAL_RETENTION_DAYS: String(1 / 86_400), ORBITAL_PRUNE_SECONDS: '1' }).start();
    t.after(() => shortly.close());
    const client = new OrbitalClient(shortly.url);
    t.after(() => client.close());
    const [{ group_id }] = await account(client.api, 'forgetful', 1);
    const post = () => client.send(group_id, { type: 'message', encrypted_envelope: 'bQ==' });
    await post();
    await post();
    await until(
      () =>
        client.api.events({ group_id, after_seq: 0 }).then(
          () => false,
          ({ code }) => code === 'GONE',
        ),
      'gone',
      30_000,
    );
    const resets = [];
    const seqs = [];
    client.subscribe(group_id, {
      since: 1,
      onEvent: ({ seq }) => seqs.push(seq),
      onReset: ({ data }) => resets.push([data.last, data.seq]),
    });
    await until(() => resets.length);
    await post();
    await until(() => seqs.length);
    assert.deepEqual(resets, [[1, 3]]);
    assert.deepEqual(seqs, [4]);

    const other = new OrbitalClient(shortly.url, { backoff: FAST });
    t.after(() => other.close());
    await account(other.api, 'stranger');
    const refused = await new Promise((resolve) => other.subscribe(group_id, { onEvent() {}, onEnd: resolve }));
    assert.equal(refused.code, 'FORBIDDEN');
    const none = await new Promise((resolve) => other.subscribe('no-group-at-all', { onEvent() {}, onEnd: resolve }));
    assert.equal(none.code, 'FORBIDDEN');
  });

  test('[SDKREAL7] the published class receives events, also across a server kill', async () => {
    const api = new OrbitalApi(orbital.url);
    const [{ group_id }] = await account(api, 'published', 1);
    const manager = new OrbitalWebSocketManager(orbital.url.replace('http', 'ws'), await api.credentials.get(), { backoff: FAST });
    const received = [];
    manager.on('new_thread', (data) => received.push(data.encrypted_title));
    manager.maxReconnectAttempts = 10_000;
    manager.connect();
    manager.subscribe([group_id]);
    await new Promise((resolve) => manager.on('caught_up', resolve));
    const post = (encrypted_title) => api.createThread({ group_id, encrypted_title, encrypted_body: 'Yg==' });
    await post('b25l');
    await until(() => received.length === 1);
    await orbital.kill();
    await orbital.start();
    await post('dHdv');
    await until(() => received.length === 2);
    manager.close();
    assert.deepEqual(received, ['b25l', 'dHdv']);
  });
});

test(
  `[SDKREAL8] 1,000 events in 5 groups with 50 disconnections and 5 server kills: the list equals the log (seed ${SEED})`,
  { skip: missing, timeout: 900_000 },
  (t) =>
    storm(t, async ({ url, token, groups }) => {
      const store = memoryStore();
      const lists = new Map(groups.map((id) => [id, []]));
      const problems = [];
      let client;
      let opened = 0;
      let lost = 0;
      const start = () => {
        client = new OrbitalClient(url, { token, store, verify: true, backoff: { ...FAST, window_ms: 0 }, slackMs: 500 });
        for (const name of ['violation', 'reset', 'error']) client.on(name, (problem) => problems.push(problem));
        let was;
        client.on('state', ({ status }) => {
          if (status === 'open') opened++;
          if (was === 'open' && status !== 'open') lost++;
          was = status;
        });
        for (const id of groups) client.subscribe(id, { since: 0, onEvent: (event) => lists.get(id).push(event) });
      };
      start();
      return {
        lists,
        problems: () => problems,
        opened: () => opened,
        lost: () => lost,
        isOpen: () => client.state.status === 'open',
        restart() {
          client.close();
          start();
        },
        close: () => client.close(),
      };
    }),
);

test('[SDKREAL9] after a server restart 100 clients reconnect over more than 5 s, with at most 5 attempts a minute each, and miss no event', {
  skip: missing,
  timeout: 900_000,
}, async (t) => {
  const orbital = await new Orbital().start();
  t.after(() => orbital.close());
  const writer = new OrbitalClient(orbital.url);
  t.after(() => writer.close());
  const [{ group_id }] = await account(writer.api, 'writer', 1);
  const { token } = await writer.api.login({ username: 'writer', password: 'Correct-horse-1' });
  const post = (count) =>
    Promise.all(Array.from({ length: count }, () => writer.send(group_id, { type: 'message', encrypted_envelope: 'bQ==' })));
  const clients = Array.from({ length: 100 }, () => {
    const one = { attempts: [], openedAt: 0, seqs: [], caughtUp: 0 };
    // Each attempt begins by asking for a ticket.
    const counting = (url, init) => {
      if (url.endsWith('/api/ws-ticket')) one.attempts.push(Date.now());
      return fetch(url, init);
    };
    // The numbers of the back-off are those that everybody has.
    one.client = new OrbitalClient(orbital.url, { token, fetch: counting });
    one.client.on('open', () => (one.openedAt = Date.now()));
    one.client.subscribe(group_id, { since: 0, onEvent: ({ seq }) => one.seqs.push(seq), onCaughtUp: () => one.caughtUp++ });
    t.after(() => one.client.close());
    return one;
  });
  await until(() => clients.every(({ caughtUp }) => caughtUp === 1), 'all open', 120_000);
  await post(20);
  await orbital.kill();
  await orbital.start();
  await post(20);
  await until(() => clients.every(({ caughtUp }) => caughtUp === 2), 'all back', 120_000);
  await post(1);
  const { events } = await writer.api.events({ group_id });
  await until(() => clients.every(({ seqs }) => seqs.length >= events.length), 'all received', 120_000);

  for (const { seqs } of clients)
    assert.deepEqual(
      seqs,
      events.map(({ seq }) => seq),
    );
  const at = clients.map(({ openedAt }) => openedAt).sort((a, b) => a - b);
  t.diagnostic(`back over ${at.at(-1) - at[0]} ms, at most ${Math.max(...clients.map(({ attempts }) => attempts.length))} attempts`);
  assert.ok(at.at(-1) - at[0] >= 5000, `back over ${at.at(-1) - at[0]} ms`);
  for (const { attempts } of clients)
    for (const from of attempts) assert.ok(attempts.filter((one) => one >= from && one < from + 60_000).length <= 5);
});
