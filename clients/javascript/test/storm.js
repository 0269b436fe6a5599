/** 1,000 events in 5 groups through 50 disconnections and 5 kills, for whatever reader. */
import assert from 'node:assert/strict';
import { OrbitalClient } from '../src/index.js';
import { until } from './fake.js';
import { Orbital, FlakyProxy, account, seeded } from './orbital.js';

/** From ORBITAL_SEED, or of the moment; printed by the test. */
export const SEED = Number(process.env.ORBITAL_SEED ?? Date.now() % 1e9);

const ROUNDS = 50;
const EVENTS_A_ROUND = 20;

/**
 * @typedef {object} Reader A client with its application, behind the proxy.
 * @property {() => number | Promise<number>} opened How often its connection was open so far.
 * @property {() => number | Promise<number>} lost How often it was lost so far; a restart is one, too.
 * @property {() => boolean | Promise<boolean>} isOpen
 * @property {Map<string, any[]>} lists What it received of each group.
 * @property {() => any[] | Promise<any[]>} problems Violations, resets and errors.
 * @property {() => unknown} restart The application ends, and is started again on its store.
 * @property {() => unknown} close
 * @property {Record<string, (proxy: FlakyProxy) => Promise<unknown>>} [own] Disorder of its own kinds, each in turn.
 */

/**
 * @param {import('node:test').TestContext} t
 * @param {(place: {url: string, token: string, groups: string[]}) => Promise<Reader>} make
 */
export async function storm(t, make) {
  t.diagnostic(`ORBITAL_SEED=${SEED}`);
  const random = seeded(SEED);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const orbital = await new Orbital({ ORBITAL_HEARTBEAT_SECONDS: '1' }).start();
  t.after(() => orbital.close());
  const proxy = await FlakyProxy.open(orbital.port, SEED);
  t.after(() => proxy.close());
  const writer = new OrbitalClient(orbital.url);
  t.after(() => writer.close());
  const groups = (await account(writer.api, 'writer', 5)).map(({ group_id }) => group_id);
  const { token } = await writer.api.login({ username: 'writer', password: 'Correct-horse-1' });
  const reader = await make({ url: proxy.url, token, groups });
  t.after(() => reader.close());
  const openAfter = (count) => until(async () => (await reader.opened()) > count, `open again after ${count}`, 120_000);
  const received = () => [...reader.lists.values()].flat().length;
  const own = Object.entries(reader.own ?? {});
  await openAfter(0);

  let kills = 0;
  let owned = 0;
  const sending = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < EVENTS_A_ROUND; i++)
      sending.push(writer.send(pick(groups), { type: 'message', encrypted_envelope: Buffer.from(`${round}.${i}`).toString('base64') }));
    const before = await reader.opened();
    const weather = pick(['calm', 'slow', 'some', 'bytes']);
    await proxy.do('set', {
      direction: 'both',
      slice: weather === 'some' || weather === 'bytes' ? weather : 'whole',
      delay_ms: weather === 'slow' ? [0, 20] : [0, 0],
    });
    if (random() < 0.5) {
      const share = random() * sending.length;
      await until(() => received() > share, 'a part is received', 120_000);
    }
    if (round % 10 === 5) {
      await orbital.kill();
      kills++;
      await orbital.start();
    } else if (round % 17 === 3) {
      // Nothing arrives any more, and nobody says so: the watchdog has to notice.
      await proxy.do('set', { direction: pick(['down', 'both']), swallow: true });
      await until(async () => !(await reader.isOpen()), 'noticed', 120_000);
      await proxy.do('set', { direction: 'both', swallow: false });
      await proxy.do('reset');
    } else if (round % 12 === 7) await reader.restart();
    else if (own.length && round % 12 === 9) await own[owned++ % own.length][1](proxy);
    else await proxy.do(pick(['cut', 'reset']));
    await openAfter(before);
  }
  await Promise.all(sending);
  await proxy.do('set', { direction: 'both', slice: 'whole', delay_ms: [0, 0] });
  const expected = ROUNDS * EVENTS_A_ROUND + groups.length;
  await until(() => received() >= expected, `${expected} events`, 120_000);

  for (const id of groups) {
    const { events, last_seq } = await writer.api.events({ group_id: id, after_seq: 0, limit: 1000 });
    assert.equal(events.length, last_seq);
    // The frames as the server sent them, and with `verify` their hashes.
    assert.deepEqual(
      reader.lists.get(id).map(({ hash, ...event }) => event),
      events,
    );
  }
  const lost = await reader.lost();
  t.diagnostic(`${received()} events, ${lost} disconnections, ${kills} kills`);
  assert.equal(received(), expected);
  assert.equal(kills, 5);
  assert.ok(lost >= 50, `${lost} disconnections`);
  assert.deepEqual(await reader.problems(), []);
}
