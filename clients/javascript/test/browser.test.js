/** The same in a real Chromium: the page imports the SDK from the server, and nothing else. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OrbitalClient } from '../src/index.js';
import { Chromium, missing as noChromium } from './chromium.js';
import { until } from './fake.js';
import { Orbital, FlakyProxy, account, missing as noServer } from './orbital.js';
import { SEED, storm } from './storm.js';

const skip = noChromium || noServer;
let browser;
before(async () => {
  if (!skip) browser = await Chromium.open();
});
after(() => browser?.close());

/** In the page: a client on localStorage, whose events go to the test before their position is kept. */
async function start(token, groups, backoff) {
  const { OrbitalClient, localStorageStore } = await import('/sdk/orbital.js');
  const client = new OrbitalClient(undefined, { token, store: localStorageStore(), verify: true, backoff, slackMs: 500 });
  const page = (globalThis.page = { client, opened: 0, lost: 0, problems: [] });
  for (const name of ['violation', 'reset', 'error'])
    client.on(name, (problem) => page.problems.push(`${name}: ${problem.message ?? JSON.stringify(problem)}`));
  let was;
  client.on('state', ({ status }) => {
    if (status === 'open') page.opened++;
    if (was === 'open' && status !== 'open') page.lost++;
    was = status;
  });
  for (const id of groups) client.subscribe(id, { since: 0, onEvent: (event) => globalThis.received(event) });
}

test(
  `[SDKPAGE1] in Chromium: 1,000 events in 5 groups with 50 disconnections, 5 server kills, hidden and shown, offline and online (seed ${SEED})`,
  { skip, timeout: 900_000 },
  (t) =>
    storm(t, async ({ url, token, groups }) => {
      const lists = new Map(groups.map((id) => [id, []]));
      const problems = [];
      const tab = await browser.tab();
      const other = await browser.tab();
      let restarts = 0;
      let opened = 0;
      let lost = 0;
      await tab.expose('received', (event) => {
        const list = lists.get(event.group_id);
        // A page that is reloaded between receiving an event and storing its position receives that one event again.
        if (restarts && event.seq === list.length && event.prev === list.at(-1).prev) return;
        list.push(event);
      });
      const begin = async () => {
        // The page itself comes through the proxy, too.
        await tab.go(`${url}/health/live`);
        await tab.run(start, token, groups, { steps_ms: [10, 20, 40, 80, 160, 320], jitter_ms: 20, window_ms: 0 });
      };
      const now = () => tab.run(() => ({ ...globalThis.page, client: undefined, isOpen: globalThis.page.client.state.status === 'open' }));
      await begin();
      return {
        lists,
        problems: async () => [...problems, ...(await now()).problems, ...tab.complaints],
        opened: async () => opened + (await now()).opened,
        lost: async () => lost + (await now()).lost,
        isOpen: async () => (await now()).isOpen,
        async restart() {
          const { opened: one, lost: two, problems: three } = await now();
          opened += one;
          lost += two + 1;
          restarts++;
          problems.push(...three);
          await begin();
        },
        close: () => tab.run(() => globalThis.page.client.close()),
        own: {
          // A tab in the background whose line is cut; shown again, it is back at once.
          async hidden(proxy) {
            await other.show();
            assert.equal(await tab.run(() => document.visibilityState), 'hidden');
            await proxy.do('set', { direction: 'both', swallow: true });
            await until(async () => !(await now()).isOpen, 'noticed while hidden', 120_000);
            await proxy.do('set', { direction: 'both', swallow: false });
            await proxy.do('reset');
            await tab.show();
          },
          async offline(proxy) {
            const before = await now();
            await tab.offline(true);
            await proxy.do('cut');
            await until(async () => (await now()).lost > before.lost, 'lost', 120_000);
            await tab.offline(false);
          },
        },
      };
    }),
);

