/** The figures of figures.js in Node, as a line of JSON: members with a store in memory, and with encrypted files where the driver is built. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { random } from '../src/bytes.js';
import { memoryStore } from '../src/stores/memory.js';
import { betterSqlite, sqlcipherStore } from '../src/stores/sqlcipher.js';
import { missingDriver } from './build-driver.js';
import { figures, groupFigures } from './figures.js';

/** @returns {number} Milliseconds of processor time. */
const processor = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** @param {number} members @param {number} rounds */
async function inFiles(members, rounds) {
  const { default: Database } = await import('better-sqlite3-multiple-ciphers');
  const folder = mkdtempSync(join(tmpdir(), 'orbital-figures-'));
  const stores = ['ada', 'ben'].map((name) => sqlcipherStore(betterSqlite(Database, join(folder, `${name}.db`)), random(32)));
  try {
    return await groupFigures(members, rounds, stores, processor);
  } finally {
    for (const store of stores) await store.close();
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {number} members That are left after a removal.
 * @param {number} rounds Texts.
 * @returns {Promise<import('./figures.js').Figures>} `stored` is null where the driver of the encrypted file is not built.
 */
export async function nodeFigures(members, rounds) {
  return {
    steps: await figures(5 * rounds, processor),
    memory: await groupFigures(members, rounds, [memoryStore(), memoryStore()], processor),
    stored: missingDriver() ? null : await inFiles(members, rounds),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(JSON.stringify(await nodeFigures(50, 200)));
