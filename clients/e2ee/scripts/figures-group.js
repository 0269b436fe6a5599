/** Print figures of members with encrypted files, on a relay in memory: what a text costs, and what a removal costs the 50 that are left. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { random, uuidText } from '../src/bytes.js';
import { betterSqlite, sqlcipherStore } from '../src/stores/sqlcipher.js';
import { FakeRelay, newFamily, say } from '../test/relay.js';
import { print, processor } from './figures.js';

/** @param {number} members That are left. @param {number} rounds Texts. @param {any} Database Of better-sqlite3-multiple-ciphers. */
export async function groupFigures(members, rounds, Database) {
  const folder = mkdtempSync(join(tmpdir(), 'orbital-figures-'));
  const stores = ['ada', 'ben'].map((name) => sqlcipherStore(betterSqlite(Database, join(folder, `${name}.db`)), random(32)));
  try {
    const relay = new FakeRelay();
    const users = Array.from({ length: members + 1 }, () => uuidText(random(16)));
    const devices = [];
    for (const [at, user] of users.entries()) devices.push(await relay.device(user, 1, stores[at] ? { store: stores[at] } : {}));
    const [ada, ben] = devices;
    const group = await newFamily(relay, devices);
    await say(ada, group, 'x');
    await relay.deliver(ben, group);
    /** @param {() => Promise<unknown>} work @returns {Promise<number>} Milliseconds. */
    const measure = async (work) => {
      const start = processor();
      await work();
      return processor() - start;
    };
    const sending = await measure(async () => {
      for (let round = 0; round < rounds; round++) await say(ada, group, 'A short text of a family.');
    });
    const reading = await measure(() => relay.deliver(ben, group));
    await relay.waitIdle(group);
    await ada.revoke(group, users.at(-1));
    await ada.flush(group);
    relay.leave(group, users.at(-1));
    await relay.deliver(ada, group);
    const renewing = await measure(() => say(ada, group, 'without'));
    const removal = await measure(() => relay.deliver(ben, group));
    return { sending: sending / rounds, reading: reading / rounds, renewing, removal };
  } finally {
    for (const store of stores) await store.close();
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { default: Database } = await import('better-sqlite3-multiple-ciphers');
  const { sending, reading, renewing, removal } = await groupFigures(50, 200, Database);
  print('draft, seal and post a short text, in the encrypted file', sending);
  print('process it, in the encrypted file', reading);
  print('a new chain for 49 devices and the first text', renewing);
  print('process a removal, the new keys and the first text', removal);
}