/** A page with one client with the numbers that everybody has, and a group. */
async function onePage(t, { env = {}, backoff = {} } = {}) {
  const orbital = await new Orbital(env).start();
  t.after(() => orbital.close());
  const proxy = await FlakyProxy.open(orbital.port, SEED);
  t.after(() => proxy.close());
  const writer = new OrbitalClient(orbital.url);
  t.after(() => writer.close());
  const [{ group_id }] = await account(writer.api, 'writer', 1);
  const { token } = await writer.api.login({ username: 'writer', password: 'Correct-horse-1' });
  const tab = await browser.tab();
  await tab.go(`${proxy.url}/health/live`);
  const seqs = [];
  await tab.expose('received', ({ seq }) => seqs.push(seq));
  await tab.go(`${proxy.url}/health/live`);
  await tab.run(start, token, [group_id], backoff);
  const state = () => tab.run(() => globalThis.page.client.state);
  await until(async () => (await state()).status === 'open');
  const post = () => writer.send(group_id, { type: 'message', encrypted_envelope: 'bQ==' });
  return { orbital, proxy, tab, seqs, state, post, token };
}

test('[SDKPAGE2] in Chromium: a page that is shown again replaces a dead socket at once', { skip, timeout: 900_000 }, async (t) => {
  // A missing ping is noticed after five minutes.
  const { proxy, tab, seqs, state, post } = await onePage(t, { env: { ORBITAL_HEARTBEAT_SECONDS: '300' } });
  const other = await browser.tab();
  await other.show();
  await until(() => tab.run(() => document.visibilityState === 'hidden'));
  await proxy.do('set', { direction: 'both', swallow: true });
  await post();
  assert.equal((await state()).status, 'open');
  const shown = Date.now();
  await tab.show();
  // Three seconds for a sign of life, then a new socket.
  await until(async () => (await state()).status === 'connecting', 'noticed', 120_000);
  await proxy.do('set', { direction: 'both', swallow: false });
  await proxy.do('reset');
  await until(() => seqs.includes(2), 'received', 120_000);

  t.diagnostic(`back after ${Date.now() - shown} ms`);
  assert.deepEqual(seqs, [1, 2]);
});

test('[SDKPAGE3] in Chromium: a page whose network returns reconnects before its back-off ends', { skip, timeout: 900_000 }, async (t) => {
  const { proxy, tab, seqs, state, post } = await onePage(t, { backoff: { steps_ms: [250_000], jitter_ms: 1 } });
  await tab.offline(true);
  await proxy.do('cut');
  const { retry_at } = await until(async () => ((await state()).retry_at ? state() : false), 'a long wait', 120_000);
  await post();
  await tab.offline(false);
  await until(() => seqs.includes(2), 'received', 120_000);

  assert.ok(Date.now() < retry_at, 'before the wait was over');
});

test('[SDKPAGE4] in Chromium: a refused token can be distinguished from a lost network', { skip, timeout: 900_000 }, async (t) => {
  const { tab, token } = await onePage(t);
  const state = await tab.run(async (bad) => {
    const { OrbitalClient } = await import('/sdk/orbital.js');
    const client = new OrbitalClient(undefined, { token: bad });
    const closed = new Promise((resolve) => client.on('closed', resolve));
    client.connect();
    return closed;
  }, `${token}x`);
  assert.equal(state.code, 1008);
});

test('[SDKPAGE5] in Chromium: a page of another origin can use the server', { skip, timeout: 900_000 }, async (t) => {
  const { orbital, tab, token } = await onePage(t);
  const status = await tab.run(
    async (url, jwt) => {
      const { OrbitalClient } = await import('/sdk/orbital.js');
      const client = new OrbitalClient(url, { token: jwt });
      const opened = new Promise((resolve) => client.on('open', resolve));
      client.connect();
      const state = await opened;
      const groups = await client.api.groups();
      client.close();
      return [state.status, groups.length];
    },
    orbital.url,
    token,
  );
  assert.deepEqual(status, ['open', 1]);
});
