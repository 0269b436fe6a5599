/** Against the real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient, OrbitalWebSocketManager, memoryStore } from '../src/node.js';
import { OrbitalApi } from '../src/rest.js';
import { FAST, until } from './fake.js';
import { Orbital, Proxy, account, missing, seeded } from './orbital.js';

const SEED = Number(process.env.ORBITAL_SEED ?? Date.now() % 1e9);

describe('the real server', { skip: missing }, () => {
  let orbital;
  before(async () => {
    orbital = await new Orbital({ ORBITAL_HEARTBEAT_SECONDS: '1' }).start();
  });
  after(() => orbital.close());

  test('a conversation: accounts, groups, threads, replies, messages, members, presence, typing', async () => {
    const anna = new OrbitalClient(orbital.url, { verify: true });
    const ben = new OrbitalClient(orbital.url, { verify: true });
    const violations = [];
    for (const client of [anna, ben]) client.on('violation', (one) => violations.push(one));
    try {
      const [{ group_id, invite_code }] = await account(anna.api, 'anna', 1);
      await account(ben.api, 'ben');
      await ben.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
      const heard = [];
      const caughtUp = [];
      ben.subscribe(group_id, { since: 0, onEvent: (event) => heard.push(event), onCaughtUp: (item) => caughtUp.push(item.data.seq) });
      await until(() => caughtUp.length);
      assert.deepEqual(caughtUp, [2]);
      const { thread_id } = await anna.send(group_id, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'Yg==' });
      await anna.send(group_id, { type: 'reply', thread_id, encrypted_body: 'Yg==' });
      const { seq } = await anna.send(group_id, { type: 'message', encrypted_envelope: 'bQ==' });
      await until(() => heard.length === 5);

      assert.equal(seq, 5);
      assert.deepEqual(heard.map(({ type }) => type), ['member_joined', 'member_joined', 'new_thread', 'new_reply', 'new_message']);
      assert.deepEqual(heard, (await anna.api.events({ group_id })).events);
      assert.deepEqual((await anna.api.members(group_id)).map(({ username }) => username).sort(), ['anna', 'ben']);
      assert.deepEqual((await anna.api.presence(group_id)).map(({ username }) => username), ['ben']);
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
      assert.deepEqual(typed, [['anna', true], ['anna', false]]);

      let end;
      ben.subscribe(group_id, { onEvent: () => {}, onEnd: (error) => (end = error) });
      const { user_id } = (await anna.api.members(group_id)).find(({ username }) => username === 'ben');
      await anna.api.removeMember(group_id, user_id);
      await until(() => end);
      assert.equal(end.code, 'FORBIDDEN');
      assert.equal(heard.at(-1).type, 'member_left');
      await assert.rejects(ben.api.events({ group_id }), { code: 'FORBIDDEN' });
      assert.deepEqual(violations, []);
    } finally {
      anna.close();
      ben.close();
    }
  });

  test('each way of the handshake opens, and a bad token does not', async () => {
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

  test('logging out closes the connection for good', async () => {
    const client = new OrbitalClient(orbital.url, { backoff: FAST });
    await account(client.api, 'leaver');
    client.connect();
    await until(() => client.state.status === 'open');
    await client.api.logout();
    await until(() => client.state.status === 'closed', 'closed', 40_000);
    assert.equal(client.state.code, 1008);
  });

  test('the published face hears what comes, also across a kill', async () => {
    const api = new OrbitalApi(orbital.url);
    const [{ group_id }] = await account(api, 'published', 1);
    const manager = new OrbitalWebSocketManager(orbital.url.replace('http', 'ws'), await api.credentials.get(), { backoff: FAST });
    const heard = [];
    manager.on('new_thread', (data) => heard.push(data.encrypted_title));
    manager.maxReconnectAttempts = 10_000;
    manager.connect();
    manager.subscribe([group_id]);
    await new Promise((resolve) => manager.on('caught_up', resolve));
    const post = (encrypted_title) => api.createThread({ group_id, encrypted_title, encrypted_body: 'Yg==' });
    await post('b25l');
    await until(() => heard.length === 1);
    await orbital.kill();
    await orbital.start();
    await post('dHdv');
    await until(() => heard.length === 2);
    manager.close();
    assert.deepEqual(heard, ['b25l', 'dHdv']);
  });
});

test(`1,000 events in 5 groups over 50 disconnections and 5 kills: the list equals the log (seed ${SEED})`, { skip: missing, timeout: 240_000 }, async (t) => {
  t.diagnostic(`ORBITAL_SEED=${SEED}`);
  const random = seeded(SEED);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const orbital = await new Orbital({ ORBITAL_HEARTBEAT_SECONDS: '1' }).start();
  const proxy = await Proxy.open(orbital.port, SEED);
  const writer = new OrbitalClient(orbital.url);
  const groups = (await account(writer.api, 'writer', 5)).map(({ group_id }) => group_id);
  const token = await writer.api.login({ username: 'writer', password: 'Correct-horse-1' }).then((answer) => answer.token);
  const store = memoryStore();
  const problems = [];
  const lists = new Map(groups.map((id) => [id, []]));
  let opened = 0;
  let lost = 0;
  const connect = () => {
    const client = new OrbitalClient(proxy.url, { token, store, verify: true, backoff: { ...FAST, window_ms: 0 }, slackMs: 500 });
    client.on('violation', (one) => problems.push(one));
    client.on('reset', (data, item) => problems.push(item));
    client.on('error', (error) => problems.push(error));
    let was;
    client.on('state', ({ status }) => {
      if (status === 'open') opened++;
      if (was === 'open' && status !== 'open') lost++;
      was = status;
    });
    for (const id of groups) client.subscribe(id, { since: 0, onEvent: (event) => lists.get(id).push(event) });
    return client;
  };
  let reader = connect();
  const open = (after) => until(() => opened > after, `open again after ${after}`, 30_000);
  try {
    await open(0);
    let kills = 0;
    const sending = [];
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 20; i++) sending.push(writer.send(pick(groups), { type: 'message', encrypted_envelope: Buffer.from(`${round}.${i}`).toString('base64') }));
      const before = opened;
      const weather = pick(['calm', 'slow', 'some', 'bytes']);
      await proxy.do('set', { direction: 'both', slice: weather === 'some' || weather === 'bytes' ? weather : 'whole', delay_ms: weather === 'slow' ? [0, 20] : [0, 0] });
      if (random() < 0.5) await until(() => [...lists.values()].flat().length > random() * sending.length);
      if (round % 10 === 5) {
        await orbital.kill();
        kills++;
        await orbital.start();
      } else if (round % 17 === 3) {
        // Nothing arrives any more, and nobody says so: the watchdog has to notice.
        await proxy.do('set', { direction: pick(['down', 'both']), swallow: true });
        await until(() => reader.state.status !== 'open', 'noticed', 30_000);
        await proxy.do('set', { direction: 'both', swallow: false });
        await proxy.do('reset');
      } else if (round % 12 === 7) {
        // The application is closed, and started again on its store.
        reader.close();
        lost++;
        reader = connect();
      } else await proxy.do(pick(['cut', 'reset']));
      await open(before);
    }
    await Promise.all(sending);
    await proxy.do('set', { direction: 'both', slice: 'whole', delay_ms: [0, 0] });
    const total = () => [...lists.values()].flat().length;
    await until(() => total() >= 1005, () => `${total()} of 1005`, 60_000);

    for (const id of groups) {
      const { events, last_seq } = await writer.api.events({ group_id: id, after_seq: 0, limit: 1000 });
      assert.equal(events.length, last_seq);
      assert.deepEqual(lists.get(id), events);
    }
    assert.equal(total(), 1005);
    assert.equal(kills, 5);
    assert.ok(lost >= 50, `${lost} disconnections`);
    assert.deepEqual(problems, []);
    t.diagnostic(`${total()} events, ${lost} disconnections, ${kills} kills`);
  } finally {
    reader.close();
    writer.close();
    await proxy.close();
    await orbital.close();
  }
});
