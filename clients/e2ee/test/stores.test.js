/** Stores in Node: one contract, and what an encrypted file must not show. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missingDriver } from '../scripts/build-driver.js';
import { Unit, memoryStore, ordered, transact } from '../src/index.js';
import { betterSqlite, sqlcipherStore } from '../src/stores/sqlcipher.js';
import { ADA, BEN } from './people.js';
import { FakeRelay, newFamily, say, texts } from './relay.js';
import { storeContract } from './store-contract.js';

const skip = missingDriver() ?? false;
if (skip && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(skip);

let folder;
let Database;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'orbital-e2ee-'));
  if (!skip) Database = (await import('better-sqlite3-multiple-ciphers')).default;
});
after(() => rmSync(folder, { recursive: true }));
const key = () => crypto.getRandomValues(new Uint8Array(32));
const open = (name, one) => sqlcipherStore(betterSqlite(Database, join(folder, name)), one);

test('[SAFE1] A store in memory fulfils the contract of stores.', async () => {
  let snapshot = {};
  await storeContract(async () => {
    const store = memoryStore(snapshot);
    return { ...store, close: async () => void (snapshot = store.snapshot()) };
  });
});

test('[SAFE2] A SQLCipher file by better-sqlite3-multiple-ciphers fulfils the contract of stores.', { skip }, async () => {
  const one = key();
  await storeContract(async () => open('contract.db', one));
});

test('[SAFE3] A SQLCipher file has no plaintext and no private key; it opens with its key only, for one process.', {
  skip,
}, async () => {
  const one = key();
  const relay = new FakeRelay();
  const [ada, ben] = [await relay.device(ADA, 1, { store: open('ada.db', one) }), await relay.device(BEN)];
  const group = await newFamily(relay, [ada, ben]);
  await say(ada, group, 'the canary sings');
  await relay.waitIdle(group);
  const { seed } = await ada.store.get('identities', 'me');
  assert.equal(seed.length, 32);
  const files = () =>
    Buffer.concat(
      readdirSync(folder)
        .filter((name) => name.startsWith('ada.db'))
        .map((name) => readFileSync(join(folder, name))),
    );
  assert.ok(files().length > 4096);
  for (const secret of ['canary', 'SQLite format', 'sender_keys', ADA, Buffer.from(seed), Buffer.from(seed).toString('base64')])
    assert.equal(files().includes(secret), false);
  assert.throws(() => open('ada.db', one), { code: 'locked' }, 'in use');
  await ada.store.close();
  assert.throws(() => open('ada.db', key()), { code: 'locked' }, 'another key');
  assert.throws(() => open('ada.db', new Uint8Array(31)), RangeError);
  const again = await relay.device(ADA, 1, { store: open('ada.db', one), publish: false });
  relay.members = [again, ben];
  await say(again, group, 'after a restart');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(again, group), ['the canary sings', 'after a restart']);
  assert.deepEqual(await texts(ben, group), ['the canary sings', 'after a restart']);
  await again.store.close();
});

test('[SAFE4] A process killed during its commits leaves each commit complete or absent, and loses no durable one.', {
  skip,
}, async () => {
  const one = key();
  const program = `
    import Database from 'better-sqlite3-multiple-ciphers';
    import { betterSqlite, sqlcipherStore } from ${JSON.stringify(new URL('../src/stores/sqlcipher.js', import.meta.url).href)};
    const store = sqlcipherStore(betterSqlite(Database, process.argv[1]), Uint8Array.from(JSON.parse(process.argv[2])));
    let round = ((await store.get('meta', 'round')) ?? 0);
    for (;;) {
      round++;
      await store.commit([{ table: 'meta', key: 'round', value: round }, { table: 'items', key: String(round).padStart(9, '0'), value: 'x'.repeat(500) }], true);
      process.stdout.write(round + '\\n');
    }`;
  for (let kills = 0; kills < 5; kills++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, join(folder, 'killed.db'), JSON.stringify([...one])], {
      cwd: fileURLToPath(new URL('.', import.meta.url)),
    });
    let said = '';
    await new Promise((resolve) => {
      child.stdout.on('data', (text) => {
        said += text;
        if (said.split('\n').length > 5 + kills * 3) child.kill('SIGKILL');
      });
      child.on('exit', resolve);
    });
    const reported = Number(said.trimEnd().split('\n').at(-1));
    const store = open('killed.db', one);
    const round = await store.get('meta', 'round');
    const items = await store.list('items', '');
    assert.ok(round >= reported, `${round} is not behind ${reported}`);
    assert.equal(items.length, round, 'both rows of each commit are there');
    await store.close();
  }
});

test('[SAFE5] A unit of work reads its own writes, lists them in order, and does not change the store before its commit.', async () => {
  const store = memoryStore();
  await store.commit(
    [
      { table: 'meta', key: ordered(2), value: 'two' },
      { table: 'meta', key: ordered(10), value: 'ten' },
    ],
    true,
  );
  const unit = new Unit(store);
  unit.put('meta', ordered(3), 'three');
  unit.delete('meta', ordered(10));
  const fork = unit.fork();
  fork.put('meta', ordered(1), 'one');
  fork.delete('meta', ordered(3));
  assert.deepEqual(
    (await fork.list('meta')).map(([, value]) => value),
    ['one', 'two'],
  );
  assert.deepEqual(
    (await unit.list('meta')).map(([, value]) => value),
    ['two', 'three'],
  );
  assert.deepEqual(
    (await fork.list('meta', '', 1)).map(([, value]) => value),
    ['one'],
  );
  unit.merge(fork);
  assert.equal(await unit.get('meta', ordered(3)), undefined);
  assert.deepEqual(
    (await store.list('meta', '')).map(([, value]) => value),
    ['two', 'ten'],
  );
  await assert.rejects(
    transact(store, async (failing) => {
      failing.put('meta', 'x', 1);
      throw new Error('mine');
    }),
    /mine/,
  );
  assert.equal(await store.get('meta', 'x'), undefined);
});
