/** `CipherClient` in a real Chromium: at the page's address and under its policy, on IndexedDB, beside programs in Node and Python. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OrbitalClient } from '../../clients/javascript/src/all.js';
import { launch, missing as noChromium, Person, until } from './chromium.js';
import { CHECKOUT, missing as noServer, PYTHON, Server } from './server.js';

/** @typedef {{name: string, user: string, token: string}} Account */

const noPackages = existsSync(join(CHECKOUT, 'clients/e2ee/node_modules/esbuild'))
  ? false
  : 'no packages in clients/e2ee: run npm ci there';

/** @returns {string | false} Why the Python member cannot run. */
function noSqlcipher() {
  try {
    execFileSync(PYTHON, ['-c', 'import orbital_relay.e2ee, sqlcipher3'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'Python lacks the extra e2ee: pip install orbital-relay[e2ee]';
  }
}

const missing = noServer || noChromium || noPackages || noSqlcipher();
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);
const how = { skip: missing, timeout: 900_000 };
const { CipherClient, textOf } = missing ? /** @type {any} */ ({}) : await import('../../clients/e2ee/src/cipher-client.js');
const { HPKE_STOCK, memoryStore } = missing ? /** @type {any} */ ({}) : await import('../../clients/e2ee/src/index.js');
const SCRIPT = '/cipher-test.js';
const ENTRY = `
  export { OrbitalClient } from './clients/javascript/src/all.js';
  export { CipherClient, textOf } from './clients/e2ee/src/cipher-client.js';
  export { indexedDbStore } from './clients/e2ee/src/index.js';
`;

/** @type {Server} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
/** What a tab loads. */
let script = '';
let folder = '';
let names = 0;

before(async () => {
  if (how.skip) return;
  server = await new Server().start();
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), 'orbital-cipher-'));
  const { build } = createRequire(join(CHECKOUT, 'clients/e2ee/package.json'))('esbuild');
  const form = { bundle: true, format: 'esm', target: 'es2022', write: false, logLevel: 'error' };
  const { outputFiles } = await build({ stdin: { contents: ENTRY, resolveDir: CHECKOUT }, ...form });
  script = outputFiles[0].text;
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
  if (folder) await rm(folder, { recursive: true });
});

/** @returns {Promise<Account>} */
async function account() {
  const name = `member_${++names}`;
  const client = new OrbitalClient(server.url);
  const { user_id, token } = await client.api.signup({ username: name, password: 'Correct-Horse-7', public_key: {} });
  return { name, user: user_id, token };
}

/** A tab of a browser with one device's store, or a program in Node. `run` gets `{client, group, orbital, store, textOf}`. */
class Tab {
  /** @param {import('playwright-core').Page} page @param {string[]} complaints */
  constructor(page, complaints) {
    this.page = page;
    this.complaints = complaints;
  }

  /** @param {Account} who @param {Tab} [beside] Another tab of the same browser. */
  static async open(who, beside) {
    const person = beside ? undefined : await Person.sitDown(browser, who.name);
    const page = person?.page ?? (await /** @type {Tab} */ (beside).page.context().newPage());
    const tab = new Tab(page, person?.complaints ?? []);
    if (beside) page.on('pageerror', (error) => tab.complaints.push(String(error.stack)));
    await page.route(`**${SCRIPT}`, (route) => route.fulfill({ contentType: 'text/javascript', body: script }));
    await tab.visit(who);
    return tab;
  }

  /** Load the page, and be a device in it. @param {Account} who */
  async visit({ user, token }) {
    await this.page.goto(server.url);
    await this.page.evaluate(
      async ([at, me, key]) => {
        const { OrbitalClient, CipherClient, indexedDbStore, textOf } = await import(/** @type {any} */ (at));
        const orbital = new OrbitalClient(location.origin, { token: key, verify: true });
        const store = await indexedDbStore(`cipher-test:${me}`);
        const client = await CipherClient.open(orbital, { store, user: me });
        Object.assign(globalThis, { tab: { orbital, store, client, textOf } });
      },
      [SCRIPT, user, token],
    );
  }

  /**
   * @template T
   * @param {(tab: any, arg: any) => T | Promise<T>} work Runs in the tab.
   * @param {unknown} [arg]
   * @returns {Promise<T>}
   */
  run(work, arg) {
    return /** @type {Promise<T>} */ (this.page.evaluate(`(${work})(globalThis.tab, ${JSON.stringify(arg)})`));
  }

  /** @returns {Promise<string>} The id of a group that this device founded. */
  found() {
    return this.run(async (tab) => {
      const { group_id } = await tab.orbital.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
      await tab.client.found(group_id);
      tab.group = await tab.client.group(group_id);
      return group_id;
    });
  }

  /** @param {string} group @param {string} [invite] */
  enter(group, invite) {
    return this.run(
      async (tab, [id, text]) => {
        tab.group = await tab.client.group(id, text ? { invite: text } : {});
      },
      [group, invite],
    );
  }

