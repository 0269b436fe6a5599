/**
 * A store in a SQLCipher 4 file: everything in it is encrypted, private keys included.
 *
 * The driver is given from outside: better-sqlite3-multiple-ciphers fits as it is. This module imports no driver, so that nothing native is loaded
 * where it is not used.
 */
import { toHex } from '../bytes.js';
import { fromText, toText } from '../codec.js';
import { E2eeError } from '../errors.js';
import { TABLES } from '../ports.js';
import { queue } from './memory.js';

/** @import { Bytes } from '../bytes.js' */
/** @import { Store } from '../ports.js' */

/**
 * @typedef {object} Driver What this store needs of a database.
 * @property {(sql: string) => void} exec
 * @property {(sql: string, values: (string | number)[]) => {key: string, value: string}[]} all
 * @property {(sql: string, values: (string | number)[]) => void} run
 * @property {() => void} close
 */

/** @typedef {new (path: string) => {exec(sql: string): unknown, prepare(sql: string): {all(...values: any[]): any, run(...values: any[]): unknown}, close(): unknown}} BetterSqlite */

const KEY_BYTES = 32;

/** @param {BetterSqlite} Database The class that better-sqlite3-multiple-ciphers exports. @param {string} path @returns {Driver} */
export function betterSqlite(Database, path) {
  const database = new Database(path);
  // SQLCipher's own format, version 4 (the page and key derivation parameters of sqlcipher 4).
  database.exec("PRAGMA cipher = 'sqlcipher'; PRAGMA legacy = 4");
  /** @type {Map<string, ReturnType<typeof database.prepare>>} */
  const prepared = new Map();
  /** @param {string} sql */
  const statement = (sql) => {
    let found = prepared.get(sql);
    if (!found) prepared.set(sql, (found = database.prepare(sql)));
    return found;
  };
  return {
    exec: (sql) => void database.exec(sql),
    all: (sql, values) => statement(sql).all(...values),
    run: (sql, values) => void statement(sql).run(...values),
    close: () => void database.close(),
  };
}

/**
 * Open or create an encrypted store.
 *
 * The file belongs to one process at a time: a second one is refused with `locked`.
 *
 * @param {Driver} driver
 * @param {Bytes} key 32 random bytes, kept by the operating system's keychain; the file holds no way to it.
 * @returns {Store}
 * @throws {E2eeError} `locked` when the key is not the file's, or another process has it.
 */
export function sqlcipherStore(driver, key) {
  if (key.length !== KEY_BYTES) throw new RangeError(`a store's key has ${KEY_BYTES} bytes, not ${key.length}`);
  try {
    driver.exec(`PRAGMA key = "x'${toHex(key)}'"`);
    driver.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON; PRAGMA synchronous = NORMAL; BEGIN EXCLUSIVE; COMMIT',
    );
    for (const table of TABLES)
      driver.exec(`CREATE TABLE IF NOT EXISTS ${table} (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT`);
  } catch (error) {
    driver.close();
    throw new E2eeError('locked', 'the store does not open: another key, not a store, or in use by another process', { cause: error });
  }
  let full = false;
  return {
    keys: 'bytes',
    async get(table, one) {
      const [row] = driver.all(`SELECT key, value FROM ${table} WHERE key = ?`, [one]);
      return row ? fromText(row.value) : undefined;
    },
    async list(table, prefix, limit) {
      // The last code point there is: no key holds it.
      const rows = driver.all(`SELECT key, value FROM ${table} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`, [
        prefix,
        `${prefix}\u{10ffff}`,
        limit !== undefined && Number.isFinite(limit) ? limit : -1,
      ]);
      return rows.map((row) => [row.key, fromText(row.value)]);
    },
    async commit(writes, durable) {
      if (durable !== full) driver.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`);
      full = durable;
      driver.exec('BEGIN IMMEDIATE');
      try {
        for (const { table, key: one, value } of writes) {
          if (value === undefined) driver.run(`DELETE FROM ${table} WHERE key = ?`, [one]);
          else
            driver.run(`INSERT INTO ${table} (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, [
              one,
              toText(value),
            ]);
        }
        driver.exec('COMMIT');
      } catch (error) {
        driver.exec('ROLLBACK');
        throw error;
      }
    },
    exclusive: queue(),
    async close() {
      driver.close();
    },
  };
}