  /** @param {string} text */
  send(text) {
    return this.run((tab, said) => tab.group.send(said), text);
  }

  /** @returns {Promise<string[]>} What the log holds for this device. */
  reads() {
    return this.run(async (tab) =>
      (await tab.client.device.items(tab.group.groupId)).map((/** @type {any} */ item) => tab.textOf(item) || `[${item.status}]`),
    );
  }

  /** @returns {Promise<string[]>} */
  warnings() {
    return this.run(async (tab) => (await tab.client.device.warnings(tab.group.groupId)).map((/** @type {any} */ one) => one.code));
  }

  /** @param {string} user @returns {Promise<boolean>} */
  knows(user) {
    return this.run(
      async (tab, id) => (await tab.client.device.roster(tab.group.groupId)).devices.some((/** @type {any} */ one) => one.user === id),
      user,
    );
  }
}

/** The server's side of an invitation. @param {Tab} host @param {string} group @param {Account} guest @returns {Promise<string>} The part of the link after the `#`. */
async function invited(host, group, guest) {
  const code = await host.run(async (tab) => (await tab.orbital.api.newInviteCode(tab.group.groupId)).invite_code);
  const own = new OrbitalClient(server.url, { token: guest.token });
  const joined = await own.api.joinGroup({ invite_code: code, encrypted_group_key: 'a2V5' });
  assert.equal(joined.group_id, group);
  return host.run(async (tab) => (await tab.client.device.invite(tab.group.groupId)).text);
}

/** @param {Tab} host @param {string} group @param {Account} who @returns {Promise<Tab>} Another browser's tab, in the group. */
async function joins(host, group, who) {
  const invite = await invited(host, group, who);
  const tab = await Tab.open(who);
  await tab.enter(group, invite);
  await until(
    () => host.knows(who.user),
    () => `${who.name} is not in the roster`,
  );
  return tab;
}

/** @param {{reads: () => Promise<string[]>}[]} tabs @param {string[]} texts In the order of the log. */
async function allRead(tabs, texts) {
  for (const tab of tabs)
    await until(
      async () => JSON.stringify(await tab.reads()) === JSON.stringify(texts),
      async () => `${JSON.stringify(await tab.reads())}\nand not ${JSON.stringify(texts)}`,
      60_000,
    );
}

test(
  '[PGTWO1] Two tabs of a person, another browser, a program in Node and one in Python read each other in one group; nobody else’s storage or log has a word of it.',
  how,
  async (t) => {
    const [ada, ben, nora, pia] = [await account(), await account(), await account(), await account()];
    const first = await Tab.open(ada);
    const group = await first.found();
    const second = await Tab.open(ada, first);
    await second.enter(group);
    const bens = await joins(first, group, ben);

    const invite = await invited(first, group, nora);
    const orbital = new OrbitalClient(server.url, { token: nora.token, verify: true });
    const program = await CipherClient.open(orbital, { store: memoryStore(), user: nora.user });
    const inNode = await program.group(group, { invite });
    t.after(async () => {
      await program.close();
      orbital.close();
    });
    await until(
      () => first.knows(nora.user),
      () => 'Node is not in the roster',
    );

    await invited(first, group, pia);
    const env = { ...process.env, ORBITAL_TOKEN: pia.token, ORBITAL_KEY: '5c'.repeat(32) };
    const echo = spawn(PYTHON, [join(CHECKOUT, 'examples/python/secret_echo.py'), server.url, group, invite], { cwd: folder, env });
    const printed = /** @type {string[]} */ ([]);
    for (const stream of [echo.stdout, echo.stderr]) stream.on('data', (data) => printed.push(String(data)));
    t.after(() => echo.kill());
    await until(
      () => first.knows(pia.user),
      () => `Python is not in the roster: ${printed.join('')}`,
      60_000,
    );

    const said = [];
    const node = {
      reads: async () => (await program.device.items(group)).map((/** @type {any} */ item) => textOf(item) || `[${item.status}]`),
    };
    const everybody = [first, second, bens, node];
    /** @type {[string, (text: string) => Promise<unknown>][]} */
    const speakers = [
      ['the canary in tab one', (text) => first.send(text)],
      ['the canary in tab two', (text) => second.send(text)],
      ['the canary at Ben’s', (text) => bens.send(text)],
      ['the canary in Node', (text) => inNode.send(text)],
      ['the canary in tab one again', (text) => first.send(text)],
    ];
    for (const [text, say] of speakers) {
      await say(text);
      said.push(text, `You said: ${text}`);
      await allRead(everybody, said);
    }

    const chains = await first.run(async (tab) =>
      (await tab.store.list('own', '')).map((/** @type {[string, any]} */ [, row]) => String(row.distribution)),
    );
    assert.equal(new Set(chains).size, 2, 'each tab has a chain of its own');
    for (const tab of [first, second, bens]) assert.deepEqual([await tab.warnings(), tab.complaints], [[], []]);
    assert.deepEqual(await program.device.warnings(group), []);

    const { readable, keys } = await first.page.evaluate(async () => {
      const all = [JSON.stringify({ ...localStorage })];
      const found = /** @type {CryptoKey[]} */ ([]);
      const look = (/** @type {any} */ value) => {
        if (value instanceof CryptoKey) found.push(value);
        else if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) all.push(new TextDecoder('latin1').decode(value));
        else if (value && typeof value === 'object') for (const one of Object.values(value)) look(one);
        else all.push(String(value));
      };
      for (const { name } of await indexedDB.databases()) {
        const opened = indexedDB.open(/** @type {string} */ (name));
        await new Promise((resolve) => (opened.onsuccess = resolve));
        for (const table of opened.result.objectStoreNames) {
          const rows = opened.result.transaction(table).objectStore(table).getAll();
          await new Promise((resolve) => (rows.onsuccess = resolve));
          look(rows.result);
        }
        opened.result.close();
      }
      return { readable: all.join('\n'), keys: found.filter(({ type }) => type !== 'public').map(({ extractable }) => extractable) };
    });
    assert.ok(readable.length > 10_000);
    assert.ok(!/canary/.test(readable), 'the browser’s storage has plaintext');
    assert.ok(keys.length > 50);
    assert.ok(!keys.includes(true), 'a private key can be read out');
    const files = (await server.files()).map(([, content]) => content);
    for (const name of await readdir(folder)) files.push(await readFile(join(folder, name)));
    assert.ok(files.length > 2);
    assert.ok(!Buffer.concat(files).includes('canary'));
    assert.ok(!server.lines.join('\n').includes('canary'));
    await first.page.context().close();
    await bens.page.context().close();
  },
);

test(
  '[PGTWO2] A late joiner reads from then on; after a removal the others have new keys; what a closed tab left unsent another tab sends once; a reload keeps everything.',
  how,
  async () => {
    const [ada, ben, cleo] = [await account(), await account(), await account()];
    const first = await Tab.open(ada);
    const group = await first.found();
    const bens = await joins(first, group, ben);
    await first.send('before Cleo');
    await allRead([first, bens], ['before Cleo']);
    const cleos = await joins(first, group, cleo);
    await bens.send('with Cleo');
    await allRead([first, bens], ['before Cleo', 'with Cleo']);
    await allRead([cleos], ['[waiting]', 'with Cleo']);

    const chain = () =>
      first.run(async (tab) =>
        (await tab.store.list('own', '')).map((/** @type {[string, any]} */ [, row]) => String(row.distribution)).join(),
      );
    const before = await chain();
    await first.run(
      async (tab, [id, user]) => {
        await tab.client.device.revoke(id, user, 0, { removed: true });
        await tab.client.device.flush(id);
        await tab.orbital.api.removeMember(id, user);
      },
      [group, ben.user],
    );
    await first.send('without Ben');
    await allRead([first], ['before Cleo', 'with Cleo', 'without Ben']);
    await allRead([cleos], ['[waiting]', 'with Cleo', 'without Ben']);
    assert.notEqual(await chain(), before);
    assert.deepEqual(await bens.reads(), ['before Cleo', 'with Cleo']);

    const second = await Tab.open(ada, first);
    await second.enter(group);
    await first.page.context().setOffline(true);
    await second.send('left in a closed tab');
    assert.equal(await second.run((tab) => tab.client.device.pending(tab.group.groupId)), 1);
    await second.page.close();
    await first.page.context().setOffline(false);
    const all = ['before Cleo', 'with Cleo', 'without Ben', 'left in a closed tab'];
    await allRead([first], all);
    await first.visit(ada);
    await first.enter(group);
    await allRead([first], all);
    await first.send('after a reload');
    await allRead([first], [...all, 'after a reload']);
    await allRead([cleos], ['[waiting]', ...all.slice(1), 'after a reload']);
    for (const tab of [first, cleos]) assert.deepEqual([await tab.warnings(), tab.complaints], [[], []]);
    for (const tab of [first, bens, cleos]) await tab.page.context().close();
  },
);

test('[PGTWO3] Two tabs that open a new store at the same moment are one device, whose keys are offered once.', how, async () => {
  const ada = await account();
  const person = await Person.sitDown(browser, ada.name);
  const tabs = [person.page, await person.page.context().newPage()].map((page) => new Tab(page, person.complaints));
  await Promise.all(
    tabs.map(async (tab) => {
      await tab.page.route(`**${SCRIPT}`, (route) => route.fulfill({ contentType: 'text/javascript', body: script }));
      await tab.visit(ada);
    }),
  );
  const [first, second] = await Promise.all(
    tabs.map((tab) => tab.run(async ({ client }) => [client.device.me.device, String(await client.device.identity())])),
  );
  assert.deepEqual(first, second);
  const offered = await new OrbitalClient(server.url, { token: ada.token }).api.keyCounts();
  assert.deepEqual(
    offered.map(({ device_id, hpke_pre_keys }) => [device_id, hpke_pre_keys]),
    [[1, HPKE_STOCK]],
  );
  assert.deepEqual(person.complaints, []);
  await person.close();
});
